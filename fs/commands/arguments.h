/*
 * The command line of every command: what all of them take, and what each adds.
 */
#ifndef ATD_FS_ARGUMENTS_H
#define ATD_FS_ARGUMENTS_H

#include <stdbool.h>

#include "options.h"

#define ARGUMENTS_WORDS_MAX 1000002u

/* What an option of one command sets. One place of the three. */
struct argument_option {
    const char *name;  /* "-j", "--signed" */
    bool *flag;        /* it was there; of an option with a value it may be NULL */
    const char **text; /* its value */
    unsigned *number;  /* its value, from `least` to `most` */
    unsigned least;
    unsigned most;
    bool may_lack_value; /* "--signed" and "--signed=60": the value is only in the same word */
};

#define ARGUMENTS_INDEX 0x1u /* -i and -o */
#define ARGUMENTS_JSON 0x2u  /* --json */
#define ARGUMENTS_QUIET 0x4u /* -q */

/* What is fixed of a command. */
struct command_usage {
    const char *name;     /* "schema list": what stands behind "atdatafs " */
    const char *synopsis; /* its own options and its words: "[-j N] FILE... NAME" */
    const char *about;    /* sentences, their lines ended but the last */
    const char *options;  /* lines of its own options, each ended; NULL: none */
    const char *exits;    /* its exit codes; NULL: the usual ones */
    const char *examples; /* lines, each ended */
    unsigned takes;       /* ARGUMENTS_... */
    unsigned words_least;
    unsigned words_most;
    const char *words_missing; /* "the name of a dataset is missing" */
};

struct arguments {
    char **words; /* those that are no options; the strings are argv's */
    unsigned word_count;
    bool json;
    bool quiet;
    bool help;
    char **mount_args; /* what options_parse gets: the index, and the options of a mount */
    int mount_count;
};

/*
 * Pure. `argv[0]` is not looked at. Options may stand anywhere before "--"; "-" is a word.
 * With `help` nothing else is complete. `ret_arguments` must be released also after a failure.
 * Errors: EINVAL, with what to write instead; E2BIG; ENOMEM.
 */
int arguments_read(const struct command_usage *usage, int argc, char **argv,
                   const struct argument_option *own, unsigned own_count,
                   struct arguments *ret_arguments, struct atd_error *err) ATD_MUST_USE;
void arguments_release(struct arguments *arguments);

/* On standard output. */
void arguments_print_help(const struct command_usage *usage);

/*
 * The beginning of a command: reads its command line and the options of a mount in it, prints the
 * help or what is wrong. True: go on; else *ret_exit_code is its exit code. Both results must be
 * released (by command_end()) in either case.
 */
bool command_begin(const struct command_usage *usage, int argc, char **argv,
                   const struct argument_option *own, unsigned own_count,
                   struct arguments *ret_arguments, struct options *ret_options,
                   int *ret_exit_code) ATD_MUST_USE;
/* Releases both, and returns the exit code: a failure when standard output could not be written. */
int command_end(struct arguments *arguments, struct options *options, int exit_code) ATD_MUST_USE;
/* "atdatafs: WHY" on standard error; returns ATD_EXIT_FAILED. */
int command_failed(const struct atd_error *why);

#endif

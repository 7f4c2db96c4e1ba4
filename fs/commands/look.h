/*
 * What commands that look at an index share: it is opened and loaded once, they say what they
 * found, it is closed. And what their words mean.
 */
#ifndef ATD_FS_LOOK_H
#define ATD_FS_LOOK_H

#include "arguments.h"
#include "atdata/buf.h"
#include "parts.h"

struct look {
    const struct arguments *arguments;
    const struct options *options;
    struct parts parts;
    struct atd_catalog *catalog; /* what the index says now */
    struct atd_buf out;          /* printed when the command has succeeded */
    void *own;                   /* the command's */
};

/* What a command does; 0 or -errno, told on standard error. */
typedef int (*look_fn)(struct look *look, struct atd_error *err);

/*
 * A whole command: its command line, the index, `fn`, the output. `own` is handed on. Returns the
 * exit code. A store that hangs does not keep the process.
 */
int look_main(const struct command_usage *usage, int argc, char **argv,
              const struct argument_option *own_options, unsigned own_count, look_fn fn, void *own);
/* The same when the command line was read already, and whoever read it ends the command.
 * `may_be_missing`: an index file that the user named may come into being by this command. */
int look_run(const struct arguments *arguments, const struct options *options, bool may_be_missing,
             look_fn fn, void *own);

/*
 * The entry that a word means. In this order: "@local/NAME", "@local/NAME@VERSION" as the library
 * has them (ATDATA-FORMATS 6.4; but a version that is not there is refused, where the library takes
 * another one without a word); a dataset's name; its file name in datasets/; NAME@VERSION, a label;
 * a label's file name; a CID. *ret_dataset is NULL when it was not found by a dataset's name.
 * Errors: ENOENT, EINVAL a reference to elsewhere.
 */
int look_find(const struct look *look, const char *word, const struct atd_catalog_entry **ret_entry,
              const struct atd_dataset **ret_dataset, struct atd_error *err) ATD_MUST_USE;

/* "NAME@VERSION" at its last '@'. False: it is no such text. Either side may not be empty. */
bool look_split_version(struct atd_str text, struct atd_str *ret_name, struct atd_str *ret_version);

#endif

#include "arguments.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"

/* Of the number that an option takes. */
#define NUMBER_BASE 10
#define HELP_COLUMNS 92

/* ------------------------------------------------------------------ help */

void arguments_print_help(const struct command_usage *usage)
{
    int width = printf("usage: atdatafs %s%s%s%s", usage->name,
                       usage->takes & ARGUMENTS_INDEX ? " [-i INDEX-URL] [-o OPTION,...]" : "",
                       usage->takes & ARGUMENTS_JSON ? " [--json]" : "",
                       usage->takes & ARGUMENTS_QUIET ? " [-q]" : "");

    if (usage->synopsis[0])
        (void)fputs(width + (int)strlen(usage->synopsis) < HELP_COLUMNS ? " " : "\n           ",
                    stdout);
    (void)printf("%s\n\n%s\n\n", usage->synopsis, usage->about);
    if (usage->options)
        (void)fputs(usage->options, stdout);
    if (usage->takes & ARGUMENTS_INDEX)
        (void)fputs(
            "  -i, --index URL   redis://HOST[:PORT]/DB, rediss://..., unix:///SOCKET?db=N,\n"
            "                    redis+sentinel://HOST[:PORT],HOST.../MASTER[/DB] or\n"
            "                    sqlite:PATH; left out: $ATDATA_INDEX, else ~/.atdata/index.db\n"
            "  -o OPTION,...     as of a mount: store=s3://BUCKET/PREFIX, endpoint=URL,\n"
            "                    env_file=PATH, compat=universal, ... (atdatafs --help)\n",
            stdout);
    if (usage->takes & ARGUMENTS_JSON)
        (void)fputs("  --json            one JSON document on standard output\n", stdout);
    if (usage->takes & ARGUMENTS_QUIET)
        (void)fputs("  -q, --quiet       only what failed\n", stdout);
    (void)printf("  -h, --help        this text\n"
                 "  --                what follows is no option\n"
                 "\n"
                 "exit codes: %s\n"
                 "\n"
                 "examples:\n%s",
                 usage->exits ? usage->exits
                              : "0 done, 1 failed (with the reason), 2 the command line is wrong",
                 usage->examples);
}

/* ------------------------------------------------------------------ options */

static int lacks_value(const struct command_usage *usage, const char *name, struct atd_error *err)
{
    return atd_error_set(err, EINVAL, "%s lacks its value; see atdatafs %s --help", name,
                         usage->name);
}

/* Whether `arg` is the option `name`; `*ret_value` is what stands in the same word ("-j8",
 * "--jobs=8"), NULL when nothing does. */
static bool is_option(const char *arg, const char *name, const char **ret_value)
{
    size_t len = strlen(name);
    bool is_long = name[1] == '-';

    *ret_value = NULL;
    if (strncmp(arg, name, len) != 0)
        return false;
    if (!arg[len])
        return true;
    if (is_long && arg[len] != '=')
        return false;
    *ret_value = arg + len + is_long;
    return true;
}

/* The value of an option, from the same word or the next one. */
static int take_value(const struct command_usage *usage, int argc, char **argv, int *at,
                      const char *name, const char **value, struct atd_error *err)
{
    if (*value)
        return 0;
    if (*at + 1 >= argc)
        return lacks_value(usage, name, err);
    *value = argv[++*at];
    return 0;
}

static int read_number(const struct argument_option *option, const char *text,
                       struct atd_error *err)
{
    char *end;
    unsigned long number;

    errno = 0;
    number = strtoul(text, &end, NUMBER_BASE);
    if (errno || *end || text[0] < '0' || text[0] > '9' || number < option->least ||
        number > option->most)
        return atd_error_set(err, EINVAL, "%s takes a number from %u to %u", option->name,
                             option->least, option->most);
    *option->number = (unsigned)number;
    return 0;
}

/* An option of this command. False: it is none of them. */
static bool read_own(const struct command_usage *usage, int argc, char **argv, int *at,
                     const struct argument_option *own, unsigned own_count, int *ret_rc,
                     struct atd_error *err)
{
    const struct argument_option *option = NULL;
    const char *value = NULL;
    bool wants_value;

    for (unsigned i = 0; i < own_count && !option; i++) {
        wants_value = own[i].text || own[i].number;
        if (is_option(argv[*at], own[i].name, &value) && (wants_value || !value))
            option = &own[i];
    }
    if (!option)
        return false;
    *ret_rc = 0;
    wants_value = option->text || option->number;
    if (wants_value && !(option->may_lack_value && !value))
        *ret_rc = take_value(usage, argc, argv, at, option->name, &value, err);
    if (*ret_rc == 0 && option->flag)
        *option->flag = true;
    if (*ret_rc == 0 && value && option->text)
        *option->text = value;
    if (*ret_rc == 0 && value && option->number)
        *ret_rc = read_number(option, value, err);
    return true;
}

static int take_index(char *value, char **index, struct atd_error *err)
{
    /* Not quoted: it may hold a password. */
    if (!options_is_index_url(value))
        return atd_error_set(err, EINVAL,
                             "-i takes redis://HOST/DB, rediss://, unix:///SOCKET, "
                             "redis+sentinel://HOST,.../MASTER or sqlite:PATH");
    *index = value;
    return 0;
}

/* -i and -o. False: it is neither. */
static bool read_index_option(const struct command_usage *usage, int argc, char **argv, int *at,
                              struct arguments *arguments, char **index, int *ret_rc,
                              struct atd_error *err)
{
    static char dash_o[] = "-o";
    const char *name = "-i";
    const char *value;

    if (!is_option(argv[*at], "-i", &value) && !is_option(argv[*at], "--index", &value)) {
        name = dash_o;
        if (!is_option(argv[*at], name, &value))
            return false;
    }
    *ret_rc = take_value(usage, argc, argv, at, name, &value, err);
    if (*ret_rc)
        return true;
    if (name == dash_o) {
        arguments->mount_args[arguments->mount_count++] = dash_o;
        arguments->mount_args[arguments->mount_count++] = (char *)(uintptr_t)value;
    } else {
        *ret_rc = take_index((char *)(uintptr_t)value, index, err);
    }
    return true;
}

static int read_option(const struct command_usage *usage, int argc, char **argv, int *at,
                       const struct argument_option *own, unsigned own_count,
                       struct arguments *arguments, char **index, struct atd_error *err)
{
    const char *arg = argv[*at];
    int rc = 0;

    if (strcmp(arg, "-h") == 0 || strcmp(arg, "--help") == 0)
        arguments->help = true;
    else if ((usage->takes & ARGUMENTS_JSON) && strcmp(arg, "--json") == 0)
        arguments->json = true;
    else if ((usage->takes & ARGUMENTS_QUIET) &&
             (strcmp(arg, "-q") == 0 || strcmp(arg, "--quiet") == 0))
        arguments->quiet = true;
    else if (!read_own(usage, argc, argv, at, own, own_count, &rc, err) &&
             !((usage->takes & ARGUMENTS_INDEX) &&
               read_index_option(usage, argc, argv, at, arguments, index, &rc, err)))
        rc = atd_error_set(err, EINVAL, "option '%.200s' is unknown; see atdatafs %s --help", arg,
                           usage->name);
    return rc;
}

/* ------------------------------------------------------------------ the whole line */

static int check_words(const struct command_usage *usage, const struct arguments *arguments,
                       struct atd_error *err)
{
    if (arguments->word_count < usage->words_least)
        return atd_error_set(err, EINVAL, "%s; see atdatafs %s --help", usage->words_missing,
                             usage->name);
    if (arguments->word_count <= usage->words_most)
        return 0;
    if (usage->words_most >= ARGUMENTS_WORDS_MAX)
        return atd_error_set(err, E2BIG, "more than %u words", ARGUMENTS_WORDS_MAX);
    return atd_error_set(err, EINVAL, "'%.200s' is one argument too many; see atdatafs %s --help",
                         arguments->words[usage->words_most], usage->name);
}

int arguments_read(const struct command_usage *usage, int argc, char **argv,
                   const struct argument_option *own, unsigned own_count,
                   struct arguments *ret_arguments, struct atd_error *err)
{
    static char name[] = "atdatafs";
    static char nowhere[] = "/"; /* a mount point, which a mount's command line has */
    struct arguments *arguments = ret_arguments;
    bool options_over = false;
    char *index = NULL;
    int rc = 0;

    *arguments = (struct arguments){0};
    arguments->words = calloc((size_t)argc + 1, sizeof(*arguments->words));
    arguments->mount_args = calloc(2 * (size_t)argc + 4, sizeof(*arguments->mount_args));
    if (!arguments->words || !arguments->mount_args)
        return atd_error_set(err, ENOMEM, "out of memory");
    arguments->mount_args[arguments->mount_count++] = name;
    for (int i = 1; i < argc && rc == 0; i++) {
        if (!options_over && strcmp(argv[i], "--") == 0)
            options_over = true;
        else if (options_over || argv[i][0] != '-' || !argv[i][1])
            arguments->words[arguments->word_count++] = argv[i];
        else
            rc = read_option(usage, argc, argv, &i, own, own_count, arguments, &index, err);
    }
    if (rc || arguments->help)
        return rc;
    if (index)
        arguments->mount_args[arguments->mount_count++] = index;
    arguments->mount_args[arguments->mount_count++] = nowhere;
    return check_words(usage, arguments, err);
}

void arguments_release(struct arguments *arguments)
{
    free(arguments->words);
    free(arguments->mount_args);
    *arguments = (struct arguments){0};
}

/* ------------------------------------------------------------------ a command's frame */

bool command_begin(const struct command_usage *usage, int argc, char **argv,
                   const struct argument_option *own, unsigned own_count,
                   struct arguments *ret_arguments, struct options *ret_options, int *ret_exit_code)
{
    struct atd_error why = ATD_ERROR_INIT;
    int rc;

    *ret_options = (struct options){0};
    *ret_exit_code = ATD_EXIT_OK;
    rc = arguments_read(usage, argc, argv, own, own_count, ret_arguments, &why);
    if (rc == 0 && !ret_arguments->help && (usage->takes & ARGUMENTS_INDEX))
        rc =
            options_parse(ret_arguments->mount_count, ret_arguments->mount_args, ret_options, &why);
    if (rc) {
        (void)command_failed(&why);
        *ret_exit_code = ATD_EXIT_USAGE;
    } else if (ret_arguments->help) {
        arguments_print_help(usage);
    }
    return rc == 0 && !ret_arguments->help;
}

int command_end(struct arguments *arguments, struct options *options, int exit_code)
{
    arguments_release(arguments);
    options_release(options);
    return output_end(exit_code);
}

int command_failed(const struct atd_error *why)
{
    (void)fprintf(stderr, "atdatafs: %s\n", why->text);
    return ATD_EXIT_FAILED;
}

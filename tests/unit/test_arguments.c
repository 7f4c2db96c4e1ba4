#include <criterion/criterion.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "commands/arguments.h"

#define ARGS_MAX 16

struct own {
    bool names;
    bool is_signed;
    unsigned seconds;
    unsigned jobs;
    const char *class_name;
};

static const struct command_usage usage = {
    .name = "look",
    .takes = ARGUMENTS_INDEX | ARGUMENTS_JSON | ARGUMENTS_QUIET,
    .words_least = 1,
    .words_most = 2,
    .words_missing = "a name is missing",
};

static int parse_as(const struct command_usage *as, const char *const *args, struct own *own,
                    struct arguments *arguments, struct atd_error *err)
{
    const struct argument_option options[] = {
        {.name = "--names", .flag = &own->names},
        {.name = "--signed",
         .flag = &own->is_signed,
         .number = &own->seconds,
         .least = 1,
         .most = 60,
         .may_lack_value = true},
        {.name = "-j", .number = &own->jobs, .least = 1, .most = 8},
        {.name = "--class", .text = &own->class_name},
    };
    char *argv[ARGS_MAX + 1] = {(char *)(uintptr_t) "look"};
    int argc = 1;

    *own = (struct own){.seconds = 7};
    for (; args[argc - 1]; argc++)
        argv[argc] = (char *)(uintptr_t)args[argc - 1];
    return arguments_read(as, argc, argv, options, ATD_ARRAY_LEN(options), arguments, err);
}

static int parse(const char *const *args, struct own *own, struct arguments *arguments,
                 struct atd_error *err)
{
    return parse_as(&usage, args, own, arguments, err);
}

Test(arguments, words_and_options_in_any_order)
{
    static const char *const args[] = {"a", "--json", "-q", "b", "--names", NULL};
    struct arguments arguments;
    struct own own;

    cr_assert_eq(parse(args, &own, &arguments, NULL), 0);
    cr_assert_eq(arguments.word_count, 2);
    cr_expect_str_eq(arguments.words[0], "a");
    cr_expect_str_eq(arguments.words[1], "b");
    cr_expect(arguments.json && arguments.quiet && own.names && !arguments.help);
    cr_assert_eq(arguments.mount_count, 2);
    cr_expect_str_eq(arguments.mount_args[1], "/");
    arguments_release(&arguments);
}

Test(arguments, a_value_in_the_same_word_or_the_next)
{
    static const char *const args[][8] = {
        {"-j3", "--class=X", "--index=sqlite:/i.db", "-oa=b", "n", NULL},
        {"-j", "3", "--class", "X", "--index", "sqlite:/i.db", "n", NULL},
        {"-j", "3", "--class", "X", "-i", "sqlite:/i.db", "n", NULL},
        {"-j3", "--class=X", "-isqlite:/i.db", "n", NULL},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(args); i++) {
        struct arguments arguments;
        struct own own;

        cr_assert_eq(parse(args[i], &own, &arguments, NULL), 0, "case %zu", i);
        cr_expect_eq(own.jobs, 3, "case %zu", i);
        cr_expect_str_eq(own.class_name, "X");
        cr_expect_eq(arguments.word_count, 1);
        cr_expect_str_eq(arguments.mount_args[arguments.mount_count - 2], "sqlite:/i.db");
        arguments_release(&arguments);
    }
}

Test(arguments, a_value_that_may_be_left_out_takes_no_word)
{
    static const char *const bare[] = {"--signed", "9", NULL};
    static const char *const valued[] = {"--signed=9", "n", NULL};
    struct arguments arguments;
    struct own own;

    cr_assert_eq(parse(bare, &own, &arguments, NULL), 0);
    cr_expect(own.is_signed);
    cr_expect_eq(own.seconds, 7);
    cr_expect_str_eq(arguments.words[0], "9");
    arguments_release(&arguments);
    cr_assert_eq(parse(valued, &own, &arguments, NULL), 0);
    cr_expect(own.is_signed);
    cr_expect_eq(own.seconds, 9);
    arguments_release(&arguments);
}

Test(arguments, after_two_dashes_all_are_words)
{
    static const char *const args[] = {"--", "--json", "-", NULL};
    struct arguments arguments;
    struct own own;

    cr_assert_eq(parse(args, &own, &arguments, NULL), 0);
    cr_assert_eq(arguments.word_count, 2);
    cr_expect_str_eq(arguments.words[0], "--json");
    cr_expect_str_eq(arguments.words[1], "-");
    cr_expect(!arguments.json);
    arguments_release(&arguments);
}

Test(arguments, help_needs_nothing_else)
{
    static const char *const args[] = {"-h", NULL};
    struct arguments arguments;
    struct own own;

    cr_assert_eq(parse(args, &own, &arguments, NULL), 0);
    cr_expect(arguments.help);
    arguments_release(&arguments);
}

Test(arguments, what_a_command_does_not_take_is_unknown)
{
    static const struct command_usage bare = {.name = "bare", .words_most = 9};
    static const char *const args[][3] = {
        {"--json", NULL}, {"-q", NULL}, {"-i", "redis:", NULL}, {"-o", "ro", NULL}};

    for (size_t i = 0; i < ATD_ARRAY_LEN(args); i++) {
        struct arguments arguments;
        struct atd_error err = ATD_ERROR_INIT;
        struct own own;

        cr_expect_eq(parse_as(&bare, args[i], &own, &arguments, &err), -EINVAL, "case %zu", i);
        cr_expect(strstr(err.text, "is unknown; see atdatafs bare --help"), "%s", err.text);
        arguments_release(&arguments);
    }
}

Test(arguments, what_is_wrong_is_said)
{
    static const struct {
        const char *args[5];
        const char *says;
    } cases[] = {
        {{NULL}, "a name is missing; see atdatafs look --help"},
        {{"a", "b", "c", NULL}, "'c' is one argument too many"},
        {{"-x", "a", NULL}, "option '-x' is unknown"},
        {{"--jsonx", "a", NULL}, "option '--jsonx' is unknown"},
        {{"--json=1", "a", NULL}, "option '--json=1' is unknown"},
        {{"--names=1", "a", NULL}, "option '--names=1' is unknown"},
        {{"--classy", "a", NULL}, "option '--classy' is unknown"},
        {{"a", "--class", NULL}, "--class lacks its value"},
        {{"a", "-i", NULL}, "-i lacks its value"},
        {{"a", "-o", NULL}, "-o lacks its value"},
        {{"a", "-j", "0", NULL}, "-j takes a number from 1 to 8"},
        {{"a", "-j9", NULL}, "-j takes a number"},
        {{"a", "-j", "-1", NULL}, "-j takes a number"},
        {{"a", "-j", " 1", NULL}, "-j takes a number"},
        {{"a", "--signed=", NULL}, "--signed takes a number from 1 to 60"},
        {{"a", "--signed=99999999999999999999", NULL}, "--signed takes a number"},
        {{"a", "-i", "index.db", NULL}, "-i takes redis://"},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        struct arguments arguments;
        struct atd_error err = ATD_ERROR_INIT;
        struct own own;

        cr_expect_lt(parse(cases[i].args, &own, &arguments, &err), 0, "case %zu", i);
        cr_expect(strstr(err.text, cases[i].says), "case %zu: %s", i, err.text);
        arguments_release(&arguments);
    }
}

Test(arguments, an_index_that_is_wrong_is_not_quoted)
{
    static const char *const args[] = {"-i", "rediss//user:secret@host", "a", NULL};
    struct arguments arguments;
    struct atd_error err = ATD_ERROR_INIT;
    struct own own;

    cr_expect_lt(parse(args, &own, &arguments, &err), 0);
    cr_expect(!strstr(err.text, "secret"));
    arguments_release(&arguments);
}

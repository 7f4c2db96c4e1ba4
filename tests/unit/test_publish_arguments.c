#include <criterion/criterion.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "commands/publish_arguments.h"

static int parse(const char *const *args, struct publish_arguments *arguments,
                 struct atd_error *err)
{
    char *argv[16] = {(char *)(uintptr_t) "publish"};
    int argc = 1;

    for (; args[argc - 1]; argc++)
        argv[argc] = (char *)(uintptr_t)args[argc - 1];
    return publish_arguments_read(argc, argv, arguments, err);
}

Test(publish_arguments, files_and_a_name)
{
    static const char *const args[] = {"a.tar", "-", "d/b.tar", "team/mnist", NULL};
    struct publish_arguments arguments;

    cr_assert_eq(parse(args, &arguments, NULL), 0);
    cr_assert_str_eq(arguments.dataset, "team/mnist");
    cr_assert_eq(arguments.file_count, 3);
    cr_expect_str_eq(arguments.files[0], "a.tar");
    cr_expect_str_eq(arguments.files[1], "-");
    cr_expect_str_eq(arguments.files[2], "d/b.tar");
    cr_expect_eq(arguments.parallel, PUBLISH_JOBS_DEFAULT);
    cr_expect(!arguments.common.json && !arguments.common.quiet && !arguments.common.help);
    cr_assert_eq(arguments.common.mount_count, 2);
    cr_expect_str_eq(arguments.common.mount_args[1], "/");
    publish_arguments_release(&arguments);
}

Test(publish_arguments, every_option_anywhere)
{
    static const char *const args[] = {"--json", "a.tar", "-j8", "-i",  "sqlite:/i.db", "-o",
                                       "a=b",    "n",     "-q",  "-oc", "--",           NULL};
    struct publish_arguments arguments;

    cr_assert_eq(parse(args, &arguments, NULL), 0);
    cr_expect(arguments.common.json && arguments.common.quiet);
    cr_expect_eq(arguments.parallel, 8);
    cr_assert_eq(arguments.common.mount_count, 7);
    cr_expect_str_eq(arguments.common.mount_args[1], "-o");
    cr_expect_str_eq(arguments.common.mount_args[2], "a=b");
    cr_expect_str_eq(arguments.common.mount_args[4], "c");
    cr_expect_str_eq(arguments.common.mount_args[5], "sqlite:/i.db");
    cr_expect_str_eq(arguments.common.mount_args[6], "/");
    publish_arguments_release(&arguments);
}

Test(publish_arguments, a_file_named_like_an_option)
{
    static const char *const args[] = {"--", "-q.tar", "n", NULL};
    struct publish_arguments arguments;

    cr_assert_eq(parse(args, &arguments, NULL), 0);
    cr_expect_eq(arguments.file_count, 1);
    cr_expect(!arguments.common.quiet);
    publish_arguments_release(&arguments);
}

Test(publish_arguments, a_file_given_twice_is_one)
{
    static const char *const args[] = {"b.tar", "a.tar", "b.tar", "./c.tar", "n", NULL};
    struct publish_arguments arguments;

    cr_assert_eq(parse(args, &arguments, NULL), 0);
    cr_assert_eq(arguments.file_count, 3);
    cr_expect_str_eq(arguments.files[0], "a.tar");
    cr_expect_str_eq(arguments.files[1], "b.tar");
    cr_expect_str_eq(arguments.files[2], "./c.tar");
    publish_arguments_release(&arguments);
}

Test(publish_arguments, help_needs_nothing_else)
{
    static const char *const args[] = {"--help", NULL};
    struct publish_arguments arguments;

    cr_assert_eq(parse(args, &arguments, NULL), 0);
    cr_expect(arguments.common.help);
    publish_arguments_release(&arguments);
}

Test(publish_arguments, what_is_wrong_is_said)
{
    static const struct {
        const char *args[5];
        const char *says;
    } cases[] = {
        {{NULL}, "files and the name of a dataset are missing"},
        {{"a.tar", NULL}, "only one word was given"},
        {{"a.tar", "b.tar", NULL}, "'b.tar' looks like a shard"},
        {{"a.tar", "d/b.tar.gz", NULL}, "'d/b.tar.gz' looks like a shard"},
        {{"x/a.tar", "y/a.tar", "n", NULL}, "would both be called 'a.tar'"},
        {{"a.tar", "n*", NULL}, "'n*'"},
        {{"a.tar", "", NULL}, "is empty"},
        {{"-x", "a.tar", "n", NULL}, "option '-x' is unknown"},
        {{"-j0", "a.tar", "n", NULL}, "-j takes"},
        {{"-j", "-1", "a.tar", "n", NULL}, "-j takes"},
        {{"-j65", "a.tar", "n", NULL}, "-j takes"},
        {{"a.tar", "n", "-j", NULL}, "-j lacks its value"},
        {{"-i", "index.db", "a.tar", "n", NULL}, "-i takes redis://"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct publish_arguments arguments;
        struct atd_error err = ATD_ERROR_INIT;

        cr_expect_lt(parse(cases[i].args, &arguments, &err), 0, "case %zu", i);
        cr_expect(strstr(err.text, cases[i].says), "case %zu: %s", i, err.text);
        publish_arguments_release(&arguments);
    }
}

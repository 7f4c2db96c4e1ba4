#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#include "options.h"

static int parse(const char *const *args, struct options *options, struct atd_error *err)
{
    char *argv[16] = {(char *)(uintptr_t) "atdatafs"};
    int argc = 1;

    for (; args[argc - 1]; argc++)
        argv[argc] = (char *)(uintptr_t)args[argc - 1];
    return options_parse(argc, argv, options, err);
}

static void setup(void)
{
    (void)setenv("HOME", "/home/u", 1);
    (void)unsetenv("ATDATA_INDEX");
}

TestSuite(options, .init = setup);

Test(options, the_default_is_the_librarys_own_index)
{
    static const char *const args[] = {"/mnt", NULL};
    struct options options;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(parse(args, &options, &err), 0, "%s", err.text);
    cr_assert_str_eq(options.index_path, "/home/u/.atdata/index.db");
    cr_assert_str_eq(options.mountpoint, "/mnt");
    cr_assert_eq(options.data_root_count, 1);
    cr_assert_str_eq(options.data_roots[0], "/home/u/.atdata/data");
    cr_assert_eq(options.umask, 022);
    options_release(&options);
}

Test(options, everything_that_mount_and_fstab_pass)
{
    static const char *const args[] = {
        "sqlite:/srv/i.db",
        "/mnt",
        "-o",
        "rw,noauto,x-systemd.automount,allow_other,uid=7,gid=8,umask=027,data_root=/a\\,b",
        "-f",
        NULL};
    struct options options;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(parse(args, &options, &err), 0, "%s", err.text);
    cr_assert_str_eq(options.index_path, "/srv/i.db");
    cr_assert(options.foreground && options.allow_other && options.default_permissions);
    cr_assert_eq(options.uid, 7);
    cr_assert_eq(options.gid, 8);
    cr_assert_eq(options.umask, 027);
    cr_assert_eq(options.data_root_count, 2);
    cr_assert_str_eq(options.data_roots[0], "/a,b");
    cr_assert_str_eq(options.data_roots[1], "/srv/data");
    options_release(&options);
}

Test(options, index_from_the_environment)
{
    static const char *const args[] = {"/mnt", NULL};
    struct options options;

    (void)setenv("ATDATA_INDEX", "sqlite:///srv/team.db", 1);
    cr_assert_eq(parse(args, &options, NULL), 0);
    cr_assert_str_eq(options.index_path, "/srv/team.db");
    options_release(&options);
}

Test(options, what_is_wrong_is_said_without_secrets)
{
    static const struct {
        const char *args[4];
        const char *says;
    } cases[] = {
        {{NULL}, "a mount point is missing"},
        {{"-x", "/mnt", NULL}, "option '-x' is unknown"},
        {{"/mnt", "-o", "nonsense", NULL}, "option 'nonsense' is unknown"},
        {{"/mnt", "-o", "uid=root", NULL}, "uid=root is not a number"},
        {{"/mnt", "-o", "umask=9", NULL}, "umask=9 is not a number"},
        {{"/mnt", "-o", "uid=-1", NULL}, "is not a number"},
        {{"/mnt", "/other", NULL}, "one argument too many"},
        {{"redis://u:secret@h/0", "/mnt", NULL}, "'redis:...'"},
        {{"sqlite:", "/mnt", NULL}, "lacks a path"},
        {{"/mnt", "-o", "data_root=", NULL}, "lacks a directory"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct options options;
        struct atd_error err = ATD_ERROR_INIT;

        cr_assert_eq(parse(cases[i].args, &options, &err), -EINVAL, "case %zu", i);
        cr_assert_not_null(strstr(err.text, cases[i].says), "%s", err.text);
        cr_assert_null(strstr(err.text, "secret"));
        options_release(&options);
    }
}

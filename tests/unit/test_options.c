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
    cr_assert_str_eq(options.index.path, "/home/u/.atdata/index.db");
    cr_assert_str_eq(options.mountpoint, "/mnt");
    cr_assert_eq(options.data_root_count, 1);
    cr_assert_str_eq(options.data_roots[0], "/home/u/.atdata/data");
    cr_assert_eq(options.umask, 022);
    cr_assert_not(options.barrier);
    options_release(&options);
}

Test(options, everything_that_mount_and_fstab_pass)
{
    static const char *const args[] = {
        "sqlite:/srv/i.db",
        "/mnt",
        "-o",
        "rw,noauto,x-systemd.automount,allow_other,uid=7,gid=8,umask=027,data_root=/a\\,b,"
        "consistency=barrier,list_samples",
        "-f",
        NULL};
    struct options options;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(parse(args, &options, &err), 0, "%s", err.text);
    cr_assert_str_eq(options.index.path, "/srv/i.db");
    cr_assert(options.list_samples && options.foreground && options.allow_other && options.default_permissions);
    cr_assert_eq(options.uid, 7);
    cr_assert_eq(options.gid, 8);
    cr_assert_eq(options.umask, 027);
    cr_assert(options.barrier);
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
    cr_assert_str_eq(options.index.path, "/srv/team.db");
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
        {{"/mnt", "-o", "consistency=strong", NULL}, "neither barrier nor eventual"},
        {{"/mnt", "-o", "uid=-1", NULL}, "is not a number"},
        {{"/mnt", "/other", NULL}, "one argument too many"},
        {{"postgres://u:secret@h/0", "/mnt", NULL}, "'postgres:...'"},
        {{"redis://u:secret@h/zero", "/mnt", NULL}, "database"},
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

Test(options, remote_shards)
{
    static const char *const args[] = {"redis://:secret@h:7/3", "/mnt", "-o",
                                       "store=s3://team//data/sets/,endpoint=http://h:9000,"
                                       "env_file=/e/.env,cache_dir=/c,cache_size=10G,memory=64m,"
                                       "timeout=5,path_style",
                                       NULL};
    struct options options;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(parse(args, &options, &err), 0, "%s", err.text);
    cr_assert_null(options.index.path);
    cr_assert_eq(options.index.redis->db, 3);
    cr_assert_null(strstr(options.index.redis->shown, "secret"));
    cr_assert_str_eq(options.bucket, "team");
    cr_assert_str_eq(options.prefix, "data/sets");
    cr_assert_str_eq(options.endpoint, "http://h:9000");
    cr_assert_str_eq(options.env_file, "/e/.env");
    cr_assert_str_eq(options.cache_dir, "/c");
    cr_assert(options.cache_named);
    cr_assert_eq(options.cache_size_bytes, (uint64_t)10 << 30);
    cr_assert_eq(options.memory_bytes, (uint64_t)64 << 20);
    cr_assert_eq(options.timeout_s, 5);
    cr_assert_eq(options.data_root_count, 0);
    options_release(&options);
}

Test(options, the_default_cache_is_in_the_home_directory)
{
    static const char *const args[] = {"/mnt", NULL};
    static const char *const none[] = {"/mnt", "-o", "cache=none", NULL};
    struct options options;

    (void)unsetenv("XDG_CACHE_HOME");
    cr_assert_eq(parse(args, &options, NULL), 0);
    cr_assert_str_eq(options.cache_dir, "/home/u/.cache/atdatafs");
    cr_assert_not(options.cache_named);
    options_release(&options);
    (void)setenv("XDG_CACHE_HOME", "/x", 1);
    cr_assert_eq(parse(args, &options, NULL), 0);
    cr_assert_str_eq(options.cache_dir, "/x/atdatafs");
    options_release(&options);
    cr_assert_eq(parse(none, &options, NULL), 0);
    cr_assert_null(options.cache_dir);
    options_release(&options);
}

Test(options, remote_mistakes_are_named)
{
    static const struct {
        const char *text;
        const char *said;
    } cases[] = {
        {"store=team", "s3://BUCKET"},
        {"store=s3://", "s3://BUCKET"},
        {"endpoint=h:9000", "endpoint"},
        {"endpoint=", ""},
        {"region=", "region"},
        {"cache_size=lots", "cache_size=lots"},
        {"cache_size=1", "cache_size=1"},
        {"cache_size=99999999999999G", "cache_size="},
        {"memory=1M", "memory=1M"},
        {"memory=-1", "memory=-1"},
        {"timeout=0", "timeout=0"},
        {"timeout=10s", "timeout=10s"},
        {"cache=all", "none"},
        {"password_file=/x", "redis"},
        {"unsigned,profile=x", "unsigned"},
        {"unsigned=yes", "unsigned"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *const args[] = {"/mnt", "-o", cases[i].text, NULL};
        struct atd_error err = ATD_ERROR_INIT;
        struct options options;

        cr_assert_eq(parse(args, &options, &err), -EINVAL, "%s", cases[i].text);
        cr_assert(strstr(err.text, cases[i].said), "%s: %s", cases[i].text, err.text);
        options_release(&options);
    }
}

Test(options, certificates_that_cannot_be_read_are_a_mistake)
{
    const char *const args[] = {"/mnt", "-o", "ca_file=/no/such/ca.pem", NULL};
    struct atd_error err = ATD_ERROR_INIT;
    struct options options;

    cr_assert_eq(parse(args, &options, &err), -ENOENT);
    cr_assert(strstr(err.text, "'/no/such/ca.pem'"), "%s", err.text);
    options_release(&options);
}

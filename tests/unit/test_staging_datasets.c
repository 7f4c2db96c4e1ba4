/* Empty datasets, which are kept on the disk. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "staging_scene.h"

static char state[] = "/tmp/atd-staging-XXXXXX";

static void start_disk(void)
{
    cr_assert(mkdtemp(state));
    start();
    cr_assert_eq(staging_load_datasets(staging, state, &err), 0, "%s", err.text);
}

static void stop_disk(void)
{
    char command[64];

    stop();
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", state);
    cr_assert_eq(system(command), 0);
}

static void remount(void)
{
    staging_free(staging);
    start();
    cr_assert_eq(staging_load_datasets(staging, state, &err), 0, "%s", err.text);
}

static void expect_datasets(const char *expected)
{
    char text[2048] = "";
    char **names;
    size_t count;

    cr_assert_eq(staging_datasets(staging, &names, &count, &err), 0);
    cr_assert_eq(count, staging_dataset_count(staging));
    for (size_t i = 0; i < count; i++)
        (void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", i ? " " : "",
                       names[i]);
    cr_assert_str_eq(text, expected);
    staging_datasets_free(names, count);
}

static int on_disk(const char *name)
{
    char path[600];

    (void)snprintf(path, sizeof(path), "%s/datasets/%s", state, name);
    return access(path, F_OK);
}

static int add_dataset(const char *name)
{
    return staging_add_dataset(staging, atd_str_from(name), &err);
}

TestSuite(staging_datasets, .init = start_disk, .fini = stop_disk);

Test(staging_datasets, survive_a_remount)
{
    cr_assert_eq(add_dataset("b"), 0, "%s", err.text);
    cr_assert_eq(add_dataset("team%2Fmnist"), 0);
    cr_assert_eq(add_dataset("a"), 0);
    cr_assert_eq(add_dataset("a"), -EEXIST);
    expect_datasets("a b team%2Fmnist");
    remount();
    expect_datasets("a b team%2Fmnist");
    cr_assert(staging_has_dataset(staging, ATD_STR("team%2Fmnist")));
    cr_assert(staging_remove_dataset(staging, ATD_STR("b")));
    cr_assert_not(staging_remove_dataset(staging, ATD_STR("b")));
    cr_assert_eq(on_disk("b"), -1);
    remount();
    expect_datasets("a team%2Fmnist");
}

Test(staging_datasets, hostile_names_reach_no_other_file)
{
    static const char *const names[] = {"",    ".",    "..",  "../x", "a/b",   ".hidden", "a\nb",
                                        "%2f", "\xff", "a%2", "%41",  "a%00b", "a\x7f"};
    char long_name[257];

    memset(long_name, 'n', 256);
    long_name[256] = '\0';
    cr_assert_eq(add_dataset(long_name), -EINVAL);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(names[i], "a%2") == 0 || strcmp(names[i], "a%00b") == 0)
            continue; /* these are file names of names */
        cr_assert_eq(add_dataset(names[i]), -EINVAL, "'%s'", names[i]);
    }
    expect_datasets("");
    long_name[255] = '\0';
    cr_assert_eq(add_dataset(long_name), 0, "%s", err.text);
    remount();
    expect_datasets(long_name);
}

Test(staging_datasets, what_is_no_dataset_on_the_disk_is_passed_over)
{
    char path[600];

    (void)snprintf(path, sizeof(path), "%s/datasets", state);
    cr_assert_eq(mkdir(path, 0700), 0);
    (void)snprintf(path, sizeof(path), "%s/datasets/link", state);
    cr_assert_eq(symlink("/", path), 0);
    (void)snprintf(path, sizeof(path), "%s/datasets/file", state);
    cr_assert_geq(open(path, O_CREAT | O_WRONLY, 0600), 0);
    (void)snprintf(path, sizeof(path), "%s/datasets/.dot", state);
    cr_assert_eq(mkdir(path, 0700), 0);
    (void)snprintf(path, sizeof(path), "%s/datasets/\xff", state);
    cr_assert_eq(mkdir(path, 0700), 0);
    /* A dataset whose records are none. */
    (void)snprintf(path, sizeof(path), "%s/datasets/d", state);
    cr_assert_eq(mkdir(path, 0700), 0);
    (void)snprintf(path, sizeof(path), "%s/datasets/d/schema.json", state);
    cr_assert_eq(mkfifo(path, 0600), 0);
    (void)snprintf(path, sizeof(path), "%s/datasets/d/metadata.json", state);
    cr_assert_eq(symlink("/etc/passwd", path), 0);
    remount();
    expect_datasets("d");
    {
        atd_auto_buf struct atd_buf text = ATD_BUF_INIT(100);
        int64_t mtime_s;

        cr_assert_not(staging_get_record(staging, ATD_STR("d"), STAGED_SCHEMA, &text, &mtime_s));
        cr_assert_not(staging_get_record(staging, ATD_STR("d"), STAGED_METADATA, &text, &mtime_s));
    }
    /* Removing it removes the links, not what they lead to. */
    cr_assert(staging_remove_dataset(staging, ATD_STR("d")));
    cr_assert_eq(on_disk("d"), -1);
    cr_assert_eq(access("/etc/passwd", F_OK), 0);
    /* A link is no dataset that could be adopted, and a file none either. */
    cr_assert_eq(staging_put_record(staging, ATD_STR("link"), STAGED_SCHEMA,
                                    atd_str_bytes(ATD_STR("{}")), &err),
                 -ENOENT);
}

Test(staging_datasets, keep_the_records_that_are_put_into_them)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(100);
    int64_t mtime_s = 0;

    cr_assert_eq(add_dataset("d"), 0);
    cr_assert_eq(staging_put_record(staging, ATD_STR("d"), STAGED_SCHEMA,
                                    atd_str_bytes(ATD_STR("{\"old\": 1}")), &err),
                 0, "%s", err.text);
    cr_assert_eq(staging_put_record(staging, ATD_STR("d"), STAGED_SCHEMA,
                                    atd_str_bytes(ATD_STR("{}")), &err),
                 0, "%s", err.text);
    for (int round = 0; round < 2; round++) {
        atd_buf_clear(&text);
        cr_assert(staging_get_record(staging, ATD_STR("d"), STAGED_SCHEMA, &text, &mtime_s));
        cr_assert(atd_str_equal(atd_buf_str(&text), ATD_STR("{}")));
        cr_assert_gt(mtime_s, 0);
        cr_assert_not(staging_get_record(staging, ATD_STR("d"), STAGED_METADATA, &text, &mtime_s));
        remount();
    }
    cr_assert_eq(staging_put_record(staging, ATD_STR("e"), STAGED_SCHEMA,
                                    atd_str_bytes(ATD_STR("{}")), &err),
                 -ENOENT);
    cr_assert(staging_remove_dataset(staging, ATD_STR("d")));
    cr_assert_eq(on_disk("d"), -1);
}

Test(staging_datasets, are_renamed_with_what_is_in_them)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(100);
    int64_t mtime_s;

    cr_assert_eq(add_dataset("a"), 0);
    cr_assert_eq(add_dataset("b"), 0);
    cr_assert_eq(staging_put_record(staging, ATD_STR("a"), STAGED_METADATA,
                                    atd_str_bytes(ATD_STR("{}")), &err),
                 0);
    cr_assert_eq(staging_rename_dataset(staging, ATD_STR("a"), ATD_STR("b"), &err), -EEXIST);
    cr_assert_eq(staging_rename_dataset(staging, ATD_STR("a"), ATD_STR(".c"), &err), -EINVAL);
    cr_assert_eq(staging_rename_dataset(staging, ATD_STR("x"), ATD_STR("c"), &err), -ENOENT);
    cr_assert_eq(staging_rename_dataset(staging, ATD_STR("a"), ATD_STR("c"), &err), 0);
    expect_datasets("b c");
    remount();
    expect_datasets("b c");
    cr_assert(staging_get_record(staging, ATD_STR("c"), STAGED_METADATA, &text, &mtime_s));
}

Test(staging_datasets, give_way_to_an_entry_of_their_name)
{
    struct atd_catalog *catalog = load("team/mnist", x_urls);

    cr_assert_eq(add_dataset("a"), 0);
    cr_assert_eq(add_dataset("team%2Fmnist"), 0);
    cr_assert_eq(add_dataset("z"), 0);
    staging_settle(staging, catalog);
    expect_datasets("a z");
    cr_assert_eq(on_disk("team%2Fmnist"), -1);
    remount();
    expect_datasets("a z");
    atd_catalog_unref(catalog);
}

Test(staging_datasets, without_a_state_directory_none_can_be_made)
{
    struct staging *bare = staging_new();

    cr_assert_eq(staging_add_dataset(bare, ATD_STR("d"), &err), -EROFS);
    /* nothing is made before it is needed */
    cr_assert_eq(staging_load_datasets(bare, "/proc/self", &err), 0, "%d", err.code);
    cr_assert_eq(staging_add_dataset(bare, ATD_STR("d"), &err), -ENOENT, "%d", err.code);
    staging_free(bare);
}

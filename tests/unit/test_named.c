#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atdata/entry.h"
#include "publish/named.h"

static struct atd_error err;
static struct atd_named *named;

static void set_up(void)
{
    named = atd_named_new();
    cr_assert_not_null(named);
}

static void tear_down(void)
{
    atd_named_free(named);
}

TestSuite(named, .init = set_up, .fini = tear_down);

static bool has(const char *url)
{
    return atd_named_has(named, atd_str_from(url));
}

/* An index of entries with one URL each. */
static int load(const char *const *urls, size_t count)
{
    struct atd_index *index = atd_index_memory_new();
    struct atd_index_entry entries[16] = {0};
    struct atd_buf packed[16];
    char cids[16][32];
    int rc;

    for (size_t i = 0; i < count; i++) {
        struct atd_str url = atd_str_from(urls[i]);

        atd_buf_init(&packed[i], 1 << 20);
        atd_urls_encode(&url, 1, &packed[i]);
        (void)snprintf(cids[i], sizeof(cids[i]), "cid%zu", i);
        entries[i] = (struct atd_index_entry){.cid = atd_str_from(cids[i]),
                                              .name = ATD_STR("n"),
                                              .schema_ref = ATD_STR("r"),
                                              .data_urls = atd_buf_bytes(&packed[i])};
    }
    atd_index_memory_set(index, entries, count, NULL, 0, NULL, 0);
    rc = atd_named_load(named, index, &err);
    atd_index_free(index);
    for (size_t i = 0; i < count; i++)
        atd_buf_release(&packed[i]);
    return rc;
}

#define LOAD(...)                            \
    load((const char *const[]){__VA_ARGS__}, \
         sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

Test(named, objects_are_told_apart_to_the_byte)
{
    cr_assert_eq(LOAD("s3://b/data/m/a.tar", "S3://b/data/m/b.tar", "s3://b/x//c.tar"), 0);
    cr_assert(has("s3://b/data/m/a.tar"));
    cr_assert(has("s3://b/data/m/b.tar")); /* the scheme has no case */
    cr_assert(has("s3://b/x//c.tar"));
    cr_assert_not(has("s3://b/x/c.tar"));
    cr_assert_not(has("s3://b/data/m/A.tar"));
    cr_assert_not(has("s3://other/data/m/a.tar"));
    cr_assert_not(has("s3://b/data/m/a.tar2"));
    cr_assert_eq(atd_named_entry_count(named), 3);
}

Test(named, patterns_count_as_they_stand_and_expanded)
{
    cr_assert_eq(LOAD("s3://b/d/p-{0..2}.tar", "s3://b/d/x.tar s3://b/d/y.tar"), 0);
    cr_assert(has("s3://b/d/p-0.tar") && has("s3://b/d/p-2.tar"));
    cr_assert(has("s3://b/d/p-{0..2}.tar"));
    cr_assert_not(has("s3://b/d/p-3.tar"));
    cr_assert(has("s3://b/d/x.tar") && has("s3://b/d/y.tar"));
}

Test(named, a_member_index_goes_with_its_shard)
{
    cr_assert_eq(LOAD("s3://b/d/a.tar"), 0);
    cr_assert(has("s3://b/d/a.tar.atdatafs-members"));
    cr_assert_not(has("s3://b/d/b.tar.atdatafs-members"));
    cr_assert_not(has("s3://b/d/a.tar.atdatafs-members.atdatafs-members"));
}

Test(named, other_ways_to_the_same_object_count)
{
    cr_assert_eq(LOAD("https://cdn/x/set%20one/a.tar?k=1", "pipe:aws s3 cp s3://b/pre/two/b.tar -",
                      "three/c.tar", "d.tar", "gs://bucket/e.tar"),
                 0);
    cr_assert(has("s3://b/pre/set one/a.tar"));
    cr_assert(has("s3://b/pre/two/b.tar"));
    cr_assert(has("s3://b/pre/three/c.tar"));
    cr_assert(has("s3://b/pre/anything/d.tar")); /* somebody's working directory */
    cr_assert_not(has("s3://b/pre/other/a.tar"));
    cr_assert_not(has("s3://b/pre/other/c.tar"));
    cr_assert_not(has("s3://b/pre/other/e.tar"));
}

Test(named, a_file_is_named_under_every_name_that_leads_to_it)
{
    char dir[] = "/tmp/atd-named-XXXXXX";
    char paths[5][64];

    cr_assert_not_null(mkdtemp(dir));
    (void)snprintf(paths[0], 64, "%s/real", dir);
    (void)snprintf(paths[1], 64, "%s/real/a.tar", dir);
    (void)snprintf(paths[2], 64, "%s/link", dir);
    (void)snprintf(paths[3], 64, "%s/link/a.tar", dir);
    (void)snprintf(paths[4], 64, "%s/real/b.tar", dir);
    cr_assert_eq(mkdir(paths[0], 0700), 0);
    cr_assert_eq(symlink("real", paths[2]), 0);
    for (int i = 1; i < 5; i += 3)
        fclose(fopen(paths[i], "w"));
    cr_assert_eq(LOAD(paths[3]), 0);
    cr_assert(has(paths[1]) && has(paths[3]));
    cr_assert_not(has(paths[4]));
    atd_named_free(named);
    named = atd_named_new();
    (void)snprintf(paths[3], 64, "file://%s/real/./b.tar", dir);
    cr_assert_eq(LOAD(paths[3]), 0);
    cr_assert(has(paths[4]));
    cr_assert_not(has(paths[1]));
    for (int i = 1; i < 5; i += 3)
        (void)unlink(paths[i]);
    (void)unlink(paths[2]);
    (void)rmdir(paths[0]);
    (void)rmdir(dir);
}

Test(named, what_hides_names_is_an_error)
{
    struct atd_index *index = atd_index_memory_new();
    const struct atd_index_entry bad = {.cid = ATD_STR("thecid"),
                                        .name = ATD_STR("n"),
                                        .schema_ref = ATD_STR("r"),
                                        .data_urls = {(const uint8_t *)"\xc1", 1}};

    cr_assert_eq(atd_named_load(named, index, &err), -ENODATA);
    atd_index_memory_set(index, &bad, 1, NULL, 0, NULL, 0);
    cr_assert_eq(atd_named_load(named, index, &err), -EBADMSG);
    cr_assert(strstr(err.text, "thecid"), "%s", err.text);
    atd_index_free(index);
    /* More shards than anybody can list. */
    cr_assert_eq(LOAD("s3://b/{0..99999999}/a.tar"), -EBADMSG);
}

Test(named, many_are_kept_apart)
{
    char url[64];

    for (int i = 0; i < 20000; i++) {
        (void)snprintf(url, sizeof(url), "s3://b/d/%d.tar", i);
        cr_assert_eq(atd_named_add(named, atd_str_from(url), &err), 0);
    }
    for (int i = 0; i < 20000; i += 7) {
        (void)snprintf(url, sizeof(url), "s3://b/d/%d.tar", i);
        cr_assert(has(url));
        (void)snprintf(url, sizeof(url), "s3://b/d/%d.tar", i + 20000);
        cr_assert_not(has(url));
    }
}

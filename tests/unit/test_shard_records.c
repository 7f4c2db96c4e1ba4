/*
 * What an entry's metadata records of its shards saves requests, and is not believed for ever.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atdata/entry.h"
#include "base/cleanup.h"
#include "catalog/shards.h"
#include "codec/metadata_edit.h"
#include "store/stores.h"

#define URL "s3://b/d/x.tar"

/* A store that counts what it is asked. */
struct counting {
    struct atd_store base;
    struct atd_store *inner;
    unsigned requests;
};

static int counting_list(struct atd_store *base, struct atd_str prefix, struct atd_str after,
                         unsigned timeout_ms, atd_store_list_fn fn, void *ctx, bool *ret_more,
                         struct atd_error *err)
{
    struct counting *counting = (struct counting *)base;

    __atomic_add_fetch(&counting->requests, 1, __ATOMIC_SEQ_CST);
    return atd_store_list(counting->inner, prefix, after, timeout_ms, fn, ctx, ret_more, err);
}

static int counting_stat(struct atd_store *base, struct atd_str url, unsigned timeout_ms,
                         struct atd_object_info *ret_info, struct atd_error *err)
{
    struct counting *counting = (struct counting *)base;

    __atomic_add_fetch(&counting->requests, 1, __ATOMIC_SEQ_CST);
    return atd_store_stat(counting->inner, url, timeout_ms, ret_info, err);
}

static const struct atd_store_ops counting_ops = {
    .kind = "counting", .stat = counting_stat, .list = counting_list};

static char root[] = "/tmp/atd-records-XXXXXX";
static char file[128];
static struct counting counting;
static struct atd_object_table *table;
static struct atd_file_store *files;
static struct atd_locator *locator;
static struct atd_index *memory;
static struct atd_catalog *catalog;
static struct atd_buf urls = ATD_BUF_INIT(4096);
static struct atd_buf metadata = ATD_BUF_INIT(4096);
static struct atd_index_entry entry;

static void setup(void)
{
    const char *roots[] = {root};
    struct atd_locator_options options = {
        .s3 = &counting.base, .s3_scope = "test", .timeout_ms = 1000};

    cr_assert_not_null(mkdtemp(root));
    (void)snprintf(file, sizeof(file), "%s/x.tar", root);
    counting = (struct counting){.base = {&counting_ops}};
    cr_assert_eq(atd_store_memory_new(&counting.inner, NULL), 0);
    cr_assert_eq(atd_store_memory_put(counting.inner, ATD_STR(URL),
                                      (struct atd_bytes){(const uint8_t *)"12345", 5}, NULL),
                 0);
    cr_assert_eq(atd_object_table_open(NULL, &table, NULL, NULL), 0);
    cr_assert_eq(atd_file_store_new(roots, 1, &files, NULL), 0);
    options.table = table;
    options.files = files;
    cr_assert_eq(atd_locator_new(&options, &locator, NULL), 0);
    memory = atd_index_memory_new();
}

static void teardown(void)
{
    atd_catalog_unref(catalog);
    atd_index_free(memory);
    cr_assert(atd_locator_free(locator));
    atd_file_store_free(files);
    atd_object_table_close(table);
    atd_store_free(counting.inner);
    atd_buf_release(&urls);
    atd_buf_release(&metadata);
    (void)unlink(file);
    (void)rmdir(root);
}

TestSuite(shard_records, .init = setup, .fini = teardown, .timeout = 60);

/* The catalog of one entry with that shard, recorded so. */
static void load(const char *url, const struct atd_shard_record *record)
{
    const struct atd_str text = atd_str_from(url);
    struct atd_shard_record copy = *record;

    copy.url = text;
    atd_urls_encode(&text, 1, &urls);
    cr_assert_eq(atd_metadata_put_shard((struct atd_bytes){NULL, 0}, &copy, &metadata, NULL), 0);
    entry = (struct atd_index_entry){.cid = ATD_STR("c"),
                                     .name = ATD_STR("d"),
                                     .schema_ref = ATD_STR("r"),
                                     .data_urls = atd_buf_bytes(&urls),
                                     .metadata = atd_buf_bytes(&metadata)};
    atd_index_memory_set(memory, &entry, 1, NULL, 0, NULL, 0);
    cr_assert_eq(atd_catalog_load(memory, 1, &catalog, NULL), 0);
}

static struct atd_shard_list *look(enum atd_effort effort, int expected)
{
    struct atd_shard_list *list = NULL;

    cr_assert_eq(atd_catalog_shards_renew(catalog, atd_catalog_entry_at(catalog, 0), locator,
                                          effort, &list, NULL),
                 expected);
    return list;
}

Test(shard_records, a_recorded_object_takes_no_request)
{
    struct atd_shard_list *list;
    struct atd_object_info info;
    const struct atd_shard *shard;

    load(URL, &(struct atd_shard_record){.size_bytes = 77,
                                         .etag = ATD_STR("tag"),
                                         .samples = 12,
                                         .mtime_ns = -1,
                                         .index_bytes = 9});
    list = look(ATD_EFFORT_MEMORY, 0);
    shard = atd_shard_list_at(list, 0);
    cr_assert_eq(shard->error_code, 0);
    cr_assert_eq(shard->size_bytes, 77);
    cr_assert_eq(shard->samples, 12);
    cr_assert_eq(shard->index_bytes, 9);
    cr_assert(atd_str_equal(shard->etag, ATD_STR("tag")));
    cr_assert_eq(shard->mtime_s, -1);
    cr_assert_eq(shard->mtime_ns, 999999999);
    atd_shard_info(shard, &info);
    cr_assert_eq(info.mtime_s, 0, "the recorded time is not the object's");
    cr_assert_eq(atd_shard_list_readable(list), 1);
    cr_assert_eq(counting.requests, 0);
    atd_shard_list_unref(list);
}

Test(shard_records, without_an_etag_the_store_is_asked)
{
    struct atd_shard_list *list;

    load(URL, &(struct atd_shard_record){.size_bytes = 77, .samples = -1, .mtime_ns = 5000000007});
    cr_assert_null(look(ATD_EFFORT_DISK, -EWOULDBLOCK));
    list = look(ATD_EFFORT_NETWORK, 0);
    cr_assert_gt(counting.requests, 0);
    cr_assert_eq(atd_shard_list_at(list, 0)->size_bytes, 5);
    cr_assert_eq(atd_shard_list_at(list, 0)->mtime_s, 5);
    cr_assert_eq(atd_shard_list_at(list, 0)->mtime_ns, 7);
    cr_assert_eq(atd_shard_list_at(list, 0)->samples, -1);
    atd_shard_list_unref(list);
}

/* The object is another one than was recorded: learned once, and that goes before the record. */
Test(shard_records, what_turned_out_wrong_is_not_believed_again)
{
    struct atd_shard_list *list;

    load(URL, &(struct atd_shard_record){
                  .size_bytes = 77, .etag = ATD_STR("tag"), .samples = -1, .mtime_ns = INT64_MIN});
    list = look(ATD_EFFORT_MEMORY, 0);
    atd_shard_list_unref(list);
    atd_locator_forget(locator, ATD_STR(URL));
    cr_assert_null(look(ATD_EFFORT_DISK, -EWOULDBLOCK));
    list = look(ATD_EFFORT_NETWORK, 0);
    cr_assert_eq(atd_shard_list_at(list, 0)->size_bytes, 5);
    atd_shard_list_unref(list);
    list = look(ATD_EFFORT_MEMORY, 0);
    cr_assert_eq(atd_shard_list_at(list, 0)->size_bytes, 5);
    atd_shard_list_unref(list);
}

Test(shard_records, a_local_file_shows_the_recorded_time_and_stays_itself)
{
    struct atd_shard_list *list;
    const struct atd_shard *shard;
    FILE *out = fopen(file, "w");

    cr_assert_not_null(out);
    cr_assert_eq(fputs("1234567", out) >= 0, true);
    cr_assert_eq(fclose(out), 0);
    load(file, &(struct atd_shard_record){.size_bytes = 99,
                                          .etag = ATD_STR("tag"),
                                          .samples = 4,
                                          .mtime_ns = INT64_C(1234567890123456789)});
    list = look(ATD_EFFORT_DISK, 0);
    shard = atd_shard_list_at(list, 0);
    cr_assert_eq(shard->size_bytes, 7, "the file's size, whatever was recorded");
    cr_assert_eq(shard->mtime_s, 1234567890);
    cr_assert_eq(shard->mtime_ns, 123456789);
    cr_assert_neq(shard->identity.mtime_s, 1234567890);
    cr_assert_eq(shard->samples, 4);
    atd_shard_list_unref(list);
}

Test(shard_records, a_file_name_is_found_as_the_directory_shows_it)
{
    static const struct atd_str elements[] = {
        {"s3://b/x/a.tar", 14}, {"s3://b/y/a.tar", 14}, {"s3://b/z/s-{0..2}.tar", 21}};
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
    struct atd_str named;
    bool is_listed;

    cr_assert_eq(atd_shard_urls_find(elements, 3, ATD_STR("s3://b/z/s-1.tar"), ATD_STR("a~2.tar"),
                                     &arena, &is_listed, &named, NULL),
                 0);
    cr_assert(is_listed);
    cr_assert(atd_str_equal(named, elements[1]));
    cr_assert_eq(atd_shard_urls_find(elements, 3, ATD_STR("s3://b/z/s-{0..2}.tar"),
                                     ATD_STR("b.tar"), &arena, &is_listed, &named, NULL),
                 0);
    cr_assert_not(is_listed);
    cr_assert_null(named.ptr);
}

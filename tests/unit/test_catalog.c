#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atdata/entry.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "catalog/diff.h"
#include "catalog/shards.h"

/* data_urls: ["/data/x.tar"] and [] as msgpack. */
#define ONE_URL                                    \
    {                                              \
        (const uint8_t *)"\x91\xab/data/x.tar", 13 \
    }
#define NO_URLS                    \
    {                              \
        (const uint8_t *)"\x90", 1 \
    }
#define NO_METADATA \
    {               \
        NULL, 0     \
    }
#define NO_TEXT \
    {           \
        NULL, 0 \
    }
#define T(literal)                      \
    {                                   \
        "" literal, sizeof(literal) - 1 \
    }
#define REF(class) "atdata://local/schema/" class "@1.0.0"

static const char schema_json[] =
    "{\"name\": \"A\", \"version\": \"1.0.0\", \"fields\": [{\"name\": "
    "\"x\", \"fieldType\": {\"$type\": \"local#primitive\", "
    "\"primitive\": \"int\"}, \"optional\": false}]}";

static struct atd_catalog *load(struct atd_index *index)
{
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_catalog *catalog = NULL;

    cr_assert_eq(atd_catalog_load(index, 1, &catalog, &err), 0, "%s", err.text);
    return catalog;
}

static struct atd_catalog *load_rows(const struct atd_index_entry *entries, size_t entry_count,
                                     const struct atd_index_label *labels, size_t label_count,
                                     const struct atd_index_schema *schemas, size_t schema_count)
{
    struct atd_index *index = atd_index_memory_new();
    struct atd_catalog *catalog;

    atd_index_memory_set(index, entries, entry_count, labels, label_count, schemas, schema_count);
    catalog = load(index);
    atd_index_free(index);
    return catalog;
}

/* The CID that a name in datasets/ means; "-" when the name does not show. */
static const char *meaning(const struct atd_catalog *catalog, const char *name)
{
    const struct atd_dataset *dataset = atd_catalog_find_dataset(catalog, atd_str_from(name));

    return dataset ? atd_entry_cid(atd_catalog_entry_at(catalog, dataset->entry)).ptr : "-";
}

Test(catalog, what_a_name_means)
{
    static const struct atd_index_entry entries[] = {
        {T("cid1"), T("unversioned"), T(REF("A")), ONE_URL, NO_METADATA, NO_TEXT},
        {T("cid2"), T("unversioned"), T(REF("A")), ONE_URL, NO_METADATA, NO_TEXT},
        {T("cid3"), T("newest"), T(REF("A")), ONE_URL, NO_METADATA, NO_TEXT},
        {T("cid4"), T("newest"), T(REF("A")), ONE_URL, NO_METADATA, NO_TEXT},
        {T("cid5"), T("semver"), T(REF("A")), ONE_URL, NO_METADATA, NO_TEXT},
        {T("cid6"), T("semver"), T(REF("A")), ONE_URL, NO_METADATA, NO_TEXT},
        {T("cid7"), T("alone"), T(REF("A")), ONE_URL, NO_METADATA, NO_TEXT},
        {T("cid9"), T("several"), T(REF("A")), ONE_URL, NO_METADATA, NO_TEXT},
        {T("cid8"), T("several"), T(REF("A")), ONE_URL, NO_METADATA, NO_TEXT},
    };
    static const struct atd_index_label labels[] = {
        /* The unversioned label wins over newer versioned ones. */
        {T("unversioned"), T("9.0.0"), T("cid1"), NO_TEXT, T("2030-01-01 00:00:00")},
        {T("unversioned"), T(""), T("cid2"), NO_TEXT, T("2020-01-01 00:00:00")},
        /* Greatest created_at, though the version is smaller. */
        {T("newest"), T("2.0.0"), T("cid3"), NO_TEXT, T("2020-01-01 00:00:00")},
        {T("newest"), T("1.0.0"), T("cid4"), NO_TEXT, T("2021-01-01 00:00:00")},
        /* Equal times: semver, numerically. */
        {T("semver"), T("1.9.0"), T("cid5"), NO_TEXT, NO_TEXT},
        {T("semver"), T("1.10.0"), T("cid6"), NO_TEXT, NO_TEXT},
        {T("only-a-label"), T(""), T("cid7"), NO_TEXT, NO_TEXT},
        {T("dangling"), T("1.0.0"), T("nowhere"), NO_TEXT, NO_TEXT},
    };
    struct atd_catalog *catalog =
        load_rows(entries, ATD_ARRAY_LEN(entries), labels, ATD_ARRAY_LEN(labels), NULL, 0);
    const struct atd_dataset *several;

    cr_expect_str_eq(meaning(catalog, "unversioned"), "cid2");
    cr_expect_str_eq(meaning(catalog, "newest"), "cid4");
    cr_expect_str_eq(meaning(catalog, "semver"), "cid6");
    cr_expect_str_eq(meaning(catalog, "alone"), "cid7");
    cr_expect_str_eq(meaning(catalog, "only-a-label"), "cid7");
    cr_expect_str_eq(meaning(catalog, "several"), "cid8");
    cr_expect_str_eq(meaning(catalog, "dangling"), "-");
    several = atd_catalog_find_dataset(catalog, ATD_STR("several"));
    cr_assert_eq(several->other_count, 1);
    cr_expect_str_eq(atd_entry_cid(atd_catalog_other_of(catalog, several, 0)).ptr, "cid9");
    cr_expect_eq(atd_catalog_find_dataset(catalog, ATD_STR("newest"))->other_count, 0);

    /* labels/ shows versioned labels whose entry exists. */
    cr_expect_eq(atd_catalog_shown_label_count(catalog), 5);
    cr_expect_not_null(atd_catalog_find_label(catalog, ATD_STR("semver@1.10.0")));
    cr_expect_null(atd_catalog_find_label(catalog, ATD_STR("dangling@1.0.0")));
    cr_expect_eq(atd_catalog_problem_count(catalog), 1);
    cr_expect_str_eq(atd_catalog_problem_at(catalog, 0)->key.ptr, "dangling");
    atd_catalog_unref(catalog);
}

/* SCAN may report a key several times, far apart. */
Test(catalog, what_is_reported_twice_is_there_once)
{
    static const struct atd_index_entry entries[] = {
        {T("cid1"), T("n"), T(REF("A")), ONE_URL, NO_METADATA, NO_TEXT},
        {T("cid2"), T("m"), T(REF("A")), ONE_URL, NO_METADATA, NO_TEXT},
        {T("cid1"), T("n"), T(REF("A")), ONE_URL, NO_METADATA, NO_TEXT},
        {T("cid1"), T("n"), T(REF("A")), ONE_URL, NO_METADATA, NO_TEXT},
    };
    static const struct atd_index_label labels[] = {
        {T("n"), T("1"), T("cid1"), NO_TEXT, NO_TEXT},
        {T("m"), T(""), T("cid2"), NO_TEXT, NO_TEXT},
        {T("n"), T("1"), T("cid1"), NO_TEXT, NO_TEXT},
        {T("m"), T(""), T("cid2"), NO_TEXT, NO_TEXT},
    };
    const struct atd_index_schema schema = {
        T("A"), T("1.0.0"), {(const uint8_t *)schema_json, sizeof(schema_json) - 1}, NO_TEXT};
    const struct atd_index_schema schemas[] = {schema, schema};
    struct atd_catalog *once = load_rows(entries, 2, labels, 2, schemas, 1);
    struct atd_catalog *twice = load_rows(entries, 4, labels, 4, schemas, 2);

    cr_assert_eq(atd_catalog_entry_count(twice), 2);
    cr_assert_eq(atd_catalog_schema_count(twice), 1);
    cr_assert_eq(atd_catalog_shown_label_count(twice), atd_catalog_shown_label_count(once));
    cr_assert_eq(atd_catalog_problem_count(twice), 0);
    cr_assert_str_eq(meaning(twice, "n"), "cid1");
    for (size_t i = 0; i < 2; i++) {
        const struct atd_catalog_entry *entry = atd_catalog_entry_at(twice, i);

        cr_assert_eq(entry->label_count, 1);
        cr_assert_eq(memcmp(entry->fingerprint, atd_catalog_entry_at(once, i)->fingerprint,
                            sizeof(entry->fingerprint)),
                     0);
    }
    atd_catalog_unref(once);
    atd_catalog_unref(twice);
}

Test(catalog, superseded_entries_do_not_show)
{
    static const struct atd_index_entry entries[] = {
        {T("cid1"), T("d"), T(REF("A")), ONE_URL, NO_METADATA, NO_TEXT},
        {T("cid2"), T("d@superseded:cid2"), T(REF("A")), ONE_URL, NO_METADATA, NO_TEXT},
        {T("cid3"), T("d@1.0.0"), T(REF("A")), ONE_URL, NO_METADATA, NO_TEXT},
        /* Shown: no successor; another's CID; no such label. */
        {T("cid4"), T("gone@superseded:cid4"), T(REF("A")), ONE_URL, NO_METADATA, NO_TEXT},
        {T("cid5"), T("d@superseded:cid1"), T(REF("A")), ONE_URL, NO_METADATA, NO_TEXT},
        {T("cid6"), T("d@2.0.0"), T(REF("A")), ONE_URL, NO_METADATA, NO_TEXT},
    };
    static const struct atd_index_label labels[] = {
        {T("d"), T("1.0.0"), T("cid3"), NO_TEXT, T("2020-01-01 00:00:00")},
        {T("d"), T(""), T("cid1"), NO_TEXT, T("2020-01-01 00:00:00")},
    };
    struct atd_catalog *catalog =
        load_rows(entries, ATD_ARRAY_LEN(entries), labels, ATD_ARRAY_LEN(labels), NULL, 0);

    cr_expect_str_eq(meaning(catalog, "d"), "cid1");
    cr_expect_str_eq(meaning(catalog, "d@superseded:cid2"), "-");
    cr_expect_str_eq(meaning(catalog, "d@1.0.0"), "-");
    cr_expect_str_eq(meaning(catalog, "gone@superseded:cid4"), "cid4");
    cr_expect_str_eq(meaning(catalog, "d@superseded:cid1"), "cid5");
    cr_expect_str_eq(meaning(catalog, "d@2.0.0"), "cid6");
    cr_expect_eq(atd_catalog_entry_count(catalog), 6, "by-cid shows every entry");
    atd_catalog_unref(catalog);
}

Test(catalog, unsound_rows_are_left_out_and_told)
{
    static const struct atd_index_entry entries[] = {
        {T("good"), T("team/mnist"), T(REF("A")), ONE_URL, NO_METADATA, NO_TEXT},
        {T("bad-urls"),
         T("x"),
         T(REF("A")),
         {(const uint8_t *)"\x92\xa1", 2},
         NO_METADATA,
         NO_TEXT},
        {T("bad-metadata"),
         T("y"),
         T(REF("A")),
         ONE_URL,
         {(const uint8_t *)"\x81\x01\x02", 3},
         NO_TEXT},
        {T("nil-metadata"), T("z"), T(REF("A")), ONE_URL, {(const uint8_t *)"\xc0", 1}, NO_TEXT},
    };
    static const struct atd_index_schema schemas[] = {
        {T("A"), T("1.0.0"), {(const uint8_t *)schema_json, sizeof(schema_json) - 1}, NO_TEXT},
        {T("m.A"), T("1.0.0"), {(const uint8_t *)schema_json, sizeof(schema_json) - 1}, NO_TEXT},
        {T("Bad"), T("1.0.0"), {(const uint8_t *)"[]", 2}, NO_TEXT},
    };
    struct atd_catalog *catalog =
        load_rows(entries, ATD_ARRAY_LEN(entries), NULL, 0, schemas, ATD_ARRAY_LEN(schemas));
    const struct atd_catalog_entry *good = atd_catalog_find_entry(catalog, ATD_STR("good"));

    cr_assert_eq(atd_catalog_entry_count(catalog), 2);
    cr_assert_eq(atd_catalog_problem_count(catalog), 3);
    cr_assert_str_eq(atd_catalog_problem_at(catalog, 0)->key.ptr, "bad-metadata");
    cr_assert_str_eq(atd_catalog_problem_at(catalog, 1)->key.ptr, "bad-urls");
    cr_assert_str_eq(atd_catalog_problem_at(catalog, 2)->key.ptr, "Bad@1.0.0");
    cr_assert_null(
        atd_entry_metadata(atd_catalog_find_entry(catalog, ATD_STR("nil-metadata"))).ptr);
    cr_assert_str_eq(meaning(catalog, "team%2Fmnist"), "good");
    /* The undotted record is the one that every release finds. */
    cr_assert_neq(good->schema, ATD_NONE);
    cr_assert_str_eq(atd_catalog_schema_at(catalog, good->schema)->name.ptr, "A");
    cr_assert_not_null(atd_catalog_find_schema(catalog, ATD_STR("m.A@1.0.0")));
    atd_catalog_unref(catalog);
}

static void see_dataset(void *ctx, enum atd_diff_table table, enum atd_diff_kind kind,
                        struct atd_str file_name)
{
    bool *noticed = ctx;

    if (table == ATD_DIFF_DATASET && kind == ATD_DIFF_CHANGED &&
        atd_str_equal(file_name, ATD_STR("a")))
        *noticed = true;
}

/* Whether the directory of dataset "a" would be told to have changed. */
static bool is_noticed(const struct atd_index_entry *before_rows, size_t before_count,
                       const struct atd_index_label *before_labels,
                       const struct atd_index_entry *after_rows, size_t after_count,
                       const struct atd_index_label *after_labels)
{
    struct atd_catalog *before = load_rows(before_rows, before_count, before_labels, 1, NULL, 0);
    struct atd_catalog *after = load_rows(after_rows, after_count, after_labels, 1, NULL, 0);
    bool noticed = false;

    atd_catalog_diff(before, after, see_dataset, &noticed);
    atd_catalog_unref(before);
    atd_catalog_unref(after);
    return noticed;
}

Test(catalog, everything_that_entry_json_shows_is_in_the_fingerprint)
{
    static const struct atd_index_entry rows[] = {
        {T("cid1"), T("a"), T(REF("A")), ONE_URL, NO_METADATA, NO_TEXT},
        {T("cid2"), T("a"), T(REF("B")), ONE_URL, NO_METADATA, NO_TEXT},
        {T("cid1"), T("a"), T(REF("A")), ONE_URL, NO_METADATA, T("2026-01-01 00:00:00")},
        {T("cid1"), T("a"), T(REF("A")), ONE_URL, {(const uint8_t *)"\x80", 1}, NO_TEXT},
    };
    static const struct atd_index_label labels[] = {
        {T("l"), T("1"), T("cid1"), NO_TEXT, NO_TEXT},
        {T("l"), T("1"), T("cid1"), T("described"), NO_TEXT},
        {T("l"), T("1"), T("cid1"), NO_TEXT, T("2026-01-01 00:00:00")},
    };

    cr_expect_not(is_noticed(rows, 1, labels, rows, 1, labels));
    cr_expect(is_noticed(rows, 1, labels, rows, 1, labels + 1), "a description");
    cr_expect(is_noticed(rows, 1, labels, rows, 1, labels + 2), "a label's time");
    cr_expect(is_noticed(rows, 1, labels, rows, 2, labels), "an entry of the same name");
    cr_expect(is_noticed(rows, 1, labels, rows + 2, 1, labels), "the entry's time");
    cr_expect(is_noticed(rows, 1, labels, rows + 3, 1, labels), "metadata");
}

struct seen {
    char text[1024];
};

static void note(void *ctx, enum atd_diff_table table, enum atd_diff_kind kind,
                 struct atd_str file_name)
{
    struct seen *seen = ctx;
    size_t len = strlen(seen->text);

    (void)snprintf(seen->text + len, sizeof(seen->text) - len, "%c%c:" ATD_STR_FMT " ",
                   "desl"[table], "+-!"[kind], ATD_STR_ARG(file_name));
}

Test(catalog, difference_of_two_generations)
{
    struct atd_index_entry entries[] = {
        {T("cid1"), T("a"), T(REF("A")), ONE_URL, NO_METADATA, NO_TEXT},
        {T("cid2"), T("b"), T(REF("B")), ONE_URL, NO_METADATA, NO_TEXT},
        {T("cid3"), T("c"), T(REF("C")), ONE_URL, NO_METADATA, NO_TEXT},
    };
    const struct atd_index_schema schemas[] = {
        {T("B"), T("1.0.0"), {(const uint8_t *)schema_json, sizeof(schema_json) - 1}, NO_TEXT},
    };
    const struct atd_index_label labels[] = {
        {T("c"), T("1.0.0"), T("cid3"), NO_TEXT, NO_TEXT},
    };
    struct atd_catalog *before = load_rows(entries, 2, NULL, 0, NULL, 0);
    struct atd_catalog *after = load_rows(entries + 1, 2, labels, 1, schemas, 1);
    struct seen seen = {""};
    struct seen same = {""};

    atd_catalog_diff(before, after, note, &seen);
    /* b's schema appeared, so its directory shows other files. */
    cr_expect_str_eq(seen.text, "d-:a d!:b d+:c e-:cid1 e!:cid2 e+:cid3 s+:B@1.0.0 l+:c@1.0.0 ");
    atd_catalog_diff(after, after, note, &same);
    cr_expect_str_eq(same.text, "");
    atd_catalog_unref(before);
    atd_catalog_unref(after);
}

/* ------------------------------------------------------------------ shards */

static char root[64];

static void make_root(void)
{
    (void)strcpy(root, "/tmp/atd-shards-XXXXXX");
    cr_assert_not_null(mkdtemp(root));
}

static void remove_root(void)
{
    char command[128];

    (void)snprintf(command, sizeof(command), "rm -rf %s", root);
    cr_assert_eq(system(command), 0);
}

static void put_file(const char *name)
{
    char path[256];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/%s", root, name);
    file = fopen(path, "w");
    cr_assert_not_null(file, "%s", path);
    (void)fputs("shard", file);
    (void)fclose(file);
}

/* The catalog of one entry with these URLs ("%" stands for the root). */
static struct atd_catalog *load_urls(const char *const *urls, size_t count, struct atd_buf *packed,
                                     struct atd_arena *arena)
{
    struct atd_str *texts = atd_arena_alloc_array(arena, count, sizeof(*texts));
    struct atd_index_entry entry = {T("cid1"), T("d"), T(REF("A")), NO_URLS, NO_METADATA, NO_TEXT};

    for (size_t i = 0; i < count; i++) {
        char text[512];

        (void)snprintf(text, sizeof(text), "%s%s", urls[i][0] == '%' ? root : "",
                       urls[i][0] == '%' ? urls[i] + 1 : urls[i]);
        texts[i] = atd_arena_str(arena, atd_str_from(text));
    }
    atd_urls_encode(texts, count, packed);
    entry.data_urls = atd_buf_bytes(packed);
    return load_rows(&entry, 1, NULL, 0, NULL, 0);
}

static void list_files(const char *const *urls, size_t count, char *ret_text, size_t size)
{
    atd_auto_buf struct atd_buf packed = ATD_BUF_INIT(1u << 20);
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
    struct atd_catalog *catalog = load_urls(urls, count, &packed, &arena);
    const char *roots[] = {root};
    struct atd_file_store *store = NULL;
    struct atd_shard_list *list = NULL;
    size_t len = 0;

    struct atd_locator *locator = NULL;

    cr_assert_eq(atd_file_store_new(roots, 1, &store, NULL), 0);
    cr_assert_eq(atd_locator_new(&(struct atd_locator_options){.files = store}, &locator, NULL), 0);
    cr_assert_eq(atd_catalog_shards_get(catalog, atd_catalog_entry_at(catalog, 0), locator,
                                        ATD_EFFORT_DISK, &list, NULL),
                 0);
    ret_text[0] = '\0';
    for (size_t i = 0; i < atd_shard_list_count(list); i++) {
        const struct atd_shard *shard = atd_shard_list_at(list, i);

        len += (size_t)snprintf(ret_text + len, size - len, "%s%s ", shard->file_name.ptr,
                                shard->error_code ? strerrorname_np(shard->error_code) : "");
        cr_assert_eq(atd_shard_list_find(list, shard->file_name), shard);
    }
    atd_shard_list_unref(list);
    cr_assert(atd_locator_free(locator));
    atd_file_store_free(store);
    atd_catalog_unref(catalog);
}

TestSuite(shards, .init = make_root, .fini = remove_root, .timeout = 30);

Test(shards, are_named_and_equal_names_told_apart)
{
    static const char *const urls[] = {"%/x.tar",       "%/d/x.tar",    "%/x~2.tar", "%/x.tar",
                                       "%/schema.json", "%/d/y.tar.gz", "%/y.tar.gz"};
    char text[1024];
    char path[128];

    (void)snprintf(path, sizeof(path), "%s/d", root);
    cr_assert_eq(mkdir(path, 0755), 0);
    put_file("x.tar");
    put_file("d/x.tar");
    put_file("x~2.tar");
    put_file("schema.json");
    put_file("y.tar.gz");
    put_file("d/y.tar.gz");
    list_files(urls, ATD_ARRAY_LEN(urls), text, sizeof(text));
    cr_expect_str_eq(text, "x.tar x~3.tar x~2.tar x~4.tar schema~2.json y.tar.gz y~2.tar.gz ");
}

Test(shards, patterns_and_literal_braces)
{
    static const char *const urls[] = {"%/s-{0..2}.tar", "%/{a,b}.tar"};
    char text[1024];

    put_file("s-0.tar");
    put_file("s-2.tar");
    put_file("{a,b}.tar"); /* exists as it stands: no pattern */
    list_files(urls, ATD_ARRAY_LEN(urls), text, sizeof(text));
    cr_expect_str_eq(text, "s-0.tar s-1.tarENOENT s-2.tar {a,b}.tar ");
}

Test(shards, foreign_schemes_and_paths_are_refused)
{
    static const char *const urls[] = {"pipe:touch /tmp/x", "s3://bucket/k.tar",
                                       "rel/x.tar",         "/etc/passwd",
                                       "gs://b/x.tar",      "file:///etc/passwd"};
    char text[1024];

    list_files(urls, ATD_ARRAY_LEN(urls), text, sizeof(text));
    cr_expect_str_eq(text,
                     "xEOPNOTSUPP k.tarEOPNOTSUPP x.tarEOPNOTSUPP passwdEACCES x~2.tarEOPNOTSUPP "
                     "passwd~2EACCES ");
}

Test(shards, a_renewed_list_sees_what_came_and_a_changed_file_gets_another_version)
{
    static const char *const urls[] = {"%/x.tar"};
    atd_auto_buf struct atd_buf packed = ATD_BUF_INIT(1u << 20);
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
    struct atd_catalog *catalog = load_urls(urls, 1, &packed, &arena);
    const struct atd_catalog_entry *entry = atd_catalog_entry_at(catalog, 0);
    const char *roots[] = {root};
    struct atd_file_store *store = NULL;
    struct atd_shard_list *list = NULL;
    uint8_t version[ATD_SHARD_VERSION_BYTES];

    struct atd_locator *locator = NULL;

    cr_assert_eq(atd_file_store_new(roots, 1, &store, NULL), 0);
    cr_assert_eq(atd_locator_new(&(struct atd_locator_options){.files = store}, &locator, NULL), 0);
    cr_assert_null(atd_catalog_shards_peek(catalog, entry));
    cr_assert_eq(atd_catalog_shards_get(catalog, entry, locator, ATD_EFFORT_DISK, &list, NULL), 0);
    cr_assert_eq(atd_shard_list_readable(list), 0);
    atd_shard_list_unref(list);
    put_file("x.tar");
    cr_assert_eq(atd_catalog_shards_get(catalog, entry, locator, ATD_EFFORT_DISK, &list, NULL), 0);
    cr_assert_eq(atd_shard_list_readable(list), 0, "a list is kept until it is renewed");
    cr_assert(atd_shard_list_may_change(list));
    atd_shard_list_unref(list);
    cr_assert_eq(atd_catalog_shards_renew(catalog, entry, locator, ATD_EFFORT_DISK, &list, NULL),
                 0);
    cr_assert_eq(atd_shard_list_readable(list), 1);
    cr_assert_not(atd_shard_list_may_change(list));
    memcpy(version, atd_shard_list_at(list, 0)->version, sizeof(version));
    put_file("x.tar");
    atd_catalog_shards_forget(catalog, entry, list);
    atd_shard_list_unref(list);
    cr_assert_eq(atd_catalog_shards_get(catalog, entry, locator, ATD_EFFORT_DISK, &list, NULL), 0);
    cr_assert_neq(memcmp(version, atd_shard_list_at(list, 0)->version, sizeof(version)), 0);
    atd_shard_list_unref(list);
    cr_assert(atd_locator_free(locator));
    atd_file_store_free(store);
    atd_catalog_unref(catalog);
}

/* Entries whose lists would take more than is kept of what nobody asked for. */
#define MANY 20000

static struct atd_catalog *load_many(size_t count)
{
    static const char pipe_url[] = "\x91\xa6pipe:x";
    struct atd_index_entry *entries = calloc(count, sizeof(*entries));
    char(*cids)[32] = calloc(count, sizeof(*cids));
    atd_auto_buf struct atd_buf packed = ATD_BUF_INIT(1u << 10);
    struct atd_catalog *catalog;
    char path[128];
    struct atd_str url;

    (void)snprintf(path, sizeof(path), "%s/x.tar", root);
    url = atd_str_from(path);
    atd_urls_encode(&url, 1, &packed);
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(cids[i], sizeof(cids[i]), "cid%05zu", i);
        entries[i] = (struct atd_index_entry){atd_str_from(cids[i]),  T("d"),      T(REF("A")),
                                              atd_buf_bytes(&packed), NO_METADATA, NO_TEXT};
    }
    /* One that is never opened. */
    entries[count / 2].data_urls =
        (struct atd_bytes){(const uint8_t *)pipe_url, sizeof(pipe_url) - 1};
    catalog = load_rows(entries, count, NULL, 0, NULL, 0);
    free(cids);
    free(entries);
    return catalog;
}

/* How many entries the sweep has to look at; looks at them. */
static size_t sweep(struct atd_catalog *catalog, struct atd_locator *locator, uint64_t *unreadable)
{
    size_t looked = 0;

    *unreadable = 0;
    for (size_t i = atd_catalog_shards_next(catalog, 0, unreadable);
         i < atd_catalog_entry_count(catalog);
         i = atd_catalog_shards_next(catalog, i + 1, unreadable)) {
        struct atd_shard_list *list = NULL;

        cr_assert_eq(atd_catalog_shards_look(catalog, atd_catalog_entry_at(catalog, i), locator,
                                             &list, NULL),
                     0);
        *unreadable += atd_shard_list_count(list) - atd_shard_list_readable(list);
        atd_shard_list_unref(list);
        looked++;
    }
    return looked;
}

Test(shards, a_sweep_looks_once_and_keeps_few_lists)
{
    const char *roots[] = {root};
    struct atd_catalog *catalog = load_many(MANY);
    struct atd_catalog *next = load_many(MANY + 1);
    struct atd_file_store *store = NULL;
    struct atd_locator *locator = NULL;
    struct atd_shard_list *list;
    uint64_t unreadable;
    size_t kept = 0;

    cr_assert_eq(atd_file_store_new(roots, 1, &store, NULL), 0);
    cr_assert_eq(atd_locator_new(&(struct atd_locator_options){.files = store}, &locator, NULL), 0);
    put_file("x.tar");
    cr_assert_eq(sweep(catalog, locator, &unreadable), MANY);
    cr_assert_eq(unreadable, 1);
    cr_assert_eq(sweep(catalog, locator, &unreadable), 0, "it was there");
    cr_assert_eq(unreadable, 1, "and still knows what is wrong");
    atd_catalog_shards_inherit(next, catalog);
    cr_assert_eq(sweep(next, locator, &unreadable), 1, "only what is new");
    cr_assert_eq(unreadable, 1);
    /* What somebody looks at later is kept, and looked for again once it was found wrong. */
    cr_assert_eq(atd_catalog_shards_renew(next, atd_catalog_entry_at(next, MANY - 1), locator,
                                          ATD_EFFORT_DISK, &list, NULL),
                 0);
    atd_catalog_shards_forget(next, atd_catalog_entry_at(next, MANY - 1), list);
    atd_shard_list_unref(list);
    cr_assert_eq(sweep(next, locator, &unreadable), 1);
    for (size_t i = 0; i < MANY; i++) {
        list = atd_catalog_shards_peek(next, atd_catalog_entry_at(next, i));
        kept += list != NULL;
        atd_shard_list_unref(list);
    }
    cr_assert(kept > MANY / 100 && kept < MANY / 2, "%zu", kept);
    cr_assert(atd_locator_free(locator));
    atd_file_store_free(store);
    atd_catalog_unref(next);
    atd_catalog_unref(catalog);
}

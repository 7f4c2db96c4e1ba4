#include <criterion/criterion.h>
#include <errno.h>
#include <sqlite3.h>

#include "atdata/cid.h"
#include "atdata/entry.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "vectors.h"

#define DOC(literal)                                     \
    {                                                    \
        (const uint8_t *)"" literal, sizeof(literal) - 1 \
    }

static const char *const releases[] = {"v0.2.3b1", "v0.3.2b3", "v0.5.1b1", "v0.7.0b1"};

/* One stored entry: its URLs come back byte for byte and give its CID; its metadata reads. */
static void check_stored(struct atd_bytes data_urls, const struct atd_bytes *metadata,
                         struct atd_str schema_ref, struct atd_str cid, const char *where)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1 << 20);
    atd_auto_buf struct atd_buf again = ATD_BUF_INIT(1 << 20);
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_str *urls;
    size_t count;
    struct atd_cid computed;
    bool is_none = true;

    cr_assert_eq(atd_urls_decode(data_urls, &arena, &urls, &count, &err), 0, "%s: %s", where,
                 err.text);
    cr_assert_geq(count, 1);
    atd_urls_encode(urls, count, &again);
    assert_bytes_eq(atd_buf_bytes(&again), data_urls, "%s", where);
    cr_assert_eq(atd_cid_compute(schema_ref, urls, count, &computed, &err), 0);
    cr_assert(atd_str_equal(atd_str_from(computed.text), cid), "%s: %s", where, computed.text);
    if (metadata) {
        cr_assert_eq(atd_metadata_check(*metadata, &is_none, &err), 0, "%s: %s", where, err.text);
        cr_assert_not(is_none);
    }
}

Test(entry, golden_redis)
{
    size_t entries = 0;
    size_t with_metadata = 0;

    for (size_t r = 0; r < sizeof(releases) / sizeof(releases[0]); r++) {
        char path[100];
        const char *key;
        json_t *file;
        json_t *value;

        (void)snprintf(path, sizeof(path), "golden/%s/redis.json", releases[r]);
        file = load_json(path);
        json_object_foreach(file, key, value)
        {
            atd_auto_buf struct atd_buf urls = ATD_BUF_INIT(1 << 20);
            atd_auto_buf struct atd_buf meta = ATD_BUF_INIT(1 << 20);
            atd_auto_buf struct atd_buf ref = ATD_BUF_INIT(1 << 20);
            json_t *fields = json_object_get(value, "fields");
            struct atd_bytes metadata;
            bool has_metadata;

            if (strncmp(key, "LocalDatasetEntry:", 18) != 0)
                continue;
            has_metadata = json_object_get(fields, "metadata") != NULL;
            if (has_metadata)
                metadata = from_base64(json_member_str(fields, "metadata"), &meta);
            (void)from_base64(json_member_str(fields, "schema_ref"), &ref);
            check_stored(from_base64(json_member_str(fields, "data_urls"), &urls),
                         has_metadata ? &metadata : NULL, atd_buf_str(&ref), atd_str_from(key + 18),
                         key);
            entries++;
            with_metadata += has_metadata;
        }
        json_decref(file);
    }
    cr_assert_eq(entries, 16);
    cr_assert_eq(with_metadata, 6, "%zu", with_metadata);
}

static struct atd_bytes column(sqlite3_stmt *row, int number)
{
    return (struct atd_bytes){sqlite3_column_blob(row, number),
                              (size_t)sqlite3_column_bytes(row, number)};
}

Test(entry, golden_sqlite)
{
    size_t entries = 0;

    for (size_t r = 1; r < sizeof(releases) / sizeof(releases[0]); r++) {
        char uri[512];
        sqlite3 *db;
        sqlite3_stmt *row;

        /* immutable: the file is in WAL mode, and reading must not make files beside it */
        (void)snprintf(uri, sizeof(uri), "file:" ATD_TEST_DATA "/golden/%s/index.db?immutable=1",
                       releases[r]);
        cr_assert_eq(sqlite3_open_v2(uri, &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, NULL),
                     SQLITE_OK);
        cr_assert_eq(sqlite3_prepare_v2(
                         db, "SELECT cid, schema_ref, data_urls, metadata FROM dataset_entries", -1,
                         &row, NULL),
                     SQLITE_OK);
        while (sqlite3_step(row) == SQLITE_ROW) {
            bool has_metadata = sqlite3_column_type(row, 3) != SQLITE_NULL;
            struct atd_bytes metadata = column(row, 3);

            check_stored(column(row, 2), has_metadata ? &metadata : NULL,
                         atd_bytes_str(column(row, 1)), atd_bytes_str(column(row, 0)), uri);
            entries++;
        }
        cr_assert_eq(sqlite3_finalize(row), SQLITE_OK);
        cr_assert_eq(sqlite3_close(db), SQLITE_OK);
    }
    cr_assert_geq(entries, 3, "%zu", entries);
}

/* ATDATA-FORMATS 1.2 and 8, line by line; the last ones are what Python reads and fails on later.
 */
Test(entry, data_urls_verdicts)
{
    static const struct {
        struct atd_bytes doc;
        int code;
        size_t count;
        const char *text;
    } cases[] = {
        {DOC("\x90"), 0, 0, NULL},
        {DOC("\x92\xa1"
             "a\xa0"),
         0, 2, NULL},
        {DOC("\xdd\0\0\0\x01\xdb\0\0\0\x01"
             "a"),
         0, 1, NULL},                                /* array32 of str32 */
        {DOC("\x91\xda\0\x02\xc3\xa9"), 0, 1, NULL}, /* the old "raw" form */
        {DOC(""), EINVAL, 0, "data_urls: msgpack ends at byte 0 where a value is due"},
        {DOC("[\"s3://b/x\"]"), EINVAL, 0, "data_urls is no array at byte 0"}, /* JSON */
        {DOC("\x92\xa1"
             "a"),
         EINVAL, 0, "data_urls element 1: msgpack ends at byte 3 where a value is due"},
        {DOC("\x93\xa1"
             "a\xa1"),
         EINVAL, 0,
         "data_urls element 1: value at byte 3 is cut short: it claims 1 bytes and 0 are left"},
        {DOC("\x91\xa1"
             "a\xc0"),
         EINVAL, 0, "data_urls has 1 bytes too many from byte 3 on"},
        {DOC("\x91\xa2"
             "a\xff"),
         EINVAL, 0, "data_urls element 0 at byte 1 is not valid utf-8 at its byte 1"},
        {DOC("\xa8s3://b/x"), EINVAL, 0, "data_urls is no array at byte 0"}, /* one str */
        {DOC("\x81\xa1"
             "a\xa1"
             "b"),
         EINVAL, 0, "data_urls is no array at byte 0"},
        {DOC("\xc0"), EINVAL, 0, "data_urls is no array at byte 0"},
        {DOC("\x92\xa1"
             "a\xc4\x01"
             "b"),
         EINVAL, 0, "data_urls element 1 at byte 3 is no text"},
        {DOC("\x91\xd4\x05"
             "b"),
         EINVAL, 0, "data_urls element 0 at byte 1 is no text"},
        {DOC("\x91\x91\xa1"
             "a"),
         EINVAL, 0, "data_urls element 0 at byte 1 is no text"},
        {DOC("\xdd\xff\xff\xff\xff"), EINVAL, 0,
         "data_urls: array at byte 0 is cut short: it claims 4294967295 values and 0 bytes are "
         "left"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1 << 20);
        atd_auto_free uint8_t *copy = exact_copy(cases[i].doc.ptr, cases[i].doc.len);
        struct atd_bytes doc = {copy, cases[i].doc.len};
        struct atd_error err = ATD_ERROR_INIT;
        struct atd_str *urls = NULL;
        size_t count = 77;

        cr_assert_eq(atd_urls_check(doc, &count, &err), -cases[i].code, "case %zu: %s", i,
                     err.text);
        cr_assert_eq(count, cases[i].code ? 77 : cases[i].count, "case %zu", i);
        cr_assert_eq(atd_urls_decode(doc, &arena, &urls, &count, &err), -cases[i].code);
        if (cases[i].code) {
            cr_assert_str_eq(err.text, cases[i].text);
            cr_assert_null(urls);
        }
    }
}

Test(entry, too_many_shards)
{
    size_t len = 5 + (size_t)ATD_SHARDS_MAX + 1;
    atd_auto_free uint8_t *doc = malloc(len);
    struct atd_error err = ATD_ERROR_INIT;
    size_t count;

    cr_assert_not_null(doc);
    memset(doc, 0xa0, len);
    memcpy(doc, "\xdd\0\x10\0\x01", 5);
    cr_assert_eq(atd_urls_check((struct atd_bytes){doc, len}, &count, &err), -E2BIG);
    cr_assert_str_eq(err.text, "data_urls has 1048577 elements, the limit is 1048576");
    doc[4] = 0;
    cr_assert_eq(atd_urls_check((struct atd_bytes){doc, len - 1}, &count, &err), 0, "%s", err.text);
    cr_assert_eq(count, ATD_SHARDS_MAX);
}

/* Lengths at which msgpack-python changes to the next wider form. */
Test(entry, encodes_as_python_does)
{
    static const struct {
        size_t len;
        const char *head;
        size_t head_len;
    } strings[] = {
        {0, "\x91\xa0", 2},
        {31, "\x91\xbf", 2},
        {32, "\x91\xd9\x20", 3},
        {255, "\x91\xd9\xff", 3},
        {256, "\x91\xda\x01\x00", 4},
        {65535, "\x91\xda\xff\xff", 4},
        {65536, "\x91\xdb\x00\x01\x00\x00", 6},
    };
    static const struct {
        size_t count;
        const char *head;
        size_t head_len;
    } lists[] = {
        {0, "\x90", 1},
        {15, "\x9f", 1},
        {16, "\xdc\0\x10", 3},
        {65535, "\xdc\xff\xff", 3},
        {65536, "\xdd\0\x01\0\0", 5},
    };
    atd_auto_free char *text = malloc(65536);
    atd_auto_free struct atd_str *urls = calloc(65536, sizeof(*urls));

    memset(text, 'a', 65536);
    for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++) {
        atd_auto_buf struct atd_buf out = ATD_BUF_INIT(1 << 20);

        urls[0] = (struct atd_str){text, strings[i].len};
        atd_urls_encode(urls, 1, &out);
        cr_assert_eq(out.len, strings[i].head_len + strings[i].len);
        cr_assert_arr_eq(out.ptr, strings[i].head, strings[i].head_len);
    }
    urls[0] = ATD_STR("");
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        atd_auto_buf struct atd_buf out = ATD_BUF_INIT(1 << 20);

        atd_urls_encode(urls, lists[i].count, &out);
        cr_assert_eq(out.len, lists[i].head_len + lists[i].count);
        cr_assert_arr_eq(out.ptr, lists[i].head, lists[i].head_len);
    }
}

/* Python's own verdicts, bytes by bytes. */
Test(entry, metadata_verdicts_of_python)
{
    json_t *vectors = load_json("vectors/msgpack.json");
    json_t *vector;
    size_t i;

    json_array_foreach(json_object_get(vectors, "read"), i, vector)
    {
        atd_auto_buf struct atd_buf buf = ATD_BUF_INIT(1 << 20);
        struct atd_bytes doc = from_hex(json_member_str(vector, "hex"), &buf);
        atd_auto_free uint8_t *copy = exact_copy(doc.ptr, doc.len);
        bool reads = json_is_true(json_object_get(vector, "reads"));
        struct atd_error err = ATD_ERROR_INIT;
        int rc = atd_metadata_check((struct atd_bytes){copy, doc.len}, NULL, &err);

        cr_assert_eq(rc == 0, reads, "%s: python %d, here %d %s",
                     json_member_str(vector, "name").ptr, reads, rc, err.text);
    }
    json_decref(vectors);
}

Test(entry, metadata_nil_is_none)
{
    struct atd_error err = ATD_ERROR_INIT;
    bool is_none = false;

    cr_assert_eq(atd_metadata_check((struct atd_bytes)DOC("\xc0"), &is_none, &err), 0);
    cr_assert(is_none);
    cr_assert_eq(atd_metadata_check((struct atd_bytes)DOC("\x80"), &is_none, &err), 0);
    cr_assert_not(is_none);
    cr_assert_eq(atd_metadata_check((struct atd_bytes)DOC("\x90"), &is_none, &err), 0);
    cr_assert_eq(atd_metadata_check((struct atd_bytes)DOC("\x80\x80"), &is_none, &err), -EINVAL);
    cr_assert_str_eq(err.text, "metadata has 1 bytes too many from byte 1 on");
    cr_assert_eq(atd_metadata_check((struct atd_bytes)DOC("{}"), &is_none, &err), -EINVAL);
    cr_assert_eq(atd_metadata_check((struct atd_bytes)DOC(""), &is_none, &err), -EINVAL);
    cr_assert_str_eq(err.text, "metadata: msgpack ends at byte 0 where a value is due");
}

Test(entry, metadata_find)
{
    /* {"a": 1, "k": {"x": []}, "k": -1, b"k": 2, "t": "text", "u": 2**64-1} */
    struct atd_bytes doc = DOC("\x86\xa1"
                               "a\x01\xa1k\x81\xa1x\x90\xa1k\xff\xc4\x01"
                               "k\x02\xa1t\xa4"
                               "text\xa1u\xcf\xff\xff\xff\xff\xff\xff\xff\xff");
    struct atd_bytes value;
    struct atd_str text;
    uint64_t number;

    cr_assert_eq(atd_metadata_check(doc, NULL, NULL), 0);
    cr_assert(atd_metadata_find(doc, ATD_STR("k"), &value));
    assert_bytes_eq(value, ((struct atd_bytes)DOC("\xff")), "the last one");
    cr_assert_not(atd_msgpack_as_u64(value, &number));
    cr_assert_not(atd_msgpack_as_text(value, &text));
    cr_assert(atd_metadata_find(doc, ATD_STR("a"), &value));
    cr_assert(atd_msgpack_as_u64(value, &number) && number == 1);
    cr_assert(atd_metadata_find(doc, ATD_STR("u"), &value));
    cr_assert(atd_msgpack_as_u64(value, &number) && number == UINT64_MAX);
    cr_assert(atd_metadata_find(doc, ATD_STR("t"), &value));
    cr_assert(atd_msgpack_as_text(value, &text) && atd_str_equal(text, ATD_STR("text")));
    cr_assert_not(atd_msgpack_is_map(value));
    cr_assert(atd_msgpack_is_map(doc));
    cr_assert_not(atd_metadata_find(doc, ATD_STR("x"), &value));
    cr_assert_not(atd_metadata_find((struct atd_bytes)DOC("\x91\xa1"
                                                          "a"),
                                    ATD_STR("a"), &value));
    cr_assert_not(atd_metadata_find((struct atd_bytes)DOC("\xc0"), ATD_STR("a"), &value));
    cr_assert_not(atd_msgpack_as_text((struct atd_bytes)DOC(""), &text));
}

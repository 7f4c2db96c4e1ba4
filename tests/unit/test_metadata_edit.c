#include "codec/metadata_edit.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "atdata/entry.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "codec/msgpack_write.h"

#define BUF_BYTES ((size_t)128 << 20)

/* Metadata is written here as JSON, and compared so: "" is no metadata at all. */
static struct atd_bytes from_json(const char *json, struct atd_buf *out)
{
    struct atd_error err = ATD_ERROR_INIT;

    atd_buf_clear(out);
    if (!*json)
        return (struct atd_bytes){NULL, 0};
    cr_assert_eq(atd_metadata_from_json(atd_str_from(json), out, &err), 0, "%s: %s", json,
                 err.text);
    return atd_buf_bytes(out);
}

/* The bytes of both are equal: nothing was written in another form than msgpack-python's. */
static void check_result(const struct atd_buf *got, const char *wanted, const char *subject)
{
    atd_auto_buf struct atd_buf bytes = ATD_BUF_INIT(BUF_BYTES);
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(BUF_BYTES);
    struct atd_bytes expected = from_json(wanted, &bytes);

    if (got->len && atd_metadata_check(atd_buf_bytes(got), NULL, NULL) == 0)
        atd_metadata_to_json(atd_buf_bytes(got), NULL, 0, &text);
    cr_assert(atd_str_equal(atd_buf_str(got), atd_bytes_str(expected)), "%s gave %s instead of %s",
              subject, text.len ? (char *)text.ptr : "nothing", wanted);
}

#define SUM "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define OLD_SUM "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
#define RECORD "{\"size\": 10240, \"etag\": \"e-1\", \"samples\": 3, \"mtime_ns\": -5}"

static const struct atd_shard_record full = {
    .url = {"s3://b/x", 8},
    .sha256 = SUM,
    .size_bytes = 10240,
    .etag = {"e-1", 3},
    .samples = 3,
    .mtime_ns = -5,
};

static const struct {
    const char *before;
    const char *after; /* NULL: refused, with this in the sentence: */
    const char *complaint;
} puts_[] = {
    {"",
     "{\"checksums\": {\"s3://b/x\": \"" SUM
     "\"}, \"atdatafs\": {\"shards\": {\"s3://b/x\": " RECORD "}}}",
     NULL},
    {"null",
     "{\"checksums\": {\"s3://b/x\": \"" SUM
     "\"}, \"atdatafs\": {\"shards\": {\"s3://b/x\": " RECORD "}}}",
     NULL},
    /* the user's stays where it is; ours comes last, and stays where it was */
    {"{\"z\": {\"k\": [1, 2.5, null]}, \"a\": 1}",
     "{\"z\": {\"k\": [1, 2.5, null]}, \"a\": 1, \"checksums\": {\"s3://b/x\": \"" SUM
     "\"}, \"atdatafs\": {\"shards\": {\"s3://b/x\": " RECORD "}}}",
     NULL},
    {"{\"atdatafs\": {\"shards\": {\"s3://b/w\": {\"size\": 1}}, \"later\": 2}, \"a\": 1, "
     "\"checksums\": {\"s3://b/w\": \"" OLD_SUM "\"}}",
     "{\"atdatafs\": {\"shards\": {\"s3://b/w\": {\"size\": 1}, \"s3://b/x\": " RECORD
     "}, \"later\": 2}, \"a\": 1, \"checksums\": {\"s3://b/w\": \"" OLD_SUM
     "\", \"s3://b/x\": \"" SUM "\"}}",
     NULL},
    /* replaced in its place */
    {"{\"checksums\": {\"s3://b/x\": \"" OLD_SUM "\", \"s3://b/y\": \"" OLD_SUM
     "\"}, \"atdatafs\": {\"shards\": {\"s3://b/x\": {\"size\": 7, \"more\": 1}, \"s3://b/y\": "
     "{}}}}",
     "{\"checksums\": {\"s3://b/x\": \"" SUM "\", \"s3://b/y\": \"" OLD_SUM
     "\"}, \"atdatafs\": {\"shards\": {\"s3://b/x\": " RECORD ", \"s3://b/y\": {}}}}",
     NULL},
    {"{\"checksums\": null, \"atdatafs\": {\"shards\": null}}",
     "{\"checksums\": {\"s3://b/x\": \"" SUM
     "\"}, \"atdatafs\": {\"shards\": {\"s3://b/x\": " RECORD "}}}",
     NULL},
    /* bytes for keys are not the texts they look like */
    {"{\"$bytes:Y2hlY2tzdW1z\": 1}",
     "{\"$bytes:Y2hlY2tzdW1z\": 1, \"checksums\": {\"s3://b/x\": \"" SUM
     "\"}, \"atdatafs\": {\"shards\": {\"s3://b/x\": " RECORD "}}}",
     NULL},
    {"{\"checksums\": [1]}", NULL, "'checksums', but it is no map"},
    {"{\"atdatafs\": \"x\"}", NULL, "'atdatafs', but it is no map"},
    {"{\"atdatafs\": {\"shards\": 7}}", NULL, "'shards', but it is no map"},
};

Test(metadata_edit, put_table)
{
    for (size_t i = 0; i < ATD_ARRAY_LEN(puts_); i++) {
        atd_auto_buf struct atd_buf before = ATD_BUF_INIT(BUF_BYTES);
        atd_auto_buf struct atd_buf out = ATD_BUF_INIT(BUF_BYTES);
        atd_auto_buf struct atd_buf again = ATD_BUF_INIT(BUF_BYTES);
        struct atd_error err = ATD_ERROR_INIT;
        static const uint8_t nil[] = {0xc0};
        struct atd_bytes metadata = strcmp(puts_[i].before, "null")
                                        ? from_json(puts_[i].before, &before)
                                        : (struct atd_bytes){nil, 1};
        int rc = atd_metadata_put_shard(metadata, &full, &out, &err);

        if (!puts_[i].after) {
            cr_assert_eq(rc, -EINVAL);
            cr_assert(strstr(err.text, puts_[i].complaint), "%s", err.text);
            cr_assert_eq(out.len, 0);
            continue;
        }
        cr_assert_eq(rc, 0, "%s: %s", puts_[i].before, err.text);
        check_result(&out, puts_[i].after, puts_[i].before);
        cr_assert_eq(atd_metadata_put_shard(atd_buf_bytes(&out), &full, &again, &err), 0);
        cr_assert(atd_str_equal(atd_buf_str(&out), atd_buf_str(&again)));
    }
}

Test(metadata_edit, what_is_unknown_is_not_written)
{
    atd_auto_buf struct atd_buf before = ATD_BUF_INIT(BUF_BYTES);
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(BUF_BYTES);
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_shard_record record = {
        .url = ATD_STR("u"), .size_bytes = UINT64_MAX, .samples = -1, .mtime_ns = INT64_MIN};

    cr_assert_eq(atd_metadata_put_shard((struct atd_bytes){NULL, 0}, &record, &out, &err), 0);
    check_result(&out, "{\"atdatafs\": {\"shards\": {\"u\": {}}}}", "nothing known");
    atd_buf_clear(&out);
    /* the checksum that is there may be Python's */
    record.size_bytes = 0;
    record.samples = 0;
    cr_assert_eq(atd_metadata_put_shard(from_json("{\"checksums\": {\"u\": \"x\"}}", &before),
                                        &record, &out, &err),
                 0);
    check_result(&out,
                 "{\"checksums\": {\"u\": \"x\"}, \"atdatafs\": {\"shards\": {\"u\": {\"size\": 0, "
                 "\"samples\": 0}}}}",
                 "no hash");
}

Test(metadata_edit, what_is_no_map_takes_no_shard)
{
    static const struct {
        struct atd_bytes metadata;
        int code;
    } cases[] = {
        {{(const uint8_t *)"\x90", 1}, EINVAL}, /* a list */
        {{(const uint8_t *)"\x01", 1}, EINVAL},
        {{(const uint8_t *)"", 0}, EINVAL},             /* no msgpack at all */
        {{(const uint8_t *)"\x81\x01\x01", 3}, EINVAL}, /* a key that is no text */
        {{(const uint8_t *)"\x80\x80", 2}, EINVAL},
        {{(const uint8_t *)"\xdf\xff\xff\xff\xff", 5}, EINVAL},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        atd_auto_buf struct atd_buf out = ATD_BUF_INIT(BUF_BYTES);
        struct atd_error err = ATD_ERROR_INIT;

        cr_assert_eq(atd_metadata_put_shard(cases[i].metadata, &full, &out, &err), -cases[i].code);
        cr_assert_eq(err.code, cases[i].code);
        cr_assert_eq(atd_metadata_put_mtime(cases[i].metadata, full.url, 1, &out, &err),
                     -cases[i].code);
        cr_assert_eq(out.len, 0);
    }
}

Test(metadata_edit, a_url_that_is_no_text_is_refused)
{
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(BUF_BYTES);
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_shard_record record = full;

    record.url = ATD_STR("s3://b/\xff");
    cr_assert_eq(atd_metadata_put_shard((struct atd_bytes){NULL, 0}, &record, &out, &err), -EINVAL);
    cr_assert_eq(out.len, 0);
}

static const struct {
    const char *before;
    const char *after;
} times[] = {
    {"", "{\"atdatafs\": {\"shards\": {\"u\": {\"mtime_ns\": 42}}}}"},
    {"{\"a\": 1, \"atdatafs\": {\"shards\": {\"u\": {\"size\": 1, \"mtime_ns\": 7, \"more\": [1]}, "
     "\"v\": {}}, \"b\": 2}}",
     "{\"a\": 1, \"atdatafs\": {\"shards\": {\"u\": {\"size\": 1, \"mtime_ns\": 42, \"more\": "
     "[1]}, "
     "\"v\": {}}, \"b\": 2}}"},
    {"{\"atdatafs\": {\"shards\": {\"u\": {\"size\": 1}}}, \"checksums\": {\"u\": \"x\"}}",
     "{\"atdatafs\": {\"shards\": {\"u\": {\"size\": 1, \"mtime_ns\": 42}}}, \"checksums\": "
     "{\"u\": \"x\"}}"},
    /* a record that is none is made anew */
    {"{\"atdatafs\": {\"shards\": {\"u\": 7}}}",
     "{\"atdatafs\": {\"shards\": {\"u\": {\"mtime_ns\": 42}}}}"},
};

Test(metadata_edit, put_mtime_table)
{
    for (size_t i = 0; i < ATD_ARRAY_LEN(times); i++) {
        atd_auto_buf struct atd_buf before = ATD_BUF_INIT(BUF_BYTES);
        atd_auto_buf struct atd_buf out = ATD_BUF_INIT(BUF_BYTES);
        struct atd_error err = ATD_ERROR_INIT;

        cr_assert_eq(atd_metadata_put_mtime(from_json(times[i].before, &before), ATD_STR("u"), 42,
                                            &out, &err),
                     0, "%s", err.text);
        check_result(&out, times[i].after, times[i].before);
    }
}

static const struct {
    const char *before;
    const char *after;
} drops[] = {
    {"", ""},
    {"{}", "{}"},
    {"{\"a\": 1}", "{\"a\": 1}"},
    {"{\"checksums\": {\"u\": \"x\"}, \"atdatafs\": {\"shards\": {\"u\": {}}}}", ""},
    {"{\"a\": 1, \"checksums\": {\"u\": \"x\"}, \"b\": 2, \"atdatafs\": {\"shards\": {\"u\": {}}}}",
     "{\"a\": 1, \"b\": 2}"},
    {"{\"checksums\": {\"u\": \"x\", \"v\": \"y\"}, \"atdatafs\": {\"shards\": {\"v\": {}, \"u\": "
     "{\"size\": 1}}}}",
     "{\"checksums\": {\"v\": \"y\"}, \"atdatafs\": {\"shards\": {\"v\": {}}}}"},
    {"{\"atdatafs\": {\"shards\": {\"u\": {}}, \"later\": 1}}", "{\"atdatafs\": {\"later\": 1}}"},
    {"{\"checksums\": {\"u\": \"x\"}}", ""},
    {"{\"checksums\": {\"v\": \"x\"}}", "{\"checksums\": {\"v\": \"x\"}}"},
    {"{\"checksums\": {}, \"atdatafs\": {}}", "{\"checksums\": {}, \"atdatafs\": {}}"},
    {"{\"checksums\": [\"u\"], \"atdatafs\": {\"shards\": [\"u\"]}}",
     "{\"checksums\": [\"u\"], \"atdatafs\": {\"shards\": [\"u\"]}}"},
    {"{\"u\": 1}", "{\"u\": 1}"},
};

Test(metadata_edit, drop_table)
{
    for (size_t i = 0; i < ATD_ARRAY_LEN(drops); i++) {
        atd_auto_buf struct atd_buf before = ATD_BUF_INIT(BUF_BYTES);
        atd_auto_buf struct atd_buf out = ATD_BUF_INIT(BUF_BYTES);
        struct atd_error err = ATD_ERROR_INIT;

        cr_assert_eq(
            atd_metadata_drop_shard(from_json(drops[i].before, &before), ATD_STR("u"), &out, &err),
            0, "%s", err.text);
        check_result(&out, drops[i].after, drops[i].before);
    }
}

Test(metadata_edit, drop_leaves_what_is_no_map)
{
    static const struct atd_bytes same[] = {
        {(const uint8_t *)"\xc0", 1},
        {(const uint8_t *)"\x91\x01", 2},
        {(const uint8_t *)"\xde\x00\x01\xa1"
                          "a\xcd\x00\x01",
         8}, /* wide forms */
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(same); i++) {
        atd_auto_buf struct atd_buf out = ATD_BUF_INIT(BUF_BYTES);

        cr_assert_eq(atd_metadata_drop_shard(same[i], ATD_STR("u"), &out, NULL), 0);
        cr_assert(atd_str_equal(atd_buf_str(&out), atd_bytes_str(same[i])));
    }
}

/* Python reads the last of equal keys: neither may come back when the other goes. */
Test(metadata_edit, keys_that_are_there_twice)
{
    /* {"checksums": {"u": 1}, "k": 1 in three bytes, "checksums": {"u": 2, "v": 4, "u": 3}} */
    static const char twice[] = "\x83\xa9"
                                "checksums\x81\xa1u\x01\xa1k\xcd\x00\x01\xa9"
                                "checksums\x83\xa1u\x02\xa1v\x04\xa1u\x03";
    struct atd_bytes metadata = {(const uint8_t *)twice, sizeof(twice) - 1};
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(BUF_BYTES);
    struct atd_shard_record record = {.url = ATD_STR("u"),
                                      .sha256 = "ab",
                                      .size_bytes = UINT64_MAX,
                                      .samples = -1,
                                      .mtime_ns = INT64_MIN};
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_metadata_drop_shard(metadata, ATD_STR("u"), &out, &err), 0, "%s", err.text);
    cr_assert(atd_str_equal(atd_buf_str(&out), ATD_STR("\x82\xa9"
                                                       "checksums\x81\xa1v\x04\xa1k\xcd\x00\x01")));
    atd_buf_clear(&out);
    cr_assert_eq(atd_metadata_put_shard(metadata, &record, &out, &err), 0);
    cr_assert(atd_str_equal(atd_buf_str(&out), ATD_STR("\x83\xa9"
                                                       "checksums\x82\xa1u\xa2"
                                                       "ab\xa1v\x04\xa1k\xcd\x00\x01\xa8"
                                                       "atdatafs\x81\xa6shards\x81\xa1u\x80")));
}

static const struct {
    const char *before;
    const char *user;
    const char *after; /* NULL: refused */
} replacements[] = {
    {"", "{}", ""},
    {"", "{\"a\": 1}", "{\"a\": 1}"},
    {"{\"old\": 1}", "{}", ""},
    {"{\"old\": 1, \"checksums\": {\"u\": \"x\"}, \"more\": 2, \"atdatafs\": {\"shards\": {}}}",
     "{\"b\": 1, \"a\": 2}",
     "{\"b\": 1, \"a\": 2, \"checksums\": {\"u\": \"x\"}, \"atdatafs\": {\"shards\": {}}}"},
    {"{\"checksums\": {\"u\": \"x\"}}", "{}", "{\"checksums\": {\"u\": \"x\"}}"},
    /* the user's own maps count; what is none yields, and is dropped when nobody has one */
    {"{\"checksums\": {\"u\": \"x\"}}", "{\"checksums\": {\"v\": \"y\"}, \"a\": 1}",
     "{\"checksums\": {\"v\": \"y\"}, \"a\": 1}"},
    {"{\"checksums\": {\"u\": \"x\"}}", "{\"checksums\": 5, \"a\": 1}",
     "{\"checksums\": {\"u\": \"x\"}, \"a\": 1}"},
    {"{\"checksums\": 6, \"atdatafs\": null}", "{\"checksums\": 5}", "{\"checksums\": 5}"},
    {"[1]", "{\"a\": 1}", "{\"a\": 1}"},
    {"{\"a\": 1}", "[]", NULL},
};

Test(metadata_edit, replace_table)
{
    for (size_t i = 0; i < ATD_ARRAY_LEN(replacements); i++) {
        atd_auto_buf struct atd_buf before = ATD_BUF_INIT(BUF_BYTES);
        atd_auto_buf struct atd_buf user = ATD_BUF_INIT(BUF_BYTES);
        atd_auto_buf struct atd_buf out = ATD_BUF_INIT(BUF_BYTES);
        struct atd_error err = ATD_ERROR_INIT;
        static const uint8_t list[] = {0x90};
        struct atd_bytes old = replacements[i].before[0] == '['
                                   ? (struct atd_bytes){list, 1}
                                   : from_json(replacements[i].before, &before);
        struct atd_bytes new = replacements[i].user[0] == '['
                                   ? (struct atd_bytes){list, 1}
                                   : from_json(replacements[i].user, &user);
        int rc = atd_metadata_replace_user(old, new, &out, &err);

        cr_assert_eq(rc, replacements[i].after ? 0 : -EINVAL, "%s", err.text);
        check_result(&out, replacements[i].after ? replacements[i].after : "",
                     replacements[i].before);
    }
}

/* ------------------------------------------------------------------ reading records */

static void print_record(void *ctx, const struct atd_shard_record *record)
{
    atd_buf_printf(ctx, ATD_STR_FMT " %llx '" ATD_STR_FMT "' %lld %lld%s\n",
                   ATD_STR_ARG(record->url), (unsigned long long)record->size_bytes,
                   ATD_STR_ARG(record->etag), (long long)record->samples,
                   (long long)record->mtime_ns, record->sha256);
}

static void take_index(void *ctx, const struct atd_shard_record *record)
{
    *(uint64_t *)ctx = record->index_bytes;
}

static uint64_t index_of(struct atd_bytes metadata)
{
    uint64_t index_bytes = UINT64_MAX;

    atd_metadata_each_shard(metadata, take_index, &index_bytes);
    return index_bytes;
}

Test(metadata_edit, the_member_index_beside_a_shard)
{
    static const struct {
        const char *value;
        uint64_t index_bytes;
    } cases[] = {
        {"7", 7}, {"-7", 0}, {"\"7\"", 0}, {"null", 0}, {"18446744073709551615", UINT64_MAX}};
    atd_auto_buf struct atd_buf put = ATD_BUF_INIT(BUF_BYTES);
    atd_auto_buf struct atd_buf timed = ATD_BUF_INIT(BUF_BYTES);
    atd_auto_buf struct atd_buf again = ATD_BUF_INIT(BUF_BYTES);
    struct atd_shard_record record = full;

    record.index_bytes = 4711;
    cr_assert_eq(atd_metadata_put_shard((struct atd_bytes){NULL, 0}, &record, &put, NULL), 0);
    cr_assert_eq(index_of(atd_buf_bytes(&put)), 4711);
    cr_assert_eq(atd_metadata_put_mtime(atd_buf_bytes(&put), record.url, 9, &timed, NULL), 0);
    cr_assert_eq(index_of(atd_buf_bytes(&timed)), 4711);
    /* Published anew without one: the record does not tell of it any more. */
    cr_assert_eq(atd_metadata_put_shard(atd_buf_bytes(&timed), &full, &again, NULL), 0);
    cr_assert_eq(index_of(atd_buf_bytes(&again)), 0);
    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        atd_auto_buf struct atd_buf bytes = ATD_BUF_INIT(BUF_BYTES);
        char json[200];

        (void)snprintf(json, sizeof(json), "{\"atdatafs\": {\"shards\": {\"u\": {\"index\": %s}}}}",
                       cases[i].value);
        cr_assert_eq(index_of(from_json(json, &bytes)), cases[i].index_bytes, "%s", json);
    }
}

Test(metadata_edit, each_shard)
{
    static const struct {
        const char *metadata;
        const char *records;
    } cases[] = {
        {"{}", ""},
        {"{\"atdatafs\": 1}", ""},
        {"{\"atdatafs\": {\"shards\": [1]}}", ""},
        {"{\"atdatafs\": {\"shards\": {\"u\": " RECORD ", \"v\": {}}}}",
         "u 2800 'e-1' 3 -5\nv ffffffffffffffff '' -1 -9223372036854775808\n"},
        {"{\"atdatafs\": {\"shards\": {\"u\": 1, \"$bytes:dQ==\": {}, \"v\": [{}], \"w\": "
         "{\"size\": {\"size\": 5}, \"etag\": 5, \"samples\": -5, \"mtime_ns\": \"x\", \"more\": "
         "[1, {\"a\": 2}]}, \"x\": {\"size\": 1, \"samples\": 18446744073709551615, \"mtime_ns\": "
         "18446744073709551615}}}}",
         "w ffffffffffffffff '' -1 -9223372036854775808\nx 1 '' -1 -9223372036854775808\n"},
        {"{\"atdatafs\": {\"shards\": {\"u\": {\"mtime_ns\": 1700000001123456789}}}}",
         "u ffffffffffffffff '' -1 1700000001123456789\n"},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        atd_auto_buf struct atd_buf metadata = ATD_BUF_INIT(BUF_BYTES);
        atd_auto_buf struct atd_buf out = ATD_BUF_INIT(BUF_BYTES);

        atd_buf_append_text(&out, "");
        atd_metadata_each_shard(from_json(cases[i].metadata, &metadata), print_record, &out);
        cr_assert_str_eq(out.len ? (char *)out.ptr : "", cases[i].records);
    }
    atd_metadata_each_shard((struct atd_bytes){NULL, 0}, print_record, NULL);
}

static void count_record(void *ctx, const struct atd_shard_record *record)
{
    cr_assert_eq(record->size_bytes, 10240);
    ++*(size_t *)ctx;
}

/* 100,000 shards, put in one by one, would be quadratic; one edit of that many is not. */
Test(metadata_edit, large_maps_in_linear_time)
{
    enum { SHARDS = 100000 };
    atd_auto_buf struct atd_buf metadata = ATD_BUF_INIT(BUF_BYTES);
    atd_auto_buf struct atd_buf put = ATD_BUF_INIT(BUF_BYTES);
    atd_auto_buf struct atd_buf dropped = ATD_BUF_INIT(BUF_BYTES);
    struct atd_shard_record record = full;
    struct atd_error err = ATD_ERROR_INIT;
    struct timespec start;
    struct timespec end;
    size_t count = 0;
    char url[64];

    atd_mp_write_map(&metadata, 2);
    atd_mp_write_str(&metadata, ATD_STR("checksums"));
    atd_mp_write_map(&metadata, SHARDS);
    for (int i = 0; i < SHARDS; i++) {
        (void)snprintf(url, sizeof(url), "s3://bucket/datasets/name/data-%06d.tar", i);
        atd_mp_write_str(&metadata, atd_str_from(url));
        atd_mp_write_str(&metadata, ATD_STR(SUM));
    }
    atd_mp_write_str(&metadata, ATD_STR("atdatafs"));
    atd_mp_write_map(&metadata, 1);
    atd_mp_write_str(&metadata, ATD_STR("shards"));
    atd_mp_write_map(&metadata, SHARDS);
    for (int i = 0; i < SHARDS; i++) {
        (void)snprintf(url, sizeof(url), "s3://bucket/datasets/name/data-%06d.tar", i);
        atd_mp_write_str(&metadata, atd_str_from(url));
        atd_mp_write_map(&metadata, 1);
        atd_mp_write_str(&metadata, ATD_STR("size"));
        atd_mp_write_uint(&metadata, 10240);
    }
    (void)snprintf(url, sizeof(url), "s3://bucket/datasets/name/data-%06d.tar", SHARDS);
    record.url = atd_str_from(url);
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
    cr_assert_eq(atd_metadata_put_shard(atd_buf_bytes(&metadata), &record, &put, &err), 0, "%s",
                 err.text);
    cr_assert_eq(atd_metadata_drop_shard(atd_buf_bytes(&put), record.url, &dropped, &err), 0);
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
    cr_assert(atd_str_equal(atd_buf_str(&metadata), atd_buf_str(&dropped)));
    atd_metadata_each_shard(atd_buf_bytes(&put), count_record, &count);
    cr_assert_eq(count, SHARDS + 1);
    /* Some 50 ms; a quadratic walk would take minutes, also under a sanitizer. */
    cr_assert_lt(end.tv_sec - start.tv_sec, 20);
    if (getenv("ATD_TEST_TIMES"))
        (void)printf("put and drop: %.1f ms\n", (double)(end.tv_sec - start.tv_sec) * 1e3 +
                                                    (double)(end.tv_nsec - start.tv_nsec) / 1e6);
}

Test(metadata_edit, what_grows_over_the_limits_is_refused)
{
    atd_auto_buf struct atd_buf metadata = ATD_BUF_INIT(BUF_BYTES);
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(BUF_BYTES);
    atd_auto_buf struct atd_buf small = ATD_BUF_INIT(10);
    struct atd_error err = ATD_ERROR_INIT;

    atd_mp_write_map(&metadata, 1);
    atd_mp_write_str(&metadata, ATD_STR("a"));
    atd_buf_append(&metadata, "\xc6\x03\xff\xff\xf0", 5);
    atd_buf_append_zeros(&metadata, 0x03fffff0);
    cr_assert_eq(metadata.failed, 0);
    cr_assert_eq(atd_metadata_check(atd_buf_bytes(&metadata), NULL, &err), 0);
    cr_assert_eq(atd_metadata_put_shard(atd_buf_bytes(&metadata), &full, &out, &err), -E2BIG, "%s",
                 err.text);
    cr_assert_eq(out.len, 0);
    cr_assert_eq(atd_metadata_put_shard((struct atd_bytes){NULL, 0}, &full, &small, &err), -EFBIG);
    cr_assert_eq(small.len, 0);
}

/* ------------------------------------------------------------------ places */

Test(metadata_edit, urls_place)
{
    static const struct {
        const char *urls; /* one letter each */
        char url;
        size_t place;
    } cases[] = {
        {"", 'a', 0},     {"b", 'a', 0},       {"b", 'c', 1},    {"ac", 'b', 1},
        {"abc", 'd', 3},  {"aac", 'a', 2},     {"bca", 'a', 3},  {"cba", 'b', 3},
        {"abdc", 'a', 4}, {"acegikm", 'f', 3}, {"aaaa", 'a', 4}, {"aaab", 'A', 0},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        struct atd_str urls[8];
        size_t count = strlen(cases[i].urls);

        for (size_t u = 0; u < count; u++)
            urls[u] = (struct atd_str){&cases[i].urls[u], 1};
        cr_assert_eq(atd_urls_place(urls, count, (struct atd_str){&cases[i].url, 1}),
                     cases[i].place, "%s %c", cases[i].urls, cases[i].url);
    }
    cr_assert_eq(atd_urls_place((struct atd_str[]){ATD_STR("x1"), ATD_STR("x10")}, 2, ATD_STR("x")),
                 0);
    cr_assert_eq(
        atd_urls_place((struct atd_str[]){ATD_STR("x1"), ATD_STR("x\xff")}, 2, ATD_STR("x\x7f")),
        1);
}

/* Whatever the order in which files come, the list is the same. */
Test(metadata_edit, urls_place_makes_one_list)
{
    enum { COUNT = 6 };
    char names[COUNT] = "fbdace";
    struct atd_str urls[COUNT + 1];

    for (size_t start = 0; start < COUNT; start++) {
        size_t count = 0;

        for (size_t i = 0; i < COUNT; i++) {
            struct atd_str url = {&names[(start + i * 5) % COUNT], 1};
            size_t place = atd_urls_place(urls, count, url);

            memmove(&urls[place + 1], &urls[place], (count - place) * sizeof(urls[0]));
            urls[place] = url;
            count++;
        }
        for (size_t i = 0; i < COUNT; i++)
            cr_assert_eq(urls[i].ptr[0], 'a' + (char)i);
    }
}

#include <criterion/criterion.h>
#include <errno.h>
#include <msgpack.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "codec/msgpack_read.h"
#include "vectors.h"

#define BYTES(literal) ((struct atd_bytes){(const uint8_t *)"" literal, sizeof(literal) - 1})

static const struct atd_mp_rules all_rules = {true, true, "doc"};
static const struct atd_mp_rules strict_rules = {false, false, "sample"};

Test(msgpack_read, every_form)
{
    static const struct {
        const char *bytes;
        size_t len;
        struct atd_mp_token token; /* body.len counts, body.ptr does not */
    } cases[] = {
        {"\xc0", 1, {.type = ATD_MP_NIL}},
        {"\xc2", 1, {.type = ATD_MP_BOOL, .b = false}},
        {"\xc3", 1, {.type = ATD_MP_BOOL, .b = true}},
        {"\x00", 1, {.type = ATD_MP_UINT, .u = 0}},
        {"\x7f", 1, {.type = ATD_MP_UINT, .u = 127}},
        {"\xff", 1, {.type = ATD_MP_INT, .i = -1}},
        {"\xe0", 1, {.type = ATD_MP_INT, .i = -32}},
        {"\xcc\x80", 2, {.type = ATD_MP_UINT, .u = 128}},
        {"\xcd\x01\x02", 3, {.type = ATD_MP_UINT, .u = 0x102}},
        {"\xce\x01\x02\x03\x04", 5, {.type = ATD_MP_UINT, .u = 0x1020304}},
        {"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 9, {.type = ATD_MP_UINT, .u = UINT64_MAX}},
        {"\xd0\x80", 2, {.type = ATD_MP_INT, .i = -128}},
        {"\xd0\x7f", 2, {.type = ATD_MP_UINT, .u = 127}},
        {"\xd1\x80\x00", 3, {.type = ATD_MP_INT, .i = -32768}},
        {"\xd2\x80\x00\x00\x00", 5, {.type = ATD_MP_INT, .i = INT32_MIN}},
        {"\xd3\x80\x00\x00\x00\x00\x00\x00\x00", 9, {.type = ATD_MP_INT, .i = INT64_MIN}},
        {"\xd3\x00\x00\x00\x00\x00\x00\x00\x05", 9, {.type = ATD_MP_UINT, .u = 5}},
        {"\xca\x3f\xc0\x00\x00", 5, {.type = ATD_MP_FLOAT, .f = 1.5}},
        {"\xcb\xbf\xf8\x00\x00\x00\x00\x00\x00", 9, {.type = ATD_MP_FLOAT, .f = -1.5}},
        {"\xa2hi", 3, {.type = ATD_MP_STR, .body = {NULL, 2}}},
        {"\xd9\x02hi", 4, {.type = ATD_MP_STR, .body = {NULL, 2}}},
        {"\xda\x00\x02hi", 5, {.type = ATD_MP_STR, .body = {NULL, 2}}},
        {"\xdb\x00\x00\x00\x02hi", 7, {.type = ATD_MP_STR, .body = {NULL, 2}}},
        {"\xc4\x02hi", 4, {.type = ATD_MP_BIN, .body = {NULL, 2}}},
        {"\xc5\x00\x02hi", 5, {.type = ATD_MP_BIN, .body = {NULL, 2}}},
        {"\xc6\x00\x00\x00\x02hi", 7, {.type = ATD_MP_BIN, .body = {NULL, 2}}},
        {"\xc7\x02\x05hi", 5, {.type = ATD_MP_EXT, .ext_type = 5, .body = {NULL, 2}}},
        {"\xc8\x00\x02\xffhi", 6, {.type = ATD_MP_EXT, .ext_type = -1, .body = {NULL, 2}}},
        {"\xc9\x00\x00\x00\x02\x80hi",
         8,
         {.type = ATD_MP_EXT, .ext_type = -128, .body = {NULL, 2}}},
        {"\xd4\x01x", 3, {.type = ATD_MP_EXT, .ext_type = 1, .body = {NULL, 1}}},
        {"\xd5\x01hi", 4, {.type = ATD_MP_EXT, .ext_type = 1, .body = {NULL, 2}}},
        {"\xd6\x01hihi", 6, {.type = ATD_MP_EXT, .ext_type = 1, .body = {NULL, 4}}},
        {"\xd7\x01hihihihi", 10, {.type = ATD_MP_EXT, .ext_type = 1, .body = {NULL, 8}}},
        {"\xd8\x01hihihihihihihihi", 18, {.type = ATD_MP_EXT, .ext_type = 1, .body = {NULL, 16}}},
        {"\x90", 1, {.type = ATD_MP_ARRAY, .count = 0}},
        {"\x92\xc0\xc0", 1, {.type = ATD_MP_ARRAY, .count = 2}},
        {"\xdc\x00\x01\xc0", 3, {.type = ATD_MP_ARRAY, .count = 1}},
        {"\xdd\x00\x00\x00\x01\xc0", 5, {.type = ATD_MP_ARRAY, .count = 1}},
        {"\x81\xc0\xc0", 1, {.type = ATD_MP_MAP, .count = 1}},
        {"\xde\x00\x01\xc0\xc0", 3, {.type = ATD_MP_MAP, .count = 1}},
        {"\xdf\x00\x00\x00\x01\xc0\xc0", 5, {.type = ATD_MP_MAP, .count = 1}},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct atd_mp_token *want = &cases[i].token;
        size_t items = want->type == ATD_MP_MAP ? 2 * want->count : want->count;
        size_t total = cases[i].len + items;
        atd_auto_free uint8_t *copy = exact_copy(cases[i].bytes, total);
        struct atd_mp_reader reader;
        struct atd_mp_token got;
        struct atd_error err = ATD_ERROR_INIT;

        atd_mp_reader_init(&reader, (struct atd_bytes){copy, total});
        cr_assert_eq(atd_mp_next(&reader, &got, &err), 0, "case %zu: %s", i, err.text);
        cr_assert_eq(reader.at, cases[i].len, "case %zu", i);
        cr_assert_eq(got.type, want->type, "case %zu", i);
        cr_assert_eq(got.b, want->b, "case %zu", i);
        cr_assert_eq(got.i, want->i, "case %zu", i);
        cr_assert_eq(got.u, want->u, "case %zu", i);
        cr_assert(got.f == want->f, "case %zu", i);
        cr_assert_eq(got.ext_type, want->ext_type, "case %zu", i);
        cr_assert_eq(got.count, want->count, "case %zu", i);
        cr_assert_eq(got.body.len, want->body.len, "case %zu", i);
        cr_assert_eq(got.offset, 0, "case %zu", i);
        /* Every shorter document is refused and leaves the reader where it was. */
        for (size_t len = 0; len < total; len++) {
            struct atd_mp_reader cut;
            atd_auto_free uint8_t *part = exact_copy(cases[i].bytes, len);

            atd_mp_reader_init(&cut, (struct atd_bytes){part, len});
            cr_assert_eq(atd_mp_next(&cut, &got, NULL), -EINVAL, "case %zu cut at %zu", i, len);
            cr_assert_eq(cut.at, 0);
        }
    }
}

Test(msgpack_read, refusals_and_their_positions)
{
    static const struct {
        struct atd_bytes doc;
        bool strict;
        const char *text;
    } cases[] = {
        {{(const uint8_t *)"", 0}, false, "doc: msgpack ends at byte 0 where a value is due"},
        {{(const uint8_t *)"\x91\xc1", 2},
         false,
         "doc: byte 0xc1 at byte 1 begins no msgpack value"},
        {{(const uint8_t *)"\x92\x01\xcd\x01", 4}, false, "doc: value at byte 2 is cut short"},
        {{(const uint8_t *)"\x91\xa3hi", 4},
         false,
         "doc: value at byte 1 is cut short: it claims 3 bytes and 2 are left"},
        {{(const uint8_t *)"\xdd\xff\xff\xff\xff\xc0", 6},
         false,
         "doc: array at byte 0 is cut short: it claims 4294967295 values and 1 bytes are left"},
        {{(const uint8_t *)"\xdf\xff\xff\xff\xff\xc0", 6},
         false,
         "doc: map at byte 0 is cut short: it claims 8589934590 values and 1 bytes are left"},
        {{(const uint8_t *)"\x82\xa1"
                           "a\x01\x02\x03",
          6},
         false,
         "doc: map key at byte 4 is no text"},
        {{(const uint8_t *)"\x81\xc4\x01"
                           "a\x01",
          5},
         true,
         "sample: map key at byte 1 is no text"},
        {{(const uint8_t *)"\x91\xd4\x01"
                           "a",
          4},
         true,
         "sample: extension value at byte 1 is not allowed here"},
        {{(const uint8_t *)"\x91\xd4\xfe"
                           "a",
          4},
         false,
         "doc: extension value at byte 1 (type -2, 1 bytes) is no valid one"},
        {{(const uint8_t *)"\x91\xa3"
                           "a\xff"
                           "b",
          5},
         false,
         "doc: text at byte 1 is not valid utf-8 at its byte 1"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct atd_error err = ATD_ERROR_INIT;
        struct atd_mp_reader reader;

        atd_mp_reader_init(&reader, cases[i].doc);
        cr_assert_eq(
            atd_mp_skip_checked(&reader, cases[i].strict ? &strict_rules : &all_rules, &err),
            -EINVAL, "case %zu", i);
        cr_assert_str_eq(err.text, cases[i].text);
        cr_assert_eq(reader.at, 0);
    }
}

Test(msgpack_read, levels)
{
    uint8_t doc[ATD_MSGPACK_DEPTH_MAX + 2];
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_mp_reader reader;

    memset(doc, 0x91, sizeof(doc));
    doc[ATD_MSGPACK_DEPTH_MAX] = 0xc0;
    atd_mp_reader_init(&reader, (struct atd_bytes){doc, ATD_MSGPACK_DEPTH_MAX + 1});
    cr_assert_eq(atd_mp_skip_checked(&reader, &all_rules, &err), 0, "%s", err.text);
    cr_assert_eq(reader.at, ATD_MSGPACK_DEPTH_MAX + 1);
    doc[ATD_MSGPACK_DEPTH_MAX] = 0x91;
    doc[ATD_MSGPACK_DEPTH_MAX + 1] = 0xc0;
    atd_mp_reader_init(&reader, (struct atd_bytes){doc, sizeof(doc)});
    cr_assert_eq(atd_mp_skip_checked(&reader, &all_rules, &err), -E2BIG);
    cr_assert_str_eq(err.text, "doc: more than 512 levels of nesting at byte 512");
}

Test(msgpack_read, too_many_values)
{
    size_t len = 5 + (size_t)ATD_MSGPACK_VALUES_MAX;
    atd_auto_free uint8_t *doc = calloc(1, len);
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_mp_reader reader;

    cr_assert_not_null(doc);
    doc[0] = 0xdd;
    doc[1] = (uint8_t)(ATD_MSGPACK_VALUES_MAX >> 24);
    doc[2] = (uint8_t)(ATD_MSGPACK_VALUES_MAX >> 16);
    atd_mp_reader_init(&reader, (struct atd_bytes){doc, len});
    cr_assert_eq(atd_mp_skip_checked(&reader, &all_rules, &err), -E2BIG);
    cr_assert_str_eq(err.text, "doc: more than 8388608 values at byte 8388612");
}

/* Lists of scalars are passed over at once: as far as each is there and is one. */
Test(msgpack_read, lists_of_scalars)
{
    static const char *const scalars[] = {
        "\xc0",         "\xc3",
        "\x05",         "\xf0",
        "\xca\1\2\3\4", "\xcb\1\2\3\4\5\6\7\x08",
        "\xcc\1",       "\xcd\1\2",
        "\xce\1\2\3\4", "\xcf\1\2\3\4\5\6\7\x08",
        "\xd0\1",       "\xd1\1\2",
        "\xd2\1\2\3\4", "\xd3\1\2\3\4\5\6\7\x08",
        "\xa1x",        "\xc4\1x",
        "\x91\1",       "\x81\xa1x\1",
    };
    atd_auto_buf struct atd_buf doc = ATD_BUF_INIT(4096);
    size_t last = 0;

    atd_buf_append_byte(&doc, 0xdc);
    atd_buf_append_byte(&doc, 0);
    atd_buf_append_byte(&doc, 2 * ATD_ARRAY_LEN(scalars));
    for (size_t i = 0; i < 2 * ATD_ARRAY_LEN(scalars); i++) {
        last = doc.len;
        atd_buf_append_text(&doc, scalars[i % ATD_ARRAY_LEN(scalars)]);
    }
    atd_buf_append_byte(&doc, 0x01); /* another value */
    for (size_t len = 0; len <= doc.len; len++) {
        uint8_t *copy = exact_copy(doc.ptr, len);
        struct atd_mp_reader reader;
        struct atd_error err = ATD_ERROR_INIT;
        int rc;

        atd_mp_reader_init(&reader, (struct atd_bytes){copy, len});
        rc = atd_mp_skip_checked(&reader, &strict_rules, &err);
        cr_assert_eq(rc, len < doc.len - 1 ? -EINVAL : 0, "%zu: %s", len, err.text);
        cr_assert_eq(reader.at, rc == 0 ? doc.len - 1 : 0);
        if (rc == 0) {
            atd_mp_reader_init(&reader, (struct atd_bytes){copy, len});
            atd_mp_skip(&reader);
            cr_assert_eq(reader.at, doc.len - 1);
        }
        free(copy);
    }
    doc.ptr[last] = 0xc1;
    {
        struct atd_mp_reader reader;

        atd_mp_reader_init(&reader, atd_buf_bytes(&doc));
        cr_assert_eq(atd_mp_skip_checked(&reader, &strict_rules, NULL), -EINVAL);
    }
}

Test(msgpack_read, skips_one_value_of_several)
{
    struct atd_bytes doc = BYTES("\x82\xa1"
                                 "a\x92\x01\x02\xa1"
                                 "b\x80\x07");
    struct atd_mp_reader reader;

    atd_mp_reader_init(&reader, doc);
    cr_assert_eq(atd_mp_skip_checked(&reader, &all_rules, NULL), 0);
    cr_assert_eq(reader.at, doc.len - 1);
    atd_mp_reader_init(&reader, doc);
    atd_mp_skip(&reader);
    cr_assert_eq(reader.at, doc.len - 1);
    atd_mp_skip(&reader);
    cr_assert_eq(reader.at, doc.len);
}

/* Compares one value, nested ones included, with msgpack-c's tree of it. */
static void compare(struct atd_mp_reader *reader, const msgpack_object *want)
{
    struct atd_mp_token token;

    cr_assert_eq(atd_mp_next(reader, &token, NULL), 0);
    switch (want->type) {
    case MSGPACK_OBJECT_NIL:
        cr_assert_eq(token.type, ATD_MP_NIL);
        break;
    case MSGPACK_OBJECT_BOOLEAN:
        cr_assert(token.type == ATD_MP_BOOL && token.b == want->via.boolean);
        break;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        cr_assert(token.type == ATD_MP_UINT && token.u == want->via.u64);
        break;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        cr_assert(token.type == ATD_MP_INT && token.i == want->via.i64);
        break;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        cr_assert(token.type == ATD_MP_FLOAT);
        cr_assert(token.f == want->via.f64 || want->via.f64 != want->via.f64);
        break;
    case MSGPACK_OBJECT_STR:
        cr_assert(token.type == ATD_MP_STR && token.body.len == want->via.str.size);
        cr_assert(token.body.len == 0 ||
                  memcmp(token.body.ptr, want->via.str.ptr, token.body.len) == 0);
        break;
    case MSGPACK_OBJECT_BIN:
        cr_assert(token.type == ATD_MP_BIN && token.body.len == want->via.bin.size);
        break;
    case MSGPACK_OBJECT_EXT:
        cr_assert(token.type == ATD_MP_EXT && token.ext_type == want->via.ext.type);
        cr_assert_eq(token.body.len, want->via.ext.size);
        break;
    case MSGPACK_OBJECT_ARRAY:
        cr_assert(token.type == ATD_MP_ARRAY && token.count == want->via.array.size);
        for (uint32_t i = 0; i < want->via.array.size; i++)
            compare(reader, &want->via.array.ptr[i]);
        break;
    case MSGPACK_OBJECT_MAP:
        cr_assert(token.type == ATD_MP_MAP && token.count == want->via.map.size);
        for (uint32_t i = 0; i < want->via.map.size; i++) {
            compare(reader, &want->via.map.ptr[i].key);
            compare(reader, &want->via.map.ptr[i].val);
        }
        break;
    }
}

Test(msgpack_read, agrees_with_msgpack_c)
{
    json_t *vectors = load_json("vectors/msgpack.json");
    static const char *const lists[] = {"written", "read"};
    size_t compared = 0;

    for (size_t l = 0; l < 2; l++) {
        json_t *vector;
        size_t i;

        json_array_foreach(json_object_get(vectors, lists[l]), i, vector)
        {
            atd_auto_buf struct atd_buf buf = ATD_BUF_INIT(1 << 20);
            struct atd_bytes doc = from_hex(json_member_str(vector, "hex"), &buf);
            atd_auto_free uint8_t *copy = exact_copy(doc.ptr, doc.len);
            struct atd_mp_reader reader;
            msgpack_unpacked tree;
            size_t end = 0;

            /* A claim of more elements than there are bytes makes msgpack-c allocate them. */
            atd_mp_reader_init(&reader, (struct atd_bytes){copy, doc.len});
            if (atd_mp_skip_checked(&reader, &all_rules, NULL) < 0)
                continue;
            msgpack_unpacked_init(&tree);
            if (msgpack_unpack_next(&tree, (const char *)copy, doc.len, &end) ==
                MSGPACK_UNPACK_SUCCESS) {
                cr_assert_eq(reader.at, end);
                reader.at = 0;
                compare(&reader, &tree.data);
                cr_assert_eq(reader.at, end);
                compared++;
            }
            msgpack_unpacked_destroy(&tree);
        }
    }
    cr_assert_gt(compared, 100);
    json_decref(vectors);
}

/* Python's verdict on hundreds of documents; only between 512 and 1024 levels do we differ. */
Test(msgpack_read, agrees_with_msgpack_python)
{
    json_t *vectors = load_json("vectors/msgpack.json");
    json_t *vector;
    size_t i;
    size_t read = 0;

    json_array_foreach(json_object_get(vectors, "read"), i, vector)
    {
        atd_auto_buf struct atd_buf buf = ATD_BUF_INIT(1 << 20);
        struct atd_bytes doc = from_hex(json_member_str(vector, "hex"), &buf);
        atd_auto_free uint8_t *copy = exact_copy(doc.ptr, doc.len);
        bool reads = json_is_true(json_object_get(vector, "reads"));
        struct atd_error err = ATD_ERROR_INIT;
        struct atd_mp_reader reader;
        int rc;

        atd_mp_reader_init(&reader, (struct atd_bytes){copy, doc.len});
        rc = atd_mp_skip_checked(&reader, &all_rules, &err);
        cr_assert_eq(rc == 0 && reader.at == doc.len, reads, "%s: python %d, here %d %s",
                     json_member_str(vector, "name").ptr, reads, rc, err.text);
        read += reads;
    }
    cr_assert_gt(read, 100);
    json_decref(vectors);
}

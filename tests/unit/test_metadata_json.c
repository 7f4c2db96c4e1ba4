#include <criterion/criterion.h>
#include <errno.h>

#include "atdata/entry.h"
#include "base/cleanup.h"
#include "vectors.h"

#define DOC(literal)                                     \
    {                                                    \
        (const uint8_t *)"" literal, sizeof(literal) - 1 \
    }

static void to_json(struct atd_bytes doc, struct atd_buf *out)
{
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_metadata_check(doc, NULL, &err), 0, "%s", err.text);
    atd_metadata_to_json(doc, NULL, 0, out);
    cr_assert_eq(atd_buf_finish(out, "json", &err), 0, "%s", err.text);
}

static int from_json(struct atd_str text, struct atd_buf *out, struct atd_error *err)
{
    atd_auto_free uint8_t *copy = exact_copy(text.ptr, text.len);

    return atd_metadata_from_json((struct atd_str){(const char *)copy, text.len}, out, err);
}

/* The JSON is Python's json.dumps of the same values, the msgpack is msgpack-python's. */
Test(metadata_json, what_python_writes_goes_there_and_back)
{
    json_t *vectors = load_json("vectors/msgpack.json");
    json_t *vector;
    size_t i;

    json_array_foreach(json_object_get(vectors, "written"), i, vector)
    {
        const char *name = json_member_str(vector, "name").ptr;
        atd_auto_buf struct atd_buf buf = ATD_BUF_INIT(1 << 20);
        atd_auto_buf struct atd_buf json = ATD_BUF_INIT(1 << 20);
        atd_auto_buf struct atd_buf back = ATD_BUF_INIT(1 << 20);
        atd_auto_buf struct atd_buf wrapped = ATD_BUF_INIT(1 << 20);
        struct atd_error err = ATD_ERROR_INIT;
        struct atd_bytes doc = from_hex(json_member_str(vector, "hex"), &buf);

        to_json(doc, &json);
        cr_assert(atd_str_equal(atd_buf_str(&json), json_member_str(vector, "json")), "%s: %s",
                  name, (const char *)json.ptr);
        if (!atd_msgpack_is_map(doc)) {
            /* only a map may come back: {"": value} */
            atd_buf_append(&wrapped, "\x81\xa0", 2);
            atd_buf_append(&wrapped, doc.ptr, doc.len);
            doc = atd_buf_bytes(&wrapped);
            atd_buf_clear(&json);
            to_json(doc, &json);
        }
        cr_assert_eq(from_json(atd_buf_str(&json), &back, &err), 0, "%s: %s", name, err.text);
        assert_bytes_eq(atd_buf_bytes(&back), doc, "%s: %s", name, (const char *)json.ptr);
    }
    cr_assert_geq(i, 15);
    json_decref(vectors);
}

/* A header of each width, made as msgpack-python makes it. */
Test(metadata_json, widths)
{
    static const struct {
        size_t items;
        const char *head;
        size_t head_len;
    } cases[] = {
        {15, "\x9f", 1},
        {16, "\xdc\0\x10", 3},
        {65535, "\xdc\xff\xff", 3},
        {65536, "\xdd\0\x01\0\0", 5},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        atd_auto_buf struct atd_buf json = ATD_BUF_INIT(1 << 20);
        atd_auto_buf struct atd_buf out = ATD_BUF_INIT(1 << 20);
        struct atd_error err = ATD_ERROR_INIT;

        atd_buf_append_text(&json, "{\"a\":[0");
        for (size_t n = 1; n < cases[i].items; n++)
            atd_buf_append_text(&json, ",0");
        atd_buf_append_text(&json, "]}");
        cr_assert_eq(from_json(atd_buf_str(&json), &out, &err), 0, "%s", err.text);
        cr_assert_eq(out.len, 3 + cases[i].head_len + cases[i].items);
        cr_assert_arr_eq(out.ptr + 3, cases[i].head, cases[i].head_len);
    }
}

Test(metadata_json, floats_narrow_and_infinite)
{
    struct atd_bytes doc = DOC("\x92\xca\x3d\xcc\xcc\xcd\xca\xff\x80\x00\x00");
    atd_auto_buf struct atd_buf json = ATD_BUF_INIT(1 << 20);

    to_json(doc, &json);
    cr_assert_str_eq((const char *)json.ptr,
                     "[\n  0.10000000149011612,\n  {\n    \"$float\": \"-inf\"\n  }\n]");
}

Test(metadata_json, leave_out_and_indent)
{
    /* {"checksums": {"u": "s"}, "x": 1, "atdatafs": 5, "y": {"checksums": {}}} */
    struct atd_bytes doc = DOC("\x84\xa9"
                               "checksums\x81\xa1u\xa1s\xa1x\x01\xa8"
                               "atdatafs\x05\xa1y\x81"
                               "\xa9"
                               "checksums\x80");
    struct atd_bytes only = DOC("\x81\xa9"
                                "checksums\x80");
    static const char *const leave_out[] = {"checksums", "atdatafs", NULL};
    atd_auto_buf struct atd_buf json = ATD_BUF_INIT(1 << 20);

    cr_assert_eq(atd_metadata_check(doc, NULL, NULL), 0);
    atd_metadata_to_json(doc, leave_out, 2, &json);
    cr_assert_str_eq(
        (const char *)json.ptr,
        "{\n    \"x\": 1,\n    \"atdatafs\": 5,\n    \"y\": {\n      \"checksums\": {}\n"
        "    }\n  }");
    atd_buf_clear(&json);
    atd_metadata_to_json(only, leave_out, 0, &json);
    cr_assert_str_eq((const char *)json.ptr, "{}");
}

/* A msgpack map may say a key twice. As in a Python dict, the last value counts. */
Test(metadata_json, of_equal_keys_the_last_is_written)
{
    static const struct {
        struct atd_bytes doc;
        const char *json;
    } cases[] = {
        {DOC("\x82\xa1"
             "a\x01\xa1"
             "a\x02"),
         "{\n  \"a\": 2\n}"},
        /* in other widths: fixstr, str 8, str 32 */
        {DOC("\x83\xa1"
             "a\x01\xd9\x01"
             "a\x02\xdb\0\0\0\x01"
             "a\x03"),
         "{\n  \"a\": 3\n}"},
        /* the empty key, and equal keys below a value that is dropped or kept */
        {DOC("\x82\xa0\x82\xa1"
             "b\x01\xa1"
             "b\x02\xa0\x83\xa1"
             "b\x03\xa1"
             "c\xc0\xa1"
             "b\x04"),
         "{\n  \"\": {\n    \"c\": null,\n    \"b\": 4\n  }\n}"},
        /* as text and as bytes, and in two objects */
        {DOC("\x82\xa1"
             "a\x81\xa1"
             "a\x01\xc4\x01"
             "a\x02"),
         "{\n  \"a\": {\n    \"a\": 1\n  },\n  \"$bytes:YQ==\": 2\n}"},
        {DOC("\x82\xc4\x01"
             "a\x01\xc4\x01"
             "a\x02"),
         "{\n  \"$bytes:YQ==\": 2\n}"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        atd_auto_buf struct atd_buf json = ATD_BUF_INIT(1 << 20);
        atd_auto_buf struct atd_buf back = ATD_BUF_INIT(1 << 20);
        struct atd_error err = ATD_ERROR_INIT;

        to_json(cases[i].doc, &json);
        cr_assert_str_eq((const char *)json.ptr, cases[i].json);
        cr_assert_eq(from_json(atd_buf_str(&json), &back, &err), 0, "case %zu: %s", i, err.text);
    }
}

Test(metadata_json, a_million_equal_keys_end_fast, .timeout = 30)
{
    static const char *const leave_out[] = {"", NULL};
    atd_auto_buf struct atd_buf doc = ATD_BUF_INIT(4 << 20);
    atd_auto_buf struct atd_buf json = ATD_BUF_INIT(1 << 20);

    atd_buf_append(&doc, "\xdf\x00\x0f\x42\x40", 5);
    for (int i = 0; i < 1000000; i++)
        atd_buf_append(&doc, "\xa0\x01", 2);
    to_json(atd_buf_bytes(&doc), &json);
    cr_assert_str_eq((const char *)json.ptr, "{\n  \"\": 1\n}");
    /* Only the last value decides whether the key is shown elsewhere. */
    doc.ptr[6] = 0x80;
    atd_buf_clear(&json);
    atd_metadata_to_json(atd_buf_bytes(&doc), leave_out, 0, &json);
    cr_assert_str_eq((const char *)json.ptr, "{\n  \"\": 1\n}");
}

Test(metadata_json, people_may_write_it_their_way)
{
    static const struct {
        const char *json;
        struct atd_bytes doc;
    } cases[] = {
        {"{}", DOC("\x80")},
        {"\n{ \"a\" : [ ] }\n", DOC("\x81\xa1"
                                    "a\x90")},
        {"{\"\\u0061\":\"\\ud83d\\ude80\"}", DOC("\x81\xa1"
                                                 "a\xa4\xf0\x9f\x9a\x80")},
        {"{\"a\":-0}", DOC("\x81\xa1"
                           "a\x00")},
        {"{\"a\":-0.0}", DOC("\x81\xa1"
                             "a\xcb\x80\0\0\0\0\0\0\0")},
        {"{\"a\":1E0}", DOC("\x81\xa1"
                            "a\xcb\x3f\xf0\0\0\0\0\0\0")},
        {"{\"a\":18446744073709551615}", DOC("\x81\xa1"
                                             "a\xcf\xff\xff\xff\xff\xff\xff\xff\xff")},
        {"{\"a\":-9223372036854775808}", DOC("\x81\xa1"
                                             "a\xd3\x80\0\0\0\0\0\0\0")},
        {"{\"a\":{ \"$bytes\" : \"\" }}", DOC("\x81\xa1"
                                              "a\xc4\x00")},
        {"{\"a\":{\"\\u0024bytes\":\"AAE\\u003d\"}}", DOC("\x81\xa1"
                                                          "a\xc4\x02\x00\x01")},
        {"{\"$bytes:/w==\":{\"$ext\":[-1,\"AAAAAQ==\"]}}",
         DOC("\x81\xc4\x01\xff\xd6\xff\0\0\0\x01")},
        {"{\"a\":{\"$$float\":\"nan\"}}", DOC("\x81\xa1"
                                              "a\x81\xa6$float\xa3nan")},
        {"{\"$floats\":{},\"$\":[]}", DOC("\x82\xa7$floats\x80\xa1$\x90")},
        /* one key twice, but in two objects, and as text and as bytes */
        {"{\"a\":{\"a\":1},\"b\":{\"a\":1},\"$bytes:YQ==\":2}", DOC("\x83\xa1"
                                                                    "a\x81\xa1"
                                                                    "a\x01\xa1"
                                                                    "b\x81\xa1"
                                                                    "a\x01\xc4\x01"
                                                                    "a\x02")},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        atd_auto_buf struct atd_buf out = ATD_BUF_INIT(1000);
        struct atd_error err = ATD_ERROR_INIT;

        cr_assert_eq(from_json(atd_str_from(cases[i].json), &out, &err), 0, "%s: %s", cases[i].json,
                     err.text);
        assert_bytes_eq(atd_buf_bytes(&out), cases[i].doc, "%s", cases[i].json);
    }
}

Test(metadata_json, refusals_with_line_and_column)
{
    static const char tag[] = "metadata: '$bytes', '$float' or '$ext' stands alone in its object "
                              "with the value that it tags (a key of that name is written with one "
                              "more '$'): bad tag at line 1 column ";
    static const struct {
        const char *json;
        int code;
        const char *text; /* what follows "metadata: ", or the column of a bad tag */
    } cases[] = {
        {"", EINVAL, "text ends where a value is due at line 1 column 1"},
        {"[]", EINVAL, "the top level is no object at line 1 column 1"},
        {"\"a\"", EINVAL, "the top level is no object at line 1 column 1"},
        {"{\"$bytes\":\"\"}", EINVAL, "the top level is no object at line 1 column 1"},
        {"{\"a\":1,\n\"b\":NaN}", EINVAL, "no json value at line 2 column 5"},
        {"{\"a\":1e999}", EINVAL, "number out of a float64's range at line 1 column 6"},
        {"{\"a\":18446744073709551616}", EINVAL, "integer of more than 64 bits at line 1 column 6"},
        {"{\"a\":-9223372036854775809}", EINVAL, "integer of more than 64 bits at line 1 column 6"},
        {"{\"a\":1,\"a\":2}", EINVAL, "key given twice in one object at line 1 column 8"},
        {"{\"a\":1,\"b\":2,\n \"\\u0061\":3}", EINVAL,
         "key given twice in one object at line 2 column 2"},
        {"{\"$bytes:!\":1}", EINVAL, "key '$bytes:' without base64 at line 1 column 2"},
        {"{\"a\":{\"$bytes\":\"A\"}}", EINVAL, "7"},
        {"{\"a\":{\"$bytes\":\"QR==\"}}", EINVAL, "7"},
        {"{\"a\":{\"$bytes\":\"QQ==\\n\"}}", EINVAL, "7"},
        {"{\"a\":{\"$bytes\":5}}", EINVAL, "7"},
        {"{\"a\":{\"$bytes\":[\"\"]}}", EINVAL, "7"},
        {"{\"a\":{\"$bytes\":\"\",\"b\":1}}", EINVAL, "7"},
        {"{\"a\":{\"b\":1,\"$bytes\":\"\"}}", EINVAL, "13"},
        {"{\"a\":{\"$float\":\"NaN\"}}", EINVAL, "7"},
        {"{\"a\":{\"$float\":1.5}}", EINVAL, "7"},
        {"{\"a\":{\"$ext\":[128,\"\"]}}", EINVAL, "7"},
        {"{\"a\":{\"$ext\":[1.0,\"\"]}}", EINVAL, "7"},
        {"{\"a\":{\"$ext\":[1]}}", EINVAL, "7"},
        {"{\"a\":{\"$ext\":[1,\"\",2]}}", EINVAL, "7"},
        {"{\"a\":{\"$ext\":\"\"}}", EINVAL, "7"},
        {"{\"a\":{\"$ext\":[-2,\"\"]}}", EINVAL,
         "extension value at byte 3 (type -2, 0 bytes) is no valid one"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        atd_auto_buf struct atd_buf out = ATD_BUF_INIT(1000);
        struct atd_error err = ATD_ERROR_INIT;
        bool is_tag = cases[i].text[0] >= '0' && cases[i].text[0] <= '9';
        char want[400];

        atd_buf_append_text(&out, "before");
        cr_assert_eq(from_json(atd_str_from(cases[i].json), &out, &err), -cases[i].code, "%s",
                     cases[i].json);
        (void)snprintf(want, sizeof(want), "%s%s", is_tag ? tag : "metadata: ", cases[i].text);
        cr_assert_str_eq(err.text, want);
        cr_assert_str_eq((const char *)out.ptr, "before");
    }
}

Test(metadata_json, levels)
{
    uint8_t doc[2 + 511 + 9];
    atd_auto_buf struct atd_buf json = ATD_BUF_INIT(1 << 20);
    atd_auto_buf struct atd_buf back = ATD_BUF_INIT(1 << 20);
    atd_auto_buf struct atd_buf deeper = ATD_BUF_INIT(1 << 20);
    struct atd_error err = ATD_ERROR_INIT;

    /* 512 levels, an ext at the bottom, whose tag takes two more in JSON */
    memcpy(doc, "\x81\xa0", 2);
    memset(doc + 2, 0x91, 511);
    memcpy(doc + 2 + 511,
           "\xd7\x05"
           "abcdefgh",
           9);
    doc[2 + 511] = 0xd6;
    to_json((struct atd_bytes){doc, 2 + 511 + 6}, &json);
    cr_assert_eq(from_json(atd_buf_str(&json), &back, &err), 0, "%s", err.text);
    assert_bytes_eq(atd_buf_bytes(&back), ((struct atd_bytes){doc, 2 + 511 + 6}), "512");
    atd_buf_append_text(&deeper, "{\"\":");
    for (int i = 0; i < 512; i++)
        atd_buf_append_byte(&deeper, '[');
    for (int i = 0; i < 512; i++)
        atd_buf_append_byte(&deeper, ']');
    atd_buf_append_byte(&deeper, '}');
    cr_assert_eq(from_json(atd_buf_str(&deeper), &back, &err), -E2BIG);
    cr_assert_str_eq(err.text, "metadata: too many levels of nesting at line 1 column 516");
}

Test(metadata_json, a_full_buffer_is_an_error)
{
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(4);
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(from_json(ATD_STR("{\"abc\":1}"), &out, &err), -EFBIG);
    cr_assert_eq(out.len, 0);
}

#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>

#include "base/cleanup.h"
#include "codec/json_read.h"
#include "vectors.h"

static int read_all(struct atd_str text, bool lenient, struct atd_error *err)
{
    struct atd_json_reader reader;
    struct atd_json_token token;
    int rc;

    atd_json_reader_init(&reader, text, 0, lenient);
    do {
        rc = atd_json_next(&reader, &token, err);
    } while (rc == 0 && token.type != ATD_JSON_END);
    return rc;
}

Test(json_read, tokens)
{
    static const struct {
        enum atd_json_type type;
        const char *raw;
        size_t offset;
    } want[] = {
        {ATD_JSON_OBJECT, "{", 1},      {ATD_JSON_KEY, "a\\u0000", 3},
        {ATD_JSON_ARRAY, "[", 15},      {ATD_JSON_NUMBER, "-1.50e+3", 16},
        {ATD_JSON_TRUE, "true", 26},    {ATD_JSON_FALSE, "false", 31},
        {ATD_JSON_NULL, "null", 38},    {ATD_JSON_OBJECT, "{", 44},
        {ATD_JSON_OBJECT_END, "}", 45}, {ATD_JSON_ARRAY, "[", 47},
        {ATD_JSON_ARRAY_END, "]", 48},  {ATD_JSON_ARRAY_END, "]", 49},
        {ATD_JSON_KEY, "", 51},         {ATD_JSON_STRING, "\xc3\xa9\\n", 54},
        {ATD_JSON_OBJECT_END, "}", 60}, {ATD_JSON_END, "", 63},
        {ATD_JSON_END, "", 63},
    };
    struct atd_str text = ATD_STR(" { \"a\\u0000\" : [-1.50e+3, true,false,\tnull,\n{},[]],\"\":\""
                                  "\xc3\xa9\\n\"}\r\n");
    struct atd_json_reader reader;

    atd_json_reader_init(&reader, text, 0, false);
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        struct atd_json_token token;
        struct atd_error err = ATD_ERROR_INIT;

        cr_assert_eq(atd_json_next(&reader, &token, &err), 0, "%zu: %s", i, err.text);
        cr_assert_eq(token.type, want[i].type, "%zu: %d", i, token.type);
        cr_assert(atd_str_equal(token.raw, atd_str_from(want[i].raw)), "%zu: " ATD_STR_FMT, i,
                  ATD_STR_ARG(token.raw));
        cr_assert_eq(token.offset, want[i].offset, "%zu: %zu", i, token.offset);
        if (token.raw.len) {
            size_t quote = token.type == ATD_JSON_KEY || token.type == ATD_JSON_STRING;

            cr_assert_eq(token.raw.ptr, text.ptr + token.offset + quote);
        }
    }
}

Test(json_read, refusals_with_line_and_column)
{
    static const struct {
        struct atd_str text;
        bool lenient;
        const char *error;
    } cases[] = {
        {{"", 0}, false, "text ends where a value is due at line 1 column 1"},
        {{" \n ", 3}, false, "text ends where a value is due at line 2 column 2"},
        {{"\xef\xbb\xbf{}", 5}, true, "no json value at line 1 column 1"},
        {{"{\"\xc3\xa9\": 1,\n \"b\" 2}", 16}, false, "no ':' after a key at line 2 column 6"},
        {{"{\"\xc3\xa9\" 1}", 8}, false, "no ':' after a key at line 1 column 6"},
        {{"[1,]", 4}, false, "no json value at line 1 column 4"},
        {{"{\"a\":1,}", 8}, false, "no key in double quotes at line 1 column 8"},
        {{"{a:1}", 5}, false, "no key in double quotes at line 1 column 2"},
        {{"[1 2]", 5}, false, "no ',' or closing bracket at line 1 column 4"},
        {{"[1}", 3}, false, "no ',' or closing bracket at line 1 column 3"},
        {{"{\"a\":1]", 7}, false, "no ',' or closing bracket at line 1 column 7"},
        {{"[", 1}, false, "text ends where a value is due at line 1 column 2"},
        {{"[1", 2}, false, "no ',' or closing bracket at line 1 column 3"},
        {{"1 1", 3}, false, "text after the end of the json value at line 1 column 3"},
        {{"{}\0", 3}, false, "text after the end of the json value at line 1 column 3"},
        {{"\"a", 2}, false, "string without its closing quote at line 1 column 1"},
        {{"\"a\\", 3}, false, "unknown escape in a string at line 1 column 3"},
        {{"\"a\\\"", 4}, false, "string without its closing quote at line 1 column 1"},
        {{"\"\\x\"", 4}, false, "unknown escape in a string at line 1 column 2"},
        {{"\"\\\0\"", 4}, false, "unknown escape in a string at line 1 column 2"},
        {{"\"\\u12g4\"", 8}, false, "unknown escape in a string at line 1 column 2"},
        {{"\"\\u12", 5}, false, "unknown escape in a string at line 1 column 2"},
        {{"\"\n\"", 3}, false, "control character in a string at line 1 column 2"},
        {{"\"\0\"", 3}, false, "control character in a string at line 1 column 2"},
        {{"\"\xff\"", 3}, false, "invalid utf-8 at line 1 column 2"},
        {{"\"\\ud800\"", 8}, false, "half a surrogate pair in a string at line 1 column 2"},
        {{"\"\\ud800\\u0041\"", 14}, false, "half a surrogate pair in a string at line 1 column 2"},
        {{"\"\\udc00\\udc00\"", 14}, false, "half a surrogate pair in a string at line 1 column 2"},
        {{"\"\x1f\"", 3}, false, "control character in a string at line 1 column 2"},
        {{"\"\\udc00\"", 8}, false, "half a surrogate pair in a string at line 1 column 2"},
        {{"01", 2}, false, "no json value at line 1 column 1"},
        {{"-", 1}, false, "no json value at line 1 column 1"},
        {{"-01", 3}, false, "no json value at line 1 column 1"},
        {{"1.", 2}, false, "no json value at line 1 column 1"},
        {{".5", 2}, false, "no json value at line 1 column 1"},
        {{"1e", 2}, false, "no json value at line 1 column 1"},
        {{"+1", 2}, false, "no json value at line 1 column 1"},
        {{"NaN", 3}, false, "no json value at line 1 column 1"},
        {{"-Infinity", 9}, false, "no json value at line 1 column 1"},
        {{"-NaN", 4}, true, "no json value at line 1 column 1"},
        {{"True", 4}, true, "no json value at line 1 column 1"},
        {{"nul", 3}, false, "no json value at line 1 column 1"},
        {{"truefalse", 9}, false, "text after the end of the json value at line 1 column 5"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct atd_error err = ATD_ERROR_INIT;
        atd_auto_free uint8_t *copy = exact_copy(cases[i].text.ptr, cases[i].text.len);
        struct atd_str text = {(const char *)copy, cases[i].text.len};

        cr_assert_eq(read_all(text, cases[i].lenient, &err), -EINVAL, "case %zu", i);
        cr_assert_str_eq(err.text, cases[i].error);
    }
}

Test(json_read, pythons_extras_when_lenient)
{
    static const char *const texts[] = {"NaN", "[Infinity,-Infinity]", "\"\\ud800\"",
                                        "\"\\ud800\\ud800\\udc00\"", "\"\\udc00x\""};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct atd_error err = ATD_ERROR_INIT;

        cr_assert_eq(read_all(atd_str_from(texts[i]), true, &err), 0, "%s: %s", texts[i], err.text);
        cr_assert_eq(read_all(atd_str_from(texts[i]), false, NULL), -EINVAL);
    }
}

Test(json_read, levels)
{
    char text[2 * ATD_JSON_READ_DEPTH_MAX + 2];
    struct atd_error err = ATD_ERROR_INIT;

    memset(text, '[', ATD_JSON_READ_DEPTH_MAX + 1);
    memset(text + ATD_JSON_READ_DEPTH_MAX + 1, ']', ATD_JSON_READ_DEPTH_MAX + 1);
    cr_assert_eq(read_all((struct atd_str){text, sizeof(text)}, false, &err), -E2BIG);
    cr_assert_str_eq(err.text, "too many levels of nesting at line 1 column 521");
    cr_assert_eq(read_all((struct atd_str){text + 1, sizeof(text) - 2}, false, &err), 0);
}

Test(json_read, unescape)
{
    static const struct {
        const char *raw;
        struct atd_str text;
    } cases[] = {
        {"", {"", 0}},
        {"plain", {"plain", 5}},
        {"\\\"\\\\\\/\\b\\f\\n\\r\\t", {"\"\\/\b\f\n\r\t", 8}},
        {"a\\u0000b\\u007f", {"a\0b\x7f", 4}},
        {"\\u00e9\\u20AC\\ud83d\\uDE80!", {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x9a\x80!", 10}},
        {"\\ud800x\\udc00", {"\xef\xbf\xbdx\xef\xbf\xbd", 7}},
        {"\\ud800\\ud83d\\ude80", {"\xef\xbf\xbd\xf0\x9f\x9a\x80", 7}},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        atd_auto_buf struct atd_buf out = ATD_BUF_INIT(100);
        atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1000);
        atd_auto_free uint8_t *copy = exact_copy(cases[i].raw, strlen(cases[i].raw));
        struct atd_str raw = {(const char *)copy, strlen(cases[i].raw)};
        struct atd_str text = atd_json_unescape_in(raw, &arena);

        atd_json_unescape(raw, &out);
        cr_assert(atd_str_equal(atd_buf_str(&out), cases[i].text), "case %zu", i);
        cr_assert(text.ptr && atd_str_equal(text, cases[i].text), "case %zu", i);
    }
    cr_assert(atd_json_raw_equals(ATD_STR("n\\u0061me"), "name"));
    cr_assert_not(atd_json_raw_equals(ATD_STR("name\\u0000"), "name"));
    cr_assert_not(atd_json_raw_equals(ATD_STR("nam"), "name"));
    cr_assert_not(atd_json_raw_equals(ATD_STR("names"), "name"));
}

Test(json_read, numbers)
{
    int64_t i64;
    uint64_t u64;
    double real;

    cr_assert(atd_json_as_i64(ATD_STR("-9223372036854775808"), &i64) && i64 == INT64_MIN);
    cr_assert(atd_json_as_i64(ATD_STR("9223372036854775807"), &i64) && i64 == INT64_MAX);
    cr_assert_not(atd_json_as_i64(ATD_STR("-9223372036854775809"), &i64));
    cr_assert_not(atd_json_as_i64(ATD_STR("9223372036854775808"), &i64));
    cr_assert(atd_json_as_i64(ATD_STR("-0"), &i64) && i64 == 0);
    cr_assert(atd_json_as_u64(ATD_STR("18446744073709551615"), &u64) && u64 == UINT64_MAX);
    cr_assert_not(atd_json_as_u64(ATD_STR("18446744073709551616"), &u64));
    cr_assert_not(atd_json_as_u64(ATD_STR("1.0"), &u64));
    cr_assert_not(atd_json_is_integer(ATD_STR("1e5")));
    cr_assert(atd_json_as_double(ATD_STR("-1.5e-3"), &real) && real == -1.5e-3);
    cr_assert(atd_json_as_double(ATD_STR("-0.0"), &real) && signbit(real));
    cr_assert_not(atd_json_as_double(ATD_STR("1e400"), &real));
    cr_assert_not(atd_json_as_double(ATD_STR("NaN"), &real));
}

/* What strict reading takes jansson takes too, but for integers beyond 64 bits and NUL in keys. */
Test(json_read, agrees_with_jansson)
{
    static const char *const pieces[] = {"{",
                                         "}",
                                         "[",
                                         "]",
                                         ",",
                                         ":",
                                         "\"a\"",
                                         "1",
                                         "-0.5e1 ",
                                         "true",
                                         "null",
                                         " ",
                                         "\"\\u00e9\\n\"",
                                         "x",
                                         "\"b\""};
    uint32_t seed = 1;
    size_t good = 0;

    for (size_t round = 0; round < 200000; round++) {
        atd_auto_buf struct atd_buf text = ATD_BUF_INIT(1000);
        json_error_t error;
        json_t *json;
        bool here;

        atd_buf_append_text(&text, round % 2 ? "[" : "{");
        for (size_t i = 0; i < round % 9; i++) {
            seed = seed * 1664525u + 1013904223u;
            atd_buf_append_text(&text, pieces[(seed >> 16) % (sizeof(pieces) / sizeof(pieces[0]))]);
        }
        atd_buf_append_text(&text, round % 2 ? "]" : "}");
        here = read_all(atd_buf_str(&text), false, NULL) == 0;
        json = json_loadb((const char *)text.ptr, text.len, JSON_ALLOW_NUL, &error);
        cr_assert_eq(here, json != NULL, "%s: here %d", (const char *)text.ptr, here);
        good += here;
        json_decref(json);
    }
    cr_assert_gt(good, 1000, "%zu", good);
}

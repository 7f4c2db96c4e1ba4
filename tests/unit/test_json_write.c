#include <criterion/criterion.h>
#include <errno.h>
#include <float.h>

#include "base/cleanup.h"
#include "codec/json_write.h"

static void write_sample(struct atd_json_writer *json)
{
    atd_json_object_begin(json);
    atd_json_key(json, "a");
    atd_json_array_begin(json);
    atd_json_int(json, INT64_MIN);
    atd_json_uint(json, UINT64_MAX);
    atd_json_array_begin(json);
    atd_json_array_end(json);
    atd_json_object_begin(json);
    atd_json_object_end(json);
    atd_json_array_end(json);
    atd_json_key_str(json, ATD_STR("b\"\xc3\xa9"));
    atd_json_object_begin(json);
    atd_json_key(json, "c");
    atd_json_null(json);
    atd_json_key(json, "d");
    atd_json_bool(json, true);
    atd_json_object_end(json);
    atd_json_key(json, "e");
    atd_json_raw(json, ATD_STR("1.50"));
    atd_json_object_end(json);
}

Test(json_write, styles)
{
    static const struct {
        enum atd_json_style style;
        unsigned indent;
        const char *text;
    } cases[] = {
        {ATD_JSON_LINE, 0,
         "{\"a\": [-9223372036854775808, 18446744073709551615, [], {}], "
         "\"b\\\"\\u00e9\": {\"c\": null, \"d\": true}, \"e\": 1.50}"},
        {ATD_JSON_TIGHT, 0,
         "{\"a\":[-9223372036854775808,18446744073709551615,[],{}],"
         "\"b\\\"\xc3\xa9\":{\"c\":null,\"d\":true},\"e\":1.50}"},
        {ATD_JSON_PRETTY, 0,
         "{\n  \"a\": [\n    -9223372036854775808,\n    18446744073709551615,\n    [],\n    {}\n"
         "  ],\n  \"b\\\"\xc3\xa9\": {\n    \"c\": null,\n    \"d\": true\n  },\n  \"e\": 1.50\n}"},
        {ATD_JSON_PRETTY, 2,
         "{\n    \"a\": [\n      -9223372036854775808,\n      18446744073709551615,\n      [],\n"
         "      {}\n    ],\n    \"b\\\"\xc3\xa9\": {\n      \"c\": null,\n      \"d\": true\n    "
         "},\n"
         "    \"e\": 1.50\n  }"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        atd_auto_buf struct atd_buf out = ATD_BUF_INIT(4096);
        struct atd_json_writer json;

        atd_json_init(&json, &out, cases[i].style);
        json.indent = cases[i].indent;
        write_sample(&json);
        cr_assert_str_eq((const char *)out.ptr, cases[i].text);
    }
}

/* Else each of a thousand levels costs its depth on every line. */
Test(json_write, indentation_stops_at_64_blanks)
{
    static const struct {
        unsigned indent;
        unsigned levels;
        size_t blanks;
    } cases[] = {{0, 31, 62}, {0, 32, 64}, {0, 33, 64}, {0, ATD_JSON_DEPTH_MAX, 64}, {3, 31, 64}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        atd_auto_buf struct atd_buf out = ATD_BUF_INIT(1 << 20);
        struct atd_json_writer json;
        const char *last;

        atd_json_init(&json, &out, ATD_JSON_PRETTY);
        json.indent = cases[i].indent;
        for (unsigned level = 0; level < cases[i].levels; level++)
            atd_json_array_begin(&json);
        atd_json_int(&json, 7);
        last = strrchr((const char *)out.ptr, '\n') + 1;
        cr_assert_eq(strspn(last, " "), cases[i].blanks, "case %zu: %zu", i, strspn(last, " "));
        cr_assert_str_eq(last + cases[i].blanks, "7");
    }
}

/* The expected texts are json.dumps(..., ensure_ascii=True) and False of Python 3.12. */
Test(json_write, strings)
{
    static const struct {
        struct atd_str text;
        const char *ascii;
        const char *utf8;
    } cases[] = {
        {{"", 0}, "\"\"", "\"\""},
        {{"\"\\/", 3}, "\"\\\"\\\\/\"", "\"\\\"\\\\/\""},
        {{"\0\x01\b\t\n\v\f\r\x1f\x7f", 10},
         "\"\\u0000\\u0001\\b\\t\\n\\u000b\\f\\r\\u001f\\u007f\"",
         "\"\\u0000\\u0001\\b\\t\\n\\u000b\\f\\r\\u001f\x7f\""},
        {{"d\xc3\xa9", 3}, "\"d\\u00e9\"", "\"d\xc3\xa9\""},
        {{"\xf0\x9f\x9a\x80\xe2\x80\xa8", 7},
         "\"\\ud83d\\ude80\\u2028\"",
         "\"\xf0\x9f\x9a\x80\xe2\x80\xa8\""},
        {{"\xf4\x8f\xbf\xbf", 4}, "\"\\udbff\\udfff\"", "\"\xf4\x8f\xbf\xbf\""},
        /* Not from Python, which has no such text: a replacement character for each bad byte. */
        {{"a\xff\xc3z\xed\xa0\x80", 7},
         "\"a\\ufffd\\ufffdz\\ufffd\\ufffd\\ufffd\"",
         "\"a\xef\xbf\xbd\xef\xbf\xbdz\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        atd_auto_buf struct atd_buf out = ATD_BUF_INIT(4096);
        struct atd_json_writer json;

        atd_json_init(&json, &out, ATD_JSON_LINE);
        atd_json_str(&json, cases[i].text);
        cr_assert_str_eq((const char *)out.ptr, cases[i].ascii);
        atd_buf_clear(&out);
        atd_json_init(&json, &out, ATD_JSON_PRETTY);
        atd_json_str(&json, cases[i].text);
        cr_assert_str_eq((const char *)out.ptr, cases[i].utf8);
        atd_buf_clear(&out);
        atd_json_init(&json, &out, ATD_JSON_TIGHT);
        atd_json_array_begin(&json);
        atd_json_str(&json, cases[i].text);
        atd_json_array_end(&json);
        cr_assert_eq(out.len, strlen(cases[i].utf8) + 2);
    }
}

Test(json_write, floats_are_short_exact_and_stay_floats)
{
    static const struct {
        double value;
        const char *text;
    } cases[] = {
        {0.0, "0.0"},
        {-0.0, "-0.0"},
        {1.0, "1.0"},
        {100.0, "100.0"},
        {0.1, "0.1"},
        {0.1 + 0.2, "0.30000000000000004"},
        {1.0 / 3, "0.3333333333333333"},
        {1e16, "1e+16"},
        {1e22, "1e+22"},
        {1e-7, "1e-07"},
        {2.5, "2.5"},
        {5e-324, "5e-324"},
        {DBL_MAX, "1.7976931348623157e+308"},
        {DBL_MIN, "2.2250738585072014e-308"},
        {9007199254740993.0, "9007199254740992.0"},
        {123456.789, "123456.789"},
        {-1.5e300, "-1.5e+300"},
        {2.2250738585072011e-308, "2.225073858507201e-308"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        atd_auto_buf struct atd_buf out = ATD_BUF_INIT(4096);
        struct atd_json_writer json;
        double back;

        atd_json_init(&json, &out, ATD_JSON_LINE);
        atd_json_float(&json, cases[i].value);
        cr_assert_str_eq((const char *)out.ptr, cases[i].text);
        back = strtod((const char *)out.ptr, NULL);
        cr_assert_arr_eq(&back, &cases[i].value, sizeof(back), "%s", (const char *)out.ptr);
    }
}

Test(json_write, a_full_buffer_fails_quietly)
{
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(20);
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_json_writer json;

    atd_json_init(&json, &out, ATD_JSON_PRETTY);
    write_sample(&json);
    cr_assert_eq(atd_buf_finish(&out, "text", &err), -EFBIG);
    cr_assert_leq(out.len, 20);
}

Test(json_write, as_deep_as_it_says)
{
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(1 << 20);
    struct atd_json_writer json;

    atd_json_init(&json, &out, ATD_JSON_TIGHT);
    for (int i = 0; i < ATD_JSON_DEPTH_MAX; i++)
        atd_json_array_begin(&json);
    for (int i = 0; i < ATD_JSON_DEPTH_MAX; i++)
        atd_json_array_end(&json);
    cr_assert_eq(out.len, 2 * ATD_JSON_DEPTH_MAX);
    cr_assert_eq(json.depth, 0);
}

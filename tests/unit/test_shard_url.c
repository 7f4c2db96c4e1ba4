#include "atdata/shard_url.h"

#include <errno.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "codec/brace_pattern.h"
#include "vectors.h"

Test(shard_url, classification)
{
    static const struct {
        const char *text;
        enum atd_url_scheme scheme;
        const char *scheme_text, *bucket, *key, *path, *last;
    } cases[] = {
        {"s3://b/k.tar", ATD_URL_S3, "s3", "b", "k.tar", "", "k.tar"},
        {"S3://b/a//b/../k.tar", ATD_URL_S3, "S3", "b", "a//b/../k.tar", "", "k.tar"},
        {"s3://b//k", ATD_URL_S3, "s3", "b", "/k", "", "k"},
        {"s3://b/dir/", ATD_URL_S3, "s3", "b", "dir/", "", ""},
        {"s3://b/a%2Fb?x#y.tar", ATD_URL_S3, "s3", "b", "a%2Fb?x#y.tar", "", "a%2Fb?x#y.tar"},
        {"http://h/a/b.tar", ATD_URL_HTTP, "http", "", "", "", "b.tar"},
        {"HTTPS://h:9/b.tar?sig=a/b.c#f", ATD_URL_HTTP, "HTTPS", "", "", "", "b.tar"},
        {"https://h", ATD_URL_HTTP, "https", "", "", "", ""},
        {"https://h?x=/y", ATD_URL_HTTP, "https", "", "", "", ""},
        {"https://h/", ATD_URL_HTTP, "https", "", "", "", ""},
        {"/a/../b", ATD_URL_LOCAL, "", "", "", "/a/../b", "b"},
        {"/d/x%20y.tar", ATD_URL_LOCAL, "", "", "", "/d/x%20y.tar", "x%20y.tar"},
        {"/d/a:b.tar", ATD_URL_LOCAL, "", "", "", "/d/a:b.tar", "a:b.tar"},
        {"/", ATD_URL_LOCAL, "", "", "", "/", ""},
        {"file:/p/x.tar", ATD_URL_LOCAL, "file", "", "", "/p/x.tar", "x.tar"},
        {"file:///p/x.tar", ATD_URL_LOCAL, "file", "", "", "/p/x.tar", "x.tar"},
        {"FILE://LocalHost/p/x.tar", ATD_URL_LOCAL, "FILE", "", "", "/p/x.tar", "x.tar"},
        {"file:///p/a%20b%2Fc%zz%4", ATD_URL_LOCAL, "file", "", "", "/p/a b/c%zz%4", "c%zz%4"},
        {"file:////p", ATD_URL_LOCAL, "file", "", "", "//p", "p"},
        {"file:p/x.tar", ATD_URL_RELATIVE, "file", "", "", "p/x.tar", "x.tar"},
        {"file:%2Fp", ATD_URL_RELATIVE, "file", "", "", "/p", "p"},
        {"bucket/hive/x.tar", ATD_URL_RELATIVE, "", "", "", "bucket/hive/x.tar", "x.tar"},
        {"x.tar", ATD_URL_RELATIVE, "", "", "", "x.tar", "x.tar"},
        {"./a:b", ATD_URL_RELATIVE, "", "", "", "./a:b", "a:b"},
        {"C:\\x", ATD_URL_RELATIVE, "", "", "", "C:\\x", "C:\\x"},
        {"-", ATD_URL_RELATIVE, "", "", "", "-", "-"},
        {"1a:b", ATD_URL_RELATIVE, "", "", "", "1a:b", "1a:b"},
        {"pipe:cat /d/x.tar", ATD_URL_OTHER, "pipe", "", "", "", "x.tar"},
        {"gs://b/k.tar", ATD_URL_OTHER, "gs", "", "", "", "k.tar"},
        {"at://did:plc:x/blob/cid", ATD_URL_OTHER, "at", "", "", "", "cid"},
        {"s3x://b/k", ATD_URL_OTHER, "s3x", "", "", "", "k"},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1000);
        struct atd_error err = ATD_ERROR_INIT;
        struct atd_shard_url url;

        cr_assert_eq(atd_shard_url_parse(atd_str_from(cases[i].text), &arena, &url, &err), 0,
                     "%s: %s", cases[i].text, err.text);
        cr_assert_eq(url.scheme, cases[i].scheme, "%s", cases[i].text);
        cr_assert(atd_str_equal(url.text, atd_str_from(cases[i].text)));
        cr_assert(atd_str_equal(url.scheme_text, atd_str_from(cases[i].scheme_text)), "%s",
                  cases[i].text);
        cr_assert(atd_str_equal(url.bucket, atd_str_from(cases[i].bucket)), "%s", cases[i].text);
        cr_assert(atd_str_equal(url.key, atd_str_from(cases[i].key)), "%s", cases[i].text);
        cr_assert(atd_str_equal(url.path, atd_str_from(cases[i].path)), "%s", cases[i].text);
        cr_assert(atd_str_equal(url.last, atd_str_from(cases[i].last)), "%s", cases[i].text);
    }
}

Test(shard_url, refusals)
{
    const struct {
        struct atd_str text;
        const char *error;
    } cases[] = {
        {ATD_STR(""), "url is empty"},
        {ATD_STR("/a\0b"), "url '/a' holds a NUL"},
        {ATD_STR("/ab\xff"), "url '/ab?' is not UTF-8 at byte 3"},
        {ATD_STR("s3:b/k"), "url 's3:b/k' has no // after its scheme"},
        {ATD_STR("s3://"), "url 's3://' names no bucket"},
        {ATD_STR("s3:///k"), "url 's3:///k' names no bucket"},
        {ATD_STR("s3://b"), "url 's3://b' names no object in its bucket"},
        {ATD_STR("s3://b/"), "url 's3://b/' names no object in its bucket"},
        {ATD_STR("http:/h/x"), "url 'http:/h/x' has no // after its scheme"},
        {ATD_STR("http://"), "url 'http://' names no host"},
        {ATD_STR("http:///x"), "url 'http:///x' names no host"},
        {ATD_STR("http://?x"), "url 'http://' names no host"},
        {ATD_STR("file:"), "url 'file:' names no path"},
        {ATD_STR("file://"), "url 'file://' names no path"},
        {ATD_STR("file://localhost"), "url 'file://localhost' names no path"},
        {ATD_STR("file://host/p"), "url 'file://host/p' names a file of another host"},
        {ATD_STR("file:///p%00q"),
         "url 'file:///p%00q' stands for a path with NUL or invalid UTF-8"},
        {ATD_STR("file:///p%FF"), "url 'file:///p%FF' stands for a path with NUL or invalid UTF-8"},
    };
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1000);
    struct atd_arena none = ATD_ARENA_INIT(0);
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_shard_url url = {.scheme = ATD_URL_OTHER, .last = ATD_STR("as before")};

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        cr_assert_eq(atd_shard_url_parse(cases[i].text, &arena, &url, &err), -EINVAL, "case %zu",
                     i);
        cr_assert_str_eq(err.text, cases[i].error);
    }
    cr_assert_eq(atd_shard_url_parse(ATD_STR("file:/%41"), &none, &url, &err), -ENOMEM);
    cr_assert(atd_str_equal(url.last, ATD_STR("as before")));
}

/* Signed URLs and passwords stay out of errors, which end in logs. */
Test(shard_url, errors_hide_secrets)
{
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"http://?sig=SECRET", "url 'http://' names no host"},
        {"http:///x#SECRET", "url 'http:///x' names no host"},
        {"s3://b?SECRET", "url 's3://b' names no object in its bucket"},
        {"s3://me:SECRET@b", "url 's3://***@b' names no object in its bucket"},
        {"s3:me:SECRET@b/k", "url 's3:***@b/k' has no // after its scheme"},
        {"http:/me:SECRET@h/x?SECRET", "url 'http:/***@h/x' has no // after its scheme"},
        {"file://me:SECRET@h/a@b", "url 'file://***@h/a@b' names a file of another host"},
        {"file://SECRET@SECRET?@h/p", "url 'file://***@h/p' names a file of another host"},
        {"https://me:SECRET@h/\xff", "url 'https://***@h/?' is not UTF-8 at byte 20"},
        {"https://h/a?SECRET\xff", "url 'https://h/a' is not UTF-8 at byte 18"},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1000);
        struct atd_error err = ATD_ERROR_INIT;
        struct atd_shard_url url;

        cr_assert_eq(atd_shard_url_parse(atd_str_from(cases[i].text), &arena, &url, &err), -EINVAL);
        cr_assert_str_eq(err.text, cases[i].error);
    }
}

/* The texts of a pattern, checked against a JSON array. */
static void check_pattern(struct atd_str pattern, const json_t *expected)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1 << 20);
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(1000);
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_brace_pattern *read = NULL;
    uint64_t work_left = 1u << 20;

    cr_assert_eq(atd_brace_is_balanced(pattern, NULL), json_is_array(expected), "'%s'",
                 pattern.ptr);
    if (!json_is_array(expected))
        return;
    cr_assert_eq(atd_brace_pattern_read(pattern, 1000, &arena, &read, &err), 0, "'%s': %s",
                 pattern.ptr, err.text);
    cr_assert_eq(atd_brace_pattern_count(read), json_array_size(expected), "'%s': %zu", pattern.ptr,
                 atd_brace_pattern_count(read));
    for (size_t i = 0; i < json_array_size(expected); i++) {
        const json_t *item = json_array_get(expected, i);
        struct atd_str wanted = {json_string_value(item), json_string_length(item)};

        atd_buf_clear(&text);
        cr_assert(atd_brace_pattern_text(read, i, &work_left, &text));
        cr_assert(atd_str_equal(atd_buf_str(&text), wanted), "'%s' text %zu: '%s', not '%s'",
                  pattern.ptr, i, (char *)text.ptr, wanted.ptr);
    }
    /* In any order, not only ascending. */
    for (size_t i = json_array_size(expected); i-- > 0;) {
        const json_t *item = json_array_get(expected, i);
        struct atd_str wanted = {json_string_value(item), json_string_length(item)};

        atd_buf_clear(&text);
        cr_assert(atd_brace_pattern_text(read, i, &work_left, &text));
        cr_assert(atd_str_equal(atd_buf_str(&text), wanted), "'%s' text %zu", pattern.ptr, i);
    }
}

Test(brace_pattern, as_braceexpand_says)
{
    json_t *cases = load_json("vectors/braceexpand.json");
    size_t i;
    json_t *item;

    cr_assert_gt(json_array_size(cases), 700);
    json_array_foreach(cases, i, item)
        check_pattern(json_member_str(item, "pattern"), json_object_get(item, "results"));
    json_decref(cases);
}

/* Where Python counts on with its own integers and digits, a group here stays as it is. */
Test(brace_pattern, numbers_beyond_18_digits_and_ascii_are_text)
{
    static const char *const literals[] = {
        "{1..1000000000000000000}",
        "{-9999999999999999999..1}",
        "{1..2..9999999999999999999}",
        "{\xd9\xa1..\xd9\xa3}",
    };
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1 << 20);
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(1000);
    struct atd_brace_pattern *read = NULL;
    uint64_t work_left = 1u << 20;

    for (size_t i = 0; i < ATD_ARRAY_LEN(literals); i++) {
        cr_assert_eq(atd_brace_pattern_read(atd_str_from(literals[i]), 10, &arena, &read, NULL), 0);
        cr_assert_eq(atd_brace_pattern_count(read), 1);
        cr_assert_not(atd_brace_pattern_varies(read));
        atd_buf_clear(&text);
        cr_assert(atd_brace_pattern_text(read, 0, &work_left, &text));
        cr_assert_str_eq((char *)text.ptr, literals[i]);
    }
    cr_assert_eq(
        atd_brace_pattern_read(ATD_STR("{00000000000000000000001..3}"), 10, &arena, &read, NULL),
        0);
    cr_assert_eq(atd_brace_pattern_count(read), 3);
    cr_assert_eq(atd_brace_pattern_read(
                     ATD_STR("{-999999999999999999..999999999999999999..999999999999999999}"), 10,
                     &arena, &read, NULL),
                 0);
    cr_assert_eq(atd_brace_pattern_count(read), 3);
}

/* Expands `element` alone; the results joined with '|'. */
static int expand(struct atd_str element, size_t max_count, atd_url_is_literal is_literal,
                  struct atd_buf *out, struct atd_error *err)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(256u << 20);
    struct atd_str *urls = NULL;
    size_t count = 0;
    int rc =
        atd_shard_urls_expand(&element, 1, max_count, is_literal, NULL, &arena, &urls, &count, err);

    atd_buf_clear(out);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        if (i)
            atd_buf_append_byte(out, '|');
        atd_buf_append_str(out, urls[i]);
    }
    return rc;
}

Test(url_expand, elements)
{
    static const struct {
        const char *element, *urls;
    } cases[] = {
        {"", ""},
        {"s3://b/k.tar", "s3://b/k.tar"},
        {"/d/{0..2}.tar", "/d/0.tar|/d/1.tar|/d/2.tar"},
        {"s3://b/{a,b}.tar", "s3://b/a.tar|s3://b/b.tar"},
        {"pipe:cat /d/{0..1}.tar", "pipe:cat /d/0.tar|pipe:cat /d/1.tar"},
        /* The library takes s3:// as it stands, and everything else through braceexpand. */
        {"s3://b/a\\b{c}.tar", "s3://b/a\\b{c}.tar"},
        {"/d/a\\b\\{c.tar", "/d/ab{c.tar"},
        {"/d/{a}.tar", "/d/{a}.tar"},
        {"/d/{a", "/d/{a"},
        {"/d/a\\}{b", "/d/a\\}{b"},
        /* Lists joined with blanks. */
        {"/d/a.tar /d/ab.tar", "/d/a.tar|/d/ab.tar"},
        {"s3://b/1.tar s3://b/11.tar s3://b/1.tar", "s3://b/1.tar|s3://b/11.tar|s3://b/1.tar"},
        {"/d/a.tar http://h/x.tar", "/d/a.tar|http://h/x.tar"},
        {"/d/a.tar file:/d/b.tar", "/d/a.tar|file:/d/b.tar"},
        {"/d/a-{0..1}.tar /d/b.tar", "/d/a-0.tar|/d/a-1.tar|/d/b.tar"},
        {"/d/{a b,c d}.tar", "/d/a b.tar|/d/c d.tar"},
        {"/my data/a.tar", "/my data/a.tar"},
        {"/my /data.tar", "/my /data.tar"},
        {"/d/a.tar b.tar", "/d/a.tar b.tar"},
        {"/d/a.tar ", "/d/a.tar "},
        {" /d/a.tar", " /d/a.tar"},
        {"/d/a.tar  /d/b.tar", "/d/a.tar  /d/b.tar"},
        {"/d/a.tar /d/b", "/d/a.tar /d/b"},
        {"/d.x/a /d/b.tar", "/d.x/a /d/b.tar"},
        {"pipe:cat.sh /d/a.tar", "pipe:cat.sh /d/a.tar"},
        {"/d/{a.tar /d/b.tar", "/d/{a.tar /d/b.tar"},
        {"/d/a\\ b.tar", "/d/a b.tar"},
    };
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(1000);
    struct atd_error err = ATD_ERROR_INIT;

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        cr_assert_eq(expand(atd_str_from(cases[i].element), 100, NULL, &out, &err), 0, "%s: %s",
                     cases[i].element, err.text);
        cr_assert(atd_str_equal(atd_buf_str(&out), atd_str_from(cases[i].urls)), "'%s': '%s'",
                  cases[i].element, (char *)out.ptr);
    }
}

static bool every_file_exists(void *ctx, struct atd_str element)
{
    cr_assert_null(ctx);
    return !atd_str_ends_with(element, ATD_STR(".missing"));
}

Test(url_expand, an_existing_file_is_no_pattern)
{
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(1000);

    cr_assert_eq(expand(ATD_STR("/d/{a,b}.tar"), 10, every_file_exists, &out, NULL), 0);
    cr_assert_str_eq((char *)out.ptr, "/d/{a,b}.tar");
    cr_assert_eq(expand(ATD_STR("file:/d/{a,b}.tar"), 10, every_file_exists, &out, NULL), 0);
    cr_assert_str_eq((char *)out.ptr, "file:/d/{a,b}.tar");
    cr_assert_eq(expand(ATD_STR("/d/{a,b}.missing"), 10, every_file_exists, &out, NULL), 0);
    cr_assert_str_eq((char *)out.ptr, "/d/a.missing|/d/b.missing");
    /* Asked for local paths only. */
    cr_assert_eq(expand(ATD_STR("s3://b/{a,b}.tar"), 10, every_file_exists, &out, NULL), 0);
    cr_assert_str_eq((char *)out.ptr, "s3://b/a.tar|s3://b/b.tar");
}

Test(url_expand, order_duplicates_and_nothing)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(10000);
    const struct atd_str elements[] = {ATD_STR("b"), ATD_STR("{a,b}"), ATD_STR("b")};
    static const char *const expected[] = {"b", "a", "b", "b"};
    struct atd_str *urls = NULL;
    size_t count = 99;

    cr_assert_eq(atd_shard_urls_expand(elements, 3, 4, NULL, NULL, &arena, &urls, &count, NULL), 0);
    cr_assert_eq(count, 4);
    for (size_t i = 0; i < count; i++)
        cr_assert(atd_str_equal(urls[i], atd_str_from(expected[i])));
    cr_assert_eq(atd_shard_urls_expand(elements, 3, 3, NULL, NULL, &arena, &urls, &count, NULL),
                 -E2BIG);
    cr_assert_eq(count, 4);
    cr_assert_eq(atd_shard_urls_expand(NULL, 0, 4, NULL, NULL, &arena, &urls, &count, NULL), 0);
    cr_assert_eq(count, 0);
}

/* `unit` repeated `count` times between `before` and `after`. */
static struct atd_str repeat(struct atd_buf *text, const char *before, const char *unit,
                             size_t count, const char *after)
{
    atd_buf_clear(text);
    atd_buf_append_text(text, before);
    for (size_t i = 0; i < count; i++)
        atd_buf_append_text(text, unit);
    atd_buf_append_text(text, after);
    cr_assert_eq(text->failed, 0);
    return atd_buf_str(text);
}

Test(url_expand, hostile_patterns_end_fast, .timeout = 60)
{
    static const char *const explosions[] = {
        "{1..999999999}",
        "{1..999999999999999999}",
        "{-999999999999999999..999999999999999999}",
        "{1..1000000}{1..1000000}",
        "{{1..1000000},{1..1000000}}",
        "{1..1048577}",
        "{1..1024}{1..1024}{a,b}",
        "{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}",
        /* 64 MiB: a million texts of 100 bytes. */
        "{1..1000000}{a,b}"
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "{1..1000000}"
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "{00000000000000000000000000000000000000000000000000000000000000000000000000001..1000000}",
    };
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(32u << 20);
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(64u << 20);
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_str pattern;

    for (size_t i = 0; i < ATD_ARRAY_LEN(explosions); i++)
        cr_assert_eq(expand(atd_str_from(explosions[i]), 1u << 20, NULL, &out, &err), -E2BIG, "%s",
                     explosions[i]);
    /* Unbalanced: stays as it is, however deep. */
    pattern = repeat(&text, "", "{", 1000000, "");
    cr_assert_eq(expand(pattern, 10, NULL, &out, &err), 0);
    cr_assert_eq(out.len, 1000000);
    atd_buf_clear(&text);
    for (int i = 0; i < 65; i++)
        atd_buf_append_text(&text, "{a,");
    for (int i = 0; i < 65; i++)
        atd_buf_append_text(&text, "}");
    cr_assert_eq(expand(atd_buf_str(&text), 100, NULL, &out, &err), -E2BIG);
    cr_assert_not_null(strstr(err.text, "nests deeper than 64 braces"));
    /* 64 levels are fine. */
    cr_assert_eq(expand(atd_str_from_byte(atd_str_head(atd_buf_str(&text), text.len - 1), 3), 100,
                        NULL, &out, &err),
                 0);
    /* Long ones: text without end, a list of more than the maximum, ranges of one number each. */
    pattern = repeat(&text, "", "{a}", 3000000, "{1..3}");
    cr_assert_eq(expand(pattern, 1u << 20, NULL, &out, &err), 0);
    pattern = repeat(&text, "{", ",", 2000000, "}");
    cr_assert_eq(expand(pattern, 1u << 20, NULL, &out, &err), -E2BIG);
    pattern = repeat(&text, "{", "a,", 1000000, "}");
    cr_assert_eq(expand(pattern, 1u << 20, NULL, &out, &err), 0);
    pattern = repeat(&text, "{1..10}", "{1..1}", 1000000, "");
    cr_assert_eq(expand(pattern, 1u << 20, NULL, &out, &err), 0);
    cr_assert_eq(out.len, 10 * 1000001 + 1 + 9);
    pattern = repeat(&text, "", "{1..1}", 2500000, "");
    cr_assert_eq(expand(pattern, 1u << 20, NULL, &out, &err), -E2BIG);
    pattern = repeat(&text, "", "{a}", 6000000, "");
    cr_assert_eq(expand(pattern, 1u << 20, NULL, &out, &err), -E2BIG);
    cr_assert_not_null(strstr(err.text, "longer than 16777216 bytes"));
    pattern = repeat(&text, "/x.y", " /x.y", 2000000, "");
    cr_assert_eq(expand(pattern, 1u << 20, NULL, &out, &err), -E2BIG);
}

/* Patterns whose texts are short, but not the work of making them. */
Test(url_expand, patterns_that_shrink_end_fast, .timeout = 60)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(32u << 20);
    atd_auto_buf struct atd_buf inner = ATD_BUF_INIT(32u << 20);
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(64u << 20);
    static const size_t escape_counts[] = {500, 16384, 8u << 20};
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_str pattern;

    /* Every level of braces halves the backslashes. */
    for (size_t i = 0; i < ATD_ARRAY_LEN(escape_counts); i++) {
        atd_buf_clear(&inner);
        for (size_t n = 0; n < escape_counts[i]; n++)
            atd_buf_append_byte(&inner, '\\');
        pattern = repeat(&text, "/{1..1000000}", "{", 14, (char *)inner.ptr);
        atd_buf_append_text(&text, "}}}}}}}}}}}}}}");
        pattern = atd_buf_str(&text);
        cr_assert_eq(expand(pattern, 1u << 20, NULL, &out, &err), -E2BIG, "%zu", escape_counts[i]);
        cr_assert_str_eq(err.text, "data_urls: pattern takes too long to expand");
    }
    pattern = repeat(&text,
                     "{1..2}{1..2}{1..2}{1..2}{1..2}{1..2}{1..2}{1..2}{1..2}{1..2}"
                     "{1..2}{1..2}{1..2}{1..2}{1..2}{1..2}{1..2}{1..2}{1..2}{1..2}",
                     "{1..1}", 100000, "");
    cr_assert_eq(expand(pattern, 1u << 20, NULL, &out, &err), -E2BIG);
    cr_assert_str_eq(err.text, "data_urls: pattern takes too long to expand");
}

/* What is charged is counted for all elements together. */
Test(url_expand, work_adds_up_over_elements, .timeout = 60)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(1u << 20);
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(256u << 20);
    static struct atd_str elements[1000];
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_str *urls = NULL;
    size_t count = 0;

    repeat(&text, "{1..1000}{{{{{{{{{{", "\\", 1000, "}}}}}}}}}}");
    for (size_t i = 0; i < ATD_ARRAY_LEN(elements); i++)
        elements[i] = atd_buf_str(&text);
    cr_assert_eq(
        atd_shard_urls_expand(elements, 1, 1u << 20, NULL, NULL, &arena, &urls, &count, &err), 0);
    cr_assert_eq(count, 1000);
    cr_assert_eq(
        atd_shard_urls_expand(elements, 1000, 1u << 20, NULL, NULL, &arena, &urls, &count, &err),
        -E2BIG);
    cr_assert_str_eq(err.text, "data_urls: pattern takes too long to expand");
}

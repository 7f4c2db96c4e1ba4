#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "commands/output.h"
#include "commands/words.h"

#define TEXT_MAX 65536u
#define TEXT(literal)                \
    {                                \
        literal, sizeof(literal) - 1 \
    }

static const char *text_of(struct atd_buf *buf)
{
    return buf->ptr ? (const char *)buf->ptr : "";
}

Test(output, what_is_unsafe_is_escaped)
{
    static const struct {
        struct atd_str text;
        const char *shown;
        size_t width;
    } cases[] = {
        {TEXT("mnist"), "mnist", 5},
        {TEXT("a\nb"), "a\\x0ab", 6},
        {TEXT("\033[31m"), "\\x1b[31m", 8},
        {TEXT("a\0b"), "a\\x00b", 6},
        {TEXT("\xff"), "\\xff", 4},
        {TEXT("\xc2\x9b"), "\\xc2\\x9b", 8},               /* CSI in one byte */
        {TEXT("\xe2\x80\xae"), "\\xe2\\x80\\xae", 12},     /* right to left override */
        {TEXT("\xc3\xa4"), "\xc3\xa4", 1},                 /* a umlaut */
        {TEXT("a\xcc\x88"), "a\xcc\x88", 1},               /* the same, composed */
        {TEXT("\xe6\x95\xb0"), "\xe6\x95\xb0", 2},         /* a wide character */
        {TEXT("\xf0\x9f\x98\x80"), "\xf0\x9f\x98\x80", 2}, /* a picture */
        {TEXT("\xe6\x95"), "\\xe6\\x95", 8},               /* cut */
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        atd_auto_buf struct atd_buf out = ATD_BUF_INIT(TEXT_MAX);

        output_escape(&out, cases[i].text);
        cr_expect_str_eq(text_of(&out), cases[i].shown);
        cr_expect_eq(output_width(cases[i].text), cases[i].width, "case %zu", i);
    }
}

Test(output, tables_are_aligned)
{
    static const char *const titles[] = {"NAME", ">SIZE", "WHY"};
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(TEXT_MAX);
    struct output_table table;

    output_table_init(&table, ATD_ARRAY_LEN(titles), titles);
    output_cell_text(&table, OUTPUT_STRONG, "\xe6\x95\xb0");
    output_cell_size(&table, true, 5);
    output_cell_text(&table, OUTPUT_BAD, "gone");
    output_cell_text(&table, OUTPUT_STRONG, "long\nname");
    output_cell_size(&table, false, 5);
    output_cell_text(&table, OUTPUT_BAD, "");
    output_table_end(&table, &out);
    output_table_release(&table);
    cr_expect_str_eq(text_of(&out), "NAME          SIZE  WHY\n"
                                    "\xe6\x95\xb0             5 B  gone\n"
                                    "long\\x0aname     -\n");
}

Test(output, a_count_has_its_word)
{
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(TEXT_MAX);

    output_count(&out, 1, "shard", "shards");
    output_count(&out, 0, "shard", "shards");
    cr_expect_str_eq(text_of(&out), "1 shard0 shards");
}

static int in_words(const char *json, struct atd_buf *out)
{
    return words_write(atd_str_from(json), out, NULL);
}

Test(output, a_document_in_words)
{
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(TEXT_MAX);

    cr_assert_eq(
        in_words("{\"name\": \"a\\nb\", \"no\": [], \"problem_count\": 3, \"nil\": null,"
                 " \"on\": true, \"size\": 2048, \"urls\": [\"x\", 5],"
                 " \"index\": {\"kind\": \"redis\"},"
                 " \"shards\": [{\"file\": \"x.tar\", \"size\": 5}, {\"file\": null}, {}]}",
                 &out),
        0);
    cr_expect_str_eq(text_of(&out), "name                a\\x0ab\n"
                                    "no                  none\n"
                                    "problem count       3\n"
                                    "nil                 -\n"
                                    "on                  yes\n"
                                    "size                2.0 KiB (2048 bytes)\n"
                                    "urls\n"
                                    "  x\n"
                                    "  5\n"
                                    "index\n"
                                    "  kind              redis\n"
                                    "shards\n"
                                    "  x.tar\n"
                                    "    size            5\n"
                                    "  -\n"
                                    "    file            -\n"
                                    "  -\n");
}

Test(output, depth_has_an_end)
{
    atd_auto_buf struct atd_buf json = ATD_BUF_INIT(TEXT_MAX);
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(TEXT_MAX);

    for (int i = 0; i < 100; i++)
        atd_buf_append_text(&json, i % 2 ? "[" : "{\"k\":");
    atd_buf_append_text(&json, "1");
    for (int i = 99; i >= 0; i--)
        atd_buf_append_text(&json, i % 2 ? "]" : "}");
    cr_assert_eq(in_words(text_of(&json), &out), 0);
    cr_expect(strstr(text_of(&out), "[{\"k\":["), "%s", text_of(&out));
}

Test(output, arrays_in_arrays_have_an_end_too)
{
    atd_auto_buf struct atd_buf json = ATD_BUF_INIT(TEXT_MAX);
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(TEXT_MAX);

    atd_buf_append_text(&json, "{\"k\":");
    for (int i = 0; i < 400; i++)
        atd_buf_append_text(&json, "[");
    for (int i = 0; i < 400; i++)
        atd_buf_append_text(&json, "]");
    atd_buf_append_text(&json, "}");
    cr_assert_eq(in_words(text_of(&json), &out), 0);
}

Test(output, what_is_no_object_is_refused)
{
    static const char *const texts[] = {"", "[]", "5", "{", "{\"a\":1,}", "{} {}", "{\"a\":[}"};

    for (size_t i = 0; i < ATD_ARRAY_LEN(texts); i++) {
        atd_auto_buf struct atd_buf out = ATD_BUF_INIT(TEXT_MAX);

        cr_expect_eq(in_words(texts[i], &out), -EINVAL, "case %zu", i);
    }
}

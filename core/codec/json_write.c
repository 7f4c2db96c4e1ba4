#include "codec/json_write.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/utf8.h"

#define REPLACEMENT 0xfffdu

/* Indentation of 32 levels, and no more: else every line of a deep document costs its depth. */
static const char blanks[] = "                                                                ";

void atd_json_init(struct atd_json_writer *json, struct atd_buf *out, enum atd_json_style style)
{
    *json = (struct atd_json_writer){.out = out, .style = style};
}

static bool level_has_items(const struct atd_json_writer *json)
{
    unsigned level = json->depth - 1;

    return (json->has_items[level / 8] & (1u << (level % 8))) != 0;
}

static void set_level_has_items(struct atd_json_writer *json, bool has_items)
{
    unsigned level = json->depth - 1;
    uint8_t bit = (uint8_t)(1u << (level % 8));

    if (has_items)
        json->has_items[level / 8] |= bit;
    else
        json->has_items[level / 8] &= (uint8_t)~bit;
}

static void new_line(struct atd_json_writer *json)
{
    size_t count = json->indent + 2 * (size_t)json->depth;

    atd_buf_append_byte(json->out, '\n');
    if (count > sizeof(blanks) - 1)
        count = sizeof(blanks) - 1;
    atd_buf_append(json->out, blanks, count);
}

/* What stands before a key, or before a value that follows no key. */
static void begin_item(struct atd_json_writer *json)
{
    if (json->after_key) {
        json->after_key = false;
        return;
    }
    if (json->depth == 0)
        return;
    if (level_has_items(json))
        atd_buf_append_text(json->out, json->style == ATD_JSON_LINE ? ", " : ",");
    set_level_has_items(json, true);
    if (json->style == ATD_JSON_PRETTY)
        new_line(json);
}

static void open_level(struct atd_json_writer *json, uint8_t bracket)
{
    begin_item(json);
    atd_assert(json->depth < ATD_JSON_DEPTH_MAX);
    json->depth++;
    set_level_has_items(json, false);
    atd_buf_append_byte(json->out, bracket);
}

static void close_level(struct atd_json_writer *json, uint8_t bracket)
{
    bool had_items;

    atd_assert(json->depth > 0 && !json->after_key);
    had_items = level_has_items(json);
    json->depth--;
    if (had_items && json->style == ATD_JSON_PRETTY)
        new_line(json);
    atd_buf_append_byte(json->out, bracket);
}

void atd_json_object_begin(struct atd_json_writer *json)
{
    open_level(json, '{');
}

void atd_json_object_end(struct atd_json_writer *json)
{
    close_level(json, '}');
}

void atd_json_array_begin(struct atd_json_writer *json)
{
    open_level(json, '[');
}

void atd_json_array_end(struct atd_json_writer *json)
{
    close_level(json, ']');
}

static void write_ascii(struct atd_buf *out, uint32_t code)
{
    static const char letters[] = "btnvfr"; /* U+0008 to U+000D; \v is not JSON */

    if (code == '"' || code == '\\') {
        atd_buf_append_byte(out, '\\');
        atd_buf_append_byte(out, (uint8_t)code);
    } else if (code >= 8 && code <= 13 && code != 11) {
        atd_buf_append_byte(out, '\\');
        atd_buf_append_byte(out, (uint8_t)letters[code - 8]);
    } else {
        atd_buf_printf(out, "\\u%04x", (unsigned)code);
    }
}

static void write_escaped_code_point(struct atd_buf *out, uint32_t code)
{
    if (code >= 0x10000) {
        unsigned high = 0xd800u + ((code - 0x10000) >> 10);
        unsigned low = 0xdc00u + ((code - 0x10000) & 0x3ffu);

        atd_buf_printf(out, "\\u%04x\\u%04x", high, low);
    } else {
        atd_buf_printf(out, "\\u%04x", (unsigned)code);
    }
}

/*
 * json.dumps escapes, besides quotes and backslashes, everything outside ' ' to '~' when it writes
 * ASCII, and only U+0000 to U+001F when it does not. Source: Python's json.encoder.
 */
static void write_string(struct atd_json_writer *json, struct atd_str text)
{
    const uint8_t *bytes = (const uint8_t *)text.ptr;
    bool ascii_only = json->style == ATD_JSON_LINE;
    size_t plain = 0; /* first byte that is not written yet */
    size_t at = 0;

    atd_buf_append_byte(json->out, '"');
    while (at < text.len) {
        uint32_t code = REPLACEMENT;
        size_t step = atd_utf8_decode(bytes + at, text.len - at, &code);
        bool is_valid = step > 0;
        bool as_it_is =
            code >= 0x20 && code != '"' && code != '\\' && (ascii_only ? code < 0x7f : is_valid);

        if (as_it_is) {
            at += step;
            continue;
        }
        atd_buf_append(json->out, bytes + plain, at - plain);
        if (code < 0x80)
            write_ascii(json->out, code);
        else if (ascii_only)
            write_escaped_code_point(json->out, code);
        else
            atd_buf_append_text(json->out, "\xef\xbf\xbd");
        at += is_valid ? step : 1;
        plain = at;
    }
    if (text.len > plain)
        atd_buf_append(json->out, bytes + plain, text.len - plain);
    atd_buf_append_byte(json->out, '"');
}

void atd_json_key_str(struct atd_json_writer *json, struct atd_str key)
{
    atd_assert(json->depth > 0 && !json->after_key);
    begin_item(json);
    write_string(json, key);
    atd_buf_append_text(json->out, json->style == ATD_JSON_TIGHT ? ":" : ": ");
    json->after_key = true;
}

void atd_json_key(struct atd_json_writer *json, const char *key)
{
    atd_json_key_str(json, atd_str_from(key));
}

void atd_json_str(struct atd_json_writer *json, struct atd_str text)
{
    begin_item(json);
    write_string(json, text);
}

void atd_json_text(struct atd_json_writer *json, const char *text)
{
    atd_json_str(json, atd_str_from(text));
}

void atd_json_int(struct atd_json_writer *json, int64_t value)
{
    begin_item(json);
    atd_buf_printf(json->out, "%" PRId64, value);
}

void atd_json_uint(struct atd_json_writer *json, uint64_t value)
{
    begin_item(json);
    atd_buf_printf(json->out, "%" PRIu64, value);
}

/*
 * The fewest digits that read back equal. 15 digits survive a trip through any normal double, so
 * fewer need not be tried; subnormal ones hold less.
 */
static void format_shortest(double value, char *text, size_t size)
{
    int precision = fpclassify(value) == FP_SUBNORMAL ? 1 : 15;
    double back;

    do {
        (void)snprintf(text, size, "%.*g", precision, value);
        back = strtod(text, NULL);
        precision++;
    } while (precision <= 17 && memcmp(&back, &value, sizeof(back)) != 0);
}

void atd_json_float(struct atd_json_writer *json, double value)
{
    char text[40];
    bool looks_like_float = false;
    bool in_point = false;

    atd_assert(isfinite(value));
    begin_item(json);
    format_shortest(value, text, sizeof(text));
    for (const char *c = text; *c; c++) {
        bool known = (*c >= '0' && *c <= '9') || *c == '-' || *c == '+' || *c == 'e';

        /* Whatever else printf writes is the locale's decimal point, of one byte or several. */
        if (known)
            atd_buf_append_byte(json->out, (uint8_t)*c);
        else if (!in_point)
            atd_buf_append_byte(json->out, '.');
        in_point = !known;
        looks_like_float = looks_like_float || !known || *c == 'e';
    }
    if (!looks_like_float)
        atd_buf_append_text(json->out, ".0");
}

void atd_json_bool(struct atd_json_writer *json, bool value)
{
    atd_json_raw(json, value ? ATD_STR("true") : ATD_STR("false"));
}

void atd_json_null(struct atd_json_writer *json)
{
    atd_json_raw(json, ATD_STR("null"));
}

void atd_json_raw(struct atd_json_writer *json, struct atd_str text)
{
    begin_item(json);
    atd_buf_append_str(json->out, text);
}

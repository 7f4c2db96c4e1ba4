#include "codec/json_read.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/utf8.h"

#define REPLACEMENT 0xfffdu
/* The longest number that strtod gets to see; more digits than any double needs to round right. */
#define NUMBER_TEXT_MAX 1100u

void atd_json_reader_init(struct atd_json_reader *reader, struct atd_str text, size_t start,
                          bool lenient)
{
    *reader = (struct atd_json_reader){.text = text, .lenient = lenient, .at = start};
}

int atd_json_error(struct atd_str text, size_t offset, int code, struct atd_error *err,
                   const char *what)
{
    size_t line = 1;
    size_t column = 1;

    for (size_t i = 0; i < offset && i < text.len; i++) {
        if (text.ptr[i] == '\n') {
            line++;
            column = 1;
        } else if (((uint8_t)text.ptr[i] & 0xc0) != 0x80) {
            column++;
        }
    }
    return atd_error_set(err, code, "%s at line %zu column %zu", what, line, column);
}

static int fail(const struct atd_json_reader *reader, size_t offset, struct atd_error *err,
                const char *what)
{
    return atd_json_error(reader->text, offset, EINVAL, err, what);
}

/* The byte at `at`, or 0 past the end; a real NUL is legal nowhere outside escapes. */
static char peek(const struct atd_json_reader *reader)
{
    return reader->at < reader->text.len ? reader->text.ptr[reader->at] : '\0';
}

static void skip_blanks(struct atd_json_reader *reader)
{
    while (peek(reader) == ' ' || peek(reader) == '\t' || peek(reader) == '\n' ||
           peek(reader) == '\r')
        reader->at++;
}

static bool in_object(const struct atd_json_reader *reader)
{
    unsigned level = reader->depth - 1;

    return (reader->is_object[level / 8] & (1u << (level % 8))) != 0;
}

static int open_container(struct atd_json_reader *reader, struct atd_json_token *token,
                          struct atd_error *err)
{
    bool object = peek(reader) == '{';
    unsigned level = reader->depth;
    uint8_t bit = (uint8_t)(1u << (level % 8));

    if (level == ATD_JSON_READ_DEPTH_MAX)
        return atd_json_error(reader->text, reader->at, E2BIG, err, "too many levels of nesting");
    if (object)
        reader->is_object[level / 8] |= bit;
    else
        reader->is_object[level / 8] &= (uint8_t)~bit;
    reader->depth++;
    reader->at++;
    reader->expect = object ? ATD_JSON_EXPECT_KEY_OR_END : ATD_JSON_EXPECT_VALUE_OR_END;
    token->type = object ? ATD_JSON_OBJECT : ATD_JSON_ARRAY;
    token->raw = (struct atd_str){reader->text.ptr + token->offset, 1};
    return 0;
}

static void after_value(struct atd_json_reader *reader)
{
    reader->expect = reader->depth ? ATD_JSON_EXPECT_COMMA_OR_END : ATD_JSON_EXPECT_NOTHING;
}

static void close_container(struct atd_json_reader *reader, struct atd_json_token *token)
{
    token->type = in_object(reader) ? ATD_JSON_OBJECT_END : ATD_JSON_ARRAY_END;
    token->raw = (struct atd_str){reader->text.ptr + reader->at, 1};
    reader->depth--;
    reader->at++;
    after_value(reader);
}

/* Four hex digits at `at`, or -1. */
static int32_t hex4(struct atd_str text, size_t at)
{
    int32_t value = 0;

    if (text.len < at || text.len - at < 4)
        return -1;
    for (size_t i = 0; i < 4; i++) {
        char c = text.ptr[at + i];

        if (c >= '0' && c <= '9')
            value = value << 4 | (c - '0');
        else if (c >= 'a' && c <= 'f')
            value = value << 4 | (c - 'a' + 10);
        else if (c >= 'A' && c <= 'F')
            value = value << 4 | (c - 'A' + 10);
        else
            return -1;
    }
    return value;
}

/*
 * The escape that begins at text[at], a backslash. Returns its length, or 0 for none. A lone
 * surrogate gives its own code.
 */
static size_t read_escape(struct atd_str text, size_t at, uint32_t *ret_code)
{
    static const char letters[] = "\"\\/bfnrt";
    static const char values[] = "\"\\/\b\f\n\r\t";
    const char *hit;
    int32_t code;
    int32_t low;

    if (text.len - at < 2)
        return 0;
    hit = text.ptr[at + 1] ? strchr(letters, text.ptr[at + 1]) : NULL;
    if (hit) {
        *ret_code = (uint8_t)values[hit - letters];
        return 2;
    }
    code = text.ptr[at + 1] == 'u' ? hex4(text, at + 2) : -1;
    if (code < 0)
        return 0;
    *ret_code = (uint32_t)code;
    if (code < 0xd800 || code > 0xdbff || text.len - at < 12 || text.ptr[at + 6] != '\\' ||
        text.ptr[at + 7] != 'u')
        return 6;
    low = hex4(text, at + 8);
    if (low < 0xdc00 || low > 0xdfff)
        return 6;
    *ret_code = 0x10000u + (((uint32_t)code - 0xd800u) << 10) + ((uint32_t)low - 0xdc00u);
    return 12;
}

static bool is_surrogate(uint32_t code)
{
    return code >= 0xd800 && code <= 0xdfff;
}

static int read_string(struct atd_json_reader *reader, struct atd_str *ret_raw,
                       struct atd_error *err)
{
    struct atd_str text = reader->text;
    size_t start = reader->at + 1;
    size_t at = start;

    while (at < text.len && text.ptr[at] != '"') {
        uint32_t code;
        size_t step;

        if ((uint8_t)text.ptr[at] < 0x20)
            return fail(reader, at, err, "control character in a string");
        if (text.ptr[at] == '\\') {
            step = read_escape(text, at, &code);
            if (step == 0)
                return fail(reader, at, err, "unknown escape in a string");
            if (is_surrogate(code) && !reader->lenient)
                return fail(reader, at, err, "half a surrogate pair in a string");
        } else {
            step = atd_utf8_step((const uint8_t *)text.ptr + at, text.len - at);
            if (step == 0)
                return fail(reader, at, err, "invalid utf-8");
        }
        at += step;
    }
    if (at >= text.len)
        return fail(reader, reader->at, err, "string without its closing quote");
    *ret_raw = (struct atd_str){text.ptr + start, at - start};
    reader->at = at + 1;
    return 0;
}

static size_t skip_digits(struct atd_json_reader *reader)
{
    size_t start = reader->at;

    while (peek(reader) >= '0' && peek(reader) <= '9')
        reader->at++;
    return reader->at - start;
}

static bool skip_word(struct atd_json_reader *reader, struct atd_str word)
{
    if (!atd_str_starts_with(atd_str_from_byte(reader->text, reader->at), word))
        return false;
    reader->at += word.len;
    return true;
}

static bool skip_number(struct atd_json_reader *reader)
{
    size_t first;

    if (reader->lenient && skip_word(reader, ATD_STR("NaN")))
        return true;
    if (peek(reader) == '-')
        reader->at++;
    if (reader->lenient && skip_word(reader, ATD_STR("Infinity")))
        return true;
    first = reader->at;
    if (skip_digits(reader) == 0 || (reader->text.ptr[first] == '0' && reader->at > first + 1))
        return false;
    if (peek(reader) == '.') {
        reader->at++;
        if (skip_digits(reader) == 0)
            return false;
    }
    if (peek(reader) == 'e' || peek(reader) == 'E') {
        reader->at++;
        if (peek(reader) == '+' || peek(reader) == '-')
            reader->at++;
        if (skip_digits(reader) == 0)
            return false;
    }
    return true;
}

static int read_value(struct atd_json_reader *reader, struct atd_json_token *token,
                      struct atd_error *err)
{
    int rc = 0;

    switch (peek(reader)) {
    case '{':
    case '[':
        return open_container(reader, token, err);
    case '"':
        token->type = ATD_JSON_STRING;
        rc = read_string(reader, &token->raw, err);
        if (rc == 0)
            after_value(reader);
        return rc;
    default:
        break;
    }
    if (reader->at >= reader->text.len)
        return fail(reader, reader->at, err, "text ends where a value is due");
    if (skip_word(reader, ATD_STR("true")))
        token->type = ATD_JSON_TRUE;
    else if (skip_word(reader, ATD_STR("false")))
        token->type = ATD_JSON_FALSE;
    else if (skip_word(reader, ATD_STR("null")))
        token->type = ATD_JSON_NULL;
    else if (skip_number(reader))
        token->type = ATD_JSON_NUMBER;
    else
        return fail(reader, token->offset, err, "no json value");
    token->raw = (struct atd_str){reader->text.ptr + token->offset, reader->at - token->offset};
    after_value(reader);
    return 0;
}

static int read_key(struct atd_json_reader *reader, struct atd_json_token *token,
                    struct atd_error *err)
{
    int rc;

    if (peek(reader) != '"')
        return fail(reader, reader->at, err, "no key in double quotes");
    token->type = ATD_JSON_KEY;
    rc = read_string(reader, &token->raw, err);
    if (rc < 0)
        return rc;
    skip_blanks(reader);
    if (peek(reader) != ':')
        return fail(reader, reader->at, err, "no ':' after a key");
    reader->at++;
    reader->expect = ATD_JSON_EXPECT_VALUE;
    return 0;
}

static int read_token(struct atd_json_reader *reader, struct atd_json_token *token,
                      struct atd_error *err)
{
    skip_blanks(reader);
    token->offset = reader->at;
    if (reader->expect == ATD_JSON_EXPECT_NOTHING) {
        if (reader->at < reader->text.len)
            return fail(reader, reader->at, err, "text after the end of the json value");
        token->type = ATD_JSON_END;
        return 0;
    }
    if (reader->expect == ATD_JSON_EXPECT_KEY_OR_END ||
        reader->expect == ATD_JSON_EXPECT_VALUE_OR_END ||
        reader->expect == ATD_JSON_EXPECT_COMMA_OR_END) {
        if (peek(reader) == (in_object(reader) ? '}' : ']')) {
            close_container(reader, token);
            return 0;
        }
    }
    if (reader->expect == ATD_JSON_EXPECT_COMMA_OR_END) {
        if (peek(reader) != ',')
            return fail(reader, reader->at, err, "no ',' or closing bracket");
        reader->at++;
        skip_blanks(reader);
        token->offset = reader->at;
        reader->expect = in_object(reader) ? ATD_JSON_EXPECT_KEY : ATD_JSON_EXPECT_VALUE;
    }
    if (reader->expect == ATD_JSON_EXPECT_KEY || reader->expect == ATD_JSON_EXPECT_KEY_OR_END)
        return read_key(reader, token, err);
    return read_value(reader, token, err);
}

int atd_json_next(struct atd_json_reader *reader, struct atd_json_token *ret_token,
                  struct atd_error *err)
{
    struct atd_json_token token = {.raw = ATD_STR("")};
    int rc = read_token(reader, &token, err);

    if (rc == 0)
        *ret_token = token;
    return rc;
}

int atd_json_skip_rest(struct atd_json_reader *reader, struct atd_error *err)
{
    unsigned outside = reader->depth - 1;

    atd_assert(reader->depth > 0);
    while (reader->depth > outside) {
        struct atd_json_token token;
        int rc = atd_json_next(reader, &token, err);

        if (rc < 0)
            return rc;
    }
    return 0;
}

static size_t encode_utf8(uint32_t code, uint8_t ret_bytes[4])
{
    if (code < 0x80) {
        ret_bytes[0] = (uint8_t)code;
        return 1;
    }
    if (code < 0x800) {
        ret_bytes[0] = (uint8_t)(0xc0 | code >> 6);
        ret_bytes[1] = (uint8_t)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        ret_bytes[0] = (uint8_t)(0xe0 | code >> 12);
        ret_bytes[1] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
        ret_bytes[2] = (uint8_t)(0x80 | (code & 0x3f));
        return 3;
    }
    ret_bytes[0] = (uint8_t)(0xf0 | code >> 18);
    ret_bytes[1] = (uint8_t)(0x80 | (code >> 12 & 0x3f));
    ret_bytes[2] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
    ret_bytes[3] = (uint8_t)(0x80 | (code & 0x3f));
    return 4;
}

/* The plain run (or the one escape) at raw[*at]; `bytes` holds an escape's text. */
static struct atd_str next_piece(struct atd_str raw, size_t *at, uint8_t bytes[4])
{
    struct atd_str rest = atd_str_from_byte(raw, *at);
    ptrdiff_t escape = atd_str_find(rest, '\\');
    uint32_t code = REPLACEMENT;
    size_t step;

    if (escape != 0) {
        struct atd_str piece = escape < 0 ? rest : atd_str_head(rest, (size_t)escape);

        *at += piece.len;
        return piece;
    }
    step = read_escape(raw, *at, &code);
    atd_assert(step > 0);
    *at += step;
    return (struct atd_str){(const char *)bytes,
                            encode_utf8(is_surrogate(code) ? REPLACEMENT : code, bytes)};
}

void atd_json_unescape(struct atd_str raw, struct atd_buf *out)
{
    uint8_t bytes[4];
    size_t at = 0;

    while (at < raw.len)
        atd_buf_append_str(out, next_piece(raw, &at, bytes));
}

struct atd_str atd_json_unescape_in(struct atd_str raw, struct atd_arena *arena)
{
    uint8_t bytes[4];
    size_t len = 0;
    size_t at = 0;
    char *place;

    if (atd_str_find(raw, '\\') < 0)
        return atd_arena_str(arena, raw);
    place = atd_arena_alloc(arena, raw.len + 1); /* what is escaped is longer than what it says */
    if (!place)
        return (struct atd_str){NULL, 0};
    while (at < raw.len) {
        struct atd_str piece = next_piece(raw, &at, bytes);

        memcpy(place + len, piece.ptr, piece.len);
        len += piece.len;
    }
    return (struct atd_str){place, len};
}

bool atd_json_raw_equals(struct atd_str raw, const char *text)
{
    struct atd_str rest = atd_str_from(text);
    uint8_t bytes[4];
    size_t at = 0;

    while (at < raw.len) {
        struct atd_str piece = next_piece(raw, &at, bytes);

        if (!atd_str_starts_with(rest, piece))
            return false;
        rest = atd_str_from_byte(rest, piece.len);
    }
    return rest.len == 0;
}

bool atd_json_is_integer(struct atd_str raw)
{
    for (size_t i = 0; i < raw.len; i++) {
        if ((raw.ptr[i] < '0' || raw.ptr[i] > '9') && raw.ptr[i] != '-')
            return false;
    }
    return true;
}

bool atd_json_as_u64(struct atd_str raw, uint64_t *ret_value)
{
    uint64_t value = 0;

    if (raw.len == 0)
        return false;
    for (size_t i = 0; i < raw.len; i++) {
        if (raw.ptr[i] < '0' || raw.ptr[i] > '9')
            return false;
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (unsigned)(raw.ptr[i] - '0'), &value))
            return false;
    }
    *ret_value = value;
    return true;
}

bool atd_json_as_i64(struct atd_str raw, int64_t *ret_value)
{
    bool negative = atd_str_starts_with(raw, ATD_STR("-"));
    uint64_t value;

    if (!atd_json_as_u64(negative ? atd_str_from_byte(raw, 1) : raw, &value))
        return false;
    if (value > (uint64_t)INT64_MAX + (negative ? 1u : 0u))
        return false;
    *ret_value = negative ? (int64_t)(0 - value) : (int64_t)value;
    return true;
}

bool atd_json_as_double(struct atd_str raw, double *ret_value)
{
    char text[NUMBER_TEXT_MAX];
    locale_t c_locale; /* plain strtod wants the user's decimal point */
    double value;

    if (raw.len >= sizeof(text))
        return false;
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!c_locale)
        return false;
    memcpy(text, raw.ptr, raw.len);
    text[raw.len] = '\0';
    value = strtod_l(text, NULL, c_locale);
    freelocale(c_locale);
    if (!isfinite(value))
        return false;
    *ret_value = value;
    return true;
}

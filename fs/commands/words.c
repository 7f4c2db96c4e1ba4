#include "words.h"

#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "codec/json_read.h"
#include "output.h"

/* Columns of a member's name, blanks before it included. */
#define KEY_WIDTH 20u
#define INDENT 2u
/* Of a key or a text. */
#define TEXT_BYTES_MAX ((size_t)1 << 30)

struct words {
    struct atd_str json;
    struct atd_json_reader reader;
    struct atd_buf *out;
};

static int put_value(struct words *words, struct atd_str key, const struct atd_json_token *token,
                     unsigned depth, struct atd_error *err);

static void put_blanks(struct atd_buf *out, size_t count)
{
    while (count-- > 0)
        atd_buf_append_byte(out, ' ');
}

static bool is_scalar(const struct atd_json_token *token)
{
    return token->type != ATD_JSON_OBJECT && token->type != ATD_JSON_ARRAY;
}

/* ------------------------------------------------------------------ one value */

static bool is_size(struct atd_str key)
{
    return atd_str_equal(key, ATD_STR("size")) || atd_str_ends_with(key, ATD_STR("_bytes"));
}

/* A scalar as text, still to be escaped. */
static void spell(struct atd_str key, const struct atd_json_token *token, struct atd_buf *text)
{
    char size[PROGRESS_SIZE_TEXT_MAX];
    uint64_t number;

    switch (token->type) {
    case ATD_JSON_STRING:
        atd_json_unescape(token->raw, text);
        break;
    case ATD_JSON_TRUE:
        atd_buf_append_text(text, "yes");
        break;
    case ATD_JSON_FALSE:
        atd_buf_append_text(text, "no");
        break;
    case ATD_JSON_NULL:
        atd_buf_append_byte(text, '-');
        break;
    default:
        if (is_size(key) && atd_json_as_u64(token->raw, &number) && number >= 1024)
            atd_buf_printf(text, "%s (%llu bytes)", progress_size_text(number, size),
                           (unsigned long long)number);
        else
            atd_buf_append_str(text, token->raw);
        break;
    }
}

static enum output_style style_of(struct atd_str key, const struct atd_json_token *token)
{
    if (atd_str_equal(key, ATD_STR("error")) || atd_str_equal(key, ATD_STR("reason")))
        return OUTPUT_BAD;
    return token->type == ATD_JSON_NULL ? OUTPUT_FAINT : OUTPUT_PLAIN;
}

static void put_scalar(struct words *words, struct atd_str key, const struct atd_json_token *token)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(TEXT_BYTES_MAX);

    spell(key, token, &text);
    output_styled(words->out, style_of(key, token), atd_buf_str(&text));
    if (text.failed)
        words->out->failed = text.failed;
}

/* "problem_count" is a "problem count". */
static size_t put_key(struct words *words, struct atd_str key)
{
    atd_auto_buf struct atd_buf spaced = ATD_BUF_INIT(TEXT_BYTES_MAX);

    atd_buf_append_str(&spaced, key);
    for (size_t i = 0; i < spaced.len; i++) {
        if (spaced.ptr[i] == '_')
            spaced.ptr[i] = ' ';
    }
    output_styled(words->out, OUTPUT_FAINT, atd_buf_str(&spaced));
    return output_width(atd_buf_str(&spaced));
}

/* The value's column follows, unless it stands on lines of its own. */
static void begin_line(struct words *words, struct atd_str key, unsigned depth, bool is_alone)
{
    size_t width;

    put_blanks(words->out, (size_t)depth * INDENT);
    width = (size_t)depth * INDENT + put_key(words, key);
    if (is_alone)
        atd_buf_append_byte(words->out, '\n');
    else
        put_blanks(words->out, width < KEY_WIDTH ? KEY_WIDTH - width : 1);
}

/* ------------------------------------------------------------------ containers */

/* Members up to the object's end. */
static int put_members(struct words *words, unsigned depth, struct atd_error *err)
{
    struct atd_json_token token;
    int rc = atd_json_next(&words->reader, &token, err);

    while (rc == 0 && token.type == ATD_JSON_KEY) {
        atd_auto_buf struct atd_buf key = ATD_BUF_INIT(TEXT_BYTES_MAX);

        atd_json_unescape(token.raw, &key);
        rc = atd_buf_finish(&key, "a key", err);
        if (rc == 0)
            rc = atd_json_next(&words->reader, &token, err);
        if (rc == 0)
            rc = put_value(words, atd_buf_str(&key), &token, depth, err);
        if (rc == 0)
            rc = atd_json_next(&words->reader, &token, err);
    }
    return rc;
}

/* An object of a list: its first member is its heading when it is a text. */
static int put_item(struct words *words, unsigned depth, struct atd_error *err)
{
    atd_auto_buf struct atd_buf key = ATD_BUF_INIT(TEXT_BYTES_MAX);
    struct atd_json_token token;
    int rc = atd_json_next(&words->reader, &token, err);

    put_blanks(words->out, (size_t)depth * INDENT);
    if (rc || token.type != ATD_JSON_KEY) {
        atd_buf_append_text(words->out, "-\n");
        return rc;
    }
    atd_json_unescape(token.raw, &key);
    rc = atd_json_next(&words->reader, &token, err);
    if (rc == 0 && token.type == ATD_JSON_STRING) {
        atd_auto_buf struct atd_buf text = ATD_BUF_INIT(TEXT_BYTES_MAX);

        atd_json_unescape(token.raw, &text);
        output_styled(words->out, OUTPUT_STRONG, atd_buf_str(&text));
        atd_buf_append_byte(words->out, '\n');
    } else if (rc == 0) {
        atd_buf_append_text(words->out, "-\n");
        rc = put_value(words, atd_buf_str(&key), &token, depth + 1, err);
    }
    return rc ? rc : put_members(words, depth + 1, err);
}

/* Items up to the array's end; the first one is `token`. */
static int put_items(struct words *words, struct atd_str key, struct atd_json_token token,
                     unsigned depth, struct atd_error *err)
{
    int rc = 0;

    while (rc == 0 && token.type != ATD_JSON_ARRAY_END) {
        if (token.type == ATD_JSON_OBJECT) {
            rc = put_item(words, depth, err);
        } else if (token.type == ATD_JSON_ARRAY) {
            rc = put_value(words, key, &token, depth, err);
        } else {
            put_blanks(words->out, (size_t)depth * INDENT);
            put_scalar(words, key, &token);
            atd_buf_append_byte(words->out, '\n');
        }
        if (rc == 0)
            rc = atd_json_next(&words->reader, &token, err);
    }
    return rc;
}

/* As it stands, in one line. */
static int put_raw(struct words *words, const struct atd_json_token *token, struct atd_error *err)
{
    int rc = atd_json_skip_rest(&words->reader, err);

    if (rc)
        return rc;
    output_escape(words->out, (struct atd_str){words->json.ptr + token->offset,
                                               words->reader.at - token->offset});
    atd_buf_append_byte(words->out, '\n');
    return 0;
}

static int put_value(struct words *words, struct atd_str key, const struct atd_json_token *token,
                     unsigned depth, struct atd_error *err)
{
    struct atd_json_token first;
    int rc;

    if (is_scalar(token)) {
        begin_line(words, key, depth, false);
        put_scalar(words, key, token);
        atd_buf_append_byte(words->out, '\n');
        return 0;
    }
    if (depth >= WORDS_DEPTH_MAX) {
        begin_line(words, key, depth, false);
        return put_raw(words, token, err);
    }
    if (token->type == ATD_JSON_OBJECT) {
        begin_line(words, key, depth, true);
        return put_members(words, depth + 1, err);
    }
    rc = atd_json_next(&words->reader, &first, err);
    if (rc)
        return rc;
    begin_line(words, key, depth, first.type != ATD_JSON_ARRAY_END);
    if (first.type == ATD_JSON_ARRAY_END)
        atd_buf_append_text(words->out, "none\n");
    return put_items(words, key, first, depth + 1, err);
}

int words_write(struct atd_str json, struct atd_buf *out, struct atd_error *err)
{
    struct words words = {.json = json, .out = out};
    struct atd_json_token token;
    int rc;

    atd_json_reader_init(&words.reader, json, 0, false);
    rc = atd_json_next(&words.reader, &token, err);
    if (rc == 0 && token.type != ATD_JSON_OBJECT)
        rc = atd_json_error(json, token.offset, EINVAL, err, "an object is expected");
    if (rc == 0)
        rc = put_members(&words, 0, err);
    if (rc == 0)
        rc = atd_json_next(&words.reader, &token, err);
    return rc ? rc : atd_buf_finish(out, "the output", err);
}

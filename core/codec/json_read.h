/*
 * A bounded JSON reader: one token at a time, no tree, no recursion, every error with its line and
 * column.
 *
 * Why not jansson's parser: it refuses integers above 2^63-1, U+0000 in keys, and Python's NaN and
 * Infinity, and forgets how a number was spelled; metadata must come back byte for byte, and a
 * schema record must be read whatever a Python peer stored (ATDATA-FORMATS 4.3). jansson checks
 * this reader in the tests.
 */
#ifndef ATD_CODEC_JSON_READ_H
#define ATD_CODEC_JSON_READ_H

#include "atdata/arena.h"
#include "atdata/buf.h"
#include "atdata/error.h"
#include "atdata/str.h"

/* As deep as msgpack values go, and the levels that a tagged value adds (metadata_json.c). */
#define ATD_JSON_READ_DEPTH_MAX 520

enum atd_json_type {
    ATD_JSON_OBJECT,
    ATD_JSON_OBJECT_END,
    ATD_JSON_ARRAY,
    ATD_JSON_ARRAY_END,
    ATD_JSON_KEY,
    ATD_JSON_STRING,
    ATD_JSON_NUMBER, /* RFC 8259's grammar; with `lenient` also NaN, Infinity, -Infinity */
    ATD_JSON_TRUE,
    ATD_JSON_FALSE,
    ATD_JSON_NULL,
    ATD_JSON_END, /* the document is over; given again and again */
};

struct atd_json_token {
    enum atd_json_type type;
    struct atd_str raw; /* key, string: between the quotes, still escaped; others: as written */
    size_t offset;      /* of its first byte in the text */
};

enum atd_json_expect {
    ATD_JSON_EXPECT_VALUE,
    ATD_JSON_EXPECT_VALUE_OR_END,
    ATD_JSON_EXPECT_KEY,
    ATD_JSON_EXPECT_KEY_OR_END,
    ATD_JSON_EXPECT_COMMA_OR_END,
    ATD_JSON_EXPECT_NOTHING,
};

struct atd_json_reader {
    struct atd_str text;
    bool lenient; /* Python's extras: NaN and infinities; lone surrogates, which read as U+FFFD */
    size_t at;
    enum atd_json_expect expect;
    unsigned depth;
    uint8_t is_object[ATD_JSON_READ_DEPTH_MAX / 8];
};

/* `start` is 0, or the offset of a value in a text that was read to its end before. */
void atd_json_reader_init(struct atd_json_reader *reader, struct atd_str text, size_t start,
                          bool lenient);

/* Reads one token. Errors: EINVAL, E2BIG too deep, each with line and column. */
int atd_json_next(struct atd_json_reader *reader, struct atd_json_token *ret_token,
                  struct atd_error *err) ATD_MUST_USE;

/* Reads to the end of the container whose opening token came last. Errors: as above. */
int atd_json_skip_rest(struct atd_json_reader *reader, struct atd_error *err) ATD_MUST_USE;

/*
 * Sets EINVAL (or `code`) with " at line L column C" behind the text; lines and columns count from
 * 1, columns in characters.
 */
int atd_json_error(struct atd_str text, size_t offset, int code, struct atd_error *err,
                   const char *what) ATD_MUST_USE;

/* The text of a key or string token. */
void atd_json_unescape(struct atd_str raw, struct atd_buf *out);
/* The same in `arena`; ptr NULL when out of memory. */
struct atd_str atd_json_unescape_in(struct atd_str raw, struct atd_arena *arena) ATD_MUST_USE;
/* True when the token's text is `text`, which is plain ASCII. */
bool atd_json_raw_equals(struct atd_str raw, const char *text);

/*
 * The value of a number token. A number without point and exponent is an integer; false when it
 * does not fit.
 */
bool atd_json_is_integer(struct atd_str raw);
bool atd_json_as_i64(struct atd_str raw, int64_t *ret_value);
bool atd_json_as_u64(struct atd_str raw, uint64_t *ret_value);
/* False when the magnitude is beyond a double's, or the text beyond 1 KiB. Any locale. */
bool atd_json_as_double(struct atd_str raw, double *ret_value);

#endif

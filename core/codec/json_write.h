/*
 * JSON text, written. Not by jansson, which holds neither integers above 2^63-1 nor the shortest
 * form of a float, and escapes unlike Python's json.dumps, whose bytes schema records must equal.
 * json_read.h reads.
 *
 * The caller opens and closes containers; commas, blanks and line ends come by themselves.
 */
#ifndef ATD_CODEC_JSON_WRITE_H
#define ATD_CODEC_JSON_WRITE_H

#include "atdata/buf.h"
#include "atdata/str.h"

#define ATD_JSON_DEPTH_MAX 1024

enum atd_json_style {
    ATD_JSON_LINE,   /* json.dumps defaults: ", " and ": ", non-ASCII as \uxxxx (lower-case hex) */
    ATD_JSON_PRETTY, /* two blanks a level (64 at most, `indent` included), one item a line, UTF-8
                        as it is, "[]" and "{}" empty */
    ATD_JSON_TIGHT,  /* no blanks at all, UTF-8 as it is: a line of events.jsonl */
};

struct atd_json_writer {
    struct atd_buf *out;
    enum atd_json_style style;
    unsigned indent; /* blanks before every line but the first */
    unsigned depth;
    uint8_t has_items[ATD_JSON_DEPTH_MAX / 8];
    bool after_key;
};

void atd_json_init(struct atd_json_writer *json, struct atd_buf *out, enum atd_json_style style);
void atd_json_object_begin(struct atd_json_writer *json);
void atd_json_object_end(struct atd_json_writer *json);
void atd_json_array_begin(struct atd_json_writer *json);
void atd_json_array_end(struct atd_json_writer *json);
/* Invalid UTF-8 in keys and text is written as U+FFFD, a byte each. */
void atd_json_key(struct atd_json_writer *json, const char *key);
void atd_json_key_str(struct atd_json_writer *json, struct atd_str key);
void atd_json_text(struct atd_json_writer *json, const char *text);
void atd_json_str(struct atd_json_writer *json, struct atd_str text);
void atd_json_int(struct atd_json_writer *json, int64_t value);
void atd_json_uint(struct atd_json_writer *json, uint64_t value);
void atd_json_float(struct atd_json_writer *json, double value); /* finite only (asserted) */
void atd_json_bool(struct atd_json_writer *json, bool value);
void atd_json_null(struct atd_json_writer *json);

/* A key and its value. */
static inline void atd_json_put_text(struct atd_json_writer *json, const char *key,
                                     const char *text)
{
    atd_json_key(json, key);
    atd_json_text(json, text);
}

static inline void atd_json_put_uint(struct atd_json_writer *json, const char *key, uint64_t value)
{
    atd_json_key(json, key);
    atd_json_uint(json, value);
}
/* A value that is JSON text already. */
void atd_json_raw(struct atd_json_writer *json, struct atd_str text);

#endif

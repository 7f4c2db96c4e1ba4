/*
 * One sample: a msgpack map with text keys, as ormsgpack reads it and msgpack-python writes it.
 * Source: ATDATA-FORMATS 5.2.
 */
#ifndef ATDATA_SAMPLE_H
#define ATDATA_SAMPLE_H

#include "atdata/arena.h"
#include "atdata/buf.h"
#include "atdata/error.h"
#include "atdata/str.h"

ATD_BEGIN_DECLS

enum atd_value_type {
    ATD_VALUE_NIL,
    ATD_VALUE_BOOL,
    ATD_VALUE_INT,  /* negative: `i` */
    ATD_VALUE_UINT, /* zero or positive: `u` */
    ATD_VALUE_FLOAT,
    ATD_VALUE_STR,
    ATD_VALUE_BIN,
    ATD_VALUE_ARRAY, /* `count` items */
    ATD_VALUE_MAP,   /* `count` pairs */
};

struct atd_value {
    enum atd_value_type type;
    union {
        bool b;
        int64_t i;
        uint64_t u;
        double f;
        struct atd_str str;
        struct atd_bytes bin;
        uint32_t count;
    };
    struct atd_bytes raw; /* the value's own msgpack, whole: nested values are read from it */
};

struct atd_sample_field {
    struct atd_str name;
    struct atd_value value;
};

struct atd_sample {
    struct atd_sample_field *fields; /* stored order; a duplicate key keeps its first
                                        place and has its last value, as in Python */
    size_t field_count;
};

/*
 * Decodes a sample with ormsgpack's rules: map keys str at every depth, str UTF-8, no ext,
 * bytes after the map are ignored. Nesting stops at 512 levels, though ormsgpack reads up to 1023.
 * The fields are in `arena`, their views point into `msgpack`.
 * Errors: EINVAL with the position; E2BIG over 65,536 fields, 512 levels or 8,388,608 values;
 * ENOMEM.
 */
int atd_sample_decode(struct atd_bytes msgpack, struct atd_arena *arena,
                      struct atd_sample *ret_sample, struct atd_error *err) ATD_MUST_USE;

/* NULL when there is no such field. */
const struct atd_value *atd_sample_find(const struct atd_sample *sample, struct atd_str name);

/*
 * Walks the items of an array value, or the pairs of a map value, that a decoded sample holds. A
 * key that a nested map has twice comes twice: the last one counts. Each step reads its item whole,
 * so that walking into nested values reads a byte once for every level above it.
 */
struct atd_value_iter {
    struct atd_bytes rest;
    uint32_t left;
    bool is_map;
};
void atd_value_iter_init(struct atd_value_iter *iter, const struct atd_value *container);
/* False at the end. `ret_key` is set for maps only, and may be NULL. */
bool atd_value_iter_next(struct atd_value_iter *iter, struct atd_str *ret_key,
                         struct atd_value *ret_value);

/*
 * Writing: a map of `count` fields, then each key followed by its value. Shortest forms, float64,
 * as msgpack-python. Failures are `out`'s.
 */
void atd_sample_put_map(struct atd_buf *out, uint32_t count);
void atd_sample_put_array(struct atd_buf *out, uint32_t count);
void atd_sample_put_nil(struct atd_buf *out);
void atd_sample_put_bool(struct atd_buf *out, bool value);
void atd_sample_put_int(struct atd_buf *out, int64_t value);
void atd_sample_put_uint(struct atd_buf *out, uint64_t value);
void atd_sample_put_float(struct atd_buf *out, double value);
void atd_sample_put_str(struct atd_buf *out, struct atd_str text);
void atd_sample_put_bin(struct atd_buf *out, struct atd_bytes bytes);

ATD_END_DECLS

#endif

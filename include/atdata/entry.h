/*
 * The msgpack fields of an index entry: data_urls and metadata.
 *
 * Source: ATDATA-FORMATS 1.2 (fields and msgpack forms) and 8 (what a careless writer may have
 * stored). The rules are those of msgpack-python's unpackb with defaults: any valid width, str
 * must be UTF-8, map keys are str or bin at every depth, ext types are 0 to 127 or a valid
 * timestamp, no trailing bytes; only nesting stops at 512 levels here and at 1024 there.
 */
#ifndef ATDATA_ENTRY_H
#define ATDATA_ENTRY_H

#include "atdata/arena.h"
#include "atdata/buf.h"
#include "atdata/error.h"
#include "atdata/str.h"

ATD_BEGIN_DECLS

/*
 * Checks a data_urls field without allocating; stores the number of elements.
 * Errors: EINVAL with the byte position: not an array, an element that is no str, and all of the
 * rules above; E2BIG more than 1,048,576 elements or 256 MiB.
 */
int atd_urls_check(struct atd_bytes msgpack, size_t *ret_count, struct atd_error *err) ATD_MUST_USE;

/*
 * Decodes a data_urls field. The array is in `arena`; its views point into `msgpack`, which must
 * outlive them. Errors: as atd_urls_check; ENOMEM.
 */
int atd_urls_decode(struct atd_bytes msgpack, struct atd_arena *arena, struct atd_str **ret_urls,
                    size_t *ret_count, struct atd_error *err) ATD_MUST_USE;

/* Appends the bytes msgpack-python writes for the list: the shortest form of everything. */
void atd_urls_encode(const struct atd_str *urls, size_t count, struct atd_buf *out);

/*
 * Checks a metadata field. A value that is no map is accepted, as Python accepts it.
 * *ret_is_none (may be NULL): the field is nil, which reads as no metadata.
 * Errors: EINVAL with the byte position; E2BIG over 64 MiB, 512 levels or 8,388,608 values.
 */
int atd_metadata_check(struct atd_bytes msgpack, bool *ret_is_none,
                       struct atd_error *err) ATD_MUST_USE;

/*
 * Finds the value of a text key of the top-level map; the view is the value's own msgpack.
 * Returns false when the field is no map or lacks the key. Duplicates: the last one, as in Python.
 * `msgpack` must have passed atd_metadata_check.
 */
bool atd_metadata_find(struct atd_bytes msgpack, struct atd_str key, struct atd_bytes *ret_value);

/* Text of a msgpack str value; false for any other type. */
bool atd_msgpack_as_text(struct atd_bytes value, struct atd_str *ret_text);
bool atd_msgpack_is_map(struct atd_bytes value);
/* A non-negative integer value; false for any other type. */
bool atd_msgpack_as_u64(struct atd_bytes value, uint64_t *ret_value);

/*
 * Writes metadata as JSON text: valid JSON always, indented by two blanks a level, in the stored
 * order, UTF-8 unescaped, integers of 64 bits exact, floats in their shortest form that reads back
 * equal.
 * What JSON cannot say is tagged: {"$bytes": "<base64>"}, {"$float": "nan"|"inf"|"-inf"},
 * {"$ext": [type, "<base64>"]}; a bin map key becomes the text "$bytes:<base64>". A text key that
 * could be taken for one of these gets one more "$" in front, so that every value comes back.
 * Of a key that a map has several times, the last one is written, as a Python dict keeps its value.
 * `leave_out` (NULL-terminated, may be NULL): top-level text keys that are not written when their
 * value is a map.
 * `indent` is the number of blanks that the lines after the first begin with. No line begins with
 * more than 64, however deep it stands.
 * `msgpack` must have passed atd_metadata_check. Failures are `out`'s.
 */
void atd_metadata_to_json(struct atd_bytes msgpack, const char *const *leave_out, unsigned indent,
                          struct atd_buf *out);

/*
 * The reverse: JSON text to the msgpack that msgpack-python would write for the same value, with
 * the tags above understood. The top level must be an object. A key given twice in one object is
 * refused: Python would keep the last one without a word, but a person who writes one erred.
 * Errors: EINVAL with line and column; E2BIG over 128 MiB of JSON, 64 MiB of msgpack, 512 levels or
 * 8,388,608 values; ENOMEM; EFBIG when `out` is too small.
 */
int atd_metadata_from_json(struct atd_str json, struct atd_buf *out,
                           struct atd_error *err) ATD_MUST_USE;

ATD_END_DECLS

#endif

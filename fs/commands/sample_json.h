/*
 * A sample as one line of JSON: values as they are, arrays and bytes told in short.
 */
#ifndef ATD_FS_SAMPLE_JSON_H
#define ATD_FS_SAMPLE_JSON_H

#include "atdata/sample.h"
#include "codec/json_write.h"
#include "codec/sample_split.h"

/* Text members of plain WebDatasets up to this size are shown, larger ones told. */
#define SAMPLE_TEXT_BYTES_MAX (64u << 10)
/* Lists and maps in each other; deeper ones are told. */
#define SAMPLE_JSON_DEPTH_MAX 32u

/*
 * Writes {"__key__": KEY, FIELD: value, ...}. Of a msgpack member its fields; an array is {"dtype",
 * "shape"}, bytes are {"bytes": N}, a float that JSON has not is {"$float": "nan"}. Of others
 * EXTENSION: {"bytes": N}, or what json, txt, text, cls and cls2 hold. Errors: EINVAL, E2BIG a
 * sample that cannot be decoded; ENOMEM.
 */
int sample_json_write(struct atd_json_writer *json, struct atd_str key,
                      const struct atd_sample_part *parts, size_t count,
                      struct atd_error *err) ATD_MUST_USE;

/* True for an extension whose small members are shown. */
bool sample_json_is_text(const char *extension);

#endif

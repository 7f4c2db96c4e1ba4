/*
 * sample.json: the fields of a sample that are no files of their own. Private to sample_files.c.
 */
#ifndef ATD_DATASET_SAMPLE_JSON_H
#define ATD_DATASET_SAMPLE_JSON_H

#include "atdata/sample.h"
#include "codec/json_write.h"

/* The msgpack of the lists and maps in it, all fields together: each level of nesting reads what is
 * below it once more, and a line of JSON may be 64 blanks. */
#define ATD_SAMPLE_JSON_NESTED_MAX (256u << 10)
#define ATD_SAMPLE_JSON_BYTES_MAX (64u << 20)

struct atd_sample_json {
    struct atd_json_writer writer;
    size_t nested_bytes;
};

void atd_sample_json_begin(struct atd_sample_json *json, struct atd_buf *out);
/* False: a list or map that is too large; nothing was written. Failures are the buffer's. */
bool atd_sample_json_add(struct atd_sample_json *json, struct atd_str name,
                         const struct atd_value *value);
void atd_sample_json_end(struct atd_sample_json *json);

#endif

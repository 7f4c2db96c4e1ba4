/*
 * One sample as files: what is shown in the directory of a KEY.msgpack member.
 *
 * An array is FIELD.npy, whatever form it is stored in; text is FIELD.txt; other bytes get the
 * suffix of what they begin like (sniff.h), else .bin. All that is left (numbers, booleans, nil,
 * lists and maps) stands in sample.json, an object with those fields only. Lists and maps that are
 * too large for that are FIELD.msgpack, as stored. Bytes inside of lists and maps are
 * {"$base64": ...} there; numbers that are none are NaN and Infinity, as Python writes and reads.
 *
 * Which bytes are arrays the schema says; where it does not know the field they are looked at.
 * What does not decode is sample.msgpack, as stored, and why.txt.
 *
 * Field names as file names: codec/file_name.h; those that would be equal then get ~2, ~3 before
 * the suffix. Source: ATDATA-FORMATS 5.2, 5.3; DESIGN 2.3.
 */
#ifndef ATD_DATASET_SAMPLE_FILES_H
#define ATD_DATASET_SAMPLE_FILES_H

#include "atdata/arena.h"
#include "atdata/error.h"
#include "atdata/schema.h"

/* Of one sample: fields, names, headers and sample.json. */
#define ATD_SAMPLE_FILES_ARENA_MAX (256u << 20)

struct atd_sample_file {
    struct atd_str name;
    struct atd_bytes head; /* the contents are this... */
    struct atd_bytes body; /* ... and this, which often lies in the sample */
};

struct atd_sample_files {
    const struct atd_sample_file *files; /* sorted by name */
    size_t count;
};

static inline uint64_t atd_sample_file_size(const struct atd_sample_file *file)
{
    return (uint64_t)file->head.len + file->body.len;
}

/*
 * The files of a member's bytes, which must live as long as they do, like `arena`. `schema` may be
 * NULL. CPU only. Errors: ENOMEM.
 */
int atd_sample_files_make(struct atd_bytes msgpack, const struct atd_schema *schema,
                          struct atd_arena *arena, struct atd_sample_files *ret_files,
                          struct atd_error *err) ATD_MUST_USE;

/* NULL: there is none of that name. */
const struct atd_sample_file *atd_sample_files_find(const struct atd_sample_files *files,
                                                    struct atd_str name);

#endif

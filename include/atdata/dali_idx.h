/*
 * NVIDIA DALI's webdataset index, text version v1.2.
 *
 * First line "v1.2 N", then a line a sample: for each component "ext offset size name" separated
 * by single blanks; offset is that of the component's data, N the number of samples.
 * A sample is a run of regular files of one key (ATDATA-FORMATS 5.4); N is known only at the end,
 * so the builder keeps the lines and writes the header last.
 */
#ifndef ATDATA_DALI_IDX_H
#define ATDATA_DALI_IDX_H

#include "atdata/buf.h"
#include "atdata/error.h"
#include "atdata/tar_index.h"

ATD_BEGIN_DECLS

struct atd_dali_idx;

/* NULL when out of memory. At most `max_bytes` of text. */
struct atd_dali_idx *atd_dali_idx_new(size_t max_bytes) ATD_MUST_USE;
void atd_dali_idx_free(struct atd_dali_idx *idx);

/* Adds a member of the walk; others than regular files and skipped names are ignored. Extensions
 * keep their case, as NVIDIA's wds2idx writes them.
 * Errors: EINVAL a member name with white space or an empty extension, which the format cannot
 * hold; EFBIG; ENOMEM. */
int atd_dali_idx_add(struct atd_dali_idx *idx, const struct atd_tar_member *member,
                     struct atd_error *err) ATD_MUST_USE;

/* Appends the whole text. Errors: as atd_buf_finish. */
int atd_dali_idx_write(const struct atd_dali_idx *idx, struct atd_buf *out,
                       struct atd_error *err) ATD_MUST_USE;

struct atd_dali_component {
    struct atd_str extension;
    uint64_t data_offset;
    uint64_t size_bytes;
    struct atd_str name; /* empty in v1.1 files, which have no names */
};

/* Called once a component; `sample` counts from 0. */
typedef int (*atd_dali_component_fn)(void *ctx, size_t sample,
                                     const struct atd_dali_component *component,
                                     struct atd_error *err);

/* Reads v1.2 (and v1.1) text; offsets must be multiples of 512, as DALI demands.
 * Errors: EINVAL with the line; what the callback returned. */
int atd_dali_idx_read(struct atd_str text, atd_dali_component_fn fn, void *ctx,
                      struct atd_error *err) ATD_MUST_USE;

ATD_END_DECLS

#endif

/*
 * The samples of one shard after the other: members grouped by webdataset's rules, decoded.
 *
 * Threads: one at a time. Blocks: next. Source: ATDATA-FORMATS 5.4.
 */
#ifndef ATD_DATASET_SAMPLE_STREAM_H
#define ATD_DATASET_SAMPLE_STREAM_H

#include "atdata/loader.h"
#include "dataset/shard_stream.h"

struct atd_loaded_place {
    size_t extension;
    size_t data;
};

/* A sample with the memory that it lives in. */
struct atd_loaded_memory {
    struct atd_loaded loaded; /* first */
    struct atd_buf bytes;     /* of the key, the extensions and the members */
    struct atd_arena arena;   /* of the decoded fields */
    struct atd_loaded_member *members;
    struct atd_loaded_place *places; /* of each member's texts in `bytes` */
    size_t member_cap;
    struct atd_loaded_memory *next; /* in a list of free ones */
};

void atd_loaded_memory_free(struct atd_loaded_memory *memory);

struct atd_sample_stream;

/* Borrows the sources and the options' files. Errors: ENOMEM. */
int atd_sample_stream_new(const struct atd_shard_source *sources, size_t count,
                          const struct atd_stream_options *options,
                          struct atd_sample_stream **ret_samples,
                          struct atd_error *err) ATD_MUST_USE;
void atd_sample_stream_free(struct atd_sample_stream *samples);

/* Fills `memory` with the next sample. *ret_is_there false: there are no more. Errors: as
 * atd_loader_next, with the shard's name. */
int atd_sample_stream_next(struct atd_sample_stream *samples, struct atd_loaded_memory *memory,
                           bool *ret_is_there, struct atd_error *err) ATD_MUST_USE;

#endif

/*
 * The bytes of a tar, in order, into samples, by webdataset's rules: members with the same key that
 * follow each other. Pure; whoever has the bytes pushes them.
 *
 * Memory: the members of one sample that are wanted. Source: ATDATA-FORMATS 5.1, 5.4.
 */
#ifndef ATD_CODEC_SAMPLE_SPLIT_H
#define ATD_CODEC_SAMPLE_SPLIT_H

#include "atdata/tar_index.h"

#define ATD_SAMPLE_PARTS_MAX 256u
#define ATD_SAMPLE_EXTENSION_MAX 255u

/* One member of a sample. */
struct atd_sample_part {
    char extension[ATD_SAMPLE_EXTENSION_MAX + 1]; /* lower case */
    uint64_t size_bytes;
    bool is_kept;
    struct atd_bytes bytes; /* when it is kept; valid during the callback */
};

struct atd_sample_sink {
    void *ctx;
    /* How many bytes a member may have to be kept; 0: it is passed over. */
    size_t (*keep)(void *ctx, const char *extension);
    /* A whole sample. Returns 0, or a negative errno with `err` set, which ends the splitting and
     * is returned by the feed. */
    int (*sample)(void *ctx, struct atd_str key, const struct atd_sample_part *parts, size_t count,
                  struct atd_error *err);
};

struct atd_sample_split;

/* NULL when out of memory. */
struct atd_sample_split *atd_sample_split_new(const struct atd_sample_sink *sink) ATD_MUST_USE;
void atd_sample_split_free(struct atd_sample_split *split);

/* The next bytes. After an error it may only be freed. Errors: EINVAL not a tar; E2BIG a sample of
 * more than ATD_SAMPLE_PARTS_MAX members; ENOMEM; what the callback returned. */
int atd_sample_split_feed(struct atd_sample_split *split, struct atd_bytes bytes,
                          struct atd_error *err) ATD_MUST_USE;

/* After the last byte: reports the last sample. Errors: EINVAL the tar ends inside a member, or
 * there is none (the samples before were reported). */
int atd_sample_split_finish(struct atd_sample_split *split, struct atd_error *err) ATD_MUST_USE;

#endif

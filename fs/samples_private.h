/*
 * Private to samples*.c.
 */
#ifndef ATD_FS_SAMPLES_PRIVATE_H
#define ATD_FS_SAMPLES_PRIVATE_H

#include "dataset/member_names.h"
#include "layout.h"
#include "samples.h"

#define SAMPLES_INDEX_JSON "index.json"
#define SAMPLES_WHY "why.txt"

/* A larger member is not read at once. */
#define SAMPLES_WHOLE_BYTES_MAX (1u << 20)

struct samples {
    struct atd_member_source source;
    struct atd_members_fetches fetches;
    struct atd_members_cache *members;
    struct atd_sample_cache *cache;
    struct atd_lock lock;

    /* guarded by lock */
    struct samples_shard *newest; /* each with a reference */
    size_t count;
    size_t used_bytes;
};

/* The members of one version of a shard by their names, or why there are none. */
struct samples_shard {
    uint8_t version[ATD_SHARD_VERSION_BYTES];
    struct atd_member_names *names; /* NULL: `why` */
    struct atd_error why;
    atomic_uint references;
    struct samples_shard *older; /* guarded by the table's lock */
};

void samples_shard_unref(struct samples_shard *inside); /* NULL is fine */
/* In memory already, with a reference; else NULL. Never blocks. */
struct samples_shard *samples_shard_peek(struct samples *samples, const struct atd_shard *shard);
/* Errors: EWOULDBLOCK more effort is needed; ESTALE; why its members cannot be had now. */
int samples_shard_get(struct samples *samples, const struct atd_shard *shard,
                      enum atd_effort effort, struct samples_shard **ret_inside,
                      struct atd_error *err) ATD_MUST_USE;

/* The shard that a directory STEM shows, or a file STEM.idx is of; NULL: none. */
const struct atd_shard *samples_find_stem(const struct view *view, struct atd_str stem);
const struct atd_shard *samples_find_idx(const struct view *view, struct atd_str name);
/* How a shard's directory is called; len 0: it shows nowhere. */
struct atd_str samples_stem(const struct view *view, const struct atd_shard *shard);

/* The version of a shard's directory. */
void samples_shard_version(const struct view *view, const struct atd_shard *shard,
                           uint8_t ret_version[NODE_VERSION_BYTES]);
/* The version of what a member is shown as. */
void samples_member_version(const struct view *view, const struct atd_member *member,
                            uint8_t ret_version[NODE_VERSION_BYTES]);

/* What was known of the shard is wrong. */
void samples_forget(struct fs *fs, const struct view *view, const struct atd_shard *shard);

#endif

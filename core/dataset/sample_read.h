/*
 * Samples, read and decoded to files, kept in memory for a while: the kernel asks for a directory,
 * then for each of its files, and all of that is one read of the member.
 *
 * Threads: any.
 */
#ifndef ATD_DATASET_SAMPLE_READ_H
#define ATD_DATASET_SAMPLE_READ_H

#include "dataset/member_read.h"
#include "dataset/members.h"
#include "dataset/sample_files.h"

/* Tells apart all samples: of the shard's version, the member's place in it, and the schema. The
 * caller's digest. */
#define ATD_SAMPLE_KEY_BYTES 16

/* One sample. Immutable, shared by reference. */
struct atd_read_sample;

const struct atd_sample_files *atd_read_sample_files(const struct atd_read_sample *sample);
struct atd_read_sample *atd_read_sample_ref(struct atd_read_sample *sample);
void atd_read_sample_unref(struct atd_read_sample *sample); /* NULL is fine */

struct atd_sample_cache;

/* What nobody uses is dropped beyond `memory_bytes`, oldest first. NULL when out of memory. */
struct atd_sample_cache *atd_sample_cache_new(const struct atd_member_source *source,
                                              size_t memory_bytes) ATD_MUST_USE;
/* Nobody is in _get any more. Samples that are in use stay. NULL is fine. */
void atd_sample_cache_free(struct atd_sample_cache *cache);

/* With a reference for the caller; NULL: it is not in memory. Never blocks. */
struct atd_read_sample *atd_sample_cache_peek(struct atd_sample_cache *cache,
                                              const uint8_t key[ATD_SAMPLE_KEY_BYTES]);

/*
 * The same, read if need be. `schema_json`: what registered the sample's type; may be empty.
 * Blocks: as atd_member_read; several callers for one sample wait for one of them. Errors: its;
 * E2BIG, ENOMEM. What fails is not remembered.
 */
int atd_sample_cache_get(struct atd_sample_cache *cache, const uint8_t key[ATD_SAMPLE_KEY_BYTES],
                         const struct atd_shard *shard, const struct atd_member *member,
                         struct atd_bytes schema_json, struct atd_read_sample **ret_sample,
                         struct atd_error *err) ATD_MUST_USE;

#endif

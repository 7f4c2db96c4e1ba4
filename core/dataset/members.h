/*
 * Which samples are in a shard, and where: its member index, got as cheaply as it can be.
 *
 * Looked for in this order: memory; the cache directory (for ever: a version of a shard does not
 * change); an object beside the shard, which whoever published it stored there (one GET); one pass
 * over its headers (ranged reads that skip the members' data; a local file is read in place). What
 * was found is kept.
 *
 * Everything that is read is hostile: an index that does not fit the shard's version and size, or
 * whose offsets lie outside of it, is not believed.
 */
#ifndef ATD_DATASET_MEMBERS_H
#define ATD_DATASET_MEMBERS_H

#include "atdata/error.h"
#include "atdata/str.h"
#include "catalog/shards.h"
#include "codec/member_index.h"
#include "store/file_store.h"

/* The regular members of one version of a shard, in stored order. Immutable, shared by reference.
 */
struct atd_members;

struct atd_member {
    struct atd_str name; /* as stored: any bytes */
    uint64_t data_offset;
    uint64_t size_bytes;
};

struct atd_members *atd_members_ref(struct atd_members *members);
void atd_members_unref(struct atd_members *members); /* NULL is fine */
size_t atd_members_count(const struct atd_members *members);
struct atd_member atd_members_at(const struct atd_members *members, size_t place);

/* Where indexes are kept. Threads: any. */
struct atd_members_cache;

struct atd_members_cache_options {
    const char *dir;     /* of the cache directory, where a folder "members" is made; NULL: none */
    const char *scope;   /* stands before URLs (the endpoint), as of the reader; NULL: nothing */
    size_t memory_bytes; /* what nobody uses is dropped beyond it, oldest first */
    unsigned timeout_ms; /* a request that brings nothing for so long fails with ETIMEDOUT */
    const struct atd_file_store *files; /* borrowed: local shards are opened through it; NULL: there
                                           are none */
};

int atd_members_cache_new(const struct atd_members_cache_options *options,
                          struct atd_members_cache **ret_cache, struct atd_error *err) ATD_MUST_USE;
/* Every _get under way and any later one ends with ECANCELED (those that only read a local file may
 * take a moment): before what they use ends. Never blocks. */
void atd_members_cache_interrupt(struct atd_members_cache *cache);
/* Nobody is in _get any more; who has members may keep them. NULL is fine. */
void atd_members_cache_free(struct atd_members_cache *cache);

/* In memory already: with a reference for the caller; else NULL. Never blocks. */
struct atd_members *atd_members_peek(struct atd_members_cache *cache,
                                     const struct atd_shard *shard);

/*
 * Blocks: on the disk and on the shard's store; several callers for one shard wait for one of them.
 * The shard can be read (error_code 0), and stays the caller's. Errors: ENOTSUP a compressed shard,
 * whose members cannot be read one by one; EINVAL not a whole tar; E2BIG more than
 * ATD_MEMBER_INDEX_MEMBERS_MAX members; ESTALE the shard is another version now; ECANCELED; the
 * store's; ENOMEM. The sentence says why. What fails is not remembered.
 */
int atd_members_get(struct atd_members_cache *cache, const struct atd_shard *shard,
                    struct atd_members **ret_members, struct atd_error *err) ATD_MUST_USE;

/* How members were found, for metrics and tests. */
struct atd_members_stats {
    uint64_t from_memory;
    uint64_t from_folder;
    uint64_t from_beside; /* the object or file beside the shard */
    uint64_t walked;      /* passes over headers */
    uint64_t failed;
    uint64_t memory_bytes; /* what is kept now */
};
void atd_members_cache_stats(struct atd_members_cache *cache, struct atd_members_stats *ret_stats);

#endif

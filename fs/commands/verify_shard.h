/*
 * One shard, compared with what the index says of it.
 */
#ifndef ATD_FS_VERIFY_SHARD_H
#define ATD_FS_VERIFY_SHARD_H

#include <stdatomic.h>

#include "catalog/shards.h"

enum verify_verdict {
    VERIFY_UNKNOWN,  /* not looked at yet */
    VERIFY_GOOD,     /* its bytes have the recorded SHA-256; of a quick look: its size is right */
    VERIFY_UNPROVEN, /* nothing is wrong, but no checksum is recorded: `reason` says what was seen
                      */
    VERIFY_SKIPPED,  /* nobody opens such a URL */
    VERIFY_BAD,      /* `kind` and `reason` */
};

struct verify_shard {
    /* set by the caller */
    const struct atd_catalog_entry *entry;
    const struct atd_shard *shard;
    uint64_t recorded_bytes; /* UINT64_MAX: unknown */
    /* The same object with the same records stands there already (superseded entries share their
     * shards): what is found of that one holds. NULL: it is the first. */
    struct verify_shard *same_as;

    enum verify_verdict verdict;
    const char *kind; /* "missing", "size", "sha256", "truncated", "unreadable", "scheme" */
    uint64_t read_bytes;
    char reason[ATD_ERROR_TEXT_MAX];
};

struct verify_options {
    struct atd_store *disk; /* where local files are read */
    bool is_quick;          /* no bytes: only whether it is there, and its size */
    unsigned timeout_ms;
    atomic_uint_fast64_t *progress; /* bytes that were read, of all shards */
};

/* Fills in recorded_bytes of the shards of one entry. `shards` are all of it. Errors: ENOMEM. */
int verify_take_records(const struct atd_catalog_entry *entry, struct verify_shard *shards,
                        size_t count, struct atd_error *err) ATD_MUST_USE;

/* Blocks: on the store. Any thread. */
void verify_shard(const struct verify_options *options, struct verify_shard *shard);

#endif

/*
 * Shards into the cache directory, whole and verified, as a mount would have them.
 */
#ifndef ATD_FS_WARM_H
#define ATD_FS_WARM_H

#include "arguments.h"
#include "base/lock.h"
#include "cache/pins.h"
#include "catalog/shards.h"
#include "parts.h"
#include "progress.h"
#include "targets.h"

#define WARM_JOBS_DEFAULT 4u

enum warm_outcome {
    WARM_WAITS,
    WARM_LOCAL,   /* it lies on this disk anyway */
    WARM_KEPT,    /* it was in the cache already */
    WARM_FETCHED, /* by this run */
    WARM_FAILED,  /* `why` */
};

struct warm_shard {
    const struct atd_catalog_entry *entry;
    const struct atd_shard *shard;
    enum warm_outcome outcome;
    struct atd_error why;
};

struct warm {
    const struct options *options;
    struct parts parts;
    struct targets targets;
    struct atd_shard_list **lists; /* of the entries */
    struct warm_shard *shards;     /* of the entries, in order */
    size_t count;
    uint64_t wanted_bytes; /* of remote ones */
    unsigned jobs;

    atomic_size_t done;
    atomic_uint_fast64_t read_bytes;
    struct progress progress;

    struct atd_lock lock;
    pthread_cond_t changed; /* an object became complete and verified */
};

/* Opens the parts and lists the shards. Whatever fails, it is to be closed. Errors: EINVAL there
 * is no cache directory; EFBIG the cache is too small for all of it; ENOENT; the index's. */
int warm_open(struct warm *warm, const struct options *options, const struct arguments *arguments,
              unsigned jobs, struct atd_error *err) ATD_MUST_USE;
/* Fetches them all. Blocks: on the stores and the disk. */
void warm_run(struct warm *warm);
/* What came of it; the exit code. `pinned`: they are pinned too. */
int warm_tell(struct warm *warm, const struct arguments *arguments, bool pinned);
/* Returns `exit_code`; does not return when a thread hangs. */
int warm_close(struct warm *warm, int exit_code);

#endif

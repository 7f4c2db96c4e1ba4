/*
 * Mutexes with a rank. A thread may only take a lock of a higher rank than any it holds; builds
 * with ATD_PARANOID check it at run time, so that a lock-order bug fails the first test that
 * passes by, not the one run in a million that deadlocks.
 *
 * No lock is held across disk, network or a callback (STYLE 8).
 */
#ifndef ATD_BASE_LOCK_H
#define ATD_BASE_LOCK_H

#include <pthread.h>

/* Lowest first: what is taken first. Name the structure whose fields the lock guards. */
enum atd_lock_rank {
    ATD_RANK_ANSWER,      /* dataset/registry: one answer that a thread waits for */
    ATD_RANK_PUBLISHING,  /* fs/publishing: what waits for its time; commands/publish: verdicts */
    ATD_RANK_UNLINKED,    /* fs/unlinked: shards whose grace is not over */
    ATD_RANK_INDEX,       /* index/memory: its records */
    ATD_RANK_LIVE,        /* catalog/live: the current generation */
    ATD_RANK_SNAPSHOT,    /* catalog/snapshot_saver: what is to be saved */
    ATD_RANK_SWEEP,       /* catalog/sweep: what is to be looked at */
    ATD_RANK_SHARDS,      /* catalog: shard lists of a generation */
    ATD_RANK_HANDLES,     /* fs/handles: the list of open files */
    ATD_RANK_LISTINGS,    /* fs/listing: those that are kept */
    ATD_RANK_NODES,       /* fs/nodes: the inode table */
    ATD_RANK_STAGING,     /* fs/staging: its names, what is hidden, empty datasets */
    ATD_RANK_PUBLICATION, /* publish/publication: one publication's requests and reports */
    ATD_RANK_PUBLISHER,   /* publish/publisher: its queues and tables */
    ATD_RANK_SAMPLES,     /* dataset/sample_read: its table; fs/samples: names of members */
    ATD_RANK_OBJECTS,     /* store/object_table */
    ATD_RANK_LOCATOR,     /* catalog/locator: whose turn it is */
    ATD_RANK_MEMBERS,     /* dataset/members: its table; what is being fetched */
    ATD_RANK_READER,      /* cache/reader: its table of objects */
    ATD_RANK_OBJECT,      /* cache/reader: one object's flights, waiters and cursors */
    ATD_RANK_READ_AHEAD,  /* dataset/shard_stream: parts that are read ahead */
    ATD_RANK_BUDGET,      /* cache/budget: memory and who waits for it */
    ATD_RANK_TICKER,      /* cache/ticker: who has a deadline */
    ATD_RANK_CACHE,       /* cache/cache_dir: its table of files */
    ATD_RANK_UPLOAD,      /* store: the parts of one upload */
    ATD_RANK_STREAM,      /* store/stream: the parts of one object that is read through */
    ATD_RANK_FAULT,       /* store/fault_store: in front of the store it breaks */
    ATD_RANK_STORE,       /* a store's own state: buckets' regions, its queue */
    ATD_RANK_ENDPOINT,    /* net/endpoint: limits, latencies */
    ATD_RANK_CREDENTIALS, /* net/credentials: the current value */
    ATD_RANK_LOOP,        /* net/http: a loop's queue of tasks */
    ATD_RANK_SPOOL,       /* publish/spool: what was written of one file */
    ATD_RANK_NOTIFY,      /* fs/notify: its queue */
    ATD_RANK_WORKERS,     /* base/workers: its queue */
    ATD_RANK_EVENTS,      /* fs/events: the ring */
    ATD_RANK_WAITED,      /* commands/warm: one read that its thread waits for */
    ATD_RANK_COUNT,
};

struct atd_lock {
    pthread_mutex_t mutex;
    enum atd_lock_rank rank;
};

void atd_lock_init(struct atd_lock *lock, enum atd_lock_rank rank);
void atd_lock_destroy(struct atd_lock *lock);
void atd_lock_take(struct atd_lock *lock);
void atd_lock_give(struct atd_lock *lock);

/* Condition variables on the monotonic clock. The wait gives the lock and takes it again. */
void atd_cond_init(pthread_cond_t *cond);
void atd_cond_wait(pthread_cond_t *cond, struct atd_lock *lock);
/* Waits at most `timeout_ms`. */
void atd_cond_wait_ms(pthread_cond_t *cond, struct atd_lock *lock, unsigned timeout_ms);

#endif

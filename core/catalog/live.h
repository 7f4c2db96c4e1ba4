/*
 * The living view of an index: holds the current generation, notices change, makes the next one.
 *
 * A thread waits for news of the index; it makes a new generation of the old one and what changed,
 * or loads all when anything may have, swaps it in, and tells the watcher both. Others follow
 * each swap: one looks the new shards up on the disk (sweep.h), one saves it (snapshot_saver.h). A
 * failed load keeps the old generation and marks the view stale. Threads: every function from any
 * thread, but start and stop.
 *
 * Where there is a snapshot, generation 1 is made of it, and the index is loaded by the thread:
 *
 *     no snapshot                   LIVE <--load, failed load--> STALE
 *     snapshot     CATCHING UP --load--> LIVE
 *                  CATCHING UP --failed load--> STALE (what is shown is still the snapshot)
 */
#ifndef ATD_CATALOG_LIVE_H
#define ATD_CATALOG_LIVE_H

#include "catalog/catalog.h"
#include "catalog/locator.h"

struct atd_live;

struct atd_live_status {
    bool stale;       /* what is shown may be old: the last load failed, or there was none yet */
    bool catching_up; /* there was none yet, after a start from a snapshot */
    char error[ATD_ERROR_TEXT_MAX];
    int64_t live_since_ms; /* monotonic: when it last began not to be stale */
    const char *coherence; /* how the index tells of changes: "tracking (RESP2)", "polling" */
    uint64_t loads;
    uint64_t updates; /* generations made of changes alone */
    uint64_t load_failures;
    uint64_t shards_unreadable; /* by the sweep */
    bool from_snapshot;         /* what is shown is a snapshot's: this process has loaded nothing */
    const char *snapshot_path;  /* the view's; NULL: there is none */
    int64_t snapshot_s;         /* then: when it was read from the index */
    int64_t snapshot_saved_s;   /* by this process; 0: not yet */
    char snapshot_error[ATD_ERROR_TEXT_MAX]; /* why it could not be saved; "" */
};

/* How often a snapshot is saved at most. */
#define ATD_LIVE_SNAPSHOT_MS 30000u

struct atd_live_options {
    struct atd_index *index;     /* borrowed; both must outlive the view */
    struct atd_locator *locator; /* borrowed */
    const char *snapshot_path;   /* absolute; NULL: none is read or saved */
    unsigned snapshot_every_ms;  /* 0: ATD_LIVE_SNAPSHOT_MS */
};

/*
 * Makes the first generation: of the snapshot, else by loading the index. A snapshot that is
 * missing, damaged or another index's counts as none. Blocks: until it is made. Errors: the
 * provider's; ENOMEM.
 */
int atd_live_open(const struct atd_live_options *options, struct atd_live **ret_live,
                  struct atd_error *err) ATD_MUST_USE;

/* Who wants to know; called from the view's threads, without a lock. Both may be NULL. */
struct atd_live_watcher {
    void *ctx;
    /* After a swap. */
    void (*generation)(void *ctx, struct atd_catalog *before, struct atd_catalog *after);
    /* The files of an entry's shards came, went or changed while the entry stayed. */
    void (*shards)(void *ctx, struct atd_catalog *catalog, const struct atd_catalog_entry *entry);
};

/* Starts the threads. */
int atd_live_start(struct atd_live *live, const struct atd_live_watcher *watcher,
                   struct atd_error *err) ATD_MUST_USE;

/* After a start from a snapshot: waits until the index was loaded once, or that failed. False:
 * what is shown is the snapshot still. Blocks. */
bool atd_live_catch_up(struct atd_live *live, unsigned timeout_ms);

/* Stops the threads if started, saves the snapshot when something changed since it was saved, and
 * frees the view. NULL is fine. False, leaving it behind, when a thread hangs in the disk. */
bool atd_live_close(struct atd_live *live);

/* Has the disk asked again soon about shards that were not to be had: someone met such a list. */
void atd_live_look_again(struct atd_live *live);

/* Has the index asked now whether it changed, not only at the next poll: somebody met a name that
 * is not there. Never blocks. */
void atd_live_refresh(struct atd_live *live);

/*
 * For whoever changed the index: asks that the view has, soon, all that was committed before this
 * call. _barrier does the same for whoever looks, and trusts the index's word that nothing changed,
 * where _request has an index that cannot know at once loaded again. _await waits until the view
 * has it; false after `timeout_ms`, or when loads fail. Blocks (await only). Before atd_live_start
 * the awaiting thread loads by itself, and must be the only one.
 */
uint64_t atd_live_request(struct atd_live *live);
uint64_t atd_live_barrier(struct atd_live *live);
bool atd_live_await(struct atd_live *live, uint64_t request, unsigned timeout_ms);

/* The current generation, with a reference for the caller. */
struct atd_catalog *atd_live_get(struct atd_live *live) ATD_MUST_USE;

/* The number of the current generation. */
uint64_t atd_live_generation(struct atd_live *live);

void atd_live_status(struct atd_live *live, struct atd_live_status *ret_status);

#endif

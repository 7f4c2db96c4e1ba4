/*
 * The publisher: everything that turns a written file into a published shard.
 *
 * One file is a **publication** (publication.h). The publisher has what they share: where shards
 * go, the journal, the editor, and three pools of threads, so that no caller ever waits:
 *
 *     pump     reads spools along, inspects, decides (CPU, disk)
 *     send     uploads parts (network)
 *     commit   one thread: the only user of the editor (index)
 *
 * Threads: any, unless it says otherwise. Blocks: never, but _open and _close.
 */
#ifndef ATD_PUBLISH_PUBLISHER_H
#define ATD_PUBLISH_PUBLISHER_H

#include "catalog/live.h"
#include "index/writer.h"
#include "publish/editor.h"
#include "store/object_table.h"
#include "store/upload.h"

struct atd_publisher;

struct atd_publisher_options {
    struct atd_live *live;           /* borrowed */
    struct atd_index_writer *writer; /* borrowed */
    struct atd_store *store;         /* borrowed; where shards go; NULL: publishing is not set up,
                                        `no_store_reason` says what to do */
    const char *no_store_reason;
    const char *prefix_url;         /* "s3://BUCKET/PREFIX" or an absolute directory */
    struct atd_object_table *table; /* borrowed; may be NULL: facts of new objects go there */
    const char *scope;              /* which store it is, for the table and the journal */
    const char *state_dir;          /* absolute */
    uint64_t spool_limit_bytes;     /* of one shard's spool; 0: none */
    uint64_t scratch_limit_bytes;   /* of one scratch file */
    uint64_t floor_bytes;           /* the spool's file system keeps so much free */
    uint64_t memory_bytes;          /* of parts in memory, all publications together */
    unsigned timeout_s;             /* nothing gets on for so long: failed */
    bool universal;
    unsigned edit_patience_ms; /* of the editor; 0: its own */
    unsigned recover_every_ms; /* what could not be settled is tried again; 0: a minute */
    /* Told without a lock, from a thread of the publisher's: something was published or failed, for
     * events.jsonl. `url` and `cid` may be empty. */
    void (*event)(void *ctx, const char *what, struct atd_str dataset, struct atd_str file_name,
                  struct atd_str url, struct atd_str cid, const struct atd_error *why);
    void *event_ctx;
    /* Told from the commit thread; may be NULL: what was published was not in the index any more,
     * since another server took the place of the one that acknowledged it. `why` NULL: it was put
     * back; else why it could not be. */
    void (*lost)(void *ctx, struct atd_str dataset, struct atd_str file_name, struct atd_str url,
                 const struct atd_error *why);
    void *lost_ctx;
};

/*
 * Makes the state directory and starts the threads. Then, by itself, settles what dead processes
 * left: unfinished uploads are taken back, objects that no entry names are deleted, spools removed.
 */
int atd_publisher_open(const struct atd_publisher_options *options,
                       struct atd_publisher **ret_publisher, struct atd_error *err) ATD_MUST_USE;

/* Waits up to `timeout_ms` until what dead processes left was looked at once: for a process that
 * would end before. */
void atd_publisher_recover_wait(struct atd_publisher *publisher, unsigned timeout_ms);

/*
 * The beginning of the end: nothing can be begun any more, what is under way ends as failed, and
 * what was sent of it is taken back. Waits for that, and for every publication to be given back, up
 * to `timeout_ms`; true: all of them were. What is not taken back is settled at the next start.
 */
bool atd_publisher_end(struct atd_publisher *publisher, unsigned timeout_ms);
/* Ends what is under way (as failed), then the threads. False, leaving it behind, when a thread
 * hangs. Publications must be closed before. NULL is fine. */
bool atd_publisher_close(struct atd_publisher *publisher, unsigned timeout_ms);

/* 0 when a publish could be begun; else why not, as far as is known without asking anybody (no
 * store, the index was unreachable or read only a moment ago). Errors: EROFS with what to do. */
int atd_publisher_ready(struct atd_publisher *publisher, struct atd_error *err) ATD_MUST_USE;
/* The same of an edit of the index alone, which rests on what is shown: refused when that is stale,
 * also while a view that began with a snapshot is catching up. Errors: EROFS. */
int atd_publisher_can_edit(struct atd_publisher *publisher, struct atd_error *err) ATD_MUST_USE;

/* ------------------------------------------------------------------ edits */

/*
 * An edit of the index, on the commit thread: `run` gets the editor and may block; `done` is called
 * after it, and, when `run` succeeded, after a catalog that shows the change became current (or
 * three seconds passed). Both on a thread of the publisher's. The memory is the caller's until
 * done.
 */
struct atd_publisher_edit {
    int (*run)(struct atd_publisher_edit *edit, struct atd_editor *editor, struct atd_error *err);
    void (*done)(struct atd_publisher_edit *edit,
                 const struct atd_error *why); /* NULL: it worked */
    bool only_reads; /* changes nothing: done does not wait for a catalog */
    /* the publisher's */
    struct atd_publisher_edit *next;
    struct atd_error why;
    uint64_t load; /* the one that shows the change */
};
/* Errors: EBUSY too many wait; then done is not called. */
int atd_publisher_edit(struct atd_publisher *publisher, struct atd_publisher_edit *edit,
                       struct atd_error *err) ATD_MUST_USE;

/* Counters for .atdatafs/: name and value of each. */
struct atd_publisher_stats {
    uint64_t published;
    uint64_t failed;
    uint64_t bytes_spooled;
    uint64_t bytes_sent;
    uint64_t parts_sent;
    uint64_t commits;
    uint64_t conflicts; /* commits that had to be planned again */
    uint64_t under_way; /* publications open now */
    uint64_t put_back;  /* shards that a failover of the index had lost */
    uint64_t recovered; /* jobs of dead processes that were settled */
};
void atd_publisher_stats(struct atd_publisher *publisher, struct atd_publisher_stats *ret_stats);

#endif

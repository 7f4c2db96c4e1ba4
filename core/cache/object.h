/*
 * One version of a remote object: what the reader's files share.
 *
 *   reader.c   the public functions, the table of objects, deadlines, start and stop
 *   object.c   life of an object: opening, references, its end; failing its reads
 *   serve.c    a read: the pieces it is made of, its answer, or its place among the waiters
 *   plan.c     what to fetch: gaps, demand, read-ahead, memory for it
 *   flight.c   one ranged get: progress, end, writing it to the cache file
 *   version.c  what is remembered of versions that are not open: local, mismatched; the check
 *
 * Locks: reader->lock, then object->lock, then those of the budget, the ticker, the cache
 * directory and the stores. A store's get is started and cancelled with the object's lock held,
 * which its contract allows (it never blocks or calls back from within). Answers (done), the disk
 * and the last unref are outside every lock.
 *
 * A waiter always has a flight over one of its missing bytes that has not landed. Whoever moves a
 * flight on takes the waiters that are ready from the list and serves them again from scratch; who
 * lands it also takes those that now wait for nothing, because what they had beside it is gone (a
 * block turned out bad, a kept flight lost its memory).
 */
#ifndef ATD_CACHE_OBJECT_H
#define ATD_CACHE_OBJECT_H

#include <stdatomic.h>

#include "base/lock.h"
#include "base/workers.h"
#include "cache/budget.h"
#include "cache/cursor.h"
#include "cache/history.h"
#include "cache/reader.h"
#include "cache/ticker.h"

#define ATD_READER_BUCKETS 4096u
#define ATD_READER_IO_THREADS 4u    /* reads that wait for the disk */
#define ATD_READER_WRITE_THREADS 2u /* flights that go into cache files */
#define ATD_VERSIONS_MAX 65536u     /* remembered ones; beyond, nothing new */
#define ATD_PIECES_MAX 128 /* of one read; more than ATD_READ_IOV_MAX are copied together */
/* Blocks of the cache file can turn out bad while a read looks at them: so often it looks again,
 * and then does without the file. */
#define ATD_SERVE_ROUNDS_MAX 32u
/* Of one object: a bound on the walks along its flights. */
#define ATD_KEPT_MAX 1024u
/* Failed gets that one read survives: the store itself has retried each. */
#define ATD_READ_TRIES_MAX 1u

/*
 * One ranged get.
 *
 *   WAITING --granted--> UNDER_WAY --done--> LANDED --written--> gone
 *      |                     |                 `--not written (all), or a stream is about to
 *      |                     |                    read it--> KEPT --memory wanted, read--> gone
 *      `--withdrawn--> gone  `--done, no byte--> gone
 *
 * A get that fails or is cancelled lands with what it received. One that is cancelled is cut to
 * that at once, so that its range is free for others: flights never overlap.
 */
enum atd_flight_state {
    ATD_FLIGHT_WAITING,   /* for memory */
    ATD_FLIGHT_UNDER_WAY, /* at the store */
    ATD_FLIGHT_LANDED,    /* being written to the cache file */
    ATD_FLIGHT_KEPT,      /* readable until the memory is wanted */
};

struct atd_flight {
    struct atd_work work; /* the writing */
    struct atd_object *object;
    /* guarded by object->lock */
    struct atd_flight *next; /* by first byte */
    enum atd_flight_state state;
    uint64_t first;
    uint64_t end;
    size_t received;     /* readable: [first, first + received) */
    size_t got;          /* what came, also beyond a cut */
    bool urgent;         /* somebody waits, or did */
    bool canceled;       /* its end is cut; done follows */
    bool ended;          /* done was called */
    bool listed;         /* in object->flights */
    bool passed;         /* kept, and the readers are past it */
    bool stored;         /* kept, and all of it is in the cache file too */
    uint64_t kept_as;    /* kept: object->keeps then */
    int64_t progress_ms; /* when bytes came last */
    struct atd_buffer *buffer;
    struct atd_budget_claim claim;
    struct atd_store_get get;
};

struct atd_object {
    /* fixed */
    struct atd_reader *reader;
    struct atd_store *store;
    char *url;
    size_t url_len;
    struct atd_object_info info;
    char sha256_hex[65]; /* "" unknown */
    uint64_t hash;
    struct atd_cache_file *file; /* NULL: none */
    struct atd_work end_work;
    struct atd_work verify_work;

    /* guarded by reader->lock */
    struct atd_object *next;      /* in its bucket */
    struct atd_object *tick_next; /* lists of the ticker and of the stopping thread */
    struct atd_object *stop_next;
    unsigned handles;

    atomic_uint refs; /* handles, gets, jobs; falls to 0 only with reader->lock held */
    atomic_uint waiter_count;

    struct atd_lock lock;
    /* guarded by lock */
    struct atd_flight *flights;
    struct atd_read *waiters; /* oldest first */
    struct atd_cursors cursors;
    unsigned live_flights; /* waiting or under way */
    unsigned kept_flights;
    uint64_t keeps;    /* a count */
    bool file_bad;     /* the disk failed: the file is not used any more */
    bool ahead_failed; /* no read-ahead until a flight succeeds */
    bool verify_queued;
    bool dead; /* stale or mismatched; reads fail with why */
    struct atd_error why;
    uint64_t purged_drops; /* atd_budget_drops() when kept flights were looked through last */
    uint64_t window_max_bytes;
    int64_t window_asked_ms;
};

struct atd_reader_handle {
    struct atd_object *object;
};

/* What is remembered of a version while it is not open. */
struct atd_version {
    struct atd_version *next;
    uint64_t hash;
    struct atd_object_info info;
    char sha256_hex[65];
    bool is_local;      /* complete and verified, when last seen */
    bool is_mismatched; /* it does not have that SHA-256 */
    size_t url_len;
    char url[];
};

struct atd_reader {
    /* fixed */
    struct atd_cache_dir *dir;
    unsigned timeout_ms;
    struct atd_cache_stats *stats;
    char *scope; /* NULL: none */
    void (*local_changed)(void *ctx, struct atd_str url, const struct atd_object_info *info);
    void *ctx;
    struct atd_budget *budget;
    struct atd_ticker *ticker;
    struct atd_workers *io;
    struct atd_workers *writers;
    struct atd_workers *verifier;

    atomic_bool stopping;
    atomic_uint jobs;           /* gets, writes, checks under way; fall with the lock held */
    atomic_uint active_objects; /* with live flights */

    struct atd_lock lock;
    pthread_cond_t idle; /* jobs became 0 */
    /* guarded by lock */
    struct atd_object *objects[ATD_READER_BUCKETS];
    struct atd_version *versions[ATD_READER_BUCKETS];
    unsigned version_count;
    struct atd_history history;
};

static inline struct atd_str atd_object_url(const struct atd_object *object)
{
    return (struct atd_str){object->url, object->url_len};
}

/* ------------------------------------------------------------------ object.c */

uint64_t atd_object_hash(struct atd_str url, const struct atd_object_info *info);
/* Opens the cache file. Blocks. The object has one handle and one reference. Errors: ENOMEM. */
int atd_object_new(struct atd_reader *reader, const struct atd_reader_source *source, uint64_t hash,
                   struct atd_object **ret_object, struct atd_error *err) ATD_MUST_USE;
void atd_object_free(struct atd_object *object); /* blocks */
/* For a get or a job; the caller has a reference. Any lock may be held. */
void atd_object_ref_job(struct atd_object *object);
/* No lock held; never blocks. */
void atd_object_unref_job(struct atd_object *object);
void atd_object_unref(struct atd_object *object);
/* Cancels every get that nobody waits for. */
void atd_object_cancel_unwanted(struct atd_object *object);
/* All later reads fail with `why`, and so do the waiters. No lock held. */
void atd_object_kill(struct atd_object *object, const struct atd_error *why);
/* Fails waiters whose time is up; the earliest time of the others. No lock held. */
int64_t atd_object_expire(struct atd_object *object, int64_t now_ms);
/* True when the block can be read from the cache file. */
bool atd_object_has_locked(const struct atd_object *object, uint64_t block);

/* ------------------------------------------------------------------ serve.c */

/* Answers the read or makes it a waiter. No lock held. */
void atd_read_serve(struct atd_object *object, struct atd_read *read, bool may_block);
/* The same for a list of waiters that were taken off. */
void atd_read_serve_list(struct atd_object *object, struct atd_read *list);
/* See atd_reader_cancel(). */
bool atd_read_cancel(struct atd_object *object, struct atd_read *read);
void atd_read_fail(struct atd_object *object, struct atd_read *read, const struct atd_error *why);
/* True when every byte is there. */
bool atd_read_is_ready_locked(struct atd_object *object, const struct atd_read *read);
/* True when it need not wait, or waits for nothing: no flight brings its first missing byte. */
bool atd_read_is_stuck_locked(struct atd_object *object, const struct atd_read *read);
/* Takes the waiters off that are ready (stuck) and overlap [first, end). */
struct atd_read *atd_read_take_ready_locked(struct atd_object *object, uint64_t first,
                                            uint64_t end);
struct atd_read *atd_read_take_stuck_locked(struct atd_object *object, uint64_t first,
                                            uint64_t end);

/* ------------------------------------------------------------------ plan.c */

/* After a new read that found its bytes (`waits` false) or not. Errors: ENOMEM for a demand. */
int atd_plan_new_read_locked(struct atd_object *object, const struct atd_read *read, bool waits,
                             struct atd_error *err) ATD_MUST_USE;
/* A waiter has lost what it waited for: just its blocks again. */
int atd_plan_again_locked(struct atd_object *object, const struct atd_read *read,
                          struct atd_error *err) ATD_MUST_USE;

/* ------------------------------------------------------------------ flight.c */

/* Takes memory and starts the get, or (urgent only) gets in line for memory. Read-ahead without
 * memory: -EAGAIN. Errors: ENOMEM. */
int atd_flight_start_locked(struct atd_object *object, uint64_t first, uint64_t end, bool urgent,
                            struct atd_error *err) ATD_MUST_USE;
void atd_flight_make_urgent_locked(struct atd_flight *flight);
/* Ends a flight that waits or is under way. Returns the flight when the caller must end it with
 * atd_flight_end_withdrawn(), without the lock. */
struct atd_flight *atd_flight_cancel_locked(struct atd_flight *flight);
void atd_flight_end_withdrawn(struct atd_flight *flight);
/* Removes a kept one. */
void atd_flight_drop_kept_locked(struct atd_flight *flight);
/* Removes flights whose memory went elsewhere. */
void atd_flight_purge_locked(struct atd_object *object);
/* At the object's end: only kept ones are left. */
void atd_flight_free_all(struct atd_object *object);

/* ------------------------------------------------------------------ version.c */

/* Checks a complete cache file in the background, unless that was done. No lock held. */
void atd_version_check_later(struct atd_object *object);
/* False: this version is known not to have its SHA-256. */
bool atd_version_may_open(struct atd_reader *reader, const struct atd_reader_source *source,
                          uint64_t hash);
/* An open found the version not to be local any more, if it was. No lock held. */
void atd_version_note_open(struct atd_object *object);
/* True when the object's version is local, and was checked against the object's SHA-256. */
bool atd_version_is_local_for(const struct atd_object *object);
bool atd_version_is_local(struct atd_reader *reader, struct atd_str url,
                          const struct atd_object_info *info);
void atd_version_free_all(struct atd_reader *reader);

#endif

/*
 * Reading remote objects: from the cache file, from memory, or from the store, each byte fetched
 * once and none served unchecked.
 *
 * An object is one version of a shard (URL, size, ETag); all handles on it share its blocks,
 * flights and cursors. A read that cannot be answered at once becomes a waiter on the flights that
 * bring its bytes; whoever receives them answers it. Nobody's thread waits.
 *
 * What is fetched (DESIGN 3): the first request of a cursor what was asked, rounded up to 1 MiB;
 * then aligned 8 MiB parts, in parallel, as far ahead as the window says, which doubles while the
 * reader waits, up to throughput x latency x 2 and its share of the memory. Several cursors an
 * object; two far seeks without going on switch to exact ranges.
 *
 * Threads: any, unless it says so.
 */
#ifndef ATD_CACHE_READER_H
#define ATD_CACHE_READER_H

#include <stdatomic.h>
#include <sys/uio.h>

#include "base/workers.h"
#include "cache/cache_dir.h"
#include "store/store.h"

/* The largest read; FUSE sends at most 1 MiB. */
#define ATD_READ_BYTES_MAX (1u << 20)
#define ATD_READ_IOV_MAX 34 /* what a read of 1 MiB over 64 KiB pieces can take */

struct atd_reader;
struct atd_reader_handle;

struct atd_reader_options {
    struct atd_cache_dir *dir;     /* borrowed; NULL: memory only (cache=none) */
    uint64_t memory_bytes;         /* buffers never take more; at least 32 MiB */
    unsigned timeout_ms;           /* a read fails with ETIMEDOUT when nothing came for so long */
    struct atd_cache_stats *stats; /* borrowed */
    /* Stands before URLs in the names of cache files (the endpoint: the same s3:// URL at two
     * servers is two objects). NULL: nothing. Copied. */
    const char *scope;
    /* An object became complete and verified, or stopped being so (evicted). From a thread of the
     * reader's, without a lock. May be NULL. */
    void (*local_changed)(void *ctx, struct atd_str url, const struct atd_object_info *info);
    void *ctx;
};

int atd_reader_new(const struct atd_reader_options *options, struct atd_reader **ret_reader,
                   struct atd_error *err) ATD_MUST_USE;
/* Cancels all flights, fails all waiters (ECANCELED), ends the threads. All handles are closed
 * or will be closed never (the process ends). False when a thread hangs. NULL is fine. */
bool atd_reader_stop(struct atd_reader *reader);
void atd_reader_free(struct atd_reader *reader); /* after a stop that returned true */

/* What to read. Copied. */
struct atd_reader_source {
    struct atd_store *store; /* must outlive the reader */
    struct atd_str url;
    const struct atd_object_info *info;
    struct atd_str sha256_hex; /* of the whole, 64 digits; len 0: unknown */
};

/* Blocks on the local disk (the cache file). Errors: ENOMEM; EBADMSG the object is known not to
 * have the SHA-256 that the index tells. A cache file that cannot be had is done without. */
int atd_reader_open(struct atd_reader *reader, const struct atd_reader_source *source,
                    struct atd_reader_handle **ret_handle, struct atd_error *err) ATD_MUST_USE;
/* No read of the handle is under way. Flights that only it wanted are cancelled. Never blocks. */
void atd_reader_close(struct atd_reader_handle *handle);

/*
 * When the object is complete and verified: a descriptor of its file, the caller's. Else -ENODATA.
 * An object found complete when opened is verified in the background; nobody waits for that.
 */
int atd_reader_local_fd(struct atd_reader_handle *handle, int *ret_fd,
                        struct atd_error *err) ATD_MUST_USE;

/* True when the version is complete and verified now. Memory only: made for listings. */
bool atd_reader_is_local(struct atd_reader *reader, struct atd_str url,
                         const struct atd_object_info *info);

/* One read; the caller's memory from start to done. */
struct atd_read {
    /* set by the caller */
    uint64_t offset; /* inside the object */
    size_t size;     /* 1 to ATD_READ_BYTES_MAX, not beyond the object's end */
    /*
     * The last call: the bytes, in at most ATD_READ_IOV_MAX pieces, valid during the call, or
     * why not: ESTALE, ETIMEDOUT, ECANCELED, EIO and the store's. From any thread, also from
     * within atd_reader_read(), without a lock.
     */
    void (*done)(struct atd_read *read, const struct iovec *pieces, int piece_count,
                 const struct atd_error *why);
    /* the reader's */
    struct atd_work work; /* when a thread has to wait for the disk */
    struct atd_reader_handle *handle;
    struct atd_read *next;
    int64_t since_ms; /* waits since then; 0: not yet */
    unsigned tries;
    bool planned; /* the cursors know of it */
    /* The caller zeroes it with all the rest, before anything may call atd_reader_cancel(). */
    atomic_bool is_canceled;
};

/* Never blocks: neither on the network nor on a disk. */
void atd_reader_read(struct atd_reader_handle *handle, struct atd_read *read);

/*
 * Nobody wants its answer any more. True: it waited and is the caller's again, done will not be
 * called. False: done was called, is being called, or soon will be (also before atd_reader_read():
 * with ECANCELED then). Any thread, while the read's memory lives; never blocks.
 */
bool atd_reader_cancel(struct atd_reader_handle *handle, struct atd_read *read) ATD_MUST_USE;

#endif

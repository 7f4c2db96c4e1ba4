/*
 * One file on its way to being a shard.
 *
 *   SPOOLING --check asked--> CHECKING --all sent--> SENT --publish asked--> COMMITTING -->
 * PUBLISHED ^                         |                     |                         |
 *      |<--a hint, no name-------+<----written again---+                         | failed
 *      |                         | refused, cancelled  | cancelled               v
 *      |                         v                     v
 *      +<----truncated to 0---- REFUSED, POISONED <--- a write failed (but in COMMITTING)
 *
 * While SPOOLING bytes are inspected, and parts sent, as they come in order; writers who are
 * further ahead than ATD_PUBLICATION_LAG_BYTES wait for their answer, so that a copy's progress is
 * the upload's. Everything is asynchronous: a `done` is called from a thread of the publisher's,
 * without a lock, never from within the call that asked.
 *
 * A publication is shared by handles and names (_ref, _unref); the last _unref of one that is not
 * PUBLISHED takes back what was sent. Threads: any.
 */
#ifndef ATD_PUBLISH_PUBLICATION_H
#define ATD_PUBLISH_PUBLICATION_H

#include "publish/publisher.h"
#include "publish/spool.h"

#define ATD_PUBLICATION_LAG_BYTES (64u << 20)

struct atd_publication;

enum atd_publication_state {
    ATD_PUBLICATION_SPOOLING,
    ATD_PUBLICATION_CHECKING,
    ATD_PUBLICATION_SENT,
    ATD_PUBLICATION_COMMITTING,
    ATD_PUBLICATION_PUBLISHED,
    ATD_PUBLICATION_REFUSED, /* what was written is no shard, or could not be published: why says */
    ATD_PUBLICATION_POISONED, /* a write failed: nothing of it may be used */
};

/*
 * A new one for `dataset` (the index's name). `file_name`: what the shard will be called; empty:
 * not known, then nothing is sent before the rename. A scratch file is one too (so that its rename
 * can publish it), only that it is limited to scratch_limit_bytes until it looks like a tar.
 */
int atd_publication_new(struct atd_publisher *publisher, struct atd_str dataset,
                        struct atd_str file_name, struct atd_publication **ret_publication,
                        struct atd_error *err) ATD_MUST_USE;

/* One over a file that is there and complete (atd_spool_over): `fd` is taken on success. */
int atd_publication_over(struct atd_publisher *publisher, struct atd_str dataset,
                         struct atd_str file_name, int fd, int64_t mtime_ns,
                         struct atd_publication **ret_publication,
                         struct atd_error *err) ATD_MUST_USE;

struct atd_publication *atd_publication_ref(struct atd_publication *publication);
/* Never blocks: what has to be taken back is taken back by the publisher's threads. */
void atd_publication_unref(struct atd_publication *publication);

struct atd_publication_status {
    enum atd_publication_state state;
    bool is_dirty; /* written, or its size changed, since the last check */
    uint64_t size_bytes;
    int64_t blocks;
    int64_t mtime_ns;
    uint64_t sent_bytes;  /* of size_bytes, as far as parts went out */
    struct atd_error why; /* REFUSED, POISONED */
    bool was_there;       /* PUBLISHED: the same bytes were listed already, nothing was sent */
    char url[2048];       /* PUBLISHED */
    struct atd_cid cid;   /* PUBLISHED */
};
void atd_publication_status(struct atd_publication *publication,
                            struct atd_publication_status *ret_status);

/* ------------------------------------------------------------------ bytes */

/* An answer that comes later, and perhaps before the call that asked returns. The memory is the
 * caller's until done. */
struct atd_publication_wait {
    void (*done)(struct atd_publication_wait *wait, const struct atd_error *why); /* NULL: fine */
    struct atd_publication_wait *next;
    bool is_given_up; /* atd_publication_give_up(); false at first */
};

/*
 * Writes. Blocks on the disk only. 0: done, answer now. -EINPROGRESS: the bytes are taken, but the
 * writer is too far ahead: `wait->done` follows, with EIO when the file is spoiled meanwhile.
 * Errors: EPERM it is published; EIO poisoned; EDQUOT, EFBIG; any of them poisons it.
 */
int atd_publication_write(struct atd_publication *publication, uint64_t offset,
                          struct atd_bytes bytes, struct atd_publication_wait *wait,
                          struct atd_error *err) ATD_MUST_USE;
/* Truncation to 0 heals a poisoned or refused one, unless its file may be a shard by now. The rest
 * as write. */
int atd_publication_truncate(struct atd_publication *publication, uint64_t size_bytes,
                             struct atd_error *err) ATD_MUST_USE;
int atd_publication_allocate(struct atd_publication *publication, int mode, uint64_t offset,
                             uint64_t len, struct atd_error *err) ATD_MUST_USE;
int atd_publication_read(struct atd_publication *publication, uint64_t offset, void *into,
                         size_t len, size_t *ret_len, struct atd_error *err) ATD_MUST_USE;
/* Shown at once; recorded with the shard, also after it was published. Never blocks. */
void atd_publication_set_mtime(struct atd_publication *publication, int64_t mtime_ns);

/* ------------------------------------------------------------------ the verdict */

/*
 * Checks the whole file and sends what was not sent: done says whether it is SENT (or, without a
 * file name, merely checked). `is_hint`: an incomplete tar is no failure then (FSYNC, TOOLS 4.3).
 * Errors: EINVAL not a shard (the sentence says why), ENOENT the dataset was deleted, EEXIST a
 * shard of that name is there, EIO and others. A file that did not change since its last verdict
 * gets that one again.
 */
void atd_publication_check(struct atd_publication *publication, bool is_hint,
                           struct atd_publication_wait *wait);

/*
 * Checks, sends, and commits to the index: done without an error means PUBLISHED. `dataset` and
 * `file_name` are the name it has now (after a rename); a name other than the one it was sent under
 * sends it anew. `replaces`: a URL whose place it takes; empty: none.
 * The same bytes under the same name are there already: success, nothing is sent twice.
 */
void atd_publication_publish(struct atd_publication *publication, struct atd_str dataset,
                             struct atd_str file_name, struct atd_str replaces,
                             struct atd_publication_wait *wait);

/* What is asked now ends soon (ECANCELED). False: it is COMMITTING or PUBLISHED, and goes on. */
bool atd_publication_cancel(struct atd_publication *publication);

/*
 * Somebody killed the process that waits for this answer, or is about to: the same, and a write is
 * not held. Unlike _cancel it may come before the wait is asked with: what a signal handler knows
 * is the wait only. Not once `done` was called, which the caller sees to.
 */
void atd_publication_give_up(struct atd_publication *publication,
                             struct atd_publication_wait *wait);

/* A schema that the user dropped for a dataset that is not in the index yet; copied. NULL: none.
 * Used by the first shard that is published there. */
int atd_publisher_keep_schema(struct atd_publisher *publisher, struct atd_str dataset,
                              const struct atd_bytes *json, struct atd_error *err) ATD_MUST_USE;

#endif

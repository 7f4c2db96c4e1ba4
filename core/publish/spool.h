/*
 * A spool file: the private copy of what somebody writes, until it is published.
 *
 * Any tool's way of writing works (TOOLS 4.6): in order, with gaps, from the end, rewritten from 0,
 * grown by truncation, preallocated. Alongside, it knows how far the bytes are there in order, so
 * that they can be read (hashed, walked, sent) while the writer goes on, and whether bytes that
 * were read so were changed afterwards.
 *
 * Threads: any; writes of one spool may come from several threads at once. Blocks: on the disk.
 */
#ifndef ATD_PUBLISH_SPOOL_H
#define ATD_PUBLISH_SPOOL_H

#include <sys/stat.h>

#include "atdata/error.h"
#include "atdata/str.h"

/* How many bytes a spool writes before it looks again whether the file system has room. Each spool
 * may go below the floor by so much. */
#define ATD_SPOOL_FLOOR_STEP_BYTES (16u << 20)

struct atd_spool;

/*
 * Makes the file `path` (0600, must not exist). Its writes fail with EDQUOT when they would leave
 * less than `floor_bytes` free on its file system (0: no floor) or make it larger than
 * `limit_bytes` (0: no limit; EFBIG), and whenever the system says ENOSPC: never ENOSPC itself (KIO
 * deletes the file that it replaces then, TOOLS 2b). Errors: EEXIST and others of open(2).
 */
int atd_spool_new(const char *path, uint64_t limit_bytes, uint64_t floor_bytes,
                  struct atd_spool **ret_spool, struct atd_error *err) ATD_MUST_USE;

/* A file that is there already and is not written: for `atdatafs publish`. Everything is in order
 * from the start, all changes are EPERM. `fd` is taken on success. Errors: EINVAL no regular file.
 */
int atd_spool_over(int fd, struct atd_spool **ret_spool, struct atd_error *err) ATD_MUST_USE;

/* Closes it and removes its name, if it has one still. NULL is fine. */
void atd_spool_free(struct atd_spool *spool);

/* Another limit from now on, 0 for none. What is there stays. */
void atd_spool_set_limit(struct atd_spool *spool, uint64_t limit_bytes);

/* After an error any part of the bytes may be there. Errors: EDQUOT, EFBIG, EPERM, EIO. */
int atd_spool_write(struct atd_spool *spool, uint64_t offset, struct atd_bytes bytes,
                    struct atd_error *err) ATD_MUST_USE;
/* *ret_len 0 at the end, less than `len` only there. Holes read as zeros. */
int atd_spool_read(struct atd_spool *spool, uint64_t offset, void *into, size_t len,
                   size_t *ret_len, struct atd_error *err) ATD_MUST_USE;
int atd_spool_truncate(struct atd_spool *spool, uint64_t size_bytes,
                       struct atd_error *err) ATD_MUST_USE;
/* fallocate(2); `mode` 0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE with or without KEEP_SIZE.
 * Errors: EOPNOTSUPP other modes and where the file system cannot; EDQUOT; EFBIG. */
int atd_spool_allocate(struct atd_spool *spool, int mode, uint64_t offset, uint64_t len,
                       struct atd_error *err) ATD_MUST_USE;
/* To the disk. */
int atd_spool_sync(struct atd_spool *spool, struct atd_error *err) ATD_MUST_USE;

int atd_spool_fd(const struct atd_spool *spool);
const char *atd_spool_path(const struct atd_spool *spool); /* NULL: over somebody's file */
uint64_t atd_spool_size(struct atd_spool *spool);
/* st_blocks as the file system has it. */
int64_t atd_spool_blocks(struct atd_spool *spool);

/*
 * Reading along. Bytes [0, ordered_end) were written, by writes that are over. `epoch` goes up
 * before any byte changes that lies below an ordered_end told in this epoch: what was made of those
 * bytes is void then. So a reader asks, reads up to ordered_end, asks again: when the epoch is the
 * same, all that it read was good.
 *
 * What is not written: a hole that a truncation, a preallocation or a gap left, or one that was
 * punched, since a writer may yet fill it. And a write that begins within what was written already
 * makes ordered_end its own end: who begins again at 0 (GIO) writes the rest anew too. For both
 * atd_spool_whole() is the remedy: the writer says that it is through, and everything up to the
 * size counts as written.
 *
 *   written in order           ordered_end follows the writes
 *   cp --sparse, rsync -S      it stays at the first gap, to the size when whole
 *   preallocated (aria2)       it follows the writes; the size is known before
 *   tar r, --append            the new tail only: the epoch goes up when it begins below the old
 *                              end (tar r overwrites the end blocks), else the old bytes stay good
 */
struct atd_spool_progress {
    uint64_t size_bytes;
    uint64_t ordered_end;
    uint64_t epoch;
    uint64_t written; /* bytes written altogether */
    unsigned
        changing; /* writes and other changes under way: a verdict waits until there are none */
};
void atd_spool_progress(struct atd_spool *spool, struct atd_spool_progress *ret_progress);

/* The same, after everything up to the size was made to count as written. */
void atd_spool_whole(struct atd_spool *spool, struct atd_spool_progress *ret_progress);

#endif

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

struct atd_spool;

/*
 * Makes the file `path` (0600, must not exist). Its writes fail with EDQUOT when they would leave
 * less than `floor_bytes` free on its file system or make it larger than `limit_bytes` (0: no
 * limit; EFBIG), and whenever the system says ENOSPC: never ENOSPC itself (KIO deletes the file
 * that it replaces then, TOOLS 2b).
 */
int atd_spool_new(const char *path, uint64_t limit_bytes, uint64_t floor_bytes,
                  struct atd_spool **ret_spool, struct atd_error *err) ATD_MUST_USE;

/* A file that is there already and is not written: for `atdatafs publish`. Everything is in order
 * from the start. `fd` is taken on success. */
int atd_spool_over(int fd, struct atd_spool **ret_spool, struct atd_error *err) ATD_MUST_USE;

/* Closes it and removes its name, if it has one still. NULL is fine. */
void atd_spool_free(struct atd_spool *spool);

int atd_spool_write(struct atd_spool *spool, uint64_t offset, struct atd_bytes bytes,
                    struct atd_error *err) ATD_MUST_USE;
/* *ret_len 0 at the end. Holes read as zeros. */
int atd_spool_read(struct atd_spool *spool, uint64_t offset, void *into, size_t len,
                   size_t *ret_len, struct atd_error *err) ATD_MUST_USE;
int atd_spool_truncate(struct atd_spool *spool, uint64_t size_bytes,
                       struct atd_error *err) ATD_MUST_USE;
/* fallocate(2); `mode` 0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE. Errors: EOPNOTSUPP other
 * modes and where the file system cannot; EDQUOT. */
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
 * Reading along. `ordered_end`: bytes [0, ordered_end) were all written by now (a hole that was
 * punched or made by truncation counts only once the spool is said to be whole); `epoch` goes up
 * whenever bytes below an ordered_end that was told change: what was made of them is void.
 */
struct atd_spool_progress {
    uint64_t size_bytes;
    uint64_t ordered_end;
    uint64_t epoch;
    uint64_t written; /* bytes written altogether */
};
void atd_spool_progress(struct atd_spool *spool, struct atd_spool_progress *ret_progress);

#endif

/*
 * A fixed pool of threads with one queue, for work that may block on a disk.
 *
 * Threads: every function from any thread. All signals are blocked in the pool's threads.
 */
#ifndef ATD_BASE_WORKERS_H
#define ATD_BASE_WORKERS_H

#include "atdata/error.h"

/* Queued work beyond this is refused: a bound on memory, far above what FUSE has in flight. */
#define ATD_WORKERS_QUEUE_MAX 65536u
#define ATD_WORKERS_THREADS_MAX 64u

/* Embedded as the first member of whatever the work needs. */
struct atd_work {
    struct atd_work *next;
    void (*run)(struct atd_work *work); /* owns the work from then on */
};

struct atd_workers;

/* Errors: EAGAIN, ENOMEM. */
int atd_workers_start(const char *name, unsigned thread_count, struct atd_workers **ret_workers,
                      struct atd_error *err) ATD_MUST_USE;

/*
 * Queues the work: taken on success. Errors: EBUSY when the queue is full or the pool is stopping;
 * the caller still owns the work.
 */
int atd_workers_submit(struct atd_workers *workers, struct atd_work *work,
                       struct atd_error *err) ATD_MUST_USE;

/*
 * Runs what is queued, then joins and frees the pool. NULL is fine.
 * Returns false, leaving the pool behind, when a thread did not end within `timeout_ms`: it hangs
 * in a system call on a dead disk, and the process must end without it.
 */
bool atd_workers_stop(struct atd_workers *workers, unsigned timeout_ms);

/* Starts a thread with all signals blocked, named for ps and gdb. Errors: EAGAIN, ENOMEM. */
int atd_thread_start(const char *name, void *(*body)(void *), void *ctx, unsigned long *ret_thread,
                     struct atd_error *err) ATD_MUST_USE;

/* Joins it; false when it did not end within `timeout_ms`. */
bool atd_thread_join(unsigned long thread, unsigned timeout_ms);

#endif

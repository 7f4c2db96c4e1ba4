/*
 * Reads that could not even be started, for want of memory: `done` may not be called from within
 * start, so they wait here, linked through their own memory, for a thread of the store's.
 *
 * Threads: any.
 */
#ifndef ATD_STORE_REFUSED_H
#define ATD_STORE_REFUSED_H

#include "base/lock.h"
#include "store/store.h"

struct atd_refused {
    struct atd_lock lock;
    /* guarded by lock */
    struct atd_store_get *first; /* linked by get->impl */
    bool draining;               /* somebody was asked to drain and has not emptied the list yet */
};

void atd_refused_init(struct atd_refused *refused);
void atd_refused_release(struct atd_refused *refused);

/* True when the caller must have atd_refused_drain() called by another thread, once. */
bool atd_refused_add(struct atd_refused *refused, struct atd_store_get *get);

/* Calls done of all that wait, without a lock. By one thread at a time. */
void atd_refused_drain(struct atd_refused *refused, const struct atd_error *why);

/* get->impl as the store left it, or NULL when the read waits here or is being told. */
void *atd_refused_impl(struct atd_refused *refused, const struct atd_store_get *get);

#endif

/*
 * A range of an object, waited for; and everybody who waits, let go.
 */
#ifndef ATD_DATASET_MEMBERS_FETCH_H
#define ATD_DATASET_MEMBERS_FETCH_H

#include "base/lock.h"
#include "store/store.h"

struct atd_members_fetch;

struct atd_members_fetches {
    struct atd_lock lock;
    /* guarded by lock */
    struct atd_members_fetch *first;
    bool is_interrupted;
};

void atd_members_fetches_init(struct atd_members_fetches *fetches);
/* Nobody waits any more. */
void atd_members_fetches_release(struct atd_members_fetches *fetches);
/* Every fetch under way and any later one ends with ECANCELED. Never blocks. */
void atd_members_fetches_interrupt(struct atd_members_fetches *fetches);
bool atd_members_fetches_are_interrupted(struct atd_members_fetches *fetches);

/* Blocks until `range` (its url, first, end, expect, into and stall_timeout_ms are given) is there.
 * Errors: those of atd_store_get. */
int atd_members_fetch(struct atd_members_fetches *fetches, struct atd_store *store,
                      const struct atd_store_get *range, struct atd_error *err) ATD_MUST_USE;

#endif

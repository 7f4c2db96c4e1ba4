/*
 * Who looks the shards of a generation up on the disk: one thread, through all entries once, so
 * that what cannot be read is known, and listings of a small index find sizes known (shards.h says
 * what is kept). Shards that were not to be had it looks for again, and tells when they came.
 *
 *     NOTHING --offer--> sweeping --all is there--> NOTHING
 *                         ^    |--something is missing--> WAITING --due--> sweeping
 *                         |----offer: a newer generation, at once
 *
 * Threads: every function from any thread, but _start and _stop.
 */
#ifndef ATD_CATALOG_SWEEP_H
#define ATD_CATALOG_SWEEP_H

#include "catalog/catalog.h"
#include "catalog/locator.h"

struct atd_sweep;

/* The files of an entry's shards came, went or changed while the entry stayed. Called from the
 * thread, without a lock. */
typedef void (*atd_sweep_told_fn)(void *ctx, struct atd_catalog *catalog,
                                  const struct atd_catalog_entry *entry);

/* `locator` is borrowed; `told` NULL: nobody wants to know. Errors: ENOMEM, EAGAIN. */
int atd_sweep_start(struct atd_locator *locator, atd_sweep_told_fn told, void *ctx,
                    struct atd_sweep **ret_sweep, struct atd_error *err) ATD_MUST_USE;

/* This is what the index holds now. Never blocks. */
void atd_sweep_offer(struct atd_sweep *sweep, struct atd_catalog *catalog);

/* Somebody met a list with something missing: it is looked for soon. Never blocks. */
void atd_sweep_look_again(struct atd_sweep *sweep);

/* How many shards of the last generation could not be read. */
uint64_t atd_sweep_unreadable(struct atd_sweep *sweep);

/* Ends the thread and frees it. False, leaving it behind, when it hangs in the disk. NULL is fine.
 */
bool atd_sweep_stop(struct atd_sweep *sweep, unsigned timeout_ms);

#endif

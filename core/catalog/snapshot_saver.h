/*
 * Who saves generations to a snapshot: one thread, so that nobody else waits for the disk.
 *
 *     NOTHING --offer--> WANTED --due, by the thread--> saving --done--> NOTHING
 *                                                              --failed--> WANTED, unless a newer
 *                                                                          one was offered
 *
 * Threads: every function from any thread, but _stop.
 */
#ifndef ATD_CATALOG_SNAPSHOT_SAVER_H
#define ATD_CATALOG_SNAPSHOT_SAVER_H

#include "catalog/catalog.h"

struct atd_snapshot_saver;

/* `path` and `identity` (of the snapshot) are copied. Saves come at least `every_ms` apart, and
 * take at most 1/20 of the time. Errors: ENOMEM, EAGAIN. */
int atd_snapshot_saver_start(const char *path, struct atd_str identity, unsigned every_ms,
                             struct atd_snapshot_saver **ret_saver,
                             struct atd_error *err) ATD_MUST_USE;

/* This is what the index holds now. Never blocks. */
void atd_snapshot_saver_offer(struct atd_snapshot_saver *saver, struct atd_catalog *catalog);

struct atd_snapshot_saver_status {
    int64_t saved_at_s;             /* 0: not yet */
    char error[ATD_ERROR_TEXT_MAX]; /* why the last attempt failed; "" */
};
void atd_snapshot_saver_status(struct atd_snapshot_saver *saver,
                               struct atd_snapshot_saver_status *ret_status);

/* Saves what was offered and is not saved, once, then ends and frees it. False, leaving it behind,
 * when the thread hangs in the disk. NULL is fine. */
bool atd_snapshot_saver_stop(struct atd_snapshot_saver *saver, unsigned timeout_ms);

#endif

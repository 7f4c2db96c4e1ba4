/*
 * Entries that labels lead to and that the list of keys did not have.
 *
 * SCAN need not report a key that came while it went on. When somebody publishes into a dataset
 * meanwhile, its old entry is read under another name, its label leads to the new entry, and that
 * one is missing: the dataset would be gone for as long as this load is current. So what such
 * labels lead to is read at the end. Threads: one. Never blocks.
 */
#ifndef ATD_INDEX_REDIS_MISSING_H
#define ATD_INDEX_REDIS_MISSING_H

#include "atdata/str.h"

/* Others stay missing: so many come at once in no index, but labels may lead nowhere. */
#define ATD_REDIS_MISSING_MAX 4096u
#define ATD_REDIS_MISSING_KEY_MAX 128u

struct atd_redis_missing;

/* NULL: out of memory. */
struct atd_redis_missing *atd_redis_missing_new(void);
void atd_redis_missing_free(struct atd_redis_missing *missing);

/* A key was listed; a label leads to the entry of this CID. Without memory nothing is noted. */
void atd_redis_missing_listed(struct atd_redis_missing *missing, struct atd_str key);
void atd_redis_missing_wanted(struct atd_redis_missing *missing, struct atd_str cid);

/* When everything was noted: the key of the next one that is missing; false: none is left. */
bool atd_redis_missing_next(struct atd_redis_missing *missing, struct atd_str *ret_key);

#endif

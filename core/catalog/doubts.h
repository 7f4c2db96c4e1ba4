/*
 * URLs whose recorded facts were found wrong: the object is another one than its publisher wrote
 * down. Remembered for as long as the process lives, the latest of them; what is then learned of
 * the object is in the object table, which goes before records. Threads: any.
 */
#ifndef ATD_CATALOG_DOUBTS_H
#define ATD_CATALOG_DOUBTS_H

#include "atdata/str.h"
#include "base/lock.h"

#define ATD_DOUBTS_MAX 1024u

struct atd_doubts {
    struct atd_lock lock;
    /* guarded by lock */
    uint64_t urls[ATD_DOUBTS_MAX]; /* hashes: one that is hit by chance costs a request */
    size_t count;                  /* ever added */
};

void atd_doubts_init(struct atd_doubts *doubts);
void atd_doubts_release(struct atd_doubts *doubts);
void atd_doubts_add(struct atd_doubts *doubts, struct atd_str url);
bool atd_doubts_has(struct atd_doubts *doubts, struct atd_str url);

#endif

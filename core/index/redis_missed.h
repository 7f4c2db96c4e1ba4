/*
 * The entries that labels lead to and a walk over the keys did not see.
 *
 * A publish writes an entry and moves the label to it in one transaction. A walk that listed the
 * keys before it and reads the label after it would find the label pointing at nothing, and the
 * dataset would be gone for a moment. Such entries are read behind the walk.
 */
#ifndef ATD_INDEX_REDIS_MISSED_H
#define ATD_INDEX_REDIS_MISSED_H

#include "atdata/buf.h"
#include "atdata/str.h"

/* Of the keys of entries that labels lead to; those beyond are not looked after. */
#define ATD_REDIS_MISSED_BYTES_MAX (64u << 20)

struct atd_redis_missed {
    uint64_t *seen; /* digests of the keys of entries that were read; 0: free */
    size_t count;
    size_t capacity;     /* a power of two */
    struct atd_buf keys; /* of entries that labels lead to: u32 length, bytes */
    size_t next;
    bool incomplete; /* out of memory: then nothing is followed */
};

void atd_redis_missed_init(struct atd_redis_missed *missed);
void atd_redis_missed_release(struct atd_redis_missed *missed);

/* `key`: of an entry that was read. */
void atd_redis_missed_note_entry(struct atd_redis_missed *missed, struct atd_str key);
/* `cid`: what a label leads to. Not between calls of _next. */
void atd_redis_missed_note_label(struct atd_redis_missed *missed, struct atd_str cid);

/* The next key that was not read, each once; false: that was all. Valid until _release. */
bool atd_redis_missed_next(struct atd_redis_missed *missed, struct atd_str *ret_key);

#endif

/*
 * A set of keys, bounded, in the order in which they came: those that may have changed.
 *
 * Threads: one at a time.
 */
#ifndef ATD_INDEX_REDIS_DIRTY_H
#define ATD_INDEX_REDIS_DIRTY_H

#include "atdata/buf.h"
#include "atdata/str.h"

/* Past either it is cheaper to load all than to ask key by key. */
#define ATD_REDIS_DIRTY_KEYS_MAX 16384u
#define ATD_REDIS_DIRTY_BYTES_MAX (8u << 20)

struct atd_redis_dirty {
    struct atd_buf bytes; /* the keys, one behind the other */
    uint32_t *starts;     /* of each key in bytes; one more than there are keys */
    uint32_t *slots;      /* a hash table of numbers of keys, from 1; 0: free */
    size_t count;
    size_t capacity; /* of slots: a power of two, at least twice the keys */
    uint64_t seed;   /* of its hashes */
};

void atd_redis_dirty_init(struct atd_redis_dirty *dirty);
void atd_redis_dirty_release(struct atd_redis_dirty *dirty);

/* Empties it; what little memory it takes it keeps. */
void atd_redis_dirty_clear(struct atd_redis_dirty *dirty);

/* *ret_number is the key's place, also when it was there. False: no more are taken. */
bool atd_redis_dirty_add(struct atd_redis_dirty *dirty, struct atd_str key,
                         size_t *ret_number) ATD_MUST_USE;

/* Valid until the next _add. */
struct atd_str atd_redis_dirty_at(const struct atd_redis_dirty *dirty, size_t number);

#endif

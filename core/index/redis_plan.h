/*
 * What the operations of a change mean on a Redis server: one step each, a condition on one key and
 * what is done to it. Both ways of committing (a script; WATCH and MULTI) carry out these.
 * Source: ATDATA-FORMATS 1.2 to 1.4, 1.8.
 */
#ifndef ATD_INDEX_REDIS_PLAN_H
#define ATD_INDEX_REDIS_PLAN_H

#include "atdata/arena.h"
#include "index/writer.h"

enum atd_redis_condition {
    ATD_REDIS_IF_ANY,
    ATD_REDIS_IF_ABSENT,
    ATD_REDIS_IF_HASH,   /* it is one, with these fields (others do not count) */
    ATD_REDIS_IF_STRING, /* it is one, of this value */
    ATD_REDIS_IF_NEVER,  /* contradicts itself */
};

enum atd_redis_effect {
    ATD_REDIS_NONE,
    ATD_REDIS_DELETE,
    ATD_REDIS_SET,     /* the string */
    ATD_REDIS_RENEW,   /* the hash: what stood there is gone first */
    ATD_REDIS_MERGE,   /* into the hash; what is none is gone first */
    ATD_REDIS_WITHOUT, /* the hash without these fields: by DEL and HSET, because the documented ACL
                          has no HDEL (S3-REDIS 6.4) */
};

#define ATD_REDIS_PAIRS_MAX 5u
/* What one change takes beside the values themselves: keys, digests, lists. */
#define ATD_REDIS_PLAN_BYTES_MAX (256u << 20)

struct atd_redis_pair {
    struct atd_str field;   /* empty: the value of a string */
    struct atd_bytes value; /* ptr NULL: no such field */
};

struct atd_redis_step {
    size_t operation; /* its place in the change */
    struct atd_str key;
    enum atd_redis_condition condition;
    size_t wanted_count;
    struct atd_redis_pair wanted[ATD_REDIS_PAIRS_MAX];
    enum atd_redis_effect effect;
    size_t pair_count;
    struct atd_redis_pair pairs[ATD_REDIS_PAIRS_MAX];
};

/* The key of a record, in `arena`; ptr NULL when out of memory. */
struct atd_str atd_redis_key_of(struct atd_arena *arena, enum atd_index_kind kind,
                                const union atd_index_record *key) ATD_MUST_USE;

/* Fills `ret_step`; it views the operation and `arena`. Errors: ENOMEM. */
int atd_redis_plan(struct atd_arena *arena, const struct atd_index_operation *operation,
                   size_t place, struct atd_redis_step *ret_step,
                   struct atd_error *err) ATD_MUST_USE;

/* How an attempt to carry out steps ended. */
enum atd_redis_verdict {
    ATD_REDIS_DONE,
    ATD_REDIS_CONFLICT,  /* nothing was changed */
    ATD_REDIS_REFUSED,   /* nothing was changed: scripts are not allowed */
    ATD_REDIS_CROSSSLOT, /* nothing was changed: the keys are on several nodes of a cluster */
};

#endif

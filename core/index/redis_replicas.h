/*
 * Replicas that must have a change before it counts (`wait=N`): what a master acknowledges and
 * then dies with is lost, since replication follows later. Source: S3-REDIS 6.1; redis.io, WAIT.
 *
 * All wait within the link's deadline. `wait` is the URL's: a number, or ATD_REDIS_WAIT_AUTO.
 */
#ifndef ATD_INDEX_REDIS_REPLICAS_H
#define ATD_INDEX_REDIS_REPLICAS_H

#include "index/redis_link.h"

/* How long a change may take to reach them. */
#define ATD_REDIS_WAIT_MS 2000

/*
 * Before a change: *ret_wanted is how many replicas will be waited for. Errors: EAGAIN (retryable)
 * fewer are there, so that the change is better not made; EACCES the user may not WAIT; EROFS.
 */
int atd_redis_replicas_look(struct atd_redis_link *link, unsigned wait, unsigned *ret_wanted,
                            struct atd_error *err) ATD_MUST_USE;

/* After a change that was made on this link. Errors: EREMOTEIO (retryable) fewer have it in time.
 */
int atd_redis_replicas_wait(struct atd_redis_link *link, unsigned wanted,
                            struct atd_error *err) ATD_MUST_USE;

/*
 * The same for everything that the server has, whoever wrote it: WAIT knows only of its own link's
 * changes. *ret_confirmed is whether a replica has it; else none was waited for. Errors: as both.
 */
int atd_redis_replicas_settle(struct atd_redis_link *link, unsigned wait, bool *ret_confirmed,
                              struct atd_error *err) ATD_MUST_USE;

/* What the two make of INFO's answer. Pure. */
struct atd_redis_replication {
    bool is_master;
    uint64_t offset;  /* the master's */
    unsigned online;  /* replicas */
    unsigned arrived; /* of them, those that have everything up to `wanted_offset` */
};
void atd_redis_replication_read(struct atd_str info, uint64_t wanted_offset,
                                struct atd_redis_replication *ret_replication);

#endif

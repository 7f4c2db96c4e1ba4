/*
 * The master of a set of servers that Redis Sentinel watches: asked for anew for every link, since
 * it is another one after each failover.
 *
 *   for each sentinel, the one that answered last first:
 *       who is the master?  --> no answer in time, nil: the next one
 *       connect, log in, ROLE --> no answer, no master: the next one that names another
 *
 * A sentinel that is dead costs ATD_REDIS_SENTINEL_MS once: the one that answered becomes the first
 * of the URL. What a sentinel says may be old, and it may be anybody: the server itself has to say
 * that it is a master. Source: S3-REDIS 5.6; redis.io, "Sentinel client spec".
 *
 * Threads: one at a time for one URL.
 */
#ifndef ATD_INDEX_REDIS_SENTINEL_H
#define ATD_INDEX_REDIS_SENTINEL_H

#include "index/redis_link.h"

/* One sentinel, at first; and those that were silent, once more. */
#define ATD_REDIS_SENTINEL_MS 500
#define ATD_REDIS_SENTINEL_AGAIN_MS 1000
/* One server that they name, until it has told its role: it may be the one that just died. */
#define ATD_REDIS_NAMED_MS 3000
/* All of them, and the servers that they name. */
#define ATD_REDIS_SENTINELS_MS 6000

/*
 * A link to the master, whose place *ret_master is. Blocks: up to ATD_REDIS_SENTINELS_MS, and on
 * the resolver. Errors: those of a link; ENXIO they watch no master of that name; EAGAIN
 * (retryable) whom they name is none: a failover is under way; EACCES for their password; EPROTO.
 */
int atd_redis_sentinel_open(struct atd_redis_url *url, const char *ca_file,
                            struct atd_redis_link **ret_link, struct atd_redis_place *ret_master,
                            struct atd_error *err) ATD_MUST_USE;

/* What the first sentinel that answers until `deadline_ms` says. Errors: the same. */
int atd_redis_sentinel_ask(struct atd_redis_url *url, const char *ca_file, int64_t deadline_ms,
                           struct atd_redis_place *ret_master, struct atd_error *err) ATD_MUST_USE;

#endif

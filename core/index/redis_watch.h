/*
 * Carrying out the steps of a change where scripts are not allowed: WATCH the keys, look at what
 * they hold, and write it all in one MULTI, which the server refuses when one of them was touched
 * since. Source: S3-REDIS 6.1.
 */
#ifndef ATD_INDEX_REDIS_WATCH_H
#define ATD_INDEX_REDIS_WATCH_H

#include "index/redis_link.h"
#include "index/redis_plan.h"

/* A key may be touched again and again without its conditions failing. */
#define ATD_REDIS_WATCH_TRIES_MAX 64

/*
 * As atd_redis_script_run. Never ATD_REDIS_REFUSED. After an error keys may still be watched: the
 * link is of no use any more. Errors: also EBUSY, retryable.
 */
int atd_redis_watch_run(struct atd_redis_link *link, const struct atd_redis_step *steps,
                        size_t count, enum atd_redis_verdict *ret_verdict, size_t *ret_which,
                        struct atd_error *err) ATD_MUST_USE;

#endif

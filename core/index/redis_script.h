/*
 * Carrying out the steps of a change by one Lua script: it looks at every condition first and
 * writes only when all hold, so that the change is made as a whole or not. Source: S3-REDIS 6.1.
 */
#ifndef ATD_INDEX_REDIS_SCRIPT_H
#define ATD_INDEX_REDIS_SCRIPT_H

#include "index/redis_link.h"
#include "index/redis_plan.h"

/*
 * *ret_which is set with ATD_REDIS_CONFLICT: a place in `steps`. Blocks: up to the link's deadline.
 * Errors: EREMOTEIO; the link's when nothing was sent; those of error replies; ENOMEM, EFBIG.
 */
int atd_redis_script_run(struct atd_redis_link *link, const struct atd_redis_step *steps,
                         size_t count, enum atd_redis_verdict *ret_verdict, size_t *ret_which,
                         struct atd_error *err) ATD_MUST_USE;

#endif

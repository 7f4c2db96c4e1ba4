/*
 * A change on a Redis server, by the best way there is: a script; WATCH and MULTI where scripts are
 * not allowed; on a cluster, whose nodes change nothing together, one record after the other.
 * Source: S3-REDIS 6.1, 6.2.
 */
#ifndef ATD_INDEX_REDIS_COMMIT_H
#define ATD_INDEX_REDIS_COMMIT_H

#include "index/redis_link.h"
#include "index/writer.h"

/*
 * As atd_index_commit. Blocks: up to the link's deadline. After any error but ESTALE the link is of
 * no use any more.
 */
int atd_redis_commit(struct atd_redis_link *link, const struct atd_index_operation *operations,
                     size_t count, size_t *ret_which, struct atd_error *err) ATD_MUST_USE;

#endif

/*
 * The Redis provider (also Valkey and KeyDB). Source: ATDATA-FORMATS 1; S3-REDIS B.
 */
#ifndef ATD_INDEX_REDIS_H
#define ATD_INDEX_REDIS_H

#include "index/index.h"
#include "index/redis_url.h"

/*
 * An index on a Redis server. Nothing is connected yet: the first load does that. `url` is copied.
 * `ca_file` NULL: the system's. Errors: ENOMEM.
 */
int atd_index_redis_open(const struct atd_redis_url *url, const char *ca_file,
                         struct atd_index **ret_index, struct atd_error *err) ATD_MUST_USE;

/* For tests: only these ways of being told of changes are tried (enum atd_redis_way). Before the
 * first load. */
void atd_index_redis_set_ways(struct atd_index *index, unsigned ways);

#endif

/*
 * A connected, non-blocking socket to a server, before anything is said on it.
 */
#ifndef ATD_INDEX_REDIS_CONNECT_H
#define ATD_INDEX_REDIS_CONNECT_H

#include "index/redis_url.h"

/*
 * Blocks: on the resolver, then up to `deadline_ms` (atd_clock_monotonic_ms) over all of the host's
 * addresses. Errors: as atd_redis_link_open.
 */
int atd_redis_connect(const struct atd_redis_url *url, int64_t deadline_ms, int *ret_fd,
                      struct atd_error *err) ATD_MUST_USE;

int atd_redis_set_nonblocking(int fd, struct atd_error *err) ATD_MUST_USE;

/* Waits for any of `events` (or an error or the end). -ETIMEDOUT, or what poll() says. */
int atd_redis_wait_fd(int fd, short events, int64_t deadline_ms, short *ret_events) ATD_MUST_USE;

#endif

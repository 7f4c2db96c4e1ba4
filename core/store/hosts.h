/*
 * An endpoint for each host of a store that reads from many: turns, retries and the limit that
 * halves when asked to slow down are a host's own, so that one which is dead or overloaded does not
 * hold up the others. The first ATD_HOSTS_MAX have one each; those beyond share one.
 *
 * Threads: any. Never blocks.
 */
#ifndef ATD_STORE_HOSTS_H
#define ATD_STORE_HOSTS_H

#include "atdata/str.h"
#include "base/lock.h"
#include "net/call.h"

#define ATD_HOSTS_MAX 64u

struct atd_host;

struct atd_hosts {
    /* fixed */
    struct atd_http_engine *engine;
    struct atd_endpoint_limits limits;
    struct atd_endpoint *shared; /* borrowed */

    struct atd_lock lock;
    /* guarded by lock */
    struct atd_host *first;
    size_t count;
};

void atd_hosts_init(struct atd_hosts *hosts, struct atd_http_engine *engine,
                    const struct atd_endpoint_limits *limits, struct atd_endpoint *shared);
/* No call is under way any more. */
void atd_hosts_release(struct atd_hosts *hosts);

/* The host's own, made when it is met first; without memory the shared one. Lives until release. */
struct atd_endpoint *atd_hosts_endpoint(struct atd_hosts *hosts, struct atd_str name);

/* Of the fastest host, as atd_endpoint_speed(). */
void atd_hosts_speed(struct atd_hosts *hosts, unsigned *ret_first_byte_ms,
                     uint64_t *ret_bytes_per_s);

#endif

#include "store/hosts.h"

#include <stdlib.h>

struct atd_host {
    struct atd_host *next;
    struct atd_endpoint *endpoint;
    size_t name_len;
    char name[];
};

void atd_hosts_init(struct atd_hosts *hosts, struct atd_http_engine *engine,
                    const struct atd_endpoint_limits *limits, struct atd_endpoint *shared)
{
    *hosts = (struct atd_hosts){.engine = engine, .limits = *limits, .shared = shared};
    atd_lock_init(&hosts->lock, ATD_RANK_STORE);
}

void atd_hosts_release(struct atd_hosts *hosts)
{
    struct atd_host *host;

    while ((host = hosts->first)) {
        hosts->first = host->next;
        atd_endpoint_free(host->endpoint);
        free(host);
    }
    atd_lock_destroy(&hosts->lock);
}

/* NULL: not this time. */
static struct atd_host *add_locked(struct atd_hosts *hosts, struct atd_str name)
{
    struct atd_host *host;

    if (hosts->count == ATD_HOSTS_MAX)
        return NULL;
    host = calloc(1, sizeof(*host) + name.len);
    if (!host)
        return NULL;
    if (atd_endpoint_new(hosts->engine, &hosts->limits, &host->endpoint, NULL) != 0) {
        free(host);
        return NULL;
    }
    host->name_len = name.len;
    if (name.len)
        memcpy(host->name, name.ptr, name.len);
    host->next = hosts->first;
    hosts->first = host;
    hosts->count++;
    return host;
}

struct atd_endpoint *atd_hosts_endpoint(struct atd_hosts *hosts, struct atd_str name)
{
    struct atd_host *host;

    atd_lock_take(&hosts->lock);
    host = hosts->first;
    while (host && !atd_str_equal((struct atd_str){host->name, host->name_len}, name))
        host = host->next;
    if (!host)
        host = add_locked(hosts, name);
    atd_lock_give(&hosts->lock);
    return host ? host->endpoint : hosts->shared;
}

void atd_hosts_speed(struct atd_hosts *hosts, unsigned *ret_first_byte_ms,
                     uint64_t *ret_bytes_per_s)
{
    const struct atd_host *host;

    atd_endpoint_speed(hosts->shared, ret_first_byte_ms, ret_bytes_per_s);
    atd_lock_take(&hosts->lock);
    for (host = hosts->first; host; host = host->next) {
        unsigned first_byte_ms;
        uint64_t bytes_per_s;

        atd_endpoint_speed(host->endpoint, &first_byte_ms, &bytes_per_s);
        if (bytes_per_s > *ret_bytes_per_s || !*ret_first_byte_ms) {
            *ret_first_byte_ms = first_byte_ms;
            *ret_bytes_per_s = bytes_per_s;
        }
    }
    atd_lock_give(&hosts->lock);
}

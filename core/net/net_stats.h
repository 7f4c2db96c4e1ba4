/*
 * Counters of the network, one set an engine; control files show them.
 */
#ifndef ATD_NET_NET_STATS_H
#define ATD_NET_NET_STATS_H

#include <stdatomic.h>
#include <stdint.h>

/* X(name, help). Attempts, not calls, unless it says so. */
#define ATD_NET_COUNTERS(X)                                                     \
    X(get_requests, "GET requests for object bytes, each attempt counted")      \
    X(head_requests, "HEAD requests, each attempt counted")                     \
    X(list_requests, "LIST requests, each attempt counted")                     \
    X(put_requests, "PUT requests with object bytes, each attempt counted")     \
    X(other_requests, "other requests to stores, each attempt counted")         \
    X(sent_bytes, "bytes of request bodies sent, each attempt counted")         \
    X(received_bytes, "bytes of reply bodies received")                         \
    X(discarded_bytes, "bytes of bodies received and thrown away")              \
    X(retries, "attempts after the first, of any kind")                         \
    X(resumes, "retries that went on at the byte reached")                      \
    X(hedges, "duplicates sent because a request was slow")                     \
    X(hedges_won, "duplicates that answered first")                             \
    X(throttled, "replies that asked to slow down")                             \
    X(timeouts, "attempts ended because nothing came")                          \
    X(transport_errors, "attempts that failed below HTTP")                      \
    X(error_replies, "replies with an error status other than 404 and 412")     \
    X(budget_refusals, "retries not made because the retry budget was used up") \
    X(clock_corrections, "times a server's clock was adopted")                  \
    X(region_corrections, "times a bucket's region was adopted")                \
    X(connections, "connections opened")

/* Values that go up and down. */
#define ATD_NET_GAUGES(X)              \
    X(in_flight, "attempts under way") \
    X(waiting, "calls waiting for their turn or for credentials")

struct atd_net_stats {
#define X(name, help) atomic_uint_fast64_t name;
    ATD_NET_COUNTERS(X)
    ATD_NET_GAUGES(X)
#undef X
};

#define ATD_NET_COUNT(stats, name, amount) (void)atomic_fetch_add(&(stats)->name, (amount))

#endif

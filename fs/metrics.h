/*
 * Counters of the mount, as .atdatafs/metrics and status.json show them.
 */
#ifndef ATD_FS_METRICS_H
#define ATD_FS_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

#include "atdata/buf.h"

/* X(name, help): every counter once. Requests are those that the kernel sent to the daemon. */
#define METRICS_COUNTERS(X)                                                                \
    X(lookup_requests, "LOOKUP requests")                                                  \
    X(getattr_requests, "GETATTR requests")                                                \
    X(opendir_requests, "OPENDIR requests")                                                \
    X(barriers, "OPENDIR requests that asked the index for news first")                    \
    X(barriers_late, "of these, that got no answer in time")                               \
    X(readdir_requests, "READDIR and READDIRPLUS requests")                                \
    X(readlink_requests, "READLINK requests")                                              \
    X(open_requests, "OPEN requests")                                                      \
    X(read_requests, "READ requests")                                                      \
    X(forget_requests, "FORGET requests, each node counted")                               \
    X(statfs_requests, "STATFS requests")                                                  \
    X(create_requests, "CREATE requests")                                                  \
    X(write_requests, "WRITE requests")                                                    \
    X(flush_requests, "FLUSH requests")                                                    \
    X(setattr_requests, "SETATTR requests")                                                \
    X(rename_requests, "RENAME requests")                                                  \
    X(written_bytes, "bytes taken by WRITE requests")                                      \
    X(published, "shards published through this mount")                                    \
    X(read_bytes, "bytes answered to READ requests")                                       \
    X(read_deferred, "READ requests that had to wait for the disk")                        \
    X(read_remote, "READ requests for remote shards")                                      \
    X(meta_deferred, "LOOKUP, OPEN and READDIR requests that had to wait for the disk")    \
    X(network_deferred, "of these, that had to wait for a store")                          \
    X(passthrough_opens, "opens that the kernel serves from the local file itself")        \
    X(cached_opens, "opens of shards served through the daemon")                           \
    X(stale_opens, "opens refused because the file changed; the kernel looks it up again") \
    X(errors, "requests answered with an error other than ENOENT and ESTALE")              \
    X(notifications, "invalidations sent to the kernel")

struct metrics {
#define X(name, help) atomic_uint_fast64_t name;
    METRICS_COUNTERS(X)
#undef X
};

#define METRICS_ADD(metrics, name, amount) (void)atomic_fetch_add(&(metrics)->name, (amount))

/* Appends Prometheus text: "# HELP", "# TYPE" and the value of each counter. */
void metrics_write(struct metrics *metrics, struct atd_buf *out);

#endif

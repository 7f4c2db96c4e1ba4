/*
 * Counters of the cache and the reader, one set a mount; control files show them.
 */
#ifndef ATD_CACHE_CACHE_STATS_H
#define ATD_CACHE_CACHE_STATS_H

#include <stdatomic.h>
#include <stdint.h>

#define ATD_CACHE_COUNTERS(X)                                                          \
    X(reads, "reads of remote shards answered or failed")                              \
    X(hits, "reads answered from the cache or from memory without waiting")            \
    X(misses, "reads that had to wait for the store")                                  \
    X(served_bytes, "bytes answered to reads of remote shards")                        \
    X(disk_bytes, "of these, read from the cache directory")                           \
    X(fetched_bytes, "bytes of shards that came from stores")                          \
    X(wasted_bytes, "bytes fetched that no read asked for before they were dropped")   \
    X(flights, "ranges asked of stores")                                               \
    X(flights_failed, "ranges that could not be had")                                  \
    X(flights_canceled, "ranges given up because nobody needed them any more")         \
    X(deadlines, "reads failed because nothing came in time")                          \
    X(stale_reads, "reads failed because the object is another version now")           \
    X(bad_blocks, "blocks in the cache directory found damaged, and fetched again")    \
    X(blocks_written, "blocks written to the cache directory")                         \
    X(write_failures, "writes to the cache directory that failed; served from memory") \
    X(evicted_files, "files removed to make room")                                     \
    X(evicted_bytes, "room made")                                                      \
    X(verified_objects, "complete shards checked through and handed to the kernel")    \
    X(mismatched_objects, "complete shards without the SHA-256 that the index tells")

#define ATD_CACHE_GAUGES(X)                                \
    X(waiters, "reads waiting for the store")              \
    X(flights_under_way, "ranges being fetched")           \
    X(memory_used_bytes, "memory in buffers for shards")   \
    X(memory_limit_bytes, "and its limit (option memory)") \
    X(open_objects, "remote shards that are open or being read")

struct atd_cache_stats {
#define X(name, help) atomic_uint_fast64_t name;
    ATD_CACHE_COUNTERS(X)
    ATD_CACHE_GAUGES(X)
#undef X
};

#define ATD_CACHE_COUNT(stats, name, amount) (void)atomic_fetch_add(&(stats)->name, (amount))
#define ATD_CACHE_UNCOUNT(stats, name, amount) (void)atomic_fetch_sub(&(stats)->name, (amount))

#endif

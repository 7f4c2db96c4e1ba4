/*
 * How objects were read when they were open last, so that a program which opens a shard anew for
 * every sample is seen to read at random all the same.
 *
 * Threads: one at a time (the reader's lock).
 */
#ifndef ATD_CACHE_HISTORY_H
#define ATD_CACHE_HISTORY_H

#include "cache/cursor.h"

/* One displaces another of the same place: it is advice, no more. */
#define ATD_HISTORY_MAX 256u

struct atd_history {
    struct {
        uint64_t hash; /* of the version; 0: none */
        struct atd_cursors cursors;
    } places[ATD_HISTORY_MAX];
};

static inline void atd_history_keep(struct atd_history *history, uint64_t hash,
                                    const struct atd_cursors *cursors)
{
    if (cursors->count == 0)
        return;
    history->places[hash % ATD_HISTORY_MAX].hash = hash;
    history->places[hash % ATD_HISTORY_MAX].cursors = *cursors;
}

/* Leaves `ret_cursors` alone when nothing is remembered. */
static inline void atd_history_recall(const struct atd_history *history, uint64_t hash,
                                      struct atd_cursors *ret_cursors)
{
    if (history->places[hash % ATD_HISTORY_MAX].hash == hash)
        *ret_cursors = history->places[hash % ATD_HISTORY_MAX].cursors;
}

#endif

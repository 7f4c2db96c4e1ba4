/*
 * Which bytes of a file were written: ranges in order, never touching one another, at most
 * ATD_EXTENTS_MAX of them. What does not fit is forgotten from the end: the set is a lower bound,
 * bytes in it were written, others may have been. Pure.
 */
#ifndef ATD_PUBLISH_EXTENTS_H
#define ATD_PUBLISH_EXTENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Only ranges that will yet be joined to the first one are of use: those of a writer with several
 * threads or of a download in several pieces. A sparse copy leaves thousands, for nothing. */
#define ATD_EXTENTS_MAX 256u

struct atd_extent {
    uint64_t start;
    uint64_t end; /* exclusive */
};

struct atd_extents {
    struct atd_extent at[ATD_EXTENTS_MAX];
    size_t count;
};

/* `start` below `end`. */
void atd_extents_add(struct atd_extents *extents, uint64_t start, uint64_t end);

/* Forgets everything from `from` on. */
void atd_extents_cut(struct atd_extents *extents, uint64_t from);

/* Whether a byte of [start, end) is in the set. */
bool atd_extents_overlap(const struct atd_extents *extents, uint64_t start, uint64_t end);

/* How far the set goes from 0 on without a gap. */
uint64_t atd_extents_ordered_end(const struct atd_extents *extents);

#endif

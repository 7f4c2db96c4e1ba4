/*
 * The prefetch policy of one object, pure: from the offsets of reads to the ranges worth fetching.
 * No clock, no memory, no I/O, so that tests replay patterns.
 *
 * Threads: one at a time (the object's lock).
 */
#ifndef ATD_CACHE_CURSOR_H
#define ATD_CACHE_CURSOR_H

#include "atdata/str.h"

#define ATD_CURSORS_MAX 8u
#define ATD_FIRST_BYTES (1u << 20) /* the first request of a cursor */
#define ATD_PART_BYTES (8u << 20)  /* then aligned parts of this size; the window's first size */
#define ATD_SEEK_AHEAD_BYTES (16u << 20) /* further on still belongs to the cursor */
#define ATD_SEEK_BACK_BYTES (1u << 20)
/* So many wide hops in a row (a tar of large members is listed) are seeks, no stream. */
#define ATD_HOPS_MAX 2u
#define ATD_EXACT_MIN_BYTES 65536u /* smaller random reads are rounded to whole blocks */
/* Among random reads one that is so long may still be a record read in pieces, not a stream. */
#define ATD_EXACT_RUN_BYTES (512u << 10)

struct atd_cursor {
    uint64_t position;     /* just behind the last read that went on */
    uint64_t run_first;    /* what was read since the seek begins here */
    uint64_t window_bytes; /* how far ahead is worth fetching; 0 until it goes on */
    uint64_t last_use;     /* a count */
    uint64_t run_bytes;    /* so far it has gone on since the seek */
    unsigned hops;         /* in a row, each over more than a first request */
    bool has_gone_on;      /* later reads continued the first */
};

struct atd_cursors {
    struct atd_cursor slots[ATD_CURSORS_MAX];
    unsigned count;
    uint64_t uses;
    unsigned lone_seeks; /* far seeks in a row without a run of ATD_EXACT_RUN_BYTES in between */
};

/* What to fetch after a read: [demand_first, demand_end) when the read has to wait, and whether it
 * has or not what is missing from there (or the read's end) up to ahead_end. */
struct atd_fetch_plan {
    uint64_t demand_first; /* covers the read */
    uint64_t demand_end;
    uint64_t ahead_end; /* >= demand_end when something is worth fetching ahead, else demand_end */
    struct atd_cursor *cursor;
};

/*
 * To be called for every read, also for those that find their bytes.
 *
 * The first read of an object, and the first after a far seek, demands 1 MiB from its block on.
 * A cursor that goes on demands up to the end of the part it ends in (a step back: the 1 MiB that
 * end with it), within its window, and what is ahead ends with a part. After two far seeks in a row
 * that nobody went on from for long, a read demands exactly itself, until a cursor has read
 * ATD_EXACT_RUN_BYTES in one go. A stream that hops ahead by more than 1 MiB twice in a row is none
 * any more. Reading the same again changes nothing.
 *
 * A read [offset, offset + size) of an object of `object_bytes`. `window_max_bytes`: what memory
 * and the line allow now. `waited`: the bytes were not there (the window doubles).
 */
struct atd_fetch_plan atd_cursors_plan(struct atd_cursors *cursors, uint64_t offset, size_t size,
                                       uint64_t object_bytes, uint64_t window_max_bytes,
                                       bool waited);

#endif

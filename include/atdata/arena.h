/*
 * An arena: many small allocations freed together. Decoders put what they return in one, so that
 * a decoded object has exactly one owner and cannot be half freed.
 *
 * Threads: one at a time. Everything allocated is valid until atd_arena_release().
 */
#ifndef ATDATA_ARENA_H
#define ATDATA_ARENA_H

#include "atdata/str.h"

ATD_BEGIN_DECLS

struct atd_arena_chunk;

struct atd_arena {
    struct atd_arena_chunk *chunks; /* newest first */
    size_t used_bytes;              /* handed out, all chunks */
    size_t max_bytes;
};

#define ATD_ARENA_INIT(max) \
    {                       \
        NULL, 0, (max)      \
    }

void atd_arena_init(struct atd_arena *arena, size_t max_bytes);
void atd_arena_release(struct atd_arena *arena);
/* The same, and overwrites what was in it first: for secrets. */
void atd_arena_wipe(struct atd_arena *arena);

/* One piece of memory for the first `bytes`, so that what is known to be small takes little more.
 * Before anything else; false when out of memory. */
bool atd_arena_reserve(struct atd_arena *arena, size_t bytes) ATD_MUST_USE;
/* What it takes from the system, used or not. */
size_t atd_arena_footprint(const struct atd_arena *arena);

/* Zeroed memory aligned for any type; NULL when out of memory or past max_bytes. size 0 is fine. */
void *atd_arena_alloc(struct atd_arena *arena, size_t size) ATD_MUST_USE;

/* `count` zeroed elements of `size`; NULL on overflow too. */
void *atd_arena_alloc_array(struct atd_arena *arena, size_t count, size_t size) ATD_MUST_USE;

/* A copy followed by one NUL that is not counted. ret.ptr is NULL when out of memory. */
struct atd_str atd_arena_str(struct atd_arena *arena, struct atd_str s) ATD_MUST_USE;
struct atd_bytes atd_arena_bytes(struct atd_arena *arena, struct atd_bytes b) ATD_MUST_USE;

ATD_END_DECLS

#endif

/*
 * The memory of all buffers for shards' bytes: one limit, demand before read-ahead.
 *
 * A buffer is owned by one flight. While bytes arrive or wait to be written it stays; then it may
 * be kept: readable as long as nobody needs the memory. Whoever reads bytes of a buffer holds it
 * meanwhile. A kept buffer that nobody holds loses its memory, the least recently used first, when
 * the memory is wanted; its owner finds out when it tries to hold it. So nothing here calls back
 * into objects, and every function may be called with an object's lock held.
 *
 * Read-ahead gets memory only if it is free (or in kept buffers that were read to their end), and
 * all unread read-ahead together at most half; demand gets any, and else waits in line.
 *
 * Buffers of more than half a part are whole parts and are recycled: the kernel clears 8 MiB in
 * about 2 ms, which is as long as a fast network takes to fill them.
 */
#ifndef ATD_CACHE_BUDGET_H
#define ATD_CACHE_BUDGET_H

#include <stddef.h>

#include "atdata/error.h"
#include "cache/cache_stats.h"

/* Of the option `memory`, buffers take at most three quarters: the rest is for everything else
 * (indexes, block maps, threads, the network library's buffers). */
#define ATD_BUDGET_QUARTERS 3u
#define ATD_BUDGET_SPARES_MAX 4u /* whole parts kept for the next flight */

struct atd_budget;

struct atd_buffer {
    /* fixed while held or not kept */
    uint8_t *bytes;
    size_t size; /* what was asked for */
    /* the budget's */
    size_t charged;
    uint64_t lost;         /* fetched bytes that are nowhere else */
    uint64_t consumed;     /* bytes served */
    uint64_t consumed_end; /* behind the last byte served */
    unsigned holds;
    bool owned;
    bool kept;
    bool ahead; /* counts as unread read-ahead */
    struct atd_buffer *older;
    struct atd_buffer *newer;
};

/* One demand in line; the caller's memory until granted or withdrawn. */
struct atd_budget_claim {
    size_t size;
    /* `buffer` is the caller's. From within atd_budget_grant, without a lock. */
    void (*granted)(struct atd_budget_claim *claim, struct atd_buffer *buffer);
    /* the budget's */
    struct atd_budget_claim *next;
    bool in_line;
};

/*
 * `wake` is called (any thread, possibly with an object's lock held, so it may only signal) when
 * atd_budget_grant() should be called soon. Errors: ENOMEM.
 */
int atd_budget_new(uint64_t memory_bytes, struct atd_cache_stats *stats, void (*wake)(void *ctx),
                   void *ctx, struct atd_budget **ret_budget, struct atd_error *err) ATD_MUST_USE;
/* Every buffer was released. NULL is fine. */
void atd_budget_free(struct atd_budget *budget);

uint64_t atd_budget_limit_bytes(const struct atd_budget *budget);
/* What read-ahead may take altogether. */
uint64_t atd_budget_ahead_limit_bytes(const struct atd_budget *budget);

/* A buffer, or NULL when there is none now (or when demand waits in line). Never blocks. */
struct atd_buffer *atd_budget_take(struct atd_budget *budget, size_t size, bool ahead);

/* Gets in line. `size` at most the limit. */
void atd_budget_claim(struct atd_budget *budget, struct atd_budget_claim *claim);
/* Leaves the line; false when it was granted or is being granted. */
bool atd_budget_withdraw(struct atd_budget *budget, struct atd_budget_claim *claim);
/* Grants what can be had to those in line. Without locks. */
void atd_budget_grant(struct atd_budget *budget);

/* Somebody waits for a buffer that was taken as read-ahead. */
void atd_budget_demand(struct atd_budget *budget, struct atd_buffer *buffer);

/* From now on it may lose its memory while nobody holds it, and with it `lost` fetched bytes that
 * are nowhere else: those never served count as wasted. */
void atd_budget_keep(struct atd_budget *budget, struct atd_buffer *buffer, uint64_t lost);
/* The readers are past it: read-ahead may have its memory. */
void atd_budget_pass(struct atd_budget *budget, struct atd_buffer *buffer);

bool atd_budget_is_dropped(struct atd_budget *budget, const struct atd_buffer *buffer);
/* A count of dropped ones: while it stays the same, none was. Without a lock. */
uint64_t atd_budget_drops(const struct atd_budget *budget);
/* False when the memory is gone. */
bool atd_budget_hold(struct atd_budget *budget, struct atd_buffer *buffer);
/* Bytes [from, to) of it were served (from == to: none). */
void atd_budget_unhold(struct atd_budget *budget, struct atd_buffer *buffer, uint64_t from,
                       uint64_t to);

/* The owner is done with it; holders may still be there. `lost` as in _keep. */
void atd_budget_release(struct atd_budget *budget, struct atd_buffer *buffer, uint64_t lost);

#endif

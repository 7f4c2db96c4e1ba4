#include "cache/cursor.h"

#include "base/check.h"
#include "cache/cache_dir.h"

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t add_capped(uint64_t a, uint64_t b, uint64_t max)
{
    return a >= max || max - a < b ? max : a + b;
}

static uint64_t round_down(uint64_t value, uint64_t unit)
{
    return value - value % unit;
}

static uint64_t round_up(uint64_t value, uint64_t unit, uint64_t max)
{
    uint64_t down = round_down(value, unit);

    if (down == value)
        return min_u64(value, max);
    return max - down < unit || down >= max ? max : down + unit;
}

/* The cursor that a read goes on, the nearest; NULL when it is a far seek. */
static struct atd_cursor *find_cursor(struct atd_cursors *cursors, uint64_t offset, uint64_t end)
{
    struct atd_cursor *best = NULL;
    uint64_t best_distance = UINT64_MAX;

    for (unsigned i = 0; i < cursors->count; i++) {
        struct atd_cursor *cursor = &cursors->slots[i];
        bool ahead = offset >= cursor->position;
        uint64_t distance = ahead                    ? offset - cursor->position
                            : end < cursor->position ? cursor->position - end
                                                     : 0;

        /* Far ahead belongs to a stream; after a single read it is another seek. */
        if (distance > (!ahead                ? ATD_SEEK_BACK_BYTES
                        : cursor->has_gone_on ? ATD_SEEK_AHEAD_BYTES
                                              : ATD_FIRST_BYTES))
            continue;
        if (distance < best_distance) {
            best = cursor;
            best_distance = distance;
        }
    }
    return best;
}

/* A free slot, or the one that was not used for longest. */
static struct atd_cursor *new_cursor(struct atd_cursors *cursors)
{
    struct atd_cursor *oldest = &cursors->slots[0];

    if (cursors->count < ATD_CURSORS_MAX) {
        oldest = &cursors->slots[cursors->count++];
    } else {
        for (unsigned i = 1; i < ATD_CURSORS_MAX; i++) {
            if (cursors->slots[i].last_use < oldest->last_use)
                oldest = &cursors->slots[i];
        }
    }
    *oldest = (struct atd_cursor){0};
    return oldest;
}

static void go_on(struct atd_cursors *cursors, struct atd_cursor *cursor, uint64_t offset,
                  uint64_t end, uint64_t window_max_bytes, bool waited)
{
    bool forward = end > cursor->position;
    bool was_short = cursor->run_bytes <= ATD_EXACT_RUN_BYTES;
    bool hops = offset > cursor->position && offset - cursor->position > ATD_FIRST_BYTES;

    if (forward)
        cursor->hops = hops ? cursor->hops + 1 : 0;
    if (cursor->hops >= ATD_HOPS_MAX) {
        *cursor =
            (struct atd_cursor){.position = end, .run_first = offset, .run_bytes = end - offset};
        if (cursors->lone_seeks < UINT32_MAX)
            cursors->lone_seeks++;
        return;
    }
    if (forward)
        cursor->run_bytes += end - (offset > cursor->position ? offset : cursor->position);
    else
        cursor->run_bytes += (end < cursor->run_first ? end : cursor->run_first) - offset;
    if (offset < cursor->run_first)
        cursor->run_first = offset;
    cursor->position = end;
    if (!cursor->has_gone_on) {
        /* At first it is taken for a stream soon; that it may be a record in pieces is
         * remembered until it has been long. */
        if (cursors->lone_seeks >= 2 && cursor->run_bytes <= ATD_EXACT_RUN_BYTES)
            return;
        cursor->has_gone_on = true;
    }
    if (was_short && cursor->run_bytes > ATD_EXACT_RUN_BYTES)
        cursors->lone_seeks = 0;
    if (!forward)
        return;
    if (cursor->window_bytes < ATD_PART_BYTES)
        cursor->window_bytes = ATD_PART_BYTES;
    else if (waited && !hops)
        cursor->window_bytes *= 2;
    cursor->window_bytes = min_u64(cursor->window_bytes, window_max_bytes);
}

struct atd_fetch_plan atd_cursors_plan(struct atd_cursors *cursors, uint64_t offset, size_t size,
                                       uint64_t object_bytes, uint64_t window_max_bytes,
                                       bool waited)
{
    uint64_t end = offset + size;
    uint64_t block = round_down(offset, ATD_BLOCK_BYTES);
    uint64_t block_end = round_up(end, ATD_BLOCK_BYTES, object_bytes);
    bool is_first = cursors->count == 0;
    struct atd_cursor *cursor = find_cursor(cursors, offset, end);
    struct atd_fetch_plan plan;
    bool backward = false;
    uint64_t from = block;

    atd_assert(size > 0 && end <= object_bytes);
    if (!cursor) {
        cursor = new_cursor(cursors);
        cursor->run_first = offset;
        cursor->run_bytes = size;
        cursor->position = end;
        if (!is_first && cursors->lone_seeks < UINT32_MAX)
            cursors->lone_seeks++;
    } else if (offset < cursor->run_first || end > cursor->position) {
        backward = end <= cursor->position;
        /* What a short hop leaves out comes along: one stream instead of many gaps. The kernel
         * also sends the reads of one stream in any order. */
        if (offset > cursor->position && offset - cursor->position <= ATD_FIRST_BYTES)
            from = round_down(cursor->position, ATD_BLOCK_BYTES);
        go_on(cursors, cursor, offset, end, window_max_bytes, waited);
    }
    cursor->last_use = ++cursors->uses;

    plan.cursor = cursor;
    if (cursor->has_gone_on && !backward) {
        uint64_t part_end = round_up(end, ATD_PART_BYTES, object_bytes);
        uint64_t reach =
            add_capped(block, max_u64(cursor->window_bytes, ATD_FIRST_BYTES), object_bytes);

        plan.demand_first = from;
        plan.demand_end = max_u64(block_end, min_u64(part_end, reach));
        plan.ahead_end =
            max_u64(plan.demand_end, round_up(add_capped(end, cursor->window_bytes, object_bytes),
                                              ATD_PART_BYTES, object_bytes));
        if (cursor->window_bytes == 0)
            plan.ahead_end = plan.demand_end;
        return plan;
    }
    if (cursor->has_gone_on) {
        plan.demand_first =
            min_u64(block, block_end > ATD_FIRST_BYTES
                               ? round_down(block_end - ATD_FIRST_BYTES, ATD_BLOCK_BYTES)
                               : 0);
        plan.demand_end = block_end;
    } else if (cursors->lone_seeks >= 2) {
        bool exact = size >= ATD_EXACT_MIN_BYTES;

        plan.demand_first = exact ? offset : block;
        plan.demand_end = exact ? end : block_end;
    } else {
        plan.demand_first = block;
        plan.demand_end = max_u64(block_end, add_capped(block, ATD_FIRST_BYTES, object_bytes));
    }
    plan.ahead_end = plan.demand_end;
    return plan;
}

#include <errno.h>

#include "base/check.h"
#include "base/clock.h"
#include "cache/object.h"

/* What the line allows is asked of the store so often. */
#define WINDOW_EVERY_MS 200
#define WINDOW_UNKNOWN_BYTES (32u << 20)
#define WINDOW_LEAST_BYTES (16u << 20)
static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* How far ahead one cursor may go now: twice what is on the line, and of what memory gives to
 * read-ahead the share of one of the objects that fetch. */
static uint64_t window_max_locked(struct atd_object *object)
{
    struct atd_reader *reader = object->reader;
    unsigned active = atomic_load(&reader->active_objects);
    uint64_t share = atd_budget_ahead_limit_bytes(reader->budget) / (active ? active : 1);
    int64_t now = atd_clock_monotonic_ms();

    if (!object->window_max_bytes || now - object->window_asked_ms > WINDOW_EVERY_MS) {
        unsigned first_byte_ms;
        uint64_t bytes_per_s;
        uint64_t bytes = WINDOW_UNKNOWN_BYTES;

        atd_store_speed(object->store, &first_byte_ms, &bytes_per_s);
        if (first_byte_ms > 0 && bytes_per_s > 0) {
            uint64_t bytes_per_ms = bytes_per_s / 1000 + 1;

            bytes = bytes_per_ms > UINT64_MAX / 2 / first_byte_ms
                        ? UINT64_MAX
                        : 2 * bytes_per_ms * first_byte_ms;
            if (bytes < WINDOW_LEAST_BYTES)
                bytes = WINDOW_LEAST_BYTES;
        }
        object->window_max_bytes = bytes;
        object->window_asked_ms = now;
    }
    return min_u64(object->window_max_bytes, share);
}

/* The flight that ends behind `at` first; NULL when there is none. */
static struct atd_flight *flight_behind_locked(struct atd_object *object, uint64_t at)
{
    struct atd_flight *flight = object->flights;

    while (flight && flight->end <= at)
        flight = flight->next;
    return flight;
}

/*
 * The first range in [from, to) that is neither in the cache file nor a flight's. False: none.
 */
static bool next_gap_locked(struct atd_object *object, uint64_t from, uint64_t to,
                            uint64_t *ret_first, uint64_t *ret_end)
{
    struct atd_flight *flight = flight_behind_locked(object, from);
    uint64_t at = from;

    while (at < to) {
        if (flight && at >= flight->first) {
            at = flight->end;
            flight = flight_behind_locked(object, at);
        } else if (atd_object_has_locked(object, at / ATD_BLOCK_BYTES)) {
            at = (at / ATD_BLOCK_BYTES + 1) * ATD_BLOCK_BYTES;
            while (flight && flight->end <= at)
                flight = flight->next;
        } else {
            break;
        }
    }
    if (at >= to)
        return false;
    *ret_first = at;
    if (flight)
        to = min_u64(to, flight->first);
    do
        at = (at / ATD_BLOCK_BYTES + 1) * ATD_BLOCK_BYTES;
    while (at < to && !atd_object_has_locked(object, at / ATD_BLOCK_BYTES));
    *ret_end = min_u64(at, to);
    return true;
}

/* Where a flight from `first` ends: not behind `end`, at most a part, and if it must be cut, then
 * at the grid of parts. */
static uint64_t flight_end(uint64_t first, uint64_t end)
{
    return end - first <= ATD_PART_BYTES ? end : (first / ATD_PART_BYTES + 1) * ATD_PART_BYTES;
}

/* Flights for the gaps in [from, to) that touch the read. Errors: ENOMEM. */
static int demand_locked(struct atd_object *object, const struct atd_read *read, uint64_t from,
                         uint64_t to, struct atd_error *err)
{
    uint64_t read_end = read->offset + read->size;
    uint64_t first;
    uint64_t end;

    for (struct atd_flight *flight = flight_behind_locked(object, read->offset);
         flight && flight->first < read_end; flight = flight->next)
        atd_flight_make_urgent_locked(flight);
    while (next_gap_locked(object, from, to, &first, &end)) {
        uint64_t cut = flight_end(first, end);
        int rc;

        from = cut;
        if (cut <= read->offset || first >= read_end)
            continue;
        /* Not less when memory is short: it is short because a disk is slower than the line, and
         * many small gets would be slower still. Among many objects the window is small. */
        rc = atd_flight_start_locked(object, first, cut, true, err);
        if (rc)
            return rc;
    }
    return 0;
}

/* Read-ahead in [from, to), cut at the grid of parts, as far as there is memory. */
static void ahead_locked(struct atd_object *object, uint64_t from, uint64_t to)
{
    uint64_t first;
    uint64_t end;

    if (object->ahead_failed)
        return;
    while (next_gap_locked(object, from, to, &first, &end)) {
        uint64_t cut = min_u64(end, (first / ATD_PART_BYTES + 1) * ATD_PART_BYTES);

        if (atd_flight_start_locked(object, first, cut, false, NULL) != 0)
            return;
        from = cut;
    }
}

/* Read-ahead may have the memory of what the reader has passed; what is stored goes at once. */
static void pass_locked(struct atd_object *object, uint64_t offset)
{
    struct atd_flight *next;

    for (struct atd_flight *flight = object->flights; flight && flight->end <= offset;
         flight = next) {
        next = flight->next;
        if (flight->state != ATD_FLIGHT_KEPT)
            continue;
        if (flight->stored) {
            atd_flight_drop_kept_locked(flight);
        } else if (!flight->passed) {
            flight->passed = true;
            atd_budget_pass(object->reader->budget, flight->buffer);
        }
    }
}

int atd_plan_new_read_locked(struct atd_object *object, const struct atd_read *read, bool waits,
                             struct atd_error *err)
{
    uint64_t read_end = read->offset + read->size;
    struct atd_fetch_plan plan;
    int rc = 0;

    if (!waits)
        atd_flight_purge_locked(object);
    pass_locked(object, read->offset);
    if (!waits && object->file && !object->file_bad && atd_cache_file_is_complete(object->file))
        return 0;
    plan = atd_cursors_plan(&object->cursors, read->offset, read->size, object->info.size_bytes,
                            window_max_locked(object), waits);
    if (waits)
        rc = demand_locked(object, read, plan.demand_first, plan.demand_end, err);
    if (rc == 0 && plan.ahead_end > plan.demand_end)
        ahead_locked(object, waits ? plan.demand_first : read_end, plan.ahead_end);
    return rc;
}

int atd_plan_again_locked(struct atd_object *object, const struct atd_read *read,
                          struct atd_error *err)
{
    uint64_t end = read->offset + read->size;
    uint64_t block_end = end + ATD_BLOCK_BYTES - 1;

    block_end -= block_end % ATD_BLOCK_BYTES;
    return demand_locked(object, read, read->offset - read->offset % ATD_BLOCK_BYTES,
                         min_u64(block_end, object->info.size_bytes), err);
}

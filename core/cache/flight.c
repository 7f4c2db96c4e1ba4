#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "cache/object.h"

static void list_locked(struct atd_object *object, struct atd_flight *flight)
{
    struct atd_flight **at = &object->flights;

    while (*at && (*at)->first < flight->first)
        at = &(*at)->next;
    atd_assert(!*at || (*at)->first >= flight->end);
    flight->next = *at;
    *at = flight;
    flight->listed = true;
}

static void unlist_locked(struct atd_object *object, struct atd_flight *flight)
{
    struct atd_flight **at = &object->flights;

    if (!flight->listed)
        return;
    while (*at != flight)
        at = &(*at)->next;
    *at = flight->next;
    flight->listed = false;
}

static void count_live_locked(struct atd_object *object)
{
    if (object->live_flights++ == 0)
        (void)atomic_fetch_add(&object->reader->active_objects, 1);
    ATD_CACHE_COUNT(object->reader->stats, flights_under_way, 1);
}

static void uncount_live_locked(struct atd_object *object)
{
    if (--object->live_flights == 0)
        (void)atomic_fetch_sub(&object->reader->active_objects, 1);
    ATD_CACHE_UNCOUNT(object->reader->stats, flights_under_way, 1);
}

/* ------------------------------------------------------------------ the get's callbacks */

static void on_progress(struct atd_store_get *get, size_t received)
{
    struct atd_flight *flight = get->ctx;
    struct atd_object *object = flight->object;
    struct atd_read *ready = NULL;
    size_t wanted;

    atd_lock_take(&object->lock);
    if (received > flight->got) {
        ATD_CACHE_COUNT(object->reader->stats, fetched_bytes, received - flight->got);
        flight->got = received;
    }
    wanted = (size_t)(flight->end - flight->first);
    if (received > wanted)
        received = wanted;
    if (received > flight->received && !object->dead) {
        uint64_t before = flight->first + flight->received;

        flight->received = received;
        flight->progress_ms = atd_clock_monotonic_ms();
        if (object->waiters)
            ready = atd_read_take_ready_locked(object, before, flight->first + received);
    }
    atd_lock_give(&object->lock);
    atd_read_serve_list(object, ready);
}

/* May the waiter try again after this? Who came late to a get that then ran out of time has not
 * waited that long himself. */
static bool may_retry(const struct atd_object *object, const struct atd_read *read,
                      const struct atd_error *why)
{
    if (read->tries >= ATD_READ_TRIES_MAX || why->code == ECANCELED)
        return false;
    if (why->code == ETIMEDOUT)
        return atd_clock_monotonic_ms() - read->since_ms < object->reader->timeout_ms / 2;
    return why->retryable || why->code == EIO || why->code == ECONNRESET;
}

/*
 * The waiters over the lost range [first, end) that still need it: those that may try again are
 * taken off into *ret_again, the others into *ret_failed.
 */
static void take_losers_locked(struct atd_object *object, uint64_t first, uint64_t end,
                               const struct atd_error *why, struct atd_read **ret_failed,
                               struct atd_read **ret_again)
{
    struct atd_read **at = &object->waiters;

    while (*at && first < end) {
        struct atd_read *read = *at;
        bool again = may_retry(object, read, why);

        if (read->offset >= end || read->offset + read->size <= first ||
            atd_read_is_ready_locked(object, read)) {
            at = &read->next;
            continue;
        }
        *at = read->next;
        (void)atomic_fetch_sub(&object->waiter_count, 1);
        ATD_CACHE_UNCOUNT(object->reader->stats, waiters, 1);
        read->tries++;
        read->next = again ? *ret_again : *ret_failed;
        *(again ? ret_again : ret_failed) = read;
    }
}

/* Ends the flight's range with what it received. With a cache file the rest of the last block is
 * left to the next flight, so that it gets whole blocks to write. */
static void cut_locked(struct atd_flight *flight)
{
    struct atd_object *object = flight->object;
    uint64_t end = flight->first + flight->received;

    if (end < flight->end && object->file && !object->file_bad) {
        uint64_t whole = end - end % ATD_BLOCK_BYTES;

        if (whole > flight->first)
            end = whole;
    }
    flight->end = end;
    flight->received = (size_t)(end - flight->first);
}

/* Removes a kept flight; `lost` fetched bytes go with it. */
static void drop_kept_locked(struct atd_object *object, struct atd_flight *flight, uint64_t lost)
{
    unlist_locked(object, flight);
    object->kept_flights--;
    atd_budget_release(object->reader->budget, flight->buffer, lost);
    free(flight);
}

void atd_flight_drop_kept_locked(struct atd_flight *flight)
{
    drop_kept_locked(flight->object, flight, flight->buffer->lost);
}

/* The flight stays readable until the memory is wanted, or there are too many. */
static void keep_locked(struct atd_flight *flight, uint64_t lost)
{
    struct atd_object *object = flight->object;
    struct atd_flight *oldest = flight;

    flight->state = ATD_FLIGHT_KEPT;
    flight->kept_as = ++object->keeps;
    atd_budget_keep(object->reader->budget, flight->buffer, lost);
    if (++object->kept_flights <= ATD_KEPT_MAX)
        return;
    for (struct atd_flight *at = object->flights; at; at = at->next) {
        if (at->state == ATD_FLIGHT_KEPT && at->kept_as < oldest->kept_as)
            oldest = at;
    }
    drop_kept_locked(object, oldest, oldest->buffer->lost);
}

static void write_out(struct atd_work *work);

/*
 * The get has ended: its flight lands with what it received. Returns true when the flight is gone
 * from the object and the caller frees it; false when it was kept or goes to a writer.
 */
static bool land_locked(struct atd_flight *flight, bool *ret_to_writer)
{
    struct atd_object *object = flight->object;
    struct atd_reader *reader = object->reader;

    cut_locked(flight);
    uncount_live_locked(object);
    *ret_to_writer = false;
    if (flight->received == 0 || object->dead) {
        unlist_locked(object, flight);
        return true;
    }
    flight->state = ATD_FLIGHT_LANDED;
    if (object->file && !object->file_bad) {
        flight->work.run = write_out;
        *ret_to_writer = atd_workers_submit(reader->writers, &flight->work, NULL) == 0;
    }
    if (!*ret_to_writer)
        keep_locked(flight, flight->received);
    return false;
}

static void free_flight(struct atd_flight *flight)
{
    struct atd_budget *budget = flight->object->reader->budget;

    if (flight->buffer)
        atd_budget_release(budget, flight->buffer, flight->got);
    free(flight);
}

static void on_done(struct atd_store_get *get, const struct atd_error *why)
{
    struct atd_flight *flight = get->ctx;
    struct atd_object *object = flight->object;
    struct atd_reader *reader = object->reader;
    struct atd_read *ready = NULL;
    struct atd_read *failed = NULL;
    struct atd_read *again = NULL;
    struct atd_read *stuck = NULL;
    struct atd_error failure = why ? *why : (struct atd_error)ATD_ERROR_INIT;
    uint64_t lost_end;
    bool to_writer;
    bool gone;

    /* Its own: the get's one goes to the writer, which may be done before this. */
    atd_object_ref_job(object);
    atd_lock_take(&object->lock);
    flight->ended = true; /* from here on nobody cancels it */
    atd_lock_give(&object->lock);
    if (!why)
        on_progress(get, (size_t)(get->end - get->first));
    else if (why->code == ESTALE)
        atd_object_kill(object, why);
    atd_lock_take(&object->lock);
    lost_end = flight->end;
    if (why && !flight->canceled)
        ATD_CACHE_COUNT(reader->stats, flights_failed, 1);
    if (!why)
        object->ahead_failed = false;
    else if (!flight->canceled)
        object->ahead_failed = true;
    gone = land_locked(flight, &to_writer);
    if (why && object->waiters && !object->dead) {
        uint64_t lost_first = flight->end;

        ready = atd_read_take_ready_locked(object, flight->first, lost_end);
        take_losers_locked(object, lost_first, lost_end, why, &failed, &again);
    }
    if (object->waiters)
        stuck = atd_read_take_stuck_locked(object, flight->first, lost_end);
    atd_lock_give(&object->lock);
    atd_read_serve_list(object, ready);
    atd_read_serve_list(object, again);
    atd_read_serve_list(object, stuck);
    while (failed) {
        struct atd_read *next = failed->next;

        atd_read_fail(object, failed, &failure);
        failed = next;
    }
    if (gone)
        free_flight(flight);
    if (!to_writer)
        atd_object_unref_job(object);
    atd_object_unref_job(object);
}

/* ------------------------------------------------------------------ starting */

static void start_get_locked(struct atd_flight *flight)
{
    struct atd_object *object = flight->object;

    flight->state = ATD_FLIGHT_UNDER_WAY;
    flight->progress_ms = atd_clock_monotonic_ms();
    flight->get = (struct atd_store_get){
        .url = atd_object_url(object),
        .first = flight->first,
        .end = flight->end,
        .expect = &object->info,
        .into = flight->buffer->bytes,
        .urgent = flight->urgent,
        .stall_timeout_ms = object->reader->timeout_ms,
        .progress = on_progress,
        .done = on_done,
        .ctx = flight,
    };
    ATD_CACHE_COUNT(object->reader->stats, flights, 1);
    atd_store_get_start(object->store, &flight->get);
}

/* Memory for a flight in line. It may have been cancelled meanwhile: then its canceller could not
 * withdraw it, and it ends here. */
static void on_granted(struct atd_budget_claim *claim, struct atd_buffer *buffer)
{
    struct atd_flight *flight =
        (struct atd_flight *)(void *)((char *)claim - offsetof(struct atd_flight, claim));
    struct atd_object *object = flight->object;
    struct atd_read *failed = NULL;
    struct atd_read *again = NULL;
    struct atd_error err = ATD_ERROR_INIT;
    bool ends;

    if (!buffer)
        (void)atd_error_set(&err, ENOMEM, "reading '" ATD_STR_FMT "': out of memory",
                            ATD_STR_ARG(atd_object_url(object)));
    atd_lock_take(&object->lock);
    flight->buffer = buffer;
    ends = !buffer || flight->canceled || object->dead;
    if (ends) {
        uncount_live_locked(object);
        unlist_locked(object, flight);
        if (!buffer)
            take_losers_locked(object, flight->first, flight->end, &err, &failed, &again);
    } else {
        start_get_locked(flight);
    }
    atd_lock_give(&object->lock);
    while (failed) {
        struct atd_read *next = failed->next;

        atd_read_fail(object, failed, &err);
        failed = next;
    }
    if (ends) {
        free_flight(flight);
        atd_object_unref_job(object);
    }
}

int atd_flight_start_locked(struct atd_object *object, uint64_t first, uint64_t end, bool urgent,
                            struct atd_error *err)
{
    struct atd_reader *reader = object->reader;
    struct atd_buffer *buffer = atd_budget_take(reader->budget, (size_t)(end - first), !urgent);
    struct atd_flight *flight;

    atd_assert(end > first && end - first <= ATD_PART_BYTES && end <= object->info.size_bytes);
    if (!buffer && !urgent)
        return -EAGAIN;
    flight = calloc(1, sizeof(*flight));
    if (!flight) {
        if (buffer)
            atd_budget_release(reader->budget, buffer, 0);
        return atd_error_set(err, ENOMEM, "reading '" ATD_STR_FMT "': out of memory",
                             ATD_STR_ARG(atd_object_url(object)));
    }
    flight->object = object;
    flight->first = first;
    flight->end = end;
    flight->urgent = urgent;
    flight->buffer = buffer;
    flight->progress_ms = atd_clock_monotonic_ms();
    flight->state = ATD_FLIGHT_WAITING;
    list_locked(object, flight);
    count_live_locked(object);
    atd_object_ref_job(object);
    if (buffer) {
        start_get_locked(flight);
        return 0;
    }
    flight->claim = (struct atd_budget_claim){.size = (size_t)(end - first), .granted = on_granted};
    atd_budget_claim(reader->budget, &flight->claim);
    return 0;
}

void atd_flight_make_urgent_locked(struct atd_flight *flight)
{
    struct atd_object *object = flight->object;

    if (flight->urgent || flight->state != ATD_FLIGHT_UNDER_WAY || flight->canceled ||
        flight->ended)
        return;
    flight->urgent = true;
    atd_budget_demand(object->reader->budget, flight->buffer);
    atd_store_get_make_urgent(object->store, &flight->get);
}

struct atd_flight *atd_flight_cancel_locked(struct atd_flight *flight)
{
    struct atd_object *object = flight->object;
    struct atd_reader *reader = object->reader;

    if (flight->canceled || flight->ended)
        return NULL;
    if (flight->state == ATD_FLIGHT_UNDER_WAY) {
        flight->canceled = true;
        cut_locked(flight);
        if (flight->received == 0)
            unlist_locked(object, flight);
        ATD_CACHE_COUNT(reader->stats, flights_canceled, 1);
        atd_store_get_cancel(object->store, &flight->get);
        return NULL;
    }
    if (flight->state != ATD_FLIGHT_WAITING)
        return NULL;
    flight->canceled = true;
    flight->end = flight->first;
    unlist_locked(object, flight);
    ATD_CACHE_COUNT(reader->stats, flights_canceled, 1);
    if (!atd_budget_withdraw(reader->budget, &flight->claim))
        return NULL; /* on_granted ends it */
    uncount_live_locked(object);
    return flight;
}

void atd_flight_end_withdrawn(struct atd_flight *flight)
{
    struct atd_object *object = flight->object;

    free_flight(flight);
    atd_object_unref_job(object);
}

/* ------------------------------------------------------------------ writing */

/* The blocks [*ret_first, *ret_end) that are wholly in the flight; true when they are all of it. */
static bool whole_blocks(const struct atd_flight *flight, uint64_t *ret_first, uint64_t *ret_end)
{
    bool reaches_end = flight->end == flight->object->info.size_bytes;

    *ret_first = (flight->first + ATD_BLOCK_BYTES - 1) / ATD_BLOCK_BYTES;
    *ret_end = flight->end / ATD_BLOCK_BYTES;
    if (reaches_end && flight->end % ATD_BLOCK_BYTES != 0)
        *ret_end += 1;
    if (*ret_end < *ret_first)
        *ret_end = *ret_first;
    return flight->first % ATD_BLOCK_BYTES == 0 &&
           (reaches_end || flight->end % ATD_BLOCK_BYTES == 0);
}

/* On a writer's thread. A landed flight's range and bytes do not change. */
/* True when a stream will read it soon: then from memory, not out of the file again. */
static bool is_ahead_locked(const struct atd_object *object, const struct atd_flight *flight)
{
    for (unsigned i = 0; i < object->cursors.count; i++) {
        const struct atd_cursor *cursor = &object->cursors.slots[i];

        if (cursor->has_gone_on && cursor->position < flight->end &&
            flight->first < cursor->position + cursor->window_bytes + ATD_PART_BYTES)
            return true;
    }
    return false;
}

static void write_out(struct atd_work *work)
{
    struct atd_flight *flight = (struct atd_flight *)(void *)work;
    struct atd_object *object = flight->object;
    uint64_t first_block;
    uint64_t end_block;
    bool all = whole_blocks(flight, &first_block, &end_block);
    uint64_t written = 0;
    int rc = 0;

    if (end_block > first_block) {
        uint64_t first = first_block * ATD_BLOCK_BYTES;
        uint64_t end = end_block * ATD_BLOCK_BYTES;

        if (end > flight->end)
            end = flight->end;
        rc = atd_cache_file_write(object->file, first_block,
                                  flight->buffer->bytes + (first - flight->first),
                                  (size_t)(end - first), NULL);
        if (rc == 0)
            written = end - first;
    }
    atd_lock_take(&object->lock);
    flight->stored = rc == 0 && all;
    if (flight->stored && !is_ahead_locked(object, flight)) {
        unlist_locked(object, flight);
    } else {
        keep_locked(flight, flight->received - written);
        flight = NULL;
    }
    atd_lock_give(&object->lock);
    if (flight) {
        atd_budget_release(object->reader->budget, flight->buffer, 0);
        free(flight);
    }
    if (written > 0 && atd_cache_file_is_complete(object->file))
        atd_version_check_later(object);
    atd_object_unref_job(object);
}

/* ------------------------------------------------------------------ the end */

void atd_flight_purge_locked(struct atd_object *object)
{
    uint64_t drops = atd_budget_drops(object->reader->budget);
    struct atd_flight *next;

    if (drops == object->purged_drops)
        return;
    object->purged_drops = drops;
    for (struct atd_flight *flight = object->flights; flight; flight = next) {
        next = flight->next;
        if (flight->state == ATD_FLIGHT_KEPT &&
            atd_budget_is_dropped(object->reader->budget, flight->buffer))
            drop_kept_locked(object, flight, 0);
    }
}

void atd_flight_free_all(struct atd_object *object)
{
    while (object->flights) {
        struct atd_flight *flight = object->flights;

        atd_assert(flight->state == ATD_FLIGHT_KEPT);
        drop_kept_locked(object, flight, flight->buffer->lost);
    }
}

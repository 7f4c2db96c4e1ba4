#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "cache/object.h"

/* A read of file blocks: the read itself and the rest of its first and last block. */
#define SCRATCH_BYTES (ATD_READ_BYTES_MAX + 2 * ATD_BLOCK_BYTES)
#define SCRATCH_ALIGN 4096u

/* A thread's buffer for blocks of the cache file. In use while an answer points into it. */
struct scratch {
    uint8_t *bytes;
    bool busy;
};

static pthread_key_t scratch_key;
static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;

static void free_scratch(void *ctx)
{
    struct scratch *scratch = ctx;

    free(scratch->bytes);
    free(scratch);
}

static void make_scratch_key(void)
{
    int rc = pthread_key_create(&scratch_key, free_scratch);

    atd_assert(rc == 0);
}

/* NULL when out of memory. */
static struct scratch *thread_scratch(void)
{
    struct scratch *scratch;

    (void)pthread_once(&scratch_once, make_scratch_key);
    scratch = pthread_getspecific(scratch_key);
    if (scratch)
        return scratch;
    scratch = calloc(1, sizeof(*scratch));
    if (!scratch)
        return NULL;
    if (posix_memalign((void **)&scratch->bytes, SCRATCH_ALIGN, SCRATCH_BYTES) != 0 ||
        pthread_setspecific(scratch_key, scratch) != 0) {
        free(scratch->bytes);
        free(scratch);
        return NULL;
    }
    return scratch;
}

/* A part of a read: bytes of a flight's buffer, held, or of the cache file. */
struct piece {
    struct atd_buffer *buffer; /* NULL: the file */
    uint64_t first;            /* in the object, or in the buffer */
    size_t len;
};

struct pieces {
    int count;
    struct piece list[ATD_PIECES_MAX];
};

/* ------------------------------------------------------------------ gathering */

/* Bytes from `at` on that a flight has received; 0: none. */
static uint64_t received_locked(struct atd_object *object, uint64_t at,
                                struct atd_flight **ret_flight)
{
    struct atd_flight *flight = object->flights;

    while (flight && flight->end <= at)
        flight = flight->next;
    if (!flight || flight->first > at || at >= flight->first + flight->received)
        return 0;
    *ret_flight = flight;
    return flight->first + flight->received - at;
}

/* Bytes from `at` on, up to `end`, that are in the cache file; 0: none. */
static uint64_t cached_locked(struct atd_object *object, uint64_t at, uint64_t end)
{
    uint64_t to = at;

    while (to < end && atd_object_has_locked(object, to / ATD_BLOCK_BYTES))
        to = (to / ATD_BLOCK_BYTES + 1) * ATD_BLOCK_BYTES;
    return (to < end ? to : end) - at;
}

/* After an answer the object may be gone: hence the budget. */
static void let_go(struct atd_budget *budget, const struct pieces *pieces, bool served)
{
    for (int i = 0; i < pieces->count; i++) {
        const struct piece *piece = &pieces->list[i];

        if (piece->buffer)
            atd_budget_unhold(budget, piece->buffer, piece->first,
                              piece->first + (served ? piece->len : 0));
    }
}

/*
 * The pieces of a read; the buffers are held. -EAGAIN: not everything is there.
 * The file goes before flights unless one flight has it all, so that what is read of the file
 * begins and ends with blocks but for the read's own ends: it fits the scratch.
 */
static int gather_locked(struct atd_object *object, const struct atd_read *read,
                         struct pieces *pieces)
{
    uint64_t at = read->offset;
    uint64_t end = read->offset + read->size;
    struct atd_flight *flight = NULL;
    bool one_flight = received_locked(object, at, &flight) >= read->size;

    pieces->count = 0;
    while (at < end) {
        struct piece *piece = &pieces->list[pieces->count];
        uint64_t len = one_flight ? 0 : cached_locked(object, at, end);

        piece->buffer = NULL;
        piece->first = at;
        if (len == 0) {
            len = received_locked(object, at, &flight);
            if (len > end - at)
                len = end - at;
            /* Up to where the file goes on. */
            for (uint64_t to = (at / ATD_BLOCK_BYTES + 1) * ATD_BLOCK_BYTES;
                 !one_flight && to < at + len; to += ATD_BLOCK_BYTES) {
                if (atd_object_has_locked(object, to / ATD_BLOCK_BYTES))
                    len = to - at;
            }
            if (len == 0 || !atd_budget_hold(object->reader->budget, flight->buffer)) {
                let_go(object->reader->budget, pieces, false);
                return -EAGAIN;
            }
            piece->buffer = flight->buffer;
            piece->first = at - flight->first;
        }
        piece->len = (size_t)len;
        pieces->count++;
        at += len;
        if (pieces->count == ATD_PIECES_MAX && at < end) {
            let_go(object->reader->budget, pieces, false);
            return -E2BIG;
        }
    }
    return 0;
}

/* The first byte of the read that is not there; its end when all are. */
static uint64_t first_missing_locked(struct atd_object *object, const struct atd_read *read)
{
    uint64_t at = read->offset;
    uint64_t end = read->offset + read->size;

    while (at < end) {
        struct atd_flight *flight;
        uint64_t len = received_locked(object, at, &flight);

        if (len == 0)
            len = cached_locked(object, at, end);
        if (len == 0)
            return at;
        at += len;
    }
    return end;
}

bool atd_read_is_ready_locked(struct atd_object *object, const struct atd_read *read)
{
    return first_missing_locked(object, read) == read->offset + read->size;
}

bool atd_read_is_stuck_locked(struct atd_object *object, const struct atd_read *read)
{
    uint64_t missing = first_missing_locked(object, read);
    const struct atd_flight *flight = object->flights;

    if (missing == read->offset + read->size)
        return true;
    while (flight && flight->end <= missing)
        flight = flight->next;
    return !flight || flight->first > missing ||
           (flight->state != ATD_FLIGHT_UNDER_WAY && flight->state != ATD_FLIGHT_WAITING);
}

/* ------------------------------------------------------------------ waiters */

static void add_waiter_locked(struct atd_object *object, struct atd_read *read)
{
    struct atd_read **at = &object->waiters;

    while (*at)
        at = &(*at)->next;
    read->next = NULL;
    *at = read;
    (void)atomic_fetch_add(&object->waiter_count, 1);
    ATD_CACHE_COUNT(object->reader->stats, waiters, 1);
    atd_ticker_call_at(object->reader->ticker, read->since_ms + object->reader->timeout_ms);
}

static void remove_waiter_locked(struct atd_object *object, struct atd_read *read)
{
    struct atd_read **at = &object->waiters;

    while (*at != read)
        at = &(*at)->next;
    *at = read->next;
    (void)atomic_fetch_sub(&object->waiter_count, 1);
    ATD_CACHE_UNCOUNT(object->reader->stats, waiters, 1);
}

bool atd_read_cancel(struct atd_object *object, struct atd_read *read)
{
    struct atd_read *at;

    atomic_store(&read->is_canceled, true);
    atd_lock_take(&object->lock);
    at = object->waiters;
    while (at && at != read)
        at = at->next;
    if (at)
        remove_waiter_locked(object, read);
    atd_lock_give(&object->lock);
    return at != NULL;
}

/* Takes the waiters off that overlap [first, end) and for which `choose` is true. */
static struct atd_read *take_locked(struct atd_object *object, uint64_t first, uint64_t end,
                                    bool (*choose)(struct atd_object *object,
                                                   const struct atd_read *read))
{
    struct atd_read **at = &object->waiters;
    struct atd_read *ready = NULL;
    struct atd_read **last = &ready;

    while (*at) {
        struct atd_read *read = *at;

        if (read->offset >= end || read->offset + read->size <= first || !choose(object, read)) {
            at = &read->next;
            continue;
        }
        *at = read->next;
        (void)atomic_fetch_sub(&object->waiter_count, 1);
        ATD_CACHE_UNCOUNT(object->reader->stats, waiters, 1);
        read->next = NULL;
        *last = read;
        last = &read->next;
    }
    return ready;
}

struct atd_read *atd_read_take_ready_locked(struct atd_object *object, uint64_t first, uint64_t end)
{
    return take_locked(object, first, end, atd_read_is_ready_locked);
}

struct atd_read *atd_read_take_stuck_locked(struct atd_object *object, uint64_t first, uint64_t end)
{
    return take_locked(object, first, end, atd_read_is_stuck_locked);
}

/* ------------------------------------------------------------------ answering */

/* Depth of answers on this thread: a read that a callback starts goes to a worker instead, so
 * that neither the stack nor the scratch is used twice. */
static _Thread_local unsigned answering;

static void answer(struct atd_object *object, struct atd_read *read, const struct iovec *iov,
                   int count, const struct atd_error *why)
{
    struct atd_cache_stats *stats = object->reader->stats;

    ATD_CACHE_COUNT(stats, reads, 1);
    if (!why) {
        ATD_CACHE_COUNT(stats, served_bytes, read->size);
        if (read->since_ms)
            ATD_CACHE_COUNT(stats, misses, 1);
        else
            ATD_CACHE_COUNT(stats, hits, 1);
    } else if (why->code == ESTALE) {
        ATD_CACHE_COUNT(stats, stale_reads, 1);
    }
    answering++;
    read->done(read, iov, count, why);
    answering--;
}

void atd_read_fail(struct atd_object *object, struct atd_read *read, const struct atd_error *why)
{
    answer(object, read, NULL, 0, why);
}

static void serve_blocking(struct atd_work *work)
{
    struct atd_read *read =
        (struct atd_read *)(void *)((char *)work - offsetof(struct atd_read, work));

    atd_read_serve(read->handle->object, read, true);
}

static void serve_on_worker(struct atd_object *object, struct atd_read *read)
{
    struct atd_error err = ATD_ERROR_INIT;

    read->work.run = serve_blocking;
    if (atd_workers_submit(object->reader->io, &read->work, &err) == 0)
        return;
    if (atomic_load(&object->reader->stopping))
        (void)atd_error_set(&err, ECANCELED, "the reader has been stopped");
    else
        (void)atd_error_set_retryable(&err, EIO, "too many reads are waiting for the disk");
    atd_read_fail(object, read, &err);
}

/*
 * Reads the file's pieces and answers. -EAGAIN the disk would have to be asked; -ENODATA a block
 * was bad; other errors of the disk. The buffers are still held then.
 */
static int answer_with(struct atd_object *object, struct atd_read *read,
                       const struct pieces *pieces, struct scratch *scratch, bool may_block)
{
    struct iovec iov[ATD_PIECES_MAX];
    uint8_t *copy = NULL;
    size_t used = 0;
    size_t disk_bytes = 0;
    int count = pieces->count;

    for (int i = 0; i < pieces->count; i++) {
        const struct piece *piece = &pieces->list[i];
        uint64_t block = piece->first / ATD_BLOCK_BYTES;
        uint64_t end = piece->first + piece->len;
        uint64_t blocks = (end + ATD_BLOCK_BYTES - 1) / ATD_BLOCK_BYTES - block;
        int rc;

        iov[i].iov_len = piece->len;
        if (piece->buffer) {
            iov[i].iov_base = piece->buffer->bytes + piece->first;
            continue;
        }
        atd_assert(scratch && used + blocks * ATD_BLOCK_BYTES <= SCRATCH_BYTES);
        rc = atd_cache_file_read(object->file, block, (size_t)blocks, !may_block,
                                 scratch->bytes + used, NULL);
        if (rc)
            return rc;
        iov[i].iov_base = scratch->bytes + used + piece->first % ATD_BLOCK_BYTES;
        used += blocks * ATD_BLOCK_BYTES;
        disk_bytes += piece->len;
    }
    if (count > ATD_READ_IOV_MAX) {
        size_t at = 0;

        copy = malloc(read->size);
        if (!copy)
            return -ENOMEM;
        for (int i = 0; i < count; i++) {
            memcpy(copy + at, iov[i].iov_base, iov[i].iov_len);
            at += iov[i].iov_len;
        }
        iov[0] = (struct iovec){copy, read->size};
        count = 1;
    }
    ATD_CACHE_COUNT(object->reader->stats, disk_bytes, disk_bytes);
    answer(object, read, iov, count, NULL);
    free(copy);
    return 0;
}

enum step { STEP_ENDED, STEP_AGAIN, STEP_WORKER };

/* Answers with what was gathered, or says what is next. After the last round, or when the disk
 * fails, the file is not used any more: then a next look ends it. */
static enum step try_pieces(struct atd_object *object, struct atd_read *read,
                            const struct pieces *pieces, bool may_block, bool is_last)
{
    struct atd_budget *budget = object->reader->budget;
    struct scratch *scratch = NULL;
    struct atd_error err = ATD_ERROR_INIT;
    bool served;
    int rc = 0;

    for (int i = 0; i < pieces->count && !scratch && rc == 0; i++) {
        if (pieces->list[i].buffer)
            continue;
        scratch = thread_scratch();
        if (!scratch)
            rc = -ENOMEM;
    }
    if (rc == 0)
        rc = answer_with(object, read, pieces, scratch, may_block);
    served = rc == 0;
    let_go(budget, pieces, served);
    if (served)
        return STEP_ENDED;
    if (rc == -EAGAIN && !may_block)
        return STEP_WORKER;
    if (rc == -ENOMEM) {
        (void)atd_error_set(&err, ENOMEM, "reading '" ATD_STR_FMT "': out of memory",
                            ATD_STR_ARG(atd_object_url(object)));
        atd_read_fail(object, read, &err);
        return STEP_ENDED;
    }
    if (rc != -ENODATA || is_last) {
        atd_lock_take(&object->lock);
        object->file_bad = true;
        atd_lock_give(&object->lock);
    }
    return STEP_AGAIN;
}

/* The pieces (0), or -EAGAIN: the read must wait; else why it fails, in *err. */
static int find_pieces_locked(struct atd_object *object, const struct atd_read *read,
                              struct pieces *pieces, struct atd_error *err)
{
    int rc;

    if (atomic_load(&object->reader->stopping))
        return atd_error_set(err, ECANCELED, "the reader has been stopped");
    if (atomic_load(&read->is_canceled))
        return atd_error_set(err, ECANCELED, "who wanted to read has been interrupted");
    if (object->dead) {
        *err = object->why;
        return -err->code;
    }
    rc = gather_locked(object, read, pieces);
    /* A kept flight has just lost its memory: what it hid may be in the file. */
    while (rc == -EAGAIN) {
        atd_flight_purge_locked(object);
        if (!atd_read_is_ready_locked(object, read))
            break;
        rc = gather_locked(object, read, pieces);
    }
    if (rc == -E2BIG)
        return atd_error_set(err, EIO, "a read of '" ATD_STR_FMT "' is in too many pieces",
                             ATD_STR_ARG(atd_object_url(object)));
    return rc;
}

/* Makes the read a waiter and starts what it needs. -EAGAIN: it waits; 0: look again; else why it
 * fails. */
static int wait_locked(struct atd_object *object, struct atd_read *read, bool is_new,
                       struct atd_error *err)
{
    int rc;

    if (!read->since_ms)
        read->since_ms = atd_clock_monotonic_ms();
    add_waiter_locked(object, read);
    rc = is_new ? atd_plan_new_read_locked(object, read, true, err)
                : atd_plan_again_locked(object, read, err);
    /* Blocks can come into the file from elsewhere between the two looks at it: another process,
     * or the same version with another SHA-256. Then there may be nothing to wait for. */
    if (rc == 0 && !atd_read_is_stuck_locked(object, read))
        return -EAGAIN;
    remove_waiter_locked(object, read);
    return rc;
}

/* A failure or a place among the waiters ends it (true), or the pieces are gathered. */
static bool look(struct atd_object *object, struct atd_read *read, struct pieces *pieces)
{
    struct atd_error err = ATD_ERROR_INIT;
    bool is_new = !read->planned;
    bool waits = false;
    int rc;

    atd_lock_take(&object->lock);
    do {
        rc = find_pieces_locked(object, read, pieces, &err);
        if (rc != -EAGAIN || err.code != 0)
            break;
        rc = wait_locked(object, read, is_new, &err);
        waits = rc == -EAGAIN && err.code == 0;
        is_new = false;
    } while (rc == 0);
    if (rc == 0 && is_new) {
        rc = atd_plan_new_read_locked(object, read, false, &err);
        atd_assert(rc == 0); /* only read-ahead, which cannot fail */
    }
    read->planned = true; /* under the lock, a waiter too is still there */
    atd_lock_give(&object->lock);
    if (rc && !waits)
        atd_read_fail(object, read, &err);
    return rc != 0;
}

void atd_read_serve(struct atd_object *object, struct atd_read *read, bool may_block)
{
    struct pieces pieces;

    if (answering > 0) {
        serve_on_worker(object, read);
        return;
    }
    for (unsigned round = 1;; round++) {
        if (look(object, read, &pieces))
            return;
        switch (try_pieces(object, read, &pieces, may_block, round == ATD_SERVE_ROUNDS_MAX)) {
        case STEP_ENDED:
            return;
        case STEP_WORKER:
            serve_on_worker(object, read);
            return;
        case STEP_AGAIN:
            break;
        }
    }
}

void atd_read_serve_list(struct atd_object *object, struct atd_read *list)
{
    while (list) {
        struct atd_read *next = list->next;

        list->next = NULL;
        atd_read_serve(object, list, false);
        list = next;
    }
}

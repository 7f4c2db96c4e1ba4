#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "cache/object.h"
#include "cache/pins.h"

#define FNV_OFFSET 0xcbf29ce484222325ULL
#define FNV_PRIME 0x100000001b3ULL

static uint64_t mix(uint64_t hash, const void *bytes, size_t len)
{
    const uint8_t *at = bytes;

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ at[i]) * FNV_PRIME;
    return hash;
}

uint64_t atd_object_hash(struct atd_str url, const struct atd_object_info *info)
{
    uint64_t hash = mix(FNV_OFFSET, url.ptr, url.len);

    hash = mix(hash, &info->size_bytes, sizeof(info->size_bytes));
    return mix(hash, info->etag, strlen(info->etag));
}

bool atd_object_has_locked(const struct atd_object *object, uint64_t block)
{
    return object->file && !object->file_bad && atd_cache_file_has(object->file, block);
}

/* Under the scope and the URL. */
static void open_file(struct atd_object *object)
{
    size_t len = 0;
    char *name = atd_cache_scoped_name(object->reader->scope,
                                       (struct atd_str){object->url, object->url_len}, &len);

    if (!name)
        return;
    if (atd_cache_file_open(object->reader->dir, (struct atd_str){name, len}, &object->info,
                            &object->file, NULL) != 0)
        object->file = NULL;
    free(name);
}

int atd_object_new(struct atd_reader *reader, const struct atd_reader_source *source, uint64_t hash,
                   struct atd_object **ret_object, struct atd_error *err)
{
    struct atd_object *object = calloc(1, sizeof(*object));

    if (object)
        object->url = malloc(source->url.len + 1);
    if (!object || !object->url) {
        free(object);
        return atd_error_set(err, ENOMEM, "opening '" ATD_STR_FMT "': out of memory",
                             ATD_STR_ARG(source->url));
    }
    memcpy(object->url, source->url.ptr, source->url.len);
    object->url[source->url.len] = '\0';
    object->url_len = source->url.len;
    object->reader = reader;
    object->store = source->store;
    object->info = *source->info;
    object->hash = hash;
    if (source->sha256_hex.len == sizeof(object->sha256_hex) - 1)
        memcpy(object->sha256_hex, source->sha256_hex.ptr, source->sha256_hex.len);
    object->handles = 1;
    atomic_init(&object->refs, 1);
    atd_lock_init(&object->lock, ATD_RANK_OBJECT);
    /* Whatever is wrong with the cache: the object is read without it. */
    if (reader->dir && object->info.size_bytes > 0)
        open_file(object);
    ATD_CACHE_COUNT(reader->stats, open_objects, 1);
    *ret_object = object;
    return 0;
}

void atd_object_free(struct atd_object *object)
{
    atd_assert(!object->waiters && object->live_flights == 0);
    ATD_CACHE_UNCOUNT(object->reader->stats, open_objects, 1);
    atd_flight_free_all(object);
    atd_cache_file_close(object->file);
    atd_lock_destroy(&object->lock);
    free(object->url);
    free(object);
}

/* ------------------------------------------------------------------ references */

void atd_object_ref_job(struct atd_object *object)
{
    (void)atomic_fetch_add(&object->refs, 1);
    (void)atomic_fetch_add(&object->reader->jobs, 1);
}

static void free_later(struct atd_work *work)
{
    struct atd_object *object =
        (struct atd_object *)(void *)((char *)work - offsetof(struct atd_object, end_work));
    struct atd_reader *reader = object->reader;

    atd_object_free(object);
    atd_lock_take(&reader->lock);
    if (atomic_fetch_sub(&reader->jobs, 1) == 1)
        (void)pthread_cond_broadcast(&reader->idle);
    atd_lock_give(&reader->lock);
}

static void unref(struct atd_object *object, bool is_job)
{
    struct atd_reader *reader = object->reader;
    bool last;

    atd_lock_take(&reader->lock);
    last = atomic_fetch_sub(&object->refs, 1) == 1;
    if (last) {
        struct atd_object **at = &reader->objects[object->hash % ATD_READER_BUCKETS];

        while (*at && *at != object)
            at = &(*at)->next;
        if (*at)
            *at = object->next;
        atd_history_keep(&reader->history, object->hash, &object->cursors);
        (void)atomic_fetch_add(&reader->jobs, 1);
    }
    if (is_job && atomic_fetch_sub(&reader->jobs, 1) == 1)
        (void)pthread_cond_broadcast(&reader->idle);
    atd_lock_give(&reader->lock);
    if (!last)
        return;
    object->end_work.run = free_later;
    /* Closing a file may wait for a disk; only when there is no worker any more it is done here. */
    if (!object->file || atomic_load(&reader->stopping) ||
        atd_workers_submit(reader->io, &object->end_work, NULL) != 0)
        free_later(&object->end_work);
}

void atd_object_unref_job(struct atd_object *object)
{
    unref(object, true);
}

void atd_object_unref(struct atd_object *object)
{
    unref(object, false);
}

/* ------------------------------------------------------------------ ends */

/* True when a waiter overlaps the flight. */
static bool is_wanted_locked(const struct atd_object *object, const struct atd_flight *flight)
{
    for (const struct atd_read *read = object->waiters; read; read = read->next) {
        if (read->offset < flight->end && read->offset + read->size > flight->first)
            return true;
    }
    return false;
}

/* `silent_since_ms`: those that brought something after that may end. */
static void cancel_unwanted(struct atd_object *object, int64_t silent_since_ms)
{
    struct atd_flight *withdrawn = NULL;
    struct atd_flight *next;

    atd_lock_take(&object->lock);
    for (struct atd_flight *flight = object->flights; flight; flight = next) {
        next = flight->next;
        if (is_wanted_locked(object, flight) ||
            (flight->state == ATD_FLIGHT_UNDER_WAY && flight->progress_ms > silent_since_ms))
            continue;
        if (atd_flight_cancel_locked(flight)) {
            flight->next = withdrawn;
            withdrawn = flight;
        }
    }
    atd_lock_give(&object->lock);
    while (withdrawn) {
        next = withdrawn->next;
        atd_flight_end_withdrawn(withdrawn);
        withdrawn = next;
    }
}

void atd_object_cancel_unwanted(struct atd_object *object)
{
    cancel_unwanted(object, INT64_MAX);
}

static struct atd_read *take_all_locked(struct atd_object *object)
{
    struct atd_read *list = object->waiters;

    for (struct atd_read *read = list; read; read = read->next)
        ATD_CACHE_UNCOUNT(object->reader->stats, waiters, 1);
    object->waiters = NULL;
    atomic_store(&object->waiter_count, 0);
    return list;
}

static void fail_list(struct atd_object *object, struct atd_read *list, const struct atd_error *why)
{
    while (list) {
        struct atd_read *next = list->next;

        atd_read_fail(object, list, why);
        list = next;
    }
}

void atd_object_kill(struct atd_object *object, const struct atd_error *why)
{
    struct atd_error kept = *why;
    struct atd_read *list;

    atd_lock_take(&object->lock);
    if (!object->dead) {
        object->dead = true;
        object->why = kept;
    }
    list = take_all_locked(object);
    atd_lock_give(&object->lock);
    fail_list(object, list, &kept);
    /* The caller has a reference: answering the reads did not end the object. */
    atd_object_cancel_unwanted(object);
}

/* When the waiter or a flight that it needs made progress last. */
static int64_t progress_of_locked(const struct atd_object *object, const struct atd_read *read)
{
    int64_t last = read->since_ms;
    bool has_live = false;

    for (const struct atd_flight *flight = object->flights; flight; flight = flight->next) {
        if (read->offset >= flight->end || read->offset + read->size <= flight->first)
            continue;
        if (flight->state == ATD_FLIGHT_UNDER_WAY && flight->progress_ms > last)
            last = flight->progress_ms;
        has_live = has_live || flight->state == ATD_FLIGHT_UNDER_WAY ||
                   flight->state == ATD_FLIGHT_WAITING;
    }
    atd_paranoid(has_live); /* nobody waits for nothing */
    (void)has_live;
    return last;
}

int64_t atd_object_expire(struct atd_object *object, int64_t now_ms)
{
    int64_t timeout_ms = object->reader->timeout_ms;
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_read *late = NULL;
    struct atd_read **at;
    int64_t due = ATD_TICKER_NEVER;

    atd_lock_take(&object->lock);
    at = &object->waiters;
    while (*at) {
        struct atd_read *read = *at;
        int64_t read_due = progress_of_locked(object, read) + timeout_ms;

        if (read_due > now_ms) {
            if (read_due < due)
                due = read_due;
            at = &read->next;
            continue;
        }
        *at = read->next;
        (void)atomic_fetch_sub(&object->waiter_count, 1);
        ATD_CACHE_UNCOUNT(object->reader->stats, waiters, 1);
        ATD_CACHE_COUNT(object->reader->stats, deadlines, 1);
        read->next = late;
        late = read;
    }
    atd_lock_give(&object->lock);
    if (late) {
        (void)atd_error_set_retryable(
            &err, ETIMEDOUT, "reading '" ATD_STR_FMT "': nothing came for %g seconds",
            ATD_STR_ARG(atd_object_url(object)), (double)timeout_ms / 1000);
        /* Whoever reads next must not wait for a get that is as good as dead. */
        cancel_unwanted(object, now_ms - timeout_ms);
        fail_list(object, late, &err);
    }
    return due;
}

#include "cache/reader.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "cache/object.h"

/* Stopping: cancelled gets end within moments unless a store's thread hangs. */
#define STOP_TIMEOUT_MS 10000u
#define STOP_WAIT_STEP_MS 100u

static void wake_for_memory(void *ctx)
{
    struct atd_reader *reader = ctx;

    atd_ticker_call_at(reader->ticker, 0);
}

/* ------------------------------------------------------------------ all objects */

/* Objects that somebody waits for, each with a reference, as a list by tick_next. */
static struct atd_object *collect_waited_for(struct atd_reader *reader)
{
    struct atd_object *list = NULL;

    atd_lock_take(&reader->lock);
    for (unsigned i = 0; i < ATD_READER_BUCKETS; i++) {
        for (struct atd_object *object = reader->objects[i]; object; object = object->next) {
            if (atomic_load(&object->waiter_count) == 0)
                continue;
            (void)atomic_fetch_add(&object->refs, 1);
            object->tick_next = list;
            list = object;
        }
    }
    atd_lock_give(&reader->lock);
    return list;
}

/* All objects, likewise, by stop_next. */
static struct atd_object *collect_all(struct atd_reader *reader)
{
    struct atd_object *list = NULL;

    atd_lock_take(&reader->lock);
    for (unsigned i = 0; i < ATD_READER_BUCKETS; i++) {
        for (struct atd_object *object = reader->objects[i]; object; object = object->next) {
            (void)atomic_fetch_add(&object->refs, 1);
            object->stop_next = list;
            list = object;
        }
    }
    atd_lock_give(&reader->lock);
    return list;
}

/* On the ticker's thread. */
static int64_t tick(void *ctx, int64_t now_ms)
{
    struct atd_reader *reader = ctx;
    struct atd_object *list;
    int64_t due = ATD_TICKER_NEVER;

    atd_budget_grant(reader->budget);
    list = collect_waited_for(reader);
    while (list) {
        struct atd_object *object = list;
        int64_t object_due;

        list = object->tick_next;
        object_due = atd_object_expire(object, now_ms);
        if (object_due < due)
            due = object_due;
        atd_object_unref(object);
    }
    return due;
}

/* ------------------------------------------------------------------ start and stop */

int atd_reader_new(const struct atd_reader_options *options, struct atd_reader **ret_reader,
                   struct atd_error *err)
{
    struct atd_reader *reader = calloc(1, sizeof(*reader));
    int rc;

    atd_assert(options->timeout_ms > 0 && options->stats);
    if (!reader)
        return atd_error_set(err, ENOMEM, "reader: out of memory");
    reader->dir = options->dir;
    reader->timeout_ms = options->timeout_ms;
    reader->stats = options->stats;
    reader->local_changed = options->local_changed;
    reader->ctx = options->ctx;
    reader->scope = options->scope ? strdup(options->scope) : NULL;
    atd_lock_init(&reader->lock, ATD_RANK_READER);
    atd_cond_init(&reader->idle);
    rc = options->scope && !reader->scope ? atd_error_set(err, ENOMEM, "reader: out of memory") : 0;
    if (rc == 0)
        rc = atd_budget_new(options->memory_bytes, options->stats, wake_for_memory, reader,
                            &reader->budget, err);
    if (rc == 0)
        rc = atd_ticker_start(tick, reader, &reader->ticker, err);
    if (rc == 0)
        rc = atd_workers_start("reader-io", ATD_READER_IO_THREADS, &reader->io, err);
    if (rc == 0 && reader->dir)
        rc = atd_workers_start("reader-write", ATD_READER_WRITE_THREADS, &reader->writers, err);
    if (rc == 0 && reader->dir)
        rc = atd_workers_start("reader-verify", 1, &reader->verifier, err);
    if (rc) {
        if (atd_reader_stop(reader))
            atd_reader_free(reader);
        return rc;
    }
    *ret_reader = reader;
    return 0;
}

/* Waits until no get, write or check is under way. */
static bool wait_for_jobs(struct atd_reader *reader)
{
    int64_t until = atd_clock_monotonic_ms() + STOP_TIMEOUT_MS;
    bool idle;

    atd_lock_take(&reader->lock);
    while (atomic_load(&reader->jobs) > 0 && atd_clock_monotonic_ms() < until)
        atd_cond_wait_ms(&reader->idle, &reader->lock, STOP_WAIT_STEP_MS);
    idle = atomic_load(&reader->jobs) == 0;
    atd_lock_give(&reader->lock);
    return idle;
}

bool atd_reader_stop(struct atd_reader *reader)
{
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_object *list;

    if (!reader)
        return true;
    atd_lock_take(&reader->lock);
    atomic_store(&reader->stopping, true); /* nothing is opened any more */
    atd_lock_give(&reader->lock);
    if (reader->dir)
        atd_cache_dir_interrupt(reader->dir);
    (void)atd_error_set(&err, ECANCELED, "the reader has been stopped");
    list = collect_all(reader);
    while (list) {
        struct atd_object *object = list;

        list = object->stop_next;
        atd_object_kill(object, &err);
        atd_object_unref(object);
    }
    /* The ticker is needed until then: a flight that was being granted memory ends on it. */
    if (!wait_for_jobs(reader))
        return false;
    return atd_ticker_stop(atd_steal(reader->ticker), STOP_TIMEOUT_MS) &&
           atd_workers_stop(atd_steal(reader->writers), STOP_TIMEOUT_MS) &&
           atd_workers_stop(atd_steal(reader->verifier), STOP_TIMEOUT_MS) &&
           atd_workers_stop(atd_steal(reader->io), STOP_TIMEOUT_MS);
}

void atd_reader_free(struct atd_reader *reader)
{
    if (!reader)
        return;
    for (unsigned i = 0; i < ATD_READER_BUCKETS; i++) {
        while (reader->objects[i]) {
            struct atd_object *object = reader->objects[i];

            reader->objects[i] = object->next;
            atd_object_free(object);
        }
    }
    atd_version_free_all(reader);
    atd_budget_free(reader->budget);
    free(reader->scope);
    (void)pthread_cond_destroy(&reader->idle);
    atd_lock_destroy(&reader->lock);
    free(reader);
}

/* ------------------------------------------------------------------ handles */

static bool is_dead(struct atd_object *object)
{
    bool dead;

    atd_lock_take(&object->lock);
    dead = object->dead;
    atd_lock_give(&object->lock);
    return dead;
}

/* One more handle of the object, if it is there. A dead one is not: what killed it (another version
 * at the store for a moment) need not be true any more. */
static struct atd_object *find_and_ref_locked(struct atd_reader *reader,
                                              const struct atd_reader_source *source, uint64_t hash)
{
    for (struct atd_object *object = reader->objects[hash % ATD_READER_BUCKETS]; object;
         object = object->next) {
        if (object->hash != hash || object->store != source->store ||
            !atd_str_equal(atd_object_url(object), source->url) ||
            !atd_object_info_same(&object->info, source->info) ||
            (source->sha256_hex.len > 0 &&
             !atd_str_equal(atd_str_from(object->sha256_hex), source->sha256_hex)) ||
            is_dead(object))
            continue;
        object->handles++;
        (void)atomic_fetch_add(&object->refs, 1);
        return object;
    }
    return NULL;
}

/* The object, found or made. */
static int get_object(struct atd_reader *reader, const struct atd_reader_source *source,
                      struct atd_object **ret_object, struct atd_error *err)
{
    uint64_t hash = atd_object_hash(source->url, source->info);
    struct atd_object *fresh = NULL;
    struct atd_object *object;
    bool stopping;
    int rc;

    if (!atd_version_may_open(reader, source, hash))
        return atd_error_set(err, EBADMSG,
                             "'" ATD_STR_FMT "' does not have the SHA-256 recorded in the index",
                             ATD_STR_ARG(source->url));
    atd_lock_take(&reader->lock);
    object = find_and_ref_locked(reader, source, hash);
    atd_lock_give(&reader->lock);
    if (!object) {
        rc = atd_object_new(reader, source, hash, &fresh, err);
        if (rc)
            return rc;
    }
    atd_lock_take(&reader->lock);
    stopping = atomic_load(&reader->stopping);
    if (fresh && !stopping) {
        object = find_and_ref_locked(reader, source, hash);
        if (!object) {
            object = atd_steal(fresh);
            atd_history_recall(&reader->history, hash, &object->cursors);
            object->next = reader->objects[hash % ATD_READER_BUCKETS];
            reader->objects[hash % ATD_READER_BUCKETS] = object;
        }
    }
    atd_lock_give(&reader->lock);
    if (fresh)
        atd_object_free(fresh);
    if (stopping) {
        if (object)
            atd_object_unref(object);
        return atd_error_set(err, ECANCELED, "the reader has been stopped");
    }
    *ret_object = object;
    return 0;
}

int atd_reader_open(struct atd_reader *reader, const struct atd_reader_source *source,
                    struct atd_reader_handle **ret_handle, struct atd_error *err)
{
    struct atd_reader_handle *handle = calloc(1, sizeof(*handle));
    int rc;

    if (!handle)
        return atd_error_set(err, ENOMEM, "opening '" ATD_STR_FMT "': out of memory",
                             ATD_STR_ARG(source->url));
    rc = get_object(reader, source, &handle->object, err);
    if (rc) {
        free(handle);
        return rc;
    }
    atd_version_note_open(handle->object);
    *ret_handle = handle;
    return 0;
}

bool atd_reader_cancel(struct atd_reader_handle *handle, struct atd_read *read)
{
    return atd_read_cancel(handle->object, read);
}

void atd_reader_close(struct atd_reader_handle *handle)
{
    struct atd_object *object = handle->object;
    bool last;

    atd_lock_take(&object->reader->lock);
    last = --object->handles == 0;
    atd_lock_give(&object->reader->lock);
    /* Somebody may open it again right now: then he fetches again what is cancelled here. */
    if (last)
        atd_object_cancel_unwanted(object);
    atd_object_unref(object);
    free(handle);
}

int atd_reader_local_fd(struct atd_reader_handle *handle, int *ret_fd, struct atd_error *err)
{
    struct atd_object *object = handle->object;

    if (is_dead(object) || !object->file || !atd_cache_file_is_verified(object->file) ||
        !atd_version_is_local_for(object))
        return atd_error_set(err, ENODATA, "'" ATD_STR_FMT "' is not complete in the cache",
                             ATD_STR_ARG(atd_object_url(object)));
    return atd_cache_file_dup(object->file, ret_fd, err);
}

bool atd_reader_is_local(struct atd_reader *reader, struct atd_str url,
                         const struct atd_object_info *info)
{
    return atd_version_is_local(reader, url, info);
}

void atd_reader_read(struct atd_reader_handle *handle, struct atd_read *read)
{
    struct atd_object *object = handle->object;

    atd_assert(read->size > 0 && read->size <= ATD_READ_BYTES_MAX &&
               read->offset < object->info.size_bytes &&
               read->size <= object->info.size_bytes - read->offset);
    read->handle = handle;
    read->next = NULL;
    read->since_ms = 0;
    read->tries = 0;
    read->planned = false;
    atd_read_serve(object, read, false);
}

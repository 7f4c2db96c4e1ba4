#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/lock.h"
#include "base/workers.h"
#include "store/memory_store.h"
#include "store/stores.h"

#define STEP_BYTES 65536u
#define JOIN_TIMEOUT_MS 10000u

/* One version of an object. Replaced ones live until the last get that reads them has ended. */
struct version {
    unsigned refs; /* guarded by the store's lock */
    struct atd_object_info info;
    uint8_t *bytes;
    atd_memory_fill_fn fill; /* instead of bytes */
    void *fill_ctx;
};

struct object {
    struct object *next;
    char *url;
    size_t url_len;
    struct version *current; /* NULL: it was deleted */
};

/* A get under way; lives until its done has returned, so that a late cancel finds it. */
struct task {
    struct task *next;
    struct atd_store_get *get;
    struct version *version; /* fixed at the first step, as a server does */
    size_t received;
    bool canceled; /* guarded by the store's lock */
};

struct memory_store {
    struct atd_store base;
    struct atd_memory_uploads uploads;
    struct atd_lock lock;
    pthread_cond_t wake;
    unsigned long thread;

    /* guarded by lock */
    struct object *objects;
    struct task *first;
    struct task *last;
    uint64_t puts;
    uint64_t gets;
    uint64_t get_bytes;
    bool stopping;
};

static struct memory_store *from_base(struct atd_store *store)
{
    return (struct memory_store *)(void *)store;
}

static void version_free(struct version *version)
{
    if (!version)
        return;
    free(version->bytes);
    free(version);
}

static void version_unref_locked(struct version *version)
{
    if (version && --version->refs == 0)
        version_free(version);
}

static struct object *find_locked(struct memory_store *store, struct atd_str url)
{
    for (struct object *object = store->objects; object; object = object->next) {
        if (atd_str_equal((struct atd_str){object->url, object->url_len}, url))
            return object;
    }
    return NULL;
}

/* Chooses the version that a get reads, or says why there is none. */
static int choose_version_locked(struct memory_store *store, struct task *task,
                                 struct atd_error *err)
{
    const struct atd_store_get *get = task->get;
    struct object *object = find_locked(store, get->url);
    struct version *version = object ? object->current : NULL;

    if (!version)
        return atd_error_set(err, ENOENT, "'" ATD_STR_FMT "' does not exist",
                             ATD_STR_ARG(get->url));
    if ((get->expect && !atd_object_info_same(get->expect, &version->info)) ||
        get->end > version->info.size_bytes)
        return atd_error_set(err, ESTALE, "'" ATD_STR_FMT "' is another version now",
                             ATD_STR_ARG(get->url));
    version->refs++;
    task->version = version;
    return 0;
}

static struct task *take_task(struct memory_store *store)
{
    struct task *task;

    atd_lock_take(&store->lock);
    while (!store->first && !store->stopping)
        atd_cond_wait(&store->wake, &store->lock);
    task = store->first;
    if (task) {
        store->first = task->next;
        if (!store->first)
            store->last = NULL;
        task->next = NULL;
    }
    atd_lock_give(&store->lock);
    return task;
}

static void append_locked(struct memory_store *store, struct task *task)
{
    if (store->last)
        store->last->next = task;
    else
        store->first = task;
    store->last = task;
    (void)pthread_cond_signal(&store->wake);
}

static void end_task(struct memory_store *store, struct task *task, const struct atd_error *why)
{
    task->get->done(task->get, why);
    atd_lock_take(&store->lock);
    version_unref_locked(task->version);
    atd_lock_give(&store->lock);
    free(task);
}

/* The next 64 KiB of one get; then it goes behind the others. */
static void step(struct memory_store *store, struct task *task)
{
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_store_get *get = task->get;
    size_t size = (size_t)(get->end - get->first);
    size_t len = size - task->received < STEP_BYTES ? size - task->received : STEP_BYTES;
    uint64_t offset = get->first + task->received;
    int rc = 0;

    atd_lock_take(&store->lock);
    if (task->canceled)
        rc = atd_error_set(&err, ECANCELED, "reading '" ATD_STR_FMT "' was cancelled",
                           ATD_STR_ARG(get->url));
    else if (!task->version)
        rc = choose_version_locked(store, task, &err);
    atd_lock_give(&store->lock);
    if (rc) {
        end_task(store, task, &err);
        return;
    }
    get->found = task->version->info;
    if (task->version->fill)
        task->version->fill(task->version->fill_ctx, offset, get->into + task->received, len);
    else
        memcpy(get->into + task->received, task->version->bytes + offset, len);
    task->received += len;
    if (get->progress)
        get->progress(get, task->received);
    if (task->received == size) {
        end_task(store, task, NULL);
        return;
    }
    atd_lock_take(&store->lock);
    append_locked(store, task);
    atd_lock_give(&store->lock);
}

static void *serve(void *ctx)
{
    struct memory_store *store = ctx;
    struct task *task;

    while ((task = take_task(store)))
        step(store, task);
    return NULL;
}

static void memory_get_start(struct atd_store *base, struct atd_store_get *get)
{
    struct memory_store *store = from_base(base);
    struct task *task = calloc(1, sizeof(*task));

    atd_assert(task); /* a test's double: out of memory is the test's end */
    task->get = get;
    get->impl = task;
    atd_lock_take(&store->lock);
    store->gets++;
    store->get_bytes += get->end - get->first;
    append_locked(store, task);
    atd_lock_give(&store->lock);
}

static void memory_get_cancel(struct atd_store *base, struct atd_store_get *get)
{
    struct memory_store *store = from_base(base);
    struct task *task = get->impl;

    atd_lock_take(&store->lock);
    task->canceled = true;
    atd_lock_give(&store->lock);
}

static int memory_stat(struct atd_store *base, struct atd_str url, unsigned timeout_ms,
                       struct atd_object_info *ret_info, struct atd_error *err)
{
    struct memory_store *store = from_base(base);
    struct object *object;
    bool there;

    (void)timeout_ms;
    atd_lock_take(&store->lock);
    object = find_locked(store, url);
    there = object && object->current;
    if (there)
        *ret_info = object->current->info;
    atd_lock_give(&store->lock);
    if (!there)
        return atd_error_set(err, ENOENT, "'" ATD_STR_FMT "' does not exist", ATD_STR_ARG(url));
    return 0;
}

static int by_url(const void *a, const void *b)
{
    const struct object *left = *(const struct object *const *)a;
    const struct object *right = *(const struct object *const *)b;

    return atd_str_compare((struct atd_str){left->url, left->url_len},
                           (struct atd_str){right->url, right->url_len});
}

#define LIST_PAGE_MAX 1000u

/* The records of deleted objects stay, so that what was collected is valid without the lock. */
static int memory_list(struct atd_store *base, struct atd_str prefix, struct atd_str after,
                       unsigned timeout_ms, atd_store_list_fn fn, void *ctx, bool *ret_more,
                       struct atd_error *err)
{
    struct memory_store *store = from_base(base);
    atd_auto_free struct object **hits = NULL;
    size_t count = 0;
    size_t capacity = 0;
    bool more;

    (void)timeout_ms;
    atd_lock_take(&store->lock);
    for (struct object *object = store->objects; object; object = object->next)
        capacity++;
    hits = calloc(capacity + 1, sizeof(struct object *));
    for (struct object *object = store->objects; object && hits; object = object->next) {
        struct atd_str url = {object->url, object->url_len};

        if (object->current && atd_str_starts_with(url, prefix) &&
            (after.len == 0 || atd_str_compare(url, after) > 0))
            hits[count++] = object;
    }
    atd_lock_give(&store->lock);
    if (!hits)
        return atd_error_set(err, ENOMEM, "memory store: out of memory");
    qsort(hits, count, sizeof(struct object *), by_url);
    more = count > LIST_PAGE_MAX;
    for (size_t i = 0; i < count && i < LIST_PAGE_MAX; i++) {
        struct atd_object_info info = {0};
        bool there;

        atd_lock_take(&store->lock);
        there = hits[i]->current;
        if (there)
            info = hits[i]->current->info;
        atd_lock_give(&store->lock);
        if (!there)
            continue;
        if (fn(ctx, (struct atd_str){hits[i]->url, hits[i]->url_len}, &info) != 0)
            break;
    }
    *ret_more = more;
    return 0;
}

static void memory_free(struct atd_store *base)
{
    struct memory_store *store = from_base(base);

    atd_lock_take(&store->lock);
    store->stopping = true;
    (void)pthread_cond_broadcast(&store->wake);
    atd_lock_give(&store->lock);
    if (store->thread && !atd_thread_join(store->thread, JOIN_TIMEOUT_MS))
        return;
    while (store->objects) {
        struct object *object = store->objects;

        store->objects = object->next;
        version_free(object->current);
        free(object->url);
        free(object);
    }
    atd_memory_uploads_release(&store->uploads);
    (void)pthread_cond_destroy(&store->wake);
    atd_lock_destroy(&store->lock);
    free(store);
}

static const struct atd_store_ops memory_ops = {
    .kind = "memory",
    .write = &atd_memory_write_ops,
    .get_start = memory_get_start,
    .get_cancel = memory_get_cancel,
    .stat = memory_stat,
    .list = memory_list,
    .free = memory_free,
};

int atd_store_memory_new(struct atd_store **ret_store, struct atd_error *err)
{
    struct memory_store *store = calloc(1, sizeof(*store));
    int rc;

    if (!store)
        return atd_error_set(err, ENOMEM, "memory store: out of memory");
    store->base.ops = &memory_ops;
    atd_lock_init(&store->lock, ATD_RANK_STORE);
    atd_cond_init(&store->wake);
    atd_memory_uploads_init(&store->uploads);
    rc = atd_thread_start("store-memory", serve, store, &store->thread, err);
    if (rc) {
        memory_free(&store->base);
        return rc;
    }
    *ret_store = &store->base;
    return 0;
}

/*
 * Makes `version` the object's current one: taken on success. `is_new`: not when there is one,
 * which is EEXIST.
 */
static int put_version(struct memory_store *store, struct atd_str url, struct version *version,
                       uint64_t content, bool is_new, struct atd_error *err)
{
    struct object *object;
    bool refused;
    struct object *fresh = calloc(1, sizeof(*fresh));
    atd_auto_free char *copy = malloc(url.len + 1);

    if (!fresh || !copy) {
        free(fresh);
        return atd_error_set(err, ENOMEM, "memory store: out of memory");
    }
    memcpy(copy, url.ptr, url.len);
    version->refs = 1;
    version->info.mtime_s = (int64_t)time(NULL);
    atd_lock_take(&store->lock);
    (void)snprintf(version->info.etag, sizeof(version->info.etag), "%016llx-%llu",
                   (unsigned long long)content, (unsigned long long)++store->puts);
    object = find_locked(store, url);
    refused = is_new && object && object->current;
    if (!object) {
        object = atd_steal(fresh);
        object->url = atd_steal(copy);
        object->url_len = url.len;
        object->next = store->objects;
        store->objects = object;
    }
    if (!refused) {
        version_unref_locked(object->current);
        object->current = version;
    }
    atd_lock_give(&store->lock);
    free(fresh);
    if (refused)
        return atd_error_set(err, EEXIST, "'" ATD_STR_FMT "' exists already", ATD_STR_ARG(url));
    return 0;
}

static int put_bytes(struct atd_store *base, struct atd_str url, struct atd_bytes bytes,
                     bool is_new, struct atd_error *err)
{
    struct version *version = calloc(1, sizeof(*version));
    uint8_t digest[ATD_SHA256_BYTES];
    uint64_t content;
    int rc;

    if (version)
        version->bytes = malloc(bytes.len ? bytes.len : 1);
    if (!version || !version->bytes) {
        version_free(version);
        return atd_error_set(err, ENOMEM, "memory store: out of memory");
    }
    if (bytes.len)
        memcpy(version->bytes, bytes.ptr, bytes.len);
    version->info.size_bytes = bytes.len;
    atd_sha256_of(bytes.ptr, bytes.len, digest);
    memcpy(&content, digest, sizeof(content));
    if (is_new)
        memcpy(version->info.maker, ATD_MEMORY_MAKER, sizeof(ATD_MEMORY_MAKER));
    rc = put_version(from_base(base), url, version, content, is_new, err);
    if (rc)
        version_free(version);
    return rc;
}

int atd_store_memory_put(struct atd_store *base, struct atd_str url, struct atd_bytes bytes,
                         struct atd_error *err)
{
    return put_bytes(base, url, bytes, false, err);
}

int atd_memory_put_new(struct atd_store *base, struct atd_str url, struct atd_bytes bytes,
                       struct atd_object_info *ret_info, struct atd_error *err)
{
    int rc = put_bytes(base, url, bytes, true, err);

    return rc ? rc : memory_stat(base, url, 0, ret_info, err);
}

void atd_memory_remove(struct atd_store *base, struct atd_str url)
{
    struct memory_store *store = from_base(base);
    struct object *object;

    atd_lock_take(&store->lock);
    object = find_locked(store, url);
    if (object) {
        version_unref_locked(object->current);
        object->current = NULL;
    }
    atd_lock_give(&store->lock);
}

struct atd_memory_uploads *atd_memory_uploads_of(struct atd_store *base)
{
    return &from_base(base)->uploads;
}

int atd_store_memory_put_made(struct atd_store *base, struct atd_str url, uint64_t size_bytes,
                              atd_memory_fill_fn fill, void *ctx, struct atd_error *err)
{
    struct version *version = calloc(1, sizeof(*version));
    int rc;

    if (!version)
        return atd_error_set(err, ENOMEM, "memory store: out of memory");
    version->info.size_bytes = size_bytes;
    version->fill = fill;
    version->fill_ctx = ctx;
    rc = put_version(from_base(base), url, version, size_bytes, false, err);
    if (rc)
        version_free(version);
    return rc;
}

void atd_store_memory_counts(struct atd_store *base, uint64_t *ret_gets, uint64_t *ret_bytes)
{
    struct memory_store *store = from_base(base);

    atd_lock_take(&store->lock);
    *ret_gets = store->gets;
    *ret_bytes = store->get_bytes;
    atd_lock_give(&store->lock);
}

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "atdata/shard_url.h"
#include "base/cleanup.h"
#include "base/lock.h"
#include "base/workers.h"
#include "store/disk_store.h"
#include "store/stores.h"

/* A few, so that one path on a dead disk does not stop the others. */
#define THREADS 4u
#define STEP_BYTES (1u << 20) /* between two looks at cancellation and at the file's identity */
#define STOP_MS 5000u

/*
 * Where a read is. It is linked through its own memory (get->impl), so starting one never fails.
 *
 *     start -> URGENT or LATER -> a thread's `current` -> done
 *                     \-> CANCELLED ---^
 */
enum queue { CANCELLED, URGENT, LATER, QUEUE_COUNT };

struct disk_thread {
    struct disk_store *store;
    unsigned long thread;
    struct atd_store_get *current; /* guarded by the store's lock */
    atomic_bool is_cancelled;      /* the current one */
};

struct disk_store {
    struct atd_store store; /* first */
    /* fixed */
    const struct atd_file_store *files;
    unsigned thread_count;
    struct disk_thread threads[THREADS];

    struct atd_lock lock;
    pthread_cond_t wake;
    /* guarded by lock */
    struct atd_store_get *first[QUEUE_COUNT];
    struct atd_store_get *last[QUEUE_COUNT];
    bool stopping;
};

/* ------------------------------------------------------------------ the queues */

static void push_locked(struct disk_store *store, enum queue queue, struct atd_store_get *get)
{
    get->impl = NULL;
    if (store->last[queue])
        store->last[queue]->impl = get;
    else
        store->first[queue] = get;
    store->last[queue] = get;
    (void)pthread_cond_signal(&store->wake);
}

/* Unlinks `get`, or the first when it is NULL. NULL when it is not there. */
static struct atd_store_get *pull_locked(struct disk_store *store, enum queue queue,
                                         const struct atd_store_get *get)
{
    struct atd_store_get *before = NULL;
    struct atd_store_get *at = store->first[queue];

    while (at && get && at != get) {
        before = at;
        at = at->impl;
    }
    if (!at)
        return NULL;
    if (before)
        before->impl = at->impl;
    else
        store->first[queue] = at->impl;
    if (store->last[queue] == at)
        store->last[queue] = before;
    return at;
}

/* ------------------------------------------------------------------ reading */

/*
 * A file has no ETag; its identity makes one. Without the device number, which changes when a file
 * system is mounted again.
 */
static struct atd_object_info info_of(const struct atd_file_identity *identity)
{
    struct atd_object_info info = {
        .size_bytes = identity->size_bytes,
        .mtime_s = identity->mtime_s,
    };

    (void)snprintf(info.etag, sizeof(info.etag),
                   "%" PRIx64 "-%" PRIx64 "-%" PRIx64 ".%" PRIx64 "-%" PRIx64 ".%" PRIx64,
                   identity->inode, identity->size_bytes, (uint64_t)identity->mtime_s,
                   (uint64_t)identity->mtime_ns, (uint64_t)identity->ctime_s,
                   (uint64_t)identity->ctime_ns);
    return info;
}

int atd_disk_path(struct atd_str url, struct atd_arena *arena, struct atd_str *ret_path,
                  struct atd_error *err)
{
    struct atd_shard_url parts;
    int rc = atd_shard_url_parse(url, arena, &parts, err);

    if (rc)
        return rc;
    if (parts.scheme != ATD_URL_LOCAL)
        return atd_error_set(err, EINVAL, "only an absolute path or file: URL names a local file");
    *ret_path = parts.path;
    return 0;
}

static int changed(struct atd_str path, struct atd_error *err)
{
    return atd_error_set(err, ESTALE,
                         "'" ATD_STR_FMT "' is another version now than the one that was looked up",
                         ATD_STR_ARG(path));
}

/* One step: reads all of it and makes sure that the file was not written meanwhile. */
static int read_step(int fd, struct atd_str path, const struct atd_file_identity *identity,
                     uint8_t *into, size_t len, uint64_t offset, struct atd_error *err)
{
    struct atd_file_identity after;
    struct stat st;

    for (size_t have = 0; have < len;) {
        ssize_t got = pread(fd, into + have, len - have, (off_t)(offset + have));

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return atd_error_set(err, errno, "reading '" ATD_STR_FMT "': %s", ATD_STR_ARG(path),
                                 strerror(errno));
        if (got == 0)
            return changed(path, err);
        have += (size_t)got;
    }
    if (fstat(fd, &st) != 0)
        return atd_error_set(err, errno, "reading '" ATD_STR_FMT "': %s", ATD_STR_ARG(path),
                             strerror(errno));
    after = atd_file_identity_of(&st);
    return atd_file_identity_equal(identity, &after) ? 0 : changed(path, err);
}

static int read_range(struct disk_thread *self, struct atd_store_get *get, struct atd_error *err)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ATD_DISK_PATH_ARENA_MAX);
    atd_auto_fd int fd = -1;
    struct atd_file_identity identity;
    struct atd_object_info info;
    struct atd_str path;
    size_t len = (size_t)(get->end - get->first);
    int rc = atd_disk_path(get->url, &arena, &path, err);

    if (rc == 0)
        rc = atd_file_store_open(self->store->files, path, &fd, &identity, err);
    if (rc)
        return rc;
    info = info_of(&identity);
    if (get->expect && !atd_object_info_same(&info, get->expect))
        return changed(path, err);
    if (identity.size_bytes < get->end)
        return atd_error_set(err, ESTALE, "'" ATD_STR_FMT "' has only %" PRIu64 " bytes",
                             ATD_STR_ARG(path), identity.size_bytes);
    get->found = info;
    for (size_t have = 0; have < len;) {
        size_t step = len - have < STEP_BYTES ? len - have : STEP_BYTES;

        if (atomic_load(&self->is_cancelled))
            return atd_error_set(err, ECANCELED, "the read was cancelled");
        rc = read_step(fd, path, &identity, get->into + have, step, get->first + have, err);
        if (rc)
            return rc;
        have += step;
        if (get->progress)
            get->progress(get, have);
    }
    return 0;
}

/* Waits for a read; NULL when the store is stopping and nothing is left. */
static struct atd_store_get *take_read(struct disk_thread *self)
{
    struct disk_store *store = self->store;
    struct atd_store_get *get = NULL;

    atd_lock_take(&store->lock);
    while (!get) {
        for (enum queue queue = 0; queue < QUEUE_COUNT && !get; queue++) {
            get = pull_locked(store, queue, NULL);
            atomic_store(&self->is_cancelled, queue == CANCELLED);
        }
        if (!get && store->stopping)
            break;
        if (!get)
            atd_cond_wait(&store->wake, &store->lock);
    }
    self->current = get;
    atd_lock_give(&store->lock);
    return get;
}

static void *read_until_stopped(void *ctx)
{
    struct disk_thread *self = ctx;
    struct atd_store_get *get;

    while ((get = take_read(self))) {
        struct atd_error err = ATD_ERROR_INIT;
        int rc = atomic_load(&self->is_cancelled)
                     ? atd_error_set(&err, ECANCELED, "the read was cancelled")
                     : read_range(self, get, &err);

        atd_lock_take(&self->store->lock);
        self->current = NULL;
        atd_lock_give(&self->store->lock);
        get->done(get, rc ? &err : NULL);
    }
    return NULL;
}

/* ------------------------------------------------------------------ the interface */

static void disk_get_start(struct atd_store *base, struct atd_store_get *get)
{
    struct disk_store *store = (struct disk_store *)base;

    atd_lock_take(&store->lock);
    push_locked(store, get->urgent ? URGENT : LATER, get);
    atd_lock_give(&store->lock);
}

static void disk_get_cancel(struct atd_store *base, struct atd_store_get *get)
{
    struct disk_store *store = (struct disk_store *)base;

    atd_lock_take(&store->lock);
    if (pull_locked(store, URGENT, get) || pull_locked(store, LATER, get))
        push_locked(store, CANCELLED, get);
    for (unsigned i = 0; i < store->thread_count; i++)
        if (store->threads[i].current == get)
            atomic_store(&store->threads[i].is_cancelled, true);
    atd_lock_give(&store->lock);
}

static void disk_get_make_urgent(struct atd_store *base, struct atd_store_get *get)
{
    struct disk_store *store = (struct disk_store *)base;

    atd_lock_take(&store->lock);
    if (pull_locked(store, LATER, get))
        push_locked(store, URGENT, get);
    atd_lock_give(&store->lock);
}

/* In the caller's thread: it may block on the disk, as the interface says. */
static int disk_stat(struct atd_store *base, struct atd_str url, unsigned timeout_ms,
                     struct atd_object_info *ret_info, struct atd_error *err)
{
    struct disk_store *store = (struct disk_store *)base;
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ATD_DISK_PATH_ARENA_MAX);
    struct atd_file_identity identity;
    struct atd_str path;
    int rc = atd_disk_path(url, &arena, &path, err);

    (void)timeout_ms;
    if (rc == 0)
        rc = atd_file_store_stat(store->files, path, &identity, err);
    if (rc == 0)
        *ret_info = info_of(&identity);
    return rc;
}

static void disk_free(struct atd_store *base)
{
    struct disk_store *store = (struct disk_store *)base;
    bool ended = true;

    atd_lock_take(&store->lock);
    store->stopping = true;
    (void)pthread_cond_broadcast(&store->wake);
    atd_lock_give(&store->lock);
    for (unsigned i = 0; i < store->thread_count && ended; i++)
        ended = atd_thread_join(store->threads[i].thread, STOP_MS);
    if (!ended)
        return; /* hangs in a call on a dead disk: left behind */
    (void)pthread_cond_destroy(&store->wake);
    atd_lock_destroy(&store->lock);
    free(store);
}

static const struct atd_store_ops ops = {
    .kind = "file",
    .write = &atd_disk_write_ops,
    .get_start = disk_get_start,
    .get_cancel = disk_get_cancel,
    .get_make_urgent = disk_get_make_urgent,
    .stat = disk_stat,
    .free = disk_free,
};

const struct atd_file_store *atd_disk_files(const struct atd_store *store)
{
    return ((const struct disk_store *)store)->files;
}

int atd_store_file_new(const struct atd_file_store *files, struct atd_store **ret_store,
                       struct atd_error *err)
{
    struct disk_store *store = calloc(1, sizeof(*store));
    int rc = 0;

    if (!store)
        return atd_error_set(err, ENOMEM, "disk store: out of memory");
    store->store.ops = &ops;
    store->files = files;
    atd_lock_init(&store->lock, ATD_RANK_STORE);
    atd_cond_init(&store->wake);
    for (unsigned i = 0; i < THREADS && rc == 0; i++) {
        store->threads[i].store = store;
        rc = atd_thread_start("atd-disk", read_until_stopped, &store->threads[i],
                              &store->threads[i].thread, err);
        if (rc == 0)
            store->thread_count++;
    }
    if (rc) {
        disk_free(&store->store);
        return rc;
    }
    *ret_store = &store->store;
    return 0;
}

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "store/memory_store.h"
#include "store/stores.h"
#include "store/upload_parts.h"

#define ID_MAX 32

struct memory_part {
    uint8_t *ptr;
    size_t len;
};

/*
 * What a server has of an upload; it outlives whoever began it, as a test of crashes wants.
 * Guarded by uploads->lock.
 */
struct atd_memory_pending {
    struct atd_memory_pending *next;
    char id[ID_MAX];
    char *url;
    size_t url_len;
    struct memory_part *parts; /* part 1 is the first; NULL did not come */
    size_t part_count;
};

struct memory_upload {
    struct atd_store_upload base; /* first */
    /* fixed */
    char id[ID_MAX];
    char *url;
    size_t url_len;

    atomic_bool is_cancelled;
    struct atd_upload_parts parts;
};

static struct memory_upload *from_base(struct atd_store_upload *upload)
{
    return (struct memory_upload *)upload;
}

static struct atd_str url_of(const struct memory_upload *upload)
{
    return (struct atd_str){upload->url, upload->url_len};
}

/* ------------------------------------------------------------------ what is pending */

void atd_memory_uploads_init(struct atd_memory_uploads *uploads)
{
    *uploads = (struct atd_memory_uploads){0};
    atd_lock_init(&uploads->lock, ATD_RANK_STORE);
}

static void pending_free(struct atd_memory_pending *pending)
{
    for (size_t i = 0; i < pending->part_count; i++)
        free(pending->parts[i].ptr);
    free(pending->parts);
    free(pending->url);
    free(pending);
}

void atd_memory_uploads_release(struct atd_memory_uploads *uploads)
{
    while (uploads->first) {
        struct atd_memory_pending *pending = uploads->first;

        uploads->first = pending->next;
        pending_free(pending);
    }
    atd_lock_destroy(&uploads->lock);
}

static struct atd_memory_pending *find_locked(struct atd_memory_uploads *uploads, const char *id)
{
    struct atd_memory_pending *pending = uploads->first;

    while (pending && strcmp(pending->id, id) != 0)
        pending = pending->next;
    return pending;
}

/* Drops those of the URL, with this id unless it is "". */
static void drop(struct atd_store *store, struct atd_str url, const char *id)
{
    struct atd_memory_uploads *uploads = atd_memory_uploads_of(store);

    atd_lock_take(&uploads->lock);
    for (struct atd_memory_pending **at = &uploads->first; *at;) {
        struct atd_memory_pending *pending = *at;

        if (atd_str_equal(url, (struct atd_str){pending->url, pending->url_len}) &&
            (!id[0] || strcmp(id, pending->id) == 0)) {
            *at = pending->next;
            pending_free(pending);
        } else {
            at = &pending->next;
        }
    }
    atd_lock_give(&uploads->lock);
}

unsigned atd_store_memory_uploads(struct atd_store *store)
{
    struct atd_memory_uploads *uploads = atd_memory_uploads_of(store);
    unsigned count = 0;

    atd_lock_take(&uploads->lock);
    for (struct atd_memory_pending *pending = uploads->first; pending; pending = pending->next)
        count++;
    atd_lock_give(&uploads->lock);
    return count;
}

/* Keeps a part, whose bytes are malloc'd. False when the upload is gone. */
static bool keep_part(struct atd_store *store, const char *id, unsigned number,
                      struct memory_part part)
{
    struct atd_memory_uploads *uploads = atd_memory_uploads_of(store);
    struct atd_memory_pending *pending;

    atd_lock_take(&uploads->lock);
    pending = find_locked(uploads, id);
    if (pending) {
        if (number > pending->part_count) {
            pending->parts = realloc(pending->parts, number * sizeof(*pending->parts));
            atd_assert(pending->parts); /* a test's double: out of memory is the test's end */
            while (pending->part_count < number)
                pending->parts[pending->part_count++] = (struct memory_part){0};
        }
        free(pending->parts[number - 1].ptr);
        pending->parts[number - 1] = part;
    }
    atd_lock_give(&uploads->lock);
    return pending;
}

/* The bytes of all parts, one after the other. False when the upload is gone. */
static bool join_parts(struct atd_store *store, const char *id, unsigned part_count, uint8_t *into)
{
    struct atd_memory_uploads *uploads = atd_memory_uploads_of(store);
    const struct atd_memory_pending *pending;

    atd_lock_take(&uploads->lock);
    pending = find_locked(uploads, id);
    for (unsigned i = 0; i < part_count && pending; i++) {
        memcpy(into, pending->parts[i].ptr, pending->parts[i].len);
        into += pending->parts[i].len;
    }
    atd_lock_give(&uploads->lock);
    return pending;
}

/* ------------------------------------------------------------------ the interface */

static int gone(const struct memory_upload *upload, struct atd_error *err)
{
    return atd_error_set(err, ENOENT, "the upload of '" ATD_STR_FMT "' is gone",
                         ATD_STR_ARG(url_of(upload)));
}

static int cancelled(const struct memory_upload *upload, struct atd_error *err)
{
    return atd_error_set(err, ECANCELED, "writing '" ATD_STR_FMT "' was cancelled",
                         ATD_STR_ARG(url_of(upload)));
}

static void memory_free_upload(struct atd_store_upload *base)
{
    struct memory_upload *upload = from_base(base);

    atd_upload_parts_release(&upload->parts);
    free(upload->url);
    free(upload);
}

static int memory_begin(struct atd_store *store, struct atd_str url, uint64_t part_bytes,
                        unsigned timeout_ms, char ret_id[ATD_UPLOAD_ID_MAX + 1],
                        struct atd_store_upload **ret_upload, struct atd_error *err)
{
    struct atd_memory_uploads *uploads = atd_memory_uploads_of(store);
    struct atd_memory_pending *pending = calloc(1, sizeof(*pending));
    struct memory_upload *upload = calloc(1, sizeof(*upload));

    (void)part_bytes;
    (void)timeout_ms;
    (void)err;
    atd_assert(pending && upload);
    pending->url = strndup(url.ptr, url.len);
    upload->url = strndup(url.ptr, url.len);
    atd_assert(pending->url && upload->url);
    pending->url_len = url.len;
    upload->url_len = url.len;
    atd_upload_parts_init(&upload->parts);
    atd_lock_take(&uploads->lock);
    (void)snprintf(pending->id, sizeof(pending->id), "memory-%llu",
                   (unsigned long long)++uploads->begun);
    memcpy(upload->id, pending->id, sizeof(upload->id));
    pending->next = uploads->first;
    uploads->first = pending;
    atd_lock_give(&uploads->lock);
    memcpy(ret_id, upload->id, sizeof(upload->id));
    *ret_upload = &upload->base;
    return 0;
}

static int memory_part(struct atd_store_upload *base, unsigned number, struct atd_bytes bytes,
                       unsigned timeout_ms, struct atd_error *err)
{
    struct memory_upload *upload = from_base(base);
    const struct atd_upload_part part = {.len = bytes.len};
    uint8_t *copy;
    int rc;

    (void)timeout_ms;
    if (atomic_load(&upload->is_cancelled))
        return cancelled(upload, err);
    rc = atd_upload_parts_note(&upload->parts, number, &part, err);
    if (rc)
        return rc;
    copy = malloc(bytes.len);
    atd_assert(copy);
    memcpy(copy, bytes.ptr, bytes.len);
    if (keep_part(base->store, upload->id, number, (struct memory_part){copy, bytes.len}))
        return 0;
    free(copy);
    return gone(upload, err);
}

static int memory_finish(struct atd_store_upload *base, unsigned part_count, unsigned timeout_ms,
                         struct atd_object_info *ret_info, struct atd_error *err)
{
    struct memory_upload *upload = from_base(base);
    atd_auto_free uint8_t *all = NULL;
    uint64_t size_bytes;
    int rc = atd_upload_parts_check(&upload->parts, part_count, base->part_bytes, &size_bytes, err);

    (void)timeout_ms;
    if (rc)
        return rc;
    if (atomic_load(&upload->is_cancelled))
        return cancelled(upload, err);
    all = malloc(size_bytes);
    atd_assert(all);
    if (!join_parts(base->store, upload->id, part_count, all))
        return gone(upload, err);
    rc = atd_memory_put_new(base->store, url_of(upload), (struct atd_bytes){all, size_bytes},
                            ret_info, err);
    if (rc == 0)
        drop(base->store, url_of(upload), upload->id);
    return rc;
}

static void memory_cancel(struct atd_store_upload *base)
{
    atomic_store(&from_base(base)->is_cancelled, true);
}

static int memory_abort(struct atd_store_upload *base, unsigned timeout_ms, struct atd_error *err)
{
    struct memory_upload *upload = from_base(base);

    (void)timeout_ms;
    (void)err;
    drop(base->store, url_of(upload), upload->id);
    return 0;
}

static int memory_discard(struct atd_store *store, struct atd_str url, const char *id,
                          unsigned timeout_ms, struct atd_error *err)
{
    (void)timeout_ms;
    (void)err;
    drop(store, url, id);
    return 0;
}

static int memory_put(struct atd_store *store, struct atd_str url, struct atd_bytes bytes,
                      unsigned timeout_ms, struct atd_object_info *ret_info, struct atd_error *err)
{
    (void)timeout_ms;
    return atd_memory_put_new(store, url, bytes, ret_info, err);
}

static int memory_remove(struct atd_store *store, struct atd_str url, unsigned timeout_ms,
                         struct atd_error *err)
{
    (void)timeout_ms;
    (void)err;
    atd_memory_remove(store, url);
    return 0;
}

static int memory_guards(struct atd_store *store, struct atd_str prefix_url,
                         struct atd_str scratch_name, unsigned timeout_ms, bool *ret_guards,
                         struct atd_error *err)
{
    (void)store;
    (void)prefix_url;
    (void)scratch_name;
    (void)timeout_ms;
    (void)err;
    *ret_guards = true;
    return 0;
}

static const char *memory_maker(struct atd_store *store)
{
    (void)store;
    return ATD_MEMORY_MAKER;
}

const struct atd_store_write_ops atd_memory_write_ops = {
    .begin = memory_begin,
    .part = memory_part,
    .finish = memory_finish,
    .cancel = memory_cancel,
    .abort = memory_abort,
    .free_upload = memory_free_upload,
    .discard = memory_discard,
    .put = memory_put,
    .remove = memory_remove,
    .guards = memory_guards,
    .maker = memory_maker,
};

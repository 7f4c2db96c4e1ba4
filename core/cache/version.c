#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "cache/object.h"

static struct atd_version **find_locked(struct atd_reader *reader, struct atd_str url,
                                        const struct atd_object_info *info, uint64_t hash)
{
    struct atd_version **at = &reader->versions[hash % ATD_READER_BUCKETS];

    while (*at && !((*at)->hash == hash &&
                    atd_str_equal((struct atd_str){(*at)->url, (*at)->url_len}, url) &&
                    atd_object_info_same(&(*at)->info, info)))
        at = &(*at)->next;
    return at;
}

/* What a check of a version said holds for everybody who demands no SHA-256, or the one that it was
 * checked against. */
static bool covers(const struct atd_version *version, const struct atd_object *object)
{
    return !object->sha256_hex[0] || strcmp(version->sha256_hex, object->sha256_hex) == 0;
}

/* Remembers what a check said; nothing at all (neither) forgets the version. Returns true when it
 * became local or stopped being so. */
static bool remember(struct atd_object *object, bool is_local, bool is_mismatched)
{
    struct atd_reader *reader = object->reader;
    struct atd_version *fresh = calloc(1, sizeof(*fresh) + object->url_len);
    struct atd_version **at;
    struct atd_version *version;
    bool was_local;

    atd_lock_take(&reader->lock);
    at = find_locked(reader, atd_object_url(object), &object->info, object->hash);
    version = *at;
    was_local = version && version->is_local;
    if (!is_local && !is_mismatched) {
        if (version) {
            *at = version->next;
            reader->version_count--;
        }
    } else {
        if (!version && fresh && reader->version_count < ATD_VERSIONS_MAX) {
            version = fresh;
            fresh = NULL;
            version->hash = object->hash;
            version->info = object->info;
            version->url_len = object->url_len;
            memcpy(version->url, object->url, object->url_len);
            *at = version;
            reader->version_count++;
        }
        if (version) {
            /* Checked without a SHA-256 it stays what it was checked against. */
            bool says_less = version->is_local && is_local && !object->sha256_hex[0];

            version->is_local = is_local;
            version->is_mismatched = is_mismatched;
            if (!says_less)
                memcpy(version->sha256_hex, object->sha256_hex, sizeof(version->sha256_hex));
        }
        version = NULL;
    }
    atd_lock_give(&reader->lock);
    free(version);
    free(fresh);
    return was_local != is_local;
}

static void tell(struct atd_object *object)
{
    struct atd_reader *reader = object->reader;

    if (reader->local_changed && !atomic_load(&reader->stopping))
        reader->local_changed(reader->ctx, atd_object_url(object), &object->info);
}

/* False also when the reader is being stopped. */
static bool is_open(struct atd_object *object)
{
    struct atd_reader *reader = object->reader;
    bool open;

    atd_lock_take(&reader->lock);
    open = object->handles > 0 && !atomic_load(&reader->stopping);
    atd_lock_give(&reader->lock);
    return open;
}

/* On the verifier's thread. */
static void check(struct atd_work *work)
{
    struct atd_object *object =
        (struct atd_object *)(void *)((char *)work - offsetof(struct atd_object, verify_work));
    struct atd_error err = ATD_ERROR_INIT;
    int rc = -ECANCELED;

    /* It is cancelled when another user of the file goes, who may not have been the last. */
    for (bool wanted = true; rc == -ECANCELED && wanted; wanted = is_open(object))
        rc = atd_cache_file_verify(object->file, object->sha256_hex[0] ? object->sha256_hex : NULL,
                                   &err);
    atd_lock_take(&object->lock);
    object->verify_queued = false;
    atd_lock_give(&object->lock);
    if (rc == 0) {
        if (remember(object, true, false))
            tell(object);
    } else if (rc == -EBADMSG) {
        (void)atd_error_set(&err, EIO,
                            "'" ATD_STR_FMT "' does not have the SHA-256 recorded in the index",
                            ATD_STR_ARG(atd_object_url(object)));
        if (remember(object, false, true))
            tell(object);
        atd_object_kill(object, &err);
    } else if (rc != -ECANCELED) {
        if (remember(object, false, false))
            tell(object);
    }
    atd_object_unref_job(object);
}

void atd_version_check_later(struct atd_object *object)
{
    struct atd_reader *reader = object->reader;
    bool queue;

    atd_lock_take(&object->lock);
    queue = !object->verify_queued && !object->dead;
    if (queue)
        object->verify_queued = true;
    atd_lock_give(&object->lock);
    if (!queue)
        return;
    atd_object_ref_job(object);
    object->verify_work.run = check;
    if (atd_workers_submit(reader->verifier, &object->verify_work, NULL) == 0)
        return;
    atd_lock_take(&object->lock);
    object->verify_queued = false;
    atd_lock_give(&object->lock);
    atd_object_unref_job(object);
}

void atd_version_note_open(struct atd_object *object)
{
    struct atd_reader *reader = object->reader;
    const struct atd_version *version;
    bool was_local;
    bool known;
    bool complete;

    if (!object->file)
        return;
    atd_lock_take(&reader->lock);
    version = *find_locked(reader, atd_object_url(object), &object->info, object->hash);
    was_local = version && version->is_local;
    known = was_local && covers(version, object);
    atd_lock_give(&reader->lock);
    complete = atd_cache_file_is_complete(object->file);
    if (complete && known && atd_cache_file_is_verified(object->file))
        return;
    if (was_local && (!complete || !known) && remember(object, false, false))
        tell(object);
    if (complete)
        atd_version_check_later(object);
}

bool atd_version_may_open(struct atd_reader *reader, const struct atd_reader_source *source,
                          uint64_t hash)
{
    const struct atd_version *version;
    bool may;

    atd_lock_take(&reader->lock);
    version = *find_locked(reader, source->url, source->info, hash);
    may = !version || !version->is_mismatched ||
          !atd_str_equal(atd_str_from(version->sha256_hex), source->sha256_hex);
    atd_lock_give(&reader->lock);
    return may;
}

bool atd_version_is_local_for(const struct atd_object *object)
{
    struct atd_reader *reader = object->reader;
    const struct atd_version *version;
    bool is_local;

    atd_lock_take(&reader->lock);
    version = *find_locked(reader, atd_object_url(object), &object->info, object->hash);
    is_local = version && version->is_local && covers(version, object);
    atd_lock_give(&reader->lock);
    return is_local;
}

bool atd_version_is_local(struct atd_reader *reader, struct atd_str url,
                          const struct atd_object_info *info)
{
    const struct atd_version *version;
    bool is_local;

    atd_lock_take(&reader->lock);
    version = *find_locked(reader, url, info, atd_object_hash(url, info));
    is_local = version && version->is_local;
    atd_lock_give(&reader->lock);
    return is_local;
}

void atd_version_free_all(struct atd_reader *reader)
{
    for (unsigned i = 0; i < ATD_READER_BUCKETS; i++) {
        while (reader->versions[i]) {
            struct atd_version *version = reader->versions[i];

            reader->versions[i] = version->next;
            free(version);
        }
    }
}

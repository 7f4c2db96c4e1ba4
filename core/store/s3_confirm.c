/*
 * What is there, and is it what was sent? Source: S3-REDIS 2.1 to 2.4.
 *
 * ETags are opaque: they are compared with what the server said, never computed. A checksum of the
 * parts' checksums ("COMPOSITE") can be computed, and proves the content. Whose it is only the
 * label tells that every object gets: two mounts may send the same bytes to the same key at once,
 * and who takes the other's object for its own may take it back one day.
 */
#include <errno.h>

#include "store/s3_store.h"

int atd_s3_exists(struct atd_str url, struct atd_error *err)
{
    char what[ATD_REMOTE_WHAT_MAX];

    atd_remote_what(url, what);
    return atd_error_set(err, EEXIST, "%s exists already", what);
}

int atd_s3_unknown(struct atd_str url, const struct atd_error *reason, struct atd_error *err)
{
    char what[ATD_REMOTE_WHAT_MAX];

    atd_remote_what(url, what);
    return atd_error_set(err, EREMOTEIO, "nobody can say whether %s was written%s%s", what,
                         reason ? ": " : "", reason ? reason->text : "");
}

/*
 * *ret_crc32c is "" when none is told. A store that refuses HEAD is asked for the first byte.
 * Errors: ENOENT; those of a request.
 */
static int look(struct atd_s3_store *store, struct atd_str url, unsigned timeout_ms,
                struct atd_object_info *ret_info, char ret_crc32c[ATD_S3_CHECKSUM_MAX + 1],
                struct atd_error *err)
{
    struct atd_s3_write head = {.request = {.operation = ATD_S3_HEAD, .wants_checksum = true}};
    struct atd_error why = ATD_ERROR_INIT;
    int rc = atd_s3_write_run(store, url, &head, NULL, timeout_ms, &why);

    ret_crc32c[0] = '\0';
    if (rc == 0 && head.outcome == ATD_S3_OUTCOME_GONE) {
        char what[ATD_REMOTE_WHAT_MAX];

        atd_remote_what(url, what);
        return atd_error_set(err, ENOENT, "%s does not exist", what);
    }
    if (rc && !why.retryable)
        return atd_remote_stat(&store->remote.store, url, timeout_ms, ret_info, err);
    if (rc) {
        if (err)
            *err = why;
        return rc;
    }
    *ret_info = head.info;
    memcpy(ret_crc32c, head.crc32c, sizeof(head.crc32c));
    return 0;
}

/* Proxies weaken ETags ("W/"), and compress nothing of this. */
static bool same_etag(const char *a, const char *b)
{
    a += strncmp(a, "W/", 2) == 0 ? 2 : 0;
    b += strncmp(b, "W/", 2) == 0 ? 2 : 0;
    return strcmp(a, b) == 0;
}

/* A sum of the whole object where a sum of sums was expected, or the reverse, tells nothing. */
static bool comparable(const char *a, const char *b)
{
    return a[0] && b[0] && !strchr(a, '-') == !strchr(b, '-');
}

static enum atd_s3_finding compare(const struct atd_s3_store *store, const struct atd_s3_sent *sent,
                                   const struct atd_object_info *info, const char *crc32c)
{
    bool is_equal = info->size_bytes == sent->size_bytes;

    if (info->maker[0] && strcmp(info->maker, store->maker) != 0)
        return ATD_S3_FOUND_OTHER;
    if (is_equal && comparable(crc32c, sent->crc32c))
        is_equal = strcmp(crc32c, sent->crc32c) == 0;
    else if (is_equal && sent->etag[0] && info->etag[0])
        is_equal = same_etag(sent->etag, info->etag);
    if (!is_equal)
        return ATD_S3_FOUND_OTHER;
    return info->maker[0] ? ATD_S3_FOUND_OURS : ATD_S3_FOUND_LIKE_OURS;
}

/* Whether what is there is the object that the server said it had made. */
static bool is_what_was_made(const struct atd_s3_store *store, const struct atd_s3_sent *sent,
                             const struct atd_object_info *info)
{
    if (info->maker[0])
        return strcmp(info->maker, store->maker) == 0;
    return sent->etag[0] && same_etag(sent->etag, info->etag);
}

int atd_s3_find(struct atd_s3_store *store, struct atd_str url, const struct atd_s3_sent *sent,
                unsigned timeout_ms, enum atd_s3_finding *ret_finding,
                struct atd_object_info *ret_info, struct atd_error *err)
{
    struct atd_error why = ATD_ERROR_INIT;
    struct atd_object_info info;
    char crc32c[ATD_S3_CHECKSUM_MAX + 1];
    int rc = look(store, url, timeout_ms, &info, crc32c, &why);

    if (rc == -ENOENT) {
        *ret_finding = ATD_S3_FOUND_NOTHING;
        return 0;
    }
    if (rc) {
        if (err)
            *err = why;
        return rc;
    }
    *ret_finding = compare(store, sent, &info, crc32c);
    *ret_info = info;
    return 0;
}

int atd_s3_confirm(struct atd_s3_store *store, struct atd_str url, const struct atd_s3_sent *sent,
                   unsigned timeout_ms, struct atd_object_info *ret_info, struct atd_error *err)
{
    enum atd_s3_finding finding;
    struct atd_object_info info;
    struct atd_error why = ATD_ERROR_INIT;
    const char *after;
    char what[ATD_REMOTE_WHAT_MAX];
    int rc = atd_s3_find(store, url, sent, timeout_ms, &finding, &info, &why);

    if (rc)
        return atd_s3_unknown(url, &why, err);
    atd_remote_what(url, what);
    switch (finding) {
    case ATD_S3_FOUND_OURS:
    case ATD_S3_FOUND_LIKE_OURS:
        *ret_info = info;
        return 0;
    case ATD_S3_FOUND_NOTHING:
        return atd_error_set(err, EIO, "%s was written, says the server, but is not there", what);
    case ATD_S3_FOUND_OTHER:
        break;
    }
    if (info.maker[0] && !is_what_was_made(store, sent, &info))
        return atd_error_set(err, EIO, "%s is not what was sent: somebody else wrote it", what);
    if (!is_what_was_made(store, sent, &info)) {
        (void)atd_error_set(&why, EIO, "what is there is not what was sent, nor ours to delete");
        return atd_s3_unknown(url, &why, err);
    }
    rc = atd_s3_remove(&store->remote.store, url, timeout_ms, &why);
    after = rc ? ", and could not be deleted: " : "; it was deleted";
    if (info.size_bytes == sent->size_bytes)
        return atd_error_set(err, EIO, "%s is not what was sent (its checksum is another)%s%s",
                             what, after, rc ? why.text : "");
    return atd_error_set(err, EIO, "%s is not what was sent (%llu bytes instead of %llu)%s%s", what,
                         (unsigned long long)info.size_bytes, (unsigned long long)sent->size_bytes,
                         after, rc ? why.text : "");
}

int atd_s3_look_first(struct atd_s3_store *store, struct atd_str url, unsigned timeout_ms,
                      bool *ret_guard, struct atd_error *err)
{
    struct atd_error why = ATD_ERROR_INIT;
    struct atd_object_info info;
    struct atd_str bucket;
    struct atd_str key;
    bool guards = false;
    bool known;
    int rc = atd_s3_object(url, &bucket, &key, err);

    if (rc)
        return rc;
    known = atd_places_guards(&store->remote.places, bucket, &guards);
    *ret_guard = guards || !known;
    if (guards)
        return 0;
    rc = atd_remote_stat(&store->remote.store, url, timeout_ms, &info, &why);
    if (rc == 0)
        return atd_s3_exists(url, err);
    if (rc == -ENOENT)
        return 0;
    if (err)
        *err = why;
    return rc;
}

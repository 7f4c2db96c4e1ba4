/*
 * Objects in parts. Source: S3-REDIS 2.1 to 2.4.
 *
 *     begin                finish                                      abort
 *     CREATE -> PART ... -> (HEAD) -> COMPLETE -> HEAD: what was sent?  ABORT, ABORT
 *                                       |    \--> reply lost: HEAD: is it ours?
 *                                       +--> 409: the upload is gone, begin again
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "store/s3_store.h"
#include "store/upload_parts.h"

#define COMPLETE_BODY_MAX ((size_t)16 << 20) /* of PARTS_MAX parts with the longest ETags */

struct s3_upload {
    struct atd_store_upload base; /* first */
    /* fixed */
    char *url;
    size_t url_len;
    char id[ATD_S3_UPLOAD_ID_MAX + 1];
    /* The reply to an earlier CREATE was lost: it may have begun one more, whose name is not known.
     * At the end all of this key's are taken back. */
    bool may_have_twin;

    struct atd_remote_group group; /* guarded by the remote's lock */
    struct atd_upload_parts parts;
    atomic_bool uses_crc32c;
};

static struct s3_upload *from_base(struct atd_store_upload *upload)
{
    return (struct s3_upload *)upload;
}

static struct atd_s3_store *store_of(const struct atd_store_upload *upload)
{
    return (struct atd_s3_store *)upload->store;
}

static struct atd_str url_of(const struct s3_upload *upload)
{
    return (struct atd_str){upload->url, upload->url_len};
}

/* ------------------------------------------------------------------ begin */

static void s3_free_upload(struct atd_store_upload *base)
{
    struct s3_upload *upload = from_base(base);

    atd_upload_parts_release(&upload->parts);
    free(upload->url);
    free(upload);
}

static int create(struct atd_s3_store *store, struct atd_str url, unsigned timeout_ms,
                  struct atd_s3_write *create, struct atd_error *err)
{
    int rc;

    *create = (struct atd_s3_write){.request = {.operation = ATD_S3_CREATE_UPLOAD}};
    create->request.wants_crc32c = !atomic_load(&store->refuses_crc32c);
    create->request.maker = atd_str_from(store->maker);
    rc = atd_s3_write_run(store, url, create, NULL, timeout_ms, err);
    if (rc == 0 && create->outcome == ATD_S3_OUTCOME_NO_CRC32C) {
        bool may_have_arrived = create->may_have_arrived;

        create->request.wants_crc32c = false;
        rc = atd_s3_write_run(store, url, create, NULL, timeout_ms, err);
        create->may_have_arrived = create->may_have_arrived || may_have_arrived;
        if (rc == 0)
            atomic_store(&store->refuses_crc32c, true);
    }
    if (rc == 0 && create->outcome != ATD_S3_OUTCOME_MADE)
        rc = atd_s3_exists(url, err);
    return rc;
}

static int s3_begin(struct atd_store *base, struct atd_str url, uint64_t part_bytes,
                    unsigned timeout_ms, char ret_id[ATD_UPLOAD_ID_MAX + 1],
                    struct atd_store_upload **ret_upload, struct atd_error *err)
{
    struct atd_s3_write created = {.may_have_arrived = false};
    struct s3_upload *upload = calloc(1, sizeof(*upload));
    struct atd_error why = ATD_ERROR_INIT;
    int rc;

    (void)part_bytes;
    if (!upload)
        return atd_error_set(err, ENOMEM, "an upload could not be begun: out of memory");
    atd_upload_parts_init(&upload->parts);
    upload->url = strndup(url.ptr, url.len);
    upload->url_len = url.len;
    rc = upload->url ? create((struct atd_s3_store *)base, url, timeout_ms, &created, &why)
                     : atd_error_set(&why, ENOMEM, "an upload could not be begun: out of memory");
    if (rc) {
        s3_free_upload(&upload->base);
        if (created.may_have_arrived)
            return atd_s3_unknown(url, &why, err);
        if (err)
            *err = why;
        return rc;
    }
    upload->may_have_twin = created.may_have_arrived;
    memcpy(upload->id, created.upload_id, sizeof(upload->id));
    atomic_store(&upload->uses_crc32c, created.request.wants_crc32c);
    memcpy(ret_id, upload->id, strlen(upload->id) + 1);
    if (upload->may_have_twin)
        ret_id[0] = '\0'; /* who takes it back for us looks for both */
    *ret_upload = &upload->base;
    return 0;
}

/* ------------------------------------------------------------------ parts */

static int dropped(const struct s3_upload *upload, struct atd_error *err)
{
    char what[ATD_REMOTE_WHAT_MAX];

    atd_remote_what(url_of(upload), what);
    return atd_error_set_retryable(
        err, EAGAIN, "the server dropped the upload of %s: it must be sent again from the start",
        what);
}

static int s3_part(struct atd_store_upload *base, unsigned number, struct atd_bytes bytes,
                   unsigned timeout_ms, struct atd_error *err)
{
    struct s3_upload *upload = from_base(base);
    struct atd_s3_store *store = store_of(base);
    struct atd_upload_part part = {.len = bytes.len, .crc32c = atd_crc32c(0, bytes.ptr, bytes.len)};
    struct atd_s3_write write = {.request = {
                                     .operation = ATD_S3_UPLOAD_PART,
                                     .body = bytes,
                                     .upload_id = atd_str_from(upload->id),
                                     .part_number = number,
                                 }};
    char crc32c[ATD_S3_CRC32C_LEN + 1];
    char hash[ATD_S3_SHA256_HEX_MAX + 1];
    int rc;

    atd_s3_crc32c_text(part.crc32c, crc32c);
    if (atomic_load(&upload->uses_crc32c))
        write.request.crc32c_base64 = atd_str_from(crc32c);
    write.request.payload_sha256_hex = atd_s3_payload_hash(store, &write.request, hash);
    rc = atd_s3_write_run(store, url_of(upload), &write, &upload->group, timeout_ms, err);
    if (rc == 0 && write.outcome == ATD_S3_OUTCOME_NO_CRC32C) {
        write.request.crc32c_base64 = ATD_STR("");
        write.request.payload_sha256_hex = atd_s3_payload_hash(store, &write.request, hash);
        rc = atd_s3_write_run(store, url_of(upload), &write, &upload->group, timeout_ms, err);
        if (rc == 0 && write.outcome == ATD_S3_OUTCOME_MADE) {
            atomic_store(&upload->uses_crc32c, false);
            atomic_store(&store->refuses_crc32c, true);
        }
    }
    if (rc)
        return rc;
    if (write.outcome != ATD_S3_OUTCOME_MADE)
        return dropped(upload, err);
    memcpy(part.etag, write.info.etag, sizeof(part.etag));
    return atd_upload_parts_note(&upload->parts, number, &part, err);
}

/* ------------------------------------------------------------------ finish */

/* The body of COMPLETE, and what the object will be like. No part is under way. */
static int describe(struct s3_upload *upload, unsigned part_count, struct atd_buf *body,
                    struct atd_s3_sent *ret_sent, struct atd_error *err)
{
    atd_auto_free struct atd_s3_part *parts = calloc(part_count, sizeof(*parts));
    bool uses_crc32c = atomic_load(&upload->uses_crc32c);
    char sum[ATD_S3_CRC32C_LEN + 1];
    uint32_t crc = 0;

    if (!parts)
        return atd_error_set(err, ENOMEM, "an upload could not be finished: out of memory");
    for (unsigned i = 0; i < part_count; i++) {
        const struct atd_upload_part *part = &upload->parts.parts[i];
        const uint8_t bytes[4] = {(uint8_t)(part->crc32c >> 24), (uint8_t)(part->crc32c >> 16),
                                  (uint8_t)(part->crc32c >> 8), (uint8_t)part->crc32c};

        parts[i].number = i + 1;
        memcpy(parts[i].etag, part->etag, sizeof(parts[i].etag));
        if (uses_crc32c)
            atd_s3_crc32c_text(part->crc32c, parts[i].crc32c_base64);
        crc = atd_crc32c(crc, bytes, sizeof(bytes));
    }
    atd_s3_complete_body(parts, part_count, body);
    atd_s3_crc32c_text(crc, sum);
    (void)snprintf(ret_sent->crc32c, sizeof(ret_sent->crc32c), "%s-%u", sum, part_count);
    return atd_buf_finish(body, "the list of parts", err);
}

/*
 * COMPLETE had no clear answer (`lost`: none; else NULL). GONE after a lost reply: our own first
 * attempt may have done it; then what is there is ours even when nothing but the size tells.
 * EXISTS: only a checksum tells.
 */
static int settle(struct s3_upload *upload, const struct atd_s3_sent *sent,
                  const struct atd_s3_write *complete, const struct atd_error *lost,
                  unsigned timeout_ms, struct atd_object_info *ret_info, struct atd_error *err)
{
    enum atd_s3_finding finding;
    struct atd_error why = ATD_ERROR_INIT;
    struct atd_str url = url_of(upload);
    int rc = atd_s3_find(store_of(&upload->base), url, sent, timeout_ms, &finding, ret_info, &why);
    bool is_gone = complete->outcome == ATD_S3_OUTCOME_GONE;

    if (rc == 0 && finding == ATD_S3_FOUND_OURS)
        return 0;
    if (rc == 0 && is_gone && finding == ATD_S3_FOUND_LIKE_OURS && complete->may_have_arrived)
        return 0;
    if (rc == 0 && is_gone)
        return finding == ATD_S3_FOUND_NOTHING ? dropped(upload, err) : atd_s3_exists(url, err);
    if (rc == 0 && complete->outcome == ATD_S3_OUTCOME_EXISTS && finding == ATD_S3_FOUND_OTHER)
        return atd_s3_exists(url, err);
    return atd_s3_unknown(url, lost ? lost : why.code ? &why : NULL, err);
}

static int judge_end(struct s3_upload *upload, struct atd_s3_sent *sent,
                     const struct atd_s3_write *complete, unsigned timeout_ms,
                     struct atd_object_info *ret_info, struct atd_error *err)
{
    switch (complete->outcome) {
    case ATD_S3_OUTCOME_MADE:
        memcpy(sent->etag, complete->info.etag, sizeof(sent->etag));
        return atd_s3_confirm(store_of(&upload->base), url_of(upload), sent, timeout_ms, ret_info,
                              err);
    case ATD_S3_OUTCOME_EXISTS:
        if (!complete->may_have_arrived)
            return atd_s3_exists(url_of(upload), err);
        break;
    case ATD_S3_OUTCOME_GONE:
        break;
    default:
        return dropped(upload, err);
    }
    return settle(upload, sent, complete, NULL, timeout_ms, ret_info, err);
}

static int finish(struct atd_store_upload *base, unsigned part_count, unsigned timeout_ms,
                  struct atd_object_info *ret_info, struct atd_error *err)
{
    struct s3_upload *upload = from_base(base);
    struct atd_s3_store *store = store_of(base);
    atd_auto_buf struct atd_buf body = ATD_BUF_INIT(COMPLETE_BODY_MAX);
    struct atd_s3_sent sent = {0};
    /* Servers join large objects for minutes: until the timeout nothing need come. */
    struct atd_s3_write complete = {.request = {.operation = ATD_S3_COMPLETE_UPLOAD},
                                    .answer_timeout_ms = timeout_ms};
    struct atd_error why = ATD_ERROR_INIT;
    int rc =
        atd_upload_parts_check(&upload->parts, part_count, base->part_bytes, &sent.size_bytes, err);

    if (rc == 0)
        rc = describe(upload, part_count, &body, &sent, err);
    if (rc == 0)
        rc = atd_s3_look_first(store, url_of(upload), timeout_ms, &complete.request.if_none_match,
                               err);
    if (rc)
        return rc;
    complete.request.upload_id = atd_str_from(upload->id);
    complete.request.body = atd_buf_bytes(&body);
    rc = atd_s3_write_run(store, url_of(upload), &complete, &upload->group, timeout_ms, &why);
    if (rc == 0)
        return judge_end(upload, &sent, &complete, timeout_ms, ret_info, err);
    if (!complete.may_have_arrived) {
        if (err)
            *err = why;
        return rc;
    }
    /* Who cancels does not wait for more questions. */
    if (rc == -ECANCELED)
        return atd_s3_unknown(url_of(upload), &why, err);
    complete.outcome = ATD_S3_OUTCOME_OTHER;
    return settle(upload, &sent, &complete, &why, timeout_ms, ret_info, err);
}

/* ------------------------------------------------------------------ taking it back */

static void s3_cancel(struct atd_store_upload *base)
{
    atd_remote_group_cancel(&store_of(base)->remote, &from_base(base)->group);
}

/*
 * Until the store says that there is no such upload, or twice that it was taken back: parts that
 * were under way can land after the first.
 */
static int abort_upload(struct atd_s3_store *store, struct atd_str url, struct atd_str id,
                        unsigned timeout_ms, struct atd_error *err)
{
    struct atd_s3_write write = {.request = {.operation = ATD_S3_ABORT_UPLOAD, .upload_id = id}};

    for (unsigned taken_back = 0; taken_back < 2; taken_back++) {
        int rc = atd_s3_write_run(store, url, &write, NULL, timeout_ms, err);

        if (rc)
            return rc;
        if (write.outcome == ATD_S3_OUTCOME_GONE)
            break;
    }
    return 0;
}

struct aborting {
    struct atd_s3_store *store;
    struct atd_str url;
    struct atd_str key;
    unsigned timeout_ms;
};

static int abort_one(void *ctx, const struct atd_s3_unfinished *upload, struct atd_error *err)
{
    const struct aborting *aborting = ctx;

    return atd_str_equal(upload->key, aborting->key)
               ? abort_upload(aborting->store, aborting->url, upload->upload_id,
                              aborting->timeout_ms, err)
               : 0;
}

/* Those of exactly this key. */
static int abort_all(struct atd_s3_store *store, struct atd_str url, unsigned timeout_ms,
                     struct atd_error *err)
{
    struct aborting aborting = {.store = store, .url = url, .timeout_ms = timeout_ms};
    struct atd_str bucket;
    int rc = atd_s3_object(url, &bucket, &aborting.key, err);

    return rc ? rc
              : atd_s3_each_upload(store, url, aborting.key, timeout_ms, abort_one, &aborting, err);
}

static int s3_abort(struct atd_store_upload *base, unsigned timeout_ms, struct atd_error *err)
{
    struct s3_upload *upload = from_base(base);
    int rc =
        abort_upload(store_of(base), url_of(upload), atd_str_from(upload->id), timeout_ms, err);

    return rc || !upload->may_have_twin
               ? rc
               : abort_all(store_of(base), url_of(upload), timeout_ms, err);
}

static int s3_discard(struct atd_store *base, struct atd_str url, const char *id,
                      unsigned timeout_ms, struct atd_error *err)
{
    struct atd_s3_store *store = (struct atd_s3_store *)base;

    if (!id[0])
        return abort_all(store, url, timeout_ms, err);
    return abort_upload(store, url, atd_str_from(id), timeout_ms, err);
}

static int s3_finish(struct atd_store_upload *base, unsigned part_count, unsigned timeout_ms,
                     struct atd_object_info *ret_info, struct atd_error *err)
{
    struct s3_upload *upload = from_base(base);
    struct atd_error ignored = ATD_ERROR_INIT;
    int rc = finish(base, part_count, timeout_ms, ret_info, err);

    /* The object stands, whatever comes of this. */
    if (rc == 0 && upload->may_have_twin)
        (void)abort_all(store_of(base), url_of(upload), timeout_ms, &ignored);
    return rc;
}

static const char *s3_maker(struct atd_store *base)
{
    return ((struct atd_s3_store *)base)->maker;
}

const struct atd_store_write_ops atd_s3_write_ops = {
    .begin = s3_begin,
    .part = s3_part,
    .finish = s3_finish,
    .cancel = s3_cancel,
    .abort = s3_abort,
    .free_upload = s3_free_upload,
    .discard = s3_discard,
    .uploads = atd_s3_uploads,
    .put = atd_s3_put,
    .remove = atd_s3_remove,
    .remove_once = atd_s3_remove_once,
    .guards = atd_s3_guards,
    .maker = s3_maker,
};

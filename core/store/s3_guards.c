/*
 * Whether a bucket refuses to write over an object: a scratch object is written, then written over
 * in both ways that are used later, "If-None-Match: *" each time. Stores that do not know the
 * header ignore it, some only that of CompleteMultipartUpload. Source: S3-REDIS 2.4.
 */
#include <errno.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "store/s3_store.h"

#define PROBE_URL_MAX 4096u

/* Its length is known to publish/publication_step.c, which cleans up after a crash. */
static const uint8_t probe_bytes[] = "atdatafs: may this be written over?\n";

static struct atd_bytes probe_body(void)
{
    return (struct atd_bytes){probe_bytes, sizeof(probe_bytes) - 1};
}

/* Writes it. *ret_outcome MADE or EXISTS; anything else: it cannot be written so. */
static int put_probe(struct atd_s3_store *store, struct atd_str url, unsigned timeout_ms,
                     enum atd_s3_outcome *ret_outcome, bool *ret_own, struct atd_error *err)
{
    char hash[ATD_S3_SHA256_HEX_MAX + 1];
    struct atd_s3_write put = {
        .request = {.operation = ATD_S3_PUT, .body = probe_body(), .if_none_match = true},
        .is_probe = true};
    int rc;

    put.request.maker = atd_str_from(store->maker);
    put.request.payload_sha256_hex = atd_s3_payload_hash(store, &put.request, hash);
    rc = atd_s3_write_run(store, url, &put, NULL, timeout_ms, err);
    *ret_outcome = put.outcome;
    *ret_own = put.may_have_arrived;
    return rc;
}

/* The one part of the upload that would write over it, and its end. */
static int complete_probe(struct atd_s3_store *store, struct atd_str url, struct atd_str id,
                          unsigned timeout_ms, bool *ret_refused, struct atd_error *err)
{
    char hash[ATD_S3_SHA256_HEX_MAX + 1];
    atd_auto_buf struct atd_buf body = ATD_BUF_INIT(4096);
    struct atd_s3_part part = {.number = 1};
    struct atd_s3_write send = {.request = {.operation = ATD_S3_UPLOAD_PART,
                                            .body = probe_body(),
                                            .upload_id = id,
                                            .part_number = 1},
                                .is_probe = true};
    struct atd_s3_write complete = {
        .request = {.operation = ATD_S3_COMPLETE_UPLOAD, .upload_id = id, .if_none_match = true},
        .is_probe = true,
        .answer_timeout_ms = timeout_ms};
    int rc;

    send.request.payload_sha256_hex = atd_s3_payload_hash(store, &send.request, hash);
    rc = atd_s3_write_run(store, url, &send, NULL, timeout_ms, err);
    if (rc || send.outcome != ATD_S3_OUTCOME_MADE)
        return rc;
    memcpy(part.etag, send.info.etag, sizeof(part.etag));
    atd_s3_complete_body(&part, 1, &body);
    rc = atd_buf_finish(&body, "the list of parts", err);
    if (rc)
        return rc;
    complete.request.body = atd_buf_bytes(&body);
    rc = atd_s3_write_run(store, url, &complete, NULL, timeout_ms, err);
    *ret_refused = rc == 0 && complete.outcome == ATD_S3_OUTCOME_EXISTS;
    return rc;
}

/*
 * Something could not be removed (`rc`): somebody has to do it later, so that the probe has failed.
 * Who may not remove anything leaves a few bytes behind, and may still publish.
 */
static int left_behind(int rc, const struct atd_error *why, struct atd_error *err)
{
    if (rc == 0 || rc == -EACCES)
        return 0;
    if (err)
        *err = *why;
    return rc;
}

/* *ret_guards stays false unless the upload was refused for the object that is there. */
static int upload_probe(struct atd_s3_store *store, struct atd_str url, unsigned timeout_ms,
                        bool *ret_guards, struct atd_error *err)
{
    struct atd_s3_write create = {
        .request = {.operation = ATD_S3_CREATE_UPLOAD, .maker = atd_str_from(store->maker)},
        .is_probe = true};
    struct atd_error why = ATD_ERROR_INIT;
    int after;
    int rc = atd_s3_write_run(store, url, &create, NULL, timeout_ms, err);

    if (rc || create.outcome != ATD_S3_OUTCOME_MADE)
        return rc;
    rc = complete_probe(store, url, atd_str_from(create.upload_id), timeout_ms, ret_guards, err);
    /* Also after it was completed: then there is nothing. */
    after = atd_store_upload_discard(&store->remote.store, url, create.upload_id, timeout_ms, &why);
    return rc ? rc : left_behind(after, &why, err);
}

static int probe(struct atd_s3_store *store, struct atd_str url, unsigned timeout_ms,
                 bool *ret_guards, struct atd_error *err)
{
    enum atd_s3_outcome outcome;
    bool own = false;
    bool guards = false;
    int rc = put_probe(store, url, timeout_ms, &outcome, &own, err);

    *ret_guards = false;
    if (rc)
        return rc;
    /* Refused at once: by our own attempt whose reply was lost, or it is not taken at all. */
    if (outcome == ATD_S3_OUTCOME_EXISTS && !own)
        return 0;
    if (outcome != ATD_S3_OUTCOME_MADE && outcome != ATD_S3_OUTCOME_EXISTS)
        return 0;
    rc = put_probe(store, url, timeout_ms, &outcome, &own, err);
    if (rc || outcome != ATD_S3_OUTCOME_EXISTS)
        return rc;
    rc = upload_probe(store, url, timeout_ms, &guards, err);
    if (rc == 0)
        *ret_guards = guards;
    return rc;
}

int atd_s3_guards(struct atd_store *base, struct atd_str prefix_url, struct atd_str scratch_name,
                  unsigned timeout_ms, bool *ret_guards, struct atd_error *err)
{
    struct atd_s3_store *store = (struct atd_s3_store *)base;
    atd_auto_buf struct atd_buf url = ATD_BUF_INIT(PROBE_URL_MAX);
    struct atd_error why = ATD_ERROR_INIT;
    struct atd_str bucket;
    struct atd_str prefix;
    bool guards = false;
    int after;
    int rc;

    /* "s3://BUCKET/" or "s3://BUCKET/PREFIX/" */
    atd_buf_append_str(&url, prefix_url);
    if (!atd_str_ends_with(prefix_url, ATD_STR("/")))
        atd_buf_append_str(&url, ATD_STR("/"));
    rc = atd_buf_finish(&url, "the URL of a scratch object", err);
    if (rc == 0)
        rc = atd_s3_prefix(atd_buf_str(&url), &bucket, &prefix, err);
    if (rc)
        return rc;
    if (atd_places_guards(&store->remote.places, bucket, ret_guards))
        return 0;
    atd_buf_append_str(&url, scratch_name);
    rc = atd_buf_finish(&url, "the URL of a scratch object", err);
    if (rc)
        return rc;
    rc = probe(store, atd_buf_str(&url), timeout_ms, &guards, err);
    after = atd_s3_remove(base, atd_buf_str(&url), timeout_ms, &why); /* whatever happened */
    if (rc == 0)
        rc = left_behind(after, &why, err);
    if (rc)
        return rc;
    rc = atd_s3_object(atd_buf_str(&url), &bucket, &prefix, err);
    if (rc)
        return rc;
    atd_places_set_guards(&store->remote.places, bucket, guards);
    *ret_guards = guards;
    return 0;
}

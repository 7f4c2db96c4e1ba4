/*
 * One request that writes. Source: S3-REDIS 1.2, 2.1 to 2.4.
 */
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "base/check.h"
#include "base/digest.h"
#include "codec/base64.h"
#include "store/s3_store.h"

#define ODD_REPLIES_MAX 1u /* to one request, before it is given up */

void atd_s3_crc32c_text(uint32_t crc, char ret_text[ATD_S3_CRC32C_LEN + 1])
{
    const uint8_t bytes[4] = {(uint8_t)(crc >> 24), (uint8_t)(crc >> 16), (uint8_t)(crc >> 8),
                              (uint8_t)crc};
    struct atd_buf text = ATD_BUF_INIT(ATD_S3_CRC32C_LEN);

    atd_base64_encode((struct atd_bytes){bytes, sizeof(bytes)}, &text);
    (void)snprintf(ret_text, ATD_S3_CRC32C_LEN + 1, ATD_STR_FMT, ATD_STR_ARG(atd_buf_str(&text)));
    atd_buf_release(&text);
}

const char *atd_s3_payload_hash(const struct atd_s3_store *store,
                                const struct atd_s3_request *request,
                                char into[ATD_S3_SHA256_HEX_MAX + 1])
{
    uint8_t digest[ATD_SHA256_BYTES];

    if (!atd_s3_signs_payload(&store->site, request))
        return NULL;
    atd_sha256_of(request->body.ptr, request->body.len, digest);
    for (size_t i = 0; i < sizeof(digest); i++)
        (void)snprintf(into + 2 * i, 3, "%02x", digest[i]);
    return into;
}

/* ------------------------------------------------------------------ replies */

static enum atd_verdict end_as(struct atd_s3_write *write, enum atd_s3_outcome outcome)
{
    write->outcome = outcome;
    return ATD_VERDICT_DONE;
}

/* A 2xx that does not say what it must: once it may have been a proxy's. */
static enum atd_verdict odd_reply(struct atd_s3_call *call, struct atd_error *err)
{
    char what[ATD_REMOTE_WHAT_MAX];

    atd_remote_what(call->base.url, what);
    (void)atd_error_wrap(err, -EPROTO, "writing %s", what);
    if (call->base.odd_replies++ >= ODD_REPLIES_MAX)
        return ATD_VERDICT_FAIL;
    if (err)
        err->retryable = true;
    return ATD_VERDICT_RETRY;
}

static bool is_of_upload(enum atd_s3_operation operation)
{
    return operation == ATD_S3_UPLOAD_PART || operation == ATD_S3_COMPLETE_UPLOAD ||
           operation == ATD_S3_ABORT_UPLOAD;
}

static bool sends_checksum(const struct atd_s3_request *request)
{
    return request->crc32c_base64.len > 0 || request->wants_crc32c;
}

/* `error`: of the body. Whether what the request is about is not there (any more). */
static bool is_gone(enum atd_s3_operation operation, const struct atd_http_head *head,
                    const struct atd_s3_error *error)
{
    bool says_nothing = head->status == 404 && !error->code[0];

    if (is_of_upload(operation))
        return says_nothing || strcmp(error->code, "NoSuchUpload") == 0;
    if (operation == ATD_S3_DELETE || operation == ATD_S3_HEAD)
        return says_nothing || strcmp(error->code, "NoSuchKey") == 0;
    return false;
}

/* An answer that settles what a probe asks: the store does not take the request, for good. */
static bool is_refusal(int status)
{
    return status == 304 || status == 400 || status == 405 || status == 409 || status == 501;
}

static enum atd_verdict judge_trouble(struct atd_s3_call *call, const struct atd_http_head *head,
                                      struct atd_bytes body, struct atd_error *err)
{
    struct atd_s3_write *write = call->write;
    enum atd_s3_operation operation = write->request.operation;
    struct atd_error why = ATD_ERROR_INIT;
    struct atd_s3_error error;
    enum atd_s3_trouble trouble;
    enum atd_verdict verdict;
    char what[ATD_REMOTE_WHAT_MAX];
    char region[64] = "";

    atd_s3_error_parse(body, &error);
    if (operation == ATD_S3_COMPLETE_UPLOAD &&
        (strcmp(error.code, "ConditionalRequestConflict") == 0 ||
         (head->status == 409 && !error.code[0])))
        return end_as(write, ATD_S3_OUTCOME_DROPPED);
    if (is_gone(operation, head, &error))
        return end_as(write, ATD_S3_OUTCOME_GONE);
    atd_remote_what(call->base.url, what);
    trouble = atd_s3_write_error_classify(operation, head, body, what,
                                          (int64_t)time(NULL) + call->clock_offset_s, region, &why);
    if (err)
        *err = why;
    if (why.code == EEXIST && head->status != 304)
        return end_as(write, ATD_S3_OUTCOME_EXISTS);
    verdict = atd_s3_verdict(call, trouble, region, head);
    if (verdict == ATD_VERDICT_AGAIN)
        return verdict;
    if (sends_checksum(&write->request) && atd_s3_checksum_refused(head, body))
        return end_as(write, ATD_S3_OUTCOME_NO_CRC32C);
    if (write->is_probe && is_refusal(head->status))
        return end_as(write, ATD_S3_OUTCOME_OTHER);
    return verdict;
}

static enum atd_verdict judge_complete(struct atd_s3_call *call, const struct atd_http_head *head,
                                       struct atd_bytes body, struct atd_error *err)
{
    struct atd_s3_write *write = call->write;
    struct atd_s3_error error;
    int rc = atd_s3_complete_parse(body, write->info.etag, &error, err);

    if (rc == 0)
        return end_as(write, ATD_S3_OUTCOME_MADE);
    if (rc == -EREMOTEIO)
        return judge_trouble(call, head, body, err);
    return odd_reply(call, err);
}

/* A 2xx. */
static enum atd_verdict judge_success(struct atd_s3_call *call, const struct atd_http_head *head,
                                      struct atd_bytes body, struct atd_error *err)
{
    struct atd_s3_write *write = call->write;
    struct atd_str etag = atd_http_head_find(head, "etag");
    struct atd_str crc32c = atd_http_head_find(head, "x-amz-checksum-crc32c");

    switch (write->request.operation) {
    case ATD_S3_CREATE_UPLOAD:
        if (atd_s3_upload_id_parse(body, write->upload_id, err))
            return odd_reply(call, err);
        break;
    case ATD_S3_UPLOAD_PART:
    case ATD_S3_PUT:
        write->info.etag[0] = '\0';
        if (etag.ptr)
            atd_etag_copy(etag, write->info.etag);
        if (write->request.operation == ATD_S3_UPLOAD_PART && !write->info.etag[0]) {
            (void)atd_error_set(err, EPROTO, "the server gave the part no ETag");
            return odd_reply(call, err);
        }
        break;
    case ATD_S3_COMPLETE_UPLOAD:
        return judge_complete(call, head, body, err);
    case ATD_S3_LIST_UPLOADS:
        if (atd_s3_uploads_parse(body, write->arena, &write->uploads, err))
            return odd_reply(call, err);
        break;
    case ATD_S3_HEAD:
        if (!atd_object_info_from_head(head, &write->info)) {
            (void)atd_error_set(err, EPROTO, "the server does not tell the size");
            return odd_reply(call, err);
        }
        write->crc32c[0] = '\0';
        if (crc32c.ptr && crc32c.len <= ATD_S3_CHECKSUM_MAX)
            memcpy(write->crc32c, crc32c.ptr, crc32c.len);
        write->crc32c[crc32c.ptr && crc32c.len <= ATD_S3_CHECKSUM_MAX ? crc32c.len : 0] = '\0';
        break;
    default:
        break;
    }
    return end_as(write, ATD_S3_OUTCOME_MADE);
}

enum atd_verdict atd_s3_judge_write(struct atd_remote_call *base, const struct atd_http_head *head,
                                    struct atd_bytes body, struct atd_error *err)
{
    struct atd_s3_call *call = (struct atd_s3_call *)base;

    call->write->may_have_arrived = atd_call_may_have_arrived(&base->call);
    if (head->status >= 200 && head->status <= 299)
        return judge_success(call, head, body, err);
    return judge_trouble(call, head, body, err);
}

/* ------------------------------------------------------------------ running it */

static enum atd_call_kind kind_of(enum atd_s3_operation operation)
{
    switch (operation) {
    case ATD_S3_PUT:
    case ATD_S3_UPLOAD_PART:
        return ATD_CALL_PUT;
    case ATD_S3_HEAD:
        return ATD_CALL_HEAD;
    case ATD_S3_LIST_UPLOADS:
        return ATD_CALL_LIST;
    default:
        return ATD_CALL_OTHER;
    }
}

int atd_s3_write_run(struct atd_s3_store *store, struct atd_str url, struct atd_s3_write *write,
                     struct atd_remote_group *group, unsigned timeout_ms, struct atd_error *err)
{
    struct atd_remote_call *call = NULL;
    int rc = atd_remote_call_new(&store->remote, ATD_REMOTE_WRITE, url, &call, err);

    if (rc)
        return rc;
    write->may_have_arrived = false;
    ((struct atd_s3_call *)call)->write = write;
    call->call.answer_timeout_ms = write->answer_timeout_ms;
    call->call.once = write->is_once;
    /* Small requests that somebody waits for go before the bytes of parts. */
    call->call.urgent = kind_of(write->request.operation) != ATD_CALL_PUT;
    rc = atd_remote_write(call, group, kind_of(write->request.operation),
                          timeout_ms ? timeout_ms : 1, err);
    if (rc)
        write->may_have_arrived = call->may_have_arrived;
    atd_remote_call_free(call);
    return rc;
}

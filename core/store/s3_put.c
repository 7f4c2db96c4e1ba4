/*
 * Objects of one piece, and deleting. Source: S3-REDIS 2.3, 2.4.
 */
#include <errno.h>

#include "base/crc32c.h"
#include "store/s3_store.h"

/* The reply was lost (`lost` says how), or it says that an object is there: is it ours? */
static int settle(struct atd_s3_store *store, struct atd_str url, const struct atd_s3_sent *sent,
                  const struct atd_error *lost, unsigned timeout_ms,
                  struct atd_object_info *ret_info, struct atd_error *err)
{
    enum atd_s3_finding finding;
    struct atd_error why = ATD_ERROR_INIT;

    if (atd_s3_find(store, url, sent, timeout_ms, &finding, ret_info, &why) == 0) {
        if (finding == ATD_S3_FOUND_OURS)
            return 0;
        if (!lost && finding == ATD_S3_FOUND_OTHER)
            return atd_s3_exists(url, err);
    }
    return atd_s3_unknown(url, lost ? lost : why.code ? &why : NULL, err);
}

static int run_put(struct atd_s3_store *store, struct atd_str url, struct atd_s3_write *put,
                   unsigned timeout_ms, struct atd_error *err)
{
    char hash[ATD_S3_SHA256_HEX_MAX + 1];
    int rc = atd_s3_write_run(store, url, put, NULL, timeout_ms, err);

    if (rc || put->outcome != ATD_S3_OUTCOME_NO_CRC32C)
        return rc;
    put->request.crc32c_base64 = ATD_STR("");
    put->request.payload_sha256_hex = atd_s3_payload_hash(store, &put->request, hash);
    rc = atd_s3_write_run(store, url, put, NULL, timeout_ms, err);
    if (rc == 0 && put->outcome == ATD_S3_OUTCOME_MADE)
        atomic_store(&store->refuses_crc32c, true);
    return rc;
}

int atd_s3_put(struct atd_store *base, struct atd_str url, struct atd_bytes bytes,
               unsigned timeout_ms, struct atd_object_info *ret_info, struct atd_error *err)
{
    struct atd_s3_store *store = (struct atd_s3_store *)base;
    struct atd_s3_sent sent = {.size_bytes = bytes.len};
    struct atd_s3_write put = {.request = {.operation = ATD_S3_PUT, .body = bytes}};
    struct atd_error why = ATD_ERROR_INIT;
    char hash[ATD_S3_SHA256_HEX_MAX + 1];
    int rc = atd_s3_look_first(store, url, timeout_ms, &put.request.if_none_match, err);

    if (rc)
        return rc;
    put.request.maker = atd_str_from(store->maker);
    atd_s3_crc32c_text(atd_crc32c(0, bytes.ptr, bytes.len), sent.crc32c);
    if (!atomic_load(&store->refuses_crc32c))
        put.request.crc32c_base64 = atd_str_from(sent.crc32c);
    put.request.payload_sha256_hex = atd_s3_payload_hash(store, &put.request, hash);
    rc = run_put(store, url, &put, timeout_ms, &why);
    if (rc && put.may_have_arrived)
        return settle(store, url, &sent, &why, timeout_ms, ret_info, err);
    if (rc) {
        if (err)
            *err = why;
        return rc;
    }
    if (put.outcome == ATD_S3_OUTCOME_EXISTS && put.may_have_arrived)
        return settle(store, url, &sent, NULL, timeout_ms, ret_info, err);
    if (put.outcome != ATD_S3_OUTCOME_MADE)
        return atd_s3_exists(url, err);
    memcpy(sent.etag, put.info.etag, sizeof(sent.etag));
    return atd_s3_confirm(store, url, &sent, timeout_ms, ret_info, err);
}

int atd_s3_remove(struct atd_store *base, struct atd_str url, unsigned timeout_ms,
                  struct atd_error *err)
{
    struct atd_s3_write write = {.request = {.operation = ATD_S3_DELETE}};

    return atd_s3_write_run((struct atd_s3_store *)base, url, &write, NULL, timeout_ms, err);
}

int atd_s3_remove_once(struct atd_store *base, struct atd_str url, unsigned timeout_ms,
                       struct atd_error *err)
{
    struct atd_s3_write write = {.request = {.operation = ATD_S3_DELETE}, .is_once = true};

    return atd_s3_write_run((struct atd_s3_store *)base, url, &write, NULL, timeout_ms, err);
}

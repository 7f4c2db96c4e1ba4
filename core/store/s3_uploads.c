/*
 * Uploads that nobody finished. Source: S3-REDIS 2.3, 2.5.
 */
#include <errno.h>

#include "base/cleanup.h"
#include "store/s3_store.h"

#define UPLOADS_ARENA_MAX (8u << 20)
#define UPLOAD_PAGES_MAX 1000u
#define URL_MAX 4096u /* bucket and key */

static int report_page(const struct atd_s3_uploads *page, atd_s3_unfinished_fn fn, void *ctx,
                       struct atd_error *err)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < page->count; i++)
        rc = fn(ctx, &page->uploads[i], err);
    return rc;
}

int atd_s3_each_upload(struct atd_s3_store *store, struct atd_str url, struct atd_str prefix,
                       unsigned timeout_ms, atd_s3_unfinished_fn fn, void *ctx,
                       struct atd_error *err)
{
    /* The markers of a page are sent back with the next request. */
    struct atd_arena arenas[2] = {ATD_ARENA_INIT(UPLOADS_ARENA_MAX),
                                  ATD_ARENA_INIT(UPLOADS_ARENA_MAX)};
    struct atd_s3_write list = {.request = {.operation = ATD_S3_LIST_UPLOADS, .prefix = prefix}};
    int rc = 0;

    for (unsigned page = 0; rc == 0; page++) {
        list.arena = &arenas[page % 2];
        rc = atd_s3_write_run(store, url, &list, NULL, timeout_ms, err);
        if (rc == 0)
            rc = report_page(&list.uploads, fn, ctx, err);
        if (rc || !list.uploads.is_truncated)
            break;
        if (page + 1 == UPLOAD_PAGES_MAX ||
            (atd_str_equal(list.uploads.next_key_marker, list.request.key_marker) &&
             atd_str_equal(list.uploads.next_upload_id_marker, list.request.upload_id_marker))) {
            rc = atd_error_set(err, EPROTO, "the list of unfinished uploads does not end");
            break;
        }
        list.request.key_marker = list.uploads.next_key_marker;
        list.request.upload_id_marker = list.uploads.next_upload_id_marker;
        atd_arena_release(&arenas[(page + 1) % 2]);
        atd_arena_init(&arenas[(page + 1) % 2], UPLOADS_ARENA_MAX);
    }
    atd_arena_release(&arenas[0]);
    atd_arena_release(&arenas[1]);
    return rc;
}

struct telling {
    struct atd_str root; /* "s3://BUCKET/" as the caller spells it */
    struct atd_str prefix;
    atd_store_uploads_fn fn;
    void *ctx;
};

static int tell(void *ctx, const struct atd_s3_unfinished *upload, struct atd_error *err)
{
    const struct telling *telling = ctx;
    atd_auto_buf struct atd_buf url = ATD_BUF_INIT(URL_MAX);
    atd_auto_buf struct atd_buf id = ATD_BUF_INIT(ATD_S3_UPLOAD_ID_MAX + 1);
    int rc;

    if (!atd_str_starts_with(upload->key, telling->prefix))
        return 0; /* was not asked for */
    atd_buf_append_str(&url, telling->root);
    atd_buf_append_str(&url, upload->key);
    atd_buf_append_str(&id, upload->upload_id);
    rc = atd_buf_finish(&url, "the URL of an upload", err);
    if (rc == 0)
        rc = atd_buf_finish(&id, "the id of an upload", err);
    return rc ? rc
              : telling->fn(telling->ctx, atd_buf_str(&url), (const char *)id.ptr, upload->begun_s);
}

int atd_s3_uploads(struct atd_store *base, struct atd_str prefix_url, unsigned timeout_ms,
                   atd_store_uploads_fn fn, void *ctx, struct atd_error *err)
{
    struct telling telling = {.fn = fn, .ctx = ctx};
    atd_auto_buf struct atd_buf any = ATD_BUF_INIT(URL_MAX);
    struct atd_str bucket;
    int rc = atd_s3_prefix(prefix_url, &bucket, &telling.prefix, err);

    if (rc)
        return rc;
    telling.root = atd_str_head(prefix_url, prefix_url.len - telling.prefix.len);
    /* Of a request's URL only the bucket counts here, but it must have a key. */
    atd_buf_append_str(&any, telling.root);
    atd_buf_append_text(&any, "x");
    rc = atd_buf_finish(&any, "the URL of a bucket", err);
    return rc ? rc
              : atd_s3_each_upload((struct atd_s3_store *)base, atd_buf_str(&any), telling.prefix,
                                   timeout_ms, tell, &telling, err);
}

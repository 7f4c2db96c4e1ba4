/*
 * Any bytes as the body of a list, as the answers to an upload in parts, as an error document, and
 * as the headers that tell a size.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/utf8.h"
#include "net/s3_reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void require_info(const struct atd_object_info *info)
{
    require(info->size_bytes <= (uint64_t)INT64_MAX && info->mtime_s >= INT64_MIN / 2);
    require(memchr(info->etag, '\0', sizeof(info->etag)) != NULL);
    /* It goes into a header, between quotes. */
    for (const char *c = info->etag; *c; c++)
        require(*c > ' ' && *c < 0x7f && *c != '"');
}

static void list(struct atd_bytes body)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(8u << 20);
    struct atd_s3_list list = {.keys = NULL};
    struct atd_error err = ATD_ERROR_INIT;
    int rc = atd_s3_list_parse(body, &arena, &list, &err);

    require((rc == 0) == (err.code == 0));
    if (rc != 0)
        return;
    require(list.key_count <= ATD_S3_LIST_KEYS_MAX);
    require(!list.is_truncated || list.next_token.len > 0);
    for (size_t i = 0; i < list.key_count; i++) {
        require(list.keys[i].key.len > 0);
        require_info(&list.keys[i].info);
    }
}

/* Into a query and a journal. */
static void require_upload_id(struct atd_str id)
{
    require(id.len > 0 && id.len <= ATD_S3_UPLOAD_ID_MAX);
    for (size_t i = 0; i < id.len; i++)
        require(id.ptr[i] > ' ' && id.ptr[i] < 0x7f);
}

static void uploads(struct atd_bytes body)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(8u << 20);
    struct atd_s3_uploads list = {.uploads = NULL};
    struct atd_error err = ATD_ERROR_INIT;
    char id[ATD_S3_UPLOAD_ID_MAX + 1];
    int rc = atd_s3_uploads_parse(body, &arena, &list, &err);

    require((rc == 0) == (err.code == 0));
    require(list.count <= ATD_S3_UPLOADS_MAX);
    require(!list.is_truncated || list.next_key_marker.len > 0);
    for (size_t i = 0; i < list.count; i++) {
        require(list.uploads[i].key.len > 0);
        require_upload_id(list.uploads[i].upload_id);
    }
    if (atd_s3_upload_id_parse(body, id, NULL) == 0)
        require_upload_id(atd_str_from(id));
}

static void completed(struct atd_bytes body)
{
    struct atd_object_info info = {.size_bytes = 0};
    struct atd_s3_part part = {.number = 1};
    struct atd_s3_error error = {.code = ""};
    struct atd_error err = ATD_ERROR_INIT;
    atd_auto_buf struct atd_buf again = ATD_BUF_INIT(1u << 20);
    int rc = atd_s3_complete_parse(body, info.etag, &error, &err);

    require(rc == 0 || rc == -EREMOTEIO || rc == -EPROTO);
    require((rc == 0) == (err.code == 0));
    if (rc != 0)
        return;
    require_info(&info);
    memcpy(part.etag, info.etag, sizeof(part.etag));
    atd_s3_complete_body(&part, 1, &again);
    require(!again.failed);
}

/* Names end up in hosts and in sentences. */
static void require_name(const char *name, size_t size)
{
    require(memchr(name, '\0', size) != NULL);
    for (; *name; name++)
        require((*name >= 'a' && *name <= 'z') || (*name >= 'A' && *name <= 'Z') ||
                (*name >= '0' && *name <= '9') || strchr("-._", *name));
}

static void error(struct atd_bytes body)
{
    static const int statuses[] = {301, 307, 400, 403, 404, 412, 416, 429, 500, 503};
    struct atd_s3_error error;

    atd_s3_error_parse(body, &error);
    require_name(error.code, sizeof(error.code));
    require_name(error.region, sizeof(error.region));
    require(memchr(error.message, '\0', sizeof(error.message)) != NULL);
    require(atd_utf8_is_valid(atd_str_from(error.message), NULL));
    for (size_t i = 0; i < ATD_ARRAY_LEN(statuses); i++) {
        struct atd_http_head head = {.status = statuses[i], .date_s = (int64_t)i};
        struct atd_error err = ATD_ERROR_INIT;
        char region[64];
        enum atd_s3_trouble trouble;

        head.headers[head.header_count++] =
            (struct atd_http_header){ATD_STR("x-amz-bucket-region"), atd_bytes_str(body)};
        trouble = atd_s3_error_classify(&head, body, "'s3://b/k'", 0, region, &err);
        require_name(region, sizeof(region));
        require(err.code > 0 && err.text[0]);
        require(trouble != ATD_S3_TROUBLE_REGION || region[0]);
        require(trouble != ATD_S3_TROUBLE_CLOCK || head.date_s > 0);
        err = (struct atd_error)ATD_ERROR_INIT;
        (void)atd_s3_write_error_classify(i % 2 ? ATD_S3_PUT : ATD_S3_DELETE, &head, body,
                                          "'s3://b/k'", 0, region, &err);
        require(err.code > 0 && err.text[0]);
        (void)atd_s3_checksum_refused(&head, body);
    }
}

static void headers(struct atd_str value)
{
    struct atd_http_head head = {.status = 206, .content_length = -1};
    struct atd_object_info info = {.size_bytes = 0};
    uint64_t first = 0;
    uint64_t last = 0;
    uint64_t total = 0;
    bool ok = atd_content_range_parse(value, &first, &last, &total);

    if (ok) {
        require(total <= (uint64_t)INT64_MAX);
        require(first > last ? first == 1 && last == 0 : last < total);
    }
    head.headers[head.header_count++] = (struct atd_http_header){ATD_STR("content-range"), value};
    head.headers[head.header_count++] = (struct atd_http_header){ATD_STR("etag"), value};
    head.headers[head.header_count++] = (struct atd_http_header){ATD_STR("last-modified"), value};
    if (atd_object_info_from_head(&head, &info))
        require(ok && info.size_bytes == total);
    head.status = 200;
    require(!atd_object_info_from_head(&head, &info));
    head.content_length = 7;
    require(atd_object_info_from_head(&head, &info));
    require(info.size_bytes == 7);
    require_info(&info);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    list((struct atd_bytes){data, size});
    uploads((struct atd_bytes){data, size});
    completed((struct atd_bytes){data, size});
    error((struct atd_bytes){data, size});
    headers((struct atd_str){(const char *)data, size});
    return 0;
}

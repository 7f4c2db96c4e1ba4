/*
 * A line of flags and a region, a line with an endpoint, a line with a bucket, and the rest is a
 * key: what can be sent is a URL that libcurl takes as it is, and that decodes back to the key.
 */
#include <curl/curl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "net/s3_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static bool contains(struct atd_str text, const char *part)
{
    return text.len && memmem(text.ptr, text.len, part, strlen(part));
}

static struct atd_str take_line(struct atd_str *rest)
{
    ptrdiff_t end = atd_str_find(*rest, '\n');
    struct atd_str line = atd_str_head(*rest, end < 0 ? rest->len : (size_t)end);

    *rest = atd_str_from_byte(*rest, line.len + (end >= 0));
    return line;
}

static unsigned hex_value(char c)
{
    const char *digits = "0123456789ABCDEF";
    const char *hit = c ? strchr(digits, c) : NULL;

    require(hit != NULL);
    return (unsigned)(hit - digits);
}

/* Strict: only what SigV4 leaves as it is, and %XX of everything else. */
static void decode(struct atd_str text, struct atd_buf *out)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];

        if (c == '%') {
            require(i + 2 < text.len);
            c = (char)(hex_value(text.ptr[i + 1]) * 16 + hex_value(text.ptr[i + 2]));
            require(!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '-' || c == '.' || c == '_' || c == '~'));
            i += 2;
        } else {
            require((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    (c && strchr("-._~/", c)));
        }
        atd_buf_append_byte(out, (uint8_t)c);
    }
}

/* What libcurl makes of the URL is what was signed: its host and port, and the path untouched. */
static void require_url(const struct atd_s3_site *site, const char *url, struct atd_str *ret_path)
{
    CURLU *parsed = curl_url();
    char *host = NULL;
    char *port = NULL;
    char *path = NULL;
    char authority[600];
    const char *start = url + (site->https ? 8 : 7);
    size_t len = strcspn(start, "/");

    require(parsed != NULL);
    require(curl_url_set(parsed, CURLUPART_URL, url, CURLU_PATH_AS_IS) == CURLUE_OK);
    require(curl_url_get(parsed, CURLUPART_HOST, &host, 0) == CURLUE_OK);
    require(curl_url_get(parsed, CURLUPART_PATH, &path, 0) == CURLUE_OK);
    if (curl_url_get(parsed, CURLUPART_PORT, &port, CURLU_NO_DEFAULT_PORT) != CURLUE_OK)
        port = NULL;
    (void)snprintf(authority, sizeof(authority), "%s%s%s", host, port ? ":" : "", port ? port : "");
    require(strlen(authority) == len && memcmp(authority, start, len) == 0);
    *ret_path = (struct atd_str){start + len, strcspn(start + len, "?")};
    require(atd_str_equal(*ret_path, atd_str_from(path)));
    curl_free(host);
    curl_free(port);
    curl_free(path);
    curl_url_cleanup(parsed);
}

static void build(const struct atd_s3_site *site, const struct atd_s3_request *request,
                  struct atd_str region, bool is_signed)
{
    static const struct atd_credential credential = {
        .access_key_id = "AKID", .secret_access_key = "SECRET", .session_token = "T/+="};
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
    atd_auto_buf struct atd_buf decoded = ATD_BUF_INIT(1u << 20);
    struct atd_http_message message;
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_str path;
    bool has_signature = false;
    int rc = atd_s3_request_build(site, request, region, is_signed ? &credential : NULL, 1000000,
                                  &arena, &message, &err);

    require((rc == 0) == (err.code == 0));
    /* What was asked for is quoted. */
    require(strstr(err.text, credential.secret_access_key) == NULL ||
            contains(request->bucket, credential.secret_access_key) ||
            contains(request->key, credential.secret_access_key) ||
            contains(request->if_match, credential.secret_access_key) ||
            contains(request->content_type, credential.secret_access_key) ||
            contains(region, credential.secret_access_key));
    if (rc != 0)
        return;
    require_url(site, message.url, &path);
    decode(path, &decoded);
    if (request->operation != ATD_S3_LIST && request->operation != ATD_S3_LIST_UPLOADS) {
        require(atd_str_ends_with(atd_buf_str(&decoded), request->key));
        require(decoded.ptr[decoded.len - request->key.len - 1] == '/');
    }
    for (size_t i = 0; i < message.header_count; i++) {
        has_signature =
            has_signature || atd_str_equal(message.headers[i].name, ATD_STR("authorization"));
        for (size_t j = 0; j < message.headers[i].value.len; j++)
            require((unsigned char)message.headers[i].value.ptr[j] >= ' ');
    }
    require(is_signed == has_signature);
    require(message.body.len == 0 || message.method[0] == 'P');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct atd_str rest = {(const char *)data, size};
    struct atd_str region = take_line(&rest);
    struct atd_str line = take_line(&rest);
    struct atd_str bucket = take_line(&rest);
    unsigned flags = region.len ? (unsigned char)region.ptr[0] : 0;
    char endpoint[600];
    struct atd_s3_site site;
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_s3_request request = {.operation = (enum atd_s3_operation)(flags % 3),
                                     .bucket = bucket,
                                     .key = rest,
                                     .prefix = rest,
                                     .start_after = bucket,
                                     .continuation_token = rest,
                                     .if_match = flags & 64 ? line : (struct atd_str){NULL, 0},
                                     .has_range = flags & 32,
                                     .last_byte = flags,
                                     .key_marker = bucket,
                                     .upload_id_marker = rest,
                                     .upload_id = rest,
                                     .part_number = flags,
                                     .content_type = line,
                                     .crc32c_base64 = line.len > ATD_S3_CRC32C_LEN
                                                          ? atd_str_head(line, ATD_S3_CRC32C_LEN)
                                                          : line,
                                     .if_none_match = flags & 1,
                                     .wants_crc32c = flags & 2,
                                     .sign_payload = flags & 4,
                                     .body = {data, size}};
    static const enum atd_s3_style styles[] = {ATD_S3_STYLE_AUTO, ATD_S3_STYLE_PATH,
                                               ATD_S3_STYLE_VIRTUAL, ATD_S3_STYLE_AUTO};
    int rc;

    if (flags & 128) /* those that write; seeds are text */
        request.operation = (enum atd_s3_operation)(ATD_S3_PUT + (flags & 7) % 7);
    if (region.len)
        region = atd_str_from_byte(region, 1);
    (void)snprintf(endpoint, sizeof(endpoint), "%.*s", (int)(line.len < 599 ? line.len : 599),
                   line.len ? line.ptr : "");
    rc = atd_s3_site_init(&site, line.len ? endpoint : NULL, styles[(flags >> 2) & 3], &err);
    require((rc == 0) == (err.code == 0));
    if (rc == 0)
        build(&site, &request, region, flags & 16);
    return 0;
}

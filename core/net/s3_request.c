#include "net/s3_request.h"

#include <errno.h>
#include <stdio.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "net/s3_place.h"
#include "net/sigv4.h"

#define KEY_BYTES_MAX 1024u
/* Opaque; those of AWS are about 100 bytes. */
#define TOKEN_BYTES_MAX 4096u
#define ETAG_BYTES_MAX 512u
/* All text names of a LIST, encoded, and the host. */
#define URL_BYTES_MAX (32u << 10)
#define AUTHORIZATION_BYTES_MAX 2048u

void atd_uri_encode(struct atd_str text, bool keep_slash, struct atd_buf *out)
{
    static const char digits[] = "0123456789ABCDEF";

    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];

        if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
            c == '-' || c == '.' || c == '_' || c == '~' || (c == '/' && keep_slash)) {
            atd_buf_append_byte(out, c);
        } else {
            atd_buf_append_byte(out, '%');
            atd_buf_append_byte(out, (uint8_t)digits[c >> 4]);
            atd_buf_append_byte(out, (uint8_t)digits[c & 15]);
        }
    }
}

/* ------------------------------------------------------------------ checks */

static int check_text(const char *what, struct atd_str text, size_t max_bytes,
                      struct atd_error *err)
{
    if (text.len > max_bytes)
        return atd_error_set(err, EINVAL, "%s '" ATD_STR_FMT "' is longer than %zu bytes", what,
                             ATD_STR_ARG(text), max_bytes);
    if (text.len && memchr(text.ptr, '\0', text.len))
        return atd_error_set(err, EINVAL, "%s '" ATD_STR_FMT "' has a NUL in it", what,
                             ATD_STR_ARG(text));
    return 0;
}

static int check_key(struct atd_str key, struct atd_error *err)
{
    if (key.len == 0)
        return atd_error_set(err, EINVAL, "object key is empty");
    return check_text("object key", key, KEY_BYTES_MAX, err);
}

/* A line end in a value would be one more header. */
static bool is_header_value(struct atd_str value)
{
    for (size_t i = 0; i < value.len; i++)
        if ((unsigned char)value.ptr[i] < ' ' || value.ptr[i] == 0x7f)
            return false;
    return true;
}

/* Not quoted: they are secrets. */
static int check_credential(const struct atd_credential *credential, struct atd_error *err)
{
    if (!credential->access_key_id[0] || !credential->secret_access_key[0])
        return atd_error_set(err, EINVAL, "credentials are empty");
    if (!is_header_value(atd_str_from(credential->access_key_id)) ||
        !is_header_value(atd_str_from(credential->session_token)))
        return atd_error_set(err, EINVAL, "credentials have control characters in them");
    return 0;
}

static int check_request(const struct atd_s3_request *request, struct atd_error *err)
{
    int rc;

    if (request->operation != ATD_S3_LIST) {
        rc = check_key(request->key, err);
    } else {
        rc = check_text("prefix", request->prefix, KEY_BYTES_MAX, err);
        if (rc == 0)
            rc = check_text("key", request->start_after, KEY_BYTES_MAX, err);
        if (rc == 0)
            rc =
                check_text("continuation token", request->continuation_token, TOKEN_BYTES_MAX, err);
    }
    if (rc == 0 && request->has_range && request->first_byte > request->last_byte)
        rc = atd_error_set(err, EINVAL, "range of bytes ends before its start");
    if (rc == 0 && (request->if_match.len > ETAG_BYTES_MAX || !is_header_value(request->if_match)))
        rc = atd_error_set(err, EINVAL, "'" ATD_STR_FMT "' cannot be sent as an ETag",
                           ATD_STR_ARG(request->if_match));
    return rc;
}

/* ------------------------------------------------------------------ address */

/* A URL under construction, and where its parts begin in it. */
struct address {
    struct atd_buf url;
    struct atd_s3_place place;
    size_t path_at;
    size_t query_at; /* behind the '?'; the end when there is none */
};

static struct atd_str path_of(const struct address *address)
{
    size_t end = address->query_at;

    if (end < address->url.len)
        end--;
    return (struct atd_str){(const char *)address->url.ptr + address->path_at,
                            end - address->path_at};
}

static struct atd_str query_of(const struct address *address)
{
    return atd_str_from_byte(atd_buf_str(&address->url), address->query_at);
}

/* Everything up to the query; `key` empty: the bucket itself. */
static int write_path(const struct atd_s3_site *site, struct atd_str bucket, struct atd_str key,
                      struct atd_str region, struct address *address, struct atd_error *err)
{
    int rc = atd_s3_region_check(site, region, err);

    if (rc == 0)
        rc = atd_s3_place_find(site, bucket, region, &address->place, err);
    if (rc != 0)
        return rc;
    atd_buf_append_text(&address->url, site->https ? "https://" : "http://");
    atd_buf_append_text(&address->url, address->place.host);
    address->path_at = address->url.len;
    atd_buf_append_text(&address->url, site->path);
    if (address->place.bucket_in_path) {
        atd_buf_append_byte(&address->url, '/');
        atd_uri_encode(bucket, false, &address->url);
    }
    if (key.len > 0 || !address->place.bucket_in_path) {
        atd_buf_append_byte(&address->url, '/');
        atd_uri_encode(key, true, &address->url);
    }
    address->query_at = address->url.len;
    return atd_buf_finish(&address->url, "address of the object", err);
}

static void add_parameter(struct address *address, const char *name, struct atd_str value)
{
    atd_buf_append_byte(&address->url, address->query_at == address->url.len ? '?' : '&');
    if (address->query_at + 1 == address->url.len)
        address->query_at++;
    atd_buf_append_text(&address->url, name);
    atd_buf_append_byte(&address->url, '=');
    atd_uri_encode(value, false, &address->url);
}

/* In the order of the names, as the signature wants them. */
static void write_list_query(const struct atd_s3_request *request, struct address *address)
{
    char number[12];

    if (request->continuation_token.len)
        add_parameter(address, "continuation-token", request->continuation_token);
    add_parameter(address, "encoding-type", ATD_STR("url"));
    add_parameter(address, "list-type", ATD_STR("2"));
    if (request->max_keys) {
        (void)snprintf(number, sizeof(number), "%u", request->max_keys);
        add_parameter(address, "max-keys", atd_str_from(number));
    }
    if (request->prefix.len)
        add_parameter(address, "prefix", request->prefix);
    if (request->start_after.len)
        add_parameter(address, "start-after", request->start_after);
}

/* ------------------------------------------------------------------ message */

static bool add_header(struct atd_http_message *message, struct atd_arena *arena, const char *name,
                       struct atd_str value)
{
    struct atd_str copy = atd_arena_str(arena, value);

    message->headers[message->header_count++] = (struct atd_http_header){atd_str_from(name), copy};
    return copy.ptr != NULL;
}

static bool add_plain_headers(const struct atd_s3_request *request, struct atd_arena *arena,
                              struct atd_http_message *message)
{
    char range[64];
    bool ok = true;

    if (request->operation == ATD_S3_GET && request->has_range) {
        (void)snprintf(range, sizeof(range), "bytes=%llu-%llu",
                       (unsigned long long)request->first_byte,
                       (unsigned long long)request->last_byte);
        ok = add_header(message, arena, "range", atd_str_from(range));
    }
    if (request->operation != ATD_S3_LIST && request->if_match.len)
        ok = ok && add_header(message, arena, "if-match", request->if_match);
    return ok;
}

/* Adds the x-amz-* headers and the signature over all that are there, and the host. */
static int add_signature(const struct address *address, struct atd_str region,
                         const struct atd_credential *credential, int64_t now_s,
                         struct atd_arena *arena, struct atd_http_message *message,
                         struct atd_error *err)
{
    struct atd_sigv4_request to_sign = {
        .method = message->method,
        .canonical_uri = path_of(address),
        .query = query_of(address),
        .payload_hash = ATD_STR(ATD_SIGV4_EMPTY_SHA256),
        .region = region,
        .service = ATD_STR("s3"),
    };
    struct atd_http_header headers[ATD_HTTP_HEADERS_MAX];
    atd_auto_buf struct atd_buf value = ATD_BUF_INIT(AUTHORIZATION_BYTES_MAX);
    int rc;

    atd_sigv4_time(now_s, to_sign.time);
    if (!add_header(message, arena, "x-amz-content-sha256", to_sign.payload_hash) ||
        !add_header(message, arena, "x-amz-date", atd_str_from(to_sign.time)) ||
        (credential->session_token[0] && !add_header(message, arena, "x-amz-security-token",
                                                     atd_str_from(credential->session_token))))
        return atd_error_set(err, ENOMEM, "request: out of memory");
    /* The Host header is not ours to send: libcurl makes it of the URL. */
    memcpy(headers, message->headers, message->header_count * sizeof(headers[0]));
    headers[message->header_count] =
        (struct atd_http_header){ATD_STR("host"), atd_str_from(address->place.host)};
    to_sign.headers = headers;
    to_sign.header_count = message->header_count + 1;
    rc = atd_sigv4_authorization(&to_sign, credential, &value, err);
    if (rc == 0 && !add_header(message, arena, "authorization", atd_buf_str(&value)))
        rc = atd_error_set(err, ENOMEM, "request: out of memory");
    return rc;
}

static struct atd_str region_or_default(struct atd_str region)
{
    return region.len ? region : ATD_STR(ATD_S3_REGION_DEFAULT);
}

static int build(const struct atd_s3_site *site, const struct atd_s3_request *request,
                 struct atd_str region, const struct atd_credential *credential, int64_t now_s,
                 struct atd_arena *arena, struct address *address, struct atd_http_message *message,
                 struct atd_error *err)
{
    bool is_list = request->operation == ATD_S3_LIST;
    struct atd_str url;
    int rc = write_path(site, request->bucket, is_list ? (struct atd_str){NULL, 0} : request->key,
                        region, address, err);

    if (rc != 0)
        return rc;
    if (is_list)
        write_list_query(request, address);
    rc = atd_buf_finish(&address->url, "address of the list", err);
    if (rc != 0)
        return rc;
    url = atd_arena_str(arena, atd_buf_str(&address->url));
    message->method = request->operation == ATD_S3_HEAD ? "HEAD" : "GET";
    message->url = url.ptr;
    if (!url.ptr || !add_plain_headers(request, arena, message))
        return atd_error_set(err, ENOMEM, "request: out of memory");
    return credential ? add_signature(address, region, credential, now_s, arena, message, err) : 0;
}

int atd_s3_request_build(const struct atd_s3_site *site, const struct atd_s3_request *request,
                         struct atd_str region, const struct atd_credential *credential,
                         int64_t now_s, struct atd_arena *arena,
                         struct atd_http_message *ret_message, struct atd_error *err)
{
    struct atd_http_message message = {.header_count = 0};
    struct address address = {.url = ATD_BUF_INIT(URL_BYTES_MAX)};
    int rc = check_request(request, err);

    if (rc == 0 && credential)
        rc = check_credential(credential, err);
    if (rc == 0)
        rc = build(site, request, region_or_default(region), credential, now_s, arena, &address,
                   &message, err);
    atd_buf_release(&address.url);
    if (rc == 0)
        *ret_message = message;
    return rc;
}

/* A URL is dead when the credential is: it should not say otherwise. */
static int limit_expiry(const struct atd_credential *credential, int64_t now_s, unsigned *expires_s,
                        struct atd_error *err)
{
    if (credential->expires_s == 0 || credential->expires_s - now_s >= (int64_t)*expires_s)
        return 0;
    if (credential->expires_s <= now_s)
        return atd_error_set(err, EINVAL, "credentials have expired");
    *expires_s = (unsigned)(credential->expires_s - now_s);
    return 0;
}

int atd_s3_presign(const struct atd_s3_site *site, struct atd_str bucket, struct atd_str key,
                   struct atd_str region, const struct atd_credential *credential, int64_t now_s,
                   unsigned expires_s, struct atd_buf *ret_url, struct atd_error *err)
{
    struct address address = {.url = ATD_BUF_INIT(URL_BYTES_MAX)};
    struct atd_http_header host = {ATD_STR("host"), {NULL, 0}};
    struct atd_sigv4_request to_sign = {.method = "GET",
                                        .headers = &host,
                                        .header_count = 1,
                                        .region = region_or_default(region),
                                        .service = ATD_STR("s3")};
    int rc;

    if (!credential)
        return atd_error_set(err, EINVAL, "a presigned address takes credentials");
    rc = check_credential(credential, err);
    if (rc == 0)
        rc = check_key(key, err);
    if (rc == 0)
        rc = limit_expiry(credential, now_s, &expires_s, err);
    if (rc == 0)
        rc = write_path(site, bucket, key, to_sign.region, &address, err);
    if (rc == 0) {
        host.value = atd_str_from(address.place.host);
        to_sign.canonical_uri = path_of(&address);
        atd_sigv4_time(now_s, to_sign.time);
        atd_buf_append_str(ret_url, atd_buf_str(&address.url));
        atd_buf_append_byte(ret_url, '?');
        rc = atd_sigv4_presign(&to_sign, credential, expires_s, ret_url, err);
    }
    atd_buf_release(&address.url);
    return rc;
}

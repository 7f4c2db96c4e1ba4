#include "net/s3_request.h"

#include <errno.h>
#include <stdio.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/digest.h"
#include "net/s3_place.h"
#include "net/sigv4.h"

#define KEY_BYTES_MAX 1024u
/* Opaque; those of AWS are about 100 bytes. */
#define TOKEN_BYTES_MAX 4096u
#define ETAG_BYTES_MAX 512u
#define TYPE_BYTES_MAX 256u
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

static bool is_of_bucket(enum atd_s3_operation operation)
{
    return operation == ATD_S3_LIST || operation == ATD_S3_LIST_UPLOADS;
}

/* Part of an upload that was begun. */
static bool has_upload_id(enum atd_s3_operation operation)
{
    return operation == ATD_S3_UPLOAD_PART || operation == ATD_S3_COMPLETE_UPLOAD ||
           operation == ATD_S3_ABORT_UPLOAD;
}

static bool has_body(enum atd_s3_operation operation)
{
    return operation == ATD_S3_PUT || operation == ATD_S3_UPLOAD_PART ||
           operation == ATD_S3_COMPLETE_UPLOAD;
}

static int check_list(const struct atd_s3_request *request, struct atd_error *err)
{
    int rc = check_text("prefix", request->prefix, KEY_BYTES_MAX, err);

    if (rc == 0)
        rc = check_text("key", request->start_after, KEY_BYTES_MAX, err);
    if (rc == 0)
        rc = check_text("continuation token", request->continuation_token, TOKEN_BYTES_MAX, err);
    if (rc == 0)
        rc = check_text("key", request->key_marker, KEY_BYTES_MAX, err);
    if (rc == 0)
        rc = check_text("upload id", request->upload_id_marker, ATD_S3_UPLOAD_ID_MAX, err);
    return rc;
}

static int check_write(const struct atd_s3_request *request, struct atd_error *err)
{
    const char *hash = request->payload_sha256_hex;

    if (has_upload_id(request->operation)) {
        if (request->upload_id.len == 0)
            return atd_error_set(err, EINVAL, "upload id is empty");
        if (check_text("upload id", request->upload_id, ATD_S3_UPLOAD_ID_MAX, err) != 0)
            return -EINVAL;
    }
    if (request->operation == ATD_S3_UPLOAD_PART &&
        (request->part_number == 0 || request->part_number > ATD_S3_PARTS_MAX))
        return atd_error_set(err, EINVAL, "parts have numbers from 1 to %u, not %u",
                             ATD_S3_PARTS_MAX, request->part_number);
    if (hash && (strlen(hash) != 2 * ATD_SHA256_BYTES ||
                 strspn(hash, "0123456789abcdef") != 2 * ATD_SHA256_BYTES))
        return atd_error_set(err, EINVAL, "'%s' is not a SHA-256", hash);
    if (request->crc32c_base64.len > 0 && (request->crc32c_base64.len != ATD_S3_CRC32C_LEN ||
                                           !is_header_value(request->crc32c_base64)))
        return atd_error_set(err, EINVAL, "'" ATD_STR_FMT "' is not a CRC-32C",
                             ATD_STR_ARG(request->crc32c_base64));
    if (request->content_type.len > TYPE_BYTES_MAX || !is_header_value(request->content_type))
        return atd_error_set(err, EINVAL, "'" ATD_STR_FMT "' cannot be sent as a type",
                             ATD_STR_ARG(request->content_type));
    return 0;
}

static int check_request(const struct atd_s3_request *request, struct atd_error *err)
{
    int rc =
        is_of_bucket(request->operation) ? check_list(request, err) : check_key(request->key, err);

    if (rc == 0)
        rc = check_write(request, err);
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

static void add_number(struct address *address, const char *name, unsigned number)
{
    char text[12];

    (void)snprintf(text, sizeof(text), "%u", number);
    add_parameter(address, name, atd_str_from(text));
}

static void write_list_query(const struct atd_s3_request *request, struct address *address)
{
    if (request->continuation_token.len)
        add_parameter(address, "continuation-token", request->continuation_token);
    add_parameter(address, "encoding-type", ATD_STR("url"));
    add_parameter(address, "list-type", ATD_STR("2"));
    if (request->max_keys)
        add_number(address, "max-keys", request->max_keys);
    if (request->prefix.len)
        add_parameter(address, "prefix", request->prefix);
    if (request->start_after.len)
        add_parameter(address, "start-after", request->start_after);
}

static void write_uploads_query(const struct atd_s3_request *request, struct address *address)
{
    add_parameter(address, "encoding-type", ATD_STR("url"));
    if (request->key_marker.len)
        add_parameter(address, "key-marker", request->key_marker);
    if (request->max_keys)
        add_number(address, "max-uploads", request->max_keys);
    if (request->prefix.len)
        add_parameter(address, "prefix", request->prefix);
    if (request->upload_id_marker.len)
        add_parameter(address, "upload-id-marker", request->upload_id_marker);
    add_parameter(address, "uploads", ATD_STR(""));
}

/* In the order of the names, as the signature wants them; a name without a value has its '='. */
static void write_query(const struct atd_s3_request *request, struct address *address)
{
    switch (request->operation) {
    case ATD_S3_LIST:
        write_list_query(request, address);
        break;
    case ATD_S3_LIST_UPLOADS:
        write_uploads_query(request, address);
        break;
    case ATD_S3_CREATE_UPLOAD:
        add_parameter(address, "uploads", ATD_STR(""));
        break;
    case ATD_S3_UPLOAD_PART:
        add_number(address, "partNumber", request->part_number);
        add_parameter(address, "uploadId", request->upload_id);
        break;
    case ATD_S3_COMPLETE_UPLOAD:
    case ATD_S3_ABORT_UPLOAD:
        add_parameter(address, "uploadId", request->upload_id);
        break;
    case ATD_S3_GET:
    case ATD_S3_HEAD:
    case ATD_S3_PUT:
    case ATD_S3_DELETE:
        break;
    }
}

/* ------------------------------------------------------------------ message */

static bool add_header(struct atd_http_message *message, struct atd_arena *arena, const char *name,
                       struct atd_str value)
{
    struct atd_str copy = atd_arena_str(arena, value);

    message->headers[message->header_count++] = (struct atd_http_header){atd_str_from(name), copy};
    return copy.ptr != NULL;
}

const char *atd_s3_method(enum atd_s3_operation operation)
{
    switch (operation) {
    case ATD_S3_HEAD:
        return "HEAD";
    case ATD_S3_PUT:
    case ATD_S3_UPLOAD_PART:
        return "PUT";
    case ATD_S3_CREATE_UPLOAD:
    case ATD_S3_COMPLETE_UPLOAD:
        return "POST";
    case ATD_S3_ABORT_UPLOAD:
    case ATD_S3_DELETE:
        return "DELETE";
    case ATD_S3_GET:
    case ATD_S3_LIST:
    case ATD_S3_LIST_UPLOADS:
        break;
    }
    return "GET";
}

static bool add_read_headers(const struct atd_s3_request *request, struct atd_arena *arena,
                             struct atd_http_message *message)
{
    enum atd_s3_operation operation = request->operation;
    char range[64];
    bool ok = true;

    if (operation == ATD_S3_GET && request->has_range) {
        (void)snprintf(range, sizeof(range), "bytes=%llu-%llu",
                       (unsigned long long)request->first_byte,
                       (unsigned long long)request->last_byte);
        ok = add_header(message, arena, "range", atd_str_from(range));
    }
    if (!is_of_bucket(operation) && request->if_match.len)
        ok = ok && add_header(message, arena, "if-match", request->if_match);
    if ((operation == ATD_S3_GET || operation == ATD_S3_HEAD) && request->wants_checksum)
        ok = ok && add_header(message, arena, "x-amz-checksum-mode", ATD_STR("ENABLED"));
    return ok;
}

static bool add_write_headers(const struct atd_s3_request *request, struct atd_arena *arena,
                              struct atd_http_message *message)
{
    enum atd_s3_operation operation = request->operation;
    bool ok = true;

    if ((operation == ATD_S3_PUT || operation == ATD_S3_CREATE_UPLOAD) && request->content_type.len)
        ok = add_header(message, arena, "content-type", request->content_type);
    if ((operation == ATD_S3_PUT || operation == ATD_S3_CREATE_UPLOAD) && request->maker.len)
        ok = ok && add_header(message, arena, ATD_S3_MAKER_HEADER, request->maker);
    if ((operation == ATD_S3_PUT || operation == ATD_S3_COMPLETE_UPLOAD) && request->if_none_match)
        ok = ok && add_header(message, arena, "if-none-match", ATD_STR("*"));
    if ((operation == ATD_S3_PUT || operation == ATD_S3_UPLOAD_PART) && request->crc32c_base64.len)
        ok = ok && add_header(message, arena, "x-amz-checksum-crc32c", request->crc32c_base64);
    if (operation == ATD_S3_CREATE_UPLOAD && request->wants_crc32c)
        ok = ok && add_header(message, arena, "x-amz-checksum-algorithm", ATD_STR("CRC32C"));
    return ok;
}

bool atd_s3_signs_payload(const struct atd_s3_site *site, const struct atd_s3_request *request)
{
    if (request->sign_payload || request->operation == ATD_S3_COMPLETE_UPLOAD)
        return true;
    return !site->https && !(site->is_this_machine && request->crc32c_base64.len > 0);
}

/* What is signed for the body: its hash in `hex`, or the word for none. */
static struct atd_str payload_hash(const struct atd_s3_site *site,
                                   const struct atd_s3_request *request,
                                   char hex[2 * ATD_SHA256_BYTES + 1])
{
    uint8_t digest[ATD_SHA256_BYTES];

    if (!has_body(request->operation) || request->body.len == 0)
        return ATD_STR(ATD_SIGV4_EMPTY_SHA256);
    if (request->payload_sha256_hex)
        return atd_str_from(request->payload_sha256_hex);
    if (!atd_s3_signs_payload(site, request))
        return ATD_STR(ATD_SIGV4_UNSIGNED);
    atd_sha256_of(request->body.ptr, request->body.len, digest);
    for (size_t i = 0; i < sizeof(digest); i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    return atd_str_from(hex);
}

/* Adds the x-amz-* headers and the signature over all that are there, and the host. */
static int add_signature(const struct address *address, struct atd_str hash, struct atd_str region,
                         const struct atd_credential *credential, int64_t now_s,
                         struct atd_arena *arena, struct atd_http_message *message,
                         struct atd_error *err)
{
    struct atd_sigv4_request to_sign = {
        .method = message->method,
        .canonical_uri = path_of(address),
        .query = query_of(address),
        .payload_hash = hash,
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
    bool of_bucket = is_of_bucket(request->operation);
    char hex[2 * ATD_SHA256_BYTES + 1];
    struct atd_str url;
    int rc = write_path(site, request->bucket, of_bucket ? (struct atd_str){NULL, 0} : request->key,
                        region, address, err);

    if (rc != 0)
        return rc;
    write_query(request, address);
    rc = atd_buf_finish(&address->url, "address of the request", err);
    if (rc != 0)
        return rc;
    url = atd_arena_str(arena, atd_buf_str(&address->url));
    message->method = atd_s3_method(request->operation);
    message->url = url.ptr;
    if (has_body(request->operation))
        message->body = request->body;
    if (!url.ptr || !add_read_headers(request, arena, message) ||
        !add_write_headers(request, arena, message))
        return atd_error_set(err, ENOMEM, "request: out of memory");
    if (!credential)
        return 0;
    return add_signature(address, payload_hash(site, request, hex), region, credential, now_s,
                         arena, message, err);
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

#include "net/sigv4.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <time.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/digest.h"
#include "net/s3_request.h"

#define ALGORITHM "AWS4-HMAC-SHA256"
#define DAY_LEN 8 /* "20130524", the head of a time */
#define HEX_LEN (2 * ATD_SHA256_BYTES)
/* All headers of one request: a session token and little else. */
#define CANONICAL_BYTES_MAX (64u << 10)
#define QUERY_BYTES_MAX (64u << 10)
#define SIGNED_HEADERS_BYTES_MAX 4096u
/* X-Amz-Algorithm, -Credential, -Date, -Expires, -Security-Token, -SignedHeaders. */
#define PRESIGN_PARAMETERS 6u
#define QUERY_PARAMETERS_MAX 64u

void atd_sigv4_time(int64_t seconds, char ret_time[ATD_SIGV4_TIME_LEN + 1])
{
    time_t when = (time_t)seconds;
    struct tm tm;

    /* No clock tells a year of five digits; such a one gets a time that every server refuses. */
    if (!gmtime_r(&when, &tm) ||
        strftime(ret_time, ATD_SIGV4_TIME_LEN + 1, "%Y%m%dT%H%M%SZ", &tm) != ATD_SIGV4_TIME_LEN)
        (void)snprintf(ret_time, ATD_SIGV4_TIME_LEN + 1, "19700101T000000Z");
}

static void hex_of(const uint8_t digest[ATD_SHA256_BYTES], char ret_hex[HEX_LEN + 1])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < ATD_SHA256_BYTES; i++) {
        ret_hex[2 * i] = digits[digest[i] >> 4];
        ret_hex[2 * i + 1] = digits[digest[i] & 15];
    }
    ret_hex[HEX_LEN] = '\0';
}

/* ------------------------------------------------------------------ canonical request */

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static int compare_names(struct atd_str a, struct atd_str b)
{
    for (size_t i = 0; i < a.len && i < b.len; i++) {
        int order = (uint8_t)lower(a.ptr[i]) - (uint8_t)lower(b.ptr[i]);

        if (order != 0)
            return order;
    }
    return (a.len > b.len) - (a.len < b.len);
}

/*
 * The headers' order: by name alone, not by the "name:value" line (where "a-b:" would come before
 * "a:"), and repeats as they were sent. Insertion: they are few and nearly sorted.
 */
static void sort_headers(const struct atd_sigv4_request *request,
                         const struct atd_http_header *ret_sorted[ATD_HTTP_HEADERS_MAX])
{
    atd_assert(request->header_count <= ATD_HTTP_HEADERS_MAX);
    for (size_t i = 0; i < request->header_count; i++) {
        const struct atd_http_header *header = &request->headers[i];
        size_t at = i;

        while (at > 0 && compare_names(header->name, ret_sorted[at - 1]->name) < 0) {
            ret_sorted[at] = ret_sorted[at - 1];
            at--;
        }
        ret_sorted[at] = header;
    }
}

static void append_lower(struct atd_str name, struct atd_buf *out)
{
    for (size_t i = 0; i < name.len; i++)
        atd_buf_append_byte(out, (uint8_t)lower(name.ptr[i]));
}

/* Trimmed, each run of white space one blank. */
static void append_value(struct atd_str value, struct atd_buf *out)
{
    bool started = false;
    bool blank = false;

    for (size_t i = 0; i < value.len; i++) {
        if (is_blank(value.ptr[i])) {
            blank = started;
            continue;
        }
        if (blank)
            atd_buf_append_byte(out, ' ');
        atd_buf_append_byte(out, (uint8_t)value.ptr[i]);
        started = true;
        blank = false;
    }
}

static bool repeats(const struct atd_http_header *const *sorted, size_t i)
{
    return i > 0 && compare_names(sorted[i - 1]->name, sorted[i]->name) == 0;
}

static void append_signed_headers(const struct atd_http_header *const *sorted, size_t count,
                                  struct atd_buf *out)
{
    for (size_t i = 0; i < count; i++) {
        if (repeats(sorted, i))
            continue;
        if (i > 0)
            atd_buf_append_byte(out, ';');
        append_lower(sorted[i]->name, out);
    }
}

int atd_sigv4_canonical_request(const struct atd_sigv4_request *request, struct atd_buf *ret_text,
                                struct atd_buf *ret_signed_headers, struct atd_error *err)
{
    const struct atd_http_header *sorted[ATD_HTTP_HEADERS_MAX];
    int rc;

    sort_headers(request, sorted);
    atd_buf_clear(ret_signed_headers);
    append_signed_headers(sorted, request->header_count, ret_signed_headers);
    rc = atd_buf_finish(ret_signed_headers, "request to sign", err);
    if (rc != 0)
        return rc;

    atd_buf_clear(ret_text);
    atd_buf_append_text(ret_text, request->method);
    atd_buf_append_byte(ret_text, '\n');
    atd_buf_append_str(ret_text, request->canonical_uri);
    atd_buf_append_byte(ret_text, '\n');
    atd_buf_append_str(ret_text, request->query);
    for (size_t i = 0; i < request->header_count; i++) {
        if (repeats(sorted, i)) {
            atd_buf_append_byte(ret_text, ',');
        } else {
            atd_buf_append_byte(ret_text, '\n');
            append_lower(sorted[i]->name, ret_text);
            atd_buf_append_byte(ret_text, ':');
        }
        append_value(sorted[i]->value, ret_text);
    }
    atd_buf_append_text(ret_text, "\n\n");
    atd_buf_append_str(ret_text, atd_buf_str(ret_signed_headers));
    atd_buf_append_byte(ret_text, '\n');
    atd_buf_append_str(ret_text, request->payload_hash);
    return atd_buf_finish(ret_text, "request to sign", err);
}

/* ------------------------------------------------------------------ string to sign, signature */

static struct atd_str day_of(const struct atd_sigv4_request *request)
{
    return (struct atd_str){request->time, DAY_LEN};
}

static void append_scope(const struct atd_sigv4_request *request, struct atd_buf *out)
{
    atd_buf_append_str(out, day_of(request));
    atd_buf_append_byte(out, '/');
    atd_buf_append_str(out, request->region);
    atd_buf_append_byte(out, '/');
    atd_buf_append_str(out, request->service);
    atd_buf_append_text(out, "/aws4_request");
}

int atd_sigv4_string_to_sign(const struct atd_sigv4_request *request,
                             struct atd_str canonical_request, struct atd_buf *ret_text,
                             struct atd_error *err)
{
    uint8_t digest[ATD_SHA256_BYTES];
    char hex[HEX_LEN + 1];

    atd_sha256_of(canonical_request.ptr, canonical_request.len, digest);
    hex_of(digest, hex);
    atd_buf_clear(ret_text);
    atd_buf_append_text(ret_text, ALGORITHM "\n");
    atd_buf_append_text(ret_text, request->time);
    atd_buf_append_byte(ret_text, '\n');
    append_scope(request, ret_text);
    atd_buf_append_byte(ret_text, '\n');
    atd_buf_append_text(ret_text, hex);
    return atd_buf_finish(ret_text, "request to sign", err);
}

static bool hmac(struct atd_bytes key, struct atd_str text, uint8_t ret_mac[ATD_SHA256_BYTES])
{
    uint8_t mac[ATD_SHA256_BYTES]; /* the key may be what ret_mac held */
    unsigned len = 0;

    if (!HMAC(EVP_sha256(), key.ptr, (int)key.len, (const uint8_t *)text.ptr, text.len, mac, &len))
        return false;
    memcpy(ret_mac, mac, sizeof(mac));
    OPENSSL_cleanse(mac, sizeof(mac));
    return true;
}

int atd_sigv4_signing_key(struct atd_str secret_access_key, struct atd_str day,
                          struct atd_str region, struct atd_str service,
                          uint8_t ret_key[ATD_SIGV4_KEY_LEN], struct atd_error *err)
{
    char first[4 + ATD_CREDENTIAL_KEY_MAX] = "AWS4";
    struct atd_bytes next = {ret_key, ATD_SIGV4_KEY_LEN};
    bool ok;

    if (secret_access_key.len > ATD_CREDENTIAL_KEY_MAX)
        return atd_error_set(err, EINVAL, "secret access key is longer than %d bytes",
                             ATD_CREDENTIAL_KEY_MAX);
    if (secret_access_key.len)
        memcpy(first + 4, secret_access_key.ptr, secret_access_key.len);
    ok =
        hmac((struct atd_bytes){(const uint8_t *)first, 4 + secret_access_key.len}, day, ret_key) &&
        hmac(next, region, ret_key) && hmac(next, service, ret_key) &&
        hmac(next, ATD_STR("aws4_request"), ret_key);
    OPENSSL_cleanse(first, sizeof(first));
    if (!ok)
        return atd_error_set(err, ENOMEM, "signature: out of memory");
    return 0;
}

int atd_sigv4_signature(const struct atd_sigv4_request *request, struct atd_str string_to_sign,
                        struct atd_str secret_access_key, char ret_hex[65], struct atd_error *err)
{
    uint8_t key[ATD_SIGV4_KEY_LEN];
    uint8_t mac[ATD_SHA256_BYTES];
    int rc = atd_sigv4_signing_key(secret_access_key, day_of(request), request->region,
                                   request->service, key, err);

    if (rc == 0 && !hmac((struct atd_bytes){key, sizeof(key)}, string_to_sign, mac))
        rc = atd_error_set(err, ENOMEM, "signature: out of memory");
    OPENSSL_cleanse(key, sizeof(key));
    if (rc == 0)
        hex_of(mac, ret_hex);
    return rc;
}

/* ------------------------------------------------------------------ the whole */

static int sign(const struct atd_sigv4_request *request, const struct atd_credential *credential,
                struct atd_buf *ret_signed_headers, char ret_hex[HEX_LEN + 1],
                struct atd_error *err)
{
    atd_auto_buf struct atd_buf canonical = ATD_BUF_INIT(CANONICAL_BYTES_MAX);
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(CANONICAL_BYTES_MAX);
    int rc = atd_sigv4_canonical_request(request, &canonical, ret_signed_headers, err);

    if (rc == 0)
        rc = atd_sigv4_string_to_sign(request, atd_buf_str(&canonical), &text, err);
    if (rc == 0)
        rc = atd_sigv4_signature(request, atd_buf_str(&text),
                                 atd_str_from(credential->secret_access_key), ret_hex, err);
    /* It may hold the session token. */
    if (canonical.ptr)
        OPENSSL_cleanse(canonical.ptr, canonical.len);
    return rc;
}

int atd_sigv4_authorization(const struct atd_sigv4_request *request,
                            const struct atd_credential *credential, struct atd_buf *ret_value,
                            struct atd_error *err)
{
    atd_auto_buf struct atd_buf signed_headers = ATD_BUF_INIT(SIGNED_HEADERS_BYTES_MAX);
    char hex[HEX_LEN + 1];
    int rc = sign(request, credential, &signed_headers, hex, err);

    if (rc != 0)
        return rc;
    atd_buf_append_text(ret_value, ALGORITHM " Credential=");
    atd_buf_append_text(ret_value, credential->access_key_id);
    atd_buf_append_byte(ret_value, '/');
    append_scope(request, ret_value);
    atd_buf_append_text(ret_value, ", SignedHeaders=");
    atd_buf_append_str(ret_value, atd_buf_str(&signed_headers));
    atd_buf_append_text(ret_value, ", Signature=");
    atd_buf_append_text(ret_value, hex);
    return atd_buf_finish(ret_value, "signature", err);
}

/* ------------------------------------------------------------------ presigned */

struct parameter {
    struct atd_str name; /* both encoded */
    struct atd_str value;
};

static int compare_parameters(const struct parameter *a, const struct parameter *b)
{
    int order = atd_str_compare(a->name, b->name);

    return order ? order : atd_str_compare(a->value, b->value);
}

static void insert_parameter(struct parameter *sorted, size_t *count, struct parameter parameter)
{
    size_t at = (*count)++;

    while (at > 0 && compare_parameters(&parameter, &sorted[at - 1]) < 0) {
        sorted[at] = sorted[at - 1];
        at--;
    }
    sorted[at] = parameter;
}

/* False when there are more than QUERY_PARAMETERS_MAX. */
static bool split_query(struct atd_str query, struct parameter *sorted, size_t *count)
{
    while (query.len > 0) {
        ptrdiff_t end = atd_str_find(query, '&');
        struct atd_str pair = atd_str_head(query, end < 0 ? query.len : (size_t)end);
        ptrdiff_t equals = atd_str_find(pair, '=');
        size_t name_len = equals < 0 ? pair.len : (size_t)equals;

        if (*count == QUERY_PARAMETERS_MAX)
            return false;
        insert_parameter(sorted, count,
                         (struct parameter){atd_str_head(pair, name_len),
                                            atd_str_from_byte(pair, name_len + (equals >= 0))});
        query = atd_str_from_byte(query, pair.len + (end >= 0));
    }
    return true;
}

/* Writes the values of X-Amz-* parameters into one buffer first, then takes views of them. */
static int add_presign_parameters(const struct atd_sigv4_request *request,
                                  const struct atd_credential *credential, unsigned expires_s,
                                  struct atd_buf *values, struct parameter *sorted, size_t *count,
                                  struct atd_error *err)
{
    const struct atd_http_header *headers[ATD_HTTP_HEADERS_MAX];
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(QUERY_BYTES_MAX);
    static const struct atd_str names[PRESIGN_PARAMETERS] = {
        {"X-Amz-Algorithm", 15}, {"X-Amz-Credential", 16},    {"X-Amz-Date", 10},
        {"X-Amz-Expires", 13},   {"X-Amz-SignedHeaders", 19}, {"X-Amz-Security-Token", 20},
    };
    size_t ends[PRESIGN_PARAMETERS];
    size_t used = credential->session_token[0] ? PRESIGN_PARAMETERS : PRESIGN_PARAMETERS - 1;
    size_t start = 0;

    atd_buf_append_text(values, ALGORITHM);
    ends[0] = values->len;
    atd_buf_append_text(&text, credential->access_key_id);
    atd_buf_append_byte(&text, '/');
    append_scope(request, &text);
    atd_uri_encode(atd_buf_str(&text), false, values);
    ends[1] = values->len;
    atd_buf_append_text(values, request->time);
    ends[2] = values->len;
    atd_buf_printf(values, "%u", expires_s);
    ends[3] = values->len;
    atd_buf_clear(&text);
    sort_headers(request, headers);
    append_signed_headers(headers, request->header_count, &text);
    atd_uri_encode(atd_buf_str(&text), false, values);
    ends[4] = values->len;
    atd_uri_encode(atd_str_from(credential->session_token), false, values);
    ends[5] = values->len;
    if (text.failed)
        return atd_buf_finish(&text, "query to sign", err);
    if (values->failed)
        return atd_buf_finish(values, "query to sign", err);
    for (size_t i = 0; i < used; i++) {
        struct atd_str value = {(const char *)values->ptr + start, ends[i] - start};

        insert_parameter(sorted, count, (struct parameter){names[i], value});
        start = ends[i];
    }
    return 0;
}

int atd_sigv4_presign(const struct atd_sigv4_request *request,
                      const struct atd_credential *credential, unsigned expires_s,
                      struct atd_buf *ret_query, struct atd_error *err)
{
    struct parameter sorted[QUERY_PARAMETERS_MAX + PRESIGN_PARAMETERS];
    size_t count = 0;
    atd_auto_buf struct atd_buf values = ATD_BUF_INIT(QUERY_BYTES_MAX);
    atd_auto_buf struct atd_buf query = ATD_BUF_INIT(QUERY_BYTES_MAX);
    atd_auto_buf struct atd_buf signed_headers = ATD_BUF_INIT(SIGNED_HEADERS_BYTES_MAX);
    struct atd_sigv4_request presigned = *request;
    char hex[HEX_LEN + 1];
    int rc;

    if (expires_s == 0 || expires_s > ATD_SIGV4_EXPIRES_MAX)
        return atd_error_set(err, EINVAL,
                             "a presigned address can be valid for 1 to %d seconds, not %u",
                             ATD_SIGV4_EXPIRES_MAX, expires_s);
    if (!split_query(request->query, sorted, &count))
        return atd_error_set(err, EINVAL, "query to sign has more than %u parameters",
                             QUERY_PARAMETERS_MAX);
    rc = add_presign_parameters(request, credential, expires_s, &values, sorted, &count, err);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            atd_buf_append_byte(&query, '&');
        atd_buf_append_str(&query, sorted[i].name);
        atd_buf_append_byte(&query, '=');
        atd_buf_append_str(&query, sorted[i].value);
    }
    rc = atd_buf_finish(&query, "query to sign", err);
    if (rc != 0)
        return rc;

    presigned.query = atd_buf_str(&query);
    if (request->payload_hash.len == 0)
        presigned.payload_hash = ATD_STR(ATD_SIGV4_UNSIGNED);
    rc = sign(&presigned, credential, &signed_headers, hex, err);
    if (rc != 0)
        return rc;
    atd_buf_append_str(ret_query, presigned.query);
    atd_buf_append_text(ret_query, "&X-Amz-Signature=");
    atd_buf_append_text(ret_query, hex);
    return atd_buf_finish(ret_query, "presigned address", err);
}

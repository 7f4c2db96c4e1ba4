#include "net/sigv4.h"

#include <errno.h>
#include <time.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/digest.h"
#include "net/s3_request.h"
#include "vectors.h"

#define TEXT_MAX (64u << 10)

/* What atd_sigv4_request borrows from. */
struct record {
    const json_t *json;
    const char *name;
    struct atd_sigv4_request request;
    struct atd_http_header headers[ATD_HTTP_HEADERS_MAX];
    struct atd_credential credential;
};

static struct atd_str optional(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);

    return json_is_string(value)
               ? (struct atd_str){json_string_value(value), json_string_length(value)}
               : (struct atd_str){NULL, 0};
}

static void hex_of(const uint8_t *bytes, size_t len, char *to)
{
    for (size_t i = 0; i < len; i++)
        (void)snprintf(to + 2 * i, 3, "%02x", bytes[i]);
}

static void sha256_hex(struct atd_str text, char ret_hex[65])
{
    uint8_t digest[ATD_SHA256_BYTES];

    atd_sha256_of(text.ptr, text.len, digest);
    hex_of(digest, sizeof(digest), ret_hex);
}

static void add_header(struct record *record, struct atd_str name, struct atd_str value)
{
    cr_assert_lt(record->request.header_count, ATD_HTTP_HEADERS_MAX);
    record->headers[record->request.header_count++] = (struct atd_http_header){name, value};
}

static bool is_presign(const struct record *record)
{
    return strcmp(json_string_value(json_object_get(record->json, "kind")), "presign") == 0;
}

/* The aws-suite records give a request as text: lines, continued ones begin with a blank. */
static void add_raw_headers(struct record *record, struct atd_str raw)
{
    ptrdiff_t end = atd_str_find(raw, '\n');

    while (end >= 0) {
        struct atd_str line;
        ptrdiff_t colon;

        raw = atd_str_from_byte(raw, (size_t)end + 1);
        for (end = 0; (size_t)end < raw.len; end++)
            if (raw.ptr[end] == '\n' && ((size_t)end + 1 == raw.len || raw.ptr[end + 1] != ' '))
                break;
        line = atd_str_head(raw, (size_t)end);
        colon = atd_str_find(line, ':');
        if (line.len == 0 || colon < 0)
            break;
        add_header(record, atd_str_head(line, (size_t)colon),
                   atd_str_from_byte(line, (size_t)colon + 1));
        if ((size_t)end == raw.len)
            break;
    }
}

/* The suite leaves to the signer what the headers kind adds. */
static void add_suite_headers(struct record *record)
{
    const json_t *json = record->json;

    add_raw_headers(record, json_member_str(json, "raw_request"));
    if (is_presign(record))
        return;
    add_header(record, ATD_STR("X-Amz-Date"), json_member_str(json, "timestamp"));
    if (json_is_true(json_object_get(json, "sign_body")))
        add_header(record, ATD_STR("x-amz-content-sha256"), json_member_str(json, "payload_hash"));
    if (record->credential.session_token[0])
        add_header(record, ATD_STR("X-Amz-Security-Token"),
                   atd_str_from(record->credential.session_token));
}

static void copy_into(char *to, size_t size, struct atd_str text)
{
    cr_assert_lt(text.len, size);
    if (text.len)
        memcpy(to, text.ptr, text.len);
    to[text.len] = '\0';
}

static void load_common(const json_t *json, struct record *record)
{
    memset(record, 0, sizeof(*record));
    record->json = json;
    record->name = json_string_value(json_object_get(json, "name"));
    record->request.region = json_member_str(json, "region");
    record->request.service = json_member_str(json, "service");
    copy_into(record->request.time, sizeof(record->request.time), optional(json, "timestamp"));
    copy_into(record->credential.access_key_id, sizeof(record->credential.access_key_id),
              optional(json, "access_key_id"));
    copy_into(record->credential.secret_access_key, sizeof(record->credential.secret_access_key),
              json_member_str(json, "secret_access_key"));
    if (!json_is_true(json_object_get(json, "omit_session_token")))
        copy_into(record->credential.session_token, sizeof(record->credential.session_token),
                  optional(json, "session_token"));
    record->request.headers = record->headers;
}

static void load_request(const json_t *json, struct record *record)
{
    json_t *headers = json_object_get(json, "headers");
    json_t *pair;
    size_t i;

    load_common(json, record);
    record->request.method = json_string_value(json_object_get(json, "method"));
    record->request.canonical_uri = json_member_str(json, "canonical_uri");
    record->request.query = json_member_str(json, "canonical_query");
    record->request.payload_hash = json_member_str(json, "payload_hash");
    if (!headers) {
        add_suite_headers(record);
        return;
    }
    json_array_foreach(headers, i, pair)
    {
        const json_t *name = json_array_get(pair, 0);
        const json_t *value = json_array_get(pair, 1);

        add_header(record, (struct atd_str){json_string_value(name), json_string_length(name)},
                   (struct atd_str){json_string_value(value), json_string_length(value)});
    }
}

static void assert_text(struct atd_str actual, struct atd_str expected, const char *name,
                        const char *what)
{
    cr_assert(atd_str_equal(actual, expected), "%s: %s is\n%.*s\nnot\n%.*s", name, what,
              (int)actual.len, actual.ptr, (int)expected.len, expected.ptr);
}

static void check_signature(const struct record *record, struct atd_str string_to_sign)
{
    char hex[65];

    cr_assert_eq(atd_sigv4_signature(&record->request, string_to_sign,
                                     atd_str_from(record->credential.secret_access_key), hex, NULL),
                 0);
    assert_text(atd_str_from(hex), json_member_str(record->json, "signature"), record->name,
                "signature");
}

/* Canonical request, string to sign, signature. */
static void check_levels(const struct record *record)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(TEXT_MAX);
    atd_auto_buf struct atd_buf signed_headers = ATD_BUF_INIT(TEXT_MAX);
    const json_t *json = record->json;

    cr_assert_eq(atd_sigv4_canonical_request(&record->request, &text, &signed_headers, NULL), 0);
    assert_text(atd_buf_str(&signed_headers), json_member_str(json, "signed_headers"), record->name,
                "signed headers");
    assert_text(atd_buf_str(&text), json_member_str(json, "canonical_request"), record->name,
                "canonical request");
    cr_assert_eq(atd_sigv4_string_to_sign(&record->request,
                                          json_member_str(json, "canonical_request"), &text, NULL),
                 0);
    assert_text(atd_buf_str(&text), json_member_str(json, "string_to_sign"), record->name,
                "string to sign");
    check_signature(record, atd_buf_str(&text));
}

static void check_authorization(const struct record *record)
{
    atd_auto_buf struct atd_buf value = ATD_BUF_INIT(TEXT_MAX);
    char expected[2048];
    struct atd_str signed_headers = json_member_str(record->json, "signed_headers");
    struct atd_str signature = json_member_str(record->json, "signature");

    (void)snprintf(expected, sizeof(expected),
                   "AWS4-HMAC-SHA256 Credential=%s/%.8s/%.*s/%.*s/aws4_request, "
                   "SignedHeaders=%.*s, Signature=%.*s",
                   record->credential.access_key_id, record->request.time,
                   (int)record->request.region.len, record->request.region.ptr,
                   (int)record->request.service.len, record->request.service.ptr,
                   (int)signed_headers.len, signed_headers.ptr, (int)signature.len, signature.ptr);
    cr_assert_eq(atd_sigv4_authorization(&record->request, &record->credential, &value, NULL), 0);
    assert_text(atd_buf_str(&value), atd_str_from(expected), record->name, "authorization");
}

/* The query without what the signer adds; *ret_expires_s is what it says. */
static void strip_query(struct atd_str query, struct atd_buf *out, unsigned *ret_expires_s)
{
    while (query.len) {
        ptrdiff_t end = atd_str_find(query, '&');
        struct atd_str pair = atd_str_head(query, end < 0 ? query.len : (size_t)end);

        if (atd_str_starts_with(pair, ATD_STR("X-Amz-Expires=")))
            *ret_expires_s = (unsigned)strtoul(pair.ptr + 14, NULL, 10);
        if (!atd_str_starts_with(pair, ATD_STR("X-Amz-"))) {
            if (out->len)
                atd_buf_append_byte(out, '&');
            atd_buf_append_str(out, pair);
        }
        query = atd_str_from_byte(query, pair.len + (end >= 0));
    }
}

static void check_presign(const struct record *record)
{
    atd_auto_buf struct atd_buf other = ATD_BUF_INIT(TEXT_MAX);
    atd_auto_buf struct atd_buf query = ATD_BUF_INIT(TEXT_MAX);
    atd_auto_buf struct atd_buf expected = ATD_BUF_INIT(TEXT_MAX);
    struct atd_sigv4_request request = record->request;
    unsigned expires_s = 0;

    strip_query(record->request.query, &other, &expires_s);
    request.query = atd_buf_str(&other);
    if (atd_str_equal(request.payload_hash, ATD_STR(ATD_SIGV4_UNSIGNED)))
        request.payload_hash.len = 0;
    atd_buf_append_str(&expected, json_member_str(record->json, "canonical_query"));
    atd_buf_append_text(&expected, "&X-Amz-Signature=");
    atd_buf_append_str(&expected, json_member_str(record->json, "signature"));
    cr_assert_eq(atd_sigv4_presign(&request, &record->credential, expires_s, &query, NULL), 0);
    assert_text(atd_buf_str(&query), atd_buf_str(&expected), record->name, "query");
}

/* curl/test439 has a byte that is no text; JSON holds it as the character of that number. */
static void append_latin1(struct atd_str text, struct atd_buf *out)
{
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = (uint8_t)text.ptr[i];

        if (c >= 0xc2 && c <= 0xc3)
            atd_buf_append_byte(out, (uint8_t)((c << 6) | (text.ptr[++i] & 0x3f)));
        else
            atd_buf_append_byte(out, c);
    }
}

static bool has_query_pair(struct atd_str query, struct atd_str pair)
{
    while (query.len) {
        ptrdiff_t end = atd_str_find(query, '&');
        struct atd_str one = atd_str_head(query, end < 0 ? query.len : (size_t)end);

        if (atd_str_equal(one, pair))
            return true;
        query = atd_str_from_byte(query, one.len + (end >= 0));
    }
    return false;
}

/* Where a record has the raw forms, encoding them gives the canonical ones. Returns how many. */
static unsigned check_encoding(const struct record *record)
{
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(TEXT_MAX);
    struct atd_str raw_path = optional(record->json, "raw_path");
    struct atd_str key = optional(record->json, "object_key");
    json_t *query = json_object_get(record->json, "query");
    json_t *pair;
    size_t i;

    if (raw_path.ptr) {
        atd_uri_encode(raw_path, true, &out);
        assert_text(atd_buf_str(&out), record->request.canonical_uri, record->name, "path");
    }
    if (key.ptr) {
        atd_buf_clear(&out);
        atd_buf_append_byte(&out, '/');
        atd_uri_encode(key, true, &out);
        cr_assert(atd_str_ends_with(record->request.canonical_uri, atd_buf_str(&out)), "%s",
                  record->name);
    }
    json_array_foreach(query, i, pair)
    {
        atd_auto_buf struct atd_buf value = ATD_BUF_INIT(TEXT_MAX);

        atd_buf_clear(&out);
        atd_uri_encode(atd_str_from(json_string_value(json_array_get(pair, 0))), false, &out);
        atd_buf_append_byte(&out, '=');
        if (strcmp(record->name, "curl/test439") == 0)
            append_latin1(atd_str_from(json_string_value(json_array_get(pair, 1))), &value);
        else
            atd_buf_append_text(&value, json_string_value(json_array_get(pair, 1)));
        atd_uri_encode(atd_buf_str(&value), false, &out);
        cr_assert(has_query_pair(record->request.query, atd_buf_str(&out)), "%s: %.*s",
                  record->name, (int)out.len, (char *)out.ptr);
    }
    return raw_path.ptr || key.ptr;
}

/* sha256 of the body is the payload hash, where a record has both. */
static void check_body(const struct record *record)
{
    struct atd_str body = optional(record->json, "body");
    char hex[65];

    if (!body.ptr || record->request.payload_hash.len != 64)
        return;
    sha256_hex(body, hex);
    assert_text(atd_str_from(hex), record->request.payload_hash, record->name, "payload hash");
}

/* Chunks and trailers sign another text with the same key. */
static void check_stream(const json_t *json, bool is_chunk)
{
    struct record record;
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(TEXT_MAX);
    struct atd_str previous = json_member_str(json, "previous_signature");
    char hex[65];

    load_common(json, &record);
    atd_buf_printf(&text, "%s\n%s\n%.8s/%.*s/%.*s/aws4_request\n%.*s\n",
                   is_chunk ? "AWS4-HMAC-SHA256-PAYLOAD" : "AWS4-HMAC-SHA256-TRAILER",
                   record.request.time, record.request.time, (int)record.request.region.len,
                   record.request.region.ptr, (int)record.request.service.len,
                   record.request.service.ptr, (int)previous.len, previous.ptr);
    if (is_chunk) {
        /* "'a' * 65536" */
        struct atd_str chunk = json_member_str(json, "chunk");
        size_t len;
        char *bytes;

        cr_assert(atd_str_starts_with(chunk, ATD_STR("'a' * ")));
        len = strtoul(chunk.ptr + 6, NULL, 10);
        bytes = malloc(len ? len : 1);
        cr_assert_not_null(bytes);
        memset(bytes, 'a', len ? len : 1);
        sha256_hex((struct atd_str){bytes, len}, hex);
        free(bytes);
        assert_text(atd_str_from(hex), json_member_str(json, "chunk_sha256"), record.name,
                    "chunk's hash");
        atd_buf_append_text(&text, ATD_SIGV4_EMPTY_SHA256 "\n");
    } else {
        sha256_hex(json_member_str(json, "canonical_trailers"), hex);
    }
    atd_buf_append_text(&text, hex);
    assert_text(atd_buf_str(&text), json_member_str(json, "string_to_sign"), record.name,
                "string to sign");
    check_signature(&record, atd_buf_str(&text));
}

static void check_key(const json_t *json)
{
    uint8_t key[ATD_SIGV4_KEY_LEN];
    char hex[65];

    cr_assert_eq(atd_sigv4_signing_key(
                     json_member_str(json, "secret_access_key"), json_member_str(json, "date"),
                     json_member_str(json, "region"), json_member_str(json, "service"), key, NULL),
                 0);
    hex_of(key, sizeof(key), hex);
    assert_text(atd_str_from(hex), json_member_str(json, "signing_key_hex"),
                json_string_value(json_object_get(json, "name")), "key");
}

Test(sigv4, every_vector_at_every_level)
{
    json_t *root = load_json("vectors/sigv4.json");
    json_t *json;
    unsigned headers = 0, presigned = 0, chunks = 0, trailers = 0, keys = 0, policies = 0;
    unsigned encoded = 0;
    size_t i;

    json_array_foreach(json_object_get(root, "vectors"), i, json)
    {
        const char *kind = json_string_value(json_object_get(json, "kind"));
        struct record record;

        if (strcmp(kind, "header") == 0 || strcmp(kind, "presign") == 0) {
            load_request(json, &record);
            check_levels(&record);
            check_body(&record);
            encoded += check_encoding(&record);
            if (is_presign(&record)) {
                check_presign(&record);
                presigned++;
            } else {
                check_authorization(&record);
                headers++;
            }
        } else if (strcmp(kind, "chunk") == 0) {
            check_stream(json, true);
            chunks++;
        } else if (strcmp(kind, "trailer") == 0) {
            check_stream(json, false);
            trailers++;
        } else if (strcmp(kind, "signing_key") == 0) {
            check_key(json);
            keys++;
        } else if (strcmp(kind, "post_policy") == 0) {
            load_common(json, &record);
            check_signature(&record, json_member_str(json, "string_to_sign"));
            policies++;
        } else {
            cr_assert_fail("a kind of record that nothing checks: %s", kind);
        }
    }
    cr_assert_eq(headers, 86u, "%u", headers);
    cr_assert_eq(presigned, 47u, "%u", presigned);
    cr_assert_eq(chunks, 6u);
    cr_assert_eq(trailers, 2u);
    cr_assert_eq(keys, 2u);
    cr_assert_eq(policies, 1u);
    cr_assert_eq(headers + presigned + chunks + trailers + keys + policies,
                 (unsigned)json_integer_value(json_object_get(root, "count")));
    cr_assert_eq(encoded, 66u, "%u", encoded);
    json_decref(root);
}

Test(sigv4, the_order_of_headers_is_by_name_without_case)
{
    /* By line "a-b:" would come before "a:". */
    static const struct atd_http_header headers[] = {
        {{"A-b", 3}, {"2", 1}},
        {{"host", 4}, {"h", 1}},
        {{"a", 1}, {" x\t y ", 6}},
        {{"A", 1}, {"", 0}},
    };
    struct atd_sigv4_request request = {.method = "GET",
                                        .canonical_uri = ATD_STR("/"),
                                        .headers = headers,
                                        .header_count = ATD_ARRAY_LEN(headers),
                                        .payload_hash = ATD_STR("P")};
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(TEXT_MAX);
    atd_auto_buf struct atd_buf signed_headers = ATD_BUF_INIT(TEXT_MAX);

    cr_assert_eq(atd_sigv4_canonical_request(&request, &text, &signed_headers, NULL), 0);
    assert_text(atd_buf_str(&text), ATD_STR("GET\n/\n\na:x y,\na-b:2\nhost:h\n\na;a-b;host\nP"),
                "order", "canonical request");
}

Test(sigv4, a_presigned_query_is_sorted)
{
    static const struct atd_http_header host = {{"host", 4}, {"h", 1}};
    struct atd_sigv4_request request = {.method = "GET",
                                        .canonical_uri = ATD_STR("/"),
                                        .query = ATD_STR("b=&a=2&Z&a=1&a-=0"),
                                        .headers = &host,
                                        .header_count = 1,
                                        .region = ATD_STR("r"),
                                        .service = ATD_STR("s3"),
                                        .time = "20130524T000000Z"};
    static const struct atd_credential credential = {.access_key_id = "A",
                                                     .secret_access_key = "S"};
    atd_auto_buf struct atd_buf query = ATD_BUF_INIT(TEXT_MAX);

    cr_assert_eq(atd_sigv4_presign(&request, &credential, 1, &query, NULL), 0);
    cr_assert(
        strstr((char *)query.ptr, "&X-Amz-SignedHeaders=host&Z=&a=1&a=2&a-=0&b=&X-Amz-Signature="),
        "%s", (char *)query.ptr);
}

Test(sigv4, times)
{
    char text[ATD_SIGV4_TIME_LEN + 1];

    atd_sigv4_time(1369353600, text);
    cr_assert_str_eq(text, "20130524T000000Z");
    atd_sigv4_time(1709251198, text);
    cr_assert_str_eq(text, "20240229T235958Z");
    atd_sigv4_time(0, text);
    cr_assert_str_eq(text, "19700101T000000Z");
    atd_sigv4_time(INT64_MAX, text);
    cr_assert_str_eq(text, "19700101T000000Z");
    atd_sigv4_time(1000000000000, text);
    cr_assert_str_eq(text, "19700101T000000Z");
}

Test(sigv4, bounds)
{
    static const struct atd_http_header host = {{"host", 4}, {"h", 1}};
    struct atd_sigv4_request request = {.method = "GET",
                                        .canonical_uri = ATD_STR("/"),
                                        .headers = &host,
                                        .header_count = 1,
                                        .region = ATD_STR("r"),
                                        .service = ATD_STR("s3"),
                                        .time = "20130524T000000Z"};
    static struct atd_credential credential = {.access_key_id = "A", .secret_access_key = "S"};
    static char long_secret[ATD_CREDENTIAL_KEY_MAX + 1];
    char many[3 * 100] = "";
    char hex[65];
    struct atd_error err = ATD_ERROR_INIT;
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(TEXT_MAX);
    atd_auto_buf struct atd_buf small = ATD_BUF_INIT(100);

    cr_assert_eq(atd_sigv4_presign(&request, &credential, 0, &out, &err), -EINVAL);
    cr_assert_eq(atd_sigv4_presign(&request, &credential, ATD_SIGV4_EXPIRES_MAX + 1, &out, &err),
                 -EINVAL);
    cr_assert(strstr(err.text, "604800"), "%s", err.text);
    cr_assert_eq(atd_sigv4_presign(&request, &credential, ATD_SIGV4_EXPIRES_MAX, &out, &err), 0);
    cr_assert_eq(atd_sigv4_presign(&request, &credential, 1, &small, &err), -EFBIG);
    for (size_t i = 0; i < 100; i++)
        memcpy(many + 3 * i, "a=&", 3);
    request.query = (struct atd_str){many, 299};
    cr_assert_eq(atd_sigv4_presign(&request, &credential, 1, &out, &err), -EINVAL);
    memset(long_secret, 'x', sizeof(long_secret));
    cr_assert_eq(atd_sigv4_signature(&request, ATD_STR("x"),
                                     (struct atd_str){long_secret, sizeof(long_secret)}, hex, &err),
                 -EINVAL);
    cr_assert_null(strstr(err.text, "xxx"));
}

/* The longest token that is allowed passes, signed and presigned. */
Test(sigv4, long_tokens)
{
    static struct atd_credential credential = {.access_key_id = "A", .secret_access_key = "S"};
    struct atd_http_header headers[] = {{ATD_STR("host"), ATD_STR("h")},
                                        {ATD_STR("x-amz-security-token"), {NULL, 0}}};
    struct atd_sigv4_request request = {.method = "GET",
                                        .canonical_uri = ATD_STR("/"),
                                        .headers = headers,
                                        .header_count = 2,
                                        .region = ATD_STR("r"),
                                        .service = ATD_STR("s3"),
                                        .time = "20130524T000000Z"};
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(TEXT_MAX);

    memset(credential.session_token, '/', sizeof(credential.session_token) - 1);
    headers[1].value = atd_str_from(credential.session_token);
    cr_assert_eq(atd_sigv4_authorization(&request, &credential, &out, NULL), 0);
    request.header_count = 1;
    cr_assert_eq(atd_sigv4_presign(&request, &credential, 60, &out, NULL), 0);
}

/* No assertion on time: the machine is shared. Says what a signature costs. */
Test(sigv4, cost)
{
    json_t *root = load_json("vectors/sigv4.json");
    json_t *json;
    size_t i;
    static struct record record;
    clock_t start;

    json_array_foreach(json_object_get(root, "vectors"), i,
                       json) if (strcmp(json_string_value(json_object_get(json, "name")),
                                        "botocore/token-range-get") == 0)
        load_request(json, &record);
    cr_assert_not_null(record.name);
    start = clock();
    for (unsigned n = 0; n < 10000; n++) {
        atd_auto_buf struct atd_buf value = ATD_BUF_INIT(TEXT_MAX);

        cr_assert_eq(atd_sigv4_authorization(&record.request, &record.credential, &value, NULL), 0);
    }
    (void)fprintf(stderr, "a signature takes %.1f us of the processor\n",
                  (double)(clock() - start) * 1e6 / CLOCKS_PER_SEC / 10000);
    json_decref(root);
}

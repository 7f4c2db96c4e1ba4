/* Whole requests of botocore, made again. */
#include "base/check.h"
#include "base/cleanup.h"
#include "net/sigv4.h"
#include "s3_messages.h"
#include "vectors.h"

/* A request of botocore, made again. */
struct again {
    const json_t *json;
    const char *name;
    const char *url;
    struct atd_s3_site site;
    struct atd_s3_request request;
    struct atd_str region;
    struct atd_credential credential;
};

static void copy_text(const json_t *json, const char *key, char *to, size_t size)
{
    const char *text = json_string_value(json_object_get(json, key));

    cr_assert_lt((size_t)snprintf(to, size, "%s", text ? text : ""), size);
}

static void load_headers(struct again *again)
{
    const json_t *pair;
    size_t i;

    json_array_foreach(json_object_get(again->json, "headers"), i, pair)
    {
        const char *name = json_string_value(json_array_get(pair, 0));
        const char *value = json_string_value(json_array_get(pair, 1));
        unsigned long long first, last;

        if (strcmp(name, "if-match") == 0)
            again->request.if_match = atd_str_from(value);
        if (strcmp(name, "range") != 0)
            continue;
        cr_assert_eq(sscanf(value, "bytes=%llu-%llu", &first, &last), 2);
        again->request.has_range = true;
        again->request.first_byte = first;
        again->request.last_byte = last;
    }
}

/* False for what is not made here: no GET, or of something else than an object or a list. */
static bool load_again(const json_t *json, struct again *again)
{
    bool is_list;
    char endpoint[300];

    memset(again, 0, sizeof(*again));
    again->json = json;
    again->name = json_string_value(json_object_get(json, "name"));
    again->url = json_string_value(json_object_get(json, "request_url"));
    is_list = strcmp(again->name, "botocore/listv2-token") == 0;
    if (strcmp(json_string_value(json_object_get(json, "method")), "GET") != 0 ||
        (!json_is_string(json_object_get(json, "object_key")) && !is_list))
        return false;
    (void)snprintf(endpoint, sizeof(endpoint), "%s://%s", again->url[4] == 's' ? "https" : "http",
                   json_string_value(json_object_get(json, "host")));
    again->site =
        site_of(strstr(again->url, ".amazonaws.com") ? NULL : endpoint, ATD_S3_STYLE_AUTO);
    again->region = json_member_str(json, "region");
    copy_text(json, "access_key_id", again->credential.access_key_id, ATD_CREDENTIAL_KEY_MAX);
    copy_text(json, "secret_access_key", again->credential.secret_access_key,
              ATD_CREDENTIAL_KEY_MAX);
    copy_text(json, "session_token", again->credential.session_token, ATD_CREDENTIAL_TOKEN_MAX);
    again->request.bucket = strcmp(again->name, "botocore/dotted-bucket") == 0
                                ? ATD_STR("my.dotted.bucket")
                                : ATD_STR("my-bucket");
    load_headers(again);
    if (!is_list) {
        again->request.key = json_member_str(json, "object_key");
        return true;
    }
    again->request.operation = ATD_S3_LIST;
    again->request.prefix = ATD_STR("a");
    again->request.start_after = ATD_STR("a b");
    again->request.continuation_token = ATD_STR("1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=");
    return true;
}

static void check_presigned(const struct again *again)
{
    atd_auto_buf struct atd_buf url = ATD_BUF_INIT(1u << 16);
    atd_auto_buf struct atd_buf expected = ATD_BUF_INIT(1u << 16);
    unsigned expires_s = (unsigned)json_integer_value(json_object_get(again->json, "expires"));
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_s3_presign(&again->site, again->request.bucket, again->request.key,
                                again->region, &again->credential, NOW, expires_s, &url, &err),
                 0, "%s: %s", again->name, err.text);
    /* botocore's own order of the parameters differs; the signature does not. */
    atd_buf_append(&expected, again->url, strcspn(again->url, "?") + 1);
    atd_buf_append_str(&expected, json_member_str(again->json, "canonical_query"));
    atd_buf_append_text(&expected, "&X-Amz-Signature=");
    atd_buf_append_str(&expected, json_member_str(again->json, "signature"));
    cr_assert_str_eq((char *)url.ptr, (char *)expected.ptr, "%s", again->name);
}

static void check_signed(const struct again *again)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
    struct atd_http_message message;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_s3_request_build(&again->site, &again->request, again->region,
                                      &again->credential, NOW, &arena, &message, &err),
                 0, "%s: %s", again->name, err.text);
    if (again->request.operation != ATD_S3_LIST)
        cr_assert_str_eq(message.url, again->url, "%s", again->name);
    cr_assert(atd_str_ends_with(header(&message, "authorization"),
                                json_member_str(again->json, "signature")),
              "%s", again->name);
    cr_assert(
        atd_str_equal(header(&message, "x-amz-date"), json_member_str(again->json, "timestamp")));
    cr_assert(
        atd_str_equal(header(&message, "x-amz-content-sha256"), ATD_STR(ATD_SIGV4_EMPTY_SHA256)));
    cr_assert(atd_str_equal(header(&message, "x-amz-security-token"),
                            atd_str_from(again->credential.session_token)));
    /* libcurl sends it. */
    cr_assert_null(header(&message, "host").ptr);
}

Test(s3_request_vectors, are_made_again)
{
    json_t *root = load_json("vectors/sigv4.json");
    json_t *json;
    unsigned gets = 0, presigned = 0;
    size_t i;

    json_array_foreach(json_object_get(root, "vectors"), i, json)
    {
        const char *kind = json_string_value(json_object_get(json, "kind"));
        static struct again again;

        if (strncmp(json_string_value(json_object_get(json, "name")), "botocore/", 9) != 0 ||
            !load_again(json, &again))
            continue;
        if (strcmp(kind, "presign") == 0) {
            check_presigned(&again);
            presigned++;
        } else {
            check_signed(&again);
            gets++;
        }
    }
    cr_assert_eq(gets, 18u, "%u", gets);
    cr_assert_eq(presigned, 11u, "%u", presigned);
    json_decref(root);
}

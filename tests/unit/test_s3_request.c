#include "net/s3_request.h"

#include <errno.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "net/sigv4.h"
#include "s3_messages.h"

Test(s3_request, endpoints)
{
    static const struct {
        const char *endpoint, *host, *path;
        bool https, is_aws;
        enum atd_s3_style style; /* when AUTO was asked */
    } cases[] = {
        {"http://127.0.0.1:9000", "127.0.0.1:9000", "", false, false, ATD_S3_STYLE_PATH},
        {"HTTP://Minio:80/", "minio", "", false, false, ATD_S3_STYLE_PATH},
        {"https://minio:443//", "minio", "", true, false, ATD_S3_STYLE_PATH},
        {"https://minio:80", "minio:80", "", true, false, ATD_S3_STYLE_PATH},
        {"http://minio:0443", "minio:443", "", false, false, ATD_S3_STYLE_PATH},
        {"http://minio:", "minio", "", false, false, ATD_S3_STYLE_PATH},
        {"https://x.supabase.co/storage/v1/s3/", "x.supabase.co", "/storage/v1/s3", true, false,
         ATD_S3_STYLE_PATH},
        {"https://h/a+b%7e%20c", "h", "/a%2Bb~%20c", true, false, ATD_S3_STYLE_PATH},
        {"http://[::1]:9000", "[::1]:9000", "", false, false, ATD_S3_STYLE_PATH},
        {"http://[0:0:0::1]", "[::1]", "", false, false, ATD_S3_STYLE_PATH},
        {"http://[FE80:0::00A]:80", "[fe80::a]", "", false, false, ATD_S3_STYLE_PATH},
        {"http://3f2b1c:9000", "3f2b1c:9000", "", false, false, ATD_S3_STYLE_PATH},
        {"https://id.r2.cloudflarestorage.com", "id.r2.cloudflarestorage.com", "", true, false,
         ATD_S3_STYLE_PATH},
        {"https://s3.amazonaws.com", "", "", true, true, ATD_S3_STYLE_AUTO},
        {"https://s3.eu-west-1.amazonaws.com/", "", "", true, true, ATD_S3_STYLE_AUTO},
        {"https://s3.cn-north-1.amazonaws.com.cn", "", "", true, true, ATD_S3_STYLE_AUTO},
        {"https://s3.dualstack.eu-west-1.amazonaws.com", "s3.dualstack.eu-west-1.amazonaws.com", "",
         true, false, ATD_S3_STYLE_VIRTUAL},
        {"https://s3.amazonaws.com.evil.example", "s3.amazonaws.com.evil.example", "", true, false,
         ATD_S3_STYLE_PATH},
        {NULL, "", "", true, true, ATD_S3_STYLE_AUTO},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        struct atd_s3_site site = site_of(cases[i].endpoint, ATD_S3_STYLE_AUTO);

        cr_assert_str_eq(site.host, cases[i].host, "%s: %s", cases[i].endpoint, site.host);
        cr_assert_str_eq(site.path, cases[i].path, "%s: %s", cases[i].endpoint, site.path);
        cr_assert_eq(site.https, cases[i].https, "%s", cases[i].endpoint);
        cr_assert_eq(site.is_aws, cases[i].is_aws, "%s", cases[i].endpoint);
        cr_assert_eq(site.style, cases[i].style, "%s", cases[i].endpoint);
        site = site_of(cases[i].endpoint, ATD_S3_STYLE_PATH);
        cr_assert_eq(site.style, ATD_S3_STYLE_PATH, "%s", cases[i].endpoint);
        site = site_of(cases[i].endpoint, ATD_S3_STYLE_VIRTUAL);
        cr_assert_eq(site.style, ATD_S3_STYLE_VIRTUAL, "%s", cases[i].endpoint);
    }
}

Test(s3_request, endpoints_that_are_refused)
{
    static const char *const cases[] = {
        "",
        "minio:9000",
        "s3://bucket",
        "http://",
        "http://:9000",
        "http:///x",
        "https://user:geheim@minio",
        "https://minio?secret=geheim",
        "https://minio/#geheim",
        "http://mi nio",
        "http://minio/a b",
        "http://minio\r\nx: y",
        "http://mi\xc3\xb1io",
        "http://minio:65536",
        "http://minio:0",
        "http://minio:9a",
        "http://minio:-1",
        "http://127.1:9000",
        "http://0x7f.1",
        "http://2130706433",
        "http://[::1",
        "http://::1",
        "http://[::1%25eth0]",
        "http://[]",
        "http://[127.0.0.1]",
        "http://minio.",
        "http://.minio",
        "http://a..b",
        "http://minio/a/../b",
        "http://minio/%2e%2E/b",
        "http://minio/%zz",
        "http://minio/%4",
        "https://s3express-use1-az4.us-east-1.amazonaws.com",
    };
    char long_host[400] = "http://";

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        struct atd_error err = ATD_ERROR_INIT;
        struct atd_s3_site site = {.https = false, .path = "untouched"};

        cr_assert_eq(atd_s3_site_init(&site, cases[i], ATD_S3_STYLE_AUTO, &err), -EINVAL, "%s",
                     cases[i]);
        cr_assert(err.text[0] && !strstr(err.text, "geheim"), "%s", err.text);
        cr_assert_str_eq(site.path, "untouched");
    }
    memset(long_host + 7, 'a', 300);
    for (size_t len = 240; len < 300; len++) {
        struct atd_s3_site site;

        long_host[7 + len] = '\0';
        if (atd_s3_site_init(&site, long_host, ATD_S3_STYLE_AUTO, NULL) == 0)
            cr_assert_str_eq(site.host, long_host + 7);
        long_host[7 + len] = 'a';
    }
    memset(long_host + 8, '/', 300);
    memset(long_host + 9, '+', 200);
    cr_assert_eq(
        atd_s3_site_init(&(struct atd_s3_site){.https = false}, long_host, ATD_S3_STYLE_AUTO, NULL),
        -EINVAL);
}

Test(s3_request, where_a_bucket_is)
{
    static const struct {
        const char *endpoint;
        enum atd_s3_style style;
        const char *bucket, *region, *url;
    } cases[] = {
        {NULL, 0, "bucket", "eu-west-1", "https://bucket.s3.eu-west-1.amazonaws.com/k"},
        {NULL, 0, "bucket", "", "https://bucket.s3.us-east-1.amazonaws.com/k"},
        {NULL, 0, "bucket", "cn-north-1", "https://bucket.s3.cn-north-1.amazonaws.com.cn/k"},
        {NULL, 0, "a.b", "eu-west-1", "https://s3.eu-west-1.amazonaws.com/a.b/k"},
        {NULL, 0, "My-Bucket", "eu-west-1", "https://s3.eu-west-1.amazonaws.com/My-Bucket/k"},
        {NULL, 0, "my_bucket", "eu-west-1", "https://s3.eu-west-1.amazonaws.com/my_bucket/k"},
        {NULL, 0, "-bucket", "eu-west-1", "https://s3.eu-west-1.amazonaws.com/-bucket/k"},
        {NULL, 0, "ab", "eu-west-1", "https://s3.eu-west-1.amazonaws.com/ab/k"},
        {NULL, ATD_S3_STYLE_PATH, "bucket", "eu-west-1",
         "https://s3.eu-west-1.amazonaws.com/bucket/k"},
        {NULL, ATD_S3_STYLE_VIRTUAL, "a.b", "eu-west-1",
         "https://s3.eu-west-1.amazonaws.com/a.b/k"},
        {"http://s3.amazonaws.com", 0, "a.b", "eu-west-1",
         "http://a.b.s3.eu-west-1.amazonaws.com/k"},
        {"http://s3.amazonaws.com", 0, "a..b", "eu-west-1",
         "http://s3.eu-west-1.amazonaws.com/a..b/k"},
        {"https://s3.us-west-2.amazonaws.com", 0, "bucket", "eu-west-1",
         "https://bucket.s3.eu-west-1.amazonaws.com/k"},
        {"https://s3.dualstack.eu-west-1.amazonaws.com", 0, "bucket", "eu-west-1",
         "https://bucket.s3.dualstack.eu-west-1.amazonaws.com/k"},
        {"http://minio:9000", 0, "bucket", "", "http://minio:9000/bucket/k"},
        {"http://minio:9000", ATD_S3_STYLE_VIRTUAL, "bucket", "", "http://bucket.minio:9000/k"},
        {"http://minio:9000/x/y/", 0, "bucket", "", "http://minio:9000/x/y/bucket/k"},
        {"http://minio:9000/x/y/", ATD_S3_STYLE_VIRTUAL, "bucket", "",
         "http://bucket.minio:9000/x/y/k"},
        {"http://127.0.0.1:9000", ATD_S3_STYLE_VIRTUAL, "bucket", "",
         "http://127.0.0.1:9000/bucket/k"},
        {"http://[::1]:9000", ATD_S3_STYLE_VIRTUAL, "bucket", "", "http://[::1]:9000/bucket/k"},
        {"https://ceph", 0, "tenant:bucket", "default", "https://ceph/tenant%3Abucket/k"},
        {"https://ceph", 0, "b c", "zone_group.1", "https://ceph/b%20c/k"},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        struct atd_s3_site site = site_of(cases[i].endpoint, cases[i].style);
        struct atd_s3_request request = {
            .operation = ATD_S3_GET, .bucket = atd_str_from(cases[i].bucket), .key = ATD_STR("k")};
        atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
        struct atd_http_message message;
        struct atd_error err = ATD_ERROR_INIT;

        cr_assert_eq(atd_s3_request_build(&site, &request, atd_str_from(cases[i].region), NULL, NOW,
                                          &arena, &message, &err),
                     0, "%s", err.text);
        cr_assert_str_eq(message.url, cases[i].url, "%s", message.url);
        /* Nothing of Amazon's in an unsigned request. */
        cr_assert_eq(message.header_count, 0u);
    }
}

Test(s3_request, what_cannot_be_sent)
{
    static char long_key[1025];
    static const struct {
        struct atd_str bucket, key, region, etag;
    } cases[] = {
        {{"", 0}, {"k", 1}, {"r", 1}, {"", 0}},
        {{"a/b", 3}, {"k", 1}, {"r", 1}, {"", 0}},
        {{"a\0b", 3}, {"k", 1}, {"r", 1}, {"", 0}},
        {{".", 1}, {"k", 1}, {"r", 1}, {"", 0}},
        {{"..", 2}, {"k", 1}, {"r", 1}, {"", 0}},
        {{"b--use1-az4--x-s3", 17}, {"k", 1}, {"r", 1}, {"", 0}},
        {{long_key, 1025}, {"k", 1}, {"r", 1}, {"", 0}},
        {{"b", 1}, {"", 0}, {"r", 1}, {"", 0}},
        {{"b", 1}, {"a\0b", 3}, {"r", 1}, {"", 0}},
        {{"b", 1}, {long_key, 1025}, {"r", 1}, {"", 0}},
        {{"b", 1}, {"k", 1}, {"evil.example/", 13}, {"", 0}},
        {{"b", 1}, {"k", 1}, {"evil.example", 12}, {"", 0}},
        {{"b", 1}, {"k", 1}, {"a b", 3}, {"", 0}},
        {{"b", 1}, {"k", 1}, {long_key, 64}, {"", 0}},
        {{"b", 1}, {"k", 1}, {"r", 1}, {"\"a\"\r\nx: y", 9}},
    };
    struct atd_s3_site site = site_of(NULL, ATD_S3_STYLE_AUTO);

    memset(long_key, 'k', sizeof(long_key));
    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        struct atd_s3_request request = {.operation = ATD_S3_GET,
                                         .bucket = cases[i].bucket,
                                         .key = cases[i].key,
                                         .if_match = cases[i].etag};
        atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
        struct atd_http_message message = {.method = "untouched"};
        struct atd_error err = ATD_ERROR_INIT;

        cr_assert_eq(atd_s3_request_build(&site, &request, cases[i].region, NULL, NOW, &arena,
                                          &message, &err),
                     -EINVAL, "%zu", i);
        cr_assert(err.code == EINVAL && err.text[0]);
        cr_assert_str_eq(message.method, "untouched");
    }
}

/* At a custom endpoint a region is no part of a host, but of what is signed. */
Test(s3_request, regions_of_custom_endpoints)
{
    struct atd_s3_site site = site_of("http://h", ATD_S3_STYLE_AUTO);
    struct atd_s3_request request = {.bucket = ATD_STR("b"), .key = ATD_STR("k")};
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
    struct atd_http_message message;
    static const char *const good[] = {"", "auto", "Zone_Group.1", "us-east-1"};
    static const char *const bad[] = {"a/b", "a,b", "a\nb", "\xc3\xa9"};

    for (size_t i = 0; i < ATD_ARRAY_LEN(good); i++)
        cr_assert_eq(atd_s3_request_build(&site, &request, atd_str_from(good[i]), NULL, NOW, &arena,
                                          &message, NULL),
                     0, "%s", good[i]);
    for (size_t i = 0; i < ATD_ARRAY_LEN(bad); i++)
        cr_assert_eq(atd_s3_request_build(&site, &request, atd_str_from(bad[i]), NULL, NOW, &arena,
                                          &message, NULL),
                     -EINVAL, "%s", bad[i]);
}

Test(s3_request, the_longest_of_everything)
{
    static char text[4096];
    struct atd_s3_site site = site_of("https://minio", ATD_S3_STYLE_AUTO);
    struct atd_s3_request request = {.operation = ATD_S3_LIST,
                                     .bucket = {text, 1024},
                                     .prefix = {text, 1024},
                                     .start_after = {text, 1024},
                                     .continuation_token = {text, 4096},
                                     .max_keys = 1000};
    static struct atd_credential credential = {.access_key_id = "A", .secret_access_key = "S"};
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
    struct atd_http_message message;

    memset(text, ' ', sizeof(text));
    memset(credential.access_key_id, 'A', sizeof(credential.access_key_id) - 1);
    memset(credential.secret_access_key, 'S', sizeof(credential.secret_access_key) - 1);
    memset(credential.session_token, 'T', sizeof(credential.session_token) - 1);
    cr_assert_eq(atd_s3_request_build(&site, &request, ATD_STR("auto"), &credential, NOW, &arena,
                                      &message, NULL),
                 0);
    request.continuation_token.len++;
    cr_assert_eq(atd_s3_request_build(&site, &request, ATD_STR("auto"), &credential, NOW, &arena,
                                      &message, NULL),
                 -EINVAL);
}

static struct atd_credential credential_of(const char *token)
{
    struct atd_credential credential = {.access_key_id = "AKID", .secret_access_key = "geheim"};

    (void)snprintf(credential.session_token, sizeof(credential.session_token), "%s", token);
    return credential;
}

Test(s3_request, lists_and_heads)
{
    struct atd_s3_site site = site_of("http://h:9000", ATD_S3_STYLE_AUTO);
    struct atd_s3_request request = {.operation = ATD_S3_LIST,
                                     .bucket = ATD_STR("bucket"),
                                     .prefix = ATD_STR("a+b/\xc3\xa9"),
                                     .has_range = true,
                                     .max_keys = 7,
                                     .if_match = ATD_STR("\"x\"")};
    struct atd_credential credential = credential_of("tok\"en");
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
    struct atd_http_message message;

    cr_assert_eq(atd_s3_request_build(&site, &request, ATD_STR(""), &credential, NOW, &arena,
                                      &message, NULL),
                 0);
    cr_assert_str_eq(message.url, "http://h:9000/bucket?encoding-type=url&list-type=2&max-keys=7&"
                                  "prefix=a%2Bb%2F%C3%A9");
    cr_assert_str_eq(message.method, "GET");
    cr_assert_null(header(&message, "range").ptr);
    cr_assert_null(header(&message, "if-match").ptr);
    cr_assert(atd_str_starts_with(
        header(&message, "authorization"),
        ATD_STR(
            "AWS4-HMAC-SHA256 Credential=AKID/20240229/us-east-1/s3/aws4_request, SignedHeaders="
            "host;x-amz-content-sha256;x-amz-date;x-amz-security-token, Signature=")));

    request.operation = ATD_S3_HEAD;
    request.key = ATD_STR("a/../b");
    cr_assert_eq(
        atd_s3_request_build(&site, &request, ATD_STR(""), NULL, NOW, &arena, &message, NULL), 0);
    cr_assert_str_eq(message.method, "HEAD");
    cr_assert_str_eq(message.url, "http://h:9000/bucket/a/../b");
    cr_assert_eq(message.header_count, 1u);
    cr_assert(atd_str_equal(header(&message, "if-match"), ATD_STR("\"x\"")));

    request.operation = ATD_S3_GET;
    request.first_byte = 1;
    cr_assert_eq(
        atd_s3_request_build(&site, &request, ATD_STR(""), NULL, NOW, &arena, &message, NULL),
        -EINVAL);
    request.last_byte = UINT64_MAX;
    cr_assert_eq(
        atd_s3_request_build(&site, &request, ATD_STR(""), NULL, NOW, &arena, &message, NULL), 0);
    cr_assert(atd_str_equal(header(&message, "range"), ATD_STR("bytes=1-18446744073709551615")));

    site = site_of(NULL, ATD_S3_STYLE_AUTO);
    request = (struct atd_s3_request){.operation = ATD_S3_LIST, .bucket = ATD_STR("bucket")};
    cr_assert_eq(atd_s3_request_build(&site, &request, ATD_STR("eu-west-1"), NULL, NOW, &arena,
                                      &message, NULL),
                 0);
    cr_assert_str_eq(message.url,
                     "https://bucket.s3.eu-west-1.amazonaws.com/?encoding-type=url&list-type=2");
}

/* Signed: over a wire without TLS. This machine's own loop is none, if a checksum goes along. */
Test(s3_request, which_bodies_are_signed)
{
    static const struct {
        const char *endpoint;
        bool checksum, is_signed;
    } cases[] = {
        {"https://minio", true, false},
        {"https://minio", false, false},
        {"http://minio:9000", true, true},
        {"http://10.0.0.1", true, true},
        {"http://localhost:9000", true, false},
        {"http://localhost:9000", false, true},
        {"http://127.0.0.1:9000", true, false},
        {"http://127.1.2.3", true, false},
        {"http://[::1]:9000", true, false},
        {"http://localhost.evil.example", true, true},
        {"http://127.0.0.1.example", true, true},
        {"http://128.0.0.1", true, true},
        {"http://[::2]", true, true},
    };
    struct atd_credential credential = credential_of("secret");

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct atd_s3_site site = site_of(cases[i].endpoint, ATD_S3_STYLE_AUTO);
        struct atd_s3_request request = {
            .operation = ATD_S3_PUT,
            .bucket = ATD_STR("bucket"),
            .key = ATD_STR("k"),
            .body = {(const uint8_t *)"abc", 3},
            .crc32c_base64 = atd_str_from(cases[i].checksum ? "yZRlqg==" : ""),
        };
        atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
        struct atd_http_message message;

        cr_assert_eq(atd_s3_signs_payload(&site, &request), cases[i].is_signed, "%s",
                     cases[i].endpoint);
        cr_assert_eq(atd_s3_request_build(&site, &request, ATD_STR(""), &credential, NOW, &arena,
                                          &message, NULL),
                     0);
        cr_assert_eq(
            atd_str_equal(header(&message, "x-amz-content-sha256"), ATD_STR(ATD_SIGV4_UNSIGNED)),
            !cases[i].is_signed, "%s", cases[i].endpoint);
        request.sign_payload = true;
        cr_assert(atd_s3_signs_payload(&site, &request));
    }
}

Test(s3_request, secrets_and_their_bounds)
{
    struct atd_s3_site site = site_of("http://h", ATD_S3_STYLE_AUTO);
    struct atd_s3_request request = {.bucket = ATD_STR("bucket"), .key = ATD_STR("k")};
    struct atd_credential credential = credential_of("geheim\r\nx: y");
    struct atd_arena small = ATD_ARENA_INIT(64);
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
    atd_auto_buf struct atd_buf url = ATD_BUF_INIT(1u << 16);
    struct atd_http_message message;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_s3_request_build(&site, &request, ATD_STR("r"), &credential, NOW, &arena,
                                      &message, &err),
                 -EINVAL);
    cr_assert_null(strstr(err.text, "geheim"));
    credential = credential_of("");
    cr_assert_eq(atd_s3_request_build(&site, &request, ATD_STR("r"), &credential, NOW, &small,
                                      &message, &err),
                 -ENOMEM);
    atd_arena_release(&small);
    credential.access_key_id[0] = '\0';
    cr_assert_eq(atd_s3_request_build(&site, &request, ATD_STR("r"), &credential, NOW, &arena,
                                      &message, &err),
                 -EINVAL);
    cr_assert_eq(
        atd_s3_presign(&site, request.bucket, request.key, ATD_STR("r"), NULL, NOW, 60, &url, &err),
        -EINVAL);
}

/* A URL does not claim to live longer than the credential it was made with. */
Test(s3_request, presigned_for_no_longer_than_the_credential)
{
    struct atd_s3_site site = site_of("http://h", ATD_S3_STYLE_AUTO);
    struct atd_credential credential = credential_of("");
    static const struct {
        int64_t credential_expires_s;
        const char *expires;
    } cases[] = {
        {0, "&X-Amz-Expires=3600&"},
        {NOW + 3600, "&X-Amz-Expires=3600&"},
        {NOW + 3599, "&X-Amz-Expires=3599&"},
        {NOW + 1, "&X-Amz-Expires=1&"},
        {NOW, NULL},
        {NOW - 100, NULL},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        atd_auto_buf struct atd_buf url = ATD_BUF_INIT(1u << 16);
        int rc;

        credential.expires_s = cases[i].credential_expires_s;
        rc = atd_s3_presign(&site, ATD_STR("bucket"), ATD_STR("k"), ATD_STR("r"), &credential, NOW,
                            3600, &url, NULL);
        cr_assert_eq(rc, cases[i].expires ? 0 : -EINVAL);
        if (cases[i].expires)
            cr_assert(strstr((char *)url.ptr, cases[i].expires), "%s", (char *)url.ptr);
    }
}

Test(s3_request, encoding)
{
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(4096);
    char all[256];

    for (unsigned i = 0; i < 256; i++)
        all[i] = (char)i;
    atd_uri_encode((struct atd_str){all, 256}, false, &out);
    /* 66 stay as they are. */
    cr_assert_eq(out.len, 66u + 3 * 190);
    atd_buf_clear(&out);
    atd_uri_encode((struct atd_str){all, 256}, true, &out);
    cr_assert_eq(out.len, 67u + 3 * 189);
}

/* Writing to S3: requests that are signed, the XML of uploads, and what errors mean then. */
#include <errno.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "net/s3_reply.h"
#include "net/sigv4.h"
#include "s3_messages.h"
#include "vectors.h"

#define ARENA_MAX (4u << 20)

static struct atd_bytes bytes_of(const char *text)
{
    return (struct atd_bytes){(const uint8_t *)text, strlen(text)};
}

static const struct atd_credential credential = {
    .access_key_id = "AKIAIOSFODNN7EXAMPLE",
    .secret_access_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
};

static void build(const struct atd_s3_site *site, const struct atd_s3_request *request,
                  const char *region, struct atd_arena *arena, struct atd_http_message *message)
{
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_s3_request_build(site, request, atd_str_from(region), &credential, NOW, arena,
                                      message, &err),
                 0, "%s", err.text);
}

/* ------------------------------------------------------------------ requests */

#define COMPLETE                                                                             \
    "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Part>"      \
    "<PartNumber>1</PartNumber><ETag>\"e1\"</ETag><ChecksumCRC32C>mnG7TA==</ChecksumCRC32C>" \
    "</Part></CompleteMultipartUpload>"

/* Everything at once: each operation takes what is its own. */
static struct atd_s3_request everything(enum atd_s3_operation operation)
{
    return (struct atd_s3_request){
        .operation = operation,
        .bucket = ATD_STR("my-bucket"),
        .key = ATD_STR("a b/\xc3\xa9.tar"),
        .prefix = ATD_STR("a b/\xc3\xa9"),
        .key_marker = ATD_STR("a b/+"),
        .upload_id_marker = ATD_STR("x/y"),
        .max_keys = 7,
        .wants_checksum = true,
        .body = bytes_of(operation == ATD_S3_COMPLETE_UPLOAD ? COMPLETE : "hello"),
        .sign_payload = true,
        .crc32c_base64 = ATD_STR("mnG7TA=="),
        .if_none_match = true,
        .content_type = ATD_STR("application/x-tar"),
        .wants_crc32c = true,
        .upload_id = ATD_STR("a+b/c=~."),
        .part_number = 10000,
    };
}

/* Signed by botocore 1.43.117, its clock stopped at NOW, in eu-central-1. */
static const struct {
    enum atd_s3_operation operation;
    const char *method, *query;
    const char *of_aws;      /* at my-bucket.s3.eu-central-1.amazonaws.com */
    const char *of_endpoint; /* at http://h:9000 */
} signatures[] = {
    {ATD_S3_CREATE_UPLOAD, "POST",
     "?uploads=", "0e315c6469bc22c9c7153bdf178ba83032719368f3b057aba3eb0596e5ccac4c",
     "032c999ae17545229f865b8e83703b3ced0c9b7816cdd8bc23a5e462b24a8511"},
    {ATD_S3_UPLOAD_PART, "PUT", "?partNumber=10000&uploadId=a%2Bb%2Fc%3D~.",
     "f8c52597c6bf5717c00117bf9c40cfba3b4de2992d564a5e15aa98d4e10b0809",
     "a1933509118bf4cd3fdd65cb87f46dc58dee600e7ac153689fbbcdeddb9caca0"},
    {ATD_S3_COMPLETE_UPLOAD, "POST", "?uploadId=a%2Bb%2Fc%3D~.",
     "1ed3584584c04face0055514f8a6d51301320786c9e0637cb0b5273f40bba75d",
     "1e01491417ce7a2468babbd42b4aa013f1b9fd59043fe61caa5b800b574b9fb4"},
    {ATD_S3_ABORT_UPLOAD, "DELETE", "?uploadId=a%2Bb%2Fc%3D~.",
     "511a1f046455b1ee75d6c6f020c8c8dbb9c442fc9b9be44de0f3fe180ce5dec0",
     "db7ddca0e069cd43622f07a29047c6afcaa479b1464f42f59b9f811e17d50e31"},
    {ATD_S3_PUT, "PUT", "", "5ceb1326d847dab29fb33a21399e8eb2d4a3fc6dd60579f23e7e92a1f2d0464d",
     "7374fa152a32c287d9b7521befe9c20b2059a095cdfe29885c7ccaa0ad5eef44"},
    {ATD_S3_DELETE, "DELETE", "",
     "5dbaa95d5738626ae47706b4a74d701c7c8aa8b28757945d5488adf614f127c0",
     "54f6e606db7aef471ddeb66773532246e112bd33c386841cadd2abedf5a65123"},
    {ATD_S3_HEAD, "HEAD", "", "9302e79247b1217f73ac22f8af34e1958c3edc7fb63708451c02323929e1b9e5",
     "463a97538470a391aaf536c2038ca8f0dc323ba7930a208c2e2b63a20747de48"},
    {ATD_S3_LIST_UPLOADS, "GET",
     "?encoding-type=url&key-marker=a%20b%2F%2B&max-uploads=7&prefix=a%20b%2F%C3%A9&upload-id-"
     "marker=x%2Fy&uploads=",
     "ccae98a1b1f49bc97e0d602f825d9f0c55e2fb8c8f1b6d907e5f2672b0ba1fa8",
     "f5727d80aecc101a2a1340d69d63ac00d03206267012441c21eb5cffaab95cf5"},
};

Test(s3_write, requests_as_botocore_signs_them)
{
    for (size_t i = 0; i < 2 * ATD_ARRAY_LEN(signatures); i++) {
        size_t at = i / 2;
        bool aws = i % 2;
        struct atd_s3_site site = site_of(aws ? NULL : "http://h:9000", ATD_S3_STYLE_AUTO);
        struct atd_s3_request request = everything(signatures[at].operation);
        bool of_bucket = request.operation == ATD_S3_LIST_UPLOADS;
        atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
        struct atd_http_message message;
        char url[300];

        request.sign_payload = aws; /* over http it is signed anyway */
        build(&site, &request, "eu-central-1", &arena, &message);
        (void)snprintf(url, sizeof(url), "%s%s%s%s",
                       aws ? "https://my-bucket.s3.eu-central-1.amazonaws.com"
                           : "http://h:9000/my-bucket",
                       of_bucket && !aws ? "" : "/", of_bucket ? "" : "a%20b/%C3%A9.tar",
                       signatures[at].query);
        cr_assert_str_eq(message.url, url, "%s", message.url);
        cr_assert_str_eq(message.method, signatures[at].method);
        cr_assert(atd_str_ends_with(
                      header(&message, "authorization"),
                      atd_str_from(aws ? signatures[at].of_aws : signatures[at].of_endpoint)),
                  "%s %s", message.method, message.url);
        cr_assert_eq(message.body.len > 0, request.operation == ATD_S3_PUT ||
                                               request.operation == ATD_S3_UPLOAD_PART ||
                                               request.operation == ATD_S3_COMPLETE_UPLOAD);
    }
}

/* The vectors that write: their key, body and hash. */
static bool load_vector(const json_t *json, struct atd_s3_request *request)
{
    const char *name = json_string_value(json_object_get(json, "name"));
    const char *body = json_string_value(json_object_get(json, "body"));

    memset(request, 0, sizeof(*request));
    if (strncmp(name, "botocore/vhost-put-", 19) == 0 || strcmp(name, "botocore/unsigned-put") == 0)
        request->operation = ATD_S3_PUT;
    else if (strcmp(name, "botocore/put-if-none-match") == 0)
        request->operation = ATD_S3_PUT;
    else if (strcmp(name, "botocore/complete-mpu") == 0)
        request->operation = ATD_S3_COMPLETE_UPLOAD;
    else if (strcmp(name, "botocore/abort-mpu") == 0)
        request->operation = ATD_S3_ABORT_UPLOAD;
    else
        return false;
    request->bucket = ATD_STR("my-bucket");
    request->key = json_member_str(json, "object_key");
    request->upload_id = ATD_STR("abc");
    request->body = bytes_of(body ? body : "");
    request->sign_payload = strcmp(name, "botocore/unsigned-put") != 0;
    request->if_none_match =
        strstr(json_string_value(json_object_get(json, "signed_headers")), "if-none-match");
    return true;
}

Test(s3_write, vectors_of_botocore)
{
    json_t *root = load_json("vectors/sigv4.json");
    struct atd_s3_site site = site_of(NULL, ATD_S3_STYLE_AUTO);
    json_t *json;
    unsigned count = 0;
    size_t i;

    json_array_foreach(json_object_get(root, "vectors"), i, json)
    {
        struct atd_s3_request request;
        atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
        struct atd_http_message message;

        if (!load_vector(json, &request))
            continue;
        count++;
        build(&site, &request, json_string_value(json_object_get(json, "region")), &arena,
              &message);
        cr_assert_str_eq(message.url, json_string_value(json_object_get(json, "request_url")));
        cr_assert_str_eq(message.method, json_string_value(json_object_get(json, "method")));
        cr_assert(atd_str_equal(header(&message, "x-amz-content-sha256"),
                                json_member_str(json, "payload_hash")));
        cr_assert(atd_str_ends_with(header(&message, "authorization"),
                                    json_member_str(json, "signature")),
                  "%s", message.url);
    }
    cr_assert_eq(count, 16u, "%u", count);
    json_decref(root);
}

static struct atd_str hash_of(const char *endpoint, struct atd_s3_request request,
                              struct atd_arena *arena)
{
    struct atd_s3_site site = site_of(endpoint, ATD_S3_STYLE_AUTO);
    struct atd_http_message message;

    build(&site, &request, "auto", arena, &message);
    return header(&message, "x-amz-content-sha256");
}

Test(s3_write, what_is_signed_of_a_body)
{
    static const char given[] = "00000000000000000000000000000000000000000000000000000000000000ff";
    static const struct atd_str hello = {
        "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", 64};
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
    struct atd_s3_request put = everything(ATD_S3_PUT);
    struct atd_s3_request complete = everything(ATD_S3_COMPLETE_UPLOAD);

    cr_assert(atd_str_equal(hash_of("https://h", put, &arena), hello));
    put.sign_payload = false;
    complete.sign_payload = false;
    cr_assert(atd_str_equal(hash_of("http://h", put, &arena), hello));
    cr_assert(atd_str_equal(hash_of("https://h", put, &arena), ATD_STR(ATD_SIGV4_UNSIGNED)));
    cr_assert_eq(hash_of("https://h", complete, &arena).len, 64u);
    put.payload_sha256_hex = given;
    cr_assert(atd_str_equal(hash_of("http://h", put, &arena), atd_str_from(given)));
    cr_assert(atd_str_equal(hash_of("https://h", put, &arena), atd_str_from(given)));
    put.payload_sha256_hex = NULL;
    put.body.len = 0;
    cr_assert(atd_str_equal(hash_of("https://h", put, &arena), ATD_STR(ATD_SIGV4_EMPTY_SHA256)));
}

Test(s3_write, unsigned_requests_have_nothing_but_what_was_asked)
{
    struct atd_s3_site site = site_of("https://h", ATD_S3_STYLE_AUTO);
    struct atd_s3_request request = everything(ATD_S3_PUT);
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
    struct atd_http_message message;

    cr_assert_eq(
        atd_s3_request_build(&site, &request, ATD_STR(""), NULL, NOW, &arena, &message, NULL), 0);
    cr_assert_eq(message.header_count, 3u);
    cr_assert(atd_str_equal(header(&message, "if-none-match"), ATD_STR("*")));
    cr_assert(atd_str_equal(header(&message, "x-amz-checksum-crc32c"), ATD_STR("mnG7TA==")));
    cr_assert(atd_str_equal(header(&message, "content-type"), ATD_STR("application/x-tar")));
}

static void expect_refused(const struct atd_s3_request *request)
{
    struct atd_s3_site site = site_of("https://h", ATD_S3_STYLE_AUTO);
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
    struct atd_http_message message = {.method = "untouched"};
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(
        atd_s3_request_build(&site, request, ATD_STR(""), &credential, NOW, &arena, &message, &err),
        -EINVAL);
    cr_assert(err.code == EINVAL && err.text[0]);
    cr_assert_str_eq(message.method, "untouched");
}

Test(s3_write, what_cannot_be_sent)
{
    static char long_id[ATD_S3_UPLOAD_ID_MAX + 1];
    struct atd_s3_request request = everything(ATD_S3_UPLOAD_PART);

    memset(long_id, 'i', sizeof(long_id));
    request.part_number = 0;
    expect_refused(&request);
    request.part_number = 10001;
    expect_refused(&request);
    request = everything(ATD_S3_ABORT_UPLOAD);
    request.upload_id = ATD_STR("");
    expect_refused(&request);
    request.upload_id = (struct atd_str){long_id, sizeof(long_id)};
    expect_refused(&request);
    request = everything(ATD_S3_PUT);
    request.payload_sha256_hex = "E3";
    expect_refused(&request);
    request = everything(ATD_S3_PUT);
    request.crc32c_base64 = ATD_STR("short");
    expect_refused(&request);
    request.crc32c_base64 = ATD_STR("12345\r\nx");
    expect_refused(&request);
    request = everything(ATD_S3_PUT);
    request.content_type = ATD_STR("a\r\nx: y");
    expect_refused(&request);
    request = everything(ATD_S3_PUT);
    request.key = ATD_STR("");
    expect_refused(&request);
}

/* ------------------------------------------------------------------ uploads */

Test(s3_write, body_that_completes)
{
    static const struct atd_s3_part parts[] = {
        {1, "e1", "mnG7TA=="},
        {2, "W/a&<b>", ""},
    };
    atd_auto_buf struct atd_buf body = ATD_BUF_INIT(4096);

    atd_s3_complete_body(parts, ATD_ARRAY_LEN(parts), &body);
    cr_assert_eq(atd_buf_finish(&body, "body", NULL), 0);
    cr_assert_str_eq(
        (char *)body.ptr,
        "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Part>"
        "<PartNumber>1</PartNumber><ETag>&quot;e1&quot;</ETag>"
        "<ChecksumCRC32C>mnG7TA==</ChecksumCRC32C></Part>"
        "<Part><PartNumber>2</PartNumber><ETag>W/&quot;a&amp;&lt;b&gt;&quot;</ETag></Part>"
        "</CompleteMultipartUpload>");
}

Test(s3_write, id_of_an_upload)
{
    static const struct {
        const char *body, *id; /* NULL: EPROTO */
    } cases[] = {
        {"<InitiateMultipartUploadResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
         "<Bucket>b</Bucket><Key>k</Key><UploadId> VXBsb2Fk.ID_~+/= </UploadId>"
         "</InitiateMultipartUploadResult>",
         "VXBsb2Fk.ID_~+/="},
        {"<x:InitiateMultipartUploadResult xmlns:x=\"u\"><x:UploadId>1</x:UploadId>"
         "</x:InitiateMultipartUploadResult>",
         "1"},
        {"<InitiateMultipartUploadResult><UploadId></UploadId></InitiateMultipartUploadResult>",
         NULL},
        {"<InitiateMultipartUploadResult><UploadId>a b</UploadId></InitiateMultipartUploadResult>",
         NULL},
        {"<InitiateMultipartUploadResult><Key>k</Key></InitiateMultipartUploadResult>", NULL},
        {"<Other><UploadId>1</UploadId></Other>", NULL},
        {"<InitiateMultipartUploadResult><UploadId>1</UploadId>", NULL},
        {"<Error><Code>SlowDown</Code></Error>", NULL},
        {"", NULL},
        {"<html>", NULL},
    };
    char long_one[ATD_S3_UPLOAD_ID_MAX + 100];

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        char id[ATD_S3_UPLOAD_ID_MAX + 1] = "untouched";
        struct atd_error err = ATD_ERROR_INIT;
        int rc = atd_s3_upload_id_parse(bytes_of(cases[i].body), id, &err);

        cr_assert_eq(rc, cases[i].id ? 0 : -EPROTO, "%zu: %s", i, err.text);
        cr_assert_str_eq(id, cases[i].id ? cases[i].id : "untouched");
    }
    for (size_t len = ATD_S3_UPLOAD_ID_MAX; len <= ATD_S3_UPLOAD_ID_MAX + 1; len++) {
        char id[ATD_S3_UPLOAD_ID_MAX + 1];
        char body[2 * ATD_S3_UPLOAD_ID_MAX];

        memset(long_one, 'x', len);
        long_one[len] = '\0';
        (void)snprintf(body, sizeof(body),
                       "<InitiateMultipartUploadResult><UploadId>%s</UploadId>"
                       "</InitiateMultipartUploadResult>",
                       long_one);
        cr_assert_eq(atd_s3_upload_id_parse(bytes_of(body), id, NULL),
                     len > ATD_S3_UPLOAD_ID_MAX ? -EPROTO : 0);
    }
}

Test(s3_write, answers_to_complete)
{
    static const struct {
        const char *body;
        int rc;
        const char *etag, *code;
    } cases[] = {
        {" \r\n\t <?xml version=\"1.0\"?>\n   <CompleteMultipartUploadResult><Location>l</Location>"
         "<ETag>&quot;3858f62230ac3c915f300c664312c11f-9&quot;</ETag>"
         "</CompleteMultipartUploadResult>",
         0, "3858f62230ac3c915f300c664312c11f-9", ""},
        {"<CompleteMultipartUploadResult><ETag>bare</ETag></CompleteMultipartUploadResult>", 0,
         "bare", ""},
        {"<CompleteMultipartUploadResult/>", 0, "", ""},
        {"   \n  <?xml version=\"1.0\"?><Error><Code>InternalError</Code>"
         "<Message>again</Message></Error>",
         -EREMOTEIO, NULL, "InternalError"},
        {"<?xml version=\"1.0\"?>\n      <Error/>", -EREMOTEIO, NULL, ""},
        {"      ", -EPROTO, NULL, NULL},
        {"", -EPROTO, NULL, NULL},
        {"<CompleteMultipartUploadResult><ETag>x</ETag>", -EPROTO, NULL, NULL},
        {"<Other><Error/></Other>", -EPROTO, NULL, NULL},
        {"OK", -EPROTO, NULL, NULL},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        char etag[ATD_ETAG_MAX + 1] = "untouched";
        struct atd_s3_error error = {.code = "untouched"};
        struct atd_error err = ATD_ERROR_INIT;
        int rc = atd_s3_complete_parse(bytes_of(cases[i].body), etag, &error, &err);

        cr_assert_eq(rc, cases[i].rc, "%zu: %s", i, err.text);
        cr_assert_eq(err.code, -rc);
        cr_assert_str_eq(etag, cases[i].etag ? cases[i].etag : "untouched");
        cr_assert_str_eq(error.code,
                         rc == -EREMOTEIO && cases[i].code ? cases[i].code : "untouched");
    }
}

#define UPLOADS(inner) "<ListMultipartUploadsResult>" inner "</ListMultipartUploadsResult>"

Test(s3_write, list_of_unfinished_uploads)
{
    static const char text[] =
        UPLOADS("<Bucket>b</Bucket><KeyMarker/><UploadIdMarker/>"
                "<NextKeyMarker>a%2Bb+c</NextKeyMarker><NextUploadIdMarker>x+y</NextUploadIdMarker>"
                "<EncodingType>url</EncodingType><MaxUploads>2</MaxUploads>"
                "<IsTruncated>true</IsTruncated>"
                "<Upload><Key>a%2Fb+c.tar</Key><UploadId>x%2By</UploadId>"
                "<Initiator><ID>i</ID><UploadId>not this</UploadId></Initiator></Upload>"
                "<Upload><Key>d</Key><UploadId>2</UploadId></Upload>");
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ARENA_MAX);
    struct atd_s3_uploads list;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_s3_uploads_parse(bytes_of(text), &arena, &list, &err), 0, "%s", err.text);
    cr_assert_eq(list.count, 2u);
    cr_assert(list.is_truncated);
    cr_assert(atd_str_equal(list.next_key_marker, ATD_STR("a+b c")));
    cr_assert(atd_str_equal(list.next_upload_id_marker, ATD_STR("x+y")));
    cr_assert(atd_str_equal(list.uploads[0].key, ATD_STR("a/b c.tar")));
    cr_assert(atd_str_equal(list.uploads[0].upload_id, ATD_STR("x%2By")));
    cr_assert(atd_str_equal(list.uploads[1].key, ATD_STR("d")));
}

Test(s3_write, lists_of_uploads_that_are_refused)
{
    static const char *const cases[] = {
        "",
        "<ListBucketResult/>",
        "<Error><Code>AccessDenied</Code></Error>",
        UPLOADS("<IsTruncated>true</IsTruncated>"),
        UPLOADS("<Upload><Key>k</Key></Upload>"),
        UPLOADS("<Upload><UploadId>1</UploadId></Upload>"),
        UPLOADS("<Upload><Key>k</Key><UploadId>a b</UploadId></Upload>"),
        /* Nothing of the one before. */
        UPLOADS("<Upload><Key>k</Key><UploadId>1</UploadId></Upload><Upload><Key>k</Key></Upload>"),
    };
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ARENA_MAX);
    atd_auto_buf struct atd_buf many = ATD_BUF_INIT(ARENA_MAX);
    struct atd_s3_uploads list = {.count = 77};

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        struct atd_error err = ATD_ERROR_INIT;

        cr_assert_eq(atd_s3_uploads_parse(bytes_of(cases[i]), &arena, &list, &err), -EPROTO, "%s",
                     cases[i]);
        cr_assert_eq(list.count, 77u);
    }
    atd_buf_append_text(&many, "<ListMultipartUploadsResult>");
    for (unsigned i = 0; i <= ATD_S3_UPLOADS_MAX; i++) {
        if (i == ATD_S3_UPLOADS_MAX) {
            size_t len = many.len;

            atd_buf_append_text(&many, "</ListMultipartUploadsResult>");
            cr_assert_eq(atd_s3_uploads_parse(atd_buf_bytes(&many), &arena, &list, NULL), 0);
            cr_assert_eq(list.count, ATD_S3_UPLOADS_MAX);
            many.len = len;
        }
        atd_buf_append_text(&many, "<Upload><Key>k</Key><UploadId>1</UploadId></Upload>");
    }
    atd_buf_append_text(&many, "</ListMultipartUploadsResult>");
    cr_assert_eq(atd_s3_uploads_parse(atd_buf_bytes(&many), &arena, &list, NULL), -EPROTO);
}

/* ------------------------------------------------------------------ errors */

#define ERROR(code) "<Error><Code>" code "</Code><Message>m</Message></Error>"

Test(s3_write, what_errors_mean_when_writing)
{
    static const struct {
        enum atd_s3_operation operation;
        int status;
        const char *body;
        enum atd_s3_trouble trouble;
        int code;
        const char *text;
    } cases[] = {
        {ATD_S3_PUT, 412, ERROR("PreconditionFailed"), ATD_S3_TROUBLE_FINAL, EEXIST,
         "'s3://b/k' exists already (PreconditionFailed)"},
        {ATD_S3_COMPLETE_UPLOAD, 412, "", ATD_S3_TROUBLE_FINAL, EEXIST,
         "'s3://b/k' exists already (HTTP status 412)"},
        {ATD_S3_PUT, 304, "", ATD_S3_TROUBLE_FINAL, EEXIST,
         "'s3://b/k' exists already (HTTP status 304)"},
        {ATD_S3_COMPLETE_UPLOAD, 200, ERROR("PreconditionFailed"), ATD_S3_TROUBLE_FINAL, EEXIST,
         "'s3://b/k' exists already (PreconditionFailed)"},
        {ATD_S3_COMPLETE_UPLOAD, 200, ERROR("InternalError"), ATD_S3_TROUBLE_PASSING, EIO,
         "'s3://b/k' cannot be written now: the server failed (InternalError)"},
        {ATD_S3_COMPLETE_UPLOAD, 200, ERROR("SlowDown"), ATD_S3_TROUBLE_THROTTLED, EIO,
         "'s3://b/k' cannot be written now: the server asks to slow down (SlowDown)"},
        {ATD_S3_COMPLETE_UPLOAD, 200, ERROR("New"), ATD_S3_TROUBLE_FINAL, EIO,
         "'s3://b/k' cannot be written: the server refuses the request (New: m)"},
        {ATD_S3_PUT, 409, ERROR("ConditionalRequestConflict"), ATD_S3_TROUBLE_PASSING, EIO,
         "'s3://b/k' cannot be written now: something else is being done to it "
         "(ConditionalRequestConflict)"},
        {ATD_S3_COMPLETE_UPLOAD, 404, ERROR("NoSuchUpload"), ATD_S3_TROUBLE_FINAL, ENOENT,
         "'s3://b/k' has no such upload any more: it was aborted, or is complete (NoSuchUpload)"},
        {ATD_S3_PUT, 404, ERROR("NoSuchBucket"), ATD_S3_TROUBLE_FINAL, ENOENT,
         "bucket 'b' of 's3://b/k' does not exist (NoSuchBucket)"},
        {ATD_S3_PUT, 403, ERROR("AccessDenied"), ATD_S3_TROUBLE_FINAL, EACCES,
         "'s3://b/k' may not be written with these credentials (AccessDenied)"},
        {ATD_S3_DELETE, 403, "", ATD_S3_TROUBLE_FINAL, EACCES,
         "'s3://b/k' may not be deleted with these credentials (HTTP status 403)"},
        {ATD_S3_UPLOAD_PART, 400, ERROR("BadDigest"), ATD_S3_TROUBLE_PASSING, EIO,
         "'s3://b/k' cannot be written now: it was damaged on its way (BadDigest)"},
        {ATD_S3_UPLOAD_PART, 507, ERROR("XMinioStorageFull"), ATD_S3_TROUBLE_FINAL, ENOSPC,
         "'s3://b/k' cannot be written: the server's disks are full (XMinioStorageFull)"},
        {ATD_S3_UPLOAD_PART, 403, ERROR("QuotaExceeded"), ATD_S3_TROUBLE_FINAL, ENOSPC,
         "bucket 'b' of 's3://b/k' has used up its quota (QuotaExceeded)"},
        {ATD_S3_COMPLETE_UPLOAD, 400, ERROR("InvalidPart"), ATD_S3_TROUBLE_FINAL, EIO,
         "'s3://b/k' cannot be written: the server lacks one of its parts (InvalidPart)"},
        /* Reading as before. */
        {ATD_S3_HEAD, 412, "", ATD_S3_TROUBLE_FINAL, ESTALE,
         "'s3://b/k' has changed since it was looked up (HTTP status 412)"},
        {ATD_S3_LIST_UPLOADS, 403, "", ATD_S3_TROUBLE_FINAL, EACCES,
         "'s3://b/k' may not be read with these credentials (HTTP status 403)"},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        struct atd_http_head head = {.status = cases[i].status, .date_s = NOW};
        struct atd_error err = ATD_ERROR_INIT;
        char region[64];

        cr_assert_eq(atd_s3_write_error_classify(cases[i].operation, &head, bytes_of(cases[i].body),
                                                 "'s3://b/k'", NOW, region, &err),
                     cases[i].trouble, "%zu: %s", i, err.text);
        cr_assert_str_eq(err.text, cases[i].text, "%s", err.text);
        cr_assert_eq(err.code, cases[i].code, "%zu", i);
        cr_assert_eq(err.retryable, cases[i].trouble == ATD_S3_TROUBLE_PASSING ||
                                        cases[i].trouble == ATD_S3_TROUBLE_THROTTLED);
    }
}

Test(s3_write, checksums_that_a_server_does_not_know)
{
    static const struct {
        int status;
        const char *body;
        bool refused;
    } cases[] = {
        {501, "", true},
        {501, ERROR("NotImplemented"), true},
        {400, ERROR("NotImplemented"), true},
        {400, ERROR("InvalidRequest"), true},
        {400, ERROR("InvalidArgument"), true},
        {400, ERROR("BadDigest"), false},
        {400, ERROR("XAmzContentChecksumMismatch"), false},
        {400, "", false},
        {403, ERROR("InvalidRequest"), false},
        {500, "", false},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        struct atd_http_head head = {.status = cases[i].status};

        cr_assert_eq(atd_s3_checksum_refused(&head, bytes_of(cases[i].body)), cases[i].refused,
                     "%zu", i);
    }
}

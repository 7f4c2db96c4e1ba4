#include "net/s3_reply.h"

#include <criterion/criterion.h>
#include <errno.h>

#include "base/check.h"
#include "base/cleanup.h"

#define ARENA_MAX (4u << 20)
#define NOW 1709251198 /* Thu, 29 Feb 2024 23:59:58 GMT */
#define LIST_HEAD "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
#define OBJECT(key) "<Contents><Key>" key "</Key><Size>1</Size></Contents>"

static struct atd_bytes bytes_of(const char *text)
{
    return (struct atd_bytes){(const uint8_t *)text, strlen(text)};
}

static int parse(const char *text, struct atd_arena *arena, struct atd_s3_list *list,
                 struct atd_error *err)
{
    return atd_s3_list_parse(bytes_of(text), arena, list, err);
}

/* ------------------------------------------------------------------ lists */

Test(s3_reply, a_list_of_aws)
{
    static const char text[] =
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n" LIST_HEAD
        "<Name>bucket</Name><Prefix>train/</Prefix><NextContinuationToken>1ueG+c/x=="
        "</NextContinuationToken><KeyCount>2</KeyCount><MaxKeys>1000</MaxKeys>"
        "<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
        "<Contents><Key>train/a%2Bb+c%20d%C3%A9%0A.tar</Key>"
        "<LastModified>2024-02-29T23:59:58.000Z</LastModified>"
        "<ETag>&quot;d41d8cd98f00b204e9800998ecf8427e-12&quot;</ETag>"
        "<ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><Size>9223372036854775807</Size>"
        "<Owner><ID>x</ID><Key>not this</Key></Owner><StorageClass>STANDARD</StorageClass>"
        "</Contents>"
        "<Contents><Key>train/</Key><LastModified>?</LastModified><Size> 0\n</Size></Contents>"
        "<CommonPrefixes><Prefix>p</Prefix></CommonPrefixes>"
        "</ListBucketResult>";
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ARENA_MAX);
    struct atd_s3_list list;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(parse(text, &arena, &list, &err), 0, "%s", err.text);
    cr_assert_eq(list.key_count, 2u);
    cr_assert(list.is_truncated);
    /* Never encoded: '+' stays. */
    cr_assert(atd_str_equal(list.next_token, ATD_STR("1ueG+c/x==")));
    cr_assert(atd_str_equal(list.keys[0].key, ATD_STR("train/a+b c d\xc3\xa9\n.tar")), "%.*s",
              (int)list.keys[0].key.len, list.keys[0].key.ptr);
    cr_assert_eq(list.keys[0].info.size_bytes, (uint64_t)INT64_MAX);
    cr_assert_str_eq(list.keys[0].info.etag, "d41d8cd98f00b204e9800998ecf8427e-12");
    cr_assert_eq(list.keys[0].info.mtime_s, NOW);
    /* Nothing of the first object in the second. */
    cr_assert(atd_str_equal(list.keys[1].key, ATD_STR("train/")));
    cr_assert_eq(list.keys[1].info.size_bytes, 0u);
    cr_assert_str_eq(list.keys[1].info.etag, "");
    cr_assert_eq(list.keys[1].info.mtime_s, 0);
}

Test(s3_reply, keys_are_decoded_only_when_they_are_encoded)
{
    const struct {
        const char *text;
        struct atd_str key;
    } cases[] = {
        {LIST_HEAD OBJECT("a+b%20c") "</ListBucketResult>", ATD_STR("a+b%20c")},
        {LIST_HEAD "<EncodingType>none</EncodingType>" OBJECT("a+b%20c") "</ListBucketResult>",
         ATD_STR("a+b%20c")},
        {LIST_HEAD OBJECT("a+b%20c") "<EncodingType>url</EncodingType></ListBucketResult>",
         ATD_STR("a b c")},
        {LIST_HEAD OBJECT("100%+%2+%zz+%2f%2F%") "<EncodingType>url</EncodingType>"
                                                 "</ListBucketResult>",
         ATD_STR("100% %2 %zz //%")},
        {LIST_HEAD OBJECT("%00x") "<EncodingType>url</EncodingType></ListBucketResult>",
         ATD_STR("\0x")},
        {LIST_HEAD OBJECT(" &lt;&#x41;&amp;<![CDATA[<&]]> ") "</ListBucketResult>",
         ATD_STR(" <A&<& ")},
        /* Prefixes, no namespace, blanks before the document. */
        {"\n \r\n<?xml version='1.0'?><s3:ListBucketResult xmlns:s3='x'><s3:Contents><s3:Key>k"
         "</s3:Key><s3:Size>1</s3:Size></s3:Contents></s3:ListBucketResult>",
         ATD_STR("k")},
        {"<ListBucketResult>" OBJECT("k") "</ListBucketResult>", ATD_STR("k")},
        /* What is not known is passed over, whatever it is called. */
        {LIST_HEAD
         "<A_very_long_name_that_no_version_of_S3_has_had_so_far><Contents><Key>x</Key>"
         "</Contents></A_very_long_name_that_no_version_of_S3_has_had_so_far>" OBJECT(
             "k") "<X><ListBucketResult><Contents/></ListBucketResult></X></ListBucketResult>",
         ATD_STR("k")},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ARENA_MAX);
        struct atd_s3_list list;
        struct atd_error err = ATD_ERROR_INIT;

        cr_assert_eq(parse(cases[i].text, &arena, &list, &err), 0, "%zu: %s", i, err.text);
        cr_assert_eq(list.key_count, 1u, "%zu", i);
        cr_assert(atd_str_equal(list.keys[0].key, cases[i].key), "%zu: %.*s", i,
                  (int)list.keys[0].key.len, list.keys[0].key.ptr);
        cr_assert(!list.is_truncated && list.next_token.len == 0);
    }
}

Test(s3_reply, an_empty_list)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ARENA_MAX);
    struct atd_s3_list list = {.key_count = 9};

    cr_assert_eq(
        parse(LIST_HEAD "<IsTruncated>false</IsTruncated></ListBucketResult>", &arena, &list, NULL),
        0);
    cr_assert_eq(list.key_count, 0u);
}

Test(s3_reply, lists_that_are_refused)
{
    static const struct {
        const char *text, *why;
    } cases[] = {
        {"", "empty"},
        {" \n", "empty"},
        {"x", "not XML"},
        {"<html><body>login</body></html>", "another kind"},
        {"<Error><Code>SlowDown</Code></Error>", "an error"},
        {LIST_HEAD, "not XML"},
        {LIST_HEAD OBJECT("k"), "not XML"},
        {LIST_HEAD OBJECT("k") "</ListBucketResult><x/>", "not XML"},
        {LIST_HEAD OBJECT("\xff") "</ListBucketResult>", "not XML"},
        {LIST_HEAD OBJECT("\x01") "</ListBucketResult>", "not XML"},
        {LIST_HEAD OBJECT("&unknown;") "</ListBucketResult>", "not XML"},
        {LIST_HEAD "<IsTruncated>true</IsTruncated></ListBucketResult>", "not where"},
        {LIST_HEAD "<IsTruncated>true</IsTruncated><NextContinuationToken/></ListBucketResult>",
         "not where"},
        {LIST_HEAD "<IsTruncated>perhaps</IsTruncated></ListBucketResult>", "perhaps"},
        {LIST_HEAD "<Contents><Size>1</Size></Contents></ListBucketResult>", "without a key"},
        {LIST_HEAD "<Contents><Key></Key><Size>1</Size></Contents></ListBucketResult>",
         "without a key"},
        {LIST_HEAD "<Contents><Key>k</Key></Contents></ListBucketResult>", "without a size"},
        {LIST_HEAD OBJECT("k") "<Contents/></ListBucketResult>", "without a size"},
        {LIST_HEAD "<Contents><Size></Size></Contents></ListBucketResult>", "not a size"},
        {LIST_HEAD "<Contents><Size>-1</Size></Contents></ListBucketResult>", "not a size"},
        {LIST_HEAD "<Contents><Size>1e3</Size></Contents></ListBucketResult>", "not a size"},
        {LIST_HEAD "<Contents><Size>9223372036854775808</Size></Contents></ListBucketResult>",
         "not a size"},
        {LIST_HEAD "<Contents><Size>99999999999999999999999</Size></Contents></ListBucketResult>",
         "not a size"},
        {"<!DOCTYPE x><ListBucketResult/>", "document type"},
        {"<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;\"><!ENTITY c "
         "\"&b;&b;&b;&b;&b;&b;&b;&b;\">]><ListBucketResult>&c;</ListBucketResult>",
         "document type"},
        {"<!DOCTYPE x SYSTEM \"file:///etc/passwd\"><ListBucketResult/>", "document type"},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ARENA_MAX);
        struct atd_s3_list list = {.key_count = 9};
        struct atd_error err = ATD_ERROR_INIT;

        cr_assert_eq(parse(cases[i].text, &arena, &list, &err), -EPROTO, "%s", cases[i].text);
        cr_assert(strstr(err.text, cases[i].why), "%s: %s", cases[i].text, err.text);
        cr_assert_eq(list.key_count, 9u);
    }
}

static void append_times(struct atd_buf *buf, const char *text, size_t count)
{
    for (size_t i = 0; i < count; i++)
        atd_buf_append_text(buf, text);
}

Test(s3_reply, bounds_of_lists)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(32u << 20);
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ARENA_MAX);
    struct atd_arena small = ATD_ARENA_INIT(100);
    struct atd_s3_list list;
    struct atd_error err = ATD_ERROR_INIT;

    /* As many objects as a page has, and one more. */
    atd_buf_append_text(&text, LIST_HEAD);
    append_times(&text, OBJECT("k"), ATD_S3_LIST_KEYS_MAX);
    atd_buf_append_text(&text, "</ListBucketResult>");
    cr_assert_eq(atd_s3_list_parse(atd_buf_bytes(&text), &arena, &list, &err), 0, "%s", err.text);
    cr_assert_eq(list.key_count, ATD_S3_LIST_KEYS_MAX);
    cr_assert_eq(atd_s3_list_parse(atd_buf_bytes(&text), &small, &list, &err), -ENOMEM);
    atd_arena_release(&small);
    text.len -= strlen("</ListBucketResult>");
    atd_buf_append_text(&text, OBJECT("k") "</ListBucketResult>");
    cr_assert_eq(atd_s3_list_parse(atd_buf_bytes(&text), &arena, &list, &err), -EPROTO);
    cr_assert(strstr(err.text, "1000"), "%s", err.text);

    /* The longest key, all of it encoded; then a longer one. */
    for (unsigned more = 0; more < 2; more++) {
        atd_buf_clear(&text);
        atd_buf_append_text(&text, LIST_HEAD "<EncodingType>url</EncodingType><Contents><Size>1"
                                             "</Size><Key>");
        append_times(&text, "%ff", more ? 1366 : 1024);
        atd_buf_append_text(&text, "</Key></Contents></ListBucketResult>");
        cr_assert_eq(atd_s3_list_parse(atd_buf_bytes(&text), &arena, &list, &err),
                     more ? -EPROTO : 0, "%s", err.text);
    }
    cr_assert(strstr(err.text, "Contents/Key"), "%s", err.text);

    /* Unknown text may be of any length. */
    atd_buf_clear(&text);
    atd_buf_append_text(&text, LIST_HEAD "<Prefix>");
    append_times(&text, "x", 100000);
    atd_buf_append_text(&text, "</Prefix>" OBJECT("k") "</ListBucketResult>");
    cr_assert_eq(atd_s3_list_parse(atd_buf_bytes(&text), &arena, &list, &err), 0);

    for (size_t depth = 16; depth <= 17; depth++) {
        atd_buf_clear(&text);
        atd_buf_append_text(&text, LIST_HEAD);
        append_times(&text, "<a>", depth - 1);
        append_times(&text, "</a>", depth - 1);
        atd_buf_append_text(&text, "</ListBucketResult>");
        cr_assert_eq(atd_s3_list_parse(atd_buf_bytes(&text), &arena, &list, &err),
                     depth == 16 ? 0 : -EPROTO);
    }
    cr_assert(strstr(err.text, "deep"), "%s", err.text);

    atd_buf_clear(&text);
    append_times(&text, "<a>", 1000000);
    cr_assert_eq(atd_s3_list_parse(atd_buf_bytes(&text), &arena, &list, &err), -EPROTO);

    atd_buf_clear(&text);
    atd_buf_append_text(&text, "<");
    append_times(&text, "aaaaaaaaaaaaaaaa", 1u << 20);
    cr_assert_eq(atd_s3_list_parse(atd_buf_bytes(&text), &arena, &list, &err), -EPROTO);
    cr_assert(strstr(err.text, "longer"), "%s", err.text);
}

/* ------------------------------------------------------------------ errors */

#define ERROR(code) \
    "<?xml version=\"1.0\"?><Error><Code>" code "</Code><Message>m</Message></Error>"

Test(s3_reply, error_documents)
{
    static const struct {
        const char *text, *code, *message, *region;
    } cases[] = {
        {"<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message><Key>k"
         "</Key><Region>eu-west-1</Region></Error>",
         "NoSuchKey", "The specified key does not exist.", "eu-west-1"},
        {"  \n<s:Error xmlns:s='x'><s:Code>A</s:Code></s:Error>", "A", "", ""},
        {"<ErrorResponse xmlns='x'><Error><Type>Sender</Type><Code>ExpiredToken</Code></Error>"
         "</ErrorResponse>",
         "ExpiredToken", "", ""},
        {"<Error><Message>a&#10;b\tc&#x7f;\xc3\xa9</Message></Error>", "", "a b c \xc3\xa9", ""},
        {"<Error><Code>a b</Code><Region>evil.example/</Region></Error>", "", "", ""},
        {"<Error><Message>got AWS4-HMAC-SHA256 Credential=x</Message></Error>", "", "", ""},
        {"<Error><Message>got ?X-Amz-Signature=00</Message></Error>", "", "", ""},
        {"<Error><Message>got x-amz-security-token: t</Message></Error>", "", "", ""},
        {"<Error><Code>NoSuchKey</Code>", "", "", ""},
        {"<Other><Code>NoSuchKey</Code></Other>", "", "", ""},
        {"<Error><X><Code>NoSuchKey</Code></X></Error>", "", "", ""},
        {"<!DOCTYPE x [<!ENTITY a 'NoSuchKey'>]><Error><Code>&a;</Code></Error>", "", "", ""},
        {"<html>Bad gateway</html>", "", "", ""},
        {"nonsense", "", "", ""},
        {"", "", "", ""},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        struct atd_s3_error error;

        memset(&error, 'x', sizeof(error));
        atd_s3_error_parse(bytes_of(cases[i].text), &error);
        cr_assert_str_eq(error.code, cases[i].code, "%s: %s", cases[i].text, error.code);
        cr_assert_str_eq(error.message, cases[i].message, "%s: %s", cases[i].text, error.message);
        cr_assert_str_eq(error.region, cases[i].region, "%s: %s", cases[i].text, error.region);
    }
}

Test(s3_reply, long_error_documents)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(1u << 20);
    struct atd_s3_error error;

    atd_buf_append_text(&text, "<Error><StringToSign>");
    append_times(&text, "x", 10000);
    atd_buf_append_text(&text, "</StringToSign><Code>");
    append_times(&text, "x", 64);
    atd_buf_append_text(&text, "</Code><Region>");
    append_times(&text, "x", 63);
    atd_buf_append_text(&text, "</Region><Message>");
    append_times(&text, "\xc3\xa9", 5000);
    atd_buf_append_text(&text, "</Message></Error>");
    atd_s3_error_parse(atd_buf_bytes(&text), &error);
    cr_assert_str_eq(error.code, "");
    cr_assert_eq(strlen(error.region), 63u);
    /* Not cut within a character. */
    cr_assert_eq(strlen(error.message), 254u);
}

struct reply {
    int status;
    const char *body;
    const char *region; /* x-amz-bucket-region; NULL: none */
    int64_t date_s;
    enum atd_s3_trouble trouble;
    int error;
    const char *ret_region;
    const char *text; /* a part of the sentence */
};

static void check_reply(const struct reply *reply)
{
    struct atd_http_head head = {.status = reply->status, .date_s = reply->date_s};
    struct atd_error err = ATD_ERROR_INIT;
    char region[64] = "untouched";
    enum atd_s3_trouble trouble;

    if (reply->region)
        head.headers[head.header_count++] =
            (struct atd_http_header){ATD_STR("X-Amz-Bucket-Region"), atd_str_from(reply->region)};
    trouble = atd_s3_error_classify(&head, bytes_of(reply->body), "'s3://bkt/a/k.tar'", NOW, region,
                                    &err);
    cr_assert_eq(trouble, reply->trouble, "%d %s: %d %s", reply->status, reply->body, trouble,
                 err.text);
    cr_assert_eq(err.code, reply->error, "%d %s: %s", reply->status, reply->body, err.text);
    cr_assert_eq(err.retryable,
                 trouble == ATD_S3_TROUBLE_PASSING || trouble == ATD_S3_TROUBLE_THROTTLED, "%s",
                 err.text);
    cr_assert_str_eq(region, reply->ret_region ? reply->ret_region : "", "%d %s", reply->status,
                     reply->body);
    cr_assert(strstr(err.text, "'s3://bkt/a/k.tar'"), "%s", err.text);
    cr_assert(strstr(err.text, reply->text), "%s", err.text);
    /* However the table changes, the source of the verdict is there to look up. */
    cr_assert(strchr(err.text, '('), "%s", err.text);
}

#define FINAL ATD_S3_TROUBLE_FINAL
#define PASSING ATD_S3_TROUBLE_PASSING
#define THROTTLED ATD_S3_TROUBLE_THROTTLED
#define CLOCK ATD_S3_TROUBLE_CLOCK
#define REGION ATD_S3_TROUBLE_REGION
#define CREDENTIALS ATD_S3_TROUBLE_CREDENTIALS

Test(s3_reply, what_errors_mean)
{
    static const struct reply replies[] = {
        {404, ERROR("NoSuchKey"), NULL, NOW, FINAL, ENOENT, NULL, "does not exist (NoSuchKey)"},
        {404, ERROR("NoSuchBucket"), NULL, NOW, FINAL, ENOENT, NULL, "bucket 'bkt' of "},
        {404, "", NULL, NOW, FINAL, ENOENT, NULL, "does not exist (HTTP status 404)"},
        {404, ERROR("Strange"), NULL, NOW, FINAL, ENOENT, NULL, "(Strange: m)"},
        {404, "", "eu-west-1", NOW, FINAL, ENOENT, NULL, "does not exist"},
        {403, ERROR("AccessDenied"), NULL, NOW, FINAL, EACCES, NULL,
         "may not be read with these credentials"},
        {403, ERROR("AccessDenied"), NULL, NOW + 10000, FINAL, EACCES, NULL, "credentials"},
        {403, ERROR("AccessDenied"), "eu-west-1", NOW, FINAL, EACCES, NULL, "credentials"},
        {403, ERROR("SignatureDoesNotMatch"), NULL, NOW, FINAL, EACCES, NULL, "check the access"},
        {403, ERROR("InvalidAccessKeyId"), NULL, NOW, FINAL, EACCES, NULL, "check it"},
        {403, ERROR("InvalidObjectState"), NULL, NOW, FINAL, EIO, NULL, "restore"},
        {401, "", NULL, NOW, FINAL, EACCES, NULL, "credentials"},
        {412, ERROR("PreconditionFailed"), NULL, NOW, FINAL, ESTALE, NULL, "changed"},
        {412, "", NULL, NOW, FINAL, ESTALE, NULL, "changed"},
        {416, ERROR("InvalidRange"), NULL, NOW, FINAL, ESTALE, NULL, "shorter"},
        {416, "", NULL, NOW, FINAL, ESTALE, NULL, "shorter"},

        {403, ERROR("RequestTimeTooSkewed"), NULL, NOW + 1000, CLOCK, EACCES, NULL, "clock"},
        {403, ERROR("RequestTimeTooSkewed"), NULL, 0, FINAL, EACCES, NULL, "clock"},
        {403, "", NULL, NOW + 901, CLOCK, EACCES, NULL, "clock"},
        {403, "", NULL, NOW - 901, CLOCK, EACCES, NULL, "clock"},
        {403, "", NULL, NOW - 900, FINAL, EACCES, NULL, "credentials"},
        {403, "", NULL, 0, FINAL, EACCES, NULL, "credentials"},
        {404, "", NULL, NOW - 9000, FINAL, ENOENT, NULL, "does not exist"},

        {301, ERROR("PermanentRedirect"), "eu-west-1", NOW, REGION, EIO, "eu-west-1", "eu-west-1"},
        {301, "", "eu-west-1", NOW, REGION, EIO, "eu-west-1", "bucket 'bkt' of "},
        {307, ERROR("TemporaryRedirect"), NULL, NOW, PASSING, EIO, NULL, "now"},
        {307, "", "eu-west-1", NOW, REGION, EIO, "eu-west-1", "region"},
        {400, "", "eu-west-1", NOW, REGION, EIO, "eu-west-1", "region"},
        {400, "", NULL, NOW, FINAL, EIO, NULL, "HTTP status 400"},
        {400, ERROR("InvalidArgument"), "eu-west-1", NOW, FINAL, EIO, NULL, "(InvalidArgument: m)"},
        {400, "<Error><Code>AuthorizationHeaderMalformed</Code><Region>us-west-2</Region></Error>",
         NULL, NOW, REGION, EIO, "us-west-2", "us-west-2"},
        {400, "<Error><Code>AuthorizationHeaderMalformed</Code><Region>us-west-2</Region></Error>",
         "eu-west-1", NOW, REGION, EIO, "eu-west-1", "eu-west-1"},
        {400, "<Error><Code>AuthorizationHeaderMalformed</Code><Region>us-west-2</Region></Error>",
         "evil.example/x", NOW, REGION, EIO, "us-west-2", "us-west-2"},
        {400, ERROR("AuthorizationHeaderMalformed"), NULL, NOW, FINAL, EIO, NULL, "region"},
        {400, ERROR("IllegalLocationConstraintException"), "me-south-1", NOW, REGION, EIO,
         "me-south-1", "region"},
        {301, "", NULL, NOW, FINAL, EIO, NULL, "region"},

        {400, ERROR("ExpiredToken"), NULL, NOW, CREDENTIALS, EACCES, NULL, "renew"},
        {403, ERROR("ExpiredToken"), NULL, NOW, CREDENTIALS, EACCES, NULL, "renew"},
        {400, ERROR("InvalidToken"), NULL, NOW, CREDENTIALS, EACCES, NULL, "renew"},
        {400, ERROR("TokenRefreshRequired"), NULL, NOW, CREDENTIALS, EACCES, NULL, "renew"},

        {503, ERROR("SlowDown"), NULL, NOW, THROTTLED, EIO, NULL, "slow down"},
        {503, ERROR("SlowDownRead"), NULL, NOW, THROTTLED, EIO, NULL, "slow down"},
        {503, "", NULL, NOW, THROTTLED, EIO, NULL, "slow down"},
        {429, "", NULL, NOW, THROTTLED, EIO, NULL, "slow down"},
        {400, ERROR("RequestLimitExceeded"), NULL, NOW, THROTTLED, EIO, NULL, "slow down"},
        {500, ERROR("InternalError"), NULL, NOW, PASSING, EIO, NULL, "failed"},
        {500, "", NULL, NOW, PASSING, EIO, NULL, "failed"},
        {502, "<html>", NULL, NOW, PASSING, EIO, NULL, "502"},
        {504, "", NULL, NOW, PASSING, EIO, NULL, "failed"},
        {520, "", NULL, NOW, PASSING, EIO, NULL, "failed"},
        {499, "", NULL, NOW, PASSING, EIO, NULL, "failed"},
        {408, "", NULL, NOW, PASSING, EIO, NULL, "waited"},
        {400, ERROR("RequestTimeout"), NULL, NOW, PASSING, EIO, NULL, "waited"},
        {409, ERROR("OperationAborted"), NULL, NOW, PASSING, EIO, NULL, "now"},
        {503, ERROR("XMinioServerNotInitialized"), NULL, NOW, PASSING, EIO, NULL, "starting"},
        {501, ERROR("NotImplemented"), NULL, NOW, FINAL, EOPNOTSUPP, NULL, "lacks"},
        {400, ERROR("XMinioInvalidObjectName"), NULL, NOW, FINAL, EINVAL, NULL, "MinIO"},
        {405, "", NULL, NOW, FINAL, EIO, NULL, "405"},
        {304, "", NULL, NOW, FINAL, EIO, NULL, "304"},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(replies); i++)
        check_reply(&replies[i]);
}

/* A server writes the message; it cannot write a line of the log. */
Test(s3_reply, hostile_messages)
{
    struct atd_http_head head = {.status = 400};
    struct atd_error err = ATD_ERROR_INIT;
    char region[64];

    (void)atd_s3_error_classify(
        &head, bytes_of("<Error><Code>Odd</Code><Message>a&#10;%s%n b</Message></Error>"), "'x'",
        NOW, region, &err);
    cr_assert_str_eq(err.text,
                     "'x' cannot be read: the server refuses the request (Odd: a %s%n b)");
    (void)atd_s3_error_classify(&head, bytes_of(ERROR("NoSuchBucket")), "the list", NOW, region,
                                &err);
    cr_assert_str_eq(err.text, "the bucket of the list does not exist (NoSuchBucket)");
}

/* ------------------------------------------------------------------ headers */

Test(s3_reply, content_ranges)
{
    static const struct {
        const char *text;
        bool ok;
        uint64_t first, last, total;
    } cases[] = {
        {"bytes 0-0/1", true, 0, 0, 1},
        {"bytes 5-9/10", true, 5, 9, 10},
        {" Bytes\t 5-9/10 ", true, 5, 9, 10},
        {"bytes 0-9223372036854775806/9223372036854775807", true, 0, INT64_MAX - 1, INT64_MAX},
        {"bytes */10", true, 1, 0, 10},
        {"bytes */0", true, 1, 0, 0},
        {"", false, 0, 0, 0},
        {"bytes", false, 0, 0, 0},
        {"bytes ", false, 0, 0, 0},
        {"bytes5-9/10", false, 0, 0, 0},
        {"bytes=5-9/10", false, 0, 0, 0},
        {"items 5-9/10", false, 0, 0, 0},
        {"bytes 5-9/*", false, 0, 0, 0},
        {"bytes */*", false, 0, 0, 0},
        {"bytes 9-5/10", false, 0, 0, 0},
        {"bytes 5-10/10", false, 0, 0, 0},
        {"bytes 5-9/10x", false, 0, 0, 0},
        {"bytes 5-9 /10", false, 0, 0, 0},
        {"bytes -5-9/10", false, 0, 0, 0},
        {"bytes 5-/10", false, 0, 0, 0},
        {"bytes 5-9/", false, 0, 0, 0},
        {"bytes 5-9", false, 0, 0, 0},
        {"bytes 0-1/9223372036854775808", false, 0, 0, 0},
        {"bytes 0-1/18446744073709551626", false, 0, 0, 0},
        {"bytes 0-0/1, bytes 2-3/4", false, 0, 0, 0},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        uint64_t first = 77, last = 77, total = 77;
        bool ok = atd_content_range_parse(atd_str_from(cases[i].text), &first, &last, &total);

        cr_assert_eq(ok, cases[i].ok, "%s", cases[i].text);
        cr_assert(first == (ok ? cases[i].first : 77) && last == (ok ? cases[i].last : 77) &&
                      total == (ok ? cases[i].total : 77),
                  "%s", cases[i].text);
    }
    cr_assert(!atd_content_range_parse((struct atd_str){NULL, 0}, &(uint64_t){0}, &(uint64_t){0},
                                       &(uint64_t){0}));
}

static void add_header(struct atd_http_head *head, const char *name, const char *value)
{
    head->headers[head->header_count++] =
        (struct atd_http_header){atd_str_from(name), atd_str_from(value)};
}

Test(s3_reply, object_infos)
{
    struct atd_http_head head = {.status = 206, .content_length = 5};
    struct atd_object_info info = {.size_bytes = 77};

    cr_assert(!atd_object_info_from_head(&head, &info));
    add_header(&head, "CONTENT-Range", "bytes 5-9/1000");
    add_header(&head, "ETag", "\"abc-2\"");
    add_header(&head, "Last-Modified", "Thu, 29 Feb 2024 23:59:58 GMT");
    cr_assert(atd_object_info_from_head(&head, &info));
    cr_assert_eq(info.size_bytes, 1000u);
    cr_assert_str_eq(info.etag, "abc-2");
    cr_assert_eq(info.mtime_s, NOW);

    head.status = 200;
    cr_assert(atd_object_info_from_head(&head, &info));
    cr_assert_eq(info.size_bytes, 5u);
    head.content_length = -1;
    info.size_bytes = 77;
    cr_assert(!atd_object_info_from_head(&head, &info));
    cr_assert_eq(info.size_bytes, 77u);
    head.content_length = 5;
    head.status = 404;
    cr_assert(!atd_object_info_from_head(&head, &info));

    head = (struct atd_http_head){.status = 206, .content_length = 0};
    add_header(&head, "content-range", "bytes */1000");
    cr_assert(!atd_object_info_from_head(&head, &info));

    head = (struct atd_http_head){.status = 200, .content_length = 0};
    add_header(&head, "last-modified", "soon");
    cr_assert(atd_object_info_from_head(&head, &info));
    cr_assert(info.size_bytes == 0 && info.etag[0] == '\0' && info.mtime_s == 0);
}

Test(s3_reply, etags)
{
    static const struct {
        const char *text, *etag;
    } cases[] = {
        {"\"abc\"", "abc"}, {"abc", "abc"},         {"W/\"abc\"", "W/abc"},
        {"W/abc", "W/abc"}, {"\"W/abc\"", "W/abc"}, {"", ""},
        {"\"\"", ""},       {"W/\"\"", ""},         {"W/", ""},
        {"\"", ""},         {"\"abc", ""},          {"a\"b", ""},
        {"a b", ""},        {"a\r\nx: y", ""},      {"a\x7f", ""},
        {"\xc3\xa9", ""},
    };
    char text[ATD_ETAG_MAX + 4];
    char etag[ATD_ETAG_MAX + 1];

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        atd_etag_copy(atd_str_from(cases[i].text), etag);
        cr_assert_str_eq(etag, cases[i].etag, "%s: %s", cases[i].text, etag);
    }
    memset(text, 'a', sizeof(text));
    atd_etag_copy((struct atd_str){text, ATD_ETAG_MAX}, etag);
    cr_assert_eq(strlen(etag), (size_t)ATD_ETAG_MAX);
    atd_etag_copy((struct atd_str){text, ATD_ETAG_MAX + 1}, etag);
    cr_assert_str_eq(etag, "");
}

Test(s3_reply, finding_headers)
{
    struct atd_http_head head = {.status = 200};

    cr_assert_null(atd_http_head_find(&head, "a").ptr);
    add_header(&head, "ETagX", "1");
    add_header(&head, "ETa", "2");
    add_header(&head, "eTAG", "3");
    add_header(&head, "etag", "4");
    cr_assert(atd_str_equal(atd_http_head_find(&head, "ETag"), ATD_STR("3")));
    cr_assert_null(atd_http_head_find(&head, "").ptr);
}

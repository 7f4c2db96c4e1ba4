#include <criterion/criterion.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/stores.h"
#include "support/one_get.h"
#include "support/store_server.h"

/* ------------------------------------------------------------------ credentials, scripted */

/*
 * The real module has threads and sources; what the store asks of it is this. The definitions here
 * take the place of the library's.
 */
#define KEY_ID "AKIDTEST"
#define SECRET "wJalrXUtnFEMISECRETKEY"
#define TOKEN "session-token-SECRET"

struct atd_credentials {
    unsigned pending;  /* so many _get say EAGAIN */
    unsigned renewals; /* so many _refuse are worth it */
    unsigned refused;
    bool has_none;
    const char *region;
    char token[64];
};

int atd_credentials_get(struct atd_credentials *credentials, struct atd_credential *ret_value,
                        struct atd_error *err)
{
    if (credentials->has_none)
        return atd_error_set(err, EACCES, "no credentials were found");
    if (credentials->pending > 0) {
        credentials->pending--;
        return atd_error_set_retryable(err, EAGAIN, "credentials are being fetched");
    }
    *ret_value = (struct atd_credential){.access_key_id = KEY_ID, .secret_access_key = SECRET};
    (void)strcpy(ret_value->session_token, credentials->token);
    return 0;
}

bool atd_credentials_refuse(struct atd_credentials *credentials, const struct atd_credential *used)
{
    cr_assert_str_eq(used->access_key_id, KEY_ID);
    cr_assert_str_eq(used->session_token, credentials->token);
    credentials->refused++;
    if (credentials->renewals == 0)
        return false;
    credentials->renewals--;
    credentials->pending = 2;
    (void)snprintf(credentials->token, sizeof(credentials->token), TOKEN "-%u",
                   credentials->refused);
    return true;
}

const char *atd_credentials_region(const struct atd_credentials *credentials)
{
    return credentials->region;
}

/* ------------------------------------------------------------------ frame */

static struct atd_credentials credentials;
static struct atd_store *store;

/* What a server may know of us and what it sent itself: never in a sentence. */
static void check_no_secret(const char *text)
{
    cr_assert_null(strstr(text, SECRET), "%s", text);
    cr_assert_null(strstr(text, "SECRET"), "%s", text);
    cr_assert_null(strstr(text, "Signature"), "%s", text);
}

static void open_store(bool is_signed)
{
    char endpoint[64];
    struct atd_s3_options options = {
        .endpoint = endpoint,
        .credentials = is_signed ? &credentials : NULL,
        .limits = &server_limits,
    };
    struct atd_error err = ATD_ERROR_INIT;

    server_url(endpoint, sizeof(endpoint), "");
    cr_assert_eq(atd_store_s3_new(engine, &options, &store, &err), 0, "%s", err.text);
}

static void setup(void)
{
    server_setup();
    open_store(true);
}

static void teardown(void)
{
    atd_store_free(store);
    server_teardown();
}

TestSuite(s3_store, .init = setup, .fini = teardown);

static struct one_get *read_of(const char *url, uint64_t first, uint64_t end,
                               const struct atd_object_info *expect)
{
    struct one_get *one = one_get_start(store, url, first, end, expect, 20000);

    cr_assert(one_get_wait_done(one));
    check_no_secret(one->why.text);
    return one;
}

/* A read that must fail with `code` and a sentence that has `part` in it. */
static void read_fails(const char *url, uint64_t first, uint64_t end,
                       const struct atd_object_info *expect, int code, const char *part)
{
    struct one_get *one = read_of(url, first, end, expect);

    cr_assert_eq(one->why.code, code, "%d: %s", one->why.code, one->why.text);
    cr_assert_not_null(strstr(one->why.text, part), "%s", one->why.text);
    cr_assert_eq(one->received, 0);
    one_get_free(one);
}

static void read_is(const char *url, uint64_t first, const char *bytes,
                    const struct atd_object_info *expect)
{
    struct one_get *one = read_of(url, first, first + strlen(bytes), expect);

    cr_assert_eq(one->why.code, 0, "%d: %s", one->why.code, one->why.text);
    cr_assert_arr_eq(one->get.into, bytes, strlen(bytes));
    cr_assert_eq(one->received, strlen(bytes));
    cr_assert(one->found_before_data);
    cr_assert_not(one->went_back);
    one_get_free(one);
}

#define URL "s3://bucket/dir/a.tar"
#define PART "HTTP/1.1 206 Partial Content\r\n"
#define OK "HTTP/1.1 200 OK\r\n"

static const struct atd_object_info expected = {.size_bytes = 100, .etag = "abc"};

/* ------------------------------------------------------------------ reading */

Test(s3_store, reads_a_range_with_one_signed_request)
{
    struct one_get *one;
    char value[1024];

    (void)strcpy(credentials.token, TOKEN);
    server_say(PART "Content-Range: bytes 10-14/100\r\nContent-Length: 5\r\nETag: \"abc\"\r\n"
                    "Last-Modified: Mon, 24 Nov 2025 10:00:00 GMT\r\n\r\nhello");
    one = read_of(URL, 10, 15, &expected);
    cr_assert_eq(one->why.code, 0, "%s", one->why.text);
    cr_assert_arr_eq(one->get.into, "hello", 5);
    cr_assert_eq(one->get.found.size_bytes, 100);
    cr_assert_str_eq(one->get.found.etag, "abc");
    cr_assert_eq(one->get.found.mtime_s, 1763978400);
    one_get_free(one);

    cr_assert_eq(server_asked(), 1);
    cr_assert_str_eq(server_request_line(0), "GET /bucket/dir/a.tar HTTP/1.1");
    cr_assert_str_eq(server_header(0, "range", value), "bytes=10-14");
    cr_assert_str_eq(server_header(0, "if-match", value), "\"abc\"");
    cr_assert_str_eq(server_header(0, "x-amz-security-token", value), TOKEN);
    cr_assert_eq(strlen(server_header(0, "x-amz-date", value)), 16);
    server_header(0, "authorization", value);
    cr_assert_eq(strncmp(value, "AWS4-HMAC-SHA256 Credential=" KEY_ID "/", 28 + strlen(KEY_ID "/")),
                 0, "%s", value);
    cr_assert_not_null(strstr(value, "/us-east-1/s3/aws4_request, SignedHeaders="), "%s", value);
    cr_assert_not_null(strstr(value, "if-match;range;x-amz-content-sha256;x-amz-date;"
                                     "x-amz-security-token, Signature="),
                       "%s", value);
}

Test(s3_store, unsigned_requests_have_no_authorization)
{
    char value[1024];

    atd_store_free(store);
    open_store(false);
    server_say(PART "Content-Range: bytes 0-1/2\r\nContent-Length: 2\r\nETag: \"x\"\r\n\r\nhi");
    read_is(URL, 0, "hi", NULL);
    cr_assert_null(server_header(0, "authorization", value));
    cr_assert_null(server_header(0, "x-amz-date", value));
    cr_assert_null(server_header(0, "if-match", value));
}

Test(s3_store, weak_etag_is_not_sent_and_size_and_time_decide)
{
    struct atd_object_info weak = {.size_bytes = 2, .etag = "W/x", .mtime_s = 1763978400};
    char value[64];

    server_say(PART "Content-Range: bytes 0-1/2\r\nContent-Length: 2\r\nETag: \"x\"\r\n"
                    "Last-Modified: Mon, 24 Nov 2025 10:00:00 GMT\r\n\r\nhi");
    read_is(URL, 0, "hi", &weak);
    cr_assert_null(server_header(0, "if-match", value));
    server_say(PART "Content-Range: bytes 0-1/2\r\nContent-Length: 2\r\nETag: W/\"x\"\r\n"
                    "Last-Modified: Mon, 24 Nov 2025 10:00:01 GMT\r\n\r\nhi");
    read_fails(URL, 0, 2, &weak, ESTALE, "another version");
}

Test(s3_store, whole_object_may_come_without_a_range)
{
    server_say(OK "Content-Length: 5\r\nETag: \"abc\"\r\n\r\nhello");
    read_is(URL, 0, "hello", NULL);
}

Test(s3_store, resumes_at_the_byte_reached_and_pins_the_version)
{
    char value[64];

    server_say_and_cut(PART "Content-Range: bytes 10-19/100\r\nContent-Length: 10\r\n"
                            "ETag: \"abc\"\r\n\r\n0123");
    server_say(PART "Content-Range: bytes 14-19/100\r\nContent-Length: 6\r\nETag: \"abc\"\r\n\r\n"
                    "456789");
    read_is(URL, 10, "0123456789", NULL);
    cr_assert_eq(server_asked(), 2);
    cr_assert_null(server_header(0, "if-match", value));
    cr_assert_str_eq(server_header(1, "range", value), "bytes=14-19");
    cr_assert_str_eq(server_header(1, "if-match", value), "\"abc\"");
}

Test(s3_store, another_version_on_resume_is_stale)
{
    struct one_get *one;

    server_say_and_cut(PART "Content-Range: bytes 10-19/100\r\nContent-Length: 10\r\n"
                            "ETag: \"abc\"\r\n\r\n0123");
    /* Ignores If-Match. */
    server_say(PART "Content-Range: bytes 14-19/100\r\nContent-Length: 6\r\nETag: \"abd\"\r\n\r\n"
                    "xxxxxx");
    one = read_of(URL, 10, 20, NULL);
    cr_assert_eq(one->why.code, ESTALE, "%s", one->why.text);
    cr_assert_eq(one->received, 4);
    cr_assert_arr_eq(one->get.into, "0123\0\0\0\0\0\0", 10);
    cr_assert_eq(server_asked(), 2);
    one_get_free(one);
}

Test(s3_store, changed_objects_are_stale)
{
    static const char *const replies[] = {
        "HTTP/1.1 412 Precondition Failed\r\nContent-Length: 53\r\n\r\n"
        "<Error><Code>PreconditionFailed</Code></Error>       ",
        PART "Content-Range: bytes 10-19/100\r\nContent-Length: 10\r\nETag: \"abd\"\r\n\r\n"
             "0123456789",
        PART "Content-Range: bytes 10-19/101\r\nContent-Length: 10\r\nETag: \"abc\"\r\n\r\n"
             "0123456789",
        "HTTP/1.1 416 Range\r\nContent-Range: bytes */5\r\nContent-Length: 0\r\n\r\n",
        OK "Content-Length: 100000000\r\nETag: \"abd\"\r\n\r\n",
    };

    for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++) {
        server_say(replies[i]);
        read_fails(URL, 10, 20, &expected, ESTALE, "'" URL "'");
        cr_assert_eq(server_asked(), i + 1, "a changed object is not asked for again");
    }
    server_say(PART "Content-Range: bytes 10-14/15\r\nContent-Length: 5\r\nETag: \"abc\"\r\n\r\n"
                    "01234");
    read_fails(URL, 10, 20, NULL, ESTALE, "ends before byte 20");
}

#define TEN "0123456789"

Test(s3_store, other_ranges_are_asked_for_once_more)
{
    static const char *const replies[] = {
        PART "Content-Range: bytes 11-20/100\r\nContent-Length: 10\r\nETag: \"abc\"\r\n\r\n"
             "0123456789",
        PART "Content-Range: bytes 10-19/100\r\nContent-Length: 9\r\nETag: \"abc\"\r\n\r\n"
             "012345678",
        PART "Content-Length: 10\r\nETag: \"abc\"\r\n\r\n0123456789",
        OK "Content-Length: 100\r\nETag: \"abc\"\r\n\r\n" TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN,
        OK "ETag: \"abc\"\r\nTransfer-Encoding: chunked\r\n\r\n",
    };
    unsigned asked = 0;

    for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++) {
        server_say(replies[i]);
        server_say(replies[i]);
        read_fails(URL, 10, 20, &expected, EIO, "another range than bytes 10 to 19");
        asked += 2;
        cr_assert_eq(server_asked(), asked, "reply %zu: %u requests", i, server_asked());
        server_say(replies[i]);
        server_say(PART "Content-Range: bytes 10-19/100\r\nContent-Length: 10\r\n"
                        "ETag: \"abc\"\r\n\r\n0123456789");
        read_is(URL, 10, "0123456789", &expected);
        asked += 2;
        cr_assert_eq(server_asked(), asked);
    }
}

Test(s3_store, endless_answer_to_a_part_is_not_read)
{
    for (int i = 0; i < 2; i++)
        server_say_and_wait(OK "Content-Length: 100000000000\r\n\r\n" TEN);
    read_fails(URL, 10, 20, NULL, EIO, "another range than bytes 10 to 19");
    cr_assert_eq(server_asked(), 2);
}

Test(s3_store, more_bytes_than_said_are_not_taken)
{
    /* Without a length: only the Content-Range says how many there are. */
    server_say(PART "Content-Range: bytes 10-14/100\r\nETag: \"abc\"\r\n"
                    "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    read_is(URL, 10, "hello", &expected);
    server_say(PART "Content-Range: bytes 10-14/100\r\nETag: \"abc\"\r\n"
                    "Transfer-Encoding: chunked\r\n\r\n7\r\nhelloXX\r\n0\r\n\r\n");
    read_fails(URL, 10, 15, &expected, EPROTO, "more bytes than it said");
}

Test(s3_store, errors_are_final_where_waiting_does_not_help)
{
    static const struct {
        const char *reply;
        int code;
    } cases[] = {
        {"HTTP/1.1 404 Not Found\r\nContent-Length: "
         "37\r\n\r\n<Error><Code>NoSuchKey</Code></Error>",
         ENOENT},
        {"HTTP/1.1 403 Forbidden\r\nContent-Length: 40\r\n\r\n"
         "<Error><Code>AccessDenied</Code></Error>",
         EACCES},
        {"HTTP/1.1 403 Forbidden\r\nContent-Length: 184\r\n\r\n"
         "<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message><AWSAccessKeyId>AKIDTEST"
         "</AWSAccessKeyId><StringToSign>SECRET Signature</StringToSign>"
         "<X>SECRET</X>                     </Error>",
         EACCES},
        {"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/SECRET\r\nContent-Length: 0\r\n\r\n",
         EIO},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        server_say(cases[i].reply);
        read_fails(URL, 10, 20, &expected, cases[i].code, "'" URL "'");
        cr_assert_eq(server_asked(), i + 1);
    }
}

Test(s3_store, passing_troubles_pass)
{
    server_say("HTTP/1.1 503 Slow Down\r\nContent-Length: 36\r\n\r\n"
               "<Error><Code>SlowDown</Code></Error>");
    server_say("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n");
    server_say_and_cut("");
    server_say(PART "Content-Range: bytes 0-1/2\r\nContent-Length: 2\r\nETag: \"x\"\r\n\r\nhi");
    read_is(URL, 0, "hi", NULL);
    cr_assert(server_asked() >= 4);
    cr_assert_eq(atomic_load(&atd_http_stats(engine)->throttled), 1);
}

Test(s3_store, cancelled_read_keeps_what_came)
{
    struct one_get *one;

    server_say_and_wait(PART "Content-Range: bytes 10-19/100\r\nContent-Length: 10\r\n"
                             "ETag: \"abc\"\r\n\r\n0123");
    one = one_get_start(store, URL, 10, 20, NULL, 60000);
    cr_assert(one_get_wait(one, 4));
    atd_store_get_make_urgent(store, &one->get);
    (void)pthread_mutex_lock(&one->mutex);
    cr_assert_eq(one->done_count, 0);
    atd_store_get_cancel(store, &one->get);
    (void)pthread_mutex_unlock(&one->mutex);
    cr_assert(one_get_wait_done(one));
    cr_assert_eq(one->why.code, ECANCELED, "%s", one->why.text);
    cr_assert_eq(one->received, 4);
    cr_assert_eq(one->done_count, 1);
    one_get_free(one);
}

Test(s3_store, silent_server_stalls_a_read_for_so_long_only)
{
    struct one_get *one;

    server_say_and_wait("");
    one = one_get_start(store, URL, 10, 20, NULL, 300);
    cr_assert(one_get_wait_done(one));
    cr_assert_eq(one->why.code, ETIMEDOUT, "%s", one->why.text);
    one_get_free(one);
}

Test(s3_store, urls_that_name_no_object_are_refused_from_another_thread)
{
    static const char *const urls[] = {
        "https://host/a.tar", "/path", "s3://bucket", "s3://bucket/", "s3:///key", "relative", ""};
    struct atd_object_info info;
    struct atd_error err = ATD_ERROR_INIT;

    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        read_fails(urls[i], 0, 10, NULL, EINVAL, "");
        cr_assert_eq(atd_store_stat(store, atd_str_from(urls[i]), 1000, &info, &err), -EINVAL);
    }
    read_fails("s3://user:SECRET@bucket/key?Signature=1", 0, 10, NULL, EINVAL, "");
    cr_assert_eq(server_asked(), 0);
}

/* ------------------------------------------------------------------ corrections */

#define MALFORMED_BODY \
    "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>"
#define MALFORMED "HTTP/1.1 400 Bad Request\r\nContent-Length: 82\r\n\r\n" MALFORMED_BODY
#define HI PART "Content-Range: bytes 0-1/2\r\nContent-Length: 2\r\nETag: \"x\"\r\n\r\nhi"

Test(s3_store, region_is_corrected_and_remembered_for_the_bucket)
{
    char value[1024];

    cr_assert_eq(strlen(MALFORMED_BODY), 82);
    server_say(MALFORMED);
    server_say(HI);
    read_is(URL, 0, "hi", NULL);
    cr_assert_not_null(strstr(server_header(0, "authorization", value), "/us-east-1/s3/"));
    cr_assert_not_null(strstr(server_header(1, "authorization", value), "/eu-west-1/s3/"));
    server_say(HI);
    read_is("s3://bucket/b.tar", 0, "hi", NULL);
    cr_assert_not_null(strstr(server_header(2, "authorization", value), "/eu-west-1/s3/"));
    server_say(HI);
    read_is("s3://other/b.tar", 0, "hi", NULL);
    cr_assert_not_null(strstr(server_header(3, "authorization", value), "/us-east-1/s3/"));
    /* What it says it got already: nothing to be corrected. */
    server_say(MALFORMED);
    read_fails(URL, 0, 2, NULL, EIO, "region");
    cr_assert_eq(server_asked(), 5);
    cr_assert_eq(atomic_load(&atd_http_stats(engine)->region_corrections), 1);
}

Test(s3_store, clock_is_corrected)
{
    char value[64];

    server_say("HTTP/1.1 403 Forbidden\r\nDate: Fri, 01 Jan 2038 00:00:00 GMT\r\n"
               "Content-Length: 48\r\n\r\n<Error><Code>RequestTimeTooSkewed</Code></Error>");
    server_say(HI);
    read_is(URL, 0, "hi", NULL);
    cr_assert_neq(strncmp(server_header(0, "x-amz-date", value), "2038", 4), 0);
    cr_assert_eq(strncmp(server_header(1, "x-amz-date", value), "20380101T00", 11), 0, "%s", value);
    /* Still, with its own time: that cannot be it. */
    server_say("HTTP/1.1 403 Forbidden\r\nDate: Fri, 01 Jan 2038 00:00:00 GMT\r\n"
               "Content-Length: 48\r\n\r\n<Error><Code>RequestTimeTooSkewed</Code></Error>");
    read_fails(URL, 0, 2, NULL, EACCES, "clock");
    cr_assert_eq(server_asked(), 3);
    cr_assert_eq(atomic_load(&atd_http_stats(engine)->clock_corrections), 1);
}

Test(s3_store, clock_is_corrected_by_a_head_that_says_nothing)
{
    struct atd_object_info info;
    struct atd_error err = ATD_ERROR_INIT;
    char value[64];

    server_say("HTTP/1.1 403 Forbidden\r\nDate: Fri, 01 Jan 2038 00:00:00 GMT\r\n\r\n");
    server_say(OK "Content-Length: 5\r\n\r\n");
    cr_assert_eq(atd_store_stat(store, ATD_STR(URL), 20000, &info, &err), 0, "%s", err.text);
    cr_assert_eq(strncmp(server_header(1, "x-amz-date", value), "20380101T00", 11), 0, "%s", value);
    cr_assert_str_eq(server_request_line(1), "HEAD /bucket/dir/a.tar HTTP/1.1");
}

#define EXPIRED                                    \
    "HTTP/1.1 400 Bad Request\r\nContent-Length: " \
    "40\r\n\r\n<Error><Code>ExpiredToken</Code></Error>"

Test(s3_store, expired_credentials_are_renewed_once)
{
    char value[64];

    (void)strcpy(credentials.token, TOKEN);
    credentials.renewals = 1;
    credentials.pending = 1; /* not there yet at the first request either */
    server_say(EXPIRED);
    server_say(HI);
    read_is(URL, 0, "hi", NULL);
    cr_assert_str_eq(server_header(0, "x-amz-security-token", value), TOKEN);
    cr_assert_str_eq(server_header(1, "x-amz-security-token", value), TOKEN "-1");
    server_say(EXPIRED);
    read_fails(URL, 0, 2, NULL, EACCES, "expired");
    cr_assert_eq(credentials.refused, 2);
    cr_assert_eq(server_asked(), 3);
}

Test(s3_store, no_credentials_is_an_error_without_a_request)
{
    credentials.has_none = true;
    read_fails(URL, 0, 2, NULL, EACCES, "no credentials");
    cr_assert_eq(server_asked(), 0);
}

/* ------------------------------------------------------------------ keys on the wire */

Test(s3_store, awkward_keys_are_sent_byte_for_byte)
{
    static const struct {
        const char *key;
        const char *wire;
    } cases[] = {
        {"a b", "a%20b"},
        {"a+b", "a%2Bb"},
        {"100%", "100%25"},
        {"a%20b", "a%2520b"},
        {"a//b", "a//b"},
        {"/a", "/a"},
        {"a/", "a/"},
        {"a/./b", "a/./b"},
        {"../a/../../b", "../a/../../b"},
        {"k\xc3\xa9y-\xe2\x82\xac", "k%C3%A9y-%E2%82%AC"},
        {"a?b=c&d#e", "a%3Fb%3Dc%26d%23e"},
        {"a:b@c!d~e_f-g.h", "a%3Ab%40c%21d~e_f-g.h"},
        {"a\\b\"c'd", "a%5Cb%22c%27d"},
        {"{a,b}[0]", "%7Ba%2Cb%7D%5B0%5D"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char url[128];
        char line[256];

        (void)snprintf(url, sizeof(url), "s3://bucket/%s", cases[i].key);
        (void)snprintf(line, sizeof(line), "GET /bucket/%s HTTP/1.1", cases[i].wire);
        server_say(HI);
        read_is(url, 0, "hi", NULL);
        cr_assert_str_eq(server_request_line((unsigned)i), line);
    }
}

/* ------------------------------------------------------------------ facts */

static int stat_of(const char *url, struct atd_object_info *ret_info, struct atd_error *err)
{
    int rc = atd_store_stat(store, atd_str_from(url), 20000, ret_info, err);

    if (rc)
        check_no_secret(err->text);
    return rc;
}

Test(s3_store, stat_is_a_head)
{
    struct atd_object_info info;
    struct atd_error err = ATD_ERROR_INIT;

    server_say(OK "Content-Length: 1234567890123\r\nETag: \"abc\"\r\n"
                  "Last-Modified: Mon, 24 Nov 2025 10:00:00 GMT\r\n\r\n");
    cr_assert_eq(stat_of(URL, &info, &err), 0, "%s", err.text);
    cr_assert_eq(info.size_bytes, 1234567890123);
    cr_assert_str_eq(info.etag, "abc");
    cr_assert_eq(info.mtime_s, 1763978400);
    server_say(OK "Content-Length: 0\r\nETag: \"e\"\r\n\r\n");
    cr_assert_eq(stat_of(URL, &info, &err), 0, "%s", err.text);
    cr_assert_eq(info.size_bytes, 0);
    server_say("HTTP/1.1 404 Not Found\r\n\r\n");
    cr_assert_eq(stat_of(URL, &info, &err), -ENOENT);
    cr_assert_eq(server_asked(), 3);
    for (unsigned i = 0; i < 3; i++)
        cr_assert_str_eq(server_request_line(i), "HEAD /bucket/dir/a.tar HTTP/1.1");
}

Test(s3_store, refused_head_is_replaced_by_a_get_and_remembered)
{
    struct atd_object_info info;
    struct atd_error err = ATD_ERROR_INIT;
    char value[64];

    server_say("HTTP/1.1 403 Forbidden\r\n\r\n");
    server_say(PART "Content-Range: bytes 0-0/77\r\nContent-Length: 1\r\nETag: \"abc\"\r\n\r\nx");
    cr_assert_eq(stat_of(URL, &info, &err), 0, "%s", err.text);
    cr_assert_eq(info.size_bytes, 77);
    cr_assert_str_eq(info.etag, "abc");
    cr_assert_str_eq(server_request_line(0), "HEAD /bucket/dir/a.tar HTTP/1.1");
    cr_assert_str_eq(server_request_line(1), "GET /bucket/dir/a.tar HTTP/1.1");
    cr_assert_str_eq(server_header(1, "range", value), "bytes=0-0");

    /* An empty object has no first byte. */
    server_say("HTTP/1.1 416 Range\r\nContent-Range: bytes */0\r\nContent-Length: 0\r\n\r\n");
    cr_assert_eq(stat_of("s3://bucket/b", &info, &err), 0, "%s", err.text);
    cr_assert_eq(info.size_bytes, 0);
    cr_assert_str_eq(server_request_line(2), "GET /bucket/b HTTP/1.1");
    /* MinIO's does not say the size. */
    server_say("HTTP/1.1 416 Range\r\nContent-Length: 0\r\n\r\n");
    cr_assert_eq(stat_of("s3://bucket/b", &info, &err), 0, "%s", err.text);
    cr_assert_eq(info.size_bytes, 0);
    cr_assert_eq(server_asked(), 4);

    /* Far more than anybody wants: it is not read. */
    server_say_and_wait(OK "Content-Length: 100000000000\r\nETag: \"abc\"\r\n\r\nxxx");
    cr_assert_eq(stat_of("s3://bucket/c", &info, &err), 0, "%s", err.text);
    cr_assert_eq(info.size_bytes, 100000000000);
    server_say(OK "Content-Length: 5\r\n\r\n");
    cr_assert_eq(stat_of("s3://other/b", &info, &err), 0);
    cr_assert_str_eq(server_request_line(5), "HEAD /other/b HTTP/1.1");
}

Test(s3_store, refused_head_and_get_is_refused_for_the_reason_of_the_get)
{
    struct atd_object_info info;
    struct atd_error err = ATD_ERROR_INIT;

    server_say("HTTP/1.1 403 Forbidden\r\n\r\n");
    server_say("HTTP/1.1 403 Forbidden\r\nContent-Length: 40\r\n\r\n"
               "<Error><Code>AccessDenied</Code></Error>");
    cr_assert_eq(stat_of(URL, &info, &err), -EACCES);
    cr_assert_not_null(strstr(err.text, "AccessDenied"), "%s", err.text);
    /* It was not the HEAD that was refused. */
    server_say(OK "Content-Length: 5\r\n\r\n");
    cr_assert_eq(stat_of(URL, &info, &err), 0);
    cr_assert_str_eq(server_request_line(2), "HEAD /bucket/dir/a.tar HTTP/1.1");
}

Test(s3_store, head_cannot_say_the_region_but_the_get_can)
{
    struct atd_object_info info;
    struct atd_error err = ATD_ERROR_INIT;

    server_say("HTTP/1.1 400 Bad Request\r\n\r\n");
    server_say(MALFORMED);
    server_say(PART "Content-Range: bytes 0-0/77\r\nContent-Length: 1\r\n\r\nx");
    cr_assert_eq(stat_of(URL, &info, &err), 0, "%s", err.text);
    cr_assert_eq(info.size_bytes, 77);
    server_say(OK "Content-Length: 5\r\n\r\n");
    cr_assert_eq(stat_of(URL, &info, &err), 0);
    cr_assert_str_eq(server_request_line(3), "HEAD /bucket/dir/a.tar HTTP/1.1");
}

Test(s3_store, stat_gives_up_in_time)
{
    struct atd_object_info info;
    struct atd_error err = ATD_ERROR_INIT;
    int64_t start_ms = atd_clock_monotonic_ms();

    server_say_and_wait("");
    cr_assert_eq(atd_store_stat(store, ATD_STR(URL), 200, &info, &err), -ETIMEDOUT, "%s", err.text);
    cr_assert(atd_clock_monotonic_ms() - start_ms < 20000);
}

static atomic_bool gate;
static atomic_uint at_gate;

static void wait_at_gate(struct atd_store_get *get, size_t received)
{
    (void)atomic_fetch_add(&at_gate, 1);
    while (!atomic_load(&gate))
        (void)usleep(1000);
    one_get_progress(get, received);
}

/* Both loops hang (which nothing may make them): the call is left behind, and ends later. */
Test(s3_store, stat_outlives_a_hanging_engine)
{
    struct one_get reads[2];
    uint8_t into[2][2];
    struct atd_object_info info;
    struct atd_error err = ATD_ERROR_INIT;

    for (unsigned i = 0; i < 2; i++) {
        reads[i] = (struct one_get){.mutex = PTHREAD_MUTEX_INITIALIZER,
                                    .changed = PTHREAD_COND_INITIALIZER};
        reads[i].get = (struct atd_store_get){
            .url = ATD_STR(URL),
            .end = 2,
            .into = into[i],
            .stall_timeout_ms = 60000,
            .progress = wait_at_gate,
            .done = one_get_done,
            .ctx = &reads[i],
        };
        server_say(HI);
        atd_store_get_start(store, &reads[i].get);
        while (atomic_load(&at_gate) <= i)
            (void)usleep(1000);
    }
    cr_assert_eq(atd_store_stat(store, ATD_STR(URL), 10, &info, &err), -ETIMEDOUT, "%s", err.text);
    cr_assert_not_null(strstr(err.text, "no answer within 10 ms"), "%s", err.text);
    atomic_store(&gate, true);
    for (unsigned i = 0; i < 2; i++) {
        cr_assert(one_get_wait_done(&reads[i]));
        cr_assert_eq(reads[i].why.code, 0, "%s", reads[i].why.text);
    }
}

/* ------------------------------------------------------------------ listing and signing */

#define LISTED_MAX 8

struct listed {
    unsigned count;
    unsigned stop_at;
    char urls[LISTED_MAX][128];
    struct atd_object_info infos[LISTED_MAX];
};

static int note_listed(void *ctx, struct atd_str url, const struct atd_object_info *info)
{
    struct listed *listed = ctx;

    cr_assert(listed->count < LISTED_MAX && url.len < sizeof(listed->urls[0]));
    (void)memcpy(listed->urls[listed->count], url.ptr, url.len);
    listed->infos[listed->count++] = *info;
    return listed->count == listed->stop_at ? 1 : 0;
}

static void say_page(const char *body)
{
    char reply[4096];

    (void)snprintf(reply, sizeof(reply), OK "Content-Length: %zu\r\n\r\n%s", strlen(body), body);
    server_say(reply);
}

#define OBJECT(key, size)                                                               \
    "<Contents><Key>" key "</Key><LastModified>2025-11-24T10:00:00.000Z</LastModified>" \
    "<ETag>&quot;e&quot;</ETag><Size>" size "</Size></Contents>"
#define PAGE(more, objects)                                                                 \
    "<ListBucketResult><IsTruncated>" more "</IsTruncated><EncodingType>url</EncodingType>" \
    "<NextContinuationToken>t</NextContinuationToken>" objects "</ListBucketResult>"

Test(s3_store, lists_one_page)
{
    struct listed listed = {0};
    struct atd_error err = ATD_ERROR_INIT;
    bool more = false;

    say_page(PAGE("true", OBJECT("d/a+b", "5") OBJECT("d/a%2Bb", "6") OBJECT("d/%C3%A9", "7")));
    cr_assert_eq(atd_store_list(store, ATD_STR("s3://bucket/d/"), ATD_STR("s3://bucket/d/a"), 20000,
                                note_listed, &listed, &more, &err),
                 0, "%s", err.text);
    cr_assert(more);
    cr_assert_eq(listed.count, 3);
    cr_assert_str_eq(listed.urls[0], "s3://bucket/d/a b");
    cr_assert_str_eq(listed.urls[1], "s3://bucket/d/a+b");
    cr_assert_str_eq(listed.urls[2], "s3://bucket/d/\xc3\xa9");
    cr_assert_eq(listed.infos[0].size_bytes, 5);
    cr_assert_str_eq(listed.infos[0].etag, "e");
    cr_assert_eq(listed.infos[0].mtime_s, 1763978400);
    cr_assert_str_eq(server_request_line(0),
                     "GET /bucket?encoding-type=url&list-type=2&max-keys=1000&prefix=d%2F&"
                     "start-after=d%2Fa HTTP/1.1");

    say_page(PAGE("false", ""));
    cr_assert_eq(atd_store_list(store, ATD_STR("s3://bucket/"), ATD_STR(""), 20000, note_listed,
                                &listed, &more, &err),
                 0, "%s", err.text);
    cr_assert_not(more);
    cr_assert_eq(listed.count, 3);
}

Test(s3_store, strange_pages_cannot_lead_astray)
{
    struct listed listed = {0};
    struct atd_error err = ATD_ERROR_INIT;
    bool more = false;

    /* Not sorted, one twice, one from elsewhere, one that was had. */
    say_page(PAGE("true", OBJECT("d/c", "3") OBJECT("d/b", "2") OBJECT("x", "9") OBJECT("d/b", "2")
                              OBJECT("d/a", "1")));
    cr_assert_eq(atd_store_list(store, ATD_STR("s3://bucket/d/"), ATD_STR("s3://bucket/d/a"), 20000,
                                note_listed, &listed, &more, &err),
                 0, "%s", err.text);
    cr_assert_eq(listed.count, 2);
    cr_assert_str_eq(listed.urls[0], "s3://bucket/d/b");
    cr_assert_str_eq(listed.urls[1], "s3://bucket/d/c");
    /* It would never end. */
    say_page(PAGE("true", OBJECT("d/a", "1")));
    cr_assert_eq(atd_store_list(store, ATD_STR("s3://bucket/d/"), ATD_STR("s3://bucket/d/a"), 20000,
                                note_listed, &listed, &more, &err),
                 -EPROTO);
    /* Ended by the caller: there is more. */
    listed.stop_at = 3;
    more = false;
    say_page(PAGE("false", OBJECT("d/a", "1") OBJECT("d/b", "2")));
    cr_assert_eq(atd_store_list(store, ATD_STR("s3://bucket/d/"), ATD_STR(""), 20000, note_listed,
                                &listed, &more, &err),
                 0);
    cr_assert_eq(listed.count, 3);
    cr_assert(more);
}

Test(s3_store, listing_fails_with_a_reason)
{
    struct listed listed = {0};
    struct atd_error err = ATD_ERROR_INIT;
    bool more = false;

    server_say("HTTP/1.1 403 Forbidden\r\nContent-Length: 40\r\n\r\n"
               "<Error><Code>AccessDenied</Code></Error>");
    cr_assert_eq(atd_store_list(store, ATD_STR("s3://bucket/d/"), ATD_STR(""), 20000, note_listed,
                                &listed, &more, &err),
                 -EACCES, "%s", err.text);
    cr_assert_eq(atd_store_list(store, ATD_STR("s3://bucket/d/"), ATD_STR("s3://other/d"), 20000,
                                note_listed, &listed, &more, &err),
                 -EINVAL);
    cr_assert_eq(atd_store_list(store, ATD_STR("https://bucket/d/"), ATD_STR(""), 20000,
                                note_listed, &listed, &more, &err),
                 -EINVAL);
    cr_assert_eq(atd_store_list(store, ATD_STR("s3://bucket"), ATD_STR(""), 20000, note_listed,
                                &listed, &more, &err),
                 -EINVAL);
    cr_assert_eq(server_asked(), 1);
    /* Garbage, and then, asked again, a page. */
    server_say(OK "Content-Length: 9\r\n\r\n<garbage>");
    say_page(PAGE("false", OBJECT("d/a", "1")));
    cr_assert_eq(atd_store_list(store, ATD_STR("s3://bucket/d/"), ATD_STR(""), 20000, note_listed,
                                &listed, &more, &err),
                 0, "%s", err.text);
    cr_assert_eq(listed.count, 1);
}

Test(s3_store, signs_urls_for_others)
{
    struct atd_buf url = ATD_BUF_INIT(8192);
    struct atd_error err = ATD_ERROR_INIT;
    const char *text;

    credentials.pending = 1;
    cr_assert_eq(atd_store_presign(store, ATD_STR("s3://bucket/a b"), 60, &url, &err), -EAGAIN);
    cr_assert_eq(atd_store_presign(store, ATD_STR("s3://bucket/a b"), 60, &url, &err), 0, "%s",
                 err.text);
    text = (const char *)url.ptr;
    cr_assert_not_null(strstr(text, "/bucket/a%20b?X-Amz-Algorithm=AWS4-HMAC-SHA256&"), "%s", text);
    cr_assert_not_null(strstr(text, "X-Amz-Expires=60&"), "%s", text);
    cr_assert_null(strstr(text, SECRET));
    cr_assert_eq(server_asked(), 0);
    atd_buf_release(&url);
    atd_store_free(store);
    open_store(false);
    cr_assert_eq(atd_store_presign(store, ATD_STR("s3://bucket/a b"), 60, &url, &err), -EACCES);
}

/* ------------------------------------------------------------------ which region */

Test(s3_store, region_that_is_signed_for)
{
    static const struct {
        const char *endpoint;
        const char *option;
        const char *configured;
        const char *signed_for;
    } cases[] = {
        {"http://127.0.0.1:1", NULL, NULL, "us-east-1"},
        {"http://127.0.0.1:1", NULL, "eu-north-1", "eu-north-1"},
        {"http://127.0.0.1:1", "ap-south-1", "eu-north-1", "ap-south-1"},
        {"https://abc.r2.cloudflarestorage.com", NULL, "eu-north-1", "auto"},
        {"https://abc.r2.cloudflarestorage.com:443", NULL, NULL, "auto"},
        {"https://abc.r2.cloudflarestorage.com", "wnam", NULL, "wnam"},
        {NULL, NULL, NULL, "us-east-1"},
        {NULL, NULL, "eu-north-1", "eu-north-1"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct atd_credentials own = {.region = cases[i].configured};
        struct atd_s3_options options = {
            .endpoint = cases[i].endpoint, .region = cases[i].option, .credentials = &own};
        struct atd_store *other = NULL;
        struct atd_error err = ATD_ERROR_INIT;
        struct atd_buf url = ATD_BUF_INIT(8192);
        char scope[64];

        cr_assert_eq(atd_store_s3_new(engine, &options, &other, &err), 0, "%s", err.text);
        cr_assert_eq(atd_store_presign(other, ATD_STR(URL), 60, &url, &err), 0, "%s", err.text);
        (void)snprintf(scope, sizeof(scope), "%%2F%s%%2Fs3%%2Faws4_request", cases[i].signed_for);
        cr_assert_not_null(strstr((const char *)url.ptr, scope), "case %zu: %s", i, url.ptr);
        atd_buf_release(&url);
        atd_store_free(other);
    }
}

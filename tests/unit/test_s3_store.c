#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "support/s3_frame.h"

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
        OK "Content-Length: 3\r\nETag: \"abd\"\r\n\r\nxyz",
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
        OK "ETag: \"abc\"\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
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
        server_say_endlessly(OK "Content-Length: 100000000000\r\n\r\n" TEN);
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

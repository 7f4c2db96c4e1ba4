#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "store/stores.h"
#include "support/one_get.h"
#include "support/store_server.h"

static struct atd_store *store;

static void setup(void)
{
    struct atd_error err = ATD_ERROR_INIT;

    server_setup();
    cr_assert_eq(atd_store_http_new(engine, &server_limits, &store, &err), 0, "%s", err.text);
}

static void teardown(void)
{
    atd_store_free(store);
    server_teardown();
}

TestSuite(http_store, .init = setup, .fini = teardown);

/* Every URL here may carry secrets: in its query, and before its host. */
static void check_no_secret(const char *text)
{
    cr_assert_null(strstr(text, "SECRET"), "%s", text);
    cr_assert_null(strstr(text, "sig="), "%s", text);
}

static const char *url_of(const char *path)
{
    static char url[512];

    server_url(url, sizeof(url), path);
    return url;
}

static struct one_get *read_of(const char *url, uint64_t first, uint64_t end,
                               const struct atd_object_info *expect)
{
    struct one_get *one = one_get_start(store, url, first, end, expect, 20000);

    cr_assert(one_get_wait_done(one));
    check_no_secret(one->why.text);
    return one;
}

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
    cr_assert(one->found_before_data);
    one_get_free(one);
}

static int stat_of(const char *url, struct atd_object_info *ret_info, struct atd_error *err)
{
    int rc = atd_store_stat(store, atd_str_from(url), 20000, ret_info, err);

    if (rc)
        check_no_secret(err->text);
    return rc;
}

#define SIGNED "/dir/a.tar?sig=SECRET"
#define PART "HTTP/1.1 206 Partial Content\r\n"
#define OK "HTTP/1.1 200 OK\r\n"
#define HI PART "Content-Range: bytes 0-1/2\r\nContent-Length: 2\r\nETag: \"x\"\r\n\r\nhi"

/* ------------------------------------------------------------------ requests */

Test(http_store, reads_a_range_of_one_version)
{
    struct atd_object_info expect = {.size_bytes = 100, .etag = "abc"};
    char value[256];

    server_say_and_cut(PART "Content-Range: bytes 10-14/100\r\nContent-Length: 5\r\n"
                            "ETag: \"abc\"\r\n\r\nhe");
    server_say(PART "Content-Range: bytes 12-14/100\r\nContent-Length: 3\r\nETag: \"abc\"\r\n\r\n"
                    "llo");
    read_is(url_of(SIGNED), 10, "hello", &expect);
    cr_assert_eq(server_asked(), 2);
    cr_assert_str_eq(server_request_line(0), "GET " SIGNED " HTTP/1.1");
    cr_assert_str_eq(server_header(0, "range", value), "bytes=10-14");
    cr_assert_str_eq(server_header(0, "if-match", value), "\"abc\"");
    cr_assert_str_eq(server_header(0, "accept-encoding", value), "identity");
    cr_assert_null(server_header(0, "authorization", value));
    cr_assert_str_eq(server_header(1, "range", value), "bytes=12-14");
    cr_assert_str_eq(server_header(1, "if-match", value), "\"abc\"");
}

Test(http_store, urls_are_sent_as_they_are_spelled)
{
    static const struct {
        const char *path;
        const char *wire;
    } cases[] = {
        {"/a b.tar", "/a%20b.tar"},
        {"/a%20b+c.tar", "/a%20b+c.tar"},
        {"/100%.tar", "/100%.tar"},
        {"//a/../b/./c", "//a/../b/./c"},
        {"/\xc3\xa9", "/%C3%A9"},
        {"/a\tb\x7f", "/a%09b%7F"},
        {"/{a}[b]|c\\d\"e", "/{a}[b]|c\\d\"e"},
        {"/a.tar?x=1&y=a b#part", "/a.tar?x=1&y=a%20b"},
        {"/a.tar#?", "/a.tar"},
        {"/", "/"},
        {"", "/"},
        {"?q", "/?q"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char line[256];

        (void)snprintf(line, sizeof(line), "GET %s HTTP/1.1", cases[i].wire);
        server_say(HI);
        read_is(url_of(cases[i].path), 0, "hi", NULL);
        cr_assert_str_eq(server_request_line((unsigned)i), line);
    }
}

Test(http_store, urls_that_are_not_for_it_are_refused)
{
    static const char *const urls[] = {
        "s3://bucket/key",
        "/path",
        "http:///path",
        "ftp://host/path",
        "http://h\xc3\xb6st/path",
        "http://h st/",
        "http://a\\b/",
        "https://%31/",
        "http://u:SECRET@host/?sig=SECRET",
        "http://SECRET@127.0.0.1/",
    };
    struct atd_object_info info;
    struct atd_error err = ATD_ERROR_INIT;

    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        read_fails(urls[i], 0, 10, NULL, EINVAL, "");
        cr_assert_eq(stat_of(urls[i], &info, &err), -EINVAL, "%s", urls[i]);
    }
    cr_assert_eq(server_asked(), 0);
    cr_assert_eq(
        atd_store_list(store, ATD_STR("http://h/"), ATD_STR(""), 1, NULL, NULL, NULL, &err),
        -ENOTSUP);
    cr_assert_eq(atd_store_presign(store, ATD_STR("http://h/"), 1, NULL, &err), -ENOTSUP);
}

/* ------------------------------------------------------------------ versions */

Test(http_store, without_etag_the_time_tells)
{
    struct atd_object_info expect = {.size_bytes = 2, .mtime_s = 1763978400};
    char value[64];

    server_say(PART "Content-Range: bytes 0-1/2\r\nContent-Length: 2\r\n"
                    "Last-Modified: Mon, 24 Nov 2025 10:00:00 GMT\r\n\r\nhi");
    read_is(url_of(SIGNED), 0, "hi", &expect);
    cr_assert_null(server_header(0, "if-match", value));
    server_say(PART "Content-Range: bytes 0-1/2\r\nContent-Length: 2\r\n"
                    "Last-Modified: Mon, 24 Nov 2025 10:00:01 GMT\r\n\r\nhi");
    read_fails(url_of(SIGNED), 0, 2, &expect, ESTALE, "another version");
    server_say("HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n");
    read_fails(url_of(SIGNED), 0, 2, &expect, ESTALE, "another version");
    cr_assert_eq(server_asked(), 3);
}

Test(http_store, server_without_ranges_gives_whole_files_only)
{
    server_say(OK "Content-Length: 2\r\n\r\nhi");
    read_is(url_of(SIGNED), 0, "hi", NULL);
    server_say_endlessly(OK "Content-Length: 100000000000\r\n\r\nhi");
    read_fails(url_of(SIGNED), 0, 2, NULL, ENOTSUP, "cannot serve ranges");
    cr_assert_eq(server_asked(), 2);
}

/* ------------------------------------------------------------------ redirects and addresses */

Test(http_store, redirects_are_followed)
{
    char value[64];

    server_say(
        "HTTP/1.1 302 Found\r\nLocation: /elsewhere?sig=SECRET\r\nContent-Length: 0\r\n\r\n");
    server_say(HI);
    read_is(url_of("/a.tar"), 0, "hi", NULL);
    cr_assert_str_eq(server_request_line(1), "GET /elsewhere?sig=SECRET HTTP/1.1");
    cr_assert_str_eq(server_header(1, "range", value), "bytes=0-1");
}

Test(http_store, metadata_services_are_out_of_reach)
{
    struct atd_object_info info;
    struct atd_error err = ATD_ERROR_INIT;

    read_fails("http://169.254.169.254/latest/meta-data/?sig=SECRET", 0, 2, NULL, EACCES,
               "link-local");
    cr_assert_eq(stat_of("http://[fe80::1]/", &info, &err), -EACCES, "%s", err.text);
    server_say("HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\n"
               "Content-Length: 0\r\n\r\n");
    read_fails(url_of("/a.tar"), 0, 2, NULL, EACCES, "link-local");
    server_say("HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n");
    read_fails(url_of("/a.tar"), 0, 2, NULL, EPROTO, "");
}

/* ------------------------------------------------------------------ errors */

Test(http_store, status_becomes_an_error)
{
    static const struct {
        int status;
        int code;
    } cases[] = {{404, ENOENT}, {410, ENOENT}, {401, EACCES}, {403, EACCES}, {451, EACCES},
                 {400, EIO},    {418, EIO},    {501, EIO},    {204, EIO}};
    unsigned asked = 0;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char reply[128];

        (void)snprintf(reply, sizeof(reply), "HTTP/1.1 %d x\r\n%s\r\n", cases[i].status,
                       cases[i].status == 204 ? "" : "Content-Length: 0\r\n");
        server_say(reply);
        if (cases[i].status == 204) /* an odd reply is asked for again */
            server_say(reply);
        read_fails(url_of(SIGNED), 0, 2, NULL, cases[i].code, "/dir/a.tar'");
        asked += cases[i].status == 204 ? 2 : 1;
        cr_assert_eq(server_asked(), asked, "status %d", cases[i].status);
    }
}

Test(http_store, passing_troubles_pass)
{
    static const int statuses[] = {429, 503, 500, 502, 408, 520};

    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        char reply[128];

        (void)snprintf(reply, sizeof(reply), "HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n",
                       statuses[i]);
        server_say(reply);
    }
    server_say(HI);
    read_is(url_of(SIGNED), 0, "hi", NULL);
    cr_assert_eq(server_asked(), 7);
    cr_assert_eq(atomic_load(&atd_http_stats(engine)->throttled), 2);
}

Test(http_store, nobody_listens)
{
    struct one_get *one;

    /* Port 1 of the loopback: refused, and that may pass, so it is tried until the time is up. */
    one = one_get_start(store, "http://127.0.0.1:1/a.tar?sig=SECRET", 0, 2, NULL, 300);
    cr_assert(one_get_wait_done(one));
    cr_assert(one->why.code == ETIMEDOUT || one->why.code == ECONNREFUSED, "%d", one->why.code);
    check_no_secret(one->why.text);
    one_get_free(one);
}

static void say_nothing(void *ctx, const struct fake_request *request, struct fake_reply *reply)
{
    (void)ctx;
    (void)request;
    reply->cut = true;
    reply->cut_at = SIZE_MAX;
    reply->end = FAKE_STALL;
}

/* The index names whatever hosts it likes: who reads from one does not queue behind another. */
Test(http_store, silent_host_does_not_hold_up_another)
{
    struct fake_http *silent = fake_http_start(say_nothing, NULL);
    struct one_get *stuck[4];
    struct one_get *one;
    struct atd_store *small;
    struct atd_error err = ATD_ERROR_INIT;
    char url[128];

    fake_http_url(silent, "/a.tar", url, sizeof(url));
    server_limits.concurrency_first = 2;
    server_limits.concurrency_max = 2;
    cr_assert_eq(atd_store_http_new(engine, &server_limits, &small, &err), 0, "%s", err.text);
    for (size_t i = 0; i < 4; i++)
        stuck[i] = one_get_start(small, url, 0, 2, NULL, 60000);
    while (fake_http_busy(silent) < 2)
        (void)usleep(1000);
    server_say(HI);
    one = one_get_start(small, url_of("/b.tar"), 0, 2, NULL, 10000);
    cr_assert(one_get_wait_done(one));
    cr_assert_eq(one->why.code, 0, "%s", one->why.text);
    one_get_free(one);
    cr_assert_eq(fake_http_requests(silent), 2);
    for (size_t i = 0; i < 4; i++) {
        atd_store_get_cancel(small, &stuck[i]->get);
        cr_assert(one_get_wait_done(stuck[i]));
        one_get_free(stuck[i]);
    }
    atd_store_free(small);
    fake_http_stop(silent);
}

/* ------------------------------------------------------------------ facts */

Test(http_store, stat_that_nobody_answers_says_what_was_tried)
{
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_object_info info;

    cr_assert_eq(
        atd_store_stat(store, ATD_STR("http://127.0.0.1:1/a.tar?sig=SECRET"), 500, &info, &err),
        -ETIMEDOUT);
    cr_assert_not_null(strstr(err.text, "the last try"), "%s", err.text);
    check_no_secret(err.text);
}

Test(http_store, stat_is_a_head_or_the_first_byte)
{
    struct atd_object_info info;
    struct atd_error err = ATD_ERROR_INIT;
    char value[64];

    server_say(OK "Content-Length: 1234\r\nETag: W/\"abc\"\r\n"
                  "Last-Modified: Mon, 24 Nov 2025 10:00:00 GMT\r\n\r\n");
    cr_assert_eq(stat_of(url_of(SIGNED), &info, &err), 0, "%s", err.text);
    cr_assert_eq(info.size_bytes, 1234);
    cr_assert_str_eq(info.etag, "W/abc");
    cr_assert_eq(info.mtime_s, 1763978400);
    cr_assert_str_eq(server_request_line(0), "HEAD " SIGNED " HTTP/1.1");

    /* Some say 0 because a HEAD's body has no bytes. */
    server_say(OK "Content-Length: 0\r\n\r\n");
    server_say(PART "Content-Range: bytes 0-0/77\r\nContent-Length: 1\r\n\r\nx");
    cr_assert_eq(stat_of(url_of(SIGNED), &info, &err), 0, "%s", err.text);
    cr_assert_eq(info.size_bytes, 77);
    cr_assert_str_eq(server_request_line(2), "GET " SIGNED " HTTP/1.1");
    cr_assert_str_eq(server_header(2, "range", value), "bytes=0-0");

    /* Some do not say. */
    server_say(OK "Transfer-Encoding: chunked\r\n\r\n");
    server_say(OK "Content-Length: 78\r\n\r\n" /* and the bytes */
                  "012345678901234567890123456789012345678901234567890123456789012345678901234567");
    cr_assert_eq(stat_of(url_of(SIGNED), &info, &err), 0, "%s", err.text);
    cr_assert_eq(info.size_bytes, 78);

    /* A URL signed for GET. */
    server_say("HTTP/1.1 403 Forbidden\r\n\r\n");
    server_say(PART "Content-Range: bytes 0-0/79\r\nContent-Length: 1\r\n\r\nx");
    cr_assert_eq(stat_of(url_of(SIGNED), &info, &err), 0, "%s", err.text);
    cr_assert_eq(info.size_bytes, 79);
    cr_assert_eq(server_asked(), 7);
    server_say(PART "Content-Range: bytes 0-0/80\r\nContent-Length: 1\r\n\r\nx");
    cr_assert_eq(stat_of(url_of("/b"), &info, &err), 0, "%s", err.text);
    cr_assert_str_eq(server_request_line(7), "GET /b HTTP/1.1");
    /* The size is told by nothing. */
    server_say(OK "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n");
    cr_assert_eq(stat_of(url_of("/b"), &info, &err), -EIO);
    cr_assert_not_null(strstr(err.text, "does not tell the size"), "%s", err.text);
}

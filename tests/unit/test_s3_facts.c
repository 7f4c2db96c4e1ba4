#include <criterion/criterion.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "support/s3_frame.h"

TestSuite(s3_facts, .init = setup, .fini = teardown);

/* ------------------------------------------------------------------ facts */

static int stat_of(const char *url, struct atd_object_info *ret_info, struct atd_error *err)
{
    int rc = atd_store_stat(store, atd_str_from(url), 20000, ret_info, err);

    if (rc)
        check_no_secret(err->text);
    return rc;
}

Test(s3_facts, stat_is_a_head)
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

Test(s3_facts, refused_head_is_replaced_by_a_get_and_remembered)
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
    server_say_endlessly(OK "Content-Length: 100000000000\r\nETag: \"abc\"\r\n\r\nxxx");
    cr_assert_eq(stat_of("s3://bucket/c", &info, &err), 0, "%s", err.text);
    cr_assert_eq(info.size_bytes, 100000000000);
    server_say(OK "Content-Length: 5\r\n\r\n");
    cr_assert_eq(stat_of("s3://other/b", &info, &err), 0);
    cr_assert_str_eq(server_request_line(5), "HEAD /other/b HTTP/1.1");
}

Test(s3_facts, refused_head_and_get_is_refused_for_the_reason_of_the_get)
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

Test(s3_facts, head_cannot_say_the_region_but_the_get_can)
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

Test(s3_facts, stat_gives_up_in_time)
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
Test(s3_facts, stat_outlives_a_hanging_engine)
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

Test(s3_facts, lists_one_page)
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

Test(s3_facts, strange_pages_cannot_lead_astray)
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

Test(s3_facts, listing_fails_with_a_reason)
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

/* An endpoint that is no S3 service, or one that reports its troubles with status 200. */
Test(s3_facts, garbage_for_a_page_is_asked_for_once_more_and_no_oftener)
{
    static const struct {
        const char *body;
        const char *part;
    } cases[] = {
        {"<!DOCTYPE html><p>welcome</p>", "document type"},
        {"<Error><Code>InternalError</Code></Error>", "is an error"},
    };
    struct listed listed = {0};
    bool more = false;

    for (unsigned i = 0; i < 2; i++) {
        struct atd_error err = ATD_ERROR_INIT;

        say_page(cases[i].body);
        say_page(cases[i].body);
        cr_assert_eq(atd_store_list(store, ATD_STR("s3://bucket/d/"), ATD_STR(""), 20000,
                                    note_listed, &listed, &more, &err),
                     -EPROTO, "%s", err.text);
        cr_assert_not_null(strstr(err.text, cases[i].part), "%s", err.text);
        cr_assert_eq(server_asked(), 2 * (i + 1), "%u", server_asked());
    }
}

Test(s3_facts, signs_urls_for_others)
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

Test(s3_facts, region_that_is_signed_for)
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

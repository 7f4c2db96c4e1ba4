#include <criterion/criterion.h>
#include <errno.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "net/http.h"
#include "support/creds_server.h"

#define QUERY "X-Amz-Signature=never-told"

static struct server server;
static struct atd_arena arena;
static struct atd_http_head head;
static struct atd_bytes body;
static struct atd_error err;

static void setup(void)
{
    server_start(&server);
    atd_arena_init(&arena, 64u << 20);
}

static void teardown(void)
{
    server_stop(&server);
    atd_arena_release(&arena);
}

TestSuite(http_fetch, .init = setup, .fini = teardown);

static int fetch_url(const char *url, unsigned timeout_ms)
{
    struct atd_http_message message = {.method = "GET", .url = url};

    err = (struct atd_error)ATD_ERROR_INIT;
    return atd_http_fetch(&message, timeout_ms, false, NULL, 1000, &arena, &head, &body, &err);
}

static int fetch(const char *path)
{
    char url[256];

    (void)snprintf(url, sizeof(url), "%s%s?%s", server.url, path, QUERY);
    return fetch_url(url, 30000);
}

static int fetch_raw(const char *reply)
{
    server_forget_rules(&server);
    server_rule(&server, "GET ", SERVER_RAW, reply, 0);
    return fetch("/");
}

Test(http_fetch, head_and_body)
{
    server_rule(&server, "GET /a/../b//c?", 404, "hello", 0);
    cr_assert_eq(fetch("/a/../b//c"), 0, "%s", err.text);
    cr_assert_eq(head.status, 404);
    cr_assert(atd_str_equal(atd_bytes_str(body), ATD_STR("hello")));
    cr_assert(atd_str_equal(atd_http_head_find(&head, "x-test"), ATD_STR("yes")));
    cr_assert_eq(head.content_length, 5);
    cr_assert_eq(head.date_s, 1795514400);
    cr_assert_null(atd_http_head_find(&head, "absent").ptr);
}

Test(http_fetch, methods)
{
    struct atd_http_message message = {.method = "PUT", .url = server.url};
    char want[512];

    server_rule(&server, "", 200, "x", 0);
    cr_assert_eq(atd_http_fetch(&message, 30000, true, NULL, 10, &arena, &head, &body, &err), 0);
    (void)snprintf(want, sizeof(want),
                   "PUT / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: atdatafs\r\nAccept: */*\r\n"
                   "Content-Length: 0\r\n\r\n",
                   server.port);
    cr_assert_str_eq(server.requests[0], want);
    message.method = "POST";
    message.body = atd_str_bytes(ATD_STR("a=b"));
    message.headers[message.header_count++] =
        (struct atd_http_header){ATD_STR("Content-Type"), ATD_STR("text/plain")};
    message.headers[message.header_count++] =
        (struct atd_http_header){ATD_STR("X-Empty"), ATD_STR("")};
    cr_assert_eq(atd_http_fetch(&message, 30000, true, NULL, 10, &arena, &head, &body, &err), 0);
    (void)snprintf(want, sizeof(want),
                   "POST / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: atdatafs\r\n"
                   "Accept: */*\r\nContent-Type: text/plain\r\nX-Empty:\r\nContent-Length: "
                   "3\r\n\r\na=b",
                   server.port);
    cr_assert_str_eq(server.requests[1], want);
    message = (struct atd_http_message){.method = "HEAD", .url = server.url};
    server_forget_rules(&server);
    server_rule(&server, "HEAD ", SERVER_RAW, "HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n", 0);
    cr_assert_eq(atd_http_fetch(&message, 30000, true, NULL, 10, &arena, &head, &body, &err), 0);
    cr_assert_eq(head.content_length, 77);
    cr_assert_eq(body.len, 0);
}

Test(http_fetch, passing_replies_and_trailers)
{
    cr_assert_eq(fetch_raw("HTTP/1.1 103 Early\r\nX-Early: 1\r\n\r\n"
                           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Real: 1\r\n\r\n"
                           "3\r\nabc\r\n0\r\nX-Trailer: 1\r\n\r\n"),
                 0, "%s", err.text);
    cr_assert(atd_str_equal(atd_bytes_str(body), ATD_STR("abc")));
    cr_assert_eq(head.header_count, 2);
    cr_assert_eq(head.content_length, -1);
    cr_assert_null(atd_http_head_find(&head, "x-early").ptr);
    cr_assert_null(atd_http_head_find(&head, "x-trailer").ptr);
}

Test(http_fetch, redirects_are_not_followed)
{
    cr_assert_eq(fetch_raw("HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: "
                           "0\r\n\r\n"),
                 0);
    cr_assert_eq(head.status, 302);
    cr_assert_eq(server_count(&server), 1);
}

Test(http_fetch, bounds)
{
    char *text = malloc(200000);
    size_t len;

    cr_assert_not_null(text);
    len =
        (size_t)snprintf(text, 200000, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n%01000d", 0);
    cr_assert_eq(fetch_raw(text), 0);
    cr_assert_eq(body.len, 1000);
    (void)snprintf(text, 200000, "HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n%01001d", 0);
    cr_assert_eq(fetch_raw(text), -EFBIG);
    cr_assert_not_null(strstr(err.text, "too long"));
    len = (size_t)snprintf(text, 200000, "HTTP/1.1 200 OK\r\n");
    for (unsigned i = 0; i < ATD_HTTP_HEADERS_MAX; i++)
        len += (size_t)snprintf(text + len, 200000 - len, "X-%u: 1\r\n", i);
    (void)snprintf(text + len, 200000 - len, "\r\n");
    cr_assert_eq(fetch_raw(text), 0);
    cr_assert_eq(head.header_count, ATD_HTTP_HEADERS_MAX);
    (void)snprintf(text + len, 200000 - len, "X-More: 1\r\n\r\n");
    cr_assert_eq(fetch_raw(text), -EPROTO);
    (void)snprintf(text, 200000,
                   "HTTP/1.1 200 OK\r\nA: %030000d\r\nB: %030000d\r\nC: %030000d\r\n\r\n", 0, 0, 0);
    cr_assert_eq(fetch_raw(text), -EPROTO);
    free(text);
}

Test(http_fetch, what_can_go_wrong)
{
    static const struct {
        const char *reply;
        int code;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", EPROTO},
        {"SSH-2.0-OpenSSH\r\n", EPROTO},
        {"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", EPROTO},
        {"", ECONNRESET},
    };
    char url[256];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cr_assert_eq(fetch_raw(cases[i].reply), -cases[i].code, "case %zu: %s", i, err.text);
        cr_assert_eq(err.code, cases[i].code);
        cr_assert_null(strstr(err.text, "never-told"), "%s", err.text);
    }
    /* which of the two depends on libcurl's age */
    cr_assert_lt(fetch_raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), 0);
    cr_assert(err.code == EPROTO || err.code == ECONNRESET, "%s", err.text);
    server_forget_rules(&server);
    server_rule(&server, "GET ", SERVER_HANG, "", 0);
    (void)snprintf(url, sizeof(url), "%s/p?%s", server.url, QUERY);
    cr_assert_eq(fetch_url(url, 50), -ETIMEDOUT);
    cr_assert(err.retryable);
    cr_assert_not_null(strstr(err.text, "/p'"), "%s", err.text);
    cr_assert_null(strstr(err.text, "never-told"));
    (void)snprintf(url, sizeof(url), "https://user:never-told@127.0.0.1:%d/p", server.port);
    cr_assert_eq(fetch_url(url, 50), -ETIMEDOUT); /* it waits for TLS to answer */
    cr_assert_null(strstr(err.text, "never-told"), "%s", err.text);
    cr_assert_eq(fetch_url("http://127.0.0.1:1/", 30000), -ECONNREFUSED);
    cr_assert(err.retryable);
    cr_assert_eq(fetch_url("http://no-such-host.invalid/", 30000), -EHOSTUNREACH);
    cr_assert_eq(fetch_url("file:///etc/passwd", 30000), -EINVAL);
    cr_assert_eq(fetch_url("ftp://127.0.0.1/", 30000), -EINVAL);
    cr_assert_eq(fetch_url("http://", 30000), -EINVAL);
}

/* Answers whatever comes first, a TLS greeting too. */
static void *answer_plainly(void *ctx)
{
    int fd = accept(*(int *)ctx, NULL, NULL);
    char greeting[4096];

    if (fd >= 0 && read(fd, greeting, sizeof(greeting)) > 0)
        server_send(fd, "HTTP/1.1 400 Bad Request\r\n\r\n");
    (void)close(fd);
    return NULL;
}

Test(http_fetch, not_tls)
{
    struct sockaddr_in where = {.sin_family = AF_INET,
                                .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(where);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pthread_t thread;
    char url[64];

    cr_assert_eq(bind(listener, (struct sockaddr *)&where, len), 0);
    cr_assert_eq(listen(listener, 1), 0);
    cr_assert_eq(getsockname(listener, (struct sockaddr *)&where, &len), 0);
    cr_assert_eq(pthread_create(&thread, NULL, answer_plainly, &listener), 0);
    (void)snprintf(url, sizeof(url), "https://127.0.0.1:%d/", ntohs(where.sin_port));
    cr_assert_eq(fetch_url(url, 30000), -EACCES, "%s", err.text);
    (void)pthread_join(thread, NULL);
    (void)close(listener);
}

Test(http_fetch, headers_cannot_forge_lines)
{
    static const char *const bad[] = {"a\r\nX-Evil: 1", "a\nb", "a\rb"};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct atd_http_message message = {.method = "GET", .url = server.url, .header_count = 1};

        message.headers[0] = (struct atd_http_header){ATD_STR("X"), atd_str_from(bad[i])};
        cr_assert_eq(atd_http_fetch(&message, 30000, true, NULL, 10, &arena, &head, &body, &err),
                     -EINVAL);
    }
    cr_assert_eq(server_count(&server), 0);
}

Test(http_fetch, proxies)
{
    struct atd_http_message message = {.method = "GET", .url = "http://metadata.invalid/x"};

    server_rule(&server, "GET http://metadata.invalid/x ", 200, "by proxy", 0);
    cr_assert_eq(setenv("http_proxy", server.url, 1), 0);
    cr_assert_eq(atd_http_fetch(&message, 30000, false, NULL, 10, &arena, &head, &body, &err), 0);
    cr_assert_eq(server_count(&server), 1);
    cr_assert_eq(atd_http_fetch(&message, 30000, true, NULL, 10, &arena, &head, &body, &err),
                 -EHOSTUNREACH);
    cr_assert_eq(server_count(&server), 1);
    cr_assert_eq(unsetenv("http_proxy"), 0);
}

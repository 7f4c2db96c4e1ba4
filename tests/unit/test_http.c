#include "http_scene.h"

/* ------------------------------------------------------------------ a server of many faults */

static char last_target[FAKE_TARGET_MAX];
static char last_headers[FAKE_HEADERS_MAX];
static char last_method[16];
static uint8_t last_body[FAKE_BODY_MAX];
static size_t last_body_len;
static char many_headers[65536];
static char long_headers[200000];
static char endless_interim[400000];

static void answer_faults(struct fake_reply *reply, const char *what)
{
    if (strcmp(what, "garbage") == 0)
        reply->raw = "\x16\x03 this is not HTTP at all\r\n\r\n";
    else if (strcmp(what, "many-headers") == 0)
        reply->raw = many_headers;
    else if (strcmp(what, "long-headers") == 0)
        reply->raw = long_headers;
    else if (strcmp(what, "endless-interim") == 0)
        reply->raw = endless_interim;
    else if (strcmp(what, "bad-length") == 0)
        reply->raw = "HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\nhello";
    else if (strcmp(what, "two-lengths") == 0)
        reply->raw = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!";
    else if (strcmp(what, "bad-chunk") == 0)
        reply->raw =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n";
    else if (strcmp(what, "odd-lines") == 0)
        reply->raw = "HTTP/1.1 200 OK\r\n: empty\r\nX-Tag:  a b \r\n\tfolded\r\n"
                     "Content-Length: 2\r\n\r\nok";
    reply->end = FAKE_CLOSE;
}

static void answer_by_path(void *ctx, const struct fake_request *request, struct fake_reply *reply)
{
    const char *what = request->target + 1;

    (void)ctx;
    (void)strcpy(last_target, request->target);
    (void)strcpy(last_headers, request->headers);
    (void)strcpy(last_method, request->method);
    last_body_len = request->body_len;
    if (request->body_len)
        memcpy(last_body, request->body, request->body_len);
    text_reply(reply, 200, "hello");
    if (strcmp(what, "head") == 0) {
        (void)strcpy(reply->headers, "X-tAg: one\r\nx-tag: two\r\n"
                                     "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
    } else if (strcmp(what, "interim") == 0) {
        reply->before = "HTTP/1.1 100 Continue\r\nX-Tag: no\r\n\r\n"
                        "HTTP/1.1 103 Early Hints\r\nX-Tag: neither\r\n\r\n";
    } else if (strcmp(what, "redirect") == 0) {
        text_reply(reply, 302, "moved");
        (void)strcpy(reply->headers, "Location: /head\r\nX-Tag: on the way\r\n");
    } else if (strcmp(what, "redirect-round") == 0) {
        text_reply(reply, 307, "");
        (void)strcpy(reply->headers, "Location: /redirect-round\r\n");
    } else if (strcmp(what, "redirect-file") == 0) {
        text_reply(reply, 301, "");
        (void)strcpy(reply->headers, "Location: file:///etc/passwd\r\n");
    } else if (strcmp(what, "redirect-link-local") == 0) {
        text_reply(reply, 301, "");
        (void)strcpy(reply->headers, "Location: http://169.254.169.254/latest/\r\n");
    } else if (strcmp(what, "none") == 0) {
        text_reply(reply, 404, "");
    } else if (strcmp(what, "304") == 0) {
        text_reply(reply, 304, "");
    } else if (strcmp(what, "short") == 0) {
        reply->lie = true;
        reply->said_length = 10;
        reply->end = FAKE_CLOSE;
    } else if (strcmp(what, "until-close") == 0) {
        reply->no_length = true;
    } else if (strcmp(what, "chunked") == 0) {
        reply->chunked = true;
    } else if (strcmp(what, "gzip") == 0) {
        (void)strcpy(reply->headers, "Content-Encoding: gzip\r\n");
    } else if (strcmp(what, "reset") == 0 || strcmp(what, "gone") == 0) {
        reply->cut = true;
        reply->cut_at = SIZE_MAX;
        reply->end = what[0] == 'r' ? FAKE_RESET : FAKE_CLOSE;
    } else {
        answer_faults(reply, what);
        if (!reply->raw)
            reply->end = FAKE_KEEP;
    }
}

static void make_hostile_replies(void)
{
    size_t at = (size_t)sprintf(many_headers, "HTTP/1.1 200 OK\r\n");

    for (unsigned i = 0; i <= ATD_HTTP_HEADERS_MAX; i++)
        at += (size_t)sprintf(many_headers + at, "X-%u: y\r\n", i);
    (void)strcpy(many_headers + at, "Content-Length: 0\r\n\r\n");
    at = (size_t)sprintf(long_headers, "HTTP/1.1 200 OK\r\n");
    for (unsigned i = 0; i < 3; i++) {
        at += (size_t)sprintf(long_headers + at, "X-%u: ", i);
        memset(long_headers + at, 'y', 30000);
        at += 30000;
        at += (size_t)sprintf(long_headers + at, "\r\n");
    }
    (void)strcpy(long_headers + at, "Content-Length: 0\r\n\r\n");
    at = 0;
    while (at + 100 < sizeof(endless_interim))
        at += (size_t)sprintf(endless_interim + at, "HTTP/1.1 100 Continue\r\n\r\n");
}

/* ------------------------------------------------------------------ replies */

Test(http, head_and_body_of_a_reply)
{
    struct get *get;

    open_scene(answer_by_path);
    get = new_get("/head");
    expect_ok(get, 200, "hello");
    cr_assert_str_eq(get->tag, "one");
    cr_assert_eq(get->content_length, 5);
    cr_assert_eq(get->date_s, 784111777);
    cr_assert_geq(get->result.first_byte_ms, 0);
    cr_assert_geq(get->result.total_ms, get->result.first_byte_ms);
    cr_assert(!get->result.reused);
    get->heads = 0;
    get->body_len = 0;
    expect_ok(get, 200, "hello");
    cr_assert(get->result.reused);
    get->heads = 0;
    get->body_len = 0;
    get->transfer.fresh_connection = true;
    expect_ok(get, 200, "hello");
    cr_assert(!get->result.reused);
    cr_assert_eq(atomic_load(&atd_http_stats(engine)->connections), 2);
    cr_assert_eq(atomic_load(&atd_http_stats(engine)->received_bytes), 15);
    free(get);
    close_scene();
}

Test(http, forms_of_a_body)
{
    static const struct {
        const char *path;
        int status;
        const char *body;
        int64_t length;
    } cases[] = {
        {"/until-close", 200, "hello", -1},
        {"/chunked", 200, "hello", -1},
        {"/gzip", 200, "hello", 5},
        {"/none", 404, "", 0},
        {"/304", 304, "", -1},
        {"/interim", 200, "hello", 5},
        {"/odd-lines", 200, "ok", 2},
        {"/redirect", 302, "moved", 5},
    };

    open_scene(answer_by_path);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct get *get = new_get(cases[i].path);

        expect_ok(get, cases[i].status, cases[i].body);
        cr_assert_eq(get->content_length, cases[i].length, "%s", cases[i].path);
        if (strcmp(cases[i].path, "/interim") == 0)
            cr_assert_str_eq(get->tag, "");
        free(get);
    }
    close_scene();
}

Test(http, redirects_only_when_asked_and_not_anywhere)
{
    struct get *get;

    open_scene(answer_by_path);
    get = new_get("/redirect");
    get->transfer.follow_redirects = true;
    expect_ok(get, 200, "hello");
    cr_assert_str_eq(get->tag, "one");
    free(get);
    get = new_get("/redirect-round");
    get->transfer.follow_redirects = true;
    expect_error(get, EPROTO, "redirect");
    cr_assert_eq(fake_http_requests(server), 2 + 1 + ATD_HTTP_REDIRECTS_MAX);
    free(get);
    get = new_get("/redirect-file");
    get->transfer.follow_redirects = true;
    expect_error(get, EPROTO, "file");
    free(get);
    get = new_get("/redirect-link-local");
    get->transfer.follow_redirects = true;
    get->transfer.refuse_link_local = true;
    expect_error(get, EACCES, "link-local");
    free(get);
    close_scene();
}

Test(http, broken_replies_are_errors)
{
    static const struct {
        const char *path;
        int code;
        const char *text;
        bool retryable;
    } cases[] = {
        {"/garbage", EPROTO, "", true},
        {"/many-headers", EPROTO, "too many headers", false},
        {"/long-headers", EPROTO, "headers are too long", false},
        {"/endless-interim", EPROTO, "headers are too long", false},
        {"/bad-length", EPROTO, "not a number", false},
        {"/two-lengths", EPROTO, "two different lengths", false},
        {"/short", EPROTO, "5 bytes", true},
        {"/reset", ECONNRESET, "", true},
        {"/gone", ECONNRESET, "", true},
        {"/bad-chunk", ECONNRESET, "", true},
    };

    make_hostile_replies();
    open_scene(answer_by_path);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char path[128];
        struct get *get;

        (void)snprintf(path, sizeof(path), "%s", cases[i].path);
        get = new_get(path);
        expect_error(get, cases[i].code, cases[i].text);
        cr_assert_eq(get->result.error.retryable, cases[i].retryable, "%s", path);
        cr_assert(strstr(get->result.error.text, "127.0.0.1:"), "%s", get->result.error.text);
        free(get);
    }
    close_scene();
}

Test(http, errors_hold_no_query)
{
    static const char *const urls[] = {
        "http://127.0.0.1:1/key?X-Amz-Signature=SECRET",
        "http://user:SECRET@127.0.0.1:1/key#SECRET",
        "http://127.0.0.1:1SECRET/x?y=SECRET",
        "gopher://127.0.0.1:1/x?y=SECRET",
        "http://no-such-host.invalid/?SECRET",
        "http:///x?y=SECRET",
        "",
    };

    open_scene(NULL);
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        struct get *get = new_get(urls[i]);

        run(get);
        cr_assert_neq(get->result.error.code, 0);
        cr_assert(i == 2 || !strstr(get->result.error.text, "SECRET"), "%s",
                  get->result.error.text);
        cr_assert_null(strstr(get->result.error.text, "y="), "%s", get->result.error.text);
        if (i < 2)
            cr_assert_eq(get->result.error.code, ECONNREFUSED);
        free(get);
    }
    close_scene();
}

/* ------------------------------------------------------------------ requests */

Test(http, request_goes_out_as_it_was_given)
{
    struct get *get;

    open_scene(answer_by_path);
    get = new_get("/a/../b/./%7e%2f%2F//c%20d?x=%41&y");
    get->message.headers[0] = (struct atd_http_header){ATD_STR("X-One"), ATD_STR("a  b")};
    get->message.headers[1] = (struct atd_http_header){ATD_STR("X-Empty"), ATD_STR("")};
    get->message.headers[2] = (struct atd_http_header){ATD_STR("Host"), ATD_STR("bucket.example")};
    get->message.header_count = 3;
    expect_ok(get, 200, "hello");
    cr_assert_str_eq(last_target, "/a/../b/./%7e%2f%2F//c%20d?x=%41&y");
    cr_assert(strstr(last_headers, "X-One: a  b\r\n"), "%s", last_headers);
    cr_assert(strstr(last_headers, "X-Empty:\r\n"), "%s", last_headers);
    cr_assert(strstr(last_headers, "Host: bucket.example\r\n"), "%s", last_headers);
    cr_assert(strstr(last_headers, "User-Agent: test/1\r\n"), "%s", last_headers);
    cr_assert_null(strcasestr(last_headers, "accept-encoding"), "%s", last_headers);
    cr_assert_null(strcasestr(last_headers, "127.0.0.1"), "%s", last_headers);
    free(get);
    get = new_get("/");
    get->message.headers[0] =
        (struct atd_http_header){ATD_STR("X-One"), ATD_STR("a\r\nX-Two: smuggled")};
    get->message.header_count = 1;
    expect_error(get, EPROTO, "line break");
    free(get);
    close_scene();
}

Test(http, methods_and_their_bodies)
{
    static uint8_t big[FAKE_BODY_MAX];
    static const struct {
        const char *method;
        size_t len;
    } cases[] = {
        {"PUT", 0},    {"PUT", 5},    {"PUT", sizeof(big)}, {"POST", 0}, {"POST", 1000},
        {"DELETE", 0}, {"DELETE", 5}, {"HEAD", 0},          {"GET", 0},
    };
    char length[64];

    open_scene(answer_by_path);
    for (size_t i = 0; i < sizeof(big); i++)
        big[i] = (uint8_t)(i * 7 + i / 256);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct get *get = new_get("/x");

        get->message.method = cases[i].method;
        get->message.body = (struct atd_bytes){big, cases[i].len};
        expect_ok(get, 200, strcmp(cases[i].method, "HEAD") == 0 ? "" : "hello");
        cr_assert_eq(get->content_length, 5);
        cr_assert_str_eq(last_method, cases[i].method);
        cr_assert_eq(last_body_len, cases[i].len);
        cr_assert_eq(memcmp(last_body, big, cases[i].len), 0);
        (void)snprintf(length, sizeof(length), "Content-Length: %zu\r\n", cases[i].len);
        cr_assert_eq(strstr(last_headers, length) != NULL,
                     cases[i].method[0] == 'P' || cases[i].len > 0, "%s %s", cases[i].method,
                     last_headers);
        cr_assert_null(strcasestr(last_headers, "expect:"));
        cr_assert_null(strcasestr(last_headers, "content-type:"));
        cr_assert_null(strcasestr(last_headers, "chunked"));
        free(get);
    }
    close_scene();
}

Test(http, link_local_addresses_are_refused)
{
    static const struct {
        const char *url;
        bool refused;
    } cases[] = {
        {"http://169.254.169.254/latest/", true},
        {"http://[fe80::1]/", true},
        {"http://[::ffff:169.254.169.254]/", true},
        {"http://[fd00:ec2::254]/", true},
        {"http://100.100.100.200/", true},
        {"http://0xa9fea9fe/", true},
        {"http://2852039166/", true},
        {"http://127.0.0.1:1/", false},
    };

    open_scene(NULL);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct get *get = new_get(cases[i].url);

        get->transfer.refuse_link_local = true;
        run(get);
        cr_assert_eq(get->result.error.code, cases[i].refused ? EACCES : ECONNREFUSED, "%s: %d %s",
                     cases[i].url, get->result.error.code, get->result.error.text);
        cr_assert_eq(strstr(get->result.error.text, "link-local") != NULL, cases[i].refused);
        free(get);
    }
    close_scene();
}

Test(http, hosts_of_urls)
{
    static const struct {
        const char *url;
        const char *host;
    } cases[] = {
        {"https://host/path", "host"},
        {"http://user:pa@ss@host:9000?x", "host:9000"},
        {"http://[::1]:80/", "[::1]:80"},
        {"host", "host"},
        {"", ""},
        {"http://h#frag@x", "h"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        cr_assert(atd_str_equal(atd_http_url_host(cases[i].url), atd_str_from(cases[i].host)), "%s",
                  cases[i].url);
}

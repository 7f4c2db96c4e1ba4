/*
 * atd_http_fetch: one request in the calling thread, with an easy handle of its own.
 */
#include <curl/curl.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "net/http.h"

#define URL_TEXT_MAX 200
#define HEADER_LINE_MAX 16384

struct fetch {
    struct atd_arena *arena;
    struct atd_http_head head;
    size_t header_bytes;
    bool head_is_done;
    uint8_t *body;
    size_t body_len;
    size_t body_max;
    int refused; /* why a callback ended the transfer: EPROTO, EFBIG, ENOMEM; 0: it did not */
};

static void init_curl(void)
{
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* "scheme://host/path": a query or user information may be a secret. */
static void url_text(const char *url, char ret_text[URL_TEXT_MAX])
{
    const char *colon = strstr(url, "://");
    const char *host = colon ? colon + 3 : url;
    size_t authority = strcspn(host, "/?#");
    const char *at = memrchr(host, '@', authority);
    int scheme_len = colon ? (int)(colon - url) : 0;
    const char *from = at ? at + 1 : host;

    (void)snprintf(ret_text, URL_TEXT_MAX, "%.*s%s%.*s", scheme_len, url, colon ? "://" : "",
                   (int)strcspn(from, "?#"), from);
}

static struct atd_str trim(struct atd_str s)
{
    while (s.len && (s.ptr[0] == ' ' || s.ptr[0] == '\t'))
        s = atd_str_from_byte(s, 1);
    while (s.len && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t' ||
                     s.ptr[s.len - 1] == '\r' || s.ptr[s.len - 1] == '\n'))
        s.len--;
    return s;
}

static int parse_status(struct atd_str line)
{
    ptrdiff_t blank = atd_str_find(line, ' ');
    const char *digits;

    if (blank < 0 || line.len < (size_t)blank + 4)
        return 0;
    digits = line.ptr + blank + 1;
    for (int i = 0; i < 3; i++)
        if (digits[i] < '0' || digits[i] > '9')
            return 0;
    return (digits[0] - '0') * 100 + (digits[1] - '0') * 10 + (digits[2] - '0');
}

static int add_header(struct fetch *fetch, struct atd_str line)
{
    ptrdiff_t colon = atd_str_find(line, ':');
    struct atd_http_header header;

    if (colon <= 0)
        return EPROTO;
    if (fetch->head.header_count == ATD_HTTP_HEADERS_MAX)
        return EPROTO;
    header.name = atd_arena_str(fetch->arena, trim(atd_str_head(line, (size_t)colon)));
    header.value = atd_arena_str(fetch->arena, trim(atd_str_from_byte(line, (size_t)colon + 1)));
    if (!header.name.ptr || !header.value.ptr)
        return ENOMEM;
    fetch->head.headers[fetch->head.header_count++] = header;
    return 0;
}

/* Each line of a head. 1xx replies before the real one are forgotten, trailers are passed over. */
static size_t on_header(char *data, size_t size, size_t count, void *ctx)
{
    struct fetch *fetch = ctx;
    struct atd_str line = {data, size * count};
    size_t taken = line.len;

    if (fetch->head_is_done)
        return taken;
    fetch->header_bytes += line.len;
    if (fetch->header_bytes > ATD_HTTP_HEADER_BYTES_MAX) {
        fetch->refused = EPROTO;
        return 0;
    }
    if (atd_str_starts_with(line, ATD_STR("HTTP/"))) {
        fetch->head = (struct atd_http_head){.status = parse_status(line), .content_length = -1};
        return taken;
    }
    line = trim(line);
    if (line.len == 0)
        fetch->head_is_done = fetch->head.status >= 200;
    else
        fetch->refused = add_header(fetch, line);
    return fetch->refused ? 0 : taken;
}

static size_t on_body(char *data, size_t size, size_t count, void *ctx)
{
    struct fetch *fetch = ctx;
    size_t len = size * count;

    if (len > fetch->body_max - fetch->body_len) {
        fetch->refused = EFBIG;
        return 0;
    }
    memcpy(fetch->body + fetch->body_len, data, len);
    fetch->body_len += len;
    return len;
}

static void free_lines(struct curl_slist *lines)
{
    for (struct curl_slist *line = lines; line; line = line->next)
        explicit_bzero(line->data, strlen(line->data));
    curl_slist_free_all(lines);
}

static bool has_header(const struct atd_http_message *message, const char *name)
{
    struct atd_http_head as_head = {.header_count = message->header_count};

    memcpy(as_head.headers, message->headers, sizeof(as_head.headers));
    return atd_http_head_find(&as_head, name).ptr != NULL;
}

static int add_line(struct curl_slist **lines, const char *line, struct atd_error *err)
{
    struct curl_slist *more = curl_slist_append(*lines, line);

    if (!more)
        return atd_error_set(err, ENOMEM, "http: out of memory");
    *lines = more;
    return 0;
}

static int make_lines(const struct atd_http_message *message, struct curl_slist **ret_lines,
                      struct atd_error *err)
{
    char text[HEADER_LINE_MAX];
    int rc = add_line(ret_lines, "Expect:", err);

    /* libcurl would say that a body is a form. */
    if (rc == 0 && !has_header(message, "content-type"))
        rc = add_line(ret_lines, "Content-Type:", err);
    for (size_t i = 0; i < message->header_count && rc == 0; i++) {
        struct atd_str name = message->headers[i].name;
        struct atd_str value = message->headers[i].value;

        if (name.len == 0 || name.len + value.len + 3 > sizeof(text) ||
            memchr(name.ptr, '\n', name.len) || memchr(name.ptr, '\r', name.len) ||
            atd_str_find(value, '\n') >= 0 || atd_str_find(value, '\r') >= 0 ||
            atd_str_find(value, '\0') >= 0)
            return atd_error_set(err, EINVAL, "http: a header '" ATD_STR_FMT "' cannot be sent",
                                 ATD_STR_ARG(name));
        /* libcurl's spelling of a header without a value. */
        (void)snprintf(text, sizeof(text), "%.*s%s%.*s", (int)name.len, name.ptr,
                       value.len ? ": " : ";", (int)value.len, value.len ? value.ptr : "");
        rc = add_line(ret_lines, text, err);
        explicit_bzero(text, sizeof(text));
    }
    return rc;
}

static void set_method(CURL *curl, const struct atd_http_message *message)
{
    bool is_get = strcmp(message->method, "GET") == 0;

    if (strcmp(message->method, "HEAD") == 0) {
        (void)curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
        return;
    }
    if (!is_get || message->body.len) {
        (void)curl_easy_setopt(curl, CURLOPT_POST, 1L);
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)message->body.len);
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS,
                               message->body.len ? (const char *)message->body.ptr : "");
    }
    if (strcmp(message->method, "POST") != 0)
        (void)curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, message->method);
}

static int set_options(CURL *curl, const struct atd_http_message *message, unsigned timeout_ms,
                       bool no_proxy, const char *ca_file, struct fetch *fetch)
{
    CURLcode rc = curl_easy_setopt(curl, CURLOPT_URL, message->url);

    if (rc == CURLE_OK)
        rc = curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    if (rc == CURLE_OK && no_proxy)
        rc = curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    if (rc == CURLE_OK && ca_file)
        rc = curl_easy_setopt(curl, CURLOPT_CAINFO, ca_file);
    if (rc == CURLE_OK)
        rc = curl_easy_setopt(curl, CURLOPT_USERAGENT, "atdatafs");
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    (void)curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(curl, CURLOPT_HTTP09_ALLOWED, 0L);
    (void)curl_easy_setopt(curl, CURLOPT_HTTP_CONTENT_DECODING, 0L);
    (void)curl_easy_setopt(curl, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    (void)curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)timeout_ms);
    (void)curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    (void)curl_easy_setopt(curl, CURLOPT_HEADERDATA, fetch);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, fetch);
    set_method(curl, message);
    return rc == CURLE_OK ? 0 : rc == CURLE_OUT_OF_MEMORY ? ENOMEM : EINVAL;
}

/* The one place where this file's libcurl codes become ours. */
static int errno_of(CURL *curl, CURLcode code)
{
    long os_errno = 0;

    switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
        return ETIMEDOUT;
    case CURLE_COULDNT_CONNECT:
        (void)curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &os_errno);
        return os_errno == EHOSTUNREACH || os_errno == ENETUNREACH || os_errno == EADDRNOTAVAIL ||
                       os_errno == EAFNOSUPPORT
                   ? EHOSTUNREACH
                   : ECONNREFUSED;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_INTERFACE_FAILED:
        return EHOSTUNREACH;
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
        return ECONNRESET;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
        return EACCES;
    case CURLE_URL_MALFORMAT:
        return EINVAL;
    case CURLE_OUT_OF_MEMORY:
        return ENOMEM;
    default: /* a short body, a bad chunk; UNSUPPORTED_PROTOCOL: the reply is not HTTP */
        return EPROTO;
    }
}

static int set_error(CURL *curl, CURLcode code, const struct fetch *fetch, const char *url,
                     struct atd_error *err)
{
    int number = fetch->refused ? fetch->refused : errno_of(curl, code);
    const char *why = curl_easy_strerror(code);
    char text[URL_TEXT_MAX];

    url_text(url, text);
    if (fetch->refused == EFBIG)
        why = "the reply is too long";
    else if (code == CURLE_UNSUPPORTED_PROTOCOL)
        why = "the reply is not HTTP";
    else if (fetch->refused)
        why = "the reply's headers are too many, too long or none";
    if (number == ETIMEDOUT || number == ECONNREFUSED || number == ECONNRESET ||
        number == EHOSTUNREACH)
        return atd_error_set_retryable(err, number, "'%s': %s", text, why);
    return atd_error_set(err, number, "'%s': %s", text, why);
}

/* What the headers say besides. */
static void finish_head(struct fetch *fetch)
{
    struct atd_str length = atd_http_head_find(&fetch->head, "content-length");
    struct atd_str date = atd_http_head_find(&fetch->head, "date");

    fetch->head.content_length = -1;
    if (length.ptr && length.len > 0 && length.len < 19) {
        int64_t value = 0;
        size_t i = 0;

        for (; i < length.len && length.ptr[i] >= '0' && length.ptr[i] <= '9'; i++)
            value = value * 10 + (length.ptr[i] - '0');
        if (i == length.len)
            fetch->head.content_length = value;
    }
    if (date.ptr) { /* the arena's texts are terminated */
        time_t when = curl_getdate(date.ptr, NULL);

        fetch->head.date_s = when > 0 ? (int64_t)when : 0;
    }
}

static int perform(CURL *curl, const struct atd_http_message *message, unsigned timeout_ms,
                   bool no_proxy, const char *ca_file, struct fetch *fetch, struct atd_error *err)
{
    struct curl_slist *lines = NULL;
    CURLcode code;
    int rc;

    if (strncasecmp(message->url, "http://", 7) != 0 &&
        strncasecmp(message->url, "https://", 8) != 0)
        return atd_error_set(err, EINVAL, "http: the URL is neither http nor https");
    rc = make_lines(message, &lines, err);
    if (rc == 0) {
        rc = set_options(curl, message, timeout_ms, no_proxy, ca_file, fetch);
        if (rc == 0)
            (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, lines);
        else
            rc = atd_error_set(err, rc, "http: %s",
                               rc == ENOMEM ? "out of memory" : "a setting was refused");
    }
    if (rc == 0) {
        code = curl_easy_perform(curl);
        if (code != CURLE_OK)
            rc = set_error(curl, code, fetch, message->url, err);
        else if (fetch->head.status < 100)
            rc = atd_error_set(err, EPROTO, "http: the reply has no status");
    }
    free_lines(lines);
    return rc;
}

int atd_http_fetch(const struct atd_http_message *message, unsigned timeout_ms, bool no_proxy,
                   const char *ca_file, size_t body_max, struct atd_arena *arena,
                   struct atd_http_head *ret_head, struct atd_bytes *ret_body,
                   struct atd_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    /* The body gets its place at once: growing would leave copies of secrets behind. */
    struct fetch fetch = {
        .arena = arena,
        .head = {.content_length = -1},
        .body = atd_arena_alloc(arena, body_max + 1),
        .body_max = body_max,
    };
    CURL *curl;
    int rc;

    atd_assert(message->header_count <= ATD_HTTP_HEADERS_MAX);
    (void)pthread_once(&once, init_curl);
    curl = fetch.body ? curl_easy_init() : NULL;
    if (!curl)
        return atd_error_set(err, ENOMEM, "http: out of memory");
    rc = perform(curl, message, timeout_ms, no_proxy, ca_file, &fetch, err);
    curl_easy_cleanup(curl);
    if (rc)
        return rc;
    finish_head(&fetch);
    *ret_head = fetch.head;
    *ret_body = (struct atd_bytes){fetch.body, fetch.body_len};
    return 0;
}

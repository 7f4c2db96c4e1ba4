/* The options of a transfer. Source of each: S3-REDIS 3. */
#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "net/http_exchange.h"

#define RECEIVE_BUFFER_BYTES (512l << 10)
#define SEND_BUFFER_BYTES (2l << 20)
/* Below the idle limits of servers and load balancers, which close from 30 s on: a request on a
 * connection that the other side just closed costs a try. */
#define CONNECTION_AGE_MAX_S 25l
/* Short, so that new connections spread over the addresses that a large store answers with. */
#define DNS_CACHE_S 10l
#define KEEPALIVE_IDLE_S 30l
#define KEEPALIVE_INTERVAL_S 10l

static bool has_line_break(struct atd_str s)
{
    return s.len &&
           (memchr(s.ptr, '\n', s.len) || memchr(s.ptr, '\r', s.len) || memchr(s.ptr, '\0', s.len));
}

static char *add_text(char *to, struct atd_str text)
{
    if (text.len)
        memcpy(to, text.ptr, text.len);
    return to + text.len;
}

/* Makes the list of header lines, in one allocation. */
static int make_lines(struct atd_http_exchange *exchange, struct atd_error *err)
{
    const struct atd_http_message *message = exchange->transfer->message;
    /* curl's own ideas, switched off: 100-continue, and a type for a body that has none. */
    static const char *const off[] = {"Expect:", "Content-Type:"};
    bool has_type = false;
    size_t bytes = 0;
    size_t count = 0;
    char *to;

    atd_assert(message->header_count <= ATD_HTTP_HEADERS_MAX);
    for (size_t i = 0; i < message->header_count; i++) {
        const struct atd_http_header *header = &message->headers[i];

        if (has_line_break(header->name) || has_line_break(header->value))
            return atd_error_set(err, EPROTO, "header '" ATD_STR_FMT "' holds a line break",
                                 ATD_STR_ARG(header->name));
        bytes += header->name.len + header->value.len + 3;
    }
    for (size_t i = 0; i < ATD_ARRAY_LEN(off); i++)
        bytes += strlen(off[i]) + 1;
    exchange->line_text = to = malloc(bytes);
    if (!to)
        return atd_error_set(err, ENOMEM, "no memory for a request");
    for (size_t i = 0; i < message->header_count; i++) {
        const struct atd_http_header *header = &message->headers[i];

        has_type = has_type || (header->name.len == strlen("content-type") &&
                                curl_strnequal(header->name.ptr, "content-type", header->name.len));
        exchange->lines[count++].data = to;
        to = add_text(to, header->name);
        /* "Name;" is curl's way to say: empty. */
        to = add_text(to, header->value.len ? ATD_STR(": ") : ATD_STR(";"));
        to = add_text(to, header->value);
        *to++ = '\0';
    }
    for (size_t i = 0; i < ATD_ARRAY_LEN(off); i++) {
        if (i == 1 && has_type)
            continue;
        exchange->lines[count++].data = to;
        to = add_text(to, atd_str_from(off[i]));
        *to++ = '\0';
    }
    for (size_t i = 0; i < count; i++)
        exchange->lines[i].next = i + 1 < count ? &exchange->lines[i + 1] : NULL;
    return 0;
}

#define SET(option, value) (curl_easy_setopt(easy, option, value) == CURLE_OK)

static bool set_connection(struct atd_http_exchange *exchange)
{
    const struct atd_http_options *options = exchange->loop->options;
    const struct atd_http_transfer *transfer = exchange->transfer;
    CURL *easy = exchange->easy;

    return SET(CURLOPT_NOSIGNAL, 1l) && SET(CURLOPT_SHARE, exchange->loop->share) &&
           SET(CURLOPT_PROTOCOLS_STR, "http,https") &&
           SET(CURLOPT_REDIR_PROTOCOLS_STR, "http,https") &&
           SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) &&
           SET(CURLOPT_CONNECTTIMEOUT_MS, (long)transfer->connect_timeout_ms) &&
           SET(CURLOPT_TCP_KEEPALIVE, 1l) && SET(CURLOPT_TCP_KEEPIDLE, KEEPALIVE_IDLE_S) &&
           SET(CURLOPT_TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S) &&
           SET(CURLOPT_MAXAGE_CONN, CONNECTION_AGE_MAX_S) &&
           SET(CURLOPT_DNS_CACHE_TIMEOUT, DNS_CACHE_S) && SET(CURLOPT_DNS_SHUFFLE_ADDRESSES, 1l) &&
           /* Cancelling must not wait for a name server that does not answer. */
           SET(CURLOPT_QUICK_EXIT, 1l) &&
           SET(CURLOPT_FRESH_CONNECT, transfer->fresh_connection ? 1l : 0l) &&
           SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1l) && SET(CURLOPT_SSL_VERIFYPEER, 1l) &&
           SET(CURLOPT_SSL_VERIFYHOST, 2l) &&
           (!options->ca_file || SET(CURLOPT_CAINFO, options->ca_file)) &&
           SET(CURLOPT_OPENSOCKETFUNCTION, atd_http_on_socket) &&
           SET(CURLOPT_OPENSOCKETDATA, exchange) &&
           SET(CURLOPT_CLOSESOCKETFUNCTION, atd_http_on_close) &&
           /* It outlives the transfer, with its connection. */
           SET(CURLOPT_CLOSESOCKETDATA, exchange->loop) &&
           SET(CURLOPT_PREREQFUNCTION, atd_http_on_connected) && SET(CURLOPT_PREREQDATA, exchange);
}

static bool set_reply(struct atd_http_exchange *exchange)
{
    CURL *easy = exchange->easy;

    /* No ACCEPT_ENCODING: the bytes of an object are wanted as they are stored. */
    return SET(CURLOPT_HTTP_CONTENT_DECODING, 0l) && SET(CURLOPT_HTTP09_ALLOWED, 0l) &&
           SET(CURLOPT_BUFFERSIZE, RECEIVE_BUFFER_BYTES) && SET(CURLOPT_NOPROGRESS, 1l) &&
           SET(CURLOPT_FAILONERROR, 0l) &&
           SET(CURLOPT_FOLLOWLOCATION, exchange->transfer->follow_redirects ? 1l : 0l) &&
           SET(CURLOPT_MAXREDIRS, ATD_HTTP_REDIRECTS_MAX) &&
           SET(CURLOPT_HEADERFUNCTION, atd_http_on_header) && SET(CURLOPT_HEADERDATA, exchange) &&
           SET(CURLOPT_WRITEFUNCTION, atd_http_on_body) && SET(CURLOPT_WRITEDATA, exchange) &&
           SET(CURLOPT_ERRORBUFFER, exchange->curl_text) && SET(CURLOPT_PRIVATE, exchange);
}

static bool set_request(struct atd_http_exchange *exchange)
{
    const struct atd_http_message *message = exchange->transfer->message;
    const char *user_agent = exchange->loop->options->user_agent;
    CURL *easy = exchange->easy;
    bool ok = SET(CURLOPT_URL, message->url) && SET(CURLOPT_PATH_AS_IS, 1l) &&
              SET(CURLOPT_HTTPHEADER, exchange->lines) &&
              (!user_agent || SET(CURLOPT_USERAGENT, user_agent));

    if (strcmp(message->method, "HEAD") == 0)
        return ok && SET(CURLOPT_NOBODY, 1l);
    if (strcmp(message->method, "GET") == 0)
        return ok && SET(CURLOPT_HTTPGET, 1l);
    ok = ok && SET(CURLOPT_CUSTOMREQUEST, message->method);
    if (message->body.len == 0 && strcmp(message->method, "DELETE") == 0)
        return ok;
    return ok && SET(CURLOPT_UPLOAD, 1l) &&
           SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t)message->body.len) &&
           (message->body.len < (size_t)SEND_BUFFER_BYTES ||
            SET(CURLOPT_UPLOAD_BUFFERSIZE, SEND_BUFFER_BYTES)) &&
           SET(CURLOPT_READFUNCTION, atd_http_on_send) && SET(CURLOPT_READDATA, exchange) &&
           SET(CURLOPT_SEEKFUNCTION, atd_http_on_seek) && SET(CURLOPT_SEEKDATA, exchange);
}

int atd_http_exchange_set_up(struct atd_http_exchange *exchange, struct atd_error *err)
{
    int rc = make_lines(exchange, err);

    if (rc)
        return rc;
    curl_easy_reset(exchange->easy);
    if (!set_connection(exchange) || !set_reply(exchange) || !set_request(exchange))
        return atd_error_set(err, ENOMEM, "no memory for a request");
    return 0;
}

/* The life of a transfer, and the one place that says what curl's codes mean. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "net/http_exchange.h"

/* ------------------------------------------------------------------ lists */

static void append(struct atd_http_exchanges *list, struct atd_http_exchange *exchange)
{
    exchange->next = NULL;
    exchange->previous = list->last;
    if (list->last)
        list->last->next = exchange;
    else
        list->first = exchange;
    list->last = exchange;
    list->count++;
}

static void unlink_from(struct atd_http_exchanges *list, struct atd_http_exchange *exchange)
{
    if (exchange->previous)
        exchange->previous->next = exchange->next;
    else
        list->first = exchange->next;
    if (exchange->next)
        exchange->next->previous = exchange->previous;
    else
        list->last = exchange->previous;
    list->count--;
}

static struct atd_http_exchanges *list_of(struct atd_http_loop *loop,
                                          enum atd_http_exchange_state state)
{
    switch (state) {
    case ATD_EXCHANGE_STARTING:
        return &loop->starting;
    case ATD_EXCHANGE_ACTIVE:
        return &loop->active;
    case ATD_EXCHANGE_OVER:
        return &loop->over;
    case ATD_EXCHANGE_IDLE:
        break;
    }
    return &loop->idle;
}

static void move(struct atd_http_exchange *exchange, enum atd_http_exchange_state state)
{
    unlink_from(list_of(exchange->loop, exchange->state), exchange);
    exchange->state = state;
    append(list_of(exchange->loop, state), exchange);
}

static void free_exchange(struct atd_http_exchange *exchange)
{
    curl_easy_cleanup(exchange->easy);
    free(exchange->intake.bytes);
    free(exchange->line_text);
    free(exchange);
}

static struct atd_http_exchange *new_exchange(struct atd_http_loop *loop)
{
    struct atd_http_exchange *exchange = calloc(1, sizeof(*exchange));

    if (!exchange)
        return NULL;
    exchange->loop = loop;
    exchange->easy = curl_easy_init();
    exchange->intake.bytes = malloc(ATD_HTTP_HEADER_BYTES_MAX);
    if (!exchange->easy || !exchange->intake.bytes) {
        free_exchange(exchange);
        return NULL;
    }
    append(&loop->idle, exchange);
    return exchange;
}

void atd_http_exchanges_release(struct atd_http_loop *loop)
{
    struct atd_http_exchange *exchange;

    atd_assert(!loop->starting.first && !loop->active.first && !loop->over.first);
    while ((exchange = loop->idle.first)) {
        unlink_from(&loop->idle, exchange);
        free_exchange(exchange);
    }
}

/* ------------------------------------------------------------------ how it ends */

struct atd_str atd_http_url_host(const char *url)
{
    const char *start = strstr(url, "://");
    size_t len;

    start = start ? start + 3 : url;
    len = strcspn(start, "/?#");
    for (size_t i = len; i > 0; i--) {
        if (start[i - 1] == '@')
            return (struct atd_str){start + i, len - i};
    }
    return (struct atd_str){start, len};
}

void atd_http_exchange_end(struct atd_http_exchange *exchange, int code, bool retryable,
                           const char *fmt, ...)
{
    va_list args;

    if (exchange->state == ATD_EXCHANGE_OVER)
        return;
    exchange->error = (struct atd_error)ATD_ERROR_INIT;
    if (code) {
        va_start(args, fmt);
        (void)atd_error_vset(&exchange->error, code, fmt, args);
        va_end(args);
        (void)atd_error_wrap(&exchange->error, -code, ATD_STR_FMT,
                             ATD_STR_ARG(atd_http_url_host(exchange->transfer->message->url)));
        exchange->error.retryable = retryable;
    }
    atd_http_timer_disarm(exchange->loop, &exchange->timer);
    move(exchange, ATD_EXCHANGE_OVER);
}

static int errno_of_connect(CURL *easy)
{
    long os_errno = 0;

    (void)curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &os_errno);
    switch (os_errno) {
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENETDOWN:
    case EHOSTDOWN:
        return EHOSTUNREACH;
    case ETIMEDOUT:
        return ETIMEDOUT;
    case ECONNRESET:
        return ECONNRESET;
    default:
        return ECONNREFUSED;
    }
}

/* Source: libcurl-errors(3); which of them pass by themselves: S3-REDIS 2.6. */
static int errno_of_curl(struct atd_http_exchange *exchange, CURLcode code, bool *ret_retryable)
{
    long os_errno = 0;

    *ret_retryable = true;
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        return EHOSTUNREACH;
    case CURLE_COULDNT_CONNECT:
        return errno_of_connect(exchange->easy);
    case CURLE_OPERATION_TIMEDOUT:
        return ETIMEDOUT;
    case CURLE_PARTIAL_FILE:
    case CURLE_WEIRD_SERVER_REPLY:
        return EPROTO;
    case CURLE_UNSUPPORTED_PROTOCOL:
        /* No status line, which curl calls "HTTP/0.9"; or a redirect to file: and the like. */
        *ret_retryable = !exchange->intake.has_location;
        return EPROTO;
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_SEND_FAIL_REWIND:
        return ECONNRESET;
    case CURLE_SSL_CONNECT_ERROR:
        /* A connection that broke in the handshake, or a server that does not want us. */
        (void)curl_easy_getinfo(exchange->easy, CURLINFO_OS_ERRNO, &os_errno);
        return os_errno ? ECONNRESET : EACCES;
    default:
        break;
    }
    *ret_retryable = false;
    switch (code) {
    case CURLE_OUT_OF_MEMORY:
        return ENOMEM;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CRL_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
    case CURLE_SSL_INVALIDCERTSTATUS:
        return EACCES;
    default:
        return EPROTO;
    }
}

/* curl's sentence in the form of ours: "Failed to ..." begins small, "SSL ..." stays. */
static const char *curl_sentence(struct atd_http_exchange *exchange, CURLcode code)
{
    char *text = exchange->curl_text;

    if (!text[0])
        (void)snprintf(text, sizeof(exchange->curl_text), "%s", curl_easy_strerror(code));
    if (text[0] >= 'A' && text[0] <= 'Z' && text[1] >= 'a' && text[1] <= 'z')
        text[0] = (char)(text[0] - 'A' + 'a');
    return text;
}

void atd_http_exchange_end_by_curl(struct atd_http_exchange *exchange, CURLcode code)
{
    bool retryable;
    int errno_code;

    if (exchange->refusal) {
        atd_http_exchange_end(exchange, -exchange->refusal, false, "the reply was not taken");
    } else if (exchange->refused_address) {
        atd_http_exchange_end(exchange, EACCES, false,
                              "the address is link-local, which the index must not lead to");
    } else if (code == CURLE_OK && !exchange->head_given) {
        atd_http_exchange_end(exchange, EPROTO, true, "the reply has no status");
    } else if (code == CURLE_OK) {
        atd_http_exchange_end(exchange, 0, false, "%s", "");
    } else {
        errno_code = errno_of_curl(exchange, code, &retryable);
        atd_http_exchange_end(exchange, errno_code, retryable, "%s", curl_sentence(exchange, code));
    }
}

/* ------------------------------------------------------------------ timeouts */

static unsigned or_no_timeout(unsigned limit_ms)
{
    return limit_ms ? limit_ms : ATD_HTTP_NO_TIMEOUT_MS;
}

/* The limit that counts now, and what to say when it is over. */
static unsigned limit_now(const struct atd_http_exchange *exchange, const char **ret_text)
{
    const struct atd_http_transfer *transfer = exchange->transfer;

    if (exchange->sending && exchange->issues > 0 && !exchange->head_given) {
        *ret_text = "the body could not be sent on";
        return or_no_timeout(transfer->send_timeout_ms ? transfer->send_timeout_ms
                                                       : transfer->idle_timeout_ms);
    }
    if (exchange->first_byte_ms < 0) {
        *ret_text = "no answer";
        return or_no_timeout(transfer->first_byte_timeout_ms);
    }
    *ret_text = "the answer stopped";
    return or_no_timeout(transfer->idle_timeout_ms);
}

/* When to look again: another limit, and a shorter one, may begin meanwhile. */
static unsigned look_after_ms(const struct atd_http_exchange *exchange, int64_t left_ms)
{
    const struct atd_http_transfer *transfer = exchange->transfer;
    int64_t after_ms = left_ms;

    if (transfer->idle_timeout_ms && after_ms > transfer->idle_timeout_ms)
        after_ms = transfer->idle_timeout_ms;
    if (exchange->sending && after_ms > ATD_HTTP_SEND_LOOK_MS)
        after_ms = ATD_HTTP_SEND_LOOK_MS;
    return (unsigned)after_ms;
}

/*
 * One timer for all limits. It is not moved with each byte: when it fires it looks at the last
 * byte and sleeps on. Waiting for the first byte counts from the last byte of a body sent.
 */
static void on_timer(struct atd_http_timer *timer)
{
    struct atd_http_exchange *exchange =
        (struct atd_http_exchange *)((char *)timer - offsetof(struct atd_http_exchange, timer));
    struct atd_http_transfer *transfer = exchange->transfer;
    const char *text;
    unsigned limit_ms;
    int64_t left_ms;

    if (exchange->sending && atd_http_exchange_got_on(exchange)) {
        exchange->active_ms = atd_clock_monotonic_ms();
        if (transfer->sent)
            transfer->sent(transfer);
    }
    limit_ms = limit_now(exchange, &text);
    left_ms = exchange->active_ms + limit_ms - atd_clock_monotonic_ms();
    if (left_ms <= 0)
        atd_http_exchange_end(exchange, ETIMEDOUT, true, "%s for %u ms", text, limit_ms);
    else if (atd_http_timer_arm(exchange->loop, timer, look_after_ms(exchange, left_ms), NULL) != 0)
        atd_http_exchange_end(exchange, ENOMEM, false, "no memory for a timer");
}

/* ------------------------------------------------------------------ the steps of a turn */

void atd_http_transfer_start(struct atd_http_loop *loop, struct atd_http_transfer *transfer)
{
    struct atd_http_exchange *exchange = loop->idle.first;

    (void)atomic_fetch_add(&loop->load, 1);
    if (!exchange)
        exchange = new_exchange(loop);
    if (!exchange) {
        transfer->impl = loop->starved;
        loop->starved = transfer;
        return;
    }
    exchange->transfer = transfer;
    exchange->added = false;
    exchange->sent = 0;
    exchange->left = 0;
    exchange->sending = transfer->message->body.len > 0;
    exchange->fd = -1;
    exchange->issues = 0;
    exchange->timer = (struct atd_http_timer){.fire = on_timer};
    exchange->start_ms = atd_clock_monotonic_ms();
    exchange->active_ms = exchange->start_ms;
    exchange->first_byte_ms = -1;
    exchange->head_given = false;
    exchange->refused_address = false;
    exchange->refusal = 0;
    exchange->curl_text[0] = '\0';
    atd_http_intake_reset(&exchange->intake);
    transfer->impl = exchange;
    move(exchange, ATD_EXCHANGE_STARTING);
    if (atd_http_loop_is_ending(loop))
        atd_http_exchange_end(exchange, ECANCELED, false, "cancelled");
}

static bool is_starved(const struct atd_http_loop *loop, const struct atd_http_transfer *transfer)
{
    for (const struct atd_http_transfer *t = loop->starved; t; t = t->impl) {
        if (t == transfer)
            return true;
    }
    return false;
}

void atd_http_transfer_cancel(struct atd_http_loop *loop, struct atd_http_transfer *transfer)
{
    if (!is_starved(loop, transfer))
        atd_http_exchange_end(transfer->impl, ECANCELED, false, "cancelled");
}

void atd_http_exchanges_cancel(struct atd_http_loop *loop)
{
    while (loop->starting.first)
        atd_http_exchange_end(loop->starting.first, ECANCELED, false, "cancelled");
    while (loop->active.first)
        atd_http_exchange_end(loop->active.first, ECANCELED, false, "cancelled");
}

static void begin(struct atd_http_exchange *exchange)
{
    struct atd_http_loop *loop = exchange->loop;
    const struct atd_http_transfer *transfer = exchange->transfer;
    struct atd_error err = ATD_ERROR_INIT;
    unsigned first_ms = or_no_timeout(transfer->first_byte_timeout_ms);
    int rc = atd_http_exchange_set_up(exchange, &err);

    if (rc == 0)
        rc = atd_http_timer_arm(loop, &exchange->timer, look_after_ms(exchange, first_ms), &err);
    if (rc == 0 && curl_multi_add_handle(loop->multi, exchange->easy) != CURLM_OK)
        rc = atd_error_set(&err, ENOMEM, "no memory for a request");
    if (rc) {
        atd_http_exchange_end(exchange, -rc, false, "%s", err.text);
        return;
    }
    exchange->added = true;
    move(exchange, ATD_EXCHANGE_ACTIVE);
}

void atd_http_exchanges_begin(struct atd_http_loop *loop)
{
    while (loop->starting.first)
        begin(loop->starting.first);
}

void atd_http_exchanges_collect(struct atd_http_loop *loop)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(loop->multi, &left))) {
        char *private = NULL;

        if (message->msg == CURLMSG_DONE &&
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private) == CURLE_OK)
            atd_http_exchange_end_by_curl((struct atd_http_exchange *)(void *)private,
                                          message->data.result);
    }
}

/* Takes it from curl and makes it idle; the result is all that remains. */
static void put_away(struct atd_http_exchange *exchange, struct atd_http_result *ret_result)
{
    struct atd_http_loop *loop = exchange->loop;
    long connects = 0;

    (void)atomic_fetch_sub(&loop->load, 1);
    if (exchange->added) {
        (void)curl_easy_getinfo(exchange->easy, CURLINFO_NUM_CONNECTS, &connects);
        (void)curl_multi_remove_handle(loop->multi, exchange->easy);
    }
    ATD_NET_COUNT(atd_http_stats(loop->engine), connections, (uint64_t)connects);
    *ret_result = (struct atd_http_result){
        .error = exchange->error,
        .status = exchange->head_given ? exchange->intake.head.status : 0,
        .first_byte_ms = exchange->first_byte_ms,
        .total_ms = atd_clock_monotonic_ms() - exchange->start_ms,
        .reused = exchange->added && connects == 0,
        .arrived = exchange->issues > 0,
        .replayed = exchange->issues > 1 && !exchange->transfer->follow_redirects,
    };
    free(exchange->line_text);
    exchange->line_text = NULL;
    /* libcurl 7.88 keeps the buffer of a large body until its size is set again. */
    if (exchange->transfer->message->body.len > 0)
        (void)curl_easy_setopt(exchange->easy, CURLOPT_UPLOAD_BUFFERSIZE,
                               ATD_HTTP_SEND_BUFFER_MIN_BYTES);
    exchange->transfer = NULL;
    /* libcurl 7.88 leaves things behind in a handle whose transfer failed (a redirect that it may
     * not follow: its buffer, after which CURLOPT_BUFFERSIZE is refused). */
    if (ret_result->error.code == 0 && loop->idle.count < ATD_HTTP_IDLE_EXCHANGES_MAX) {
        move(exchange, ATD_EXCHANGE_IDLE);
    } else {
        unlink_from(&loop->over, exchange);
        free_exchange(exchange);
    }
}

static void finish_starved(struct atd_http_loop *loop)
{
    struct atd_http_transfer *transfer;
    size_t most = 0;

    for (transfer = loop->starved; transfer; transfer = transfer->impl)
        most++;
    while (most-- > 0 && (transfer = loop->starved)) {
        struct atd_http_result result = {.first_byte_ms = -1};

        loop->starved = transfer->impl;
        transfer->impl = NULL;
        (void)atomic_fetch_sub(&loop->load, 1);
        (void)atd_error_set(&result.error, ENOMEM, "no memory for a request");
        transfer->done(transfer, &result);
    }
}

void atd_http_exchanges_finish(struct atd_http_loop *loop)
{
    size_t most = loop->over.count; /* those that end meanwhile wait for the next turn */

    finish_starved(loop);
    while (most-- > 0 && loop->over.first) {
        struct atd_http_transfer *transfer = loop->over.first->transfer;
        struct atd_http_result result;

        put_away(loop->over.first, &result);
        transfer->impl = NULL;
        transfer->done(transfer, &result);
    }
}

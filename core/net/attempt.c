/* One request of a call: from the message to a reply that was accepted, collected or lost. */
#include <errno.h>
#include <stdio.h>

#include "base/check.h"
#include "base/clock.h"
#include "net/call_impl.h"
#include "net/http_exchange.h"

/* ------------------------------------------------------------------ receiving */

static bool copy_head(struct atd_attempt *attempt, const struct atd_http_head *head)
{
    attempt->head = *head;
    for (size_t i = 0; i < head->header_count; i++) {
        struct atd_http_header *header = &attempt->head.headers[i];

        header->name = atd_arena_str(&attempt->arena, header->name);
        header->value = atd_arena_str(&attempt->arena, header->value);
        if (!header->name.ptr || !header->value.ptr)
            return false;
    }
    return true;
}

static int on_head(struct atd_http_transfer *transfer, const struct atd_http_head *head)
{
    struct atd_attempt *attempt = transfer->ctx;
    struct atd_call_impl *impl = attempt->impl;
    struct atd_call *call = impl->call;

    atd_assert(attempt->mode == ATD_ATTEMPT_UNDECIDED);
    if (attempt->begin != impl->done_bytes) {
        attempt->stale = true;
        return -ESTALE;
    }
    if (call->into && call->ops->accept && call->ops->accept(call, impl->done_bytes, head)) {
        attempt->mode = ATD_ATTEMPT_ACCEPTED;
        atd_call_won(impl, attempt);
        atd_endpoint_body_begin(impl->endpoint, atd_clock_monotonic_ms() - attempt->start_ms);
        return 0;
    }
    attempt->mode = ATD_ATTEMPT_COLLECTING;
    if (!copy_head(attempt, head))
        return atd_error_set(&attempt->why, ENOMEM, "no memory for a reply's head");
    return 0;
}

static int take_bytes(struct atd_attempt *attempt, const uint8_t *data, size_t len)
{
    struct atd_call_impl *impl = attempt->impl;
    struct atd_call *call = impl->call;

    if (len > call->into_len - impl->done_bytes)
        return atd_error_set(&attempt->why, EPROTO, "%s sent more bytes than it said", impl->host);
    memcpy(call->into + impl->done_bytes, data, len);
    impl->done_bytes += len;
    attempt->unmetered_bytes += len;
    if (attempt->unmetered_bytes >= ATD_CALL_METER_BYTES) {
        atd_endpoint_body_bytes(impl->endpoint, attempt->unmetered_bytes);
        attempt->unmetered_bytes = 0;
    }
    atd_call_got_on(impl);
    if (call->ops->progress)
        call->ops->progress(call, impl->done_bytes);
    return 0;
}

static int collect_bytes(struct atd_attempt *attempt, const uint8_t *data, size_t len)
{
    if (attempt->impl->call->into && len > ATD_CALL_REFUSED_BODY_MAX - attempt->body.len) {
        attempt->enough = true;
        return -EFBIG;
    }
    if (len > ATD_CALL_BODY_MAX - attempt->body.len)
        return atd_error_set(&attempt->why, EPROTO, "the reply of %s is larger than %u MiB",
                             attempt->impl->host, ATD_CALL_BODY_MAX >> 20);
    atd_buf_append(&attempt->body, data, len);
    if (attempt->body.failed)
        return atd_error_set(&attempt->why, ENOMEM, "no memory for a reply");
    /* A sign of life only: whether it was worth anything is for judge to say, so the retries are
     * not paid back yet. */
    if (attempt->head.status >= 200 && attempt->head.status < 300)
        attempt->impl->progress_ms = atd_clock_monotonic_ms();
    return 0;
}

static int on_data(struct atd_http_transfer *transfer, const uint8_t *data, size_t len)
{
    struct atd_attempt *attempt = transfer->ctx;

    if (attempt->mode == ATD_ATTEMPT_ACCEPTED)
        return take_bytes(attempt, data, len);
    return collect_bytes(attempt, data, len);
}

static void on_sent(struct atd_http_transfer *transfer)
{
    struct atd_attempt *attempt = transfer->ctx;
    struct atd_call_impl *impl = attempt->impl;

    if (!attempt->has_sent)
        impl->sends++;
    attempt->has_sent = true;
    if (impl->sends <= ATD_CALL_SENDS_MAX)
        impl->progress_ms = atd_clock_monotonic_ms();
}

static void on_done(struct atd_http_transfer *transfer, const struct atd_http_result *result)
{
    struct atd_attempt *attempt = transfer->ctx;
    struct atd_call_impl *impl = attempt->impl;

    attempt->active = false;
    (void)atomic_fetch_sub(&impl->stats->in_flight, 1);
    if (attempt->mode == ATD_ATTEMPT_ACCEPTED)
        atd_endpoint_body_end(impl->endpoint, attempt->unmetered_bytes);
    atd_call_attempt_ended(attempt, result);
}

/* ------------------------------------------------------------------ sending */

int atd_attempt_prepare(struct atd_attempt *attempt, struct atd_error *err)
{
    struct atd_call_impl *impl = attempt->impl;
    struct atd_call *call = impl->call;
    struct atd_str host;
    int rc;

    atd_assert(!attempt->active);
    atd_arena_release(&attempt->arena);
    atd_arena_init(&attempt->arena, ATD_CALL_ARENA_BYTES_MAX);
    memset(&attempt->message, 0, sizeof(attempt->message));
    rc = call->ops->prepare(call, impl->done_bytes, &attempt->arena, &attempt->message, err);
    if (rc)
        return rc;
    host = atd_http_url_host(attempt->message.url);
    (void)snprintf(impl->host, sizeof(impl->host), ATD_STR_FMT, ATD_STR_ARG(host));
    return 0;
}

static void count_request(struct atd_call_impl *impl)
{
    switch (impl->call->kind) {
    case ATD_CALL_GET:
        ATD_NET_COUNT(impl->stats, get_requests, 1);
        break;
    case ATD_CALL_HEAD:
        ATD_NET_COUNT(impl->stats, head_requests, 1);
        break;
    case ATD_CALL_LIST:
        ATD_NET_COUNT(impl->stats, list_requests, 1);
        break;
    case ATD_CALL_PUT:
        ATD_NET_COUNT(impl->stats, put_requests, 1);
        break;
    case ATD_CALL_OTHER:
        ATD_NET_COUNT(impl->stats, other_requests, 1);
        break;
    }
    ATD_NET_COUNT(impl->stats, in_flight, 1);
}

static unsigned longer(unsigned a, unsigned b)
{
    return a > b ? a : b;
}

void atd_attempt_start(struct atd_attempt *attempt, bool duplicate)
{
    struct atd_call_impl *impl = attempt->impl;
    const struct atd_endpoint_limits *limits = &impl->endpoint->limits;
    unsigned answer_ms = impl->call->answer_timeout_ms;

    attempt->active = true;
    attempt->duplicate = duplicate;
    attempt->given_up = false;
    attempt->has_sent = false;
    attempt->stale = false;
    attempt->enough = false;
    attempt->begin = impl->done_bytes;
    attempt->mode = ATD_ATTEMPT_UNDECIDED;
    attempt->start_ms = atd_clock_monotonic_ms();
    atd_buf_clear(&attempt->body);
    attempt->unmetered_bytes = 0;
    attempt->why.code = 0;
    attempt->transfer = (struct atd_http_transfer){
        .message = &attempt->message,
        .connect_timeout_ms = limits->connect_timeout_ms,
        .first_byte_timeout_ms = answer_ms ? answer_ms : limits->first_byte_timeout_ms,
        .idle_timeout_ms = longer(answer_ms, limits->idle_timeout_ms),
        .send_timeout_ms = limits->idle_timeout_ms,
        .fresh_connection = duplicate || impl->call->once,
        .follow_redirects = impl->call->follow_redirects,
        .refuse_link_local = impl->call->refuse_link_local,
        .head = on_head,
        .data = on_data,
        .sent = on_sent,
        .done = on_done,
        .ctx = attempt,
    };
    count_request(impl);
    atd_http_transfer_start(impl->loop, &attempt->transfer);
}

void atd_attempt_cancel(struct atd_attempt *attempt)
{
    attempt->given_up = true;
    atd_http_transfer_cancel(attempt->impl->loop, &attempt->transfer);
}

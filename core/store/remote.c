#include "store/remote.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "codec/shard_url_scheme.h"
#include "net/s3_reply.h"

/* How long a cancelled call may take to end: its loop never blocks, so this is plenty. */
#define GRACE_MS 2000u
/* The call's own deadline comes first: its sentence says what was seen last. */
#define DEADLINE_LEAD_MS 100u
/* How long the end of the store waits for abandoned calls. */
#define RELEASE_MS 5000u

void atd_remote_what(struct atd_str url, char ret_text[ATD_REMOTE_WHAT_MAX])
{
    struct atd_url_quote quote = atd_shard_url_quote(url);

    (void)snprintf(ret_text, ATD_REMOTE_WHAT_MAX, "'" ATD_URL_QUOTE_FMT "'",
                   ATD_URL_QUOTE_ARG(quote));
}

/* ------------------------------------------------------------------ the store */

static void drain_refused(struct atd_http_task *task)
{
    struct atd_remote *remote =
        (struct atd_remote *)((char *)task - offsetof(struct atd_remote, drain));
    struct atd_error why = ATD_ERROR_INIT;

    (void)atd_error_set_retryable(&why, ENOMEM, "a read could not be started: out of memory");
    atd_refused_drain(&remote->refused, &why);
}

int atd_remote_init(struct atd_remote *remote, const struct atd_store_ops *store_ops,
                    const struct atd_remote_ops *ops, struct atd_http_engine *engine,
                    const struct atd_endpoint_limits *limits, struct atd_error *err)
{
    int rc = atd_endpoint_new(engine, limits ? limits : &atd_endpoint_limits_default,
                              &remote->endpoint, err);

    if (rc)
        return rc;
    remote->store.ops = store_ops;
    remote->ops = ops;
    remote->engine = engine;
    remote->drain.run = drain_refused;
    atd_places_init(&remote->places);
    atd_refused_init(&remote->refused);
    atd_lock_init(&remote->lock, ATD_RANK_STORE);
    atd_cond_init(&remote->idle);
    return 0;
}

bool atd_remote_release(struct atd_remote *remote)
{
    int64_t until_ms = atd_clock_monotonic_ms() + RELEASE_MS;
    bool idle;

    atd_lock_take(&remote->lock);
    while (remote->waits > 0 && atd_clock_monotonic_ms() < until_ms)
        atd_cond_wait_ms(&remote->idle, &remote->lock, 100);
    idle = remote->waits == 0;
    atd_lock_give(&remote->lock);
    if (!idle)
        return false;
    atd_endpoint_free(remote->endpoint);
    (void)pthread_cond_destroy(&remote->idle);
    atd_lock_destroy(&remote->lock);
    atd_refused_release(&remote->refused);
    atd_places_release(&remote->places);
    return true;
}

void atd_remote_speed(struct atd_store *store, unsigned *ret_first_byte_ms,
                      uint64_t *ret_bytes_per_s)
{
    atd_endpoint_speed(((struct atd_remote *)store)->endpoint, ret_first_byte_ms, ret_bytes_per_s);
}

/* ------------------------------------------------------------------ calls that are waited for */

static struct atd_remote_call *of_call(struct atd_call *call)
{
    return (struct atd_remote_call *)((char *)call - offsetof(struct atd_remote_call, call));
}

int atd_remote_call_new(struct atd_remote *remote, enum atd_remote_operation operation,
                        struct atd_str url, struct atd_remote_call **ret_call,
                        struct atd_error *err)
{
    struct atd_remote_call *call = calloc(1, remote->ops->call_size);

    if (!call)
        return atd_error_set(err, ENOMEM, "a request could not be made: out of memory");
    call->remote = remote;
    call->operation = operation;
    call->url = url;
    call->call.endpoint = remote->endpoint;
    call->call.follow_redirects = remote->follow_redirects;
    call->call.refuse_link_local = remote->refuse_link_local;
    atd_cond_init(&call->ended);
    *ret_call = call;
    return 0;
}

void atd_remote_call_free(struct atd_remote_call *call)
{
    if (call->remote->ops->close)
        call->remote->ops->close(call);
    (void)pthread_cond_destroy(&call->ended);
    free(call->texts);
    free(call);
}

static int prepare_waited(struct atd_call *net_call, size_t done_bytes, struct atd_arena *arena,
                          struct atd_http_message *ret_message, struct atd_error *err)
{
    struct atd_remote_call *call = of_call(net_call);

    (void)done_bytes;
    return call->remote->ops->prepare(call, call->operation == ATD_REMOTE_PROBE, 0, 0, "", arena,
                                      ret_message, err);
}

static enum atd_verdict judge_head(struct atd_remote_call *call, const struct atd_http_head *head,
                                   struct atd_bytes body, struct atd_error *err)
{
    enum atd_verdict verdict;

    if (head->status >= 200 && head->status <= 299) {
        call->wants_probe = !atd_object_info_from_head(head, &call->info) ||
                            (call->info.size_bytes == 0 && call->remote->doubts_empty_heads);
        return ATD_VERDICT_DONE;
    }
    if (head->status == 405 || head->status == 501) {
        call->wants_probe = true;
        return ATD_VERDICT_DONE;
    }
    /* A refused HEAD has no body that could say why; the reply to a GET has. */
    verdict = call->remote->ops->judge_error(call, head, body, err);
    if (verdict == ATD_VERDICT_FAIL && head->status != 404 && head->status != 410) {
        call->wants_probe = true;
        return ATD_VERDICT_DONE;
    }
    return verdict;
}

static enum atd_verdict judge_probe(struct atd_remote_call *call, const struct atd_http_head *head,
                                    struct atd_bytes body, struct atd_error *err)
{
    struct atd_str range = atd_http_head_find(head, "content-range");
    char what[ATD_REMOTE_WHAT_MAX];
    uint64_t first = 1;
    uint64_t last = 0;
    uint64_t total = 0;
    bool has_range = range.ptr && atd_content_range_parse(range, &first, &last, &total);

    if (head->status == 416) {
        /* The object is empty: there is no first byte. Not every server says so once more. */
        if (!range.ptr || (has_range && total == 0))
            return ATD_VERDICT_DONE;
    } else if (head->status < 200 || head->status > 299) {
        return call->remote->ops->judge_error(call, head, body, err);
    } else if (atd_object_info_from_head(head, &call->info)) {
        if (head->status == 200 ||
            (head->status == 206 && has_range && first == 0 && last == 0 && total > 0))
            return ATD_VERDICT_DONE;
    }
    atd_remote_what(call->url, what);
    (void)atd_error_set(err, EIO, "%s: the server does not tell the size", what);
    return ATD_VERDICT_FAIL;
}

static enum atd_verdict judge_waited(struct atd_call *net_call, const struct atd_http_head *head,
                                     struct atd_bytes body, struct atd_error *err)
{
    struct atd_remote_call *call = of_call(net_call);

    call->status = head->status;
    call->info = (struct atd_object_info){0};
    if (call->operation == ATD_REMOTE_HEAD)
        return judge_head(call, head, body, err);
    if (call->operation == ATD_REMOTE_PROBE)
        return judge_probe(call, head, body, err);
    if (call->operation == ATD_REMOTE_WRITE)
        return call->remote->ops->judge_write(call, head, body, err);
    if (head->status < 200 || head->status > 299)
        return call->remote->ops->judge_error(call, head, body, err);
    return call->remote->ops->judge_list(call, body, err);
}

static void done_waited(struct atd_call *net_call, const struct atd_error *why)
{
    struct atd_remote_call *call = of_call(net_call);
    struct atd_remote *remote = call->remote;
    bool abandoned;

    if (call->operation == ATD_REMOTE_WRITE)
        call->may_have_arrived = atd_call_may_have_arrived(net_call);
    atd_lock_take(&remote->lock);
    if (why)
        call->why = *why;
    call->has_ended = true;
    abandoned = call->is_abandoned;
    (void)pthread_cond_signal(&call->ended);
    atd_lock_give(&remote->lock);
    /* Whoever waits counts it out and frees it; then the store may go. */
    if (!abandoned)
        return;
    atd_remote_call_free(call);
    atd_lock_take(&remote->lock);
    remote->waits--;
    (void)pthread_cond_signal(&remote->idle);
    atd_lock_give(&remote->lock);
}

const struct atd_call_ops atd_remote_waited_ops = {
    .prepare = prepare_waited,
    .judge = judge_waited,
    .done = done_waited,
};

/* Copies of both URLs, since the caller's may be gone when an abandoned call still asks. */
static int keep_texts(struct atd_remote_call *call, struct atd_str after, struct atd_error *err)
{
    call->texts = malloc(call->url.len + after.len + 1);
    if (!call->texts)
        return atd_error_set(err, ENOMEM, "a request could not be made: out of memory");
    if (call->url.len)
        memcpy(call->texts, call->url.ptr, call->url.len);
    if (after.len)
        memcpy(call->texts + call->url.len, after.ptr, after.len);
    call->url.ptr = call->texts;
    call->after = (struct atd_str){call->texts + call->url.len, after.len};
    return 0;
}

/* True when it ended; false when it is left behind. */
static bool wait_for(struct atd_remote_call *call, unsigned timeout_ms, bool *ret_timed_out)
{
    struct atd_remote *remote = call->remote;
    int64_t until_ms = atd_clock_monotonic_ms() + timeout_ms;
    int64_t now_ms;
    bool ended;

    *ret_timed_out = false;
    atd_lock_take(&remote->lock);
    while (!call->has_ended) {
        now_ms = atd_clock_monotonic_ms();
        if (now_ms < until_ms) {
            atd_cond_wait_ms(&call->ended, &remote->lock, (unsigned)(until_ms - now_ms));
        } else if (!*ret_timed_out) {
            *ret_timed_out = true;
            atd_call_cancel(&call->call);
            until_ms = now_ms + GRACE_MS;
        } else {
            break;
        }
    }
    ended = call->has_ended;
    call->is_abandoned = !ended;
    if (ended)
        remote->waits--;
    atd_lock_give(&remote->lock);
    return ended;
}

static int start_waited(struct atd_remote_call *call, struct atd_str after, unsigned timeout_ms,
                        struct atd_error *err)
{
    struct atd_remote *remote = call->remote;
    int rc = keep_texts(call, after, err);

    if (rc == 0)
        rc = remote->ops->open(call, err);
    if (rc)
        return rc;
    call->call.ops = &atd_remote_waited_ops;
    call->call.kind = call->operation == ATD_REMOTE_HEAD    ? ATD_CALL_HEAD
                      : call->operation == ATD_REMOTE_PROBE ? ATD_CALL_GET
                                                            : ATD_CALL_LIST;
    if (call->operation == ATD_REMOTE_PROBE) {
        call->call.into = call->first_byte;
        call->call.into_len = sizeof(call->first_byte);
    }
    call->call.stall_timeout_ms = timeout_ms;
    call->call.urgent = true;
    atd_lock_take(&remote->lock);
    remote->waits++;
    atd_lock_give(&remote->lock);
    rc = atd_call_start(&call->call, err);
    if (rc) {
        atd_lock_take(&remote->lock);
        remote->waits--;
        atd_lock_give(&remote->lock);
    }
    return rc;
}

int atd_remote_run(struct atd_remote *remote, enum atd_remote_operation operation,
                   struct atd_str url, struct atd_str after, unsigned timeout_ms,
                   struct atd_remote_call **ret_call, struct atd_error *err)
{
    struct atd_remote_call *call = NULL;
    char what[ATD_REMOTE_WHAT_MAX];
    bool timed_out;
    int rc = atd_remote_call_new(remote, operation, url, &call, err);

    if (rc)
        return rc;
    rc = start_waited(call, after, timeout_ms ? timeout_ms : 1, err);
    if (rc) {
        atd_remote_call_free(call);
        return rc;
    }
    if (wait_for(call, timeout_ms ? timeout_ms + DEADLINE_LEAD_MS : 0, &timed_out)) {
        if (call->why.code == 0) {
            *ret_call = call;
            return 0;
        }
        if (!timed_out || call->why.code != ECANCELED) {
            if (err)
                *err = call->why;
            rc = -call->why.code;
            atd_remote_call_free(call);
            return rc;
        }
        atd_remote_call_free(call);
    }
    atd_remote_what(url, what);
    return atd_error_set_retryable(err, ETIMEDOUT, "%s: no answer within %u ms", what, timeout_ms);
}

/* ------------------------------------------------------------------ stat */

static int ask_head_refused(struct atd_remote *remote, struct atd_str url, bool *ret_refused,
                            struct atd_error *err)
{
    struct atd_remote_call *call = NULL;
    int rc = atd_remote_call_new(remote, ATD_REMOTE_HEAD, url, &call, err);

    if (rc)
        return rc;
    rc = remote->ops->open(call, err);
    if (rc == 0)
        *ret_refused = atd_places_head_refused(&remote->places, call->place);
    atd_remote_call_free(call);
    return rc;
}

int atd_remote_stat(struct atd_store *store, struct atd_str url, unsigned timeout_ms,
                    struct atd_object_info *ret_info, struct atd_error *err)
{
    struct atd_remote *remote = (struct atd_remote *)store;
    struct atd_remote_call *call = NULL;
    int64_t until_ms = atd_clock_monotonic_ms() + timeout_ms;
    int64_t left_ms;
    bool refused = false;
    bool known = false;
    int rc = ask_head_refused(remote, url, &refused, err);

    if (rc)
        return rc;
    if (!refused) {
        rc = atd_remote_run(remote, ATD_REMOTE_HEAD, url, ATD_STR(""), timeout_ms, &call, err);
        if (rc)
            return rc;
        known = !call->wants_probe;
        refused = call->status == 403 || call->status == 405 || call->status == 501;
        if (known)
            *ret_info = call->info;
        atd_remote_call_free(call);
    }
    if (known)
        return 0;
    left_ms = until_ms - atd_clock_monotonic_ms();
    rc = atd_remote_run(remote, ATD_REMOTE_PROBE, url, ATD_STR(""),
                        left_ms > 0 ? (unsigned)left_ms : 1, &call, err);
    if (rc)
        return rc;
    /* What the GET was granted: it was the HEAD that is not wanted there. */
    if (refused)
        atd_places_set_head_refused(&remote->places, call->place);
    *ret_info = call->info;
    atd_remote_call_free(call);
    return 0;
}

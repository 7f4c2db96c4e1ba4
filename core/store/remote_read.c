#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/check.h"
#include "store/range_check.h"
#include "store/remote.h"

/* An odd reply may be a proxy's slip, so it is asked for again; a server's habit it is not. */
#define ODD_REPLIES_MAX 1u

static struct atd_remote_call *of_call(struct atd_call *call)
{
    return (struct atd_remote_call *)((char *)call - offsetof(struct atd_remote_call, call));
}

/* The version that must come: what was accepted first, else what the caller expects. */
static const struct atd_object_info *wanted_version(const struct atd_remote_call *call)
{
    return call->is_pinned ? &call->get->found : call->get->expect;
}

static int prepare_read(struct atd_call *net_call, size_t done_bytes, struct atd_arena *arena,
                        struct atd_http_message *ret_message, struct atd_error *err)
{
    struct atd_remote_call *call = of_call(net_call);
    const struct atd_store_get *get = call->get;
    char if_match[ATD_ETAG_MAX + 3] = "";

    if (get->expect)
        atd_if_match_text(get->expect, if_match);
    if (!if_match[0] && call->is_pinned)
        atd_if_match_text(&get->found, if_match);
    call->done_bytes = done_bytes;
    return call->remote->ops->prepare(call, true, get->first + done_bytes, get->end - 1, if_match,
                                      arena, ret_message, err);
}

/* The reply against what was expected, and against what was accepted of this object before. */
static enum atd_range_outcome check(const struct atd_remote_call *call, size_t done_bytes,
                                    const struct atd_http_head *head,
                                    struct atd_object_info *ret_info)
{
    const struct atd_store_get *get = call->get;
    enum atd_range_outcome outcome =
        atd_range_check(head, get->first + done_bytes, get->end, wanted_version(call), ret_info);

    /* The reply accepted first may have said less than the caller knows. */
    if (outcome == ATD_RANGE_RIGHT && call->is_pinned && get->expect &&
        !atd_same_version(ret_info, get->expect))
        outcome = ATD_RANGE_CHANGED;
    return outcome;
}

static bool accept_read(struct atd_call *net_call, size_t done_bytes,
                        const struct atd_http_head *head)
{
    struct atd_remote_call *call = of_call(net_call);
    struct atd_object_info info;

    call->done_bytes = done_bytes;
    if (head->status != 200 && head->status != 206)
        return false;
    if (check(call, done_bytes, head, &info) != ATD_RANGE_RIGHT)
        return false;
    if (!call->is_pinned) {
        call->get->found = info;
        call->is_pinned = true;
    }
    return true;
}

static enum atd_verdict judge_odd(struct atd_remote_call *call, const char *what,
                                  struct atd_error *err)
{
    const struct atd_store_get *get = call->get;

    (void)atd_error_set(err, EIO,
                        "%s: the server answered another range than bytes %" PRIu64 " to %" PRIu64,
                        what, get->first + call->done_bytes, get->end - 1);
    return call->odd_replies++ < ODD_REPLIES_MAX ? ATD_VERDICT_RETRY : ATD_VERDICT_FAIL;
}

static enum atd_verdict judge_read(struct atd_call *net_call, const struct atd_http_head *head,
                                   struct atd_bytes body, struct atd_error *err)
{
    struct atd_remote_call *call = of_call(net_call);
    char what[ATD_REMOTE_WHAT_MAX];
    struct atd_object_info info;

    if ((head->status < 200 || head->status > 299) && head->status != 416)
        return call->remote->ops->judge_error(call, head, body, err);
    atd_remote_what(call->url, what);
    switch (check(call, call->done_bytes, head, &info)) {
    case ATD_RANGE_CHANGED:
        (void)atd_error_set(err, ESTALE,
                            "%s is another version now than the one that was looked up", what);
        return ATD_VERDICT_FAIL;
    case ATD_RANGE_SHORT:
        (void)atd_error_set(err, ESTALE,
                            "%s ends before byte %" PRIu64 ", up to which it was asked for", what,
                            call->get->end);
        return ATD_VERDICT_FAIL;
    case ATD_RANGE_IGNORED:
        if (!call->remote->may_ignore_ranges)
            return judge_odd(call, what, err);
        (void)atd_error_set(err, ENOTSUP,
                            "%s: the server cannot serve ranges, so nothing but whole files can be "
                            "read from it",
                            what);
        return ATD_VERDICT_FAIL;
    case ATD_RANGE_RIGHT:
    case ATD_RANGE_WRONG:
        break;
    }
    return judge_odd(call, what, err);
}

static void progress_read(struct atd_call *net_call, size_t received)
{
    struct atd_store_get *get = of_call(net_call)->get;

    if (get->progress)
        get->progress(get, received);
}

/* After get->done() the store may be freed: the call is, without it. */
static void end_read(struct atd_remote_call *call, const struct atd_error *why)
{
    struct atd_store_get *get = call->get;

    if (call->remote->ops->close)
        call->remote->ops->close(call);
    get->done(get, why);
    (void)pthread_cond_destroy(&call->ended);
    free(call);
}

static void done_read(struct atd_call *net_call, const struct atd_error *why)
{
    end_read(of_call(net_call), why);
}

static const struct atd_call_ops read_ops = {
    .prepare = prepare_read,
    .accept = accept_read,
    .judge = judge_read,
    .progress = progress_read,
    .done = done_read,
};

static void tell_refusal(struct atd_http_task *task)
{
    struct atd_remote_call *call =
        (struct atd_remote_call *)((char *)task - offsetof(struct atd_remote_call, tell));

    end_read(call, &call->why);
}

void atd_remote_get_start(struct atd_store *store, struct atd_store_get *get)
{
    struct atd_remote *remote = (struct atd_remote *)store;
    struct atd_remote_call *call = NULL;
    struct atd_error err = ATD_ERROR_INIT;
    int rc = atd_remote_call_new(remote, ATD_REMOTE_READ, get->url, &call, &err);

    if (rc) {
        if (atd_refused_add(&remote->refused, get))
            atd_http_post(atd_http_pick_loop(remote->engine), &remote->drain);
        return;
    }
    get->impl = call;
    call->get = get;
    call->call.ops = &read_ops;
    call->call.kind = ATD_CALL_GET;
    call->call.into = get->into;
    call->call.into_len = (size_t)(get->end - get->first);
    call->call.stall_timeout_ms = get->stall_timeout_ms;
    call->call.urgent = get->urgent;
    call->call.may_hedge = true;
    rc = remote->ops->open(call, &err);
    if (rc == 0)
        rc = atd_call_start(&call->call, &err);
    if (rc) {
        call->is_refused = true;
        call->why = err;
        call->tell.run = tell_refusal;
        atd_http_post(atd_http_pick_loop(remote->engine), &call->tell);
    }
}

void atd_remote_get_cancel(struct atd_store *store, struct atd_store_get *get)
{
    struct atd_remote_call *call = atd_refused_impl(&((struct atd_remote *)store)->refused, get);

    if (call && !call->is_refused)
        atd_call_cancel(&call->call);
}

void atd_remote_get_make_urgent(struct atd_store *store, struct atd_store_get *get)
{
    struct atd_remote_call *call = atd_refused_impl(&((struct atd_remote *)store)->refused, get);

    if (call && !call->is_refused)
        atd_call_make_urgent(&call->call);
}

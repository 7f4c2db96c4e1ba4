/* The states of a call; call_impl.h draws them. */
#include "net/call.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "net/call_impl.h"

#define FROM(type, member, pointer) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

static void ask_for_turn(struct atd_call_impl *impl, bool first);

/* ------------------------------------------------------------------ life */

static void unref(struct atd_call_impl *impl)
{
    if (atomic_fetch_sub(&impl->references, 1) != 1)
        return;
    for (size_t i = 0; i < ATD_ARRAY_LEN(impl->attempts); i++) {
        atd_arena_release(&impl->attempts[i].arena);
        atd_buf_release(&impl->attempts[i].body);
    }
    atd_endpoint_unref(impl->endpoint);
    free(impl);
}

static void ref(struct atd_call_impl *impl)
{
    (void)atomic_fetch_add(&impl->references, 1);
}

static void post(struct atd_call_impl *impl, struct atd_http_task *task)
{
    ref(impl);
    atd_http_post(impl->loop, task);
}

static void wait_begins(struct atd_call_impl *impl)
{
    ATD_NET_COUNT(impl->stats, waiting, 1);
}

static void wait_ends(struct atd_call_impl *impl)
{
    (void)atomic_fetch_sub(&impl->stats->waiting, 1);
}

static unsigned active_attempts(const struct atd_call_impl *impl)
{
    return (impl->attempts[0].active ? 1u : 0u) + (impl->attempts[1].active ? 1u : 0u);
}

static struct atd_attempt *free_attempt(struct atd_call_impl *impl)
{
    return &impl->attempts[impl->attempts[0].active ? 1 : 0];
}

static struct atd_attempt *other_of(struct atd_attempt *attempt)
{
    struct atd_call_impl *impl = attempt->impl;

    return &impl->attempts[attempt == &impl->attempts[0] ? 1 : 0];
}

/* What each state promises. */
static void check(const struct atd_call_impl *impl)
{
    unsigned active = active_attempts(impl);

    (void)active;
    atd_paranoid(impl->done_bytes <= impl->call->into_len);
    atd_paranoid(active == 0 || impl->state == ATD_CALL_RUNNING || impl->state == ATD_CALL_ENDING);
    atd_paranoid(impl->attempts[0].mode != ATD_ATTEMPT_ACCEPTED || !impl->attempts[0].active ||
                 impl->attempts[1].mode != ATD_ATTEMPT_ACCEPTED || !impl->attempts[1].active ||
                 impl->attempts[0].given_up || impl->attempts[1].given_up);
}

/* ------------------------------------------------------------------ the end */

/* Nothing of the call may be touched afterwards. */
static void call_is_over(struct atd_call_impl *impl)
{
    struct atd_call *call = impl->call;

    impl->state = ATD_CALL_OVER;
    atd_http_client_remove(impl->loop, &impl->client);
    /* Not cleared in the call: who cancels at this very moment still looks there. */
    call->ops->done(call, impl->outcome.code ? &impl->outcome : NULL);
    unref(impl);
}

/* `why` NULL: success. May free the call. */
static void finish(struct atd_call_impl *impl, const struct atd_error *why)
{
    enum atd_call_state before = impl->state;

    check(impl);
    atd_assert(before < ATD_CALL_ENDING);
    impl->state = ATD_CALL_ENDING;
    if (why)
        impl->outcome = *why;
    atd_assert(!why || why->code > 0);
    atd_http_timer_disarm(impl->loop, &impl->stall_timer);
    atd_http_timer_disarm(impl->loop, &impl->pause_timer);
    atd_http_timer_disarm(impl->loop, &impl->late_timer);
    if (before == ATD_CALL_WAITING) {
        wait_ends(impl);
        if (atd_endpoint_turn_leave(impl->endpoint, &impl->turn))
            unref(impl); /* the queue's */
    } else if (before == ATD_CALL_PREPARING) {
        wait_ends(impl);
        atd_endpoint_turn_give(impl->endpoint);
    }
    for (size_t i = 0; i < ATD_ARRAY_LEN(impl->attempts); i++) {
        if (impl->attempts[i].active)
            atd_attempt_cancel(&impl->attempts[i]);
    }
    if (active_attempts(impl) == 0)
        call_is_over(impl);
}

static void finish_with(struct atd_call_impl *impl, int code, const char *text)
{
    struct atd_error why = ATD_ERROR_INIT;

    (void)atd_error_set(&why, code, "%s", text);
    finish(impl, &why);
}

/* ------------------------------------------------------------------ a deadline without progress */

/* What was last seen, for the sentence. */
static void describe_wait(const struct atd_call_impl *impl, char *text, size_t size)
{
    if (impl->last.code)
        (void)snprintf(text, size, "the last try: %s", impl->last.text);
    else if (impl->state == ATD_CALL_WAITING)
        (void)snprintf(text, size, "it waited for its turn");
    else if (impl->state == ATD_CALL_PREPARING)
        (void)snprintf(text, size, "it waited for credentials");
    else if (impl->done_bytes > 0)
        (void)snprintf(text, size, "the answer stopped after %zu of %zu bytes", impl->done_bytes,
                       impl->call->into_len);
    else if (impl->attempts[0].message.body.len > 0)
        (void)snprintf(text, size, "the request with its %zu bytes was on its way",
                       impl->attempts[0].message.body.len);
    else
        (void)snprintf(text, size, "the request was sent");
}

static void on_stall_timer(struct atd_http_timer *timer)
{
    struct atd_call_impl *impl = FROM(struct atd_call_impl, stall_timer, timer);
    unsigned limit_ms = impl->call->stall_timeout_ms;
    int64_t left_ms = impl->progress_ms + limit_ms - atd_clock_monotonic_ms();
    struct atd_error why = ATD_ERROR_INIT;
    char seen[ATD_ERROR_TEXT_MAX + 32];

    if (left_ms > 0) {
        if (atd_http_timer_arm(impl->loop, timer, (unsigned)left_ms, &why) != 0)
            finish(impl, &why);
        return;
    }
    describe_wait(impl, seen, sizeof(seen));
    (void)atd_error_set_retryable(
        &why, ETIMEDOUT, "no answer%s%s for %u %s; %s", impl->host[0] ? " from " : "", impl->host,
        limit_ms % 1000 ? limit_ms : limit_ms / 1000, limit_ms % 1000 ? "ms" : "s", seen);
    finish(impl, &why);
}

void atd_call_got_on(struct atd_call_impl *impl)
{
    impl->progress_ms = atd_clock_monotonic_ms();
    impl->exponent = 0;
    if (impl->cost) {
        atd_endpoint_give_tokens(impl->endpoint, impl->cost);
        impl->cost = 0;
    }
}

/* ------------------------------------------------------------------ duplicates */

/* Not being able to is no failure: a duplicate is never necessary. */
static void watch_for_lateness(struct atd_call_impl *impl, int64_t in_ms)
{
    (void)(atd_http_timer_arm(impl->loop, &impl->late_timer, (unsigned)in_ms, NULL) == 0);
}

/*
 * A duplicate asks for the bytes that are still missing, on a connection of its own. It writes
 * nothing before its head was accepted, which ends the other one; and when bytes came meanwhile
 * it is of no use any more (stale).
 */
static void on_late_timer(struct atd_http_timer *timer)
{
    struct atd_call_impl *impl = FROM(struct atd_call_impl, late_timer, timer);
    struct atd_attempt *duplicate = free_attempt(impl);
    const struct atd_attempt *original = other_of(duplicate);
    int64_t quiet_since_ms = original->start_ms;
    int64_t left_ms;

    if (impl->state != ATD_CALL_RUNNING || active_attempts(impl) != 1 ||
        original->mode == ATD_ATTEMPT_COLLECTING)
        return;
    if (original->mode == ATD_ATTEMPT_ACCEPTED && impl->progress_ms > quiet_since_ms)
        quiet_since_ms = impl->progress_ms;
    left_ms = quiet_since_ms + impl->late_after_ms - atd_clock_monotonic_ms();
    if (left_ms > 0) {
        watch_for_lateness(impl, left_ms);
        return;
    }
    if (!atd_endpoint_hedge_take(impl->endpoint)) {
        watch_for_lateness(impl, impl->late_after_ms);
        return;
    }
    if (atd_attempt_prepare(duplicate, NULL) != 0) {
        atd_endpoint_turn_give(impl->endpoint);
        return;
    }
    impl->doubled = true;
    ATD_NET_COUNT(impl->stats, hedges, 1);
    atd_attempt_start(duplicate, true);
}

void atd_call_won(struct atd_call_impl *impl, struct atd_attempt *attempt)
{
    struct atd_attempt *other = other_of(attempt);

    if (attempt->duplicate)
        ATD_NET_COUNT(impl->stats, hedges_won, 1);
    if (other->active)
        atd_attempt_cancel(other);
}

/* ------------------------------------------------------------------ attempts begin */

/* With a turn. */
static void begin_attempt(struct atd_call_impl *impl)
{
    struct atd_attempt *attempt = free_attempt(impl);
    struct atd_error why = ATD_ERROR_INIT;
    unsigned wait_ms;
    int rc = atd_attempt_prepare(attempt, &why);

    if (rc == -EAGAIN) {
        impl->state = ATD_CALL_PREPARING;
        wait_begins(impl);
        wait_ms = (unsigned)(atd_clock_monotonic_ms() - impl->progress_ms) / 4;
        if (wait_ms < ATD_CALL_PREPARE_MIN_MS)
            wait_ms = ATD_CALL_PREPARE_MIN_MS;
        if (wait_ms > ATD_CALL_PREPARE_MAX_MS)
            wait_ms = ATD_CALL_PREPARE_MAX_MS;
        if (atd_http_timer_arm(impl->loop, &impl->pause_timer, wait_ms, &why) != 0)
            finish(impl, &why);
        return;
    }
    if (rc) {
        if (why.code == 0)
            (void)atd_error_set(&why, -rc, "the request cannot be made");
        impl->state = ATD_CALL_PAUSING; /* neither waiting nor with a turn: both end here */
        atd_endpoint_turn_give(impl->endpoint);
        finish(impl, &why);
        return;
    }
    impl->state = ATD_CALL_RUNNING;
    impl->tries++;
    if (impl->tries > 1) {
        ATD_NET_COUNT(impl->stats, retries, 1);
        if (impl->done_bytes > 0)
            ATD_NET_COUNT(impl->stats, resumes, 1);
    }
    atd_attempt_start(attempt, false);
    if (impl->call->may_hedge && impl->call->into && !impl->doubled) {
        impl->late_after_ms = atd_endpoint_hedge_after_ms(impl->endpoint);
        if (impl->late_after_ms > 0)
            watch_for_lateness(impl, impl->late_after_ms);
    }
    check(impl);
}

static void on_granted_task(struct atd_http_task *task)
{
    struct atd_call_impl *impl = FROM(struct atd_call_impl, granted_task, task);

    if (impl->state == ATD_CALL_WAITING) {
        wait_ends(impl);
        begin_attempt(impl);
    } else {
        atd_endpoint_turn_give(impl->endpoint); /* it ended meanwhile */
    }
    unref(impl);
}

/* On any loop's thread; the queue's reference becomes the task's. */
static void on_granted(struct atd_turn *turn)
{
    struct atd_call_impl *impl = FROM(struct atd_call_impl, turn, turn);

    atd_http_post(impl->loop, &impl->granted_task);
}

static void ask_for_turn(struct atd_call_impl *impl, bool first)
{
    impl->state = ATD_CALL_WAITING;
    ref(impl);
    if (!atd_endpoint_turn_ask(impl->endpoint, &impl->turn, first)) {
        wait_begins(impl);
        return;
    }
    begin_attempt(impl);
    unref(impl);
}

static void on_pause_timer(struct atd_http_timer *timer)
{
    struct atd_call_impl *impl = FROM(struct atd_call_impl, pause_timer, timer);

    if (impl->state == ATD_CALL_PREPARING) {
        wait_ends(impl);
        begin_attempt(impl);
    } else {
        ask_for_turn(impl, true);
    }
}

/* ------------------------------------------------------------------ attempts end */

static void succeed(struct atd_call_impl *impl)
{
    atd_endpoint_succeeded(impl->endpoint, impl->cost ? impl->cost : impl->tries == 1 ? 1 : 0);
    finish(impl, NULL);
}

/* A passing failure: again after a pause, if the budget allows. impl->last says what it was. */
static void retry(struct atd_call_impl *impl, bool throttled)
{
    unsigned wait_ms;
    struct atd_error why = impl->last;

    if (!atd_endpoint_retry_take(impl->endpoint, throttled, impl->exponent, &impl->cost,
                                 &wait_ms)) {
        ATD_NET_COUNT(impl->stats, budget_refusals, 1);
        finish(impl, &why);
        return;
    }
    impl->exponent++;
    impl->state = ATD_CALL_PAUSING;
    if (atd_http_timer_arm(impl->loop, &impl->pause_timer, wait_ms, &why) != 0)
        finish(impl, &why);
}

/* May not be done twice, and may have been done. */
static bool is_spent(const struct atd_call_impl *impl)
{
    return impl->call->once && impl->may_have_arrived;
}

/* Without a pause. */
static void try_at_once(struct atd_call_impl *impl)
{
    impl->state = ATD_CALL_PAUSING;
    ask_for_turn(impl, true);
}

static void count_failure(struct atd_call_impl *impl, const struct atd_http_result *result)
{
    if (result->error.code == ETIMEDOUT)
        ATD_NET_COUNT(impl->stats, timeouts, 1);
    else if (result->error.code != ECANCELED)
        ATD_NET_COUNT(impl->stats, transport_errors, 1);
}

/* No whole reply came, or not all of the bytes. */
static void attempt_failed(struct atd_attempt *attempt, const struct atd_http_result *result)
{
    struct atd_call_impl *impl = attempt->impl;
    struct atd_error why = result->error;
    bool dead = why.code == ECONNRESET && result->reused && result->first_byte_ms < 0;

    impl->may_have_arrived = impl->may_have_arrived || result->arrived;
    if (attempt->why.code)
        why = attempt->why;
    if (why.code == 0) {
        (void)atd_error_set_retryable(&why, EPROTO, "%s ended its answer at byte %zu of %zu",
                                      impl->host, impl->done_bytes, impl->call->into_len);
        ATD_NET_COUNT(impl->stats, transport_errors, 1);
    } else {
        count_failure(impl, result);
    }
    impl->last = why;
    if (other_of(attempt)->active)
        return; /* the other one goes on */
    if (!why.retryable || is_spent(impl)) {
        finish(impl, &why);
    } else if (dead && !impl->reset_forgiven) {
        impl->reset_forgiven = true;
        try_at_once(impl);
    } else {
        retry(impl, false);
    }
}

static void note_reply(struct atd_call_impl *impl, int status)
{
    if (status >= 400 && status != 404 && status != 412)
        ATD_NET_COUNT(impl->stats, error_replies, 1);
}

/* Gateways say 5xx of what they passed on; inside a 2xx an error may have come late. */
static bool may_have_been_done(int status)
{
    return (status >= 500 && status != 501) || (status >= 200 && status < 300);
}

/* A whole reply for judge. */
static void attempt_answered(struct atd_attempt *attempt, const struct atd_http_result *result)
{
    struct atd_call_impl *impl = attempt->impl;
    struct atd_call *call = impl->call;
    struct atd_error why = ATD_ERROR_INIT;
    enum atd_verdict verdict;
    bool alone = !other_of(attempt)->active;

    impl->may_have_arrived = impl->may_have_arrived || result->replayed;
    verdict = call->ops->judge(call, &attempt->head, atd_buf_bytes(&attempt->body), &why);
    impl->may_have_arrived = impl->may_have_arrived || may_have_been_done(attempt->head.status);
    note_reply(impl, attempt->head.status);
    if (verdict != ATD_VERDICT_DONE && why.code == 0)
        (void)atd_error_set(&why, EIO, "%s answered with status %d", impl->host,
                            attempt->head.status);
    if (verdict == ATD_VERDICT_DONE) {
        succeed(impl);
        return;
    }
    if (verdict == ATD_VERDICT_FAIL) {
        finish(impl, &why);
        return;
    }
    impl->last = why;
    ATD_NET_COUNT(impl->stats, discarded_bytes, attempt->body.len);
    if (verdict == ATD_VERDICT_THROTTLED) {
        ATD_NET_COUNT(impl->stats, throttled, 1);
        atd_endpoint_throttled(impl->endpoint);
    }
    if (!alone)
        return;
    if (is_spent(impl)) {
        finish(impl, &why);
    } else if (verdict != ATD_VERDICT_AGAIN) {
        retry(impl, verdict == ATD_VERDICT_THROTTLED);
    } else if (impl->corrections < ATD_CALL_CORRECTIONS_MAX) {
        impl->corrections++;
        try_at_once(impl);
    } else {
        finish(impl, &why);
    }
}

void atd_call_attempt_ended(struct atd_attempt *attempt, const struct atd_http_result *result)
{
    struct atd_call_impl *impl = attempt->impl;
    struct atd_call *call = impl->call;

    atd_endpoint_turn_give(impl->endpoint);
    if (impl->state == ATD_CALL_ENDING) {
        impl->may_have_arrived = impl->may_have_arrived || result->arrived;
        if (active_attempts(impl) == 0)
            call_is_over(impl);
        return;
    }
    if (attempt->given_up || (attempt->stale && other_of(attempt)->active))
        return;
    atd_http_timer_disarm(impl->loop, &impl->late_timer);
    if (attempt->stale) {
        try_at_once(impl); /* the other one has failed; its bytes are there */
        return;
    }
    if (attempt->mode == ATD_ATTEMPT_ACCEPTED && impl->done_bytes == call->into_len &&
        !attempt->why.code)
        succeed(impl);
    else if (attempt->mode == ATD_ATTEMPT_COLLECTING &&
             (result->error.code == 0 || attempt->enough))
        attempt_answered(attempt, result);
    else
        attempt_failed(attempt, result);
}

/* ------------------------------------------------------------------ from outside */

static void on_stop(struct atd_http_client *client)
{
    struct atd_call_impl *impl = FROM(struct atd_call_impl, client, client);

    if (impl->state < ATD_CALL_ENDING)
        finish_with(impl, ECANCELED, "cancelled");
}

static void on_cancel_task(struct atd_http_task *task)
{
    struct atd_call_impl *impl = FROM(struct atd_call_impl, cancel_task, task);

    if (impl->state < ATD_CALL_ENDING)
        finish_with(impl, ECANCELED, "cancelled");
    unref(impl);
}

static void begin_call(struct atd_call_impl *impl)
{
    struct atd_call *call = impl->call;
    struct atd_error why = ATD_ERROR_INIT;

    atd_http_client_add(impl->loop, &impl->client);
    if (call->may_hedge)
        atd_endpoint_hedge_earn(impl->endpoint);
    impl->state = ATD_CALL_PAUSING; /* holds nothing yet */
    if (atd_http_loop_is_ending(impl->loop))
        finish_with(impl, ECANCELED, "cancelled");
    else if (call->stall_timeout_ms &&
             atd_http_timer_arm(impl->loop, &impl->stall_timer, call->stall_timeout_ms, &why) != 0)
        finish(impl, &why);
    else
        ask_for_turn(impl, false);
}

static void on_start_task(struct atd_http_task *task)
{
    struct atd_call_impl *impl = FROM(struct atd_call_impl, start_task, task);

    begin_call(impl);
    unref(impl);
}

int atd_call_start(struct atd_call *call, struct atd_error *err)
{
    struct atd_call_impl *impl = calloc(1, sizeof(*impl));

    atd_assert(call->ops->prepare && call->ops->judge && call->ops->done);
    atd_assert(call->kind != ATD_CALL_PUT || !call->may_hedge);
    if (!impl)
        return atd_error_set(err, ENOMEM, "no memory for a request");
    impl->call = call;
    impl->endpoint = call->endpoint;
    impl->loop = atd_http_pick_loop(call->endpoint->engine);
    impl->stats = atd_http_stats(call->endpoint->engine);
    atomic_init(&impl->references, 1);
    impl->start_task.run = on_start_task;
    impl->cancel_task.run = on_cancel_task;
    impl->granted_task.run = on_granted_task;
    impl->turn.urgent = call->urgent;
    impl->turn.granted = on_granted;
    impl->client.stop = on_stop;
    impl->stall_timer.fire = on_stall_timer;
    impl->pause_timer.fire = on_pause_timer;
    impl->late_timer.fire = on_late_timer;
    impl->progress_ms = atd_clock_monotonic_ms();
    for (size_t i = 0; i < ATD_ARRAY_LEN(impl->attempts); i++) {
        impl->attempts[i].impl = impl;
        atd_buf_init(&impl->attempts[i].body, ATD_CALL_BODY_MAX);
    }
    atd_endpoint_ref(impl->endpoint);
    call->impl = impl;
    post(impl, &impl->start_task);
    return 0;
}

void atd_call_cancel(struct atd_call *call)
{
    struct atd_call_impl *impl = call->impl;

    if (!atomic_exchange(&impl->cancel_posted, true))
        post(impl, &impl->cancel_task);
}

bool atd_call_may_have_arrived(const struct atd_call *call)
{
    const struct atd_call_impl *impl = call->impl;

    return impl->may_have_arrived;
}

void atd_call_make_urgent(struct atd_call *call)
{
    struct atd_call_impl *impl = call->impl;

    atd_endpoint_turn_urge(impl->endpoint, &impl->turn);
}

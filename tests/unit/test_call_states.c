/* What ends a call that gets nowhere, whose turn it is, cancelling, duplicates. */
#include "call_scene.h"

/* ------------------------------------------------------------------ no request */

/* At once, or after having waited for credentials: the turn comes back once. */
Test(call_states, request_that_cannot_be_made)
{
    for (unsigned waits = 0; waits < 3; waits++) {
        struct job *job;

        open_scene(NULL, &quick_limits);
        job = new_job(0, 1000);
        job->not_ready = waits;
        job->cannot = EACCES;
        start(job);
        wait_end(job);
        cr_assert_eq(job->why.code, EACCES);
        cr_assert_str_eq(job->why.text, "no credentials");
        cr_assert_eq(atomic_load(&job->prepares), 1);
        cr_assert_eq(STAT(waiting), 0);
        free_job(job);
        close_scene();
    }
}

/* ------------------------------------------------------------------ no progress */

static void answer_nothing(void *ctx, const struct fake_request *request, struct fake_reply *reply)
{
    (void)ctx;
    (void)request;
    reply->cut = true;
    reply->cut_at = SIZE_MAX;
    reply->end = FAKE_STALL;
}

Test(call_states, stall_ends_it_after_the_time_given)
{
    struct atd_endpoint_limits limits = quick_limits;
    int64_t begin_ms;
    int64_t took_ms;
    struct job *job;

    limits.first_byte_timeout_ms = 100;
    open_scene(answer_nothing, &limits);
    job = new_job(0, 1000);
    job->call.stall_timeout_ms = 700;
    begin_ms = atd_clock_monotonic_ms();
    start(job);
    wait_end(job);
    took_ms = atd_clock_monotonic_ms() - begin_ms;
    cr_assert_eq(job->why.code, ETIMEDOUT);
    cr_assert(job->why.retryable);
    cr_assert(strstr(job->why.text, "no answer from 127.0.0.1:"), "%s", job->why.text);
    cr_assert(strstr(job->why.text, "for 700 ms; the last try: "), "%s", job->why.text);
    cr_assert_geq(took_ms, 700);
    cr_assert_lt(took_ms, 20000);
    cr_assert_geq(atomic_load(&job->prepares), 2);
    cr_assert_geq(STAT(timeouts), 1);
    free_job(job);
    close_scene();
}

static void answer_half(void *ctx, const struct fake_request *request, struct fake_reply *reply)
{
    (void)ctx;
    fake_http_object(request, reply, object, sizeof(object));
    reply->cut = true;
    reply->cut_at = 500;
    reply->end = FAKE_STALL;
}

Test(call_states, stall_within_a_body_says_where)
{
    struct job *job;

    open_scene(answer_half, &quick_limits);
    job = new_job(0, 1000);
    job->call.stall_timeout_ms = 300;
    start(job);
    wait_end(job);
    cr_assert_eq(job->why.code, ETIMEDOUT);
    cr_assert(strstr(job->why.text, "stopped after 500 of 1000 bytes"), "%s", job->why.text);
    free_job(job);
    close_scene();
}

static void answer_drop_by_drop(void *ctx, const struct fake_request *request,
                                struct fake_reply *reply)
{
    (void)ctx;
    fake_http_object(request, reply, object, sizeof(object));
    reply->pause_ms = 120;
    reply->cut = true;
    reply->cut_at = 10;
    reply->end = FAKE_CLOSE;
}

Test(call_states, progress_keeps_it_alive_and_costs_nothing)
{
    struct atd_endpoint_limits limits = quick_limits;
    struct job *job;

    limits.retry_tokens = 2 * ATD_RETRY_COST;
    limits.backoff_base_ms = 1;
    open_scene(answer_drop_by_drop, &limits);
    job = new_job(0, 100);
    job->call.stall_timeout_ms = 1000; /* less than the whole takes: 10 times 120 ms */
    start(job);
    expect_bytes(job);
    cr_assert_eq(STAT(resumes), 9);
    cr_assert_eq(STAT(budget_refusals), 0);
    free_job(job);
    close_scene();
}

Test(call_states, stall_counts_while_the_store_is_not_ready)
{
    struct job *job;

    open_scene(answer_object, &quick_limits);
    job = new_job(0, 1000);
    atomic_store(&job->not_ready, 1000000);
    job->call.stall_timeout_ms = 300;
    start(job);
    wait_end(job);
    cr_assert_eq(job->why.code, ETIMEDOUT);
    cr_assert(strstr(job->why.text, "credentials"), "%s", job->why.text);
    cr_assert_eq(fake_http_requests(server), 0);
    UNTIL(STAT(waiting) == 0);
    free_job(job);
    close_scene();
}

/* ------------------------------------------------------------------ turns */

/* The first request holds the others up. */
static void answer_first_late(void *ctx, const struct fake_request *request,
                              struct fake_reply *reply)
{
    (void)ctx;
    fake_http_object(request, reply, object, sizeof(object));
    if (request->number == 0)
        reply->delay_ms = 700;
}

Test(call_states, urgent_ones_go_first)
{
    struct atd_endpoint_limits limits = quick_limits;
    struct job *jobs[6];

    limits.concurrency_first = limits.concurrency_max = 1;
    open_scene(answer_first_late, &limits);
    for (size_t i = 0; i < 6; i++) {
        jobs[i] = new_job(i, 1000);
        jobs[i]->call.urgent = i == 4;
        start(jobs[i]);
        UNTIL(i == 0 ? STAT(in_flight) == 1 : STAT(waiting) == i);
    }
    atd_call_make_urgent(&jobs[3]->call);
    atd_call_make_urgent(&jobs[4]->call);
    for (size_t i = 0; i < 6; i++)
        expect_bytes(jobs[i]);
    cr_assert_eq(jobs[0]->ended_as, 0);
    cr_assert_eq(jobs[4]->ended_as, 1);
    cr_assert_eq(jobs[3]->ended_as, 2);
    cr_assert_eq(jobs[1]->ended_as, 3);
    cr_assert_eq(jobs[2]->ended_as, 4);
    cr_assert_eq(jobs[5]->ended_as, 5);
    cr_assert_eq(fake_http_busiest(server), 1);
    for (size_t i = 0; i < 6; i++)
        free_job(jobs[i]);
    close_scene();
}

/* ------------------------------------------------------------------ cancelling */

static void expect_cancelled(struct job *job)
{
    wait_end(job);
    cr_assert_eq(job->why.code, ECANCELED, "%s", job->why.text);
}

/* One call in each state: running without a byte, in its body, waiting, not ready, pausing. */
enum { RUNNING, IN_BODY, WAITING, NOT_READY, PAUSING, STATES };

static void answer_by_key(void *ctx, const struct fake_request *request, struct fake_reply *reply)
{
    if (strcmp(request->target, "/running") == 0) {
        answer_nothing(ctx, request, reply);
    } else if (strcmp(request->target, "/in-body") == 0) {
        answer_half(ctx, request, reply);
    } else {
        reply->status = 500;
    }
}

static void start_in_each_state(struct job *jobs[STATES])
{
    for (size_t i = 0; i < STATES; i++)
        jobs[i] = new_job(0, 1000);
    fake_http_url(server, "/running", jobs[RUNNING]->url, sizeof(jobs[0]->url));
    fake_http_url(server, "/in-body", jobs[IN_BODY]->url, sizeof(jobs[0]->url));
    atomic_store(&jobs[NOT_READY]->not_ready, 1000000);
    start(jobs[PAUSING]);
    UNTIL(atomic_load(&jobs[PAUSING]->judged) == 1 && STAT(in_flight) == 0);
    start(jobs[RUNNING]);
    start(jobs[IN_BODY]);
    start(jobs[NOT_READY]);
    UNTIL(fake_http_busy(server) == 2 && atomic_load(&jobs[IN_BODY]->received) == 500);
    UNTIL(STAT(waiting) == 1);
    start(jobs[WAITING]);
    UNTIL(STAT(waiting) == 2);
}

static const struct atd_endpoint_limits three_at_a_time = {
    .concurrency_first = 3,
    .concurrency_max = 3,
    .first_byte_timeout_ms = 60000,
    .idle_timeout_ms = 60000,
    .retry_tokens = 100,
    .backoff_base_ms = 1000000000, /* so that the jitter is long enough */
    .backoff_throttled_ms = 1000000000,
    .backoff_max_ms = 1000000000,
};

Test(call_states, cancel_in_each_state)
{
    static const int order[STATES] = {WAITING, PAUSING, NOT_READY, IN_BODY, RUNNING};
    struct job *jobs[STATES];

    open_scene(answer_by_key, &three_at_a_time);
    start_in_each_state(jobs);
    for (size_t i = 0; i < STATES; i++) {
        struct job *job = jobs[order[i]];

        cr_assert(!atomic_load(&job->ended));
        atd_call_cancel(&job->call);
        expect_cancelled(job);
        free_job(job);
    }
    UNTIL(STAT(in_flight) == 0 && STAT(waiting) == 0);
    close_scene();
}

Test(call_states, stop_ends_calls_in_each_state)
{
    struct job *jobs[STATES];
    struct job *fresh;

    open_scene(answer_by_key, &three_at_a_time);
    start_in_each_state(jobs);
    fresh = new_job(0, 1000);
    start(fresh);
    cr_assert(atd_http_stop(engine, PATIENCE_MS));
    for (size_t i = 0; i < STATES; i++) {
        cr_assert(atomic_load(&jobs[i]->ended));
        expect_cancelled(jobs[i]);
        free_job(jobs[i]);
    }
    expect_cancelled(fresh);
    free_job(fresh);
    engine = NULL;
    close_scene();
}

/* ------------------------------------------------------------------ duplicates */

static atomic_uint slow_from;     /* the number of the first request that is slow */
static struct fake_reply slow[2]; /* the original's faults and the duplicate's */

static void answer_slowly(void *ctx, const struct fake_request *request, struct fake_reply *reply)
{
    unsigned from = atomic_load(&slow_from);

    (void)ctx;
    if (request->number >= from && request->number < from + 2)
        *reply = slow[request->number - from];
    fake_http_object(request, reply, object, sizeof(object));
}

/* Enough answers that lateness is known, and then one that is slow. */
static struct job *run_slow_one(struct fake_reply original, struct fake_reply duplicate)
{
    enum { BEFORE = 30 };
    struct atd_endpoint_limits limits = quick_limits;
    struct job *job;

    limits.hedge_percent = 5;
    atomic_store(&slow_from, BEFORE);
    slow[0] = original;
    slow[1] = duplicate;
    open_scene(answer_slowly, &limits);
    for (int i = 0; i < BEFORE; i++) {
        job = new_job(0, 1000);
        start(job);
        expect_bytes(job);
        free_job(job);
    }
    job = new_job(7, 200000);
    job->call.may_hedge = true;
    start(job);
    return job;
}

static struct fake_reply delayed(unsigned delay_ms)
{
    return (struct fake_reply){.delay_ms = delay_ms};
}

Test(call_states, duplicate_wins_over_a_slow_answer)
{
    int64_t begin_ms;
    struct job *job = run_slow_one(delayed(PATIENCE_MS / 2), delayed(0));

    begin_ms = atd_clock_monotonic_ms();
    expect_bytes(job);
    cr_assert_lt(atd_clock_monotonic_ms() - begin_ms, PATIENCE_MS / 2 - 5000);
    cr_assert_eq(STAT(hedges), 1);
    cr_assert_eq(STAT(hedges_won), 1);
    cr_assert_eq(STAT(retries), 0);
    UNTIL(STAT(in_flight) == 0);
    cr_assert_geq(fake_http_connections(server), 2, "the duplicate shares a connection");
    free_job(job);
    close_scene();
}

Test(call_states, loser_is_cancelled_as_soon_as_another_wins)
{
    struct job *job = run_slow_one(delayed(PATIENCE_MS), (struct fake_reply){.drip_ms = 40});

    UNTIL(atomic_load(&job->received) > 0 && STAT(in_flight) == 1);
    cr_assert(!atomic_load(&job->ended));
    expect_bytes(job);
    cr_assert_eq(STAT(hedges_won), 1);
    free_job(job);
    close_scene();
}

Test(call_states, duplicate_that_is_slower_is_dropped)
{
    struct job *job = run_slow_one(delayed(3000), delayed(PATIENCE_MS / 2));

    expect_bytes(job);
    cr_assert_eq(STAT(hedges), 1);
    cr_assert_eq(STAT(hedges_won), 0);
    UNTIL(STAT(in_flight) == 0);
    free_job(job);
    close_scene();
}

Test(call_states, duplicate_takes_over_a_body_that_stopped)
{
    struct fake_reply stops = {.cut = true, .cut_at = 1000, .end = FAKE_STALL};
    struct job *job = run_slow_one(stops, delayed(0));

    expect_bytes(job);
    cr_assert_eq(STAT(hedges), 1);
    cr_assert_eq(STAT(hedges_won), 1);
    cr_assert_eq(STAT(timeouts), 0);
    cr_assert_eq(atomic_load(&job->last_done_bytes), 1000);
    UNTIL(STAT(in_flight) == 0);
    free_job(job);
    close_scene();
}

/* The original goes on while the duplicate waits for its head, and then fails or not. */
Test(call_states, duplicate_that_comes_too_late_writes_nothing)
{
    static const size_t cut_at[] = {SIZE_MAX - 1, 100000, 9000}; /* not; after it; before it */

    for (size_t i = 0; i < 3; i++) {
        struct fake_reply drips = {
            .pause_ms = 1200, .drip_ms = 40, .cut = i > 0, .cut_at = cut_at[i]};
        struct job *job = run_slow_one(drips, delayed(1500));

        expect_bytes(job);
        cr_assert_eq(STAT(hedges), 1);
        cr_assert_eq(STAT(hedges_won), 0);
        cr_assert_eq(STAT(retries), i > 0 ? 1 : 0);
        UNTIL(STAT(in_flight) == 0);
        free_job(job);
        close_scene();
    }
}

Test(call_states, duplicates_keep_to_their_budget)
{
    enum { COUNT = 40 };
    struct job *job = run_slow_one(delayed(500), delayed(500));

    expect_bytes(job);
    free_job(job);
    for (int i = 0; i < COUNT; i++) { /* these are not slow: they only earn */
        job = new_job(0, 100);
        job->call.may_hedge = true;
        start(job);
        expect_bytes(job);
        free_job(job);
    }
    cr_assert_leq(STAT(hedges), 1 + (COUNT + 1) * 5 / 100);
    close_scene();
}

Test(call_states, speed_is_known_after_a_while)
{
    unsigned first_byte_ms;
    uint64_t bytes_per_s;

    open_scene(answer_drop_by_drop, &quick_limits);
    atd_endpoint_speed(endpoint, &first_byte_ms, &bytes_per_s);
    cr_assert_eq(bytes_per_s, 0);
    for (int i = 0; i < 3; i++) {
        struct job *job = new_job(0, 30);

        start(job);
        expect_bytes(job);
        free_job(job);
    }
    atd_endpoint_speed(endpoint, &first_byte_ms, &bytes_per_s);
    cr_assert_gt(bytes_per_s, 0);
    cr_assert_lt(bytes_per_s, 1000);
    atd_endpoint_set_clock_offset(endpoint, -7);
    cr_assert_eq(atd_endpoint_clock_offset_s(endpoint), -7);
    close_scene();
}

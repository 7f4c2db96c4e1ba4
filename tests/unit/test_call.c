#include <criterion/criterion.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/call.h"
#include "net/endpoint.h"
#include "support/fake_http.h"

/* Far above what anything here takes, also on a machine that is busy with other things. */
#define PATIENCE_MS 60000

/* ------------------------------------------------------------------ a store as small as can be */

struct job {
    struct atd_call call;
    char url[256];
    uint8_t *into;
    size_t len;
    size_t begin;                 /* of the range in the object */
    enum atd_verdict bad_verdict; /* of a reply that is no success; DONE: by its status */
    atomic_uint not_ready;        /* so often prepare says EAGAIN */
    /* seen */
    atomic_uint prepares;
    atomic_size_t last_done_bytes;
    atomic_size_t received;
    atomic_uint judged;
    int status;
    size_t body_len;
    struct atd_error why;
    unsigned ended_as; /* the how-manieth */
    atomic_int ended;  /* last to be set */
};

static atomic_uint end_count;

static int job_prepare(struct atd_call *call, size_t done_bytes, struct atd_arena *arena,
                       struct atd_http_message *ret_message, struct atd_error *err)
{
    struct job *job = call->ctx;
    char text[64];
    struct atd_str range;

    if (atomic_load(&job->not_ready) > 0) {
        (void)atomic_fetch_sub(&job->not_ready, 1);
        return -EAGAIN;
    }
    (void)atomic_fetch_add(&job->prepares, 1);
    atomic_store(&job->last_done_bytes, done_bytes);
    ret_message->method = call->kind == ATD_CALL_HEAD ? "HEAD" : "GET";
    ret_message->url = job->url;
    if (!job->into)
        return 0;
    (void)snprintf(text, sizeof(text), "bytes=%zu-%zu", job->begin + done_bytes,
                   job->begin + job->len - 1);
    range = atd_arena_str(arena, atd_str_from(text));
    if (!range.ptr)
        return atd_error_set(err, ENOMEM, "no memory");
    ret_message->headers[0] = (struct atd_http_header){ATD_STR("Range"), range};
    ret_message->header_count = 1;
    return 0;
}

static bool job_accept(struct atd_call *call, size_t done_bytes, const struct atd_http_head *head)
{
    struct job *job = call->ctx;
    char text[64];
    struct atd_str range = atd_http_head_find(head, "content-range");

    (void)snprintf(text, sizeof(text), "bytes %zu-", job->begin + done_bytes);
    return head->status == 206 && atd_str_starts_with(range, atd_str_from(text));
}

static enum atd_verdict job_judge(struct atd_call *call, const struct atd_http_head *head,
                                  struct atd_bytes body, struct atd_error *err)
{
    struct job *job = call->ctx;

    (void)atomic_fetch_add(&job->judged, 1);
    job->status = head->status;
    job->body_len = body.len;
    if (head->status == 200 && !job->into)
        return ATD_VERDICT_DONE;
    if (job->bad_verdict != ATD_VERDICT_DONE) {
        (void)atd_error_set_retryable(err, EIO, "status %d", head->status);
        return job->bad_verdict;
    }
    if (head->status == 503) {
        (void)atd_error_set_retryable(err, EAGAIN, "slow down");
        return ATD_VERDICT_THROTTLED;
    }
    if (head->status == 500) {
        (void)atd_error_set_retryable(err, EIO, "server error");
        return ATD_VERDICT_RETRY;
    }
    (void)atd_error_set(err, head->status == 404 ? ENOENT : EIO, "status %d", head->status);
    return ATD_VERDICT_FAIL;
}

static void job_progress(struct atd_call *call, size_t received)
{
    struct job *job = call->ctx;

    cr_assert(received > atomic_load(&job->received));
    atomic_store(&job->received, received);
}

static void job_done(struct atd_call *call, const struct atd_error *why)
{
    struct job *job = call->ctx;

    if (why)
        job->why = *why;
    job->ended_as = atomic_fetch_add(&end_count, 1);
    atomic_store(&job->ended, 1);
}

static const struct atd_call_ops job_ops = {
    .prepare = job_prepare,
    .accept = job_accept,
    .judge = job_judge,
    .progress = job_progress,
    .done = job_done,
};

/* ------------------------------------------------------------------ the scene */

#define OBJECT_BYTES 300000
static uint8_t object[OBJECT_BYTES];
static struct fake_http *server;
static struct atd_http_engine *engine;
static struct atd_endpoint *endpoint;

static const struct atd_endpoint_limits quick_limits = {
    .concurrency_first = 8,
    .concurrency_max = 16,
    .connect_timeout_ms = 30000,
    .first_byte_timeout_ms = 30000,
    .idle_timeout_ms = 30000,
    .retry_tokens = 500,
    .backoff_base_ms = 2,
    .backoff_throttled_ms = 4,
    .backoff_max_ms = 50,
    .hedge_percent = 0,
};

static void open_scene(fake_answer answer, const struct atd_endpoint_limits *limits)
{
    struct atd_http_options options = {.threads = 2, .user_agent = "test"};
    struct atd_error err = ATD_ERROR_INIT;

    for (size_t i = 0; i < sizeof(object); i++)
        object[i] = (uint8_t)(i * 2654435761u >> 13);
    (void)setenv("no_proxy", "*", 1); /* whatever this machine's environment says */
    cr_assert_eq(curl_global_init(CURL_GLOBAL_DEFAULT), CURLE_OK);
    server = fake_http_start(answer, NULL);
    cr_assert_eq(atd_http_start(&options, &engine, &err), 0, "%s", err.text);
    cr_assert_eq(atd_endpoint_new(engine, limits, &endpoint, &err), 0, "%s", err.text);
}

static void close_scene(void)
{
    cr_assert(atd_http_stop(engine, PATIENCE_MS));
    atd_endpoint_free(endpoint);
    fake_http_stop(server);
    curl_global_cleanup();
}

static struct job *new_job(size_t begin, size_t len)
{
    struct job *job = calloc(1, sizeof(*job));

    job->len = len;
    job->begin = begin;
    job->into = len ? malloc(len) : NULL;
    if (len)
        memset(job->into, 0xee, len);
    fake_http_url(server, "/bucket/key", job->url, sizeof(job->url));
    job->call = (struct atd_call){
        .endpoint = endpoint,
        .ops = &job_ops,
        .kind = len ? ATD_CALL_GET : ATD_CALL_LIST,
        .into = job->into,
        .into_len = len,
        .stall_timeout_ms = PATIENCE_MS / 2,
        .ctx = job,
    };
    return job;
}

static void start(struct job *job)
{
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_call_start(&job->call, &err), 0, "%s", err.text);
}

#define UNTIL(condition)                                                           \
    do {                                                                           \
        int64_t until_ms_ = atd_clock_monotonic_ms() + PATIENCE_MS;                \
        while (!(condition)) {                                                     \
            cr_assert(atd_clock_monotonic_ms() < until_ms_, "never: " #condition); \
            (void)usleep(1000);                                                    \
        }                                                                          \
    } while (0)

static void wait_end(struct job *job)
{
    UNTIL(atomic_load(&job->ended));
}

static void free_job(struct job *job)
{
    free(job->into);
    free(job);
}

static void expect_bytes(struct job *job)
{
    wait_end(job);
    cr_assert_eq(job->why.code, 0, "%s", job->why.text);
    cr_assert_eq(memcmp(job->into, object + job->begin, job->len), 0);
    cr_assert_eq(atomic_load(&job->received), job->len);
}

static uint64_t stat_of(const atomic_uint_fast64_t *counter)
{
    return atomic_load(counter);
}
#define STAT(name) stat_of(&atd_http_stats(engine)->name)

/* ------------------------------------------------------------------ bytes */

static void answer_object(void *ctx, const struct fake_request *request, struct fake_reply *reply)
{
    (void)ctx;
    fake_http_object(request, reply, object, sizeof(object));
}

Test(call, get_fills_the_buffer)
{
    struct job *job;

    open_scene(answer_object, &quick_limits);
    job = new_job(1000, 200000);
    start(job);
    expect_bytes(job);
    cr_assert_eq(atomic_load(&job->prepares), 1);
    cr_assert_eq(STAT(get_requests), 1);
    cr_assert_eq(STAT(received_bytes), 200000);
    cr_assert_eq(STAT(retries), 0);
    UNTIL(STAT(in_flight) == 0 && STAT(waiting) == 0);
    free_job(job);
    close_scene();
}

static void answer_cut_twice(void *ctx, const struct fake_request *request,
                             struct fake_reply *reply)
{
    (void)ctx;
    fake_http_object(request, reply, object, sizeof(object));
    if (request->number < 2) {
        reply->cut = true;
        reply->cut_at = request->number == 0 ? 70001 : 30002;
        reply->end = FAKE_CLOSE;
    }
}

Test(call, short_body_is_resumed_at_the_byte_reached)
{
    struct job *job;

    open_scene(answer_cut_twice, &quick_limits);
    job = new_job(5, 250000);
    start(job);
    expect_bytes(job);
    cr_assert_eq(atomic_load(&job->prepares), 3);
    cr_assert_eq(atomic_load(&job->last_done_bytes), 100003);
    cr_assert_eq(STAT(resumes), 2);
    cr_assert_eq(STAT(received_bytes), 250000);
    cr_assert_eq(STAT(transport_errors), 2);
    free_job(job);
    close_scene();
}

static void answer_reset(void *ctx, const struct fake_request *request, struct fake_reply *reply)
{
    (void)ctx;
    fake_http_object(request, reply, object, sizeof(object));
    if (request->number == 0) {
        reply->cut = true;
        reply->cut_at = SIZE_MAX;
        reply->end = FAKE_RESET;
    } else if (request->number == 1) {
        /* The pause lets the client read before the RST throws away what it has not read. */
        reply->cut = true;
        reply->cut_at = 1000;
        reply->end = FAKE_RESET;
    }
}

Test(call, reset_connections_are_tried_again)
{
    struct job *job;

    open_scene(answer_reset, &quick_limits);
    job = new_job(0, 100000);
    start(job);
    expect_bytes(job);
    cr_assert_eq(atomic_load(&job->prepares), 3);
    cr_assert_eq(STAT(transport_errors), 2);
    free_job(job);
    close_scene();
}

static atomic_uint resets_on_reuse;

static void answer_reset_on_reuse(void *ctx, const struct fake_request *request,
                                  struct fake_reply *reply)
{
    (void)ctx;
    fake_http_object(request, reply, object, sizeof(object));
    if (request->on_connection > 0) {
        (void)atomic_fetch_add(&resets_on_reuse, 1);
        reply->cut = true;
        reply->cut_at = SIZE_MAX;
        reply->end = FAKE_RESET;
    }
}

Test(call, dead_connection_that_was_reused_costs_no_token)
{
    struct atd_endpoint_limits limits = quick_limits;

    limits.retry_tokens = 0;
    open_scene(answer_reset_on_reuse, &limits);
    for (int i = 0; i < 4; i++) {
        struct job *job = new_job(0, 1000);

        start(job);
        expect_bytes(job);
        free_job(job);
    }
    cr_assert_geq(atomic_load(&resets_on_reuse), 1, "nothing was reused");
    cr_assert_eq(STAT(budget_refusals), 0);
    close_scene();
}

static void answer_too_much(void *ctx, const struct fake_request *request, struct fake_reply *reply)
{
    (void)ctx;
    fake_http_object(request, reply, object, sizeof(object));
    reply->chunked = true;
    reply->body_len += 1;
}

Test(call, more_bytes_than_accepted_are_an_error)
{
    struct job *job;

    open_scene(answer_too_much, &quick_limits);
    job = new_job(0, 1000);
    start(job);
    wait_end(job);
    cr_assert_eq(job->why.code, EPROTO, "%s", job->why.text);
    cr_assert(strstr(job->why.text, "more bytes"), "%s", job->why.text);
    cr_assert_eq(atomic_load(&job->prepares), 1);
    free_job(job);
    close_scene();
}

static void answer_short_chunks(void *ctx, const struct fake_request *request,
                                struct fake_reply *reply)
{
    (void)ctx;
    fake_http_object(request, reply, object, sizeof(object));
    reply->chunked = true;
    if (request->number == 0)
        reply->body_len -= 1; /* and properly ended: no length says that it is short */
}

Test(call, chunked_body_that_ends_early_is_resumed)
{
    struct job *job;

    open_scene(answer_short_chunks, &quick_limits);
    job = new_job(0, 50000);
    start(job);
    expect_bytes(job);
    cr_assert_eq(atomic_load(&job->last_done_bytes), 49999);
    free_job(job);
    close_scene();
}

Test(call, many_at_once_keep_their_bytes_apart)
{
    enum { COUNT = 64 };
    struct job *jobs[COUNT];

    open_scene(answer_object, &quick_limits);
    for (size_t i = 0; i < COUNT; i++) {
        jobs[i] = new_job(i * 3000, 100000 + i);
        start(jobs[i]);
    }
    for (size_t i = 0; i < COUNT; i++) {
        expect_bytes(jobs[i]);
        free_job(jobs[i]);
    }
    cr_assert_leq(fake_http_busiest(server), quick_limits.concurrency_max);
    UNTIL(STAT(in_flight) == 0 && STAT(waiting) == 0);
    close_scene();
}

/* ------------------------------------------------------------------ replies that are judged */

static const char listing[] = "<ListBucketResult/>";

static void answer_503_once(void *ctx, const struct fake_request *request, struct fake_reply *reply)
{
    (void)ctx;
    reply->body = listing;
    reply->body_len = sizeof(listing) - 1;
    if (request->number == 0)
        reply->status = 503;
}

Test(call, throttled_reply_is_repeated_and_halves_the_limit)
{
    struct job *job;

    open_scene(answer_503_once, &quick_limits);
    job = new_job(0, 0);
    start(job);
    wait_end(job);
    cr_assert_eq(job->why.code, 0, "%s", job->why.text);
    cr_assert_eq(job->status, 200);
    cr_assert_eq(job->body_len, sizeof(listing) - 1);
    cr_assert_eq(STAT(throttled), 1);
    cr_assert_eq(STAT(retries), 1);
    cr_assert_eq(STAT(error_replies), 1);
    cr_assert_eq(STAT(list_requests), 2);
    cr_assert_eq(endpoint->limiter.limit, quick_limits.concurrency_first / 2);
    free_job(job);
    close_scene();
}

static void answer_500(void *ctx, const struct fake_request *request, struct fake_reply *reply)
{
    (void)ctx;
    (void)request;
    reply->status = 500;
}

Test(call, retries_end_when_the_budget_is_used_up)
{
    struct atd_endpoint_limits limits = quick_limits;
    struct job *job;

    limits.retry_tokens = 3 * ATD_RETRY_COST;
    open_scene(answer_500, &limits);
    job = new_job(0, 0);
    start(job);
    wait_end(job);
    cr_assert_eq(job->why.code, EIO);
    cr_assert_str_eq(job->why.text, "server error");
    cr_assert_eq(atomic_load(&job->prepares), 4);
    cr_assert_eq(STAT(budget_refusals), 1);
    free_job(job);
    close_scene();
}

Test(call, corrections_are_bounded)
{
    struct job *job;

    open_scene(answer_500, &quick_limits);
    job = new_job(0, 0);
    job->bad_verdict = ATD_VERDICT_AGAIN;
    start(job);
    wait_end(job);
    cr_assert_eq(job->why.code, EIO);
    cr_assert_eq(atomic_load(&job->prepares), 1 + ATD_CALL_CORRECTIONS_MAX);
    cr_assert_eq(endpoint->bucket.tokens, quick_limits.retry_tokens);
    free_job(job);
    close_scene();
}

static void answer_404(void *ctx, const struct fake_request *request, struct fake_reply *reply)
{
    (void)ctx;
    (void)request;
    reply->status = 404;
}

Test(call, failure_for_good_ends_it)
{
    struct job *job;

    open_scene(answer_404, &quick_limits);
    job = new_job(0, 1000);
    start(job);
    wait_end(job);
    cr_assert_eq(job->why.code, ENOENT);
    cr_assert_eq(atomic_load(&job->prepares), 1);
    cr_assert_eq(STAT(error_replies), 0);
    free_job(job);
    job = new_job(0, 0);
    job->call.kind = ATD_CALL_HEAD;
    start(job);
    wait_end(job);
    cr_assert_eq(job->why.code, ENOENT);
    cr_assert_eq(STAT(head_requests), 1);
    free_job(job);
    close_scene();
}

static uint8_t *huge;

static void answer_huge(void *ctx, const struct fake_request *request, struct fake_reply *reply)
{
    (void)ctx;
    (void)request;
    reply->body = huge;
    reply->body_len = ATD_CALL_BODY_MAX + 1;
}

Test(call, collected_body_is_bounded)
{
    struct job *job;

    huge = calloc(1, ATD_CALL_BODY_MAX + 1);
    open_scene(answer_huge, &quick_limits);
    job = new_job(0, 0);
    start(job);
    wait_end(job);
    cr_assert_eq(job->why.code, EPROTO);
    cr_assert(strstr(job->why.text, "larger than"), "%s", job->why.text);
    free_job(job);
    close_scene();
    free(huge);
}

Test(call, store_that_is_not_ready_is_asked_again)
{
    struct job *job;

    open_scene(answer_object, &quick_limits);
    job = new_job(0, 1000);
    atomic_store(&job->not_ready, 3);
    start(job);
    expect_bytes(job);
    cr_assert_eq(atomic_load(&job->prepares), 1);
    cr_assert_eq(STAT(retries), 0);
    free_job(job);
    close_scene();
}

Test(call, refused_connections_are_told_in_the_end)
{
    struct atd_endpoint_limits limits = quick_limits;
    struct job *job;

    limits.retry_tokens = 2 * ATD_RETRY_COST;
    open_scene(answer_object, &limits);
    job = new_job(0, 1000);
    fake_http_stop(server);
    start(job);
    wait_end(job);
    cr_assert_eq(job->why.code, ECONNREFUSED, "%s", job->why.text);
    cr_assert(job->why.retryable);
    cr_assert(strstr(job->why.text, "127.0.0.1:"), "%s", job->why.text);
    cr_assert_eq(STAT(transport_errors), 3);
    free_job(job);
    server = NULL;
    close_scene();
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

Test(call, stall_ends_it_after_the_time_given)
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

Test(call, stall_within_a_body_says_where)
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

Test(call, progress_keeps_it_alive_and_costs_nothing)
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

Test(call, stall_counts_while_the_store_is_not_ready)
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

Test(call, urgent_ones_go_first)
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

Test(call, cancel_in_each_state)
{
    static const int order[STATES] = {WAITING, PAUSING, NOT_READY, IN_BODY, RUNNING};
    struct job *jobs[STATES];

    open_scene(answer_by_key, &three_at_a_time);
    start_in_each_state(jobs);
    for (size_t i = 0; i < STATES; i++) {
        struct job *job = jobs[order[i]];

        cr_assert(!atomic_load(&job->ended));
        atd_call_cancel(&job->call);
        if (order[i] == WAITING)
            atd_call_cancel(&job->call); /* twice is fine */
        expect_cancelled(job);
        free_job(job);
    }
    UNTIL(STAT(in_flight) == 0 && STAT(waiting) == 0);
    close_scene();
}

Test(call, stop_ends_calls_in_each_state)
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

Test(call, duplicate_wins_over_a_slow_answer)
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

Test(call, duplicate_that_is_slower_is_dropped)
{
    struct job *job = run_slow_one(delayed(3000), delayed(PATIENCE_MS / 2));

    expect_bytes(job);
    cr_assert_eq(STAT(hedges), 1);
    cr_assert_eq(STAT(hedges_won), 0);
    UNTIL(STAT(in_flight) == 0);
    free_job(job);
    close_scene();
}

Test(call, duplicate_takes_over_a_body_that_stopped)
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
Test(call, duplicate_that_comes_too_late_writes_nothing)
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

Test(call, duplicates_keep_to_their_budget)
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

Test(call, speed_is_known_after_a_while)
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

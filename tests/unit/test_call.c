#include "call_scene.h"

/* ------------------------------------------------------------------ bytes */

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

static void answer_whole(void *ctx, const struct fake_request *request, struct fake_reply *reply)
{
    (void)ctx;
    (void)request;
    reply->body = object;
    reply->body_len = sizeof(object);
}

Test(call, whole_object_instead_of_a_range_is_not_read_to_its_end)
{
    struct job *job;

    open_scene(answer_whole, &quick_limits);
    job = new_job(10, 1000);
    start(job);
    wait_end(job);
    cr_assert_str_eq(job->why.text, "status 200");
    cr_assert_leq(job->body_len, ATD_CALL_REFUSED_BODY_MAX);
    cr_assert_lt(STAT(received_bytes), sizeof(object));
    cr_assert_eq(job->into[0], 0xee);
    free_job(job);
    close_scene();
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

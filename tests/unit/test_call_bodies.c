/* Calls that send: what counts as getting on, how long to wait, and what a lost answer leaves. */
#include "call_scene.h"

#define BODY_BYTES ((size_t)(2u << 20) + 12345)
/* Small windows: what the server does not read stays on this side. */
#define WINDOW_BYTES (64 << 10)
#define DRIPS 16
#define DRIP_MS 250u

static uint8_t payload[BODY_BYTES];

static void open_sending(fake_answer answer, fake_intake intake,
                         const struct atd_endpoint_limits *limits)
{
    open_scene(answer, limits);
    for (size_t i = 0; i < sizeof(payload); i++)
        payload[i] = (uint8_t)(i * 2654435761u >> 11);
    fake_http_read_as(server, intake, WINDOW_BYTES);
}

static struct job *new_put(size_t len)
{
    struct job *job = new_job(0, 0);

    job->call.kind = ATD_CALL_PUT;
    job->method = "PUT";
    job->body = (struct atd_bytes){payload, len};
    return job;
}

static atomic_uint whole_bodies;

/* 200 to the bytes that were to come. */
static void answer_put(void *ctx, const struct fake_request *request, struct fake_reply *reply)
{
    (void)ctx;
    if (strcmp(request->method, "PUT") == 0 && request->body_len <= BODY_BYTES &&
        memcmp(request->body, payload, request->body_len) == 0)
        (void)atomic_fetch_add(&whole_bodies, 1);
    else
        reply->status = 400;
}

static void expect_put(struct job *job)
{
    start(job);
    wait_end(job);
    cr_assert_eq(job->why.code, 0, "%s", job->why.text);
}

Test(call_bodies, a_body_is_sent_and_counted)
{
    struct job *job;

    open_sending(answer_put, NULL, &quick_limits);
    job = new_put(BODY_BYTES);
    expect_put(job);
    cr_assert_eq(atomic_load(&whole_bodies), 1);
    cr_assert_eq(STAT(put_requests), 1);
    cr_assert_eq(STAT(other_requests), 0);
    cr_assert_eq(STAT(sent_bytes), BODY_BYTES);
    cr_assert(!job->may_have_arrived);
    free_job(job);
    job = new_put(0);
    expect_put(job);
    cr_assert_eq(STAT(sent_bytes), BODY_BYTES);
    free_job(job);
    close_scene();
}

/* ------------------------------------------------------------------ slow and stuck */

static void read_slowly(void *ctx, const struct fake_request *request, struct fake_reading *reading)
{
    (void)ctx;
    (void)request;
    reading->drip_ms = DRIP_MS;
    reading->drip_bytes = BODY_BYTES / DRIPS;
}

/* It takes DRIPS * DRIP_MS, twice what no byte or no answer would be waited for. */
Test(call_bodies, a_slow_body_that_moves_is_no_stall)
{
    struct atd_endpoint_limits limits = quick_limits;
    struct job *job;

    limits.first_byte_timeout_ms = DRIPS * DRIP_MS / 2;
    limits.idle_timeout_ms = DRIPS * DRIP_MS / 2;
    open_sending(answer_put, read_slowly, &limits);
    job = new_put(BODY_BYTES);
    job->call.stall_timeout_ms = DRIPS * DRIP_MS / 2;
    expect_put(job);
    cr_assert_eq(atomic_load(&job->prepares), 1);
    cr_assert_eq(atomic_load(&whole_bodies), 1);
    free_job(job);
    close_scene();
}

static void read_nothing(void *ctx, const struct fake_request *request,
                         struct fake_reading *reading)
{
    (void)ctx;
    (void)request;
    reading->cut = true;
    reading->cut_at = 1000;
    reading->end = FAKE_STALL;
}

Test(call_bodies, a_body_that_is_stuck_times_out)
{
    struct atd_endpoint_limits limits = quick_limits;
    struct job *job;

    limits.idle_timeout_ms = 600;
    open_sending(answer_put, read_nothing, &limits);
    job = new_put(BODY_BYTES);
    job->call.stall_timeout_ms = 2000;
    start(job);
    wait_end(job);
    cr_assert_eq(job->why.code, ETIMEDOUT, "%s", job->why.text);
    cr_assert(strstr(job->why.text, "could not be sent on for 600 ms"), "%s", job->why.text);
    cr_assert(job->may_have_arrived);
    cr_assert_geq(STAT(timeouts), 1);
    free_job(job);
    close_scene();
}

static void read_in_a_second(void *ctx, const struct fake_request *request,
                             struct fake_reading *reading)
{
    (void)ctx;
    (void)request;
    reading->drip_ms = 200;
    reading->drip_bytes = BODY_BYTES / 4;
}

static void answer_500(void *ctx, const struct fake_request *request, struct fake_reply *reply)
{
    (void)ctx;
    (void)request;
    reply->status = 500;
}

/* Each try moves its bytes, and nothing comes of it. */
Test(call_bodies, bodies_that_are_refused_for_ever_are_a_stall)
{
    struct job *job;

    open_sending(answer_500, read_in_a_second, &quick_limits);
    job = new_put(BODY_BYTES);
    job->call.stall_timeout_ms = 1500;
    start(job);
    wait_end(job);
    cr_assert_eq(job->why.code, ETIMEDOUT, "%s", job->why.text);
    cr_assert_geq(atomic_load(&job->prepares), ATD_CALL_SENDS_MAX);
    cr_assert_leq(atomic_load(&job->prepares), ATD_CALL_SENDS_MAX + 4);
    free_job(job);
    close_scene();
}

static const char blanks[] = "    <CompleteMultipartUploadResult/>";

/* As S3 completes an upload: late, and with blanks meanwhile. */
static void answer_late(void *ctx, const struct fake_request *request, struct fake_reply *reply)
{
    (void)ctx;
    (void)request;
    reply->delay_ms = 600;
    reply->body = blanks;
    reply->body_len = sizeof(blanks) - 1;
    reply->drip_ms = 600;
    reply->drip_bytes = 16;
}

Test(call_bodies, an_answer_may_be_given_time)
{
    struct atd_endpoint_limits limits = quick_limits;
    struct job *job;

    limits.first_byte_timeout_ms = 200;
    limits.idle_timeout_ms = 200;
    open_sending(answer_late, NULL, &limits);
    job = new_put(1000);
    job->call.answer_timeout_ms = PATIENCE_MS / 2;
    expect_put(job);
    cr_assert_eq(atomic_load(&job->prepares), 1);
    cr_assert_eq(job->body_len, sizeof(blanks) - 1);
    free_job(job);
    job = new_put(1000);
    job->call.stall_timeout_ms = 2000;
    start(job);
    wait_end(job);
    cr_assert_eq(job->why.code, ETIMEDOUT, "%s", job->why.text);
    free_job(job);
    close_scene();
}

/* ------------------------------------------------------------------ once more */

static void read_half_once(void *ctx, const struct fake_request *request,
                           struct fake_reading *reading)
{
    (void)ctx;
    reading->cut = request->number == 0;
    reading->cut_at = BODY_BYTES / 2;
    reading->end = FAKE_RESET;
}

Test(call_bodies, a_connection_that_breaks_in_a_body)
{
    struct job *job;

    open_sending(answer_put, read_half_once, &quick_limits);
    job = new_put(BODY_BYTES);
    expect_put(job);
    cr_assert_eq(atomic_load(&job->prepares), 2);
    cr_assert_eq(atomic_load(&whole_bodies), 1);
    cr_assert(job->may_have_arrived);
    cr_assert_gt(STAT(sent_bytes), BODY_BYTES);
    free_job(job);
    close_scene();
}

static atomic_uint reuses;

static void end_on_reuse(void *ctx, const struct fake_request *request,
                         struct fake_reading *reading)
{
    (void)ctx;
    reading->cut = request->on_connection > 0;
    if (!reading->cut)
        return;
    /* When all of it was taken libcurl sends it again by itself, which takes the seek callback. */
    reading->cut_at = atomic_load(&reuses) % 2 ? 0 : SIZE_MAX;
    reading->end = FAKE_CLOSE;
    (void)atomic_fetch_add(&reuses, 1);
}

/* libcurl sends it again by itself, or we do; from the body's first byte, and without a token. */
Test(call_bodies, a_kept_connection_that_is_dead)
{
    static const size_t lens[] = {10, 10, 10, 200000, 200000, BODY_BYTES, BODY_BYTES, 0, 0};
    struct atd_endpoint_limits limits = quick_limits;
    unsigned reuses_before;

    limits.retry_tokens = 0;
    open_sending(answer_put, end_on_reuse, &limits);
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        struct job *job = new_put(lens[i]);

        reuses_before = atomic_load(&reuses);
        expect_put(job);
        cr_assert_eq(atomic_load(&whole_bodies), i + 1);
        cr_assert_eq(job->may_have_arrived, atomic_load(&reuses) > reuses_before, "%zu", i);
        free_job(job);
    }
    cr_assert_geq(atomic_load(&reuses), 2, "nothing was reused");
    close_scene();
}

/* ------------------------------------------------------------------ whether it may have arrived */

static int first_status;

static void answer_first_then_412(void *ctx, const struct fake_request *request,
                                  struct fake_reply *reply)
{
    (void)ctx;
    reply->status = request->number == 0 ? first_status : 412;
}

static void expect_412_after(int status, enum atd_verdict verdict, bool may_have_arrived)
{
    struct job *job;

    first_status = status;
    open_sending(answer_first_then_412, NULL, &quick_limits);
    job = new_put(10);
    job->bad_verdict = verdict;
    start(job);
    if (verdict != ATD_VERDICT_DONE) {
        UNTIL(atomic_load(&job->judged) >= 1);
        job->bad_verdict = ATD_VERDICT_DONE;
    }
    wait_end(job);
    cr_assert_eq(job->why.code, EEXIST, "%s", job->why.text);
    cr_assert_eq(job->may_have_arrived, may_have_arrived, "%d", status);
    free_job(job);
    close_scene();
}

Test(call_bodies, an_answer_of_a_gateway_leaves_doubt)
{
    expect_412_after(500, ATD_VERDICT_DONE, true);
}

Test(call_bodies, throttling_by_a_gateway_leaves_doubt)
{
    expect_412_after(503, ATD_VERDICT_DONE, true);
}

Test(call_bodies, the_first_answer_leaves_none)
{
    expect_412_after(412, ATD_VERDICT_DONE, false);
}

Test(call_bodies, a_server_that_is_not_there_was_not_reached)
{
    struct atd_endpoint_limits limits = quick_limits;
    struct job *job;

    limits.retry_tokens = 0;
    open_sending(answer_put, NULL, &limits);
    job = new_put(10);
    (void)snprintf(job->url, sizeof(job->url), "http://127.0.0.1:1/k");
    start(job);
    wait_end(job);
    cr_assert_eq(job->why.code, ECONNREFUSED, "%s", job->why.text);
    cr_assert(!job->may_have_arrived);
    free_job(job);
    close_scene();
}

static void answer_never(void *ctx, const struct fake_request *request, struct fake_reply *reply)
{
    (void)ctx;
    (void)request;
    reply->cut = true;
    reply->cut_at = SIZE_MAX;
    reply->end = FAKE_STALL;
}

Test(call_bodies, what_was_cancelled_may_have_arrived)
{
    struct job *job;

    open_sending(answer_never, NULL, &quick_limits);
    job = new_put(10);
    start(job);
    UNTIL(fake_http_busy(server) == 1);
    atd_call_cancel(&job->call);
    wait_end(job);
    cr_assert_eq(job->why.code, ECANCELED);
    cr_assert(job->may_have_arrived);
    free_job(job);
    close_scene();
}

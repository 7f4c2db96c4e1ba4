/*
 * For the tests of calls: a store as small as can be (one object, ranges of it), a fake server, an
 * engine and an endpoint.
 */
#ifndef ATD_TESTS_CALL_SCENE_H
#define ATD_TESTS_CALL_SCENE_H

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
#include "until.h"

/* ------------------------------------------------------------------ a store as small as can be */

struct job {
    struct atd_call call;
    char url[256];
    uint8_t *into;
    size_t len;
    size_t begin;                 /* of the range in the object */
    const char *method;           /* NULL: GET or HEAD */
    struct atd_bytes body;        /* sent */
    enum atd_verdict bad_verdict; /* of a reply that is no success; DONE: by its status */
    atomic_uint not_ready;        /* so often prepare says EAGAIN */
    int cannot;                   /* and then this errno; 0: it goes on */
    /* seen */
    atomic_uint prepares;
    atomic_size_t last_done_bytes;
    atomic_size_t received;
    atomic_uint judged;
    bool may_have_arrived; /* when it was judged last, or done */
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
    if (job->cannot)
        return atd_error_set(err, job->cannot, "no credentials");
    atomic_store(&job->last_done_bytes, done_bytes);
    ret_message->method = call->kind == ATD_CALL_HEAD ? "HEAD" : "GET";
    ret_message->url = job->url;
    if (job->method)
        ret_message->method = job->method;
    ret_message->body = job->body;
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
    job->may_have_arrived = atd_call_may_have_arrived(call);
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
    (void)atd_error_set(err,
                        head->status == 404   ? ENOENT
                        : head->status == 412 ? EEXIST
                                              : EIO,
                        "status %d", head->status);
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
    if (why && why->code != EEXIST)
        job->may_have_arrived = atd_call_may_have_arrived(call);
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

static inline void open_scene(fake_answer answer, const struct atd_endpoint_limits *limits)
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

static inline void close_scene(void)
{
    cr_assert(atd_http_stop(engine, PATIENCE_MS));
    atd_endpoint_free(endpoint);
    fake_http_stop(server);
    curl_global_cleanup();
}

static inline struct job *new_job(size_t begin, size_t len)
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

static inline void start(struct job *job)
{
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_call_start(&job->call, &err), 0, "%s", err.text);
}

static inline void wait_end(struct job *job)
{
    UNTIL(atomic_load(&job->ended));
}

static inline void free_job(struct job *job)
{
    free(job->into);
    free(job);
}

static inline void expect_bytes(struct job *job)
{
    wait_end(job);
    cr_assert_eq(job->why.code, 0, "%s", job->why.text);
    cr_assert_eq(memcmp(job->into, object + job->begin, job->len), 0);
    cr_assert_eq(atomic_load(&job->received), job->len);
}

static inline uint64_t stat_of(const atomic_uint_fast64_t *counter)
{
    return atomic_load(counter);
}
#define STAT(name) stat_of(&atd_http_stats(engine)->name)

static inline void answer_object(void *ctx, const struct fake_request *request,
                                 struct fake_reply *reply)
{
    (void)ctx;
    fake_http_object(request, reply, object, sizeof(object));
}

#endif

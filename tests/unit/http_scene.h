/*
 * What the tests of single transfers share: a server, an engine, and a transfer that notes what
 * it is told.
 */
#ifndef ATD_TESTS_UNIT_HTTP_SCENE_H
#define ATD_TESTS_UNIT_HTTP_SCENE_H

#include <criterion/criterion.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/http_exchange.h"
#include "support/fake_http.h"
#include "until.h"

static struct fake_http *server;
static struct atd_http_engine *engine;
static struct atd_http_loop *loop;

static inline void open_scene(fake_answer answer)
{
    struct atd_http_options options = {.threads = 1, .user_agent = "test/1"};
    struct atd_error err = ATD_ERROR_INIT;

    (void)setenv("no_proxy", "*", 1); /* whatever this machine's environment says */
    cr_assert_eq(curl_global_init(CURL_GLOBAL_DEFAULT), CURLE_OK);
    server = answer ? fake_http_start(answer, NULL) : NULL;
    cr_assert_eq(atd_http_start(&options, &engine, &err), 0, "%s", err.text);
    loop = atd_http_pick_loop(engine);
    cr_assert_eq(atd_http_loop_engine(loop), engine);
}

static inline void close_scene(void)
{
    cr_assert(atd_http_stop(engine, PATIENCE_MS));
    fake_http_stop(server);
    curl_global_cleanup();
}

/* ------------------------------------------------------------------ one transfer */

struct get {
    struct atd_http_task task; /* first */
    struct atd_http_transfer transfer;
    struct atd_http_message message;
    char url[8192];
    int refuse_head; /* what head returns */
    int refuse_data;
    bool cancel_in_head;
    bool cancel_at_once;
    unsigned again; /* started so often again by done */
    /* seen */
    unsigned heads;
    int status;
    size_t header_count;
    int64_t content_length;
    int64_t date_s;
    char tag[64];
    uint8_t body[65536];
    size_t body_len;
    size_t body_before_head;
    struct atd_http_result result;
    atomic_int done;
};

static inline int get_head(struct atd_http_transfer *transfer, const struct atd_http_head *head)
{
    struct get *get = transfer->ctx;

    get->heads++;
    get->status = head->status;
    get->header_count = head->header_count;
    get->content_length = head->content_length;
    get->date_s = head->date_s;
    (void)snprintf(get->tag, sizeof(get->tag), ATD_STR_FMT,
                   ATD_STR_ARG(atd_http_head_find(head, "x-TAG")));
    if (get->cancel_in_head)
        atd_http_transfer_cancel(loop, transfer);
    return get->refuse_head;
}

static inline int get_data(struct atd_http_transfer *transfer, const uint8_t *data, size_t len)
{
    struct get *get = transfer->ctx;

    if (get->heads == 0)
        get->body_before_head += len;
    if (get->body_len + len <= sizeof(get->body))
        memcpy(get->body + get->body_len, data, len);
    get->body_len += len;
    return get->refuse_data;
}

static inline void get_done(struct atd_http_transfer *transfer,
                            const struct atd_http_result *result)
{
    struct get *get = transfer->ctx;

    get->result = *result;
    if (get->again > 0) {
        get->again--;
        get->heads = 0;
        get->body_len = 0;
        atd_http_transfer_start(loop, transfer);
        return;
    }
    atomic_store(&get->done, 1);
}

static inline void start_get(struct atd_http_task *task)
{
    struct get *get = (struct get *)task;

    atd_http_transfer_start(loop, &get->transfer);
    if (get->cancel_at_once)
        atd_http_transfer_cancel(loop, &get->transfer);
}

static inline struct get *new_get(const char *path)
{
    struct get *get = calloc(1, sizeof(*get));

    if (server)
        fake_http_url(server, path, get->url, sizeof(get->url));
    else
        (void)snprintf(get->url, sizeof(get->url), "%s", path);
    get->message.method = "GET";
    get->message.url = get->url;
    get->task.run = start_get;
    get->transfer = (struct atd_http_transfer){
        .message = &get->message,
        .connect_timeout_ms = PATIENCE_MS,
        .first_byte_timeout_ms = PATIENCE_MS,
        .idle_timeout_ms = PATIENCE_MS,
        .head = get_head,
        .data = get_data,
        .done = get_done,
        .ctx = get,
    };
    return get;
}

static inline void run(struct get *get)
{
    atomic_store(&get->done, 0);
    atd_http_post(loop, &get->task);
    UNTIL(atomic_load(&get->done));
    cr_assert_leq(get->heads, 1);
    cr_assert_eq(get->body_before_head, 0);
}

static inline void expect_error(struct get *get, int code, const char *text)
{
    run(get);
    cr_assert_eq(get->result.error.code, code, "%d %s", get->result.error.code,
                 get->result.error.text);
    cr_assert(strstr(get->result.error.text, text), "%s", get->result.error.text);
}

static inline void expect_ok(struct get *get, int status, const char *body)
{
    run(get);
    cr_assert_eq(get->result.error.code, 0, "%s", get->result.error.text);
    cr_assert_eq(get->heads, 1);
    cr_assert_eq(get->status, status);
    cr_assert_eq(get->result.status, status);
    cr_assert_eq(get->body_len, strlen(body));
    cr_assert_eq(memcmp(get->body, body, get->body_len), 0);
}

static inline void text_reply(struct fake_reply *reply, int status, const char *body)
{
    reply->status = status;
    reply->body = body;
    reply->body_len = strlen(body);
}

#endif

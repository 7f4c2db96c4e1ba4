/*
 * A server for the store tests that says whole replies in the order they were queued, and keeps
 * what it was asked.
 */
#ifndef ATD_TESTS_STORE_SERVER_H
#define ATD_TESTS_STORE_SERVER_H

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "net/call.h"
#include "support/fake_http.h"

#define SERVER_REPLIES_MAX 64
#define SERVER_FLOOD_BYTES 200000

static struct atd_http_engine *engine;

static struct {
    struct fake_http *http;
    pthread_mutex_t mutex;
    /* guarded by mutex */
    struct {
        char *text;
        enum fake_end end;
    } replies[SERVER_REPLIES_MAX];
    unsigned queued;
    struct fake_request requests[SERVER_REPLIES_MAX];
    unsigned asked;
} server = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* Patient where a slow machine could be taken for a dead server, and quick to try again. */
static struct atd_endpoint_limits server_limits;

static void server_answer(void *ctx, const struct fake_request *request, struct fake_reply *reply)
{
    (void)ctx;
    (void)pthread_mutex_lock(&server.mutex);
    cr_assert(server.asked < SERVER_REPLIES_MAX);
    server.requests[server.asked] = *request;
    if (server.asked < server.queued) {
        reply->raw = server.replies[server.asked].text;
        reply->raw_len = strlen(reply->raw);
        reply->end = server.replies[server.asked].end;
        if (reply->raw_len == 0) {
            reply->cut = true; /* not even a status line */
            reply->cut_at = SIZE_MAX;
            reply->raw = NULL;
        }
    } else {
        reply->status = 418; /* nobody asked for this request */
    }
    server.asked++;
    (void)pthread_mutex_unlock(&server.mutex);
}

static void server_setup(void)
{
    struct atd_http_options options = {.threads = 2, .user_agent = "atdatafs-test"};
    struct atd_error err = ATD_ERROR_INIT;

    server_limits = atd_endpoint_limits_default;
    server_limits.connect_timeout_ms = 30000;
    server_limits.first_byte_timeout_ms = 30000;
    server_limits.idle_timeout_ms = 30000;
    server_limits.backoff_base_ms = 1;
    server_limits.backoff_throttled_ms = 2;
    server_limits.hedge_percent = 0;
    server.http = fake_http_start(server_answer, NULL);
    cr_assert_eq(atd_http_start(&options, &engine, &err), 0, "%s", err.text);
}

static void server_teardown(void)
{
    cr_assert(atd_http_stop(engine, 20000));
    fake_http_stop(server.http);
    for (unsigned i = 0; i < server.queued; i++)
        free(server.replies[i].text);
}

static void server_url(char *ret_url, size_t size, const char *path)
{
    fake_http_url(server.http, path, ret_url, size);
}

static void server_queue(const char *text, enum fake_end end)
{
    (void)pthread_mutex_lock(&server.mutex);
    cr_assert(server.queued < SERVER_REPLIES_MAX);
    server.replies[server.queued].text = strdup(text);
    server.replies[server.queued++].end = end;
    (void)pthread_mutex_unlock(&server.mutex);
}

/* The reply to the next request that has none yet, from status line to body. */
static inline void server_say(const char *text)
{
    server_queue(text, FAKE_KEEP);
}

/* And then the connection is lost. */
static inline void server_say_and_cut(const char *text)
{
    server_queue(text, FAKE_CLOSE);
}

/* And then there is silence. */
static inline void server_say_and_wait(const char *text)
{
    server_queue(text, FAKE_STALL);
}

/* And then more than anybody wants, and silence. */
static inline void server_say_endlessly(const char *text)
{
    size_t len = strlen(text);
    char *all = malloc(len + SERVER_FLOOD_BYTES + 1);

    memcpy(all, text, len);
    memset(all + len, 'x', SERVER_FLOOD_BYTES);
    all[len + SERVER_FLOOD_BYTES] = '\0';
    server_queue(all, FAKE_STALL);
    free(all);
}

static inline unsigned server_asked(void)
{
    unsigned asked;

    (void)pthread_mutex_lock(&server.mutex);
    asked = server.asked;
    (void)pthread_mutex_unlock(&server.mutex);
    return asked;
}

static inline const char *server_request_line(unsigned number)
{
    static char line[FAKE_TARGET_MAX + 64];

    cr_assert(number < server_asked());
    (void)snprintf(line, sizeof(line), "%s %s HTTP/1.1", server.requests[number].method,
                   server.requests[number].target);
    return line;
}

/* NULL when the request has no such header. */
#define server_header(number, name, value) server_header_to(number, name, value, sizeof(value))
static inline const char *server_header_to(unsigned number, const char *name, char *value,
                                           size_t size)
{
    cr_assert(number < server_asked());
    return fake_http_header(&server.requests[number], name, value, size) ? value : NULL;
}

#endif

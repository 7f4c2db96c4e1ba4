/*
 * The engine and its loops. One turn of a loop:
 *
 *     tasks -> timers -> begin transfers -> curl -> collect the finished -> done callbacks
 *     -> wait, unless one of these left work
 *
 * Nothing touches curl from within a callback of curl: starting and cancelling a transfer only
 * moves it between lists, which the next step of the turn works off. The wait ends by a socket, by
 * the earliest timer or by a posted task; an idle loop does not wake up at all.
 */
#include "net/http.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/workers.h"
#include "net/http_loop.h"

struct atd_http_engine {
    /* fixed */
    struct atd_http_options options;
    char *ca_file;
    char *user_agent;
    unsigned loop_count;

    /* atomic */
    struct atd_net_stats stats;
    atomic_uint next_loop; /* where the search for the least loaded begins */

    struct atd_http_loop loops[ATD_HTTP_THREADS_MAX];
};

/* A poll that fails (no memory) must not make a busy loop. */
#define POLL_FAILED_PAUSE_MS 10

/* ------------------------------------------------------------------ tasks */

void atd_http_post(struct atd_http_loop *loop, struct atd_http_task *task)
{
    task->next = NULL;
    atd_lock_take(&loop->lock);
    if (loop->last_task)
        loop->last_task->next = task;
    else
        loop->first_task = task;
    loop->last_task = task;
    /* Under the lock, so that the loop cannot be gone: one write to a socket that never blocks,
     * and only for the first task of a batch that somebody else posts. */
    if (loop->first_task == task && !pthread_equal(loop->self, pthread_self()))
        (void)curl_multi_wakeup(loop->multi);
    atd_lock_give(&loop->lock);
}

/* True: there were some. */
static bool run_tasks(struct atd_http_loop *loop)
{
    struct atd_http_task *task;

    atd_lock_take(&loop->lock);
    task = loop->first_task;
    loop->first_task = NULL;
    loop->last_task = NULL;
    atd_lock_give(&loop->lock);
    if (!task)
        return false;
    while (task) {
        struct atd_http_task *next = task->next;

        task->run(task);
        task = next;
    }
    return true;
}

/* ------------------------------------------------------------------ clients */

void atd_http_client_add(struct atd_http_loop *loop, struct atd_http_client *client)
{
    client->previous = NULL;
    client->next = loop->clients;
    if (client->next)
        client->next->previous = client;
    loop->clients = client;
    (void)atomic_fetch_add(&loop->load, 1);
}

void atd_http_client_remove(struct atd_http_loop *loop, struct atd_http_client *client)
{
    if (client->previous)
        client->previous->next = client->next;
    else
        loop->clients = client->next;
    if (client->next)
        client->next->previous = client->previous;
    (void)atomic_fetch_sub(&loop->load, 1);
}

bool atd_http_loop_is_ending(const struct atd_http_loop *loop)
{
    return loop->ending;
}

/* ------------------------------------------------------------------ the turn */

static void fire_timers(struct atd_http_loop *loop)
{
    int64_t now_ms = atd_clock_monotonic_ms();
    size_t most = loop->heap.count; /* those armed meanwhile wait for the next turn */
    struct atd_http_timer *timer;

    while (most-- > 0 && (timer = atd_http_heap_first(&loop->heap)) && timer->due_ms <= now_ms) {
        atd_http_heap_take(&loop->heap, timer);
        timer->fire(timer);
    }
}

static int poll_timeout_ms(struct atd_http_loop *loop)
{
    const struct atd_http_timer *timer = atd_http_heap_first(&loop->heap);
    int64_t left_ms;

    if (!timer)
        return INT_MAX;
    left_ms = timer->due_ms - atd_clock_monotonic_ms();
    if (left_ms < 0)
        return 0;
    return left_ms < INT_MAX ? (int)left_ms : INT_MAX;
}

/* Tells everybody, once, that the engine ends. */
static void begin_ending(struct atd_http_loop *loop)
{
    struct atd_http_client *client = loop->clients;

    loop->ending = true;
    while (client) {
        struct atd_http_client *next = client->next;

        client->stop(client);
        client = next;
    }
    atd_http_exchanges_cancel(loop);
}

/* False: nothing is left of a stopping loop. */
static bool prepare_to_wait(struct atd_http_loop *loop, bool *ret_wait)
{
    bool stopping;
    bool tasks;

    atd_lock_take(&loop->lock);
    stopping = loop->stopping;
    tasks = loop->first_task;
    atd_lock_give(&loop->lock);
    if (stopping && !loop->ending) {
        begin_ending(loop);
        *ret_wait = false;
        return true;
    }
    *ret_wait = !tasks && !atd_http_exchanges_pending(loop);
    return !(stopping && *ret_wait && !loop->clients && !loop->active.first);
}

static void *run_loop(void *ctx)
{
    struct atd_http_loop *loop = ctx;
    bool wait = false;

    atd_lock_take(&loop->lock);
    loop->self = pthread_self();
    atd_lock_give(&loop->lock);
    for (;;) {
        int running;

        (void)run_tasks(loop);
        fire_timers(loop);
        atd_http_exchanges_begin(loop);
        if (loop->active.first) {
            (void)curl_multi_perform(loop->multi, &running);
            atd_http_exchanges_collect(loop);
        }
        atd_http_exchanges_finish(loop);
        if (!prepare_to_wait(loop, &wait))
            return NULL;
        if (!wait)
            continue;
        if (curl_multi_poll(loop->multi, NULL, 0, poll_timeout_ms(loop), NULL) != CURLM_OK)
            (void)poll(NULL, 0, POLL_FAILED_PAUSE_MS);
        (void)atomic_fetch_add(&loop->wakeups, 1);
    }
}

/* ------------------------------------------------------------------ start and stop */

static int init_loop(struct atd_http_engine *engine, struct atd_http_loop *loop,
                     struct atd_error *err)
{
    loop->engine = engine;
    loop->options = &engine->options;
    atd_lock_init(&loop->lock, ATD_RANK_LOOP);
    loop->multi = curl_multi_init();
    loop->share = curl_share_init();
    engine->loop_count++;
    if (!loop->multi || !loop->share ||
        curl_share_setopt(loop->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION) != CURLSHE_OK ||
        curl_multi_setopt(loop->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING) != CURLM_OK ||
        curl_multi_setopt(loop->multi, CURLMOPT_MAXCONNECTS, ATD_HTTP_CONNECTIONS_KEPT_MAX) !=
            CURLM_OK ||
        curl_multi_setopt(loop->multi, CURLMOPT_MAX_HOST_CONNECTIONS,
                          ATD_HTTP_HOST_CONNECTIONS_MAX) != CURLM_OK)
        return atd_error_set(err, ENOMEM, "cannot start the network: out of memory");
    return 0;
}

static void release_loop(struct atd_http_loop *loop)
{
    atd_http_exchanges_release(loop);
    atd_http_heap_release(&loop->heap);
    /* Who posted last may still be inside. */
    atd_lock_take(&loop->lock);
    atd_lock_give(&loop->lock);
    if (loop->multi)
        (void)curl_multi_cleanup(loop->multi);
    if (loop->share)
        (void)curl_share_cleanup(loop->share);
    atd_lock_destroy(&loop->lock);
}

static void free_engine(struct atd_http_engine *engine)
{
    for (unsigned i = 0; i < engine->loop_count; i++)
        release_loop(&engine->loops[i]);
    free(engine->ca_file);
    free(engine->user_agent);
    free(engine);
}

int atd_http_start(const struct atd_http_options *options, struct atd_http_engine **ret_engine,
                   struct atd_error *err)
{
    struct atd_http_engine *engine = calloc(1, sizeof(*engine));
    int rc = 0;

    atd_assert(options->threads > 0 && options->threads <= ATD_HTTP_THREADS_MAX);
    if (!engine)
        return atd_error_set(err, ENOMEM, "cannot start the network: out of memory");
    engine->ca_file = options->ca_file ? strdup(options->ca_file) : NULL;
    engine->user_agent = options->user_agent ? strdup(options->user_agent) : NULL;
    engine->options = (struct atd_http_options){
        .threads = options->threads,
        .ca_file = engine->ca_file,
        .user_agent = engine->user_agent,
    };
    if ((options->ca_file && !engine->ca_file) || (options->user_agent && !engine->user_agent))
        rc = atd_error_set(err, ENOMEM, "cannot start the network: out of memory");
    while (rc == 0 && engine->loop_count < options->threads)
        rc = init_loop(engine, &engine->loops[engine->loop_count], err);
    for (unsigned i = 0; rc == 0 && i < options->threads; i++)
        rc = atd_thread_start("atd-http", run_loop, &engine->loops[i], &engine->loops[i].thread,
                              err);
    if (rc) {
        (void)atd_http_stop(engine, 1000);
        return rc;
    }
    *ret_engine = engine;
    return 0;
}

/* Tasks that one ending loop posted to another that had ended: they only give back what they hold.
 */
static void run_left_tasks(struct atd_http_engine *engine)
{
    bool some = true;

    while (some) {
        some = false;
        for (unsigned i = 0; i < engine->loop_count; i++)
            some = run_tasks(&engine->loops[i]) || some;
    }
}

bool atd_http_stop(struct atd_http_engine *engine, unsigned timeout_ms)
{
    bool ended = true;

    if (!engine)
        return true;
    for (unsigned i = 0; i < engine->loop_count; i++) {
        struct atd_http_loop *loop = &engine->loops[i];

        atd_lock_take(&loop->lock);
        loop->stopping = true;
        if (loop->thread)
            (void)curl_multi_wakeup(loop->multi);
        atd_lock_give(&loop->lock);
    }
    for (unsigned i = 0; i < engine->loop_count && ended; i++)
        ended = !engine->loops[i].thread || atd_thread_join(engine->loops[i].thread, timeout_ms);
    if (!ended)
        return false;
    run_left_tasks(engine);
    free_engine(engine);
    return true;
}

struct atd_net_stats *atd_http_stats(struct atd_http_engine *engine)
{
    return &engine->stats;
}

struct atd_http_loop *atd_http_pick_loop(struct atd_http_engine *engine)
{
    unsigned from = atomic_fetch_add(&engine->next_loop, 1);
    struct atd_http_loop *best = NULL;
    unsigned best_load = 0;

    for (unsigned i = 0; i < engine->loop_count; i++) {
        struct atd_http_loop *loop = &engine->loops[(from + i) % engine->loop_count];
        unsigned load = atomic_load(&loop->load);

        if (!best || load < best_load) {
            best = loop;
            best_load = load;
        }
    }
    return best;
}

struct atd_http_engine *atd_http_loop_engine(struct atd_http_loop *loop)
{
    return loop->engine;
}

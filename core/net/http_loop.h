/*
 * Inside of the HTTP engine: what its files share. Others use net/http.h; call.c also uses the
 * clients, so that a stopping engine ends calls that have no transfer under way.
 */
#ifndef ATD_NET_HTTP_LOOP_H
#define ATD_NET_HTTP_LOOP_H

#include <curl/curl.h>

#include "base/lock.h"
#include "net/http.h"

/* ------------------------------------------------------------------ timers (http_timer.c) */

#define ATD_HTTP_TIMERS_MAX (1u << 20) /* armed at once, in one loop */

/* A binary heap, the earliest first; places count from 1. */
struct atd_http_heap {
    struct atd_http_timer **timers;
    size_t count;
    size_t capacity;
};

int atd_http_heap_put(struct atd_http_heap *heap, struct atd_http_timer *timer,
                      struct atd_error *err) ATD_MUST_USE;
void atd_http_heap_take(struct atd_http_heap *heap, struct atd_http_timer *timer);
/* NULL when empty. */
struct atd_http_timer *atd_http_heap_first(const struct atd_http_heap *heap);
void atd_http_heap_release(struct atd_http_heap *heap);

/* ------------------------------------------------------------------ a loop */

/* Easy handles kept for reuse by a loop: as many as an endpoint has in flight. */
#define ATD_HTTP_IDLE_EXCHANGES_MAX 64u
/* Connections a loop keeps open and has open to one host. The endpoints' limits govern; these are
 * the bounds above them. */
#define ATD_HTTP_CONNECTIONS_KEPT_MAX 128l
#define ATD_HTTP_HOST_CONNECTIONS_MAX 256l

/* Somebody on the loop who must end before the loop can. stop: called once, on the loop. */
struct atd_http_client {
    struct atd_http_client *next;
    struct atd_http_client *previous;
    void (*stop)(struct atd_http_client *client);
};

/*
 * The sockets that libcurl has open, so that a body on its way can be asked after: libcurl 7.88
 * tells the socket of a transfer only when it is over. One that finds no room is not asked after.
 */
#define ATD_HTTP_SOCKETS_MAX 512u

struct atd_http_sockets {
    int fds[ATD_HTTP_SOCKETS_MAX];
    size_t count;
};

struct atd_http_exchange; /* one running transfer: http_transfer.c */

struct atd_http_exchanges {
    struct atd_http_exchange *first;
    struct atd_http_exchange *last;
    size_t count;
};

struct atd_http_loop {
    /* fixed */
    struct atd_http_engine *engine;
    const struct atd_http_options *options;
    CURLM *multi;
    CURLSH *share;        /* TLS sessions, of this loop only: needs no locks */
    unsigned long thread; /* for the join; 0: not started */

    struct atd_lock lock;
    /* guarded by lock */
    pthread_t self; /* of the running loop */
    struct atd_http_task *first_task;
    struct atd_http_task *last_task;
    bool stopping;

    /* atomic */
    atomic_uint load;             /* transfers and calls */
    atomic_uint_fast64_t wakeups; /* how often the poll returned: an idle loop's stands still */

    /* on the loop only */
    struct atd_http_heap heap;
    struct atd_http_client *clients;
    bool ending; /* stopping was seen and everybody told */
    struct atd_http_sockets sockets;
    struct atd_http_exchanges starting;
    struct atd_http_exchanges active;
    struct atd_http_exchanges over; /* done is to be called */
    struct atd_http_exchanges idle;
    struct atd_http_transfer *starved; /* no memory for an exchange; linked by impl */
};

/* On the loop. */
void atd_http_client_add(struct atd_http_loop *loop, struct atd_http_client *client);
void atd_http_client_remove(struct atd_http_loop *loop, struct atd_http_client *client);
/* True: the engine is being stopped and whoever comes must not begin. */
bool atd_http_loop_is_ending(const struct atd_http_loop *loop);

/* ------------------------------------------------------------------ transfers (http_transfer.c) */

/* Hands the starting ones to curl. */
void atd_http_exchanges_begin(struct atd_http_loop *loop);
/* Takes from curl what is finished. */
void atd_http_exchanges_collect(struct atd_http_loop *loop);
/* Calls done for those that are over. */
void atd_http_exchanges_finish(struct atd_http_loop *loop);
void atd_http_exchanges_cancel(struct atd_http_loop *loop);
/* True: the loop must not wait. */
static inline bool atd_http_exchanges_pending(const struct atd_http_loop *loop)
{
    return loop->starting.first || loop->over.first || loop->starved;
}
/* Frees the idle ones; there are no others. */
void atd_http_exchanges_release(struct atd_http_loop *loop);

#endif

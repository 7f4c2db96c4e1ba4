/*
 * Inside of the calls: one endpoint, that is the shared state of all calls to one server, and the
 * queue of those that wait for their turn.
 *
 * A turn is the right to one attempt. Who asks gets it at once or is queued, urgent ones first;
 * giving a turn back hands it to the next in the queue by `granted`, called without the lock, on
 * the thread that gave.
 */
#ifndef ATD_NET_ENDPOINT_H
#define ATD_NET_ENDPOINT_H

#include "base/lock.h"
#include "net/call.h"
#include "net/retry.h"

/* Embedded in who waits. Its fields are guarded by the endpoint's lock. */
struct atd_turn {
    struct atd_turn *next;
    struct atd_turn *previous;
    bool urgent;
    bool queued;
    void (*granted)(struct atd_turn *turn);
};

struct atd_turn_queue {
    struct atd_turn *first;
    struct atd_turn *last;
};

struct atd_endpoint {
    /* fixed */
    struct atd_http_engine *engine;
    struct atd_endpoint_limits limits;

    /* atomic */
    atomic_uint references; /* the owner's and one a call */
    atomic_int_least64_t clock_offset_s;

    struct atd_lock lock;
    /* guarded by lock */
    struct atd_turn_queue urgent;
    struct atd_turn_queue others;
    unsigned in_flight;
    struct atd_limiter limiter;
    struct atd_retry_bucket bucket;
    struct atd_hedge_budget hedge;
    struct atd_latency latency;
    struct atd_meter meter;
    uint64_t random;
};

void atd_endpoint_ref(struct atd_endpoint *endpoint);
void atd_endpoint_unref(struct atd_endpoint *endpoint);

/* Counts as waiting until it has its turn. `first`: before the others of its kind (a retry: it has
 * waited). True: it is its turn. */
bool atd_endpoint_turn_ask(struct atd_endpoint *endpoint, struct atd_turn *turn, bool first);
/* False: it was not queued (any more): the turn has come or is coming by `granted`. */
bool atd_endpoint_turn_leave(struct atd_endpoint *endpoint, struct atd_turn *turn);
void atd_endpoint_turn_give(struct atd_endpoint *endpoint);
void atd_endpoint_turn_urge(struct atd_endpoint *endpoint, struct atd_turn *turn);

/* A call that may be doubled begins: milliseconds after which it is late, 0 while unknown. */
unsigned atd_endpoint_hedge_after_ms(struct atd_endpoint *endpoint);
/* Takes a turn for a duplicate when nobody waits for it and the budget allows. */
bool atd_endpoint_hedge_take(struct atd_endpoint *endpoint);
void atd_endpoint_hedge_earn(struct atd_endpoint *endpoint);

/* What a call met. */
void atd_endpoint_succeeded(struct atd_endpoint *endpoint, unsigned tokens_back);
void atd_endpoint_throttled(struct atd_endpoint *endpoint);
void atd_endpoint_give_tokens(struct atd_endpoint *endpoint, unsigned tokens);
/* False: the budget is used up. */
bool atd_endpoint_retry_take(struct atd_endpoint *endpoint, bool throttled, unsigned exponent,
                             unsigned *ret_cost, unsigned *ret_wait_ms);

void atd_endpoint_body_begin(struct atd_endpoint *endpoint, int64_t first_byte_ms);
void atd_endpoint_body_bytes(struct atd_endpoint *endpoint, uint64_t bytes);
void atd_endpoint_body_end(struct atd_endpoint *endpoint, uint64_t bytes);

#endif

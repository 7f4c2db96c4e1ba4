#include "net/endpoint.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "base/check.h"
#include "base/clock.h"

const struct atd_endpoint_limits atd_endpoint_limits_default = {
    .concurrency_first = 32,
    .concurrency_max = 64,
    .connect_timeout_ms = 5000,
    .first_byte_timeout_ms = 10000,
    .idle_timeout_ms = 10000,
    .retry_tokens = 500,
    .backoff_base_ms = 50,
    .backoff_throttled_ms = 1000,
    .backoff_max_ms = 20000,
    .hedge_percent = 5,
};

static int64_t monotonic_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int atd_endpoint_new(struct atd_http_engine *engine, const struct atd_endpoint_limits *limits,
                     struct atd_endpoint **ret_endpoint, struct atd_error *err)
{
    struct atd_endpoint *endpoint = calloc(1, sizeof(*endpoint));

    if (!endpoint)
        return atd_error_set(err, ENOMEM, "no memory for an endpoint");
    endpoint->engine = engine;
    endpoint->limits = *limits;
    atomic_init(&endpoint->references, 1);
    atd_lock_init(&endpoint->lock, ATD_RANK_ENDPOINT);
    atd_limiter_init(&endpoint->limiter, limits->concurrency_first, limits->concurrency_max);
    atd_retry_bucket_init(&endpoint->bucket, limits->retry_tokens, atd_clock_monotonic_ms());
    endpoint->hedge.percent = limits->hedge_percent;
    if (limits->hedge_percent)
        endpoint->hedge.credit = ATD_HEDGE_COST; /* the first slow one need not wait for 20 */
    /* Jitter only has to differ between machines: a weak seed will do. */
    if (getrandom(&endpoint->random, sizeof(endpoint->random), GRND_NONBLOCK) < 0)
        endpoint->random = (uint64_t)monotonic_us();
    *ret_endpoint = endpoint;
    return 0;
}

void atd_endpoint_ref(struct atd_endpoint *endpoint)
{
    (void)atomic_fetch_add(&endpoint->references, 1);
}

void atd_endpoint_unref(struct atd_endpoint *endpoint)
{
    if (atomic_fetch_sub(&endpoint->references, 1) != 1)
        return;
    atd_assert(!endpoint->urgent.first && !endpoint->others.first && endpoint->in_flight == 0);
    atd_lock_destroy(&endpoint->lock);
    free(endpoint);
}

void atd_endpoint_free(struct atd_endpoint *endpoint)
{
    /* A turn may still be on its way to a call that has ended; the last to go turns off the light.
     */
    if (endpoint)
        atd_endpoint_unref(endpoint);
}

struct atd_http_engine *atd_endpoint_engine(struct atd_endpoint *endpoint)
{
    return endpoint->engine;
}

int64_t atd_endpoint_clock_offset_s(struct atd_endpoint *endpoint)
{
    return atomic_load(&endpoint->clock_offset_s);
}

void atd_endpoint_set_clock_offset(struct atd_endpoint *endpoint, int64_t offset_s)
{
    atomic_store(&endpoint->clock_offset_s, offset_s);
}

void atd_endpoint_speed(struct atd_endpoint *endpoint, unsigned *ret_first_byte_ms,
                        uint64_t *ret_bytes_per_s)
{
    atd_lock_take(&endpoint->lock);
    *ret_first_byte_ms = endpoint->latency.median_ms;
    *ret_bytes_per_s = endpoint->meter.bytes_per_s;
    atd_lock_give(&endpoint->lock);
}

/* ------------------------------------------------------------------ turns */

static void queue_last(struct atd_turn_queue *queue, struct atd_turn *turn)
{
    turn->next = NULL;
    turn->previous = queue->last;
    if (queue->last)
        queue->last->next = turn;
    else
        queue->first = turn;
    queue->last = turn;
}

static void queue_first(struct atd_turn_queue *queue, struct atd_turn *turn)
{
    turn->previous = NULL;
    turn->next = queue->first;
    if (queue->first)
        queue->first->previous = turn;
    else
        queue->last = turn;
    queue->first = turn;
}

static void unqueue(struct atd_turn_queue *queue, struct atd_turn *turn)
{
    if (turn->previous)
        turn->previous->next = turn->next;
    else
        queue->first = turn->next;
    if (turn->next)
        turn->next->previous = turn->previous;
    else
        queue->last = turn->previous;
}

static struct atd_turn_queue *queue_of(struct atd_endpoint *endpoint, const struct atd_turn *turn)
{
    return turn->urgent ? &endpoint->urgent : &endpoint->others;
}

static bool is_free_locked(const struct atd_endpoint *endpoint)
{
    return endpoint->in_flight < endpoint->limiter.limit;
}

bool atd_endpoint_turn_ask(struct atd_endpoint *endpoint, struct atd_turn *turn, bool first)
{
    bool granted;

    atd_lock_take(&endpoint->lock);
    atd_assert(!turn->queued);
    granted = is_free_locked(endpoint) && !endpoint->urgent.first &&
              (turn->urgent || !endpoint->others.first);
    if (granted) {
        endpoint->in_flight++;
    } else {
        turn->queued = true;
        if (first)
            queue_first(queue_of(endpoint, turn), turn);
        else
            queue_last(queue_of(endpoint, turn), turn);
    }
    atd_lock_give(&endpoint->lock);
    return granted;
}

bool atd_endpoint_turn_leave(struct atd_endpoint *endpoint, struct atd_turn *turn)
{
    bool queued;

    atd_lock_take(&endpoint->lock);
    queued = turn->queued;
    if (queued) {
        unqueue(queue_of(endpoint, turn), turn);
        turn->queued = false;
    }
    atd_lock_give(&endpoint->lock);
    return queued;
}

/* The next whose turn it is, counted as in flight; NULL when nobody's. */
static struct atd_turn *next_turn(struct atd_endpoint *endpoint)
{
    struct atd_turn *turn = NULL;

    atd_lock_take(&endpoint->lock);
    if (is_free_locked(endpoint)) {
        turn = endpoint->urgent.first ? endpoint->urgent.first : endpoint->others.first;
        if (turn) {
            unqueue(queue_of(endpoint, turn), turn);
            turn->queued = false;
            endpoint->in_flight++;
        }
    }
    atd_lock_give(&endpoint->lock);
    return turn;
}

static void hand_out_turns(struct atd_endpoint *endpoint)
{
    struct atd_turn *turn;

    while ((turn = next_turn(endpoint)))
        turn->granted(turn);
}

void atd_endpoint_turn_give(struct atd_endpoint *endpoint)
{
    atd_lock_take(&endpoint->lock);
    atd_assert(endpoint->in_flight > 0);
    endpoint->in_flight--;
    atd_lock_give(&endpoint->lock);
    hand_out_turns(endpoint);
}

void atd_endpoint_turn_urge(struct atd_endpoint *endpoint, struct atd_turn *turn)
{
    atd_lock_take(&endpoint->lock);
    if (!turn->urgent) {
        if (turn->queued)
            unqueue(&endpoint->others, turn);
        turn->urgent = true;
        if (turn->queued)
            queue_last(&endpoint->urgent, turn);
    }
    atd_lock_give(&endpoint->lock);
}

/* ------------------------------------------------------------------ duplicates */

unsigned atd_endpoint_hedge_after_ms(struct atd_endpoint *endpoint)
{
    unsigned after_ms;

    if (endpoint->limits.hedge_percent == 0)
        return 0;
    atd_lock_take(&endpoint->lock);
    after_ms = atd_latency_late_ms(&endpoint->latency);
    atd_lock_give(&endpoint->lock);
    return after_ms;
}

bool atd_endpoint_hedge_take(struct atd_endpoint *endpoint)
{
    bool taken;

    atd_lock_take(&endpoint->lock);
    taken = is_free_locked(endpoint) && !endpoint->urgent.first && !endpoint->others.first &&
            atd_hedge_spend(&endpoint->hedge);
    if (taken)
        endpoint->in_flight++;
    atd_lock_give(&endpoint->lock);
    return taken;
}

void atd_endpoint_hedge_earn(struct atd_endpoint *endpoint)
{
    atd_lock_take(&endpoint->lock);
    atd_hedge_earn(&endpoint->hedge);
    atd_lock_give(&endpoint->lock);
}

/* ------------------------------------------------------------------ what calls met */

void atd_endpoint_succeeded(struct atd_endpoint *endpoint, unsigned tokens_back)
{
    bool grown;

    atd_lock_take(&endpoint->lock);
    atd_retry_bucket_give(&endpoint->bucket, tokens_back);
    grown = atd_limiter_success(&endpoint->limiter);
    atd_lock_give(&endpoint->lock);
    if (grown)
        hand_out_turns(endpoint);
}

void atd_endpoint_throttled(struct atd_endpoint *endpoint)
{
    atd_lock_take(&endpoint->lock);
    atd_limiter_throttled(&endpoint->limiter, atd_clock_monotonic_ms());
    atd_lock_give(&endpoint->lock);
}

void atd_endpoint_give_tokens(struct atd_endpoint *endpoint, unsigned tokens)
{
    atd_lock_take(&endpoint->lock);
    atd_retry_bucket_give(&endpoint->bucket, tokens);
    atd_lock_give(&endpoint->lock);
}

bool atd_endpoint_retry_take(struct atd_endpoint *endpoint, bool throttled, unsigned exponent,
                             unsigned *ret_cost, unsigned *ret_wait_ms)
{
    const struct atd_endpoint_limits *limits = &endpoint->limits;
    unsigned base_ms = throttled ? limits->backoff_throttled_ms : limits->backoff_base_ms;
    unsigned cost = throttled ? ATD_RETRY_COST_THROTTLED : ATD_RETRY_COST;
    bool taken;

    atd_lock_take(&endpoint->lock);
    taken = atd_retry_bucket_take(&endpoint->bucket, cost, atd_clock_monotonic_ms());
    if (taken) {
        *ret_cost = cost;
        *ret_wait_ms = atd_backoff_ms(base_ms, limits->backoff_max_ms, exponent,
                                      atd_random_next(&endpoint->random));
    }
    atd_lock_give(&endpoint->lock);
    return taken;
}

void atd_endpoint_body_begin(struct atd_endpoint *endpoint, int64_t first_byte_ms)
{
    atd_lock_take(&endpoint->lock);
    if (first_byte_ms >= 0 && first_byte_ms <= UINT32_MAX)
        atd_latency_add(&endpoint->latency, (uint32_t)first_byte_ms);
    atd_meter_begin(&endpoint->meter, monotonic_us());
    atd_lock_give(&endpoint->lock);
}

void atd_endpoint_body_bytes(struct atd_endpoint *endpoint, uint64_t bytes)
{
    atd_lock_take(&endpoint->lock);
    atd_meter_add(&endpoint->meter, bytes, monotonic_us());
    atd_lock_give(&endpoint->lock);
}

void atd_endpoint_body_end(struct atd_endpoint *endpoint, uint64_t bytes)
{
    atd_lock_take(&endpoint->lock);
    atd_meter_add(&endpoint->meter, bytes, monotonic_us());
    atd_meter_end(&endpoint->meter, monotonic_us());
    atd_lock_give(&endpoint->lock);
}

/*
 * The policy behind dependable calls, without network, clock or locks: what to wait, whether there
 * is budget, how much at a time, and when slow is too slow. endpoint.c holds one of each.
 * Source: S3-REDIS 2.6.
 */
#ifndef ATD_NET_RETRY_H
#define ATD_NET_RETRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ------------------------------------------------------------------ backoff */

/* The next of a sequence of random numbers (splitmix64); any state will do. */
uint64_t atd_random_next(uint64_t *state);

/* Full jitter: anything from 0 to base * 2^exponent, at most `max_ms`. */
unsigned atd_backoff_ms(unsigned base_ms, unsigned max_ms, unsigned exponent, uint64_t random);

/* ------------------------------------------------------------------ the budget of retries */

/*
 * A bucket of tokens. A retry takes some and gives them back when it brings something; a call that
 * succeeds at once adds one; time fills the bucket in ATD_RETRY_REFILL_MS, so that an outage
 * does not leave it empty. When it is empty, failures are reported instead of repeated.
 */
#define ATD_RETRY_COST 10
#define ATD_RETRY_COST_THROTTLED 5
#define ATD_RETRY_REFILL_MS 60000

struct atd_retry_bucket {
    unsigned tokens;
    unsigned max;
    int64_t filled_ms; /* up to when time has been paid */
};

void atd_retry_bucket_init(struct atd_retry_bucket *bucket, unsigned max, int64_t now_ms);
bool atd_retry_bucket_take(struct atd_retry_bucket *bucket, unsigned tokens, int64_t now_ms);
void atd_retry_bucket_give(struct atd_retry_bucket *bucket, unsigned tokens);

/* ------------------------------------------------------------------ how many at a time */

/* Additive increase, multiplicative decrease. */
#define ATD_LIMITER_SUCCESSES 100 /* for one more at a time */
#define ATD_LIMITER_CUT_MS 1000   /* replies of one overload halve it only once */

struct atd_limiter {
    unsigned limit; /* 1 to max */
    unsigned max;
    unsigned successes;
    int64_t next_cut_ms;
};

void atd_limiter_init(struct atd_limiter *limiter, unsigned first, unsigned max);
/* True: the limit has grown. */
bool atd_limiter_success(struct atd_limiter *limiter);
void atd_limiter_throttled(struct atd_limiter *limiter, int64_t now_ms);

/* ------------------------------------------------------------------ latencies */

#define ATD_LATENCY_SAMPLES 128    /* the last so many count */
#define ATD_LATENCY_SAMPLES_MIN 20 /* fewer are no knowledge */
#define ATD_LATENCY_REFRESH 16     /* quantiles are computed again after so many */

struct atd_latency {
    uint32_t samples_ms[ATD_LATENCY_SAMPLES];
    unsigned count; /* of samples, at most ATD_LATENCY_SAMPLES */
    unsigned next;
    unsigned since_refresh;
    uint32_t median_ms; /* as of the last refresh */
    uint32_t p95_ms;
};

void atd_latency_add(struct atd_latency *latency, uint32_t first_byte_ms);
/* Milliseconds after which an answer is late: 3 times the 95th percentile, at least
 * ATD_HEDGE_AFTER_MIN_MS. 0: not known yet. */
#define ATD_HEDGE_AFTER_MIN_MS 200
unsigned atd_latency_late_ms(const struct atd_latency *latency);

/* ------------------------------------------------------------------ the budget of duplicates */

#define ATD_HEDGE_COST 100     /* a call earns `percent` */
#define ATD_HEDGE_SAVED_MAX 10 /* duplicates that a long quiet time may save up */

struct atd_hedge_budget {
    unsigned credit;
    unsigned percent;
};

void atd_hedge_earn(struct atd_hedge_budget *budget);
bool atd_hedge_spend(struct atd_hedge_budget *budget);

/* ------------------------------------------------------------------ throughput */

/*
 * Bytes a second of all bodies together, counting only the time in which at least one comes in;
 * the newest ATD_METER_WINDOW_US weigh a quarter.
 */
#define ATD_METER_WINDOW_US 200000

struct atd_meter {
    unsigned running; /* bodies coming in */
    int64_t since_us; /* while running: up to when time is in busy_us */
    uint64_t busy_us;
    uint64_t bytes;
    uint64_t bytes_per_s; /* 0: not known yet */
};

void atd_meter_begin(struct atd_meter *meter, int64_t now_us);
void atd_meter_add(struct atd_meter *meter, uint64_t bytes, int64_t now_us);
void atd_meter_end(struct atd_meter *meter, int64_t now_us);

#endif

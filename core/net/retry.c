#include "net/retry.h"

#include <stdlib.h>
#include <string.h>

/* Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014). */
uint64_t atd_random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

unsigned atd_backoff_ms(unsigned base_ms, unsigned max_ms, unsigned exponent, uint64_t random)
{
    uint64_t ceiling_ms = base_ms;

    for (unsigned i = 0; i < exponent && ceiling_ms < max_ms; i++)
        ceiling_ms *= 2;
    if (ceiling_ms > max_ms)
        ceiling_ms = max_ms;
    return (unsigned)(random % (ceiling_ms + 1));
}

/* ------------------------------------------------------------------ the budget of retries */

void atd_retry_bucket_init(struct atd_retry_bucket *bucket, unsigned max, int64_t now_ms)
{
    *bucket = (struct atd_retry_bucket){.tokens = max, .max = max, .filled_ms = now_ms};
}

static void refill(struct atd_retry_bucket *bucket, int64_t now_ms)
{
    int64_t passed_ms = now_ms - bucket->filled_ms;
    uint64_t tokens;

    if (passed_ms <= 0 || bucket->max == 0)
        return;
    if (passed_ms > ATD_RETRY_REFILL_MS)
        passed_ms = ATD_RETRY_REFILL_MS;
    tokens = (uint64_t)passed_ms * bucket->max / ATD_RETRY_REFILL_MS;
    if (tokens == 0)
        return; /* the time counts when it is worth a token */
    atd_retry_bucket_give(bucket, (unsigned)tokens);
    bucket->filled_ms = now_ms;
}

bool atd_retry_bucket_take(struct atd_retry_bucket *bucket, unsigned tokens, int64_t now_ms)
{
    refill(bucket, now_ms);
    if (bucket->tokens < tokens)
        return false;
    bucket->tokens -= tokens;
    return true;
}

void atd_retry_bucket_give(struct atd_retry_bucket *bucket, unsigned tokens)
{
    unsigned room = bucket->max - bucket->tokens;

    bucket->tokens += tokens < room ? tokens : room;
}

/* ------------------------------------------------------------------ how many at a time */

void atd_limiter_init(struct atd_limiter *limiter, unsigned first, unsigned max)
{
    if (max == 0)
        max = 1;
    if (first == 0)
        first = 1;
    *limiter = (struct atd_limiter){.limit = first < max ? first : max, .max = max};
}

bool atd_limiter_success(struct atd_limiter *limiter)
{
    if (limiter->limit >= limiter->max || ++limiter->successes < ATD_LIMITER_SUCCESSES)
        return false;
    limiter->successes = 0;
    limiter->limit++;
    return true;
}

void atd_limiter_throttled(struct atd_limiter *limiter, int64_t now_ms)
{
    limiter->successes = 0;
    if (now_ms < limiter->next_cut_ms)
        return;
    limiter->next_cut_ms = now_ms + ATD_LIMITER_CUT_MS;
    limiter->limit = limiter->limit > 1 ? limiter->limit / 2 : 1;
}

/* ------------------------------------------------------------------ latencies */

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static void compute_quantiles(struct atd_latency *latency)
{
    uint32_t sorted[ATD_LATENCY_SAMPLES];

    memcpy(sorted, latency->samples_ms, latency->count * sizeof(sorted[0]));
    qsort(sorted, latency->count, sizeof(sorted[0]), compare_u32);
    latency->median_ms = sorted[latency->count / 2];
    latency->p95_ms = sorted[latency->count * 95 / 100];
}

void atd_latency_add(struct atd_latency *latency, uint32_t first_byte_ms)
{
    latency->samples_ms[latency->next] = first_byte_ms;
    latency->next = (latency->next + 1) % ATD_LATENCY_SAMPLES;
    if (latency->count < ATD_LATENCY_SAMPLES)
        latency->count++;
    /* Few samples are sorted in no time, and then each one matters. */
    if (++latency->since_refresh < ATD_LATENCY_REFRESH && latency->count > ATD_LATENCY_SAMPLES_MIN)
        return;
    latency->since_refresh = 0;
    compute_quantiles(latency);
}

unsigned atd_latency_late_ms(const struct atd_latency *latency)
{
    uint64_t late_ms = 3 * (uint64_t)latency->p95_ms;

    if (latency->count < ATD_LATENCY_SAMPLES_MIN)
        return 0;
    if (late_ms < ATD_HEDGE_AFTER_MIN_MS)
        return ATD_HEDGE_AFTER_MIN_MS;
    return late_ms < UINT32_MAX ? (unsigned)late_ms : UINT32_MAX;
}

/* ------------------------------------------------------------------ the budget of duplicates */

void atd_hedge_earn(struct atd_hedge_budget *budget)
{
    unsigned most = ATD_HEDGE_SAVED_MAX * ATD_HEDGE_COST;

    budget->credit += budget->percent;
    if (budget->credit > most)
        budget->credit = most;
}

bool atd_hedge_spend(struct atd_hedge_budget *budget)
{
    if (budget->credit < ATD_HEDGE_COST)
        return false;
    budget->credit -= ATD_HEDGE_COST;
    return true;
}

/* ------------------------------------------------------------------ throughput */

static void pass_time(struct atd_meter *meter, int64_t now_us)
{
    uint64_t rate;

    if (meter->running > 0 && now_us > meter->since_us)
        meter->busy_us += (uint64_t)(now_us - meter->since_us);
    meter->since_us = now_us;
    if (meter->busy_us < ATD_METER_WINDOW_US)
        return;
    rate = (uint64_t)((double)meter->bytes * 1e6 / (double)meter->busy_us);
    meter->bytes_per_s = meter->bytes_per_s ? (3 * meter->bytes_per_s + rate) / 4 : rate;
    meter->bytes = 0;
    meter->busy_us = 0;
}

void atd_meter_begin(struct atd_meter *meter, int64_t now_us)
{
    pass_time(meter, now_us);
    meter->running++;
}

void atd_meter_add(struct atd_meter *meter, uint64_t bytes, int64_t now_us)
{
    meter->bytes += bytes;
    pass_time(meter, now_us);
}

void atd_meter_end(struct atd_meter *meter, int64_t now_us)
{
    pass_time(meter, now_us);
    if (meter->running > 0)
        meter->running--;
}

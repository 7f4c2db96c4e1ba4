#include <criterion/criterion.h>
#include <stdlib.h>

#include "net/retry.h"

Test(retry, backoff_is_spread_over_the_whole_range)
{
    uint64_t state = 42;
    unsigned least = UINT32_MAX;
    unsigned most = 0;
    uint64_t sum = 0;

    for (int i = 0; i < 10000; i++) {
        unsigned wait_ms = atd_backoff_ms(50, 20000, 3, atd_random_next(&state));

        least = wait_ms < least ? wait_ms : least;
        most = wait_ms > most ? wait_ms : most;
        sum += wait_ms;
    }
    cr_assert_lt(least, 5);
    cr_assert_gt(most, 395);
    cr_assert_leq(most, 400);
    cr_assert(sum / 10000 > 180 && sum / 10000 < 220);
}

Test(retry, backoff_is_bounded)
{
    static const unsigned exponents[] = {9, 31, 32, 63, 64, 1000000, UINT32_MAX};
    uint64_t state = 1;

    for (size_t i = 0; i < sizeof(exponents) / sizeof(exponents[0]); i++) {
        for (int n = 0; n < 100; n++)
            cr_assert_leq(atd_backoff_ms(50, 20000, exponents[i], atd_random_next(&state)), 20000);
    }
    cr_assert_eq(atd_backoff_ms(0, 20000, 5, UINT64_MAX), 0);
    cr_assert_leq(atd_backoff_ms(UINT32_MAX, UINT32_MAX, 5, UINT64_MAX), UINT32_MAX);
    cr_assert_leq(atd_backoff_ms(1000, 10, 0, UINT64_MAX), 10);
}

Test(retry, bucket_empties_and_is_filled_by_success_and_time)
{
    struct atd_retry_bucket bucket;

    atd_retry_bucket_init(&bucket, 25, 1000);
    cr_assert(atd_retry_bucket_take(&bucket, 10, 1000));
    cr_assert(atd_retry_bucket_take(&bucket, 10, 1000));
    cr_assert(!atd_retry_bucket_take(&bucket, 10, 1000));
    cr_assert(atd_retry_bucket_take(&bucket, 5, 1000));
    atd_retry_bucket_give(&bucket, 10);
    cr_assert(atd_retry_bucket_take(&bucket, 10, 1000));
    cr_assert(!atd_retry_bucket_take(&bucket, 1, 1000));
    /* Many looks that are each too short for a token still add up. */
    for (int64_t ms = 1000; ms < 1000 + ATD_RETRY_REFILL_MS / 25; ms += 7)
        cr_assert(!atd_retry_bucket_take(&bucket, 1, ms));
    cr_assert(atd_retry_bucket_take(&bucket, 1, 1000 + ATD_RETRY_REFILL_MS / 25));
    cr_assert(!atd_retry_bucket_take(&bucket, 26, INT64_MAX / 2), "more than it holds");
    cr_assert_eq(bucket.tokens, 25);
    atd_retry_bucket_give(&bucket, 1000);
    cr_assert_eq(bucket.tokens, 25);
    cr_assert(!atd_retry_bucket_take(&bucket, 26, 0), "time does not run backwards");
}

Test(retry, limit_halves_once_a_while_and_grows_slowly)
{
    struct atd_limiter limiter;
    unsigned grown = 0;

    atd_limiter_init(&limiter, 32, 64);
    atd_limiter_throttled(&limiter, 5000);
    cr_assert_eq(limiter.limit, 16);
    atd_limiter_throttled(&limiter, 5000);
    atd_limiter_throttled(&limiter, 5000 + ATD_LIMITER_CUT_MS - 1);
    cr_assert_eq(limiter.limit, 16);
    for (int i = 1; i <= 10; i++)
        atd_limiter_throttled(&limiter, 5000 + i * ATD_LIMITER_CUT_MS);
    cr_assert_eq(limiter.limit, 1);
    for (int i = 0; i < 3 * ATD_LIMITER_SUCCESSES; i++)
        grown += atd_limiter_success(&limiter) ? 1 : 0;
    cr_assert_eq(grown, 3);
    cr_assert_eq(limiter.limit, 4);
    for (int i = 0; i < 100 * ATD_LIMITER_SUCCESSES; i++)
        (void)atd_limiter_success(&limiter);
    cr_assert_eq(limiter.limit, 64);
    atd_limiter_init(&limiter, 0, 0);
    cr_assert_eq(limiter.limit, 1);
    atd_limiter_init(&limiter, 9, 3);
    cr_assert_eq(limiter.limit, 3);
}

Test(retry, lateness_is_three_times_the_95th_percentile)
{
    struct atd_latency latency = {.count = 0};

    for (unsigned i = 1; i < ATD_LATENCY_SAMPLES_MIN; i++) {
        atd_latency_add(&latency, 100);
        cr_assert_eq(atd_latency_late_ms(&latency), 0, "too few to know");
    }
    atd_latency_add(&latency, 100);
    cr_assert_eq(atd_latency_late_ms(&latency), 300);
    cr_assert_eq(latency.median_ms, 100);
    for (unsigned i = 0; i < ATD_LATENCY_SAMPLES; i++)
        atd_latency_add(&latency, i < 3 ? 9000 : 10);
    cr_assert_eq(atd_latency_late_ms(&latency), ATD_HEDGE_AFTER_MIN_MS, "three outliers of 128");
    for (unsigned i = 0; i < ATD_LATENCY_SAMPLES; i++)
        atd_latency_add(&latency, i % 10 == 0 ? 1000 : 10);
    cr_assert_eq(atd_latency_late_ms(&latency), 3000);
    cr_assert_eq(latency.median_ms, 10);
    for (unsigned i = 0; i < ATD_LATENCY_SAMPLES; i++)
        atd_latency_add(&latency, 50);
    cr_assert_eq(atd_latency_late_ms(&latency), ATD_HEDGE_AFTER_MIN_MS, "old ones are forgotten");
    for (unsigned i = 0; i < ATD_LATENCY_SAMPLES; i++)
        atd_latency_add(&latency, UINT32_MAX);
    cr_assert_eq(atd_latency_late_ms(&latency), UINT32_MAX);
}

Test(retry, duplicates_cost_what_calls_earn)
{
    struct atd_hedge_budget budget = {.percent = 5};
    unsigned spent = 0;

    for (int i = 0; i < 1000; i++) {
        atd_hedge_earn(&budget);
        spent += atd_hedge_spend(&budget) ? 1 : 0;
    }
    cr_assert_eq(spent, 50);
    for (int i = 0; i < 100000; i++)
        atd_hedge_earn(&budget);
    for (spent = 0; atd_hedge_spend(&budget);)
        spent++;
    cr_assert_eq(spent, ATD_HEDGE_SAVED_MAX);
    budget.percent = 0;
    atd_hedge_earn(&budget);
    cr_assert(!atd_hedge_spend(&budget));
}

Test(retry, meter_counts_busy_time_only)
{
    struct atd_meter meter = {.running = 0};
    int64_t now_us = 1000000;

    atd_meter_begin(&meter, now_us);
    atd_meter_begin(&meter, now_us);
    for (int i = 0; i < 20; i++) { /* two bodies, 1 MB in 10 ms each: 200 MB/s together */
        now_us += 10000;
        atd_meter_add(&meter, 1000000, now_us);
        atd_meter_add(&meter, 1000000, now_us);
    }
    cr_assert(meter.bytes_per_s > 180000000 && meter.bytes_per_s < 220000000, "%llu",
              (unsigned long long)meter.bytes_per_s);
    atd_meter_end(&meter, now_us);
    atd_meter_end(&meter, now_us);
    now_us += 3600ll * 1000000;    /* an hour in which nothing was asked for */
    for (int i = 0; i < 40; i++) { /* short bodies, each shorter than the window */
        atd_meter_begin(&meter, now_us);
        now_us += 5000;
        atd_meter_add(&meter, 1000000, now_us);
        atd_meter_end(&meter, now_us);
        now_us += 1000000;
    }
    cr_assert(meter.bytes_per_s > 180000000 && meter.bytes_per_s < 220000000, "%llu",
              (unsigned long long)meter.bytes_per_s);
    atd_meter_begin(&meter, now_us);
    for (int i = 0; i < 20; i++)
        atd_meter_add(&meter, 0, now_us += 1000000);
    cr_assert_lt(meter.bytes_per_s, 2000000, "a stalled one is noticed");
}

#include "cache/ticker.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/lock.h"
#include "base/workers.h"

#define SLEEP_MAX_MS 3600000 /* fits an unsigned; then it looks again */

struct atd_ticker {
    int64_t (*tick)(void *ctx, int64_t now_ms);
    void *ctx;
    unsigned long thread;

    struct atd_lock lock;
    pthread_cond_t wake;
    /* guarded by lock */
    int64_t due_ms;
    bool stopping;
};

static void *keep_time(void *ctx)
{
    struct atd_ticker *ticker = ctx;

    atd_lock_take(&ticker->lock);
    while (!ticker->stopping) {
        int64_t now = atd_clock_monotonic_ms();

        if (ticker->due_ms <= now) {
            int64_t due;

            ticker->due_ms = ATD_TICKER_NEVER;
            atd_lock_give(&ticker->lock);
            due = ticker->tick(ticker->ctx, now);
            atd_lock_take(&ticker->lock);
            if (due < ticker->due_ms)
                ticker->due_ms = due;
        } else if (ticker->due_ms == ATD_TICKER_NEVER) {
            atd_cond_wait(&ticker->wake, &ticker->lock);
        } else {
            int64_t wait = ticker->due_ms - now;

            atd_cond_wait_ms(&ticker->wake, &ticker->lock,
                             (unsigned)(wait < SLEEP_MAX_MS ? wait : SLEEP_MAX_MS));
        }
    }
    atd_lock_give(&ticker->lock);
    return NULL;
}

int atd_ticker_start(int64_t (*tick)(void *ctx, int64_t now_ms), void *ctx,
                     struct atd_ticker **ret_ticker, struct atd_error *err)
{
    struct atd_ticker *ticker = calloc(1, sizeof(*ticker));
    int rc;

    if (!ticker)
        return atd_error_set(err, ENOMEM, "timekeeper: out of memory");
    ticker->tick = tick;
    ticker->ctx = ctx;
    ticker->due_ms = ATD_TICKER_NEVER;
    atd_lock_init(&ticker->lock, ATD_RANK_TICKER);
    atd_cond_init(&ticker->wake);
    rc = atd_thread_start("reader-time", keep_time, ticker, &ticker->thread, err);
    if (rc) {
        (void)pthread_cond_destroy(&ticker->wake);
        atd_lock_destroy(&ticker->lock);
        free(ticker);
        return rc;
    }
    *ret_ticker = ticker;
    return 0;
}

void atd_ticker_call_at(struct atd_ticker *ticker, int64_t due_ms)
{
    atd_lock_take(&ticker->lock);
    if (due_ms < ticker->due_ms) {
        ticker->due_ms = due_ms;
        (void)pthread_cond_signal(&ticker->wake);
    }
    atd_lock_give(&ticker->lock);
}

bool atd_ticker_stop(struct atd_ticker *ticker, unsigned timeout_ms)
{
    if (!ticker)
        return true;
    atd_lock_take(&ticker->lock);
    ticker->stopping = true;
    (void)pthread_cond_signal(&ticker->wake);
    atd_lock_give(&ticker->lock);
    if (!atd_thread_join(ticker->thread, timeout_ms))
        return false;
    (void)pthread_cond_destroy(&ticker->wake);
    atd_lock_destroy(&ticker->lock);
    free(ticker);
    return true;
}

/*
 * The timekeeper: one thread that runs a function when something is due or was asked for, and
 * sleeps without waking when there is nothing to watch.
 */
#ifndef ATD_CACHE_TICKER_H
#define ATD_CACHE_TICKER_H

#include <stdint.h>

#include "atdata/error.h"

struct atd_ticker;

#define ATD_TICKER_NEVER INT64_MAX

/*
 * `tick` runs on the thread, without a lock, and says when it is due again (monotonic ms, or
 * ATD_TICKER_NEVER). Errors: EAGAIN, ENOMEM.
 */
int atd_ticker_start(int64_t (*tick)(void *ctx, int64_t now_ms), void *ctx,
                     struct atd_ticker **ret_ticker, struct atd_error *err) ATD_MUST_USE;

/* Runs `tick` at `due_ms` at the latest. Any thread, with any lock below ATD_RANK_TICKER. */
void atd_ticker_call_at(struct atd_ticker *ticker, int64_t due_ms);

/* NULL is fine. False when the thread hangs. */
bool atd_ticker_stop(struct atd_ticker *ticker, unsigned timeout_ms);

#endif

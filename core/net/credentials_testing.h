/*
 * For tests: another clock, so that expiry can be seen without waiting for it, and more patience
 * than a loaded machine needs. Set before the first _get.
 */
#ifndef ATD_NET_CREDENTIALS_TESTING_H
#define ATD_NET_CREDENTIALS_TESTING_H

#include "net/credentials.h"

/*
 * Seconds since 1970. Called with a lock held, from any thread. A _get after it moved makes the
 * thread look at it.
 */
void atd_credentials_set_clock(struct atd_credentials *credentials, int64_t (*now_s)(void *ctx),
                               void *ctx);

/* False while a fetch is under way or asked for. What a fetch counts from is the clock at its end:
 * a test that moves the clock before that moves the backoff too. */
bool atd_credentials_is_idle(struct atd_credentials *credentials);

/* Time-outs of requests are so many times as long; 1 to 100. */
void atd_credentials_set_patience(struct atd_credentials *credentials, unsigned factor);

#endif

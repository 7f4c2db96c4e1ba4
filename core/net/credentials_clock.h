/*
 * For tests: another clock, so that expiry can be seen without waiting for it. A _get after it
 * moved makes the thread look at it.
 */
#ifndef ATD_NET_CREDENTIALS_CLOCK_H
#define ATD_NET_CREDENTIALS_CLOCK_H

#include "net/credentials.h"

/* Seconds since 1970. Called with a lock held, from any thread. Set before the first _get. */
void atd_credentials_set_clock(struct atd_credentials *credentials, int64_t (*now_s)(void *ctx),
                               void *ctx);

#endif

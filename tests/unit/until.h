/*
 * Waiting, in tests of the network, for what another thread does.
 */
#ifndef ATD_TESTS_UNIT_UNTIL_H
#define ATD_TESTS_UNIT_UNTIL_H

#include <criterion/criterion.h>
#include <unistd.h>

#include "base/clock.h"

/* Far above what anything here takes, also on a machine that is busy with other things. */
#define PATIENCE_MS 60000

#define UNTIL(condition)                                                           \
    do {                                                                           \
        int64_t until_ms_ = atd_clock_monotonic_ms() + PATIENCE_MS;                \
        while (!(condition)) {                                                     \
            cr_assert(atd_clock_monotonic_ms() < until_ms_, "never: " #condition); \
            (void)usleep(1000);                                                    \
        }                                                                          \
    } while (0)

#endif

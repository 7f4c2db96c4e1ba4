/*
 * Time: the monotonic clock for durations, two that outlive a process, and the two text forms of
 * time in an index.
 */
#ifndef ATD_BASE_CLOCK_H
#define ATD_BASE_CLOCK_H

#include <time.h>

#include "atdata/str.h"

int64_t atd_clock_monotonic_ms(void);
/* Since 1970: may be set, forwards and backwards. */
int64_t atd_clock_wall_ms(void);
/* Since this machine's boot, sleep included: the same for all processes, nobody sets it. */
int64_t atd_clock_boot_ms(void);

/*
 * Seconds since 1970 of "YYYY-MM-DD HH:MM:SS" (SQLite's datetime('now'), UTC) or ISO 8601 with a
 * 'T', an optional fraction and "+00:00", "Z" or another offset. False for anything else.
 * Source: ATDATA-FORMATS 1.4, 2.1, 4.1.
 */
bool atd_clock_parse(struct atd_str text, int64_t *ret_seconds);

#define ATD_CLOCK_TEXT_MAX 32
/* "YYYY-MM-DDTHH:MM:SS+00:00" */
void atd_clock_format(int64_t seconds, char ret_text[ATD_CLOCK_TEXT_MAX]);

#endif

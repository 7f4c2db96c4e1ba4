/*
 * The daemon's log: one line an event, to standard error in the foreground, else to syslog.
 * Library code logs at debug level only; the FUSE boundary logs an error once.
 */
#ifndef ATD_BASE_LOG_H
#define ATD_BASE_LOG_H

#include "atdata/decls.h"

enum atd_log_level { ATD_LOG_ERROR, ATD_LOG_WARNING, ATD_LOG_INFO, ATD_LOG_DEBUG };

/* Before threads start. `name` is kept. */
void atd_log_open(const char *name, int to_syslog, enum atd_log_level least);
void atd_log(enum atd_log_level level, const char *fmt, ...) ATD_PRINTF(2, 3);

#endif

#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <syslog.h>

static const char *log_name = "atdatafs";
static int log_to_syslog;
static enum atd_log_level log_least = ATD_LOG_INFO;

void atd_log_open(const char *name, int to_syslog, enum atd_log_level least)
{
    log_name = name;
    log_to_syslog = to_syslog;
    log_least = least;
    if (to_syslog)
        openlog(name, LOG_PID, LOG_DAEMON);
}

void atd_log(enum atd_log_level level, const char *fmt, ...)
{
    static const int priorities[] = {LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG};
    va_list args;

    if (level > log_least)
        return;
    va_start(args, fmt);
    if (log_to_syslog) {
        vsyslog(priorities[level], fmt, args);
    } else {
        char line[1024];

        /* One write, so that lines of several threads do not mix. */
        (void)vsnprintf(line, sizeof(line), fmt, args);
        (void)fprintf(stderr, "%s: %s\n", log_name, line);
    }
    va_end(args);
}

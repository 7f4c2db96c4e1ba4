#include "base/clock.h"

#include <stdio.h>

static int64_t read_ms(clockid_t clock)
{
    struct timespec now;

    (void)clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t atd_clock_monotonic_ms(void)
{
    return read_ms(CLOCK_MONOTONIC);
}

int64_t atd_clock_wall_ms(void)
{
    return read_ms(CLOCK_REALTIME);
}

int64_t atd_clock_boot_ms(void)
{
    return read_ms(CLOCK_BOOTTIME);
}

/* Reads exactly `digits` digits at `at`; false when there are other characters. */
static bool read_number(struct atd_str text, size_t at, size_t digits, int *ret_number)
{
    int number = 0;

    if (at + digits > text.len)
        return false;
    for (size_t i = at; i < at + digits; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return false;
        number = number * 10 + (text.ptr[i] - '0');
    }
    *ret_number = number;
    return true;
}

/* What may follow the seconds: a fraction, then nothing, "Z" or "+hh:mm". */
static bool read_offset(struct atd_str text, size_t at, int *ret_offset_s)
{
    int hours;
    int minutes;

    if (at < text.len && text.ptr[at] == '.') {
        at++;
        while (at < text.len && text.ptr[at] >= '0' && text.ptr[at] <= '9')
            at++;
    }
    *ret_offset_s = 0;
    if (at == text.len)
        return true;
    if (text.ptr[at] == 'Z')
        return at + 1 == text.len;
    if ((text.ptr[at] != '+' && text.ptr[at] != '-') || text.len != at + 6 ||
        text.ptr[at + 3] != ':' || !read_number(text, at + 1, 2, &hours) ||
        !read_number(text, at + 4, 2, &minutes) || hours > 23 || minutes > 59)
        return false;
    *ret_offset_s = (hours * 60 + minutes) * 60 * (text.ptr[at] == '-' ? -1 : 1);
    return true;
}

bool atd_clock_parse(struct atd_str text, int64_t *ret_seconds)
{
    struct tm tm = {0};
    int offset_s;

    if (text.len < 19 || text.ptr[4] != '-' || text.ptr[7] != '-' ||
        (text.ptr[10] != ' ' && text.ptr[10] != 'T') || text.ptr[13] != ':' || text.ptr[16] != ':')
        return false;
    if (!read_number(text, 0, 4, &tm.tm_year) || !read_number(text, 5, 2, &tm.tm_mon) ||
        !read_number(text, 8, 2, &tm.tm_mday) || !read_number(text, 11, 2, &tm.tm_hour) ||
        !read_number(text, 14, 2, &tm.tm_min) || !read_number(text, 17, 2, &tm.tm_sec))
        return false;
    if (tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour > 23 ||
        tm.tm_min > 59 || tm.tm_sec > 60 || !read_offset(text, 19, &offset_s))
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    *ret_seconds = (int64_t)timegm(&tm) - offset_s;
    return true;
}

void atd_clock_format(int64_t seconds, char ret_text[ATD_CLOCK_TEXT_MAX])
{
    time_t when = (time_t)seconds;
    struct tm tm;

    if (!gmtime_r(&when, &tm) ||
        strftime(ret_text, ATD_CLOCK_TEXT_MAX, "%Y-%m-%dT%H:%M:%S+00:00", &tm) == 0)
        (void)snprintf(ret_text, ATD_CLOCK_TEXT_MAX, "1970-01-01T00:00:00+00:00");
}

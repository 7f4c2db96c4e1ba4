#include "atdata/error.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/utf8.h"

/* Makes `text` safe for one line of a log: no control characters, no broken UTF-8. */
static void make_printable(char *text)
{
    size_t len = strlen(text);
    size_t at = 0;

    while (at < len) {
        size_t step = atd_utf8_step((const uint8_t *)text + at, len - at);

        if (step == 0) {
            text[at++] = '?';
            continue;
        }
        if (step == 1 && ((unsigned char)text[at] < 0x20 || text[at] == 0x7f))
            text[at] = '?';
        at += step;
    }
}

int atd_error_vset(struct atd_error *err, int code, const char *fmt, va_list args)
{
    atd_assert(code > 0);
    if (err) {
        err->code = code;
        err->retryable = false;
        (void)vsnprintf(err->text, sizeof(err->text), fmt, args);
        make_printable(err->text);
    }
    return -code;
}

int atd_error_set(struct atd_error *err, int code, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    (void)atd_error_vset(err, code, fmt, args);
    va_end(args);
    return -code;
}

int atd_error_set_retryable(struct atd_error *err, int code, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    (void)atd_error_vset(err, code, fmt, args);
    va_end(args);
    if (err)
        err->retryable = true;
    return -code;
}

int atd_error_wrap(struct atd_error *err, int fallback, const char *fmt, ...)
{
    char what[ATD_ERROR_TEXT_MAX];
    char whole[2 * ATD_ERROR_TEXT_MAX + 2];
    va_list args;

    atd_assert(fallback < 0);
    if (!err)
        return fallback;
    atd_assert(err->code > 0);
    va_start(args, fmt);
    (void)vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    (void)snprintf(whole, sizeof(whole), "%s: %s", what, err->text);
    whole[sizeof(err->text) - 1] = '\0';
    make_printable(whole);
    memcpy(err->text, whole, sizeof(err->text));
    return -err->code;
}

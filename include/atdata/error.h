/*
 * The error object: a value on the caller's stack.
 *
 * Every fallible function of libatdata returns 0 or a negative errno and takes a
 * `struct atd_error *err` as its last parameter. On success the object is not touched.
 * On failure it holds one sentence for people: lower case, no full stop, what failed first, the
 * subject quoted, the remedy if known, never a secret. Programs decide by the code alone.
 *
 * `err` may be NULL where the caller only wants the code.
 */
#ifndef ATDATA_ERROR_H
#define ATDATA_ERROR_H

#include <stdarg.h>
#include <stdbool.h>

#include "atdata/decls.h"

ATD_BEGIN_DECLS

#define ATD_ERROR_TEXT_MAX 512

struct atd_error {
    int code;                      /* a positive errno; 0 when nothing failed */
    bool retryable;                /* the same call may succeed later without any change */
    char text[ATD_ERROR_TEXT_MAX]; /* UTF-8, cut at ATD_ERROR_TEXT_MAX - 1 bytes */
};

#define ATD_ERROR_INIT \
    {                  \
        0, false, ""   \
    }

/*
 * Sets the error where it happens. Control characters and invalid UTF-8 in the formatted text are
 * replaced by '?', so that remote data quoted in it cannot forge a log line.
 * Returns -code, to be returned by the caller. `code` must be positive.
 */
int atd_error_set(struct atd_error *err, int code, const char *fmt, ...) ATD_PRINTF(3, 4);

/* The same with a va_list. */
int atd_error_vset(struct atd_error *err, int code, const char *fmt, va_list args) ATD_PRINTF(3, 0);

/* Like atd_error_set and marks the error retryable. */
int atd_error_set_retryable(struct atd_error *err, int code, const char *fmt, ...) ATD_PRINTF(3, 4);

/*
 * Puts "what: " in front of an error that is already set: what the callee did not know.
 * Returns -err->code (or `fallback`, a negative errno, when err is NULL).
 */
int atd_error_wrap(struct atd_error *err, int fallback, const char *fmt, ...) ATD_PRINTF(3, 4);

ATD_END_DECLS

#endif

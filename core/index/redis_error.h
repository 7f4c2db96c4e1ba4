/*
 * What a Redis server's error replies mean. Source: S3-REDIS 6.3, and the servers' texts.
 */
#ifndef ATD_INDEX_REDIS_ERROR_H
#define ATD_INDEX_REDIS_ERROR_H

#include "atdata/error.h"
#include "atdata/str.h"

enum atd_redis_quote {
    ATD_REDIS_QUOTE,     /* the server's text goes into the sentence */
    ATD_REDIS_QUOTE_NOT, /* a reply to AUTH: old servers quote its arguments */
};

/*
 * Sets the error for an error reply; `text` is it without the '-', its first word the code.
 * `what` is what was asked, as "reading the keys". Returns the negative errno.
 *
 * Errors: EAGAIN (retryable) for what passes, as LOADING; EACCES for NOAUTH, WRONGPASS, NOPERM;
 * ENOTSUP for a cluster; ENOSPC for OOM; EIO else.
 */
int atd_redis_error_set(struct atd_str text, const char *what, enum atd_redis_quote quote,
                        struct atd_error *err);

/*
 * The same for the reply to a change: what a right to publish takes, and what a script met inside.
 */
int atd_redis_change_error_set(struct atd_str text, struct atd_error *err);

/* True when a script, or what it calls, may not be run by this user or on this server. */
bool atd_redis_error_refuses_script(struct atd_str text);

/* True for the error whose code (first word) is `code`. */
bool atd_redis_error_is(struct atd_str text, struct atd_str code);

/* True for the errors of a command that the user may not use or that the server does not know. */
bool atd_redis_error_is_refusal(struct atd_str text);

/* True for a key of another type. */
bool atd_redis_error_is_wrong_type(struct atd_str text);

#endif

/*
 * `atdatafs doctor`: what a mount needs, looked at piece by piece, each with what to do.
 */
#ifndef ATD_FS_DOCTOR_H
#define ATD_FS_DOCTOR_H

#include "atdata/error.h"
#include "options.h"

#define DOCTOR_CHECKS_MAX 64u

enum check_state {
    CHECK_OK,
    CHECK_NOTE,    /* could not be looked at, or is not used: nothing to do */
    CHECK_WARNING, /* it works, and could be better */
    CHECK_PROBLEM, /* something will not work */
};

struct check {
    const char *name;
    enum check_state state;
    char said[ATD_ERROR_TEXT_MAX];
    char advice[ATD_ERROR_TEXT_MAX]; /* one sentence; "" */
};

struct doctor {
    const struct options *options;
    struct check checks[DOCTOR_CHECKS_MAX];
    unsigned count;
};

/* Adds a check; the place for its advice, which doctor_advise() fills. */
struct check *doctor_say(struct doctor *doctor, const char *name, enum check_state state,
                         const char *format, ...) __attribute__((format(printf, 4, 5)));
void doctor_advise(struct check *check, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* How far a clock is from another's: says so, and what to do. `ahead_s`: of the other. */
void doctor_say_clock(struct doctor *doctor, const char *name, const char *whose, int64_t ahead_s);

/* Each blocks on what it looks at; none changes anything, but for a scratch object. */
void doctor_look_at_index(struct doctor *doctor); /* doctor_index.c */
void doctor_look_at_redis(struct doctor *doctor); /* doctor_redis.c */
void doctor_look_at_store(struct doctor *doctor); /* doctor_store.c */
void doctor_look_at_host(struct doctor *doctor);  /* doctor_host.c */

#endif

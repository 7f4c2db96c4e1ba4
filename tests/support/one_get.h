/*
 * One ranged read of a store that a test waits for, with everything that was reported.
 */
#ifndef ATD_TESTS_ONE_GET_H
#define ATD_TESTS_ONE_GET_H

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/store.h"

#define ONE_GET_WAIT_S 60 /* far beyond what any test needs; then it fails instead of hanging */

struct one_get {
    struct atd_store_get get;
    struct atd_store *store;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    /* guarded by mutex */
    size_t received;
    bool went_back;         /* progress told less than before */
    bool found_before_data; /* `found` was filled at the first progress */
    unsigned done_count;
    struct atd_error why; /* code 0: all of it came */
};

static inline void one_get_progress(struct atd_store_get *get, size_t received)
{
    struct one_get *one = get->ctx;

    (void)pthread_mutex_lock(&one->mutex);
    if (one->received == 0)
        one->found_before_data = get->found.size_bytes > 0;
    if (received < one->received)
        one->went_back = true;
    one->received = received;
    (void)pthread_cond_broadcast(&one->changed);
    (void)pthread_mutex_unlock(&one->mutex);
}

static inline void one_get_done(struct atd_store_get *get, const struct atd_error *why)
{
    struct one_get *one = get->ctx;

    (void)pthread_mutex_lock(&one->mutex);
    one->done_count++;
    if (why)
        one->why = *why;
    (void)pthread_cond_broadcast(&one->changed);
    (void)pthread_mutex_unlock(&one->mutex);
}

/* `url` stays the caller's until one_get_end(). */
static inline struct one_get *one_get_start(struct atd_store *store, const char *url,
                                            uint64_t first, uint64_t end,
                                            const struct atd_object_info *expect,
                                            unsigned stall_timeout_ms)
{
    struct one_get *one = calloc(1, sizeof(*one));

    one->store = store;
    (void)pthread_mutex_init(&one->mutex, NULL);
    (void)pthread_cond_init(&one->changed, NULL);
    one->get = (struct atd_store_get){
        .url = atd_str_from(url),
        .first = first,
        .end = end,
        .expect = expect,
        .into = calloc(1, (size_t)(end - first)),
        .urgent = true,
        .stall_timeout_ms = stall_timeout_ms,
        .progress = one_get_progress,
        .done = one_get_done,
        .ctx = one,
    };
    atd_store_get_start(store, &one->get);
    return one;
}

/* False when it did not happen in time. `received`: so many bytes, or done. */
static inline bool one_get_wait(struct one_get *one, size_t received)
{
    struct timespec until;
    bool there;

    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ONE_GET_WAIT_S;
    (void)pthread_mutex_lock(&one->mutex);
    while (one->done_count == 0 && one->received < received &&
           pthread_cond_timedwait(&one->changed, &one->mutex, &until) == 0)
        ;
    there = one->done_count > 0 || one->received >= received;
    (void)pthread_mutex_unlock(&one->mutex);
    return there;
}

static inline bool one_get_wait_done(struct one_get *one)
{
    return one_get_wait(one, SIZE_MAX);
}

static inline void one_get_free(struct one_get *one)
{
    free(one->get.into);
    (void)pthread_cond_destroy(&one->changed);
    (void)pthread_mutex_destroy(&one->mutex);
    free(one);
}

#endif

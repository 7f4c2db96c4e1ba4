/*
 * A get of a store that a test waits for.
 */
#ifndef ATD_TESTS_STORE_GET_H
#define ATD_TESTS_STORE_GET_H

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/store.h"

struct waited_get {
    struct atd_store_get get;
    struct atd_error why;
    atomic_bool ended;
    atomic_size_t received;
    atomic_int progresses;
    bool within_start;
    pthread_t starter;
};

static inline void waited_progress(struct atd_store_get *get, size_t received)
{
    struct waited_get *waited = get->ctx;

    atomic_store(&waited->received, received);
    atomic_fetch_add(&waited->progresses, 1);
    if (pthread_equal(pthread_self(), waited->starter))
        waited->within_start = true;
}

static inline void waited_done(struct atd_store_get *get, const struct atd_error *why)
{
    struct waited_get *waited = get->ctx;

    if (why)
        waited->why = *why;
    if (pthread_equal(pthread_self(), waited->starter))
        waited->within_start = true;
    atomic_store(&waited->ended, true);
}

static inline void waited_start(struct waited_get *waited, struct atd_store *store, const char *url,
                                uint64_t first, uint64_t end, uint8_t *into,
                                const struct atd_object_info *expect)
{
    memset(waited, 0, sizeof(*waited));
    waited->starter = pthread_self();
    waited->get = (struct atd_store_get){
        .url = atd_str_from(url),
        .first = first,
        .end = end,
        .expect = expect,
        .into = into,
        .stall_timeout_ms = 300,
        .progress = waited_progress,
        .done = waited_done,
        .ctx = waited,
    };
    atd_store_get_start(store, &waited->get);
}

/* False when it did not end within half a minute. */
static inline bool waited_ends(struct waited_get *waited)
{
    int64_t until = atd_clock_monotonic_ms() + 30000;

    while (!atomic_load(&waited->ended) && atd_clock_monotonic_ms() < until)
        (void)usleep(500);
    return atomic_load(&waited->ended);
}

#endif

#include "parallel.h"

#include <limits.h>
#include <stdatomic.h>

#include "base/lock.h"
#include "base/workers.h"

struct running {
    const struct parallel_work *work;
    atomic_size_t next;
    struct atd_lock lock;
    pthread_cond_t ended;
    /* guarded by lock */
    unsigned left; /* threads that have not ended */
};

static void run_items(struct running *running)
{
    size_t item;

    while ((item = atomic_fetch_add(&running->next, 1)) < running->work->count)
        running->work->run(running->work->ctx, item);
}

static void *thread_body(void *ctx)
{
    struct running *running = ctx;

    run_items(running);
    atd_lock_take(&running->lock);
    running->left--;
    (void)pthread_cond_broadcast(&running->ended);
    atd_lock_give(&running->lock);
    return NULL;
}

static void await(struct running *running)
{
    const struct parallel_work *work = running->work;
    unsigned left;

    do {
        atd_lock_take(&running->lock);
        if (running->left > 0)
            atd_cond_wait_ms(&running->ended, &running->lock, PARALLEL_TICK_MS);
        left = running->left;
        atd_lock_give(&running->lock);
        if (work->tick)
            work->tick(work->ctx);
    } while (left > 0);
}

void parallel_run(const struct parallel_work *work)
{
    struct running running = {.work = work};
    unsigned long threads[PARALLEL_MAX];
    unsigned wanted = work->count < work->jobs ? (unsigned)work->count : work->jobs;
    unsigned started = 0;

    atd_lock_init(&running.lock, ATD_RANK_PUBLISHING);
    atd_cond_init(&running.ended);
    while (started < wanted && started < PARALLEL_MAX) {
        atd_lock_take(&running.lock);
        running.left++;
        atd_lock_give(&running.lock);
        if (atd_thread_start("atd-command", thread_body, &running, &threads[started], NULL) != 0) {
            atd_lock_take(&running.lock);
            running.left--;
            atd_lock_give(&running.lock);
            break;
        }
        started++;
    }
    if (started == 0)
        run_items(&running);
    await(&running);
    for (unsigned i = 0; i < started; i++)
        (void)atd_thread_join(threads[i], INT_MAX);
    (void)pthread_cond_destroy(&running.ended);
    atd_lock_destroy(&running.lock);
}

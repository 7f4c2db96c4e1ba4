#include "base/workers.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/lock.h"

struct atd_workers {
    struct atd_lock lock;
    pthread_cond_t wake;

    /* guarded by lock */
    struct atd_work *first;
    struct atd_work *last;
    unsigned queued;
    bool stopping;

    /* fixed */
    unsigned thread_count;
    unsigned long threads[ATD_WORKERS_THREADS_MAX];
};

int atd_thread_start(const char *name, void *(*body)(void *), void *ctx, unsigned long *ret_thread,
                     struct atd_error *err)
{
    sigset_t all;
    sigset_t before;
    pthread_t thread;
    int rc;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&thread, NULL, body, ctx);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc)
        return atd_error_set(err, rc, "cannot start thread '%s': %s", name, strerror(rc));
    (void)pthread_setname_np(thread, name);
    *ret_thread = thread;
    return 0;
}

bool atd_thread_join(unsigned long thread, unsigned timeout_ms)
{
    struct timespec until;

    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)(timeout_ms / 1000) + 1;
    return pthread_timedjoin_np(thread, NULL, &until) == 0;
}

/* Waits for work; NULL when the pool is stopping and nothing is left. */
static struct atd_work *take_work(struct atd_workers *workers)
{
    struct atd_work *work;

    atd_lock_take(&workers->lock);
    while (!workers->first && !workers->stopping)
        atd_cond_wait(&workers->wake, &workers->lock);
    work = workers->first;
    if (work) {
        workers->first = work->next;
        if (!workers->first)
            workers->last = NULL;
        workers->queued--;
    }
    atd_lock_give(&workers->lock);
    return work;
}

static void *work_until_stopped(void *ctx)
{
    struct atd_workers *workers = ctx;
    struct atd_work *work;

    while ((work = take_work(workers)))
        work->run(work);
    return NULL;
}

int atd_workers_start(const char *name, unsigned thread_count, struct atd_workers **ret_workers,
                      struct atd_error *err)
{
    struct atd_workers *workers = calloc(1, sizeof(*workers));
    int rc = 0;

    atd_assert(thread_count > 0 && thread_count <= ATD_WORKERS_THREADS_MAX);
    if (!workers)
        return atd_error_set(err, ENOMEM, "cannot start threads '%s': out of memory", name);
    atd_lock_init(&workers->lock, ATD_RANK_WORKERS);
    atd_cond_init(&workers->wake);
    while (workers->thread_count < thread_count && rc == 0) {
        rc = atd_thread_start(name, work_until_stopped, workers,
                              &workers->threads[workers->thread_count], err);
        if (rc == 0)
            workers->thread_count++;
    }
    if (rc) {
        (void)atd_workers_stop(workers, 1000);
        return rc;
    }
    *ret_workers = workers;
    return 0;
}

int atd_workers_submit(struct atd_workers *workers, struct atd_work *work, struct atd_error *err)
{
    bool taken;

    work->next = NULL;
    atd_lock_take(&workers->lock);
    taken = !workers->stopping && workers->queued < ATD_WORKERS_QUEUE_MAX;
    if (taken) {
        if (workers->last)
            workers->last->next = work;
        else
            workers->first = work;
        workers->last = work;
        workers->queued++;
        (void)pthread_cond_signal(&workers->wake);
    }
    atd_lock_give(&workers->lock);
    if (!taken)
        return atd_error_set_retryable(err, EBUSY, "too many requests are waiting for the disk");
    return 0;
}

bool atd_workers_stop(struct atd_workers *workers, unsigned timeout_ms)
{
    bool ended = true;

    if (!workers)
        return true;
    atd_lock_take(&workers->lock);
    workers->stopping = true;
    (void)pthread_cond_broadcast(&workers->wake);
    atd_lock_give(&workers->lock);
    for (unsigned i = 0; i < workers->thread_count && ended; i++)
        ended = atd_thread_join(workers->threads[i], timeout_ms);
    if (!ended)
        return false;
    (void)pthread_cond_destroy(&workers->wake);
    atd_lock_destroy(&workers->lock);
    free(workers);
    return true;
}

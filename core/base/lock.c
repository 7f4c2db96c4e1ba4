#include "base/lock.h"

#include <stdint.h>
#include <time.h>

#include "base/check.h"

#ifdef ATD_PARANOID
/* Bit r: this thread holds a lock of rank r. */
static _Thread_local uint64_t held_ranks;
_Static_assert(ATD_RANK_COUNT <= 64, "a bit for each rank");
#endif

static void note_taken(const struct atd_lock *lock)
{
#ifdef ATD_PARANOID
    atd_assert((held_ranks >> lock->rank) == 0);
    held_ranks |= UINT64_C(1) << lock->rank;
#else
    (void)lock;
#endif
}

static void note_given(const struct atd_lock *lock)
{
#ifdef ATD_PARANOID
    atd_assert(held_ranks & (UINT64_C(1) << lock->rank));
    held_ranks &= ~(UINT64_C(1) << lock->rank);
#else
    (void)lock;
#endif
}

void atd_lock_init(struct atd_lock *lock, enum atd_lock_rank rank)
{
    int rc = pthread_mutex_init(&lock->mutex, NULL);

    atd_assert(rc == 0);
    lock->rank = rank;
}

void atd_lock_destroy(struct atd_lock *lock)
{
    int rc = pthread_mutex_destroy(&lock->mutex);

    atd_assert(rc == 0);
}

void atd_lock_take(struct atd_lock *lock)
{
    int rc;

    note_taken(lock);
    rc = pthread_mutex_lock(&lock->mutex);
    atd_assert(rc == 0);
}

void atd_lock_give(struct atd_lock *lock)
{
    int rc;

    /* Before: once it is unlocked, somebody else may free what it lies in. */
    note_given(lock);
    rc = pthread_mutex_unlock(&lock->mutex);
    atd_assert(rc == 0);
}

void atd_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;

    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(cond, &attr);
    (void)pthread_condattr_destroy(&attr);
}

void atd_cond_wait(pthread_cond_t *cond, struct atd_lock *lock)
{
    note_given(lock);
    (void)pthread_cond_wait(cond, &lock->mutex);
    note_taken(lock);
}

void atd_cond_wait_ms(pthread_cond_t *cond, struct atd_lock *lock, unsigned timeout_ms)
{
    struct timespec until;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(timeout_ms / 1000);
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    note_given(lock);
    (void)pthread_cond_timedwait(cond, &lock->mutex, &until);
    note_taken(lock);
}

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/lock.h"
#include "base/workers.h"
#include "support/child.h"

static atomic_int done;

static void count(struct atd_work *work)
{
    (void)atomic_fetch_add(&done, 1);
    free(work);
}

Test(workers, run_everything_that_was_queued_before_they_stop)
{
    struct atd_workers *workers = NULL;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_workers_start("test", 4, &workers, &err), 0, "%s", err.text);
    for (int i = 0; i < 1000; i++) {
        struct atd_work *work = calloc(1, sizeof(*work));

        work->run = count;
        cr_assert_eq(atd_workers_submit(workers, work, &err), 0);
    }
    cr_assert(atd_workers_stop(workers, 10000));
    cr_assert_eq(atomic_load(&done), 1000);
    cr_assert(atd_workers_stop(NULL, 1));
}

static atomic_int gate;

static void wait_at_gate(struct atd_work *work)
{
    while (!atomic_load(&gate))
        (void)usleep(1000);
    free(work);
}

Test(workers, refuse_more_than_the_queue_holds)
{
    struct atd_workers *workers = NULL;
    struct atd_error err = ATD_ERROR_INIT;
    unsigned taken = 0;
    struct atd_work *work = NULL;

    cr_assert_eq(atd_workers_start("test", 1, &workers, &err), 0);
    for (unsigned i = 0; i < ATD_WORKERS_QUEUE_MAX + 2; i++) {
        work = calloc(1, sizeof(*work));
        work->run = wait_at_gate;
        if (atd_workers_submit(workers, work, &err) != 0)
            break;
        work = NULL;
        taken++;
    }
    cr_assert(taken >= ATD_WORKERS_QUEUE_MAX);
    cr_assert_not_null(work, "the queue has no end");
    cr_assert_eq(err.code, EBUSY);
    cr_assert(err.retryable);
    free(work);
    atomic_store(&gate, 1);
    cr_assert(atd_workers_stop(workers, 20000));
}

#ifdef ATD_PARANOID
static void take_in_wrong_order(void)
{
    struct atd_lock low;
    struct atd_lock high;

    atd_lock_init(&low, ATD_RANK_LIVE);
    atd_lock_init(&high, ATD_RANK_NODES);
    atd_lock_take(&low);
    atd_lock_take(&high);
    atd_lock_give(&high);
    atd_lock_give(&low);
    atd_lock_take(&high);
    atd_lock_take(&low);
}

/* Not Criterion's .signal: the library leaks what it notes of such a test, which LSan reports. */
Test(lock, wrong_order_is_caught)
{
    pid_t child = child_fork();

    if (child == 0) {
        take_in_wrong_order();
        _exit(0);
    }
    cr_assert_eq(child_join(child), -SIGABRT);
}
#endif

Test(clock, text_forms_of_time)
{
    static const struct {
        const char *text;
        bool valid;
        int64_t seconds;
    } cases[] = {
        {"1970-01-01 00:00:00", true, 0},
        {"2026-11-22 10:17:45", true, 1795342665},
        {"2026-11-22T10:17:45.886339+00:00", true, 1795342665},
        {"2026-11-22T10:17:45Z", true, 1795342665},
        {"2026-11-22T12:17:45+02:00", true, 1795342665},
        {"2026-11-22T10:17:45.5-00:30", true, 1795344465},
        {"2026-11-22", false, 0},
        {"2026-13-22 10:17:45", false, 0},
        {"2026-11-22 10:17:4x", false, 0},
        {"2026-11-22 10:17:45 and more", false, 0},
        {"", false, 0},
    };
    char text[ATD_CLOCK_TEXT_MAX];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t seconds = -1;

        cr_assert_eq(atd_clock_parse(atd_str_from(cases[i].text), &seconds), cases[i].valid, "%s",
                     cases[i].text);
        if (cases[i].valid)
            cr_assert_eq(seconds, cases[i].seconds, "%s: %ld", cases[i].text, (long)seconds);
    }
    atd_clock_format(1795342665, text);
    cr_assert_str_eq(text, "2026-11-22T10:17:45+00:00");
}

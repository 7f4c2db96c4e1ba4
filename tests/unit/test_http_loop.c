#include <criterion/criterion.h>
#include <stdatomic.h>

#include "net/http_loop.h"
#include "until.h"

static struct atd_http_engine *engine;
static struct atd_http_loop *loop;

static void open_scene(unsigned threads)
{
    struct atd_http_options options = {.threads = threads};
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(curl_global_init(CURL_GLOBAL_DEFAULT), CURLE_OK);
    cr_assert_eq(atd_http_start(&options, &engine, &err), 0, "%s", err.text);
    loop = atd_http_pick_loop(engine);
}

static void close_scene(void)
{
    cr_assert(atd_http_stop(engine, PATIENCE_MS));
    curl_global_cleanup();
}

enum { TIMERS = 200 };

struct clockwork {
    struct atd_http_task task;
    struct atd_http_timer timers[TIMERS];
    int64_t due_ms[TIMERS];
    int64_t last_due_ms;
    unsigned fired;
    unsigned wrong; /* too early, out of order, or disarmed */
    atomic_int ended;
};
static struct clockwork works;

static void on_tick(struct atd_http_timer *timer)
{
    size_t number = (size_t)(timer - works.timers);

    if (atd_clock_monotonic_ms() < works.due_ms[number] ||
        works.due_ms[number] < works.last_due_ms || number % 5 == 0)
        works.wrong++;
    works.last_due_ms = works.due_ms[number];
    if (++works.fired == TIMERS - TIMERS / 5)
        atomic_store(&works.ended, 1);
}

static void arm(size_t number, unsigned delay_ms)
{
    works.timers[number].fire = on_tick;
    cr_assert_eq(atd_http_timer_arm(loop, &works.timers[number], delay_ms, NULL), 0);
    works.due_ms[number] = works.timers[number].due_ms;
}

static void wind_up(struct atd_http_task *task)
{
    (void)task;
    for (size_t i = 0; i < TIMERS; i++)
        arm(i, (unsigned)(i * 7919 % 150));
    for (size_t i = 0; i < TIMERS; i += 5)
        atd_http_timer_disarm(loop, &works.timers[i]);
    for (size_t i = 1; i < TIMERS; i += 7) {
        if (i % 5 != 0)
            arm(i, (unsigned)(i * 104729 % 180)); /* moved */
    }
    atd_http_timer_disarm(loop, &works.timers[0]); /* not armed: fine */
}

Test(http_loop, timers_fire_in_their_order)
{
    open_scene(1);
    works.task.run = wind_up;
    atd_http_post(loop, &works.task);
    UNTIL(atomic_load(&works.ended));
    cr_assert_eq(works.wrong, 0);
    close_scene();
}

enum { TASKS = 1000 };
struct numbered {
    struct atd_http_task task;
    unsigned number;
};
static struct numbered numbered[TASKS];
static atomic_uint tasks_run;
static atomic_uint tasks_wrong;

static void count_task(struct atd_http_task *task)
{
    if (((struct numbered *)task)->number != atomic_fetch_add(&tasks_run, 1))
        (void)atomic_fetch_add(&tasks_wrong, 1);
}

Test(http_loop, tasks_run_in_the_order_of_posting)
{
    open_scene(1);
    for (unsigned i = 0; i < TASKS; i++) {
        numbered[i] = (struct numbered){.task = {.run = count_task}, .number = i};
        atd_http_post(loop, &numbered[i].task);
        if (i % 100 == 0)
            (void)usleep(1000);
    }
    UNTIL(atomic_load(&tasks_run) == TASKS);
    cr_assert_eq(atomic_load(&tasks_wrong), 0);
    close_scene();
}

static atomic_int unused_run;

static void count_unused(struct atd_http_task *task)
{
    (void)task;
    (void)atomic_fetch_add(&unused_run, 1);
}

Test(http_loop, loop_that_never_had_work_does_not_wake_up)
{
    struct atd_http_task task = {.run = count_unused};
    struct atd_http_loop *other;

    open_scene(2);
    other = atd_http_pick_loop(engine);
    cr_assert_neq(other, loop, "all go to one");
    (void)usleep(1000000);
    cr_assert_eq(atomic_load(&other->wakeups), 0);
    atd_http_post(other, &task);
    UNTIL(atomic_load(&unused_run) == 1);
    cr_assert_leq(atomic_load(&other->wakeups), 2);
    close_scene();
}

Test(http_loop, tasks_posted_before_stop_still_run)
{
    struct atd_http_task task = {.run = count_unused};

    open_scene(1);
    atd_http_post(loop, &task);
    cr_assert(atd_http_stop(engine, PATIENCE_MS));
    cr_assert_eq(atomic_load(&unused_run), 1);
    cr_assert(atd_http_stop(NULL, 1));
    curl_global_cleanup();
}

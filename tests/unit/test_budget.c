#include <criterion/criterion.h>

#include "cache/budget.h"
#include "cache/cursor.h"

#define MIB (1u << 20)

static struct atd_cache_stats stats;
static struct atd_budget *budget;
static int wakes;

static void wake(void *ctx)
{
    (void)ctx;
    wakes++;
}

/* 24 MiB: three parts, one of them for read-ahead. */
static void set_up(void)
{
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_budget_new(32 * MIB, &stats, wake, NULL, &budget, &err), 0);

    cr_assert_eq(atd_budget_limit_bytes(budget), 24 * MIB);
}

/* 25.5 MiB. */
static void set_up_more(void)
{
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_budget_new(34 * MIB, &stats, wake, NULL, &budget, &err), 0);
    cr_assert_eq(atd_budget_limit_bytes(budget), 51 * MIB / 2);
}

static void tear_down(void)
{
    atd_budget_free(budget);
    cr_assert_eq(atomic_load(&stats.memory_used_bytes), 0);
}

Test(budget, demand_may_take_all_and_ahead_half, .init = set_up_more, .fini = tear_down)
{
    struct atd_buffer *ahead = atd_budget_take(budget, 8 * MIB, true);
    struct atd_buffer *more;
    struct atd_buffer *demand[2];

    cr_assert_not_null(ahead);
    cr_assert_null(atd_budget_take(budget, 8 * MIB, true), "more than half");
    more = atd_budget_take(budget, 1 * MIB, true);
    cr_assert_not_null(more);
    demand[0] = atd_budget_take(budget, 8 * MIB, false);
    demand[1] = atd_budget_take(budget, 8 * MIB, false);
    cr_assert_not_null(demand[0]);
    cr_assert_not_null(demand[1]);
    cr_assert_null(atd_budget_take(budget, 8 * MIB, false));
    cr_assert_leq(atomic_load(&stats.memory_used_bytes), atd_budget_limit_bytes(budget));
    /* Wanted by somebody now: it counts as demand. */
    atd_budget_demand(budget, ahead);
    atd_budget_release(budget, demand[0], 0);
    demand[0] = atd_budget_take(budget, 8 * MIB, true);
    cr_assert_not_null(demand[0]);
    atd_budget_release(budget, demand[0], 0);
    atd_budget_release(budget, demand[1], 0);
    atd_budget_release(budget, ahead, 0);
    atd_budget_release(budget, more, 0);
}

Test(budget, kept_buffers_go_when_memory_is_wanted, .init = set_up, .fini = tear_down)
{
    struct atd_buffer *buffers[3];
    struct atd_buffer *ahead;
    struct atd_buffer *more;

    for (int i = 0; i < 2; i++) {
        buffers[i] = atd_budget_take(budget, 8 * MIB, false);
        memset(buffers[i]->bytes, i, 8 * MIB);
        atd_budget_keep(budget, buffers[i], 8 * MIB);
    }
    buffers[2] = atd_budget_take(budget, 4 * MIB, false);
    cr_assert_not_null(buffers[2]);
    /* Read-ahead does not push out what nobody has read; demand takes the least recently used. */
    cr_assert_null(atd_budget_take(budget, 8 * MIB, true));
    cr_assert(atd_budget_hold(budget, buffers[0]));
    atd_budget_unhold(budget, buffers[0], 0, 5 * MIB);
    ahead = atd_budget_take(budget, 8 * MIB, false);
    cr_assert_not_null(ahead);
    cr_assert(!atd_budget_hold(budget, buffers[1]), "the older one is gone");
    cr_assert_eq(atomic_load(&stats.wasted_bytes), 8 * MIB);
    cr_assert(atd_budget_hold(budget, buffers[0]));
    cr_assert_null(atd_budget_take(budget, 8 * MIB, false), "a held one stays");
    cr_assert_eq(buffers[0]->bytes[8 * MIB - 1], 0);
    atd_budget_unhold(budget, buffers[0], 0, 0);
    atd_budget_release(budget, ahead, 0);
    ahead = atd_budget_take(budget, 8 * MIB, false);
    atd_budget_pass(budget, buffers[0]);
    more = atd_budget_take(budget, 8 * MIB, true);
    cr_assert_not_null(more, "what was passed is free for read-ahead");
    cr_assert(!atd_budget_hold(budget, buffers[0]));
    cr_assert_eq(atomic_load(&stats.wasted_bytes), 11 * MIB);
    atd_budget_release(budget, ahead, 0);
    atd_budget_release(budget, more, 0);
    for (int i = 0; i < 3; i++)
        atd_budget_release(budget, buffers[i], MIB);
    cr_assert_eq(atomic_load(&stats.wasted_bytes), 12 * MIB);
}

static struct atd_buffer *granted[2];
static int grants;
static struct atd_budget_claim claims[2];

static void note(struct atd_budget_claim *claim, struct atd_buffer *buffer)
{
    granted[claim - claims] = buffer;
    grants++;
}

Test(budget, demand_waits_in_line, .init = set_up_more, .fini = tear_down)
{
    struct atd_buffer *first = atd_budget_take(budget, 8 * MIB, false);
    struct atd_buffer *second = atd_budget_take(budget, 8 * MIB, false);
    struct atd_buffer *third = atd_budget_take(budget, 8 * MIB, false);

    claims[0] = (struct atd_budget_claim){.size = 8 * MIB, .granted = note};
    claims[1] = (struct atd_budget_claim){.size = 1 * MIB, .granted = note};
    atd_budget_claim(budget, &claims[0]);
    atd_budget_claim(budget, &claims[1]);
    atd_budget_grant(budget);
    cr_assert_eq(grants, 0, "nobody passes the first in line");
    cr_assert_null(atd_budget_take(budget, 4096, false));
    wakes = 0;
    atd_budget_keep(budget, first, 0);
    cr_assert_eq(wakes, 1);
    atd_budget_grant(budget);
    cr_assert_eq(grants, 2);
    cr_assert_not_null(granted[0]);
    cr_assert_not_null(granted[1]);
    cr_assert(!atd_budget_withdraw(budget, &claims[0]));
    atd_budget_claim(budget, &claims[0]);
    cr_assert(atd_budget_withdraw(budget, &claims[0]));
    cr_assert(!atd_budget_withdraw(budget, &claims[0]));
    atd_budget_release(budget, first, 0);
    /* The owner lets go while somebody holds: the memory stays until then. */
    cr_assert(atd_budget_hold(budget, second));
    atd_budget_release(budget, second, 0);
    second->bytes[0] = 1;
    atd_budget_unhold(budget, second, 0, 1);
    atd_budget_release(budget, third, 0);
    atd_budget_release(budget, granted[0], 0);
    atd_budget_release(budget, granted[1], 0);
}

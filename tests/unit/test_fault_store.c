#include <criterion/criterion.h>
#include <errno.h>

#include "base/check.h"
#include "content.h"
#include "store/stores.h"
#include "store_get.h"

#define SIZE 1000000u

static struct atd_store *store;
static struct atd_error err;
static uint8_t source[SIZE];
static uint8_t into[SIZE];
static struct atd_fault_rule rule;

static struct atd_fault_rule decide(void *ctx, const struct atd_store_get *get)
{
    (void)ctx;
    (void)get;
    return rule;
}

static void set_up(void)
{
    struct atd_store *inner;

    cr_assert_eq(atd_store_memory_new(&inner, &err), 0);
    content_fill(1, 0, 0, source, SIZE);
    cr_assert_eq(
        atd_store_memory_put(inner, ATD_STR("mem://a"), (struct atd_bytes){source, SIZE}, &err), 0);
    cr_assert_eq(atd_store_fault_new(inner, decide, NULL, &store, &err), 0);
}

static void tear_down(void)
{
    atd_store_free(store);
}

Test(fault_store, each_fault_ends_as_it_says, .init = set_up, .fini = tear_down)
{
    static const struct {
        struct atd_fault_rule rule;
        int code;
        size_t received;
        bool retryable;
    } cases[] = {
        {{ATD_FAULT_NONE, 0}, 0, SIZE, false},
        {{ATD_FAULT_DELAY, 50}, 0, SIZE, false},
        {{ATD_FAULT_STALL, 0}, ETIMEDOUT, 0, true},
        {{ATD_FAULT_STALL, 70000}, ETIMEDOUT, 70000, true},
        {{ATD_FAULT_STALL, SIZE}, 0, SIZE, false},
        {{ATD_FAULT_SHORT, 0}, EIO, 0, true},
        {{ATD_FAULT_SHORT, 999999}, EIO, 999999, true},
        {{ATD_FAULT_RESET, 5}, ECONNRESET, 5, true},
        {{ATD_FAULT_RESET, SIZE + 5}, 0, SIZE, false},
        {{ATD_FAULT_UNAVAILABLE, 0}, EIO, 0, true},
        {{ATD_FAULT_FORBIDDEN, 0}, EACCES, 0, false},
        {{ATD_FAULT_WRONG_RANGE, 0}, EIO, 0, false},
        {{ATD_FAULT_CHANGED, 0}, ESTALE, 0, false},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        struct waited_get get;
        int64_t start = atd_clock_monotonic_ms();

        rule = cases[i].rule;
        memset(into, 0, SIZE);
        waited_start(&get, store, "mem://a", 0, SIZE, into, NULL);
        cr_assert(waited_ends(&get), "case %zu", i);
        cr_assert_eq(get.why.code, cases[i].code, "case %zu: %s", i, get.why.text);
        cr_assert_eq(get.why.retryable, cases[i].retryable, "case %zu", i);
        cr_assert_eq(atomic_load(&get.received), cases[i].received, "case %zu", i);
        cr_assert_eq(content_check(1, 0, 0, into, cases[i].received), cases[i].received);
        cr_assert(!get.within_start, "case %zu", i);
        if (rule.fault == ATD_FAULT_DELAY)
            cr_assert_geq(atd_clock_monotonic_ms() - start, 50);
        if (cases[i].code == ETIMEDOUT)
            cr_assert_geq(atd_clock_monotonic_ms() - start, 300);
    }
}

Test(fault_store, cancel_ends_waiting_and_stalled_gets, .init = set_up, .fini = tear_down)
{
    static const struct atd_fault_rule rules[] = {
        {ATD_FAULT_DELAY, 60000}, {ATD_FAULT_STALL, 0}, {ATD_FAULT_STALL, 65536}};

    for (size_t i = 0; i < ATD_ARRAY_LEN(rules); i++) {
        struct waited_get get;

        rule = rules[i];
        waited_start(&get, store, "mem://a", 0, SIZE, into, NULL);
        get.get.stall_timeout_ms = 60000;
        while (rule.fault == ATD_FAULT_STALL && atomic_load(&get.received) < rule.value)
            (void)usleep(500);
        atd_store_get_cancel(store, &get.get);
        cr_assert(waited_ends(&get), "case %zu", i);
        cr_assert_eq(get.why.code, ECANCELED, "case %zu: %s", i, get.why.text);
    }
}

#include <criterion/criterion.h>
#include <errno.h>

#include "store/refused.h"

#define COUNT 5

static struct atd_refused refused;
static struct atd_store_get gets[COUNT];
static unsigned told;

static void note_done(struct atd_store_get *get, const struct atd_error *why)
{
    cr_assert_eq(why->code, ENOMEM);
    told++;
    /* A cancel at this moment finds nothing of the store's. */
    cr_assert_null(atd_refused_impl(&refused, get));
}

Test(refused, everybody_is_told_once)
{
    const struct atd_error why = {ENOMEM, true, "out of memory"};
    struct atd_store_get started = {.impl = &told};

    atd_refused_init(&refused);
    for (unsigned i = 0; i < COUNT; i++) {
        gets[i] = (struct atd_store_get){.done = note_done};
        /* One thread is asked, and once. */
        cr_assert_eq(atd_refused_add(&refused, &gets[i]), i == 0);
    }
    for (unsigned i = 0; i < COUNT; i++)
        cr_assert_null(atd_refused_impl(&refused, &gets[i]));
    cr_assert_eq(atd_refused_impl(&refused, &started), &told);
    atd_refused_drain(&refused, &why);
    cr_assert_eq(told, COUNT);
    /* And again. */
    cr_assert(atd_refused_add(&refused, &gets[0]));
    atd_refused_drain(&refused, &why);
    cr_assert_eq(told, COUNT + 1);
    atd_refused_release(&refused);
}

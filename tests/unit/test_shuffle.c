#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#include "atdata/loader.h"
#include "dataset/shuffle.h"

#define ITEMS 200u

/* The order in which ITEMS items come out of a buffer of that size. */
static void draw_all(size_t size, uint64_t seed, unsigned *ret_order)
{
    static unsigned items[ITEMS];
    struct atd_shuffle shuffle;
    unsigned put = 0;
    unsigned drawn = 0;
    unsigned *item;

    cr_assert_eq(atd_shuffle_init(&shuffle, size, seed, NULL), 0);
    while (drawn < ITEMS) {
        while (put < ITEMS && !atd_shuffle_is_full(&shuffle)) {
            items[put] = put;
            atd_shuffle_put(&shuffle, &items[put++]);
        }
        item = atd_shuffle_draw(&shuffle);
        cr_assert_not_null(item);
        ret_order[drawn++] = *item;
    }
    cr_assert_null(atd_shuffle_draw(&shuffle));
    atd_shuffle_release(&shuffle);
}

Test(shuffle, each_item_once)
{
    for (size_t size = 0; size < 300; size += 37) {
        unsigned order[ITEMS];
        bool seen[ITEMS] = {false};

        draw_all(size, 5, order);
        for (unsigned i = 0; i < ITEMS; i++) {
            cr_assert(!seen[order[i]]);
            seen[order[i]] = true;
            /* Nothing comes before it could be in the buffer. */
            cr_assert_leq(order[i], i + (size ? size - 1 : 0));
        }
    }
}

Test(shuffle, without_a_buffer_in_order)
{
    unsigned order[ITEMS];

    draw_all(0, 9, order);
    for (unsigned i = 0; i < ITEMS; i++)
        cr_assert_eq(order[i], i);
}

Test(shuffle, the_seed_decides)
{
    unsigned a[ITEMS];
    unsigned b[ITEMS];

    draw_all(50, 1, a);
    draw_all(50, 1, b);
    cr_assert_arr_eq(a, b, sizeof(a));
    draw_all(50, 2, b);
    cr_assert_arr_neq(a, b, sizeof(a));
}

Test(shuffle, numbers_are_even)
{
    unsigned counts[7] = {0};
    struct atd_shuffle shuffle;

    cr_assert_eq(atd_shuffle_init(&shuffle, 1, 3, NULL), 0);
    for (unsigned i = 0; i < 70000; i++)
        counts[atd_shuffle_below(&shuffle, 7)]++;
    for (unsigned i = 0; i < 7; i++)
        cr_assert(counts[i] > 9500 && counts[i] < 10500, "%u", counts[i]);
    atd_shuffle_release(&shuffle);
}

Test(shuffle, too_large)
{
    struct atd_shuffle shuffle;

    cr_assert_eq(atd_shuffle_init(&shuffle, (size_t)ATD_SHUFFLE_MAX + 1, 0, NULL), -E2BIG);
}

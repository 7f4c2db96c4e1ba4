#include "index/redis_dirty.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static size_t add(struct atd_redis_dirty *dirty, unsigned number)
{
    char key[64];
    size_t place = SIZE_MAX;

    (void)snprintf(key, sizeof(key), "Label:%u@", number);
    cr_assert(atd_redis_dirty_add(dirty, atd_str_from(key), &place));
    return place;
}

Test(redis_dirty, each_key_once_in_the_order_of_coming)
{
    struct atd_redis_dirty dirty;
    size_t place;

    atd_redis_dirty_init(&dirty);
    for (int round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 3000; i++)
            cr_assert_eq(add(&dirty, i), i);
        for (unsigned i = 0; i < 3000; i += 7)
            cr_assert_eq(add(&dirty, i), i);
        cr_assert_eq(dirty.count, 3000);
        for (unsigned i = 0; i < 3000; i++) {
            char key[64];

            (void)snprintf(key, sizeof(key), "Label:%u@", i);
            cr_assert(atd_str_equal(atd_redis_dirty_at(&dirty, i), atd_str_from(key)));
        }
        atd_redis_dirty_clear(&dirty);
        cr_assert_eq(dirty.count, 0);
        /* Few: their memory is kept. */
        cr_assert_eq(add(&dirty, 2), 0);
        cr_assert(atd_redis_dirty_add(&dirty, ATD_STR(""), &place) && place == 1);
        cr_assert(atd_redis_dirty_add(&dirty, ATD_STR(""), &place) && place == 1);
        atd_redis_dirty_clear(&dirty);
    }
    atd_redis_dirty_release(&dirty);
}

Test(redis_dirty, it_is_bounded)
{
    struct atd_redis_dirty dirty;
    size_t large_len = 65536;
    char *large = calloc(1, large_len);
    size_t taken = 0;
    size_t place;

    atd_redis_dirty_init(&dirty);
    for (unsigned i = 0; i < ATD_REDIS_DIRTY_KEYS_MAX; i++)
        (void)add(&dirty, i);
    cr_assert_not(atd_redis_dirty_add(&dirty, ATD_STR("one more"), &place));
    cr_assert(atd_redis_dirty_add(&dirty, ATD_STR("Label:7@"), &place));
    atd_redis_dirty_clear(&dirty);
    cr_assert_not_null(large);
    for (unsigned i = 0; i < 1000; i++) {
        memcpy(large, &i, sizeof(i));
        if (!atd_redis_dirty_add(&dirty, (struct atd_str){large, large_len}, &place))
            break;
        taken++;
    }
    cr_assert_leq(taken, ATD_REDIS_DIRTY_BYTES_MAX / large_len);
    cr_assert_geq(taken, ATD_REDIS_DIRTY_BYTES_MAX / large_len / 2);
    /* It is of use again when it was emptied. */
    atd_redis_dirty_clear(&dirty);
    cr_assert_eq(add(&dirty, 1), 0);
    atd_redis_dirty_release(&dirty);
    free(large);
}

#include "index/redis_missing.h"

#include <stdio.h>

#include <criterion/criterion.h>

static struct atd_str key_of(unsigned number, char text[64])
{
    (void)snprintf(text, 64, "LocalDatasetEntry:%u", number);
    return atd_str_from(text);
}

Test(redis_missing, only_what_was_not_listed_comes_and_once)
{
    struct atd_redis_missing *missing = atd_redis_missing_new();
    struct atd_str key;
    char text[64];

    atd_redis_missing_listed(missing, key_of(1, text));
    atd_redis_missing_wanted(missing, ATD_STR("1"));
    atd_redis_missing_wanted(missing, ATD_STR("2"));
    atd_redis_missing_wanted(missing, ATD_STR("3"));
    atd_redis_missing_wanted(missing, ATD_STR("2"));
    atd_redis_missing_listed(missing, key_of(3, text)); /* after its label */
    cr_assert(atd_redis_missing_next(missing, &key));
    cr_assert(atd_str_equal(key, ATD_STR("LocalDatasetEntry:2")));
    cr_assert_not(atd_redis_missing_next(missing, &key));
    atd_redis_missing_free(missing);
}

Test(redis_missing, no_cid_is_that_long_or_empty)
{
    struct atd_redis_missing *missing = atd_redis_missing_new();
    char text[2 * ATD_REDIS_MISSING_KEY_MAX];
    struct atd_str key;

    memset(text, 'b', sizeof(text));
    atd_redis_missing_wanted(missing, (struct atd_str){text, sizeof(text)});
    atd_redis_missing_wanted(missing, ATD_STR(""));
    atd_redis_missing_wanted(missing, (struct atd_str){"a\0b", 3});
    cr_assert_not(atd_redis_missing_next(missing, &key));
    atd_redis_missing_free(missing);
    atd_redis_missing_free(NULL);
}

Test(redis_missing, many_are_told_apart_and_few_are_asked_for)
{
    struct atd_redis_missing *missing = atd_redis_missing_new();
    struct atd_str key;
    char text[64];
    unsigned given = 0;

    for (unsigned i = 0; i < 20000; i++) {
        if (i % 2)
            atd_redis_missing_listed(missing, key_of(i, text));
        (void)snprintf(text, sizeof(text), "%u", i);
        atd_redis_missing_wanted(missing, atd_str_from(text));
    }
    while (atd_redis_missing_next(missing, &key))
        given++;
    cr_assert_eq(given, ATD_REDIS_MISSING_MAX);
    atd_redis_missing_free(missing);
}

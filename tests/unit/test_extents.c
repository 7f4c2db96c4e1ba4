#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "publish/extents.h"

/* "0-10 20-30" */
static const char *shown(const struct atd_extents *extents)
{
    static char text[4096];
    size_t len = 0;

    text[0] = '\0';
    for (size_t i = 0; i < extents->count; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%llu-%llu", i ? " " : "",
                                (unsigned long long)extents->at[i].start,
                                (unsigned long long)extents->at[i].end);
    return text;
}

Test(extents, join_what_touches)
{
    static const struct {
        uint64_t start, end;
        const char *after;
    } steps[] = {
        {10, 20, "10-20"},
        {30, 40, "10-20 30-40"},
        {0, 5, "0-5 10-20 30-40"},
        {5, 10, "0-20 30-40"},
        {19, 31, "0-40"},
        {50, 60, "0-40 50-60"},
        {42, 45, "0-40 42-45 50-60"},
        {41, 100, "0-40 41-100"},
        {3, 4, "0-40 41-100"},
        {0, 101, "0-101"},
        {UINT64_MAX - 1, UINT64_MAX, "0-101 18446744073709551614-18446744073709551615"},
    };
    struct atd_extents extents = {.count = 0};

    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        atd_extents_add(&extents, steps[i].start, steps[i].end);
        cr_assert_str_eq(shown(&extents), steps[i].after, "step %zu: %s", i, shown(&extents));
    }
}

Test(extents, cut_and_overlap)
{
    struct atd_extents extents = {.count = 0};

    cr_assert_eq(atd_extents_ordered_end(&extents), 0);
    atd_extents_add(&extents, 10, 20);
    cr_assert_eq(atd_extents_ordered_end(&extents), 0);
    atd_extents_add(&extents, 0, 5);
    cr_assert_eq(atd_extents_ordered_end(&extents), 5);
    cr_assert(!atd_extents_overlap(&extents, 5, 10));
    cr_assert(atd_extents_overlap(&extents, 5, 11));
    cr_assert(atd_extents_overlap(&extents, 4, 6));
    cr_assert(atd_extents_overlap(&extents, 12, 13));
    cr_assert(!atd_extents_overlap(&extents, 20, UINT64_MAX));
    cr_assert(!atd_extents_overlap(&extents, UINT64_MAX, UINT64_MAX));
    cr_assert(!atd_extents_overlap(&extents, 7, 7));
    atd_extents_cut(&extents, 15);
    cr_assert_str_eq(shown(&extents), "0-5 10-15");
    atd_extents_cut(&extents, 10);
    cr_assert_str_eq(shown(&extents), "0-5");
    atd_extents_cut(&extents, 0);
    cr_assert_str_eq(shown(&extents), "");
}

Test(extents, forget_from_the_end_when_there_are_too_many)
{
    struct atd_extents extents = {.count = 0};

    for (uint64_t i = 0; i < ATD_EXTENTS_MAX + 100; i++)
        atd_extents_add(&extents, 10 * i, 10 * i + 5);
    cr_assert_eq(extents.count, ATD_EXTENTS_MAX);
    cr_assert_eq(extents.at[ATD_EXTENTS_MAX - 1].start, 10 * (ATD_EXTENTS_MAX - 1));
    atd_extents_add(&extents, 7, 8); /* in front: the last one goes */
    cr_assert_eq(extents.count, ATD_EXTENTS_MAX);
    cr_assert_eq(extents.at[ATD_EXTENTS_MAX - 1].start, 10 * (ATD_EXTENTS_MAX - 2));
    cr_assert_eq(atd_extents_ordered_end(&extents), 5);
    atd_extents_add(&extents, 5, 1000); /* joins many */
    cr_assert_eq(atd_extents_ordered_end(&extents), 1005);
}

Test(extents, are_those_of_a_map_of_bytes)
{
    enum { SIZE = 200 };
    struct atd_extents extents = {.count = 0};
    bool map[SIZE] = {false};
    uint64_t state = 5;

    for (int round = 0; round < 20000; round++) {
        uint64_t start, end, ordered = 0;
        bool overlaps = false;

        state = state * 6364136223846793005u + 1442695040888963407u;
        start = (state >> 33) % SIZE;
        end = start + 1 + (state >> 45) % (SIZE - start);
        for (uint64_t i = start; i < end; i++)
            overlaps = overlaps || map[i];
        cr_assert_eq(atd_extents_overlap(&extents, start, end), overlaps);
        if (state >> 62 == 0) {
            atd_extents_cut(&extents, start);
            memset(map + start, 0, SIZE - start);
        } else if (end - start < 20) {
            atd_extents_add(&extents, start, end);
            memset(map + start, 1, end - start);
        }
        while (ordered < SIZE && map[ordered])
            ordered++;
        cr_assert_eq(atd_extents_ordered_end(&extents), ordered);
        for (size_t i = 0; i < extents.count; i++)
            for (uint64_t at = extents.at[i].start; at < extents.at[i].end; at++)
                cr_assert(map[at]);
    }
}

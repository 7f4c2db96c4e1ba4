#include <criterion/criterion.h>

#include "cache/cache_dir.h"
#include "cache/cursor.h"
#include "content.h"

#define MIB (1ULL << 20)
#define KIB (1ULL << 10)
#define OBJECT (1024 * MIB)
#define WINDOW_MAX (32 * MIB)

static struct atd_cursors cursors;

/* Plans and checks what holds for every plan. */
static struct atd_fetch_plan plan_of(uint64_t offset, size_t size, uint64_t object, bool waited)
{
    struct atd_fetch_plan plan =
        atd_cursors_plan(&cursors, offset, size, object, WINDOW_MAX, waited);

    cr_assert_leq(plan.demand_first, offset);
    cr_assert_geq(plan.demand_end, offset + size);
    cr_assert_leq(plan.demand_end, object);
    cr_assert_geq(plan.ahead_end, plan.demand_end);
    cr_assert_leq(plan.ahead_end, object);
    cr_assert_leq(plan.ahead_end - plan.demand_first, WINDOW_MAX + ATD_PART_BYTES + 2 * MIB);
    cr_assert_leq(cursors.count, ATD_CURSORS_MAX);
    return plan;
}

Test(cursor, first_read_takes_one_mebibyte)
{
    struct atd_fetch_plan plan = plan_of(500 * MIB + 100, 100 * KIB, OBJECT, true);

    cr_assert_eq(plan.demand_first, 500 * MIB);
    cr_assert_eq(plan.demand_end, 501 * MIB);
    cr_assert_eq(plan.ahead_end, plan.demand_end);
}

Test(cursor, sequential_reads_open_the_window)
{
    struct atd_fetch_plan plan = plan_of(0, 128 * KIB, OBJECT, true);

    cr_assert_eq(plan.demand_end, MIB);
    plan = plan_of(128 * KIB, 128 * KIB, OBJECT, false);
    cr_assert_eq(plan.cursor->window_bytes, 8 * MIB);
    cr_assert_eq(plan.ahead_end, 16 * MIB, "the part in which the window ends");
    plan = plan_of(MIB, 128 * KIB, OBJECT, true);
    cr_assert_eq(plan.demand_first, 256 * KIB, "no gap is left");
    cr_assert_eq(plan.demand_end, 8 * MIB);
    cr_assert_eq(plan.cursor->window_bytes, 16 * MIB);
    plan = plan_of(MIB + 128 * KIB, 128 * KIB, OBJECT, true);
    plan = plan_of(MIB + 256 * KIB, 128 * KIB, OBJECT, true);
    cr_assert_eq(plan.cursor->window_bytes, WINDOW_MAX, "never more than is allowed");
    plan = plan_of(MIB + 384 * KIB, 128 * KIB, OBJECT, false);
    cr_assert_eq(plan.ahead_end, 40 * MIB);
    plan = atd_cursors_plan(&cursors, MIB + 512 * KIB, 128 * KIB, OBJECT, 0, true);
    cr_assert_eq(plan.ahead_end, plan.demand_end, "no memory, nothing ahead");
    cr_assert_leq(plan.demand_end - plan.demand_first, MIB);
    cr_assert_eq(cursors.count, 1);
}

Test(cursor, hops_of_tar_stay_one_stream)
{
    uint64_t offset = 0;
    uint64_t fetched = 0;

    for (int i = 0; i < 5000; i++) {
        struct atd_fetch_plan plan = plan_of(offset, 512, OBJECT, true);

        cr_assert_leq(plan.demand_first, fetched > offset ? offset : fetched + 64 * KIB);
        if (plan.ahead_end > fetched)
            fetched = plan.ahead_end;
        offset += 512 + 100 * KIB;
    }
    cr_assert_eq(cursors.count, 1);
    cr_assert_eq(cursors.lone_seeks, 0);
    cr_assert_gt(fetched, offset);
}

/* Listing a tar of large members after its first ones were read. */
Test(cursor, wide_hops_end_a_stream)
{
    const uint64_t object = (uint64_t)4 << 30;
    struct atd_fetch_plan plan = {0};
    uint64_t at = 0;
    uint64_t wanted = 0;

    for (; at < 4 * MIB; at += MIB)
        (void)atd_cursors_plan(&cursors, at, MIB, object, 64 * MIB, true);
    for (int i = 0; i < 100; i++) {
        at += 10 * MIB;
        plan = atd_cursors_plan(&cursors, at, 16384, object, 64 * MIB, true);
        cr_assert(plan.demand_first <= at && plan.demand_end >= at + 16384);
        wanted += plan.ahead_end - plan.demand_first;
    }
    cr_assert_leq(plan.ahead_end - plan.demand_first, 65536 * 2);
    cr_assert_leq(wanted, 64 * MIB, "%lu", (unsigned long)wanted);
    /* One wide hop is none: the stream goes on. */
    cursors = (struct atd_cursors){0};
    for (at = 0; at < 4 * MIB; at += MIB)
        (void)atd_cursors_plan(&cursors, at, MIB, object, 64 * MIB, true);
    (void)atd_cursors_plan(&cursors, at + 5 * MIB, MIB, object, 64 * MIB, true);
    plan = atd_cursors_plan(&cursors, at + 6 * MIB, MIB, object, 64 * MIB, true);
    cr_assert_gt(plan.ahead_end, plan.demand_end);
}

Test(cursor, backward_reads_take_what_comes_next)
{
    uint64_t offset = 100 * MIB;
    struct atd_fetch_plan plan = plan_of(offset, 128 * KIB, OBJECT, true);

    for (int i = 0; i < 200; i++) {
        offset -= 128 * KIB;
        plan = plan_of(offset, 128 * KIB, OBJECT, true);
        cr_assert_eq(plan.demand_end, offset + 128 * KIB);
        cr_assert_eq(plan.demand_first, plan.demand_end - MIB);
        cr_assert_eq(plan.ahead_end, plan.demand_end);
    }
    cr_assert_eq(cursors.count, 1);
    plan = plan_of(100 * KIB, 10, OBJECT, true);
    plan = plan_of(50 * KIB, 10, OBJECT, true);
    cr_assert_eq(plan.demand_first, 0);
}

Test(cursor, random_reads_become_exact)
{
    uint64_t state = 42;

    for (int i = 0; i < 1000; i++) {
        uint64_t offset = (uint64_t)i * 37 % 24 * 40 * MIB + content_random(&state) % MIB;
        struct atd_fetch_plan plan = plan_of(offset, 150001, OBJECT, true);

        cr_assert_eq(plan.ahead_end, plan.demand_end);
        if (i < 2) {
            cr_assert_eq(plan.demand_end - plan.demand_first, MIB);
        } else {
            cr_assert_eq(plan.demand_first, offset);
            cr_assert_eq(plan.demand_end, offset + 150001);
        }
    }
    /* Small ones: whole blocks. A record in pieces: still exact; a stream: its window again. */
    struct atd_fetch_plan plan = plan_of(OBJECT - 50 * MIB + 1, 1000, OBJECT, true);

    cr_assert_eq(plan.demand_first, OBJECT - 50 * MIB);
    cr_assert_eq(plan.demand_end, OBJECT - 50 * MIB + 64 * KIB);
    for (uint64_t done = 1001; done < ATD_EXACT_RUN_BYTES - 100 * KIB; done += 100 * KIB) {
        plan = plan_of(OBJECT - 50 * MIB + done, 100 * KIB, OBJECT, true);
        cr_assert_eq(plan.demand_end - plan.demand_first, 100 * KIB);
    }
    plan = plan_of(OBJECT - 50 * MIB + 512 * KIB, 100 * KIB, OBJECT, true);
    cr_assert_eq(plan.cursor->window_bytes, 8 * MIB);
    cr_assert_eq(cursors.lone_seeks, 0);
}

/* As the kernel reads a sample that is longer than its read-ahead. */
Test(cursor, random_records_in_pieces_become_exact)
{
    for (uint64_t i = 0; i < 100; i++) {
        uint64_t offset = i * 37 % 24 * 40 * MIB + i * 4096;

        for (uint64_t done = 0; done < 384 * KIB; done += 128 * KIB) {
            struct atd_fetch_plan plan = plan_of(offset + done, 128 * KIB, OBJECT, true);

            if (i < 2)
                continue; /* until then it may be a stream */
            cr_assert_eq(plan.demand_end - plan.demand_first, 128 * KIB, "record %d", (int)i);
            cr_assert_eq(plan.ahead_end, plan.demand_end);
        }
    }
}

Test(cursor, eight_interleaved_streams)
{
    for (uint64_t step = 0; step < 64; step++) {
        for (uint64_t stream = 0; stream < 8; stream++) {
            struct atd_fetch_plan plan =
                plan_of(stream * 100 * MIB + step * 128 * KIB, 128 * KIB, OBJECT, true);

            if (step > 8)
                cr_assert_gt(plan.cursor->window_bytes, 0);
        }
    }
    cr_assert_eq(cursors.count, 8);
    (void)plan_of(900 * MIB, 1, OBJECT, true);
    cr_assert_eq(cursors.count, 8, "the oldest gives way");
    cr_assert_eq(cursors.slots[0].position, 900 * MIB + 1);
}

Test(cursor, ends_of_objects)
{
    struct atd_fetch_plan plan = plan_of(0, 1, 1, true);

    cr_assert_eq(plan.demand_end, 1);
    cr_assert_eq(plan_of(0, 1, 1, true).ahead_end, 1);
    cursors = (struct atd_cursors){0};
    plan = plan_of(9 * MIB + 4, 1, 9 * MIB + 5, true);
    cr_assert_eq(plan.demand_first, 9 * MIB);
    cr_assert_eq(plan.demand_end, 9 * MIB + 5);
    cursors = (struct atd_cursors){0};
    (void)plan_of(0, MIB, 9 * MIB + 5, true);
    plan = plan_of(MIB, MIB, 9 * MIB + 5, true);
    cr_assert_eq(plan.demand_end, 8 * MIB);
    cr_assert_eq(plan.ahead_end, 9 * MIB + 5);
    /* No overflow near the end of what 64 bits hold. */
    cursors = (struct atd_cursors){0};
    (void)atd_cursors_plan(&cursors, UINT64_MAX - 2 * MIB, MIB, UINT64_MAX, WINDOW_MAX, true);
    plan = atd_cursors_plan(&cursors, UINT64_MAX - MIB, MIB, UINT64_MAX, WINDOW_MAX, true);
    cr_assert_eq(plan.ahead_end, UINT64_MAX);
}

Test(cursor, random_positions_keep_the_promises)
{
    uint64_t state = 7;

    for (int i = 0; i < 200000; i++) {
        uint64_t object = 1 + content_random(&state) % (64 * MIB);
        uint64_t offset = content_random(&state) % object;
        uint64_t size = 1 + content_random(&state) % MIB;

        if (offset + size > object)
            size = object - offset;
        (void)plan_of(offset, size, object, content_random(&state) % 2);
        if (i % 50 == 0)
            cursors = (struct atd_cursors){0};
    }
}

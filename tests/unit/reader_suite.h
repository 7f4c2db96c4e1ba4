/*
 * What the suites of the reader begin and end with.
 */
#ifndef ATD_TESTS_READER_SUITE_H
#define ATD_TESTS_READER_SUITE_H

#include <criterion/criterion.h>
#include <errno.h>

#include "base/check.h"
#include "reader_rig.h"

static struct rig rig;
static struct atd_reader_handle *handle;

static inline void start(bool with_dir)
{
    cr_assert_eq(rig_start(&rig, with_dir), 0);
}

static inline void start_without(void)
{
    start(false);
}

static inline void start_with(void)
{
    start(true);
}

static inline void stop(void)
{
    cr_assert(rig_stop(&rig), "a thread hangs");
    cr_assert_eq(atomic_load(&rig.stats.memory_used_bytes), 0);
    cr_assert_eq(atomic_load(&rig.stats.waiters), 0);
    cr_assert_eq(atomic_load(&rig.stats.flights_under_way), 0);
    cr_assert_eq(atomic_load(&rig.stats.open_objects), 0);
}

static inline uint64_t gets(void)
{
    uint64_t count;
    uint64_t bytes;

    atd_store_memory_counts(rig.memory, &count, &bytes);
    return count;
}

static inline uint64_t asked(void)
{
    uint64_t count;
    uint64_t bytes;

    atd_store_memory_counts(rig.memory, &count, &bytes);
    return bytes;
}

#endif

#include "reader_suite.h"

/* ------------------------------------------------------------------ faults */

static struct atd_fault_rule scripted;

#define SEEN_MAX 4096
static uint64_t seen_first[SEEN_MAX];
static uint64_t seen_end[SEEN_MAX];
static atomic_int seen_count;

static struct atd_fault_rule decide_scripted(void *ctx, const struct atd_store_get *get)
{
    int i = atomic_fetch_add(&seen_count, 1) % SEEN_MAX;
    uint64_t size = get->end - get->first;

    (void)ctx;
    seen_first[i] = get->first;
    seen_end[i] =
        get->first +
        (scripted.fault == ATD_FAULT_SHORT && scripted.value < size ? scripted.value : size);
    return scripted;
}

/* No byte was delivered by two gets. */
static bool were_disjoint(void)
{
    for (int i = 0; i < atomic_load(&seen_count); i++) {
        for (int j = 0; j < i; j++) {
            if (seen_first[i] < seen_end[j] && seen_first[j] < seen_end[i])
                return false;
        }
    }
    return true;
}

static void start_scripted(void)
{
    rig.decide = decide_scripted;
    rig.timeout_ms = 600;
    start(false);
    cr_assert_eq(rig_put(&rig, 0, 0, 64 * MIB), 0);
    cr_assert_eq(rig_open(&rig, 0, NULL, &handle), 0);
}

Test(reader_faults, stalls_end_in_time, .init = start_scripted, .fini = stop)
{
    int64_t begin = atd_clock_monotonic_ms();
    struct rig_read reads[20];

    scripted = (struct atd_fault_rule){ATD_FAULT_STALL, 1000};
    for (int i = 0; i < 20; i++)
        rig_read_start(&reads[i], handle, 0, 0, (uint64_t)i * 3 * MIB + 90000, 64 * KIB);
    for (int i = 0; i < 20; i++) {
        cr_assert_eq(rig_read_wait(&reads[i]), ETIMEDOUT);
        cr_assert(reads[i].text[0] != '\0');
    }
    cr_assert_geq(atd_clock_monotonic_ms() - begin, 600);
    cr_assert_leq(atd_clock_monotonic_ms() - begin, 10000);
    scripted = (struct atd_fault_rule){ATD_FAULT_NONE, 0};
    cr_assert_eq(rig_read(handle, 0, 0, 0, MIB), 0, "all is well again");
    atd_reader_close(handle);
}

/* A store that never answers, not even with its own deadline: ours tells. */
Test(reader_faults, silent_store_cannot_hold_a_reader, .init = start_scripted, .fini = stop)
{
    struct rig_read read;

    scripted = (struct atd_fault_rule){ATD_FAULT_DELAY, 3000};
    rig_read_start(&read, handle, 0, 0, 0, 10);
    cr_assert_eq(rig_read_wait(&read), ETIMEDOUT);
    cr_assert(strstr(read.text, "mem://b/0000.tar") && strstr(read.text, "0.6 seconds"), "%s",
              read.text);
    cr_assert_eq(atomic_load(&rig.stats.deadlines), 1);
    atd_reader_close(handle);
}

/* Who comes late to a get that stalls does not share its end. */
Test(reader_faults, late_comers_get_their_own_time, .fini = stop)
{
    struct rig_read first;
    struct rig_read second;

    rig.decide = decide_scripted;
    rig.timeout_ms = 2000;
    start(false);
    cr_assert_eq(rig_put(&rig, 0, 0, 64 * MIB), 0);
    cr_assert_eq(rig_open(&rig, 0, NULL, &handle), 0);
    scripted = (struct atd_fault_rule){ATD_FAULT_STALL, 0};
    rig_read_start(&first, handle, 0, 0, 0, 100);
    (void)usleep(1400 * 1000);
    scripted = (struct atd_fault_rule){ATD_FAULT_NONE, 0};
    rig_read_start(&second, handle, 0, 0, 200, 100);
    cr_assert_eq(rig_read_wait(&first), ETIMEDOUT);
    cr_assert_eq(rig_read_wait(&second), 0, "%s", second.text);
    atd_reader_close(handle);
}

/* A read waits for one flight and has the rest in memory, which is then taken away: when the
 * flight lands, nothing else would wake the read. */
Test(reader_faults, what_a_waiter_has_may_go_away, .fini = stop)
{
    struct atd_reader_handle *other;
    struct rig_read waiter;
    struct rig_read elsewhere;
    uint64_t before;

    rig.decide = decide_scripted;
    rig.timeout_ms = 10000;
    rig.memory_bytes = 32 * MIB;
    start(false);
    cr_assert_eq(rig_put(&rig, 0, 0, 64 * MIB), 0);
    cr_assert_eq(rig_put(&rig, 1, 0, 64 * MIB), 0);
    cr_assert_eq(rig_open(&rig, 0, NULL, &handle), 0);
    cr_assert_eq(rig_open(&rig, 1, NULL, &other), 0);
    cr_assert_eq(rig_read(handle, 0, 0, 0, 64 * KIB), 0);
    cr_assert(RIG_EVENTUALLY(atomic_load(&rig.stats.flights_under_way) == 0));
    scripted = (struct atd_fault_rule){ATD_FAULT_DELAY, 1500};
    rig_read_start(&waiter, handle, 0, 0, MIB - 64 * KIB, 128 * KIB);
    scripted = (struct atd_fault_rule){ATD_FAULT_NONE, 0};
    before = atomic_load(&rig.stats.wasted_bytes);
    cr_assert_eq(rig_read(other, 1, 0, 0, MIB), 0);
    cr_assert_eq(rig_read(other, 1, 0, MIB, MIB), 0);
    cr_assert_gt(atomic_load(&rig.stats.wasted_bytes), before, "the first block's memory went");
    rig_read_start(&elsewhere, handle, 0, 0, 50 * MIB, 100);
    cr_assert(!atomic_load(&waiter.ended));
    cr_assert_eq(rig_read_wait(&waiter), 0, "%s", waiter.text);
    cr_assert_eq(rig_read_wait(&elsewhere), 0);
    atd_reader_close(handle);
    atd_reader_close(other);
}

Test(reader_faults, errors_reach_the_reader, .init = start_scripted, .fini = stop)
{
    static const struct {
        enum atd_fault fault;
        int code;
    } cases[] = {{ATD_FAULT_FORBIDDEN, EACCES},
                 {ATD_FAULT_UNAVAILABLE, EIO},
                 {ATD_FAULT_WRONG_RANGE, EIO},
                 {ATD_FAULT_RESET, ECONNRESET},
                 {ATD_FAULT_CHANGED, ESTALE}};
    struct atd_reader_handle *anew;

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        scripted = (struct atd_fault_rule){cases[i].fault, 0};
        cr_assert_eq(rig_read(handle, 0, 0, 40 * MIB, 10), cases[i].code, "case %zu", i);
    }
    scripted = (struct atd_fault_rule){ATD_FAULT_NONE, 0};
    cr_assert_eq(rig_read(handle, 0, 0, 0, 10), ESTALE, "stale is for good");
    /* But not for who opens that version anew, the old handle open or not. */
    cr_assert_eq(rig_open(&rig, 0, NULL, &anew), 0);
    cr_assert_eq(rig_read(anew, 0, 0, 0, 10), 0);
    cr_assert_eq(rig_read(handle, 0, 0, 0, 10), ESTALE);
    atd_reader_close(anew);
    atd_reader_close(handle);
}

Test(reader_faults, short_bodies_lose_nothing, .init = start_scripted, .fini = stop)
{
    /* Every get ends after 300,000 bytes: what came stays, and each read has one more try. */
    scripted = (struct atd_fault_rule){ATD_FAULT_SHORT, 300000};
    for (uint64_t at = 0; at < 4 * MIB; at += 128 * KIB)
        cr_assert_eq(rig_read(handle, 0, 0, at, 128 * KIB), 0, "at %lu", (unsigned long)at);
    cr_assert(RIG_EVENTUALLY(atomic_load(&rig.stats.flights_under_way) == 0));
    cr_assert_eq(atomic_load(&rig.stats.fetched_bytes), asked());
    cr_assert_leq(atomic_load(&seen_count), SEEN_MAX);
    cr_assert(were_disjoint(), "none twice");
    atd_reader_close(handle);
}

Test(reader_faults, close_cancels_what_nobody_wants, .init = start_scripted, .fini = stop)
{
    scripted = (struct atd_fault_rule){ATD_FAULT_NONE, 0};
    cr_assert_eq(rig_read(handle, 0, 0, 0, 512 * KIB), 0);
    cr_assert(RIG_EVENTUALLY(atomic_load(&rig.stats.fetched_bytes) == MIB));
    scripted = (struct atd_fault_rule){ATD_FAULT_DELAY, 60000};
    cr_assert_eq(rig_read(handle, 0, 0, 512 * KIB, 512 * KIB), 0, "a hit, which reads ahead");
    cr_assert_gt(atomic_load(&rig.stats.flights_under_way), 0);
    atd_reader_close(handle);
    cr_assert(RIG_EVENTUALLY(atomic_load(&rig.stats.flights_under_way) == 0));
    cr_assert_gt(atomic_load(&rig.stats.flights_canceled), 0);
    cr_assert(RIG_EVENTUALLY(atomic_load(&rig.stats.open_objects) == 0));
}

Test(reader_faults, stop_fails_waiters, .init = start_scripted)
{
    struct rig_read reads[5];

    scripted = (struct atd_fault_rule){ATD_FAULT_DELAY, 60000};
    for (int i = 0; i < 5; i++)
        rig_read_start(&reads[i], handle, 0, 0, (uint64_t)i * 10 * MIB, MIB);
    cr_assert(atd_reader_stop(rig.reader));
    for (int i = 0; i < 5; i++)
        cr_assert_eq(rig_read_wait(&reads[i]), ECANCELED);
    cr_assert_eq(rig_read(handle, 0, 0, 0, 1), ECANCELED);
    atd_reader_close(handle);
    atd_reader_free(rig.reader);
    atd_store_free(rig.store);
}

static void replaced(void)
{
    struct atd_reader_handle *second;

    cr_assert_eq(rig_put(&rig, 0, 0, 32 * MIB), 0);
    cr_assert_eq(rig_open(&rig, 0, NULL, &handle), 0);
    cr_assert_eq(rig_read(handle, 0, 0, 0, MIB), 0);
    cr_assert_eq(rig_put(&rig, 0, 1, 32 * MIB), 0);
    cr_assert_eq(rig_read(handle, 0, 0, 20 * MIB, MIB), ESTALE);
    cr_assert_eq(rig_read(handle, 0, 0, 0, MIB), ESTALE);
    cr_assert_gt(atomic_load(&rig.stats.stale_reads), 0);
    cr_assert_eq(rig_open(&rig, 0, NULL, &second), 0);
    cr_assert_eq(rig_read(second, 0, 1, 0, MIB), 0, "the new version is another object");
    cr_assert_eq(rig_read(second, 0, 1, 20 * MIB, MIB), 0);
    atd_reader_close(second);
    atd_reader_close(handle);
}

/* Put back, an object is what it was: a handle that met another in between does not spoil it. */
Test(reader_faults, object_put_back_is_read_again, .init = start_scripted, .fini = stop)
{
    struct atd_reader_handle *again;

    scripted = (struct atd_fault_rule){ATD_FAULT_CHANGED, 0};
    cr_assert_eq(rig_read(handle, 0, 0, 0, 4096), ESTALE);
    scripted = (struct atd_fault_rule){ATD_FAULT_NONE, 0};
    cr_assert_eq(rig_open(&rig, 0, NULL, &again), 0);
    cr_assert_eq(rig_read(again, 0, 0, 0, 4096), 0);
    cr_assert_eq(rig_read(handle, 0, 0, 0, 4096), ESTALE, "for who met it: for good");
    atd_reader_close(handle);
    atd_reader_close(again);
}

Test(reader_faults, replaced_object_is_stale, .init = start_without, .fini = stop)
{
    replaced();
}

Test(reader_faults, replaced_object_is_stale_with_disk, .init = start_with, .fini = stop)
{
    replaced();
}

/* ------------------------------------------------------------------ storms */

#define STORM_OBJECTS 20u
#define STORM_THREADS 8
#define STORM_READS 1250

static atomic_uint_fast64_t storm_gets;
static atomic_int storm_codes[200];
static bool storm_faults;

static struct atd_fault_rule decide_storm(void *ctx, const struct atd_store_get *get)
{
    static const enum atd_fault faults[] = {
        ATD_FAULT_DELAY,     ATD_FAULT_SHORT,       ATD_FAULT_RESET, ATD_FAULT_UNAVAILABLE,
        ATD_FAULT_FORBIDDEN, ATD_FAULT_WRONG_RANGE, ATD_FAULT_STALL};
    uint64_t state = atomic_fetch_add(&storm_gets, 1) * 0x9e3779b97f4a7c15ULL + 12345;
    uint64_t random = content_random(&state);

    (void)ctx;
    if (!storm_faults || random % 10 != 0)
        return (struct atd_fault_rule){ATD_FAULT_NONE, 0};
    random = content_random(&state);
    if (faults[random % ATD_ARRAY_LEN(faults)] == ATD_FAULT_DELAY)
        return (struct atd_fault_rule){ATD_FAULT_DELAY, random / 7 % 20};
    return (struct atd_fault_rule){faults[random % ATD_ARRAY_LEN(faults)],
                                   random / 7 % (get->end - get->first + 100)};
}

static uint64_t storm_size(unsigned object)
{
    return (object + 1) * 700001ULL;
}

static void *storm(void *ctx)
{
    uint64_t state = 77 + *(unsigned *)ctx * 1000003ULL;
    struct atd_reader_handle *handles[STORM_OBJECTS] = {NULL};
    void *failed = NULL;

    for (int i = 0; i < STORM_READS && !failed; i++) {
        unsigned object = (unsigned)(content_random(&state) % STORM_OBJECTS);
        uint64_t offset = content_random(&state) % storm_size(object);
        uint64_t size = 1 + content_random(&state) % (i % 3 ? 20000 : MIB);
        int code;

        if (offset + size > storm_size(object))
            size = storm_size(object) - offset;
        if (!handles[object] && rig_open(&rig, object, NULL, &handles[object]) != 0) {
            failed = &rig;
            break;
        }
        code = rig_read(handles[object], object, 0, offset, size);
        if (code < 0 || code >= 200)
            failed = &rig;
        else
            atomic_fetch_add(&storm_codes[code], 1);
        if (content_random(&state) % 20 == 0) {
            atd_reader_close(handles[object]);
            handles[object] = NULL;
        }
    }
    for (unsigned i = 0; i < STORM_OBJECTS; i++) {
        if (handles[i])
            atd_reader_close(handles[i]);
    }
    return failed;
}

static void run_storm(void)
{
    pthread_t threads[STORM_THREADS];
    unsigned numbers[STORM_THREADS];
    atomic_bool over_limit = false;
    int others = 0;

    for (unsigned i = 0; i < STORM_OBJECTS; i++)
        cr_assert_eq(rig_put(&rig, i, 0, storm_size(i)), 0);
    for (unsigned i = 0; i < STORM_THREADS; i++) {
        numbers[i] = i;
        cr_assert_eq(pthread_create(&threads[i], NULL, storm, &numbers[i]), 0);
    }
    for (int i = 0; i < 200; i++) {
        if (atomic_load(&rig.stats.memory_used_bytes) > atomic_load(&rig.stats.memory_limit_bytes))
            over_limit = true;
        (void)usleep(1000);
    }
    for (int i = 0; i < STORM_THREADS; i++) {
        void *failed;

        (void)pthread_join(threads[i], &failed);
        cr_assert_null(failed, "wrong bytes or a hang");
    }
    cr_assert(!over_limit);
    for (int i = 0; i < 200; i++) {
        if (i != 0 && i != EIO && i != ESTALE && i != ETIMEDOUT && i != EACCES && i != ECONNRESET)
            others = atomic_load(&storm_codes[i]) ? i : others;
    }
    cr_assert_eq(others, 0, "%s", strerror(others));
    cr_assert_gt(atomic_load(&storm_codes[0]), STORM_READS * STORM_THREADS * 8 / 10);
}

Test(reader_faults, storm_with_faults_in_memory, .fini = stop)
{
    rig.decide = decide_storm;
    rig.timeout_ms = 500;
    rig.memory_bytes = 32 * MIB;
    storm_faults = true;
    start(false);
    run_storm();
    cr_assert_gt(atomic_load(&rig.stats.flights_failed), 20);
}

Test(reader_faults, storm_with_faults_on_disk, .fini = stop)
{
    rig.decide = decide_storm;
    rig.timeout_ms = 500;
    rig.memory_bytes = 32 * MIB;
    storm_faults = true;
    start(true);
    run_storm();
    cr_assert_gt(atomic_load(&rig.stats.blocks_written), 0);
}

Test(reader_faults, storm_in_a_small_cache, .fini = stop)
{
    rig.decide = decide_storm;
    rig.memory_bytes = 32 * MIB;
    rig.cache_bytes = 16 * MIB;
    start(true);
    run_storm();
    cr_assert_eq(atomic_load(&storm_codes[0]), STORM_READS * STORM_THREADS);
}

/* The object is replaced again and again under its readers: each handle gives the bytes of the
 * version it was opened with, or ESTALE. */
static void *read_versions(void *ctx)
{
    uint64_t state = 5 + *(unsigned *)ctx * 77777ULL;

    for (int i = 0; i < 60; i++) {
        struct atd_reader_handle *mine = NULL;
        unsigned version;
        bool stale = false;

        /* The size tells the version, so that info and version belong together. */
        struct atd_object_info info;

        if (atd_store_stat(rig.memory, ATD_STR("mem://b/0000.tar"), 1000, &info, NULL) != 0)
            return &rig;
        version = (unsigned)(info.size_bytes - 400 * MIB);
        struct atd_reader_source source = {
            .store = rig.store, .url = ATD_STR("mem://b/0000.tar"), .info = &info};

        if (atd_reader_open(rig.reader, &source, &mine, NULL) != 0)
            return &rig;
        for (int r = 0; r < 10; r++) {
            uint64_t offset = content_random(&state) % (399 * MIB);
            int code = rig_read(mine, 0, version, offset, 1 + content_random(&state) % 500000);

            if ((code != 0 && code != ESTALE) || (stale && code == 0))
                return &rig;
            stale = code == ESTALE;
        }
        atd_reader_close(mine);
    }
    return NULL;
}

static void replaced_under_readers(void)
{
    pthread_t threads[4];
    unsigned numbers[4];

    cr_assert_eq(rig_put(&rig, 0, 0, 400 * MIB), 0);
    for (unsigned i = 0; i < 4; i++) {
        numbers[i] = i;
        cr_assert_eq(pthread_create(&threads[i], NULL, read_versions, &numbers[i]), 0);
    }
    for (unsigned version = 1; version < RIG_VERSIONS; version++) {
        uint64_t reads = atomic_load(&rig.stats.reads);

        cr_assert(RIG_EVENTUALLY(atomic_load(&rig.stats.reads) > reads + 300));
        cr_assert_eq(rig_put(&rig, 0, version, 400 * MIB + version), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        void *failed;

        (void)pthread_join(threads[i], &failed);
        cr_assert_null(failed);
    }
    cr_assert_gt(atomic_load(&rig.stats.stale_reads), 0);
}

Test(reader_faults, replaced_under_readers, .init = start_without, .fini = stop)
{
    replaced_under_readers();
}

Test(reader_faults, replaced_under_readers_with_disk, .init = start_with, .fini = stop)
{
    replaced_under_readers();
}

/* More demand at once than memory: it waits in line, and all are answered. */
static void more_than_memory(void)
{
    struct rig_read reads[48];
    struct atd_reader_handle *handles[48];

    for (unsigned i = 0; i < 48; i++) {
        cr_assert_eq(rig_put(&rig, i, 0, 16 * MIB), 0);
        cr_assert_eq(rig_open(&rig, i, NULL, &handles[i]), 0);
    }
    for (int round = 0; round < 4; round++) {
        for (unsigned i = 0; i < 48; i++)
            rig_read_start(&reads[i], handles[i], i, 0, (unsigned)round * MIB, MIB);
        for (unsigned i = 0; i < 48; i++) {
            cr_assert_eq(rig_read_wait(&reads[i]), 0, "%s", reads[i].text);
            cr_assert_leq(atomic_load(&rig.stats.memory_used_bytes), 24 * MIB);
        }
    }
    for (unsigned i = 0; i < 48; i++)
        atd_reader_close(handles[i]);
}

Test(reader_faults, more_demand_than_memory, .fini = stop)
{
    rig.memory_bytes = 32 * MIB;
    start(false);
    more_than_memory();
}

Test(reader_faults, more_demand_than_memory_with_disk, .fini = stop)
{
    rig.memory_bytes = 32 * MIB;
    start(true);
    more_than_memory();
}

/* A read started by an answer, and many at once in any order. */
struct chain {
    struct rig_read read;
    struct rig_read second;
    struct atd_reader_handle *handle;
};

static void start_second(struct atd_read *read, const struct iovec *pieces, int count,
                         const struct atd_error *why)
{
    struct chain *chain = (struct chain *)(void *)read;

    rig_read_done(read, pieces, count, why);
    rig_read_start(&chain->second, chain->handle, 0, 0, 0, MIB);
}

Test(reader_faults, answers_may_start_reads, .init = start_with, .fini = stop)
{
    struct chain chain = {.read = {.read = {.offset = 3, .size = 500000, .done = start_second}}};

    cr_assert_eq(rig_put(&rig, 0, 0, 2 * MIB), 0);
    cr_assert_eq(rig_open(&rig, 0, NULL, &handle), 0);
    chain.handle = handle;
    for (int i = 0; i < 100; i++) {
        atomic_store(&chain.second.ended, false);
        atd_reader_read(handle, &chain.read.read);
        cr_assert(RIG_EVENTUALLY(atomic_load(&chain.second.ended)));
        cr_assert_eq(rig_read_wait(&chain.second), 0);
        cr_assert(!chain.read.wrong);
    }
    atd_reader_close(handle);
}

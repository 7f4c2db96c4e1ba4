#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "catalog/diff.h"
#include "catalog/live.h"
#include "catalog/snapshot_saver.h"
#include "snapshot_files.h"

#define DEADLINE_MS 20000
#define RANDOM_ROUNDS 200

/* ------------------------------------------------------------------ what is saved comes back */

Test(snapshot, what_is_saved_comes_back_whatever_it_is)
{
    struct atd_catalog *catalog = load_all_kinds();
    struct atd_catalog *again;
    struct atd_catalog *twice;
    struct place place;

    make_place(&place);
    cr_assert_geq(atd_catalog_problem_count(catalog), 3, "unsound ones are among it");
    cr_assert_eq(atd_catalog_schema_count(catalog), 2);
    save(catalog, &place);
    again = load(&place);
    assert_same(catalog, again);
    cr_assert_eq(atd_catalog_generation(again), 3);
    save(again, &place);
    twice = load(&place);
    assert_same(catalog, twice);
    atd_catalog_unref(twice);
    atd_catalog_unref(again);
    atd_catalog_unref(catalog);
    drop_place(&place);
}

Test(snapshot, an_empty_index_is_one)
{
    static const struct rows none = {0};
    struct atd_catalog *catalog = load_rows(&none);
    struct atd_catalog *again;
    struct place place;

    make_place(&place);
    save(catalog, &place);
    again = load(&place);
    assert_same(catalog, again);
    atd_catalog_unref(again);
    atd_catalog_unref(catalog);
    drop_place(&place);
}

Test(snapshot, more_problems_than_are_kept_are_counted)
{
    struct atd_index_label *labels = calloc(3 * ATD_PROBLEMS_KEPT_MAX, sizeof(*labels));
    char(*versions)[16] = calloc(3 * (size_t)ATD_PROBLEMS_KEPT_MAX, sizeof(*versions));
    struct atd_index *index = atd_index_memory_new();
    struct atd_catalog *catalog = NULL;
    struct atd_catalog *again;
    struct place place;

    for (size_t i = 0; i < 3 * ATD_PROBLEMS_KEPT_MAX; i++) {
        (void)snprintf(versions[i], sizeof(versions[i]), "%zu", i);
        labels[i] = (struct atd_index_label){T("dangling"), atd_str_from(versions[i]), T("nowhere"),
                                             NO_TEXT, NO_TEXT};
    }
    atd_index_memory_set(index, NULL, 0, labels, 3 * ATD_PROBLEMS_KEPT_MAX, NULL, 0);
    cr_assert_eq(atd_catalog_load(index, 1, &catalog, NULL), 0);
    atd_index_free(index);
    make_place(&place);
    save(catalog, &place);
    again = load(&place);
    cr_assert_eq(atd_catalog_problem_count(again), 3 * ATD_PROBLEMS_KEPT_MAX);
    assert_same(catalog, again);
    atd_catalog_unref(again);
    atd_catalog_unref(catalog);
    drop_place(&place);
    free(labels);
    free(versions);
}

static uint32_t next(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* A text of a few letters, so that names meet; sometimes long enough to be cut. */
static struct atd_str random_text(uint32_t *state, bool may_be_none, char *storage)
{
    static const char letters[] = "ab@.%/\x01\xff\xc3\xa9 ";
    size_t len = next(state) % 8 ? next(state) % 4 : next(state) % 400;

    if (may_be_none && next(state) % 3 == 0)
        return (struct atd_str)NO_TEXT;
    for (size_t i = 0; i < len; i++)
        storage[i] = letters[next(state) % (sizeof(letters) - 1)];
    return (struct atd_str){storage, len};
}

static struct atd_str random_time(uint32_t *state, char *storage)
{
    if (next(state) % 3 == 0)
        return (struct atd_str)NO_TEXT;
    (void)snprintf(storage, 64, "%04u-%02u-%02u %02u:%02u:%02u%s", next(state) % 10000,
                   1 + next(state) % 12, 1 + next(state) % 31, next(state) % 24, next(state) % 60,
                   next(state) % 61, next(state) % 2 ? "" : "-11:30");
    return atd_str_from(storage);
}

Test(snapshot, any_index_comes_back)
{
    static const struct atd_bytes urls[] = {URLS("\x90"), URLS("\x91\xa1x"), URLS("\x92\xa1x\xa1y"),
                                            URLS("\xc1")};
    static const struct atd_bytes metadata[] = {
        {NULL, 0}, URLS("\x80"), URLS("\xc0"), URLS("\x81\xa1k\x01")};
    static char storage[16 * ROWS_MAX][400];
    uint32_t state = 42;
    struct place place;

    make_place(&place);
    for (int round = 0; round < RANDOM_ROUNDS; round++) {
        struct rows rows = {.entry_count = next(&state) % ROWS_MAX,
                            .label_count = next(&state) % ROWS_MAX,
                            .schema_count = next(&state) % 8};
        struct atd_catalog *catalog;
        struct atd_catalog *again;
        size_t at = 0;

        for (size_t i = 0; i < rows.entry_count; i++)
            rows.entries[i] = (struct atd_index_entry){random_text(&state, false, storage[at]),
                                                       random_text(&state, false, storage[at + 1]),
                                                       random_text(&state, false, storage[at + 2]),
                                                       urls[next(&state) % 4],
                                                       metadata[next(&state) % 4],
                                                       random_time(&state, storage[at + 3])},
            at += 4;
        for (size_t i = 0; i < rows.label_count; i++)
            rows.labels[i] =
                (struct atd_index_label){random_text(&state, false, storage[at]),
                                         random_text(&state, false, storage[at + 1]),
                                         rows.entry_count && next(&state) % 4
                                             ? rows.entries[next(&state) % rows.entry_count].cid
                                             : random_text(&state, false, storage[at + 2]),
                                         random_text(&state, true, storage[at + 3]),
                                         random_time(&state, storage[at + 4])},
            at += 5;
        for (size_t i = 0; i < rows.schema_count; i++)
            rows.schemas[i] =
                (struct atd_index_schema){random_text(&state, false, storage[at]),
                                          random_text(&state, false, storage[at + 1]),
                                          {(const uint8_t *)schema_json, sizeof(schema_json) - 1},
                                          random_time(&state, storage[at + 2])},
            at += 3;
        catalog = load_rows(&rows);
        save(catalog, &place);
        again = load(&place);
        assert_same(catalog, again);
        atd_catalog_unref(again);
        atd_catalog_unref(catalog);
    }
    drop_place(&place);
}

/* ------------------------------------------------------------------ whose file it is */

Test(snapshot, only_a_file_of_the_user_s_own_is_read)
{
    struct atd_catalog *catalog = load_all_kinds();
    struct place place;
    char other[128];
    struct stat st;

    make_place(&place);
    cr_assert_eq(try_to_load(&place), -ENOENT);
    (void)umask(0);
    save(catalog, &place);
    cr_assert_eq(stat(place.path, &st), 0);
    cr_assert_eq(st.st_mode & 07777, 0600);
    cr_assert_eq(chmod(place.path, 0620), 0);
    cr_assert_eq(try_to_load(&place), -EACCES);
    cr_assert_eq(chmod(place.path, 0602), 0);
    cr_assert_eq(try_to_load(&place), -EACCES);
    cr_assert_eq(chmod(place.path, 0600), 0);
    cr_assert_eq(try_to_load(&place), 0);
    (void)snprintf(other, sizeof(other), "%s/target", place.directory);
    cr_assert_eq(rename(place.path, other), 0);
    cr_assert_eq(symlink(other, place.path), 0);
    cr_assert_eq(try_to_load(&place), -ELOOP);
    cr_assert_eq(unlink(place.path), 0);
    cr_assert_eq(mkfifo(place.path, 0600), 0);
    cr_assert_eq(try_to_load(&place), -EBADMSG, "and nobody waits for a writer");
    cr_assert_eq(unlink(place.path), 0);
    cr_assert_eq(mkdir(place.path, 0700), 0);
    cr_assert_eq(try_to_load(&place), -EBADMSG);
    cr_assert_eq(rmdir(place.path), 0);
    (void)unlink(other);
    atd_catalog_unref(catalog);
    drop_place(&place);
}

Test(snapshot, what_cannot_be_saved_leaves_the_last_one)
{
    struct atd_catalog *catalog = load_all_kinds();
    struct atd_catalog *again;
    struct atd_error err = ATD_ERROR_INIT;
    struct place place;
    char beside[128];

    make_place(&place);
    save(catalog, &place);
    (void)snprintf(beside, sizeof(beside), "%s.new", place.path);
    cr_assert_eq(mkdir(beside, 0700), 0);
    cr_assert_neq(atd_snapshot_save(catalog, place.path, ours, &err), 0);
    cr_assert_eq(rmdir(beside), 0);
    again = load(&place);
    assert_same(catalog, again);
    atd_catalog_unref(again);
    /* What a process that died has left there is written over. */
    cr_assert_eq(close(open(beside, O_CREAT | O_WRONLY, 0644)), 0);
    cr_assert_eq(truncate(beside, 1 << 20), 0);
    save(catalog, &place);
    cr_assert_eq(try_to_load(&place), 0);
    atd_catalog_unref(catalog);
    drop_place(&place);
}

/* ------------------------------------------------------------------ several at once */

#define SAVERS 3
#define SAVES 40

struct crowd {
    struct place place;
    struct atd_catalog *catalogs[2];
    atomic_uint saved;
    atomic_bool stop;
};

static void *save_often(void *ctx)
{
    struct crowd *crowd = ctx;

    for (unsigned i = 0; i < SAVES; i++) {
        int rc = atd_snapshot_save(crowd->catalogs[i % 2], crowd->place.path, ours, NULL);

        cr_assert(rc == 0 || rc == -EAGAIN, "%s", strerror(-rc));
        (void)atomic_fetch_add(&crowd->saved, rc == 0);
    }
    return NULL;
}

Test(snapshot, many_who_save_and_load_meet_only_whole_ones)
{
    static const struct rows none = {0};
    struct crowd crowd = {.catalogs = {load_all_kinds(), load_rows(&none)}};
    pthread_t threads[SAVERS];
    size_t entries = atd_catalog_entry_count(crowd.catalogs[0]);

    make_place(&crowd.place);
    save(crowd.catalogs[0], &crowd.place);
    for (size_t i = 0; i < SAVERS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, save_often, &crowd), 0);
    for (size_t i = 0; i < 100; i++) {
        struct atd_catalog *catalog = load(&crowd.place);
        size_t found = atd_catalog_entry_count(catalog);

        cr_assert(found == 0 || found == entries);
        atd_catalog_unref(catalog);
    }
    for (size_t i = 0; i < SAVERS; i++)
        cr_assert_eq(pthread_join(threads[i], NULL), 0);
    cr_assert_gt(atomic_load(&crowd.saved), 0);
    cr_assert_eq(try_to_load(&crowd.place), 0);
    atd_catalog_unref(crowd.catalogs[0]);
    atd_catalog_unref(crowd.catalogs[1]);
    drop_place(&crowd.place);
}

/* ------------------------------------------------------------------ when it is saved */

static void wait_saved(struct atd_snapshot_saver *saver)
{
    int64_t until_ms = atd_clock_monotonic_ms() + DEADLINE_MS;
    struct atd_snapshot_saver_status status;

    do {
        cr_assert_lt(atd_clock_monotonic_ms(), until_ms, "it is saved");
        (void)usleep(1000);
        atd_snapshot_saver_status(saver, &status);
    } while (!status.saved_at_s);
}

Test(snapshot, it_is_saved_at_once_then_seldom_and_at_the_end, .timeout = 60)
{
    static const struct rows none = {0};
    struct atd_catalog *full = load_all_kinds();
    struct atd_catalog *empty = load_rows(&none);
    struct atd_catalog *found;
    struct atd_snapshot_saver *saver;
    struct place place;

    make_place(&place);
    cr_assert_eq(atd_snapshot_saver_start(place.path, ours, 3600000, &saver, NULL), 0);
    atd_snapshot_saver_offer(saver, full);
    wait_saved(saver);
    atd_snapshot_saver_offer(saver, full);
    atd_snapshot_saver_offer(saver, empty);
    found = load(&place);
    assert_same(full, found);
    atd_catalog_unref(found);
    cr_assert(atd_snapshot_saver_stop(saver, DEADLINE_MS));
    found = load(&place);
    assert_same(empty, found);
    atd_catalog_unref(found);
    /* Nothing new: nothing is written. */
    cr_assert_eq(unlink(place.path), 0);
    cr_assert_eq(atd_snapshot_saver_start(place.path, ours, 1, &saver, NULL), 0);
    cr_assert(atd_snapshot_saver_stop(saver, DEADLINE_MS));
    cr_assert_eq(try_to_load(&place), -ENOENT);
    atd_catalog_unref(full);
    atd_catalog_unref(empty);
    drop_place(&place);
}

Test(snapshot, a_save_that_failed_is_tried_again, .timeout = 60)
{
    struct atd_catalog *full = load_all_kinds();
    struct atd_snapshot_saver_status status = {0};
    struct atd_snapshot_saver *saver;
    struct place place;
    char beside[128];
    int64_t until_ms = atd_clock_monotonic_ms() + DEADLINE_MS;

    make_place(&place);
    save(full, &place);
    cr_assert_eq(unlink(place.path), 0);
    (void)snprintf(beside, sizeof(beside), "%s.new", place.path);
    cr_assert_eq(mkdir(beside, 0700), 0);
    cr_assert_eq(atd_snapshot_saver_start(place.path, ours, 1, &saver, NULL), 0);
    atd_snapshot_saver_offer(saver, full);
    while (!status.error[0]) {
        cr_assert_lt(atd_clock_monotonic_ms(), until_ms);
        atd_snapshot_saver_status(saver, &status);
    }
    cr_assert_eq(status.saved_at_s, 0);
    cr_assert_eq(rmdir(beside), 0);
    wait_saved(saver);
    atd_snapshot_saver_status(saver, &status);
    cr_assert_str_eq(status.error, "");
    cr_assert(atd_snapshot_saver_stop(saver, DEADLINE_MS));
    cr_assert_eq(try_to_load(&place), 0);
    atd_catalog_unref(full);
    drop_place(&place);
}

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "catalog/diff.h"
#include "catalog/live.h"
#include "catalog/snapshot.h"
#include "catalog/snapshot_format.h"
#include "catalog/snapshot_saver.h"
#include "catalog_equal.h"

#define DEADLINE_MS 20000
#define ROWS_MAX 64
#define RANDOM_ROUNDS 200
#define T(literal)                      \
    {                                   \
        "" literal, sizeof(literal) - 1 \
    }
#define NO_TEXT \
    {           \
        NULL, 0 \
    }
#define URLS(literal)                                    \
    {                                                    \
        (const uint8_t *)"" literal, sizeof(literal) - 1 \
    }
#define REF "atdata://local/schema/A@1.0.0"

static const struct atd_str ours = T("redis://127.0.0.1:6379/0");

static const char schema_json[] =
    "{\"name\": \"A\", \"version\": \"1.0.0\", \"fields\": [{\"name\": "
    "\"x\", \"fieldType\": {\"$type\": \"local#primitive\", "
    "\"primitive\": \"int\"}, \"optional\": false}]}";

/* ------------------------------------------------------------------ indexes to save */

struct rows {
    struct atd_index_entry entries[ROWS_MAX];
    size_t entry_count;
    struct atd_index_label labels[ROWS_MAX];
    size_t label_count;
    struct atd_index_schema schemas[ROWS_MAX];
    size_t schema_count;
};

static struct atd_catalog *load_rows(const struct rows *rows)
{
    struct atd_index *index = atd_index_memory_new();
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_catalog *catalog = NULL;

    atd_index_memory_set(index, rows->entries, rows->entry_count, rows->labels, rows->label_count,
                         rows->schemas, rows->schema_count);
    cr_assert_eq(atd_catalog_load(index, 7, &catalog, &err), 0, "%s", err.text);
    atd_index_free(index);
    return catalog;
}

/* One of everything: names that need escaping or are cut, none and empty, times of every kind, what
 * is ambiguous, superseded, dangling or unsound. */
static const struct rows all_kinds = {
    .entries =
        {
            {T("cid1"), T("plain"), T(REF), URLS("\x91\xab/data/x.tar"), URLS("\x80"),
             T("2026-01-02T03:04:05.678+00:00")},
            {T("cid2"), T("team/with slash\n"), T(REF), URLS("\x90"), NO_TEXT, NO_TEXT},
            {T("cid3"), T("twice"), T(REF), URLS("\x90"), URLS("\xc0"), T("0000-01-01 00:00:00")},
            {T("cid4"), T("twice"), T("nonsense"), URLS("\x90"), NO_TEXT,
             T("0000-01-01T00:00:00+23:59")},
            {T("c/i\x01"
               "d5"),
             T(""), T(""), URLS("\x90"), NO_TEXT, T("9999-12-31T23:59:59-23:59")},
            {T("cid6"), T("plain@superseded:cid6"), T(REF), URLS("\x90"), NO_TEXT,
             T("1969-12-31 23:59:59")},
            {T("cid7"), T("unsound"), T(REF), URLS("\xc1"), NO_TEXT, NO_TEXT},
            {T("cid8"), T("year 876"), T(REF), URLS("\x90"), NO_TEXT, T("0876-02-31 24:00:00")},
            {T("cid9"), T("year 877"), T(REF), URLS("\x90"), NO_TEXT, T("0877-02-31 23:59:60")},
        },
    .entry_count = 9,
    .labels =
        {
            {T("plain"), T(""), T("cid1"), NO_TEXT, T("2026-01-02T03:04:05+00:00")},
            {T("plain"), T("1.0.0"), T("cid1"), T(""), T("")},
            {T("plain"), T("1.0.1"), T("cid1"), T("said\0so"), T("no time")},
            {T("nowhere"), T("1.0.0"), T("cid99"), T("dangling"), NO_TEXT},
            {T(""), T("2"), T("cid2"), NO_TEXT, NO_TEXT},
        },
    .label_count = 5,
    .schemas =
        {
            {T("A"), T("1.0.0"), URLS(""), T("2025-01-01 00:00:00")},
            {T("module.A"), T("1.0.0"), URLS(""), NO_TEXT},
            {T("Broken"), T("1.0.0"), URLS("{"), NO_TEXT},
        },
    .schema_count = 3,
};

static struct atd_catalog *load_all_kinds(void)
{
    struct rows rows = all_kinds;

    for (size_t i = 0; i < 2; i++)
        rows.schemas[i].json =
            (struct atd_bytes){(const uint8_t *)schema_json, sizeof(schema_json) - 1};
    return load_rows(&rows);
}

static void assert_same(const struct atd_catalog *a, const struct atd_catalog *b)
{
    cr_assert_eq(atd_catalog_loaded_at_s(a), atd_catalog_loaded_at_s(b));
    same_catalogs(a, b, NULL, 0);
}

/* ------------------------------------------------------------------ files */

struct place {
    char directory[64];
    char path[96];
};

static void make_place(struct place *place)
{
    (void)strcpy(place->directory, "/tmp/atd-snapshot-XXXXXX");
    cr_assert_not_null(mkdtemp(place->directory));
    /* Its own directory is missing. */
    (void)snprintf(place->path, sizeof(place->path), "%s/below/it", place->directory);
}

static void drop_place(struct place *place)
{
    char path[128];

    (void)snprintf(path, sizeof(path), "%s.new", place->path);
    cr_expect_eq(access(path, F_OK), -1, "a save leaves nothing beside it");
    (void)unlink(place->path);
    (void)snprintf(path, sizeof(path), "%s/below", place->directory);
    (void)rmdir(path);
    cr_expect_eq(rmdir(place->directory), 0);
}

static void save(const struct atd_catalog *catalog, const struct place *place)
{
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_snapshot_save(catalog, place->path, ours, &err), 0, "%s", err.text);
}

static struct atd_catalog *load(const struct place *place)
{
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_catalog *catalog = NULL;

    cr_assert_eq(atd_snapshot_load(place->path, ours, 3, &catalog, &err), 0, "%s", err.text);
    return catalog;
}

static int try_to_load(const struct place *place)
{
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_catalog *catalog = NULL;
    int rc = atd_snapshot_load(place->path, ours, 1, &catalog, &err);

    cr_assert_eq(rc == 0, catalog != NULL);
    cr_assert_eq(rc, -err.code);
    atd_catalog_unref(catalog);
    return rc;
}

static size_t read_file(const struct place *place, uint8_t **ret_bytes)
{
    FILE *file = fopen(place->path, "rb");
    long len;

    cr_assert_not_null(file);
    (void)fseek(file, 0, SEEK_END);
    len = ftell(file);
    rewind(file);
    *ret_bytes = malloc((size_t)len);
    cr_assert_eq(fread(*ret_bytes, 1, (size_t)len, file), (size_t)len);
    (void)fclose(file);
    return (size_t)len;
}

static void write_file(const struct place *place, const uint8_t *bytes, size_t len)
{
    FILE *file = fopen(place->path, "wb");

    cr_assert_not_null(file);
    cr_assert_eq(fwrite(bytes, 1, len, file), len);
    (void)fclose(file);
}

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

/* ------------------------------------------------------------------ what is not whole counts not
 */

/* In a new place; *ret_bytes is the caller's. */
static size_t save_and_read(const struct atd_catalog *catalog, struct place *ret_place,
                            uint8_t **ret_bytes)
{
    make_place(ret_place);
    save(catalog, ret_place);
    return read_file(ret_place, ret_bytes);
}

Test(snapshot, every_damaged_byte_is_noticed)
{
    struct atd_catalog *catalog = load_all_kinds();
    struct place place;
    uint8_t *bytes;
    size_t len = save_and_read(catalog, &place, &bytes);

    for (size_t i = 0; i < len; i++) {
        static const uint8_t flips[] = {0x01, 0x80, 0xff};

        for (size_t j = 0; j < ATD_ARRAY_LEN(flips); j++) {
            bytes[i] ^= flips[j];
            write_file(&place, bytes, len);
            cr_assert_eq(try_to_load(&place), -EBADMSG, "byte %zu", i);
            bytes[i] ^= flips[j];
        }
    }
    write_file(&place, bytes, len);
    cr_assert_eq(try_to_load(&place), 0);
    free(bytes);
    atd_catalog_unref(catalog);
    drop_place(&place);
}

Test(snapshot, every_cut_and_every_byte_too_many_is_noticed)
{
    struct atd_catalog *catalog = load_all_kinds();
    struct place place;
    uint8_t *bytes;
    size_t len = save_and_read(catalog, &place, &bytes);

    for (size_t i = 0; i < len; i++) {
        write_file(&place, bytes, i);
        cr_assert_eq(try_to_load(&place), -EBADMSG, "%zu bytes", i);
    }
    bytes = realloc(bytes, len + 1);
    bytes[len] = 0;
    write_file(&place, bytes, len + 1);
    cr_assert_eq(try_to_load(&place), -EBADMSG);
    free(bytes);
    atd_catalog_unref(catalog);
    drop_place(&place);
}

/* Whoever makes the digest right too gets no further: lengths are not believed. */
static void write_signed(const struct place *place, uint8_t *bytes, size_t len)
{
    atd_sha256_of(bytes, len - ATD_SHA256_BYTES, bytes + len - ATD_SHA256_BYTES);
    write_file(place, bytes, len);
}

Test(snapshot, lengths_and_counts_are_not_believed)
{
    struct atd_catalog *catalog = load_all_kinds();
    struct place place;
    uint8_t *bytes;
    size_t len = save_and_read(catalog, &place, &bytes);

    for (size_t i = 0; i + 4 <= len - ATD_SHA256_BYTES; i++) {
        static const uint32_t values[] = {0, 1, 0x7fffffff, 0xfffffffe, 0xffffffff};
        uint8_t before[4];

        memcpy(before, bytes + i, 4);
        for (size_t j = 0; j < ATD_ARRAY_LEN(values); j++) {
            int rc;

            snapshot_put(bytes + i, values[j], 4);
            write_signed(&place, bytes, len);
            rc = try_to_load(&place); /* a text may have become another one */
            cr_assert(rc == 0 || rc == -EBADMSG, "%zu: %s", i, strerror(-rc));
            if (i == SNAPSHOT_AT_VERSION && values[j] != SNAPSHOT_VERSION)
                cr_assert_eq(rc, -EBADMSG);
            if (i >= SNAPSHOT_AT_ENTRIES && i < SNAPSHOT_AT_PROBLEMS + 8 &&
                memcmp(before, bytes + i, 4) != 0)
                cr_assert_eq(rc, -EBADMSG, "%zu", i);
        }
        memcpy(bytes + i, before, 4);
    }
    free(bytes);
    atd_catalog_unref(catalog);
    drop_place(&place);
}

Test(snapshot, another_index_s_is_none)
{
    static const struct atd_str others[] = {T("redis://127.0.0.1:6379/1"), T(""),
                                            T("redis://127.0.0.1:6379/00"),
                                            T("redis://127.0.0.1:6379/")};
    struct atd_catalog *catalog = load_all_kinds();
    struct atd_catalog *none = NULL;
    struct place place;

    make_place(&place);
    save(catalog, &place);
    for (size_t i = 0; i < ATD_ARRAY_LEN(others); i++)
        cr_assert_eq(atd_snapshot_load(place.path, others[i], 1, &none, NULL), -EBADMSG);
    cr_assert_null(none);
    atd_catalog_unref(catalog);
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

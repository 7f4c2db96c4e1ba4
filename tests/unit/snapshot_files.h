/*
 * What the tests of snapshots share: indexes to save, and files to save them into.
 */
#ifndef ATD_TESTS_UNIT_SNAPSHOT_FILES_H
#define ATD_TESTS_UNIT_SNAPSHOT_FILES_H

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "catalog/snapshot.h"
#include "catalog_equal.h"

#define ROWS_MAX 64
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

static inline struct atd_catalog *load_rows(const struct rows *rows)
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

static inline struct atd_catalog *load_all_kinds(void)
{
    struct rows rows = all_kinds;

    for (size_t i = 0; i < 2; i++)
        rows.schemas[i].json =
            (struct atd_bytes){(const uint8_t *)schema_json, sizeof(schema_json) - 1};
    return load_rows(&rows);
}

static inline void assert_same(const struct atd_catalog *a, const struct atd_catalog *b)
{
    cr_assert_eq(atd_catalog_loaded_at_s(a), atd_catalog_loaded_at_s(b));
    same_catalogs(a, b, NULL, 0);
}

/* ------------------------------------------------------------------ files */

struct place {
    char directory[64];
    char path[96];
};

static inline void make_place(struct place *place)
{
    (void)strcpy(place->directory, "/tmp/atd-snapshot-XXXXXX");
    cr_assert_not_null(mkdtemp(place->directory));
    /* Its own directory is missing. */
    (void)snprintf(place->path, sizeof(place->path), "%s/below/it", place->directory);
}

static inline void drop_place(struct place *place)
{
    char path[128];

    (void)snprintf(path, sizeof(path), "%s.new", place->path);
    cr_expect_eq(access(path, F_OK), -1, "a save leaves nothing beside it");
    (void)unlink(place->path);
    (void)snprintf(path, sizeof(path), "%s/below", place->directory);
    (void)rmdir(path);
    cr_expect_eq(rmdir(place->directory), 0);
}

static inline void save(const struct atd_catalog *catalog, const struct place *place)
{
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_snapshot_save(catalog, place->path, ours, &err), 0, "%s", err.text);
}

static inline struct atd_catalog *load(const struct place *place)
{
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_catalog *catalog = NULL;

    cr_assert_eq(atd_snapshot_load(place->path, ours, 3, &catalog, &err), 0, "%s", err.text);
    return catalog;
}

static inline int try_to_load(const struct place *place)
{
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_catalog *catalog = NULL;
    int rc = atd_snapshot_load(place->path, ours, 1, &catalog, &err);

    cr_assert_eq(rc == 0, catalog != NULL);
    cr_assert_eq(rc, -err.code);
    atd_catalog_unref(catalog);
    return rc;
}

static inline size_t read_file(const struct place *place, uint8_t **ret_bytes)
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

static inline void write_file(const struct place *place, const uint8_t *bytes, size_t len)
{
    FILE *file = fopen(place->path, "wb");

    cr_assert_not_null(file);
    cr_assert_eq(fwrite(bytes, 1, len, file), len);
    (void)fclose(file);
}

#endif

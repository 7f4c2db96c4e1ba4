/*
 * The SQLite provider. Tables and columns: ATDATA-FORMATS 2.1.
 *
 * No connection is kept: each load opens the database, reads one snapshot and closes it, because
 * an open reader would keep a writer that exits from folding its -wal file in. Change is noticed
 * by the files' sizes and time stamps, three stat calls.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "index/index.h"
#include "index/sqlite_open.h"
#include "index/sqlite_row.h"

/* A load longer than this is a hostile or broken file, not a large one (100,000 rows: < 1 s). */
#define LOAD_DEADLINE_MS 120000
#define PROGRESS_STEPS 1000

struct sqlite_index {
    struct atd_index base;
    char *path;
    bool loaded;
    bool was_there; /* once: when the file goes, that is no empty index */
    struct atd_sqlite_source source;
    struct atd_sqlite_signature signature; /* what the last load saw; valid when loaded */
};

struct load {
    const struct atd_index_sink *sink;
    sqlite3 *db;
    int64_t deadline_ms;
};

static int past_deadline(void *ctx)
{
    const struct load *load = ctx;

    return atd_clock_monotonic_ms() > load->deadline_ms;
}

/* A row whose column has not the type that the library stores: Python fails on it. */
static int skip(struct load *load, const char *what, const struct atd_sqlite_row_fault *fault)
{
    load->sink->problem(load->sink->ctx, what, fault->key, fault->reason);
    return 0;
}

static int report_entry(struct load *load, sqlite3_stmt *row, struct atd_error *err)
{
    struct atd_sqlite_row_fault fault;
    struct atd_index_entry entry;

    if (!atd_sqlite_row_entry(row, &entry, &fault))
        return skip(load, "entry", &fault);
    return load->sink->entry(load->sink->ctx, &entry, err);
}

static int report_label(struct load *load, sqlite3_stmt *row, struct atd_error *err)
{
    struct atd_sqlite_row_fault fault;
    struct atd_index_label label;

    if (!atd_sqlite_row_label(row, &label, &fault))
        return skip(load, "label", &fault);
    return load->sink->label(load->sink->ctx, &label, err);
}

static int report_schema(struct load *load, sqlite3_stmt *row, struct atd_error *err)
{
    struct atd_sqlite_row_fault fault;
    struct atd_index_schema schema;

    if (!atd_sqlite_row_schema(row, &schema, &fault))
        return skip(load, "schema", &fault);
    return load->sink->schema(load->sink->ctx, &schema, err);
}

struct table {
    const char *name;
    const char *query; /* in rowid order, the order of the library's lists */
    int (*report)(struct load *load, sqlite3_stmt *row, struct atd_error *err);
};

static const struct table tables[] = {
    {"dataset_entries", "SELECT " ATD_SQLITE_ENTRY_COLUMNS " FROM dataset_entries ORDER BY rowid",
     report_entry},
    {"labels", "SELECT " ATD_SQLITE_LABEL_COLUMNS " FROM labels ORDER BY rowid", report_label},
    {"schemas", "SELECT " ATD_SQLITE_SCHEMA_COLUMNS " FROM schemas ORDER BY rowid", report_schema},
};

static int read_table(struct load *load, const struct table *table, struct atd_error *err)
{
    sqlite3_stmt *row = NULL;
    enum atd_sqlite_table state;
    int step = SQLITE_ROW;
    int rc = atd_sqlite_table_state(load->db, table->name, &state, err);

    /* Older releases have fewer tables (2.1): a missing one is empty. */
    if (rc || state == ATD_SQLITE_TABLE_MISSING)
        return rc;
    if (state == ATD_SQLITE_TABLE_STRANGE) {
        load->sink->problem(load->sink->ctx, "table", atd_str_from(table->name),
                            "it is no plain table (a view, virtual, or with generated columns)");
        return 0;
    }
    if (sqlite3_prepare_v2(load->db, table->query, -1, &row, NULL) != SQLITE_OK) {
        /* A column is missing: nothing of this table is sound, the others may be. */
        if ((sqlite3_errcode(load->db) & 0xff) == SQLITE_ERROR) {
            load->sink->problem(load->sink->ctx, "table", atd_str_from(table->name),
                                sqlite3_errmsg(load->db));
            return 0;
        }
        return atd_sqlite_error(load->db, table->name, err);
    }
    while (rc == 0 && (step = sqlite3_step(row)) == SQLITE_ROW) {
        rc = table->report(load, row, err);
        if (rc == 0 && past_deadline(load))
            rc = atd_error_set(err, ETIMEDOUT, "%s: reading it takes too long", table->name);
    }
    if (rc == 0 && step != SQLITE_DONE)
        rc = atd_sqlite_error(load->db, table->name, err);
    (void)sqlite3_finalize(row);
    return rc;
}

static int read_snapshot(struct load *load, struct atd_error *err)
{
    int rc = 0;

    sqlite3_progress_handler(load->db, PROGRESS_STEPS, past_deadline, load);
    /* One read transaction: entries, labels and schemas of one moment. */
    if (sqlite3_exec(load->db, "BEGIN", NULL, NULL, NULL) != SQLITE_OK)
        return atd_sqlite_error(load->db, "cannot begin to read", err);
    for (size_t i = 0; i < ATD_ARRAY_LEN(tables) && rc == 0; i++)
        rc = read_table(load, &tables[i], err);
    return rc;
}

/* SQLite follows links to the real file, beside which -wal and -shm are; a missing one stays. */
static const char *real_path(const struct sqlite_index *index, char resolved[PATH_MAX])
{
    return realpath(index->path, resolved) ? resolved : index->path;
}

/* Reads what `before` describes; EAGAIN when a writer changed the files meanwhile. */
static int load_file(struct sqlite_index *index, const char *path,
                     const struct atd_sqlite_signature *before, const struct atd_index_sink *sink,
                     struct atd_error *err)
{
    struct atd_sqlite sqlite;
    struct load load = {.sink = sink};
    int rc = atd_sqlite_open(&index->source, path, before, &sqlite, err);

    if (rc)
        return rc;
    load.db = sqlite.db;
    load.deadline_ms = atd_clock_monotonic_ms() + LOAD_DEADLINE_MS;
    rc = read_snapshot(&load, err);
    if (!atd_sqlite_is_whole(&sqlite, path, before))
        rc = atd_error_set_retryable(err, EAGAIN, "another program changed it while it was read");
    atd_sqlite_close(&sqlite);
    return rc;
}

static int sqlite_load(struct atd_index *base, const struct atd_index_sink *sink,
                       struct atd_error *err)
{
    struct sqlite_index *index = (struct sqlite_index *)base;
    struct atd_sqlite_signature before;
    char resolved[PATH_MAX];
    const char *path = real_path(index, resolved);
    int rc = atd_sqlite_sign(path, &before, err);

    index->loaded = false;
    if (rc == 0 && !before.main.exists && index->was_there)
        return atd_error_set(err, ENOENT, "it has gone; was a disk unmounted?");
    if (rc == 0 && before.main.exists && before.main.size_bytes > 0)
        rc = load_file(index, path, &before, sink, err);
    if (rc)
        return rc;
    index->loaded = true;
    index->was_there = before.main.exists;
    index->signature = before;
    return 0;
}

static bool sqlite_changed(struct atd_index *base)
{
    struct sqlite_index *index = (struct sqlite_index *)base;
    struct atd_sqlite_signature now;
    char resolved[PATH_MAX];

    if (!index->loaded || atd_sqlite_sign(real_path(index, resolved), &now, NULL) != 0)
        return true;
    /* Fresh: a commit within the same clock tick may have left the same signature. */
    return index->signature.fresh || !atd_sqlite_signature_equal(&index->signature, &now);
}

static void sqlite_free(struct atd_index *base)
{
    struct sqlite_index *index = (struct sqlite_index *)base;

    atd_sqlite_source_release(&index->source);
    free(index->path);
    free(index);
}

static const struct atd_index_ops sqlite_ops = {
    .provider = "sqlite",
    .load = sqlite_load,
    .changed = sqlite_changed,
    .free = sqlite_free,
};

int atd_index_sqlite_open(const char *path, struct atd_index **ret_index, struct atd_error *err)
{
    struct sqlite_index *index = calloc(1, sizeof(*index));
    int rc;

    atd_assert(path[0] == '/');
    if (!index)
        return atd_error_set(err, ENOMEM, "index: out of memory");
    rc = atd_index_init(&index->base, &sqlite_ops, path, err);
    if (rc) {
        free(index);
        return rc;
    }
    index->source.fd = -1;
    index->path = strdup(path);
    if (!index->path) {
        atd_index_free(&index->base);
        return atd_error_set(err, ENOMEM, "index: out of memory");
    }
    *ret_index = &index->base;
    return 0;
}

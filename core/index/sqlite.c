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

/* A load longer than this is a hostile or broken file, not a large one (100,000 rows: < 1 s). */
#define LOAD_DEADLINE_MS 120000
#define PROGRESS_STEPS 1000

struct sqlite_index {
    struct atd_index base;
    char *path;
    bool loaded;
    bool was_there;                        /* once: when the file goes, that is no empty index */
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

static const char *type_name(int type)
{
    static const char *const names[] = {"?", "INTEGER", "REAL", "TEXT", "BLOB", "NULL"};

    return type > 0 && type < (int)ATD_ARRAY_LEN(names) ? names[type] : names[0];
}

/* The bytes of a column; never a NULL pointer, which means "none" to the sink. */
static struct atd_bytes column_bytes(sqlite3_stmt *row, int column)
{
    const void *data = sqlite3_column_type(row, column) == SQLITE_BLOB
                           ? sqlite3_column_blob(row, column)
                           : (const void *)sqlite3_column_text(row, column);

    return (struct atd_bytes){data ? data : (const uint8_t *)"",
                              (size_t)sqlite3_column_bytes(row, column)};
}

static struct atd_str column_text(sqlite3_stmt *row, int column)
{
    return atd_bytes_str(column_bytes(row, column));
}

/* An optional text column: none when it holds anything else. */
static struct atd_str column_text_or_none(sqlite3_stmt *row, int column)
{
    if (sqlite3_column_type(row, column) != SQLITE_TEXT)
        return (struct atd_str){NULL, 0};
    return column_text(row, column);
}

/*
 * Reports a row whose column has not the type that the library stores: Python fails on it
 * (2.1: "BLOB/TEXT mixed up"). True when the type is right.
 */
static bool has_type(struct load *load, sqlite3_stmt *row, int column, int type, const char *what)
{
    int found = sqlite3_column_type(row, column);
    char reason[160];
    struct atd_str key = {NULL, 0};

    if (found == type)
        return true;
    if (sqlite3_column_type(row, 0) == SQLITE_TEXT)
        key = column_text(row, 0);
    (void)snprintf(reason, sizeof(reason), "column %s is %s, not %s",
                   sqlite3_column_name(row, column), type_name(found), type_name(type));
    load->sink->problem(load->sink->ctx, what, key, reason);
    return false;
}

static int report_entry(struct load *load, sqlite3_stmt *row, struct atd_error *err)
{
    struct atd_index_entry entry = {0};

    if (!has_type(load, row, 0, SQLITE_TEXT, "entry") ||
        !has_type(load, row, 1, SQLITE_TEXT, "entry") ||
        !has_type(load, row, 2, SQLITE_TEXT, "entry") ||
        !has_type(load, row, 3, SQLITE_BLOB, "entry"))
        return 0;
    if (sqlite3_column_type(row, 4) != SQLITE_NULL && !has_type(load, row, 4, SQLITE_BLOB, "entry"))
        return 0;
    entry.cid = column_text(row, 0);
    entry.name = column_text(row, 1);
    entry.schema_ref = column_text(row, 2);
    entry.data_urls = column_bytes(row, 3);
    if (sqlite3_column_type(row, 4) == SQLITE_BLOB)
        entry.metadata = column_bytes(row, 4);
    entry.created_at = column_text_or_none(row, 5);
    return load->sink->entry(load->sink->ctx, &entry, err);
}

static int report_label(struct load *load, sqlite3_stmt *row, struct atd_error *err)
{
    struct atd_index_label label = {0};

    if (!has_type(load, row, 0, SQLITE_TEXT, "label") ||
        !has_type(load, row, 1, SQLITE_TEXT, "label") ||
        !has_type(load, row, 2, SQLITE_TEXT, "label"))
        return 0;
    label.name = column_text(row, 0);
    label.version = column_text(row, 1);
    label.cid = column_text(row, 2);
    label.description = column_text_or_none(row, 3);
    label.created_at = column_text_or_none(row, 4);
    return load->sink->label(load->sink->ctx, &label, err);
}

static int report_schema(struct load *load, sqlite3_stmt *row, struct atd_error *err)
{
    struct atd_index_schema schema = {0};

    if (!has_type(load, row, 0, SQLITE_TEXT, "schema") ||
        !has_type(load, row, 1, SQLITE_TEXT, "schema") ||
        !has_type(load, row, 2, SQLITE_TEXT, "schema"))
        return 0;
    schema.name = column_text(row, 0);
    schema.version = column_text(row, 1);
    schema.json = atd_str_bytes(column_text(row, 2));
    schema.created_at = column_text_or_none(row, 3);
    return load->sink->schema(load->sink->ctx, &schema, err);
}

struct table {
    const char *name;
    const char *query; /* in rowid order, the order of the library's lists */
    int (*report)(struct load *load, sqlite3_stmt *row, struct atd_error *err);
};

static const struct table tables[] = {
    {"dataset_entries",
     "SELECT cid, name, schema_ref, data_urls, metadata, created_at FROM dataset_entries "
     "ORDER BY rowid",
     report_entry},
    {"labels", "SELECT name, version, cid, description, created_at FROM labels ORDER BY rowid",
     report_label},
    {"schemas", "SELECT name, version, schema_json, created_at FROM schemas ORDER BY rowid",
     report_schema},
};

/*
 * True for a plain table. Older releases have fewer tables (2.1): a missing one is empty. A view
 * or a virtual table in its place, or a computed column, could run anything, and is refused.
 */
static int is_plain_table(struct load *load, const char *name, bool *ret_plain,
                          struct atd_error *err)
{
    static const char query[] =
        "SELECT type = 'table' AND sql NOT LIKE 'create virtual%' AND NOT EXISTS (SELECT 1 FROM "
        "pragma_table_xinfo(?1) WHERE hidden IN (2, 3)) FROM sqlite_schema WHERE name = ?1";
    sqlite3_stmt *row = NULL;
    int step;

    *ret_plain = false;
    if (sqlite3_prepare_v2(load->db, query, -1, &row, NULL) != SQLITE_OK ||
        sqlite3_bind_text(row, 1, name, -1, SQLITE_STATIC) != SQLITE_OK) {
        (void)sqlite3_finalize(row);
        return atd_sqlite_error(load->db, "cannot read its schema", err);
    }
    step = sqlite3_step(row);
    if (step == SQLITE_ROW) {
        *ret_plain = sqlite3_column_int(row, 0) != 0;
        if (!*ret_plain)
            load->sink->problem(
                load->sink->ctx, "table", atd_str_from(name),
                "it is no plain table (a view, virtual, or with generated columns)");
    }
    (void)sqlite3_finalize(row);
    if (step != SQLITE_ROW && step != SQLITE_DONE)
        return atd_sqlite_error(load->db, "cannot read its schema", err);
    return 0;
}

static int read_table(struct load *load, const struct table *table, struct atd_error *err)
{
    sqlite3_stmt *row = NULL;
    bool plain;
    int step = SQLITE_ROW;
    int rc = is_plain_table(load, table->name, &plain, err);

    if (rc || !plain)
        return rc;
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
static int load_file(const char *path, const struct atd_sqlite_signature *before,
                     const struct atd_index_sink *sink, struct atd_error *err)
{
    struct atd_sqlite sqlite;
    struct load load = {.sink = sink};
    int rc = atd_sqlite_open(path, before, &sqlite, err);

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
        rc = load_file(path, &before, sink, err);
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

    atd_assert(path[0] == '/');
    if (!index)
        return atd_error_set(err, ENOMEM, "index: out of memory");
    index->base.ops = &sqlite_ops;
    index->path = strdup(path);
    index->base.location = strdup(path);
    if (!index->path || !index->base.location) {
        atd_index_free(&index->base);
        return atd_error_set(err, ENOMEM, "index: out of memory");
    }
    *ret_index = &index->base;
    return 0;
}

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <unistd.h>

#include "base/check.h"
#include "demo.h"

/* The library's own script. Source: ATDATA-FORMATS 2.1. */
static const char TABLES[] = "CREATE TABLE IF NOT EXISTS dataset_entries ("
                             "    cid         TEXT PRIMARY KEY,"
                             "    name        TEXT NOT NULL,"
                             "    schema_ref  TEXT NOT NULL,"
                             "    data_urls   BLOB NOT NULL,"
                             "    metadata    BLOB,"
                             "    legacy_uuid TEXT,"
                             "    created_at  TEXT DEFAULT (datetime('now'))"
                             ");"
                             "CREATE INDEX IF NOT EXISTS idx_entries_name"
                             "    ON dataset_entries(name);"
                             "CREATE TABLE IF NOT EXISTS schemas ("
                             "    name        TEXT NOT NULL,"
                             "    version     TEXT NOT NULL,"
                             "    schema_json TEXT NOT NULL,"
                             "    created_at  TEXT DEFAULT (datetime('now')),"
                             "    PRIMARY KEY (name, version)"
                             ");"
                             "CREATE TABLE IF NOT EXISTS lenses ("
                             "    name        TEXT NOT NULL,"
                             "    version     TEXT NOT NULL,"
                             "    lens_json   TEXT NOT NULL,"
                             "    created_at  TEXT DEFAULT (datetime('now')),"
                             "    PRIMARY KEY (name, version)"
                             ");"
                             "CREATE TABLE IF NOT EXISTS labels ("
                             "    name        TEXT NOT NULL,"
                             "    cid         TEXT NOT NULL,"
                             "    version     TEXT NOT NULL DEFAULT '',"
                             "    description TEXT,"
                             "    created_at  TEXT DEFAULT (datetime('now')),"
                             "    PRIMARY KEY (name, version)"
                             ");"
                             "CREATE INDEX IF NOT EXISTS idx_labels_cid"
                             "    ON labels(cid);";

struct value {
    struct atd_bytes bytes;
    bool is_blob; /* else text */
};

#define TEXT(str) ((struct value){atd_str_bytes(str), false})
#define BLOB(bytes) ((struct value){(bytes), true})

static int sqlite_failure(sqlite3 *db, struct atd_error *err)
{
    return atd_error_set(err, EIO, "index cannot be written: %s", sqlite3_errmsg(db));
}

static int execute(sqlite3 *db, const char *sql, struct atd_error *err)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : sqlite_failure(db, err);
}

static int bind_value(sqlite3_stmt *statement, int column, struct value value)
{
    if (value.is_blob)
        return sqlite3_bind_blob64(statement, column, value.bytes.ptr, value.bytes.len,
                                   SQLITE_STATIC);
    return sqlite3_bind_text64(statement, column, (const char *)value.bytes.ptr, value.bytes.len,
                               SQLITE_STATIC, SQLITE_UTF8);
}

/* Runs one INSERT whose parameters are `values`. */
static int insert(sqlite3 *db, const char *sql, const struct value *values, int count,
                  struct atd_error *err)
{
    sqlite3_stmt *statement = NULL;
    int status = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
    int failed = 0;

    for (int i = 0; i < count && status == SQLITE_OK; i++)
        status = bind_value(statement, i + 1, values[i]);
    if (status != SQLITE_OK || sqlite3_step(statement) != SQLITE_DONE)
        failed = sqlite_failure(db, err);
    (void)sqlite3_finalize(statement);
    return failed;
}

static int insert_label(sqlite3 *db, const struct index_content *content, struct atd_str version,
                        struct atd_error *err)
{
    const struct value label[] = {TEXT(content->name), TEXT(atd_str_from(content->cid.text)),
                                  TEXT(version), TEXT(content->label_description)};

    return insert(db, "INSERT INTO labels (name, cid, version, description) VALUES (?, ?, ?, ?)",
                  label, ATD_ARRAY_LEN(label), err);
}

static int fill(sqlite3 *db, const struct index_content *content, struct atd_error *err)
{
    const struct value schema[] = {TEXT(content->schema_name), TEXT(content->schema_version),
                                   TEXT(content->schema_json)};
    const struct value entry[] = {TEXT(atd_str_from(content->cid.text)), TEXT(content->name),
                                  TEXT(content->schema_ref), BLOB(content->data_urls),
                                  BLOB(content->metadata)};
    int failed = execute(db, "PRAGMA journal_mode=WAL", err);

    if (!failed)
        failed = execute(db, TABLES, err);
    if (!failed)
        failed = execute(db, "BEGIN IMMEDIATE", err);
    if (!failed)
        failed = insert(db, "INSERT INTO schemas (name, version, schema_json) VALUES (?, ?, ?)",
                        schema, ATD_ARRAY_LEN(schema), err);
    if (!failed)
        failed = insert(db,
                        "INSERT INTO dataset_entries (cid, name, schema_ref, data_urls, metadata)"
                        " VALUES (?, ?, ?, ?, ?)",
                        entry, ATD_ARRAY_LEN(entry), err);
    if (!failed)
        failed = insert_label(db, content, content->label_version, err);
    if (!failed)
        failed = insert_label(db, content, ATD_STR(""), err);
    return failed ? failed : execute(db, "COMMIT", err);
}

int index_write(const char *directory, const struct index_content *content, struct atd_error *err)
{
    char path[PATH_MAX];
    char unfinished[PATH_MAX + 16];
    sqlite3 *db = NULL;
    int failed = 0;

    if (snprintf(path, sizeof(path), "%s/index.db", directory) >= (int)sizeof(path))
        return atd_error_set(err, ENAMETOOLONG, "directory '%s' has too long a name", directory);
    (void)snprintf(unfinished, sizeof(unfinished), "%s.unfinished", path);
    (void)unlink(unfinished);

    if (sqlite3_open_v2(unfinished, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL))
        failed = sqlite_failure(db, err);
    if (!failed)
        failed = fill(db, content, err);
    /* Closing the last connection folds the -wal file in, so that the file alone is the index. */
    if (sqlite3_close(db) != SQLITE_OK && !failed)
        failed = sqlite_failure(db, err);
    if (failed)
        return failed;
    if (renameat2(AT_FDCWD, unfinished, AT_FDCWD, path, RENAME_NOREPLACE) != 0)
        return atd_error_set(err, errno, "index '%s' cannot be put in place: %s", path,
                             strerror(errno));
    return 0;
}

#include "index/sqlite_row.h"

#include <stdio.h>

#include "base/check.h"
#include "index/sqlite_open.h"

/* ------------------------------------------------------------------ tables */

int atd_sqlite_table_state(sqlite3 *db, const char *name, enum atd_sqlite_table *ret_state,
                           struct atd_error *err)
{
    /* SQLite's own names know no case. */
    static const char query[] =
        "SELECT type = 'table' AND sql NOT LIKE 'create virtual%' AND NOT EXISTS (SELECT 1 FROM "
        "pragma_table_xinfo(?1) WHERE hidden IN (2, 3)) FROM sqlite_schema WHERE name = ?1 COLLATE "
        "NOCASE AND type IN ('table', 'view')";
    sqlite3_stmt *row = NULL;
    int step;

    *ret_state = ATD_SQLITE_TABLE_MISSING;
    if (sqlite3_prepare_v2(db, query, -1, &row, NULL) != SQLITE_OK ||
        sqlite3_bind_text(row, 1, name, -1, SQLITE_STATIC) != SQLITE_OK) {
        (void)sqlite3_finalize(row);
        return atd_sqlite_error(db, "cannot read its schema", err);
    }
    step = sqlite3_step(row);
    if (step == SQLITE_ROW)
        *ret_state = sqlite3_column_int(row, 0) ? ATD_SQLITE_TABLE_PLAIN : ATD_SQLITE_TABLE_STRANGE;
    (void)sqlite3_finalize(row);
    if (step != SQLITE_ROW && step != SQLITE_DONE)
        return atd_sqlite_error(db, "cannot read its schema", err);
    return 0;
}

/* ------------------------------------------------------------------ columns */

static const char *type_name(int type)
{
    static const char *const names[] = {"?", "INTEGER", "REAL", "TEXT", "BLOB", "NULL"};

    return type > 0 && type < (int)ATD_ARRAY_LEN(names) ? names[type] : names[0];
}

/* The bytes of a column; never a NULL pointer, which means "none". */
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

static bool has_type(sqlite3_stmt *row, int column, int type,
                     struct atd_sqlite_row_fault *ret_fault)
{
    int found = sqlite3_column_type(row, column);

    if (found == type)
        return true;
    ret_fault->key = column_text_or_none(row, 0);
    (void)snprintf(ret_fault->reason, sizeof(ret_fault->reason), "column %s is %s, not %s",
                   sqlite3_column_name(row, column), type_name(found), type_name(type));
    return false;
}

bool atd_sqlite_row_entry(sqlite3_stmt *row, struct atd_index_entry *ret_entry,
                          struct atd_sqlite_row_fault *ret_fault)
{
    struct atd_index_entry entry = {0};

    if (!has_type(row, 0, SQLITE_TEXT, ret_fault) || !has_type(row, 1, SQLITE_TEXT, ret_fault) ||
        !has_type(row, 2, SQLITE_TEXT, ret_fault) || !has_type(row, 3, SQLITE_BLOB, ret_fault))
        return false;
    if (sqlite3_column_type(row, 4) != SQLITE_NULL && !has_type(row, 4, SQLITE_BLOB, ret_fault))
        return false;
    entry.cid = column_text(row, 0);
    entry.name = column_text(row, 1);
    entry.schema_ref = column_text(row, 2);
    entry.data_urls = column_bytes(row, 3);
    if (sqlite3_column_type(row, 4) == SQLITE_BLOB)
        entry.metadata = column_bytes(row, 4);
    entry.created_at = column_text_or_none(row, 5);
    *ret_entry = entry;
    return true;
}

bool atd_sqlite_row_label(sqlite3_stmt *row, struct atd_index_label *ret_label,
                          struct atd_sqlite_row_fault *ret_fault)
{
    if (!has_type(row, 0, SQLITE_TEXT, ret_fault) || !has_type(row, 1, SQLITE_TEXT, ret_fault) ||
        !has_type(row, 2, SQLITE_TEXT, ret_fault))
        return false;
    *ret_label = (struct atd_index_label){
        .name = column_text(row, 0),
        .version = column_text(row, 1),
        .cid = column_text(row, 2),
        .description = column_text_or_none(row, 3),
        .created_at = column_text_or_none(row, 4),
    };
    return true;
}

bool atd_sqlite_row_schema(sqlite3_stmt *row, struct atd_index_schema *ret_schema,
                           struct atd_sqlite_row_fault *ret_fault)
{
    if (!has_type(row, 0, SQLITE_TEXT, ret_fault) || !has_type(row, 1, SQLITE_TEXT, ret_fault) ||
        !has_type(row, 2, SQLITE_TEXT, ret_fault))
        return false;
    *ret_schema = (struct atd_index_schema){
        .name = column_text(row, 0),
        .version = column_text(row, 1),
        .json = atd_str_bytes(column_text(row, 2)),
        .created_at = column_text_or_none(row, 3),
    };
    return true;
}

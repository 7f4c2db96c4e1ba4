/*
 * The library's tables, read with suspicion: what a table is, and one row of it as a record.
 * Source: ATDATA-FORMATS 2.1.
 */
#ifndef ATD_INDEX_SQLITE_ROW_H
#define ATD_INDEX_SQLITE_ROW_H

#include <sqlite3.h>

#include "index/index.h"

enum atd_sqlite_table {
    ATD_SQLITE_TABLE_MISSING,
    ATD_SQLITE_TABLE_PLAIN,
    /* A view, a virtual table, or one with computed columns: it could run anything. */
    ATD_SQLITE_TABLE_STRANGE,
};

/* Errors: SQLite's. */
int atd_sqlite_table_state(sqlite3 *db, const char *name, enum atd_sqlite_table *ret_state,
                           struct atd_error *err) ATD_MUST_USE;

/* The columns of a row, as the functions below want them. */
#define ATD_SQLITE_ENTRY_COLUMNS "cid, name, schema_ref, data_urls, metadata, created_at"
#define ATD_SQLITE_LABEL_COLUMNS "name, version, cid, description, created_at"
#define ATD_SQLITE_SCHEMA_COLUMNS "name, version, schema_json, created_at"

/* Why a row is no record. */
struct atd_sqlite_row_fault {
    struct atd_str key; /* may be empty; valid as long as the row */
    char reason[160];
};

/*
 * False, with `ret_fault`, when a column has not the type that the library stores: Python fails on
 * it (2.1: "BLOB/TEXT mixed up"). Views are valid until the statement's next step.
 */
bool atd_sqlite_row_entry(sqlite3_stmt *row, struct atd_index_entry *ret_entry,
                          struct atd_sqlite_row_fault *ret_fault);
bool atd_sqlite_row_label(sqlite3_stmt *row, struct atd_index_label *ret_label,
                          struct atd_sqlite_row_fault *ret_fault);
bool atd_sqlite_row_schema(sqlite3_stmt *row, struct atd_index_schema *ret_schema,
                           struct atd_sqlite_row_fault *ret_fault);

#endif

/*
 * What changed between two generations, by file name: what the kernel must be told.
 */
#ifndef ATD_CATALOG_DIFF_H
#define ATD_CATALOG_DIFF_H

#include "catalog/catalog.h"

enum atd_diff_table { ATD_DIFF_DATASET, ATD_DIFF_ENTRY, ATD_DIFF_SCHEMA, ATD_DIFF_LABEL };
enum atd_diff_kind { ATD_DIFF_ADDED, ATD_DIFF_REMOVED, ATD_DIFF_CHANGED };

/* `file_name` is as in the table's find function (a schema's is its stem). */
typedef void (*atd_diff_fn)(void *ctx, enum atd_diff_table table, enum atd_diff_kind kind,
                            struct atd_str file_name);

/* Calls `fn` once a difference, table by table, in file name order. */
void atd_catalog_diff(const struct atd_catalog *before, const struct atd_catalog *after,
                      atd_diff_fn fn, void *ctx);

#endif

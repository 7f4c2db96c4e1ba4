/*
 * The object table: what was once learned of objects (size, ETag, time, SHA-256), kept for ever.
 *
 * One append-only file of records, each with a CRC32C, replayed at the start into a hash table;
 * several processes may append to one file (one write each, O_APPEND, under flock). What is torn
 * or damaged is skipped; the file is rewritten (new file, rename) when most of it is superseded.
 * Without a path it lives in memory only.
 *
 * Threads: any. Keys are (scope, URL): the scope is the endpoint, so that the same s3:// URL at two
 * servers is two objects.
 */
#ifndef ATD_STORE_OBJECT_TABLE_H
#define ATD_STORE_OBJECT_TABLE_H

#include "atdata/error.h"
#include "net/object_info.h"

#define ATD_OBJECTS_MAX (4u << 20) /* beyond it nothing new is kept */

struct atd_object_table;

/* `path` NULL: memory only. Blocks. A file that cannot be read or written makes a table in memory
 * and sets *ret_warning (may be NULL; else ATD_ERROR_INIT before). Errors: ENOMEM. */
int atd_object_table_open(const char *path, struct atd_object_table **ret_table,
                          struct atd_error *ret_warning, struct atd_error *err) ATD_MUST_USE;
/* NULL is fine. */
void atd_object_table_close(struct atd_object_table *table);

/* False when the object is not known. Never blocks. */
bool atd_object_table_find(struct atd_object_table *table, struct atd_str scope, struct atd_str url,
                           struct atd_object_info *ret_info);

/* Adds or replaces. Blocks on the disk (a failed write is only remembered for _status). */
void atd_object_table_put(struct atd_object_table *table, struct atd_str scope, struct atd_str url,
                          const struct atd_object_info *info);
/* The object turned out to be another version: what was known is forgotten. Blocks as _put. */
void atd_object_table_drop(struct atd_object_table *table, struct atd_str scope,
                           struct atd_str url);

size_t atd_object_table_count(struct atd_object_table *table);

struct atd_object_table_status {
    uint64_t objects;
    uint64_t file_bytes;     /* as far as it was read; 0: in memory only */
    uint64_t damaged_bytes;  /* of these, passed over */
    uint64_t write_failures; /* facts that only this process remembers */
};
void atd_object_table_status(struct atd_object_table *table,
                             struct atd_object_table_status *ret_status);

#endif

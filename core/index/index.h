/*
 * An index: where entries, labels and schemas are kept. One interface, several providers.
 *
 * A provider reports raw records; what they mean, and whether their contents are sound, is the
 * catalog's business. Source of the record shapes: ATDATA-FORMATS 1.2 to 1.4, 2.1.
 */
#ifndef ATD_INDEX_INDEX_H
#define ATD_INDEX_INDEX_H

#include "atdata/error.h"
#include "atdata/str.h"

struct atd_index_entry {
    struct atd_str cid;
    struct atd_str name;
    struct atd_str schema_ref;
    struct atd_bytes data_urls; /* msgpack */
    struct atd_bytes metadata;  /* msgpack; ptr NULL: none */
    struct atd_str created_at;  /* ptr NULL: unknown */
};

struct atd_index_label {
    struct atd_str name;
    struct atd_str version; /* empty: unversioned */
    struct atd_str cid;
    struct atd_str description; /* ptr NULL: none */
    struct atd_str created_at;  /* ptr NULL: unknown */
};

struct atd_index_schema {
    struct atd_str name; /* may be dotted (module.Class) */
    struct atd_str version;
    struct atd_bytes json;
    struct atd_str created_at; /* when stored; ptr NULL: unknown */
};

/*
 * Receives a load. Views are valid during the call only. A callback returns 0, or a negative
 * errno with `err` set, which ends the load. Of a record that is reported twice the last one
 * counts.
 */
struct atd_index_sink {
    void *ctx;
    int (*entry)(void *ctx, const struct atd_index_entry *entry, struct atd_error *err);
    int (*label)(void *ctx, const struct atd_index_label *label, struct atd_error *err);
    int (*schema)(void *ctx, const struct atd_index_schema *schema, struct atd_error *err);
    /* A record that cannot even be reported: `what` names its kind, `key` may be empty. */
    void (*problem)(void *ctx, const char *what, struct atd_str key, const char *reason);
};

struct atd_index;

struct atd_index_ops {
    const char *provider; /* "sqlite", "memory" */
    int (*load)(struct atd_index *index, const struct atd_index_sink *sink, struct atd_error *err);
    bool (*changed)(struct atd_index *index);
    void (*free)(struct atd_index *index);
};

/* The first member of every provider. */
struct atd_index {
    const struct atd_index_ops *ops;
    char *location; /* for people: a path or a URL without secrets */
};

/*
 * Reports every record of one consistent state. An index that does not exist yet is empty.
 * Blocks: on the provider. Threads: one at a time.
 */
int atd_index_load(struct atd_index *index, const struct atd_index_sink *sink,
                   struct atd_error *err) ATD_MUST_USE;

/*
 * True when something may have changed since the state that the last load reported (or when no
 * load succeeded yet). Cheap: made to be called a few times a second. Threads: as load.
 */
bool atd_index_changed(struct atd_index *index);

void atd_index_free(struct atd_index *index);

/*
 * The library's SQLite database, read only: never created, never altered, not even by the files
 * that SQLite would put beside it. `path` is absolute. Errors: ENOMEM.
 */
int atd_index_sqlite_open(const char *path, struct atd_index **ret_index,
                          struct atd_error *err) ATD_MUST_USE;

/* For tests: records that the test sets. */
struct atd_index *atd_index_memory_new(void) ATD_MUST_USE;

/* Replaces the contents; the arrays and what they view must outlive the index. Any thread. */
void atd_index_memory_set(struct atd_index *index, const struct atd_index_entry *entries,
                          size_t entry_count, const struct atd_index_label *labels,
                          size_t label_count, const struct atd_index_schema *schemas,
                          size_t schema_count);

#endif

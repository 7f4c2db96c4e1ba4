/*
 * The SQLite writer. Each operation opens the database, changes it in one transaction and closes
 * it: nothing is held while nobody publishes, and the last to leave folds the -wal file in.
 *
 * Statements: ATDATA-FORMATS 2.1; an entry, a schema or a label is put as the library puts it, so
 * that it gets a new rowid, by which the library's lookups choose. A SET leaves the row in place.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "index/record_copy.h"
#include "index/sqlite_row.h"
#include "index/sqlite_writable.h"
#include "index/writer.h"

/* Left of ATD_INDEX_WRITE_MS for what follows the last wait for a lock. */
#define MARGIN_MS 1000
/* Of the text form of a time in SQLite: YYYY-MM-DD HH:MM:SS. */
#define TIME_BYTES 19

struct sqlite_writer {
    struct atd_index_writer base;
    char *path;
};

/* ------------------------------------------------------------------ statements */

/* One prepared statement; binds do not copy, so what is bound must outlive it. */
struct statement {
    const struct atd_sqlite_writable *writable;
    const char *what;
    sqlite3_stmt *row;
    int bound;
    bool failed;
};

static struct statement prepare(const struct atd_sqlite_writable *writable, const char *what,
                                const char *sql)
{
    struct statement statement = {.writable = writable, .what = what};

    statement.failed = sqlite3_prepare_v2(writable->db, sql, -1, &statement.row, NULL) != SQLITE_OK;
    return statement;
}

/* ptr NULL: NULL. */
static void bind_text(struct statement *statement, struct atd_str text)
{
    if (!statement->failed)
        statement->failed = sqlite3_bind_text64(statement->row, ++statement->bound, text.ptr,
                                                text.len, SQLITE_STATIC, SQLITE_UTF8) != SQLITE_OK;
}

static void bind_blob(struct statement *statement, struct atd_bytes bytes)
{
    if (!statement->failed)
        statement->failed = sqlite3_bind_blob64(statement->row, ++statement->bound, bytes.ptr,
                                                bytes.len, SQLITE_STATIC) != SQLITE_OK;
}

/* An empty text is no NULL. */
static struct atd_str text_of(struct atd_str text)
{
    return text.ptr ? text : ATD_STR("");
}

/* 1 for a row, 0 for none (any more), or a set error. */
static int step(struct statement *statement, struct atd_error *err)
{
    int code = statement->failed ? SQLITE_ERROR : sqlite3_step(statement->row);

    if (code == SQLITE_ROW || code == SQLITE_DONE)
        return code == SQLITE_ROW;
    return atd_sqlite_writable_error(statement->writable, statement->what, err);
}

static int finish(struct statement *statement, struct atd_error *err)
{
    int rc = step(statement, err);

    (void)sqlite3_finalize(statement->row);
    return rc < 0 ? rc : 0;
}

static struct statement select_record(const struct atd_sqlite_writable *writable,
                                      enum atd_index_kind kind, const union atd_index_record *key)
{
    static const char *const queries[] = {
        [ATD_INDEX_ENTRY] =
            "SELECT " ATD_SQLITE_ENTRY_COLUMNS " FROM dataset_entries WHERE cid = ?1",
        [ATD_INDEX_LABEL] =
            "SELECT " ATD_SQLITE_LABEL_COLUMNS " FROM labels WHERE name = ?1 AND version = ?2",
        [ATD_INDEX_SCHEMA] =
            "SELECT " ATD_SQLITE_SCHEMA_COLUMNS " FROM schemas WHERE name = ?1 AND version = ?2",
    };
    struct statement statement = prepare(writable, "cannot read the record", queries[kind]);

    if (kind == ATD_INDEX_ENTRY) {
        bind_text(&statement, text_of(key->entry.cid));
    } else if (kind == ATD_INDEX_LABEL) {
        bind_text(&statement, text_of(key->label.name));
        bind_text(&statement, text_of(key->label.version));
    } else {
        bind_text(&statement, text_of(key->schema.name));
        bind_text(&statement, text_of(key->schema.version));
    }
    return statement;
}

static bool record_of(sqlite3_stmt *row, enum atd_index_kind kind,
                      union atd_index_record *ret_record, struct atd_sqlite_row_fault *ret_fault)
{
    switch (kind) {
    case ATD_INDEX_ENTRY:
        return atd_sqlite_row_entry(row, &ret_record->entry, ret_fault);
    case ATD_INDEX_LABEL:
        return atd_sqlite_row_label(row, &ret_record->label, ret_fault);
    default:
        return atd_sqlite_row_schema(row, &ret_record->schema, ret_fault);
    }
}

/* ------------------------------------------------------------------ reading */

static int copy_record(struct atd_arena *arena, enum atd_index_kind kind,
                       const union atd_index_record *record, union atd_index_record *ret_record,
                       struct atd_error *err)
{
    switch (kind) {
    case ATD_INDEX_ENTRY:
        return atd_index_entry_copy(arena, &record->entry, &ret_record->entry, err);
    case ATD_INDEX_LABEL:
        return atd_index_label_copy(arena, &record->label, &ret_record->label, err);
    default:
        return atd_index_schema_copy(arena, &record->schema, &ret_record->schema, err);
    }
}

static const char *table_of(enum atd_index_kind kind)
{
    static const char *const names[] = {
        [ATD_INDEX_ENTRY] = "dataset_entries",
        [ATD_INDEX_LABEL] = "labels",
        [ATD_INDEX_SCHEMA] = "schemas",
    };

    return names[kind];
}

static int read_record(const struct atd_sqlite_writable *writable, enum atd_index_kind kind,
                       const union atd_index_record *key, struct atd_arena *arena,
                       union atd_index_record *ret_record, struct atd_error *err)
{
    struct atd_sqlite_row_fault fault;
    union atd_index_record record;
    enum atd_sqlite_table state;
    struct statement statement;
    int rc;

    if (atd_sqlite_table_state(writable->db, table_of(kind), &state, NULL))
        return atd_sqlite_writable_error(writable, "cannot read its schema", err);
    if (state == ATD_SQLITE_TABLE_STRANGE)
        return atd_error_set(err, EINVAL, "its table %s is no plain table", table_of(kind));
    if (state == ATD_SQLITE_TABLE_MISSING)
        return atd_error_set(err, ENOENT, "there is no such record");
    statement = select_record(writable, kind, key);
    rc = step(&statement, err);
    if (rc == 0)
        rc = atd_error_set(err, ENOENT, "there is no such record");
    else if (rc > 0 && !record_of(statement.row, kind, &record, &fault))
        rc = atd_error_set(err, EINVAL, "the record is broken: %s", fault.reason);
    else if (rc > 0)
        rc = copy_record(arena, kind, &record, ret_record, err);
    (void)sqlite3_finalize(statement.row);
    return rc;
}

static int64_t deadline(void)
{
    return atd_clock_monotonic_ms() + ATD_INDEX_WRITE_MS - MARGIN_MS;
}

static int sqlite_read(struct atd_index_writer *base, enum atd_index_kind kind,
                       const union atd_index_record *key, struct atd_arena *arena,
                       union atd_index_record *ret_record, struct atd_error *err)
{
    const struct sqlite_writer *writer = (const struct sqlite_writer *)base;
    struct atd_sqlite_writable writable;
    int rc = atd_sqlite_writable_open(writer->path, ATD_SQLITE_TO_READ, deadline(), &writable, err);

    if (rc)
        return rc;
    rc = read_record(&writable, kind, key, arena, ret_record, err);
    atd_sqlite_writable_close(&writable);
    return rc;
}

/* ------------------------------------------------------------------ conditions */

static bool bytes_equal(struct atd_bytes a, struct atd_bytes b)
{
    return !a.ptr == !b.ptr && atd_str_equal(atd_bytes_str(a), atd_bytes_str(b));
}

static bool is_same(enum atd_index_kind kind, const union atd_index_record *a,
                    const union atd_index_record *b)
{
    switch (kind) {
    case ATD_INDEX_ENTRY:
        return atd_str_equal(a->entry.name, b->entry.name) &&
               atd_str_equal(a->entry.schema_ref, b->entry.schema_ref) &&
               bytes_equal(a->entry.data_urls, b->entry.data_urls) &&
               bytes_equal(a->entry.metadata, b->entry.metadata);
    case ATD_INDEX_LABEL:
        return atd_str_equal(a->label.cid, b->label.cid);
    default:
        return atd_str_equal(atd_bytes_str(a->schema.json), atd_bytes_str(b->schema.json));
    }
}

static bool needs_record(const struct atd_index_operation *operation)
{
    return operation->expect == ATD_INDEX_SAME || operation->action == ATD_INDEX_SET_ENTRY_NAME ||
           operation->action == ATD_INDEX_SET_ENTRY_METADATA;
}

/* 1 when the record is as expected, 0 when not, or a set error. */
static int holds(const struct atd_sqlite_writable *writable,
                 const struct atd_index_operation *operation, struct atd_error *err)
{
    struct atd_sqlite_row_fault fault;
    union atd_index_record record;
    struct statement statement;
    int rc;

    if (operation->expect == ATD_INDEX_ANY && !needs_record(operation))
        return 1;
    statement = select_record(writable, operation->kind, &operation->before);
    rc = step(&statement, err);
    if (rc >= 0 && operation->expect == ATD_INDEX_ABSENT)
        rc = rc == 0 && !needs_record(operation);
    else if (rc > 0 && operation->expect == ATD_INDEX_SAME)
        rc = record_of(statement.row, operation->kind, &record, &fault) &&
             is_same(operation->kind, &record, &operation->before);
    (void)sqlite3_finalize(statement.row);
    return rc;
}

/* ------------------------------------------------------------------ changes */

static int put_entry(const struct atd_sqlite_writable *writable,
                     const struct atd_index_entry *entry, struct atd_error *err)
{
    struct statement statement = prepare(
        writable, "cannot write the entry",
        "INSERT OR REPLACE INTO dataset_entries (cid, name, schema_ref, data_urls, metadata, "
        "legacy_uuid) VALUES (?1, ?2, ?3, ?4, ?5, NULL)");

    bind_text(&statement, text_of(entry->cid));
    bind_text(&statement, text_of(entry->name));
    bind_text(&statement, text_of(entry->schema_ref));
    bind_blob(&statement, entry->data_urls);
    bind_blob(&statement, entry->metadata);
    return finish(&statement, err);
}

static int set_entry(const struct atd_sqlite_writable *writable,
                     const struct atd_index_operation *operation, struct atd_error *err)
{
    const bool is_name = operation->action == ATD_INDEX_SET_ENTRY_NAME;
    struct statement statement =
        prepare(writable, "cannot change the entry",
                is_name ? "UPDATE dataset_entries SET name = ?1 WHERE cid = ?2"
                        : "UPDATE dataset_entries SET metadata = ?1 WHERE cid = ?2");

    if (is_name)
        bind_text(&statement, text_of(operation->after.entry.name));
    else
        bind_blob(&statement, operation->after.entry.metadata);
    bind_text(&statement, text_of(operation->after.entry.cid));
    return finish(&statement, err);
}

/*
 * The library compares these texts with those that SQLite makes (its default label is the newest),
 * where a 'T' would count for more than any time of the day. What is no time stays as it is.
 */
static struct atd_str time_for_sqlite(struct atd_str text, char buffer[ATD_CLOCK_TEXT_MAX])
{
    int64_t seconds;

    if (text.len == 0)
        return (struct atd_str){NULL, 0};
    if (!atd_clock_parse(text, &seconds))
        return text;
    atd_clock_format(seconds, buffer);
    buffer[10] = ' ';
    return (struct atd_str){buffer, TIME_BYTES};
}

static int put_label(const struct atd_sqlite_writable *writable,
                     const struct atd_index_label *label, struct atd_error *err)
{
    char buffer[ATD_CLOCK_TEXT_MAX];
    struct statement statement = prepare(
        writable, "cannot write the label",
        "INSERT OR REPLACE INTO labels (name, cid, version, description, created_at) VALUES (?1, "
        "?2, ?3, coalesce(?4, (SELECT description FROM labels WHERE name = ?1 AND version = ?3)), "
        "coalesce(?5, datetime('now')))");

    bind_text(&statement, text_of(label->name));
    bind_text(&statement, text_of(label->cid));
    bind_text(&statement, text_of(label->version));
    bind_text(&statement, label->description);
    bind_text(&statement, time_for_sqlite(label->created_at, buffer));
    return finish(&statement, err);
}

static int put_schema(const struct atd_sqlite_writable *writable,
                      const struct atd_index_schema *schema, struct atd_error *err)
{
    struct statement statement =
        prepare(writable, "cannot write the schema",
                "INSERT OR REPLACE INTO schemas (name, version, schema_json) VALUES (?1, ?2, ?3)");

    bind_text(&statement, text_of(schema->name));
    bind_text(&statement, text_of(schema->version));
    bind_text(&statement, atd_bytes_str(schema->json));
    return finish(&statement, err);
}

static int delete_record(const struct atd_sqlite_writable *writable,
                         const struct atd_index_operation *operation, struct atd_error *err)
{
    static const char *const queries[] = {
        [ATD_INDEX_ENTRY] = "DELETE FROM dataset_entries WHERE cid = ?1",
        [ATD_INDEX_LABEL] = "DELETE FROM labels WHERE name = ?1 AND version = ?2",
        [ATD_INDEX_SCHEMA] = "DELETE FROM schemas WHERE name = ?1 AND version = ?2",
    };
    const union atd_index_record *key = &operation->before;
    struct statement statement =
        prepare(writable, "cannot delete the record", queries[operation->kind]);

    if (operation->kind == ATD_INDEX_ENTRY) {
        bind_text(&statement, text_of(key->entry.cid));
    } else if (operation->kind == ATD_INDEX_LABEL) {
        bind_text(&statement, text_of(key->label.name));
        bind_text(&statement, text_of(key->label.version));
    } else {
        bind_text(&statement, text_of(key->schema.name));
        bind_text(&statement, text_of(key->schema.version));
    }
    return finish(&statement, err);
}

static int apply(const struct atd_sqlite_writable *writable,
                 const struct atd_index_operation *operation, struct atd_error *err)
{
    switch (operation->action) {
    case ATD_INDEX_CHECK:
        return 0;
    case ATD_INDEX_PUT_ENTRY:
        return put_entry(writable, &operation->after.entry, err);
    case ATD_INDEX_SET_ENTRY_NAME:
    case ATD_INDEX_SET_ENTRY_METADATA:
        return set_entry(writable, operation, err);
    case ATD_INDEX_PUT_LABEL:
        return put_label(writable, &operation->after.label, err);
    case ATD_INDEX_PUT_SCHEMA:
        return put_schema(writable, &operation->after.schema, err);
    default:
        return delete_record(writable, operation, err);
    }
}

/* ------------------------------------------------------------------ commit */

/* SQLite's functions, and with them many a reader, end a text at its first NUL. */
static int check_text(struct atd_str text, struct atd_error *err)
{
    if (atd_str_find(text, '\0') < 0)
        return 0;
    return atd_error_set(err, EINVAL, "'" ATD_STR_FMT "' has a NUL in it, which SQL cannot hold",
                         ATD_STR_ARG(text));
}

static int check_texts(const struct atd_index_operation *operation, struct atd_error *err)
{
    const union atd_index_record *after = &operation->after;
    struct atd_str texts[5] = {{NULL, 0}};
    int rc = 0;

    switch (operation->action) {
    case ATD_INDEX_PUT_ENTRY:
        texts[0] = after->entry.cid;
        texts[1] = after->entry.schema_ref;
        texts[2] = after->entry.name;
        break;
    case ATD_INDEX_SET_ENTRY_NAME:
        texts[0] = after->entry.name;
        break;
    case ATD_INDEX_PUT_LABEL:
        texts[0] = after->label.name;
        texts[1] = after->label.version;
        texts[2] = after->label.cid;
        texts[3] = after->label.description;
        texts[4] = after->label.created_at;
        break;
    case ATD_INDEX_PUT_SCHEMA:
        texts[0] = after->schema.name;
        texts[1] = after->schema.version;
        texts[2] = atd_bytes_str(after->schema.json);
        break;
    default:
        break;
    }
    for (size_t i = 0; i < ATD_ARRAY_LEN(texts) && rc == 0; i++)
        rc = check_text(texts[i], err);
    return rc;
}

static int change(struct atd_sqlite_writable *writable,
                  const struct atd_index_operation *operations, size_t count, size_t *ret_which,
                  struct atd_error *err)
{
    int rc = atd_sqlite_writable_begin(writable, err);

    for (size_t i = 0; i < count && rc == 0; i++) {
        rc = holds(writable, &operations[i], err);
        if (rc == 0)
            return atd_index_not_as_expected(i, ret_which, err);
        rc = rc > 0 ? 0 : rc;
    }
    for (size_t i = 0; i < count && rc == 0; i++)
        rc = apply(writable, &operations[i], err);
    return rc ? rc : atd_sqlite_writable_commit(writable, err);
}

/* With no file there is nothing to compare, and none is made for a change that cannot be. */
static int check_without_file(const struct atd_index_operation *operations, size_t count,
                              bool *ret_writes, size_t *ret_which, struct atd_error *err)
{
    *ret_writes = false;
    for (size_t i = 0; i < count; i++) {
        if (needs_record(&operations[i]))
            return atd_index_not_as_expected(i, ret_which, err);
        *ret_writes = *ret_writes || operations[i].action == ATD_INDEX_PUT_ENTRY ||
                      operations[i].action == ATD_INDEX_PUT_LABEL ||
                      operations[i].action == ATD_INDEX_PUT_SCHEMA;
    }
    return 0;
}

static int sqlite_commit(struct atd_index_writer *base,
                         const struct atd_index_operation *operations, size_t count,
                         size_t *ret_which, struct atd_error *err)
{
    const struct sqlite_writer *writer = (const struct sqlite_writer *)base;
    struct atd_sqlite_writable writable;
    bool there = false;
    bool writes = true;
    int rc = 0;

    for (size_t i = 0; i < count && rc == 0; i++)
        rc = check_texts(&operations[i], err);
    if (rc == 0)
        rc = atd_sqlite_is_there(writer->path, &there, err);
    if (rc == 0 && !there)
        rc = check_without_file(operations, count, &writes, ret_which, err);
    if (rc || !writes)
        return rc;
    rc = atd_sqlite_writable_open(writer->path, ATD_SQLITE_TO_WRITE, deadline(), &writable, err);
    if (rc)
        return rc;
    rc = change(&writable, operations, count, ret_which, err);
    atd_sqlite_writable_close(&writable);
    return rc;
}

/* ------------------------------------------------------------------ the writer */

static int sqlite_check(struct atd_index_writer *base, struct atd_error *err)
{
    return atd_sqlite_writable_check(((const struct sqlite_writer *)base)->path, err);
}

static void sqlite_free(struct atd_index_writer *base)
{
    free(((struct sqlite_writer *)base)->path);
    free(base);
}

static const struct atd_index_writer_ops sqlite_writer_ops = {
    .provider = "sqlite",
    .read = sqlite_read,
    .commit = sqlite_commit,
    .check = sqlite_check,
    .free = sqlite_free,
};

int atd_index_sqlite_writer(const char *path, struct atd_index_writer **ret_writer,
                            struct atd_error *err)
{
    struct sqlite_writer *writer = calloc(1, sizeof(*writer));

    atd_assert(path[0] == '/');
    if (!writer)
        return atd_error_set(err, ENOMEM, "index: out of memory");
    writer->base.ops = &sqlite_writer_ops;
    writer->path = strdup(path);
    writer->base.location = strdup(path);
    if (!writer->path || !writer->base.location) {
        atd_index_writer_free(&writer->base);
        return atd_error_set(err, ENOMEM, "index: out of memory");
    }
    *ret_writer = &writer->base;
    return 0;
}

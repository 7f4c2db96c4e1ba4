/*
 * Writing to an index: single records read fresh, and several changed at once or not at all.
 *
 * A change is a list of operations, each with what its record must be like before; when one of
 * them is not, nothing is changed and -ESTALE says so: read again, plan again. So two writers
 * never lose each other's work. Implementations: redis (a Lua script; WATCH and MULTI where scripts
 * are not allowed; ordered steps on a cluster), sqlite (one transaction), memory (tests).
 *
 * Records are written exactly as the Python library writes them. Source: ATDATA-FORMATS 1.2 to 1.4,
 * 1.8, 2.1; S3-REDIS 6.
 *
 * Blocks: on the server or the disk, at most about ATD_INDEX_WRITE_MS. Threads: one at a time; a
 * writer has a connection of its own, apart from the index that is being loaded.
 */
#ifndef ATD_INDEX_WRITER_H
#define ATD_INDEX_WRITER_H

#include "atdata/arena.h"
#include "index/index.h"

#define ATD_INDEX_WRITE_MS 15000
#define ATD_INDEX_OPERATIONS_MAX 256u

struct atd_index_writer;

/* ------------------------------------------------------------------ reading one record */

/* Each copies what it found into `arena`. Errors: ENOENT there is none; EINVAL it is no such
 * record (another type, a field missing); those of the provider. */
int atd_index_read_entry(struct atd_index_writer *writer, struct atd_str cid,
                         struct atd_arena *arena, struct atd_index_entry *ret_entry,
                         struct atd_error *err) ATD_MUST_USE;
int atd_index_read_label(struct atd_index_writer *writer, struct atd_str name,
                         struct atd_str version, struct atd_arena *arena,
                         struct atd_index_label *ret_label, struct atd_error *err) ATD_MUST_USE;
int atd_index_read_schema(struct atd_index_writer *writer, struct atd_str name,
                          struct atd_str version, struct atd_arena *arena,
                          struct atd_index_schema *ret_schema, struct atd_error *err) ATD_MUST_USE;

/* ------------------------------------------------------------------ changing several */

enum atd_index_action {
    ATD_INDEX_CHECK,              /* changes nothing, only the condition counts */
    ATD_INDEX_PUT_ENTRY,          /* the whole record; what stood there is gone first */
    ATD_INDEX_SET_ENTRY_NAME,     /* only `name`; fields we do not know stay */
    ATD_INDEX_SET_ENTRY_METADATA, /* only `metadata` (ptr NULL: none) */
    ATD_INDEX_DELETE_ENTRY,
    ATD_INDEX_PUT_LABEL, /* cid, name, version, created_at (unless empty; SQLite's form there), and
                            description unless ptr is NULL: one that stands there stays then */
    ATD_INDEX_DELETE_LABEL,
    ATD_INDEX_PUT_SCHEMA,
    ATD_INDEX_DELETE_SCHEMA,
};

enum atd_index_expect {
    ATD_INDEX_ANY,
    ATD_INDEX_ABSENT,
    /* As in `before`: entries by name, schema_ref, data_urls and metadata; labels by cid; schemas
     * by json. */
    ATD_INDEX_SAME,
};

/* One record; the one that `kind` (or the action) says. Its key is in it: entry.cid, label.name and
 * version, schema.name and version. */
union atd_index_record {
    struct atd_index_entry entry;
    struct atd_index_label label;
    struct atd_index_schema schema;
};

struct atd_index_operation {
    enum atd_index_action action;
    enum atd_index_kind kind; /* must fit the action */
    enum atd_index_expect expect;
    union atd_index_record before; /* its key always; the rest with ATD_INDEX_SAME */
    union atd_index_record after;  /* PUT and SET: the same key */
};

/*
 * All of them or none: every condition is looked at first, against the state before, then the
 * changes are made in this order. A SET of a record that is not there (any more) is not as
 * expected either, whatever `expect` says: half a record would break every listing.
 *
 * On a Redis cluster, where no such thing can be had: all conditions, then entries and schemas that
 * are put, then labels, then what happens to old entries, each record together with its own
 * conditions; one that fails after the first step (EREMOTEIO) leaves what was written under new
 * keys, which nothing points to.
 *
 * Errors: ESTALE a record is not as expected (`*ret_which`, may be NULL, is its place): nothing was
 * changed; EREMOTEIO the answer was lost, so nobody can say whether it was done: read to find out;
 * or it was done, and fewer replicas than `wait=` wants have it;
 * EROFS a read-only replica or file; ENOSPC; EACCES; EINVAL text that is not UTF-8, TEXT that SQL
 * cannot hold, more than ATD_INDEX_OPERATIONS_MAX; EFBIG a field past its maximum (limits.h); EBUSY
 * (retryable) a database locked by others; those of the link, when nothing was sent.
 */
int atd_index_commit(struct atd_index_writer *writer, const struct atd_index_operation *operations,
                     size_t count, size_t *ret_which, struct atd_error *err) ATD_MUST_USE;

/*
 * Waits until everything that is in the index, as far as this writer sees it, is safe as the URL
 * wants it (`wait=`): a change that somebody finds made may not have reached a replica yet. 0 at
 * once where nothing of that kind was asked for. Errors: EREMOTEIO it is not (yet); those of the
 * provider.
 */
int atd_index_settle(struct atd_index_writer *writer, struct atd_error *err) ATD_MUST_USE;

/*
 * Counts the connections that this writer made: when it has changed, what was committed before may
 * be gone, even if it was acknowledged (a replica that became the master without it, a restart from
 * an older file). 0: none yet, or a provider that forgets nothing.
 */
uint64_t atd_index_writer_epoch(const struct atd_index_writer *writer);

/* Cheap: whether a commit could be made now, as far as is known without trying one: the file is
 * writable, the server answers and is no replica. Blocks. */
int atd_index_writer_check(struct atd_index_writer *writer, struct atd_error *err) ATD_MUST_USE;

/* NULL is fine. */
void atd_index_writer_free(struct atd_index_writer *writer);

/* ------------------------------------------------------------------ providers */

struct atd_redis_url;

/* Connects when it is first needed, and again whenever the link broke. Errors: ENOMEM. */
int atd_index_redis_writer(const struct atd_redis_url *url, const char *ca_file,
                           struct atd_index_writer **ret_writer,
                           struct atd_error *err) ATD_MUST_USE;

/*
 * The library's SQLite file; made with the library's own tables (2.1, WAL mode, mode 0644 under the
 * umask, its directory too) by the first commit when it does not exist. `path` is absolute. The
 * database is opened for each operation and closed after it, so that nothing of it is held while
 * nobody publishes. Errors: ENOMEM.
 */
int atd_index_sqlite_writer(const char *path, struct atd_index_writer **ret_writer,
                            struct atd_error *err) ATD_MUST_USE;

/* Of an index made by atd_index_memory_new (which must outlive it): what is committed shows there,
 * and counts as a change. */
int atd_index_memory_writer(struct atd_index *index, struct atd_index_writer **ret_writer,
                            struct atd_error *err) ATD_MUST_USE;

/* ------------------------------------------------------------------ for implementations */

struct atd_index_writer_ops {
    const char *provider;
    /* The record with the key in `key`, copied into `arena`. */
    int (*read)(struct atd_index_writer *writer, enum atd_index_kind kind,
                const union atd_index_record *key, struct atd_arena *arena,
                union atd_index_record *ret_record, struct atd_error *err);
    int (*commit)(struct atd_index_writer *writer, const struct atd_index_operation *operations,
                  size_t count, size_t *ret_which, struct atd_error *err);
    int (*check)(struct atd_index_writer *writer, struct atd_error *err);
    /* These two may be NULL. */
    int (*settle)(struct atd_index_writer *writer, struct atd_error *err);
    uint64_t (*epoch)(const struct atd_index_writer *writer);
    void (*free)(struct atd_index_writer *writer);
};

/* Sets ESTALE for the operation at `which`. */
int atd_index_not_as_expected(size_t which, size_t *ret_which, struct atd_error *err);

/* The first member of every writer. */
struct atd_index_writer {
    const struct atd_index_writer_ops *ops;
    char *location; /* for people: a path or a URL without secrets; NULL: none. Freed with it. */
};

#endif

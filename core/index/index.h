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

enum atd_index_kind { ATD_INDEX_ENTRY, ATD_INDEX_LABEL, ATD_INDEX_SCHEMA };

/*
 * Receives a load, or changes. Views are valid during the call only. A callback returns 0, or a
 * negative errno with `err` set, which ends the load. Of a record that is reported twice the last
 * one counts.
 */
struct atd_index_sink {
    void *ctx;
    int (*entry)(void *ctx, const struct atd_index_entry *entry, struct atd_error *err);
    int (*label)(void *ctx, const struct atd_index_label *label, struct atd_error *err);
    int (*schema)(void *ctx, const struct atd_index_schema *schema, struct atd_error *err);
    /*
     * Changes only, and called first for each record that may have changed: what was known of it
     * goes, and so do its problems. If it is (still) there, it is reported afterwards. `key`: an
     * entry's CID, "NAME@VERSION" of the others (of which each '@' may be the one in the middle).
     */
    int (*gone)(void *ctx, enum atd_index_kind kind, struct atd_str key, struct atd_error *err);
    /* A record that cannot even be reported: `what` names its kind, `key` may be empty. */
    void (*problem)(void *ctx, const char *what, struct atd_str key, const char *reason);
};

enum atd_index_news {
    ATD_NEWS_NONE,
    ATD_NEWS_SOME, /* atd_index_changes() tells which records */
    ATD_NEWS_ALL,  /* anything may have changed, or nothing was loaded yet: atd_index_load() */
};

struct atd_index;

/* How a provider that is only asked (no wait) is asked: the promise is 200 ms. */
#define ATD_INDEX_POLL_MS 150

struct atd_index_ops {
    const char *provider; /* "sqlite", "memory" */
    int (*load)(struct atd_index *index, const struct atd_index_sink *sink, struct atd_error *err);
    /* Cheap: made to be asked a few times a second. Not used where there is a wait. */
    bool (*changed)(struct atd_index *index);
    /* The four below may be NULL, all together: then there is only changed. */
    enum atd_index_news (*wait)(struct atd_index *index, int wake_fd, unsigned timeout_ms);
    enum atd_index_news (*sync)(struct atd_index *index);
    int (*changes)(struct atd_index *index, const struct atd_index_sink *sink,
                   struct atd_error *err);
    const char *(*coherence)(struct atd_index *index);
    void (*free)(struct atd_index *index);
};

/* The first member of every provider. */
struct atd_index {
    const struct atd_index_ops *ops;
    char *location; /* for people: a path or a URL without secrets */
    int wake_fd;    /* an eventfd: see atd_index_wake; made by atd_index_init */
};

/* For providers: `location` is copied. Errors: ENOMEM, EMFILE; nothing to free then. */
int atd_index_init(struct atd_index *index, const struct atd_index_ops *ops, const char *location,
                   struct atd_error *err) ATD_MUST_USE;

/*
 * Reports every record of one consistent state. An index that does not exist yet is empty.
 * Blocks: on the provider. Threads: one at a time.
 */
int atd_index_load(struct atd_index *index, const struct atd_index_sink *sink,
                   struct atd_error *err) ATD_MUST_USE;

/*
 * Waits for news since the state that the last load or changes reported: until there are some, or
 * `timeout_ms` passed, or somebody called atd_index_wake. A provider that must be asked is asked
 * every ATD_INDEX_POLL_MS; one that is told sleeps. Threads: as load. Blocks: as it says.
 */
enum atd_index_news atd_index_wait(struct atd_index *index, unsigned timeout_ms) ATD_MUST_USE;

/*
 * A barrier: news with everything that was committed, by whomever, before this call. One round
 * trip where the provider is told of changes. Threads: as load. Blocks: on the provider.
 */
enum atd_index_news atd_index_sync(struct atd_index *index) ATD_MUST_USE;

/* The same, when only yes or no matters. */
bool atd_index_changed(struct atd_index *index);

/*
 * After ATD_NEWS_SOME: reports the records that may have changed as they are now (sink->gone). On
 * an error, load. Blocks, Threads, Errors: as load.
 */
int atd_index_changes(struct atd_index *index, const struct atd_index_sink *sink,
                      struct atd_error *err) ATD_MUST_USE;

/* Ends the wait that is under way, or else the next one. Any thread; never blocks. */
void atd_index_wake(struct atd_index *index);

/* How it learns of changes now, for status.json: "polling", "tracking (RESP2)". Any thread. */
const char *atd_index_coherence(struct atd_index *index);

void atd_index_free(struct atd_index *index);

/*
 * The library's SQLite database, read only: never created, never altered, not even by the files
 * that SQLite would put beside it. `path` is absolute. Errors: ENOMEM.
 */
int atd_index_sqlite_open(const char *path, struct atd_index **ret_index,
                          struct atd_error *err) ATD_MUST_USE;

/* For tests: records that the test sets. */
struct atd_index *atd_index_memory_new(void) ATD_MUST_USE;

/* The same, but it tells which records changed (ATD_NEWS_SOME) as Redis does. */
struct atd_index *atd_index_memory_new_telling(void) ATD_MUST_USE;

/* Replaces the contents; the arrays and what they view must outlive the index. Any thread. */
void atd_index_memory_set(struct atd_index *index, const struct atd_index_entry *entries,
                          size_t entry_count, const struct atd_index_label *labels,
                          size_t label_count, const struct atd_index_schema *schemas,
                          size_t schema_count);

#endif

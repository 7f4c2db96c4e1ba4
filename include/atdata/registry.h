/*
 * A registry: an index of datasets (Redis, SQLite) connected with the store of their shards (S3,
 * disk). Lists and gets entries, labels and schemas; publishes them; resolves names; signs URLs.
 *
 * What is read comes from a view of the index in memory that follows every change, from wherever;
 * what this process has changed, it sees when the call that changed it returns.
 *
 * Threads: every function from any thread, but open and close. Blocks: where a function says so,
 * on the disk or the network, never for ever: a server that does not answer is ETIMEDOUT after
 * `timeout_s`. Who ends the process with a registry open does so with _exit(2): exit handlers of
 * the libraries underneath must not run beside its threads. No function exits, logs, or keeps
 * anything in globals (libcurl, hiredis, OpenSSL and SQLite keep theirs); open reads the
 * environment. All memory that is handed out is in the caller's arena and stays valid when the
 * registry is closed.
 */
#ifndef ATDATA_REGISTRY_H
#define ATDATA_REGISTRY_H

#include "atdata/arena.h"
#include "atdata/buf.h"
#include "atdata/cid.h"
#include "atdata/error.h"
#include "atdata/schema.h"
#include "atdata/str.h"

ATD_BEGIN_DECLS

struct atd_registry;

/* Begin with all of it zero; texts are copied. */
struct atd_registry_options {
    /*
     * sqlite:PATH; redis://HOST[:PORT][/DB], rediss://, unix:///SOCKET, redis+sentinel://...;
     * NULL: $ATDATA_INDEX, else sqlite:~/.atdata/index.db. A password that a Redis URL leaves out
     * is taken from $ATDATA_REDIS_PASSWORD.
     */
    const char *index_url;
    /* s3://BUCKET/PREFIX, where new shards go; NULL: the folder `data` beside a SQLite index. */
    const char *store;
    /* The S3 server and who asks, as atdata's S3DataStore takes them. NULL: the usual AWS chain. */
    const char *endpoint;
    const char *region;
    const char *env_file; /* .env: AWS_ENDPOINT, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY */
    const char *profile;
    const char *ca_file;
    bool unsigned_requests;
    /* Local shards are read below these directories, and below that of a SQLite index. */
    const char *const *data_roots;
    size_t data_root_count;
    bool read_only;
    bool universal;        /* new schema references in the form that every release reads */
    const char *state_dir; /* of publishing: spool, journal; NULL: $XDG_STATE_HOME/atdatafs, else
                              ~/.local/state/atdatafs */
    unsigned timeout_s;    /* nothing came or went for so long; 0: 30 */
    uint64_t memory_bytes; /* for shards on their way in and out; 0: 256 MiB */
};

/*
 * Connects, and loads the index. An index file that does not exist is an empty index, and comes
 * into being with the first thing that is published. Starts threads. Blocks. Errors: EINVAL a bad
 * option, with what to write instead; those of the index; ENOMEM, EAGAIN.
 */
int atd_registry_open(const struct atd_registry_options *options,
                      struct atd_registry **ret_registry, struct atd_error *err) ATD_MUST_USE;

/* Nobody is in any function of it, its loaders are closed. Blocks: some seconds at most. False: a
 * thread hangs in a system call, and the memory that it uses stays behind. NULL is fine. */
bool atd_registry_close(struct atd_registry *registry);

/* Waits until all that anybody committed to the index before this call can be seen. Blocks. Errors:
 * ETIMEDOUT, retryable: the index does not answer; what was seen stays. */
int atd_registry_refresh(struct atd_registry *registry, struct atd_error *err) ATD_MUST_USE;

/* ------------------------------------------------------------------ entries */

struct atd_entry {
    struct atd_str name;
    struct atd_str cid;
    struct atd_str schema_ref;
    const struct atd_str *data_urls; /* as stored: patterns and lists are not expanded */
    size_t url_count;
    struct atd_bytes metadata; /* msgpack (entry.h); ptr NULL: none */
};

/* All but former states of a dataset (those are found by CID and by label); sorted by CID. Errors:
 * ENOMEM (also when `arena` is full). */
int atd_registry_list_entries(struct atd_registry *registry, struct atd_arena *arena,
                              const struct atd_entry **ret_entries, size_t *ret_count,
                              struct atd_error *err) ATD_MUST_USE;

/* The entry that a name means: its unversioned label's, else its latest label's, else the only one
 * of that name. Errors: ENOENT; ENOMEM. */
int atd_registry_get_entry(struct atd_registry *registry, struct atd_str name,
                           struct atd_arena *arena, struct atd_entry *ret_entry,
                           struct atd_error *err) ATD_MUST_USE;
int atd_registry_get_entry_by_cid(struct atd_registry *registry, struct atd_str cid,
                                  struct atd_arena *arena, struct atd_entry *ret_entry,
                                  struct atd_error *err) ATD_MUST_USE;
/* That of the label NAME@VERSION. Errors: ENOENT there is no such label, or its entry is gone. */
int atd_registry_get_entry_by_label(struct atd_registry *registry, struct atd_str name,
                                    struct atd_str version, struct atd_arena *arena,
                                    struct atd_entry *ret_entry,
                                    struct atd_error *err) ATD_MUST_USE;

/*
 * `@local/NAME`, `@local/NAME@VERSION`, NAME, NAME@VERSION or a CID. What is a name with an `@` in
 * it as it stands is that name. Unlike load_dataset() an unknown version is an error, not the
 * default. Errors: ENOENT; EINVAL another handle than `local`, or an empty name or version.
 */
int atd_registry_resolve(struct atd_registry *registry, struct atd_str reference,
                         struct atd_arena *arena, struct atd_entry *ret_entry,
                         struct atd_error *err) ATD_MUST_USE;

/*
 * Makes `name` mean these shards, which lie where the URLs say already: entry and label in one
 * change, an entry of that name that was there is superseded. metadata.ptr NULL: none (that of an
 * entry with the same CID stays). Blocks. Errors: ENOENT `schema_ref` is not in this index; EINVAL
 * text that is not UTF-8, metadata that is no map; EEXIST another dataset is exactly that; EROFS;
 * those of the index.
 */
int atd_registry_insert(struct atd_registry *registry, struct atd_str name,
                        struct atd_str schema_ref, const struct atd_str *urls, size_t url_count,
                        struct atd_bytes metadata, struct atd_cid *ret_cid,
                        struct atd_error *err) ATD_MUST_USE;

/* Replaces the user's metadata (msgpack of a map, atd_metadata_from_json()); checksums and records
 * of shards stay. Blocks. Errors: ENOENT; EINVAL; EROFS. */
int atd_registry_set_metadata(struct atd_registry *registry, struct atd_str name,
                              struct atd_bytes metadata, struct atd_error *err) ATD_MUST_USE;

/* ------------------------------------------------------------------ labels */

struct atd_label {
    struct atd_str name;
    struct atd_str version; /* empty: unversioned */
    struct atd_str cid;
    struct atd_str description; /* ptr NULL: none */
    struct atd_str created_at;  /* ptr NULL: unknown */
};

/* All of them, sorted by name and version, those whose entry is gone too. Errors: ENOMEM. */
int atd_registry_list_labels(struct atd_registry *registry, struct atd_arena *arena,
                             const struct atd_label **ret_labels, size_t *ret_count,
                             struct atd_error *err) ATD_MUST_USE;

/* Points a label at an entry. An empty version: `name` means that entry from now on. Blocks.
 * Errors: ENOENT no such entry; EEXIST the versioned label points to another entry; EROFS. */
int atd_registry_label(struct atd_registry *registry, struct atd_str name, struct atd_str version,
                       struct atd_str cid, struct atd_error *err) ATD_MUST_USE;

/* ------------------------------------------------------------------ schemas */

struct atd_schema_record {
    struct atd_str name;    /* of the class, without a module */
    struct atd_str version; /* schema.h decodes the record, and writes it as Python, ... */
    struct atd_str ref;     /* how this registry refers to it */
    struct atd_bytes json;  /* as stored */
};

/* Errors: ENOMEM. */
int atd_registry_list_schemas(struct atd_registry *registry, struct atd_arena *arena,
                              const struct atd_schema_record **ret_records, size_t *ret_count,
                              struct atd_error *err) ATD_MUST_USE;

/* By any form of reference (`text`; schema_ref.h). Errors: ENOENT; EINVAL no reference. */
int atd_registry_get_schema(struct atd_registry *registry, struct atd_str text,
                            struct atd_arena *arena, struct atd_schema_record *ret_record,
                            struct atd_error *err) ATD_MUST_USE;

/*
 * Publishes a record. An empty version: 1.0.0, or the next patch version of its name. *ret_ref is
 * in `arena`. The same fields under the same version are there already: success. Blocks. Errors:
 * EEXIST that version has other fields; EINVAL Python could make no class of it: why; EROFS.
 */
int atd_registry_publish_schema(struct atd_registry *registry, const struct atd_schema *schema,
                                struct atd_arena *arena, struct atd_str *ret_ref,
                                struct atd_error *err) ATD_MUST_USE;

/* ------------------------------------------------------------------ shards */

struct atd_published {
    struct atd_str url; /* in the caller's arena */
    struct atd_cid cid; /* of the entry that has the shard now */
    bool was_there;     /* the same bytes were listed already, nothing was sent */
};

/*
 * Publishes a shard file: checks it, sends it, adds it to the dataset (which begins with it), under
 * the file's name. `schema` (may be NULL) is for a dataset that has none yet: registered as it is;
 * without it one is inferred. The file must not change meanwhile. Blocks until it is in the store
 * and in the index. Errors: EINVAL no whole shard, or samples that contradict the schema: the
 * sentence says which; EEXIST another shard of that name; EROFS; those of store and index.
 */
int atd_registry_publish_shard(struct atd_registry *registry, struct atd_str dataset,
                               const char *path, const struct atd_schema *schema,
                               struct atd_arena *arena, struct atd_published *ret_published,
                               struct atd_error *err) ATD_MUST_USE;

/* A URL that anybody may GET for `expires_s` seconds. Appended. Never blocks. Errors:
 * ENOTSUP not an s3:// URL; EACCES no credentials; EAGAIN, retryable, they are being fetched. */
int atd_registry_sign_url(struct atd_registry *registry, struct atd_str url, unsigned expires_s,
                          struct atd_buf *ret_url, struct atd_error *err) ATD_MUST_USE;

ATD_END_DECLS

#endif

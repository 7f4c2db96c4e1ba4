/*
 * Edits of the index: each reads the records it needs fresh, plans the change, commits it, and
 * begins again when somebody else was faster. Nobody's work is lost.
 *
 * What lookup by name finds in every release, during and after: exactly one entry (DESIGN 2.2, 4;
 * ATDATA-FORMATS 1.8). The label `NAME@` is what two writers meet at. An entry that another one
 * superseded is renamed in the same change, to `NAME@VERSION` when a versioned label points to it,
 * else to `NAME@superseded:CID`, and deleted a minute later (a listing Python would stumble).
 * Only where a name has versioned labels too the library's releases over Redis find, by label and
 * without a version, any of what these lead to (1.7), whoever wrote them.
 *
 * Blocks: on the index (atd_index_commit), while others are in the way (at least ATD_EDIT_TRIES
 * times) or it cannot be reached, up to patience_ms, plus one commit. Threads: one at a time.
 * Errors of all: EAGAIN too many others at the same record; EREMOTEIO the index did not answer and
 * nobody can say whether it was done; those of the writer, with what was to be done in front.
 */
#ifndef ATD_PUBLISH_EDITOR_H
#define ATD_PUBLISH_EDITOR_H

#include "atdata/cid.h"
#include "atdata/schema.h"
#include "catalog/live.h"
#include "codec/metadata_edit.h"
#include "index/writer.h"

/* So many conflicts in a row are no reason to give up, however long they took. */
#define ATD_EDIT_TRIES 30u
/* How long an index that does not answer is asked again. */
#define ATD_EDIT_PATIENCE_MS 10000u
/* How long a superseded entry stays after its successor came. */
#define ATD_SUPERSEDED_KEEP_S 60

struct atd_editor;

struct atd_editor_options {
    struct atd_index_writer *writer; /* borrowed, like all of these */
    struct atd_live *live;           /* names without a label are looked up in its catalog */
    bool universal;                  /* new references in the form that every release reads */
    int64_t (*now_us)(void *ctx);    /* microseconds since 1970; NULL: the clock */
    void *now_ctx;
    unsigned patience_ms; /* 0: ATD_EDIT_PATIENCE_MS */
};

int atd_editor_new(const struct atd_editor_options *options, struct atd_editor **ret_editor,
                   struct atd_error *err) ATD_MUST_USE;
void atd_editor_free(struct atd_editor *editor);

/* Changes that were made, and tries that another writer was in the way of. Any thread. */
void atd_editor_counts(const struct atd_editor *editor, uint64_t *ret_commits,
                       uint64_t *ret_conflicts);

/* ------------------------------------------------------------------ a dataset as it is now */

/* Read fresh; views live in `arena`. */
struct atd_edit_dataset {
    bool exists;
    struct atd_index_entry entry; /* when it exists */
    struct atd_str *urls;         /* as in data_urls */
    size_t url_count;
    const struct atd_schema *schema; /* NULL: none, or not in this index, or not readable */
};

/* `name` is the index's. Errors: ENOENT never: exists says it. */
int atd_edit_read(struct atd_editor *editor, struct atd_str name, struct atd_arena *arena,
                  struct atd_edit_dataset *ret_dataset, struct atd_error *err) ATD_MUST_USE;

/* ------------------------------------------------------------------ shards */

struct atd_edit_shard {
    struct atd_shard_record record; /* with the URL */
    struct atd_str replaces;        /* a URL whose place this one takes; empty: none */
    /* What to do when the dataset has no schema yet; both NULL: it must have one. */
    const struct atd_schema *schema; /* chosen by the user (a dropped schema.json): as it is */
    /* Else a class of the dataset's name, from these; of no field at all: one optional field `data`
     * of bytes, so that Python can decode the record. Give it (or `schema`) when the shard was
     * inspected without a schema: should the dataset have got one meanwhile, it is held against
     * that. */
    const struct atd_schema_inferrer *seen;
};

struct atd_edit_result {
    struct atd_cid cid;
    char schema_ref[512];
    bool is_new_dataset;
    bool was_there; /* the shard was listed already: nothing was changed but its record */
};

/*
 * Adds a shard that lies at its URL already: schema if it is new, new entry, label `NAME@`,
 * superseded entry renamed. `file_name` is the shard's name in the directory. When the dataset has
 * a shard of that name at another URL: EEXIST; if that one has the same sha256, *ret_result is
 * filled in and was_there is true (the caller's object is not needed).
 * A dataset that another one renamed or deleted meanwhile is made anew. Two datasets cannot list
 * exactly the same shards under the same schema (they would have one record): EEXIST, unless there
 * is no metadata that could get lost; then the label alone makes it this dataset too.
 * Errors: EEXIST; EINVAL the metadata cannot take records, the schema contradicts.
 */
int atd_edit_add_shard(struct atd_editor *editor, struct atd_str name, struct atd_str file_name,
                       const struct atd_edit_shard *shard, struct atd_edit_result *ret_result,
                       struct atd_error *err) ATD_MUST_USE;

/* Takes shards out (objects stay). URLs that are not listed are passed over. */
int atd_edit_remove_shards(struct atd_editor *editor, struct atd_str name,
                           const struct atd_str *urls, size_t count,
                           struct atd_error *err) ATD_MUST_USE;

/*
 * Deleting in two steps, with a grace between them: a shard that is leaving is marked so in its
 * record, and taken out later only if it still is. Whoever publishes it again meanwhile, anywhere,
 * takes the mark away, so that a shard that "is there already" stays there.
 * URLs that are not listed are passed over; of a dataset that is not there, all.
 */
int atd_edit_mark_leaving(struct atd_editor *editor, struct atd_str name,
                          const struct atd_str *urls, size_t count,
                          struct atd_error *err) ATD_MUST_USE;
int atd_edit_remove_leaving(struct atd_editor *editor, struct atd_str name,
                            const struct atd_str *urls, size_t count,
                            struct atd_error *err) ATD_MUST_USE;

/* The time of a listed shard. Errors: ENOENT. */
int atd_edit_set_mtime(struct atd_editor *editor, struct atd_str name, struct atd_str url,
                       int64_t mtime_ns, struct atd_error *err) ATD_MUST_USE;

/* ------------------------------------------------------------------ the rest of a dataset */

struct atd_edit_insertion {
    struct atd_str schema_ref;
    const struct atd_str *urls; /* as they will stand in data_urls */
    size_t url_count;
    struct atd_bytes metadata; /* ptr NULL: none; that of an entry with the same CID stays */
};

/*
 * Makes `name` mean an entry of these URLs; what it meant before is superseded. No record is kept
 * of the shards, and nobody looks whether they are there. Errors: ENOENT the schema is not in this
 * index; EINVAL no URLs, a reference that is none, metadata that is no map; EEXIST as
 * atd_edit_add_shard.
 */
int atd_edit_insert(struct atd_editor *editor, struct atd_str name,
                    const struct atd_edit_insertion *insertion, struct atd_cid *ret_cid,
                    struct atd_error *err) ATD_MUST_USE;

/* The user's metadata (msgpack of a map, as atd_metadata_from_json makes it). Errors: ENOENT. */
int atd_edit_set_metadata(struct atd_editor *editor, struct atd_str name, struct atd_bytes user,
                          struct atd_error *err) ATD_MUST_USE;

/*
 * Another schema for a dataset: registered (as atd_edit_publish_schema, in a new patch version when
 * the name is taken by a different one), and the dataset's entry replaced by one that refers to it.
 * ENOENT: there is no such dataset (a local, empty one keeps its schema until its first shard).
 */
int atd_edit_set_schema(struct atd_editor *editor, struct atd_str name,
                        const struct atd_schema *schema, struct atd_edit_result *ret_result,
                        struct atd_error *err) ATD_MUST_USE;

/* Errors: EEXIST `to` is there; ENOENT; E2BIG it has over a hundred versions. Labels of the name go
 * along; the CID stays. */
int atd_edit_rename(struct atd_editor *editor, struct atd_str from, struct atd_str to,
                    struct atd_error *err) ATD_MUST_USE;

/* The entry and its labels. Errors: ENOTEMPTY it lists shards, or a version of it does; ENOENT. */
int atd_edit_remove_dataset(struct atd_editor *editor, struct atd_str name,
                            struct atd_error *err) ATD_MUST_USE;

/* ------------------------------------------------------------------ schemas and labels */

/*
 * Publishes a record as it is, under its own name and version. Errors: EEXIST that version is there
 * with other fields (with the same ones: success, nothing is changed); EINVAL not decodable by the
 * library (4.7): why.
 */
int atd_edit_publish_schema(struct atd_editor *editor, const struct atd_schema *schema,
                            struct atd_error *err) ATD_MUST_USE;

/* True when Python can decode the record's class (4.7). Errors: EINVAL with the reason. Pure. */
int atd_edit_schema_check(const struct atd_schema *schema, struct atd_error *err) ATD_MUST_USE;

/* The next free patch version of a class by the rules of 4.5, from the catalog. */
void atd_edit_next_version(struct atd_editor *editor, struct atd_str class_name,
                           char ret_version[64]);

/* Points a label at an entry. `version` may be empty: NAME is another state then. NAME@ stays the
 * latest label of its name. Errors: ENOENT no such entry; EEXIST the versioned label is there and
 * points to another entry that exists. */
int atd_edit_label(struct atd_editor *editor, struct atd_str name, struct atd_str version,
                   struct atd_str cid, struct atd_error *err) ATD_MUST_USE;
int atd_edit_remove_label(struct atd_editor *editor, struct atd_str name, struct atd_str version,
                          struct atd_error *err) ATD_MUST_USE;

/* ------------------------------------------------------------------ failovers */

/* How long a shard that was added is watched, and how often. */
#define ATD_EDIT_RECENT_MS 60000
#define ATD_EDIT_RECHECK_MS 1000

/* A shard that was added was not in the index any more: `why` NULL: it was put back; else why it
 * could not be. */
typedef void (*atd_edit_lost)(void *ctx, struct atd_str name, struct atd_str file_name,
                              struct atd_str url, const struct atd_error *why);

/*
 * Looks whether the index changed its server since, and if so whether it still has what was added
 * in the last ATD_EDIT_RECENT_MS: what is gone is added again, and told. To be called every
 * *ret_next_ms; -1: nothing is watched. Errors: the index's; then all is watched on.
 */
int atd_edit_recheck(struct atd_editor *editor, atd_edit_lost lost, void *ctx, int64_t *ret_next_ms,
                     struct atd_error *err) ATD_MUST_USE;

/* ------------------------------------------------------------------ tidying */

/*
 * Deletes superseded entries whose time has come: renamed so (by name), no label points to them,
 * seen so by this editor for ATD_SUPERSEDED_KEEP_S, and nothing is lost: this editor superseded
 * them itself, or they have our records and list only shards that their successor lists too (what
 * a process left that is gone). To be called every few seconds. *ret_next_s is when it has
 * something to do again; -1: nothing waits.
 */
int atd_edit_sweep(struct atd_editor *editor, int64_t *ret_next_s,
                   struct atd_error *err) ATD_MUST_USE;

#endif

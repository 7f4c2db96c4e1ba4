/*
 * The inside of the editor, for the files edit*.c only.
 *
 * An edit is a plan that is made again and again until it could be committed: it reads what it
 * needs, fresh, and adds operations, each with what its record must still be like. A plan without
 * any is done already.
 */
#ifndef ATD_PUBLISH_EDIT_H
#define ATD_PUBLISH_EDIT_H

#include <stdatomic.h>

#include "publish/editor.h"

/* All that one try reads and writes: two lists of URLs, metadata several times. */
#define ATD_EDIT_BYTES_MAX ((size_t)2 << 30)
/* Entries that this editor superseded and that wait for their deletion; the oldest are forgotten.
 */
#define ATD_EDIT_OWN_MAX 4096u
/* Entries that one edit put and nobody knows whether they are there. */
#define ATD_EDIT_SENT_MAX 16u
/* Superseded entries whose time is kept; the others are met again when some of these are gone. */
#define ATD_EDIT_WAITING_MAX 16384u

/* Shards that were added and are watched (edit_recent.c); the oldest are forgotten. */
#define ATD_EDIT_RECENT_MAX 4096u

/* A superseded entry that shows in the catalog. */
struct atd_edit_waiting {
    char cid[ATD_CID_TEXT_LEN + 1];
    int64_t seen_us; /* when it was first seen so */
    bool is_settled; /* deleted, or it stays: it holds what its successor does not */
    bool is_there;   /* in the generation that was looked through last */
};

struct atd_editor {
    struct atd_editor_options options;
    atomic_uint_fast64_t commits;
    atomic_uint_fast64_t conflicts;
    uint64_t random;
    char (*own)[ATD_CID_TEXT_LEN + 1]; /* a ring of ATD_EDIT_OWN_MAX */
    size_t own_count;                  /* ever added */
    struct atd_edit_waiting *waiting;
    size_t waiting_count;
    uint64_t swept_generation;
    struct atd_edit_recent *recent; /* the oldest first */
    struct atd_edit_recent *last_recent;
    size_t recent_count;
    uint64_t recent_epoch; /* of the writer, when all of them were looked at */
};

/* One try. */
struct atd_edit {
    struct atd_editor *editor;
    struct atd_catalog *catalog; /* the current one: for what is found by name */
    struct atd_arena arena;      /* whatever the try reads and makes */
    struct atd_index_operation operations[ATD_INDEX_OPERATIONS_MAX];
    size_t count;
    bool was_sent; /* the answer to an earlier try was lost: it may have been done */
    /* What this try supersedes, and what that one did; "" nothing. When it is done it is the
     * editor's to delete. */
    char superseded[ATD_CID_TEXT_LEN + 1];
    char superseded_when_sent[ATD_CID_TEXT_LEN + 1];
    /* New entries of tries whose answer was lost: they may be there (a cluster makes changes in
     * parts), and a later try may plan others. The oldest are forgotten. */
    char sent[ATD_EDIT_SENT_MAX][ATD_CID_TEXT_LEN + 1];
    size_t sent_count; /* ever noted */
};

typedef int (*atd_edit_plan)(struct atd_edit *edit, void *ctx, struct atd_error *err);

/* Plans and commits until it is done. Errors: the plan's; EAGAIN; EREMOTEIO. */
int atd_edit_run(struct atd_editor *editor, atd_edit_plan plan, void *ctx,
                 struct atd_error *err) ATD_MUST_USE;

struct atd_edit_now;

int atd_edit_no_memory(struct atd_error *err);
int64_t atd_editor_now_us(struct atd_editor *editor);

/* ------------------------------------------------------------------ editor.c: reading */

/* One record; *ret_exists false instead of ENOENT. */
int atd_edit_find_entry(struct atd_editor *editor, struct atd_str cid, struct atd_arena *arena,
                        bool *ret_exists, struct atd_index_entry *ret_entry,
                        struct atd_error *err) ATD_MUST_USE;
int atd_edit_find_label(struct atd_editor *editor, struct atd_str name, struct atd_str version,
                        struct atd_arena *arena, bool *ret_exists,
                        struct atd_index_label *ret_label, struct atd_error *err) ATD_MUST_USE;

/* ------------------------------------------------------------------ editor.c: operations */

/* Each adds one. Errors: E2BIG too many; ENOMEM. `before` is the record as it was read. */
int atd_edit_check_label(struct atd_edit *edit, const struct atd_index_label *before,
                         struct atd_error *err) ATD_MUST_USE;
int atd_edit_check_entry(struct atd_edit *edit, const struct atd_index_entry *before,
                         struct atd_error *err) ATD_MUST_USE;
/* before NULL: there must be none. */
int atd_edit_put_entry(struct atd_edit *edit, const struct atd_index_entry *before,
                       const struct atd_index_entry *after, struct atd_error *err) ATD_MUST_USE;
int atd_edit_set_name(struct atd_edit *edit, const struct atd_index_entry *before,
                      struct atd_str name, struct atd_error *err) ATD_MUST_USE;
/* Nothing when it is the same already. `metadata` is copied. */
int atd_edit_put_metadata(struct atd_edit *edit, const struct atd_index_entry *before,
                          struct atd_bytes metadata, struct atd_error *err) ATD_MUST_USE;
/* The same for what `name` means now, and only if it still does. */
int atd_edit_put_metadata_of(struct atd_edit *edit, struct atd_str name,
                             const struct atd_edit_now *now, struct atd_bytes metadata,
                             struct atd_error *err) ATD_MUST_USE;
int atd_edit_delete_entry(struct atd_edit *edit, const struct atd_index_entry *before,
                          struct atd_error *err) ATD_MUST_USE;
/* before NULL: there must be none. The time is later than `before`'s and all other labels' of that
 * name, so that whoever takes the latest takes this one. */
int atd_edit_put_label(struct atd_edit *edit, const struct atd_index_label *before,
                       const struct atd_index_label *after, struct atd_error *err) ATD_MUST_USE;
/* The same with the time that stands in `after`. */
int atd_edit_put_label_as_it_is(struct atd_edit *edit, const struct atd_index_label *before,
                                const struct atd_index_label *after,
                                struct atd_error *err) ATD_MUST_USE;
int atd_edit_delete_label(struct atd_edit *edit, const struct atd_index_label *before,
                          struct atd_error *err) ATD_MUST_USE;
/* There must be none. */
int atd_edit_put_schema(struct atd_edit *edit, const struct atd_index_schema *after,
                        struct atd_error *err) ATD_MUST_USE;

#define ATD_EDIT_TIME_MAX 40
/* "YYYY-MM-DDTHH:MM:SS.ffffff+00:00", the form that compares as text (ATDATA-FORMATS 1.4). */
void atd_edit_time(int64_t us, char ret_text[ATD_EDIT_TIME_MAX]);

/* ------------------------------------------------------------------ edit_dataset.c */

/* What a name means now. */
struct atd_edit_now {
    bool has_label; /* NAME@, whether its entry exists or not */
    struct atd_index_label label;
    bool exists;
    struct atd_index_entry entry; /* when it exists; its name may be another one */
};
int atd_edit_meaning(struct atd_editor *editor, const struct atd_catalog *catalog,
                     struct atd_str name, struct atd_arena *arena, struct atd_edit_now *ret_now,
                     struct atd_error *err) ATD_MUST_USE;

/* ------------------------------------------------------------------ edit_successor.c */

/* What takes the place of the entry that a name means. */
struct atd_edit_successor {
    struct atd_str schema_ref;
    const struct atd_str *urls;
    size_t url_count;
    struct atd_bytes metadata; /* ptr NULL: none */
};

/*
 * Adds the operations: the new entry, the label NAME@, the old entry and others of that name
 * renamed. Errors: EEXIST another dataset is exactly that already.
 */
int atd_edit_succeed(struct atd_edit *edit, struct atd_str name, const struct atd_edit_now *now,
                     const struct atd_edit_successor *successor, struct atd_cid *ret_cid,
                     struct atd_error *err) ATD_MUST_USE;

/* Renames an entry that `name` does not mean any more. */
int atd_edit_supersede(struct atd_edit *edit, struct atd_str name,
                       const struct atd_index_entry *entry, struct atd_error *err) ATD_MUST_USE;
/* The same without a look at labels: to NAME@superseded:CID. */
int atd_edit_set_superseded(struct atd_edit *edit, struct atd_str name,
                            const struct atd_index_entry *entry,
                            struct atd_error *err) ATD_MUST_USE;
/* The same as _supersede with all that the catalog has under `name`, but for these two (may be
 * empty). As many as one commit takes. */
int atd_edit_supersede_others(struct atd_edit *edit, struct atd_str name, struct atd_str but,
                              struct atd_str and_but, struct atd_error *err) ATD_MUST_USE;
/* *ret_former: the entry is called so because it is a former state of `name`: NAME@superseded:CID,
 * or NAME@VERSION and that label leads to it. Names of Python's may begin so too. */
int atd_edit_find_former(struct atd_edit *edit, struct atd_str name,
                         const struct atd_index_entry *entry, bool *ret_former,
                         struct atd_error *err) ATD_MUST_USE;
/* True for NAME@superseded:CID of that entry; *ret_name (may be NULL) is NAME. */
bool atd_edit_is_superseded(struct atd_str entry_name, struct atd_str cid,
                            struct atd_str *ret_name);

/* ------------------------------------------------------------------ edit_schema.c */

/* Finds the record with these fields among the versions of its name, or adds the operation that
 * makes one; *ret_ref is how it is referred to. Errors: EINVAL not decodable. */
int atd_edit_register(struct atd_edit *edit, const struct atd_schema *schema,
                      struct atd_str *ret_ref, struct atd_error *err) ATD_MUST_USE;
/* The record that a reference means; *ret_schema NULL: none here, or not readable. */
int atd_edit_schema_of(struct atd_editor *editor, struct atd_str ref, struct atd_arena *arena,
                       const struct atd_schema **ret_schema, struct atd_error *err) ATD_MUST_USE;

/* ------------------------------------------------------------------ edit_settle.c */

/* *ret_ref is the reference that the entry with the shard gets; registers a schema that is new.
 * Errors: EINVAL none was given and none is there, or it contradicts the one that is there. */
int atd_edit_settle_schema(struct atd_edit *edit, struct atd_str name,
                           const struct atd_edit_now *now, const struct atd_edit_shard *shard,
                           struct atd_str *ret_ref, struct atd_error *err) ATD_MUST_USE;

/* ------------------------------------------------------------------ edit_recent.c */

/* The shard was added, and somebody will be told so. */
void atd_edit_remember(struct atd_editor *editor, struct atd_str name, struct atd_str file_name,
                       const struct atd_edit_shard *shard, const struct atd_edit_result *result);
/* These shards of a dataset (`urls` NULL: all) were taken out: they are not put back. */
void atd_edit_keep_out(struct atd_editor *editor, struct atd_str name, const struct atd_str *urls,
                       size_t count);
void atd_edit_forget_all(struct atd_editor *editor);

/* ------------------------------------------------------------------ edit_shard.c */

/* atd_edit_add_shard() without remembering it. */
int atd_edit_run_add(struct atd_editor *editor, struct atd_str name, struct atd_str file_name,
                     const struct atd_edit_shard *shard, struct atd_edit_result *ret_result,
                     struct atd_error *err) ATD_MUST_USE;

/* ------------------------------------------------------------------ edit_sweep.c */

/* Notes that this editor superseded the entry. */
void atd_editor_own(struct atd_editor *editor, struct atd_str cid);
/* The opposite: it is in use again. */
void atd_editor_disown(struct atd_editor *editor, struct atd_str cid);
bool atd_editor_is_own(const struct atd_editor *editor, struct atd_str cid);

#endif

/*
 * What exists only in this mount: files on their way to be published, tools' scratch files, edits
 * of records, reasons of failures, scratch directories, and datasets that have no shard yet.
 *
 * The table is keyed by (directory, name); a name here goes before the same name in the catalog,
 * except that a published file gives way as soon as a catalog shows its shard. Entries have node
 * kind NODE_STAGED (files) or NODE_STAGED_DIR; an empty dataset is a NODE_DATASET that only this
 * table knows. The kernel keeps none of their entries or attributes (timeouts 0), so that a name
 * may turn from a staged file into a shard without a notification.
 *
 *   create --> STAGED --flush, published--> PUBLISHED --catalog shows it--> (gone)
 *                 |  \--flush, failed--> (gone; a note X.tar.error.txt takes its place)
 *                 \--rename, unlink--> another name, gone
 *
 * A staged file is shared by its name and its handles (_ref, _unref). Threads: any. Never blocks.
 */
#ifndef ATD_FS_STAGING_H
#define ATD_FS_STAGING_H

#include <stdatomic.h>

#include "base/limits.h"
#include "catalog/catalog.h"
#include "codec/upload_name.h"
#include "nodes.h"
#include "publish/publication.h"

#define STAGED_MAX 65536u           /* names of one mount */
#define STAGED_NOTE_KEEP_S 86400    /* a reason stays so long, or until the next success or rm */
#define STAGED_FORGOTTEN_S 86400    /* a file that nobody touched for so long is swept */
#define STAGED_PUBLISHED_S 600      /* a published one gives way then, whatever the catalog shows */
#define STAGED_TEXT_MAX (64u << 20) /* of a schema.json or metadata.json */

enum staged_kind {
    STAGED_FILE, /* a shard's name, a temporary one, a scratch file: has a publication */
    STAGED_TEXT, /* schema.json, metadata.json, schemas/X.json being written: has one too */
    STAGED_NOTE, /* X.tar.error.txt: has a text, read only */
    STAGED_DIR,  /* .~tmp~ */
};

/* Where it is: a dataset's directory, schemas/, or a scratch directory in a dataset's. */
struct staged_place {
    enum node_kind directory; /* NODE_DATASET, NODE_SCHEMAS, NODE_STAGED_DIR */
    struct atd_str subject;   /* file name of the dataset; "" for schemas/ */
    struct atd_str leaf;      /* "X.tar"; within a scratch directory ".~tmp~/X.tar" */
};

/* The same as a copy, for what may be renamed at any time. */
struct staged_where {
    enum node_kind directory;
    char subject[ATD_FILE_NAME_MAX + 1];
    char leaf[2 * ATD_FILE_NAME_MAX + 2];
};
struct staged_place staged_where_place(const struct staged_where *where);

/*
 * The place of `name` in the directory of a node (kind and subject as the node has them: that of a
 * NODE_STAGED_DIR is "DATASET/.~tmp~"). `storage` holds what has to be joined. False: nothing can
 * be staged in such a directory, or the name is too long.
 */
bool staged_place_in(enum node_kind directory, struct atd_str subject, struct atd_str name,
                     struct staged_where *storage, struct staged_place *ret_place);

/* The last component: the file's name. */
struct atd_str staged_leaf_name(struct atd_str leaf);

#define STAGED_MODE_DEFAULT ((mode_t)-1) /* 0644 without the umask */

struct staged {
    /* fixed */
    enum staged_kind kind;
    uint64_t id;    /* of this file: a new file of the same name has another; not 0 */
    int64_t made_s; /* wall clock: the mtime of what has no publication */
    struct atd_publication *publication; /* FILE, TEXT; else NULL */
    char *text;                          /* NOTE */
    _Atomic pid_t opener;                /* the process (tgid) that made or truncated it last */
    atomic_uint verdicts;                /* that are being waited for */
    atomic_bool is_unlinked;      /* by somebody, or about to be: its failure interests nobody */
    atomic_bool is_settled;       /* its name was taken away with its verdict, not by an unlink */
    atomic_ullong writes;         /* WRITEs that have come */
    atomic_ullong settled_writes; /* those that the verdict on a record was about */
    /* guarded by the table's lock: staging_look */
    struct staged *next_by_name;
    struct staged *next_by_id;
    unsigned refs;
    bool is_named;     /* false once unlinked, replaced or given way */
    bool is_published; /* shown until a catalog has it */
    int64_t touched_ms;
    mode_t mode;                    /* as chmod set it: shown, without effect */
    enum atd_upload_name name_kind; /* of the leaf it has now */
    enum node_kind directory;
    char *subject;
    char *leaf;
};

struct staging;

struct staging *staging_new(void);
/* Every reference must have been given back. NULL is fine. */
void staging_free(struct staging *staging);

/*
 * Adds a file or directory. `publication` is taken on success. The caller gets a reference.
 * Errors: EEXIST; ENOENT the scratch directory is gone; ENAMETOOLONG; EACCES too many (never
 * ENOSPC: TOOLS 2b); ENOMEM.
 */
int staging_add(struct staging *staging, const struct staged_place *place, enum staged_kind kind,
                struct atd_publication *publication, struct staged **ret_staged,
                struct atd_error *err) ATD_MUST_USE;
/* NULL when there is none; else with a reference for the caller. By its id it is found also when it
 * has no name any more, as long as somebody has a reference. */
struct staged *staging_find(struct staging *staging, const struct staged_place *place);
struct staged *staging_find_id(struct staging *staging, uint64_t id);
/* Takes every name away: before the end, so that publications are given back. */
void staging_forget(struct staging *staging);
struct staged *staged_ref(struct staging *staging, struct staged *staged);
/* NULL is fine. */
void staged_unref(struct staging *staging, struct staged *staged);

/* What of it may change, as it is now. */
struct staged_look {
    struct staged_where where; /* the last name, when it has none any more */
    bool is_named;
    bool is_published;
    mode_t mode;
    enum atd_upload_name name_kind; /* schemas/: RECORD for NAME.json, else SCRATCH */
};
void staging_look(struct staging *staging, struct staged *staged, struct staged_look *ret_look);
void staging_set_mode(struct staging *staging, struct staged *staged, mode_t mode);
/* Somebody works with it: it is not forgotten. Called at opens and writes. */
void staging_touch(struct staging *staging, struct staged *staged);
/* It was published: it stays shown until a catalog has it. To be followed by staging_settle with
 * the current catalog, got afterwards: that may have it already. */
void staging_set_published(struct staging *staging, struct staged *staged);

/* Takes the name away; handles go on. False: it had none any more, or it is a scratch directory
 * with names in it. */
bool staging_remove(struct staging *staging, struct staged *staged);
/* The same, unless somebody else than the caller has a reference. */
bool staging_remove_unused(struct staging *staging, struct staged *staged);
/*
 * Gives it another name, replacing a staged file that has it. Errors: ENOENT it has no name any
 * more, or the scratch directory has gone; EEXIST a directory is there; EPERM it is a directory or
 * a note; ENAMETOOLONG, ENOMEM.
 */
int staging_rename(struct staging *staging, struct staged *staged, const struct staged_place *to,
                   struct atd_error *err) ATD_MUST_USE;

/* Puts (or replaces) the reason why `leaf` failed as "LEAF.error.txt". */
void staging_put_note(struct staging *staging, const struct staged_place *place, const char *text);
/* And takes it away: after a success. True when there was one. */
bool staging_drop_note(struct staging *staging, const struct staged_place *place);
/* The dataset has another name now: its notes go with it, as all that is in a directory does. What
 * there is no memory for stays behind, and is forgotten one day. */
void staging_move_notes(struct staging *staging, struct atd_str from, struct atd_str to);
/* The note's name in the same directory, for notify_staged. */
void staged_note_place(const struct staged_place *place, struct staged_where *ret_where);

/* The names of one directory, in byte order, as a copy with references; free with _list_free. Of
 * scratch directories: of all in that dataset. */
struct staged_listed {
    struct staged *staged;
    char *leaf; /* as it was then */
};
struct staged_list {
    struct staged_listed *items;
    size_t count;
};
int staging_list(struct staging *staging, enum node_kind directory, struct atd_str subject,
                 struct staged_list *ret_list, struct atd_error *err) ATD_MUST_USE;
void staging_list_free(struct staging *staging, struct staged_list *list);

/* Goes up whenever a name, a hidden name or a dataset comes or goes: a listing that was made of an
 * older version is not to be kept. */
uint64_t staging_version(struct staging *staging);

/* A new generation is current: published files that it shows give way, and so do empty datasets
 * (those on the disk: a small directory is removed). */
void staging_settle(struct staging *staging, struct atd_catalog *catalog);
/* Sweeps forgotten files and old notes. Nobody needs to be told: the kernel keeps none of them. */
void staging_sweep(struct staging *staging);

/* ------------------------------------------------------------------ datasets without shards */

/*
 * Made by mkdir; kept as STATE/datasets/FILE-NAME/ so that they survive a remount, with the
 * schema.json and metadata.json that were put into them before there was an entry. _load, _add,
 * _remove, _rename and _put block on the disk, without a lock; the others never.
 */
#define STAGED_DATASETS_MAX 65536u
enum staged_record { STAGED_SCHEMA, STAGED_METADATA, STAGED_RECORDS };

/* What is no dataset's directory there is passed over. Errors: those of the directory; ENOMEM. */
int staging_load_datasets(struct staging *staging, const char *state_dir,
                          struct atd_error *err) ATD_MUST_USE;
/* Errors: EEXIST; EINVAL not a file name that a dataset can have; EACCES too many; EROFS not loaded
 * (no state directory); those of the disk; ENOMEM. */
int staging_add_dataset(struct staging *staging, struct atd_str file_name,
                        struct atd_error *err) ATD_MUST_USE;
size_t staging_dataset_count(struct staging *staging);
bool staging_has_dataset(struct staging *staging, struct atd_str file_name);
/* Takes also the files that were put into it. False: there is none. */
bool staging_remove_dataset(struct staging *staging, struct atd_str file_name);
/* Errors: ENOENT; EEXIST; as _add. Staged files in it do not move: see staging_list first. */
int staging_rename_dataset(struct staging *staging, struct atd_str from, struct atd_str to,
                           struct atd_error *err) ATD_MUST_USE;
/*
 * Notes that a dataset (published or not) was renamed. _renamed tells what the one that was called
 * so is called now; false: nothing is known of it, and ret_name is of no use. staging_renames.c.
 */
void staging_note_rename(struct staging *staging, struct atd_str from, struct atd_str to);
bool staging_renamed(struct staging *staging, struct atd_str file_name,
                     char ret_name[ATD_FILE_NAME_MAX + 1]);
/* Copies of the names, in byte order: free with staging_datasets_free. */
int staging_datasets(struct staging *staging, char ***ret_names, size_t *ret_count,
                     struct atd_error *err) ATD_MUST_USE;
void staging_datasets_free(char **names, size_t count);

/* Puts a record into an empty dataset. Errors: ENOENT no such; EFBIG; those of the disk. */
int staging_put_record(struct staging *staging, struct atd_str file_name, enum staged_record record,
                       struct atd_bytes text, struct atd_error *err) ATD_MUST_USE;
/* Appends its text; false: there is none. *ret_mtime_s: when it was put. */
bool staging_get_record(struct staging *staging, struct atd_str file_name,
                        enum staged_record record, struct atd_buf *out, int64_t *ret_mtime_s);

/* ------------------------------------------------------------------ what is about to be deleted */

/*
 * allow_delete: an unlinked shard is hidden at once and taken out of the index after a grace,
 * unless a file of the same name comes first (cp --remove-destination, mv -f, KIO: TOOLS 4.7).
 */
#define STAGED_GRACE_MS 3000
#define STAGED_HIDDEN_MAX 65536u
/* Errors: EEXIST it is hidden already; EACCES too many; ENOMEM. */
int staging_hide(struct staging *staging, struct atd_str subject, struct atd_str leaf,
                 struct atd_str url, struct atd_error *err) ATD_MUST_USE;
bool staging_is_hidden(struct staging *staging, struct atd_str subject, struct atd_str leaf);
/* The URL that a new file of this name replaces, if it is hidden; appended; false: it is not. */
bool staging_hidden_url(struct staging *staging, struct atd_str subject, struct atd_str leaf,
                        struct atd_buf *ret_url);
bool staging_unhide(struct staging *staging, struct atd_str subject, struct atd_str leaf);
/* The URLs of all that is hidden in a dataset, each with a NUL behind; appended. And all of it
 * shows again. */
void staging_hidden_urls(struct staging *staging, struct atd_str subject, struct atd_buf *ret_urls);
void staging_unhide_all(struct staging *staging, struct atd_str subject);

#endif

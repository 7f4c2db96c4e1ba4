/*
 * What exists only in this mount: files on their way to be published, tools' scratch files, edits of
 * records, reasons of failures, scratch directories, and datasets that have no shard yet.
 *
 * The table is keyed by (directory, name); a name here goes before the same name in the catalog,
 * except that a published file gives way as soon as a catalog shows its shard. Entries have node
 * kind NODE_STAGED (files) or NODE_STAGED_DIR; an empty dataset is a NODE_DATASET that only this
 * table knows. The kernel keeps none of their entries or attributes (timeouts 0), so that a name may
 * turn from a staged file into a shard without a notification.
 *
 *   create --> STAGED --flush, published--> PUBLISHED --catalog shows it--> (gone)
 *                 |  \--flush, failed--> (gone; a note X.tar.error.txt takes its place)
 *                 \--rename, unlink--> another name, gone
 *
 * A staged file is shared by its name and its handles (_ref, _unref). Threads: any. Never blocks.
 */
#ifndef ATD_FS_STAGING_H
#define ATD_FS_STAGING_H

#include "codec/upload_name.h"
#include "fs.h"
#include "publish/publication.h"

#define STAGED_MAX 65536u         /* names of one mount */
#define STAGED_NOTE_KEEP_S 86400  /* a reason stays so long, or until the next success or rm */
#define STAGED_FORGOTTEN_S 86400  /* a scratch file that nobody touched for so long is swept */
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

struct staged {
    /* fixed */
    enum staged_kind kind;
    enum atd_upload_name name_kind;      /* of the leaf it has now: under the table's lock */
    uint64_t id;                         /* of this file: a new file of the same name has another */
    struct atd_publication *publication; /* FILE, TEXT; else NULL */
    char *text;                          /* NOTE */
    pid_t opener;                        /* the process (tgid) that made or truncated it last; atomic */
    /* the table's */
    struct staged *next;
    unsigned refs;
    bool is_named;     /* false once unlinked, replaced or given way */
    bool is_published; /* shown until a catalog has it */
    int64_t touched_ms;
    mode_t mode; /* as chmod set it: shown, without effect */
    char *subject;
    char *leaf;
    enum node_kind directory;
};

struct staging;

struct staging *staging_new(void);
void staging_free(struct staging *staging);

/*
 * Adds a file or directory. `publication` is taken on success. Errors: EEXIST, ENOSPC too many,
 * ENOMEM. The caller gets a reference.
 */
int staging_add(struct staging *staging, const struct staged_place *place, enum staged_kind kind,
                struct atd_publication *publication, struct staged **ret_staged,
                struct atd_error *err) ATD_MUST_USE;
/* NULL when there is none; else with a reference for the caller. */
struct staged *staging_find(struct staging *staging, const struct staged_place *place);
struct staged *staging_find_id(struct staging *staging, uint64_t id);
struct staged *staged_ref(struct staging *staging, struct staged *staged);
void staged_unref(struct staging *staging, struct staged *staged);

/* Takes the name away; handles go on. False: it had none any more. */
bool staging_remove(struct staging *staging, struct staged *staged);
/* Gives it another name, replacing a staged file that has it. Errors: EEXIST a directory is there. */
int staging_rename(struct staging *staging, struct staged *staged, const struct staged_place *to,
                   struct atd_error *err) ATD_MUST_USE;

/* Puts (or replaces) the reason why `leaf` failed as "LEAF.error.txt". */
void staging_put_note(struct staging *staging, const struct staged_place *place, const char *text);
/* And takes it away: after a success. True when there was one. */
bool staging_drop_note(struct staging *staging, const struct staged_place *place);

/* The names of one directory, in byte order, as a copy with references; free with _list_free. */
struct staged_list {
    struct staged **items;
    size_t count;
};
int staging_list(struct staging *staging, enum node_kind directory, struct atd_str subject,
                 struct staged_list *ret_list, struct atd_error *err) ATD_MUST_USE;
void staging_list_free(struct staging *staging, struct staged_list *list);

/* A new generation is current: published files that it shows give way. */
void staging_settle(struct staging *staging, struct atd_catalog *catalog);
/* Sweeps forgotten scratch files and old notes. */
void staging_sweep(struct staging *staging);

/* ------------------------------------------------------------------ datasets without shards */

/* Made by mkdir; kept as files in STATE/datasets/ so that they survive a remount. Blocks on the disk
 * (a small file). `schema_json` (may be NULL): dropped into it. */
int staging_load_datasets(struct staging *staging, const char *state_dir, struct atd_error *err);
int staging_add_dataset(struct staging *staging, struct atd_str file_name, struct atd_error *err);
bool staging_has_dataset(struct staging *staging, struct atd_str file_name);
bool staging_remove_dataset(struct staging *staging, struct atd_str file_name);
/* Copies of the names, in byte order: free each and the array. */
int staging_datasets(struct staging *staging, char ***ret_names, size_t *ret_count,
                     struct atd_error *err) ATD_MUST_USE;

/* ------------------------------------------------------------------ what is about to be deleted */

/*
 * allow_delete: an unlinked shard is hidden at once and taken out of the index after a grace, unless
 * a file of the same name comes first (cp --remove-destination, mv -f, KIO: TOOLS 4.7).
 */
#define STAGED_GRACE_MS 3000
int staging_hide(struct staging *staging, struct atd_str subject, struct atd_str leaf,
                 struct atd_str url, struct atd_error *err);
/* The URL that a new file of this name replaces, if it is hidden; appended; false: it is not. */
bool staging_hidden_url(struct staging *staging, struct atd_str subject, struct atd_str leaf,
                        struct atd_buf *ret_url);
bool staging_unhide(struct staging *staging, struct atd_str subject, struct atd_str leaf);

#endif

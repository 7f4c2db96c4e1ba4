/*
 * Which name is what: the tree of DESIGN 2, computed from a generation of the catalog.
 *
 * A directory is looked at through a `struct view`, which holds references on all that its names
 * are made of; lookup, listing and opening all go through it, so that they cannot disagree.
 */
#ifndef ATD_FS_LAYOUT_H
#define ATD_FS_LAYOUT_H

#include "base/limits.h"
#include "catalog/shards.h"
#include "fs.h"
#include "samples.h"
#include "staging.h"

/* "datasets/NAME/STEM/KEY" (samples.h), or "DATASET/.~tmp~", and its end. */
#define VIEW_SUBJECT_BYTES (sizeof("datasets/") + 3 * (ATD_FILE_NAME_MAX + 1))
_Static_assert(VIEW_SUBJECT_BYTES <= NODE_TEXT_BYTES_MAX, "a node can be of every subject");

struct view {
    enum node_kind kind; /* the directory's */
    struct atd_catalog *catalog;
    const struct atd_dataset *dataset;     /* NODE_DATASET, and samples/ in it */
    const struct atd_catalog_entry *entry; /* NODE_DATASET, NODE_CID; NULL: only staging knows it */
    struct atd_shard_list *shards;         /* the same; NULL when it was not asked for */

    /* What goes before the catalog's names; of view_open_for only what it was asked for. */
    struct staging *staging;
    uint64_t staging_version;  /* from before the view was made */
    struct staged_list staged; /* NODE_DATASET, NODE_SCHEMAS, NODE_STAGED_DIR */
    char **empty;              /* NODE_DATASETS: those without a shard */
    size_t empty_count;
    char subject[VIEW_SUBJECT_BYTES]; /* where neither a dataset nor an entry has it */
    struct samples_view samples;
};

/* The subject of the directory's node. */
struct atd_str view_subject(const struct view *view);
/* The shard of a name; NULL: there is none, or no list was asked for. */
const struct atd_shard *view_shard(const struct view *view, struct atd_str name);
/* The schema of its entry; NULL: none, or it is not in this index. */
const struct atd_catalog_schema *view_schema(const struct view *view);
/* Whether a shard is about to be deleted. */
bool view_hides(const struct view *view, struct atd_str name);
/* False: what the view shows of staging has changed since; it is not to be kept. */
bool view_is_settled(const struct view *view);

/* What of a dataset's directory is wanted. */
enum view_need {
    VIEW_RECORDS,
    VIEW_SHARDS_HERE,  /* a tool's temporary name: no store is asked, unless a URL has that name */
    VIEW_KNOWN_SHARDS, /* as they were found; stores are asked only when nothing is known */
    VIEW_SHARDS,       /* and those that were not to be had are asked for again */
};

/*
 * Opens the view of a directory by its kind and subject.
 * Blocks: only with VIEW_SHARDS, and as far as `effort` goes: on the disk, on a store.
 * Errors: ENOENT the dataset or entry is gone; EWOULDBLOCK (without a sentence) more effort is
 * needed, or the view is heavy and the effort only memory; ENOMEM. A view that was opened must be
 * closed.
 */
int view_open(struct fs *fs, enum node_kind kind, struct atd_str subject, enum view_need need,
              enum atd_effort effort, struct view *ret_view, struct atd_error *err);
/* With what finding `name` takes: a known shard does not wait for its neighbours' store. */
int view_open_for(struct fs *fs, enum node_kind kind, struct atd_str subject, struct atd_str name,
                  enum atd_effort effort, struct view *ret_view,
                  struct atd_error *err) ATD_MUST_USE;
void view_close(struct view *view);

/*
 * True when showing everything in it takes long (an entry.json of many shards), so that it is
 * work for a worker even though memory has it all.
 */
bool view_is_heavy(const struct view *view);

/*
 * To be called when names of a generation were answered to the kernel. If the index moved on in
 * between, the notifications of that change may have passed before the answer arrived: they are
 * sent again.
 */
void layout_check_current(struct fs *fs, struct atd_catalog *answered);

/* The version of a text file: of its contents and its time. */
void layout_text_version(const void *text, size_t len, int64_t mtime_s,
                         uint8_t ret_version[NODE_VERSION_BYTES]);

/* A shard's node version: the bytes, and whether they are read from a whole local copy. */
void layout_shard_version(const struct atd_shard *shard, bool is_local,
                          uint8_t ret_version[NODE_VERSION_BYTES]);

/* The names in order; places that show nothing (an unreadable shard) are skipped by view_at. */
size_t view_count(const struct view *view);

/*
 * The item at a place, its views valid as long as the view. `storage` receives what has to be
 * spelled. False: nothing shows there. Needs VIEW_SHARDS for datasets.
 */
#define VIEW_NAME_BYTES (ATD_FILE_NAME_MAX + 1)
struct view_names {
    char leaf[VIEW_NAME_BYTES + 8];
    char subject[VIEW_SUBJECT_BYTES];
};
bool view_at(struct fs *fs, const struct view *view, size_t place, struct view_names *storage,
             struct item *ret_item);

/* The name at a place, also where nothing shows, or another place's of the same name. Cheap. */
struct atd_str view_name_at(const struct view *view, size_t place, struct view_names *storage);

/* The item of a name; false when there is none. */
bool view_find(struct fs *fs, const struct view *view, struct atd_str name,
               struct view_names *storage, struct item *ret_item);

/* The records beside an entry's shards, by name; false: it is none. */
bool layout_record_kind(struct atd_str name, enum node_kind *ret_kind);

/* The contents of a text file item (or of a symbolic link) of this view. Errors: EFBIG, ENOMEM. */
int view_render(struct fs *fs, const struct view *view, enum node_kind kind, struct atd_str leaf,
                struct atd_buf *out, struct atd_error *err);

/* The directory an item of `kind` lies in, for opening its view again from its node. */
void node_directory(const struct node *node, enum node_kind *ret_kind, struct atd_str *ret_subject);

/* Directories in the root. */
#define LAYOUT_ROOT_NAMES 5

/* Fills in the attributes of a node, as stat shows them. False: it was staged and is gone. */
bool layout_stat(struct fs *fs, const struct node *node, struct stat *ret_st);

/* "datasets/NAME/x.tar": where a node is (what is staged: now), for messages. Cut at `size`. */
void layout_path(struct fs *fs, const struct node *node, char *path, size_t size);

#endif

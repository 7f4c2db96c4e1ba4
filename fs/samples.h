/*
 * samples/: what is inside of shards, as files (DESIGN 2.3).
 *
 *     datasets/NAME/samples/          NODE_SAMPLES         of by-cid/CID/ too
 *         index.json                  NODE_SAMPLES_TEXT    wids' index of all shards
 *         STEM.idx                    NODE_SAMPLES_TEXT    DALI's of one
 *         STEM/                       NODE_SAMPLES_SHARD   of the shard STEM.tar
 *             why.txt                 NODE_SAMPLES_TEXT    only where nothing can be shown
 *             KEY.EXT                 NODE_MEMBER          a plain member
 *             KEY/                    NODE_SAMPLE          an atdata sample, KEY.msgpack
 *                 FIELD.npy ...       NODE_FIELD
 *
 * The subject of these directories is where they are: "datasets/NAME/STEM/KEY", as much of it as
 * there is. Below samples/ itself every node, directories too, belongs to one version of its shard
 * and of the schema: another version is other nodes, so that the kernel may keep all of it. What it
 * must not believe any longer are the names in samples/ alone (samples_notify).
 *
 * A shard that is not called X.tar has a directory of its whole name. Where two would have one name
 * (X and X.tar; index.json.tar) the one that has to give way has its whole name, or none.
 *
 * Sizes of the two indexes are known only when the shards' members are: a listing of samples/ tells
 * their names alone, and stat looks. A STEM.idx is empty where no index can be: what is no plain
 * tar has none, nor have members with blanks in their names.
 */
#ifndef ATD_FS_SAMPLES_H
#define ATD_FS_SAMPLES_H

#include "base/digest.h"
#include "catalog/shards.h"
#include "codec/json_write.h"
#include "dataset/sample_read.h"
#include "fs.h"

#define SAMPLES_NAME "samples"

struct samples; /* member indexes, names and samples in memory */
struct samples_shard;
struct view;
struct view_names;
struct file;

/* After the reader. Errors: ENOMEM, and those of atd_members_cache_new. */
int samples_start(struct fs *fs, struct samples **ret_samples, struct atd_error *err) ATD_MUST_USE;
/* Every request of it under way and any later one ends. Never blocks. NULL is fine. */
void samples_interrupt(struct samples *samples);
/* No request is under way any more. NULL is fine. */
void samples_free(struct samples *samples);

/* For .atdatafs/: an object "samples"; Prometheus text. */
void samples_write_status(const struct samples *samples, struct atd_json_writer *json);
void samples_write_metrics(const struct samples *samples, struct atd_buf *out);

/* True for the kinds of directories above; for those, and what is in them. */
bool samples_is_directory(enum node_kind kind);
bool samples_is_inside(enum node_kind kind);

/* ------------------------------------------------------------------ views */

/* What a view of such a directory holds besides the catalog, entry and shards of its dataset. */
struct samples_view {
    struct atd_bytes schema_json; /* empty: none */
    uint8_t schema_digest[ATD_SHA256_BYTES];
    const struct atd_shard *shard; /* the directory's; in samples/, that of the index looked for */
    struct samples_shard *inside;  /* its members */
    uint8_t version[NODE_VERSION_BYTES]; /* of the shard's directory */
    struct atd_read_sample *sample;      /* NODE_SAMPLE */
    uint8_t sample_key[NODE_VERSION_BYTES];
    uint64_t *counts; /* index.json: of each shard; UINT64_MAX: it is left out. NULL: not wanted */
};

/*
 * view_open and view_open_for for these directories; `name` ptr NULL: all of it. Errors: as theirs;
 * ESTALE the shard is another version now, which is passed on; why a sample cannot be read.
 */
int samples_view_open(struct fs *fs, enum node_kind kind, struct atd_str subject,
                      struct atd_str name, enum atd_effort effort, struct view *ret_view,
                      struct atd_error *err) ATD_MUST_USE;
void samples_view_close(struct view *view);

/* Whether a node of such a directory is what the view shows. */
bool samples_view_is_of(const struct view *view, const struct node *node);

/* As view_count, view_name_at, view_at, view_find, view_render. */
size_t samples_count(const struct view *view);
struct atd_str samples_name_at(const struct view *view, size_t place, struct view_names *storage);
bool samples_at(const struct view *view, size_t place, struct view_names *storage,
                struct item *ret_item);
bool samples_find(const struct view *view, struct atd_str name, struct view_names *storage,
                  struct item *ret_item);
int samples_render(const struct view *view, struct atd_str leaf, struct atd_buf *out,
                   struct atd_error *err) ATD_MUST_USE;

/* samples/ itself, in a dataset's or an entry's directory; false: it has none, for it has no shard.
 */
bool samples_item(const struct view *view, struct view_names *storage, struct item *ret_item);
/*
 * Unless list_samples is on it is reached by its name alone: it holds all bytes of the dataset
 * again, in a file each. cp -r would bring them twice, find and du would ask the store for the
 * headers of every shard; and so would rm -r, where things may be deleted, to be refused then:
 * there it never shows.
 */
bool samples_is_listed(struct fs *fs, const struct view *view);

/* ------------------------------------------------------------------ files */

/*
 * Opens a NODE_MEMBER or NODE_FIELD through the view of its directory: what is small is read now,
 * so that it costs one request of just its bytes; a large member is read as it is asked for.
 * Errors: EWOULDBLOCK more effort is needed; ESTALE; why it cannot be read.
 */
int samples_open(struct fs *fs, const struct view *view, const struct node *node,
                 enum atd_effort effort, struct file *file, struct atd_error *err) ATD_MUST_USE;

/* A read found another version of the shard: if the name still means that node, what was known of
 * the shard is forgotten. Blocks: on the disk. */
void samples_forget_node(struct fs *fs, enum node_kind parent, struct atd_str subject,
                         struct atd_str leaf, const uint8_t version[NODE_VERSION_BYTES]);

/* The shards of a dataset (or entry: `kind`) may mean other names in its samples/; `catalog` and
 * `entry`: those that the kernel may have been told of. */
void samples_notify(struct fs *fs, enum node_kind kind, struct atd_str subject,
                    struct atd_catalog *catalog, const struct atd_catalog_entry *entry);

/* "datasets/NAME/samples/STEM/KEY/leaf", cut at `size`. */
void samples_path(struct atd_str subject, struct atd_str leaf, char *path, size_t size);

/* Sets EROFS. */
int samples_refuse(struct atd_error *err);

#endif

/*
 * The inode table: what the kernel knows by number.
 *
 * A node is one state of one file: its key covers the path and, for files, the version of the
 * bytes. When a file's bytes change it becomes another node with another number, so a number never
 * stands for two contents; the st_ino that users see stays (FUSE 6). Numbers are never reused.
 * A staged file is one node from its creation on, whatever it is called and whatever is written.
 *
 * A node lives while the kernel remembers it (lookups) or something here does (opens).
 */
#ifndef ATD_FS_NODES_H
#define ATD_FS_NODES_H

#include <stdatomic.h>
#include <sys/stat.h>

#include "atdata/error.h"
#include "atdata/str.h"
#include "fuse.h"

#define NODE_VERSION_BYTES 16
#define NODE_KEY_BYTES 16
/* Of a subject, and of a leaf. */
#define NODE_TEXT_BYTES_MAX 1024

enum node_kind {
    NODE_ROOT,
    NODE_DATASETS,    /* datasets/ */
    NODE_SCHEMAS,     /* schemas/ */
    NODE_LABELS,      /* labels/ */
    NODE_BY_CID,      /* by-cid/ */
    NODE_CONTROL,     /* .atdatafs/ */
    NODE_DATASET,     /* datasets/NAME/ */
    NODE_CID,         /* by-cid/CID/ */
    NODE_SCHEMA_JSON, /* in a dataset's directory */
    NODE_SCHEMA_PY,
    NODE_SCHEMA_JSONSCHEMA,
    NODE_METADATA,
    NODE_ENTRY,
    NODE_SHARD,
    NODE_SCHEMAS_JSON, /* in schemas/ */
    NODE_SCHEMAS_PY,
    NODE_SCHEMAS_JSONSCHEMA,
    NODE_LABEL,        /* a symbolic link in labels/ */
    NODE_CONTROL_FILE, /* in .atdatafs/ */
    NODE_STAGED,       /* a file of staging.h: in a dataset's directory, schemas/, a scratch one */
    NODE_STAGED_DIR,   /* a scratch directory in a dataset's; its subject is "DATASET/.~tmp~" */
    NODE_SAMPLES,      /* what is below samples/: samples.h */
    NODE_SAMPLES_SHARD,
    NODE_SAMPLE,
    NODE_SAMPLES_TEXT,
    NODE_MEMBER,
    NODE_FIELD,
};

/* What a lookup or a listing found. Views are borrowed from whatever it was found in. */
struct item {
    enum node_kind kind;
    enum node_kind parent;  /* NODE_DATASET or NODE_CID for what is in such a directory; the
                               directory of what is staged */
    struct atd_str subject; /* file name of the dataset, CID or schema stem it belongs to */
    struct atd_str leaf;    /* its own file name */
    uint8_t version[NODE_VERSION_BYTES]; /* files: of the bytes; below samples/: of the shard's;
                                            else zero */
    uint32_t link_count;
    uint64_t size_bytes;
    int64_t mtime_s;
    int64_t mtime_ns;
    int64_t age_ms;     /* local shards: how long ago the disk was asked */
    bool is_remote;     /* a shard in an object store */
    bool is_local_copy; /* and read from the whole, verified copy in the cache directory */
    uint64_t staged_id; /* NODE_STAGED: which one; it is the version */
    bool is_empty;      /* NODE_DATASET: only this mount knows it */
    bool is_unsized;    /* in a listing: a name, of which no more is known than that it is there */
};

/* How the open handles of a shard are served; all of one node in one way (FUSE 6). */
enum node_mode { NODE_MODE_NONE, NODE_MODE_CACHED, NODE_MODE_PASSTHROUGH };

struct node {
    /* fixed */
    fuse_ino_t number;
    uint64_t st_ino;
    enum node_kind kind;
    enum node_kind parent;
    uint8_t key[NODE_KEY_BYTES];
    uint8_t version[NODE_VERSION_BYTES];
    uint64_t size_bytes;
    uint32_t link_count;
    uint32_t subject_len;
    uint32_t leaf_len;
    bool is_remote;
    bool is_local_copy;
    uint64_t staged_id; /* NODE_STAGED: it is known by this alone, its name here is the first */

    /* of the last look; a shard's may be set without its bytes being others */
    _Atomic int64_t mtime_s;
    _Atomic int64_t mtime_ns;

    atomic_bool is_looked_into; /* a directory: the kernel may know names in it, or their absence */
    atomic_uint_fast64_t listed; /* a directory: the oldest state of it that is in its listing */

    /* guarded by the table's lock */
    uint64_t lookups; /* what the kernel was told and has not forgotten */
    uint32_t opens;
    enum node_mode mode; /* NONE exactly when opens is 0 */
    bool was_cached;     /* remote: some handle was served through the daemon */
    int32_t backing_id;  /* MODE_PASSTHROUGH */
    struct node *next_by_number;
    struct node *next_by_key;

    char text[]; /* subject, leaf */
};

struct atd_str node_subject(const struct node *node);
struct atd_str node_leaf(const struct node *node);

/* What stat shows as st_ino: of where the item is. A file that is staged has that of the shard
 * which it will be. */
uint64_t node_item_st_ino(const struct item *item);

struct nodes;

/* With the root as number FUSE_ROOT_ID. NULL when out of memory. */
struct nodes *nodes_new(void);
void nodes_free(struct nodes *nodes);

/* The node of an item, made if need be, its lookup count one higher. NULL when out of memory. */
struct node *nodes_remember(struct nodes *nodes, const struct item *item);

/* The time of a shard was set. */
void node_set_mtime(struct node *node, int64_t mtime_s, int64_t mtime_ns);

/* To be called before what is in the directory is looked at for an answer to the kernel. */
void node_set_looked_into(struct node *node);

/*
 * Of the listing that the kernel makes of many answers, and of those to several readers: notes that
 * it got names of a state (numbers, the later the higher), before it gets them. _end tells the
 * oldest since the last end; UINT64_MAX: none.
 */
void node_note_listed(struct node *node, uint64_t state);
uint64_t node_end_listing(struct node *node);

/* Takes `count` from the lookup count; the node may be gone afterwards. */
void nodes_forget(struct nodes *nodes, fuse_ino_t number, uint64_t count);

/* The node of a number the kernel uses (it remembers it, so the pointer stays valid until the
 * reply); NULL for a number never given out. */
struct node *nodes_find(struct nodes *nodes, fuse_ino_t number);

/* The number of a directory that the kernel knows, by kind and subject; 0 when it does not. */
fuse_ino_t nodes_number_of_directory(struct nodes *nodes, enum node_kind kind,
                                     struct atd_str subject);

/* The same of one in which the kernel may know names. */
fuse_ino_t nodes_number_of_looked_into(struct nodes *nodes, enum node_kind kind,
                                       struct atd_str subject);

size_t nodes_count(struct nodes *nodes);

/* True for kinds that are directories. */
bool node_kind_is_directory(enum node_kind kind);

/*
 * Registers a handle on a shard. `open_backing` is asked for a backing id when the node has no
 * handle yet (a positive id, or 0 to serve it through the daemon); it is called with the table's
 * lock held and only makes one ioctl. The mode decided then holds for every handle until the last
 * one is closed. Stores the mode and the backing id.
 */
void nodes_open(struct nodes *nodes, struct node *node, int32_t (*open_backing)(void *ctx),
                void *ctx, enum node_mode *ret_mode, int32_t *ret_backing_id);

/* Unregisters it. Returns a backing id to close when it was the last passthrough handle, else 0. */
int32_t nodes_close(struct nodes *nodes, struct node *node);

#endif

/*
 * The inside of a catalog, for the files of core/catalog only.
 */
#ifndef ATD_CATALOG_GENERATION_H
#define ATD_CATALOG_GENERATION_H

#include <stdatomic.h>

#include "base/lock.h"
#include "catalog/catalog.h"
#include "catalog/merge.h"
#include "catalog/problems.h"
#include "catalog/texts.h"

struct atd_catalog {
    atomic_uint refs;

    /* fixed once built: tables of its own, texts that are shared with generations before */
    struct atd_texts *texts;
    size_t live_bytes;  /* of the texts: what this generation needs, at most */
    size_t whole_bytes; /* of the texts: what was needed when they were last put together */
    uint64_t generation;
    int64_t loaded_at_s;
    struct atd_catalog_entry *entries; /* by (file name, CID) */
    size_t entry_count;
    uint32_t *entries_by_name;        /* entry places by (name, cid) */
    struct atd_catalog_label *labels; /* by (name, version) */
    size_t label_count;
    uint32_t *labels_by_cid;
    uint32_t *shown_labels; /* label places by file name */
    size_t shown_label_count;
    struct atd_catalog_schema *schemas; /* by stem */
    size_t schema_count;
    uint32_t *schemas_by_bare;    /* schema places by (bare name, version, stored name) */
    struct atd_dataset *datasets; /* by file name */
    size_t dataset_count;
    /* What others with the same file name hide, until those go. */
    struct atd_catalog_entry *hidden_entries;
    size_t hidden_entry_count;
    struct atd_catalog_schema *hidden_schemas;
    size_t hidden_schema_count;
    uint32_t *hidden_labels; /* label places */
    size_t hidden_label_count;
    struct atd_dataset *hidden_datasets;
    size_t hidden_dataset_count;
    struct atd_refusals refusals;
    struct atd_problem *derived; /* what follows from the records; the first of them */
    size_t derived_kept;
    size_t derived_count;

    struct atd_lock shards_lock;
    size_t shard_bytes;                  /* guarded by shards_lock: what the kept lists take */
    struct atd_shard_list **shard_lists; /* guarded by shards_lock; one slot an entry, or NULL */
    bool *shards_seen; /* guarded by shards_lock: the sweep was there, and keeps no list of it */
};

/* A generation while it is made: of `base` (an empty catalog at first) and what was taken in. */
struct atd_making {
    struct atd_catalog *catalog;
    const struct atd_catalog *base;
    bool is_first; /* the base is the empty one: everything is new */
    struct atd_merged entries;
    struct atd_merged labels;
    struct atd_merged schemas;
    bool *entry_changed;   /* one an entry: its fingerprint is not the base's */
    bool *label_came;      /* one a label: it is new, or shows again */
    struct atd_str *names; /* that may mean something else now; not of a first generation */
    size_t name_count;
    size_t name_cap;
    size_t dropped_bytes; /* of texts: what no row needs any more */
};

/* rows.c: the orders of the tables of places. */
struct atd_ordering atd_order_by_name(const struct atd_catalog *catalog);
struct atd_ordering atd_order_by_label_cid(const struct atd_catalog *catalog);
struct atd_ordering atd_order_by_label_file(const struct atd_catalog *catalog);
struct atd_ordering atd_order_by_bare(const struct atd_catalog *catalog);

/* Adds a problem that follows from the records; never fails (one that does not fit is only
 * counted). `key` is the catalog's, `reason` a literal. */
void atd_catalog_note_problem(struct atd_catalog *catalog, const char *what, struct atd_str key,
                              const char *reason);

/* join.c: labels and schemas to entries, and what is shown of them, once the rows are merged;
 * fingerprints. False when out of memory, like the others. */
bool atd_making_join(struct atd_making *making) ATD_MUST_USE;
/* True, and noted, unless out of memory: what `name` means may have changed. */
bool atd_making_touch(struct atd_making *making, struct atd_str name) ATD_MUST_USE;

/* names.c: fills datasets (DESIGN 2.2) once everything is joined. */
bool atd_making_resolve_names(struct atd_making *making) ATD_MUST_USE;

/* meaning.c: one name and everything that carries it. */
struct atd_name_group {
    struct atd_str name;
    size_t first_entry; /* places in entries_by_name */
    size_t entry_count;
    size_t first_label; /* places in labels */
    size_t label_count;
};

/* `name` of the result is a row's when any row carries it. */
struct atd_name_group atd_name_group_find(const struct atd_catalog *catalog, struct atd_str name);
/* The next name in order, from either table; false at the end of both. */
bool atd_name_group_next(const struct atd_catalog *catalog, size_t *entry_at, size_t *label_at,
                         struct atd_name_group *ret_group);
/* What the name shows in datasets/, but for its file name; false: nothing. */
bool atd_name_group_show(const struct atd_catalog *catalog, const struct atd_name_group *group,
                         struct atd_dataset *ret_dataset);

#endif

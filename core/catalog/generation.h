/*
 * The inside of a catalog, for the files of core/catalog only.
 */
#ifndef ATD_CATALOG_GENERATION_H
#define ATD_CATALOG_GENERATION_H

#include <stdatomic.h>

#include "atdata/arena.h"
#include "base/lock.h"
#include "catalog/catalog.h"

struct atd_catalog {
    atomic_uint refs;

    /* fixed once built; everything lies in the arena but the tables, which are malloc'ed */
    struct atd_arena arena;
    uint64_t generation;
    int64_t loaded_at_s;
    struct atd_catalog_entry *entries; /* by cid file name */
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
    struct atd_problem *problems;
    size_t problem_kept;
    size_t problem_count;

    struct atd_lock shards_lock;
    size_t shard_bytes;                  /* guarded by shards_lock: what the kept lists take */
    struct atd_shard_list **shard_lists; /* guarded by shards_lock; one slot an entry, or NULL */
};

/* Adds to the problem list; never fails (a problem that does not fit is only counted). */
void atd_catalog_note_problem(struct atd_catalog *catalog, const char *what, struct atd_str key,
                              const char *reason);

/*
 * Fills datasets (DESIGN 2.2) once entries, labels and schemas are sorted. Errors: ENOMEM.
 */
int atd_catalog_resolve_names(struct atd_catalog *catalog, struct atd_error *err) ATD_MUST_USE;

#endif

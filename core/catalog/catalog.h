/*
 * The catalog: one generation of an index, held in memory, sorted, resolved, immutable.
 *
 * Built whole by atd_catalog_load(), or of the one before and what changed by atd_catalog_apply(),
 * and never changed afterwards, so that any thread may read it without a lock while it holds a
 * reference. What a row says is read through rows.h. (The shard lists that hang off the entries are
 * made when first needed and guarded; see shards.h.)
 *
 * What a name means, which names show, and how they are spelled as files: DESIGN 2.1, 2.2.
 */
#ifndef ATD_CATALOG_CATALOG_H
#define ATD_CATALOG_CATALOG_H

#include "atdata/error.h"
#include "atdata/str.h"
#include "catalog/rows.h"
#include "index/index.h"

#define ATD_PROBLEMS_KEPT_MAX 1000u

/* What a label's created_at says; 0: unknown. */
int64_t atd_label_created_at_s(const struct atd_catalog_label *label);

struct atd_catalog_schema {
    struct atd_str name; /* as stored, may be dotted */
    struct atd_str bare; /* what follows the last dot: references name it so */
    struct atd_str version;
    struct atd_bytes json;
    int64_t created_at_s;
    struct atd_str stem; /* file name in schemas/ without .json or .py */
};

struct atd_problem {
    const char *what;   /* "entry", "label", "schema", "table", "name" */
    struct atd_str key; /* raw; may be empty */
    struct atd_str reason;
};

struct atd_catalog;
struct atd_shard_list;

/* Reads everything. Blocks on the provider. Errors: the provider's; ENOMEM. */
int atd_catalog_load(struct atd_index *index, uint64_t generation, struct atd_catalog **ret_catalog,
                     struct atd_error *err) ATD_MUST_USE;

/*
 * A generation of `base` and what atd_index_changes() reports; `base` stays as it is. Costs little
 * more than the changes: texts are shared with the base, tables are merged, what no change touches
 * is not looked at again. Blocks on the provider. Errors: the provider's; ENOMEM.
 */
int atd_catalog_apply(struct atd_catalog *base, struct atd_index *index, uint64_t generation,
                      struct atd_catalog **ret_catalog, struct atd_error *err) ATD_MUST_USE;

struct atd_catalog *atd_catalog_ref(struct atd_catalog *catalog);
void atd_catalog_unref(struct atd_catalog *catalog);

uint64_t atd_catalog_generation(const struct atd_catalog *catalog);
int64_t atd_catalog_loaded_at_s(const struct atd_catalog *catalog);

/* The tables, each sorted by file name (labels: by name, then version). */
size_t atd_catalog_dataset_count(const struct atd_catalog *catalog);
const struct atd_dataset *atd_catalog_dataset_at(const struct atd_catalog *catalog, size_t place);
size_t atd_catalog_entry_count(const struct atd_catalog *catalog);
const struct atd_catalog_entry *atd_catalog_entry_at(const struct atd_catalog *catalog,
                                                     size_t place);
size_t atd_catalog_schema_count(const struct atd_catalog *catalog);
const struct atd_catalog_schema *atd_catalog_schema_at(const struct atd_catalog *catalog,
                                                       size_t place);
size_t atd_catalog_label_count(const struct atd_catalog *catalog);
const struct atd_catalog_label *atd_catalog_label_at(const struct atd_catalog *catalog,
                                                     size_t place);
/* The labels that show in labels/: versioned, their entry exists; sorted by file name. */
size_t atd_catalog_shown_label_count(const struct atd_catalog *catalog);
const struct atd_catalog_label *atd_catalog_shown_label_at(const struct atd_catalog *catalog,
                                                           size_t place);

/* Lookup by file name; NULL when there is none. */
const struct atd_dataset *atd_catalog_find_dataset(const struct atd_catalog *catalog,
                                                   struct atd_str file_name);
const struct atd_catalog_entry *atd_catalog_find_entry(const struct atd_catalog *catalog,
                                                       struct atd_str file_name);
const struct atd_catalog_schema *atd_catalog_find_schema(const struct atd_catalog *catalog,
                                                         struct atd_str stem);
const struct atd_catalog_label *atd_catalog_find_label(const struct atd_catalog *catalog,
                                                       struct atd_str file_name);

/* Lookup by the index's name, whether it shows in datasets/ or not. Entries are numbered by (name,
 * CID) there; the first place whose name is not before `name`, which may be the count. */
size_t atd_catalog_first_named(const struct atd_catalog *catalog, struct atd_str name);
const struct atd_catalog_entry *atd_catalog_named_at(const struct atd_catalog *catalog,
                                                     size_t place);
/* The same of the table of labels. */
size_t atd_catalog_first_label_named(const struct atd_catalog *catalog, struct atd_str name);
/* An entry's place in its table. */
uint32_t atd_catalog_place_of(const struct atd_catalog *catalog,
                              const struct atd_catalog_entry *entry);
/* By CID; NULL: none. */
const struct atd_catalog_entry *atd_catalog_find_cid(const struct atd_catalog *catalog,
                                                     struct atd_str cid);
/* True for one that was renamed when it was superseded, and does not show for that (2.2). */
bool atd_catalog_is_superseded(const struct atd_catalog *catalog,
                               const struct atd_catalog_entry *entry);
/* Which entry the name means (2.2); NULL: none. */
const struct atd_catalog_entry *atd_catalog_meaning(const struct atd_catalog *catalog,
                                                    struct atd_str name);

/* The `place`-th label of an entry, place < label_count. */
const struct atd_catalog_label *atd_catalog_label_of(const struct atd_catalog *catalog,
                                                     const struct atd_catalog_entry *entry,
                                                     size_t place);
/* The `place`-th other entry of an ambiguous dataset, place < other_count. */
const struct atd_catalog_entry *atd_catalog_other_of(const struct atd_catalog *catalog,
                                                     const struct atd_dataset *dataset,
                                                     size_t place);

/* What was left out, with the reason: the first ATD_PROBLEMS_KEPT_MAX, refused records before what
 * follows from the others. */
size_t atd_catalog_problem_count(const struct atd_catalog *catalog); /* all, kept or not */
size_t atd_catalog_problem_kept(const struct atd_catalog *catalog);
const struct atd_problem *atd_catalog_problem_at(const struct atd_catalog *catalog, size_t place);

#endif

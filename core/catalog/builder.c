/*
 * Making a generation, of nothing or of the one before: records are taken in (intake.c), merged
 * into the tables (merge.c), joined (join.c), names get their meaning (names.c).
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "base/check.h"
#include "catalog/generation.h"
#include "catalog/intake.h"

/* Texts are copied together when more of them is dead than alive, and so much. */
#define DEAD_BYTES_LEAST ((size_t)1 << 20)
/* ... and when they are so many times what they were then: what many rows may share (references,
 * labels' names) is never known to be dead. */
#define GROWTH_MAX 4

static const struct atd_catalog nothing;

static int no_memory(struct atd_error *err)
{
    return atd_error_set(err, ENOMEM, "the catalog needs more memory than there is");
}

/* An empty one; NULL when out of memory. `texts` may be NULL: its own. */
static struct atd_catalog *new_catalog(struct atd_texts *texts, uint64_t generation)
{
    struct atd_catalog *catalog = calloc(1, sizeof(*catalog));

    if (!catalog)
        return NULL;
    atomic_init(&catalog->refs, 1);
    atd_lock_init(&catalog->shards_lock, ATD_RANK_SHARDS);
    catalog->generation = generation;
    catalog->loaded_at_s = (int64_t)time(NULL);
    catalog->texts = texts ? atd_texts_ref(texts) : atd_texts_new();
    if (catalog->texts)
        return catalog;
    atd_catalog_unref(catalog);
    return NULL;
}

static bool merge_rows(struct atd_making *making, struct atd_intake *intake)
{
    struct atd_catalog *catalog = making->catalog;
    const struct atd_catalog *base = making->base;

    if (!atd_rows_merge(&atd_entry_rows, base->entries, base->entry_count, &intake->entries,
                        &making->entries) ||
        !atd_rows_merge(&atd_label_rows, base->labels, base->label_count, &intake->labels,
                        &making->labels) ||
        !atd_rows_merge(&atd_schema_rows, base->schemas, base->schema_count, &intake->schemas,
                        &making->schemas) ||
        !atd_refusals_merge(&base->refusals, &intake->refusals, intake->gone, intake->gone_count,
                            &catalog->refusals, &making->dropped_bytes))
        return false;
    making->dropped_bytes += making->entries.dropped_bytes + making->labels.dropped_bytes +
                             making->schemas.dropped_bytes;
    catalog->entries = making->entries.rows;
    catalog->entry_count = making->entries.count;
    catalog->hidden_entries = making->entries.hidden;
    catalog->hidden_entry_count = making->entries.hidden_count;
    catalog->labels = making->labels.rows;
    catalog->label_count = making->labels.count;
    catalog->schemas = making->schemas.rows;
    catalog->schema_count = making->schemas.count;
    catalog->hidden_schemas = making->schemas.hidden;
    catalog->hidden_schema_count = making->schemas.hidden_count;
    return true;
}

/* What merge_rows gave to the catalog stays there. */
static void release(struct atd_making *making)
{
    if (making->catalog->entries) {
        making->entries.rows = NULL;
        making->entries.hidden = NULL;
        making->labels.rows = NULL;
        making->schemas.rows = NULL;
        making->schemas.hidden = NULL;
    }
    atd_merged_release(&making->entries);
    atd_merged_release(&making->labels);
    atd_merged_release(&making->schemas);
    free(making->entry_changed);
    free(making->label_came);
    free(making->names);
}

/* In the order of the tables, so that the same records always give the same list. */
static void note_problems(struct atd_catalog *catalog)
{
    for (size_t i = 0; i < catalog->hidden_entry_count; i++)
        atd_catalog_note_problem(catalog, "entry", atd_entry_cid(&catalog->hidden_entries[i]),
                                 "another entry's file name is the same");
    for (size_t i = 0; i < catalog->hidden_schema_count; i++)
        atd_catalog_note_problem(catalog, "schema", catalog->hidden_schemas[i].name,
                                 "another schema's file name is the same");
    /* Labels that point at no entry are left out, as Python's get_label raises for them. */
    for (size_t i = 0; i < catalog->label_count; i++) {
        if (catalog->labels[i].entry == ATD_NONE)
            atd_catalog_note_problem(catalog, "label", atd_label_name(&catalog->labels[i]),
                                     "it points at a CID that no sound entry has");
    }
    for (size_t i = 0; i < catalog->hidden_label_count; i++)
        atd_catalog_note_problem(catalog, "label",
                                 atd_label_name(&catalog->labels[catalog->hidden_labels[i]]),
                                 "another label's file name is the same");
    for (size_t i = 0; i < catalog->hidden_dataset_count; i++)
        atd_catalog_note_problem(catalog, "name", atd_dataset_name(&catalog->hidden_datasets[i]),
                                 "another dataset's file name is the same");
}

/* What the base hides is looked at each time: it may show when something else goes. */
static bool recall_hidden(const struct atd_catalog *base, struct atd_intake *intake)
{
    bool fine = true;

    for (size_t i = 0; i < base->hidden_entry_count && fine; i++)
        fine = atd_fresh_add(&intake->entries, &atd_entry_rows, &base->hidden_entries[i], false);
    for (size_t i = 0; i < base->hidden_schema_count && fine; i++)
        fine = atd_fresh_add(&intake->schemas, &atd_schema_rows, &base->hidden_schemas[i], false);
    return fine;
}

static bool finish(struct atd_catalog *catalog, const struct atd_catalog *base,
                   struct atd_intake *intake)
{
    struct atd_making making = {.catalog = catalog, .base = base, .is_first = base == &nothing};
    bool fine = !intake->out_of_memory && merge_rows(&making, intake) && atd_making_join(&making) &&
                atd_making_resolve_names(&making);

    if (fine) {
        note_problems(catalog);
        catalog->shard_lists = calloc(catalog->entry_count + 1, sizeof(struct atd_shard_list *));
        catalog->shards_seen = calloc(catalog->entry_count + 1, sizeof(bool));
        fine = catalog->shard_lists && catalog->shards_seen;
    }
    catalog->live_bytes = making.dropped_bytes; /* to be taken off */
    release(&making);
    return fine;
}

/* Takes records in by `fill`, and makes a generation of them and the base. */
static int make(const struct atd_catalog *base, struct atd_texts *texts, uint64_t generation,
                int (*fill)(void *ctx, struct atd_intake *intake, struct atd_error *err), void *ctx,
                struct atd_catalog **ret_catalog, struct atd_error *err)
{
    struct atd_catalog *catalog = new_catalog(texts, generation);
    struct atd_intake intake;
    size_t used_bytes;
    int rc = 0;

    if (!catalog)
        return no_memory(err);
    used_bytes = atd_texts_used_bytes(catalog->texts);
    atd_intake_init(&intake, catalog->texts);
    if (!recall_hidden(base, &intake))
        rc = no_memory(err);
    if (rc == 0)
        rc = fill(ctx, &intake, err);
    if (rc == 0 && !finish(catalog, base, &intake))
        rc = no_memory(err);
    atd_intake_release(&intake);
    if (rc) {
        atd_catalog_unref(catalog);
        return rc;
    }
    used_bytes = atd_texts_used_bytes(catalog->texts) - used_bytes + base->live_bytes;
    catalog->live_bytes = used_bytes > catalog->live_bytes ? used_bytes - catalog->live_bytes : 0;
    catalog->whole_bytes = base == &nothing ? catalog->live_bytes : base->whole_bytes;
    *ret_catalog = catalog;
    return 0;
}

static int fill_from_all(void *ctx, struct atd_intake *intake, struct atd_error *err)
{
    const struct atd_index_sink sink = atd_intake_sink(intake);

    return atd_index_load(ctx, &sink, err);
}

static int fill_from_changes(void *ctx, struct atd_intake *intake, struct atd_error *err)
{
    const struct atd_index_sink sink = atd_intake_sink(intake);

    return atd_index_changes(ctx, &sink, err);
}

static int fill_from_catalog(void *ctx, struct atd_intake *intake, struct atd_error *err)
{
    return atd_intake_copy(intake, ctx, err);
}

int atd_catalog_load(struct atd_index *index, uint64_t generation, struct atd_catalog **ret_catalog,
                     struct atd_error *err)
{
    return make(&nothing, NULL, generation, fill_from_all, index, ret_catalog, err);
}

static bool is_worth_a_copy(const struct atd_catalog *catalog)
{
    size_t used_bytes = atd_texts_used_bytes(catalog->texts);

    return used_bytes > 2 * catalog->live_bytes + DEAD_BYTES_LEAST ||
           used_bytes > GROWTH_MAX * catalog->whole_bytes + DEAD_BYTES_LEAST;
}

int atd_catalog_apply(struct atd_catalog *base, struct atd_index *index, uint64_t generation,
                      struct atd_catalog **ret_catalog, struct atd_error *err)
{
    struct atd_catalog *catalog;
    struct atd_catalog *compact;
    int rc = make(base, base->texts, generation, fill_from_changes, index, &catalog, err);

    if (rc)
        return rc;
    if (is_worth_a_copy(catalog) &&
        make(&nothing, NULL, generation, fill_from_catalog, catalog, &compact, NULL) == 0) {
        atd_catalog_unref(catalog);
        catalog = compact;
    }
    *ret_catalog = catalog;
    return 0;
}

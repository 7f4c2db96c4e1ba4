#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/lock.h"
#include "index/index.h"

struct records {
    const struct atd_index_entry *entries;
    size_t entry_count;
    const struct atd_index_label *labels;
    size_t label_count;
    const struct atd_index_schema *schemas;
    size_t schema_count;
};

struct memory_index {
    struct atd_index base;
    struct atd_lock lock;
    struct records records; /* guarded by lock */
    bool changed;           /* guarded by lock */
};

static int memory_load(struct atd_index *index, const struct atd_index_sink *sink,
                       struct atd_error *err)
{
    struct memory_index *memory = (struct memory_index *)index;
    struct records records;
    int rc = 0;

    atd_lock_take(&memory->lock);
    records = memory->records;
    memory->changed = false;
    atd_lock_give(&memory->lock);
    for (size_t i = 0; i < records.entry_count && rc == 0; i++)
        rc = sink->entry(sink->ctx, &records.entries[i], err);
    for (size_t i = 0; i < records.label_count && rc == 0; i++)
        rc = sink->label(sink->ctx, &records.labels[i], err);
    for (size_t i = 0; i < records.schema_count && rc == 0; i++)
        rc = sink->schema(sink->ctx, &records.schemas[i], err);
    return rc;
}

static bool memory_changed(struct atd_index *index)
{
    struct memory_index *memory = (struct memory_index *)index;
    bool changed;

    atd_lock_take(&memory->lock);
    changed = memory->changed;
    atd_lock_give(&memory->lock);
    return changed;
}

static void memory_free(struct atd_index *index)
{
    atd_lock_destroy(&((struct memory_index *)index)->lock);
    free(index);
}

static const struct atd_index_ops memory_ops = {
    .provider = "memory",
    .load = memory_load,
    .changed = memory_changed,
    .free = memory_free,
};

struct atd_index *atd_index_memory_new(void)
{
    struct memory_index *memory = calloc(1, sizeof(*memory));

    if (!memory)
        return NULL;
    memory->base.ops = &memory_ops;
    memory->base.location = strdup("memory:");
    atd_lock_init(&memory->lock, ATD_RANK_INDEX);
    memory->changed = true;
    return &memory->base;
}

void atd_index_memory_set(struct atd_index *index, const struct atd_index_entry *entries,
                          size_t entry_count, const struct atd_index_label *labels,
                          size_t label_count, const struct atd_index_schema *schemas,
                          size_t schema_count)
{
    struct memory_index *memory = (struct memory_index *)index;

    atd_assert(index->ops == &memory_ops);
    atd_lock_take(&memory->lock);
    memory->records =
        (struct records){entries, entry_count, labels, label_count, schemas, schema_count};
    memory->changed = true;
    atd_lock_give(&memory->lock);
}

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "index/index.h"

struct memory_index {
    struct atd_index base;
    const struct atd_index_entry *entries;
    size_t entry_count;
    const struct atd_index_label *labels;
    size_t label_count;
    const struct atd_index_schema *schemas;
    size_t schema_count;
    atomic_bool changed;
};

static int memory_load(struct atd_index *index, const struct atd_index_sink *sink,
                       struct atd_error *err)
{
    struct memory_index *memory = (struct memory_index *)index;
    int rc = 0;

    atomic_store(&memory->changed, false);
    for (size_t i = 0; i < memory->entry_count && rc == 0; i++)
        rc = sink->entry(sink->ctx, &memory->entries[i], err);
    for (size_t i = 0; i < memory->label_count && rc == 0; i++)
        rc = sink->label(sink->ctx, &memory->labels[i], err);
    for (size_t i = 0; i < memory->schema_count && rc == 0; i++)
        rc = sink->schema(sink->ctx, &memory->schemas[i], err);
    return rc;
}

static bool memory_changed(struct atd_index *index)
{
    return atomic_load(&((struct memory_index *)index)->changed);
}

static void memory_free(struct atd_index *index)
{
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
    atomic_init(&memory->changed, true);
    return &memory->base;
}

void atd_index_memory_set(struct atd_index *index, const struct atd_index_entry *entries,
                          size_t entry_count, const struct atd_index_label *labels,
                          size_t label_count, const struct atd_index_schema *schemas,
                          size_t schema_count)
{
    struct memory_index *memory = (struct memory_index *)index;

    atd_assert(index->ops == &memory_ops);
    memory->entries = entries;
    memory->entry_count = entry_count;
    memory->labels = labels;
    memory->label_count = label_count;
    memory->schemas = schemas;
    memory->schema_count = schema_count;
    atomic_store(&memory->changed, true);
}

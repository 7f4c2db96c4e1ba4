#include "catalog/catalog.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "catalog/generation.h"
#include "catalog/shards.h"
#include "codec/file_name.h"

struct atd_catalog *atd_catalog_ref(struct atd_catalog *catalog)
{
    (void)atomic_fetch_add(&catalog->refs, 1);
    return catalog;
}

void atd_catalog_unref(struct atd_catalog *catalog)
{
    if (!catalog || atomic_fetch_sub(&catalog->refs, 1) != 1)
        return;
    for (size_t i = 0; catalog->shard_lists && i < catalog->entry_count; i++)
        atd_shard_list_unref(catalog->shard_lists[i]);
    free(catalog->shard_lists);
    free(catalog->shards_seen);
    free(catalog->entries);
    free(catalog->entries_by_name);
    free(catalog->labels);
    free(catalog->labels_by_cid);
    free(catalog->shown_labels);
    free(catalog->schemas);
    free(catalog->schemas_by_bare);
    free(catalog->datasets);
    free(catalog->hidden_entries);
    free(catalog->hidden_schemas);
    free(catalog->hidden_labels);
    free(catalog->hidden_datasets);
    free(catalog->refusals.all);
    free(catalog->derived);
    atd_texts_unref(catalog->texts);
    atd_lock_destroy(&catalog->shards_lock);
    free(catalog);
}

uint64_t atd_catalog_generation(const struct atd_catalog *catalog)
{
    return catalog->generation;
}

int64_t atd_catalog_loaded_at_s(const struct atd_catalog *catalog)
{
    return catalog->loaded_at_s;
}

size_t atd_catalog_dataset_count(const struct atd_catalog *catalog)
{
    return catalog->dataset_count;
}

const struct atd_dataset *atd_catalog_dataset_at(const struct atd_catalog *catalog, size_t place)
{
    atd_assert(place < catalog->dataset_count);
    return &catalog->datasets[place];
}

size_t atd_catalog_entry_count(const struct atd_catalog *catalog)
{
    return catalog->entry_count;
}

const struct atd_catalog_entry *atd_catalog_entry_at(const struct atd_catalog *catalog,
                                                     size_t place)
{
    atd_assert(place < catalog->entry_count);
    return &catalog->entries[place];
}

size_t atd_catalog_schema_count(const struct atd_catalog *catalog)
{
    return catalog->schema_count;
}

const struct atd_catalog_schema *atd_catalog_schema_at(const struct atd_catalog *catalog,
                                                       size_t place)
{
    atd_assert(place < catalog->schema_count);
    return &catalog->schemas[place];
}

size_t atd_catalog_label_count(const struct atd_catalog *catalog)
{
    return catalog->label_count;
}

const struct atd_catalog_label *atd_catalog_label_at(const struct atd_catalog *catalog,
                                                     size_t place)
{
    atd_assert(place < catalog->label_count);
    return &catalog->labels[place];
}

size_t atd_catalog_shown_label_count(const struct atd_catalog *catalog)
{
    return catalog->shown_label_count;
}

const struct atd_catalog_label *atd_catalog_shown_label_at(const struct atd_catalog *catalog,
                                                           size_t place)
{
    atd_assert(place < catalog->shown_label_count);
    return &catalog->labels[catalog->shown_labels[place]];
}

/* The first of `count` places whose name is not before `name`. */
static size_t first_not_before(size_t count, struct atd_str name,
                               struct atd_str (*name_at)(const struct atd_catalog *catalog,
                                                         size_t place),
                               const struct atd_catalog *catalog)
{
    size_t low = 0;
    size_t high = count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (atd_str_compare(name_at(catalog, middle), name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct atd_str entry_name_at(const struct atd_catalog *catalog, size_t place)
{
    return atd_entry_name(&catalog->entries[catalog->entries_by_name[place]]);
}

static struct atd_str label_name_at(const struct atd_catalog *catalog, size_t place)
{
    return atd_label_name(&catalog->labels[place]);
}

size_t atd_catalog_first_named(const struct atd_catalog *catalog, struct atd_str name)
{
    return first_not_before(catalog->entry_count, name, entry_name_at, catalog);
}

const struct atd_catalog_entry *atd_catalog_named_at(const struct atd_catalog *catalog,
                                                     size_t place)
{
    atd_assert(place < catalog->entry_count);
    return &catalog->entries[catalog->entries_by_name[place]];
}

size_t atd_catalog_first_label_named(const struct atd_catalog *catalog, struct atd_str name)
{
    return first_not_before(catalog->label_count, name, label_name_at, catalog);
}

uint32_t atd_catalog_place_of(const struct atd_catalog *catalog,
                              const struct atd_catalog_entry *entry)
{
    atd_assert(entry >= catalog->entries && entry < catalog->entries + catalog->entry_count);
    return (uint32_t)(entry - catalog->entries);
}

int64_t atd_label_created_at_s(const struct atd_catalog_label *label)
{
    struct atd_str created_at = atd_label_created_at(label);
    int64_t seconds;

    return created_at.ptr && atd_clock_parse(created_at, &seconds) ? seconds : 0;
}

static int find_dataset(const void *key, const void *element)
{
    return atd_str_compare(*(const struct atd_str *)key, atd_dataset_file_name(element));
}

const struct atd_dataset *atd_catalog_find_dataset(const struct atd_catalog *catalog,
                                                   struct atd_str file_name)
{
    return catalog->dataset_count ? bsearch(&file_name, catalog->datasets, catalog->dataset_count,
                                            sizeof(*catalog->datasets), find_dataset)
                                  : NULL;
}

static int find_entry(const void *key, const void *element)
{
    return atd_str_compare(*(const struct atd_str *)key, atd_entry_file_name(element));
}

const struct atd_catalog_entry *atd_catalog_find_entry(const struct atd_catalog *catalog,
                                                       struct atd_str file_name)
{
    return catalog->entry_count ? bsearch(&file_name, catalog->entries, catalog->entry_count,
                                          sizeof(*catalog->entries), find_entry)
                                : NULL;
}

const struct atd_catalog_entry *atd_catalog_find_cid(const struct atd_catalog *catalog,
                                                     struct atd_str cid)
{
    atd_auto_buf struct atd_buf name = ATD_BUF_INIT(4 * (size_t)ATD_NAME_BYTES_MAX);
    struct atd_str file_name = cid;
    const struct atd_catalog_entry *entry;

    if (!atd_file_name_is_plain(cid)) {
        atd_file_name_encode(cid, cid, ATD_STR(""), &name);
        file_name = atd_buf_str(&name);
    }
    entry = name.failed ? NULL : atd_catalog_find_entry(catalog, file_name);
    return entry && atd_str_equal(atd_entry_cid(entry), cid) ? entry : NULL;
}

static int find_schema(const void *key, const void *element)
{
    return atd_str_compare(*(const struct atd_str *)key,
                           ((const struct atd_catalog_schema *)element)->stem);
}

const struct atd_catalog_schema *atd_catalog_find_schema(const struct atd_catalog *catalog,
                                                         struct atd_str stem)
{
    return catalog->schema_count ? bsearch(&stem, catalog->schemas, catalog->schema_count,
                                           sizeof(*catalog->schemas), find_schema)
                                 : NULL;
}

const struct atd_catalog_label *atd_catalog_find_label(const struct atd_catalog *catalog,
                                                       struct atd_str file_name)
{
    size_t low = 0;
    size_t high = catalog->shown_label_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct atd_catalog_label *label = &catalog->labels[catalog->shown_labels[middle]];
        int order = atd_str_compare(file_name, atd_label_file_name(label));

        if (order == 0)
            return label;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

const struct atd_catalog_label *atd_catalog_label_of(const struct atd_catalog *catalog,
                                                     const struct atd_catalog_entry *entry,
                                                     size_t place)
{
    atd_assert(place < entry->label_count);
    return &catalog->labels[catalog->labels_by_cid[entry->first_label + place]];
}

const struct atd_catalog_entry *atd_catalog_other_of(const struct atd_catalog *catalog,
                                                     const struct atd_dataset *dataset,
                                                     size_t place)
{
    atd_assert(place < dataset->other_count);
    return &catalog->entries[catalog->entries_by_name[dataset->first_other + place]];
}

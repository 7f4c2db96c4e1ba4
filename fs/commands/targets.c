#include "targets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct atd_catalog_entry *find_one(struct atd_catalog *catalog, struct atd_str word)
{
    const struct atd_catalog_entry *entry = atd_catalog_meaning(catalog, word);
    const struct atd_dataset *dataset;
    const struct atd_catalog_label *label;

    if (!entry && (dataset = atd_catalog_find_dataset(catalog, word)))
        entry = atd_catalog_entry_at(catalog, dataset->entry);
    if (!entry && (label = atd_catalog_find_label(catalog, word)) && label->entry != ATD_NONE)
        entry = atd_catalog_entry_at(catalog, label->entry);
    return entry ? entry : atd_catalog_find_cid(catalog, word);
}

static int take_all(struct targets *targets)
{
    for (size_t i = 0; i < targets->count; i++)
        targets->entries[i] = atd_catalog_entry_at(targets->catalog, i);
    return 0;
}

static int take_named(struct targets *targets, char *const *words, unsigned count,
                      struct atd_error *err)
{
    targets->count = 0;
    for (unsigned i = 0; i < count; i++) {
        const struct atd_catalog_entry *entry = find_one(targets->catalog, atd_str_from(words[i]));
        bool is_there = false;

        if (!entry)
            return atd_error_set(err, ENOENT, "there is no dataset '%.200s' in the index",
                                 words[i]);
        for (size_t k = 0; k < targets->count && !is_there; k++)
            is_there = targets->entries[k] == entry;
        if (!is_there)
            targets->entries[targets->count++] = entry;
    }
    return 0;
}

int targets_find(struct atd_catalog *catalog, char *const *words, unsigned count,
                 struct targets *ret_targets, struct atd_error *err)
{
    struct targets *targets = ret_targets;

    *targets = (struct targets){.catalog = atd_catalog_ref(catalog)};
    targets->is_all = count == 1 && strcmp(words[0], TARGETS_ALL) == 0 &&
                      !find_one(catalog, ATD_STR(TARGETS_ALL));
    targets->count = targets->is_all ? atd_catalog_entry_count(catalog) : count;
    targets->entries = calloc(targets->count + 1, sizeof(const struct atd_catalog_entry *));
    if (!targets->entries)
        return atd_error_set(err, ENOMEM, "out of memory");
    return targets->is_all ? take_all(targets) : take_named(targets, words, count, err);
}

void targets_release(struct targets *targets)
{
    free(targets->entries);
    if (targets->catalog)
        atd_catalog_unref(targets->catalog);
    *targets = (struct targets){0};
}

struct atd_str target_name(const struct atd_catalog_entry *entry)
{
    return atd_entry_name(entry);
}

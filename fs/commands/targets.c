#include "targets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "look.h"

static int take_all(struct targets *targets)
{
    for (size_t i = 0; i < targets->count; i++)
        targets->entries[i] = atd_catalog_entry_at(targets->catalog, i);
    return 0;
}

static int take_named(const struct look *look, struct targets *targets, char *const *words,
                      unsigned count, struct atd_error *err)
{
    targets->count = 0;
    for (unsigned i = 0; i < count; i++) {
        const struct atd_catalog_entry *entry;
        const struct atd_dataset *dataset;
        bool is_there = false;
        int rc = look_find(look, words[i], &entry, &dataset, err);

        if (rc)
            return rc;
        for (size_t k = 0; k < targets->count && !is_there; k++)
            is_there = targets->entries[k] == entry;
        if (!is_there)
            targets->entries[targets->count++] = entry;
    }
    return 0;
}

int targets_find(const struct parts *parts, char *const *words, unsigned count,
                 struct targets *ret_targets, struct atd_error *err)
{
    struct targets *targets = ret_targets;
    const struct atd_catalog_entry *entry;
    const struct atd_dataset *dataset;
    struct look look = {.parts = *parts, .catalog = atd_live_get(parts->live)};

    *targets = (struct targets){.catalog = look.catalog};
    /* Unless somebody called a dataset so. */
    targets->is_all = count == 1 && strcmp(words[0], TARGETS_ALL) == 0 &&
                      look_find(&look, TARGETS_ALL, &entry, &dataset, NULL) != 0;
    targets->count = targets->is_all ? atd_catalog_entry_count(look.catalog) : count;
    targets->entries = calloc(targets->count + 1, sizeof(const struct atd_catalog_entry *));
    if (!targets->entries)
        return atd_error_set(err, ENOMEM, "out of memory");
    return targets->is_all ? take_all(targets) : take_named(&look, targets, words, count, err);
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

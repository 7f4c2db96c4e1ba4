/*
 * The datasets that a command is about, as its words name them.
 */
#ifndef ATD_FS_TARGETS_H
#define ATD_FS_TARGETS_H

#include "catalog/catalog.h"

#define TARGETS_ALL "all"

struct targets {
    struct atd_catalog *catalog; /* a reference */
    const struct atd_catalog_entry **entries;
    size_t count;
    bool is_all;
};

/*
 * A word is a dataset as the index or datasets/ calls it, a label NAME@VERSION, a CID, or, alone,
 * "all": every entry that there is, superseded ones too. The same entry named twice comes once.
 * Errors: ENOENT a name that means nothing; ENOMEM. To be released in any case.
 */
int targets_find(struct atd_catalog *catalog, char *const *words, unsigned count,
                 struct targets *ret_targets, struct atd_error *err) ATD_MUST_USE;
void targets_release(struct targets *targets);

/* What the entry is called in messages: its name. */
struct atd_str target_name(const struct atd_catalog_entry *entry);

#endif

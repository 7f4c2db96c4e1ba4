/*
 * The datasets that a command is about, as its words name them.
 */
#ifndef ATD_FS_TARGETS_H
#define ATD_FS_TARGETS_H

#include "parts.h"

#define TARGETS_ALL "all"

struct targets {
    struct atd_catalog *catalog; /* a reference */
    const struct atd_catalog_entry **entries;
    size_t count;
    bool is_all;
};

/*
 * A word is what look_find() makes of it or, alone, "all": every entry that there is, superseded
 * ones too. The same entry named twice comes once. Errors: those of look_find(); ENOMEM. To be
 * released in any case.
 */
int targets_find(const struct parts *parts, char *const *words, unsigned count,
                 struct targets *ret_targets, struct atd_error *err) ATD_MUST_USE;
void targets_release(struct targets *targets);

/* What the entry is called in messages: its name. */
struct atd_str target_name(const struct atd_catalog_entry *entry);

#endif

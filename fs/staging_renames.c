/*
 * Directories of datasets that were renamed: who has the old one open is in the new one now, as on
 * any file system. The kernel takes it so by itself until it is told of the new name, a moment
 * later; a program that opened the directory in between goes on with the node of the old name.
 */
#include <string.h>

#include "base/check.h"
#include "staging_table.h"

static void copy_name(char to[ATD_FILE_NAME_MAX + 1], struct atd_str from)
{
    atd_assert(from.len <= ATD_FILE_NAME_MAX);
    memcpy(to, from.ptr, from.len);
    to[from.len] = '\0';
}

void staging_note_rename(struct staging *staging, struct atd_str from, struct atd_str to)
{
    struct staging_rename *rename;

    atd_lock_take(&staging->lock);
    rename = &staging->renames[staging->rename_count++ % STAGED_RENAMES_KEPT];
    copy_name(rename->from, from);
    copy_name(rename->to, to);
    atd_lock_give(&staging->lock);
}

bool staging_renamed(struct staging *staging, struct atd_str file_name,
                     char ret_name[ATD_FILE_NAME_MAX + 1])
{
    size_t kept;
    bool found = false;

    if (file_name.len > ATD_FILE_NAME_MAX)
        return false;
    copy_name(ret_name, file_name);
    atd_lock_take(&staging->lock);
    kept =
        staging->rename_count < STAGED_RENAMES_KEPT ? staging->rename_count : STAGED_RENAMES_KEPT;
    /* From the oldest on: it may have been renamed again. */
    for (size_t i = staging->rename_count - kept; i < staging->rename_count; i++) {
        const struct staging_rename *rename = &staging->renames[i % STAGED_RENAMES_KEPT];

        if (strcmp(rename->from, ret_name) != 0)
            continue;
        (void)strcpy(ret_name, rename->to);
        found = true;
    }
    atd_lock_give(&staging->lock);
    return found;
}

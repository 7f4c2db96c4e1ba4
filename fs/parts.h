/*
 * What both a mount and a command without one are made of: index, stores, locator, the living view.
 */
#ifndef ATD_FS_PARTS_H
#define ATD_FS_PARTS_H

#include "catalog/live.h"
#include "index/index.h"
#include "options.h"
#include "remote.h"

struct parts {
    const struct options *options;
    struct atd_file_store *files;
    struct atd_index *index;
    struct remote *remote;
    struct atd_locator *locator;
    struct atd_live *live;
};

/* What the parts are for. */
enum parts_use {
    PARTS_MOUNT,   /* shows what it can: starts from a snapshot, and keeps one */
    PARTS_COMMAND, /* acts on what the index says now, or not at all */
};

/*
 * Makes them all and loads the index. `may_be_missing`: an index file that the user named may come
 * into being with the first publish. Whatever fails, the parts are to be closed. Blocks.
 */
int parts_open(const struct options *options, enum parts_use use, bool may_be_missing,
               void (*local_changed)(void *ctx, struct atd_str url,
                                     const struct atd_object_info *info),
               void *ctx, struct parts *ret_parts, struct atd_error *err) ATD_MUST_USE;

/* In this order; each false when a thread hangs, and then the process is to end as it is. */
bool parts_stop(struct parts *parts); /* no store answers any more, the view's threads have ended */
bool parts_free(struct parts *parts); /* nothing uses them */

#endif

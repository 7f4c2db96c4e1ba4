/*
 * Telling the kernel what it must not believe any longer.
 *
 * One thread sends the notifications, because a notification waits for requests on the same
 * directory: sent from a request handler, or with a lock that one needs, it deadlocks (FUSE 5).
 */
#ifndef ATD_FS_NOTIFY_H
#define ATD_FS_NOTIFY_H

#include "atdata/error.h"
#include "catalog/catalog.h"
#include "fuse.h"
#include "nodes.h"

struct fs;
struct notify;

int notify_start(struct fs *fs, struct notify **ret_notify, struct atd_error *err);
/* NULL is fine. False, leaving it behind, when its thread hangs. */
bool notify_stop(struct notify *notify);

/* What the living view calls: queue what the difference between two generations asks for, or what
 * new files of an entry's shards do. `fs` is a struct fs. */
void notify_generation(void *fs, struct atd_catalog *before, struct atd_catalog *after);
void notify_entry_shards(void *fs, struct atd_catalog *catalog,
                         const struct atd_catalog_entry *entry);

/* True when the kernel has been told of everything that `generation` changed, so that what it keeps
 * of before may be used. Any thread. */
bool notify_has_told(struct notify *notify, uint64_t generation);

/* What is staged, hidden or an empty dataset came or went by itself, not by a request that the
 * kernel made: queues that the name and the directory's listing are forgotten. The place as in
 * staging.h; for an empty dataset: NODE_DATASETS, "", its file name. */
void notify_staged(struct fs *fs, enum node_kind directory, struct atd_str subject,
                   struct atd_str leaf);

/* Queues: forget the name (or, with `expire`, ask again at its next use) and the listing. */
void notify_name(struct notify *notify, fuse_ino_t parent, struct atd_str name, bool expire);

/*
 * A request that the kernel holds the directory's lock for will take its time: nothing is told of
 * names in it until it is answered, and no other one follows at once (a notification would wait in
 * the kernel for all of them, and keep a daemon that is killed from ending: notify_device.h).
 */
void notify_wait(struct notify *notify, fuse_ino_t directory);
void notify_go_on(struct notify *notify, fuse_ino_t directory);

#endif

/*
 * Published shards that were unlinked: they are hidden at once, and leave the index when their
 * grace is over (TOOLS 4.7).
 *
 *     HIDDEN --mark, by the commit thread--> HIDDEN, marked in the index (editor.h)
 *     HIDDEN --the grace is over--> LEAVING --it is out--> forgotten
 *                                           --the index cannot be written now--> HIDDEN, longer
 *                                           --it is refused--> shows again
 *     HIDDEN, and a file of the same name came: waits for what becomes of that
 *
 * What could not be marked leaves without asking whether somebody published it again.
 * Threads: every function from any thread, but _new and _free.
 */
#ifndef ATD_FS_UNLINKED_H
#define ATD_FS_UNLINKED_H

#include "fs.h"

struct unlinked;

/* `wake` is called, without a lock, when unlinked_delete_due may have more to do than it said.
 * NULL: out of memory. */
struct unlinked *unlinked_new(struct fs *fs, void (*wake)(void *ctx), void *ctx);
/* When the publisher has ended. NULL is fine. */
void unlinked_free(struct unlinked *unlinked);

/* Hides it and has it deleted later. Errors: as staging_hide. */
int unlinked_add(struct unlinked *unlinked, struct atd_str subject, struct atd_str leaf,
                 struct atd_str url, struct atd_error *err) ATD_MUST_USE;

/* The URLs of those in a dataset that are marked in the index as leaving, each with a NUL behind;
 * appended. */
void unlinked_marked_urls(struct unlinked *unlinked, struct atd_str subject, struct atd_buf *out);

/* Begins to delete what is due. Returns when the next one will be, or INT64_MAX. */
int64_t unlinked_delete_due(struct unlinked *unlinked);

/* All that is left, now: the mount ends. Waits up to `timeout_ms` for the index. */
void unlinked_delete_all(struct unlinked *unlinked, unsigned timeout_ms);

#endif

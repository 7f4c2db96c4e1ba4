/*
 * The last errors and publishes, a JSON line each, as .atdatafs/events.jsonl shows them.
 */
#ifndef ATD_FS_EVENTS_H
#define ATD_FS_EVENTS_H

#include "atdata/buf.h"
#include "atdata/error.h"

struct events;

/* NULL when out of memory. */
struct events *events_new(void);
void events_free(struct events *events);

/* Notes an error: what was asked ("open datasets/x/y.tar"), and why it failed. Any thread. */
void events_note(struct events *events, const char *what, const struct atd_error *why);

/* Notes a shard that was published: its path, and where it lies now. */
void events_note_published(struct events *events, const char *path, const char *url,
                           const char *cid, uint64_t size_bytes);

/* Appends the lines, oldest first. */
void events_write(struct events *events, struct atd_buf *out);

#endif

/*
 * What publishing takes: the index's writer, the store for new shards, the publisher, and a thread
 * that tidies (what was unlinked, superseded, forgotten). Started after the mount's other parts.
 */
#ifndef ATD_FS_PUBLISHING_H
#define ATD_FS_PUBLISHING_H

#include "atdata/buf.h"
#include "codec/json_write.h"
#include "fs.h"

struct publishing;

/* Sets fs->publisher, which stays NULL for a mount that is read only, and for one without a usable
 * state directory, unless the user named it: that fails. */
int publishing_start(struct fs *fs, struct atd_error *err) ATD_MUST_USE;
/* Where fs->publisher is NULL: why. Returns -EROFS. */
int publishing_refuse(const struct fs *fs, struct atd_error *err);
/* Ends its thread. False when it hangs. */
bool publishing_stop(struct fs *fs);
/* Ends what is under way, when every file is closed and has no name any more, and takes back what
 * was sent of it, as far as that can be done quickly. Its threads go on. */
void publishing_end(struct fs *fs);
/* Ends the rest, with what is still under way. False when a thread hangs. */
bool publishing_free(struct fs *fs);

/* 0 when a publish may be begun. A view that began with a snapshot and has not loaded its index is
 * waited for, a few seconds. Errors: EWOULDBLOCK that takes more effort; EROFS with the reason. */
int publishing_ready(struct fs *fs, enum atd_effort effort, struct atd_error *err) ATD_MUST_USE;

/* A new generation is current, or something was published: there may be something to tidy. */
void publishing_index_changed(struct fs *fs);

/* For .atdatafs/. */
void publishing_write_status(struct fs *fs, struct atd_json_writer *json);
void publishing_write_metrics(struct fs *fs, struct atd_buf *out);

#endif

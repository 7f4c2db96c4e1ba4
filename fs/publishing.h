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

/* Sets fs->publisher and fs->staging; both stay NULL for a mount that is read only. A mount whose
 * state directory cannot be used fails. */
int publishing_start(struct fs *fs, struct atd_error *err) ATD_MUST_USE;
/* Ends what is under way. False when a thread hangs. */
bool publishing_stop(struct fs *fs);
void publishing_free(struct fs *fs);

/* Something was unlinked: it is deleted after its grace. */
void publishing_tidy_soon(struct fs *fs);

/* The time of a published shard (utimensat): recorded in the index; answers the request. */
void publishing_set_mtime(struct fs *fs, fuse_req_t req, const struct node *node, int64_t mtime_ns);

/* For .atdatafs/. */
void publishing_write_status(struct fs *fs, struct atd_json_writer *json);
void publishing_write_metrics(struct fs *fs, struct atd_buf *out);

#endif

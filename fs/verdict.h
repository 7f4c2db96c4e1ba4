/*
 * Publishing, as requests see it: who asks for a verdict waits for it here, and what follows from
 * it (the reply, the note beside the file, events, names) is done here.
 *
 *     FLUSH of the opener  -> publish (a shard's name), check (a temporary one), apply (a record)
 *     FSYNC                -> check, a hint
 *     RENAME to a shard    -> publish
 *     last RELEASE, dirty  -> publish, nobody to answer
 *
 * Source: TOOLS 4.
 */
#ifndef ATD_FS_VERDICT_H
#define ATD_FS_VERDICT_H

#include "target.h"

/* Each answers the request, now or later; `req` NULL: nobody to answer. */
void verdict_flush(struct fs *fs, fuse_req_t req, struct staged *staged);
void verdict_fsync(struct fs *fs, fuse_req_t req, struct staged *staged);
void verdict_release(struct fs *fs, struct staged *staged);
/* `to` is a shard's name that is free; the file gets it when it is published. */
void verdict_rename(struct fs *fs, fuse_req_t req, struct staged *staged, const struct target *to);
/* `to` is a record's name: its content is applied, and the file is gone. */
void verdict_rename_record(struct fs *fs, fuse_req_t req, struct staged *staged,
                           const struct target *to);

/* True while somebody waits for a verdict on it. */
bool verdict_is_pending(const struct staged *staged);

/* The errno that tools understand (TOOLS 4), for a failed publish. */
int verdict_errno(const struct atd_error *why);

/* Puts the reason beside the file, as X.tar.error.txt. */
void verdict_note(struct fs *fs, const struct target *target, const struct atd_error *why);

/* Notes a failure for events.jsonl and the log, and answers with its errno. */
void verdict_refuse(struct fs *fs, fuse_req_t req, const char *what, const struct atd_error *why);

#endif

/*
 * Records that are written as files: schema.json and metadata.json of a dataset, and
 * schemas/NAME@VERSION.json. What was written is checked and committed as a whole, at the flush or
 * at the rename. Source: DESIGN 2.4; TOOLS 4 (JSON side files).
 */
#ifndef ATD_FS_RECORDS_H
#define ATD_FS_RECORDS_H

#include "target.h"

enum records_name {
    RECORDS_KEEP_NAME, /* it has the record's name already */
    RECORDS_TAKE_NAME, /* it is being renamed to it: it is gone afterwards */
};

/*
 * Applies the text of a staged file as the record that `target` names. Answers, later: 0 when it is
 * in the index and shown. An empty text changes nothing (shells flush right after truncating).
 */
void records_apply(struct fs *fs, fuse_req_t req, struct staged *staged,
                   const struct target *target, enum records_name name);

/* A metadata.json that was put into a dataset before its first shard: applied now that there is
 * one. The text is taken. Answers 0 when it is shown, and also when that failed: the request is the
 * shard's, and that is published. */
void records_apply_kept(struct fs *fs, fuse_req_t req, const struct target *target,
                        struct atd_buf *text);

/* Has the publisher know the schema.json that was put into an empty dataset. */
int records_keep_schema(struct fs *fs, const struct target *target,
                        struct atd_error *err) ATD_MUST_USE;

/* Makes a staged copy of a record that is opened for writing, or moved aside by an editor. Blocks
 * on the disk (a small file). Errors: EACCES, EPERM, EFBIG, those of the spool. */
int records_stage(struct fs *fs, const struct node *node, const struct staged_place *place,
                  bool with_content, struct staged **ret_staged,
                  struct atd_error *err) ATD_MUST_USE;

#endif

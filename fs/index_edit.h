/*
 * Requests that edit the index and wait for it: labels, names of datasets, deletions.
 * Each answers the request later, when the change shows.
 */
#ifndef ATD_FS_INDEX_EDIT_H
#define ATD_FS_INDEX_EDIT_H

#include "fs.h"

/* ln -s LINK labels/NAME: NAME is "NAME@VERSION", LINK ends in "datasets/NAME" or "by-cid/CID". */
void index_edit_label(struct fs *fs, fuse_req_t req, fuse_ino_t parent, const char *name,
                      const char *link);
void index_edit_remove_label(struct fs *fs, fuse_req_t req, const char *name);

/* mv datasets/NAME datasets/NEW_NAME */
void index_edit_rename(struct fs *fs, fuse_req_t req, const char *name, const char *new_name);
/* rmdir datasets/NAME */
void index_edit_remove_dataset(struct fs *fs, fuse_req_t req, const char *name);

/* The time of the shard that a node is, or will be: then with its `url`, else that is empty. */
void index_edit_mtime(struct fs *fs, fuse_req_t req, const struct node *node,
                      struct atd_str subject, struct atd_str url, int64_t mtime_ns);

#endif

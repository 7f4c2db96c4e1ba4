/*
 * Answers to the kernel, and the one place where a failure is told.
 */
#ifndef ATD_FS_REPLY_H
#define ATD_FS_REPLY_H

#include "fs.h"

/*
 * Answers with the error's errno. ENOENT and ESTALE are ordinary; anything else is counted, noted
 * in events.jsonl and logged, once. `what` names the request and the file.
 */
void reply_error(struct fs *fs, fuse_req_t req, const char *what, const struct atd_error *why);

/* The same, naming the node's path: "open datasets/x/y.tar". */
void reply_node_error(struct fs *fs, fuse_req_t req, const char *operation, const struct node *node,
                      const struct atd_error *why);

/* The same, of a name in a directory: "create datasets/x/y.tar". */
void reply_name_error(fuse_req_t req, const char *operation, const struct node *directory,
                      const char *name, const struct atd_error *why);

/*
 * Fills the entry of an item's node: number, attributes, how long to keep them. Nothing is kept
 * when the item is not of the current generation.
 */
void reply_fill_entry(struct fs *fs, const struct node *node, const struct item *item,
                      bool is_current, struct fuse_entry_param *ret_entry);

/* How long the kernel may keep a node's attributes. */
double reply_attr_keep(const struct node *node);

#endif

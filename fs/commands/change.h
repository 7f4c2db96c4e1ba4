/*
 * A change of the index by a command, with the same checks and answers as a mount gives.
 */
#ifndef ATD_FS_CHANGE_H
#define ATD_FS_CHANGE_H

#include "look.h"
#include "publish/editor.h"

/* Runs on a thread of the publisher's; may block. */
typedef int (*change_fn)(void *ctx, struct atd_editor *editor, struct atd_error *err);

/*
 * Opens what publishing takes, makes the change, closes it all. Blocks until the index has
 * answered. Errors: the change's; EROFS with option ro; what publish_parts_open() says.
 */
int change_run(struct look *look, change_fn fn, void *ctx, struct atd_error *err) ATD_MUST_USE;

#endif

/*
 * What a mount says of itself and of what lies in it, read from its files.
 */
#ifndef ATD_FS_FROM_MOUNT_H
#define ATD_FS_FROM_MOUNT_H

#include "atdata/buf.h"
#include "atdata/error.h"

/* The whole of a regular file, appended. Blocks. Errors: the system's; EINVAL no regular file;
 * EFBIG. */
int from_mount_read(const char *path, struct atd_buf *out, struct atd_error *err) ATD_MUST_USE;

/*
 * The entry.json of a path: itself, in that directory, or beside that file (which may lie in
 * samples/). NULL: there is none; free() it.
 */
char *from_mount_entry(const char *path) ATD_MUST_USE;

#endif

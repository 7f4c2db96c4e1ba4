/*
 * The open files and directories of the mount, so that those which are still open when it ends
 * (SIGTERM, a lazy unmount) are freed too.
 */
#ifndef ATD_FS_HANDLES_H
#define ATD_FS_HANDLES_H

#include "atdata/error.h"
#include "base/lock.h"

struct fs;
struct handle;

struct handles {
    struct atd_lock lock;
    struct handle *first; /* guarded by lock */
};

/* The first member of whatever fuse_file_info.fh points at. */
struct handle {
    struct handle *next;
    struct handle *previous;
    void (*free)(struct fs *fs, struct handle *handle);
};

void handles_init(struct handles *handles);
void handles_add(struct handles *handles, struct handle *handle);
/* Takes the handle out and frees it. */
void handles_free(struct fs *fs, struct handles *handles, struct handle *handle);
/* Calls `visit` for each, with the lock held: it must be short and take no lock of lower rank. */
void handles_visit(struct handles *handles, void (*visit)(void *ctx, struct handle *handle),
                   void *ctx);
/* Frees those that are wanted; nothing may use or add one meanwhile. */
void handles_release_some(struct fs *fs, struct handles *handles,
                          bool (*wanted)(const struct handle *handle));
/* Frees them all; nothing may use one any more. */
void handles_release(struct fs *fs, struct handles *handles);

#endif

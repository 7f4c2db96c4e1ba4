/*
 * Requests that need the disk: answered by a meta worker, so that no FUSE thread waits.
 */
#ifndef ATD_FS_DEFER_H
#define ATD_FS_DEFER_H

#include "fs.h"

/* The arguments of a request, as far as it has them. */
struct deferred_args {
    fuse_ino_t number;
    const char *name;
    const struct fuse_file_info *info;
    size_t size;
    off_t offset;
};

/* The same when its handler has returned. */
struct deferred {
    struct atd_work work;
    void (*answer)(struct deferred *deferred);
    fuse_req_t req;
    fuse_ino_t number;
    struct fuse_file_info info;
    size_t size;
    off_t offset;
    char name[];
};

/*
 * Has `answer` called by a worker; it must answer the request, and does not own `deferred`.
 * When no worker can be had, the request is answered with the error.
 */
void defer(fuse_req_t req, const struct deferred_args *args,
           void (*answer)(struct deferred *deferred));

#endif

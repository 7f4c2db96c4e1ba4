/*
 * Requests that need the disk or a store: answered by a worker, so that no FUSE thread waits. Two
 * pools, so that a store that does not answer keeps nobody waiting who only needs the disk.
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
    enum atd_effort effort; /* what the worker may do */
    int (*answer)(struct deferred *deferred);
    fuse_req_t req;
    fuse_ino_t number;
    struct fuse_file_info info;
    size_t size;
    off_t offset;
    char name[];
};

/*
 * Has `answer` called by a worker. It answers the request and returns 0, or returns -EWOULDBLOCK
 * when that would need the network and its effort is only the disk; it is then called once more,
 * by another worker. It does not own `deferred`. When no worker can be had, the request is answered
 * with the error.
 */
void defer(fuse_req_t req, const struct deferred_args *args,
           int (*answer)(struct deferred *deferred));

#endif

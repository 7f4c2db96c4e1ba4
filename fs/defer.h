/*
 * Requests that need the disk: answered by a meta worker, so that no FUSE thread waits.
 */
#ifndef ATD_FS_DEFER_H
#define ATD_FS_DEFER_H

#include "fs.h"

/* What is left of a request when its handler has returned. */
struct deferred {
    struct atd_work work;
    void (*answer)(struct deferred *deferred);
    fuse_req_t req;
    fuse_ino_t number;
    struct fuse_file_info info; /* zero when the request has none */
    char name[];                /* empty when the request has none */
};

/*
 * Has `answer` called by a worker; it must answer the request, and does not own `deferred`.
 * `name` and `info` may be NULL. When that cannot be had, the request is answered with the error.
 */
void defer(fuse_req_t req, fuse_ino_t number, const char *name, const struct fuse_file_info *info,
           void (*answer)(struct deferred *deferred));

#endif

#include "defer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "reply.h"

static void run(struct atd_work *work)
{
    struct deferred *deferred = (struct deferred *)work;
    struct fs *fs = fuse_req_userdata(deferred->req);
    struct atd_error why = ATD_ERROR_INIT;

    if (deferred->answer(deferred) == -EWOULDBLOCK) {
        METRICS_ADD(&fs->metrics, network_deferred, 1);
        deferred->effort = ATD_EFFORT_NETWORK;
        if (atd_workers_submit(fs->network_workers, &deferred->work, &why) == 0)
            return; /* that thread's from now on */
        reply_error(fs, deferred->req, "a request", &why);
    }
    free(deferred);
}

void defer(fuse_req_t req, const struct deferred_args *args,
           int (*answer)(struct deferred *deferred))
{
    struct fs *fs = fuse_req_userdata(req);
    size_t name_len = args->name ? strlen(args->name) : 0;
    struct deferred *deferred = calloc(1, sizeof(*deferred) + name_len + 1);
    struct atd_error why = ATD_ERROR_INIT;

    METRICS_ADD(&fs->metrics, meta_deferred, 1);
    if (!deferred) {
        (void)fuse_reply_err(req, ENOMEM);
        return;
    }
    deferred->work.run = run;
    deferred->effort = ATD_EFFORT_DISK;
    deferred->answer = answer;
    deferred->req = req;
    deferred->number = args->number;
    deferred->size = args->size;
    deferred->offset = args->offset;
    if (args->info)
        deferred->info = *args->info;
    if (name_len)
        memcpy(deferred->name, args->name, name_len);
    if (atd_workers_submit(fs->meta_workers, &deferred->work, &why) != 0) {
        reply_error(fs, req, "a request", &why);
        free(deferred);
    }
}

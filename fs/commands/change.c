#include "change.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/lock.h"
#include "output.h"
#include "publish_parts.h"

/* What earlier runs left is not waited for: a change of the index has sent nothing. */
#define STOP_MS 2000u

struct change {
    struct atd_publisher_edit edit; /* first */
    change_fn fn;
    void *ctx;
    struct atd_lock lock;
    pthread_cond_t wake;
    /* guarded by lock */
    bool is_done;
    struct atd_error why; /* code 0: it worked */
};

static int run_edit(struct atd_publisher_edit *edit, struct atd_editor *editor,
                    struct atd_error *err)
{
    struct change *change = (struct change *)edit;

    return change->fn(change->ctx, editor, err);
}

static void on_done(struct atd_publisher_edit *edit, const struct atd_error *why)
{
    struct change *change = (struct change *)edit;

    atd_lock_take(&change->lock);
    if (why)
        change->why = *why;
    change->is_done = true;
    (void)pthread_cond_signal(&change->wake);
    atd_lock_give(&change->lock);
}

static int submit_and_wait(struct atd_publisher *publisher, struct change *change,
                           struct atd_error *err)
{
    int rc = atd_publisher_can_edit(publisher, err);

    if (rc == 0)
        rc = atd_publisher_edit(publisher, &change->edit, err);
    if (rc)
        return rc;
    atd_lock_take(&change->lock);
    while (!change->is_done)
        atd_cond_wait(&change->wake, &change->lock);
    atd_lock_give(&change->lock);
    if (change->why.code) {
        *err = change->why;
        return -err->code;
    }
    return 0;
}

int change_run(struct look *look, change_fn fn, void *ctx, struct atd_error *err)
{
    struct change change = {.edit = {.run = run_edit, .done = on_done}, .fn = fn, .ctx = ctx};
    struct publish_parts parts = {0};
    int rc;

    if (look->options->read_only)
        return atd_error_set(err, EROFS, "option ro changes nothing: leave it out");
    atd_lock_init(&change.lock, ATD_RANK_PUBLISHING);
    atd_cond_init(&change.wake);
    rc = atd_live_start(look->parts.live, &(struct atd_live_watcher){0}, err);
    if (rc == 0)
        rc = publish_parts_open(&look->parts, &(struct publish_told){0}, &parts, err);
    if (rc == 0)
        rc = submit_and_wait(parts.publisher, &change, err);
    if (!publish_parts_close(&parts, STOP_MS)) {
        /* A thread hangs that uses what is on this stack. */
        if (rc)
            (void)command_failed(err);
        _exit(output_end(rc ? ATD_EXIT_FAILED : ATD_EXIT_OK));
    }
    (void)pthread_cond_destroy(&change.wake);
    atd_lock_destroy(&change.lock);
    return rc;
}

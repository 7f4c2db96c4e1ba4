#include <errno.h>

#include "base/check.h"
#include "store/remote.h"

static void end_locked(struct atd_remote_call *call)
{
    /* Only before done was called, which this lock decides; a second time does nothing. */
    if (!call->has_ended)
        atd_call_cancel(&call->call);
}

static void join_locked(struct atd_remote_call *call, struct atd_remote_group *group)
{
    call->next_of_group = group->first;
    group->first = call;
    if (group->is_cancelled)
        end_locked(call);
}

static void leave_locked(struct atd_remote_call *call, struct atd_remote_group *group)
{
    struct atd_remote_call **at = &group->first;

    while (*at != call)
        at = &(*at)->next_of_group;
    *at = call->next_of_group;
}

void atd_remote_group_cancel(struct atd_remote *remote, struct atd_remote_group *group)
{
    atd_lock_take(&remote->lock);
    group->is_cancelled = true;
    for (struct atd_remote_call *call = group->first; call; call = call->next_of_group)
        end_locked(call);
    atd_lock_give(&remote->lock);
}

bool atd_remote_group_is_cancelled(struct atd_remote *remote, const struct atd_remote_group *group)
{
    bool is_cancelled;

    atd_lock_take(&remote->lock);
    is_cancelled = group->is_cancelled;
    atd_lock_give(&remote->lock);
    return is_cancelled;
}

int atd_remote_write(struct atd_remote_call *call, struct atd_remote_group *group,
                     enum atd_call_kind kind, unsigned stall_timeout_ms, struct atd_error *err)
{
    struct atd_remote *remote = call->remote;
    int rc;

    atd_assert(call->operation == ATD_REMOTE_WRITE && stall_timeout_ms > 0);
    if (group && atd_remote_group_is_cancelled(remote, group))
        return atd_error_set(err, ECANCELED, "writing was cancelled");
    rc = remote->ops->open(call, err);
    if (rc)
        return rc;
    call->call.ops = &atd_remote_waited_ops;
    call->call.kind = kind;
    call->call.stall_timeout_ms = stall_timeout_ms;
    rc = atd_call_start(&call->call, err);
    if (rc)
        return rc;
    atd_lock_take(&remote->lock);
    if (group)
        join_locked(call, group);
    while (!call->has_ended)
        atd_cond_wait(&call->ended, &remote->lock);
    if (group)
        leave_locked(call, group);
    atd_lock_give(&remote->lock);
    if (call->why.code && err)
        *err = call->why;
    return -call->why.code;
}

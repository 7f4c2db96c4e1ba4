#include "handles.h"

void handles_init(struct handles *handles)
{
    handles->first = NULL;
    atd_lock_init(&handles->lock, ATD_RANK_HANDLES);
}

void handles_add(struct handles *handles, struct handle *handle)
{
    atd_lock_take(&handles->lock);
    handle->previous = NULL;
    handle->next = handles->first;
    if (handles->first)
        handles->first->previous = handle;
    handles->first = handle;
    atd_lock_give(&handles->lock);
}

void handles_free(struct fs *fs, struct handles *handles, struct handle *handle)
{
    atd_lock_take(&handles->lock);
    if (handle->previous)
        handle->previous->next = handle->next;
    else
        handles->first = handle->next;
    if (handle->next)
        handle->next->previous = handle->previous;
    atd_lock_give(&handles->lock);
    handle->free(fs, handle);
}

void handles_visit(struct handles *handles, void (*visit)(void *ctx, struct handle *handle),
                   void *ctx)
{
    atd_lock_take(&handles->lock);
    for (struct handle *handle = handles->first; handle; handle = handle->next)
        visit(ctx, handle);
    atd_lock_give(&handles->lock);
}

void handles_release_some(struct fs *fs, struct handles *handles,
                          bool (*wanted)(const struct handle *handle))
{
    struct handle *handle = handles->first;

    while (handle) {
        struct handle *next = handle->next;

        if (wanted(handle))
            handles_free(fs, handles, handle);
        handle = next;
    }
}

void handles_release(struct fs *fs, struct handles *handles)
{
    while (handles->first)
        handles_free(fs, handles, handles->first);
    atd_lock_destroy(&handles->lock);
}

#include "store/store.h"

#include <errno.h>

#include "base/check.h"

/* The wrappers check what every caller must keep; implementations need not. */

void atd_store_get_start(struct atd_store *store, struct atd_store_get *get)
{
    atd_assert(get->end > get->first && get->into && get->done && get->stall_timeout_ms > 0);
    get->found = (struct atd_object_info){0};
    store->ops->get_start(store, get);
}

void atd_store_get_cancel(struct atd_store *store, struct atd_store_get *get)
{
    store->ops->get_cancel(store, get);
}

void atd_store_get_make_urgent(struct atd_store *store, struct atd_store_get *get)
{
    if (store->ops->get_make_urgent)
        store->ops->get_make_urgent(store, get);
}

int atd_store_stat(struct atd_store *store, struct atd_str url, unsigned timeout_ms,
                   struct atd_object_info *ret_info, struct atd_error *err)
{
    return store->ops->stat(store, url, timeout_ms, ret_info, err);
}

int atd_store_list(struct atd_store *store, struct atd_str prefix, struct atd_str after,
                   unsigned timeout_ms, atd_store_list_fn fn, void *ctx, bool *ret_more,
                   struct atd_error *err)
{
    if (!store->ops->list)
        return atd_error_set(err, ENOTSUP, "a store of kind '%s' cannot list", store->ops->kind);
    return store->ops->list(store, prefix, after, timeout_ms, fn, ctx, ret_more, err);
}

int atd_store_presign(struct atd_store *store, struct atd_str url, unsigned expires_s,
                      struct atd_buf *ret_url, struct atd_error *err)
{
    if (!store->ops->presign)
        return atd_error_set(err, ENOTSUP, "a store of kind '%s' has no signed URLs",
                             store->ops->kind);
    return store->ops->presign(store, url, expires_s, ret_url, err);
}

void atd_store_speed(struct atd_store *store, unsigned *ret_first_byte_ms,
                     uint64_t *ret_bytes_per_s)
{
    *ret_first_byte_ms = 0;
    *ret_bytes_per_s = 0;
    if (store->ops->speed)
        store->ops->speed(store, ret_first_byte_ms, ret_bytes_per_s);
}

void atd_store_free(struct atd_store *store)
{
    if (store)
        store->ops->free(store);
}

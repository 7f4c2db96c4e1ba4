#include "store/refused.h"

void atd_refused_init(struct atd_refused *refused)
{
    *refused = (struct atd_refused){0};
    atd_lock_init(&refused->lock, ATD_RANK_STORE);
}

void atd_refused_release(struct atd_refused *refused)
{
    atd_lock_destroy(&refused->lock);
}

bool atd_refused_add(struct atd_refused *refused, struct atd_store_get *get)
{
    bool must_ask;

    atd_lock_take(&refused->lock);
    get->impl = refused->first;
    refused->first = get;
    must_ask = !refused->draining;
    refused->draining = true;
    atd_lock_give(&refused->lock);
    return must_ask;
}

void atd_refused_drain(struct atd_refused *refused, const struct atd_error *why)
{
    bool more = true;

    while (more) {
        struct atd_store_get *get;

        atd_lock_take(&refused->lock);
        get = refused->first;
        if (get) {
            refused->first = get->impl;
            get->impl = NULL; /* a cancel that comes now finds nothing to do */
        }
        more = refused->first != NULL;
        refused->draining = more;
        atd_lock_give(&refused->lock);
        /* After the last one the store may be freed: nothing of it is touched any more. */
        if (get)
            get->done(get, why);
    }
}

void *atd_refused_impl(struct atd_refused *refused, const struct atd_store_get *get)
{
    const struct atd_store_get *other;
    void *impl;

    atd_lock_take(&refused->lock);
    for (other = refused->first; other && other != get; other = other->impl)
        ;
    impl = other ? NULL : get->impl;
    atd_lock_give(&refused->lock);
    return impl;
}

#include "dataset/members_fetch.h"

#include <errno.h>

struct atd_members_fetch {
    struct atd_store_get get;
    struct atd_members_fetches *fetches;
    struct atd_store *store;
    pthread_cond_t ended;
    /* guarded by the fetches' lock */
    struct atd_members_fetch *next;
    struct atd_members_fetch *previous;
    bool is_done;
    struct atd_error why; /* code 0: it is there */
};

void atd_members_fetches_init(struct atd_members_fetches *fetches)
{
    *fetches = (struct atd_members_fetches){0};
    atd_lock_init(&fetches->lock, ATD_RANK_MEMBERS);
}

void atd_members_fetches_release(struct atd_members_fetches *fetches)
{
    atd_lock_destroy(&fetches->lock);
}

void atd_members_fetches_interrupt(struct atd_members_fetches *fetches)
{
    atd_lock_take(&fetches->lock);
    fetches->is_interrupted = true;
    for (struct atd_members_fetch *fetch = fetches->first; fetch; fetch = fetch->next) {
        if (!fetch->is_done)
            atd_store_get_cancel(fetch->store, &fetch->get);
    }
    atd_lock_give(&fetches->lock);
}

bool atd_members_fetches_are_interrupted(struct atd_members_fetches *fetches)
{
    bool is_interrupted;

    atd_lock_take(&fetches->lock);
    is_interrupted = fetches->is_interrupted;
    atd_lock_give(&fetches->lock);
    return is_interrupted;
}

static void on_done(struct atd_store_get *get, const struct atd_error *why)
{
    struct atd_members_fetch *fetch = get->ctx;
    struct atd_members_fetches *fetches = fetch->fetches;

    atd_lock_take(&fetches->lock);
    if (why)
        fetch->why = *why;
    fetch->is_done = true;
    (void)pthread_cond_broadcast(&fetch->ended);
    atd_lock_give(&fetches->lock);
}

static void list_locked(struct atd_members_fetches *fetches, struct atd_members_fetch *fetch)
{
    fetch->next = fetches->first;
    if (fetch->next)
        fetch->next->previous = fetch;
    fetches->first = fetch;
}

static void unlist_locked(struct atd_members_fetches *fetches, struct atd_members_fetch *fetch)
{
    if (fetch->previous)
        fetch->previous->next = fetch->next;
    else
        fetches->first = fetch->next;
    if (fetch->next)
        fetch->next->previous = fetch->previous;
}

int atd_members_fetch(struct atd_members_fetches *fetches, struct atd_store *store,
                      const struct atd_store_get *range, struct atd_error *err)
{
    struct atd_members_fetch fetch = {.get = *range, .fetches = fetches, .store = store};

    fetch.get.urgent = true;
    fetch.get.progress = NULL;
    fetch.get.done = on_done;
    fetch.get.ctx = &fetch;
    atd_cond_init(&fetch.ended);
    /* Started before it is listed, so that an interruption finds only what can be cancelled. */
    atd_store_get_start(store, &fetch.get);
    atd_lock_take(&fetches->lock);
    list_locked(fetches, &fetch);
    if (fetches->is_interrupted && !fetch.is_done)
        atd_store_get_cancel(store, &fetch.get);
    while (!fetch.is_done)
        atd_cond_wait(&fetch.ended, &fetches->lock);
    unlist_locked(fetches, &fetch);
    atd_lock_give(&fetches->lock);
    (void)pthread_cond_destroy(&fetch.ended);
    if (fetch.why.code == 0)
        return 0;
    if (err)
        *err = fetch.why;
    return -fetch.why.code;
}

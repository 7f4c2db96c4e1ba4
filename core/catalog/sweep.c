#include "catalog/sweep.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/lock.h"
#include "base/workers.h"
#include "catalog/shards.h"

/* Missing files are looked for this much later, and a sweep takes at most 1/50 of the time. */
#define PAUSE_MS 2000
#define IDLE_SHARE 50

struct atd_sweep {
    struct atd_lock lock;
    pthread_cond_t wake;

    /* guarded by lock */
    struct atd_catalog *current; /* the last that was offered; NULL: none yet */
    bool is_new;                 /* and nobody has looked at it */
    bool look_again;
    bool stopping;
    uint64_t unreadable;

    /* fixed */
    struct atd_locator *locator;
    atd_sweep_told_fn told;
    void *ctx;
    unsigned long thread;
};

/* True when a newer generation waits, or the end does. */
static bool is_outdated(struct atd_sweep *sweep)
{
    bool outdated;

    atd_lock_take(&sweep->lock);
    outdated = sweep->stopping || sweep->is_new;
    atd_lock_give(&sweep->lock);
    return outdated;
}

struct result {
    uint64_t unreadable;
    bool may_change;
};

/* Makes an entry's shard list, or makes it again when files were missing. */
static void look_at(struct atd_sweep *sweep, struct atd_catalog *catalog,
                    const struct atd_catalog_entry *entry, struct result *result)
{
    struct atd_shard_list *before = atd_catalog_shards_peek(catalog, entry);
    struct atd_shard_list *list = NULL;
    /* Stores are asked when somebody looks, not by the sweep: that would cost requests for
     * datasets that nobody opens. */
    int rc = atd_catalog_shards_look(catalog, entry, sweep->locator, &list, NULL);

    if (rc == 0) {
        result->unreadable += atd_shard_list_count(list) - atd_shard_list_readable(list);
        result->unreadable += atd_shard_list_error(list) != NULL;
        result->may_change = result->may_change || atd_shard_list_may_change(list);
        if (before && !atd_shard_list_equal(before, list) && sweep->told)
            sweep->told(sweep->ctx, catalog, entry);
    }
    atd_shard_list_unref(list);
    atd_shard_list_unref(before);
}

/* Returns how long to wait before the same generation is looked at again; 0: until it is wanted. */
static unsigned look_through(struct atd_sweep *sweep, struct atd_catalog *catalog)
{
    struct result result = {0};
    int64_t start_ms = atd_clock_monotonic_ms();
    int64_t pause_ms;

    for (size_t i = atd_catalog_shards_next(catalog, 0, &result.unreadable);
         i < atd_catalog_entry_count(catalog) && !is_outdated(sweep);
         i = atd_catalog_shards_next(catalog, i + 1, &result.unreadable))
        look_at(sweep, catalog, atd_catalog_entry_at(catalog, i), &result);
    atd_lock_take(&sweep->lock);
    sweep->unreadable = result.unreadable;
    atd_lock_give(&sweep->lock);
    /* Looking for files that do not come must never keep a disk busy. */
    pause_ms = PAUSE_MS + (atd_clock_monotonic_ms() - start_ms) * IDLE_SHARE;
    return result.may_change ? (unsigned)pause_ms : 0;
}

/* Waits until something is to be looked at; that generation, or NULL at the end. */
static struct atd_catalog *wait_until_due(struct atd_sweep *sweep, unsigned pause_ms)
{
    struct atd_catalog *catalog;
    int64_t due_ms = atd_clock_monotonic_ms() + pause_ms;

    atd_lock_take(&sweep->lock);
    while (!sweep->is_new && !sweep->stopping) {
        int64_t left_ms;

        if (sweep->look_again && !pause_ms) {
            pause_ms = PAUSE_MS;
            due_ms = atd_clock_monotonic_ms() + pause_ms;
        }
        left_ms = due_ms - atd_clock_monotonic_ms();
        if (pause_ms && left_ms <= 0)
            break;
        if (pause_ms)
            atd_cond_wait_ms(&sweep->wake, &sweep->lock, (unsigned)left_ms);
        else
            atd_cond_wait(&sweep->wake, &sweep->lock);
    }
    sweep->is_new = false;
    sweep->look_again = false;
    catalog = sweep->stopping ? NULL : atd_catalog_ref(sweep->current);
    atd_lock_give(&sweep->lock);
    return catalog;
}

static void *sweep_until_stopped(void *ctx)
{
    struct atd_sweep *sweep = ctx;
    struct atd_catalog *catalog;
    unsigned pause_ms = 0;

    while ((catalog = wait_until_due(sweep, pause_ms))) {
        pause_ms = look_through(sweep, catalog);
        atd_catalog_unref(catalog);
    }
    return NULL;
}

static void free_sweep(struct atd_sweep *sweep)
{
    atd_catalog_unref(sweep->current);
    (void)pthread_cond_destroy(&sweep->wake);
    atd_lock_destroy(&sweep->lock);
    free(sweep);
}

int atd_sweep_start(struct atd_locator *locator, atd_sweep_told_fn told, void *ctx,
                    struct atd_sweep **ret_sweep, struct atd_error *err)
{
    struct atd_sweep *sweep = calloc(1, sizeof(*sweep));
    int rc;

    if (!sweep)
        return atd_error_set(err, ENOMEM, "looking for shards: out of memory");
    atd_lock_init(&sweep->lock, ATD_RANK_SWEEP);
    atd_cond_init(&sweep->wake);
    sweep->locator = locator;
    sweep->told = told;
    sweep->ctx = ctx;
    rc = atd_thread_start("atd-sweep", sweep_until_stopped, sweep, &sweep->thread, err);
    if (rc) {
        free_sweep(sweep);
        return rc;
    }
    *ret_sweep = sweep;
    return 0;
}

void atd_sweep_offer(struct atd_sweep *sweep, struct atd_catalog *catalog)
{
    struct atd_catalog *before;

    atd_lock_take(&sweep->lock);
    before = sweep->current;
    sweep->current = atd_catalog_ref(catalog);
    sweep->is_new = true;
    (void)pthread_cond_signal(&sweep->wake);
    atd_lock_give(&sweep->lock);
    atd_catalog_unref(before);
}

void atd_sweep_look_again(struct atd_sweep *sweep)
{
    atd_lock_take(&sweep->lock);
    /* Nothing to look at yet: the first offer will do. */
    if (sweep->current && !sweep->look_again) {
        sweep->look_again = true;
        (void)pthread_cond_signal(&sweep->wake);
    }
    atd_lock_give(&sweep->lock);
}

uint64_t atd_sweep_unreadable(struct atd_sweep *sweep)
{
    uint64_t unreadable;

    atd_lock_take(&sweep->lock);
    unreadable = sweep->unreadable;
    atd_lock_give(&sweep->lock);
    return unreadable;
}

bool atd_sweep_stop(struct atd_sweep *sweep, unsigned timeout_ms)
{
    if (!sweep)
        return true;
    atd_lock_take(&sweep->lock);
    sweep->stopping = true;
    (void)pthread_cond_signal(&sweep->wake);
    atd_lock_give(&sweep->lock);
    if (!atd_thread_join(sweep->thread, timeout_ms))
        return false;
    free_sweep(sweep);
    return true;
}

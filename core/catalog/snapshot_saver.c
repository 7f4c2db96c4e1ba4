#include "catalog/snapshot_saver.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/workers.h"
#include "catalog/snapshot.h"

#define IDLE_SHARE 20

struct atd_snapshot_saver {
    struct atd_lock lock;
    pthread_cond_t wake;

    /* guarded by lock */
    struct atd_catalog *wanted; /* NULL: what was offered is saved, or is being saved */
    bool stopping;
    struct atd_snapshot_saver_status status;

    /* fixed */
    char *path;
    struct atd_str identity;
    unsigned every_ms;
    unsigned long thread;
};

/* Waits until there is something to save and it is due; NULL: the end. */
static struct atd_catalog *take_wanted(struct atd_snapshot_saver *saver, int64_t due_ms)
{
    struct atd_catalog *catalog;

    atd_lock_take(&saver->lock);
    while (!saver->stopping) {
        int64_t left_ms = due_ms - atd_clock_monotonic_ms();

        if (!saver->wanted)
            atd_cond_wait(&saver->wake, &saver->lock);
        else if (left_ms > 0)
            atd_cond_wait_ms(&saver->wake, &saver->lock, (unsigned)left_ms);
        else
            break;
    }
    catalog = saver->wanted;
    saver->wanted = NULL;
    atd_lock_give(&saver->lock);
    return catalog;
}

/* Takes the reference. */
static void save(struct atd_snapshot_saver *saver, struct atd_catalog *catalog)
{
    struct atd_error why = ATD_ERROR_INIT;
    int rc = atd_snapshot_save(catalog, saver->path, saver->identity, &why);

    if (rc)
        atd_log(ATD_LOG_DEBUG, "%s", why.text);
    atd_lock_take(&saver->lock);
    memcpy(saver->status.error, why.text, sizeof(saver->status.error));
    if (rc == 0)
        saver->status.saved_at_s = (int64_t)time(NULL);
    if (rc && !saver->wanted && !saver->stopping) {
        saver->wanted = catalog;
        catalog = NULL;
    }
    atd_lock_give(&saver->lock);
    atd_catalog_unref(catalog);
}

static void *save_until_stopped(void *ctx)
{
    struct atd_snapshot_saver *saver = ctx;
    struct atd_catalog *catalog;
    int64_t due_ms = 0;

    while ((catalog = take_wanted(saver, due_ms))) {
        int64_t start_ms = atd_clock_monotonic_ms();
        int64_t pause_ms;

        save(saver, catalog);
        due_ms = atd_clock_monotonic_ms();
        pause_ms = (due_ms - start_ms) * IDLE_SHARE;
        due_ms += pause_ms > saver->every_ms ? pause_ms : saver->every_ms;
    }
    return NULL;
}

static void free_saver(struct atd_snapshot_saver *saver)
{
    atd_catalog_unref(saver->wanted);
    free(saver->path);
    free((void *)(uintptr_t)saver->identity.ptr);
    (void)pthread_cond_destroy(&saver->wake);
    atd_lock_destroy(&saver->lock);
    free(saver);
}

int atd_snapshot_saver_start(const char *path, struct atd_str identity, unsigned every_ms,
                             struct atd_snapshot_saver **ret_saver, struct atd_error *err)
{
    struct atd_snapshot_saver *saver = calloc(1, sizeof(*saver));
    int rc;

    if (!saver)
        return atd_error_set(err, ENOMEM, "snapshot: out of memory");
    atd_lock_init(&saver->lock, ATD_RANK_SNAPSHOT);
    atd_cond_init(&saver->wake);
    saver->every_ms = every_ms;
    saver->path = strdup(path);
    saver->identity = (struct atd_str){strndup(identity.ptr, identity.len), identity.len};
    rc = saver->path && saver->identity.ptr
             ? atd_thread_start("atd-snapshot", save_until_stopped, saver, &saver->thread, err)
             : atd_error_set(err, ENOMEM, "snapshot: out of memory");
    if (rc) {
        free_saver(saver);
        return rc;
    }
    *ret_saver = saver;
    return 0;
}

void atd_snapshot_saver_offer(struct atd_snapshot_saver *saver, struct atd_catalog *catalog)
{
    struct atd_catalog *before;

    atd_lock_take(&saver->lock);
    before = saver->wanted;
    saver->wanted = atd_catalog_ref(catalog);
    (void)pthread_cond_signal(&saver->wake);
    atd_lock_give(&saver->lock);
    atd_catalog_unref(before);
}

void atd_snapshot_saver_status(struct atd_snapshot_saver *saver,
                               struct atd_snapshot_saver_status *ret_status)
{
    atd_lock_take(&saver->lock);
    *ret_status = saver->status;
    atd_lock_give(&saver->lock);
}

bool atd_snapshot_saver_stop(struct atd_snapshot_saver *saver, unsigned timeout_ms)
{
    if (!saver)
        return true;
    atd_lock_take(&saver->lock);
    saver->stopping = true;
    (void)pthread_cond_signal(&saver->wake);
    atd_lock_give(&saver->lock);
    if (!atd_thread_join(saver->thread, timeout_ms))
        return false;
    free_saver(saver);
    return true;
}

#include "publishing.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/dirs.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/workers.h"
#include "publish/editor.h"
#include "publish_parts.h"
#include "staging.h"
#include "target.h"
#include "unlinked.h"

#define STOP_MS 10000u
/* For taking back what was sent, while there is still a store to ask. */
#define END_MS 4000u
/* The first load of a large index. */
#define CATCH_UP_MS 10000u
/* A mount that nobody publishes in still looks for forgotten files now and then. */
#define SWEEP_MS 600000

struct publishing {
    struct fs *fs;
    struct publish_parts parts;
    unsigned long thread;
    bool has_thread;
    struct atd_error why; /* code not 0: why nothing can be published */
    struct atd_publisher_edit sweep;

    struct atd_lock lock;
    pthread_cond_t wake;
    /* guarded by lock */
    bool stopping;
    bool is_woken;
    bool is_sweeping;
    int64_t sweep_at_ms; /* of superseded entries; INT64_MAX: nothing waits */
};

/* ------------------------------------------------------------------ superseded entries */

static int run_sweep(struct atd_publisher_edit *edit, struct atd_editor *editor,
                     struct atd_error *err)
{
    struct publishing *publishing =
        (struct publishing *)(void *)((char *)edit - offsetof(struct publishing, sweep));
    int64_t next_s = -1;
    int rc = atd_edit_sweep(editor, &next_s, err);

    atd_lock_take(&publishing->lock);
    if (next_s >= 0)
        publishing->sweep_at_ms = atd_clock_monotonic_ms() + (next_s + 1) * 1000;
    atd_lock_give(&publishing->lock);
    return rc;
}

static void done_sweep(struct atd_publisher_edit *edit, const struct atd_error *why)
{
    struct publishing *publishing =
        (struct publishing *)(void *)((char *)edit - offsetof(struct publishing, sweep));

    if (why)
        atd_log(ATD_LOG_DEBUG, "superseded entries stay for now: %s", why->text);
    atd_lock_take(&publishing->lock);
    publishing->is_sweeping = false;
    if (why)
        publishing->sweep_at_ms = atd_clock_monotonic_ms() + SWEEP_MS;
    atd_lock_give(&publishing->lock);
}

void publishing_index_changed(struct fs *fs)
{
    struct publishing *publishing = fs->publishing;

    if (!publishing)
        return;
    atd_lock_take(&publishing->lock);
    publishing->sweep_at_ms = 0;
    (void)pthread_cond_signal(&publishing->wake);
    atd_lock_give(&publishing->lock);
}

/* ------------------------------------------------------------------ the thread */

static bool take_sweep_locked(struct publishing *publishing, int64_t now_ms)
{
    if (publishing->is_sweeping || now_ms < publishing->sweep_at_ms)
        return false;
    publishing->sweep_at_ms = INT64_MAX;
    publishing->is_sweeping = true;
    return true;
}

static void wake(void *ctx)
{
    struct publishing *publishing = ctx;

    atd_lock_take(&publishing->lock);
    publishing->is_woken = true;
    (void)pthread_cond_signal(&publishing->wake);
    atd_lock_give(&publishing->lock);
}

/* Waits for what comes first: a wake, `until_ms`, a sweep (*ret_sweeps: it is begun). False: the
 * end. */
static bool wait_for_work(struct publishing *publishing, int64_t until_ms, bool *ret_sweeps)
{
    bool goes_on;

    atd_lock_take(&publishing->lock);
    for (;;) {
        int64_t now_ms = atd_clock_monotonic_ms();
        int64_t next_ms = until_ms;

        *ret_sweeps = take_sweep_locked(publishing, now_ms);
        if (publishing->stopping || publishing->is_woken || *ret_sweeps || now_ms >= until_ms)
            break;
        if (!publishing->is_sweeping && publishing->sweep_at_ms < next_ms)
            next_ms = publishing->sweep_at_ms;
        atd_cond_wait_ms(&publishing->wake, &publishing->lock, (unsigned)(next_ms - now_ms));
    }
    publishing->is_woken = false;
    goes_on = !publishing->stopping;
    atd_lock_give(&publishing->lock);
    return goes_on;
}

static void *tidy(void *ctx)
{
    struct publishing *publishing = ctx;
    struct fs *fs = publishing->fs;
    int64_t staging_at_ms = atd_clock_monotonic_ms() + SWEEP_MS;
    int64_t delete_at_ms = INT64_MAX;
    bool sweeps;

    while (wait_for_work(publishing, delete_at_ms < staging_at_ms ? delete_at_ms : staging_at_ms,
                         &sweeps)) {
        if (sweeps &&
            atd_publisher_edit(publishing->parts.publisher, &publishing->sweep, NULL) != 0)
            done_sweep(&publishing->sweep, NULL);
        delete_at_ms = unlinked_delete_due(fs->unlinked);
        if (atd_clock_monotonic_ms() < staging_at_ms)
            continue;
        staging_sweep(fs->staging);
        staging_at_ms = atd_clock_monotonic_ms() + SWEEP_MS;
    }
    return NULL;
}

/* ------------------------------------------------------------------ started and stopped */

static void on_event(void *ctx, const char *what, struct atd_str dataset, struct atd_str file_name,
                     struct atd_str url, struct atd_str cid, const struct atd_error *why)
{
    char text[TARGET_PATH_MAX];

    (void)ctx;
    (void)url;
    (void)cid;
    (void)snprintf(text, sizeof(text), "%s " ATD_STR_FMT "/" ATD_STR_FMT, what,
                   ATD_STR_ARG(dataset), ATD_STR_ARG(file_name));
    /* Who waits for a verdict tells of it (verdict.c); this is for the rest. */
    atd_log(ATD_LOG_DEBUG, "%s%s%s", text, why ? ": " : "", why ? why->text : "");
}

static void on_lost(void *ctx, struct atd_str dataset, struct atd_str file_name, struct atd_str url,
                    const struct atd_error *why)
{
    struct fs *fs = ctx;
    struct atd_error lost = ATD_ERROR_INIT;
    char what[TARGET_PATH_MAX];

    (void)snprintf(what, sizeof(what), "keep " ATD_STR_FMT "/" ATD_STR_FMT, ATD_STR_ARG(dataset),
                   ATD_STR_ARG(file_name));
    if (why)
        (void)atd_error_set(&lost, EIO,
                            "published, then lost by a failover of the index, and it could not be "
                            "put back (its object is '" ATD_STR_FMT "'): %s",
                            ATD_STR_ARG(url), why->text);
    else
        (void)atd_error_set(&lost, EIO,
                            "published, then lost by a failover of the index: it was put back");
    events_note(fs->events, what, &lost);
    atd_log(why ? ATD_LOG_ERROR : ATD_LOG_WARNING, "%s: %s", what, lost.text);
}

static int make_state_dir(const char *path, struct atd_error *err)
{
    int rc = atd_make_dirs(path);

    if (rc == 0 && access(path, W_OK) != 0)
        rc = -errno;
    return rc ? atd_error_set(err, -rc, "state_dir '%s': %s", path, strerror(-rc)) : 0;
}

static int start(struct publishing *publishing, struct atd_error *err)
{
    struct fs *fs = publishing->fs;
    /* Else it is made when it is needed, so that who only looks leaves no trace. */
    int rc = fs->options->state_named ? make_state_dir(fs->options->state_dir, err) : 0;

    if (rc == 0)
        rc = publish_parts_open(&fs->parts, &(struct publish_told){on_event, on_lost, fs},
                                &publishing->parts, err);
    if (rc == 0)
        rc = staging_load_datasets(fs->staging, fs->options->state_dir, err);
    if (rc == 0 && !(fs->unlinked = unlinked_new(fs, wake, publishing)))
        rc = atd_error_set(err, ENOMEM, "out of memory");
    if (rc == 0)
        rc = atd_thread_start("atd-tidy", tidy, publishing, &publishing->thread, err);
    publishing->has_thread = rc == 0;
    if (rc)
        return rc;
    fs->publisher = publishing->parts.publisher;
    fs->spool_path = fs->options->state_dir;
    return 0;
}

int publishing_start(struct fs *fs, struct atd_error *err)
{
    struct atd_error why = ATD_ERROR_INIT;
    struct publishing *publishing;

    if (fs->options->read_only)
        return 0;
    publishing = calloc(1, sizeof(*publishing));
    if (!publishing)
        return atd_error_set(err, ENOMEM, "out of memory");
    publishing->fs = fs;
    publishing->sweep.run = run_sweep;
    /* Nobody waits for what it deletes to show. Were the index loaded after each sweep, that would
     * make for the next one. */
    publishing->sweep.only_reads = true;
    publishing->sweep.done = done_sweep;
    atd_lock_init(&publishing->lock, ATD_RANK_PUBLISHING);
    atd_cond_init(&publishing->wake);
    fs->publishing = publishing; /* whatever fails, the caller stops and frees it */
    if (start(publishing, &why) == 0)
        return 0;
    if (fs->options->state_named || why.code == ENOMEM) {
        if (err)
            *err = why;
        return -why.code;
    }
    /* Reading goes on without a place for spool files. */
    publishing->why = why;
    atd_log(ATD_LOG_WARNING, "nothing can be published: %s", why.text);
    return 0;
}

int publishing_refuse(const struct fs *fs, struct atd_error *err)
{
    if (!fs->publishing)
        return atd_error_set(err, EROFS, "mounted read only (-o ro)");
    return atd_error_set(err, EROFS, "nothing can be published: %.400s", fs->publishing->why.text);
}

bool publishing_stop(struct fs *fs)
{
    struct publishing *publishing = fs->publishing;

    if (!publishing)
        return true;
    atd_lock_take(&publishing->lock);
    publishing->stopping = true;
    (void)pthread_cond_signal(&publishing->wake);
    atd_lock_give(&publishing->lock);
    if (publishing->has_thread && !atd_thread_join(publishing->thread, STOP_MS))
        return false;
    publishing->has_thread = false;
    if (fs->publisher)
        unlinked_delete_all(fs->unlinked, STOP_MS);
    return true;
}

void publishing_end(struct fs *fs)
{
    if (fs->publisher && !atd_publisher_end(fs->publisher, END_MS))
        atd_log(ATD_LOG_DEBUG, "what is under way ends later");
}

bool publishing_free(struct fs *fs)
{
    struct publishing *publishing = fs->publishing;

    if (!publishing)
        return true;
    if (!publish_parts_close(&publishing->parts, STOP_MS))
        return false;
    fs->publisher = NULL;
    unlinked_free(fs->unlinked);
    fs->unlinked = NULL;
    (void)pthread_cond_destroy(&publishing->wake);
    atd_lock_destroy(&publishing->lock);
    free(publishing);
    fs->publishing = NULL;
    return true;
}

int publishing_ready(struct fs *fs, enum atd_effort effort, struct atd_error *err)
{
    struct atd_live_status live;

    atd_live_status(fs->live, &live);
    if (live.catching_up && effort < ATD_EFFORT_NETWORK)
        return -EWOULDBLOCK;
    if (live.catching_up)
        (void)atd_live_catch_up(fs->live, CATCH_UP_MS);
    return atd_publisher_ready(fs->publisher, err);
}

/* ------------------------------------------------------------------ what is shown */

#define COUNTERS(X)                                                        \
    X(published, "shards published by this process")                       \
    X(failed, "publishes that failed")                                     \
    X(bytes_spooled, "bytes written to spool files")                       \
    X(bytes_sent, "bytes sent to the store")                               \
    X(parts_sent, "parts and whole objects sent to the store")             \
    X(commits, "changes committed to the index")                           \
    X(conflicts, "changes planned again because somebody else was faster") \
    X(put_back, "published shards that a failover of the index had lost")  \
    X(recovered, "publishes of processes that died, finished or taken back")

void publishing_write_status(struct fs *fs, struct atd_json_writer *json)
{
    struct publishing *publishing = fs->publishing;
    struct atd_publisher_stats stats = {0};
    struct atd_error why = ATD_ERROR_INIT;

    if (publishing && fs->publisher) {
        atd_publisher_stats(fs->publisher, &stats);
        if (atd_publisher_ready(fs->publisher, &why) == 0)
            why.code = 0;
    } else {
        (void)publishing_refuse(fs, &why);
    }
    atd_json_key(json, "publishing");
    atd_json_object_begin(json);
    atd_json_put_text(json, "state", why.code ? "off" : "ready");
    if (why.code)
        atd_json_put_text(json, "reason", why.text);
    if (publishing && publishing->parts.place.prefix_url)
        atd_json_put_text(json, "store", publishing->parts.place.prefix_url);
    atd_json_key(json, "under_way");
    atd_json_uint(json, stats.under_way);
#define X(name, help)          \
    atd_json_key(json, #name); \
    atd_json_uint(json, stats.name);
    COUNTERS(X)
#undef X
    atd_json_object_end(json);
}

void publishing_write_metrics(struct fs *fs, struct atd_buf *out)
{
    struct atd_publisher_stats stats = {0};

    if (fs->publisher)
        atd_publisher_stats(fs->publisher, &stats);
#define X(name, help)                                                   \
    atd_buf_printf(out,                                                 \
                   "# HELP atdatafs_publish_" #name "_total " help "\n" \
                   "# TYPE atdatafs_publish_" #name "_total counter\n"  \
                   "atdatafs_publish_" #name "_total %" PRIu64 "\n",    \
                   stats.name);
    COUNTERS(X)
#undef X
    atd_buf_printf(out,
                   "# HELP atdatafs_publish_under_way files being written or published\n"
                   "# TYPE atdatafs_publish_under_way gauge\n"
                   "atdatafs_publish_under_way %" PRIu64 "\n",
                   stats.under_way);
}

#include "catalog/live.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/workers.h"
#include "catalog/shards.h"
#include "catalog/snapshot.h"
#include "catalog/snapshot_saver.h"
#include "catalog/sweep.h"

/* A file that is being changed while it is read is read again, so often, this long apart. */
#define FIRST_LOAD_TRIES 100
#define LOAD_RETRY_MS 60
#define JOIN_MS 5000
/* However often somebody meets a name that is not there, the index is not asked more often. */
#define REFRESH_LEAST_MS 50
/* Without news: it could be for ever. */
#define WAIT_MS 600000
/* Between attempts at an index that cannot be read: a broken file must not keep a core busy, and a
 * server that is back shall be shown within a second. Those that have a wait of their own know
 * better when it can be read again. */
#define FAILED_PAUSE_MS 200
#define FAILED_PAUSE_MAX_MS 1000
#define FAILED_IDLE_SHARE 20
/* ... and have news in less than this as long as they cannot. */
#define WELL_MS 6000
/* While somebody writes all the time, what came meanwhile is taken in at once: as long is rested as
 * the last changes took, but never so long that anybody would notice. */
#define REST_MAX_MS 15
/* The load that follows a start from a snapshot. */
#define FIRST_REQUEST 1u

struct atd_live {
    struct atd_lock lock;
    pthread_cond_t wake;

    /* guarded by lock */
    struct atd_catalog *current;
    bool stopping;
    bool refresh_wanted; /* somebody met a name that is not there */
    int64_t refreshed_ms;
    uint64_t requested; /* requests and barriers so far, which are numbers */
    bool load_wanted;   /* one of them was a request */
    uint64_t served;    /* the greatest one that began before what is current */
    uint64_t failed;    /* the same of loads that failed */
    struct atd_live_status status;
    bool following;  /* the thread that loads was started */
    bool is_loading; /* somebody reads the index: one at a time */

    /* fixed after start */
    struct atd_index *index;
    struct atd_locator *locator;
    bool starts_behind;  /* generation 1 is a snapshot's */
    char *snapshot_path; /* NULL: none */
    unsigned snapshot_every_ms;
    struct atd_snapshot_saver *saver; /* NULL: nothing is saved */
    struct atd_sweep *sweep;          /* NULL: not started */
    struct atd_live_watcher watcher;
    unsigned long follow_thread;

    int64_t failed_at_ms; /* the follow thread's */
};

static bool wait_ms(struct atd_live *live, unsigned timeout_ms)
{
    int64_t until_ms = atd_clock_monotonic_ms() + timeout_ms;
    bool stopping;

    atd_lock_take(&live->lock);
    while (!live->stopping) {
        int64_t left_ms = until_ms - atd_clock_monotonic_ms();

        if (left_ms <= 0)
            break;
        atd_cond_wait_ms(&live->wake, &live->lock, (unsigned)left_ms);
    }
    stopping = live->stopping;
    atd_lock_give(&live->lock);
    return !stopping;
}

static void say_live_locked(struct atd_live *live)
{
    if (live->status.stale || !live->status.live_since_ms)
        live->status.live_since_ms = atd_clock_monotonic_ms();
    live->status.stale = live->status.from_snapshot = false;
    live->status.error[0] = '\0';
}

static void say_stale_locked(struct atd_live *live, const char *why)
{
    char when[ATD_CLOCK_TEXT_MAX];

    live->status.stale = true;
    if (!live->status.from_snapshot) {
        (void)snprintf(live->status.error, sizeof(live->status.error), "%s", why);
        return;
    }
    atd_clock_format(live->status.snapshot_s, when);
    (void)snprintf(live->status.error, sizeof(live->status.error),
                   "shown from a snapshot of %s: %.400s", when, why);
}

/* Of changes alone, if the index can tell them; else not at all: rc says so. */
static int update(struct atd_live *live, struct atd_catalog *base, struct atd_catalog **ret_catalog)
{
    struct atd_error why = ATD_ERROR_INIT;
    int rc =
        atd_catalog_apply(base, live->index, atd_catalog_generation(base) + 1, ret_catalog, &why);

    if (rc) {
        atd_log(ATD_LOG_DEBUG, "loading all: %s", why.text);
        return rc;
    }
    atd_lock_take(&live->lock);
    live->status.updates++;
    say_live_locked(live);
    atd_lock_give(&live->lock);
    return 0;
}

/* What a load came to; `why` NULL: it worked. */
static void note_load(struct atd_live *live, const struct atd_error *why)
{
    atd_lock_take(&live->lock);
    live->status.loads++;
    live->status.load_failures += why != NULL;
    live->status.catching_up = false;
    if (why)
        say_stale_locked(live, why->text);
    else
        say_live_locked(live);
    atd_lock_give(&live->lock);
}

/* Loads, trying again while a writer is in the way. A server that says so may take long: it is
 * waited for only while there is nothing to show, and not by the number of tries. */
static int load(struct atd_live *live, uint64_t generation, struct atd_catalog **ret_catalog,
                struct atd_error *err)
{
    bool is_server = live->index->ops->wait;
    int64_t until_ms = atd_clock_monotonic_ms() + FIRST_LOAD_TRIES * LOAD_RETRY_MS;
    int rc = -EAGAIN;

    for (int tries = 0; tries < FIRST_LOAD_TRIES && rc == -EAGAIN; tries++) {
        if (tries > 0 && is_server && (live->current || atd_clock_monotonic_ms() >= until_ms))
            break;
        if (tries > 0 && !wait_ms(live, LOAD_RETRY_MS))
            break;
        rc = atd_catalog_load(live->index, generation, ret_catalog, err);
    }
    note_load(live, rc ? err : NULL);
    return rc;
}

/* True when generation 1 is that of the snapshot. */
static bool open_snapshot(struct atd_live *live)
{
    struct atd_error why = ATD_ERROR_INIT;

    if (!live->snapshot_path)
        return false;
    if (atd_snapshot_load(live->snapshot_path, atd_str_from(live->index->location), 1,
                          &live->current, &why) != 0) {
        atd_log(ATD_LOG_DEBUG, "no snapshot: %s", why.text);
        return false;
    }
    live->status.from_snapshot = true;
    live->status.snapshot_s = atd_catalog_loaded_at_s(live->current);
    live->status.catching_up = live->starts_behind = true;
    say_stale_locked(live, "the index is being loaded");
    live->requested = FIRST_REQUEST;
    live->load_wanted = true;
    return true;
}

int atd_live_open(const struct atd_live_options *options, struct atd_live **ret_live,
                  struct atd_error *err)
{
    struct atd_live *live = calloc(1, sizeof(*live));
    struct atd_error why = ATD_ERROR_INIT;
    int rc = 0;

    if (!live)
        return atd_error_set(err, ENOMEM, "the catalog needs more memory than there is");
    atd_lock_init(&live->lock, ATD_RANK_LIVE);
    atd_cond_init(&live->wake);
    live->index = options->index;
    live->locator = options->locator;
    live->snapshot_every_ms =
        options->snapshot_every_ms ? options->snapshot_every_ms : ATD_LIVE_SNAPSHOT_MS;
    if (options->snapshot_path && !(live->snapshot_path = strdup(options->snapshot_path)))
        rc = atd_error_set(&why, ENOMEM, "the catalog needs more memory than there is");
    if (rc == 0 && !open_snapshot(live))
        rc = load(live, 1, &live->current, &why);
    if (rc) {
        (void)atd_live_close(live);
        if (err)
            *err = why;
        return rc;
    }
    *ret_live = live;
    return 0;
}

struct atd_catalog *atd_live_get(struct atd_live *live)
{
    struct atd_catalog *catalog;

    atd_lock_take(&live->lock);
    catalog = atd_catalog_ref(live->current);
    atd_lock_give(&live->lock);
    return catalog;
}

void atd_live_look_again(struct atd_live *live)
{
    if (live->sweep)
        atd_sweep_look_again(live->sweep);
}

void atd_live_refresh(struct atd_live *live)
{
    bool is_new;

    atd_lock_take(&live->lock);
    is_new = !live->refresh_wanted;
    live->refresh_wanted = true;
    atd_lock_give(&live->lock);
    if (is_new)
        atd_index_wake(live->index);
}

static uint64_t ask_for(struct atd_live *live, bool load)
{
    uint64_t request;

    atd_lock_take(&live->lock);
    request = ++live->requested;
    live->load_wanted = live->load_wanted || load;
    (void)pthread_cond_broadcast(&live->wake);
    atd_lock_give(&live->lock);
    atd_index_wake(live->index);
    return request;
}

uint64_t atd_live_request(struct atd_live *live)
{
    return ask_for(live, true);
}

uint64_t atd_live_barrier(struct atd_live *live)
{
    return ask_for(live, false);
}

uint64_t atd_live_generation(struct atd_live *live)
{
    uint64_t generation;

    atd_lock_take(&live->lock);
    generation = atd_catalog_generation(live->current);
    atd_lock_give(&live->lock);
    return generation;
}

void atd_live_status(struct atd_live *live, struct atd_live_status *ret_status)
{
    struct atd_snapshot_saver_status saver = {0};

    if (live->saver)
        atd_snapshot_saver_status(live->saver, &saver);
    atd_lock_take(&live->lock);
    *ret_status = live->status;
    ret_status->coherence = atd_index_coherence(live->index);
    atd_lock_give(&live->lock);
    ret_status->shards_unreadable = live->sweep ? atd_sweep_unreadable(live->sweep) : 0;
    ret_status->snapshot_path = live->snapshot_path;
    ret_status->snapshot_saved_s = saver.saved_at_s;
    memcpy(ret_status->snapshot_error, saver.error, sizeof(ret_status->snapshot_error));
}

/* Nothing changed: what is current has it all, unless it has been old all the time. */
static void serve(struct atd_live *live, uint64_t request, bool stale)
{
    atd_lock_take(&live->lock);
    if (stale)
        live->failed = request;
    else
        live->served = request;
    (void)pthread_cond_broadcast(&live->wake);
    atd_lock_give(&live->lock);
}

static bool fail(struct atd_live *live, uint64_t request, const struct atd_error *why)
{
    atd_log(ATD_LOG_DEBUG, "%s", why->text);
    atd_lock_take(&live->lock);
    live->failed = request;
    (void)pthread_cond_broadcast(&live->wake);
    atd_lock_give(&live->lock);
    return false;
}

/* `request`: what this generation serves; whatever is asked for later takes another one. False
 * when the index cannot be read now. */
static bool make_generation(struct atd_live *live, enum atd_index_news news, uint64_t request)
{
    struct atd_catalog *before = atd_live_get(live);
    struct atd_catalog *after = NULL;
    struct atd_error why = ATD_ERROR_INIT;
    bool is_whole;
    int rc = -ENOTSUP;

    if (news == ATD_NEWS_SOME)
        rc = update(live, before, &after);
    is_whole = rc != 0;
    if (rc)
        rc = load(live, atd_catalog_generation(before) + 1, &after, &why);
    if (rc) {
        atd_catalog_unref(before);
        return fail(live, request, &why);
    }
    atd_catalog_shards_inherit(after, before);
    atd_lock_take(&live->lock);
    live->current = atd_catalog_ref(after);
    live->served = request;
    (void)pthread_cond_broadcast(&live->wake);
    atd_lock_give(&live->lock);
    if (live->sweep)
        atd_sweep_offer(live->sweep, after);
    if (live->saver)
        atd_snapshot_saver_offer(live->saver, after);
    if (live->watcher.generation)
        live->watcher.generation(live->watcher.ctx, before, after);
    atd_catalog_unref(before); /* this function's reference */
    atd_catalog_unref(before); /* the view's */
    atd_catalog_unref(after);
    /* A whole generation went, in pieces that the allocator would keep. */
    if (is_whole)
        (void)malloc_trim(0);
    return true;
}

/* For who awaits while there is no thread. The index is read by one at a time. */
static void load_here(struct atd_live *live)
{
    uint64_t request;

    atd_lock_take(&live->lock);
    while (live->is_loading)
        atd_cond_wait(&live->wake, &live->lock);
    live->is_loading = true;
    request = live->requested;
    atd_lock_give(&live->lock);
    (void)make_generation(live, ATD_NEWS_ALL, request);
    atd_lock_take(&live->lock);
    live->is_loading = false;
    (void)pthread_cond_broadcast(&live->wake);
    atd_lock_give(&live->lock);
}

bool atd_live_await(struct atd_live *live, uint64_t request, unsigned timeout_ms)
{
    int64_t until_ms = atd_clock_monotonic_ms() + timeout_ms;
    bool served;
    bool is_ours;

    atd_lock_take(&live->lock);
    is_ours = !live->following; /* not started: nobody else loads */
    atd_lock_give(&live->lock);
    if (is_ours)
        load_here(live);
    atd_lock_take(&live->lock);
    while (!live->stopping && live->served < request && live->failed < request) {
        int64_t left_ms = until_ms - atd_clock_monotonic_ms();

        if (left_ms <= 0)
            break;
        atd_cond_wait_ms(&live->wake, &live->lock, (unsigned)left_ms);
    }
    served = live->served >= request;
    atd_lock_give(&live->lock);
    return served;
}

bool atd_live_catch_up(struct atd_live *live, unsigned timeout_ms)
{
    return !live->starts_behind || atd_live_await(live, FIRST_REQUEST, timeout_ms);
}

/* What the thread is to do. */
struct turn {
    bool stops;
    bool asked;       /* for a barrier, by a request or a refresh */
    bool load_wanted; /* whatever an index says that cannot know at once */
    bool stale;
    unsigned wait_ms; /* for news, when nobody asked */
    uint64_t request;
};

/* Whether a refresh is due, and else how long it has to wait. One of an index that is away would
 * only be another attempt at it. */
static bool refresh_is_due_locked(struct atd_live *live, struct turn *turn)
{
    int64_t now_ms = atd_clock_monotonic_ms();

    if (!live->refresh_wanted || turn->stale) {
        live->refresh_wanted = false;
        return false;
    }
    if (now_ms < live->refreshed_ms + REFRESH_LEAST_MS) {
        turn->wait_ms = REFRESH_LEAST_MS;
        return false;
    }
    live->refresh_wanted = false;
    live->refreshed_ms = now_ms;
    return true;
}

static struct turn take_turn(struct atd_live *live)
{
    struct turn turn = {.wait_ms = WAIT_MS};
    bool refresh;

    atd_lock_take(&live->lock);
    turn.stops = live->stopping;
    turn.stale = live->status.stale;
    turn.request = live->requested;
    refresh = refresh_is_due_locked(live, &turn);
    turn.asked = refresh || (live->requested > live->served && live->requested > live->failed);
    turn.load_wanted = live->load_wanted && !live->index->ops->sync;
    live->load_wanted = false;
    atd_lock_give(&live->lock);
    return turn;
}

static enum atd_index_news look(struct atd_live *live, const struct turn *turn)
{
    bool stale = turn->stale && live->index->ops->wait;
    enum atd_index_news news;

    if (turn->load_wanted)
        return ATD_NEWS_ALL;
    news = turn->asked ? atd_index_sync(live->index)
                       : atd_index_wait(live->index, stale ? FAILED_PAUSE_MAX_MS : turn->wait_ms);
    /* An index that has no news after a failure is well: it was ours, as for lack of memory. */
    if (news == ATD_NEWS_NONE && stale && atd_clock_monotonic_ms() >= live->failed_at_ms + WELL_MS)
        return ATD_NEWS_ALL;
    return news;
}

static void rest_after_failure(struct atd_live *live, int64_t took_ms)
{
    int64_t pause_ms = took_ms * FAILED_IDLE_SHARE;

    pause_ms = pause_ms < FAILED_PAUSE_MS ? FAILED_PAUSE_MS : pause_ms;
    (void)wait_ms(live, pause_ms > FAILED_PAUSE_MAX_MS ? FAILED_PAUSE_MAX_MS : (unsigned)pause_ms);
}

/* Who asks for something does not wait for it. */
static void rest_after_changes(struct atd_live *live, int64_t took_ms)
{
    int64_t now_ms = atd_clock_monotonic_ms();
    int64_t until_ms = now_ms + (took_ms < REST_MAX_MS ? took_ms : REST_MAX_MS);

    atd_lock_take(&live->lock);
    for (; now_ms < until_ms && !live->stopping && live->requested == live->served;
         now_ms = atd_clock_monotonic_ms())
        atd_cond_wait_ms(&live->wake, &live->lock, (unsigned)(until_ms - now_ms));
    atd_lock_give(&live->lock);
}

/* Asking may have taken long; a load that begins now would only hold up the end. */
static bool is_stopping(struct atd_live *live)
{
    bool stopping;

    atd_lock_take(&live->lock);
    stopping = live->stopping;
    atd_lock_give(&live->lock);
    return stopping;
}

static void *follow_until_stopped(void *ctx)
{
    struct atd_live *live = ctx;

    while (true) {
        struct turn turn = take_turn(live);
        enum atd_index_news news;
        int64_t start_ms;

        if (turn.stops)
            break;
        news = look(live, &turn);
        if (is_stopping(live))
            break;
        start_ms = atd_clock_monotonic_ms();
        if (news == ATD_NEWS_NONE && turn.asked)
            serve(live, turn.request, turn.stale);
        if (news == ATD_NEWS_NONE)
            continue;
        if (make_generation(live, news, turn.request)) {
            rest_after_changes(live, atd_clock_monotonic_ms() - start_ms);
            continue;
        }
        live->failed_at_ms = atd_clock_monotonic_ms();
        if (!live->index->ops->wait)
            rest_after_failure(live, live->failed_at_ms - start_ms);
    }
    return NULL;
}

static int start_saver(struct atd_live *live, struct atd_error *err)
{
    int rc = atd_snapshot_saver_start(live->snapshot_path, atd_str_from(live->index->location),
                                      live->snapshot_every_ms, &live->saver, err);

    if (rc == 0 && !live->status.from_snapshot) /* nobody else changes it yet */
        atd_snapshot_saver_offer(live->saver, live->current);
    return rc;
}

int atd_live_start(struct atd_live *live, const struct atd_live_watcher *watcher,
                   struct atd_error *err)
{
    int rc = live->snapshot_path ? start_saver(live, err) : 0;

    if (rc)
        return rc;
    live->watcher = *watcher;
    rc = atd_sweep_start(live->locator, watcher->shards, watcher->ctx, &live->sweep, err);
    if (rc)
        return rc;
    atd_sweep_offer(live->sweep, live->current);
    rc = atd_thread_start("atd-follow", follow_until_stopped, live, &live->follow_thread, err);
    if (rc)
        return rc;
    atd_lock_take(&live->lock);
    live->following = true;
    atd_lock_give(&live->lock);
    return 0;
}

bool atd_live_close(struct atd_live *live)
{
    if (!live)
        return true;
    atd_lock_take(&live->lock);
    live->stopping = true;
    (void)pthread_cond_broadcast(&live->wake);
    atd_lock_give(&live->lock);
    atd_index_wake(live->index);
    if (live->following && !atd_thread_join(live->follow_thread, JOIN_MS))
        return false;
    live->following = false;
    if (!atd_snapshot_saver_stop(live->saver, JOIN_MS))
        return false;
    live->saver = NULL;
    if (!atd_sweep_stop(live->sweep, JOIN_MS))
        return false;
    live->sweep = NULL;
    atd_catalog_unref(live->current);
    (void)pthread_cond_destroy(&live->wake);
    atd_lock_destroy(&live->lock);
    free(live->snapshot_path);
    free(live);
    return true;
}

#include <errno.h>
#include <stdlib.h>

#include "atdata/entry.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "catalog/catalog.h"
#include "codec/member_index.h"
#include "publish/publisher_private.h"

/* What failed, as when the index has just not been read yet, is tried again soon, and then ever
 * later; what has to be seen twice waits its time. */
#define RETRY_FIRST_MS 1000u

/*
 * What a job means when nobody works on it any more:
 *
 *     SPOOLING     nothing is outside
 *     SENDING      an upload to take back; with a size: it was being finished, and the
 *                  object may be there
 *     SENT         an object, known by its ETag, that no commit was begun for
 *     COMMITTING   the same, and the index may name it, or may be about to
 *
 * All of that is asked of the store that the job was for, or nothing: a mount of the same index
 * with another endpoint leaves the job to one that has its own.
 *
 * An object is deleted only when it is the one that the job tells of (its label says who made it),
 * nobody here is writing to its URL, and no entry names it: not in the catalog, and not in its
 * dataset as it is now. Where a commit, or somebody else's, may still be on its way, it must stay
 * unnamed from one look to another. The first look is written into the job, so that processes too
 * short for two share them.
 */

#define LOOK_ARENA_MAX ((size_t)512 << 20)

/* ------------------------------------------------------------------ does the index name it */

static bool holds(struct atd_bytes text, struct atd_str part)
{
    return text.len > 0 && memmem(text.ptr, text.len, part.ptr, part.len) != NULL;
}

/* Of a URL: what every pattern that may mean it has in it too. */
static struct atd_str bucket_of(struct atd_str url)
{
    ptrdiff_t slash = atd_str_starts_with(url, ATD_STR("s3://"))
                          ? atd_str_find(atd_str_from_byte(url, 5), '/') + 5
                          : 0;

    return atd_str_head(url, (size_t)slash + 1);
}

/*
 * Whether a listed URL may name this one. One that contains it counts, and where there are braces
 * anything in the same place does: an object too many is better than one too few.
 */
static bool may_name(struct atd_str listed, struct atd_str url)
{
    struct atd_bytes text = atd_str_bytes(listed);

    return holds(text, url) || (holds(text, ATD_STR("{")) && holds(text, bucket_of(url)));
}

/* Encoded ones are not taken apart for nothing; but a '{' among them may be a length. */
static bool any_may_name(struct atd_bytes urls, struct atd_str url)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(LOOK_ARENA_MAX);
    struct atd_str *listed;
    size_t count = 0;

    if (holds(urls, url))
        return true;
    if (!holds(urls, ATD_STR("{")) || !holds(urls, bucket_of(url)))
        return false;
    if (atd_urls_decode(urls, &arena, &listed, &count, NULL) != 0)
        return true;
    for (size_t i = 0; i < count; i++) {
        if (may_name(listed[i], url))
            return true;
    }
    return false;
}

static bool catalog_names(struct atd_catalog *catalog, struct atd_str url)
{
    for (size_t i = 0; i < atd_catalog_entry_count(catalog); i++) {
        if (any_may_name(atd_entry_data_urls(atd_catalog_entry_at(catalog, i)), url))
            return true;
    }
    return false;
}

/* The dataset, read fresh on the commit thread, while this one waits. */
struct fresh_look {
    struct atd_publisher_edit edit; /* first */
    struct atd_publisher *publisher;
    const struct atd_job *job;
    bool is_named;
    /* guarded by the publisher's lock */
    bool done;
    int rc;
};

static int run_fresh_look(struct atd_publisher_edit *edit, struct atd_editor *editor,
                          struct atd_error *err)
{
    struct fresh_look *look = (struct fresh_look *)(void *)edit;
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(LOOK_ARENA_MAX);
    struct atd_edit_dataset dataset;
    int rc = atd_edit_read(editor, atd_str_from(look->job->dataset), &arena, &dataset, err);

    for (size_t i = 0; rc == 0 && dataset.exists && i < dataset.url_count; i++) {
        if (may_name(dataset.urls[i], atd_str_from(look->job->url)))
            look->is_named = true;
    }
    return rc;
}

static void end_fresh_look(struct atd_publisher_edit *edit, const struct atd_error *why)
{
    struct fresh_look *look = (struct fresh_look *)(void *)edit;
    struct atd_publisher *publisher = look->publisher;

    atd_lock_take(&publisher->lock);
    look->rc = why ? -why->code : 0;
    look->done = true;
    (void)pthread_cond_broadcast(&publisher->recover_wake);
    atd_lock_give(&publisher->lock);
}

static int is_named(struct atd_publisher *publisher, const struct atd_job *job, bool *ret_named,
                    struct atd_error *err)
{
    struct fresh_look look = {
        .edit = {.run = run_fresh_look, .done = end_fresh_look, .only_reads = true},
        .publisher = publisher,
        .job = job};
    struct atd_live_status live;
    struct atd_catalog *catalog;
    int rc;

    atd_live_status(publisher->options.live, &live);
    if (live.stale)
        return atd_error_set(err, EAGAIN, "the index is out of reach");
    catalog = atd_live_get(publisher->options.live);
    *ret_named = catalog_names(catalog, atd_str_from(job->url));
    atd_catalog_unref(catalog);
    if (*ret_named)
        return 0;
    rc = atd_publisher_edit(publisher, &look.edit, err);
    if (rc)
        return rc;
    atd_lock_take(&publisher->lock);
    while (!look.done)
        atd_cond_wait(&publisher->recover_wake, &publisher->lock);
    atd_lock_give(&publisher->lock);
    if (look.rc)
        return atd_error_set(err, -look.rc, "the dataset cannot be read: %.400s",
                             look.edit.why.text);
    *ret_named = look.is_named;
    return 0;
}

/* ------------------------------------------------------------------ orphans */

/*
 * True when the job's object was seen unnamed long enough ago; the first time it is noted. Both
 * clocks must say so: the wall's alone may have been set forwards, and the boot's alone may be
 * another machine's. One that went backwards tells nothing: then this is the first look.
 */
static bool is_old_orphan(const struct atd_publisher *publisher, struct atd_job *job)
{
    struct atd_sighting now = {atd_clock_wall_ms(), atd_clock_boot_ms()};
    const struct atd_sighting *seen = &job->seen;
    int64_t wait_ms = publisher->recover_every_ms - publisher->recover_every_ms / ATD_ORPHAN_LEEWAY;

    if (atd_sighting_same(seen, &(struct atd_sighting){0}) || now.wall_ms < seen->wall_ms ||
        now.boot_ms < seen->boot_ms) {
        job->seen = now;
        return false;
    }
    return now.wall_ms - wait_ms >= seen->wall_ms && now.boot_ms - wait_ms >= seen->boot_ms;
}

/* Not somebody else's, who was faster, or came later with the same file. */
static bool is_of_job(const struct atd_publisher *publisher, const struct atd_job *job,
                      const struct atd_object_info *found)
{
    if (strcmp(found->maker, job->info.maker) != 0)
        return false;
    if (job->state != ATD_JOB_SENDING)
        return atd_object_info_same(found, &job->info);
    /* Local files are not labelled; but what was written afterwards is another. */
    return found->size_bytes == job->info.size_bytes &&
           !(publisher->is_disk && job->info.mtime_s && found->mtime_s > job->info.mtime_s);
}

static int settle_object(struct atd_publisher *publisher, struct atd_job *job,
                         struct atd_error *err)
{
    struct atd_store *store = publisher->options.store;
    struct atd_str url = atd_str_from(job->url);
    struct atd_object_info found;
    bool named = false;
    int rc = atd_store_stat(store, url, publisher->timeout_ms, &found, err);

    if (rc == -ENOENT)
        return 0;
    if (rc == 0)
        rc = is_named(publisher, job, &named, err);
    if (rc)
        return rc;
    if (named)
        return 0;
    if (!is_of_job(publisher, job, &found)) {
        /* An answer without a label may be a proxy's: it must be the same another time. */
        if (job->info.maker[0] && !found.maker[0] && !is_old_orphan(publisher, job))
            return atd_error_set(err, EAGAIN, "nobody can say who made '%s'", job->url);
        return 0;
    }
    if (job->state != ATD_JOB_SENT && !is_old_orphan(publisher, job))
        return atd_error_set(err, EAGAIN, "'%s' may still be named", job->url);
    /* The index first: it must not be left alone. */
    if (job->state != ATD_JOB_SENDING && job->info.size_bytes >= ATD_MEMBER_INDEX_SHARD_MIN)
        rc = atd_publisher_drop_index(publisher, job->url, publisher->timeout_ms, err);
    if (rc)
        return rc;
    if (publisher->options.table)
        atd_object_table_drop(publisher->options.table, atd_str_from(publisher->options.scope),
                              url);
    return atd_store_delete(store, url, publisher->timeout_ms, err);
}

static int settle(void *ctx, struct atd_job *job, struct atd_error *err)
{
    struct atd_publisher *publisher = ctx;
    int rc = 0;

    if (atomic_load(&publisher->closing))
        return -ECANCELED;
    if (job->state == ATD_JOB_SENDING && strcmp(job->upload_id, ATD_JOB_NO_UPLOAD) != 0)
        rc = atd_store_upload_discard(publisher->options.store, atd_str_from(job->url),
                                      job->upload_id, publisher->timeout_ms, err);
    if (rc == 0 && job->state != ATD_JOB_SPOOLING &&
        (job->state != ATD_JOB_SENDING || job->info.size_bytes > 0))
        rc = settle_object(publisher, job, err);
    if (rc == 0)
        atd_publisher_count(publisher, &publisher->stats.recovered, 1);
    return rc;
}

/* ------------------------------------------------------------------ what this process left */

void atd_publisher_leave(struct atd_publisher *publisher, const struct atd_job *job)
{
    struct atd_left_job *left = malloc(sizeof(*left));

    if (!left) {
        free(job->dataset);
        free(job->url);
        return;
    }
    left->job = *job;
    atd_lock_take(&publisher->lock);
    left->next = publisher->left;
    publisher->left = left;
    publisher->recover_soon = true;
    (void)pthread_cond_broadcast(&publisher->recover_wake);
    atd_lock_give(&publisher->lock);
}

static void free_left(struct atd_left_job *left)
{
    free(left->job.dataset);
    free(left->job.url);
    free(left);
}

void atd_publisher_free_left(struct atd_publisher *publisher)
{
    while (publisher->left) {
        struct atd_left_job *next = publisher->left->next;

        free_left(publisher->left);
        publisher->left = next;
    }
}

static void settle_left(struct atd_publisher *publisher)
{
    struct atd_left_job *jobs;

    atd_lock_take(&publisher->lock);
    jobs = publisher->left;
    publisher->left = NULL;
    publisher->recover_soon = false;
    atd_lock_give(&publisher->lock);
    while (jobs) {
        struct atd_left_job *left = jobs;
        struct atd_sighting seen = left->job.seen;
        struct atd_error err = ATD_ERROR_INIT;
        int rc;

        jobs = left->next;
        rc = settle(publisher, &left->job, &err);
        if (rc == 0) {
            atd_journal_remove(publisher->journal, left->job.number);
            atd_publisher_release_url(publisher, left->job.url);
            free_left(left);
            continue;
        }
        /* When it cannot be written, only this process knows. */
        if (!atd_sighting_same(&seen, &left->job.seen))
            rc = atd_journal_put(publisher->journal, &left->job, NULL);
        (void)rc;
        atd_lock_take(&publisher->lock);
        left->next = publisher->left;
        publisher->left = left;
        atd_lock_give(&publisher->lock);
    }
}

/* ------------------------------------------------------------------ the thread */

struct round {
    struct atd_publisher *publisher;
    bool something_stays;
    bool something_failed; /* not even a first look was had: the index, the store, somebody there */
    struct atd_error elsewhere; /* the first job that is not for us */
};

/* This store's answers say nothing of another's, where the same URL is another object. */
static int leave_elsewhere(struct round *round, const struct atd_job *job, struct atd_error *err)
{
    int rc = atd_error_set(err, EXDEV,
                           "'%.256s' was left unfinished in another store (%.160s): a mount with "
                           "that one settles it",
                           job->url, job->scope[0] ? job->scope : "on the disk");

    if (!round->elsewhere.code && err)
        round->elsewhere = *err;
    return rc;
}

static int settle_dead(void *ctx, struct atd_job *job, struct atd_error *err)
{
    struct round *round = ctx;
    struct atd_publisher *publisher = round->publisher;
    int rc;

    if (job->state != ATD_JOB_SPOOLING && strcmp(job->scope, publisher->options.scope) != 0)
        return leave_elsewhere(round, job, err);
    /* Meanwhile nobody here begins to write there; and who does already is not disturbed. */
    rc = atd_publisher_claim_url(publisher, job->url, err);
    if (rc == 0) {
        rc = settle(publisher, job, err);
        atd_publisher_release_url(publisher, job->url);
    }
    if (rc)
        round->something_stays = true;
    if (rc && atd_sighting_same(&job->seen, &(struct atd_sighting){0}))
        round->something_failed = true;
    return rc;
}

/* True when it should be done again; *ret_failed: because something failed. */
static bool recover_dead(struct atd_publisher *publisher, bool *ret_failed)
{
    struct round round = {.publisher = publisher, .elsewhere = ATD_ERROR_INIT};
    struct atd_error warning = ATD_ERROR_INIT;
    struct atd_error err = ATD_ERROR_INIT;

    int rc = atd_journal_recover(publisher->options.state_dir, settle_dead, &round, &warning, &err);

    if (!warning.code)
        warning = round.elsewhere;
    if (warning.code)
        atd_publisher_tell(publisher, "recovery", ATD_STR(""), ATD_STR(""), ATD_STR(""),
                           ATD_STR(""), &warning);
    *ret_failed = rc || round.something_failed;
    return rc || round.something_stays;
}

static void note_recovered_locked(struct atd_publisher *publisher)
{
    publisher->recovered_once = true;
    (void)pthread_cond_broadcast(&publisher->recover_wake);
}

void *atd_publisher_recover_thread(void *ctx)
{
    struct atd_publisher *publisher = ctx;
    bool dead = true;
    bool failed = false;
    bool over = !publisher->options.store;
    unsigned retry_ms = RETRY_FIRST_MS;

    while (!over) {
        int64_t until;

        settle_left(publisher);
        if (dead)
            dead = recover_dead(publisher, &failed);
        retry_ms = failed ? 2 * retry_ms : RETRY_FIRST_MS;
        if (retry_ms > publisher->recover_every_ms)
            retry_ms = publisher->recover_every_ms;
        until = atd_clock_monotonic_ms() + (failed ? retry_ms : publisher->recover_every_ms);
        atd_lock_take(&publisher->lock);
        note_recovered_locked(publisher);
        while (!publisher->stopping && !publisher->recover_soon) {
            int64_t left = until - atd_clock_monotonic_ms();

            if (!dead && !publisher->left)
                atd_cond_wait(&publisher->recover_wake, &publisher->lock);
            else if (left > 0)
                atd_cond_wait_ms(&publisher->recover_wake, &publisher->lock, (unsigned)left);
            else
                break;
        }
        over = publisher->stopping;
        atd_lock_give(&publisher->lock);
    }
    return NULL;
}

void atd_publisher_recover_wait(struct atd_publisher *publisher, unsigned timeout_ms)
{
    int64_t until = atd_clock_monotonic_ms() + timeout_ms;
    int64_t left = publisher->options.store ? timeout_ms : 0;

    atd_lock_take(&publisher->lock);
    while (!publisher->recovered_once && left > 0) {
        atd_cond_wait_ms(&publisher->recover_wake, &publisher->lock, (unsigned)left);
        left = until - atd_clock_monotonic_ms();
    }
    atd_lock_give(&publisher->lock);
}

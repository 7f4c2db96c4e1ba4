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
#include "index_edit.h"
#include "publish/editor.h"
#include "publish_parts.h"
#include "staging.h"
#include "target.h"

#define STOP_MS 10000u
/* For taking back what was sent, while there is still a store to ask. */
#define END_MS 4000u
/* The first load of a large index. */
#define CATCH_UP_MS 10000u
/* A mount that nobody publishes in still looks for forgotten files now and then. */
#define SWEEP_MS 600000
/* Unlinked shards that are marked in one change: each costs a copy of the dataset's metadata. */
#define MARKED_AT_ONCE_MAX 256u
#define MARKED_URLS_MAX (64u << 20)

struct doomed {
    struct doomed *next;
    int64_t due_ms;
    uint64_t batch; /* that it is, or was, marked in; 0: none yet */
    bool is_marked; /* in the index, so that whoever publishes it again can be seen */
    char *subject;
    char *leaf;
    char *url;
};

struct publishing {
    struct fs *fs;
    struct publish_parts parts;
    unsigned long thread;
    bool has_thread;
    struct atd_error why; /* code not 0: why nothing can be published */
    struct atd_publisher_edit sweep;
    struct atd_publisher_edit mark;
    struct atd_publisher_edit last; /* after the deletions that the end hurries */

    struct atd_lock lock;
    pthread_cond_t wake;
    /* guarded by lock */
    bool stopping;
    bool is_sweeping;
    bool is_marking;
    uint64_t batches; /* of doomed ones, ever taken */
    bool is_last_done;
    int64_t sweep_at_ms;   /* of superseded entries; INT64_MAX: nothing waits */
    struct doomed *doomed; /* in the order of their time */
};

/* ------------------------------------------------------------------ what waits for its time */

static void free_doomed(struct doomed *doomed)
{
    if (!doomed)
        return;
    free(doomed->subject);
    free(doomed->leaf);
    free(doomed->url);
    free(doomed);
}

static void append_locked(struct publishing *publishing, struct doomed *doomed)
{
    struct doomed **end = &publishing->doomed;

    while (*end)
        end = &(*end)->next;
    doomed->next = NULL;
    *end = doomed;
}

/* ------------------------------------------------------------------ marks in the index */

/*
 * What was unlinked is marked in the index at once (editor.h), by the commit thread, as many as
 * there are together. What could not be marked is deleted without asking when its time comes.
 */

static void end_marking(struct publishing *publishing)
{
    atd_lock_take(&publishing->lock);
    publishing->is_marking = false;
    atd_lock_give(&publishing->lock);
}

/* The next ones of one dataset: its file name, and their URLs, each with a NUL behind; 0: none. */
static size_t take_batch(struct publishing *publishing, struct atd_buf *subject,
                         struct atd_buf *urls)
{
    size_t count = 0;

    atd_buf_clear(subject);
    atd_buf_clear(urls);
    atd_lock_take(&publishing->lock);
    publishing->batches++;
    for (struct doomed *at = publishing->doomed; at && count < MARKED_AT_ONCE_MAX; at = at->next) {
        if (at->batch || (count && !atd_str_equal(atd_buf_str(subject), atd_str_from(at->subject))))
            continue;
        if (count++ == 0)
            atd_buf_append_text(subject, at->subject);
        atd_buf_append(urls, at->url, strlen(at->url) + 1);
        at->batch = publishing->batches;
    }
    publishing->is_marking = count > 0;
    atd_lock_give(&publishing->lock);
    return count;
}

static void note_marked(struct publishing *publishing)
{
    atd_lock_take(&publishing->lock);
    for (struct doomed *at = publishing->doomed; at; at = at->next)
        at->is_marked = at->is_marked || at->batch == publishing->batches;
    atd_lock_give(&publishing->lock);
}

static int run_mark(struct atd_publisher_edit *edit, struct atd_editor *editor,
                    struct atd_error *err)
{
    struct publishing *publishing =
        (struct publishing *)(void *)((char *)edit - offsetof(struct publishing, mark));
    atd_auto_buf struct atd_buf subject = ATD_BUF_INIT(ATD_NAME_BYTES_MAX);
    atd_auto_buf struct atd_buf texts = ATD_BUF_INIT(MARKED_URLS_MAX);
    struct atd_str urls[MARKED_AT_ONCE_MAX];
    size_t count;
    int rc = 0;

    while (rc == 0 && (count = take_batch(publishing, &subject, &texts)) > 0) {
        atd_auto_buf struct atd_buf name = ATD_BUF_INIT(ATD_NAME_BYTES_MAX);
        const char *at = (const char *)texts.ptr;

        rc = atd_buf_finish(&texts, "the URLs of unlinked shards", err);
        for (size_t i = 0; rc == 0 && i < count; i++) {
            urls[i] = atd_str_from(at);
            at += urls[i].len + 1;
        }
        if (rc == 0)
            rc = target_dataset_name(publishing->fs, atd_buf_str(&subject), &name, err);
        if (rc == 0)
            rc = atd_edit_mark_leaving(editor, atd_buf_str(&name), urls, count, err);
        if (rc == 0)
            note_marked(publishing);
    }
    return rc;
}

static void done_mark(struct atd_publisher_edit *edit, const struct atd_error *why)
{
    struct publishing *publishing =
        (struct publishing *)(void *)((char *)edit - offsetof(struct publishing, mark));

    if (!why)
        return; /* the last look, that found nothing to mark, has ended it */
    atd_log(ATD_LOG_DEBUG, "unlinked shards are not marked: %s", why->text);
    end_marking(publishing);
}

void publishing_marked_urls(struct fs *fs, struct atd_str subject, struct atd_buf *out)
{
    struct publishing *publishing = fs->publishing;

    atd_lock_take(&publishing->lock);
    for (const struct doomed *at = publishing->doomed; at; at = at->next) {
        if (at->is_marked && atd_str_equal(atd_str_from(at->subject), subject))
            atd_buf_append(out, at->url, strlen(at->url) + 1);
    }
    atd_lock_give(&publishing->lock);
}

/* ------------------------------------------------------------------ when its time has come */

int publishing_delete_later(struct fs *fs, struct atd_str subject, struct atd_str leaf,
                            struct atd_str url, struct atd_error *err)
{
    struct publishing *publishing = fs->publishing;
    struct doomed *doomed = calloc(1, sizeof(*doomed));
    bool marks;
    int rc;

    if (doomed) {
        doomed->subject = strndup(subject.ptr, subject.len);
        doomed->leaf = strndup(leaf.ptr, leaf.len);
        doomed->url = strndup(url.ptr, url.len);
        doomed->due_ms = atd_clock_monotonic_ms() + STAGED_GRACE_MS;
    }
    if (!doomed || !doomed->subject || !doomed->leaf || !doomed->url) {
        free_doomed(doomed);
        return atd_error_set(err, ENOMEM, "out of memory");
    }
    rc = staging_hide(fs->staging, subject, leaf, url, err);
    if (rc) {
        free_doomed(doomed);
        return rc;
    }
    atd_lock_take(&publishing->lock);
    append_locked(publishing, doomed);
    marks = !publishing->is_marking;
    publishing->is_marking = true;
    (void)pthread_cond_signal(&publishing->wake);
    atd_lock_give(&publishing->lock);
    if (marks && atd_publisher_edit(publishing->parts.publisher, &publishing->mark, NULL) != 0)
        end_marking(publishing);
    return 0;
}

/* False: not yet. A file of the same name came meanwhile: when it is published it takes its place,
 * when it is refused the old one shows again, when it is unlinked both are gone. */
static bool delete_doomed(struct publishing *publishing, const struct doomed *doomed)
{
    atd_auto_buf struct atd_buf url = ATD_BUF_INIT(1u << 20);
    struct atd_str subject = atd_str_from(doomed->subject);
    struct atd_str leaf = atd_str_from(doomed->leaf);
    const struct staged_place place = {.directory = NODE_DATASET, .subject = subject, .leaf = leaf};
    struct staged *staged = staging_find(publishing->fs->staging, &place);

    if (staged) {
        staged_unref(publishing->fs->staging, staged);
        return false;
    }
    if (staging_hidden_url(publishing->fs->staging, subject, leaf, &url) &&
        atd_str_equal(atd_buf_str(&url), atd_str_from(doomed->url)))
        index_edit_remove_shard(publishing->fs, subject, leaf, atd_str_from(doomed->url),
                                doomed->is_marked);
    return true;
}

static void delete_or_wait(struct publishing *publishing, struct doomed *doomed)
{
    if (delete_doomed(publishing, doomed)) {
        free_doomed(doomed);
        return;
    }
    doomed->due_ms = atd_clock_monotonic_ms() + STAGED_GRACE_MS;
    atd_lock_take(&publishing->lock);
    append_locked(publishing, doomed);
    atd_lock_give(&publishing->lock);
}

/* ------------------------------------------------------------------ the end of waiting */

static int run_last(struct atd_publisher_edit *edit, struct atd_editor *editor,
                    struct atd_error *err)
{
    (void)edit;
    (void)editor;
    (void)err;
    return 0;
}

static void done_last(struct atd_publisher_edit *edit, const struct atd_error *why)
{
    struct publishing *publishing =
        (struct publishing *)(void *)((char *)edit - offsetof(struct publishing, last));

    (void)why;
    atd_lock_take(&publishing->lock);
    publishing->is_last_done = true;
    (void)pthread_cond_signal(&publishing->wake);
    atd_lock_give(&publishing->lock);
}

static struct doomed *take_doomed(struct publishing *publishing)
{
    struct doomed *doomed;

    atd_lock_take(&publishing->lock);
    doomed = publishing->doomed;
    if (doomed)
        publishing->doomed = doomed->next;
    atd_lock_give(&publishing->lock);
    return doomed;
}

/* What was unlinked must not be back at the next mount. The thread has ended. */
static void delete_all_now(struct publishing *publishing)
{
    struct doomed *doomed;
    int64_t until_ms = atd_clock_monotonic_ms() + STOP_MS;
    int64_t left_ms = STOP_MS;

    doomed = take_doomed(publishing);
    if (!doomed)
        return;
    for (; doomed; doomed = take_doomed(publishing)) {
        (void)delete_doomed(publishing, doomed);
        free_doomed(doomed);
    }
    /* Edits are done in order. */
    publishing->last =
        (struct atd_publisher_edit){.run = run_last, .done = done_last, .only_reads = true};
    if (atd_publisher_edit(publishing->parts.publisher, &publishing->last, NULL) != 0)
        return;
    atd_lock_take(&publishing->lock);
    while (!publishing->is_last_done && left_ms > 0) {
        atd_cond_wait_ms(&publishing->wake, &publishing->lock, (unsigned)left_ms);
        left_ms = until_ms - atd_clock_monotonic_ms();
    }
    if (!publishing->is_last_done)
        atd_log(ATD_LOG_WARNING, "the index does not answer: shards that were deleted just now "
                                 "may show again");
    atd_lock_give(&publishing->lock);
}

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

/* The first whose time has come; one that is being marked just now waits once more. */
static struct doomed *take_due_locked(struct publishing *publishing, int64_t now_ms)
{
    struct doomed *doomed;

    while ((doomed = publishing->doomed) && doomed->due_ms <= now_ms) {
        publishing->doomed = doomed->next;
        if (doomed->is_marked || !publishing->is_marking)
            return doomed;
        doomed->due_ms = now_ms + STAGED_GRACE_MS;
        append_locked(publishing, doomed);
    }
    return NULL;
}

static void *tidy(void *ctx)
{
    struct publishing *publishing = ctx;
    int64_t staging_at_ms = atd_clock_monotonic_ms() + SWEEP_MS;

    atd_lock_take(&publishing->lock);
    while (!publishing->stopping) {
        int64_t now_ms = atd_clock_monotonic_ms();
        struct doomed *doomed = take_due_locked(publishing, now_ms);
        bool sweeps = take_sweep_locked(publishing, now_ms);
        int64_t next_ms = staging_at_ms;

        if (publishing->doomed && publishing->doomed->due_ms < next_ms)
            next_ms = publishing->doomed->due_ms;
        if (!publishing->is_sweeping && publishing->sweep_at_ms < next_ms)
            next_ms = publishing->sweep_at_ms;
        if (!doomed && !sweeps && now_ms < staging_at_ms) {
            atd_cond_wait_ms(&publishing->wake, &publishing->lock, (unsigned)(next_ms - now_ms));
            continue;
        }
        atd_lock_give(&publishing->lock);
        if (doomed)
            delete_or_wait(publishing, doomed);
        if (sweeps &&
            atd_publisher_edit(publishing->parts.publisher, &publishing->sweep, NULL) != 0)
            done_sweep(&publishing->sweep, NULL);
        if (now_ms >= staging_at_ms) {
            staging_sweep(publishing->fs->staging);
            staging_at_ms = now_ms + SWEEP_MS;
        }
        atd_lock_take(&publishing->lock);
    }
    atd_lock_give(&publishing->lock);
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
    publishing->mark.run = run_mark;
    publishing->mark.done = done_mark;
    publishing->mark.only_reads = true; /* nobody waits for it to show */
    publishing->sweep.run = run_sweep;
    /* Nor for what the sweep deletes. Were the index loaded after each sweep, that would make for
     * the next one. */
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
    delete_all_now(publishing);
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
    while (publishing->doomed) {
        struct doomed *doomed = publishing->doomed;

        publishing->doomed = doomed->next;
        free_doomed(doomed);
    }
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

static void put_text(struct atd_json_writer *json, const char *key, const char *text)
{
    atd_json_key(json, key);
    atd_json_text(json, text);
}

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
    put_text(json, "state", why.code ? "off" : "ready");
    if (why.code)
        put_text(json, "reason", why.text);
    if (publishing && publishing->parts.prefix_url)
        put_text(json, "store", publishing->parts.prefix_url);
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

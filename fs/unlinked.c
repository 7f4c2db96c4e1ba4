#include "unlinked.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "publish/editor.h"
#include "publish/publisher.h"
#include "staging.h"
#include "target.h"
#include "verdict.h"

/* What is marked in one change: each costs a copy of the dataset's metadata. */
#define MARKED_AT_ONCE_MAX 256u
#define MARKED_URLS_MAX (64u << 20)
#define URL_BYTES_MAX (1u << 20)
/* Between tries at an index that cannot be written; doubled with each, from the grace on. */
#define PAUSE_MAX_MS 60000

struct doomed {
    struct atd_publisher_edit edit; /* first; while it is LEAVING */
    struct unlinked *unlinked;
    struct doomed *next;
    int64_t due_ms;
    uint64_t batch; /* that it is, or was, marked in; 0: none yet */
    bool is_marked; /* in the index, so that whoever publishes it again can be seen */
    unsigned tries; /* that the index could not take */
    char *subject;
    char *leaf;
    char *url;
};

struct unlinked {
    struct fs *fs;
    void (*wake)(void *ctx);
    void *ctx;
    struct atd_publisher_edit mark;
    struct atd_publisher_edit last; /* after the deletions that the end hurries */

    struct atd_lock lock;
    pthread_cond_t ended;
    /* guarded by lock */
    struct doomed *first; /* in the order of their time, but for those that wait longer */
    unsigned leaving;     /* that are being deleted */
    bool is_ending;
    bool is_last_done;
    bool is_marking;
    uint64_t batches; /* of doomed ones, ever taken */
};

static void free_doomed(struct doomed *doomed)
{
    if (!doomed)
        return;
    free(doomed->subject);
    free(doomed->leaf);
    free(doomed->url);
    free(doomed);
}

static void append_locked(struct unlinked *unlinked, struct doomed *doomed)
{
    struct doomed **end = &unlinked->first;

    while (*end)
        end = &(*end)->next;
    doomed->next = NULL;
    *end = doomed;
}

static struct staged_place place_of(const struct doomed *doomed)
{
    return (struct staged_place){.directory = NODE_DATASET,
                                 .subject = atd_str_from(doomed->subject),
                                 .leaf = atd_str_from(doomed->leaf)};
}

/* ------------------------------------------------------------------ marks in the index */

static void end_marking(struct unlinked *unlinked)
{
    atd_lock_take(&unlinked->lock);
    unlinked->is_marking = false;
    atd_lock_give(&unlinked->lock);
}

/* The next ones of one dataset: its file name, and their URLs, each with a NUL behind; 0: none. */
static size_t take_batch(struct unlinked *unlinked, struct atd_buf *subject, struct atd_buf *urls)
{
    size_t count = 0;

    atd_buf_clear(subject);
    atd_buf_clear(urls);
    atd_lock_take(&unlinked->lock);
    unlinked->batches++;
    for (struct doomed *at = unlinked->first; at && count < MARKED_AT_ONCE_MAX; at = at->next) {
        if (at->batch || (count && !atd_str_equal(atd_buf_str(subject), atd_str_from(at->subject))))
            continue;
        if (count++ == 0)
            atd_buf_append_text(subject, at->subject);
        atd_buf_append(urls, at->url, strlen(at->url) + 1);
        at->batch = unlinked->batches;
    }
    unlinked->is_marking = count > 0;
    atd_lock_give(&unlinked->lock);
    return count;
}

static void note_marked(struct unlinked *unlinked)
{
    atd_lock_take(&unlinked->lock);
    for (struct doomed *at = unlinked->first; at; at = at->next)
        at->is_marked = at->is_marked || at->batch == unlinked->batches;
    atd_lock_give(&unlinked->lock);
}

static struct unlinked *of_mark(struct atd_publisher_edit *edit)
{
    return (struct unlinked *)(void *)((char *)edit - offsetof(struct unlinked, mark));
}

static int run_mark(struct atd_publisher_edit *edit, struct atd_editor *editor,
                    struct atd_error *err)
{
    struct unlinked *unlinked = of_mark(edit);
    atd_auto_buf struct atd_buf subject = ATD_BUF_INIT(ATD_NAME_BYTES_MAX);
    atd_auto_buf struct atd_buf texts = ATD_BUF_INIT(MARKED_URLS_MAX);
    struct atd_str urls[MARKED_AT_ONCE_MAX];
    size_t count;
    int rc = 0;

    while (rc == 0 && (count = take_batch(unlinked, &subject, &texts)) > 0) {
        atd_auto_buf struct atd_buf name = ATD_BUF_INIT(ATD_NAME_BYTES_MAX);
        const char *at = (const char *)texts.ptr;

        rc = atd_buf_finish(&texts, "the URLs of unlinked shards", err);
        for (size_t i = 0; rc == 0 && i < count; i++) {
            urls[i] = atd_str_from(at);
            at += urls[i].len + 1;
        }
        if (rc == 0)
            rc = target_dataset_name(unlinked->fs, atd_buf_str(&subject), &name, err);
        if (rc == 0)
            rc = atd_edit_mark_leaving(editor, atd_buf_str(&name), urls, count, err);
        if (rc == 0)
            note_marked(unlinked);
    }
    return rc;
}

static void done_mark(struct atd_publisher_edit *edit, const struct atd_error *why)
{
    if (!why)
        return; /* the last look, that found nothing to mark, has ended it */
    atd_log(ATD_LOG_DEBUG, "unlinked shards are not marked: %s", why->text);
    end_marking(of_mark(edit));
}

void unlinked_marked_urls(struct unlinked *unlinked, struct atd_str subject, struct atd_buf *out)
{
    atd_lock_take(&unlinked->lock);
    for (const struct doomed *at = unlinked->first; at; at = at->next) {
        if (at->is_marked && atd_str_equal(atd_str_from(at->subject), subject))
            atd_buf_append(out, at->url, strlen(at->url) + 1);
    }
    atd_lock_give(&unlinked->lock);
}

/* ------------------------------------------------------------------ HIDDEN */

int unlinked_add(struct unlinked *unlinked, struct atd_str subject, struct atd_str leaf,
                 struct atd_str url, struct atd_error *err)
{
    struct doomed *doomed = calloc(1, sizeof(*doomed));
    bool marks;
    int rc;

    if (doomed) {
        doomed->unlinked = unlinked;
        doomed->subject = strndup(subject.ptr, subject.len);
        doomed->leaf = strndup(leaf.ptr, leaf.len);
        doomed->url = strndup(url.ptr, url.len);
        doomed->due_ms = atd_clock_monotonic_ms() + STAGED_GRACE_MS;
    }
    if (!doomed || !doomed->subject || !doomed->leaf || !doomed->url) {
        free_doomed(doomed);
        return atd_error_set(err, ENOMEM, "out of memory");
    }
    rc = staging_hide(unlinked->fs->staging, subject, leaf, url, err);
    if (rc) {
        free_doomed(doomed);
        return rc;
    }
    atd_lock_take(&unlinked->lock);
    append_locked(unlinked, doomed);
    marks = !unlinked->is_marking;
    unlinked->is_marking = true;
    atd_lock_give(&unlinked->lock);
    unlinked->wake(unlinked->ctx);
    if (marks && atd_publisher_edit(unlinked->fs->publisher, &unlinked->mark, NULL) != 0)
        end_marking(unlinked);
    return 0;
}

/* Puts it back for a while. False: it is the end, and the doomed one still the caller's. */
static bool wait_longer(struct unlinked *unlinked, struct doomed *doomed, int64_t pause_ms)
{
    bool is_ending;

    atd_lock_take(&unlinked->lock);
    is_ending = unlinked->is_ending;
    doomed->due_ms = atd_clock_monotonic_ms() + pause_ms;
    if (!is_ending)
        append_locked(unlinked, doomed);
    atd_lock_give(&unlinked->lock);
    if (!is_ending)
        unlinked->wake(unlinked->ctx);
    return !is_ending;
}

/* ------------------------------------------------------------------ LEAVING */

static int run_delete(struct atd_publisher_edit *edit, struct atd_editor *editor,
                      struct atd_error *err)
{
    const struct doomed *doomed = (const struct doomed *)(const void *)edit;
    atd_auto_buf struct atd_buf name = ATD_BUF_INIT(ATD_NAME_BYTES_MAX);
    struct atd_str url = atd_str_from(doomed->url);
    int rc = target_dataset_name(doomed->unlinked->fs, atd_str_from(doomed->subject), &name, err);

    if (rc)
        return rc;
    return doomed->is_marked ? atd_edit_remove_leaving(editor, atd_buf_str(&name), &url, 1, err)
                             : atd_edit_remove_shards(editor, atd_buf_str(&name), &url, 1, err);
}

static void tell(const struct doomed *doomed, const struct atd_error *why, const char *what_now)
{
    struct fs *fs = doomed->unlinked->fs;
    struct staged_place place = place_of(doomed);
    struct atd_error shown = ATD_ERROR_INIT;
    char path[TARGET_PATH_MAX];
    char what[TARGET_PATH_MAX + 16];

    target_path(&place, path);
    (void)snprintf(what, sizeof(what), "delete %s", path);
    (void)atd_error_set(&shown, verdict_errno(why), "%.500s%s", why->text, what_now);
    events_note(fs->events, what, &shown);
}

/* Where the index could not be written, or nobody knows whether it was, it is tried until it can:
 * whoever unlinked it was told that it is gone. */
static bool tries_again(struct doomed *doomed, const struct atd_error *why)
{
    struct unlinked *unlinked = doomed->unlinked;
    int64_t pause_ms = STAGED_GRACE_MS;

    if (!why->retryable && why->code != EREMOTEIO)
        return false;
    for (unsigned i = 0; i < doomed->tries && pause_ms < PAUSE_MAX_MS; i++)
        pause_ms *= 2;
    if (doomed->tries++ == 0)
        tell(doomed, why, ": it stays hidden and is deleted as soon as that can be done");
    return wait_longer(unlinked, doomed, pause_ms < PAUSE_MAX_MS ? pause_ms : PAUSE_MAX_MS);
}

static void count_leaving(struct unlinked *unlinked, int more)
{
    atd_lock_take(&unlinked->lock);
    unlinked->leaving += (unsigned)more;
    atd_lock_give(&unlinked->lock);
}

/* Deleted or not: what is in the index shows again. */
static void done_delete(struct atd_publisher_edit *edit, const struct atd_error *why)
{
    struct doomed *doomed = (struct doomed *)(void *)edit;
    struct fs *fs = doomed->unlinked->fs;
    struct staged_place place = place_of(doomed);

    count_leaving(doomed->unlinked, -1);
    if (why && tries_again(doomed, why))
        return;
    (void)staging_unhide(fs->staging, place.subject, place.leaf);
    notify_place(fs, &place);
    if (why)
        tell(doomed, why, "");
    free_doomed(doomed);
}

/* A file of the same name may have come meanwhile: when it is published it takes its place, when it
 * is refused the old one shows again, when it is unlinked both are gone. */
static bool is_awaited(const struct doomed *doomed)
{
    struct staging *staging = doomed->unlinked->fs->staging;
    const struct staged_place place = place_of(doomed);
    struct staged *staged = staging_find(staging, &place);

    if (staged)
        staged_unref(staging, staged);
    return staged != NULL;
}

static bool is_hidden(const struct doomed *doomed)
{
    atd_auto_buf struct atd_buf url = ATD_BUF_INIT(URL_BYTES_MAX);

    return staging_hidden_url(doomed->unlinked->fs->staging, atd_str_from(doomed->subject),
                              atd_str_from(doomed->leaf), &url) &&
           atd_str_equal(atd_buf_str(&url), atd_str_from(doomed->url));
}

/* Takes it. */
static void begin_delete(struct doomed *doomed)
{
    struct fs *fs = doomed->unlinked->fs;
    struct atd_error why = ATD_ERROR_INIT;

    if (!is_hidden(doomed)) {
        free_doomed(doomed); /* somebody has seen to it: a new shard of its name, an rmdir */
        return;
    }
    doomed->edit = (struct atd_publisher_edit){.run = run_delete, .done = done_delete};
    count_leaving(doomed->unlinked, 1);
    if (atd_publisher_edit(fs->publisher, &doomed->edit, &why) != 0)
        done_delete(&doomed->edit, &why);
}

/* The first whose time has come; one that is being marked just now waits once more. */
static struct doomed *take_due_locked(struct unlinked *unlinked, int64_t now_ms)
{
    struct doomed **at = &unlinked->first;

    while (*at) {
        struct doomed *doomed = *at;

        if (doomed->due_ms > now_ms) {
            at = &doomed->next;
        } else if (!doomed->is_marked && unlinked->is_marking) {
            doomed->due_ms = now_ms + STAGED_GRACE_MS;
            at = &doomed->next;
        } else {
            *at = doomed->next;
            return doomed;
        }
    }
    return NULL;
}

int64_t unlinked_delete_due(struct unlinked *unlinked)
{
    int64_t next_ms = INT64_MAX;

    for (;;) {
        struct doomed *doomed;

        atd_lock_take(&unlinked->lock);
        doomed = take_due_locked(unlinked, atd_clock_monotonic_ms());
        for (const struct doomed *at = unlinked->first; !doomed && at; at = at->next)
            next_ms = at->due_ms < next_ms ? at->due_ms : next_ms;
        atd_lock_give(&unlinked->lock);
        if (!doomed)
            return next_ms;
        if (!is_awaited(doomed))
            begin_delete(doomed);
        else if (!wait_longer(unlinked, doomed, STAGED_GRACE_MS))
            free_doomed(doomed);
    }
}

/* ------------------------------------------------------------------ the end */

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
    struct unlinked *unlinked =
        (struct unlinked *)(void *)((char *)edit - offsetof(struct unlinked, last));

    (void)why;
    atd_lock_take(&unlinked->lock);
    unlinked->is_last_done = true;
    (void)pthread_cond_signal(&unlinked->ended);
    atd_lock_give(&unlinked->lock);
}

/* What was unlinked must not be back at the next mount. */
void unlinked_delete_all(struct unlinked *unlinked, unsigned timeout_ms)
{
    int64_t until_ms = atd_clock_monotonic_ms() + timeout_ms;
    struct doomed *doomed;
    int64_t left_ms = timeout_ms;
    bool is_leaving;

    atd_lock_take(&unlinked->lock);
    unlinked->is_ending = true;
    doomed = unlinked->first;
    unlinked->first = NULL;
    is_leaving = unlinked->leaving > 0;
    atd_lock_give(&unlinked->lock);
    if (!doomed && !is_leaving)
        return;
    while (doomed) {
        struct doomed *next = doomed->next;

        if (is_awaited(doomed))
            free_doomed(doomed);
        else
            begin_delete(doomed);
        doomed = next;
    }
    /* Edits are done in order. */
    unlinked->last =
        (struct atd_publisher_edit){.run = run_last, .done = done_last, .only_reads = true};
    if (atd_publisher_edit(unlinked->fs->publisher, &unlinked->last, NULL) != 0)
        return;
    atd_lock_take(&unlinked->lock);
    while (!unlinked->is_last_done && left_ms > 0) {
        atd_cond_wait_ms(&unlinked->ended, &unlinked->lock, (unsigned)left_ms);
        left_ms = until_ms - atd_clock_monotonic_ms();
    }
    if (!unlinked->is_last_done)
        atd_log(ATD_LOG_WARNING, "the index does not answer: shards that were deleted just now "
                                 "may show again");
    atd_lock_give(&unlinked->lock);
}

struct unlinked *unlinked_new(struct fs *fs, void (*wake)(void *ctx), void *ctx)
{
    struct unlinked *unlinked = calloc(1, sizeof(*unlinked));

    if (!unlinked)
        return NULL;
    unlinked->fs = fs;
    unlinked->wake = wake;
    unlinked->ctx = ctx;
    unlinked->mark.run = run_mark;
    unlinked->mark.done = done_mark;
    unlinked->mark.only_reads = true; /* nobody waits for it to show */
    atd_lock_init(&unlinked->lock, ATD_RANK_UNLINKED);
    atd_cond_init(&unlinked->ended);
    return unlinked;
}

void unlinked_free(struct unlinked *unlinked)
{
    struct doomed *doomed = unlinked ? unlinked->first : NULL;

    if (!unlinked)
        return;
    while (doomed) {
        struct doomed *next = doomed->next;

        free_doomed(doomed);
        doomed = next;
    }
    (void)pthread_cond_destroy(&unlinked->ended);
    atd_lock_destroy(&unlinked->lock);
    free(unlinked);
}

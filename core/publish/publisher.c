#include "publish/publisher.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "publish/publication_private.h"

#define TIMEOUT_S_DEFAULT 60u
#define JOIN_MS_MIN 1000u

/* ------------------------------------------------------------------ open and close */

static char *copy_text(const char *text)
{
    return strdup(text ? text : "");
}

static int copy_options(struct atd_publisher *publisher,
                        const struct atd_publisher_options *options, struct atd_error *err)
{
    struct atd_publisher_options *own = &publisher->options;

    *own = *options;
    own->no_store_reason = copy_text(options->no_store_reason);
    own->prefix_url = copy_text(options->prefix_url);
    own->scope = copy_text(options->scope);
    own->state_dir = copy_text(options->state_dir);
    if (!own->no_store_reason || !own->prefix_url || !own->scope || !own->state_dir)
        return atd_error_set(err, ENOMEM, "cannot set up publishing: out of memory");
    publisher->is_disk = own->prefix_url[0] == '/';
    publisher->timeout_ms = (own->timeout_s ? own->timeout_s : TIMEOUT_S_DEFAULT) * 1000u;
    publisher->recover_every_ms =
        own->recover_every_ms ? own->recover_every_ms : ATD_RECOVER_EVERY_MS;
    return 0;
}

static void free_publisher(struct atd_publisher *publisher)
{
    struct atd_publisher_options *own = &publisher->options;

    atd_publisher_free_left(publisher);
    atd_publisher_free_names(publisher);
    atd_journal_close(publisher->journal);
    atd_editor_free(publisher->editor);
    (void)pthread_cond_destroy(&publisher->idle);
    (void)pthread_cond_destroy(&publisher->edit_wake);
    (void)pthread_cond_destroy(&publisher->answer_wake);
    (void)pthread_cond_destroy(&publisher->recover_wake);
    atd_lock_destroy(&publisher->lock);
    /* The casts: these are our copies. */
    free((void *)(uintptr_t)own->no_store_reason);
    free((void *)(uintptr_t)own->prefix_url);
    free((void *)(uintptr_t)own->scope);
    free((void *)(uintptr_t)own->state_dir);
    free(publisher);
}

static int start_threads(struct atd_publisher *publisher, struct atd_error *err)
{
    static void *(*const bodies[])(void *) = {
        atd_publisher_commit_thread, atd_publisher_answer_thread, atd_publisher_recover_thread};
    static const char *const names[] = {"atd-commit", "atd-answer", "atd-recover"};
    unsigned long *threads[] = {&publisher->commit_thread, &publisher->answer_thread,
                                &publisher->recover_thread};
    int rc = atd_workers_start("atd-pump", ATD_PUBLISH_PUMPS, &publisher->pump, err);

    if (rc == 0)
        rc = atd_workers_start("atd-send", ATD_PUBLISH_SENDERS, &publisher->send, err);
    while (rc == 0 && publisher->started < ATD_ARRAY_LEN(bodies)) {
        unsigned i = publisher->started;

        rc = atd_thread_start(names[i], bodies[i], publisher, threads[i], err);
        if (rc == 0)
            publisher->started++;
    }
    return rc;
}

int atd_publisher_open(const struct atd_publisher_options *options,
                       struct atd_publisher **ret_publisher, struct atd_error *err)
{
    struct atd_publisher *publisher = calloc(1, sizeof(*publisher));
    struct atd_editor_options edits = {.writer = options->writer,
                                       .live = options->live,
                                       .universal = options->universal,
                                       .patience_ms = options->edit_patience_ms};
    int rc;

    if (!publisher)
        return atd_error_set(err, ENOMEM, "cannot set up publishing: out of memory");
    atd_lock_init(&publisher->lock, ATD_RANK_PUBLISHER);
    atd_cond_init(&publisher->idle);
    atd_cond_init(&publisher->edit_wake);
    atd_cond_init(&publisher->answer_wake);
    atd_cond_init(&publisher->recover_wake);
    rc = copy_options(publisher, options, err);
    if (rc == 0)
        rc = atd_journal_open(publisher->options.state_dir, publisher->options.scope,
                              &publisher->journal, err);
    if (rc == 0)
        rc = atd_editor_new(&edits, &publisher->editor, err);
    if (rc == 0)
        rc = start_threads(publisher, err);
    if (rc)
        (void)atd_publisher_close(publisher, JOIN_MS_MIN);
    else
        *ret_publisher = publisher;
    return rc;
}

bool atd_publisher_end(struct atd_publisher *publisher, unsigned timeout_ms)
{
    int64_t until = atd_clock_monotonic_ms() + timeout_ms;
    int64_t left = timeout_ms;
    bool ended;

    atomic_store(&publisher->closing, true);
    atd_lock_take(&publisher->lock);
    for (struct atd_publication *at = publisher->publications; at; at = at->next)
        atd_publication_kick(at);
    while (publisher->publication_count > 0 && left > 0) {
        atd_cond_wait_ms(&publisher->idle, &publisher->lock, (unsigned)left);
        left = until - atd_clock_monotonic_ms();
    }
    ended = publisher->publication_count == 0;
    atd_lock_give(&publisher->lock);
    return ended;
}

bool atd_publisher_close(struct atd_publisher *publisher, unsigned timeout_ms)
{
    unsigned long threads[3];
    unsigned join_ms = timeout_ms > JOIN_MS_MIN ? timeout_ms : JOIN_MS_MIN;

    if (!publisher)
        return true;
    if (!atd_publisher_end(publisher, timeout_ms))
        return false;
    atd_publisher_end_edits(publisher);
    threads[0] = publisher->commit_thread;
    threads[1] = publisher->answer_thread;
    threads[2] = publisher->recover_thread;
    for (unsigned i = 0; i < publisher->started; i++) {
        if (!atd_thread_join(threads[i], join_ms))
            return false;
    }
    if (!atd_workers_stop(publisher->pump, join_ms) || !atd_workers_stop(publisher->send, join_ms))
        return false;
    free_publisher(publisher);
    return true;
}

/* ------------------------------------------------------------------ what is known */

/* Errors that say something of the server, not of what was asked of it. */
static bool is_of_the_server(int rc)
{
    switch (-rc) {
    case 0:
    case EEXIST:
    case ENOENT:
    case EINVAL:
    case ESTALE:
    case EAGAIN:
    case ENOTEMPTY:
    case E2BIG:
    case EFBIG:
    case ENOMEM:
    case EBUSY:
    case ECANCELED:
    case EXDEV:
    case ENOTSUP:
        return false;
    default:
        return true;
    }
}

static void note(struct atd_publisher *publisher, struct atd_contact *contact, int rc,
                 const struct atd_error *why)
{
    if (rc && !is_of_the_server(rc))
        return;
    atd_lock_take(&publisher->lock);
    contact->failed_ms = rc ? atd_clock_monotonic_ms() : 0;
    if (rc && why)
        contact->why = *why;
    atd_lock_give(&publisher->lock);
}

void atd_publisher_note_index(struct atd_publisher *publisher, int rc, const struct atd_error *why)
{
    note(publisher, &publisher->index, rc, why);
}

void atd_publisher_note_store(struct atd_publisher *publisher, int rc, const struct atd_error *why)
{
    note(publisher, &publisher->store, rc, why);
}

static int not_now(struct atd_error *err, const char *what, const char *why)
{
    return atd_error_set_retryable(err, EROFS, "nothing can be published now: %s: %.400s", what,
                                   why);
}

/* `worked_ms`: a failure before that is over. */
static int check_contact(struct atd_publisher *publisher, const struct atd_contact *contact,
                         int64_t worked_ms, const char *what, struct atd_error *err)
{
    int64_t since = atd_clock_monotonic_ms() - ATD_PUBLISH_FAILED_MS;
    struct atd_contact now;

    atd_lock_take(&publisher->lock);
    now = *contact;
    atd_lock_give(&publisher->lock);
    if (now.failed_ms <= since || now.failed_ms <= worked_ms)
        return 0;
    return not_now(err, what, now.why.text);
}

int atd_publisher_can_edit(struct atd_publisher *publisher, struct atd_error *err)
{
    struct atd_live_status live;

    atd_live_status(publisher->options.live, &live);
    return live.stale ? not_now(err, "the index", live.error) : 0;
}

int atd_publisher_ready(struct atd_publisher *publisher, struct atd_error *err)
{
    struct atd_live_status live;
    int rc;

    if (!publisher->options.store)
        return atd_error_set(err, EROFS, "%s", publisher->options.no_store_reason);
    atd_live_status(publisher->options.live, &live);
    /* A commit reads what it changes afresh, however old the view is. */
    if (live.stale && !live.catching_up)
        return not_now(err, "the index", live.error);
    rc = check_contact(publisher, &publisher->index, live.live_since_ms, "the index", err);
    return rc ? rc : check_contact(publisher, &publisher->store, 0, "the store", err);
}

void atd_publisher_count(struct atd_publisher *publisher, uint64_t *counter, uint64_t more)
{
    atd_lock_take(&publisher->lock);
    *counter += more;
    atd_lock_give(&publisher->lock);
}

void atd_publisher_tell(struct atd_publisher *publisher, const char *what, struct atd_str dataset,
                        struct atd_str file_name, struct atd_str url, struct atd_str cid,
                        const struct atd_error *why)
{
    const struct atd_publisher_options *options = &publisher->options;

    if (options->event)
        options->event(options->event_ctx, what, dataset, file_name, url, cid, why);
}

void atd_publisher_stats(struct atd_publisher *publisher, struct atd_publisher_stats *ret_stats)
{
    atd_lock_take(&publisher->lock);
    *ret_stats = publisher->stats;
    atd_lock_give(&publisher->lock);
    atd_editor_counts(publisher->editor, &ret_stats->commits, &ret_stats->conflicts);
}

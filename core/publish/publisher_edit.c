#include <errno.h>

#include "base/check.h"
#include "base/clock.h"
#include "publish/publisher_private.h"

/*
 * An edit's way:
 *
 *     queued --commit thread runs it--> failed, or only read --> done, on that thread
 *                                   \-> changed --answer thread sees a catalog with it--> done
 */

/* The first sweep, and one after each change: by then the catalog shows what there is to sweep. */
#define SWEEP_SOON_MS 5000
#define SWEEP_FAILED_MS 60000
#define SWEEP_IDLE_MS 600000
/* One round of answers waits no longer for its catalog when the publisher closes. */
#define SHOW_CLOSING_MS 200u

static void queue(struct atd_publisher_edit **first, struct atd_publisher_edit **last,
                  struct atd_publisher_edit *edit)
{
    edit->next = NULL;
    if (*last)
        (*last)->next = edit;
    else
        *first = edit;
    *last = edit;
}

static int queue_edit(struct atd_publisher *publisher, struct atd_publisher_edit *edit,
                      unsigned limit, struct atd_error *err)
{
    bool full;

    atd_lock_take(&publisher->lock);
    full = publisher->stopping || publisher->edit_count >= limit;
    if (!full) {
        queue(&publisher->first_edit, &publisher->last_edit, edit);
        publisher->edit_count++;
        (void)pthread_cond_signal(&publisher->edit_wake);
    }
    atd_lock_give(&publisher->lock);
    return full ? atd_error_set_retryable(err, EBUSY, "too many changes wait for the index") : 0;
}

int atd_publisher_edit(struct atd_publisher *publisher, struct atd_publisher_edit *edit,
                       struct atd_error *err)
{
    return queue_edit(publisher, edit, ATD_EDITS_MAX, err);
}

void atd_publisher_edit_own(struct atd_publisher *publisher, struct atd_publisher_edit *edit)
{
    int rc = queue_edit(publisher, edit, UINT32_MAX, NULL);

    atd_assert(rc == 0); /* publications and the recovery end before the threads */
}

void atd_publisher_end_edits(struct atd_publisher *publisher)
{
    atd_lock_take(&publisher->lock);
    publisher->stopping = true;
    (void)pthread_cond_broadcast(&publisher->edit_wake);
    (void)pthread_cond_broadcast(&publisher->recover_wake);
    if (publisher->started < 1)
        publisher->no_more_answers = true;
    (void)pthread_cond_broadcast(&publisher->answer_wake);
    atd_lock_give(&publisher->lock);
}

/* ------------------------------------------------------------------ the commit thread */

static void run_edit(struct atd_publisher *publisher, struct atd_publisher_edit *edit)
{
    int rc;

    edit->why = (struct atd_error)ATD_ERROR_INIT;
    if (atomic_load(&publisher->closing)) {
        (void)atd_error_set(&edit->why, ECANCELED, "the mount is ending");
        edit->done(edit, &edit->why);
        return;
    }
    rc = edit->run(edit, publisher->editor, &edit->why);
    if (rc || !edit->only_reads) /* who may read may not write */
        atd_publisher_note_index(publisher, rc, &edit->why);
    if (rc || edit->only_reads) {
        edit->done(edit, rc ? &edit->why : NULL);
        return;
    }
    edit->load = atd_live_request(publisher->options.live);
    atd_lock_take(&publisher->lock);
    queue(&publisher->first_answer, &publisher->last_answer, edit);
    (void)pthread_cond_signal(&publisher->answer_wake);
    atd_lock_give(&publisher->lock);
}

/* When to sweep again. */
static int64_t sweep(struct atd_publisher *publisher)
{
    struct atd_error err = ATD_ERROR_INIT;
    int64_t next_s = -1;
    int rc = atd_edit_sweep(publisher->editor, &next_s, &err);

    if (rc) {
        atd_publisher_note_index(publisher, rc, &err);
        return atd_clock_monotonic_ms() + SWEEP_FAILED_MS;
    }
    if (next_s < 0)
        return atd_clock_monotonic_ms() + SWEEP_IDLE_MS;
    return atd_clock_monotonic_ms() + (next_s > 0 ? next_s * 1000 : 1000);
}

static void note_lost(void *ctx, struct atd_str name, struct atd_str file_name, struct atd_str url,
                      const struct atd_error *why)
{
    struct atd_publisher *publisher = ctx;

    if (!why)
        atd_publisher_count(publisher, &publisher->stats.put_back, 1);
    if (publisher->options.lost)
        publisher->options.lost(publisher->options.lost_ctx, name, file_name, url, why);
}

/* When to look again. */
static int64_t recheck(struct atd_publisher *publisher)
{
    struct atd_error err = ATD_ERROR_INIT;
    int64_t next_ms = -1;
    int rc;

    if (atomic_load(&publisher->closing))
        return INT64_MAX; /* it would only hold up the end */
    rc = atd_edit_recheck(publisher->editor, note_lost, publisher, &next_ms, &err);

    if (rc || next_ms >= 0) /* else nobody was asked */
        atd_publisher_note_index(publisher, rc, &err);
    return next_ms < 0 ? INT64_MAX : atd_clock_monotonic_ms() + next_ms;
}

/* The next edit; NULL when `until_ms` has come, or all is over (*ret_over). */
static struct atd_publisher_edit *take_edit(struct atd_publisher *publisher, int64_t until_ms,
                                            bool *ret_over)
{
    struct atd_publisher_edit *edit;
    int64_t left = until_ms - atd_clock_monotonic_ms();

    atd_lock_take(&publisher->lock);
    while (!publisher->first_edit && !publisher->stopping && left > 0) {
        atd_cond_wait_ms(&publisher->edit_wake, &publisher->lock, (unsigned)left);
        left = until_ms - atd_clock_monotonic_ms();
    }
    edit = publisher->first_edit;
    if (edit) {
        publisher->first_edit = edit->next;
        if (!publisher->first_edit)
            publisher->last_edit = NULL;
        publisher->edit_count--;
    }
    *ret_over = !edit && publisher->stopping;
    atd_lock_give(&publisher->lock);
    return edit;
}

void *atd_publisher_commit_thread(void *ctx)
{
    struct atd_publisher *publisher = ctx;
    int64_t sweep_ms = atd_clock_monotonic_ms() + SWEEP_SOON_MS;
    int64_t recheck_ms = INT64_MAX;

    for (;;) {
        bool over;
        struct atd_publisher_edit *edit =
            take_edit(publisher, recheck_ms < sweep_ms ? recheck_ms : sweep_ms, &over);

        if (over)
            break;
        if (edit) {
            bool changes = !edit->only_reads;
            int64_t soon_ms;

            run_edit(publisher, edit); /* `edit` may be gone now */
            soon_ms = atd_clock_monotonic_ms() + SWEEP_SOON_MS;
            if (changes && soon_ms < sweep_ms)
                sweep_ms = soon_ms;
            if (changes && recheck_ms == INT64_MAX)
                recheck_ms = atd_clock_monotonic_ms() + ATD_EDIT_RECHECK_MS;
        } else if (recheck_ms <= sweep_ms) {
            recheck_ms = recheck(publisher);
        } else {
            sweep_ms = sweep(publisher);
        }
        /* Nor may a stream of edits keep it from looking. */
        if (edit && recheck_ms <= atd_clock_monotonic_ms())
            recheck_ms = recheck(publisher);
    }
    atd_lock_take(&publisher->lock);
    publisher->no_more_answers = true;
    (void)pthread_cond_broadcast(&publisher->answer_wake);
    atd_lock_give(&publisher->lock);
    return NULL;
}

/* ------------------------------------------------------------------ the answer thread */

/* One load answers all that were committed before it was asked for. */
static void answer(struct atd_publisher *publisher, struct atd_publisher_edit *edits)
{
    uint64_t load = 0;

    for (const struct atd_publisher_edit *at = edits; at; at = at->next)
        load = at->load > load ? at->load : load;
    (void)atd_live_await(publisher->options.live, load,
                         atomic_load(&publisher->closing) ? SHOW_CLOSING_MS : ATD_PUBLISH_SHOW_MS);
    while (edits) {
        struct atd_publisher_edit *next = edits->next;

        edits->done(edits, NULL);
        edits = next;
    }
}

void *atd_publisher_answer_thread(void *ctx)
{
    struct atd_publisher *publisher = ctx;

    for (;;) {
        struct atd_publisher_edit *edits;

        atd_lock_take(&publisher->lock);
        while (!publisher->first_answer && !publisher->no_more_answers)
            atd_cond_wait(&publisher->answer_wake, &publisher->lock);
        edits = publisher->first_answer;
        publisher->first_answer = NULL;
        publisher->last_answer = NULL;
        atd_lock_give(&publisher->lock);
        if (!edits)
            return NULL;
        answer(publisher, edits);
    }
}

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "publish/publication_private.h"

/* What a turn found when it began. */
struct requests {
    bool wants_hint;
    bool wants_check;
    bool wants_publish;
    bool is_asked; /* for any of these, or for a publish whose names cannot be taken yet */
    bool cancel;
    bool poison;
    bool heal;
    bool lost; /* a publish whose names there was no memory for */
    struct atd_error why;
};

/* ------------------------------------------------------------------ requests and reports */

static void take_name(char **own, char **asked, bool *ret_differs)
{
    if (!*asked)
        return;
    if (ret_differs && strcmp(*own, *asked) != 0)
        *ret_differs = true;
    free(*own);
    *own = *asked;
    *asked = NULL;
}

static void take_back_edit(struct atd_publication_edit *edit, bool *ret_back)
{
    *ret_back = edit->is_back;
    if (edit->is_back)
        edit->is_out = false;
    edit->is_back = false;
}

struct reports {
    bool step;
    struct atd_part *parts;
    bool look;
    bool commit;
    bool timing;
};

static void take_locked(struct atd_publication *publication, struct requests *now,
                        struct reports *ret_reports)
{
    enum atd_publication_state state = publication->state;
    bool is_busy;

    ret_reports->step = publication->step_back;
    ret_reports->parts = publication->parts_back;
    publication->step_back = false;
    publication->parts_back = NULL;
    take_back_edit(&publication->looking, &ret_reports->look);
    take_back_edit(&publication->committing, &ret_reports->commit);
    take_back_edit(&publication->timing, &ret_reports->timing);

    now->poison = publication->poison;
    now->why = publication->why;
    if (state != ATD_PUBLICATION_REFUSED && state != ATD_PUBLICATION_POISONED)
        publication->heal = false;
    now->heal = publication->heal;
    now->cancel = atd_publication_is_cancelled_locked(publication);
    publication->cancel = false;
    publication->now_change = publication->change;
    publication->now_writers = publication->writers;
    publication->now_leaving =
        publication->users == 0 || atomic_load(&publication->publisher->closing);

    /* Names are changed only while nobody else reads them. */
    is_busy = (publication->step_out && !ret_reports->step) || publication->looking.is_out ||
              publication->committing.is_out || publication->timing.is_out ||
              state == ATD_PUBLICATION_COMMITTING || state == ATD_PUBLICATION_PUBLISHED;
    if (!is_busy) {
        now->lost = publication->asked_lost;
        publication->asked_lost = false;
        take_name(&publication->dataset, &publication->asked_dataset, &publication->named_anew);
        take_name(&publication->file_name, &publication->asked_file_name, &publication->named_anew);
        take_name(&publication->replaces, &publication->asked_replaces, NULL);
    }
    now->wants_hint = publication->hints != NULL;
    now->wants_check = publication->checks != NULL;
    now->wants_publish = publication->publishes != NULL && !publication->asked_dataset;
    now->is_asked = now->wants_hint || now->wants_check || publication->publishes;
}

/* ------------------------------------------------------------------ endings */

static void cancel(struct atd_publication *publication, bool is_news)
{
    struct atd_error why = ATD_ERROR_INIT;

    (void)atd_error_set(&why, ECANCELED, "publishing '%s' was cancelled", publication->file_name);
    atd_publication_refuse(publication, &why, is_news);
}

static void answer_poisoned(struct atd_publication *publication, const struct atd_error *cause)
{
    struct atd_error why = ATD_ERROR_INIT;

    (void)atd_error_set(&why, EIO, "a write failed before: %.400s", cause->text);
    atd_publication_answer(publication, &why);
}

/* What was made of bytes that have changed since is void. */
static void watch_changes(struct atd_publication *publication,
                          const struct atd_spool_progress *progress)
{
    struct atd_sending *sending = &publication->sending;
    bool changed = publication->now_change != publication->check_change;
    bool relies_on_all = sending->is_last || !sending->is_stream;

    if (publication->inspection &&
        (publication->inspected_epoch != progress->epoch ||
         (publication->has_verdict && publication->now_change != publication->verdict_change)))
        atd_check_drop(publication);
    if (sending->state != ATD_SENDING_NONE && !sending->is_void &&
        publication->state < ATD_PUBLICATION_COMMITTING &&
        (sending->epoch != progress->epoch || (relies_on_all && changed) ||
         publication->named_anew)) {
        publication->no_stream = true;
        atd_sending_void(publication);
    }
}

/* ------------------------------------------------------------------ after it */

/* SENT. True: more to do at once. */
static bool run_sent(struct atd_publication *publication, const struct requests *now)
{
    bool started;

    if (publication->now_writers > 0 || publication->now_change != publication->check_change ||
        publication->named_anew) {
        atd_sending_void(publication);
        publication->is_reused = false;
        publication->no_stream = true;
        atd_publication_move(publication, ATD_PUBLICATION_SPOOLING, NULL);
        return true;
    }
    atd_publication_answer_checks(publication, NULL);
    if (!now->wants_publish)
        return false;
    publication->committing.is_out = true; /* an invariant of the state */
    started = atd_publication_move_unchanged(publication, ATD_PUBLICATION_COMMITTING);
    publication->committing.is_out = false;
    if (!started)
        return true;
    atd_lock_take(&publication->lock);
    publication->committed_mtime_ns = publication->mtime_ns;
    atd_lock_give(&publication->lock);
    atd_publication_start_commit(publication);
    return false;
}

static void be_published(struct atd_publication *publication)
{
    struct atd_publisher *publisher = publication->publisher;
    const struct atd_cid *cid = &publication->commit_result.cid;

    if (publication->commit_not_needed)
        atd_sending_void(publication);
    else
        atd_sending_forget(publication);
    atd_lock_take(&publication->lock);
    memcpy(publication->published_url, publication->commit_url, sizeof(publication->commit_url));
    publication->cid = *cid;
    atd_lock_give(&publication->lock);
    atd_publication_move(publication, ATD_PUBLICATION_PUBLISHED, NULL);
    atd_publisher_count(publisher, &publisher->stats.published, 1);
    atd_publisher_tell(publisher, "published", atd_str_from(publication->dataset),
                       atd_str_from(publication->file_name),
                       atd_str_from(publication->published_url), atd_str_from(cid->text), NULL);
    atd_publication_answer(publication, NULL);
}

/* COMMITTING, and the index has answered, or will not. */
static void end_commit(struct atd_publication *publication)
{
    struct atd_error why = publication->committing.why;

    if (publication->committing.rc == 0) {
        be_published(publication);
        return;
    }
    /* What the index may name is not taken back before it is known that it does not. */
    if (publication->commit_unknown && !publication->is_reused) {
        atd_lock_take(&publication->lock);
        publication->is_given_away = publication->publisher->is_disk;
        atd_lock_give(&publication->lock);
        atd_sending_leave(publication);
    }
    atd_publication_refuse(publication, &why, true);
}

/* PUBLISHED: late requests, late times. */
static void run_published(struct atd_publication *publication, bool *ret_settled)
{
    int64_t mtime_ns;

    atd_publication_answer(publication, NULL);
    atd_lock_take(&publication->lock);
    mtime_ns = publication->mtime_ns;
    atd_lock_give(&publication->lock);
    *ret_settled = mtime_ns == publication->committed_mtime_ns ||
                   atomic_load(&publication->publisher->closing);
    if (!*ret_settled && !publication->timing.is_out)
        atd_publication_start_timing(publication, mtime_ns);
}

/* REFUSED or POISONED. */
static void run_spoiled(struct atd_publication *publication, const struct requests *now)
{
    if (now->poison && publication->state == ATD_PUBLICATION_REFUSED)
        atd_publication_move(publication, ATD_PUBLICATION_POISONED, &now->why);
    if (now->heal && !now->poison) {
        atd_lock_take(&publication->lock);
        publication->heal = false;
        atd_lock_give(&publication->lock);
        atd_check_drop(publication);
        publication->look_failed = false;
        atd_publication_move(publication, ATD_PUBLICATION_SPOOLING, NULL);
        atd_publication_kick(publication); /* what was asked since */
    } else if (publication->state == ATD_PUBLICATION_POISONED) {
        answer_poisoned(publication, &now->why);
    } else {
        atd_publication_answer(publication, &now->why);
    }
}

/* ------------------------------------------------------------------ a turn */

/* SPOOLING, CHECKING and SENT, where everything may still come otherwise. True: more at once. */
static bool run_open(struct atd_publication *publication, const struct requests *now,
                     const struct atd_spool_progress *progress)
{
    bool wanted = now->wants_hint || now->wants_check || now->wants_publish;

    if (now->poison) {
        atd_sending_void(publication);
        publication->is_reused = false;
        atd_publication_move(publication, ATD_PUBLICATION_POISONED, &now->why);
        answer_poisoned(publication, &now->why);
        return false;
    }
    if (publication->now_leaving || (now->cancel && now->is_asked)) {
        cancel(publication, now->is_asked);
        return false;
    }
    if (now->lost) {
        struct atd_error why = ATD_ERROR_INIT;

        (void)atd_error_set(&why, ENOMEM, "cannot publish: out of memory");
        atd_publication_refuse(publication, &why, true);
        return false;
    }
    switch (publication->state) {
    case ATD_PUBLICATION_CHECKING:
        return atd_check_go_on(publication, !now->wants_check && !now->wants_publish);
    case ATD_PUBLICATION_SENT:
        return run_sent(publication, now);
    default:
        if (!wanted)
            return atd_check_read_along(publication, progress);
        atd_check_begin(publication);
        return true;
    }
}

/* Writers who are too far ahead, of a stream that gets on, wait. */
static void hold_or_release(struct atd_publication *publication, bool release)
{
    const struct atd_sending *sending = &publication->sending;
    struct atd_spool_progress progress;
    bool let_go;

    atd_spool_progress(publication->spool, &progress);
    atd_lock_take(&publication->lock);
    publication->holding =
        publication->state == ATD_PUBLICATION_SPOOLING && sending->is_stream && !sending->is_void &&
        sending->rc == 0 && !publication->poison &&
        (sending->state == ATD_SENDING_OPENING || sending->state == ATD_SENDING_OPEN);
    let_go =
        publication->held &&
        (release || !publication->holding || atd_publication_is_held_in_vain_locked(publication) ||
         progress.ordered_end <= publication->sent_bytes + ATD_PUBLICATION_LAG_BYTES);
    atd_publication_check_locked(publication);
    atd_lock_give(&publication->lock);
    if (let_go)
        atd_publication_answer_held(publication);
}

static bool is_over(struct atd_publication *publication, bool settled)
{
    bool unused;

    if (publication->state == ATD_PUBLICATION_COMMITTING ||
        (publication->state == ATD_PUBLICATION_PUBLISHED && !settled) ||
        publication->looking.is_out || publication->timing.is_out ||
        !atd_sending_is_idle(publication))
        return false;
    atd_lock_take(&publication->lock);
    /* Not one who was let go since this turn began: what was asked before has its turn yet. */
    unused = publication->users == 0 && publication->now_leaving && !publication->hints &&
             !publication->checks && !publication->publishes;
    atd_lock_give(&publication->lock);
    return unused;
}

/* True: another one follows at once. */
static bool take_turn(struct atd_publication *publication)
{
    struct requests now = {.why = ATD_ERROR_INIT};
    struct reports reports;
    struct atd_spool_progress progress;
    bool settled = true;
    bool again = false;

    atd_lock_take(&publication->lock);
    take_locked(publication, &now, &reports);
    atd_lock_give(&publication->lock);
    atd_spool_progress(publication->spool, &progress);
    atd_sending_take_reports(publication, reports.step, reports.parts);
    if (reports.look)
        atd_check_take_look(publication);
    if (reports.timing)
        publication->committed_mtime_ns = publication->timing_mtime_ns;
    watch_changes(publication, &progress);
    atd_sending_drive(publication, &progress);
    switch (publication->state) {
    case ATD_PUBLICATION_COMMITTING:
        if (reports.commit)
            end_commit(publication);
        break;
    case ATD_PUBLICATION_PUBLISHED:
        break;
    case ATD_PUBLICATION_REFUSED:
    case ATD_PUBLICATION_POISONED:
        run_spoiled(publication, &now);
        break;
    default:
        again = run_open(publication, &now, &progress);
    }
    if (publication->state == ATD_PUBLICATION_PUBLISHED)
        run_published(publication, &settled);
    atd_sending_drive(publication, &progress);
    hold_or_release(publication, now.cancel || publication->now_leaving);
    publication->ended = is_over(publication, settled);
    return again;
}

static void end(struct atd_publication *publication)
{
    atd_publication_answer_held(publication);
    atd_spool_free(publication->spool);
    atd_check_drop(publication);
    atd_look_unref(publication->look);
    free(publication->dataset);
    free(publication->file_name);
    free(publication->replaces);
    free(publication->asked_dataset);
    free(publication->asked_file_name);
    free(publication->asked_replaces);
    atd_publication_delist(publication);
    atd_lock_destroy(&publication->lock);
    free(publication);
}

void atd_publication_run(struct atd_work *work)
{
    struct atd_publication *publication = (struct atd_publication *)(void *)work;
    int turn = ATD_TURN_RUNNING;
    bool again;

    atomic_store(&publication->turn, ATD_TURN_RUNNING);
    again = take_turn(publication);
    if (publication->ended) {
        end(publication);
        return;
    }
    /* At the end of the queue, even for itself: others have their turns too. */
    if (again || !atomic_compare_exchange_strong(&publication->turn, &turn, ATD_TURN_IDLE)) {
        int rc;

        atomic_store(&publication->turn, ATD_TURN_QUEUED);
        rc = atd_workers_submit(publication->publisher->pump, &publication->work, NULL);
        atd_assert(rc == 0);
    }
}

#include <errno.h>

#include "base/check.h"
#include "publish/publication_private.h"

#define BIT(state) (1u << ATD_PUBLICATION_##state)

/* Where each state may go, and who takes it there. */
static const unsigned next_states[] = {
    /* begin_check; the turn (a failed write; cancelled, nobody uses it any more) */
    [ATD_PUBLICATION_SPOOLING] = BIT(CHECKING) | BIT(POISONED) | BIT(REFUSED),
    /* check_on: sent; merely checked, or an incomplete file that was only a hint; refused,
       cancelled */
    [ATD_PUBLICATION_CHECKING] = BIT(SENT) | BIT(SPOOLING) | BIT(REFUSED) | BIT(POISONED),
    /* run_sent: publish; written or named anew; cancelled, nobody uses it any more */
    [ATD_PUBLICATION_SENT] = BIT(COMMITTING) | BIT(SPOOLING) | BIT(REFUSED) | BIT(POISONED),
    /* run_committing: the index's answer */
    [ATD_PUBLICATION_COMMITTING] = BIT(PUBLISHED) | BIT(REFUSED),
    [ATD_PUBLICATION_PUBLISHED] = 0,
    /* run_spoiled: truncated to 0; a write failed before the heal was seen */
    [ATD_PUBLICATION_REFUSED] = BIT(SPOOLING) | BIT(POISONED),
    [ATD_PUBLICATION_POISONED] = BIT(SPOOLING),
};

bool atd_publication_is_spoiled_locked(const struct atd_publication *publication)
{
    return publication->poison || ((publication->state == ATD_PUBLICATION_REFUSED ||
                                    publication->state == ATD_PUBLICATION_POISONED) &&
                                   !publication->heal);
}

static bool has_given_up(const struct atd_publication_wait *list)
{
    while (list && !list->is_given_up)
        list = list->next;
    return list != NULL;
}

bool atd_publication_is_cancelled_locked(const struct atd_publication *publication)
{
    return publication->cancel || has_given_up(publication->hints) ||
           has_given_up(publication->checks) || has_given_up(publication->publishes);
}

bool atd_publication_is_held_in_vain_locked(const struct atd_publication *publication)
{
    return has_given_up(publication->held);
}

/* What holds in every state between two turns, and at each move. */
void atd_publication_check_locked(const struct atd_publication *publication)
{
    enum atd_publication_state state = publication->state;
    const struct atd_sending *sending = &publication->sending;
    bool is_final = state == ATD_PUBLICATION_COMMITTING || state == ATD_PUBLICATION_PUBLISHED;

    atd_assert(!(is_final && publication->writers > 0));
    atd_assert(state != ATD_PUBLICATION_SENT || publication->is_reused ||
               sending->state == ATD_SENDING_MADE);
    atd_assert(state != ATD_PUBLICATION_COMMITTING || publication->committing.is_out);
    atd_assert(state != ATD_PUBLICATION_PUBLISHED || publication->published_url[0]);
    atd_assert((sending->state == ATD_SENDING_OPENING || sending->state == ATD_SENDING_FINISHING ||
                sending->state == ATD_SENDING_UNDOING) == publication->step_out);
    atd_assert(sending->state == ATD_SENDING_OPEN || sending->parts_out == 0);
    atd_assert(publication->why.code == 0 || state == ATD_PUBLICATION_REFUSED ||
               state == ATD_PUBLICATION_POISONED || publication->poison);
}

static void move_locked(struct atd_publication *publication, enum atd_publication_state to,
                        const struct atd_error *why)
{
    atd_assert(next_states[publication->state] & (1u << to));
    publication->state = to;
    if (why)
        publication->why = *why;
    else if (!publication->poison)
        publication->why = (struct atd_error)ATD_ERROR_INIT;
    if (to == ATD_PUBLICATION_SENT || to == ATD_PUBLICATION_REFUSED)
        publication->checked_change = publication->check_change;
    atd_publication_check_locked(publication);
}

void atd_publication_move(struct atd_publication *publication, enum atd_publication_state to,
                          const struct atd_error *why)
{
    atd_lock_take(&publication->lock);
    move_locked(publication, to, why);
    atd_lock_give(&publication->lock);
}

static bool is_unchanged_locked(const struct atd_publication *publication)
{
    return publication->writers == 0 && !publication->poison &&
           publication->change == publication->check_change;
}

bool atd_publication_is_unchanged(struct atd_publication *publication)
{
    bool unchanged;

    atd_lock_take(&publication->lock);
    unchanged = is_unchanged_locked(publication);
    atd_lock_give(&publication->lock);
    return unchanged;
}

bool atd_publication_move_unchanged(struct atd_publication *publication,
                                    enum atd_publication_state to)
{
    bool unchanged;

    atd_lock_take(&publication->lock);
    /* Who cancelled was told that nothing will be committed. */
    unchanged =
        is_unchanged_locked(publication) &&
        !(to == ATD_PUBLICATION_COMMITTING && atd_publication_is_cancelled_locked(publication));
    if (unchanged)
        move_locked(publication, to, NULL);
    atd_lock_give(&publication->lock);
    return unchanged;
}

/* ------------------------------------------------------------------ answers */

static void answer_list(struct atd_publication_wait *list, const struct atd_error *why)
{
    while (list) {
        struct atd_publication_wait *next = list->next;

        list->done(list, why); /* may free it */
        list = next;
    }
}

static struct atd_publication_wait *take_list(struct atd_publication *publication,
                                              struct atd_publication_wait **list)
{
    struct atd_publication_wait *taken;

    atd_lock_take(&publication->lock);
    taken = *list;
    *list = NULL;
    atd_lock_give(&publication->lock);
    return taken;
}

void atd_publication_answer_hints(struct atd_publication *publication)
{
    answer_list(take_list(publication, &publication->hints), NULL);
}

void atd_publication_answer_checks(struct atd_publication *publication, const struct atd_error *why)
{
    answer_list(take_list(publication, &publication->hints), why);
    answer_list(take_list(publication, &publication->checks), why);
}

void atd_publication_answer(struct atd_publication *publication, const struct atd_error *why)
{
    atd_publication_answer_checks(publication, why);
    answer_list(take_list(publication, &publication->publishes), why);
}

void atd_publication_answer_held(struct atd_publication *publication)
{
    struct atd_error why = ATD_ERROR_INIT;

    atd_lock_take(&publication->lock);
    if (atd_publication_is_spoiled_locked(publication))
        (void)atd_error_set(&why, EIO, "the file is of no use any more: %.400s",
                            publication->why.text);
    atd_lock_give(&publication->lock);
    answer_list(take_list(publication, &publication->held), why.code ? &why : NULL);
}

/* REFUSED, and everybody is told; what was sent is taken back. */
void atd_publication_refuse(struct atd_publication *publication, const struct atd_error *why,
                            bool is_news)
{
    struct atd_publisher *publisher = publication->publisher;

    publication->is_reused = false;
    atd_sending_void(publication);
    atd_publication_move(publication, ATD_PUBLICATION_REFUSED, why);
    if (is_news) {
        atd_publisher_count(publisher, &publisher->stats.failed, 1);
        atd_publisher_tell(publisher, "failed", atd_str_from(publication->dataset),
                           atd_str_from(publication->file_name), ATD_STR(""), ATD_STR(""), why);
    }
    atd_publication_answer(publication, why);
}

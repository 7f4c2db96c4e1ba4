#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "publish/publication_private.h"

/*
 * A check, by turns: look the dataset up, inspect the whole file against its schema, send what was
 * not sent. It begins again when somebody writes meanwhile.
 */

/* ------------------------------------------------------------------ the dataset's schema */

static bool same_schema(const struct atd_schema *a, const struct atd_schema *b)
{
    return a && b ? atd_schema_same_fields(a, b) : a == b;
}

void atd_check_drop(struct atd_publication *publication)
{
    atd_inspection_free(publication->inspection);
    publication->inspection = NULL;
    publication->has_verdict = false;
    publication->has_feed_error = false;
    atd_look_unref(publication->look_used);
    publication->look_used = NULL;
}

void atd_check_take_look(struct atd_publication *publication)
{
    struct atd_look *look = publication->look_new;

    publication->look_new = NULL;
    publication->look_failed = publication->looking.rc != 0;
    if (publication->look_failed)
        return;
    atd_look_unref(publication->look);
    publication->look = look;
    if (publication->look_used && !same_schema(publication->look_used->schema, look->schema))
        atd_check_drop(publication);
}

/* ------------------------------------------------------------------ inspecting */

/* Feeds it what is there in order, or as much as a turn may. *ret_again: there is more. */
static int feed(struct atd_publication *publication, const struct atd_spool_progress *progress,
                bool *ret_again, struct atd_error *err)
{
    atd_auto_free uint8_t *buffer = NULL;
    uint64_t end = progress->ordered_end;

    *ret_again = false;
    if (!publication->inspection) {
        publication->inspection = atd_inspection_new(publication->look->schema);
        if (!publication->inspection)
            return atd_error_set(err, ENOMEM, "cannot check the file: out of memory");
        publication->inspected_epoch = progress->epoch;
        publication->look_used = publication->look;
        publication->look->refs++;
    }
    for (unsigned i = 0; !publication->has_feed_error; i++) {
        uint64_t fed = atd_inspection_fed(publication->inspection);
        size_t len;
        int rc;

        if (fed >= end)
            return 0;
        *ret_again = i == ATD_TURN_FEEDS;
        if (*ret_again)
            return 0;
        if (!buffer)
            buffer = malloc(ATD_FEED_BYTES);
        if (!buffer)
            return atd_error_set(err, ENOMEM, "cannot check the file: out of memory");
        len = end - fed < ATD_FEED_BYTES ? (size_t)(end - fed) : ATD_FEED_BYTES;
        rc = atd_spool_read(publication->spool, fed, buffer, len, &len, err);
        if (rc || len == 0)
            return rc; /* shorter than it was: it changed, and begins again */
        if (atd_inspection_feed(publication->inspection, (struct atd_bytes){buffer, len}, NULL))
            publication->has_feed_error = true; /* finish says it again */
    }
    return 0;
}

/* While it is being written: what is there in order. True: there is more to do at once. */
bool atd_check_read_along(struct atd_publication *publication,
                          const struct atd_spool_progress *progress)
{
    bool again = false;

    if (!publication->file_name[0] || progress->ordered_end < ATD_LOOK_EARLY_BYTES)
        return false;
    if (!publication->look) {
        if (!publication->looking.is_out && !publication->look_failed)
            atd_publication_start_look(publication);
        return false;
    }
    /* What fails here fails again at the check, where somebody can be told. */
    if (feed(publication, progress, &again, NULL))
        return false;
    return again;
}

/* ------------------------------------------------------------------ the check */

void atd_check_begin(struct atd_publication *publication)
{
    publication->check_change = publication->now_change;
    publication->check_tries = 0;
    publication->check_began_ms = atd_clock_monotonic_ms();
    publication->check_looked = false;
    publication->look_failed = false;
    publication->named_anew = false;
    publication->send_tries = 0;
    publication->first_key = ATD_KEY_PLAIN;
    publication->is_reused = false;
    atd_publication_move(publication, ATD_PUBLICATION_CHECKING, NULL);
}

/* The file as it is now has been inspected whole. True: it changed meanwhile. */
static bool judge(struct atd_publication *publication)
{
    struct atd_spool_progress progress;

    if (!atd_publication_is_unchanged(publication))
        return true;
    atd_spool_progress(publication->spool, &progress);
    if (progress.epoch != publication->inspected_epoch)
        return true;
    publication->verdict_why = (struct atd_error)ATD_ERROR_INIT;
    publication->verdict_rc = atd_inspection_finish(publication->inspection, &publication->result,
                                                    &publication->verdict_why);
    publication->has_verdict = true;
    publication->verdict_change = publication->check_change;
    return false;
}

/* Without a name it is merely checked: the verdict is kept for the rename. */
static void end_mere_check(struct atd_publication *publication)
{
    struct atd_error why = publication->verdict_why;
    bool good = publication->verdict_rc == 0;

    atd_lock_take(&publication->lock);
    publication->checked_change = publication->check_change;
    atd_lock_give(&publication->lock);
    atd_publication_move(publication, ATD_PUBLICATION_SPOOLING, NULL);
    atd_publication_answer_checks(publication, good ? NULL : &why);
}

static void end_bad_check(struct atd_publication *publication)
{
    struct atd_error why = publication->verdict_why;

    if (publication->file_name[0])
        atd_publication_refuse(publication, &why, true);
    else
        end_mere_check(publication);
}

/* A shard of this name is there: the same bytes need no second object. Errors: EEXIST others. */
static int use_twin(struct atd_publication *publication, bool *ret_reused, struct atd_error *err)
{
    const struct atd_look *look = publication->look;

    *ret_reused = false;
    if (look->twin_url.len == 0 ||
        atd_str_equal(look->twin_url, atd_str_from(publication->replaces)))
        return 0;
    *ret_reused = atd_str_equal(look->twin_sha256, atd_str_from(publication->result.sha256_hex)) &&
                  (look->twin_size == 0 || look->twin_size == publication->result.size_bytes);
    if (*ret_reused)
        return 0;
    return atd_error_set(err, EEXIST,
                         "'%s' is there already, with other bytes: shards are never changed; give "
                         "it another name",
                         publication->file_name);
}

/* Sends what is good. True: more to do at once. */
static bool send_checked(struct atd_publication *publication)
{
    struct atd_error why = ATD_ERROR_INIT;
    bool made = false;
    int rc;

    if (!publication->publisher->options.store)
        rc = atd_publisher_ready(publication->publisher, &why);
    else
        rc = use_twin(publication, &publication->is_reused, &why);
    if (rc == 0 && publication->is_reused) {
        if (!atd_sending_is_idle(publication)) {
            if (!publication->sending.is_void)
                atd_sending_void(publication);
            return false;
        }
        made = true;
    } else if (rc == 0) {
        rc = atd_sending_complete(publication, &made, &why);
    }
    if (rc) {
        atd_publication_refuse(publication, &why, true);
        return false;
    }
    if (made) /* when it was written meanwhile, the next turn sees it */
        (void)atd_publication_move_unchanged(publication, ATD_PUBLICATION_SENT);
    return made;
}

/* The content, or the name, is another than when the check began. */
static void restart_check(struct atd_publication *publication)
{
    struct atd_error why = ATD_ERROR_INIT;

    if (++publication->check_tries > ATD_CHECK_TRIES &&
        atd_clock_monotonic_ms() - publication->check_began_ms >
            (int64_t)publication->publisher->timeout_ms) {
        (void)atd_error_set(&why, EIO, "'%s' was written again and again while it was checked",
                            publication->file_name);
        atd_publication_refuse(publication, &why, true);
        return;
    }
    publication->check_looked = !publication->named_anew && publication->check_looked;
    publication->named_anew = false;
    publication->check_change = publication->now_change;
    publication->send_tries = 0;
}

/* Inspects all of it. True: there is a verdict; else *ret_again: more to do at once. */
static bool inspect_whole(struct atd_publication *publication, bool only_hint, bool *ret_again)
{
    struct atd_spool_progress progress;
    struct atd_error why = ATD_ERROR_INIT;
    int rc;

    /* Nobody writes, and they say that they are through: holes are zeros. */
    atd_spool_whole(publication->spool, &progress);
    *ret_again = true;
    if (publication->inspection && publication->inspected_epoch != progress.epoch)
        return false;
    rc = feed(publication, &progress, ret_again, &why);
    if (rc)
        atd_publication_refuse(publication, &why, true);
    if (rc || *ret_again)
        return false;
    if (only_hint && !atd_inspection_is_whole(publication->inspection)) {
        /* Only a hint, and there is more to come. */
        atd_publication_move(publication, ATD_PUBLICATION_SPOOLING, NULL);
        atd_publication_answer_hints(publication);
        return false;
    }
    *ret_again = judge(publication);
    return !*ret_again;
}

/* CHECKING. True: more to do at once. */
bool atd_check_go_on(struct atd_publication *publication, bool only_hint)
{
    struct atd_error why = ATD_ERROR_INIT;
    bool again;

    if (publication->now_writers > 0)
        return false; /* the end of its change kicks */
    if (publication->now_change != publication->check_change || publication->named_anew) {
        restart_check(publication);
        return true;
    }
    if (publication->looking.is_out)
        return false;
    if (!publication->check_looked) {
        publication->check_looked = true;
        publication->look_failed = false;
        atd_publication_start_look(publication);
        return false;
    }
    if (publication->look_failed) {
        why = publication->looking.why;
        atd_publication_refuse(publication, &why, true);
        return false;
    }
    if (!publication->has_verdict && !inspect_whole(publication, only_hint, &again))
        return again;
    if (publication->verdict_rc) {
        end_bad_check(publication);
        return false;
    }
    if (!publication->file_name[0]) {
        end_mere_check(publication);
        return false;
    }
    return send_checked(publication);
}

#include "verdict.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "process.h"
#include "publishing.h"
#include "records.h"
#include "reply.h"

enum asked { ASKED_PUBLISH, ASKED_CHECK, ASKED_HINT };

struct verdict {
    struct atd_publication_wait wait; /* first */
    struct fs *fs;
    fuse_req_t req;        /* NULL: nobody to answer */
    struct staged *staged; /* a reference */
    enum asked asked;
    bool renames;       /* to `target`, once published */
    fuse_ino_t waiting; /* the directory that the kernel keeps locked meanwhile; 0: none */
    struct target target;
    struct atd_buf kept; /* a metadata.json that waits for the dataset's first shard */
};

int verdict_errno(const struct atd_error *why)
{
    switch (why->code) {
    case EINVAL:
    case EDQUOT:
    case EFBIG:
    case EPERM:
    case EROFS:
    case ETIMEDOUT:
    case EREMOTEIO:
        return why->code;
    case EBADMSG:
        return EINVAL;
    case EEXIST:
        return EPERM;
    case ENOSPC: /* KIO would delete the file that it replaces (TOOLS 2b) */
        return EDQUOT;
    default: /* never EINTR, EAGAIN */
        return EIO;
    }
}

void verdict_refuse(struct fs *fs, fuse_req_t req, const char *what, const struct atd_error *why)
{
    struct atd_error shown = *why;

    shown.code = verdict_errno(why);
    if (req) {
        reply_error(fs, req, what, &shown);
        return;
    }
    events_note(fs->events, what, &shown);
    atd_log(ATD_LOG_WARNING, "%s: %s", what, why->text);
}

bool verdict_is_pending(const struct staged *staged)
{
    return atomic_load(&staged->verdicts) > 0;
}

/* ------------------------------------------------------------------ what follows */

static void free_verdict(struct verdict *verdict)
{
    if (verdict->waiting)
        notify_go_on(verdict->fs->notify, verdict->waiting);
    staged_unref(verdict->fs->staging, verdict->staged);
    target_release(&verdict->target);
    atd_buf_release(&verdict->kept);
    free(verdict);
}

/* All is done but the answer: whoever gets it may do with the file what he likes. */
static void be_done(struct verdict *verdict)
{
    (void)atomic_fetch_sub(&verdict->staged->verdicts, 1);
}

/* The place that is shown to people: the final name, also of a temporary one. */
static void final_place(const struct target *target, struct staged_place *ret_place)
{
    *ret_place = target->place;
    if (target->final.len && target->place.directory != NODE_SCHEMAS) {
        ret_place->directory = NODE_DATASET;
        ret_place->leaf = target->final;
    }
}

/* Takes the name away. False: somebody else did, by an unlink or because he waited too. */
static bool lose_name(struct verdict *verdict, const struct staged_place *final)
{
    struct fs *fs = verdict->fs;
    struct staged *staged = verdict->staged;
    bool had_one;

    atomic_store(&staged->is_settled, true); /* first: who finds no name asks why */
    had_one = staging_remove(fs->staging, staged) && !atomic_load(&staged->is_unlinked);
    /* The old one, whose place it was to take, is back. */
    if (had_one && verdict->asked == ASKED_PUBLISH)
        (void)staging_unhide(fs->staging, final->subject, final->leaf);
    notify_place(fs, &verdict->target.place);
    return had_one;
}

static void put_note(struct fs *fs, const struct target *target, const struct atd_error *why)
{
    struct staged_place place;
    char note[ATD_ERROR_TEXT_MAX + 2];

    final_place(target, &place);
    (void)snprintf(note, sizeof(note), "%s\n", why->text);
    staging_put_note(fs->staging, &place, note);
    notify_note(fs, &place);
}

static bool is_of_shard(const struct target *target)
{
    return target->name_kind == ATD_UPLOAD_SHARD ||
           (target->name_kind == ATD_UPLOAD_TEMP && target->final.len > 0);
}

void verdict_note(struct fs *fs, const struct target *target, const struct atd_error *why)
{
    if (is_of_shard(target))
        put_note(fs, target, why);
}

void verdict_spoiled(struct fs *fs, struct staged *staged, const struct atd_error *why)
{
    struct target target;
    struct atd_error ignored = ATD_ERROR_INIT;

    if (target_of_staged(fs, staged, &target, &ignored) == 0 && is_of_shard(&target)) {
        if (staging_remove(fs->staging, staged))
            notify_place(fs, &target.place);
        put_note(fs, &target, why);
    }
    target_release(&target);
}

static void follow_failure(struct verdict *verdict, const struct atd_error *why)
{
    struct fs *fs = verdict->fs;
    struct staged_place place;
    char path[TARGET_PATH_MAX];
    char what[TARGET_PATH_MAX + 16];

    final_place(&verdict->target, &place);
    target_path(&place, path);
    (void)snprintf(what, sizeof(what), "publish %s", path);
    /* A renamed one stays under the name that its tool gave it: the tool takes it away. */
    if (verdict->renames || lose_name(verdict, &place))
        put_note(fs, &verdict->target, why);
    be_done(verdict);
    verdict_refuse(fs, verdict->req, what, why);
}

static int take_name(struct verdict *verdict, struct atd_error *err)
{
    struct fs *fs = verdict->fs;
    struct staged_place from;
    struct staged_look look;

    if (!verdict->renames)
        return 0;
    staging_look(fs->staging, verdict->staged, &look);
    from = staged_where_place(&look.where);
    notify_place(fs, &from);
    return staging_rename(fs->staging, verdict->staged, &verdict->target.place, err);
}

static void follow_published(struct verdict *verdict)
{
    struct fs *fs = verdict->fs;
    const struct staged_place *place = &verdict->target.place;
    struct atd_publication_status status;
    struct atd_error why = ATD_ERROR_INIT;
    struct atd_catalog *catalog;
    char path[TARGET_PATH_MAX];

    atd_publication_status(verdict->staged->publication, &status);
    (void)staging_unhide(fs->staging, place->subject, place->leaf);
    if (take_name(verdict, &why) != 0)
        atd_log(ATD_LOG_WARNING, "a published file keeps its temporary name here: %s", why.text);
    staging_set_published(fs->staging, verdict->staged);
    if (staging_drop_note(fs->staging, place))
        notify_note(fs, place);
    notify_place(fs, place);
    target_path(place, path);
    events_note_published(fs->events, path, status.url, status.cid.text, status.size_bytes);
    METRICS_ADD(&fs->metrics, published, 1);
    /* A catalog may have it already: then nobody else would let it give way. */
    catalog = atd_live_get(fs->live);
    staging_settle(fs->staging, catalog);
    atd_catalog_unref(catalog);
    publishing_index_changed(fs);
    be_done(verdict);
    if (verdict->kept.len)
        records_apply_kept(fs, verdict->req, &verdict->target, &verdict->kept);
    else if (verdict->req)
        (void)fuse_reply_err(verdict->req, 0);
}

static void follow_checked(struct verdict *verdict)
{
    be_done(verdict);
    if (verdict->req)
        (void)fuse_reply_err(verdict->req, 0);
}

static void on_verdict(struct atd_publication_wait *wait, const struct atd_error *why)
{
    struct verdict *verdict = (struct verdict *)wait;

    /* Waits for an on_interrupt() that is under way; none comes afterwards. */
    if (verdict->req)
        fuse_req_interrupt_func(verdict->req, NULL, NULL);
    if (why)
        follow_failure(verdict, why);
    else if (verdict->asked == ASKED_PUBLISH)
        follow_published(verdict);
    else
        follow_checked(verdict);
    free_verdict(verdict);
}

/*
 * Somebody sent a signal to the process that waits. Go's runtime does all the time; only one that
 * is being killed is given up for, because it cannot end before the answer (TOOLS 4.9).
 */
static void on_interrupt(fuse_req_t req, void *data)
{
    struct verdict *verdict = data;

    if (process_is_dying(fuse_req_ctx(req)->pid))
        atd_publication_give_up(verdict->staged->publication, &verdict->wait);
}

/* ------------------------------------------------------------------ asking */

static void refuse_early(struct fs *fs, fuse_req_t req, const struct atd_error *why)
{
    verdict_refuse(fs, req, "publish", why);
}

static struct verdict *make_verdict(struct fs *fs, fuse_req_t req, struct staged *staged,
                                    const struct target *target, enum asked asked,
                                    struct atd_error *err)
{
    struct verdict *verdict = calloc(1, sizeof(*verdict));

    if (!verdict) {
        (void)atd_error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    verdict->wait.done = on_verdict;
    verdict->fs = fs;
    verdict->req = req;
    verdict->asked = asked;
    atd_buf_init(&verdict->kept, STAGED_TEXT_MAX);
    if (target_copy(target, &verdict->target, err) != 0) {
        target_release(&verdict->target);
        free(verdict);
        return NULL;
    }
    verdict->staged = staged_ref(fs->staging, staged);
    (void)atomic_fetch_add(&staged->verdicts, 1);
    if (req)
        fuse_req_interrupt_func(req, on_interrupt, verdict);
    /* Between its last write and its close, which the kernel makes for it: nobody is told of its
     * success, so it has none. */
    if (req && process_was_killed(fuse_req_ctx(req)->pid))
        atd_publication_give_up(staged->publication, &verdict->wait);
    return verdict;
}

static void publish(struct verdict *verdict)
{
    struct fs *fs = verdict->fs;
    const struct target *target = &verdict->target;
    atd_auto_buf struct atd_buf replaces = ATD_BUF_INIT(1u << 20);
    int64_t when_s;

    (void)staging_hidden_url(fs->staging, target->place.subject, target->place.leaf, &replaces);
    /* Now: as soon as there is an entry, the empty dataset is gone with all that was in it. */
    (void)staging_get_record(fs->staging, target->place.subject, STAGED_METADATA, &verdict->kept,
                             &when_s);
    atd_publication_publish(verdict->staged->publication, atd_buf_str(&target->dataset),
                            target->place.leaf, atd_buf_str(&replaces), &verdict->wait);
}

/* The target of the place that a staged file has now. False: answered already. */
static bool find_own(struct fs *fs, fuse_req_t req, struct staged *staged, struct target *target)
{
    struct atd_error why = ATD_ERROR_INIT;
    int rc = target_of_staged(fs, staged, target, &why);

    if (rc == 0)
        return true;
    if (rc == -ENOENT && !atomic_load(&staged->is_settled)) {
        if (req) /* unlinked: nobody wants it any more */
            (void)fuse_reply_err(req, 0);
    } else if (rc == -ENOENT) {
        (void)atd_error_set(&why, EIO,
                            "it was written again after its verdict: that is in no file any more, "
                            "write it anew");
        refuse_early(fs, req, &why);
    } else {
        refuse_early(fs, req, &why);
    }
    target_release(target);
    return false;
}

static void ask(struct fs *fs, fuse_req_t req, struct staged *staged, const struct target *target,
                enum asked asked)
{
    struct atd_error why = ATD_ERROR_INIT;
    struct verdict *verdict = make_verdict(fs, req, staged, target, asked, &why);

    if (!verdict)
        refuse_early(fs, req, &why);
    else if (asked == ASKED_PUBLISH)
        publish(verdict);
    else
        atd_publication_check(staged->publication, asked == ASKED_HINT, &verdict->wait);
}

void verdict_flush(struct fs *fs, fuse_req_t req, struct staged *staged)
{
    struct target target;

    if (!find_own(fs, req, staged, &target))
        return;
    if (target.name_kind == ATD_UPLOAD_SHARD)
        ask(fs, req, staged, &target, ASKED_PUBLISH);
    else if (target.name_kind == ATD_UPLOAD_TEMP)
        ask(fs, req, staged, &target, ASKED_CHECK);
    else if (target.name_kind == ATD_UPLOAD_RECORD)
        records_apply(fs, req, staged, &target, RECORDS_KEEP_NAME);
    else
        (void)fuse_reply_err(req, 0);
    target_release(&target);
}

void verdict_fsync(struct fs *fs, fuse_req_t req, struct staged *staged)
{
    struct target target;

    if (!find_own(fs, req, staged, &target))
        return;
    /* A final name has its verdict at the flush: aria2 and dd sync before the end. */
    if (target.name_kind == ATD_UPLOAD_TEMP)
        ask(fs, req, staged, &target, ASKED_HINT);
    else
        (void)fuse_reply_err(req, 0);
    target_release(&target);
}

void verdict_release(struct fs *fs, struct staged *staged)
{
    struct target target;

    if (!find_own(fs, NULL, staged, &target))
        return;
    if (target.name_kind == ATD_UPLOAD_SHARD)
        ask(fs, NULL, staged, &target, ASKED_PUBLISH);
    else if (target.name_kind == ATD_UPLOAD_RECORD)
        records_apply(fs, NULL, staged, &target, RECORDS_KEEP_NAME);
    target_release(&target);
}

void verdict_rename(struct fs *fs, fuse_req_t req, struct staged *staged, const struct target *to)
{
    struct atd_error why = ATD_ERROR_INIT;
    struct verdict *verdict = make_verdict(fs, req, staged, to, ASKED_PUBLISH, &why);

    if (!verdict) {
        refuse_early(fs, req, &why);
        return;
    }
    verdict->renames = true;
    verdict->waiting = nodes_number_of_directory(fs->nodes, to->place.directory, to->place.subject);
    if (verdict->waiting)
        notify_wait(fs->notify, verdict->waiting);
    publish(verdict);
}

void verdict_rename_record(struct fs *fs, fuse_req_t req, struct staged *staged,
                           const struct target *to)
{
    records_apply(fs, req, staged, to, RECORDS_TAKE_NAME);
}

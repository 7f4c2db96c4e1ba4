#include "publish/publication.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "publish/publication_private.h"

/* What a writer brings before the actor is told. */
#define KICK_BYTES ATD_FEED_BYTES

_Static_assert(ATD_PUBLICATION_LAG_BYTES >= (32u << 20),
               "a writer who waits must have left a whole part to send");

static int64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void atd_publication_kick(struct atd_publication *publication)
{
    int turn = atomic_load(&publication->turn);

    for (;;) {
        int to = turn == ATD_TURN_IDLE ? ATD_TURN_QUEUED : ATD_TURN_AGAIN;

        if (turn == ATD_TURN_QUEUED || turn == ATD_TURN_AGAIN)
            return;
        if (atomic_compare_exchange_weak(&publication->turn, &turn, to))
            break;
    }
    if (turn == ATD_TURN_IDLE) {
        /* There are fewer publications than places in the queue, and each is in it once. */
        int rc = atd_workers_submit(publication->publisher->pump, &publication->work, NULL);

        atd_assert(rc == 0);
    }
}

/* ------------------------------------------------------------------ life */

static bool is_text(struct atd_str name, size_t max_bytes)
{
    return name.len <= max_bytes && atd_str_find(name, '\0') < 0;
}

/* Without a spool yet. */
static int new_publication(struct atd_publisher *publisher, struct atd_str dataset,
                           struct atd_str file_name, struct atd_publication **ret_publication,
                           struct atd_error *err)
{
    struct atd_publication *publication;

    /* Without a file name it is never published as it is: a schema that is being written has no
     * dataset either. */
    if (!is_text(dataset, ATD_NAME_BYTES_MAX) || (dataset.len == 0 && file_name.len > 0) ||
        !is_text(file_name, ATD_FILE_NAME_MAX) || atd_str_find(file_name, '/') >= 0)
        return atd_error_set(err, EACCES, "'" ATD_STR_FMT "' is no name for a shard here",
                             ATD_STR_ARG(file_name));
    publication = calloc(1, sizeof(*publication));
    if (publication) {
        publication->dataset = strndup(dataset.len ? dataset.ptr : "", dataset.len);
        publication->file_name = strndup(file_name.len ? file_name.ptr : "", file_name.len);
        publication->replaces = strdup("");
    }
    if (!publication || !publication->dataset || !publication->file_name ||
        !publication->replaces) {
        if (publication) {
            free(publication->dataset);
            free(publication->file_name);
            free(publication->replaces);
        }
        free(publication);
        return atd_error_set(err, ENOMEM, "cannot begin to publish: out of memory");
    }
    publication->publisher = publisher;
    publication->work.run = atd_publication_run;
    publication->users = 1;
    publication->has_name = file_name.len > 0;
    publication->mtime_ns = now_ns();
    publication->looking.publication = publication;
    publication->committing.publication = publication;
    publication->timing.publication = publication;
    atd_lock_init(&publication->lock, ATD_RANK_PUBLICATION);
    *ret_publication = publication;
    return 0;
}

static void free_new(struct atd_publication *publication)
{
    atd_lock_destroy(&publication->lock);
    free(publication->dataset);
    free(publication->file_name);
    free(publication->replaces);
    free(publication);
}

static int enlist(struct atd_publication *publication, struct atd_error *err)
{
    struct atd_publisher *publisher = publication->publisher;
    bool full;

    atd_lock_take(&publisher->lock);
    full = publisher->publication_count >= ATD_PUBLICATIONS_MAX || atomic_load(&publisher->closing);
    if (!full) {
        publication->next = publisher->publications;
        if (publication->next)
            publication->next->previous = publication;
        publisher->publications = publication;
        publisher->publication_count++;
        publisher->stats.under_way++;
    }
    atd_lock_give(&publisher->lock);
    if (full)
        return atd_error_set(err, ENFILE, "too many files are being written at once");
    return 0;
}

void atd_publication_delist(struct atd_publication *publication)
{
    struct atd_publisher *publisher = publication->publisher;

    atd_lock_take(&publisher->lock);
    if (publication->next)
        publication->next->previous = publication->previous;
    if (publication->previous)
        publication->previous->next = publication->next;
    else
        publisher->publications = publication->next;
    publisher->publication_count--;
    publisher->stats.under_way--;
    if (publisher->publication_count == 0)
        (void)pthread_cond_broadcast(&publisher->idle);
    atd_lock_give(&publisher->lock);
}

int atd_publication_new(struct atd_publisher *publisher, struct atd_str dataset,
                        struct atd_str file_name, struct atd_publication **ret_publication,
                        struct atd_error *err)
{
    struct atd_publication *publication;
    char *path;
    int rc = new_publication(publisher, dataset, file_name, &publication, err);

    if (rc)
        return rc;
    rc = atd_journal_spool_path(publisher->journal, &publication->sending.job.number, &path, err);
    if (rc == 0) {
        rc = atd_spool_new(path, publisher->options.spool_limit_bytes,
                           publisher->options.floor_bytes, &publication->spool, err);
        free(path);
    }
    if (rc == 0) {
        rc = enlist(publication, err);
        if (rc)
            atd_spool_free(publication->spool);
    }
    if (rc)
        free_new(publication);
    else
        *ret_publication = publication;
    return rc;
}

int atd_publication_over(struct atd_publisher *publisher, struct atd_str dataset,
                         struct atd_str file_name, int fd, int64_t mtime_ns,
                         struct atd_publication **ret_publication, struct atd_error *err)
{
    struct atd_publication *publication;
    char *path;
    int rc = new_publication(publisher, dataset, file_name, &publication, err);

    if (rc)
        return rc;
    publication->mtime_ns = mtime_ns;
    publication->change = 1;       /* all of it is new to us */
    publication->no_stream = true; /* the same bytes may be there: then nothing is sent */
    rc = atd_journal_spool_path(publisher->journal, &publication->sending.job.number, &path, err);
    if (rc == 0) {
        free(path);
        /* The file last: nothing can fail once it was taken. The publisher, which may be closing,
         * must not meet one without a file: it is kicked only as one that is IDLE. */
        atomic_store(&publication->turn, ATD_TURN_QUEUED);
        rc = enlist(publication, err);
    }
    if (rc == 0) {
        rc = atd_spool_over(fd, &publication->spool, err);
        if (rc)
            atd_publication_delist(publication);
    }
    if (rc) {
        free_new(publication);
        return rc;
    }
    rc = atd_workers_submit(publisher->pump, &publication->work, NULL);
    atd_assert(rc == 0);
    *ret_publication = publication;
    return 0;
}

struct atd_publication *atd_publication_ref(struct atd_publication *publication)
{
    atd_lock_take(&publication->lock);
    atd_assert(publication->users > 0);
    publication->users++;
    atd_lock_give(&publication->lock);
    return publication;
}

void atd_publication_unref(struct atd_publication *publication)
{
    if (!publication)
        return;
    atd_lock_take(&publication->lock);
    atd_assert(publication->users > 0);
    publication->users--;
    if (publication->users == 0)
        atd_publication_kick(publication); /* with the lock: the actor ends it, and frees it */
    atd_lock_give(&publication->lock);
}

void atd_publication_status(struct atd_publication *publication,
                            struct atd_publication_status *ret_status)
{
    uint64_t size = atd_spool_size(publication->spool);
    int64_t blocks = atd_spool_blocks(publication->spool);

    memset(ret_status, 0, sizeof(*ret_status));
    atd_lock_take(&publication->lock);
    ret_status->state = publication->poison ? ATD_PUBLICATION_POISONED : publication->state;
    ret_status->is_dirty = publication->change != publication->checked_change;
    ret_status->mtime_ns = publication->mtime_ns;
    ret_status->sent_bytes = publication->sent_bytes < size ? publication->sent_bytes : size;
    ret_status->why = publication->why;
    (void)snprintf(ret_status->url, sizeof(ret_status->url), "%s", publication->published_url);
    ret_status->cid = publication->cid;
    ret_status->was_there = publication->state == ATD_PUBLICATION_PUBLISHED &&
                            (publication->is_reused || publication->commit_result.was_there);
    atd_lock_give(&publication->lock);
    ret_status->size_bytes = size;
    ret_status->blocks = blocks;
}

/* ------------------------------------------------------------------ bytes */

/* A change begins: from now on no verdict is given. */
static int begin_change(struct atd_publication *publication, bool heals, struct atd_error *err)
{
    struct atd_error why = ATD_ERROR_INIT;
    int code = 0;

    atd_lock_take(&publication->lock);
    if (publication->state == ATD_PUBLICATION_COMMITTING ||
        publication->state == ATD_PUBLICATION_PUBLISHED)
        code = EPERM;
    else if (publication->is_given_away ||
             (atd_publication_is_spoiled_locked(publication) && !heals))
        code = EIO;
    if (code == 0) {
        publication->writers++;
        publication->change++;
    }
    why = publication->why;
    atd_lock_give(&publication->lock);
    if (code == EPERM)
        return atd_error_set(err, EPERM, "the shard is published: it cannot be changed any more");
    if (code)
        return atd_error_set(err, code, "the file is of no use any more: %.400s", why.text);
    return 0;
}

/*
 * It ended, with `rc`. A failed one poisons the file. -EINPROGRESS: the writer is too far ahead,
 * and `wait` was taken.
 */
static int end_change(struct atd_publication *publication, int rc, bool heals,
                      struct atd_publication_wait *wait, const struct atd_error *err)
{
    struct atd_spool_progress progress;
    bool kick;

    atd_spool_progress(publication->spool, &progress);
    atd_lock_take(&publication->lock);
    publication->writers--;
    if (rc) {
        publication->poison = true;
        publication->heal = false;
        if (err)
            publication->why = *err;
    } else if (heals && atd_publication_is_spoiled_locked(publication)) {
        publication->poison = false;
        publication->heal = true;
        /* No turn has seen the poison: there is nothing to heal but this. */
        if (publication->state != ATD_PUBLICATION_REFUSED &&
            publication->state != ATD_PUBLICATION_POISONED)
            publication->why = (struct atd_error)ATD_ERROR_INIT;
    }
    if (rc == 0)
        publication->mtime_ns = now_ns();
    kick = rc || publication->state != ATD_PUBLICATION_SPOOLING || heals ||
           progress.ordered_end < publication->kicked_end ||
           progress.ordered_end - publication->kicked_end >= KICK_BYTES;
    if (rc == 0 && wait && publication->holding && !wait->is_given_up &&
        progress.ordered_end > publication->sent_bytes + ATD_PUBLICATION_LAG_BYTES) {
        wait->next = publication->held;
        publication->held = wait;
        rc = -EINPROGRESS;
        kick = true; /* it may have caught up meanwhile */
    }
    if (kick) {
        publication->kicked_end = progress.ordered_end;
        atd_publication_kick(publication);
    }
    atd_lock_give(&publication->lock);
    return rc;
}

/* A scratch file may be large only when it could become a shard. */
static int check_scratch(struct atd_publication *publication, uint64_t end, struct atd_error *err)
{
    static const struct {
        unsigned at;
        const char *magic;
    } kinds[] = {{257, "ustar"},
                 {0, "\x1f\x8b"},
                 {0, "BZh"},
                 {0, "\xfd"
                     "7zXZ"}};
    uint64_t limit = publication->publisher->options.scratch_limit_bytes;
    char head[512];
    size_t len = 0;
    bool known;

    if (limit == 0 || end <= limit)
        return 0;
    atd_lock_take(&publication->lock);
    known = publication->has_name || publication->looks_like_tar;
    atd_lock_give(&publication->lock);
    if (!known && atd_spool_read(publication->spool, 0, head, sizeof(head), &len, err) == 0) {
        struct atd_str text = {head, len};

        for (size_t i = 0; i < ATD_ARRAY_LEN(kinds) && !known; i++)
            known = len > kinds[i].at && atd_str_starts_with(atd_str_from_byte(text, kinds[i].at),
                                                             atd_str_from(kinds[i].magic));
    }
    if (!known)
        return atd_error_set(err, EFBIG,
                             "a temporary file of more than %llu bytes that is no tar (option "
                             "scratch_limit)",
                             (unsigned long long)limit);
    atd_lock_take(&publication->lock);
    publication->looks_like_tar = true;
    atd_lock_give(&publication->lock);
    return 0;
}

int atd_publication_write(struct atd_publication *publication, uint64_t offset,
                          struct atd_bytes bytes, struct atd_publication_wait *wait,
                          struct atd_error *err)
{
    int rc = begin_change(publication, false, err);

    if (rc)
        return rc;
    rc = check_scratch(publication, offset + bytes.len, err);
    if (rc == 0)
        rc = atd_spool_write(publication->spool, offset, bytes, err);
    if (rc == 0)
        atd_publisher_count(publication->publisher, &publication->publisher->stats.bytes_spooled,
                            bytes.len);
    return end_change(publication, rc, false, wait, err);
}

int atd_publication_truncate(struct atd_publication *publication, uint64_t size_bytes,
                             struct atd_error *err)
{
    bool heals = size_bytes == 0;
    int rc;

    /* What changes nothing is always fine: rsync --inplace sets the size of every file it wrote. */
    if (!heals && size_bytes == atd_spool_size(publication->spool))
        return 0;
    rc = begin_change(publication, heals, err);
    if (rc)
        return rc;
    rc = check_scratch(publication, size_bytes, err);
    if (rc == 0)
        rc = atd_spool_truncate(publication->spool, size_bytes, err);
    return end_change(publication, rc, heals, NULL, err);
}

int atd_publication_allocate(struct atd_publication *publication, int mode, uint64_t offset,
                             uint64_t len, struct atd_error *err)
{
    int rc = begin_change(publication, false, err);
    int ended;

    if (rc)
        return rc;
    rc = atd_spool_allocate(publication->spool, mode, offset, len, err);
    /* What the file system cannot do has changed nothing: the tool goes another way. */
    ended = end_change(publication, rc == -EOPNOTSUPP ? 0 : rc, false, NULL, err);
    return rc ? rc : ended;
}

int atd_publication_read(struct atd_publication *publication, uint64_t offset, void *into,
                         size_t len, size_t *ret_len, struct atd_error *err)
{
    return atd_spool_read(publication->spool, offset, into, len, ret_len, err);
}

void atd_publication_set_mtime(struct atd_publication *publication, int64_t mtime_ns)
{
    atd_lock_take(&publication->lock);
    publication->mtime_ns = mtime_ns;
    if (publication->state == ATD_PUBLICATION_PUBLISHED)
        atd_publication_kick(publication);
    atd_lock_give(&publication->lock);
}

/* ------------------------------------------------------------------ requests */

/* It was of what was asked before, and nothing was: not of what is asked now. */
static void forget_cancel_locked(struct atd_publication *publication)
{
    if (!publication->hints && !publication->checks && !publication->publishes)
        publication->cancel = false;
}

void atd_publication_check(struct atd_publication *publication, bool is_hint,
                           struct atd_publication_wait *wait)
{
    struct atd_publication_wait **list = is_hint ? &publication->hints : &publication->checks;

    atd_lock_take(&publication->lock);
    forget_cancel_locked(publication);
    wait->next = *list;
    *list = wait;
    atd_publication_kick(publication);
    atd_lock_give(&publication->lock);
}

void atd_publication_publish(struct atd_publication *publication, struct atd_str dataset,
                             struct atd_str file_name, struct atd_str replaces,
                             struct atd_publication_wait *wait)
{
    char *texts[3] = {strndup(dataset.ptr, dataset.len), strndup(file_name.ptr, file_name.len),
                      strndup(replaces.len ? replaces.ptr : "", replaces.len)};
    char *old[3];

    atd_lock_take(&publication->lock);
    publication->asked_lost = !texts[0] || !texts[1] || !texts[2];
    old[0] = publication->asked_dataset;
    old[1] = publication->asked_file_name;
    old[2] = publication->asked_replaces;
    publication->asked_dataset = texts[0];
    publication->asked_file_name = texts[1];
    publication->asked_replaces = texts[2];
    publication->has_name = true;
    forget_cancel_locked(publication);
    wait->next = publication->publishes;
    publication->publishes = wait;
    atd_publication_kick(publication);
    atd_lock_give(&publication->lock);
    for (size_t i = 0; i < ATD_ARRAY_LEN(old); i++)
        free(old[i]);
}

bool atd_publication_cancel(struct atd_publication *publication)
{
    bool may;

    atd_lock_take(&publication->lock);
    may = publication->state != ATD_PUBLICATION_COMMITTING &&
          publication->state != ATD_PUBLICATION_PUBLISHED;
    publication->cancel = may;
    if (may)
        atd_publication_kick(publication);
    atd_lock_give(&publication->lock);
    return may;
}

void atd_publication_give_up(struct atd_publication *publication, struct atd_publication_wait *wait)
{
    atd_lock_take(&publication->lock);
    wait->is_given_up = true;
    atd_publication_kick(publication);
    atd_lock_give(&publication->lock);
}

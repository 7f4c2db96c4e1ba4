#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "publish/publication_private.h"

/* ------------------------------------------------------------------ parts, on a sender */

/* Each buffer lives for one part. Mapped, it goes back to the system with it instead of staying in
 * a sender's heap, and huge pages take a fifth of the page faults. NULL: no memory. */
static uint8_t *map_buffer(size_t len)
{
    void *buffer = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (buffer == MAP_FAILED)
        return NULL;
    (void)madvise(buffer, len, MADV_HUGEPAGE); /* only faster */
    return buffer;
}

static int read_and_send(struct atd_part *part, uint8_t *buffer, struct atd_error *err)
{
    struct atd_publication *publication = part->publication;
    size_t at = 0;
    int rc;

    while (at < part->len) {
        size_t got;

        rc = atd_spool_read(publication->spool, part->offset + at, buffer + at, part->len - at,
                            &got, err);

        if (rc)
            return rc;
        if (got == 0)
            return atd_error_set(err, EIO, "the file became shorter while it was sent");
        at += got;
    }
    rc = atd_store_upload_part(part->upload, part->number, (struct atd_bytes){buffer, part->len},
                               publication->publisher->timeout_ms, err);
    atd_publisher_note_store(publication->publisher, rc, err);
    return rc;
}

static void run_part(struct atd_work *work)
{
    struct atd_part *part = (struct atd_part *)(void *)work;
    struct atd_publication *publication = part->publication;
    struct atd_publisher *publisher = publication->publisher;
    uint8_t *buffer = map_buffer(part->len);

    if (buffer)
        part->rc = read_and_send(part, buffer, &part->why);
    else
        part->rc =
            atd_error_set(&part->why, ENOMEM, "cannot send %zu bytes: out of memory", part->len);
    if (buffer)
        (void)munmap(buffer, part->len);
    atd_publisher_part_sent(publisher, part->claim.bytes);
    if (part->rc == 0) {
        atd_publisher_count(publisher, &publisher->stats.parts_sent, 1);
        atd_publisher_count(publisher, &publisher->stats.bytes_sent, part->len);
    }
    atd_lock_take(&publication->lock);
    part->next = publication->parts_back;
    publication->parts_back = part;
    atd_publication_kick(publication);
    atd_lock_give(&publication->lock);
}

static void queue_part(struct atd_publication *publication, uint64_t offset, size_t len)
{
    struct atd_sending *sending = &publication->sending;
    struct atd_part *part = calloc(1, sizeof(*part));

    if (!part) {
        sending->rc = atd_error_set(&sending->why, ENOMEM, "cannot send a part: out of memory");
        return;
    }
    part->claim.work.run = run_part;
    part->claim.bytes = len;
    part->publication = publication;
    part->upload = sending->upload;
    part->number = sending->next_part++;
    part->offset = offset;
    part->len = len;
    sending->parts_out++;
    atd_publisher_send_part(publication->publisher, &part->claim);
}

/* ------------------------------------------------------------------ reports */

static void set_arrived(struct atd_sending *sending, unsigned number)
{
    sending->arrived[number / 8] |= (uint8_t)(1u << (number % 8));
    while (sending->arrived_upto + 1 < sending->next_part &&
           (sending->arrived[(sending->arrived_upto + 1) / 8] &
            (1u << ((sending->arrived_upto + 1) % 8))))
        sending->arrived_upto++;
}

static void show_sent(struct atd_publication *publication, uint64_t sent_bytes)
{
    atd_lock_take(&publication->lock);
    publication->sent_bytes = sent_bytes;
    atd_lock_give(&publication->lock);
}

static void take_parts(struct atd_publication *publication, struct atd_part *parts)
{
    struct atd_sending *sending = &publication->sending;

    while (parts) {
        struct atd_part *next = parts->next;

        atd_assert(sending->parts_out > 0);
        sending->parts_out--;
        if (parts->rc == 0) {
            set_arrived(sending, parts->number);
        } else if (sending->rc == 0) {
            sending->rc = parts->rc;
            sending->why = parts->why;
        }
        free(parts);
        parts = next;
    }
    if (!sending->is_void)
        show_sent(publication, sending->arrived_upto * sending->part_bytes);
}

static void reset(struct atd_sending *sending)
{
    uint64_t number = sending->job.number;

    atd_assert(!sending->upload && !sending->job.url && !sending->job.dataset);
    memset(sending, 0, sizeof(*sending));
    sending->job.number = number;
}

/* There is nothing of ours in the store. */
static void be_none(struct atd_publication *publication)
{
    reset(&publication->sending);
    show_sent(publication, 0);
}

void atd_sending_leave(struct atd_publication *publication)
{
    struct atd_sending *sending = &publication->sending;
    char *path = NULL;
    uint64_t number;

    atd_publisher_leave(publication->publisher, &sending->job);
    sending->job.url = NULL;
    sending->job.dataset = NULL;
    /* The job's number goes with it. Without memory for a name the old one is used again, and what
     * was left is settled by this process only. */
    if (atd_journal_spool_path(publication->publisher->journal, &number, &path, NULL) == 0)
        sending->job.number = number;
    free(path);
    be_none(publication);
}

void atd_sending_forget(struct atd_publication *publication)
{
    struct atd_publisher *publisher = publication->publisher;
    struct atd_job *job = &publication->sending.job;

    if (publication->sending.state != ATD_SENDING_MADE)
        return;
    atd_journal_remove(publisher->journal, job->number);
    atd_publisher_release_url(publisher, job->url);
    free(atd_steal(job->url));
    free(atd_steal(job->dataset));
    be_none(publication);
}

/* As _leave, and what failed is still known as the stream's. */
static void leave_keeping_stream(struct atd_publication *publication)
{
    bool is_stream = publication->sending.is_stream;

    atd_sending_leave(publication);
    publication->sending.is_stream = is_stream;
}

/* A step's failure, as the check will find it when it looks for what went wrong. */
static void note_failure(struct atd_publication *publication)
{
    struct atd_sending *sending = &publication->sending;

    sending->rc = publication->step.rc;
    sending->why = publication->step.why;
}

static void take_step(struct atd_publication *publication)
{
    struct atd_sending *sending = &publication->sending;
    int rc = publication->step.rc;
    bool was_void = sending->is_void;

    switch (sending->state) {
    case ATD_SENDING_OPENING:
        sending->state = sending->upload ? ATD_SENDING_OPEN : ATD_SENDING_NONE;
        if (!sending->upload && sending->job.url)
            leave_keeping_stream(publication); /* nobody knows whether it was begun */
        break;
    case ATD_SENDING_FINISHING:
        if (rc == -EREMOTEIO) {
            publication->first_key = ATD_KEY_RANDOM; /* that one is not known to be free any more */
            atd_sending_leave(publication);
        } else if (sending->job.state == ATD_JOB_SENT) {
            sending->state = ATD_SENDING_MADE; /* also when that could not be written down */
        } else {
            sending->state = sending->upload ? ATD_SENDING_OPEN : ATD_SENDING_NONE;
        }
        break;
    case ATD_SENDING_UNDOING:
        if (rc)
            atd_sending_leave(publication);
        else
            be_none(publication);
        return;
    default:
        atd_assert(false);
    }
    if (was_void && sending->state == ATD_SENDING_NONE)
        be_none(publication);
    else if (rc)
        note_failure(publication);
    else if (sending->state == ATD_SENDING_MADE)
        show_sent(publication, publication->step.size_bytes);
}

void atd_sending_take_reports(struct atd_publication *publication, bool step_back,
                              struct atd_part *parts_back)
{
    if (step_back) {
        publication->step_out = false;
        take_step(publication);
    }
    if (parts_back)
        take_parts(publication, parts_back);
}

/* ------------------------------------------------------------------ what is due by itself */

static void start_step(struct atd_publication *publication, enum atd_step what,
                       enum atd_sending_state state)
{
    struct atd_sending_step *step = &publication->step;
    int rc = 0;

    atd_assert(!publication->step_out);
    publication->step_out = true;
    publication->sending.state = state;
    step->what = what;
    step->first_key = publication->first_key;
    if (what == ATD_STEP_PUT || what == ATD_STEP_ADOPT || what == ATD_STEP_FINISH)
        atd_sending_make_index(publication);
    step->claim.work.run = atd_sending_run_step;
    step->claim.bytes = what == ATD_STEP_PUT ? step->size_bytes : 0;
    if (step->claim.bytes)
        atd_publisher_send_part(publication->publisher, &step->claim);
    else
        rc = atd_workers_submit(publication->publisher->send, &step->claim.work, NULL);
    atd_assert(rc == 0); /* fewer publications than places in the queue */
}

void atd_sending_void(struct atd_publication *publication)
{
    struct atd_sending *sending = &publication->sending;

    sending->is_void = true;
    if (sending->state == ATD_SENDING_NONE) {
        sending->is_void = false;
        sending->rc = 0;
    } else if (sending->state == ATD_SENDING_OPEN && !sending->cancelled) {
        sending->cancelled = true;
        atd_store_upload_cancel(sending->upload);
    }
    show_sent(publication, 0);
}

bool atd_sending_is_idle(const struct atd_publication *publication)
{
    return publication->sending.state == ATD_SENDING_NONE && !publication->step_out;
}

static void start_open(struct atd_publication *publication, uint64_t epoch, uint64_t size_bytes,
                       bool is_stream)
{
    struct atd_sending *sending = &publication->sending;

    reset(sending);
    sending->is_stream = is_stream;
    sending->epoch = epoch;
    sending->part_bytes = atd_upload_part_bytes(size_bytes);
    sending->next_part = 1;
    publication->step.may_try_keys = !is_stream;
    start_step(publication, ATD_STEP_OPEN, ATD_SENDING_OPENING);
}

/* Parts of which every byte is there; at the end of a check, the rest too. */
static void queue_parts(struct atd_publication *publication, uint64_t end)
{
    struct atd_sending *sending = &publication->sending;

    while (sending->rc == 0 && sending->parts_out < ATD_PARTS_OUT_MAX) {
        uint64_t offset = (uint64_t)(sending->next_part - 1) * sending->part_bytes;
        uint64_t len = end > offset ? end - offset : 0;

        if (len == 0 || (len < sending->part_bytes && !sending->is_last))
            return;
        if (sending->next_part > ATD_UPLOAD_PARTS_MAX) {
            sending->rc =
                atd_error_set(&sending->why, EFBIG, "more than %u parts", ATD_UPLOAD_PARTS_MAX);
            return;
        }
        queue_part(publication, offset,
                   (size_t)(len < sending->part_bytes ? len : sending->part_bytes));
    }
}

void atd_sending_drive(struct atd_publication *publication,
                       const struct atd_spool_progress *progress)
{
    struct atd_publisher *publisher = publication->publisher;
    struct atd_sending *sending = &publication->sending;
    bool spooling = publication->state == ATD_PUBLICATION_SPOOLING;

    /* A stream that broke: writers go on, the check sends anew. */
    if (sending->rc && sending->is_stream && !sending->is_void) {
        publication->no_stream = true;
        atd_sending_void(publication);
    } else if (sending->state == ATD_SENDING_NONE && sending->rc && spooling) {
        publication->no_stream = true;
        sending->rc = 0;
    }
    switch (sending->state) {
    case ATD_SENDING_NONE:
        if (spooling && !publication->no_stream && publisher->options.store &&
            !publisher->is_disk && publication->file_name[0] && !publication->now_leaving &&
            progress->ordered_end > atd_upload_part_bytes(ATD_UPLOAD_SIZE_UNKNOWN)) {
            publication->first_key = ATD_KEY_PLAIN;
            start_open(publication, progress->epoch, ATD_UPLOAD_SIZE_UNKNOWN, true);
        }
        break;
    case ATD_SENDING_OPEN:
        if (sending->is_void)
            atd_sending_void(publication); /* it was opened meanwhile */
        if (sending->is_void && sending->parts_out == 0)
            start_step(publication, ATD_STEP_UNDO, ATD_SENDING_UNDOING);
        else if (!sending->is_void && sending->is_last)
            queue_parts(publication, progress->size_bytes);
        else if (!sending->is_void)
            queue_parts(publication, progress->ordered_end);
        break;
    case ATD_SENDING_MADE:
        if (sending->is_void)
            start_step(publication, ATD_STEP_UNDO, ATD_SENDING_UNDOING);
        break;
    default:
        break;
    }
}

/* ------------------------------------------------------------------ at the check */

/* Whether what failed is to be tried again: at another key, in another way, or as it was. */
static bool may_try_again(struct atd_publication *publication)
{
    const struct atd_sending *sending = &publication->sending;

    if (publication->send_tries >= ATD_SEND_TRIES)
        return false;
    switch (-sending->rc) {
    case EEXIST:
        publication->first_key = sending->key + 1;
        return publication->first_key < ATD_KEY_COUNT;
    case EAGAIN:
        return true;
    case EREMOTEIO:
        /* A reply that was lost. A store that has been silent for all its time stays so. */
        return publication->step.took_ms < publication->publisher->timeout_ms / 2;
    case ENOTSUP:
    case EXDEV:
    case ENOENT:
        if (publication->step.what != ATD_STEP_ADOPT || publication->no_adopt)
            return false;
        publication->no_adopt = true;
        return true;
    default:
        return sending->is_stream;
    }
}

static void start_whole(struct atd_publication *publication,
                        const struct atd_spool_progress *progress)
{
    struct atd_publisher *publisher = publication->publisher;
    struct atd_sending_step *step = &publication->step;
    uint64_t size = progress->size_bytes;

    publication->send_tries++;
    reset(&publication->sending);
    publication->sending.epoch = progress->epoch;
    step->size_bytes = size;
    step->may_try_keys = true;
    if (publisher->is_disk && !publication->no_adopt && atd_spool_path(publication->spool))
        start_step(publication, ATD_STEP_ADOPT, ATD_SENDING_FINISHING);
    else if (size <= atd_upload_part_bytes(ATD_UPLOAD_SIZE_UNKNOWN))
        start_step(publication, ATD_STEP_PUT, ATD_SENDING_FINISHING);
    else
        start_open(publication, progress->epoch, size, false);
}

int atd_sending_complete(struct atd_publication *publication, bool *ret_made, struct atd_error *err)
{
    struct atd_sending *sending = &publication->sending;
    struct atd_spool_progress progress;

    atd_spool_progress(publication->spool, &progress);
    *ret_made = false;
    if (publication->step_out || sending->is_void)
        return 0; /* what is under way ends first */
    (void)snprintf(publication->step.sha256_hex, sizeof(publication->step.sha256_hex), "%s",
                   publication->result.sha256_hex);
    if (sending->rc) {
        if (!may_try_again(publication)) {
            *err = sending->why;
            return sending->rc;
        }
        if (sending->state != ATD_SENDING_NONE) {
            atd_sending_void(publication);
            return 0;
        }
    }
    switch (sending->state) {
    case ATD_SENDING_NONE:
        start_whole(publication, &progress);
        break;
    case ATD_SENDING_OPEN:
        sending->is_last = true;
        if (sending->parts_out == 0 &&
            (uint64_t)sending->arrived_upto * sending->part_bytes >= progress.size_bytes) {
            publication->step.size_bytes = progress.size_bytes;
            publication->step.part_count = sending->arrived_upto;
            start_step(publication, ATD_STEP_FINISH, ATD_SENDING_FINISHING);
        }
        break;
    case ATD_SENDING_MADE:
        *ret_made = true;
        break;
    default:
        break;
    }
    return 0;
}

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "atdata/shard_url.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "publish/publication_private.h"

#define HASH_DIGITS 12u
#define RANDOM_BYTES 8u
#define SCRATCH_NAME_MAX 128u
#define SCRATCH_BYTES 36u /* what store/s3_guards.c writes */
#define URL_ARENA_MAX ((size_t)64 << 10)
/* Taking back while the publisher closes: what does not answer now is for the next start. */
#define CLOSING_TIMEOUT_MS 2000u

static unsigned timeout_ms(const struct atd_publisher *publisher)
{
    return atomic_load(&publisher->closing) && publisher->timeout_ms > CLOSING_TIMEOUT_MS
               ? CLOSING_TIMEOUT_MS
               : publisher->timeout_ms;
}

/* What the store answered, noted for atd_publisher_ready(). */
static int heard(struct atd_publisher *publisher, int rc, const struct atd_error *err)
{
    atd_publisher_note_store(publisher, rc, err);
    return rc;
}

/* ------------------------------------------------------------------ the key */

static int append_random(struct atd_buf *out, struct atd_error *err)
{
    uint8_t bytes[RANDOM_BYTES];

    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
        return atd_error_set(err, EIO, "no random bytes: %s", strerror(errno));
    for (unsigned i = 0; i < RANDOM_BYTES; i++)
        atd_buf_printf(out, "%02x", bytes[i]);
    return 0;
}

/*
 * Asks the store with a scratch object. The journal has it meanwhile: it is an object that was
 * being sent, and that no entry names.
 */
static int probe_guards(struct atd_publisher *publisher, bool *ret_guards, struct atd_error *err)
{
    const char *prefix = publisher->options.prefix_url;
    size_t prefix_len = strlen(prefix);
    atd_auto_buf struct atd_buf name = ATD_BUF_INIT(SCRATCH_NAME_MAX);
    atd_auto_buf struct atd_buf url = ATD_BUF_INIT(SCRATCH_NAME_MAX + prefix_len);
    atd_auto_free char *unused = NULL;
    struct atd_job job = {.state = ATD_JOB_SENDING, .info = {.size_bytes = SCRATCH_BYTES}};
    size_t len;
    int rc;

    atd_buf_append_text(&name, ".atdatafs-probe-");
    rc = append_random(&name, err);
    atd_buf_append_text(&url, prefix);
    if (prefix_len == 0 || prefix[prefix_len - 1] != '/')
        atd_buf_append_byte(&url, '/');
    atd_buf_append_str(&url, atd_buf_str(&name));
    if (rc == 0)
        rc = atd_buf_finish(&name, "the name of a scratch object", err);
    if (rc == 0)
        rc = atd_buf_finish(&url, "the URL of a scratch object", err);
    if (rc == 0)
        rc = atd_journal_spool_path(publisher->journal, &job.number, &unused, err);
    job.url = (char *)url.ptr;
    (void)snprintf(job.info.maker, sizeof(job.info.maker), "%s",
                   atd_store_maker(publisher->options.store));
    if (rc == 0)
        rc = atd_journal_put(publisher->journal, &job, err);
    if (rc)
        return rc;
    rc = heard(publisher,
               atd_store_guards(publisher->options.store, atd_str_from(prefix), atd_buf_str(&name),
                                timeout_ms(publisher), ret_guards, err),
               err);
    if (rc == 0 || rc == -EACCES) { /* who may not write has left nothing */
        atd_journal_remove(publisher->journal, job.number);
        return rc;
    }
    job.url = (char *)atd_buf_take(&url, &len);
    job.dataset = strdup("");
    if (job.dataset)
        atd_publisher_leave(publisher, &job);
    else
        free(job.url); /* the journal has it, for the next start */
    return rc;
}

/* Whether the store itself refuses to write over an object; asked once. */
static int find_guards(struct atd_publisher *publisher, bool *ret_guards, struct atd_error *err)
{
    bool known;
    int rc;

    atd_lock_take(&publisher->lock);
    known = publisher->guards_known;
    *ret_guards = publisher->guards;
    atd_lock_give(&publisher->lock);
    if (known)
        return 0;
    rc = probe_guards(publisher, ret_guards, err);
    if (rc)
        return rc;
    atd_lock_take(&publisher->lock);
    publisher->guards_known = true;
    publisher->guards = *ret_guards;
    atd_lock_give(&publisher->lock);
    return 0;
}

/*
 * Readers take an element of data_urls with braces or blanks apart (DESIGN 2.1): the URL must mean
 * itself.
 */
static int check_literal(const char *url, const char *file_name, struct atd_error *err)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(URL_ARENA_MAX);
    struct atd_str element = atd_str_from(url);
    struct atd_str *urls;
    size_t count;

    if (atd_shard_urls_expand(&element, 1, 1, NULL, NULL, &arena, &urls, &count, NULL) == 0 &&
        count == 1 && atd_str_equal(urls[0], element))
        return 0;
    return atd_error_set(
        err, EINVAL,
        "'%s': with braces, commas or blanks like these it would be read as a list "
        "of several shards; rename it",
        file_name);
}

static int make_url(const struct atd_publication *publication, enum atd_key key, char **ret_url,
                    struct atd_error *err)
{
    atd_auto_buf struct atd_buf url = ATD_BUF_INIT(ATD_PUBLICATION_URL_MAX - 1);
    size_t len;
    int rc = 0;

    atd_publisher_append_place(publication->publisher, atd_str_from(publication->dataset), &url);
    if (key == ATD_KEY_HASHED)
        atd_buf_append(&url, publication->step.sha256_hex, HASH_DIGITS);
    else if (key == ATD_KEY_RANDOM)
        rc = append_random(&url, err);
    if (key != ATD_KEY_PLAIN)
        atd_buf_append_byte(&url, '/');
    atd_buf_append_text(&url, publication->file_name);
    if (rc == 0)
        rc = atd_buf_finish(&url, "the shard's URL", err);
    if (rc == 0)
        rc = check_literal((const char *)url.ptr, publication->file_name, err);
    if (rc)
        return rc;
    *ret_url = (char *)atd_buf_take(&url, &len);
    return 0;
}

/* Errors: EEXIST the key is in use. Then nothing is claimed. */
static int claim_key(struct atd_publication *publication, enum atd_key key, bool guards,
                     struct atd_error *err)
{
    struct atd_publisher *publisher = publication->publisher;
    struct atd_sending *sending = &publication->sending;
    struct atd_object_info found;
    char *url;
    int rc = make_url(publication, key, &url, err);

    if (rc)
        return rc;
    rc = atd_publisher_claim_url(publisher, url, err);
    if (rc == 0 && guards && key != ATD_KEY_RANDOM) {
        /* finish would notice too, but only after everything was sent. Who may write and not list
         * is told 403 of what is not there. */
        rc = atd_store_stat(publisher->options.store, atd_str_from(url), timeout_ms(publisher),
                            &found, err);
        if (rc != -EACCES)
            (void)heard(publisher, rc, err);
        rc = rc == 0 ? atd_error_set(err, EEXIST, "'%s' is there already", url)
                     : (rc == -ENOENT || rc == -EACCES ? 0 : rc);
        if (rc)
            atd_publisher_release_url(publisher, url);
    }
    if (rc) {
        free(url);
        return rc == -EBUSY ? -EEXIST : rc;
    }
    sending->job.url = url;
    sending->job.dataset = strdup(publication->dataset);
    sending->key = key;
    if (sending->job.dataset)
        return 0;
    atd_publisher_release_url(publisher, url);
    free(atd_steal(sending->job.url));
    return atd_error_set(err, ENOMEM, "cannot publish: out of memory");
}

/* Takes the first free one from `first` on; before the whole file is known only the plain one. */
static int choose_key(struct atd_publication *publication, enum atd_key first,
                      struct atd_error *err)
{
    bool guards;
    int rc = find_guards(publication->publisher, &guards, err);

    if (rc)
        return rc;
    if (!guards)
        return claim_key(publication, ATD_KEY_RANDOM, false, err);
    rc = -EEXIST;
    for (unsigned key = first; key < ATD_KEY_COUNT && rc == -EEXIST; key++) {
        rc = claim_key(publication, (enum atd_key)key, true, err);
        if (!publication->step.may_try_keys)
            break;
    }
    return rc;
}

static void drop_key(struct atd_publication *publication)
{
    struct atd_job *job = &publication->sending.job;

    atd_journal_remove(publication->publisher->journal, job->number);
    if (job->url)
        atd_publisher_release_url(publication->publisher, job->url);
    free(atd_steal(job->url));
    free(atd_steal(job->dataset));
    job->upload_id[0] = '\0';
    memset(&job->info, 0, sizeof(job->info));
    job->state = ATD_JOB_SPOOLING;
}

/* From now on the object may be there: how to know it. */
static void describe_object(struct atd_publication *publication, bool is_written)
{
    const struct atd_publisher *publisher = publication->publisher;
    struct atd_object_info *info = &publication->sending.job.info;

    info->size_bytes = publication->step.size_bytes;
    (void)snprintf(info->maker, sizeof(info->maker), "%s",
                   atd_store_maker(publisher->options.store));
    if (publisher->is_disk && is_written)
        info->mtime_s = (int64_t)time(NULL);
}

static int put_job(struct atd_publication *publication, enum atd_job_state state,
                   struct atd_error *err)
{
    publication->sending.job.state = state;
    return atd_journal_put(publication->publisher->journal, &publication->sending.job, err);
}

/* ------------------------------------------------------------------ the steps */

static int open_upload(struct atd_publication *publication, struct atd_error *err)
{
    struct atd_publisher *publisher = publication->publisher;
    struct atd_sending *sending = &publication->sending;
    struct atd_job *job = &sending->job;
    int rc = choose_key(publication, publication->step.first_key, err);

    if (rc)
        return rc;
    rc = put_job(publication, ATD_JOB_SENDING, err);
    if (rc == 0)
        rc = heard(publisher,
                   atd_store_upload_begin(publisher->options.store, atd_str_from(job->url),
                                          sending->part_bytes, timeout_ms(publisher),
                                          job->upload_id, &sending->upload, err),
                   err);
    if (rc) {
        if (rc != -EREMOTEIO) /* else somebody has to look whether it was begun */
            drop_key(publication);
        return rc;
    }
    /* From here on a failure is taken back as any other. */
    return put_job(publication, ATD_JOB_SENDING, err);
}

/* The object was made: written down before anybody else hears of it. */
static int note_made(struct atd_publication *publication, const struct atd_object_info *info,
                     struct atd_error *err)
{
    publication->sending.job.info = *info;
    return put_job(publication, ATD_JOB_SENT, err);
}

static int read_spool(struct atd_publication *publication, uint64_t offset, uint8_t *into,
                      size_t len, struct atd_error *err)
{
    size_t at = 0;

    while (at < len) {
        size_t got;
        int rc = atd_spool_read(publication->spool, offset + at, into + at, len - at, &got, err);

        if (rc)
            return rc;
        if (got == 0)
            return atd_error_set(err, EIO, "the file became shorter while it was sent");
        at += got;
    }
    return 0;
}

/* One try at one key. EEXIST: another key; EREMOTEIO: the job stays. */
static int put_at_key(struct atd_publication *publication, struct atd_bytes bytes,
                      struct atd_error *err)
{
    struct atd_publisher *publisher = publication->publisher;
    struct atd_sending *sending = &publication->sending;
    struct atd_sending_step *step = &publication->step;
    struct atd_job *job = &sending->job;
    struct atd_object_info info;
    int rc;

    describe_object(publication, step->what == ATD_STEP_ADOPT);
    (void)snprintf(job->upload_id, sizeof(job->upload_id), "%s", ATD_JOB_NO_UPLOAD);
    rc = put_job(publication, ATD_JOB_SENDING, err);
    if (rc == 0 && step->what == ATD_STEP_ADOPT)
        rc = heard(publisher,
                   atd_store_adopt(publisher->options.store, atd_str_from(job->url),
                                   atd_spool_fd(publication->spool),
                                   atd_spool_path(publication->spool), &info, err),
                   err);
    else if (rc == 0)
        rc = heard(publisher,
                   atd_store_put(publisher->options.store, atd_str_from(job->url), bytes,
                                 timeout_ms(publisher), &info, err),
                   err);
    if (rc == 0) {
        atd_publisher_count(publisher, &publisher->stats.bytes_sent, bytes.len);
        return note_made(publication, &info, err);
    }
    if (rc != -EREMOTEIO)
        drop_key(publication);
    return rc;
}

static int put_object(struct atd_publication *publication, struct atd_error *err)
{
    struct atd_sending_step *step = &publication->step;
    size_t len = step->what == ATD_STEP_PUT ? (size_t)step->size_bytes : 0;
    atd_auto_free uint8_t *bytes = malloc(len ? len : 1);
    enum atd_key first = step->first_key;
    int rc = 0;

    if (!bytes)
        return atd_error_set(err, ENOMEM, "cannot send %zu bytes: out of memory", len);
    rc = read_spool(publication, 0, bytes, len, err);
    while (rc == 0) {
        rc = choose_key(publication, first, err);
        if (rc)
            break;
        first = publication->sending.key + 1;
        rc = put_at_key(publication, (struct atd_bytes){bytes, len}, err);
        if (rc != -EEXIST || first >= ATD_KEY_COUNT)
            break;
        rc = 0;
    }
    return rc;
}

static int finish_upload(struct atd_publication *publication, struct atd_error *err)
{
    struct atd_publisher *publisher = publication->publisher;
    struct atd_sending *sending = &publication->sending;
    struct atd_object_info info;
    int rc;

    describe_object(publication, true);
    rc = put_job(publication, ATD_JOB_SENDING, err);
    if (rc)
        return rc;
    rc = heard(publisher,
               atd_store_upload_finish(sending->upload, publication->step.part_count,
                                       timeout_ms(publisher), &info, err),
               err);
    if (rc == 0 || rc == -EREMOTEIO) {
        atd_store_upload_free(sending->upload);
        sending->upload = NULL;
    }
    return rc ? rc : note_made(publication, &info, err);
}

static int take_back(struct atd_publication *publication, struct atd_error *err)
{
    struct atd_publisher *publisher = publication->publisher;
    struct atd_sending *sending = &publication->sending;
    int rc = 0;

    if (sending->upload) {
        rc = heard(publisher, atd_store_upload_abort(sending->upload, timeout_ms(publisher), err),
                   err);
        atd_store_upload_free(sending->upload);
        sending->upload = NULL;
    } else if (sending->job.url) {
        if (sending->may_have_index)
            rc = heard(
                publisher,
                atd_publisher_drop_index(publisher, sending->job.url, timeout_ms(publisher), err),
                err);
        if (rc == 0)
            rc = heard(publisher,
                       atd_store_delete(publisher->options.store, atd_str_from(sending->job.url),
                                        timeout_ms(publisher), err),
                       err);
    }
    if (rc == 0)
        drop_key(publication);
    return rc;
}

void atd_sending_run_step(struct atd_work *work)
{
    struct atd_sending_step *step = (struct atd_sending_step *)(void *)work;
    struct atd_publication *publication =
        (struct atd_publication *)(void *)((char *)step - offsetof(struct atd_publication, step));
    struct atd_publisher *publisher = publication->publisher;
    uint64_t granted = step->claim.bytes;
    int64_t began_ms = atd_clock_monotonic_ms();

    step->why = (struct atd_error)ATD_ERROR_INIT;
    switch (step->what) {
    case ATD_STEP_OPEN:
        step->rc = open_upload(publication, &step->why);
        break;
    case ATD_STEP_PUT:
    case ATD_STEP_ADOPT:
        step->rc = put_object(publication, &step->why);
        break;
    case ATD_STEP_FINISH:
        step->rc = finish_upload(publication, &step->why);
        break;
    case ATD_STEP_UNDO:
        step->rc = take_back(publication, &step->why);
        break;
    }
    step->took_ms = atd_clock_monotonic_ms() - began_ms;
    if (step->rc == 0 && publication->sending.job.state == ATD_JOB_SENT)
        atd_sending_put_index(publication);
    atd_buf_release(&step->index);
    if (granted)
        atd_publisher_part_sent(publisher, granted);
    atd_lock_take(&publication->lock);
    publication->step_back = true;
    atd_publication_kick(publication);
    atd_lock_give(&publication->lock);
}

#include "publish_jobs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "codec/upload_name.h"
#include "publish_arguments.h"

#define WATCH_MS 50u
/* An interrupted one is given up then; what it has sent is taken back by the next start. */
#define INTERRUPT_MS 8000
/* So many failures one after the other, and a server that does not answer: the rest would only
 * wait for the same. */
#define IN_A_ROW_MAX 3u

/* ------------------------------------------------------------------ signals */

static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
static volatile sig_atomic_t caught;     /* a signal's number */
static volatile sig_atomic_t is_running; /* there is something to take back */
static volatile sig_atomic_t has_line;   /* a progress line may stand there */

/* The second one ends the process: somebody does not want to wait. */
static void on_signal(int number)
{
    if (caught || !is_running) {
        if (has_line && write(STDERR_FILENO, PROGRESS_CLEAR_TEXT, strlen(PROGRESS_CLEAR_TEXT)) < 0)
            caught = number;
        (void)signal(number, SIG_DFL);
        (void)raise(number);
    }
    caught = number;
}

void publish_watch_signals(const struct progress *progress)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct sigaction old;

    has_line = progress->shown;
    /* Who reads our output may leave (| head): the files are published all the same. */
    (void)signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        /* nohup has SIGHUP ignored, a shell without job control SIGINT: so it stays. */
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            (void)sigaction(signals[i], &action, NULL);
    }
}

/* ------------------------------------------------------------------ the list */

int publish_jobs_make(struct publish *publish, char **files, unsigned count, struct atd_error *err)
{
    publish->jobs = calloc(count, sizeof(*publish->jobs));
    publish->running = calloc(publish->parallel, sizeof(*publish->running));
    if (!publish->jobs || !publish->running)
        return atd_error_set(err, ENOMEM, "out of memory");
    publish->count = count;
    for (unsigned i = 0; i < count; i++) {
        struct job *job = &publish->jobs[i];
        struct stat st;

        job->publish = publish;
        job->path = files[i];
        job->file_name = publish_file_name(files[i]);
        job->fd = -1;
        if (stat(files[i], &st) == 0 && S_ISREG(st.st_mode))
            job->size_bytes = (uint64_t)st.st_size;
        publish->wanted_bytes += job->size_bytes;
    }
    return 0;
}

void publish_jobs_free(struct publish *publish)
{
    for (unsigned i = 0; i < publish->count; i++)
        free(publish->jobs[i].url);
    free(publish->jobs);
    free(publish->running);
}

/* ------------------------------------------------------------------ one file */

static void on_answer(struct atd_publication_wait *wait, const struct atd_error *why)
{
    struct job *job = (struct job *)wait;
    struct publish *publish = job->publish;

    atd_lock_take(&publish->lock);
    if (why)
        job->why = *why;
    job->next_back = publish->back;
    publish->back = job;
    (void)pthread_cond_signal(&publish->wake);
    atd_lock_give(&publish->lock);
}

static struct file_version version_of(const struct stat *st)
{
    return (struct file_version){
        .size_bytes = (uint64_t)st->st_size, .mtime = st->st_mtim, .ctime = st->st_ctim};
}

static bool is_same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static int check_unchanged(const struct job *job, struct atd_error *err)
{
    struct stat st;
    struct file_version now;

    if (fstat(job->fd, &st) != 0)
        return atd_error_set(err, errno, "%s", strerror(errno));
    now = version_of(&st);
    if (now.size_bytes == job->version.size_bytes && is_same_time(now.mtime, job->version.mtime) &&
        is_same_time(now.ctime, job->version.ctime))
        return 0;
    return atd_error_set(err, EBUSY,
                         "it changed while it was being published; publish it when it is whole");
}

static int open_file(const char *path, int *ret_fd, struct stat *st, struct atd_error *err)
{
    /* Not waiting for the other end of a FIFO. */
    atd_auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

    if (fd < 0 && strcmp(path, "-") == 0)
        return atd_error_set(err, EINVAL,
                             "standard input is not read: a shard is a file, with a name");
    if (fd < 0 || fstat(fd, st) != 0)
        return atd_error_set(err, errno, "%s", strerror(errno));
    if (S_ISDIR(st->st_mode))
        return atd_error_set(err, EISDIR, "it is a directory; name the shards in it");
    if (!S_ISREG(st->st_mode))
        return atd_error_set(err, EINVAL, "it is no regular file");
    *ret_fd = atd_steal_fd(&fd);
    return 0;
}

static int begin(struct job *job, struct atd_error *err)
{
    struct publish *publish = job->publish;
    struct atd_str file_name = atd_str_from(job->file_name);
    struct atd_error refused = ATD_ERROR_INIT;
    atd_auto_fd int fd = -1;
    atd_auto_fd int own = -1;
    struct stat st;
    int rc = open_file(job->path, &fd, &st, err);

    if (rc)
        return rc;
    switch (atd_upload_name_classify(file_name, NULL, &refused)) {
    case ATD_UPLOAD_SHARD:
        break;
    case ATD_UPLOAD_REFUSED:
        return atd_error_set(err, EINVAL, "%s", refused.text);
    default:
        return atd_error_set(err, EINVAL,
                             "'%.200s' is not named like a shard: NAME.tar, .tar.gz, .tar.bz2, "
                             ".tar.xz",
                             job->file_name);
    }
    own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0)
        return atd_error_set(err, errno, "%s", strerror(errno));
    rc = atd_publication_over(publish->publisher, atd_str_from(publish->dataset), file_name, fd,
                              (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec,
                              &job->publication, err);
    if (rc)
        return rc;
    (void)atd_steal_fd(&fd);
    job->fd = atd_steal_fd(&own);
    job->version = version_of(&st);
    publish->wanted_bytes += job->version.size_bytes - job->size_bytes;
    job->size_bytes = job->version.size_bytes;
    job->outcome = OUTCOME_RUNS;
    job->wait.done = on_answer;
    atd_publication_check(job->publication, false, &job->wait);
    return 0;
}

/* ------------------------------------------------------------------ verdicts */

static void settle_published(struct publish *publish, struct job *job,
                             const struct atd_publication_status *status)
{
    job->outcome = OUTCOME_PUBLISHED;
    job->was_there = status->was_there;
    job->url = strdup(status->url);
    job->cid = status->cid;
    publish->published++;
    publish->failed_in_a_row = 0;
    if (job->was_there) {
        publish->was_there++;
        publish->wanted_bytes -= job->size_bytes;
    } else {
        publish->published_bytes += job->size_bytes;
    }
}

static void settle_failed(struct publish *publish, struct job *job)
{
    job->outcome = OUTCOME_FAILED;
    publish->failed++;
    publish->failed_in_a_row++;
    publish->wanted_bytes -= job->size_bytes;
}

static void stop_running(struct publish *publish, struct job *job)
{
    for (unsigned i = 0; i < publish->running_count; i++) {
        if (publish->running[i] == job) {
            publish->running[i] = publish->running[--publish->running_count];
            break;
        }
    }
    atd_publication_unref(atd_steal(job->publication)); /* takes back what is not published */
    (void)close(job->fd);
    job->fd = -1;
}

/* Its bytes are in the store, or it is published, or neither. */
static void take_answer(struct publish *publish, struct job *job)
{
    struct atd_publication_status status;

    if (job->why.code == 0 && !job->is_committing && publish->signal == 0 &&
        check_unchanged(job, &job->why) == 0) {
        job->is_committing = true;
        atd_publication_publish(job->publication, atd_str_from(publish->dataset),
                                atd_str_from(job->file_name), ATD_STR(""), &job->wait);
        return;
    }
    if (job->why.code == 0 && !job->is_committing)
        (void)atd_error_set(&job->why, ECANCELED, "publishing '%s' was cancelled", job->file_name);
    if (job->why.code == 0) {
        atd_publication_status(job->publication, &status);
        settle_published(publish, job, &status);
    } else {
        settle_failed(publish, job);
    }
    stop_running(publish, job);
    publish_tell_job(publish, job);
}

/* ------------------------------------------------------------------ all of them */

static void draw(struct publish *publish)
{
    struct progress_facts facts = {.done_files = publish->published + publish->failed,
                                   .files = publish->count,
                                   .done_bytes = publish->published_bytes,
                                   .bytes = publish->wanted_bytes};
    struct atd_publication_status status;

    if (!publish->progress.shown)
        return;
    for (unsigned i = 0; i < publish->running_count; i++) {
        atd_publication_status(publish->running[i]->publication, &status);
        facts.done_bytes += status.sent_bytes;
    }
    progress_draw(&publish->progress, &facts);
}

/* Everything that has an answer; waits a moment for the first. */
static struct job *take_back(struct publish *publish)
{
    struct job *back;

    atd_lock_take(&publish->lock);
    if (!publish->back)
        atd_cond_wait_ms(&publish->wake, &publish->lock, WATCH_MS);
    back = publish->back;
    publish->back = NULL;
    atd_lock_give(&publish->lock);
    return back;
}

static void begin_next(struct publish *publish)
{
    struct job *job = &publish->jobs[publish->next++];

    if (begin(job, &job->why) == 0) {
        publish->running[publish->running_count++] = job;
    } else {
        settle_failed(publish, job);
        publish_tell_job(publish, job);
    }
}

/* Whether another file may be begun. */
static bool goes_on(struct publish *publish)
{
    if (publish->signal || publish->stopped.code || publish->next == publish->count)
        return false;
    if (publish->failed_in_a_row < IN_A_ROW_MAX)
        return true;
    if (atd_publisher_ready(publish->publisher, &publish->stopped) == 0) {
        publish->stopped.code = 0;
        publish->failed_in_a_row = 0;
    }
    return publish->stopped.code == 0;
}

static void cancel_all(struct publish *publish)
{
    for (unsigned i = 0; i < publish->running_count; i++)
        atd_publication_cancel(publish->running[i]->publication);
}

bool publish_jobs_run(struct publish *publish)
{
    int64_t until_ms = INT64_MAX;

    is_running = 1;
    for (;;) {
        struct job *back;

        if (caught && publish->signal == 0) {
            publish->signal = caught;
            until_ms = atd_clock_monotonic_ms() + INTERRUPT_MS;
            cancel_all(publish);
        }
        while (publish->running_count < publish->parallel && goes_on(publish) && !caught)
            begin_next(publish);
        if (publish->running_count == 0 && !(caught && publish->signal == 0))
            break;
        draw(publish);
        back = take_back(publish);
        while (back) {
            struct job *next = back->next_back;

            take_answer(publish, back);
            back = next;
        }
        if (atd_clock_monotonic_ms() > until_ms)
            break;
    }
    progress_clear(&publish->progress);
    return publish->running_count == 0;
}

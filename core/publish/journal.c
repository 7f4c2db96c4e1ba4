#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/dirs.h"
#include "base/limits.h"
#include "publish/journal_private.h"

#define SPOOL_PREFIX "spool-"
#define NAME_MAX_BYTES 64u
/* Directories of dead processes that one recovery looks at; the rest waits for the next. */
#define DEAD_MAX 256u
#define URL_BYTES_MAX (1u << 20)
#define SCOPE_BYTES_MAX 4096u
#define HEAD_BYTES_MAX 256u
#define JOB_BYTES_MAX                                                                         \
    (HEAD_BYTES_MAX + ATD_NAME_BYTES_MAX + URL_BYTES_MAX + ATD_UPLOAD_ID_MAX + ATD_ETAG_MAX + \
     SCOPE_BYTES_MAX)

/*
 * A job's file: one line of numbers, then the five texts that they measure, all under a checksum:
 *
 *     atdatafs-job 3 CRC STATE SIZE MTIME LEN(dataset) LEN(url) LEN(id) LEN(etag) LEN(scope) MAKER
 *         [SEEN SEEN]\n
 *
 * CRC (CRC-32C, hex) is of everything behind it; MAKER is "-" when it is not known. SEEN, by the
 * wall's clock and since the boot, is there once the object was seen. What another version wrote,
 * which begins with KIND, is left to that version.
 */
#define KIND "atdatafs-job "
#define MAGIC KIND "3 "
#define TEXTS 5
#define NO_MAKER "-"
#define CRC_DIGITS 8u
#define BODY_AT (sizeof(MAGIC) - 1 + CRC_DIGITS)

/* This process's directory. */
struct run {
    char *path; /* "STATE/run-XXXXXX" */
    int fd;     /* locked while this process lives */
};

struct atd_journal {
    char *state_dir;
    char *scope;
    _Atomic(struct run *) run; /* made when it is first needed: who only reads leaves no trace */
    atomic_uint_fast64_t next_number;
};

static int failed(struct atd_error *err, const char *doing, const char *path)
{
    int code = errno;

    return atd_error_set(err, code, "%s '%s': %s", doing, path, strerror(code));
}

/* ------------------------------------------------------------------ open and close */

/* The state directory, locked: nobody makes a directory in it, or looks for dead ones, meanwhile.
 */
static int lock_state_dir(const char *state_dir, int *ret_fd, struct atd_error *err)
{
    atd_auto_fd int fd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return failed(err, "cannot open", state_dir);
    while (flock(fd, LOCK_EX)) {
        if (errno != EINTR)
            return failed(err, "cannot lock", state_dir);
    }
    *ret_fd = atd_steal_fd(&fd);
    return 0;
}

static void free_run(struct run *run)
{
    if (!run)
        return;
    if (run->path)
        (void)rmdir(run->path); /* stays when a job is left in it */
    if (run->fd >= 0)
        close(run->fd);
    free(run->path);
    free(run);
}

static int make_run_dir(struct run *run, const char *state_dir, struct atd_error *err)
{
    atd_auto_fd int state_fd = -1;
    int rc = lock_state_dir(state_dir, &state_fd, err);

    if (rc)
        return rc;
    if (asprintf(&run->path, "%s/" ATD_RUN_PREFIX "XXXXXX", state_dir) < 0) {
        run->path = NULL;
        return atd_error_set(err, ENOMEM, "cannot open the journal: out of memory");
    }
    if (!mkdtemp(run->path)) {
        rc = failed(err, "cannot make", run->path);
        free(atd_steal(run->path));
        return rc;
    }
    run->fd = open(run->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (run->fd < 0 || flock(run->fd, LOCK_EX | LOCK_NB))
        return failed(err, "cannot lock", run->path);
    return 0;
}

/* The directory, made now if need be. Of two threads that make one at once the first one's stays.
 */
static int get_run(struct atd_journal *journal, const struct run **ret_run, struct atd_error *err)
{
    struct run *run = atomic_load(&journal->run);
    struct run *none = NULL;
    int rc;

    if (!run) {
        run = calloc(1, sizeof(*run));
        if (!run)
            return atd_error_set(err, ENOMEM, "cannot open the journal: out of memory");
        run->fd = -1;
        rc = atd_make_dirs(journal->state_dir);
        if (rc)
            rc = atd_error_set(err, -rc, "cannot make '%s': %s", journal->state_dir, strerror(-rc));
        else
            rc = make_run_dir(run, journal->state_dir, err);
        if (rc) {
            free_run(run);
            return rc;
        }
        if (!atomic_compare_exchange_strong(&journal->run, &none, run)) {
            free_run(run);
            run = none;
        }
    }
    *ret_run = run;
    return 0;
}

int atd_journal_open(const char *state_dir, const char *scope, struct atd_journal **ret_journal,
                     struct atd_error *err)
{
    struct atd_journal *journal;

    if (strlen(scope) > SCOPE_BYTES_MAX)
        return atd_error_set(err, ENAMETOOLONG, "the name of the endpoint is longer than %u bytes",
                             SCOPE_BYTES_MAX);
    journal = calloc(1, sizeof(*journal));
    if (journal) {
        journal->state_dir = strdup(state_dir);
        journal->scope = strdup(scope);
        atomic_init(&journal->next_number, 1);
    }
    if (!journal || !journal->state_dir || !journal->scope) {
        atd_journal_close(journal);
        return atd_error_set(err, ENOMEM, "cannot open the journal: out of memory");
    }
    *ret_journal = journal;
    return 0;
}

void atd_journal_close(struct atd_journal *journal)
{
    if (!journal)
        return;
    free_run(atomic_load(&journal->run));
    free(journal->state_dir);
    free(journal->scope);
    free(journal);
}

int atd_journal_spool_path(struct atd_journal *journal, uint64_t *ret_number, char **ret_path,
                           struct atd_error *err)
{
    uint64_t number = atomic_fetch_add(&journal->next_number, 1);
    const struct run *run;
    char *path;
    int rc = get_run(journal, &run, err);

    if (rc)
        return rc;
    if (asprintf(&path, "%s/" SPOOL_PREFIX "%" PRIu64, run->path, number) < 0)
        return atd_error_set(err, ENOMEM, "cannot name a spool file: out of memory");
    *ret_number = number;
    *ret_path = path;
    return 0;
}

/* ------------------------------------------------------------------ writing a job */

static void encode(const struct atd_job *job, struct atd_str scope, struct atd_buf *out)
{
    struct atd_str dataset = atd_str_from(job->dataset ? job->dataset : "");
    struct atd_str url = atd_str_from(job->url ? job->url : "");
    struct atd_str id = atd_str_from(job->upload_id);
    struct atd_str etag = atd_str_from(job->info.etag);
    char crc[CRC_DIGITS + 1];

    atd_buf_printf(out, MAGIC "%0*x", (int)CRC_DIGITS, 0u);
    atd_buf_printf(out, " %u %" PRIu64 " %" PRId64 " %zu %zu %zu %zu %zu %s", (unsigned)job->state,
                   job->info.size_bytes, job->info.mtime_s, dataset.len, url.len, id.len, etag.len,
                   scope.len, job->info.maker[0] ? job->info.maker : NO_MAKER);
    if (!atd_sighting_same(&job->seen, &(struct atd_sighting){0}))
        atd_buf_printf(out, " %" PRId64 " %" PRId64, job->seen.wall_ms, job->seen.boot_ms);
    atd_buf_append_str(out, ATD_STR("\n"));
    atd_buf_append_str(out, dataset);
    atd_buf_append_str(out, url);
    atd_buf_append_str(out, id);
    atd_buf_append_str(out, etag);
    atd_buf_append_str(out, scope);
    if (out->failed)
        return;
    (void)snprintf(crc, sizeof(crc), "%0*x", (int)CRC_DIGITS,
                   atd_crc32c(0, out->ptr + BODY_AT, out->len - BODY_AT));
    memcpy(out->ptr + sizeof(MAGIC) - 1, crc, CRC_DIGITS);
}

static int write_all(int fd, struct atd_bytes bytes)
{
    while (bytes.len > 0) {
        ssize_t n = write(fd, bytes.ptr, bytes.len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        bytes.ptr += n;
        bytes.len -= (size_t)n;
    }
    return 0;
}

static void job_name(uint64_t number, const char *suffix, char ret_name[NAME_MAX_BYTES])
{
    (void)snprintf(ret_name, NAME_MAX_BYTES, ATD_JOB_PREFIX "%" PRIu64 "%s", number, suffix);
}

/* No fsync: what must survive is the death of the process, not of the machine; an upload that a
 * power cut leaves behind costs what the store's own expiry of uploads costs. */
static int write_job(int dir_fd, const char *dir, const struct atd_job *job, const char *scope,
                     struct atd_error *err)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(JOB_BYTES_MAX);
    atd_auto_fd int fd = -1;
    char name[NAME_MAX_BYTES];
    char fresh[NAME_MAX_BYTES];
    int rc;

    encode(job, atd_str_from(scope), &text);
    rc = atd_buf_finish(&text, "the journal", err);
    if (rc)
        return rc;
    job_name(job->number, "", name);
    job_name(job->number, ATD_JOB_PART_SUFFIX, fresh);
    fd = openat(dir_fd, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    rc = fd < 0 ? -errno : write_all(fd, atd_buf_bytes(&text));
    if (rc == 0 && renameat(dir_fd, fresh, dir_fd, name))
        rc = -errno;
    if (rc == 0)
        return 0;
    (void)unlinkat(dir_fd, fresh, 0);
    /* Not ENOSPC: some tools delete the file that they replace then (TOOLS 2b). */
    return atd_error_set(err, rc == -ENOSPC ? EDQUOT : -rc, "cannot write '%s/%s': %s", dir, name,
                         strerror(-rc));
}

int atd_journal_put(struct atd_journal *journal, const struct atd_job *job, struct atd_error *err)
{
    const struct run *run;
    int rc = get_run(journal, &run, err);

    return rc ? rc : write_job(run->fd, run->path, job, journal->scope, err);
}

void atd_journal_remove(struct atd_journal *journal, uint64_t number)
{
    const struct run *run = atomic_load(&journal->run);
    char name[NAME_MAX_BYTES];

    if (!run)
        return;
    job_name(number, "", name);
    (void)unlinkat(run->fd, name, 0);
}

/* ------------------------------------------------------------------ reading a job */

static char *take_text(struct atd_str *rest, size_t len)
{
    char *text = strndup(rest->len ? rest->ptr : "", len);

    *rest = atd_str_from_byte(*rest, len);
    return text;
}

void atd_job_release(struct atd_job *job)
{
    free(job->dataset);
    free(job->url);
    free(job->scope);
}

/* The line of numbers; *ret_lens of the texts behind it. */
static bool decode_head(struct atd_str text, struct atd_job *job, size_t ret_lens[TEXTS])
{
    char head[HEAD_BYTES_MAX] = "";
    char maker[ATD_MAKER_LEN + 1];
    unsigned crc;
    unsigned state;
    ptrdiff_t line = atd_str_find(text, '\n');
    size_t len = (size_t)line + 1;
    int fields;

    _Static_assert(ATD_MAKER_LEN == 16, "%16s below");
    if (line < (ptrdiff_t)BODY_AT || (size_t)line >= sizeof(head))
        return false;
    memcpy(head, text.ptr, (size_t)line);
    fields = sscanf(
        head, MAGIC "%8x %u %" SCNu64 " %" SCNd64 " %zu %zu %zu %zu %zu %16s %" SCNd64 " %" SCNd64,
        &crc, &state, &job->info.size_bytes, &job->info.mtime_s, &ret_lens[0], &ret_lens[1],
        &ret_lens[2], &ret_lens[3], &ret_lens[4], maker, &job->seen.wall_ms, &job->seen.boot_ms);
    if ((fields != 10 && fields != 12) || state > ATD_JOB_COMMITTING ||
        ret_lens[0] > ATD_NAME_BYTES_MAX || ret_lens[1] > URL_BYTES_MAX ||
        ret_lens[2] > ATD_UPLOAD_ID_MAX || ret_lens[3] > ATD_ETAG_MAX ||
        ret_lens[4] > SCOPE_BYTES_MAX ||
        crc != atd_crc32c(0, text.ptr + BODY_AT, text.len - BODY_AT))
        return false;
    job->state = (enum atd_job_state)state;
    if (strcmp(maker, NO_MAKER) != 0)
        memcpy(job->info.maker, maker, sizeof(maker));
    for (size_t i = 0; i < TEXTS; i++)
        len += ret_lens[i];
    return text.len == len;
}

/* "atdatafs-job N ", and N is not ours. */
static bool is_of_another_version(struct atd_str text)
{
    struct atd_str number;
    ptrdiff_t end;

    if (!atd_str_starts_with(text, ATD_STR(KIND)) || atd_str_starts_with(text, ATD_STR(MAGIC)))
        return false;
    number = atd_str_from_byte(text, sizeof(KIND) - 1);
    end = atd_str_find(number, ' ');
    if (end <= 0)
        return false;
    for (ptrdiff_t i = 0; i < end; i++) {
        if (number.ptr[i] < '0' || number.ptr[i] > '9')
            return false;
    }
    return true;
}

/* Errors: EINVAL damaged; ENOTSUP another version's; ENOMEM. */
static int decode(struct atd_str text, struct atd_job *ret_job)
{
    struct atd_job job = {.number = 0};
    atd_auto_free char *id = NULL;
    atd_auto_free char *etag = NULL;
    size_t lens[TEXTS];

    if (!decode_head(text, &job, lens))
        return is_of_another_version(text) ? -ENOTSUP : -EINVAL;
    text = atd_str_from_byte(text, (size_t)atd_str_find(text, '\n') + 1);
    job.dataset = take_text(&text, lens[0]);
    job.url = take_text(&text, lens[1]);
    id = take_text(&text, lens[2]);
    etag = take_text(&text, lens[3]);
    job.scope = take_text(&text, lens[4]);
    if (!job.dataset || !job.url || !id || !etag || !job.scope) {
        atd_job_release(&job);
        return -ENOMEM;
    }
    (void)snprintf(job.upload_id, sizeof(job.upload_id), "%s", id);
    (void)snprintf(job.info.etag, sizeof(job.info.etag), "%s", etag);
    *ret_job = job;
    return 0;
}

int atd_job_read(int dir_fd, const char *name, struct atd_job *ret_job)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(JOB_BYTES_MAX);
    atd_auto_fd int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    uint8_t piece[4096];

    if (fd < 0)
        return errno == ELOOP ? -EINVAL : -errno;
    while (!text.failed) {
        ssize_t n = read(fd, piece, sizeof(piece));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        atd_buf_append(&text, piece, (size_t)n);
    }
    if (text.failed)
        return text.failed == ENOMEM ? -ENOMEM : -EINVAL;
    return decode(atd_buf_str(&text), ret_job);
}

/* ------------------------------------------------------------------ recovery */

struct recovery {
    atd_journal_settle_fn settle;
    void *ctx;
    struct atd_error *warning;
    bool again; /* something could not even be read just now */
};

/* False: the job stays for another time. */
static bool settle_file(struct recovery *recovery, int dir_fd, const char *dir, const char *name)
{
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_sighting seen;
    struct atd_job job;
    int rc = atd_job_read(dir_fd, name, &job);

    if (rc == -EINVAL || rc == -EISDIR) {
        (void)atd_error_set(recovery->warning, -rc,
                            "'%s/%s' is damaged: an upload may be left behind in the store", dir,
                            name);
        return true;
    }
    if (rc == -ENOTSUP) {
        (void)atd_error_set(recovery->warning, -rc,
                            "'%s/%s' was written by another version, which must settle it", dir,
                            name);
        return false;
    }
    if (rc) { /* no memory, no descriptors, a disk: what it tells of is not forgotten for that */
        (void)atd_error_set(recovery->warning, -rc, "'%s/%s' cannot be read: %s", dir, name,
                            strerror(-rc));
        recovery->again = true;
        return false;
    }
    job.number = strtoull(name + sizeof(ATD_JOB_PREFIX) - 1, NULL, 10);
    seen = job.seen;
    rc = recovery->settle(recovery->ctx, &job, &err);
    /* When it cannot be written, the next look is the first one again. */
    if (rc && !atd_sighting_same(&seen, &job.seen))
        (void)write_job(dir_fd, dir, &job, job.scope, NULL);
    atd_job_release(&job);
    return rc == 0;
}

static bool ends_with(const char *name, const char *suffix)
{
    return atd_str_ends_with(atd_str_from(name), atd_str_from(suffix));
}

static void recover_dir(struct recovery *recovery, int dir_fd, const char *dir)
{
    int listing_fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *listing = listing_fd < 0 ? NULL : fdopendir(listing_fd);
    struct dirent *entry;

    if (!listing) {
        if (listing_fd >= 0)
            close(listing_fd);
        return;
    }
    while ((entry = readdir(listing))) {
        const char *name = entry->d_name;
        bool is_job = strncmp(name, ATD_JOB_PREFIX, sizeof(ATD_JOB_PREFIX) - 1) == 0;
        bool is_spool = strncmp(name, SPOOL_PREFIX, sizeof(SPOOL_PREFIX) - 1) == 0;

        if (is_spool || (is_job && (ends_with(name, ATD_JOB_PART_SUFFIX) ||
                                    settle_file(recovery, dir_fd, dir, name))))
            (void)unlinkat(dir_fd, name, 0);
    }
    (void)closedir(listing);
    (void)rmdir(dir); /* stays when a job stays */
}

struct dead_dir {
    int fd; /* locked by us */
    char *path;
};

/* The directories whose process is dead, locked, so that no other process recovers them too. */
static size_t lock_dead(const char *state_dir, DIR *listing, struct dead_dir *ret_dirs)
{
    size_t count = 0;
    struct dirent *entry;

    while (count < DEAD_MAX && (entry = readdir(listing))) {
        char *path;
        int fd;

        if (strncmp(entry->d_name, ATD_RUN_PREFIX, sizeof(ATD_RUN_PREFIX) - 1) != 0 ||
            asprintf(&path, "%s/%s", state_dir, entry->d_name) < 0)
            continue;
        fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) {
            ret_dirs[count++] = (struct dead_dir){fd, path};
            continue;
        }
        if (fd >= 0)
            close(fd);
        free(path);
    }
    return count;
}

int atd_journal_recover(const char *state_dir, atd_journal_settle_fn settle, void *ctx,
                        struct atd_error *ret_warning, struct atd_error *err)
{
    struct recovery recovery = {settle, ctx, ret_warning, false};
    struct dead_dir dirs[DEAD_MAX];
    size_t count;
    int state_fd;
    int listing_fd;
    DIR *listing;
    int rc;

    if (access(state_dir, F_OK) != 0 && errno == ENOENT)
        return 0; /* nobody has published yet */
    rc = lock_state_dir(state_dir, &state_fd, err);
    if (rc)
        return rc;
    listing_fd = openat(state_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    listing = listing_fd < 0 ? NULL : fdopendir(listing_fd);
    if (!listing) {
        rc = failed(err, "cannot read", state_dir);
        if (listing_fd >= 0)
            close(listing_fd);
        close(state_fd);
        return rc;
    }
    count = lock_dead(state_dir, listing, dirs);
    (void)closedir(listing);
    close(state_fd); /* settling asks servers: others may start meanwhile */
    for (size_t i = 0; i < count; i++) {
        recover_dir(&recovery, dirs[i].fd, dirs[i].path);
        close(dirs[i].fd);
        free(dirs[i].path);
    }
    return recovery.again ? atd_error_set(err, EAGAIN, "'%s' cannot be read now", state_dir) : 0;
}

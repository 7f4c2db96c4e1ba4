#include <fcntl.h>
#include <sys/resource.h>

#include "left_jobs.h"

static void leave_a_job(struct atd_journal *journal)
{
    struct atd_job job = job_of(ATD_JOB_SENDING);
    uint64_t number;
    char *path;

    if (atd_journal_spool_path(journal, &number, &path, NULL) == 0)
        close(open(path, O_WRONLY | O_CREAT, 0600));
    leave(journal, &job);
    job.state = ATD_JOB_COMMITTING;
    leave(journal, &job);
}

static void leave_garbage(struct atd_journal *journal)
{
    uint64_t number;
    char *path;
    char *slash;

    if (atd_journal_spool_path(journal, &number, &path, NULL))
        return;
    slash = strrchr(path, '/');
    (void)strcpy(slash, "/job-9");
    {
        FILE *file = fopen(path, "w");

        (void)fputs("atdatafs-job 3 00000000 2 1 1 99999 99999 99999 99999 99999\nnothing", file);
        (void)fclose(file);
    }
}

static void leave_the_future(struct atd_journal *journal)
{
    uint64_t number;
    char *path;
    FILE *file;

    if (atd_journal_spool_path(journal, &number, &path, NULL))
        return;
    (void)strcpy(strrchr(path, '/'), "/job-9");
    file = fopen(path, "w");
    (void)fputs("atdatafs-job 10 {\"what\": \"nobody here knows\"}\n", file);
    (void)fclose(file);
}

Test(journal, tells_what_the_dead_left)
{
    struct settled settled = {.rc = -EAGAIN};
    struct atd_error warning = ATD_ERROR_INIT;
    struct atd_journal *journal;
    char dir[64];

    make_dir(dir);
    WORKS(atd_journal_open(dir, RIG_SCOPE, &journal, err));
    die_after(dir, leave_a_job);
    recover(dir, &settled, &warning);
    cr_assert_eq(settled.count, 1);
    cr_assert_eq(settled.last.state, ATD_JOB_COMMITTING);
    cr_assert_eq(settled.last.number, 1);
    cr_assert_str_eq(settled.dataset, "d\n1");
    cr_assert_str_eq(settled.url, "s3://bucket/pre/d/x.tar");
    cr_assert_str_eq(settled.scope, RIG_SCOPE);
    cr_assert_str_eq(settled.last.upload_id, "the id");
    cr_assert_str_eq(settled.last.info.etag, "abc-2");
    cr_assert_eq(settled.last.info.size_bytes, 4096);
    cr_assert_eq(settled.last.info.mtime_s, -1);
    cr_assert_str_eq(settled.last.info.maker, "0123456789abcdef");
    cr_assert_eq(files_in(dir), 1); /* the spool went, the job stays */
    settled.rc = 0;
    recover(dir, &settled, &warning);
    cr_assert_eq(settled.count, 2);
    cr_assert_eq(files_in(dir), 0);
    recover(dir, &settled, &warning);
    cr_assert_eq(settled.count, 2);
    cr_assert_eq(warning.code, 0);
    die_after(dir, leave_garbage);
    recover(dir, &settled, &warning);
    cr_assert_eq(settled.count, 2);
    cr_assert_neq(warning.code, 0);
    cr_assert_eq(files_in(dir), 0);
    atd_journal_close(journal);
    cr_assert_eq(rmdir(dir), 0); /* nothing else is left */
}

static int note_job(void *ctx, const struct atd_job *job, struct atd_error *why)
{
    struct settled *settled = ctx;

    settled->count++;
    (void)snprintf(settled->url, sizeof(settled->url), "%s", job->url);
    return settled->rc ? atd_error_set(why, -settled->rc, "enough") : 0;
}

Test(journal, who_only_looks_sees_jobs_of_the_living_and_the_dead)
{
    struct atd_job job = job_of(ATD_JOB_SENT);
    struct settled seen = {0};
    struct atd_journal *journal;
    char dir[64];
    char *path;

    make_dir(dir);
    WORKS(atd_journal_look(dir, note_job, &seen, err));
    cr_assert_eq(seen.count, 0);
    die_after(dir, leave_a_job);
    WORKS(atd_journal_open(dir, RIG_SCOPE, &journal, err));
    WORKS(atd_journal_spool_path(journal, &job.number, &path, err));
    free(path);
    WORKS(atd_journal_put(journal, &job, err));
    WORKS(atd_journal_look(dir, note_job, &seen, err));
    cr_assert_geq(seen.count, 2); /* each at least once */
    cr_assert_str_eq(seen.url, "s3://bucket/pre/d/x.tar");
    cr_assert_geq(files_in(dir), 2); /* nothing was changed */
    seen.rc = -ECANCELED;
    cr_assert_eq(atd_journal_look(dir, note_job, &seen, NULL), -ECANCELED);
    atd_journal_remove(journal, job.number);
    atd_journal_close(journal);
    remove_tree(dir);
}

Test(journal, a_job_that_cannot_be_read_is_an_error_for_who_only_looks)
{
    struct settled seen = {0};
    char dir[64];

    make_dir(dir);
    die_after(dir, leave_garbage);
    cr_assert_eq(atd_journal_look(dir, note_job, &seen, NULL), -EAGAIN);
    remove_tree(dir);
    make_dir(dir);
    die_after(dir, leave_the_future);
    cr_assert_eq(atd_journal_look(dir, note_job, &seen, NULL), -EAGAIN);
    cr_assert_eq(seen.count, 0);
    remove_tree(dir);
    WORKS(atd_journal_look(dir, note_job, &seen, err)); /* nobody has published yet */
}

/* Its uploads are known to that version only: it is not told by a missing file that all is well. */
Test(journal, what_another_version_wrote_stays)
{
    struct settled settled = {0};
    struct atd_error warning = ATD_ERROR_INIT;
    char dir[64];

    make_dir(dir);
    die_after(dir, leave_the_future);
    recover(dir, &settled, &warning);
    cr_assert_eq(settled.count, 0);
    cr_assert_eq(warning.code, ENOTSUP);
    cr_assert_eq(files_in(dir), 1);
    remove_tree(dir);
}

/* No descriptors, no memory: that passes, and an upload that is forgotten for it does not. */
Test(journal, what_cannot_be_read_now_stays)
{
    struct settled settled = {0};
    struct atd_error warning = ATD_ERROR_INIT;
    struct rlimit limit;
    struct rlimit few;
    char dir[64];
    int rc = 0;

    make_dir(dir);
    die_after(dir, leave_a_job);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    for (few = limit, few.rlim_cur = 3; few.rlim_cur < 64 && settled.count == 0; few.rlim_cur++) {
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
        rc = atd_journal_recover(dir, settle, &settled, &warning, NULL);
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
        cr_assert_eq(files_in(dir) > 0, settled.count == 0, "with %lu descriptors",
                     (unsigned long)few.rlim_cur);
    }
    cr_assert_eq(rc, 0);
    cr_assert_eq(settled.count, 1);
    cr_assert_eq(rmdir(dir), 0);
}

/* What a look noted is there for the next, with all the rest of the job. */
Test(journal, a_sighting_is_kept)
{
    struct settled settled = {.rc = -EAGAIN, .sight = {1700000000123, -5}};
    struct atd_error warning = ATD_ERROR_INIT;
    char dir[64];

    make_dir(dir);
    die_after(dir, leave_a_job);
    recover(dir, &settled, &warning);
    cr_assert(atd_sighting_same(&settled.last.seen, &(struct atd_sighting){0}));
    settled.sight.wall_ms = 0;
    for (int i = 0; i < 2; i++) {
        recover(dir, &settled, &warning);
        cr_assert_eq(settled.last.seen.wall_ms, 1700000000123);
        cr_assert_eq(settled.last.seen.boot_ms, -5);
        cr_assert_eq(settled.last.state, ATD_JOB_COMMITTING);
        cr_assert_str_eq(settled.url, "s3://bucket/pre/d/x.tar");
        cr_assert_str_eq(settled.scope, RIG_SCOPE);
        cr_assert_str_eq(settled.last.info.etag, "abc-2");
        cr_assert_eq(files_in(dir), 1);
    }
    settled.sight = (struct atd_sighting){9, 9};
    settled.rc = 0; /* nothing is written of what is over */
    recover(dir, &settled, &warning);
    cr_assert_eq(files_in(dir), 0);
    cr_assert_eq(warning.code, 0);
    cr_assert_eq(rmdir(dir), 0);
}

Test(journal, the_living_are_left_alone)
{
    struct settled settled = {0};
    struct atd_error warning = ATD_ERROR_INIT;
    struct atd_job job = job_of(ATD_JOB_SENT);
    struct atd_journal *journal;
    char dir[64];

    make_dir(dir);
    WORKS(atd_journal_open(dir, RIG_SCOPE, &journal, err));
    WORKS(atd_journal_put(journal, &job, err));
    recover(dir, &settled, &warning);
    cr_assert_eq(settled.count, 0);
    cr_assert_eq(files_in(dir), 1);
    atd_journal_remove(journal, 1);
    atd_journal_close(journal);
    cr_assert_eq(rmdir(dir), 0);
}

/* Every shorter file, and every changed byte, is noticed. */
static void check_damage(struct atd_sighting seen)
{
    struct atd_job job = job_of(ATD_JOB_SENT);
    struct atd_journal *journal;
    char dir[64];
    char path[256];
    char text[1024];
    size_t len;
    FILE *file;

    job.seen = seen;
    make_dir(dir);
    for (size_t cut = 0;; cut++) {
        struct settled settled = {0};
        struct atd_error warning = ATD_ERROR_INIT;

        WORKS(atd_journal_open(dir, RIG_SCOPE, &journal, err));
        WORKS(atd_journal_put(journal, &job, err));
        {
            uint64_t number;
            char *spool;

            WORKS(atd_journal_spool_path(journal, &number, &spool, err));
            (void)snprintf(path, sizeof(path), "%.*s/job-1", (int)(strrchr(spool, '/') - spool),
                           spool);
            free(spool);
        }
        file = fopen(path, "r+");
        len = fread(text, 1, sizeof(text), file);
        (void)fclose(file);
        if (cut >= 2 * len) {
            atd_journal_remove(journal, 1);
            atd_journal_close(journal);
            break;
        }
        if (cut < len)
            cr_assert_eq(truncate(path, (off_t)cut), 0);
        else {
            if (cut - len == sizeof("atdatafs-job ") - 1)
                text[cut - len] ^= 0x40; /* no other number: that would be another version */
            text[cut - len] ^= 1;
            file = fopen(path, "w");
            (void)fwrite(text, 1, len, file);
            (void)fclose(file);
        }
        atd_journal_close(journal); /* its directory stays, unlocked: as of a dead one */
        recover(dir, &settled, &warning);
        cr_assert_eq(settled.count, 0, "at %zu", cut);
        cr_assert_neq(warning.code, 0, "at %zu", cut);
    }
    cr_assert_eq(rmdir(dir), 0);
}

Test(journal, damage_is_noticed)
{
    check_damage((struct atd_sighting){0});
    check_damage((struct atd_sighting){1700000000123, 4711});
}

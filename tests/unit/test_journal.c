#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "publish_rig.h"

/* ------------------------------------------------------------------ jobs */

struct settled {
    unsigned count;
    struct atd_sighting sight; /* noted, unless it is all 0 */
    struct atd_job last;
    char dataset[64];
    char url[256];
    int rc;
};

static int settle(void *ctx, struct atd_job *job, struct atd_error *err)
{
    struct settled *settled = ctx;

    (void)err;
    settled->count++;
    settled->last = *job;
    (void)snprintf(settled->dataset, sizeof(settled->dataset), "%s", job->dataset);
    (void)snprintf(settled->url, sizeof(settled->url), "%s", job->url);
    if (settled->sight.wall_ms)
        job->seen = settled->sight;
    return settled->rc;
}

static void recover(const char *dir, struct settled *settled, struct atd_error *warning)
{
    WORKS(atd_journal_recover(dir, settle, settled, warning, err));
}

/* A process that opens a journal, does something, and dies. */
static void die_after(const char *dir, void (*act)(struct atd_journal *journal))
{
    pid_t child = fork();
    int status;

    cr_assert_geq(child, 0);
    if (child == 0) {
        struct atd_journal *journal;

        if (atd_journal_open(dir, &journal, NULL) == 0)
            act(journal);
        _exit(0);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static struct atd_job job_of(enum atd_job_state state)
{
    static char dataset[] = "d\n1";
    static char url[] = "s3://bucket/pre/d/x.tar";
    struct atd_job job = {
        .number = 1,
        .state = state,
        .dataset = dataset,
        .url = url,
        .upload_id = "the id",
        .info = {.size_bytes = 4096, .etag = "abc-2", .mtime_s = -1, .maker = "0123456789abcdef"}};

    return job;
}

static void leave(struct atd_journal *journal, const struct atd_job *job)
{
    if (atd_journal_put(journal, job, NULL))
        _exit(1);
}

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

        (void)fputs("atdatafs-job 2 00000000 2 1 1 99999 99999 99999 99999\nnothing", file);
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

static unsigned files_in(const char *dir)
{
    leftover_count = 0;
    (void)nftw(dir, count_leftover, 16, FTW_PHYS);
    return leftover_count;
}

static void make_dir(char dir[64])
{
    (void)snprintf(dir, 64, "/tmp/atd-journal-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
}

Test(journal, tells_what_the_dead_left)
{
    struct settled settled = {.rc = -EAGAIN};
    struct atd_error warning = ATD_ERROR_INIT;
    struct atd_journal *journal;
    char dir[64];

    make_dir(dir);
    WORKS(atd_journal_open(dir, &journal, err));
    die_after(dir, leave_a_job);
    recover(dir, &settled, &warning);
    cr_assert_eq(settled.count, 1);
    cr_assert_eq(settled.last.state, ATD_JOB_COMMITTING);
    cr_assert_eq(settled.last.number, 1);
    cr_assert_str_eq(settled.dataset, "d\n1");
    cr_assert_str_eq(settled.url, "s3://bucket/pre/d/x.tar");
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
    WORKS(atd_journal_open(dir, &journal, err));
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
    WORKS(atd_journal_open(dir, &journal, err));
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

        WORKS(atd_journal_open(dir, &journal, err));
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

/* ------------------------------------------------------------------ a publisher after a kill */

#define URL PREFIX "/d/x.tar"

struct kill_case {
    enum atd_job_state state;
    bool has_upload;
    bool knows_id;
    bool has_object;
    bool is_other; /* somebody else's object */
    bool is_named;
    unsigned objects; /* that stay */
};

static const struct kill_case kill_cases[] = {
    {ATD_JOB_SPOOLING, false, false, false, false, false, 0},
    {ATD_JOB_SENDING, false, false, false, false, false, 0},
    {ATD_JOB_SENDING, true, false, false, false, false, 0},
    {ATD_JOB_SENDING, true, true, false, false, false, 0},
    {ATD_JOB_SENDING, false, true, true, false, false, 0}, /* finished, and not written down */
    {ATD_JOB_SENDING, false, true, true, true, false, 1},
    {ATD_JOB_SENDING, false, true, true, false, true, 1},
    {ATD_JOB_SENT, false, true, true, false, false, 0},
    {ATD_JOB_SENT, false, true, true, true, false, 1},
    {ATD_JOB_SENT, false, true, true, false, true, 1},
    {ATD_JOB_COMMITTING, false, true, true, false, false, 0},
    {ATD_JOB_COMMITTING, false, true, true, false, true, 1},
    {ATD_JOB_COMMITTING, false, true, true, true, false, 1},
    {ATD_JOB_COMMITTING, false, true, false, false, false, 0},
};

static struct atd_job left_job;

static void leave_the_job(struct atd_journal *journal)
{
    leave(journal, &left_job);
}

Test(journal, a_publisher_settles_what_a_kill_left)
{
    for (size_t i = 0; i < ATD_ARRAY_LEN(kill_cases); i++) {
        const struct kill_case *one = &kill_cases[i];
        struct rig rig = {0};
        struct atd_bytes tar = make_tar(4096, i);
        struct atd_store_upload *upload = NULL;
        struct atd_publisher_stats stats;

        rig_open(&rig);
        if (one->is_named)
            cr_assert_eq(copy_in(&rig, "d", "x.tar", tar), 0);
        cr_assert(atd_publisher_close(rig.publisher, 10000));
        left_job = job_of(one->state);
        left_job.dataset = strdup("d");
        left_job.upload_id[0] = '\0';
        left_job.info = (struct atd_object_info){.size_bytes = one->has_object ? 4096 : 0};
        if (one->has_upload)
            WORKS(atd_store_upload_begin(rig.memory, ATD_STR(URL), 8 * MIB, 1000,
                                         left_job.upload_id, &upload, err));
        if (!one->knows_id)
            left_job.upload_id[0] = '\0';
        if (one->has_object && !one->is_named)
            WORKS(atd_store_memory_put(rig.memory, ATD_STR(URL), tar, err));
        if (one->has_object)
            WORKS(atd_store_stat(rig.memory, ATD_STR(URL), 1000, &left_job.info, err));
        if (one->is_other)
            WORKS(atd_store_memory_put(rig.memory, ATD_STR(URL), atd_str_bytes(ATD_STR("else")),
                                       err));
        die_after(rig.dir, leave_the_job);
        atd_store_upload_free(upload);
        rig_start(&rig);
        check_tidy(&rig, one->objects);
        atd_publisher_stats(rig.publisher, &stats);
        cr_assert_eq(stats.recovered, 1, "case %zu", i);
        rig_close(&rig);
        free(left_job.dataset);
        drop_tar(tar);
    }
}

/* Was it the dead one's end that came through, or did somebody else send the same file since? */
Test(journal, an_object_of_the_same_size_is_not_yet_ours)
{
    static const enum atd_job_state states[] = {ATD_JOB_SENDING, ATD_JOB_SENT, ATD_JOB_COMMITTING};

    for (size_t i = 0; i < ATD_ARRAY_LEN(states); i++) {
        struct rig rig = {0};
        struct atd_bytes tar = make_tar(4096, i);

        rig_open(&rig);
        cr_assert(atd_publisher_close(rig.publisher, 10000));
        WORKS(atd_store_memory_put(rig.memory, ATD_STR(URL), tar, err));
        left_job = job_of(states[i]);
        (void)snprintf(left_job.upload_id, sizeof(left_job.upload_id), "%s", ATD_JOB_NO_UPLOAD);
        WORKS(atd_store_stat(rig.memory, ATD_STR(URL), 1000, &left_job.info, err));
        (void)snprintf(left_job.info.maker, sizeof(left_job.info.maker), "%s",
                       atd_store_maker(rig.store));
        die_after(rig.dir, leave_the_job);
        rig_start(&rig);
        check_tidy(&rig, 1);
        check_object(&rig, URL, tar);
        rig_close(&rig);
        drop_tar(tar);
    }
}

/* The dead one's job waits for the store; meanwhile the same file is copied again, to the same
 * place, and its rename takes its time. */
Test(journal, who_writes_there_now_is_not_disturbed)
{
    for (int large = 0; large < 2; large++) {
        struct rig rig = {.rules = {{ATD_WRITE_DISCARD, 0, {ATD_WRITE_FAULT_UNAVAILABLE, 0}}}};
        struct atd_bytes tar = make_tar(large ? 20 * MIB : 4096, 1);
        struct atd_publication *publication;
        struct atd_publisher_stats stats;
        int discards;

        rig_open(&rig);
        cr_assert(atd_publisher_close(rig.publisher, 10000));
        left_job = job_of(ATD_JOB_SENDING);
        left_job.upload_id[0] = '\0';
        left_job.info = (struct atd_object_info){.size_bytes = tar.len};
        (void)snprintf(left_job.info.maker, sizeof(left_job.info.maker), "%s",
                       atd_store_maker(rig.store));
        die_after(rig.dir, leave_the_job);
        rig_start(&rig);
        COMES(atomic_load(&rig.steps[ATD_WRITE_DISCARD]) > 0);
        /* Not at a moment when it is being settled: then another key would be taken. */
        do {
            publication = begin(&rig, "d", "x.tar");
            put_bytes(publication, 0, tar);
            cr_assert_eq(ask_check(publication, false), 0);
            if (strcmp(publication->sending.job.url, URL) == 0)
                break;
            finish(&rig, publication);
        } while (true);
        rig.rules[0].fault.fault = ATD_WRITE_FAULT_NONE;
        discards = atomic_load(&rig.steps[ATD_WRITE_DISCARD]);
        for (int rounds = 0; rounds < 8; rounds++)
            (void)usleep(50000); /* of the recovery, which has nothing to show for them */
        cr_assert_eq(atomic_load(&rig.steps[ATD_WRITE_DISCARD]), discards);
        cr_assert_eq(ask_publish(publication, "d", "x.tar"), 0);
        check_object(&rig, URL, tar);
        finish(&rig, publication);
        check_tidy(&rig, 1);
        atd_publisher_stats(rig.publisher, &stats);
        cr_assert_eq(stats.recovered, 1);
        rig_close(&rig);
        drop_tar(tar);
    }
}

/* ------------------------------------------------------------------ looks of several processes */

#define LONG_MS 3600000

struct look_case {
    /* The earlier look, so long ago by each clock; both 0: there was none. */
    int64_t wall_ago_ms;
    int64_t boot_ago_ms;
    bool is_deleted;
    bool is_noted; /* as the first look */
};

static const struct look_case look_cases[] = {
    {0, 0, false, true},
    {LONG_MS, LONG_MS, true, false},
    {LONG_MS - LONG_MS / 100, LONG_MS - LONG_MS / 100, true, false}, /* clocks are steered */
    {LONG_MS / 2, LONG_MS / 2, false, false},
    {30 * (int64_t)LONG_MS, 1000, false, false}, /* the wall's clock was set forwards */
    {1000, 30 * (int64_t)LONG_MS, false, false}, /* another machine's boot, long ago */
    {-LONG_MS, LONG_MS, false, true},            /* it was set back */
    {LONG_MS, -LONG_MS, false, true},            /* there was a boot */
};

/* Each look is one process's, of a publisher that looks again after an hour. */
Test(journal, looks_of_several_processes_make_two)
{
    static const enum atd_job_state states[] = {ATD_JOB_SENDING, ATD_JOB_COMMITTING};

    for (size_t i = 0; i < 2 * ATD_ARRAY_LEN(look_cases); i++) {
        const struct look_case *one = &look_cases[i / 2];
        struct rig rig = {.recover_every_ms = LONG_MS};
        struct settled settled = {.rc = -EAGAIN};
        struct atd_error warning = ATD_ERROR_INIT;
        struct atd_bytes tar = make_tar(4096, i);
        int64_t wall_ms = atd_clock_wall_ms();
        int64_t boot_ms = atd_clock_boot_ms();

        rig_open(&rig);
        cr_assert(atd_publisher_close(rig.publisher, 10000));
        WORKS(atd_store_memory_put(rig.memory, ATD_STR(URL), tar, err));
        left_job = job_of(states[i % 2]);
        WORKS(atd_store_stat(rig.memory, ATD_STR(URL), 1000, &left_job.info, err));
        if (one->wall_ago_ms)
            left_job.seen =
                (struct atd_sighting){wall_ms - one->wall_ago_ms, boot_ms - one->boot_ago_ms};
        die_after(rig.dir, leave_the_job);
        rig_start(&rig);
        atd_publisher_recover_wait(rig.publisher, DEADLINE_MS);
        cr_assert_eq(rig_leftovers(&rig), one->is_deleted ? 0u : 1u, "case %zu", i);
        cr_assert_eq(objects(&rig), one->is_deleted ? 0u : 1u, "case %zu", i);
        cr_assert(atd_publisher_close(rig.publisher, 10000));
        recover(rig.dir, &settled, &warning);
        cr_assert_eq(settled.count, one->is_deleted ? 0u : 1u, "case %zu", i);
        if (one->is_noted) {
            cr_assert_geq(settled.last.seen.wall_ms, wall_ms, "case %zu", i);
            cr_assert_leq(settled.last.seen.wall_ms, atd_clock_wall_ms(), "case %zu", i);
            cr_assert_geq(settled.last.seen.boot_ms, boot_ms, "case %zu", i);
            cr_assert_leq(settled.last.seen.boot_ms, atd_clock_boot_ms(), "case %zu", i);
        } else if (!one->is_deleted) {
            cr_assert(atd_sighting_same(&settled.last.seen, &left_job.seen), "case %zu", i);
        }
        rig_start(&rig);
        rig_close(&rig);
        drop_tar(tar);
    }
}

/* ------------------------------------------------------------------ killed at each step */

/* On the disk, with an index in a file: what a child did is there after its death. */

static int die_at; /* the how manieth step */
static atomic_int steps_done;

static void step(void)
{
    if (atomic_fetch_add(&steps_done, 1) + 1 == die_at)
        _exit(9);
}

static struct atd_write_fault_rule die_at_write(void *ctx, const struct atd_write_event *event)
{
    (void)ctx;
    (void)event;
    step();
    return (struct atd_write_fault_rule){ATD_WRITE_FAULT_NONE, 0};
}

static void die_at_commit(void *ctx, bool after)
{
    (void)ctx;
    (void)after;
    step();
}

static void open_on_disk(struct rig *rig, const char *dir, char paths[3][128])
{
    static const char *const names[] = {"state", "data", "index.db"};
    const char *roots[1];
    struct atd_publisher_options options;

    for (int i = 0; i < 3; i++)
        (void)snprintf(paths[i], 128, "%s/%s", dir, names[i]);
    roots[0] = paths[1];
    WORKS(atd_index_sqlite_open(paths[2], &rig->index, err));
    WORKS(atd_file_store_new(roots, 1, &rig->files, err));
    WORKS(atd_store_file_new(rig->files, &rig->memory, err));
    WORKS(atd_store_fault_new(rig->memory, NULL, NULL, &rig->store, err));
    atd_store_fault_writes(rig->store, die_at_write, NULL);
    WORKS(atd_locator_new(&(struct atd_locator_options){.files = rig->files}, &rig->locator, err));
    WORKS(atd_live_open(&(struct atd_live_options){.index = rig->index, .locator = rig->locator},
                        &rig->live, err));
    WORKS(atd_live_start(rig->live, &(struct atd_live_watcher){NULL, NULL, NULL}, err));
    rig->hook.base.ops = &hook_ops;
    rig->hook.at_commit = die_at_commit;
    WORKS(atd_index_sqlite_writer(paths[2], &rig->hook.inner, err));
    options = (struct atd_publisher_options){.live = rig->live,
                                             .writer = &rig->hook.base,
                                             .store = rig->store,
                                             .prefix_url = paths[1],
                                             .scope = "",
                                             .state_dir = paths[0],
                                             .memory_bytes = 48 * MIB,
                                             .timeout_s = 2,
                                             .edit_patience_ms = 200,
                                             .recover_every_ms = 50};
    WORKS(atd_publisher_open(&options, &rig->publisher, err));
}

static void close_on_disk(struct rig *rig)
{
    cr_assert(atd_publisher_close(rig->publisher, 10000));
    cr_assert(atd_live_close(rig->live));
    cr_assert(atd_locator_free(rig->locator));
    atd_index_writer_free(rig->hook.inner);
    atd_index_free(rig->index);
    atd_store_free(rig->store);
    atd_file_store_free(rig->files);
}

/* `over`: a file that is there, which goes in parts; else copied, and taken over by link. */
static int publish_on_disk(struct rig *rig, struct atd_bytes tar, const char *over)
{
    struct atd_publication *publication;
    int code;

    if (!over)
        return copy_in(rig, "d", "x.tar", tar);
    WORKS(atd_publication_over(rig->publisher, ATD_STR("d"), ATD_STR("x.tar"), open(over, O_RDONLY),
                               1700000001000000000, &publication, err));
    code = ask_publish(publication, "d", "x.tar");
    finish(rig, publication);
    return code;
}

static void killed_at_each_step(bool is_over)
{
    struct atd_bytes tar = make_tar(is_over ? 20 * MIB : 4096, 1);
    unsigned deaths = 0;

    for (int at = 1;; at++) {
        char dir[64];
        char paths[3][128];
        char file[128];
        struct rig rig = {0};
        char line[256];
        int status;
        pid_t child;
        FILE *out;
        bool named;

        make_dir(dir);
        (void)snprintf(file, sizeof(file), "%s/source", dir);
        out = fopen(file, "w");
        cr_assert_eq(fwrite(tar.ptr, 1, tar.len, out), tar.len);
        (void)fclose(out);
        child = fork();
        cr_assert_geq(child, 0);
        if (child == 0) {
            struct rig dying = {0};

            atomic_store(&steps_done, 0); /* the parent has done some */
            die_at = at;
            open_on_disk(&dying, dir, paths);
            _exit(publish_on_disk(&dying, tar, is_over ? file : NULL) ? 1 : 0);
        }
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_assert(WIFEXITED(status));
        cr_assert_neq(WEXITSTATUS(status), 1);
        deaths += WEXITSTATUS(status) == 9;

        open_on_disk(&rig, dir, paths);
        (void)snprintf(rig.dir, sizeof(rig.dir), "%.50s/state", dir);
        (void)snprintf(line, sizeof(line), "%s/d/x.tar\n", paths[1]);
        COMES(rig_leftovers(&rig) == 0);
        {
            struct atd_buf urls = ATD_BUF_INIT(MIB);

            urls_of(&rig, "d", &urls);
            named = urls.ptr[0] != '\0';
            if (named)
                cr_assert_str_eq((char *)urls.ptr, line);
            atd_buf_release(&urls);
        }
        cr_assert_eq(files_in(paths[1]), named, "killed at step %d", at);
        /* And it can be done now. */
        cr_assert_eq(publish_on_disk(&rig, tar, is_over ? file : NULL), 0);
        LISTS(&rig, "d", line);
        line[strlen(line) - 1] = '\0';
        check_object(&rig, line, tar);
        COMES(rig_leftovers(&rig) == 0);
        cr_assert_eq(files_in(paths[1]), 1);
        close_on_disk(&rig);
        remove_tree(dir);
        if (WEXITSTATUS(status) == 0)
            break; /* it had fewer steps: it was not killed */
    }
    cr_assert_geq(deaths, is_over ? 6u : 4u, "%u", deaths);
    drop_tar(tar);
}

Test(journal, killed_at_each_step_of_a_copy, .timeout = 120)
{
    killed_at_each_step(false);
}

Test(journal, killed_at_each_step_of_parts, .timeout = 120)
{
    killed_at_each_step(true);
}

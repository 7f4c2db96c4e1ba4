/* What a publisher makes of the jobs of the dead. */
#include <fcntl.h>

#include "left_jobs.h"

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

Test(publisher_recover, a_publisher_settles_what_a_kill_left)
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
Test(publisher_recover, an_object_of_the_same_size_is_not_yet_ours)
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

/* Two mounts of one index share its state directory, and may send to different servers. */
Test(publisher_recover, what_another_store_has_is_left_to_who_has_that_store)
{
    for (int has_object = 0; has_object < 2; has_object++) {
        struct rig rig = {0};
        struct atd_bytes tar = make_tar(4096, 1);
        struct atd_store_upload *upload = NULL;
        struct atd_publisher_stats stats;

        rig_open(&rig);
        cr_assert(atd_publisher_close(rig.publisher, 10000));
        left_job = job_of(has_object ? ATD_JOB_SENT : ATD_JOB_SENDING);
        left_job.info = (struct atd_object_info){0};
        if (has_object) {
            WORKS(atd_store_memory_put(rig.memory, ATD_STR(URL), tar, err));
            WORKS(atd_store_stat(rig.memory, ATD_STR(URL), 1000, &left_job.info, err));
        } else {
            WORKS(atd_store_upload_begin(rig.memory, ATD_STR(URL), 8 * MIB, 1000,
                                         left_job.upload_id, &upload, err));
        }
        die_after(rig.dir, leave_the_job);
        atd_store_upload_free(upload);
        rig.scope = "http://elsewhere:9000";
        rig_start(&rig);
        atd_publisher_recover_wait(rig.publisher, DEADLINE_MS);
        atd_publisher_stats(rig.publisher, &stats);
        cr_assert_eq(stats.recovered, 0);
        cr_assert_eq(rig_leftovers(&rig), 1);
        cr_assert_eq(atd_store_memory_uploads(rig.memory), has_object ? 0u : 1u);
        cr_assert_eq(objects(&rig), has_object ? 1u : 0u);
        cr_assert_eq(atomic_load(&rig.events[1]), 1); /* somebody is told that it is left */
        cr_assert(atd_publisher_close(rig.publisher, 10000));
        rig.scope = NULL;
        rig_start(&rig);
        check_tidy(&rig, 0);
        rig_close(&rig);
        drop_tar(tar);
    }
}

/* The dead one's job waits for the store; meanwhile the same file is copied again, to the same
 * place, and its rename takes its time. */
Test(publisher_recover, who_writes_there_now_is_not_disturbed)
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
Test(publisher_recover, looks_of_several_processes_make_two)
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

#define KILLED 9 /* the code of who was */

static int die_at; /* the how manieth step */
static atomic_int steps_done;

static void step(void)
{
    if (atomic_fetch_add(&steps_done, 1) + 1 == die_at)
        _exit(KILLED);
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
    unsigned files = is_over ? 2 : 1; /* a member index beside the large one */
    unsigned deaths = 0;

    for (int at = 1;; at++) {
        char dir[64];
        char paths[3][128];
        char file[128];
        struct rig rig = {0};
        char line[256];
        int code;
        pid_t child;
        FILE *out;
        bool named;

        make_dir(dir);
        (void)snprintf(file, sizeof(file), "%s/source", dir);
        out = fopen(file, "w");
        cr_assert_eq(fwrite(tar.ptr, 1, tar.len, out), tar.len);
        (void)fclose(out);
        child = child_fork();
        if (child == 0) {
            struct rig dying = {0};

            atomic_store(&steps_done, 0); /* the parent has done some */
            die_at = at;
            open_on_disk(&dying, dir, paths);
            _exit(publish_on_disk(&dying, tar, is_over ? file : NULL) ? 1 : 0);
        }
        code = child_join(child);
        cr_assert(code == 0 || code == KILLED, "%d", code);
        deaths += code == KILLED;

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
        cr_assert_eq(files_in(paths[1]), named ? files : 0, "killed at step %d", at);
        /* And it can be done now. */
        cr_assert_eq(publish_on_disk(&rig, tar, is_over ? file : NULL), 0);
        LISTS(&rig, "d", line);
        line[strlen(line) - 1] = '\0';
        check_object(&rig, line, tar);
        COMES(rig_leftovers(&rig) == 0);
        cr_assert_eq(files_in(paths[1]), files);
        close_on_disk(&rig);
        remove_tree(dir);
        if (code == 0)
            break; /* it had fewer steps: it was not killed */
    }
    cr_assert_geq(deaths, is_over ? 6u : 4u, "%u", deaths);
    drop_tar(tar);
}

Test(publisher_recover, killed_at_each_step_of_a_copy, .timeout = 120)
{
    killed_at_each_step(false);
}

Test(publisher_recover, killed_at_each_step_of_parts, .timeout = 120)
{
    killed_at_each_step(true);
}

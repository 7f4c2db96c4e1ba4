/*
 * What the tests of recovery share: jobs that processes leave behind by dying.
 */
#ifndef ATD_TESTS_UNIT_LEFT_JOBS_H
#define ATD_TESTS_UNIT_LEFT_JOBS_H

#include "publish_rig.h"
#include "support/child.h"

struct settled {
    unsigned count;
    struct atd_sighting sight; /* noted, unless it is all 0 */
    struct atd_job last;
    char dataset[64];
    char url[256];
    char scope[64];
    int rc;
};

static inline int settle(void *ctx, struct atd_job *job, struct atd_error *err)
{
    struct settled *settled = ctx;

    (void)err;
    settled->count++;
    settled->last = *job;
    (void)snprintf(settled->dataset, sizeof(settled->dataset), "%s", job->dataset);
    (void)snprintf(settled->url, sizeof(settled->url), "%s", job->url);
    (void)snprintf(settled->scope, sizeof(settled->scope), "%s", job->scope);
    if (settled->sight.wall_ms)
        job->seen = settled->sight;
    return settled->rc;
}

static inline void recover(const char *dir, struct settled *settled, struct atd_error *warning)
{
    WORKS(atd_journal_recover(dir, settle, settled, warning, err));
}

/* A process that opens a journal, does something, and dies. */
static inline void die_after(const char *dir, void (*act)(struct atd_journal *journal))
{
    pid_t child = child_fork();

    if (child == 0) {
        struct atd_journal *journal;

        if (atd_journal_open(dir, RIG_SCOPE, &journal, NULL) == 0)
            act(journal);
        _exit(0);
    }
    cr_assert_eq(child_join(child), 0);
}

static inline struct atd_job job_of(enum atd_job_state state)
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

static inline void leave(struct atd_journal *journal, const struct atd_job *job)
{
    if (atd_journal_put(journal, job, NULL))
        _exit(1);
}

static inline unsigned files_in(const char *dir)
{
    leftover_count = 0;
    (void)nftw(dir, count_leftover, 16, FTW_PHYS);
    return leftover_count;
}

static inline void make_dir(char dir[64])
{
    (void)snprintf(dir, 64, "/tmp/atd-journal-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
}

#endif

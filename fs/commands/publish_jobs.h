/*
 * The files of one `atdatafs publish`, several at once, from the list to their verdicts.
 *
 *   WAITS --begin: opened, being checked and sent--> RUNS --its bytes are in the store, and the
 *     |                                                   file is still the same--> committed
 *     |                                              RUNS --the index's answer--> PUBLISHED
 *     +--cannot be opened, no shard's name--> FAILED <--any failure, interrupted--  RUNS
 *
 * What is still WAITS at the end was never begun: after a signal, or when a server is down.
 */
#ifndef ATD_FS_PUBLISH_JOBS_H
#define ATD_FS_PUBLISH_JOBS_H

#include <stdatomic.h>

#include "base/lock.h"
#include "progress.h"
#include "publish/publication.h"

enum outcome { OUTCOME_WAITS, OUTCOME_RUNS, OUTCOME_PUBLISHED, OUTCOME_FAILED };

struct publish;

/* What a file is known by: when it changes meanwhile, its bytes do not belong together. */
struct file_version {
    uint64_t size_bytes;
    struct timespec mtime;
    struct timespec ctime;
};

struct job {
    struct atd_publication_wait wait; /* first */
    struct publish *publish;
    const char *path;
    const char *file_name;
    enum outcome outcome;
    uint64_t size_bytes;
    int fd; /* RUNS: a second one of ours; else -1 */
    struct file_version version;
    struct atd_publication *publication; /* RUNS */
    bool is_committing;                  /* RUNS: its bytes were sent, the index is asked */
    struct job *next_back;
    struct atd_error why; /* FAILED */
    /* PUBLISHED */
    bool was_there;
    char *url;
    struct atd_cid cid;
};

struct publish {
    const char *dataset;
    struct job *jobs;
    unsigned count;
    unsigned parallel;
    bool json;
    bool quiet;
    struct atd_publisher *publisher;
    struct progress progress;

    /* the main thread's */
    struct job **running; /* room for `parallel` */
    unsigned running_count;
    unsigned next;
    unsigned published; /* with those that were there */
    unsigned was_there;
    unsigned failed;
    unsigned failed_in_a_row;
    uint64_t published_bytes; /* without those that were there */
    uint64_t wanted_bytes;    /* of all that are not known to fail or to be there */
    int signal;               /* 0: none came */
    atomic_uint lost;         /* published, and not in the index any more */
    struct atd_error stopped; /* code not 0: why the rest was not begun */

    struct atd_lock lock;
    pthread_cond_t wake;
    /* guarded by lock */
    struct job *back; /* that have an answer */
};

/* `files` are borrowed. Looks how large they are. Errors: ENOMEM. */
int publish_jobs_make(struct publish *publish, char **files, unsigned count,
                      struct atd_error *err) ATD_MUST_USE;
void publish_jobs_free(struct publish *publish);

/*
 * Publishes them all; ends early after SIGINT, SIGTERM or SIGHUP, and when a server is down. Blocks
 * until every file has its verdict. False: one hangs, and the process is to end as it is.
 */
bool publish_jobs_run(struct publish *publish);

/* Before publish_jobs_run(): signals end the process at once until then. */
void publish_watch_signals(const struct progress *progress);

/* ------------------------------------------------------------------ what is told (publish_tell.c)
 */

/* A job has its outcome: a line, unless nobody wants it. */
void publish_tell_job(struct publish *publish, const struct job *job);
/* At the end. `why`: nothing could be begun, because of this; NULL: it could. */
void publish_tell_all(struct publish *publish, const struct atd_error *why);

#endif

/*
 * What is under way, on the disk, so that the next start can clean up after a kill -9.
 *
 * The state directory of an index has one directory for each process that publishes into it
 * ("run-XXXXXX", locked with flock while it lives), in which lie its spool files and one small file
 * for each publication: the job. A job is written before what it tells of is begun, by rename.
 *
 *     SPOOLING --begin--> SENDING --finished--> SENT --commit--> COMMITTING --done--> (removed)
 *
 * Threads: any. Blocks: on the disk.
 */
#ifndef ATD_PUBLISH_JOURNAL_H
#define ATD_PUBLISH_JOURNAL_H

#include "atdata/error.h"
#include "atdata/str.h"
#include "net/object_info.h"
#include "store/upload.h"

struct atd_journal;

/* In upload_id: the object is made in one piece, there is no upload to take back. */
#define ATD_JOB_NO_UPLOAD "-"

enum atd_job_state { ATD_JOB_SPOOLING, ATD_JOB_SENDING, ATD_JOB_SENT, ATD_JOB_COMMITTING };

/*
 * When an object was first seen that no entry names, for a later process too: by the wall's clock,
 * which may be set, and by the time since the boot, which a boot or another machine on the same
 * state directory begins anew. All 0: it was not seen yet.
 */
struct atd_sighting {
    int64_t wall_ms;
    int64_t boot_ms;
};

static inline bool atd_sighting_same(const struct atd_sighting *a, const struct atd_sighting *b)
{
    return a->wall_ms == b->wall_ms && a->boot_ms == b->boot_ms;
}

struct atd_job {
    uint64_t number; /* within this process; its spool's, or another of atd_journal_spool_path() */
    enum atd_job_state state;
    char *dataset; /* the index's name */
    char *url;     /* SENDING and later */
    char *scope;   /* what is settled: the store that the URL is of, as its journal was opened for;
                      _put() does not look */
    char upload_id[ATD_UPLOAD_ID_MAX + 1]; /* SENDING: "" while nobody knows */
    struct atd_object_info info; /* SENT and later: what was made; SENDING: once it is being
                                    finished, so that it may be there, what is known of it:
                                    size_bytes, maker, of a local file the latest mtime_s */
    struct atd_sighting seen;
};

/*
 * `state_dir` (0700, with what is missing above it) and this process's directory in it are made
 * when they are first needed. `scope` says which store the jobs' URLs are of, because processes
 * that share the directory may have different ones: an endpoint, "" for the disk.
 */
int atd_journal_open(const char *state_dir, const char *scope, struct atd_journal **ret_journal,
                     struct atd_error *err) ATD_MUST_USE;
/* Removes the directory when nothing is left in it. NULL is fine. */
void atd_journal_close(struct atd_journal *journal);

/* "STATE/run-XXXXXX/spool-N": a name nobody has. */
int atd_journal_spool_path(struct atd_journal *journal, uint64_t *ret_number, char **ret_path,
                           struct atd_error *err) ATD_MUST_USE;

/* Writes the job anew, whole. */
int atd_journal_put(struct atd_journal *journal, const struct atd_job *job,
                    struct atd_error *err) ATD_MUST_USE;
void atd_journal_remove(struct atd_journal *journal, uint64_t number);

/*
 * The jobs of processes that died. `settle` is called for each and returns 0 when the job is done
 * with (its file goes), else the job stays for another start, with what `settle` put into its
 * `seen`. Then the dead process's spool files and its directory go. What is damaged is reported as
 * *ret_warning and removed; what another version wrote is reported and stays. Errors: EAGAIN
 * something could not be read now, and stays.
 */
typedef int (*atd_journal_settle_fn)(void *ctx, struct atd_job *job, struct atd_error *err);
int atd_journal_recover(const char *state_dir, atd_journal_settle_fn settle, void *ctx,
                        struct atd_error *ret_warning, struct atd_error *err) ATD_MUST_USE;

/*
 * Every job of every process, alive or dead, as it is now; some come twice. A job that was there
 * before the call and is there after it is among them. `fn` returns 0, or a negative errno with
 * `err` set, which ends the look. Changes nothing. Errors: EAGAIN a job cannot be read, so that
 * nobody knows what it tells of; ENOMEM.
 */
typedef int (*atd_journal_look_fn)(void *ctx, const struct atd_job *job, struct atd_error *err);
int atd_journal_look(const char *state_dir, atd_journal_look_fn fn, void *ctx,
                     struct atd_error *err) ATD_MUST_USE;

#endif

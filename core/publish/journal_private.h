/*
 * What the files of the journal share: journal.c (writing, recovery), journal_look.c (who only
 * looks).
 */
#ifndef ATD_PUBLISH_JOURNAL_PRIVATE_H
#define ATD_PUBLISH_JOURNAL_PRIVATE_H

#include "publish/journal.h"

#define ATD_RUN_PREFIX "run-"
#define ATD_JOB_PREFIX "job-"
#define ATD_JOB_PART_SUFFIX ".new"

/*
 * Reads a job's file; atd_job_release() it. Errors, without a sentence: EINVAL, EISDIR damaged;
 * ENOTSUP another version's; ENOENT; others of the system.
 */
int atd_job_read(int dir_fd, const char *name, struct atd_job *ret_job) ATD_MUST_USE;
void atd_job_release(struct atd_job *job);

#endif

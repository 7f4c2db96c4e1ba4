/*
 * The command line of `atdatafs publish`.
 */
#ifndef ATD_FS_PUBLISH_ARGUMENTS_H
#define ATD_FS_PUBLISH_ARGUMENTS_H

#include "arguments.h"

#define PUBLISH_JOBS_DEFAULT 4u
#define PUBLISH_JOBS_MAX 64u
#define PUBLISH_FILES_MAX 1000000u

struct publish_arguments {
    struct arguments common;
    char **files; /* the common words but the last; the strings are argv's */
    unsigned file_count;
    const char *dataset;
    unsigned parallel;
};

/*
 * Pure. Of files given twice (overlapping patterns) one is kept. `ret_arguments` must be released
 * also after a failure. Errors: EINVAL, with what to write instead; E2BIG; ENOMEM.
 */
int publish_arguments_read(int argc, char **argv, struct publish_arguments *ret_arguments,
                           struct atd_error *err) ATD_MUST_USE;
void publish_arguments_release(struct publish_arguments *arguments);
void publish_print_help(void);

/* What follows the last slash. */
const char *publish_file_name(const char *path);

#endif

/*
 * The command line: atdatafs [INDEX-URL] MOUNTPOINT [-o options].
 */
#ifndef ATD_FS_OPTIONS_H
#define ATD_FS_OPTIONS_H

#include <sys/types.h>

#include "atdata/error.h"
#include "store/file_store.h"

#define ATD_EXIT_OK 0
#define ATD_EXIT_FAILED 1 /* the index or the mount failed */
#define ATD_EXIT_USAGE 2  /* the command line is wrong */

struct options {
    char *index_path; /* absolute path of the SQLite file */
    bool index_named; /* the user named it: it must exist (a mistyped path is no empty index) */
    char *mountpoint; /* absolute, resolved when it could be */
    char *data_roots[ATD_FILE_ROOTS_MAX];
    size_t data_root_count;
    bool foreground;
    bool debug;
    bool allow_other;
    bool default_permissions;
    bool noexec;
    uid_t uid;
    gid_t gid;
    mode_t umask;
    bool show_help;
    bool show_version;
};

/*
 * Reads the command line and the environment (HOME, ATDATA_INDEX). `ret_options` must be released
 * also after a failure. Errors: EINVAL, with what to write instead.
 */
int options_parse(int argc, char **argv, struct options *ret_options, struct atd_error *err);
void options_release(struct options *options);
void options_print_help(const char *program);

#endif

/*
 * Directories of our own, and paths as people write them.
 */
#ifndef ATD_BASE_DIRS_H
#define ATD_BASE_DIRS_H

#include "atdata/error.h"

/*
 * Makes an absolute path's directory and what is missing above it, private to the user (0700).
 * What exists stays as it is, a directory or not: who opens it sees. Blocks on the disk. Errors:
 * those of mkdir(2), without a sentence; ENAMETOOLONG.
 */
int atd_make_dirs(const char *path) ATD_MUST_USE;

/*
 * A path made absolute against the working directory; "~/" is $HOME. The text is the caller's to
 * free. Errors: ENOMEM; those of getcwd(3).
 */
int atd_path_absolute(const char *path, char **ret_path, struct atd_error *err) ATD_MUST_USE;

#endif

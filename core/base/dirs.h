/*
 * Directories of our own.
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

#endif

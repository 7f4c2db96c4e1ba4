/*
 * Somebody else's live SQLite database, opened to be changed: with SQLite's own locks, made with
 * the library's tables when it is not there. Source: ATDATA-FORMATS 2.1.
 */
#ifndef ATD_INDEX_SQLITE_WRITABLE_H
#define ATD_INDEX_SQLITE_WRITABLE_H

#include <limits.h>
#include <sqlite3.h>

#include "atdata/error.h"
#include "atdata/str.h"

struct atd_sqlite_writable {
    sqlite3 *db;
    const char *path;    /* as given */
    char real[PATH_MAX]; /* without symbolic links: SQLite puts its files beside the real one */
    int64_t deadline_ms; /* no wait for a lock, and no statement, goes on past it */
    bool made;           /* the file was not there before */
    bool in_transaction;
};

enum atd_sqlite_purpose {
    ATD_SQLITE_TO_READ,  /* ENOENT when there is no file */
    ATD_SQLITE_TO_WRITE, /* makes the directory (0755), the file (0644, umask) and WAL mode */
};

/*
 * True when `path` leads to a file with something in it. Errors: EINVAL no regular file; those of
 * lstat(2).
 */
int atd_sqlite_is_there(const char *path, bool *ret_there, struct atd_error *err) ATD_MUST_USE;

/* `path` must outlive it, and it must not move. Blocks: on the disk and on other programs' locks,
 * up to `deadline_ms`. */
int atd_sqlite_writable_open(const char *path, enum atd_sqlite_purpose purpose, int64_t deadline_ms,
                             struct atd_sqlite_writable *ret_writable,
                             struct atd_error *err) ATD_MUST_USE;

/*
 * Begins to write: alone from now on, with the library's tables made where they are missing.
 * Errors: EBUSY; EINVAL when a table is none of the library's kind.
 */
int atd_sqlite_writable_begin(struct atd_sqlite_writable *writable,
                              struct atd_error *err) ATD_MUST_USE;

/* Makes the changes last, on the disk. After an error nothing was changed. */
int atd_sqlite_writable_commit(struct atd_sqlite_writable *writable,
                               struct atd_error *err) ATD_MUST_USE;

/* Takes back what was not committed. A zeroed one is fine. */
void atd_sqlite_writable_close(struct atd_sqlite_writable *writable);

/* Whether the file, or the place where it would be made, may be written. */
int atd_sqlite_writable_check(const char *path, struct atd_error *err) ATD_MUST_USE;

/* Sets the error of the last failure, with what to do about it. */
int atd_sqlite_writable_error(const struct atd_sqlite_writable *writable, const char *what,
                              struct atd_error *err);

#endif

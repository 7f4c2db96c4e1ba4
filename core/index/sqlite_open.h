/*
 * Opening somebody else's live SQLite database without leaving a trace.
 *
 * Plain SQLITE_OPEN_READONLY is not enough: on a database in WAL mode (the library's always is)
 * it creates the -wal and -shm files when they are missing, and takes part in locks that keep the
 * last writer from cleaning up. So:
 *
 *   no -wal file, or an  nothing is pending: open the main file as immutable (no locks, no files)
 *   empty one not in use
 *   -wal in use          a program has it open: open read only, with a read-only -shm
 *   -wal not in use,     left by a crash, or a read-only directory: recover a private copy (what a
 *   or a -journal        power cut left in the -shm SQLite would not repair read only)
 *
 * The first and the third read files that a writer might change meanwhile: the caller compares
 * signatures before and after and throws away what it read when they differ.
 * Source: SQLite's "WAL-mode File Format" and "URI filenames"; ATDATA-FORMATS 2.1.
 */
#ifndef ATD_INDEX_SQLITE_OPEN_H
#define ATD_INDEX_SQLITE_OPEN_H

#include <sqlite3.h>

#include "atdata/error.h"
#include "atdata/str.h"

struct atd_file_mark {
    bool exists;
    uint64_t device;
    uint64_t inode;
    int64_t size_bytes;
    int64_t mtime_ns;
};

struct atd_sqlite_signature {
    struct atd_file_mark main;
    struct atd_file_mark wal;
    struct atd_file_mark journal;
    bool fresh; /* written so recently that another write might leave the same time stamp */
};

/*
 * Looks at the files of a database; `path` has no symbolic links (SQLite puts its files beside the
 * real one). Errors: those of lstat(2) but ENOENT; EINVAL one that is not a regular file.
 */
int atd_sqlite_sign(const char *path, struct atd_sqlite_signature *ret_signature,
                    struct atd_error *err) ATD_MUST_USE;
bool atd_sqlite_signature_equal(const struct atd_sqlite_signature *a,
                                const struct atd_sqlite_signature *b);

struct atd_sqlite {
    sqlite3 *db;
    char *copy_dir;         /* the private copy's directory, or NULL */
    bool needs_stable_file; /* compare signatures after reading */
};

/* Errors: EIO, EACCES, ENOMEM with SQLite's reason. */
int atd_sqlite_open(const char *path, const struct atd_sqlite_signature *signature,
                    struct atd_sqlite *ret_sqlite, struct atd_error *err) ATD_MUST_USE;
/* Closes it, in the thread that opened it, and removes the copy. A zeroed one is fine. */
void atd_sqlite_close(struct atd_sqlite *sqlite);

/* Sets the error of the connection's last failure. */
int atd_sqlite_error(sqlite3 *db, const char *what, struct atd_error *err);

#endif

/*
 * Reading somebody else's live SQLite database without leaving a trace.
 *
 * Plain SQLITE_OPEN_READONLY is not enough: on a database in WAL mode (the library's always is)
 * it creates -wal and -shm files when they are missing, hands them to other owners when root, and
 * takes part in locks that keep the last writer from cleaning up. So SQLite never sees the files:
 *
 *   no -wal file, or an empty one   nothing is pending: the main file, opened as immutable
 *                                   (no locks, no other files)
 *   a -wal file                     a private copy of both, recovered there
 *   a -journal file                 a transaction in rollback mode: wait until it is over
 *
 * Both read files that a writer may change meanwhile; atd_sqlite_is_whole() tells whether what was
 * read is one committed state:
 *   - immutable: nothing changed between the signatures before and after;
 *   - copy: the -wal's header is the same before and after. Until it is started anew a -wal is only
 *     appended to, so the copy of it (taken last) holds every page that a checkpoint may have been
 *     writing to the main file; half-written frames at its end fail their checksums.
 *
 * A process that closes a descriptor of a file loses all its fcntl() locks on it, SQLite's too: one
 * of ours, closed while the writer of this process has the database open, would let another process
 * take itself for the last one there, and delete the -wal that is just being written. So what is
 * copied is read through a descriptor that is kept (atd_sqlite_source).
 * Source: SQLite's "WAL-mode File Format" 4, "URI filenames" and "How To Corrupt An SQLite Database
 * File" 2.2; ATDATA-FORMATS 2.1.
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

#define ATD_WAL_HEADER_BYTES 32

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

/* The main file, once it was copied; {.fd = -1} at first. Released when nobody in this process
 * writes the database any more. */
struct atd_sqlite_source {
    int fd;
    uint64_t device;
    uint64_t inode;
};

void atd_sqlite_source_release(struct atd_sqlite_source *source);

struct atd_sqlite {
    sqlite3 *db;
    char *copy_dir; /* the private copy's directory, or NULL: the file itself, as immutable */
    uint8_t wal_header[ATD_WAL_HEADER_BYTES]; /* copy: as it was before */
};

/*
 * Errors: EAGAIN (retryable) a writer is in the way; EIO, EACCES, EINVAL, ENOMEM with SQLite's
 * reason.
 */
int atd_sqlite_open(struct atd_sqlite_source *source, const char *path,
                    const struct atd_sqlite_signature *signature, struct atd_sqlite *ret_sqlite,
                    struct atd_error *err) ATD_MUST_USE;

/* To be asked after reading: true when it was one committed state. */
bool atd_sqlite_is_whole(const struct atd_sqlite *sqlite, const char *path,
                         const struct atd_sqlite_signature *before);

/* Closes it and removes the copy. A zeroed one is fine. */
void atd_sqlite_close(struct atd_sqlite *sqlite);

/* Sets the error of the connection's last failure. */
int atd_sqlite_error(sqlite3 *db, const char *what, struct atd_error *err);

#endif

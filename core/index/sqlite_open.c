#include "index/sqlite_open.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/limits.h"

/* The library's own wait (Python's default, ATDATA-FORMATS 2.1). */
#define BUSY_TIMEOUT_MS 5000
/* File time stamps may be as coarse as a timer tick, 10 ms at worst. */
#define FRESH_NS 12000000

static struct atd_file_mark mark_of(const struct stat *st)
{
    return (struct atd_file_mark){
        .exists = true,
        .device = (uint64_t)st->st_dev,
        .inode = (uint64_t)st->st_ino,
        .size_bytes = (int64_t)st->st_size,
        .mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec,
    };
}

static int mark_file(const char *path, const char *suffix, struct atd_file_mark *ret_mark,
                     struct atd_error *err)
{
    char name[PATH_MAX + 16];
    struct stat st;

    (void)snprintf(name, sizeof(name), "%s%s", path, suffix);
    *ret_mark = (struct atd_file_mark){0};
    if (lstat(name, &st) != 0) {
        if (errno == ENOENT)
            return 0;
        return atd_error_set(err, errno, "'%s': %s", name, strerror(errno));
    }
    /* A FIFO would hang who opens it; a link beside the database is not SQLite's own doing. */
    if (!S_ISREG(st.st_mode))
        return atd_error_set(err, EINVAL, "'%s' is not a regular file", name);
    *ret_mark = mark_of(&st);
    return 0;
}

/* A time stamp in the future says nothing (a restored backup, a wrong clock): not fresh. */
static bool is_fresh(const struct atd_file_mark *mark, int64_t now_ns)
{
    int64_t age_ns = now_ns - mark->mtime_ns;

    return mark->exists && age_ns < FRESH_NS && age_ns > -FRESH_NS;
}

int atd_sqlite_sign(const char *path, struct atd_sqlite_signature *ret_signature,
                    struct atd_error *err)
{
    struct atd_sqlite_signature sig = {0};
    struct timespec now;
    int64_t now_ns;
    int rc = mark_file(path, "", &sig.main, err);

    if (rc == 0)
        rc = mark_file(path, "-wal", &sig.wal, err);
    if (rc == 0)
        rc = mark_file(path, "-journal", &sig.journal, err);
    if (rc)
        return rc;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    now_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    sig.fresh = is_fresh(&sig.main, now_ns) || is_fresh(&sig.wal, now_ns);
    *ret_signature = sig;
    return 0;
}

static bool mark_equal(const struct atd_file_mark *a, const struct atd_file_mark *b)
{
    return a->exists == b->exists && a->device == b->device && a->inode == b->inode &&
           a->size_bytes == b->size_bytes && a->mtime_ns == b->mtime_ns;
}

bool atd_sqlite_signature_equal(const struct atd_sqlite_signature *a,
                                const struct atd_sqlite_signature *b)
{
    return mark_equal(&a->main, &b->main) && mark_equal(&a->wal, &b->wal) &&
           mark_equal(&a->journal, &b->journal);
}

int atd_sqlite_error(sqlite3 *db, const char *what, struct atd_error *err)
{
    int code = db ? sqlite3_errcode(db) : SQLITE_NOMEM;
    const char *text = db ? sqlite3_errmsg(db) : "out of memory";

    switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return atd_error_set_retryable(err, EBUSY, "%s: %s; another program holds its lock", what,
                                       text);
    case SQLITE_NOTADB:
        return atd_error_set(err, EINVAL, "%s: it is not an SQLite database", what);
    case SQLITE_NOMEM:
        return atd_error_set(err, ENOMEM, "%s: out of memory", what);
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return atd_error_set(err, EACCES, "%s: %s", what, text);
    case SQLITE_INTERRUPT:
        return atd_error_set(err, ETIMEDOUT, "%s: reading it takes too long", what);
    default:
        return atd_error_set(err, EIO, "%s: %s", what, text);
    }
}

/* "file:" URI of a path: SQLite decodes %XX and ends the path at '?' and '#'. */
static void append_uri(struct atd_buf *uri, const char *path, const char *parameters)
{
    atd_buf_append_text(uri, "file:");
    for (; *path; path++) {
        if (*path == '%' || *path == '?' || *path == '#')
            atd_buf_printf(uri, "%%%02X", (unsigned)*path);
        else
            atd_buf_append_byte(uri, (uint8_t)*path);
    }
    atd_buf_append_text(uri, parameters);
}

static int open_uri(const char *path, const char *parameters, int flags, sqlite3 **ret_db,
                    struct atd_error *err)
{
    atd_auto_buf struct atd_buf uri = ATD_BUF_INIT(4 * PATH_MAX);
    sqlite3 *db = NULL;
    int rc;

    append_uri(&uri, path, parameters);
    rc = atd_buf_finish(&uri, "the path of the index", err);
    if (rc)
        return rc;
    if (sqlite3_open_v2((const char *)uri.ptr, &db,
                        flags | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE,
                        NULL) != SQLITE_OK) {
        rc = atd_sqlite_error(db, "cannot open it", err);
        (void)sqlite3_close(db);
        return rc;
    }
    (void)sqlite3_extended_result_codes(db, 1);
    (void)sqlite3_busy_timeout(db, BUSY_TIMEOUT_MS);
    /* The file's own schema is as hostile as its rows: no functions with side effects from it. */
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    /* No value, computed ones included, may be larger than the largest field that is read. */
    (void)sqlite3_limit(db, SQLITE_LIMIT_LENGTH, (int)ATD_URLS_BYTES_MAX);
    *ret_db = db;
    return 0;
}

static int open_file(const char *path, const char *suffix, int *ret_fd, struct atd_error *err)
{
    char name[PATH_MAX + 16];

    (void)snprintf(name, sizeof(name), "%s%s", path, suffix);
    *ret_fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (*ret_fd >= 0)
        return 0;
    if (errno == ENOENT)
        return atd_error_set_retryable(err, EAGAIN, "'%s' has just gone", name);
    return atd_error_set(err, errno, "'%s': %s", name, strerror(errno));
}

/* False when the file is gone or too short. */
static bool read_wal_header(const char *path, uint8_t ret_header[ATD_WAL_HEADER_BYTES])
{
    atd_auto_fd int fd = -1;

    return open_file(path, "-wal", &fd, NULL) == 0 &&
           pread(fd, ret_header, ATD_WAL_HEADER_BYTES, 0) == ATD_WAL_HEADER_BYTES;
}

/* Copies the file to DIR/index.db<suffix>. */
static int copy_from(int from, const char *path, const char *suffix, const char *dir,
                     struct atd_error *err)
{
    static const size_t step = (size_t)1 << 20;
    char to_name[PATH_MAX + 16];
    atd_auto_fd int to = -1;
    atd_auto_free char *bytes = malloc(step);
    off_t at = 0;
    ssize_t got;

    if (!bytes)
        return atd_error_set(err, ENOMEM, "out of memory");
    (void)snprintf(to_name, sizeof(to_name), "%s/index.db%s", dir, suffix);
    to = open(to_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (to < 0)
        return atd_error_set(err, errno, "'%s': %s", to_name, strerror(errno));
    while ((got = pread(from, bytes, step, at)) > 0) {
        if (write(to, bytes, (size_t)got) != got)
            return atd_error_set(err, ENOSPC, "'%s' cannot be written: is the disk full?", to_name);
        at += got;
    }
    if (got < 0)
        return atd_error_set(err, errno, "'%s%s': %s", path, suffix, strerror(errno));
    return 0;
}

static int copy_wal(const char *path, const char *dir, struct atd_error *err)
{
    atd_auto_fd int from = -1;
    int rc = open_file(path, "-wal", &from, err);

    return rc ? rc : copy_from(from, path, "-wal", dir, err);
}

/* Has `source` lead to the file that is there now. */
static int find_source(struct atd_sqlite_source *source, const char *path, struct atd_error *err)
{
    struct stat now;
    int fd = -1;
    int rc;

    if (source->fd >= 0 && lstat(path, &now) == 0 && now.st_dev == source->device &&
        now.st_ino == source->inode)
        return 0;
    rc = open_file(path, "", &fd, err);
    if (rc)
        return rc;
    if (fstat(fd, &now) != 0)
        rc = atd_error_set(err, errno, "'%s': %s", path, strerror(errno));
    /* Another one took its place: no lock is on what is closed here that matters any more. */
    atd_sqlite_source_release(source);
    *source = (struct atd_sqlite_source){.fd = fd, .device = now.st_dev, .inode = now.st_ino};
    return rc;
}

void atd_sqlite_source_release(struct atd_sqlite_source *source)
{
    if (source->fd >= 0)
        (void)close(source->fd);
    source->fd = -1;
}

static void remove_copy(char *dir)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};

    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        char name[PATH_MAX];

        (void)snprintf(name, sizeof(name), "%s/index.db%s", dir, suffixes[i]);
        (void)unlink(name);
    }
    (void)rmdir(dir);
    free(dir);
}

static int open_copy(struct atd_sqlite_source *source, const char *path, struct atd_sqlite *sqlite,
                     struct atd_error *err)
{
    const char *tmp = getenv("TMPDIR");
    char copy[PATH_MAX];
    char *dir;
    int rc;

    if (asprintf(&dir, "%s/atdatafs-index-XXXXXX", tmp && tmp[0] == '/' ? tmp : "/tmp") < 0)
        return atd_error_set(err, ENOMEM, "out of memory");
    if (!mkdtemp(dir)) {
        rc = atd_error_set(err, errno, "cannot make '%s': %s", dir, strerror(errno));
        free(dir);
        return rc;
    }
    if (!read_wal_header(path, sqlite->wal_header))
        rc = atd_error_set_retryable(err, EAGAIN, "'%s-wal' has just gone", path);
    else
        rc = find_source(source, path, err);
    if (rc == 0)
        rc = copy_from(source->fd, path, "", dir, err);
    if (rc == 0)
        rc = copy_wal(path, dir, err); /* after the main file: see the header */
    if (rc == 0) {
        (void)snprintf(copy, sizeof(copy), "%s/index.db", dir);
        rc = open_uri(copy, "", SQLITE_OPEN_READWRITE, &sqlite->db, err);
    }
    if (rc) {
        remove_copy(dir);
        return rc;
    }
    sqlite->copy_dir = dir;
    return 0;
}

int atd_sqlite_open(struct atd_sqlite_source *source, const char *path,
                    const struct atd_sqlite_signature *signature, struct atd_sqlite *ret_sqlite,
                    struct atd_error *err)
{
    struct atd_sqlite sqlite = {0};
    int rc;

    /* Playing a journal back would alter the file; a copy's could name any file to delete. */
    if (signature->journal.size_bytes > 0)
        return atd_error_set_retryable(err, EAGAIN,
                                       "'%s-journal' is there: a program is writing it, or has "
                                       "crashed and must open it once to recover",
                                       path);
    if (signature->wal.size_bytes >= ATD_WAL_HEADER_BYTES)
        rc = open_copy(source, path, &sqlite, err);
    else
        rc = open_uri(path, "?immutable=1", SQLITE_OPEN_READONLY, &sqlite.db, err);
    if (rc == 0)
        *ret_sqlite = sqlite;
    return rc;
}

bool atd_sqlite_is_whole(const struct atd_sqlite *sqlite, const char *path,
                         const struct atd_sqlite_signature *before)
{
    struct atd_sqlite_signature after;
    uint8_t header[ATD_WAL_HEADER_BYTES];

    if (sqlite->copy_dir)
        return read_wal_header(path, header) &&
               memcmp(header, sqlite->wal_header, sizeof(header)) == 0;
    return !before->fresh && atd_sqlite_sign(path, &after, NULL) == 0 &&
           atd_sqlite_signature_equal(before, &after);
}

void atd_sqlite_close(struct atd_sqlite *sqlite)
{
    (void)sqlite3_close(sqlite->db);
    if (sqlite->copy_dir)
        remove_copy(sqlite->copy_dir);
    *sqlite = (struct atd_sqlite){0};
}

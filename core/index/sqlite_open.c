#include "index/sqlite_open.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "base/cleanup.h"

/* The library's own wait (Python's default, ATDATA-FORMATS 2.1). */
#define BUSY_TIMEOUT_MS 5000
/* File time stamps may be as coarse as a timer tick, 10 ms at worst. */
#define FRESH_NS 50000000

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

/* This thread has a database open that it must not alter: from atd_sqlite_open to _close. */
static _Thread_local bool reading;

static int chown_unless_reading(int fd, uid_t uid, gid_t gid)
{
    return reading ? 0 : fchown(fd, uid, gid);
}

/*
 * As root, SQLite hands every -wal and -shm file that it opens over to the owner of the database,
 * which alters them, and lets whoever may write the directory put a link to a file of root's in
 * their place. It cannot be told not to, so its system call is replaced; a program that uses
 * SQLite beside this library notices nothing.
 */
static void forbid_chown(void)
{
    sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);

    if (vfs && vfs->iVersion >= 3 && vfs->xSetSystemCall)
        (void)vfs->xSetSystemCall(vfs, "fchown", (sqlite3_syscall_ptr)chown_unless_reading);
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
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    sqlite3 *db = NULL;
    int rc;

    (void)pthread_once(&once, forbid_chown);
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
    *ret_db = db;
    return 0;
}

/* Copies DIR/index.db<suffix> from `path`<suffix>; a missing one is skipped. */
static int copy_file(const char *path, const char *suffix, const char *dir, struct atd_error *err)
{
    char from_name[PATH_MAX + 16];
    char to_name[PATH_MAX + 16];
    atd_auto_fd int from = -1;
    atd_auto_fd int to = -1;
    static const size_t step = 1u << 20;
    atd_auto_free char *bytes = malloc(step);
    ssize_t got;

    (void)snprintf(from_name, sizeof(from_name), "%s%s", path, suffix);
    (void)snprintf(to_name, sizeof(to_name), "%s/index.db%s", dir, suffix);
    from = open(from_name, O_RDONLY | O_CLOEXEC);
    if (from < 0 && errno == ENOENT)
        return 0;
    if (from < 0)
        return atd_error_set(err, errno, "'%s': %s", from_name, strerror(errno));
    to = open(to_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (to < 0 || !bytes)
        return atd_error_set(err, errno, "'%s': %s", to_name, strerror(errno));
    while ((got = read(from, bytes, step)) > 0) {
        if (write(to, bytes, (size_t)got) != got)
            return atd_error_set(err, ENOSPC, "'%s' cannot be written: is the disk full?", to_name);
    }
    if (got < 0)
        return atd_error_set(err, errno, "'%s': %s", from_name, strerror(errno));
    return 0;
}

static void remove_copy(char *dir)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};

    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        char name[PATH_MAX];

        (void)snprintf(name, sizeof(name), "%s/index.db%s", dir, suffixes[i]);
        (void)unlink(name);
    }
    (void)rmdir(dir);
    free(dir);
}

static int open_copy(const char *path, struct atd_sqlite *sqlite, struct atd_error *err)
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
    rc = copy_file(path, "", dir, err);
    if (rc == 0)
        rc = copy_file(path, "-wal", dir, err);
    if (rc == 0)
        rc = copy_file(path, "-journal", dir, err);
    if (rc == 0) {
        (void)snprintf(copy, sizeof(copy), "%s/index.db", dir);
        rc = open_uri(copy, "", SQLITE_OPEN_READWRITE, &sqlite->db, err);
    }
    if (rc) {
        remove_copy(dir);
        return atd_error_wrap(err, rc, "a copy is needed to recover what a crash left");
    }
    sqlite->copy_dir = dir;
    return 0;
}

/*
 * True while a program has the database open: it holds a lock on this byte of the -shm for as
 * long. Source: SQLite's os_unix.c, UNIX_SHM_DMS.
 */
static bool is_in_use(const char *path)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 128, .l_len = 1};
    char name[PATH_MAX + 16];
    atd_auto_fd int fd = -1;

    (void)snprintf(name, sizeof(name), "%s-shm", path);
    fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    return fd >= 0 && fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

int atd_sqlite_open(const char *path, const struct atd_sqlite_signature *signature,
                    struct atd_sqlite *ret_sqlite, struct atd_error *err)
{
    struct atd_sqlite sqlite = {0};
    struct atd_file_mark shm;
    bool in_use;
    int rc = mark_file(path, "-shm", &shm, err);

    if (rc)
        return rc;
    in_use = shm.exists && is_in_use(path);
    reading = true;
    if (signature->journal.size_bytes > 0 || (signature->wal.size_bytes > 0 && !in_use)) {
        sqlite.needs_stable_file = true;
        rc = open_copy(path, &sqlite, err);
    } else if (signature->wal.exists && in_use) {
        rc = open_uri(path, "?readonly_shm=1", SQLITE_OPEN_READONLY, &sqlite.db, err);
    } else {
        sqlite.needs_stable_file = true;
        rc = open_uri(path, "?immutable=1", SQLITE_OPEN_READONLY, &sqlite.db, err);
    }
    if (rc == 0)
        *ret_sqlite = sqlite;
    else
        reading = false;
    return rc;
}

void atd_sqlite_close(struct atd_sqlite *sqlite)
{
    (void)sqlite3_close(sqlite->db);
    reading = false;
    if (sqlite->copy_dir)
        remove_copy(sqlite->copy_dir);
    *sqlite = (struct atd_sqlite){0};
}

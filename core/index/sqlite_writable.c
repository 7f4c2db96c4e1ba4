#include "index/sqlite_writable.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "index/sqlite_open.h"
#include "index/sqlite_row.h"

/* Between two looks at a lock that another program holds. */
#define LOCK_PAUSE_US 5000
#define PROGRESS_STEPS 1000
/* A row holds both; what Python stored beyond that is not read either. */
#define VALUE_BYTES_MAX (ATD_URLS_BYTES_MAX + ATD_METADATA_BYTES_MAX + (4u << 20))

/* The script of the library's newest release, to the letter: it is kept in sqlite_schema. */
static const char create_tables[] = "CREATE TABLE IF NOT EXISTS dataset_entries (\n"
                                    "    cid         TEXT PRIMARY KEY,\n"
                                    "    name        TEXT NOT NULL,\n"
                                    "    schema_ref  TEXT NOT NULL,\n"
                                    "    data_urls   BLOB NOT NULL,\n"
                                    "    metadata    BLOB,\n"
                                    "    legacy_uuid TEXT,\n"
                                    "    created_at  TEXT DEFAULT (datetime('now'))\n"
                                    ");\n"
                                    "CREATE INDEX IF NOT EXISTS idx_entries_name\n"
                                    "    ON dataset_entries(name);\n"
                                    "CREATE TABLE IF NOT EXISTS schemas (\n"
                                    "    name        TEXT NOT NULL,\n"
                                    "    version     TEXT NOT NULL,\n"
                                    "    schema_json TEXT NOT NULL,\n"
                                    "    created_at  TEXT DEFAULT (datetime('now')),\n"
                                    "    PRIMARY KEY (name, version)\n"
                                    ");\n"
                                    "CREATE TABLE IF NOT EXISTS lenses (\n"
                                    "    name        TEXT NOT NULL,\n"
                                    "    version     TEXT NOT NULL,\n"
                                    "    lens_json   TEXT NOT NULL,\n"
                                    "    created_at  TEXT DEFAULT (datetime('now')),\n"
                                    "    PRIMARY KEY (name, version)\n"
                                    ");\n"
                                    "CREATE TABLE IF NOT EXISTS labels (\n"
                                    "    name        TEXT NOT NULL,\n"
                                    "    cid         TEXT NOT NULL,\n"
                                    "    version     TEXT NOT NULL DEFAULT '',\n"
                                    "    description TEXT,\n"
                                    "    created_at  TEXT DEFAULT (datetime('now')),\n"
                                    "    PRIMARY KEY (name, version)\n"
                                    ");\n"
                                    "CREATE INDEX IF NOT EXISTS idx_labels_cid\n"
                                    "    ON labels(cid);\n";

/* ------------------------------------------------------------------ errors */

static int cannot_write(const struct atd_sqlite_writable *writable, const char *what,
                        const char *text, struct atd_error *err)
{
    int rc = atd_sqlite_writable_check(writable->path, err);

    /* The place says it best: a read-only file system, or whose right is missing. */
    if (rc)
        return rc;
    return atd_error_set(err, EROFS, "%s: %s: it can be read only", what, text);
}

int atd_sqlite_writable_error(const struct atd_sqlite_writable *writable, const char *what,
                              struct atd_error *err)
{
    sqlite3 *db = writable->db;
    int code = db ? sqlite3_errcode(db) : SQLITE_NOMEM;
    int system = db ? sqlite3_system_errno(db) : 0;
    const char *text = db ? sqlite3_errmsg(db) : "out of memory";

    switch (code & 0xff) {
    case SQLITE_FULL:
        return atd_error_set(err, ENOSPC, "%s: the disk is full: make room for the index", what);
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
        return cannot_write(writable, what, text, err);
    case SQLITE_IOERR:
        if (system == ENOSPC || system == EDQUOT)
            return atd_error_set(err, ENOSPC, "%s: %s: make room for the index", what,
                                 strerror(system));
        return atd_error_set(err, EIO, "%s: %s%s%s", what, text, system ? ": " : "",
                             system ? strerror(system) : "");
    case SQLITE_CORRUPT:
        return atd_error_set(err, EIO,
                             "%s: the file is damaged (%s): restore a backup, or save what can be "
                             "read with sqlite3's .recover",
                             what, text);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return atd_error_set_retryable(err, EBUSY, "%s: another program holds its lock (%s)", what,
                                       text);
    case SQLITE_INTERRUPT:
        return atd_error_set_retryable(err, EBUSY, "%s: it takes too long", what);
    case SQLITE_TOOBIG:
        return atd_error_set(err, EFBIG, "%s: %s", what, text);
    case SQLITE_ERROR:
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
        return atd_error_set(err, EINVAL, "%s: its tables are not the library's: %s", what, text);
    default:
        return atd_sqlite_error(db, what, err);
    }
}

/* ------------------------------------------------------------------ the file */

static void find_real(const char *path, char real[PATH_MAX])
{
    if (!realpath(path, real))
        (void)snprintf(real, PATH_MAX, "%s", path);
}

int atd_sqlite_is_there(const char *path, bool *ret_there, struct atd_error *err)
{
    struct atd_sqlite_signature signature;
    char real[PATH_MAX];
    int rc;

    find_real(path, real);
    rc = atd_sqlite_sign(real, &signature, err);
    if (rc == 0)
        *ret_there = signature.main.exists && signature.main.size_bytes > 0;
    return rc;
}

/* The directory of `path`; "/" at least. */
static int directory_of(const char *path, char ret_dir[PATH_MAX], struct atd_error *err)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash && slash != path ? (size_t)(slash - path) : 1;

    if (len >= PATH_MAX || strlen(path) + sizeof("-journal") > PATH_MAX)
        return atd_error_set(err, ENAMETOOLONG, "'%s': the path is too long", path);
    memcpy(ret_dir, path, len);
    ret_dir[len] = '\0';
    return 0;
}

/* As the library does: the index may be the first thing that anybody keeps there. */
static int make_directory(const char *path, struct atd_error *err)
{
    char dir[PATH_MAX];
    int rc = directory_of(path, dir, err);

    for (char *at = dir + 1; rc == 0; at++) {
        char byte = *at;

        if (byte != '/' && byte != '\0')
            continue;
        *at = '\0';
        /* Where it exists, EROFS and EACCES are possible too, and mean nothing. */
        if (mkdir(dir, 0755) != 0 && errno != EEXIST) {
            int code = errno;

            if (access(dir, F_OK) != 0)
                rc = atd_error_set(err, code, "cannot make the directory '%s': %s", dir,
                                   strerror(code));
        }
        *at = byte;
        if (byte == '\0')
            break;
    }
    return rc;
}

int atd_sqlite_writable_check(const char *path, struct atd_error *err)
{
    char real[PATH_MAX];
    char dir[PATH_MAX];
    bool there;
    int rc = atd_sqlite_is_there(path, &there, err);

    find_real(path, real);
    if (rc == 0)
        rc = directory_of(real, dir, err);
    if (rc)
        return rc;
    if (faccessat(AT_FDCWD, real, W_OK, AT_EACCESS) != 0 && errno != ENOENT)
        return atd_error_set(err, errno, "'%s' cannot be written: %s", real, strerror(errno));
    /* SQLite keeps files beside it. What is to be made counts by where it will be. */
    while (faccessat(AT_FDCWD, dir, W_OK | X_OK, AT_EACCESS) != 0) {
        char *slash = strrchr(dir, '/');

        if (errno != ENOENT || dir[1] == '\0')
            return atd_error_set(err, errno,
                                 "the directory '%s' cannot be written, and SQLite keeps files "
                                 "beside the index: %s",
                                 dir, strerror(errno));
        slash[slash == dir ? 1 : 0] = '\0';
    }
    return 0;
}

/* A file that is new is there after a crash only when its directory says so. */
static int sync_directory(const char *path, struct atd_error *err)
{
    char name[PATH_MAX];
    atd_auto_fd int fd = -1;
    int rc = directory_of(path, name, err);

    if (rc)
        return rc;
    fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0)
        return atd_error_set(err, errno, "'%s': %s", name, strerror(errno));
    return 0;
}

/*
 * SQLite plays back what a crashed program left in a -journal, and deletes the file that is named
 * at its end (of a transaction over several databases), whichever that is. The library makes none.
 * Source: SQLite's file format, 3 ("The Rollback Journal"); pager.c, readSuperJournal().
 */
static int refuse_super_journal(const char *path, struct atd_error *err)
{
    static const uint8_t magic[] = {0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7};
    uint8_t tail[sizeof(magic)];
    char name[PATH_MAX + 16];
    atd_auto_fd int fd = -1;
    off_t size;

    (void)snprintf(name, sizeof(name), "%s-journal", path);
    fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    if (size < (off_t)sizeof(tail) ||
        pread(fd, tail, sizeof(tail), size - (off_t)sizeof(tail)) != (ssize_t)sizeof(tail) ||
        memcmp(tail, magic, sizeof(magic)) != 0)
        return 0;
    return atd_error_set_retryable(err, EBUSY,
                                   "'%s' belongs to a transaction over several databases: the "
                                   "program that began it must end it",
                                   name);
}

/* ------------------------------------------------------------------ the connection */

static bool is_late(const struct atd_sqlite_writable *writable)
{
    return atd_clock_monotonic_ms() >= writable->deadline_ms;
}

static int past_deadline(void *ctx)
{
    return is_late(ctx);
}

/* Another program holds a lock: 1 to try again. */
static int wait_for_lock(void *ctx, int tries)
{
    (void)tries;
    if (is_late(ctx))
        return 0;
    (void)usleep(LOCK_PAUSE_US);
    return 1;
}

/* `sql` may answer rows, which count for nothing. */
static int run(const struct atd_sqlite_writable *writable, const char *sql, const char *what,
               struct atd_error *err)
{
    if (sqlite3_exec(writable->db, sql, NULL, NULL, NULL) != SQLITE_OK)
        return atd_sqlite_writable_error(writable, what, err);
    return 0;
}

/*
 * SQLite does not wait for the lock that a change of mode takes (another program that makes the
 * file just now): it would be a deadlock in general.
 */
static int enter_wal_mode(const struct atd_sqlite_writable *writable, struct atd_error *err)
{
    int code;

    while ((code = sqlite3_exec(writable->db, "PRAGMA journal_mode=WAL", NULL, NULL, NULL) & 0xff),
           (code == SQLITE_BUSY || code == SQLITE_LOCKED) && !is_late(writable))
        (void)usleep(LOCK_PAUSE_US);
    /* Where the file system cannot (the answer is another mode), the mode it has will do. */
    return code == SQLITE_OK ? 0 : atd_sqlite_writable_error(writable, "cannot open it", err);
}

static void configure(struct atd_sqlite_writable *writable)
{
    sqlite3 *db = writable->db;

    (void)sqlite3_extended_result_codes(db, 1);
    (void)sqlite3_busy_handler(db, wait_for_lock, writable);
    sqlite3_progress_handler(db, PROGRESS_STEPS, past_deadline, writable);
    /* The file's own schema is as hostile as its rows: no functions with side effects from it. */
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
    (void)sqlite3_limit(db, SQLITE_LIMIT_LENGTH, (int)VALUE_BYTES_MAX);
}

int atd_sqlite_writable_open(const char *path, enum atd_sqlite_purpose purpose, int64_t deadline_ms,
                             struct atd_sqlite_writable *ret_writable, struct atd_error *err)
{
    struct atd_sqlite_writable *writable = ret_writable;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;
    bool there = false;
    int rc = atd_sqlite_is_there(path, &there, err);

    *writable = (struct atd_sqlite_writable){.path = path, .deadline_ms = deadline_ms};
    if (rc == 0 && !there && purpose == ATD_SQLITE_TO_READ)
        rc = atd_error_set(err, ENOENT, "there is no index yet");
    if (rc == 0 && !there)
        rc = make_directory(path, err);
    if (rc)
        return rc;
    find_real(path, writable->real);
    rc = refuse_super_journal(writable->real, err);
    if (rc)
        return rc;
    writable->made = !there;
    if (purpose == ATD_SQLITE_TO_WRITE)
        flags |= SQLITE_OPEN_CREATE;
    if (sqlite3_open_v2(writable->real, &writable->db, flags, NULL) != SQLITE_OK) {
        rc = atd_sqlite_writable_error(writable, "cannot open it", err);
        atd_sqlite_writable_close(writable);
        return rc;
    }
    configure(writable);
    if (purpose == ATD_SQLITE_TO_WRITE)
        rc = enter_wal_mode(writable, err);
    if (rc)
        atd_sqlite_writable_close(writable);
    return rc;
}

void atd_sqlite_writable_close(struct atd_sqlite_writable *writable)
{
    if (writable->in_transaction)
        (void)sqlite3_exec(writable->db, "ROLLBACK", NULL, NULL, NULL);
    (void)sqlite3_close(writable->db);
    writable->db = NULL;
    writable->in_transaction = false;
}

/* ------------------------------------------------------------------ transactions */

static int refuse_strange(const struct atd_sqlite_writable *writable, struct atd_error *err)
{
    static const char *const names[] = {"dataset_entries", "schemas", "labels", "lenses"};
    static const char triggers[] =
        "SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND lower(tbl_name) IN "
        "('dataset_entries', 'schemas', 'labels', 'lenses')";
    sqlite3_stmt *row = NULL;
    int step = SQLITE_ERROR;

    for (size_t i = 0; i < ATD_ARRAY_LEN(names); i++) {
        enum atd_sqlite_table state;

        if (atd_sqlite_table_state(writable->db, names[i], &state, NULL))
            return atd_sqlite_writable_error(writable, "cannot read its schema", err);
        if (state == ATD_SQLITE_TABLE_STRANGE)
            return atd_error_set(err, EINVAL,
                                 "its table %s is no plain table (a view, virtual, or with "
                                 "generated columns): it is not written",
                                 names[i]);
    }
    if (sqlite3_prepare_v2(writable->db, triggers, -1, &row, NULL) == SQLITE_OK)
        step = sqlite3_step(row);
    (void)sqlite3_finalize(row);
    if (step == SQLITE_ROW)
        return atd_error_set(err, EINVAL,
                             "its tables have triggers, which the library's have not: it is not "
                             "written");
    return step == SQLITE_DONE ? 0
                               : atd_sqlite_writable_error(writable, "cannot read its schema", err);
}

int atd_sqlite_writable_begin(struct atd_sqlite_writable *writable, struct atd_error *err)
{
    int rc = run(writable, "BEGIN IMMEDIATE", "cannot begin to write", err);

    if (rc)
        return rc;
    writable->in_transaction = true;
    rc = refuse_strange(writable, err);
    return rc ? rc : run(writable, create_tables, "cannot make its tables", err);
}

int atd_sqlite_writable_commit(struct atd_sqlite_writable *writable, struct atd_error *err)
{
    int rc = writable->made ? sync_directory(writable->real, err) : 0;

    if (rc == 0)
        rc = run(writable, "COMMIT", "cannot commit", err);
    if (rc == 0)
        writable->in_transaction = false;
    return rc;
}

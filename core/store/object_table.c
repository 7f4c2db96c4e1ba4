#include "store/object_table.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/dirs.h"
#include "base/lock.h"
#include "store/object_map.h"
#include "store/object_records.h"

#define FILE_BYTES_MAX (4ull << 30)
#define PIECE_BYTES (128u << 10)
/* A find reads no more than this of what other processes added. */
#define LOOK_PIECES_MAX 4u
#define LOOK_AGAIN_MS 1000
/* Places where a record might begin and does not, in one replay; then the rest is given up. */
#define FALSE_STARTS_MAX (1u << 20)
#define COMPACT_MIN_BYTES (1u << 20)
#define REOPEN_TRIES 16

struct atd_object_table {
    struct atd_lock lock;
    pthread_cond_t idle;

    /* guarded by lock; the map is changed only by whoever has `busy` */
    struct atd_object_map *map;
    bool busy; /* somebody is at the file; the fields below are his */
    int64_t looked_ms;

    /* of whoever has `busy` */
    int fd;       /* -1: in memory only */
    bool is_late; /* its directory is missing; the first record makes both */
    uint64_t replayed_bytes;
    uint64_t records;

    /* atomic: _status reads them */
    atomic_uint_fast64_t file_bytes;
    atomic_uint_fast64_t damaged_bytes;
    atomic_uint_fast64_t write_failures;

    /* fixed */
    char *path; /* NULL: in memory only */
};

static void begin(struct atd_object_table *table)
{
    atd_lock_take(&table->lock);
    while (table->busy)
        atd_cond_wait(&table->idle, &table->lock);
    table->busy = true;
    atd_lock_give(&table->lock);
}

static void end_locked(struct atd_object_table *table)
{
    table->busy = false;
    (void)pthread_cond_broadcast(&table->idle);
}

/* ------------------------------------------------------------------ reading the file */

struct replay {
    bool whole;  /* nobody is writing: what is cut short at the end stays so */
    bool nowait; /* only what the page cache has */
    unsigned pieces_max;
    unsigned false_starts;
};

/* Applies the records of one piece; returns how many bytes are done with. */
static size_t apply_piece(struct atd_object_table *table, struct replay *replay,
                          struct atd_bytes piece)
{
    size_t at = 0;

    if (table->replayed_bytes == 0 && piece.len >= ATD_RECORDS_MAGIC_BYTES &&
        memcmp(piece.ptr, ATD_RECORDS_MAGIC, ATD_RECORDS_MAGIC_BYTES) == 0)
        at = ATD_RECORDS_MAGIC_BYTES;
    atd_lock_take(&table->lock);
    while (replay->false_starts < FALSE_STARTS_MAX) {
        const struct atd_bytes rest = {piece.ptr + at, piece.len - at};
        struct atd_record record;
        size_t used;
        enum atd_record_found found = atd_record_read(rest, &record, &used);

        if (found == ATD_RECORD_SHORT)
            break;
        at += used;
        if (found == ATD_RECORD_OK) {
            (void)atd_object_map_apply(table->map, &record);
            table->records++;
        } else {
            replay->false_starts++;
            (void)atomic_fetch_add(&table->damaged_bytes, used);
        }
    }
    atd_lock_give(&table->lock);
    return at;
}

/* Reads what is behind the part that is known. The caller has `busy`. Errors: EIO, EAGAIN, ... */
static int replay_file(struct atd_object_table *table, struct replay *replay)
{
    atd_auto_free uint8_t *buffer = malloc(PIECE_BYTES);
    int rc = buffer ? 0 : -ENOMEM;

    for (unsigned pieces = 0; rc == 0 && (!replay->pieces_max || pieces < replay->pieces_max);
         pieces++) {
        struct iovec into = {buffer, PIECE_BYTES};
        ssize_t got = preadv2(table->fd, &into, 1, (off_t)table->replayed_bytes,
                              replay->nowait ? RWF_NOWAIT : 0);
        size_t done;

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            rc = got < 0 ? -errno : 0;
            break;
        }
        done = apply_piece(table, replay, (struct atd_bytes){buffer, (size_t)got});
        if (replay->false_starts >= FALSE_STARTS_MAX) {
            /* Made to cost time. What is known stays known. */
            off_t end = lseek(table->fd, 0, SEEK_END);

            table->replayed_bytes += done;
            if (end > (off_t)table->replayed_bytes) {
                (void)atomic_fetch_add(&table->damaged_bytes,
                                       (uint64_t)end - table->replayed_bytes);
                table->replayed_bytes = (uint64_t)end;
            }
            break;
        }
        if (done == 0) {
            if (!replay->whole)
                break;
            done = 1;
            (void)atomic_fetch_add(&table->damaged_bytes, 1);
        }
        table->replayed_bytes += done;
    }
    atomic_store(&table->file_bytes, table->replayed_bytes);
    return rc;
}

static int lock_file(int fd, int operation)
{
    int rc;

    do
        rc = flock(fd, operation);
    while (rc != 0 && errno == EINTR);
    return rc == 0 ? 0 : -errno;
}

static int write_whole(int fd, const uint8_t *bytes, size_t len)
{
    ssize_t got;

    do
        got = write(fd, bytes, len);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return -errno;
    return (size_t)got == len ? 0 : -ENOSPC;
}

/* Opens the file at the path, from its beginning. */
static int open_file(struct atd_object_table *table, int flags, struct atd_error *err)
{
    atd_auto_fd int fd =
        open(table->path, O_RDWR | O_APPEND | O_CLOEXEC | O_NONBLOCK | flags, 0600);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) != 0)
        return atd_error_set(err, errno, "object table '%s': %s", table->path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return atd_error_set(err, EINVAL, "object table '%s' is not a regular file", table->path);
    if (st.st_uid != geteuid() || (st.st_mode & 022))
        return atd_error_set(err, EACCES,
                             "object table '%s' belongs to somebody else or can be written by "
                             "others",
                             table->path);
    if ((uint64_t)st.st_size > FILE_BYTES_MAX)
        return atd_error_set(err, EFBIG, "object table '%s' is larger than 4 GiB; remove it",
                             table->path);
    if (table->fd >= 0)
        (void)close(table->fd);
    table->fd = atd_steal_fd(&fd);
    table->replayed_bytes = 0;
    table->records = 0;
    atomic_store(&table->damaged_bytes, 0);
    return 0;
}

/* ------------------------------------------------------------------ writing the file */

static bool is_current(struct atd_object_table *table)
{
    struct stat mine;
    struct stat named;

    return fstat(table->fd, &mine) == 0 && stat(table->path, &named) == 0 &&
           mine.st_dev == named.st_dev && mine.st_ino == named.st_ino;
}

/* The lock of the file that the path means now, everything in it read. */
static int lock_current(struct atd_object_table *table, struct atd_error *err)
{
    struct replay replay = {.whole = true};
    struct stat st;
    int rc;

    for (int tries = 0;; tries++) {
        rc = lock_file(table->fd, LOCK_EX);
        if (rc)
            return atd_error_set(err, -rc, "object table '%s': %s", table->path, strerror(-rc));
        if (is_current(table))
            break;
        if (tries == REOPEN_TRIES)
            return atd_error_set(err, EBUSY, "object table '%s' is replaced all the time",
                                 table->path);
        rc = open_file(table, O_CREAT, err);
        if (rc)
            return rc;
    }
    if (fstat(table->fd, &st) == 0 && (uint64_t)st.st_size < ATD_RECORDS_MAGIC_BYTES) {
        /* New, or its maker was killed. */
        if (ftruncate(table->fd, 0) != 0)
            rc = -errno;
        else
            rc =
                write_whole(table->fd, (const uint8_t *)ATD_RECORDS_MAGIC, ATD_RECORDS_MAGIC_BYTES);
    }
    if (rc == 0)
        rc = replay_file(table, &replay);
    if (rc) {
        (void)flock(table->fd, LOCK_UN);
        return atd_error_set(err, -rc, "object table '%s': %s", table->path, strerror(-rc));
    }
    return 0;
}

/* One record behind all others; what could be written of it only in part is taken back. */
static int append(struct atd_object_table *table, const struct atd_record *record)
{
    atd_auto_buf struct atd_buf buf = ATD_BUF_INIT(ATD_RECORD_BYTES_MAX);
    int rc;

    atd_record_append(&buf, record);
    rc = atd_buf_finish(&buf, "record", NULL);
    if (rc)
        return rc;
    if (table->replayed_bytes + buf.len > FILE_BYTES_MAX)
        return -EFBIG;
    rc = write_whole(table->fd, buf.ptr, buf.len);
    if (rc) {
        /* Where that fails too, what stays is passed over by whoever replays it. */
        return ftruncate(table->fd, (off_t)table->replayed_bytes) == 0 ? rc : -EIO;
    }
    table->replayed_bytes += buf.len;
    table->records++;
    atomic_store(&table->file_bytes, table->replayed_bytes);
    return 0;
}

/* All objects into a new file; returns its descriptor or -errno. Only finds go on meanwhile. */
static int write_all(struct atd_object_table *table, const char *path)
{
    atd_auto_fd int fd =
        open(path, O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    atd_auto_buf struct atd_buf buf = ATD_BUF_INIT(PIECE_BYTES + ATD_RECORD_BYTES_MAX);
    struct atd_record record;
    size_t position = 0;
    int rc = fd < 0 ? -errno : 0;

    atd_buf_append(&buf, ATD_RECORDS_MAGIC, ATD_RECORDS_MAGIC_BYTES);
    while (rc == 0 && atd_object_map_next(table->map, &position, &record)) {
        atd_record_append(&buf, &record);
        if (buf.len < PIECE_BYTES)
            continue;
        rc = buf.failed ? -ENOMEM : write_whole(fd, buf.ptr, buf.len);
        atd_buf_clear(&buf);
    }
    if (rc == 0)
        rc = buf.failed ? -ENOMEM : write_whole(fd, buf.ptr, buf.len);
    if (rc == 0 && (fdatasync(fd) != 0 || flock(fd, LOCK_EX | LOCK_NB) != 0))
        rc = -errno;
    return rc ? rc : atd_steal_fd(&fd);
}

/*
 * Writes the file anew without what is superseded. The lock of the present one is held, so that
 * nobody appends to it before he has seen that it was replaced.
 */
static void compact(struct atd_object_table *table)
{
    uint64_t live = atd_object_map_count(table->map);
    uint64_t damaged = atomic_load(&table->damaged_bytes);
    char path[PATH_MAX];
    off_t end;
    int fd;

    if (table->replayed_bytes < COMPACT_MIN_BYTES ||
        (table->records / 2 <= live && damaged <= table->replayed_bytes / 2))
        return;
    if (snprintf(path, sizeof(path), "%s.new", table->path) >= (int)sizeof(path))
        return;
    fd = write_all(table, path);
    if (fd < 0 || rename(path, table->path) != 0) {
        if (fd >= 0)
            (void)close(fd);
        (void)unlink(path);
        (void)atomic_fetch_add(&table->write_failures, 1);
        return;
    }
    (void)close(table->fd);
    table->fd = fd;
    end = lseek(fd, 0, SEEK_END);
    table->replayed_bytes = end > 0 ? (uint64_t)end : 0;
    table->records = live;
    atomic_store(&table->damaged_bytes, 0);
    atomic_store(&table->file_bytes, table->replayed_bytes);
}

static int apply(struct atd_object_table *table, const struct atd_record *record)
{
    int rc;

    atd_lock_take(&table->lock);
    rc = atd_object_map_apply(table->map, record);
    atd_lock_give(&table->lock);
    return rc;
}

/* False when that is what is known already. */
static bool is_news(struct atd_object_table *table, const struct atd_record *record)
{
    struct atd_object_info known;
    bool found;

    atd_lock_take(&table->lock);
    found = atd_object_map_find(table->map, record->scope, record->url, &known);
    atd_lock_give(&table->lock);
    if (record->is_drop)
        return found;
    return !found || known.size_bytes != record->info.size_bytes ||
           known.mtime_s != record->info.mtime_s || strcmp(known.etag, record->info.etag) != 0;
}

static void begin_file(struct atd_object_table *table, struct atd_error *ret_warning);

/* The first fact is what the directory is made for. */
static void make_file(struct atd_object_table *table)
{
    char directory[PATH_MAX];
    const char *slash = strrchr(table->path, '/');

    table->is_late = false;
    (void)snprintf(directory, sizeof(directory), "%.*s", (int)(slash - table->path), table->path);
    if (atd_make_dirs(directory) == 0)
        begin_file(table, NULL);
}

static void change(struct atd_object_table *table, const struct atd_record *record)
{
    int rc;

    if (!atd_record_fits(record->scope, record->url))
        return;
    begin(table);
    if (is_news(table, record)) {
        /* At once for finds; again behind what other processes wrote before this. */
        if (table->is_late)
            make_file(table);
        rc = apply(table, record);
        if (rc == 0 && table->fd >= 0) {
            rc = lock_current(table, NULL);
            if (rc == 0) {
                (void)apply(table, record);
                rc = append(table, record);
                if (rc == 0)
                    compact(table);
                (void)flock(table->fd, LOCK_UN);
            }
        }
        if (rc)
            (void)atomic_fetch_add(&table->write_failures, 1);
    }
    atd_lock_take(&table->lock);
    end_locked(table);
    atd_lock_give(&table->lock);
}

/* ------------------------------------------------------------------ interface */

void atd_object_table_close(struct atd_object_table *table)
{
    if (!table)
        return;
    atd_assert(!table->busy);
    if (table->fd >= 0)
        (void)close(table->fd);
    atd_object_map_free(table->map);
    free(table->path);
    (void)pthread_cond_destroy(&table->idle);
    atd_lock_destroy(&table->lock);
    free(table);
}

/* Reads the whole file; an empty one is begun. */
static int start_with_file(struct atd_object_table *table, struct atd_error *err)
{
    struct stat st;
    int rc = open_file(table, O_CREAT, err);

    if (rc)
        return rc;
    rc = lock_current(table, err);
    if (rc)
        return rc;
    (void)flock(table->fd, LOCK_UN);
    if (fstat(table->fd, &st) == 0 && table->records == 0 &&
        (uint64_t)st.st_size > ATD_RECORDS_MAGIC_BYTES) {
        char magic[ATD_RECORDS_MAGIC_BYTES];

        if (pread(table->fd, magic, sizeof(magic), 0) != (ssize_t)sizeof(magic) ||
            memcmp(magic, ATD_RECORDS_MAGIC, sizeof(magic)) != 0)
            return atd_error_set(err, EBADMSG, "'%s' is not an object table; move it away",
                                 table->path);
    }
    return 0;
}

/* A file that cannot be had is done without. */
static void begin_file(struct atd_object_table *table, struct atd_error *ret_warning)
{
    struct atd_error why = ATD_ERROR_INIT;
    int rc = start_with_file(table, &why);

    table->is_late = rc == -ENOENT; /* the directory is missing */
    if (rc && !table->is_late && ret_warning)
        *ret_warning = why;
    if (rc && table->fd >= 0) {
        (void)close(table->fd);
        table->fd = -1;
        atomic_store(&table->file_bytes, 0);
    }
}

int atd_object_table_open(const char *path, struct atd_object_table **ret_table,
                          struct atd_error *ret_warning, struct atd_error *err)
{
    struct atd_object_table *table = calloc(1, sizeof(*table));

    if (!table)
        return atd_error_set(err, ENOMEM, "object table: out of memory");
    table->fd = -1;
    atd_lock_init(&table->lock, ATD_RANK_OBJECTS);
    atd_cond_init(&table->idle);
    table->map = atd_object_map_new();
    table->path = path ? strdup(path) : NULL;
    if (!table->map || (path && !table->path)) {
        atd_object_table_close(table);
        return atd_error_set(err, ENOMEM, "object table: out of memory");
    }
    if (path)
        begin_file(table, ret_warning);
    *ret_table = table;
    return 0;
}

/* What other processes added; without waiting for the disk. The caller has `busy`. */
static void look(struct atd_object_table *table)
{
    struct replay replay = {.nowait = true, .pieces_max = LOOK_PIECES_MAX};
    struct stat st;

    if (fstat(table->fd, &st) != 0)
        return;
    /* Replaced by a smaller one of the same content: go on in that. */
    if (st.st_nlink == 0 && open_file(table, 0, NULL) != 0)
        return;
    if (st.st_nlink == 0 || (uint64_t)st.st_size > table->replayed_bytes)
        (void)replay_file(table, &replay);
}

bool atd_object_table_find(struct atd_object_table *table, struct atd_str scope, struct atd_str url,
                           struct atd_object_info *ret_info)
{
    int64_t now_ms = atd_clock_monotonic_ms();
    bool found;
    bool mine = false;

    atd_lock_take(&table->lock);
    found = atd_object_map_find(table->map, scope, url, ret_info);
    if (!found && !table->busy && table->fd >= 0 && now_ms - table->looked_ms >= LOOK_AGAIN_MS) {
        table->looked_ms = now_ms;
        table->busy = mine = true;
    }
    atd_lock_give(&table->lock);
    if (!mine)
        return found;
    look(table);
    atd_lock_take(&table->lock);
    end_locked(table);
    found = atd_object_map_find(table->map, scope, url, ret_info);
    atd_lock_give(&table->lock);
    return found;
}

void atd_object_table_put(struct atd_object_table *table, struct atd_str scope, struct atd_str url,
                          const struct atd_object_info *info)
{
    const struct atd_record record = {.scope = scope, .url = url, .info = *info};

    change(table, &record);
}

void atd_object_table_drop(struct atd_object_table *table, struct atd_str scope, struct atd_str url)
{
    const struct atd_record record = {.is_drop = true, .scope = scope, .url = url};

    change(table, &record);
}

size_t atd_object_table_count(struct atd_object_table *table)
{
    size_t count;

    atd_lock_take(&table->lock);
    count = atd_object_map_count(table->map);
    atd_lock_give(&table->lock);
    return count;
}

void atd_object_table_status(struct atd_object_table *table,
                             struct atd_object_table_status *ret_status)
{
    ret_status->objects = atd_object_table_count(table);
    ret_status->file_bytes = atomic_load(&table->file_bytes);
    ret_status->damaged_bytes = atomic_load(&table->damaged_bytes);
    ret_status->write_failures = atomic_load(&table->write_failures);
}

/*
 * A change is made in three steps, so that no lock is held while the disk works:
 *
 *     begin    (locked) the bytes that will change are no longer written; the epoch goes up if a
 *              reader was told of them
 *     the system call
 *     end      (locked) they are written; the size follows. If a reader was told of them in
 *              between (atd_spool_whole), the epoch goes up again
 */
#include "publish/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/lock.h"
#include "publish/extents.h"

struct atd_spool {
    /* fixed */
    int fd;
    char *path; /* NULL: not ours, read only */
    uint64_t floor_bytes;

    struct atd_lock lock;
    /* guarded */
    uint64_t limit_bytes;
    uint64_t size;
    struct atd_extents extents;
    uint64_t told; /* the largest ordered_end told in this epoch */
    uint64_t epoch;
    uint64_t written;
    uint64_t headroom; /* may be written before the file system is asked again */
    uint64_t resizes;  /* beginnings and ends of changes of the size by other means than a write */
    unsigned changing;
};

/* One change under way. */
struct change {
    uint64_t start;
    uint64_t end;
    uint64_t resizes; /* at its beginning */
};

/* Translates what the system said: never ENOSPC, and nothing that a tool would take for "again"
 * (TOOLS 4, errno). */
static int system_error(int code, const char *what, struct atd_error *err)
{
    int told = code;

    if (code == ENOSPC)
        told = EDQUOT;
    else if (code == EINTR || code == EAGAIN || code == EINVAL)
        told = EIO;
    return atd_error_set(err, told, "%s the spool file: %s", what, strerror(code));
}

static uint64_t size_of_file(int fd)
{
    struct stat st;
    int rc = fstat(fd, &st); /* of an open file: no disk */

    atd_assert(rc == 0);
    return (uint64_t)st.st_size;
}

static int make(int fd, const char *path, struct atd_spool **ret_spool, struct atd_error *err)
{
    struct atd_spool *spool = calloc(1, sizeof(*spool));
    char *copy = path && spool ? strdup(path) : NULL;

    if (!spool || (path && !copy)) {
        free(spool);
        return atd_error_set(err, ENOMEM, "spool: out of memory");
    }
    spool->fd = fd;
    spool->path = copy;
    atd_lock_init(&spool->lock, ATD_RANK_SPOOL);
    *ret_spool = spool;
    return 0;
}

int atd_spool_new(const char *path, uint64_t limit_bytes, uint64_t floor_bytes,
                  struct atd_spool **ret_spool, struct atd_error *err)
{
    atd_auto_fd int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    int rc;

    if (fd < 0) {
        int code = errno == ENOSPC ? EDQUOT : errno;

        return atd_error_set(err, code, "cannot make the spool file '%s': %s", path,
                             strerror(errno));
    }
    rc = make(fd, path, ret_spool, err);
    if (rc != 0) {
        (void)unlink(path);
        return rc;
    }
    (void)atd_steal_fd(&fd);
    (*ret_spool)->limit_bytes = limit_bytes;
    (*ret_spool)->floor_bytes = floor_bytes;
    return 0;
}

int atd_spool_over(int fd, struct atd_spool **ret_spool, struct atd_error *err)
{
    struct atd_spool_progress ignored;
    struct stat st;
    int rc;

    if (fstat(fd, &st) != 0)
        return atd_error_set(err, errno, "cannot look at the file: %s", strerror(errno));
    if (!S_ISREG(st.st_mode))
        return atd_error_set(err, EINVAL, "not a regular file");
    rc = make(fd, NULL, ret_spool, err);
    if (rc != 0)
        return rc;
    (*ret_spool)->size = (uint64_t)st.st_size;
    atd_spool_whole(*ret_spool, &ignored);
    return 0;
}

void atd_spool_free(struct atd_spool *spool)
{
    if (!spool)
        return;
    atd_assert(spool->changing == 0);
    if (spool->path)
        (void)unlink(spool->path);
    (void)close(spool->fd);
    atd_lock_destroy(&spool->lock);
    free(spool->path);
    free(spool);
}

void atd_spool_set_limit(struct atd_spool *spool, uint64_t limit_bytes)
{
    atd_lock_take(&spool->lock);
    spool->limit_bytes = limit_bytes;
    atd_lock_give(&spool->lock);
}

/* ------------------------------------------------------------------ changes */

/* Bytes from `start` on change: whoever was told of them must hear it. */
static void touch_locked(struct atd_spool *spool, uint64_t start)
{
    if (start >= spool->told)
        return;
    spool->epoch++;
    spool->told = 0;
}

/*
 * Begins a change of [start, end). What was written there and behind is forgotten: it is about to
 * be written again, or gone.
 */
static struct change begin_locked(struct atd_spool *spool, uint64_t start, uint64_t end)
{
    if (atd_extents_overlap(&spool->extents, start, end)) {
        touch_locked(spool, start);
        atd_extents_cut(&spool->extents, start);
    }
    atd_paranoid(spool->told <= atd_extents_ordered_end(&spool->extents));
    spool->changing++;
    return (struct change){start, end, spool->resizes};
}

/* Ends a write; `worked`, or nobody knows what of it is there. */
static void end_write_locked(struct atd_spool *spool, const struct change *change, bool worked)
{
    spool->changing--;
    touch_locked(spool, change->start);
    if (worked && change->resizes == spool->resizes) {
        atd_extents_add(&spool->extents, change->start, change->end);
        spool->size = change->end > spool->size ? change->end : spool->size;
    } else {
        /* It failed, or a truncation came between: only the system knows the size. */
        atd_extents_cut(&spool->extents, change->start);
        spool->size = size_of_file(spool->fd);
    }
    spool->written += worked ? change->end - change->start : 0;
}

/* Ends a change that left no written bytes from its start on. */
static void end_resize_locked(struct atd_spool *spool, const struct change *change)
{
    spool->changing--;
    spool->resizes++;
    if (atd_extents_overlap(&spool->extents, change->start, change->end)) {
        touch_locked(spool, change->start);
        atd_extents_cut(&spool->extents, change->start);
    }
    spool->size = size_of_file(spool->fd);
}

static int check_place(const struct atd_spool *spool, uint64_t offset, uint64_t len,
                       struct atd_error *err)
{
    if (!spool->path)
        return atd_error_set(err, EPERM, "the file is only read");
    if (offset > INT64_MAX || len > INT64_MAX - offset)
        return atd_error_set(err, EFBIG, "byte %" PRIu64 " is beyond every file", offset);
    return 0;
}

static int check_limit_locked(const struct atd_spool *spool, uint64_t end, struct atd_error *err)
{
    if (spool->limit_bytes && end > spool->limit_bytes)
        return atd_error_set(err, EFBIG, "file is larger than the limit of %" PRIu64 " bytes",
                             spool->limit_bytes);
    return 0;
}

/* How many bytes may be written above the floor. */
static int ask_room(const struct atd_spool *spool, uint64_t wanted, uint64_t *ret_room,
                    struct atd_error *err)
{
    struct statvfs vfs;
    uint64_t free_bytes;
    int rc;

    do
        rc = fstatvfs(spool->fd, &vfs);
    while (rc != 0 && errno == EINTR);
    if (rc != 0)
        return system_error(errno, "cannot look for room for", err);
    free_bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize;
    *ret_room = free_bytes > spool->floor_bytes ? free_bytes - spool->floor_bytes : 0;
    if (*ret_room < wanted)
        return atd_error_set(err, EDQUOT,
                             "spool: %" PRIu64 " MiB are free where it lies, and %" PRIu64
                             " MiB are to stay free: make room there",
                             free_bytes >> 20, spool->floor_bytes >> 20);
    return 0;
}

/* Takes `len` bytes of the room, asking the file system once in a while. */
static int take_room(struct atd_spool *spool, uint64_t len, struct atd_error *err)
{
    uint64_t room = 0;
    int rc;

    if (spool->floor_bytes == 0)
        return 0;
    atd_lock_take(&spool->lock);
    if (spool->headroom >= len) {
        spool->headroom -= len;
        atd_lock_give(&spool->lock);
        return 0;
    }
    atd_lock_give(&spool->lock);
    rc = ask_room(spool, len, &room, err);
    if (rc != 0)
        return rc;
    room -= len;
    atd_lock_take(&spool->lock);
    spool->headroom = room < ATD_SPOOL_FLOOR_STEP_BYTES ? room : ATD_SPOOL_FLOOR_STEP_BYTES;
    atd_lock_give(&spool->lock);
    return 0;
}

static int write_all(int fd, uint64_t offset, struct atd_bytes bytes, struct atd_error *err)
{
    while (bytes.len) {
        ssize_t done = pwrite(fd, bytes.ptr, bytes.len, (off_t)offset);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return system_error(done < 0 ? errno : EIO, "cannot write", err);
        offset += (uint64_t)done;
        bytes = (struct atd_bytes){bytes.ptr + done, bytes.len - (size_t)done};
    }
    return 0;
}

int atd_spool_write(struct atd_spool *spool, uint64_t offset, struct atd_bytes bytes,
                    struct atd_error *err)
{
    struct change change;
    int rc = check_place(spool, offset, bytes.len, err);

    if (rc == 0 && bytes.len)
        rc = take_room(spool, bytes.len, err);
    if (rc != 0 || bytes.len == 0)
        return rc;
    atd_lock_take(&spool->lock);
    rc = check_limit_locked(spool, offset + bytes.len, err);
    if (rc == 0)
        change = begin_locked(spool, offset, offset + bytes.len);
    atd_lock_give(&spool->lock);
    if (rc != 0)
        return rc;
    rc = write_all(spool->fd, offset, bytes, err);
    atd_lock_take(&spool->lock);
    end_write_locked(spool, &change, rc == 0);
    atd_lock_give(&spool->lock);
    return rc;
}

int atd_spool_truncate(struct atd_spool *spool, uint64_t size_bytes, struct atd_error *err)
{
    struct change change;
    int rc = check_place(spool, size_bytes, 0, err);

    if (rc != 0)
        return rc;
    atd_lock_take(&spool->lock);
    if (size_bytes > spool->size)
        rc = check_limit_locked(spool, size_bytes, err);
    if (rc == 0) {
        change = begin_locked(spool, size_bytes, UINT64_MAX);
        spool->resizes++;
    }
    atd_lock_give(&spool->lock);
    if (rc != 0)
        return rc;
    do
        rc = ftruncate(spool->fd, (off_t)size_bytes);
    while (rc != 0 && errno == EINTR);
    if (rc != 0)
        rc = system_error(errno, "cannot change the size of", err);
    atd_lock_take(&spool->lock);
    end_resize_locked(spool, &change);
    atd_lock_give(&spool->lock);
    return rc;
}

/* What of [offset, offset + len) an fallocate changes: nothing when it only reserves. */
static struct change begin_allocate_locked(struct atd_spool *spool, int mode, uint64_t offset,
                                           uint64_t len)
{
    bool changes = mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE);
    struct change change = changes ? begin_locked(spool, offset, offset + len)
                                   : begin_locked(spool, UINT64_MAX, UINT64_MAX);

    spool->resizes++;
    return change;
}

static int allocate(int fd, int mode, uint64_t offset, uint64_t len, struct atd_error *err)
{
    int rc;

    do
        rc = fallocate(fd, mode, (off_t)offset, (off_t)len);
    while (rc != 0 && errno == EINTR);
    if (rc == 0)
        return 0;
    if (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL)
        return atd_error_set(err, EOPNOTSUPP, "the spool's file system has no fallocate of mode %d",
                             mode);
    return system_error(errno, "cannot allocate", err);
}

int atd_spool_allocate(struct atd_spool *spool, int mode, uint64_t offset, uint64_t len,
                       struct atd_error *err)
{
    bool takes_room = !(mode & FALLOC_FL_PUNCH_HOLE);
    uint64_t room;
    struct change change;
    int rc = check_place(spool, offset, len, err);

    if (rc == 0 && (len == 0 || (mode != 0 && mode != FALLOC_FL_KEEP_SIZE &&
                                 mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) &&
                                 (mode & ~FALLOC_FL_KEEP_SIZE) != FALLOC_FL_ZERO_RANGE)))
        rc =
            atd_error_set(err, EOPNOTSUPP, "fallocate of mode %d and %" PRIu64 " bytes", mode, len);
    if (rc == 0 && takes_room && spool->floor_bytes)
        rc = ask_room(spool, len, &room, err);
    if (rc != 0)
        return rc;
    atd_lock_take(&spool->lock);
    if (takes_room)
        rc = check_limit_locked(spool, offset + len, err);
    if (rc == 0)
        change = begin_allocate_locked(spool, mode, offset, len);
    atd_lock_give(&spool->lock);
    if (rc != 0)
        return rc;
    rc = allocate(spool->fd, mode, offset, len, err);
    atd_lock_take(&spool->lock);
    end_resize_locked(spool, &change);
    atd_lock_give(&spool->lock);
    return rc;
}

/* ------------------------------------------------------------------ the rest */

int atd_spool_read(struct atd_spool *spool, uint64_t offset, void *into, size_t len,
                   size_t *ret_len, struct atd_error *err)
{
    size_t got = 0;

    if (offset > INT64_MAX) {
        *ret_len = 0;
        return 0;
    }
    while (got < len) {
        ssize_t done =
            pread(spool->fd, (uint8_t *)into + got, len - got, (off_t)(offset + (uint64_t)got));

        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return system_error(errno, "cannot read", err);
        if (done == 0)
            break;
        got += (size_t)done;
    }
    *ret_len = got;
    return 0;
}

int atd_spool_sync(struct atd_spool *spool, struct atd_error *err)
{
    int rc;

    do
        rc = fdatasync(spool->fd);
    while (rc != 0 && errno == EINTR);
    return rc == 0 ? 0 : system_error(errno, "cannot sync", err);
}

int atd_spool_fd(const struct atd_spool *spool)
{
    return spool->fd;
}

const char *atd_spool_path(const struct atd_spool *spool)
{
    return spool->path;
}

uint64_t atd_spool_size(struct atd_spool *spool)
{
    uint64_t size;

    atd_lock_take(&spool->lock);
    size = spool->size;
    atd_lock_give(&spool->lock);
    return size;
}

int64_t atd_spool_blocks(struct atd_spool *spool)
{
    struct stat st;
    int rc = fstat(spool->fd, &st);

    return rc == 0 ? (int64_t)st.st_blocks : 0;
}

static void progress_locked(struct atd_spool *spool, struct atd_spool_progress *ret_progress)
{
    uint64_t ordered_end = atd_extents_ordered_end(&spool->extents);

    if (ordered_end > spool->told)
        spool->told = ordered_end;
    *ret_progress = (struct atd_spool_progress){
        .size_bytes = spool->size,
        .ordered_end = ordered_end,
        .epoch = spool->epoch,
        .written = spool->written,
        .changing = spool->changing,
    };
}

void atd_spool_progress(struct atd_spool *spool, struct atd_spool_progress *ret_progress)
{
    atd_lock_take(&spool->lock);
    progress_locked(spool, ret_progress);
    atd_lock_give(&spool->lock);
}

void atd_spool_whole(struct atd_spool *spool, struct atd_spool_progress *ret_progress)
{
    atd_lock_take(&spool->lock);
    if (spool->size)
        atd_extents_add(&spool->extents, 0, spool->size);
    progress_locked(spool, ret_progress);
    atd_lock_give(&spool->lock);
}

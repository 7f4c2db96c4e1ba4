#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/uio.h>
#include <time.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "cache/cache_dir_private.h"

/* Another process makes, resets or evicts the file: it takes it milliseconds. */
#define OPEN_TRIES 60
#define OPEN_RETRY_MS 5
/* Last uses are recorded no finer than this. */
#define TOUCH_S 60
/* While this process fetches, it looks so often, and so far, what others added. */
#define REFRESH_MS 200
#define REFRESH_BLOCKS 4096u
#define FULL_DISK_TRIES 3

/* ------------------------------------------------------------------ opening */

int atd_cache_file_error(int code, const char *what, struct atd_error *err)
{
    return atd_error_set(err, code, "cannot %s a file in the cache: %s", what, strerror(code));
}

static int lock_file(int fd, int operation)
{
    int rc;

    do
        rc = flock(fd, operation);
    while (rc != 0 && errno == EINTR);
    return rc == 0 ? 0 : -errno;
}

/* Opens a name below DIR/v1; a thing that is not a file of ours is taken away (EAGAIN). */
static int open_name(struct atd_cache_dir *dir, const char *name, int flags, int *ret_fd,
                     struct stat *ret_st, struct atd_error *err)
{
    atd_auto_fd int fd = openat(dir->fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0600);

    if (fd < 0 && errno == ENOENT && (flags & O_CREAT)) {
        const char prefix[] = {name[0], name[1], '\0'};

        if (mkdirat(dir->fd, prefix, 0700) != 0 && errno != EEXIST)
            return atd_cache_file_error(errno, "make", err);
        fd = openat(dir->fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
    }
    if (fd < 0 && errno == ELOOP && unlinkat(dir->fd, name, 0) == 0)
        return atd_error_set(err, EAGAIN, "a symbolic link was in the place of a cached file");
    if (fd < 0)
        return atd_cache_file_error(errno, "open", err);
    if (fstat(fd, ret_st) != 0)
        return atd_cache_file_error(errno, "open", err);
    if (!S_ISREG(ret_st->st_mode) || ret_st->st_uid != geteuid()) {
        if (unlinkat(dir->fd, name, 0) != 0)
            return atd_cache_file_error(errno, "replace", err);
        return atd_error_set(err, EAGAIN, "something else was in the place of a cached file");
    }
    *ret_fd = atd_steal_fd(&fd);
    return 0;
}

/* Loads the map that lies beside the locked data file. Errors: EBADMSG they are unsound. */
static int load_pair(struct atd_cache_file *file, int data_fd, struct atd_str url,
                     const struct atd_object_info *info, struct atd_error *err)
{
    char name[ATD_CACHE_NAME_MAX];
    atd_auto_fd int map_fd = -1;
    struct stat st;
    int rc;

    if (fstat(data_fd, &st) != 0)
        return atd_cache_file_error(errno, "open", err);
    if ((uint64_t)st.st_size != info->size_bytes)
        return atd_error_set(err, EBADMSG, "a data file in the cache has another length");
    file->device = st.st_dev;
    file->inode = st.st_ino;
    atd_cache_name(file->hash, ".map", name);
    rc = open_name(file->dir, name, 0, &map_fd, &st, err);
    if (rc == -ENOENT || rc == -EAGAIN)
        return atd_error_set(err, EBADMSG, "a file in the cache has no map");
    if (rc == 0)
        rc = atd_block_map_load(map_fd, url, info, &file->map, err);
    if (rc == 0)
        (void)atd_steal_fd(&map_fd);
    return rc;
}

/*
 * The pair is unsound or new, and the data file locked for us alone. A data file that holds
 * anything is not changed but taken away: somebody may still read it through a descriptor.
 * Errors: EAGAIN it was taken away.
 */
static int make_pair(struct atd_cache_file *file, int data_fd, struct atd_str url,
                     const struct atd_object_info *info, struct atd_error *err)
{
    char data_name[ATD_CACHE_NAME_MAX];
    char map_name[ATD_CACHE_NAME_MAX];
    atd_auto_fd int map_fd = -1;
    struct stat st;
    int rc;

    atd_cache_name(file->hash, ".data", data_name);
    atd_cache_name(file->hash, ".map", map_name);
    if (fstat(data_fd, &st) != 0)
        return atd_cache_file_error(errno, "make", err);
    if (unlinkat(file->dir->fd, map_name, 0) != 0 && errno != ENOENT)
        return atd_cache_file_error(errno, "replace", err);
    if (st.st_size != 0) {
        if (unlinkat(file->dir->fd, data_name, 0) != 0 && errno != ENOENT)
            return atd_cache_file_error(errno, "replace", err);
        return atd_error_set(err, EAGAIN, "an unsound file in the cache was taken away");
    }
    rc = open_name(file->dir, map_name, O_CREAT | O_EXCL, &map_fd, &st, err);
    if (rc)
        return rc == -EEXIST ? -EAGAIN : rc;
    if (ftruncate(data_fd, (off_t)info->size_bytes) != 0)
        return atd_cache_file_error(errno, "make", err);
    return atd_block_map_format(map_fd, url, info, err);
}

/* Loads the pair, making it when needed; the shared lock is held then. Errors: EAGAIN. */
static int load_or_make(struct atd_cache_file *file, int data_fd, const char *name,
                        struct atd_str url, const struct atd_object_info *info,
                        struct atd_error *err)
{
    int rc = load_pair(file, data_fd, url, info, err);

    if (rc != -EBADMSG)
        return rc;
    /* The change of the lock lets others in between: look again under the new one. */
    rc = lock_file(data_fd, LOCK_EX | LOCK_NB);
    if (rc || !atd_cache_names(file->dir, name, file->device, file->inode))
        return atd_error_set(err, EAGAIN, "a file in the cache is unsound and in use");
    rc = load_pair(file, data_fd, url, info, err);
    if (rc == -EBADMSG) {
        rc = make_pair(file, data_fd, url, info, err);
        if (rc == 0)
            rc = load_pair(file, data_fd, url, info, err);
    }
    if (rc)
        return rc;
    if (lock_file(data_fd, LOCK_SH) != 0 ||
        !atd_cache_names(file->dir, name, file->device, file->inode)) {
        atd_block_map_release(&file->map);
        return atd_error_set(err, EAGAIN, "a file in the cache was evicted just now");
    }
    return 0;
}

/* Errors: EAGAIN another process is changing it. */
static int try_attach(struct atd_cache_file *file, struct atd_str url,
                      const struct atd_object_info *info, struct atd_error *err)
{
    char name[ATD_CACHE_NAME_MAX];
    atd_auto_fd int data_fd = -1;
    struct stat st;
    int rc;

    atd_cache_name(file->hash, ".data", name);
    rc = open_name(file->dir, name, O_CREAT, &data_fd, &st, err);
    if (rc)
        return rc;
    file->device = st.st_dev;
    file->inode = st.st_ino;
    rc = lock_file(data_fd, LOCK_SH);
    if (rc)
        return atd_cache_file_error(-rc, "lock", err);
    if (!atd_cache_names(file->dir, name, file->device, file->inode))
        return atd_error_set(err, EAGAIN, "a file in the cache was evicted just now");
    rc = load_or_make(file, data_fd, name, url, info, err);
    if (rc == 0)
        file->data_fd = atd_steal_fd(&data_fd);
    return rc;
}

static void touch(struct atd_cache_file *file)
{
    struct timespec now;
    struct stat st;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (fstat(file->map.fd, &st) != 0)
        return;
    if (st.st_mtim.tv_sec > now.tv_sec || now.tv_sec - st.st_mtim.tv_sec >= TOUCH_S)
        (void)futimens(file->map.fd, NULL);
}

int atd_cache_file_attach(struct atd_cache_file *file, struct atd_str url,
                          const struct atd_object_info *info, struct atd_error *err)
{
    struct atd_error why = ATD_ERROR_INIT;
    bool made_room = false;
    int rc = -EAGAIN;

    if (info->size_bytes > ATD_MAP_OBJECT_BYTES_MAX)
        return atd_error_set(err, EFBIG, "an object of %llu bytes is too large for the cache",
                             (unsigned long long)info->size_bytes);
    if (!info->etag[0] && !info->mtime_s)
        return atd_error_set(err, ENOTSUP,
                             "an object of which neither ETag nor time is known is not cached");
    file->size_bytes = info->size_bytes;
    for (int tries = 0; tries < OPEN_TRIES; tries++) {
        rc = try_attach(file, url, info, &why);
        if ((rc == -ENOSPC || rc == -EDQUOT) && !made_room) {
            made_room = true;
            if (atd_cache_evict_for_full_disk(file->dir, ATD_BLOCK_BYTES))
                continue;
        }
        if (rc != -EAGAIN)
            break;
        if (tries > 2)
            (void)usleep(OPEN_RETRY_MS * 1000);
    }
    if (rc == -EAGAIN)
        return atd_error_set_retryable(err, EBUSY, "%s", why.text);
    if (rc) {
        if (err)
            *err = why;
        return rc;
    }
    touch(file);
    return 0;
}

void atd_cache_file_detach(struct atd_cache_file *file)
{
    touch(file);
    atd_block_map_release(&file->map);
    (void)close(file->data_fd);
    /* Now there is something that can be evicted. */
    atomic_store(&file->dir->fruitless_until_ms, 0);
}

/* ------------------------------------------------------------------ blocks */

bool atd_cache_file_has(const struct atd_cache_file *file, uint64_t block)
{
    return !atomic_load(&file->discarded) && atd_block_map_has(&file->map, block);
}

bool atd_cache_file_is_complete(const struct atd_cache_file *file)
{
    return !atomic_load(&file->discarded) && atd_block_map_is_complete(&file->map);
}

uint64_t atd_cache_file_present_blocks(const struct atd_cache_file *file)
{
    return atomic_load(&file->map.present_count);
}

size_t atd_cache_file_bytes_of(const struct atd_cache_file *file, uint64_t block, size_t count)
{
    uint64_t start = block * ATD_BLOCK_BYTES;
    uint64_t left = file->size_bytes - start;
    uint64_t whole = (uint64_t)count * ATD_BLOCK_BYTES;

    return (size_t)(whole < left ? whole : left);
}

/* Errors: EAGAIN; EIO; ENODATA the file is shorter than it was. */
static int read_data(int fd, uint64_t offset, uint8_t *into, size_t len, bool nowait,
                     struct atd_error *err)
{
    while (len > 0) {
        struct iovec piece = {into, len};
        ssize_t got = preadv2(fd, &piece, 1, (off_t)offset, nowait ? RWF_NOWAIT : 0);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && nowait && (errno == EAGAIN || errno == EOPNOTSUPP))
            return atd_error_set_retryable(err, EAGAIN, "the disk would have to be asked");
        if (got < 0)
            return atd_error_set(err, EIO, "cannot read a file in the cache: %s", strerror(errno));
        if (got == 0)
            return atd_error_set(err, ENODATA, "a file in the cache became shorter");
        into += got;
        len -= (size_t)got;
        offset += (uint64_t)got;
    }
    return 0;
}

static void note_bad(struct atd_cache_file *file, uint64_t block)
{
    atd_block_map_unmark(&file->map, block);
    atomic_store(&file->verified, false);
    ATD_CACHE_COUNT(file->dir->stats, bad_blocks, 1);
}

int atd_cache_file_read_batch(struct atd_cache_file *file, int fd, uint64_t block, size_t count,
                              bool nowait, uint8_t *into, struct atd_error *err)
{
    uint32_t sums[ATD_MAP_BATCH_MAX];
    size_t bad = 0;
    int rc = atd_block_map_sums(&file->map, block, count, nowait, sums, err);

    if (rc == 0)
        rc = read_data(fd, block * ATD_BLOCK_BYTES, into,
                       atd_cache_file_bytes_of(file, block, count), nowait, err);
    if (rc == -ENODATA && !nowait && atd_block_map_has(&file->map, block + count - 1)) {
        /* Cut short behind our back: whatever is beyond the end is not there. */
        struct stat st;
        uint64_t end = fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0;

        for (size_t i = 0; i < count; i++) {
            if ((block + i) * ATD_BLOCK_BYTES + atd_cache_file_bytes_of(file, block + i, 1) > end)
                note_bad(file, block + i);
        }
    }
    if (rc)
        return rc;
    for (size_t i = 0; i < count; i++) {
        if (atd_block_map_sum(&file->map, block + i, into + i * ATD_BLOCK_BYTES,
                              atd_cache_file_bytes_of(file, block + i, 1)) == sums[i])
            continue;
        if (nowait)
            return atd_error_set_retryable(err, EAGAIN, "the disk would have to be asked");
        note_bad(file, block + i);
        bad++;
    }
    if (bad)
        return atd_error_set(err, ENODATA, "%zu blocks in the cache are damaged", bad);
    return 0;
}

int atd_cache_file_read(struct atd_cache_file *file, uint64_t block, size_t count, bool nowait,
                        uint8_t *into, struct atd_error *err)
{
    int rc = 0;

    atd_assert(count > 0 && block < file->map.block_count &&
               count <= file->map.block_count - block);
    if (atomic_load(&file->discarded))
        return atd_error_set(err, ENODATA, "the file in the cache was thrown away");
    while (count > 0 && rc == 0) {
        size_t step = count < ATD_MAP_BATCH_MAX ? count : ATD_MAP_BATCH_MAX;

        rc = atd_cache_file_read_batch(file, file->data_fd, block, step, nowait, into, err);
        block += step;
        count -= step;
        into += step * ATD_BLOCK_BYTES;
    }
    return rc;
}

static int write_data(struct atd_cache_file *file, uint64_t offset, const uint8_t *bytes,
                      size_t len, struct atd_error *err)
{
    while (len > 0) {
        ssize_t got = pwrite(file->data_fd, bytes, len, (off_t)offset);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return atd_cache_file_error(got < 0 ? errno : EIO, "write", err);
        bytes += got;
        len -= (size_t)got;
        offset += (uint64_t)got;
    }
    return 0;
}

/*
 * At most ATD_MAP_BATCH_MAX blocks. Data first, then its marks: a mark without its data could only
 * cost a second fetch. Where another process stored other bytes meanwhile, these stay: it may have
 * verified the whole since, and the kernel be reading it. The same bytes do no harm.
 */
static int write_batch(struct atd_cache_file *file, uint64_t block, const uint8_t *bytes,
                       size_t count, struct atd_error *err)
{
    uint32_t sums[ATD_MAP_BATCH_MAX];
    bool is_other[ATD_MAP_BATCH_MAX];
    int rc;

    for (size_t i = 0; i < count; i++)
        sums[i] = atd_block_map_sum(&file->map, block + i, bytes + i * ATD_BLOCK_BYTES,
                                    atd_cache_file_bytes_of(file, block + i, 1));
    rc = atd_block_map_find_others(&file->map, block, count, sums, is_other, err);
    for (size_t i = 0, run; i < count && rc == 0; i += run) {
        for (run = 1; i + run < count && is_other[i + run] == is_other[i];)
            run++;
        if (is_other[i])
            continue;
        rc = write_data(file, (block + i) * ATD_BLOCK_BYTES, bytes + i * ATD_BLOCK_BYTES,
                        atd_cache_file_bytes_of(file, block + i, run), err);
        if (rc == 0)
            rc = atd_block_map_mark(&file->map, block + i, run, sums + i, err);
    }
    return rc;
}

static int write_and_mark(struct atd_cache_file *file, uint64_t block, const uint8_t *bytes,
                          size_t len, struct atd_error *err)
{
    uint64_t count = atd_block_map_count(len);
    int rc = 0;

    for (uint64_t done = 0; done < count && rc == 0;) {
        size_t step = count - done < ATD_MAP_BATCH_MAX ? (size_t)(count - done) : ATD_MAP_BATCH_MAX;

        rc = write_batch(file, block + done, bytes + done * ATD_BLOCK_BYTES, step, err);
        done += step;
    }
    return rc;
}

/* Others may be fetching the same object: what they have need not be fetched again. */
static void refresh(struct atd_cache_file *file, uint64_t block)
{
    int64_t now_ms = atd_clock_monotonic_ms();
    int_fast64_t last_ms = atomic_load(&file->refreshed_ms);

    if (now_ms - last_ms >= REFRESH_MS &&
        atomic_compare_exchange_strong(&file->refreshed_ms, &last_ms, now_ms))
        atd_block_map_refresh(&file->map, block, REFRESH_BLOCKS);
}

static int write_with_room(struct atd_cache_file *file, uint64_t block, const uint8_t *bytes,
                           size_t len, struct atd_error *err)
{
    uint64_t count = atd_block_map_count(len);
    uint64_t known = 0;
    struct atd_error why = ATD_ERROR_INIT;
    int rc;

    if (atomic_load(&file->discarded))
        return atd_error_set(err, EIO, "the file in the cache was thrown away");
    for (uint64_t i = 0; i < count; i++)
        known += atd_block_map_has(&file->map, block + i);
    rc = atd_cache_make_room(file->dir, (count - known) * ATD_BLOCK_BYTES, err);
    if (rc)
        return rc;
    rc = write_and_mark(file, block, bytes, len, &why);
    for (int tries = 0; tries < FULL_DISK_TRIES && (rc == -ENOSPC || rc == -EDQUOT); tries++) {
        if (!atd_cache_evict_for_full_disk(file->dir, len))
            break;
        rc = write_and_mark(file, block, bytes, len, &why);
    }
    if (rc == -EDQUOT)
        return atd_error_set(err, ENOSPC, "the disk quota is used up, and nothing can be evicted");
    if (rc == -ENOSPC)
        return atd_error_set(err, ENOSPC, "the cache's disk is full, and nothing can be evicted");
    if (rc)
        return atd_error_set(err, EIO, "%s", why.text);
    ATD_CACHE_COUNT(file->dir->stats, blocks_written, count);
    atd_cache_note_written(file->dir, file->hash, (count - known) * ATD_BLOCK_BYTES);
    if (block + count < file->map.block_count)
        refresh(file, block + count);
    else
        refresh(file, 0);
    return 0;
}

int atd_cache_file_write(struct atd_cache_file *file, uint64_t block, const uint8_t *bytes,
                         size_t len, struct atd_error *err)
{
    int rc;

    atd_assert(len > 0 && block < file->map.block_count &&
               len <= file->size_bytes - block * ATD_BLOCK_BYTES);
    atd_assert(len % ATD_BLOCK_BYTES == 0 || block * ATD_BLOCK_BYTES + len == file->size_bytes);
    rc = write_with_room(file, block, bytes, len, err);
    if (rc)
        ATD_CACHE_COUNT(file->dir->stats, write_failures, 1);
    return rc;
}

/* ------------------------------------------------------------------ the whole file */

int atd_cache_file_dup(const struct atd_cache_file *file, int *ret_fd, struct atd_error *err)
{
    char link[64];
    int fd;

    if (atomic_load(&file->discarded))
        return atd_error_set(err, ENODATA, "the file in the cache was thrown away");
    /* The very file, whatever its name means by now. */
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", file->data_fd);
    fd = open(link, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return atd_cache_file_error(errno, "open", err);
    *ret_fd = fd;
    return 0;
}

#include "cache/cache_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/dirs.h"
#include "base/workers.h"
#include "cache/cache_dir_private.h"

#define LAYOUT_DIR "v1"
#define SIZE_MIN_BYTES (1u << 20)
#define JOIN_MS 5000

/* ------------------------------------------------------------------ names and stamps */

void atd_cache_name(const uint8_t hash[ATD_SHA256_BYTES], const char *suffix,
                    char ret_name[ATD_CACHE_NAME_MAX])
{
    static const char digits[] = "0123456789abcdef";
    char *at = ret_name;

    *at++ = digits[hash[0] >> 4];
    *at++ = digits[hash[0] & 15];
    *at++ = '/';
    for (size_t i = 0; i < ATD_SHA256_BYTES; i++) {
        *at++ = digits[hash[i] >> 4];
        *at++ = digits[hash[i] & 15];
    }
    atd_assert(strlen(suffix) < (size_t)(ret_name + ATD_CACHE_NAME_MAX - at));
    (void)stpcpy(at, suffix);
}

bool atd_cache_names(const struct atd_cache_dir *dir, const char *name, uint64_t device,
                     uint64_t inode)
{
    struct stat st;

    return fstatat(dir->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_dev == device &&
           st.st_ino == inode;
}

struct atd_cache_stamp atd_cache_stamp_of(const struct stat *st)
{
    return (struct atd_cache_stamp){
        .device = st->st_dev,
        .inode = st->st_ino,
        .size = st->st_size,
        .mtime_s = st->st_mtim.tv_sec,
        .mtime_ns = st->st_mtim.tv_nsec,
        .ctime_s = st->st_ctim.tv_sec,
        .ctime_ns = st->st_ctim.tv_nsec,
    };
}

bool atd_cache_stamps_equal(const struct atd_cache_stamp *a, const struct atd_cache_stamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->mtime_s == b->mtime_s && a->mtime_ns == b->mtime_ns && a->ctime_s == b->ctime_s &&
           a->ctime_ns == b->ctime_ns;
}

/* ------------------------------------------------------------------ opening the directory */

static int dir_error(int code, const char *path, struct atd_error *err)
{
    switch (code) {
    case EACCES:
    case EPERM:
        return atd_error_set(err, EACCES,
                             "cache directory '%s': no permission; choose another with "
                             "-o cache_dir=DIR",
                             path);
    case EROFS:
        return atd_error_set(err, EROFS,
                             "cache directory '%s' is on a read-only file system; choose another "
                             "with -o cache=DIR, or none with -o cache=none",
                             path);
    case ENOSPC:
    case EDQUOT:
        return atd_error_set(err, ENOSPC,
                             "cache directory '%s': no space left; choose another with "
                             "-o cache=DIR, or none with -o cache=none",
                             path);
    case ENOTDIR:
    case EEXIST:
        return atd_error_set(err, ENOTDIR,
                             "cache directory '%s' or something above it is not a directory", path);
    case ELOOP:
        return atd_error_set(err, ENOTDIR, "cache directory '%s' is a symbolic link too many",
                             path);
    default:
        return atd_error_set(err, code, "cache directory '%s': %s", path, strerror(code));
    }
}

/* Nobody else may put files there, or our own could be made to lie. */
static int check_owner(int fd, const char *path, struct atd_error *err)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return dir_error(errno, path, err);
    if (st.st_uid != geteuid())
        return atd_error_set(err, EACCES,
                             "cache directory '%s' belongs to somebody else; choose another with "
                             "-o cache_dir=DIR",
                             path);
    if (st.st_mode & 022)
        return atd_error_set(err, EACCES,
                             "cache directory '%s' can be written by others; run: chmod go-w '%s'",
                             path, path);
    return 0;
}

/* A descriptor of DIR/v1. */
static int open_layout(const char *path, int *ret_fd, struct atd_error *err)
{
    atd_auto_fd int top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    atd_auto_fd int fd = -1;
    struct stat st;
    int rc;

    if (top < 0)
        return dir_error(errno, path, err);
    rc = check_owner(top, path, err);
    if (rc)
        return rc;
    if (mkdirat(top, LAYOUT_DIR, 0700) != 0 && errno != EEXIST)
        return dir_error(errno, path, err);
    fd = openat(top, LAYOUT_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return dir_error(errno, path, err);
    rc = check_owner(fd, path, err);
    if (rc)
        return rc;
    if (fstat(fd, &st) != 0 || ((st.st_mode & 077) && fchmod(fd, 0700) != 0))
        return dir_error(errno, path, err);
    /* For root too this says EROFS. */
    if (faccessat(fd, ".", W_OK | X_OK, AT_EACCESS) != 0)
        return dir_error(errno, path, err);
    *ret_fd = atd_steal_fd(&fd);
    return 0;
}

static void free_dir(struct atd_cache_dir *dir)
{
    if (dir->fd >= 0)
        (void)close(dir->fd);
    free(dir->verified);
    free(dir->path);
    (void)pthread_cond_destroy(&dir->wake);
    (void)pthread_cond_destroy(&dir->changed);
    atd_lock_destroy(&dir->lock);
    free(dir);
}

/* Makes the directory where it is missing, opens it, and starts the thread. */
static int make(struct atd_cache_dir *dir, struct atd_error *err)
{
    int rc = atd_make_dirs(dir->path);

    if (rc)
        return dir_error(-rc, dir->path, err);
    rc = open_layout(dir->path, &dir->fd, err);
    if (rc == 0)
        rc = atd_thread_start("atd-evict", atd_cache_evict_until_stopped, dir, &dir->thread, err);
    if (rc == 0)
        atomic_store(&dir->made, true);
    return rc;
}

/* The same at the first use, by the first who comes. */
static int make_late(struct atd_cache_dir *dir, struct atd_error *err)
{
    int rc = 0;

    atd_lock_take(&dir->lock);
    while (dir->making)
        atd_cond_wait(&dir->changed, &dir->lock);
    dir->making = !atomic_load(&dir->made);
    rc = dir->making;
    atd_lock_give(&dir->lock);
    if (!rc)
        return 0;
    rc = make(dir, err);
    atd_lock_take(&dir->lock);
    dir->making = false;
    (void)pthread_cond_broadcast(&dir->changed);
    atd_lock_give(&dir->lock);
    return rc;
}

int atd_cache_dir_made(struct atd_cache_dir *dir, struct atd_error *err)
{
    return atomic_load(&dir->made) ? 0 : make_late(dir, err);
}

int atd_cache_dir_open(const struct atd_cache_dir_options *options, struct atd_cache_dir **ret_dir,
                       struct atd_error *err)
{
    struct atd_cache_dir *dir;
    int rc;

    if (options->path[0] != '/')
        return atd_error_set(err, EINVAL, "cache directory '%s' is not an absolute path",
                             options->path);
    if (strlen(options->path) > PATH_MAX - ATD_CACHE_NAME_MAX - 8)
        return atd_error_set(err, ENAMETOOLONG, "the path of the cache directory is too long");
    if (options->size_max_bytes < SIZE_MIN_BYTES)
        return atd_error_set(err, EINVAL, "a cache of less than 1 MiB is of no use");
    dir = calloc(1, sizeof(*dir));
    if (!dir)
        return atd_error_set(err, ENOMEM, "cache directory: out of memory");
    dir->fd = -1;
    dir->size_max_bytes = options->size_max_bytes;
    dir->free_floor_bytes = options->free_floor_bytes;
    dir->stats = options->stats;
    dir->free_bytes = atd_cache_free_bytes;
    atomic_init(&dir->scan_wanted, true);
    atd_lock_init(&dir->lock, ATD_RANK_CACHE);
    atd_cond_init(&dir->wake);
    atd_cond_init(&dir->changed);
    dir->path = strdup(options->path);
    dir->verified = calloc(ATD_CACHE_VERIFIED_MAX, sizeof(*dir->verified));
    rc = dir->path && dir->verified ? 0
                                    : atd_error_set(err, ENOMEM, "cache directory: out of memory");
    if (rc == 0 && !(options->make_late && access(dir->path, F_OK) != 0))
        rc = make(dir, err);
    if (rc) {
        free_dir(dir);
        return rc;
    }
    *ret_dir = dir;
    return 0;
}

void atd_cache_dir_interrupt(struct atd_cache_dir *dir)
{
    atomic_store(&dir->interrupted, true);
}

bool atd_cache_dir_close(struct atd_cache_dir *dir)
{
    if (!dir)
        return true;
    atd_cache_dir_interrupt(dir);
    atd_lock_take(&dir->lock);
    dir->stopping = true;
    (void)pthread_cond_broadcast(&dir->wake);
    (void)pthread_cond_broadcast(&dir->changed);
    atd_lock_give(&dir->lock);
    if (atomic_load(&dir->made) && !atd_thread_join(dir->thread, JOIN_MS))
        return false;
    for (size_t i = 0; i < ATD_CACHE_BUCKETS; i++)
        atd_assert(!dir->files[i]);
    free_dir(dir);
    return true;
}

uint64_t atd_cache_dir_used_bytes(struct atd_cache_dir *dir)
{
    return atomic_load(&dir->used_bytes);
}

/* ------------------------------------------------------------------ the table of open files */

static struct atd_cache_file **bucket_of(struct atd_cache_dir *dir, const uint8_t *hash)
{
    return &dir->files[((unsigned)hash[1] << 8 | hash[2]) % ATD_CACHE_BUCKETS];
}

static struct atd_cache_file *find_locked(struct atd_cache_dir *dir, const uint8_t *hash)
{
    struct atd_cache_file *file = *bucket_of(dir, hash);

    while (file && memcmp(file->hash, hash, ATD_SHA256_BYTES) != 0)
        file = file->next;
    return file;
}

void atd_cache_unlist_locked(struct atd_cache_file *file)
{
    struct atd_cache_file **at = bucket_of(file->dir, file->hash);

    if (!file->in_table)
        return;
    while (*at != file)
        at = &(*at)->next;
    *at = file->next;
    file->in_table = false;
}

bool atd_cache_is_open(struct atd_cache_dir *dir, const uint8_t hash[ATD_SHA256_BYTES])
{
    bool found;

    atd_lock_take(&dir->lock);
    found = find_locked(dir, hash) != NULL;
    atd_lock_give(&dir->lock);
    return found;
}

void atd_cache_remember_verified(struct atd_cache_file *file, const struct atd_cache_stamp *stamp,
                                 const uint8_t *sha)
{
    struct atd_cache_dir *dir = file->dir;
    struct atd_cache_verified *place = &dir->verified[stamp->inode % ATD_CACHE_VERIFIED_MAX];

    atd_lock_take(&dir->lock);
    place->stamp = *stamp;
    file->has_sha = place->has_sha = sha != NULL;
    if (sha) {
        memcpy(place->sha, sha, ATD_SHA256_BYTES);
        memcpy(file->sha, sha, ATD_SHA256_BYTES);
    }
    atomic_store(&file->verified, true);
    atd_lock_give(&dir->lock);
}

/* Takes over that this very data was verified before by this process, if it was. */
static void recall_verified_locked(struct atd_cache_file *file, const struct atd_cache_stamp *stamp)
{
    const struct atd_cache_verified *place =
        &file->dir->verified[stamp->inode % ATD_CACHE_VERIFIED_MAX];

    if (!atd_block_map_is_complete(&file->map) || stamp->inode == 0 ||
        !atd_cache_stamps_equal(&place->stamp, stamp))
        return;
    file->has_sha = place->has_sha;
    memcpy(file->sha, place->sha, ATD_SHA256_BYTES);
    atomic_store(&file->verified, true);
}

/* Waits until the file, of which the caller has a reference, is open or failed. */
static int wait_open_locked(struct atd_cache_dir *dir, struct atd_cache_file *file,
                            struct atd_error *err)
{
    int rc = 0;

    while (file->state == ATD_CACHE_FILE_OPENING)
        atd_cond_wait(&dir->changed, &dir->lock);
    if (file->state == ATD_CACHE_FILE_FAILED) {
        rc = -file->why.code;
        if (err)
            *err = file->why;
        if (--file->refs == 0)
            free(file);
    }
    return rc;
}

/* The caller's is the new entry: opens it, and says so to those who wait. */
static int open_listed(struct atd_cache_file *file, struct atd_str url,
                       const struct atd_object_info *info, struct atd_error *err)
{
    struct atd_cache_dir *dir = file->dir;
    struct atd_error why = ATD_ERROR_INIT;
    struct stat st;
    int rc = atd_cache_file_attach(file, url, info, &why);

    if (rc == 0 && fstat(file->data_fd, &st) != 0)
        memset(&st, 0, sizeof(st));
    atd_lock_take(&dir->lock);
    if (rc == 0) {
        const struct atd_cache_stamp stamp = atd_cache_stamp_of(&st);

        file->state = ATD_CACHE_FILE_OPEN;
        recall_verified_locked(file, &stamp);
    } else {
        file->state = ATD_CACHE_FILE_FAILED;
        file->why = why;
        atd_cache_unlist_locked(file);
        if (err)
            *err = why;
        if (--file->refs == 0)
            free(file);
    }
    (void)pthread_cond_broadcast(&dir->changed);
    atd_lock_give(&dir->lock);
    return rc;
}

int atd_cache_file_open(struct atd_cache_dir *dir, struct atd_str url,
                        const struct atd_object_info *info, struct atd_cache_file **ret_file,
                        struct atd_error *err)
{
    struct atd_cache_file *fresh;
    struct atd_cache_file *file;
    int rc = atd_cache_dir_made(dir, err);

    if (rc)
        return rc;
    fresh = calloc(1, sizeof(*fresh));
    if (!fresh)
        return atd_error_set(err, ENOMEM, "file in the cache: out of memory");
    fresh->dir = dir;
    fresh->data_fd = -1;
    fresh->map.fd = -1;
    fresh->refs = 1;
    atd_block_map_hash(url, info, fresh->hash);
    atd_lock_take(&dir->lock);
    file = find_locked(dir, fresh->hash);
    if (file) {
        file->refs++;
        atomic_store(&file->cancel_verify, false); /* somebody needs it again */
        rc = wait_open_locked(dir, file, err);
        atd_lock_give(&dir->lock);
        free(fresh);
    } else {
        struct atd_cache_file **bucket = bucket_of(dir, fresh->hash);

        file = fresh;
        file->next = *bucket;
        *bucket = file;
        file->in_table = true;
        atd_lock_give(&dir->lock);
        rc = open_listed(file, url, info, err);
    }
    if (rc == 0)
        *ret_file = file;
    return rc;
}

void atd_cache_file_close(struct atd_cache_file *file)
{
    struct atd_cache_dir *dir;
    bool last;

    if (!file)
        return;
    dir = file->dir;
    atd_lock_take(&dir->lock);
    atd_assert(file->refs > 0);
    last = --file->refs == 0;
    if (last)
        atd_cache_unlist_locked(file);
    else if (file->refs <= file->verifiers)
        atomic_store(&file->cancel_verify, true);
    atd_lock_give(&dir->lock);
    if (!last)
        return;
    atd_cache_file_detach(file);
    free(file);
}

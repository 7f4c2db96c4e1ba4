/*
 * Writing local files: into a file without a name (O_TMPFILE), or with a hidden one where the file
 * system has no such files, which is linked into place when it is complete and on the disk. link(2)
 * never writes over a file. Source: TOOLS 4; open(2), linkat(2).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/digest.h"
#include "store/disk_store.h"
#include "store/upload_parts.h"

#define FILE_MODE 0644 /* less the umask, as Python's */
#define UMASK_UNKNOWN 0022
#define STEP_BYTES (1u << 20) /* between two looks at cancellation */
#define TEMP_TRIES 16
#define LINK_TEXT_MAX 64
/* ".atdatafs-HASH-RANDOM": the hash is of the final name, so that it is found without its id. */
#define TEMP_PREFIX ".atdatafs-"
#define TEMP_HASH_BYTES 8
#define TEMP_NAME_MAX 64

struct disk_upload {
    struct atd_store_upload base; /* first */
    /* fixed */
    char *path; /* for sentences */
    int dir_fd;
    int fd;
    char name[NAME_MAX + 1];
    char temp_name[TEMP_NAME_MAX]; /* "": the file has no name */

    atomic_bool is_cancelled;
    struct atd_upload_parts parts;
};

static struct disk_upload *from_base(struct atd_store_upload *upload)
{
    return (struct disk_upload *)upload;
}

static int disk_error(int code, const char *doing, const char *path, struct atd_error *err)
{
    if (code == EPERM || code == EROFS)
        code = EACCES;
    return atd_error_set(err, code, "%s '%s': %s", doing, path, strerror(code));
}

static int cancelled(const char *path, struct atd_error *err)
{
    return atd_error_set(err, ECANCELED, "writing '%s' was cancelled", path);
}

/* A terminated copy of the path in a URL; the directory it is in and the name there. */
static int open_dir(struct atd_store *store, struct atd_str url, bool make, char **ret_path,
                    int *ret_dir_fd, char ret_name[NAME_MAX + 1], struct atd_error *err)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ATD_DISK_PATH_ARENA_MAX);
    atd_auto_free char *copy = NULL;
    struct atd_str path;
    int rc = atd_disk_path(url, &arena, &path, err);

    if (rc)
        return rc;
    copy = strndup(path.ptr, path.len);
    if (!copy)
        return atd_error_set(err, ENOMEM, "disk store: out of memory");
    rc = atd_file_store_open_dir(atd_disk_files(store), path, make, ret_dir_fd, ret_name, err);
    if (rc == 0)
        *ret_path = atd_steal(copy);
    return rc;
}

/* ------------------------------------------------------------------ the unfinished file */

/* ".atdatafs-HASH-" */
static void temp_prefix(const char *name, char ret_prefix[TEMP_NAME_MAX])
{
    uint8_t digest[ATD_SHA256_BYTES];
    size_t len = sizeof(TEMP_PREFIX) - 1;

    atd_sha256_of(name, strlen(name), digest);
    memcpy(ret_prefix, TEMP_PREFIX, len);
    for (unsigned i = 0; i < TEMP_HASH_BYTES; i++, len += 2)
        (void)snprintf(ret_prefix + len, 3, "%02x", digest[i]);
    ret_prefix[len++] = '-';
    ret_prefix[len] = '\0';
}

static int open_temp(struct disk_upload *upload, struct atd_error *err)
{
    char prefix[TEMP_NAME_MAX];

    temp_prefix(upload->name, prefix);
    for (unsigned tries = 0; tries < TEMP_TRIES; tries++) {
        uint32_t random;

        if (getrandom(&random, sizeof(random), 0) != sizeof(random))
            return atd_error_set(err, EIO, "no random number for a file's name");
        (void)snprintf(upload->temp_name, sizeof(upload->temp_name), "%.40s%08x", prefix, random);
        upload->fd = openat(upload->dir_fd, upload->temp_name,
                            O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);
        if (upload->fd >= 0)
            return 0;
        if (errno != EEXIST)
            break;
    }
    upload->temp_name[0] = '\0';
    return disk_error(errno, "making a file for", upload->path, err);
}

static int open_unfinished(struct disk_upload *upload, struct atd_error *err)
{
    upload->fd = openat(upload->dir_fd, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, FILE_MODE);
    if (upload->fd >= 0)
        return 0;
    /* Kernels and file systems that lack it answer so; others tell what is wrong. */
    if (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL || errno == ENOENT)
        return open_temp(upload, err);
    return disk_error(errno, "making a file for", upload->path, err);
}

/* Removes what is not linked into place. */
static int drop_unfinished(struct disk_upload *upload, struct atd_error *err)
{
    if (upload->fd >= 0)
        (void)close(upload->fd);
    upload->fd = -1;
    if (upload->temp_name[0] && unlinkat(upload->dir_fd, upload->temp_name, 0) != 0 &&
        errno != ENOENT)
        return disk_error(errno, "removing what was written for", upload->path, err);
    upload->temp_name[0] = '\0';
    return 0;
}

/* ------------------------------------------------------------------ into place */

static int sync_dir(int dir_fd, const char *path, struct atd_error *err)
{
    /* Some network file systems cannot, and need not. */
    if (fsync(dir_fd) != 0 && errno != EINVAL && errno != EOPNOTSUPP)
        return disk_error(errno, "writing the directory of", path, err);
    return 0;
}

static int exists_already(const char *path, struct atd_error *err)
{
    return atd_error_set(err, EEXIST, "'%s' exists already", path);
}

static int info_of(int fd, const char *path, struct atd_object_info *ret_info,
                   struct atd_error *err)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return disk_error(errno, "reading the size of", path, err);
    /* No ETag: what a read makes of the file's identity changes when it is linked or copied. */
    *ret_info = (struct atd_object_info){
        .size_bytes = (uint64_t)st.st_size,
        .mtime_s = (int64_t)st.st_mtim.tv_sec,
    };
    return 0;
}

/* Gives the open file the name, which nobody may have. 0 or errno. */
static int link_open_file(int fd, int dir_fd, const char *name)
{
    char link[LINK_TEXT_MAX];

    /* AT_EMPTY_PATH would need a capability. */
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    return linkat(AT_FDCWD, link, dir_fd, name, AT_SYMLINK_FOLLOW) == 0 ? 0 : errno;
}

/* FAT and the like have no links. */
static bool lacks_links(int code)
{
    return code == EPERM || code == EOPNOTSUPP || code == ENOSYS;
}

static int put_in_place(struct disk_upload *upload, struct atd_error *err)
{
    int code;

    if (!upload->temp_name[0]) {
        code = link_open_file(upload->fd, upload->dir_fd, upload->name);
    } else {
        code = linkat(upload->dir_fd, upload->temp_name, upload->dir_fd, upload->name, 0) == 0
                   ? 0
                   : errno;
        if (lacks_links(code))
            code = renameat2(upload->dir_fd, upload->temp_name, upload->dir_fd, upload->name,
                             RENAME_NOREPLACE) == 0
                       ? 0
                       : errno;
    }
    if (code == EEXIST)
        return exists_already(upload->path, err);
    return code ? disk_error(code, "putting in place", upload->path, err) : 0;
}

/* Everything is written; `size_bytes` is what it must be. */
static int finish_file(struct disk_upload *upload, uint64_t size_bytes,
                       struct atd_object_info *ret_info, struct atd_error *err)
{
    struct atd_object_info info;
    int rc;

    /* A part that was replaced by a shorter one. */
    if (ftruncate(upload->fd, (off_t)size_bytes) != 0 || fsync(upload->fd) != 0)
        return disk_error(errno, "writing", upload->path, err);
    rc = info_of(upload->fd, upload->path, &info, err);
    if (rc == 0 && info.size_bytes != size_bytes)
        rc = atd_error_set(err, EIO, "'%s' has %llu bytes instead of %llu", upload->path,
                           (unsigned long long)info.size_bytes, (unsigned long long)size_bytes);
    if (rc == 0)
        rc = put_in_place(upload, err);
    if (rc)
        return rc;
    rc = sync_dir(upload->dir_fd, upload->path, err);
    if (rc) {
        /* Not to be relied on after a power cut: then rather not there at all. */
        (void)unlinkat(upload->dir_fd, upload->name, 0);
        return rc;
    }
    (void)drop_unfinished(upload, NULL);
    *ret_info = info;
    return 0;
}

/* ------------------------------------------------------------------ the interface */

static void disk_free_upload(struct atd_store_upload *base)
{
    struct disk_upload *upload = from_base(base);

    if (upload->fd >= 0)
        (void)close(upload->fd);
    if (upload->dir_fd >= 0)
        (void)close(upload->dir_fd);
    atd_upload_parts_release(&upload->parts);
    free(upload->path);
    free(upload);
}

static int disk_begin(struct atd_store *store, struct atd_str url, uint64_t part_bytes,
                      unsigned timeout_ms, char ret_id[ATD_UPLOAD_ID_MAX + 1],
                      struct atd_store_upload **ret_upload, struct atd_error *err)
{
    struct disk_upload *upload = calloc(1, sizeof(*upload));
    int rc;

    (void)part_bytes;
    (void)timeout_ms;
    if (!upload)
        return atd_error_set(err, ENOMEM, "disk store: out of memory");
    upload->dir_fd = -1;
    upload->fd = -1;
    atd_upload_parts_init(&upload->parts);
    rc = open_dir(store, url, true, &upload->path, &upload->dir_fd, upload->name, err);
    if (rc == 0)
        rc = open_unfinished(upload, err);
    if (rc) {
        disk_free_upload(&upload->base);
        return rc;
    }
    memcpy(ret_id, upload->temp_name, strlen(upload->temp_name) + 1);
    *ret_upload = &upload->base;
    return 0;
}

static int write_at(struct disk_upload *upload, struct atd_bytes bytes, uint64_t offset,
                    struct atd_error *err)
{
    for (size_t done = 0; done < bytes.len;) {
        size_t step = bytes.len - done < STEP_BYTES ? bytes.len - done : STEP_BYTES;
        ssize_t put;

        if (atomic_load(&upload->is_cancelled))
            return cancelled(upload->path, err);
        put = pwrite(upload->fd, bytes.ptr + done, step, (off_t)(offset + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return disk_error(errno, "writing", upload->path, err);
        done += (size_t)put;
    }
    return 0;
}

static int disk_part(struct atd_store_upload *base, unsigned number, struct atd_bytes bytes,
                     unsigned timeout_ms, struct atd_error *err)
{
    struct disk_upload *upload = from_base(base);
    const struct atd_upload_part part = {.len = bytes.len};
    uint64_t offset = (number - 1) * base->part_bytes;
    int rc;

    (void)timeout_ms;
    if (offset > INT64_MAX - bytes.len)
        return atd_error_set(err, EFBIG, "'%s' would be too large", upload->path);
    rc = write_at(upload, bytes, offset, err);
    return rc ? rc : atd_upload_parts_note(&upload->parts, number, &part, err);
}

static int disk_finish(struct atd_store_upload *base, unsigned part_count, unsigned timeout_ms,
                       struct atd_object_info *ret_info, struct atd_error *err)
{
    struct disk_upload *upload = from_base(base);
    uint64_t size_bytes;
    int rc = atd_upload_parts_check(&upload->parts, part_count, base->part_bytes, &size_bytes, err);

    (void)timeout_ms;
    if (rc)
        return atd_error_wrap(err, rc, "finishing '%s'", upload->path);
    if (atomic_load(&upload->is_cancelled))
        return cancelled(upload->path, err);
    return finish_file(upload, size_bytes, ret_info, err);
}

static void disk_cancel(struct atd_store_upload *base)
{
    atomic_store(&from_base(base)->is_cancelled, true);
}

static int disk_abort(struct atd_store_upload *base, unsigned timeout_ms, struct atd_error *err)
{
    (void)timeout_ms;
    return drop_unfinished(from_base(base), err);
}

/* Removes every unfinished file of this name. */
static int drop_all(int dir_fd, const char *path, const char *prefix, struct atd_error *err)
{
    DIR *dir;
    const struct dirent *entry;
    int code = 0;
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        code = errno;
        if (fd >= 0)
            (void)close(fd);
        return disk_error(code, "listing the directory of", path, err);
    }
    while ((entry = readdir(dir)))
        if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0 &&
            unlinkat(dir_fd, entry->d_name, 0) != 0 && errno != ENOENT)
            code = errno;
    (void)closedir(dir);
    return code ? disk_error(code, "removing what was written for", path, err) : 0;
}

static int disk_discard(struct atd_store *store, struct atd_str url, const char *id,
                        unsigned timeout_ms, struct atd_error *err)
{
    struct atd_error missing = ATD_ERROR_INIT;
    atd_auto_free char *path = NULL;
    atd_auto_fd int dir_fd = -1;
    char name[NAME_MAX + 1];
    char prefix[TEMP_NAME_MAX];
    int rc = open_dir(store, url, false, &path, &dir_fd, name, &missing);

    (void)timeout_ms;
    if (rc == -ENOENT)
        return 0;
    if (rc) {
        if (err)
            *err = missing;
        return rc;
    }
    temp_prefix(name, prefix);
    if (!id[0])
        return drop_all(dir_fd, path, prefix, err);
    if (strncmp(id, prefix, strlen(prefix)) != 0 || strchr(id, '/'))
        return atd_error_set(err, EINVAL, "'%s' is no unfinished upload of '%s'", id, path);
    if (unlinkat(dir_fd, id, 0) != 0 && errno != ENOENT)
        return disk_error(errno, "removing what was written for", path, err);
    return 0;
}

static int disk_put(struct atd_store *store, struct atd_str url, struct atd_bytes bytes,
                    unsigned timeout_ms, struct atd_object_info *ret_info, struct atd_error *err)
{
    struct atd_store_upload *base = NULL;
    char id[ATD_UPLOAD_ID_MAX + 1];
    int rc = disk_begin(store, url, bytes.len, timeout_ms, id, &base, err);

    if (rc)
        return rc;
    rc = write_at(from_base(base), bytes, 0, err);
    if (rc == 0)
        rc = finish_file(from_base(base), bytes.len, ret_info, err);
    if (rc)
        (void)drop_unfinished(from_base(base), NULL);
    disk_free_upload(base);
    return rc;
}

/* The process's umask, without changing it for an instant as umask(2) would. */
static mode_t umask_now(void)
{
    atd_auto_file FILE *file = fopen("/proc/self/status", "re");
    char line[128];
    unsigned mask;

    while (file && fgets(line, sizeof(line), file))
        if (sscanf(line, "Umask: %o", &mask) == 1)
            return mask & 0777;
    return UMASK_UNKNOWN;
}

/* The file of `fd` loses the name `path`, unless that is another file by now. */
static int drop_old_name(int fd, const char *path, struct atd_error *err)
{
    struct stat named;
    struct stat opened;

    if (fstat(fd, &opened) != 0)
        return disk_error(errno, "looking at", path, err);
    if (lstat(path, &named) != 0 || named.st_dev != opened.st_dev || named.st_ino != opened.st_ino)
        return 0;
    return unlink(path) == 0 || errno == ENOENT ? 0 : disk_error(errno, "removing", path, err);
}

static int disk_adopt(struct atd_store *store, struct atd_str url, int fd, const char *path,
                      struct atd_object_info *ret_info, struct atd_error *err)
{
    atd_auto_free char *target = NULL;
    atd_auto_fd int dir_fd = -1;
    char name[NAME_MAX + 1];
    struct atd_object_info info;
    struct stat st;
    int code;
    int rc;

    if (fstat(fd, &st) != 0)
        return disk_error(errno, "looking at", path, err);
    if (!S_ISREG(st.st_mode) || st.st_nlink == 0)
        return atd_error_set(err, ENOTSUP, "'%s' is no file that can get another name", path);
    rc = open_dir(store, url, true, &target, &dir_fd, name, err);
    if (rc)
        return rc;
    if (fchmod(fd, FILE_MODE & ~umask_now()) != 0 || fsync(fd) != 0)
        return disk_error(errno, "writing", path, err);
    rc = info_of(fd, path, &info, err);
    if (rc)
        return rc;
    code = link_open_file(fd, dir_fd, name);
    if (code == EEXIST)
        return exists_already(target, err);
    if (lacks_links(code))
        return atd_error_set(err, ENOTSUP, "'%s' cannot be linked to '%s': %s", path, target,
                             strerror(code));
    if (code)
        return disk_error(code, "putting in place", target, err);
    rc = sync_dir(dir_fd, target, err);
    if (rc == 0)
        rc = drop_old_name(fd, path, err);
    if (rc) {
        (void)unlinkat(dir_fd, name, 0);
        return rc;
    }
    *ret_info = info;
    return 0;
}

static int disk_remove(struct atd_store *store, struct atd_str url, unsigned timeout_ms,
                       struct atd_error *err)
{
    struct atd_error why = ATD_ERROR_INIT;
    atd_auto_free char *path = NULL;
    atd_auto_fd int dir_fd = -1;
    char name[NAME_MAX + 1];
    struct stat st;
    int rc = open_dir(store, url, false, &path, &dir_fd, name, &why);

    (void)timeout_ms;
    if (rc == -ENOENT)
        return 0;
    if (rc) {
        if (err)
            *err = why;
        return rc;
    }
    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : disk_error(errno, "looking at", path, err);
    if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode))
        return atd_error_set(err, EINVAL, "'%s' is no regular file and is not removed", path);
    if (unlinkat(dir_fd, name, 0) != 0)
        return errno == ENOENT ? 0 : disk_error(errno, "removing", path, err);
    return sync_dir(dir_fd, path, err);
}

/* link(2) never writes over a file. */
static int disk_guards(struct atd_store *store, struct atd_str prefix_url,
                       struct atd_str scratch_name, unsigned timeout_ms, bool *ret_guards,
                       struct atd_error *err)
{
    (void)store;
    (void)prefix_url;
    (void)scratch_name;
    (void)timeout_ms;
    (void)err;
    *ret_guards = true;
    return 0;
}

const struct atd_store_write_ops atd_disk_write_ops = {
    .begin = disk_begin,
    .part = disk_part,
    .finish = disk_finish,
    .cancel = disk_cancel,
    .abort = disk_abort,
    .free_upload = disk_free_upload,
    .discard = disk_discard,
    .put = disk_put,
    .adopt = disk_adopt,
    .remove = disk_remove,
    .guards = disk_guards,
};

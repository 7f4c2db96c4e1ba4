#include "store/file_store.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "base/cleanup.h"

#define DIR_MODE 0755 /* less the umask */

struct atd_file_store {
    size_t root_count;
    char *roots[ATD_FILE_ROOTS_MAX]; /* no trailing slash; "" is the whole file system */
};

struct atd_file_identity atd_file_identity_of(const struct stat *st)
{
    return (struct atd_file_identity){
        .device = (uint64_t)st->st_dev,
        .inode = (uint64_t)st->st_ino,
        .size_bytes = (uint64_t)st->st_size,
        .mtime_s = (int64_t)st->st_mtim.tv_sec,
        .mtime_ns = (int64_t)st->st_mtim.tv_nsec,
        .ctime_s = (int64_t)st->st_ctim.tv_sec,
        .ctime_ns = (int64_t)st->st_ctim.tv_nsec,
    };
}

int atd_file_store_new(const char *const *roots, size_t root_count,
                       struct atd_file_store **ret_store, struct atd_error *err)
{
    struct atd_file_store *store;

    if (root_count > ATD_FILE_ROOTS_MAX)
        return atd_error_set(err, E2BIG, "%zu data roots are more than the limit of %d", root_count,
                             ATD_FILE_ROOTS_MAX);
    store = calloc(1, sizeof(*store));
    if (!store)
        return atd_error_set(err, ENOMEM, "disk store: out of memory");
    for (size_t i = 0; i < root_count; i++) {
        size_t len = strlen(roots[i]);

        if (roots[i][0] != '/') {
            atd_file_store_free(store);
            return atd_error_set(err, EINVAL, "data root '%s' is not an absolute path", roots[i]);
        }
        while (len > 0 && roots[i][len - 1] == '/')
            len--;
        store->roots[i] = strndup(roots[i], len);
        if (!store->roots[i]) {
            atd_file_store_free(store);
            return atd_error_set(err, ENOMEM, "disk store: out of memory");
        }
        store->root_count++;
    }
    *ret_store = store;
    return 0;
}

void atd_file_store_free(struct atd_file_store *store)
{
    if (!store)
        return;
    for (size_t i = 0; i < store->root_count; i++)
        free(store->roots[i]);
    free(store);
}

size_t atd_file_store_root_count(const struct atd_file_store *store)
{
    return store->root_count;
}

const char *atd_file_store_root(const struct atd_file_store *store, size_t number)
{
    return store->roots[number][0] ? store->roots[number] : "/";
}

/* The part of `path` below `root`, or NULL when it does not begin with it. */
static const char *below(const char *path, const char *root)
{
    size_t len = strlen(root);

    if (strncmp(path, root, len) != 0 || path[len] != '/')
        return NULL;
    path += len;
    while (*path == '/')
        path++;
    return *path ? path : NULL;
}

/*
 * The root that `path` lies in and the rest of it. The library records resolved paths
 * (ATDATA-FORMATS 2.3), so a root that is or contains a symbolic link is tried resolved too.
 */
static int find_root(const struct atd_file_store *store, const char *path, const char **ret_root,
                     const char **ret_rest, struct atd_error *err)
{
    for (size_t i = 0; i < store->root_count; i++) {
        char resolved[PATH_MAX];
        const char *rest = below(path, store->roots[i]);

        if (!rest && realpath(atd_file_store_root(store, i), resolved))
            rest = below(path, strcmp(resolved, "/") == 0 ? "" : resolved);
        if (rest) {
            *ret_root = atd_file_store_root(store, i);
            *ret_rest = rest;
            return 0;
        }
    }
    return atd_error_set(err, EACCES,
                         "'%s' is not below a data root; if you trust it, mount with "
                         "-o data_root=DIR",
                         path);
}

static int path_error(int code, const char *path, const char *root, struct atd_error *err)
{
    switch (code) {
    case ENOENT:
    case ENOTDIR:
        return atd_error_set(err, ENOENT, "'%s' does not exist", path);
    case EXDEV:
        return atd_error_set(err, EACCES, "'%s' leads out of the data root '%s'", path, root);
    case ELOOP:
        return atd_error_set(err, EACCES, "'%s' passes a loop of symbolic links", path);
    case EACCES:
    case EPERM:
        return atd_error_set(err, EACCES, "'%s' may not be read: %s", path, strerror(code));
    case EAGAIN:
        /* Never EAGAIN to the caller: to him it means something else. */
        return atd_error_set_retryable(err, EBUSY, "'%s' is being renamed or is leased", path);
    case ENOSYS:
        return atd_error_set(err, ENOSYS,
                             "'%s': this kernel lacks openat2, without which no path is safe; "
                             "Linux 5.6 or later is needed",
                             path);
    default:
        return atd_error_set(err, code, "'%s': %s", path, strerror(code));
    }
}

static const char *type_name(mode_t mode)
{
    return S_ISDIR(mode)    ? "a directory"
           : S_ISFIFO(mode) ? "a FIFO"
           : S_ISSOCK(mode) ? "a socket"
           : S_ISLNK(mode)  ? "a symbolic link"
                            : "a device";
}

/* openat2 below the root. -1 and errno. */
static int open_beneath(int root_fd, const char *rest, uint64_t flags)
{
    const struct open_how how = {
        .flags = flags | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    int fd = -1;

    /* EAGAIN: a rename elsewhere raced with "..": the kernel asks to try again. */
    for (int tries = 0; tries < 16; tries++) {
        fd = (int)syscall(SYS_openat2, root_fd, rest, &how, sizeof(how));
        if (fd >= 0 || errno != EAGAIN)
            break;
    }
    return fd;
}

/*
 * A descriptor (O_PATH: nothing is opened yet, so nothing can block or be triggered) of the
 * regular file that `path` names, and its attributes.
 */
static int find_file(const struct atd_file_store *store, const char *path, int *ret_path_fd,
                     struct stat *ret_st, struct atd_error *err)
{
    atd_auto_fd int root_fd = -1;
    atd_auto_fd int fd = -1;
    const char *root;
    const char *rest;
    int rc = find_root(store, path, &root, &rest, err);

    if (rc)
        return rc;
    root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0)
        return path_error(errno, root, root, err);
    fd = open_beneath(root_fd, rest, O_PATH);
    if (fd < 0)
        return path_error(errno, path, root, err);
    if (fstat(fd, ret_st) != 0)
        return path_error(errno, path, root, err);
    if (!S_ISREG(ret_st->st_mode))
        return atd_error_set(err, EINVAL, "'%s' is %s, not a regular file", path,
                             type_name(ret_st->st_mode));
    *ret_path_fd = atd_steal_fd(&fd);
    return 0;
}

/* A terminated copy of the path. */
static int copy_path(struct atd_str path, char ret_copy[PATH_MAX], struct atd_error *err)
{
    if (path.len >= PATH_MAX)
        return atd_error_set(err, ENAMETOOLONG, "a path of %zu bytes is too long", path.len);
    if (atd_str_find(path, '\0') >= 0 || path.len == 0)
        return atd_error_set(err, EINVAL, "a path is empty or holds a NUL");
    memcpy(ret_copy, path.ptr, path.len);
    ret_copy[path.len] = '\0';
    return 0;
}

int atd_file_store_stat(const struct atd_file_store *store, struct atd_str path,
                        struct atd_file_identity *ret_identity, struct atd_error *err)
{
    char text[PATH_MAX];
    atd_auto_fd int path_fd = -1;
    struct stat st;
    int rc = copy_path(path, text, err);

    if (rc == 0)
        rc = find_file(store, text, &path_fd, &st, err);
    if (rc == 0)
        *ret_identity = atd_file_identity_of(&st);
    return rc;
}

int atd_file_store_open(const struct atd_file_store *store, struct atd_str path, int *ret_fd,
                        struct atd_file_identity *ret_identity, struct atd_error *err)
{
    char text[PATH_MAX];
    char link[64];
    atd_auto_fd int path_fd = -1;
    atd_auto_fd int fd = -1;
    struct stat st;
    int rc = copy_path(path, text, err);

    if (rc == 0)
        rc = find_file(store, text, &path_fd, &st, err);
    if (rc)
        return rc;
    /* Opens the very file that was looked at, whatever the path names by now. It is a regular one:
     * at most a lease makes this wait, which the caller may. */
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", path_fd);
    fd = open(link, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0)
        return path_error(errno, text, text, err);
    *ret_identity = atd_file_identity_of(&st);
    *ret_fd = atd_steal_fd(&fd);
    return 0;
}

/* ------------------------------------------------------------------ directories, for writers */

static int write_error(int code, const char *path, const char *root, struct atd_error *err)
{
    if (code == EACCES || code == EPERM)
        return atd_error_set(err, EACCES, "'%s' may not be written: %s", path, strerror(code));
    if (code == ENOTDIR)
        return atd_error_set(err, ENOTDIR, "'%s': a step of it is no directory", path);
    return path_error(code, path, root, err);
}

/* The configured root and what is missing above it. What exists is left as it is. */
static int make_root(const char *root, struct atd_error *err)
{
    char path[PATH_MAX];
    size_t len = strlen(root);

    if (len >= sizeof(path))
        return atd_error_set(err, ENAMETOOLONG, "a data root of %zu bytes is too long", len);
    memcpy(path, root, len + 1);
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(path, DIR_MODE); /* what went wrong the last one tells */
        *slash = '/';
    }
    if (mkdir(path, DIR_MODE) != 0 && errno != EEXIST)
        return write_error(errno, path, root, err);
    return 0;
}

/*
 * Opens the directory `rest` below the root, making what is missing step by step. Every step is
 * opened from the root again: it may be a link, and has to stay below it.
 */
static int open_made(int root_fd, char *rest, const char *path, const char *root, int *ret_fd,
                     struct atd_error *err)
{
    atd_auto_fd int above = open_beneath(root_fd, ".", O_RDONLY | O_DIRECTORY);
    char *step = rest;

    while (above >= 0) {
        char *end = strchr(step, '/');
        int fd;

        if (end)
            *end = '\0';
        fd = open_beneath(root_fd, rest, O_RDONLY | O_DIRECTORY);
        if (fd < 0 && errno == ENOENT) {
            if (mkdirat(above, step, DIR_MODE) != 0 && errno != EEXIST)
                return write_error(errno, path, root, err);
            if (fsync(above) != 0)
                return write_error(errno, path, root, err);
            fd = open_beneath(root_fd, rest, O_RDONLY | O_DIRECTORY);
        }
        if (fd < 0)
            break;
        (void)close(above);
        above = fd;
        if (!end) {
            *ret_fd = atd_steal_fd(&above);
            return 0;
        }
        *end = '/';
        step = end + 1 + strspn(end + 1, "/");
    }
    return write_error(errno, path, root, err);
}

/* Splits "a/b/name" into "a/b" and the name. */
static int split_name(const char *path, char *rest, char ret_name[NAME_MAX + 1],
                      struct atd_error *err)
{
    char *slash = strrchr(rest, '/');
    const char *name = slash ? slash + 1 : rest;

    for (const char *step = rest; step; step = strchr(step, '/')) {
        size_t len;

        step += strspn(step, "/");
        len = strcspn(step, "/");
        if ((len == 1 && step[0] == '.') || (len == 2 && step[0] == '.' && step[1] == '.'))
            return atd_error_set(err, EINVAL, "'%s' has a step '.' or '..' and is not written",
                                 path);
    }
    if (name[0] == '\0')
        return atd_error_set(err, EINVAL, "'%s' ends in no file name", path);
    if (strlen(name) > NAME_MAX)
        return atd_error_set(err, ENAMETOOLONG, "the file name of '%s' is too long", path);
    memcpy(ret_name, name, strlen(name) + 1);
    while (slash && slash > rest && slash[-1] == '/')
        slash--;
    *(slash ? slash : rest) = '\0';
    return 0;
}

int atd_file_store_open_dir(const struct atd_file_store *store, struct atd_str path, bool make,
                            int *ret_fd, char ret_name[NAME_MAX + 1], struct atd_error *err)
{
    char text[PATH_MAX];
    char below_root[PATH_MAX];
    char name[NAME_MAX + 1];
    atd_auto_fd int root_fd = -1;
    int fd = -1;
    const char *root;
    const char *rest;
    int rc = copy_path(path, text, err);

    if (rc == 0)
        rc = find_root(store, text, &root, &rest, err);
    if (rc)
        return rc;
    memcpy(below_root, rest, strlen(rest) + 1);
    rc = split_name(text, below_root, name, err);
    if (rc)
        return rc;
    root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0 && errno == ENOENT && make) {
        rc = make_root(root, err);
        if (rc)
            return rc;
        root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    }
    if (root_fd < 0)
        return write_error(errno, root, root, err);
    if (make && below_root[0]) {
        rc = open_made(root_fd, below_root, text, root, &fd, err);
        if (rc)
            return rc;
    } else {
        fd = open_beneath(root_fd, below_root[0] ? below_root : ".", O_RDONLY | O_DIRECTORY);
        if (fd < 0)
            return write_error(errno, text, root, err);
    }
    memcpy(ret_name, name, strlen(name) + 1);
    *ret_fd = fd;
    return 0;
}

#include "mountpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"

#define FS_TYPE "fuse.atdatafs"
/* Enough to hide a disk's latency; FUSE 8 says 2048 to 4096 for disk-speed files. */
#define READAHEAD_KB 4096

extern char **environ;

/* mountinfo writes blanks, tabs, newlines and backslashes as \ooo. */
static void decode_octal(char *text)
{
    char *to = text;

    for (const char *from = text; *from; to++) {
        if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] && from[3]) {
            *to = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = '\0';
}

/*
 * The last mount on a path, as /proc/self/mountinfo has it: asking stat(2) would hang on a mount
 * whose daemon does not answer yet. False when there is none.
 */
static bool find_mount(const char *path, char *ret_type, size_t type_size, char *ret_device,
                       size_t device_size)
{
    atd_auto_file FILE *file = fopen("/proc/self/mountinfo", "re");
    atd_auto_free char *line = NULL;
    size_t cap = 0;
    bool found = false;

    while (file && getline(&line, &cap, file) > 0) {
        char device[32];
        char type[64];
        int at = 0;
        char *place;
        char *end;
        char *dash;

        if (sscanf(line, "%*d %*d %31s %*s %n", device, &at) != 1 || at == 0)
            continue;
        place = line + at;
        end = strchr(place, ' ');
        dash = strstr(place, " - ");
        if (!end || !dash || sscanf(dash + 3, "%63s", type) != 1)
            continue;
        *end = '\0';
        decode_octal(place);
        if (strcmp(place, path) == 0) {
            (void)snprintf(ret_type, type_size, "%s", type);
            (void)snprintf(ret_device, device_size, "%s", device);
            found = true;
        }
    }
    return found;
}

static bool run_fusermount(const char *mountpoint, const char *flags)
{
    char *const argv[] = {(char *)(uintptr_t) "fusermount3", (char *)(uintptr_t)flags,
                          (char *)(uintptr_t) "--", (char *)(uintptr_t)mountpoint, NULL};
    pid_t pid;
    int status;

    if (posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ) != 0)
        return false;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return false;
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void mountpoint_unmount(const char *mountpoint)
{
    if (umount2(mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) != 0 && errno == EPERM)
        (void)run_fusermount(mountpoint, "-uzq");
}

void mountpoint_unmount_own(const char *mountpoint, int device)
{
    struct pollfd poll_device = {.fd = device, .events = POLLIN};

    /* The kernel reports an ended connection so; then the path belongs to others. */
    if (poll(&poll_device, 1, 0) == 1 && (poll_device.revents & POLLERR))
        return;
    mountpoint_unmount(mountpoint);
}

/* True when `path` is `directory` or lies below it. */
static bool is_below(const char *path, const char *directory)
{
    size_t len = strlen(directory);

    if (strcmp(directory, "/") == 0)
        return true;
    return strncmp(path, directory, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

int mountpoint_check_roots(const struct options *options, struct atd_error *err)
{
    for (size_t i = 0; i < options->data_root_count; i++) {
        char resolved[PATH_MAX];
        const char *root = options->data_roots[i];

        if (realpath(root, resolved))
            root = resolved;
        if (is_below(options->mountpoint, root) || is_below(root, options->mountpoint))
            return atd_error_set(err, EINVAL,
                                 "mount point '%s' and data root '%s' lie in each other; mount "
                                 "elsewhere or name a narrower data root",
                                 options->mountpoint, root);
    }
    return 0;
}

/* The path with its directory resolved: the last part may be a mount that answers nothing. */
static int resolve(const char *mountpoint, char ret_path[PATH_MAX], struct atd_error *err)
{
    atd_auto_free char *copy = strdup(mountpoint);
    char directory[PATH_MAX];
    char *slash;
    size_t len;

    if (!copy)
        return atd_error_set(err, ENOMEM, "out of memory");
    if (realpath(mountpoint, ret_path))
        return 0;
    if (errno != ENOTCONN && errno != ECONNABORTED && errno != EIO)
        return atd_error_set(err, errno, "mount point '%s': %s", mountpoint, strerror(errno));
    len = strlen(copy);
    while (len > 1 && copy[len - 1] == '/')
        copy[--len] = '\0';
    slash = strrchr(copy, '/');
    *slash = '\0';
    if (!realpath(slash == copy ? "/" : copy, directory))
        return atd_error_set(err, errno, "mount point '%s': %s", mountpoint, strerror(errno));
    if ((size_t)snprintf(ret_path, PATH_MAX, "%s/%s", strcmp(directory, "/") ? directory : "",
                         slash + 1) >= PATH_MAX)
        return atd_error_set(err, ENAMETOOLONG, "mount point '%s' is too long", mountpoint);
    return 0;
}

/* stat(2) may be answered from the cache of a dead mount: this asks its daemon. */
static int stat_now(const char *path)
{
    struct statx st;

    return statx(AT_FDCWD, path, AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &st);
}

int mountpoint_prepare(char **mountpoint, struct atd_error *err)
{
    char path[PATH_MAX];
    char type[64];
    char device[32];
    struct stat st;
    char *resolved;
    int rc = resolve(*mountpoint, path, err);

    if (rc)
        return rc;
    /* One stale mount may lie on another: as many as there are, but never for ever. */
    for (int tries = 0; tries < 16; tries++) {
        bool ours = find_mount(path, type, sizeof(type), device, sizeof(device)) &&
                    strcmp(type, FS_TYPE) == 0;

        if (ours && (stat_now(path) == 0 || errno == EACCES))
            return atd_error_set(err, EBUSY,
                                 "'%s' is mounted already; fusermount3 -u '%s' takes it away", path,
                                 path);
        if (!ours)
            break;
        if (errno != ENOTCONN && errno != ECONNABORTED)
            return atd_error_set(err, errno, "mount point '%s': %s", path, strerror(errno));
        mountpoint_unmount(path);
    }
    if (stat(path, &st) != 0)
        return atd_error_set(err, errno, "mount point '%s': %s", path, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return atd_error_set(err, ENOTDIR, "mount point '%s' is not a directory", path);
    resolved = strdup(path);
    if (!resolved)
        return atd_error_set(err, ENOMEM, "out of memory");
    free(*mountpoint);
    *mountpoint = resolved;
    return 0;
}

int mountpoint_mount(const struct options *options, bool read_only, int *ret_device,
                     struct atd_error *err)
{
    atd_auto_fd int device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    char data[256];

    if (device < 0)
        return atd_error_set(err, errno, "/dev/fuse: %s; is the fuse module loaded?",
                             strerror(errno));
    (void)snprintf(data, sizeof(data), "fd=%d,rootmode=40000,user_id=%u,group_id=%u%s%s", device,
                   (unsigned)getuid(), (unsigned)getgid(),
                   options->default_permissions ? ",default_permissions" : "",
                   options->allow_other ? ",allow_other" : "");
    if (mount("atdatafs", options->mountpoint, FS_TYPE,
              MS_NOSUID | MS_NODEV | (read_only ? MS_RDONLY : 0) |
                  (options->noexec ? MS_NOEXEC : 0),
              data) != 0)
        return atd_error_set(err, errno, "cannot mount on '%s': %s", options->mountpoint,
                             strerror(errno));
    *ret_device = atd_steal_fd(&device);
    return 0;
}

void mountpoint_set_readahead(const char *mountpoint)
{
    char type[64];
    char device[32];
    char path[128];
    atd_auto_file FILE *file = NULL;

    if (!find_mount(mountpoint, type, sizeof(type), device, sizeof(device)))
        return;
    (void)snprintf(path, sizeof(path), "/sys/class/bdi/%s/read_ahead_kb", device);
    file = fopen(path, "we");
    if (file)
        (void)fprintf(file, "%d\n", READAHEAD_KB);
}

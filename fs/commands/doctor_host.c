/*
 * This machine: directories and their disks, FUSE, the kernel.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cache/cache_dir.h"
#include "doctor.h"
#include "progress.h"

#define FUSE_DEVICE "/dev/fuse"
#define FUSE_CONF "/etc/fuse.conf"
#define CAP_SYS_ADMIN_BIT 21u
#define LINE_MAX_BYTES 512
#define WRITE_BYTES 65536u
/* The kernel serves complete shards itself from this one on. */
#define PASSTHROUGH_MAJOR 6u
#define PASSTHROUGH_MINOR 9u

/* ------------------------------------------------------------------ directories */

/* The directory, or what is there of the path to it. */
static void existing_part(const char *path, char ret_path[PATH_MAX])
{
    (void)snprintf(ret_path, PATH_MAX, "%s", path);
    while (access(ret_path, F_OK) != 0 && strcmp(ret_path, "/") != 0) {
        char *slash = strrchr(ret_path, '/');

        slash[slash == ret_path] = '\0';
    }
}

/* Whether a file of some size can be written there; 0 or an errno. */
static int try_to_write(const char *dir)
{
    static const char zeros[WRITE_BYTES];
    atd_auto_fd int fd = open(dir, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
    ssize_t put;

    if (fd < 0) /* a file system without such files tells nothing so */
        return errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL
                   ? (access(dir, W_OK | X_OK) == 0 ? 0 : errno)
                   : errno;
    put = write(fd, zeros, sizeof(zeros));
    return put == (ssize_t)sizeof(zeros) ? 0 : put < 0 ? errno : ENOSPC;
}

struct room {
    const char *name;   /* of the check */
    const char *path;   /* of the directory */
    uint64_t floor;     /* stays free */
    const char *loss;   /* what does not work without room */
    const char *option; /* to name another */
    const char *floor_option;
};

static void look_at_room(struct doctor *doctor, const struct room *room)
{
    char there[PATH_MAX];
    char sizes[2][PROGRESS_SIZE_TEXT_MAX];
    struct statvfs fs;
    uint64_t left;
    int code;

    existing_part(room->path, there);
    code = try_to_write(there);
    if (statvfs(there, &fs) != 0) {
        (void)doctor_say(doctor, room->name, CHECK_PROBLEM, "'%s': %s", there, strerror(errno));
        return;
    }
    left = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (code == ENOSPC || code == EDQUOT || left <= room->floor)
        doctor_advise(doctor_say(doctor, room->name, CHECK_PROBLEM,
                                 "the disk of '%s' has %s left, and %s stay free: %s", room->path,
                                 progress_size_text(left, sizes[0]),
                                 progress_size_text(room->floor, sizes[1]), room->loss),
                      "free some room there, name another directory with -o %s=DIR, or lower "
                      "-o %s=SIZE",
                      room->option, room->floor_option);
    else if (code)
        doctor_advise(doctor_say(doctor, room->name, CHECK_PROBLEM, "'%s' cannot be written: %s",
                                 there, strerror(code)),
                      "correct its permissions, or name another directory with -o %s=DIR",
                      room->option);
    else
        (void)doctor_say(doctor, room->name, CHECK_OK, "'%s', %s free", room->path,
                         progress_size_text(left, sizes[0]));
}

static void look_at_cache(struct doctor *doctor)
{
    const struct options *options = doctor->options;
    struct atd_cache_stats stats = {0};
    const struct atd_cache_dir_options how = {.path = options->cache_dir,
                                              .size_max_bytes = options->cache_size_bytes,
                                              .free_floor_bytes = options->cache_floor_bytes,
                                              .stats = &stats,
                                              .make_late = true};
    const struct room room = {
        "cache",     options->cache_dir, options->cache_floor_bytes, "no shard is kept",
        "cache_dir", "cache_floor"};
    struct atd_cache_dir *dir = NULL;
    struct atd_error why = ATD_ERROR_INIT;

    if (!options->cache_dir) {
        (void)doctor_say(doctor, "cache", CHECK_NOTE, "there is none (cache=none)");
        return;
    }
    /* What is there must be ours, and no one else's to write to. */
    if (atd_cache_dir_open(&how, &dir, &why) != 0 && why.code != ENOSPC) {
        doctor_advise(doctor_say(doctor, "cache", CHECK_PROBLEM, "%s", why.text),
                      "make it a directory of your own, or name another with -o cache_dir=DIR");
        return;
    }
    (void)atd_cache_dir_close(dir);
    look_at_room(doctor, &room);
}

/* ------------------------------------------------------------------ FUSE */

static bool has_sys_admin(void)
{
    atd_auto_file FILE *file = fopen("/proc/self/status", "re");
    char line[LINE_MAX_BYTES];

    while (file && fgets(line, sizeof(line), file)) {
        if (strncmp(line, "CapEff:", 7) == 0)
            return (strtoull(line + 7, NULL, 16) >> CAP_SYS_ADMIN_BIT) & 1;
    }
    return false;
}

/* The helper that mounts for who may not: in the search path, and set-user-ID root. */
static bool find_helper(char ret_path[PATH_MAX], bool *ret_is_setuid)
{
    const char *search = getenv("PATH");
    atd_auto_free char *copy = strdup(search ? search : "/usr/bin:/bin");
    char *rest = copy;
    const char *dir;
    struct stat st;

    while (copy && (dir = strsep(&rest, ":"))) {
        if (snprintf(ret_path, PATH_MAX, "%s/fusermount3", dir) < PATH_MAX &&
            stat(ret_path, &st) == 0 && S_ISREG(st.st_mode)) {
            *ret_is_setuid = (st.st_mode & S_ISUID) && st.st_uid == 0;
            return true;
        }
    }
    return false;
}

static bool may_allow_other(void)
{
    atd_auto_file FILE *file = fopen(FUSE_CONF, "re");
    char line[LINE_MAX_BYTES];

    while (file && fgets(line, sizeof(line), file)) {
        if (strncmp(line, "user_allow_other", 16) == 0)
            return true;
    }
    return false;
}

static void look_at_mounting(struct doctor *doctor, bool is_admin)
{
    char helper[PATH_MAX];
    bool is_setuid = false;

    if (is_admin) {
        (void)doctor_say(doctor, "mounting", CHECK_OK, "this process may mount");
        return;
    }
    if (!find_helper(helper, &is_setuid))
        doctor_advise(
            doctor_say(doctor, "mounting", CHECK_PROBLEM,
                       "neither may this process mount, nor is there a fusermount3"),
            "install fuse3 (apt install fuse3); in a container give it --cap-add SYS_ADMIN");
    else if (!is_setuid)
        doctor_advise(doctor_say(doctor, "mounting", CHECK_PROBLEM,
                                 "'%s' is not set-user-ID root: it may not mount either", helper),
                      "run as root: chmod u+s %s", helper);
    else
        (void)doctor_say(doctor, "mounting", CHECK_OK, "'%s' mounts", helper);
    if (doctor->options->allow_other && !may_allow_other())
        doctor_advise(doctor_say(doctor, "allow_other", CHECK_PROBLEM,
                                 "'" FUSE_CONF "' does not let users give option allow_other"),
                      "put the line user_allow_other into " FUSE_CONF);
}

static void look_at_fuse(struct doctor *doctor)
{
    bool is_admin = has_sys_admin();
    atd_auto_fd int fd = open(FUSE_DEVICE, O_RDWR | O_CLOEXEC);
    int code = errno;

    if (fd >= 0)
        (void)doctor_say(doctor, "fuse", CHECK_OK, "'" FUSE_DEVICE "' can be opened");
    else if (code == ENOENT || code == ENODEV || code == ENXIO)
        doctor_advise(
            doctor_say(doctor, "fuse", CHECK_PROBLEM, "'" FUSE_DEVICE "': %s", strerror(code)),
            "load the module (modprobe fuse); in a container pass the device: "
            "--device /dev/fuse --cap-add SYS_ADMIN");
    else
        doctor_advise(
            doctor_say(doctor, "fuse", CHECK_PROBLEM, "'" FUSE_DEVICE "': %s", strerror(code)),
            "let everybody open it (chmod 666 /dev/fuse); in a container pass it: "
            "--device /dev/fuse");
    look_at_mounting(doctor, is_admin);
}

static void look_at_kernel(struct doctor *doctor)
{
    struct utsname name;
    unsigned major = 0;
    unsigned minor = 0;

    if (uname(&name) != 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2)
        return;
    if (major > PASSTHROUGH_MAJOR || (major == PASSTHROUGH_MAJOR && minor >= PASSTHROUGH_MINOR))
        (void)doctor_say(doctor, "kernel", CHECK_OK, "Linux %s%s", name.release,
                         has_sys_admin() ? ": complete shards are read by the kernel itself"
                                         : "; as root complete shards would be read by the kernel "
                                           "itself");
    else
        doctor_advise(doctor_say(doctor, "kernel", CHECK_OK, "Linux %s", name.release),
                      "from Linux 6.9 on complete shards are read by the kernel itself");
}

void doctor_look_at_host(struct doctor *doctor)
{
    const struct options *options = doctor->options;
    const struct room state = {
        "state directory",          options->state_dir, options->spool_floor_bytes,
        "nothing can be published", "state_dir",        "spool_floor"};

    look_at_cache(doctor);
    if (options->read_only)
        (void)doctor_say(doctor, state.name, CHECK_NOTE, "not used: option ro");
    else
        look_at_room(doctor, &state);
    look_at_fuse(doctor);
    look_at_kernel(doctor);
}

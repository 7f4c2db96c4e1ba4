#include "notify_device.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"

/* include/uapi/linux/fuse.h; the same since Linux 4.2. */
#define FUSE_DEVICE_CLONE _IOR(229, 0, uint32_t)

/* close_range(2); a kernel without it (before 5.9) has no way that is fast enough. */
static int close_from_to(unsigned first, unsigned last)
{
#ifdef SYS_close_range
    return first > last ? 0 : (int)syscall(SYS_close_range, first, last, 0);
#else
    (void)first;
    (void)last;
    errno = ENOSYS;
    return -1;
#endif
}

static int clone_device(int device)
{
    uint32_t source = (uint32_t)device;
    int clone = open("/dev/fuse", O_RDWR | O_CLOEXEC);

    if (clone < 0)
        return -errno;
    if (ioctl(clone, FUSE_DEVICE_CLONE, &source) != 0 || dup3(clone, device, O_CLOEXEC) < 0) {
        int rc = -errno;

        (void)close(clone);
        return rc;
    }
    return 0; /* what stands elsewhere is closed with all the rest */
}

/* Nobody reads ours at their ends: a pipe's reader would wait for the mount's. */
static void leave_stdio(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        (void)(null >= 0 ? dup2(null, fd) : close(fd));
}

void notify_device_own(int device, bool keep_stdio)
{
    if (close_from_to(UINT_MAX, UINT_MAX) != 0 || unshare(CLONE_FILES) != 0) {
        atd_log(ATD_LOG_DEBUG, "notifications share the device: %s", strerror(errno));
        return;
    }
    /* A copy of all that was open: none of it may be kept open by us. No word of a failed clone:
     * what syslog opens here has a number that means another file to the other threads. */
    if (!keep_stdio)
        leave_stdio();
    (void)clone_device(device);
    (void)close_from_to(STDERR_FILENO + 1, (unsigned)device - 1);
    (void)close_from_to((unsigned)device + 1, UINT_MAX);
}

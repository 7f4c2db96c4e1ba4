/*
 * The mount point: what is there now, a stale mount taken away, mount(2) and umount(2).
 */
#ifndef ATD_FS_MOUNTPOINT_H
#define ATD_FS_MOUNTPOINT_H

#include "fuse.h"
#include "options.h"

/*
 * Makes sure that the mount point is a directory that can be mounted on. A mount that a killed
 * daemon left behind (ENOTCONN) is taken away. Replaces *mountpoint by its resolved path.
 * Errors: EBUSY a living mount of this program (or another user's) is there; ENOENT, ENOTDIR,
 * EACCES.
 */
int mountpoint_prepare(char **mountpoint, struct atd_error *err);

/*
 * Opens /dev/fuse and mounts it, which takes CAP_SYS_ADMIN. EPERM: the caller may go through
 * fusermount3 instead.
 */
int mountpoint_mount(const struct options *options, bool read_only, int *ret_device,
                     struct atd_error *err);

/* Takes the last mount on the path away, also when files are open (lazily). */
void mountpoint_unmount(const char *mountpoint);

/*
 * Takes our own mount away: nothing is done when somebody else did so already, whatever lies on
 * the path by now. `device` is the session's /dev/fuse.
 */
void mountpoint_unmount_own(const char *mountpoint, int device);

/*
 * Errors: EINVAL the mount would lie below a data root, or one below the mount: looking for a shard
 * would then ask the mount itself, and wait for ever.
 */
int mountpoint_check_roots(const struct options *options, struct atd_error *err);

/* Raises the kernel's readahead for the mount, where permitted (FUSE 1.3). */
void mountpoint_set_readahead(const char *mountpoint);

#endif

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
 * Errors: EBUSY a living mount of this program is there; ENOENT, ENOTDIR, EACCES.
 */
int mountpoint_prepare(char **mountpoint, struct atd_error *err);

/*
 * Opens /dev/fuse and mounts it, which takes CAP_SYS_ADMIN. EPERM: the caller may go through
 * fusermount3 instead.
 */
int mountpoint_mount(const struct options *options, int *ret_device, struct atd_error *err);

/* Takes the mount away, also when files are open (lazily). */
void mountpoint_unmount(const char *mountpoint);

/* Raises the kernel's readahead for the mount, where permitted (FUSE 1.3). */
void mountpoint_set_readahead(const char *mountpoint);

#endif

/*
 * A connection to the kernel of the notifying thread's own, so that the daemon can be killed.
 *
 * A notification of a name waits in the kernel, unkillable, for the directory's lock; who holds
 * that lock waits for our answer to a request (a rename that publishes, for seconds). Killed then,
 * the process would stay: the one thread keeps /dev/fuse open, so the request is never ended, so
 * the lock is never given. But when the thread has a table of descriptors of its own, with nothing
 * but a clone of the device in it, the others' table goes with them, the kernel ends the requests
 * that came that way, and the thread gets its lock. Source: fs/fuse/dev.c, fuse_dev_release().
 */
#ifndef ATD_FS_NOTIFY_DEVICE_H
#define ATD_FS_NOTIFY_DEVICE_H

#include <stdbool.h>

/*
 * From now on `device` is the clone for the calling thread, which may open and close nothing that
 * others see, and log nothing. Where that is not possible all stays as it was. `keep_stdio`: in the
 * foreground.
 */
void notify_device_own(int device, bool keep_stdio);

#endif

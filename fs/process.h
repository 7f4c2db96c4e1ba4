/*
 * What /proc says of the process that sent a request.
 */
#ifndef ATD_FS_PROCESS_H
#define ATD_FS_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

/* The process of a thread: FUSE gives thread numbers. 0: not known (gone, another pid namespace).
 */
pid_t process_of_thread(pid_t thread);

/* True when the thread is being killed: SIGKILL is pending, also of a deadly SIGINT or SIGTERM. */
bool process_is_dying(pid_t thread);

/*
 * True when a signal ended it, and its files are being closed for it: what it wrote may be whole
 * and is not what it would have said is done. False also when /proc does not tell.
 */
bool process_was_killed(pid_t thread);

#endif

/*
 * One mount, from nothing to unmounted.
 */
#ifndef ATD_FS_SESSION_H
#define ATD_FS_SESSION_H

#include "options.h"

/*
 * Mounts, serves until the mount ends (unmount, SIGTERM, SIGINT, SIGHUP), cleans up. With
 * options->foreground in this process; otherwise a child serves, and this function returns in the
 * parent as soon as the mount is usable or is known to have failed, printing why.
 * Returns the exit code.
 */
int session_run(const struct options *options);

#endif

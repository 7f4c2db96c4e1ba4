/*
 * libfuse's low-level API, at the version this driver is written to (Debian 12's 3.14).
 */
#ifndef ATD_FS_FUSE_H
#define ATD_FS_FUSE_H

#define FUSE_USE_VERSION 312
#include <fuse3/fuse_lowlevel.h>

#endif

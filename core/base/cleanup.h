/*
 * Scope-bound ownership: `atd_auto_free char *p = ...` is freed when p leaves its scope.
 * atd_steal(p) hands the value out and leaves NULL (or -1 with atd_steal_fd) behind.
 */
#ifndef ATD_BASE_CLEANUP_H
#define ATD_BASE_CLEANUP_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "atdata/arena.h"
#include "atdata/buf.h"

static inline void atd_cleanup_free(void *place)
{
    free(*(void **)place);
}

static inline void atd_cleanup_fd(const int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static inline void atd_cleanup_file(FILE **file)
{
    if (*file)
        (void)fclose(*file);
}

#define atd_auto_free __attribute__((cleanup(atd_cleanup_free)))
#define atd_auto_fd __attribute__((cleanup(atd_cleanup_fd)))
#define atd_auto_file __attribute__((cleanup(atd_cleanup_file)))
#define atd_auto_buf __attribute__((cleanup(atd_buf_release)))
#define atd_auto_arena __attribute__((cleanup(atd_arena_release)))

#define atd_steal(pointer)                       \
    __extension__({                              \
        __typeof__(pointer) stolen_ = (pointer); \
        (pointer) = NULL;                        \
        stolen_;                                 \
    })

static inline int atd_steal_fd(int *fd)
{
    int stolen = *fd;
    *fd = -1;
    return stolen;
}

#endif

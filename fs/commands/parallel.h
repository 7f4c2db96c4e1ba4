/*
 * The same work on many items, several at once, while the caller's thread shows how far it is.
 */
#ifndef ATD_FS_PARALLEL_H
#define ATD_FS_PARALLEL_H

#include <stddef.h>

#define PARALLEL_MAX 64u
/* Between two looks at the progress. */
#define PARALLEL_TICK_MS 100u

struct parallel_work {
    size_t count;
    unsigned jobs; /* at once; 1 to PARALLEL_MAX */
    /* For each item once, in ascending order of their beginnings; from any thread. */
    void (*run)(void *ctx, size_t item);
    /* Now and then, in the caller's thread; may be NULL. */
    void (*tick)(void *ctx);
    void *ctx;
};

/* Blocks until all is done. Where no thread can be started the caller's does the work. */
void parallel_run(const struct parallel_work *work);

#endif

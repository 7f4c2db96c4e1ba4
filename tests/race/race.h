/*
 * A few threads doing the same thing at once.
 */
#ifndef ATD_TESTS_RACE_H
#define ATD_TESTS_RACE_H

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define RACE_THREADS 4

/* Stays on in every build, unlike assert(). */
#define MUST(condition)                                                           \
    do {                                                                          \
        if (!(condition)) {                                                       \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                              \
        }                                                                         \
    } while (0)

static inline void race(void *(*body)(void *), void *ctx)
{
    pthread_t threads[RACE_THREADS];

    for (int i = 0; i < RACE_THREADS; i++)
        MUST(pthread_create(&threads[i], NULL, body, ctx) == 0);
    for (int i = 0; i < RACE_THREADS; i++)
        MUST(pthread_join(threads[i], NULL) == 0);
}

#endif

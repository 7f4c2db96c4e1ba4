/*
 * Drawing from a stream in random order: a buffer is filled, one item is drawn at random, and its
 * place is taken by the next. The same seed and items give the same order. Pure.
 */
#ifndef ATD_DATASET_SHUFFLE_H
#define ATD_DATASET_SHUFFLE_H

#include <stddef.h>
#include <stdint.h>

#include "atdata/error.h"

struct atd_shuffle {
    void **items;
    size_t count;
    size_t size; /* of the buffer; 0: items come as they go */
    uint64_t random;
};

/* Errors: E2BIG, ENOMEM. */
int atd_shuffle_init(struct atd_shuffle *shuffle, size_t size, uint64_t seed,
                     struct atd_error *err) ATD_MUST_USE;
/* The items are the caller's. */
void atd_shuffle_release(struct atd_shuffle *shuffle);

static inline bool atd_shuffle_is_full(const struct atd_shuffle *shuffle)
{
    return shuffle->count >= shuffle->size && shuffle->count > 0;
}

/* Not when it is full. */
void atd_shuffle_put(struct atd_shuffle *shuffle, void *item);
/* NULL: it is empty. */
void *atd_shuffle_draw(struct atd_shuffle *shuffle);

/* Below `bound`, which is not 0; each as likely as the others. */
uint64_t atd_shuffle_below(struct atd_shuffle *shuffle, uint64_t bound);

#endif

#include "dataset/shuffle.h"

#include <errno.h>
#include <stdlib.h>

#include "atdata/loader.h"
#include "base/check.h"
#include "net/retry.h"

int atd_shuffle_init(struct atd_shuffle *shuffle, size_t size, uint64_t seed, struct atd_error *err)
{
    *shuffle = (struct atd_shuffle){.size = size, .random = seed};
    if (size > ATD_SHUFFLE_MAX)
        return atd_error_set(err, E2BIG, "a shuffle buffer of more than %u samples",
                             ATD_SHUFFLE_MAX);
    /* Without a buffer an item is put and drawn at once. */
    shuffle->items = calloc(size ? size : 1, sizeof(*shuffle->items));
    return shuffle->items ? 0 : atd_error_set(err, ENOMEM, "out of memory");
}

void atd_shuffle_release(struct atd_shuffle *shuffle)
{
    free(shuffle->items);
    *shuffle = (struct atd_shuffle){0};
}

uint64_t atd_shuffle_below(struct atd_shuffle *shuffle, uint64_t bound)
{
    /* What would favour small numbers is drawn again. */
    uint64_t fair = UINT64_MAX - UINT64_MAX % bound;
    uint64_t random;

    do
        random = atd_random_next(&shuffle->random);
    while (random >= fair);
    return random % bound;
}

void atd_shuffle_put(struct atd_shuffle *shuffle, void *item)
{
    atd_assert(shuffle->count < (shuffle->size ? shuffle->size : 1));
    shuffle->items[shuffle->count++] = item;
}

void *atd_shuffle_draw(struct atd_shuffle *shuffle)
{
    size_t place;
    void *item;

    if (shuffle->count == 0)
        return NULL;
    place = (size_t)atd_shuffle_below(shuffle, shuffle->count);
    item = shuffle->items[place];
    shuffle->items[place] = shuffle->items[--shuffle->count];
    return item;
}

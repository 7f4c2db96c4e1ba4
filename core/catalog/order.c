#include "catalog/order.h"

#include <stdlib.h>

#include "base/cleanup.h"

#define KEY_BYTES 8u

struct keyed {
    uint64_t key;
    uint32_t place;
};

static int by_key(const void *a, const void *b, void *ctx)
{
    const struct atd_ordering *ordering = ctx;
    const struct keyed *left = a;
    const struct keyed *right = b;
    int order = (left->key > right->key) - (left->key < right->key);

    if (order == 0)
        order = ordering->compare(ordering->ctx, left->place, right->place);
    return order ? order : (left->place > right->place) - (left->place < right->place);
}

/* How many bytes all texts begin with. */
static size_t common_length(const uint32_t *places, size_t count,
                            const struct atd_ordering *ordering)
{
    struct atd_str first = ordering->text(ordering->ctx, places[0]);
    size_t common = first.len;

    for (size_t i = 1; i < count && common > 0; i++) {
        struct atd_str text = ordering->text(ordering->ctx, places[i]);
        size_t same = 0;

        while (same < common && same < text.len && text.ptr[same] == first.ptr[same])
            same++;
        common = same;
    }
    return common;
}

/* Of what follows, in an order that is the texts' but for equal keys: a shorter text has zeros. */
static uint64_t key_of(struct atd_str text, size_t common)
{
    uint64_t key = 0;

    for (size_t i = common; i < common + KEY_BYTES; i++)
        key = key << 8 | (i < text.len ? (uint8_t)text.ptr[i] : 0);
    return key;
}

bool atd_places_sort(uint32_t *places, size_t count, const struct atd_ordering *ordering)
{
    atd_auto_free struct keyed *keyed = NULL;
    size_t common;

    if (count < 2)
        return true;
    keyed = reallocarray(NULL, count, sizeof(*keyed));
    if (!keyed)
        return false;
    common = common_length(places, count, ordering);
    for (size_t i = 0; i < count; i++)
        keyed[i] =
            (struct keyed){key_of(ordering->text(ordering->ctx, places[i]), common), places[i]};
    qsort_r(keyed, count, sizeof(*keyed), by_key, (void *)(uintptr_t)ordering);
    for (size_t i = 0; i < count; i++)
        places[i] = keyed[i].place;
    return true;
}

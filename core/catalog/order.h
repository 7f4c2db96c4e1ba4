/*
 * Sorting many rows by text without reading most of the texts again and again: eight bytes behind
 * what all have in common decide nearly always, and lie beside each other.
 */
#ifndef ATD_CATALOG_ORDER_H
#define ATD_CATALOG_ORDER_H

#include "atdata/error.h"
#include "atdata/str.h"

struct atd_ordering {
    const void *ctx;
    /* What comes first in the order: `compare` agrees with it unless the texts are equal. */
    struct atd_str (*text)(const void *ctx, uint32_t place);
    int (*compare)(const void *ctx, uint32_t a, uint32_t b);
};

/* False when out of memory. Where `compare` says 0 the lesser place comes first. */
bool atd_places_sort(uint32_t *places, size_t count,
                     const struct atd_ordering *ordering) ATD_MUST_USE;

#endif

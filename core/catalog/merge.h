/*
 * A table of the next generation from the one before: rows taken out, rows put in, no row looked
 * at that no change concerns. A first generation is made of an empty table in the same way.
 */
#ifndef ATD_CATALOG_MERGE_H
#define ATD_CATALOG_MERGE_H

#include "atdata/error.h"
#include "catalog/order.h"
#include "catalog/rows.h"

/* Rows as they arrive; zeroed: none. */
struct atd_fresh {
    void *rows;
    bool *gone; /* one a row: only the key counts, and says that there is none with it */
    size_t count;
    size_t cap;
};

/* What the merge knows of one kind of rows. */
struct atd_row_kind {
    size_t bytes;
    struct atd_str (*text)(const void *row);      /* what comes first in the key */
    int (*compare)(const void *a, const void *b); /* by key: the table's order */
    bool (*equal)(const void *a, const void *b);  /* all that was reported */
    /* Neighbours of which only one can show; NULL: there are none such. */
    bool (*collide)(const void *a, const void *b);
    size_t (*text_bytes)(const void *row);
    bool texts_are_kept; /* those of a fresh row lie in the catalog's texts already */
};

struct atd_merged {
    void *rows;
    size_t count;
    void *hidden; /* rows that another one with the same file name hides */
    size_t hidden_count;
    uint32_t *map;        /* of each place in the base: where its key stands now, or ATD_NONE */
    bool *is_fresh;       /* one a row: the base has no such row, or another one of that key */
    size_t dropped_bytes; /* of texts that no row needs any more */
};

void atd_fresh_release(struct atd_fresh *fresh);
/* False when out of memory, or past what a place can say. */
bool atd_fresh_add(struct atd_fresh *fresh, const struct atd_row_kind *kind, const void *row,
                   bool gone) ATD_MUST_USE;

/* The last row of each key counts. `ret_merged` is zeroed, and released whatever is returned.
 * False when out of memory. */
bool atd_rows_merge(const struct atd_row_kind *kind, const void *base, size_t base_count,
                    const struct atd_fresh *fresh, struct atd_merged *ret_merged) ATD_MUST_USE;
void atd_merged_release(struct atd_merged *merged);

/* True for a row of the base that is there no more, or is another one now. */
static inline bool atd_merged_lost(const struct atd_merged *merged, size_t base_place)
{
    uint32_t place = merged->map[base_place];

    return place == ATD_NONE || merged->is_fresh[place];
}

/*
 * A table of places in the base's rows, which are so ordered, as one in the merged rows: those of
 * lost rows and those that `keep` (may be NULL) refuses go, `added` (sorted here) come. `keep` gets
 * the ordering's ctx. NULL when out of memory.
 */
uint32_t *atd_places_merge(const uint32_t *base, size_t base_count, const struct atd_merged *rows,
                           bool (*keep)(const void *ctx, uint32_t place), uint32_t *added,
                           size_t added_count, const struct atd_ordering *ordering,
                           size_t *ret_count) ATD_MUST_USE;

#endif

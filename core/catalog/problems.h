/*
 * What a catalog leaves out, and why. Records that were refused stay known until their record is
 * reported again; what follows from the records that are there is found anew in each generation.
 */
#ifndef ATD_CATALOG_PROBLEMS_H
#define ATD_CATALOG_PROBLEMS_H

#include "catalog/catalog.h"
#include "catalog/texts.h"

struct atd_refusal {
    struct atd_problem problem; /* its texts are the catalog's */
    uint64_t identity;          /* a hash of kind and whole key */
    uint32_t turn;              /* while records are taken in: when it was */
};

/* A record's key that was said to be gone, then. */
struct atd_gone_key {
    uint64_t identity;
    uint32_t turn;
};

struct atd_refusals {
    struct atd_refusal *all; /* sorted by kind, key, reason once merged; of those, each once */
    size_t count;
    size_t cap;
};

/* `key` stands for the record; `shown` of it is told. False when out of memory. */
bool atd_refusals_add(struct atd_refusals *refusals, struct atd_texts *texts, const char *what,
                      struct atd_str key, struct atd_str shown, const char *reason,
                      uint32_t turn) ATD_MUST_USE;

uint64_t atd_refusal_identity(const char *what, struct atd_str key);

/* Those of `base` and `fresh` whose records are not gone since; `gone` is sorted here. False when
 * out of memory. */
bool atd_refusals_merge(const struct atd_refusals *base, const struct atd_refusals *fresh,
                        struct atd_gone_key *gone, size_t gone_count,
                        struct atd_refusals *ret_merged, size_t *ret_dropped_bytes) ATD_MUST_USE;

#endif

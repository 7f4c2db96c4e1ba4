/*
 * Records on their way into a catalog: checked, packed, and noted with what is wrong with others.
 */
#ifndef ATD_CATALOG_INTAKE_H
#define ATD_CATALOG_INTAKE_H

#include "atdata/arena.h"
#include "atdata/buf.h"
#include "catalog/merge.h"
#include "catalog/problems.h"

struct atd_intake {
    struct atd_texts *texts;
    struct atd_arena
        scratch; /* texts of labels, many of which are an entry's; keys that are gone */
    struct atd_buf buf;
    struct atd_fresh entries; /* of struct atd_catalog_entry, and so on */
    struct atd_fresh labels;
    struct atd_fresh schemas;
    struct atd_refusals refusals;
    struct atd_gone_key *gone;
    size_t gone_count;
    size_t gone_cap;
    uint32_t turn;
    bool out_of_memory; /* a problem could not be kept */
};

extern const struct atd_row_kind atd_entry_rows;
extern const struct atd_row_kind atd_label_rows;
extern const struct atd_row_kind atd_schema_rows;

/* `texts` is borrowed. */
void atd_intake_init(struct atd_intake *intake, struct atd_texts *texts);
void atd_intake_release(struct atd_intake *intake);

/* What the provider reports goes to `intake`. */
struct atd_index_sink atd_intake_sink(struct atd_intake *intake);

/* All of a catalog, as if it were reported: it was checked before. Errors: ENOMEM. */
int atd_intake_copy(struct atd_intake *intake, const struct atd_catalog *catalog,
                    struct atd_error *err) ATD_MUST_USE;

/* A label's texts from the intake's scratch to the catalog's, or to the `entry` of its CID (may be
 * NULL) where that has the same. False when out of memory. */
bool atd_label_settle(struct atd_texts *texts, const struct atd_catalog_entry *entry,
                      struct atd_catalog_label *label) ATD_MUST_USE;

#endif

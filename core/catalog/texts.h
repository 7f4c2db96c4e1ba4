/*
 * The texts of a line of generations, each made of the one before: append only, shared by
 * reference, freed with the last. Threads: one at a time appends, and that is the one that loads;
 * anyone reads what a generation that it holds refers to.
 */
#ifndef ATD_CATALOG_TEXTS_H
#define ATD_CATALOG_TEXTS_H

#include "catalog/rows.h"

struct atd_texts;

/* NULL when out of memory. */
struct atd_texts *atd_texts_new(void) ATD_MUST_USE;
struct atd_texts *atd_texts_ref(struct atd_texts *texts);
void atd_texts_unref(struct atd_texts *texts);

/* All that was ever appended. */
size_t atd_texts_used_bytes(const struct atd_texts *texts);

/* A copy followed by one NUL; ret.ptr is NULL when out of memory. */
struct atd_str atd_texts_keep(struct atd_texts *texts, struct atd_str text) ATD_MUST_USE;

/* The one copy of a text that many rows share; NULL when out of memory. */
const struct atd_shared_text *atd_texts_share(struct atd_texts *texts,
                                              struct atd_str text) ATD_MUST_USE;

/* How many different ones there are. */
size_t atd_texts_shared_count(const struct atd_texts *texts);

#endif

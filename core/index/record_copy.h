/*
 * Copies of an index's records, for who keeps one past a callback.
 */
#ifndef ATD_INDEX_RECORD_COPY_H
#define ATD_INDEX_RECORD_COPY_H

#include "atdata/arena.h"
#include "index/index.h"

/* `arena` holds all that the copy views. Errors: ENOMEM (also past the arena's maximum). */
int atd_index_entry_copy(struct atd_arena *arena, const struct atd_index_entry *entry,
                         struct atd_index_entry *ret_entry, struct atd_error *err) ATD_MUST_USE;
int atd_index_label_copy(struct atd_arena *arena, const struct atd_index_label *label,
                         struct atd_index_label *ret_label, struct atd_error *err) ATD_MUST_USE;
int atd_index_schema_copy(struct atd_arena *arena, const struct atd_index_schema *schema,
                          struct atd_index_schema *ret_schema, struct atd_error *err) ATD_MUST_USE;

#endif

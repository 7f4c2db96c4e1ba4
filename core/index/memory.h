/*
 * The inside of the memory index, for its files only: immutable states, swapped whole.
 */
#ifndef ATD_INDEX_MEMORY_H
#define ATD_INDEX_MEMORY_H

#include <stdatomic.h>

#include "atdata/arena.h"
#include "base/lock.h"
#include "index/index.h"

#define ATD_MEMORY_INDEX_BYTES_MAX ((size_t)1 << 30)

struct atd_memory_state {
    atomic_uint refs;
    struct atd_arena arena; /* what a commit made; empty when a test set the records */
    const struct atd_index_entry *entries;
    size_t entry_count;
    const struct atd_index_label *labels;
    size_t label_count;
    const struct atd_index_schema *schemas;
    size_t schema_count;
};

/* NULL when out of memory. */
struct atd_memory_state *atd_memory_state_new(void) ATD_MUST_USE;
void atd_memory_state_unref(struct atd_memory_state *state);

/* The current one, with a reference for the caller. */
struct atd_memory_state *atd_memory_state_get(struct atd_index *index) ATD_MUST_USE;
/* Takes `after` when `before` is still the current one; false (taking nothing) when it is not. */
bool atd_memory_state_swap(struct atd_index *index, const struct atd_memory_state *before,
                           struct atd_memory_state *after) ATD_MUST_USE;

/* memory_changes.c: what became of `before`; also one in so many records that did not change. */
int atd_memory_report_changes(const struct atd_memory_state *before,
                              const struct atd_memory_state *after,
                              const struct atd_index_sink *sink,
                              struct atd_error *err) ATD_MUST_USE;

/* Asserts that the index is one. */
void atd_memory_index_check(const struct atd_index *index);

#endif

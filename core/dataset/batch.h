/*
 * Samples stacked into columns. Pure.
 */
#ifndef ATD_DATASET_BATCH_H
#define ATD_DATASET_BATCH_H

#include "atdata/loader.h"

/* The stacked arrays of one batch, all together. */
#define ATD_BATCH_BYTES_MAX ((uint64_t)4 << 30)

/* Whether a field's bytes are an array: by the schema, without one (NULL) by themselves. */
bool atd_field_is_array(const struct atd_schema *schema, const struct atd_sample_field *field);

struct atd_batch_memory;

/* Holds one batch at a time. NULL when out of memory. */
struct atd_batch_memory *atd_batch_memory_new(void) ATD_MUST_USE;
void atd_batch_memory_free(struct atd_batch_memory *memory);

/*
 * Stacks `count` samples, one at least, whose memory outlives the batch. The batch is valid until
 * the memory is used again or freed. Errors: as atd_loader_next_batch.
 */
int atd_batch_stack(struct atd_batch_memory *memory, const struct atd_loaded *const *samples,
                    size_t count, const struct atd_schema *schema,
                    const struct atd_batch **ret_batch, struct atd_error *err) ATD_MUST_USE;

#endif

/*
 * Inside of the fault store: what its writing (fault_upload.c) needs to know.
 */
#ifndef ATD_STORE_FAULT_STORE_H
#define ATD_STORE_FAULT_STORE_H

#include "store/stores.h"

/* Fixed once the store is used. */
struct atd_fault_writes {
    struct atd_store *inner;
    struct atd_write_fault_rule (*decide)(void *ctx, const struct atd_write_event *event);
    void *ctx;
};

const struct atd_fault_writes *atd_fault_writes_of(struct atd_store *store);

extern const struct atd_store_write_ops atd_fault_write_ops;

#endif

/*
 * Inside of the memory store: what its objects (memory_store.c) offer its uploads
 * (memory_upload.c).
 */
#ifndef ATD_STORE_MEMORY_STORE_H
#define ATD_STORE_MEMORY_STORE_H

#include "base/lock.h"
#include "store/upload.h"

/* Of what was uploaded; what a test puts there is nobody's. */
#define ATD_MEMORY_MAKER "000memorystore00"

struct atd_memory_pending;

/* Uploads that are neither finished nor taken back. */
struct atd_memory_uploads {
    struct atd_lock lock;
    /* guarded by lock */
    struct atd_memory_pending *first;
    uint64_t begun;
};

void atd_memory_uploads_init(struct atd_memory_uploads *uploads);
void atd_memory_uploads_release(struct atd_memory_uploads *uploads);

struct atd_memory_uploads *atd_memory_uploads_of(struct atd_store *store);

/* As atd_store_memory_put(), but never in place of an object. Errors: EEXIST. */
int atd_memory_put_new(struct atd_store *store, struct atd_str url, struct atd_bytes bytes,
                       struct atd_object_info *ret_info, struct atd_error *err) ATD_MUST_USE;
/* One that is gone is fine. */
void atd_memory_remove(struct atd_store *store, struct atd_str url);

extern const struct atd_store_write_ops atd_memory_write_ops;

#endif

/*
 * Constructors of the store implementations; what each can do stands in store.h.
 */
#ifndef ATD_STORE_STORES_H
#define ATD_STORE_STORES_H

#include "net/call.h"
#include "net/credentials.h"
#include "net/s3_request.h"
#include "store/file_store.h"
#include "store/places.h"
#include "store/upload.h"

struct atd_s3_options {
    const char *endpoint; /* NULL: AWS */
    const char *region;   /* NULL: found out per bucket (AWS); "us-east-1" elsewhere */
    enum atd_s3_style style;
    struct atd_credentials *credentials;      /* borrowed; NULL: unsigned requests */
    const struct atd_endpoint_limits *limits; /* NULL: the defaults */
};

/* s3://BUCKET/KEY. The engine and credentials must outlive it. Errors: EINVAL endpoint; ENOMEM. */
int atd_store_s3_new(struct atd_http_engine *engine, const struct atd_s3_options *options,
                     struct atd_store **ret_store, struct atd_error *err) ATD_MUST_USE;

/* The region that a bucket's server said it is in, when what was signed for another was refused;
 * false: nothing was said. Of a store made by atd_store_s3_new(). */
bool atd_store_s3_region(struct atd_store *store, struct atd_str bucket,
                         char ret_region[ATD_REGION_MAX + 1]);

/* http(s) URLs, read only, without credentials; follows redirects; never link-local addresses. */
int atd_store_http_new(struct atd_http_engine *engine, const struct atd_endpoint_limits *limits,
                       struct atd_store **ret_store, struct atd_error *err) ATD_MUST_USE;

/* Absolute paths and file: URLs below the roots of `files` (borrowed), by a thread of its own. */
int atd_store_file_new(const struct atd_file_store *files, struct atd_store **ret_store,
                       struct atd_error *err) ATD_MUST_USE;

/* ------------------------------------------------------------------ for tests */

/* Objects in memory, served by a thread of its own in steps of 64 KiB. */
int atd_store_memory_new(struct atd_store **ret_store, struct atd_error *err) ATD_MUST_USE;
/* Puts (a copy) or replaces; the ETag is made from the bytes and a counter. Any thread. */
int atd_store_memory_put(struct atd_store *store, struct atd_str url, struct atd_bytes bytes,
                         struct atd_error *err) ATD_MUST_USE;
/* Puts an object whose bytes a function makes (any thread, without a lock), so that a test can have
 * large ones. */
typedef void (*atd_memory_fill_fn)(void *ctx, uint64_t offset, uint8_t *into, size_t len);
int atd_store_memory_put_made(struct atd_store *store, struct atd_str url, uint64_t size_bytes,
                              atd_memory_fill_fn fill, void *ctx,
                              struct atd_error *err) ATD_MUST_USE;
/* Gets started since the beginning, and bytes they asked for. */
void atd_store_memory_counts(struct atd_store *store, uint64_t *ret_gets, uint64_t *ret_bytes);
/* Uploads that were begun and neither finished nor taken back. */
unsigned atd_store_memory_uploads(struct atd_store *store);

enum atd_fault {
    ATD_FAULT_NONE,
    ATD_FAULT_DELAY,       /* first byte after value ms */
    ATD_FAULT_STALL,       /* stalls at byte value of the range until cancelled or stall_timeout */
    ATD_FAULT_SHORT,       /* the body ends at byte value; EIO */
    ATD_FAULT_RESET,       /* connection lost at byte value; ECONNRESET */
    ATD_FAULT_UNAVAILABLE, /* 503 for good: EIO, retryable */
    ATD_FAULT_FORBIDDEN,   /* EACCES */
    ATD_FAULT_WRONG_RANGE, /* the store noticed a wrong Content-Range: EIO, no byte delivered */
    ATD_FAULT_CHANGED,     /* the ETag is another: ESTALE */
};

struct atd_fault_rule {
    enum atd_fault fault;
    uint64_t value;
};

/*
 * Another store with faults. `decide` is asked once a get, any thread, and says which. `inner` is
 * taken on success.
 */
int atd_store_fault_new(struct atd_store *inner,
                        struct atd_fault_rule (*decide)(void *ctx, const struct atd_store_get *get),
                        void *ctx, struct atd_store **ret_store,
                        struct atd_error *err) ATD_MUST_USE;

enum atd_write_step {
    ATD_WRITE_BEGIN,
    ATD_WRITE_PART,
    ATD_WRITE_FINISH,
    ATD_WRITE_ABORT,
    ATD_WRITE_DISCARD,
    ATD_WRITE_PUT,
    ATD_WRITE_ADOPT,
    ATD_WRITE_DELETE,
    ATD_WRITE_GUARDS,
};

enum atd_write_fault {
    ATD_WRITE_FAULT_NONE,
    ATD_WRITE_FAULT_DELAY,       /* value ms, unless cancelled; then as NONE */
    ATD_WRITE_FAULT_STALL,       /* until cancelled (ECANCELED) or the timeout (ETIMEDOUT) */
    ATD_WRITE_FAULT_FORBIDDEN,   /* EACCES */
    ATD_WRITE_FAULT_UNAVAILABLE, /* 503 for good: EIO, retryable */
    ATD_WRITE_FAULT_EXISTS,      /* somebody else was faster: EEXIST */
    ATD_WRITE_FAULT_DROPPED,     /* the store dropped the upload: EAGAIN, retryable */
    ATD_WRITE_FAULT_DAMAGED,     /* what is there is not what was sent, and is deleted: EIO */
    ATD_WRITE_FAULT_UNKNOWN,     /* EREMOTEIO; it was done when value is 1, not when 0 */
    ATD_WRITE_FAULT_UNGUARDED,   /* GUARDS: says that the store does not guard */
};

struct atd_write_fault_rule {
    enum atd_write_fault fault;
    uint64_t value;
};

/* One step of writing as `decide` sees it. */
struct atd_write_event {
    enum atd_write_step step;
    struct atd_str url;
    unsigned part_number; /* PART, else 0 */
};

/*
 * Faults of writes, which a fault store passes on without: `decide` is asked once a step, any
 * thread. Before the store is used.
 */
void atd_store_fault_writes(
    struct atd_store *store,
    struct atd_write_fault_rule (*decide)(void *ctx, const struct atd_write_event *event),
    void *ctx);

#endif

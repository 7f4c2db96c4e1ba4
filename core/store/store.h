/*
 * The object store interface: ranged reads, facts, listings, signed URLs. Implementations: s3,
 * http (read only), file, memory and fault (tests). Writing: store/upload.h.
 *
 * Objects are named by URL as it stands in data_urls (s3://bucket/key, https://host/path, a path).
 *
 * Reading is asynchronous, so that nobody's thread waits for a server; the others block and are
 * for worker threads.
 */
#ifndef ATD_STORE_STORE_H
#define ATD_STORE_STORE_H

#include "atdata/buf.h"
#include "atdata/error.h"
#include "atdata/str.h"
#include "net/object_info.h"

struct atd_store;

/* ------------------------------------------------------------------ ranged read */

/*
 * One ranged read. The caller's memory; everything above the line is fixed from start to done.
 * Callbacks come from a thread of the store's, one at a time, without a lock, never from within
 * atd_store_get_start(); they must not block.
 */
struct atd_store_get {
    struct atd_str url;
    uint64_t first;                       /* of the range */
    uint64_t end;                         /* exclusive, > first */
    const struct atd_object_info *expect; /* only this version will do; NULL: any */
    uint8_t *into;                        /* end - first bytes */
    bool urgent;                          /* somebody waits for it */
    unsigned stall_timeout_ms;            /* no byte for so long, retries and all: ETIMEDOUT */
    /* Bytes [first, first + received) are in `into`, checked: right object, right version, right
     * place. May be NULL. */
    void (*progress)(struct atd_store_get *get, size_t received);
    /*
     * The last call; `get` may be freed in it. `why` NULL: the whole range is there. Else: ESTALE
     * the object is another version (or shorter) now; ENOENT; EACCES; ETIMEDOUT; ECANCELED; EIO
     * and the like. What progress reported stays right.
     */
    void (*done)(struct atd_store_get *get, const struct atd_error *why);
    void *ctx;
    /* ---- */
    struct atd_object_info found; /* before the first progress or a done without error */
    void *impl;                   /* the store's */
};

/* Any thread; never blocks. */
void atd_store_get_start(struct atd_store *store, struct atd_store_get *get);

/*
 * Ends it early: done follows (ECANCELED, unless it was ending anyway). Only before done was
 * called: the caller's own lock decides that. Any thread, never blocks; done may not have been
 * called yet when it returns.
 */
void atd_store_get_cancel(struct atd_store *store, struct atd_store_get *get);

/* Somebody waits for it now. As _cancel. */
void atd_store_get_make_urgent(struct atd_store *store, struct atd_store_get *get);

/* ------------------------------------------------------------------ facts and listings */

/*
 * Size, ETag and time. Blocks: at most about `timeout_ms`. Where HEAD is refused, by a ranged GET
 * of one byte. Errors: ENOENT, EACCES, ETIMEDOUT, EIO, EINVAL not a URL of this store.
 */
int atd_store_stat(struct atd_store *store, struct atd_str url, unsigned timeout_ms,
                   struct atd_object_info *ret_info, struct atd_error *err) ATD_MUST_USE;

/* One object of a listing; `url` is valid during the call. Non-zero ends the listing early. */
typedef int (*atd_store_list_fn)(void *ctx, struct atd_str url, const struct atd_object_info *info);

/*
 * One page (at most 1000) of the objects whose URL begins with `prefix`, in byte order, after
 * `after` (exclusive; empty: from the start). *ret_more: there are more. Blocks: as stat.
 * Errors: ENOTSUP this store cannot list; EACCES; and those of stat.
 */
int atd_store_list(struct atd_store *store, struct atd_str prefix, struct atd_str after,
                   unsigned timeout_ms, atd_store_list_fn fn, void *ctx, bool *ret_more,
                   struct atd_error *err) ATD_MUST_USE;

/* A URL that anybody may GET for a while. Errors: ENOTSUP, EACCES, EAGAIN no credentials yet. */
int atd_store_presign(struct atd_store *store, struct atd_str url, unsigned expires_s,
                      struct atd_buf *ret_url, struct atd_error *err) ATD_MUST_USE;

/* Milliseconds to the first byte and bytes a second, as measured; 0 unknown. Never blocks. */
void atd_store_speed(struct atd_store *store, unsigned *ret_first_byte_ms,
                     uint64_t *ret_bytes_per_s);

/* NULL is fine. No read is under way any more. */
void atd_store_free(struct atd_store *store);

/* ------------------------------------------------------------------ for implementations */

struct atd_store_write_ops; /* store/upload.h */

struct atd_store_ops {
    const char *kind;                        /* "s3", "http", ... */
    const struct atd_store_write_ops *write; /* NULL: read only */
    void (*get_start)(struct atd_store *store, struct atd_store_get *get);
    void (*get_cancel)(struct atd_store *store, struct atd_store_get *get);
    void (*get_make_urgent)(struct atd_store *store, struct atd_store_get *get); /* may be NULL */
    int (*stat)(struct atd_store *store, struct atd_str url, unsigned timeout_ms,
                struct atd_object_info *ret_info, struct atd_error *err);
    int (*list)(struct atd_store *store, struct atd_str prefix, struct atd_str after,
                unsigned timeout_ms, atd_store_list_fn fn, void *ctx, bool *ret_more,
                struct atd_error *err); /* NULL: ENOTSUP */
    int (*presign)(struct atd_store *store, struct atd_str url, unsigned expires_s,
                   struct atd_buf *ret_url, struct atd_error *err); /* NULL: ENOTSUP */
    void (*speed)(struct atd_store *store, unsigned *ret_first_byte_ms,
                  uint64_t *ret_bytes_per_s); /* may be NULL */
    void (*free)(struct atd_store *store);
};

/* The first member of every implementation. */
struct atd_store {
    const struct atd_store_ops *ops;
};

#endif

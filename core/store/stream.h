/*
 * An object from its first byte to its last, in order: several ranged reads ahead of who reads, in
 * bounded memory. For whoever goes through shards whole, without the cache.
 *
 * Threads: one at a time.
 */
#ifndef ATD_STORE_STREAM_H
#define ATD_STORE_STREAM_H

#include "store/store.h"

/* What one stream takes at most is their product. */
#define ATD_STREAM_PART_BYTES ((size_t)2 << 20)
#define ATD_STREAM_PARTS 4u

struct atd_stream;

/*
 * `info`: the version, as atd_store_stat() tells it; another one is ESTALE. `url` is copied.
 * Nothing is asked for before the first atd_stream_next(). Errors: ENOMEM.
 */
int atd_stream_open(struct atd_store *store, struct atd_str url, const struct atd_object_info *info,
                    unsigned timeout_ms, struct atd_stream **ret_stream,
                    struct atd_error *err) ATD_MUST_USE;

/*
 * The next bytes, valid until the next call; of length 0 at the end. *ret_bytes is set on success
 * only. Blocks: on the store. Errors: those of a read (struct atd_store_get); ECANCELED after
 * atd_stream_cancel(). After one the stream may only be freed.
 */
int atd_stream_next(struct atd_stream *stream, struct atd_bytes *ret_bytes,
                    struct atd_error *err) ATD_MUST_USE;

/* Where the bytes that the next call returns begin. */
uint64_t atd_stream_offset(const struct atd_stream *stream);

/* Has a call of atd_stream_next() that waits, and every later one, end. Any thread. */
void atd_stream_cancel(struct atd_stream *stream);

/* Ends what is under way. Blocks for a moment: until the store has let go. NULL is fine. */
void atd_stream_free(struct atd_stream *stream);

#endif

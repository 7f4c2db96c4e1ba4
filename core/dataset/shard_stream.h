/*
 * One shard's bytes from its beginning to its end, whole parts read ahead.
 *
 * Of a remote shard `window_bytes` are asked for at once, in parts, and each part that was taken
 * makes room for another; all of one version. A local shard is read as it is taken.
 *
 * Threads: one at a time. Blocks: next, on the disk or until the part is there.
 */
#ifndef ATD_DATASET_SHARD_STREAM_H
#define ATD_DATASET_SHARD_STREAM_H

#include "catalog/locator.h"

/* Where a shard lies, and which version of it. */
struct atd_shard_source {
    struct atd_str url;
    struct atd_str path;               /* a local file; ptr NULL: remote */
    struct atd_store *store;           /* remote */
    struct atd_object_info info;       /* remote, when known */
    struct atd_file_identity identity; /* local, when known */
    bool is_known;
};

#define ATD_STREAM_PART_BYTES ((size_t)4 << 20)

struct atd_shard_stream;

struct atd_stream_options {
    const struct atd_file_store *files;
    uint64_t window_bytes; /* one part at least */
    unsigned timeout_ms;
};

/* `source` is borrowed. Blocks: on the disk, and on the store when the shard is not known. Errors:
 * ENOENT, EACCES, ESTALE another version; the store's; ENOMEM. */
int atd_shard_stream_open(const struct atd_shard_source *source,
                          const struct atd_stream_options *options,
                          struct atd_shard_stream **ret_stream, struct atd_error *err) ATD_MUST_USE;
/* Cancels what is under way, and waits until it has ended. NULL is fine. */
void atd_shard_stream_close(struct atd_shard_stream *stream);

/* The next bytes, valid until the next call; none: the end. Errors: ESTALE the shard changed; the
 * store's; those of read(2). */
int atd_shard_stream_next(struct atd_shard_stream *stream, struct atd_bytes *ret_bytes,
                          struct atd_error *err) ATD_MUST_USE;

/* True when nothing more will be asked of the store: the next shard may be begun. */
bool atd_shard_stream_is_asked(const struct atd_shard_stream *stream);
uint64_t atd_shard_stream_size(const struct atd_shard_stream *stream);

#endif

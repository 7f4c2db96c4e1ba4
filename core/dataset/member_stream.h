/*
 * The members of one shard in stored order, with their bytes. Compressed shards (gzip, bzip2, xz by
 * content) are unpacked on the way.
 *
 * Fed by a function that gives the shard's next bytes, so that it does no I/O of its own. Memory:
 * one part, and the member in hand. Threads: one at a time. Source: ATDATA-FORMATS 5.4.
 */
#ifndef ATD_DATASET_MEMBER_STREAM_H
#define ATD_DATASET_MEMBER_STREAM_H

#include "atdata/error.h"
#include "atdata/str.h"

struct atd_member_stream;

/* The shard's next bytes, valid until the next call; none: the end. */
typedef int (*atd_next_bytes_fn)(void *ctx, struct atd_bytes *ret_bytes, struct atd_error *err);

/* NULL when out of memory. */
struct atd_member_stream *atd_member_stream_new(atd_next_bytes_fn next, void *ctx) ATD_MUST_USE;
/* NULL is fine. */
void atd_member_stream_free(struct atd_member_stream *members);

/*
 * The next regular member; both views are valid until the next call. *ret_name.ptr NULL: there are
 * no more. Errors: EINVAL not a tar, or it ends inside a member; E2BIG a member over
 * ATD_LOADED_BYTES_MAX, or a file that unpacks to too much; what `next` returned; ENOMEM.
 */
int atd_member_stream_next(struct atd_member_stream *members, struct atd_str *ret_name,
                           struct atd_bytes *ret_bytes, struct atd_error *err) ATD_MUST_USE;

#endif

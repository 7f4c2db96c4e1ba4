/*
 * Unpacking what Python's streaming tarfile, and so webdataset, unpacks by itself.
 *
 * Why not libarchive: it is pulled, and would need a thread or a second reading of the file, and it
 * goes on behind the end of the first compressed stream, where tarfile stops. zlib, libbz2 and
 * liblzma (which libarchive itself uses) are pushed, and stop.
 *
 * Threads: one at a time. Blocks: never. Source: ATDATA-FORMATS 5.4; CPython's tarfile._Stream.
 */
#ifndef ATD_PUBLISH_INSPECT_UNPACK_H
#define ATD_PUBLISH_INSPECT_UNPACK_H

#include "atdata/error.h"
#include "atdata/str.h"

/* Of the first bytes of a file, so many say how it is packed. */
#define ATD_PACKING_HEAD_BYTES 10u
/* A file may unpack to so much whatever its size, before its ratio counts. */
#define ATD_UNPACK_FREE_BYTES ((uint64_t)1 << 30)
/* xz -9 takes 65 MiB. */
#define ATD_UNPACK_MEMORY_MAX ((uint64_t)128 << 20)

enum atd_packing { ATD_PACKING_NONE, ATD_PACKING_GZIP, ATD_PACKING_BZIP2, ATD_PACKING_XZ };

/* By content, whatever the name; fewer bytes than ATD_PACKING_HEAD_BYTES only when the file has no
 * more. */
enum atd_packing atd_packing_of(struct atd_bytes head);

/* Gets unpacked bytes; an error ends the unpacking and is returned by the feed. */
typedef int (*atd_unpacked_fn)(void *ctx, struct atd_bytes bytes, struct atd_error *err);

struct atd_unpacker;

/* `ratio_max`: unpacked bytes for each packed one. NULL when out of memory. */
struct atd_unpacker *atd_unpacker_new(enum atd_packing packing, unsigned ratio_max,
                                      atd_unpacked_fn fn, void *ctx) ATD_MUST_USE;
void atd_unpacker_free(struct atd_unpacker *unpacker);

/*
 * After an error the unpacker may only be freed. Errors: EINVAL damaged data, or a form that
 * tarfile cannot read (a gzip header with an extra field, as bgzip writes them); E2BIG over the
 * ratio, or over ATD_UNPACK_MEMORY_MAX; ENOMEM; what `fn` returned.
 */
int atd_unpacker_feed(struct atd_unpacker *unpacker, struct atd_bytes bytes,
                      struct atd_error *err) ATD_MUST_USE;

/*
 * After the last byte. Errors: EINVAL the stream is not complete, or other than zeros follow it: a
 * second stream is read by nobody.
 */
int atd_unpacker_finish(const struct atd_unpacker *unpacker, struct atd_error *err) ATD_MUST_USE;

#endif

/*
 * The pass over a shard's headers, when nobody has an index of it.
 *
 * Headers are read in ranges, and the data between them are skipped where that is faster: ranges
 * grow while members are small (then nearly everything is read, in large pieces), and shrink to
 * a few KiB while they are large (then nearly nothing).
 */
#ifndef ATD_DATASET_MEMBERS_WALK_H
#define ATD_DATASET_MEMBERS_WALK_H

#include "codec/member_index.h"

/* Reads more than this, or headers of anything, are no shard's. */
#define ATD_MEMBERS_READS_MAX (2u * ATD_MEMBER_INDEX_MEMBERS_MAX)
#define ATD_MEMBERS_HEADERS_MAX (4u * ATD_MEMBER_INDEX_MEMBERS_MAX)

struct atd_members_source {
    /* Blocks until bytes [first, end) are in `into`. */
    int (*read)(void *ctx, uint64_t first, uint64_t end, uint8_t *into, struct atd_error *err);
    void *ctx;
    uint64_t size_bytes;
    uint64_t jump_bytes; /* so much is read in the time that another read takes to begin */
};

/*
 * Blocks. Errors: ENOTSUP a compressed file; EINVAL not a whole tar; E2BIG; ENOMEM; the source's.
 * The list is the caller's on success.
 */
int atd_members_walk(const struct atd_members_source *source, struct atd_member_list *ret_list,
                     struct atd_error *err) ATD_MUST_USE;

#endif

/*
 * The bytes of one member of a shard: exactly these, in one request, all of one version.
 */
#ifndef ATD_DATASET_MEMBER_READ_H
#define ATD_DATASET_MEMBER_READ_H

#include "cache/reader.h"
#include "catalog/shards.h"
#include "dataset/members_fetch.h"
#include "store/file_store.h"

/* Where shards are read. Borrowed. */
struct atd_member_source {
    const struct atd_file_store *files;
    struct atd_reader *reader;           /* whose whole copies are read instead; NULL: none */
    struct atd_members_fetches *fetches; /* by which requests are ended */
    unsigned timeout_ms;                 /* a request that brings nothing for so long: ETIMEDOUT */
};

/*
 * Reads [offset, offset + size) of this version of the shard. A local shard is read in place, like
 * a remote one of which the cache directory has a whole, verified copy; else it is one ranged GET.
 *
 * Blocks: on the disk or the shard's store. Threads: any. Errors: ESTALE the shard is another
 * version now, or gone; EINVAL beyond its end; ECANCELED interrupted; ETIMEDOUT, EACCES, EIO
 * and the store's.
 */
int atd_member_read(const struct atd_member_source *source, const struct atd_shard *shard,
                    uint64_t offset, size_t size, uint8_t *into,
                    struct atd_error *err) ATD_MUST_USE;

/* The descriptor of a local shard that is this version still; the caller's. Errors: as above. */
int atd_member_open_local(const struct atd_member_source *source, const struct atd_shard *shard,
                          int *ret_fd, struct atd_error *err) ATD_MUST_USE;

#endif

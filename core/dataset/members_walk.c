#include "dataset/members_walk.h"

#include <errno.h>
#include <stdlib.h>

#include "atdata/tar_index.h"
#include "base/cleanup.h"
#include "publish/inspect_unpack.h"

#define RANGE_FIRST_BYTES ((uint64_t)64 << 10)
/* The headers of one member, pax records and all, and those of small ones behind it. */
#define RANGE_MIN_BYTES ((uint64_t)4 << 10)
#define RANGE_MAX_BYTES ((uint64_t)4 << 20)
/* Who reads data only to be faster stops here: it costs somebody's traffic. */
#define READ_THROUGH_MAX_BYTES ((uint64_t)1 << 30)

struct walk {
    struct atd_member_list list;
    struct atd_tar_walk *tar;
    uint64_t headers;
    uint64_t jumps; /* members in this range whose data a small range would have skipped */
};

static int on_member(void *ctx, const struct atd_tar_member *member, struct atd_error *err)
{
    struct walk *walk = ctx;

    if (++walk->headers > ATD_MEMBERS_HEADERS_MAX)
        return atd_error_set(err, E2BIG, "the tar has more than %u headers",
                             ATD_MEMBERS_HEADERS_MAX);
    walk->jumps += member->size_bytes > RANGE_MIN_BYTES;
    if (!member->is_file)
        return 0;
    return atd_member_list_add(&walk->list, member->name, member->data_offset, member->size_bytes,
                               err);
}

static int check_packing(struct atd_bytes head, struct atd_error *err)
{
    if (atd_packing_of(head) == ATD_PACKING_NONE)
        return 0;
    return atd_error_set(err, ENOTSUP,
                         "the shard is compressed as a whole, so that its members cannot be read "
                         "one by one: publish it as a plain .tar to see its samples");
}

/* The next range, by what the last one of `range` bytes brought the walker on. */
static uint64_t next_range(const struct walk *walk, const struct atd_members_source *source,
                           uint64_t range, uint64_t advance, uint64_t total)
{
    bool dense = walk->jumps == 0 ||
                 (advance / walk->jumps < source->jump_bytes && total < READ_THROUGH_MAX_BYTES);

    if (dense)
        return range < RANGE_MAX_BYTES ? 2 * range : range;
    return range > RANGE_MIN_BYTES ? range / 2 : range;
}

/* Reads [at, at + range), as far as there is something, and feeds it. */
static int step(struct walk *walk, const struct atd_members_source *source, uint64_t at,
                uint64_t range, struct atd_error *err)
{
    uint64_t left = source->size_bytes - at;
    size_t len = (size_t)(left < range ? left : range);
    atd_auto_free uint8_t *bytes = malloc(len);
    int rc = 0;

    if (!bytes)
        rc = atd_error_set(err, ENOMEM, "a shard's headers: out of memory");
    if (rc == 0)
        rc = source->read(source->ctx, at, at + len, bytes, err);
    if (rc == 0 && at == 0)
        rc = check_packing((struct atd_bytes){bytes, len}, err);
    walk->jumps = 0;
    return rc ? rc : atd_tar_walk_feed(walk->tar, at, (struct atd_bytes){bytes, len}, err);
}

static int walk_all(struct walk *walk, const struct atd_members_source *source,
                    struct atd_error *err)
{
    uint64_t range = source->size_bytes <= ATD_MEMBER_INDEX_SHARD_MIN ? ATD_MEMBER_INDEX_SHARD_MIN
                                                                      : RANGE_FIRST_BYTES;
    uint64_t total = 0;
    uint64_t at = 0;
    enum atd_tar_end end;
    int rc = 0;

    for (unsigned reads = 0; rc == 0 && at < source->size_bytes; reads++) {
        uint64_t next;

        if (reads == ATD_MEMBERS_READS_MAX)
            return atd_error_set(err, E2BIG, "the tar's headers take more than %u reads",
                                 ATD_MEMBERS_READS_MAX);
        rc = step(walk, source, at, range, err);
        total += range;
        next = atd_tar_walk_next_offset(walk->tar);
        range = next_range(walk, source, range, next - at, total);
        at = next;
    }
    if (rc)
        return rc;
    end = atd_tar_walk_end(walk->tar, source->size_bytes, err);
    return end == ATD_TAR_TRUNCATED || end == ATD_TAR_EMPTY ? -EINVAL : 0;
}

int atd_members_walk(const struct atd_members_source *source, struct atd_member_list *ret_list,
                     struct atd_error *err)
{
    struct walk walk = {0};
    struct atd_error why = ATD_ERROR_INIT;
    int rc;

    walk.tar = atd_tar_walk_new(on_member, &walk);
    rc = walk.tar ? walk_all(&walk, source, &why)
                  : atd_error_set(&why, ENOMEM, "a shard's headers: out of memory");
    atd_tar_walk_free(walk.tar);
    if (rc) {
        /* A tar without its end is told of too, and is fine. */
        if (err)
            *err = why;
        atd_member_list_release(&walk.list);
        return rc;
    }
    *ret_list = walk.list;
    return 0;
}

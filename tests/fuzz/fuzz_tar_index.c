/*
 * Any bytes as a tar, fed at once, byte by byte, and by jumping: the same members and the same end.
 */
#include <stdint.h>
#include <stdlib.h>

#include "atdata/dali_idx.h"
#include "atdata/tar_index.h"
#include "base/cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
    uint64_t sum; /* of everything that was said, order included */
    uint64_t next_header;
    struct atd_dali_idx *idx;
};

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void add(struct seen *seen, uint64_t value)
{
    seen->sum = (seen->sum ^ value) * 1099511628211u + 1;
}

static int see_member(void *ctx, const struct atd_tar_member *member, struct atd_error *err)
{
    struct seen *seen = ctx;
    char extension[16];
    struct atd_str key;

    require(member->name.len <= ATD_TAR_NAME_BYTES_MAX);
    require(!member->name.len || !memchr(member->name.ptr, 0, member->name.len));
    require(member->header_offset >= seen->next_header && member->header_offset % 512 == 0);
    require(member->data_offset >= member->header_offset + 512 && member->data_offset % 512 == 0);
    require(member->size_bytes <= INT64_MAX - member->data_offset);
    seen->next_header = member->data_offset + member->size_bytes;
    for (size_t i = 0; i < member->name.len; i++)
        add(seen, (uint8_t)member->name.ptr[i]);
    add(seen, (uint64_t)member->type);
    add(seen, member->header_offset);
    add(seen, member->data_offset);
    add(seen, member->size_bytes);
    add(seen, (uint64_t)member->mtime_s);
    if (atd_tar_split_name(member->name, &key, extension, sizeof(extension)))
        require(key.len > 0 && key.len < member->name.len && member->name.ptr[key.len] == '.');
    if (seen->idx && atd_dali_idx_add(seen->idx, member, err) != 0 && err)
        *err = (struct atd_error)ATD_ERROR_INIT; /* a name that the index cannot hold */
    return 0;
}

static int ignore_component(void *ctx, size_t sample, const struct atd_dali_component *component,
                            struct atd_error *err)
{
    (void)ctx;
    (void)sample;
    (void)component;
    (void)err;
    return 0;
}

/* Feeds in pieces of `piece` bytes; with `jump` only from where the walker wants more. */
static enum atd_tar_end walk(const uint8_t *data, size_t size, size_t piece, bool jump,
                             struct seen *seen, int *ret_rc)
{
    struct atd_tar_walk *walk = atd_tar_walk_new(see_member, seen);
    struct atd_error err = ATD_ERROR_INIT;
    enum atd_tar_end end;
    uint64_t at = 0;

    require(walk != NULL);
    *ret_rc = 0;
    while (at < size && *ret_rc == 0) {
        size_t len = size - at < piece ? (size_t)(size - at) : piece;

        *ret_rc = atd_tar_walk_feed(walk, at, (struct atd_bytes){data + at, len}, &err);
        require((*ret_rc == 0) == (err.code == 0));
        at = jump ? atd_tar_walk_next_offset(walk) : at + len;
    }
    end = atd_tar_walk_end(walk, size, &err);
    require((end == ATD_TAR_COMPLETE) == (err.code == 0));
    atd_tar_walk_free(walk);
    return end;
}

static void walk_all_ways(const uint8_t *data, size_t size)
{
    struct seen whole = {.idx = atd_dali_idx_new(1u << 20)};
    struct seen bytes = {0};
    struct seen jumps = {0};
    atd_auto_buf struct atd_buf idx = ATD_BUF_INIT(2u << 20);
    int whole_rc, rc;
    enum atd_tar_end end;

    require(whole.idx != NULL);
    end = walk(data, size, size ? size : 1, false, &whole, &whole_rc);
    require(end == walk(data, size, 1, false, &bytes, &rc) && rc == whole_rc);
    require(bytes.sum == whole.sum);
    require(end == walk(data, size, 512, true, &jumps, &rc) && rc == whole_rc);
    require(jumps.sum == whole.sum);
    if (atd_dali_idx_write(whole.idx, &idx, NULL) == 0)
        require(atd_dali_idx_read(atd_buf_str(&idx), ignore_component, NULL, NULL) == 0);
    atd_dali_idx_free(whole.idx);
}

/* Makes the checksum right in every block that looks like a header. */
static void mend_checksums(uint8_t *data, size_t size)
{
    for (size_t at = 0; size - at >= 512; at += 512) {
        uint8_t *block = data + at;
        unsigned sum = 0;

        if (memcmp(block + 257, "ustar", 5) != 0)
            continue;
        memset(block + 148, ' ', 8);
        for (size_t i = 0; i < 512; i++)
            sum += block[i];
        for (size_t i = 6; i-- > 0; sum >>= 3)
            block[148 + i] = (uint8_t)('0' + (sum & 7));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);

    require(copy != NULL);
    walk_all_ways(data, size);
    if (size)
        memcpy(copy, data, size);
    mend_checksums(copy, size);
    walk_all_ways(copy, size);
    free(copy);
    return 0;
}

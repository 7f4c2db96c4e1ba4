#include "store/upload_parts.h"

#include <errno.h>
#include <stdlib.h>

#define PARTS_FIRST 16u

void atd_upload_parts_init(struct atd_upload_parts *parts)
{
    *parts = (struct atd_upload_parts){0};
    atd_lock_init(&parts->lock, ATD_RANK_UPLOAD);
}

void atd_upload_parts_release(struct atd_upload_parts *parts)
{
    atd_lock_destroy(&parts->lock);
    free(parts->parts);
}

static int grow_locked(struct atd_upload_parts *parts, size_t count, struct atd_error *err)
{
    size_t cap = parts->cap ? parts->cap : PARTS_FIRST;
    struct atd_upload_part *more;

    if (count <= parts->cap)
        return 0;
    while (cap < count)
        cap *= 2;
    more = realloc(parts->parts, cap * sizeof(*more));
    if (!more)
        return atd_error_set(err, ENOMEM, "an upload of %zu parts: out of memory", count);
    memset(more + parts->cap, 0, (cap - parts->cap) * sizeof(*more));
    parts->parts = more;
    parts->cap = cap;
    return 0;
}

int atd_upload_parts_note(struct atd_upload_parts *parts, unsigned number,
                          const struct atd_upload_part *part, struct atd_error *err)
{
    int rc;

    atd_lock_take(&parts->lock);
    rc = grow_locked(parts, number, err);
    if (rc == 0)
        parts->parts[number - 1] = *part;
    atd_lock_give(&parts->lock);
    return rc;
}

static int check_locked(const struct atd_upload_parts *parts, unsigned part_count,
                        uint64_t part_bytes, uint64_t *ret_size_bytes, struct atd_error *err)
{
    uint64_t size_bytes = 0;

    for (unsigned i = 0; i < part_count; i++) {
        size_t len = i < parts->cap ? parts->parts[i].len : 0;

        if (len == 0)
            return atd_error_set(err, EINVAL, "part %u of %u was not sent", i + 1, part_count);
        if (i + 1 < part_count && len != part_bytes)
            return atd_error_set(err, EINVAL, "part %u of %u has %zu bytes instead of %llu", i + 1,
                                 part_count, len, (unsigned long long)part_bytes);
        size_bytes += len;
    }
    *ret_size_bytes = size_bytes;
    return 0;
}

int atd_upload_parts_check(struct atd_upload_parts *parts, unsigned part_count, uint64_t part_bytes,
                           uint64_t *ret_size_bytes, struct atd_error *err)
{
    int rc;

    atd_lock_take(&parts->lock);
    rc = check_locked(parts, part_count, part_bytes, ret_size_bytes, err);
    atd_lock_give(&parts->lock);
    return rc;
}

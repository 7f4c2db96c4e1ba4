/*
 * What is known of the parts of an upload: which came, and how long. Grows as they come.
 *
 * Threads: any.
 */
#ifndef ATD_STORE_UPLOAD_PARTS_H
#define ATD_STORE_UPLOAD_PARTS_H

#include "base/lock.h"
#include "net/s3_request.h"
#include "store/upload.h"

struct atd_upload_part {
    size_t len; /* 0: did not come */
    uint32_t crc32c;
    char etag[ATD_ETAG_MAX + 1]; /* "" where stores have none */
};

struct atd_upload_parts {
    struct atd_lock lock;
    /* guarded by lock */
    struct atd_upload_part *parts; /* part 1 is the first */
    size_t cap;
};

void atd_upload_parts_init(struct atd_upload_parts *parts);
void atd_upload_parts_release(struct atd_upload_parts *parts);

/* Notes a part, in place of an earlier one of its number. Errors: ENOMEM. */
int atd_upload_parts_note(struct atd_upload_parts *parts, unsigned number,
                          const struct atd_upload_part *part, struct atd_error *err) ATD_MUST_USE;

/*
 * Checks that parts 1 to `part_count` came, all but the last of part_bytes. The caller may read
 * parts->parts afterwards: none is under way. Errors: EINVAL.
 */
int atd_upload_parts_check(struct atd_upload_parts *parts, unsigned part_count, uint64_t part_bytes,
                           uint64_t *ret_size_bytes, struct atd_error *err) ATD_MUST_USE;

#endif

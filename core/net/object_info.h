/*
 * What is known of an object without its bytes.
 */
#ifndef ATD_NET_OBJECT_INFO_H
#define ATD_NET_OBJECT_INFO_H

#include "atdata/str.h"

#define ATD_ETAG_MAX 255
#define ATD_MAKER_LEN 16

struct atd_object_info {
    uint64_t size_bytes;
    char etag[ATD_ETAG_MAX + 1]; /* without quotes; a weak one keeps its "W/"; "" unknown */
    int64_t mtime_s;             /* Last-Modified; 0 unknown */
    /* Who made it, as it was labelled (atd_store_maker()); "" unlabelled or not told, as in lists.
     * No part of its identity. */
    char maker[ATD_MAKER_LEN + 1];
};

/* The same version of the same object: sizes and ETags equal, or (no ETags) sizes and times. */
static inline bool atd_object_info_same(const struct atd_object_info *a,
                                        const struct atd_object_info *b)
{
    if (a->size_bytes != b->size_bytes)
        return false;
    if (a->etag[0] && b->etag[0])
        return strcmp(a->etag, b->etag) == 0;
    return !a->mtime_s || !b->mtime_s || a->mtime_s == b->mtime_s;
}

#endif

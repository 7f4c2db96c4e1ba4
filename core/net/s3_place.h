/*
 * Where a bucket is at a service: which host, and what the path begins with. Private to net.
 * Source: S3-REDIS 1.5.
 */
#ifndef ATD_NET_S3_PLACE_H
#define ATD_NET_S3_PLACE_H

#include "net/s3_request.h"

/* "BUCKET.s3.REGION.amazonaws.com.cn": a bucket of 63, a region of 63, or an endpoint's host. */
#define ATD_S3_HOST_MAX 384
#define ATD_S3_REGION_MAX 63
#define ATD_S3_REGION_DEFAULT "us-east-1"

struct atd_s3_place {
    char host[ATD_S3_HOST_MAX]; /* the Host header that the URL makes */
    bool bucket_in_path;
};

/*
 * `region` must be checked by atd_s3_region_check: it becomes a part of the host. Errors: EINVAL a
 * bucket that has no place (empty, over 1024 bytes, with NUL or '/', "." or "..", S3 Express).
 */
int atd_s3_place_find(const struct atd_s3_site *site, struct atd_str bucket, struct atd_str region,
                      struct atd_s3_place *ret_place, struct atd_error *err) ATD_MUST_USE;

/*
 * Regions also come from replies. Letters, digits and '-'; at custom endpoints '_' and '.' too.
 * Errors: EINVAL.
 */
int atd_s3_region_check(const struct atd_s3_site *site, struct atd_str region,
                        struct atd_error *err) ATD_MUST_USE;

#endif

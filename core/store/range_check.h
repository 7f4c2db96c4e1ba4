/*
 * Whether a reply holds the bytes that were asked for: right object, right version, right place.
 * Pure; what every store over HTTP asks before it takes a byte.
 *
 * Threads: any.
 */
#ifndef ATD_STORE_RANGE_CHECK_H
#define ATD_STORE_RANGE_CHECK_H

#include "net/http.h"
#include "net/object_info.h"

enum atd_range_outcome {
    ATD_RANGE_RIGHT,   /* the body is exactly the range */
    ATD_RANGE_CHANGED, /* the object is another version */
    ATD_RANGE_SHORT,   /* the object ends before the range does */
    ATD_RANGE_WRONG,   /* another range, or a length that does not fit, or no sense at all */
    ATD_RANGE_IGNORED, /* the whole object (200) where a part was asked for */
};

/*
 * Judges the head of a 2xx or 416 to "Range: bytes=FIRST-(END-1)". `expect` NULL: any version.
 * *ret_info is what the head says of the object, as far as it says it, whatever the outcome.
 */
enum atd_range_outcome atd_range_check(const struct atd_http_head *head, uint64_t first,
                                       uint64_t end, const struct atd_object_info *expect,
                                       struct atd_object_info *ret_info);

/*
 * The same bytes: as atd_object_info_same(), but a weak ETag ("W/") proves nothing alone. Proxies
 * weaken a server's ETag in one reply and not in the next, so 'W/"a"' and '"a"' may be the same
 * and then the times decide.
 */
bool atd_same_version(const struct atd_object_info *a, const struct atd_object_info *b);

/*
 * The value of If-Match, with quotes, or "" when the ETag is unknown, weak (never matches, RFC
 * 9110, 13.1.1) or holds what cannot be sent in a header.
 */
void atd_if_match_text(const struct atd_object_info *info, char ret_text[ATD_ETAG_MAX + 3]);

#endif

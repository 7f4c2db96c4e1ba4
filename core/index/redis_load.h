/*
 * Reads all records of a Redis index over a link: SCAN, and HGETALL or GET of every key of ours.
 *
 * The commands of the next page go out before the replies of the last one are in, in a window of
 * bounded size: a server is kept busy whatever the round trip takes, and neither side ever waits
 * for the other to read. Source: ATDATA-FORMATS 1.2 to 1.6; S3-REDIS 7.
 */
#ifndef ATD_INDEX_REDIS_LOAD_H
#define ATD_INDEX_REDIS_LOAD_H

#include "index/index.h"
#include "index/redis_link.h"

/* Keys of ours, and pages: what is more is a server that never ends (SCAN gives >= 1000 a page). */
#define ATD_REDIS_KEYS_MAX (50u << 20)
#define ATD_REDIS_PAGES_MAX (1u << 18)
#define ATD_REDIS_LOAD_MS 600000

struct atd_redis_load_result {
    uint64_t keys;   /* of ours */
    uint64_t digest; /* equal for equal contents, in whatever order: to tell news from noise */
};

/*
 * Not one moment's state: SCAN reports each key that is there all the time, some twice, and those
 * that come and go perhaps. A key that went between SCAN and its reading is left out silently. A
 * publish that comes in between hides no dataset and shows no older state of one: what a label
 * leads to is read although SCAN did not know it, and the label again (redis_missed.h).
 * `round_trip_us` of the link; 0: unknown. Blocks: up to ATD_REDIS_LOAD_MS.
 * Errors: the link's, the error replies', the sink's.
 */
int atd_redis_load(struct atd_redis_link *link, unsigned round_trip_us,
                   const struct atd_index_sink *sink, struct atd_redis_load_result *ret_result,
                   struct atd_error *err) ATD_MUST_USE;

#endif

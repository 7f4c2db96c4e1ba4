/*
 * What is said on a link before and between loads: logging in, and asking whether anything changed.
 * Source: S3-REDIS 6.3, 6.4, 6.6.
 */
#ifndef ATD_INDEX_REDIS_SESSION_H
#define ATD_INDEX_REDIS_SESSION_H

#include "index/redis_link.h"

/* Each answer here is a line or two; a server that takes longer is not well. */
#define ATD_REDIS_ANSWER_MS 10000

/*
 * Logs in as the URL says and chooses its database. *ret_round_trip_us is what one took.
 * Errors: the link's; EACCES; others of redis_error.h.
 */
int atd_redis_login(struct atd_redis_link *link, const struct atd_redis_url *url,
                    unsigned *ret_round_trip_us, struct atd_error *err) ATD_MUST_USE;

/* The same until `deadline_ms` (atd_clock_monotonic_ms). */
int atd_redis_login_until(struct atd_redis_link *link, const struct atd_redis_url *url,
                          int64_t deadline_ms, unsigned *ret_round_trip_us,
                          struct atd_error *err) ATD_MUST_USE;

/*
 * Whether the server is a master, by ROLE, or by HELLO for who may not ask that; a server that
 * tells neither counts as one. Waits until the link's deadline.
 */
int atd_redis_role_get(struct atd_redis_link *link, bool *ret_is_master,
                       struct atd_error *err) ATD_MUST_USE;

/*
 * Where a server's counters stand. They count the changes of every database and client, and those
 * of a replica too. They begin anew with each start and each save, so they are compared within one
 * connection only, together with the time of the last save.
 */
struct atd_redis_mark {
    bool known; /* false: the user may not ask (INFO), or the server does not tell */
    uint64_t changes;
    uint64_t last_save;
    bool counts_saves; /* from 7.0 on */
    uint64_t saves;
    uint64_t keys; /* of the URL's database: expired and evicted ones are no changes */
};

int atd_redis_mark_get(struct atd_redis_link *link, unsigned db, struct atd_redis_mark *ret_mark,
                       struct atd_error *err) ATD_MUST_USE;

bool atd_redis_mark_equal(const struct atd_redis_mark *a, const struct atd_redis_mark *b);

/*
 * How often, in all, databases were emptied or swapped: what no key tells (SWAPDB), or no
 * notification (FLUSHALL too). Any other number than before means that anything may have changed;
 * it falls when somebody sets it back. *ret_known false: the user may not ask.
 */
int atd_redis_upheavals_get(struct atd_redis_link *link, bool *ret_known, uint64_t *ret_count,
                            struct atd_error *err) ATD_MUST_USE;

#endif

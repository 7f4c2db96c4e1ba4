/*
 * Being told of changes: a link of its own, on which the server reports every key of ours that is
 * touched, by whomever.
 *
 * Three ways, the first that the server and the user's rights allow:
 *
 *   RESP2     CLIENT TRACKING in broadcast mode, redirected to the connection itself. So there is
 * one connection less than in the documented form, and it cannot go deaf unnoticed: as long as it
 * is up it is told. RESP3     the same as pushes, for servers that know no redirection. KEYSPACE
 * notifications, where somebody has switched them on already. They do not tell of FLUSHALL and
 * FLUSHDB: whoever listens must look after those himself.
 *
 * What is reported is a set of keys and no contents. They are taken out of the set before they are
 * read, so that a key that changes while it is read is in it again afterwards: its message can only
 * come later. Nothing else stands between the two connections.
 *
 * A server without a word is asked for one (PING); the answer comes behind whatever was committed
 * before, which makes it a barrier too. Source: S3-REDIS 5.
 *
 * Threads: one at a time.
 */
#ifndef ATD_INDEX_REDIS_TRACK_H
#define ATD_INDEX_REDIS_TRACK_H

#include "index/index.h"
#include "index/redis_dirty.h"
#include "index/redis_link.h"

/* The only traffic of an index that nobody changes. */
#define ATD_REDIS_HEARTBEAT_MS 3000
/* So long after it was asked a server that says nothing is dead. */
#define ATD_REDIS_DEAD_MS 5000

enum atd_redis_way {
    ATD_REDIS_WAY_RESP2 = 1,
    ATD_REDIS_WAY_RESP3 = 2,
    ATD_REDIS_WAY_KEYSPACE = 4,
};
#define ATD_REDIS_WAYS_ALL (ATD_REDIS_WAY_RESP2 | ATD_REDIS_WAY_RESP3 | ATD_REDIS_WAY_KEYSPACE)

struct atd_redis_track;

/*
 * Connects, logs in and subscribes, by the first of `ways` that works. From then on nothing is
 * missed. Blocks: as atd_redis_link_open and atd_redis_login, for each way.
 * Errors: theirs; ENOTSUP when the server or the user's rights allow none.
 */
int atd_redis_track_open(struct atd_redis_url *url, const char *ca_file, unsigned ways,
                         struct atd_redis_track **ret_track, struct atd_error *err) ATD_MUST_USE;

/* A track over a link that is logged in: for tests. `link` is taken on success. */
int atd_redis_track_over(struct atd_redis_link *link, enum atd_redis_way way, unsigned db,
                         struct atd_redis_track **ret_track, struct atd_error *err) ATD_MUST_USE;

enum atd_redis_way atd_redis_track_way(const struct atd_redis_track *track);

/* As atd_redis_link_has_moved and atd_redis_link_is_beside, of its link. */
bool atd_redis_track_has_moved(struct atd_redis_track *track, struct atd_redis_url *url,
                               const char *ca_file, unsigned every_ms);
bool atd_redis_track_is_beside(const struct atd_redis_track *track,
                               const struct atd_redis_link *link);

/*
 * Takes in what comes: returns when something did (perhaps no news), or at `until_ms`
 * (atd_clock_monotonic_ms), or with -EINTR, without a sentence, when `wake_fd` can be read.
 * Blocks: as it says.
 * Errors: whatever it is, something may have been missed: free it.
 */
int atd_redis_track_listen(struct atd_redis_track *track, int wake_fd, int64_t until_ms,
                           struct atd_error *err) ATD_MUST_USE;

/* Takes in all that was committed before this call. One round trip. Blocks: ATD_REDIS_DEAD_MS at
 * most. Errors: as listen. */
int atd_redis_track_barrier(struct atd_redis_track *track, struct atd_error *err) ATD_MUST_USE;

enum atd_index_news atd_redis_track_news(const struct atd_redis_track *track);

/* The keys that may have changed; the caller clears it when it takes them. */
struct atd_redis_dirty *atd_redis_track_dirty(struct atd_redis_track *track);

/* Nothing is known of any key any more, or everything is about to be read. */
void atd_redis_track_doubt_all(struct atd_redis_track *track);
void atd_redis_track_clear(struct atd_redis_track *track);

/* NULL is fine. */
void atd_redis_track_free(struct atd_redis_track *track);

#endif

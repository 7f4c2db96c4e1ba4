/*
 * The Redis provider: one connection that is read from, made when it is needed and kept, and
 * another one on which the server tells of changes (redis_track.h).
 *
 * Where it does not, changes are noticed by the server's counters, taken before each load, and the
 * index is loaded again; where those are not to be had either, it is from time to time. A track
 * that broke may have hidden anything, so whoever makes a new one loads again: first the track,
 * then the load, and what is told meanwhile is read afterwards. A server that is away is tried
 * again with growing pauses.
 *
 *   DOWN --load: connect, log in, track--> TOLD   --listening or the barrier fails--> DOWN
 *   DOWN --load: the same, no track------> POLLED --the connection breaks--> DOWN
 *   POLLED --load, when it is due: a track after all--> TOLD
 *
 * While DOWN, wait() says that all may have changed whenever an attempt is due, so that the load
 * which follows either brings the index back or tells why it cannot: the view's status then says
 * so.
 */
#include "index/redis.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/log.h"
#include "index/redis_changes.h"
#include "index/redis_load.h"
#include "index/redis_session.h"
#include "index/redis_track.h"

/* Between attempts at a server that cannot be reached: what it has shall show within a second of
 * its return, with the view's own pauses and the load on top. */
#define RETRY_FIRST_MS 100
#define RETRY_AWAY_MAX_MS 400
/* At one that does not let us in, or is none: somebody has to change something first. Less than
 * the view waits before it takes an index without news for well. */
#define RETRY_REFUSED_MAX_MS 5000
/*
 * No change is reported sooner than this many times what the last load took. The larger one holds
 * when loads bring nothing new: other users' writes move the counters of a shared server too.
 */
#define REST_FACTOR 3
#define REST_FACTOR_MAX 20
/* Without counters: a load at most so often, and never more than 1/20 of the time. */
#define BLIND_PAUSE_MS 5000
#define BLIND_FACTOR 20
/* How long after a save another one may bear the same time: look once more then. */
#define SAVE_CLOCK_MS 2000
/* Between attempts to be told of changes after all: when a connection failed; when all is refused.
 */
#define TRACK_RETRY_MS 10000
#define TRACK_REFUSED_MS 300000
/* What no track tells of (SWAPDB) is looked for so often; where that is not allowed, the index is
 * loaded again so often. */
#define AUDIT_MS 300000
#define AUDIT_BLIND_MS 3600000
/* Notifications do not tell of FLUSHALL. */
#define AUDIT_KEYSPACE_MS 3000
/* How often sentinels are asked whether the master is still the same. */
#define MOVED_EVERY_MS 5000

struct redis_index {
    struct atd_index base;
    struct atd_redis_url url;
    char *ca_file;
    struct atd_redis_link *link; /* NULL: made when it is needed */
    unsigned round_trip_us;
    struct atd_redis_track *track; /* NULL: POLLED, or DOWN */
    unsigned ways;                 /* of being told that are tried */
    int64_t track_retry_at_ms;     /* while there is none */
    _Atomic(const char *) coherence;

    /* of the last load; valid when loaded */
    bool loaded; /* false: DOWN */
    bool upheavals_known;
    uint64_t upheavals;
    int64_t audit_at_ms;
    struct atd_redis_mark mark;
    struct atd_redis_load_result result;
    int64_t loaded_at_ms;
    int64_t load_took_ms;
    unsigned rest_factor;
    bool recheck_save; /* once, at recheck_at_ms */
    int64_t recheck_at_ms;

    /* while DOWN */
    unsigned retry_ms;
    int64_t retry_at_ms;
};

static void drop_track(struct redis_index *index)
{
    atd_redis_track_free(index->track);
    index->track = NULL;
    atomic_store(&index->coherence, "polling");
}

static void drop_link(struct redis_index *index)
{
    atd_redis_link_free(index->link);
    index->link = NULL;
}

static void go_down(struct redis_index *index)
{
    drop_track(index);
    drop_link(index);
    index->loaded = false;
}

/* So that a hundred clients of a server that comes back do not all come at once. */
static unsigned with_jitter(unsigned pause_ms)
{
    unsigned char random;

    if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
        random = 128;
    return pause_ms * 3 / 4 + pause_ms * random / 1024;
}

static void note_failure(struct redis_index *index, int rc)
{
    bool away = rc != -EACCES && rc != -EPROTO && rc != -EINVAL && rc != -ENOTSUP && rc != -ENXIO;
    unsigned max_ms = away ? RETRY_AWAY_MAX_MS : RETRY_REFUSED_MAX_MS;

    index->retry_ms = index->retry_ms ? 2 * index->retry_ms : RETRY_FIRST_MS;
    if (index->retry_ms > max_ms)
        index->retry_ms = max_ms;
    index->retry_at_ms = atd_clock_monotonic_ms() + with_jitter(index->retry_ms);
}

/* A connection that the server closed hid nothing from a track. The next one may lead to another
 * server, when sentinels name a new master: then the track tells of what nobody reads. */
static int need_link(struct redis_index *index, struct atd_error *err)
{
    struct atd_redis_link *link = NULL;
    int rc;

    if (index->link && atd_redis_link_is_dead(index->link))
        drop_link(index);
    if (index->link)
        return 0;
    rc = atd_redis_link_open(&index->url, index->ca_file, &link, err);
    if (rc == 0)
        rc = atd_redis_login(link, &index->url, &index->round_trip_us, err);
    if (rc) {
        atd_redis_link_free(link);
        return rc;
    }
    index->link = link;
    if (index->track && !atd_redis_track_is_beside(index->track, link))
        drop_track(index);
    return 0;
}

static const char *name_of(enum atd_redis_way way)
{
    switch (way) {
    case ATD_REDIS_WAY_RESP2:
        return "tracking (RESP2)";
    case ATD_REDIS_WAY_RESP3:
        return "tracking (RESP3)";
    case ATD_REDIS_WAY_KEYSPACE:
    default:
        return "keyspace notifications";
    }
}

/* Has the index told of changes, if that can be had; polling is never a failure. */
static int try_to_track(struct redis_index *index, struct atd_error *err)
{
    struct atd_error why = ATD_ERROR_INIT;
    int rc;

    if (index->track || !index->ways)
        return 0;
    rc = atd_redis_track_open(&index->url, index->ca_file, index->ways, &index->track, &why);
    if (rc) {
        atd_log(ATD_LOG_DEBUG, "index '%s' is polled: %s", index->base.location, why.text);
        index->track_retry_at_ms =
            atd_clock_monotonic_ms() + (rc == -ENOTSUP ? TRACK_REFUSED_MS : TRACK_RETRY_MS);
        return 0;
    }
    atomic_store(&index->coherence, name_of(atd_redis_track_way(index->track)));
    if (atd_redis_track_is_beside(index->track, index->link))
        return 0;
    return atd_error_set_retryable(err, EAGAIN,
                                   "the sentinels name another master: a failover is under way");
}

/* ------------------------------------------------------------------ loading */

/* Where saves are not counted, two in one second, with a change between, look like one. */
static void note_save(struct redis_index *index, const struct atd_redis_mark *mark, bool first)
{
    if (mark->counts_saves || (!first && mark->last_save == index->mark.last_save))
        return;
    index->recheck_save = true;
    index->recheck_at_ms = atd_clock_monotonic_ms() + SAVE_CLOCK_MS;
}

static void note_load(struct redis_index *index, const struct atd_redis_mark *mark,
                      const struct atd_redis_load_result *result, int64_t start_ms, bool first)
{
    bool news = first || result->digest != index->result.digest;

    note_save(index, mark, first);
    index->loaded_at_ms = atd_clock_monotonic_ms();
    index->load_took_ms = index->loaded_at_ms - start_ms;
    index->rest_factor = news ? REST_FACTOR : 2 * index->rest_factor;
    if (index->rest_factor > REST_FACTOR_MAX)
        index->rest_factor = REST_FACTOR_MAX;
    index->mark = *mark;
    index->result = *result;
    index->loaded = true;
    index->retry_ms = 0;
}

/* Before a load: what changes during it makes for another one. */
static int take_marks(struct redis_index *index, struct atd_redis_mark *ret_mark,
                      struct atd_error *err)
{
    bool is_keyspace = index->track && atd_redis_track_way(index->track) == ATD_REDIS_WAY_KEYSPACE;
    int rc = atd_redis_mark_get(index->link, index->url.db, ret_mark, err);

    if (rc == 0 && index->track)
        rc = atd_redis_upheavals_get(index->link, &index->upheavals_known, &index->upheavals, err);
    if (rc)
        return rc;
    index->audit_at_ms = atd_clock_monotonic_ms() + (is_keyspace ? AUDIT_KEYSPACE_MS : AUDIT_MS);
    /* Nobody would tell of FLUSHALL. */
    if (is_keyspace && !index->upheavals_known) {
        drop_track(index);
        index->track_retry_at_ms = atd_clock_monotonic_ms() + TRACK_REFUSED_MS;
    }
    return 0;
}

static int redis_load(struct atd_index *base, const struct atd_index_sink *sink,
                      struct atd_error *err)
{
    struct redis_index *index = (struct redis_index *)base;
    int64_t start_ms = atd_clock_monotonic_ms();
    struct atd_redis_mark mark = {0};
    struct atd_redis_load_result result = {0};
    bool first = !index->loaded;
    bool was_told = index->track;
    int rc = need_link(index, err);

    index->loaded = false;
    /* What it was told till now, the load sees by itself. */
    if (rc == 0 && index->track && atd_redis_track_barrier(index->track, NULL) != 0)
        drop_track(index);
    first = first || (was_told && !index->track);
    if (rc == 0 && (first || start_ms >= index->track_retry_at_ms))
        rc = try_to_track(index, err);
    if (index->track)
        atd_redis_track_clear(index->track);
    if (rc == 0)
        rc = take_marks(index, &mark, err);
    if (rc == 0)
        rc = atd_redis_load(index->link, index->round_trip_us, sink, &result, err);
    if (rc) {
        /* Replies of the load may still be under way. */
        go_down(index);
        note_failure(index, rc);
        return rc;
    }
    note_load(index, &mark, &result, start_ms, first);
    return 0;
}

static int redis_changes(struct atd_index *base, const struct atd_index_sink *sink,
                         struct atd_error *err)
{
    struct redis_index *index = (struct redis_index *)base;
    int rc = need_link(index, err);

    if (rc == 0 && !index->track)
        rc = atd_error_set(err, ESTALE, "the server does not tell of changes any more");
    if (rc == 0)
        rc = atd_redis_changes(index->link, index->track, sink, err);
    /* What was noted of keys is used up. The load that follows may find the server well. */
    if (rc)
        go_down(index);
    return rc;
}

/* ------------------------------------------------------------------ news */

/*
 * The track broke. The load that follows is at once, unless the last one was a moment ago: a track
 * that breaks again and again must not have us load all the time.
 */
static void lose(struct redis_index *index, const struct atd_error *why)
{
    atd_log(ATD_LOG_DEBUG, "index '%s': %s", index->base.location, why->text);
    index->retry_at_ms = index->loaded_at_ms + REST_FACTOR * index->load_took_ms;
    go_down(index);
}

/* Looks for what the track does not tell of. A server that does not answer is the track's business.
 */
static enum atd_index_news audit(struct redis_index *index)
{
    int64_t now_ms = atd_clock_monotonic_ms();
    uint64_t upheavals = 0;
    bool known = false;
    bool is_keyspace = atd_redis_track_way(index->track) == ATD_REDIS_WAY_KEYSPACE;

    index->audit_at_ms = now_ms + (is_keyspace ? AUDIT_KEYSPACE_MS : AUDIT_MS);
    if (!index->upheavals_known)
        return now_ms - index->loaded_at_ms >= AUDIT_BLIND_MS ? ATD_NEWS_ALL : ATD_NEWS_NONE;
    if (need_link(index, NULL) != 0)
        return ATD_NEWS_NONE;
    if (atd_redis_upheavals_get(index->link, &known, &upheavals, NULL) != 0) {
        drop_link(index);
        return ATD_NEWS_NONE;
    }
    if (!index->track)
        return ATD_NEWS_ALL;
    return known && upheavals == index->upheavals ? ATD_NEWS_NONE : ATD_NEWS_ALL;
}

/* Listens till `until_ms` or the first news. */
static enum atd_index_news be_told(struct redis_index *index, int wake_fd, int64_t until_ms)
{
    struct atd_error why = ATD_ERROR_INIT;
    int64_t moved_at_ms = atd_clock_monotonic_ms() + MOVED_EVERY_MS;
    enum atd_index_news news;
    int rc;

    if (atd_redis_track_has_moved(index->track, &index->url, index->ca_file, MOVED_EVERY_MS)) {
        go_down(index);
        return ATD_NEWS_ALL;
    }
    if (until_ms > index->audit_at_ms)
        until_ms = index->audit_at_ms;
    if (index->url.sentinel_count && until_ms > moved_at_ms)
        until_ms = moved_at_ms;
    rc = atd_redis_track_listen(index->track, wake_fd, until_ms, &why);
    if (rc && rc != -EINTR) {
        lose(index, &why);
        return ATD_NEWS_NONE; /* all, as soon as it may be loaded */
    }
    news = atd_redis_track_news(index->track);
    if (news == ATD_NEWS_NONE && atd_clock_monotonic_ms() >= index->audit_at_ms)
        news = audit(index);
    return news;
}

/* By the counters; `rests`: not more often than the server can bear. */
static enum atd_index_news compare_marks(struct redis_index *index, bool rests)
{
    int64_t now_ms = atd_clock_monotonic_ms();
    int64_t rested_ms = now_ms - index->loaded_at_ms;
    int64_t pause_ms = BLIND_FACTOR * index->load_took_ms;
    struct atd_redis_mark now = {0};

    if (!index->link || atd_redis_link_is_dead(index->link) ||
        atd_redis_link_has_moved(index->link, &index->url, index->ca_file, MOVED_EVERY_MS)) {
        go_down(index);
        return ATD_NEWS_ALL;
    }
    if (rests && rested_ms < index->rest_factor * index->load_took_ms)
        return ATD_NEWS_NONE;
    if (rests && index->ways && now_ms >= index->track_retry_at_ms)
        return ATD_NEWS_ALL; /* the load tries to track */
    if (!index->mark.known) {
        pause_ms = pause_ms > BLIND_PAUSE_MS ? pause_ms : BLIND_PAUSE_MS;
        return !rests || rested_ms >= pause_ms ? ATD_NEWS_ALL : ATD_NEWS_NONE;
    }
    if (index->recheck_save && (!rests || now_ms >= index->recheck_at_ms)) {
        index->recheck_save = now_ms < index->recheck_at_ms;
        return ATD_NEWS_ALL;
    }
    if (atd_redis_mark_get(index->link, index->url.db, &now, NULL) != 0) {
        go_down(index);
        return ATD_NEWS_ALL;
    }
    return atd_redis_mark_equal(&index->mark, &now) ? ATD_NEWS_NONE : ATD_NEWS_ALL;
}

static unsigned ms_until(int64_t until_ms, unsigned most_ms)
{
    int64_t left_ms = until_ms - atd_clock_monotonic_ms();

    if (left_ms < 0)
        return 0;
    return left_ms < (int64_t)most_ms ? (unsigned)left_ms : most_ms;
}

static enum atd_index_news redis_wait(struct atd_index *base, int wake_fd, unsigned timeout_ms)
{
    struct redis_index *index = (struct redis_index *)base;
    int64_t until_ms = atd_clock_monotonic_ms() + timeout_ms;
    enum atd_index_news news = ATD_NEWS_NONE;
    unsigned pause_ms = 0;

    while (news == ATD_NEWS_NONE && !atd_index_was_woken(base, pause_ms)) {
        pause_ms = 0;
        if (!index->loaded) {
            if (atd_clock_monotonic_ms() >= index->retry_at_ms)
                return ATD_NEWS_ALL;
            pause_ms = ms_until(index->retry_at_ms, ms_until(until_ms, timeout_ms));
        } else if (index->track) {
            news = be_told(index, wake_fd, until_ms);
        } else {
            news = compare_marks(index, true);
            pause_ms = ms_until(until_ms, ATD_INDEX_POLL_MS);
        }
        if (atd_clock_monotonic_ms() >= until_ms)
            break;
    }
    return news;
}

static enum atd_index_news redis_sync(struct atd_index *base)
{
    struct redis_index *index = (struct redis_index *)base;
    struct atd_error why = ATD_ERROR_INIT;
    enum atd_index_news news;

    if (!index->loaded)
        return ATD_NEWS_ALL;
    if (!index->track)
        return compare_marks(index, false);
    if (atd_redis_track_barrier(index->track, &why) != 0) {
        lose(index, &why);
        return ATD_NEWS_ALL;
    }
    news = atd_redis_track_news(index->track);
    if (news == ATD_NEWS_NONE && atd_redis_track_way(index->track) == ATD_REDIS_WAY_KEYSPACE)
        news = audit(index);
    return news;
}

static const char *redis_coherence(struct atd_index *base)
{
    return atomic_load(&((struct redis_index *)base)->coherence);
}

static void redis_free(struct atd_index *base)
{
    struct redis_index *index = (struct redis_index *)base;

    go_down(index);
    free(index->ca_file);
    explicit_bzero(&index->url, sizeof(index->url));
    free(index);
}

static const struct atd_index_ops redis_ops = {
    .provider = "redis",
    .load = redis_load,
    .wait = redis_wait,
    .sync = redis_sync,
    .changes = redis_changes,
    .coherence = redis_coherence,
    .free = redis_free,
};

int atd_index_redis_open(const struct atd_redis_url *url, const char *ca_file,
                         struct atd_index **ret_index, struct atd_error *err)
{
    struct redis_index *index = calloc(1, sizeof(*index));
    int rc;

    if (!index)
        return atd_error_set(err, ENOMEM, "index: out of memory");
    rc = atd_index_init(&index->base, &redis_ops, url->shown, err);
    if (rc) {
        free(index);
        return rc;
    }
    index->url = *url;
    index->ways = ATD_REDIS_WAYS_ALL;
    atomic_init(&index->coherence, "polling");
    if (ca_file && !(index->ca_file = strdup(ca_file))) {
        atd_index_free(&index->base);
        return atd_error_set(err, ENOMEM, "index: out of memory");
    }
    *ret_index = &index->base;
    return 0;
}

void atd_index_redis_set_ways(struct atd_index *base, unsigned ways)
{
    ((struct redis_index *)base)->ways = ways;
}

/*
 * The Redis provider: one connection, made when it is needed and kept.
 *
 * Change is noticed by the server's counters, taken before each load. Where they are not to be had,
 * the index is loaded again from time to time. A connection that broke may have hidden anything, so
 * a new one always loads again; a server that is away is tried again with growing pauses.
 *
 *   DOWN --load: connect, login--> UP --load, changed: a link error--> DOWN
 *
 * While DOWN, changed() says yes whenever an attempt is due, so that the load which follows either
 * brings the index back or tells why it cannot: the view's status then says so.
 */
#include "index/redis.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/clock.h"
#include "index/redis_load.h"
#include "index/redis_session.h"

/* Between attempts at a server that cannot be reached: it shall be back within about a second. */
#define RETRY_FIRST_MS 100
#define RETRY_AWAY_MAX_MS 1000
/* At one that does not let us in, or is none: somebody has to change something first. */
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
/* How often sentinels are asked whether the master is still the same. */
#define MOVED_EVERY_MS 5000

struct redis_index {
    struct atd_index base;
    struct atd_redis_url url;
    char *ca_file;
    struct atd_redis_link *link; /* NULL: DOWN */
    unsigned round_trip_us;

    /* of the last load; valid when loaded */
    bool loaded;
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

static void go_down(struct redis_index *index)
{
    atd_redis_link_free(index->link);
    index->link = NULL;
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

static int go_up(struct redis_index *index, struct atd_error *err)
{
    struct atd_redis_link *link = NULL;
    int rc;

    if (index->link && atd_redis_link_is_dead(index->link))
        go_down(index);
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
    return 0;
}

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

static int redis_load(struct atd_index *base, const struct atd_index_sink *sink,
                      struct atd_error *err)
{
    struct redis_index *index = (struct redis_index *)base;
    int64_t start_ms = atd_clock_monotonic_ms();
    struct atd_redis_mark mark = {0};
    struct atd_redis_load_result result = {0};
    bool first = !index->loaded;
    int rc = go_up(index, err);

    first = first || !index->loaded;
    index->loaded = false;
    /* Before the load: what changes during it makes for another one. */
    if (rc == 0)
        rc = atd_redis_mark_get(index->link, index->url.db, &mark, err);
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

static bool redis_changed(struct atd_index *base)
{
    struct redis_index *index = (struct redis_index *)base;
    int64_t now_ms = atd_clock_monotonic_ms();
    int64_t rested_ms = now_ms - index->loaded_at_ms;
    int64_t pause_ms = BLIND_FACTOR * index->load_took_ms;
    struct atd_redis_mark now = {0};

    if (!index->loaded)
        return now_ms >= index->retry_at_ms;
    if (atd_redis_link_is_dead(index->link) ||
        atd_redis_link_has_moved(index->link, &index->url, index->ca_file, MOVED_EVERY_MS)) {
        go_down(index);
        return true;
    }
    if (rested_ms < index->rest_factor * index->load_took_ms)
        return false;
    if (!index->mark.known)
        return rested_ms >= (pause_ms > BLIND_PAUSE_MS ? pause_ms : BLIND_PAUSE_MS);
    if (index->recheck_save && now_ms >= index->recheck_at_ms) {
        index->recheck_save = false;
        return true;
    }
    if (atd_redis_mark_get(index->link, index->url.db, &now, NULL) != 0) {
        go_down(index);
        return true;
    }
    return !atd_redis_mark_equal(&index->mark, &now);
}

static void redis_free(struct atd_index *base)
{
    struct redis_index *index = (struct redis_index *)base;

    atd_redis_link_free(index->link);
    free(index->ca_file);
    explicit_bzero(&index->url, sizeof(index->url));
    free(index);
}

static const struct atd_index_ops redis_ops = {
    .provider = "redis",
    .load = redis_load,
    .changed = redis_changed,
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
    if (ca_file && !(index->ca_file = strdup(ca_file))) {
        atd_index_free(&index->base);
        return atd_error_set(err, ENOMEM, "index: out of memory");
    }
    *ret_index = &index->base;
    return 0;
}

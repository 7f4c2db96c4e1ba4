#include "index/redis_sentinel.h"

#include <errno.h>

#include "base/check.h"
#include "base/clock.h"
#include "index/redis_session.h"

/* ------------------------------------------------------------------ one sentinel */

/* Another place, everything else that makes a connection as in the URL. */
static void make_url(struct atd_redis_url *at, const struct atd_redis_url *url,
                     const struct atd_redis_place *place)
{
    *at = *url;
    at->sentinel_count = 0;
    memcpy(at->host, place->host, sizeof(at->host));
    at->port = place->port;
}

static int take_master(struct atd_redis_link *link, const char *name,
                       struct atd_redis_place *ret_master, struct atd_error *err)
{
    redisReply *reply = NULL;
    int rc = atd_redis_link_next(link, &reply, NULL, err);

    if (rc)
        return rc;
    if (reply->type == REDIS_REPLY_NIL)
        rc = atd_error_set(err, ENXIO, "it watches no master of the name '%s'", name);
    else if (reply->type == REDIS_REPLY_ERROR &&
             atd_redis_error_is(atd_redis_reply_text(reply), ATD_STR("NOAUTH")))
        rc = atd_error_set(err, EACCES,
                           "it wants a password: set $" ATD_SENTINEL_PASSWORD_VARIABLE
                           " (and $" ATD_SENTINEL_USERNAME_VARIABLE ")");
    else if (reply->type == REDIS_REPLY_ERROR &&
             atd_redis_error_is_refusal(atd_redis_reply_text(reply)))
        rc = atd_error_set(err, EPROTO, "it is no sentinel ('" ATD_STR_FMT "')",
                           ATD_STR_ARG(atd_redis_reply_text(reply)));
    else if (reply->type == REDIS_REPLY_ERROR)
        rc = atd_redis_error_set(atd_redis_reply_text(reply), "asking for the master",
                                 ATD_REDIS_QUOTE, err);
    else if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
             reply->element[0]->type != REDIS_REPLY_STRING ||
             reply->element[1]->type != REDIS_REPLY_STRING)
        rc = atd_error_set(err, EPROTO, "its answer is not of the form HOST, PORT");
    else if (atd_redis_place_set(ret_master, atd_redis_reply_text(reply->element[0]),
                                 atd_redis_reply_text(reply->element[1]), err) != 0)
        rc = atd_error_wrap(err, -EPROTO, "its answer is no address");
    freeReplyObject(reply);
    return rc;
}

static int ask_one(const struct atd_redis_url *url, const char *ca_file,
                   const struct atd_redis_place *sentinel, int64_t deadline_ms,
                   struct atd_redis_place *ret_master, struct atd_error *err)
{
    char place[ATD_REDIS_PLACE_TEXT_MAX];
    struct atd_redis_link *link = NULL;
    struct atd_redis_url at;
    unsigned round_trip_us;
    int rc;

    make_url(&at, url, sentinel);
    at.db = 0;
    memcpy(at.user, url->sentinel_user, sizeof(at.user));
    memcpy(at.password, url->sentinel_password, sizeof(at.password));
    rc = atd_redis_link_open_at(&at, ca_file, deadline_ms, &link, err);
    /* One that wants a password refuses the rest of the login too: the question tells it better. */
    if (rc == 0 && (at.user[0] || at.password[0]))
        rc = atd_redis_login_until(link, &at, deadline_ms, &round_trip_us, err);
    if (rc == 0) {
        atd_redis_link_set_deadline(link, deadline_ms);
        rc = atd_redis_link_ask(link,
                                (struct atd_str[]){ATD_STR("SENTINEL"),
                                                   ATD_STR("get-master-addr-by-name"),
                                                   atd_str_from(url->master)},
                                3, err);
    }
    if (rc == 0)
        rc = take_master(link, url->master, ret_master, err);
    atd_redis_link_free(link);
    explicit_bzero(&at, sizeof(at));
    atd_redis_place_show(sentinel, place);
    return rc ? atd_error_wrap(err, rc, "sentinel %s", place) : 0;
}

static void move_to_front(struct atd_redis_url *url, unsigned place)
{
    struct atd_redis_place one = url->sentinels[place];

    memmove(url->sentinels + 1, url->sentinels, place * sizeof(one));
    url->sentinels[0] = one;
}

/* ------------------------------------------------------------------ all of them */

/* What became of asking; the most telling of the errors is kept. */
struct search {
    struct atd_redis_url *url;
    const char *ca_file;
    int64_t deadline_ms;
    bool answered[ATD_REDIS_SENTINELS_MAX];
    struct atd_redis_place tried[ATD_REDIS_SENTINELS_MAX];
    unsigned tried_count;
    unsigned rank; /* of why: 0 none, 1 no answer, 2 an answer, 3 a server that was named */
    struct atd_error why;
};

static void note(struct search *search, unsigned rank, const struct atd_error *why)
{
    if (rank < search->rank)
        return;
    search->rank = rank;
    search->why = *why;
}

static int64_t sooner(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int ask(struct search *search, unsigned place, unsigned within_ms,
               struct atd_redis_place *ret_master)
{
    struct atd_error why = ATD_ERROR_INIT;
    int64_t until_ms = sooner(atd_clock_monotonic_ms() + within_ms, search->deadline_ms);
    int rc = ask_one(search->url, search->ca_file, &search->url->sentinels[place], until_ms,
                     ret_master, &why);

    search->answered[place] = rc != -ETIMEDOUT;
    if (rc)
        note(search, rc == -ENXIO || rc == -EACCES || rc == -EPROTO ? 2 : 1, &why);
    return rc;
}

static bool is_tried(const struct search *search, const struct atd_redis_place *place)
{
    for (unsigned i = 0; i < search->tried_count; i++) {
        if (search->tried[i].port == place->port && strcmp(search->tried[i].host, place->host) == 0)
            return true;
    }
    return false;
}

/* Only who says itself that it is the master is. */
static int open_master(struct search *search, const struct atd_redis_place *master,
                       struct atd_redis_link **ret_link)
{
    struct atd_error why = ATD_ERROR_INIT;
    char place[ATD_REDIS_PLACE_TEXT_MAX];
    struct atd_redis_link *link = NULL;
    struct atd_redis_url at;
    int64_t until_ms = sooner(atd_clock_monotonic_ms() + ATD_REDIS_NAMED_MS, search->deadline_ms);
    unsigned round_trip_us;
    bool is_master = false;
    int rc;

    make_url(&at, search->url, master);
    rc = atd_redis_link_open_at(&at, search->ca_file, until_ms, &link, &why);
    if (rc == 0)
        rc = atd_redis_login_until(link, &at, until_ms, &round_trip_us, &why);
    if (rc == 0)
        rc = atd_redis_role_get(link, &is_master, &why);
    if (rc == 0 && !is_master)
        rc = atd_error_set_retryable(&why, EAGAIN,
                                     "it is no master (any more): a failover is under way");
    explicit_bzero(&at, sizeof(at));
    if (rc == 0) {
        *ret_link = link;
        return 0;
    }
    atd_redis_link_free(link);
    atd_redis_place_show(master, place);
    rc = atd_error_wrap(&why, rc, "%s, which the sentinels name as the master", place);
    note(search, 3, &why);
    return rc;
}

static int finish(const struct search *search, struct atd_error *err)
{
    atd_assert(search->why.code);
    if (err)
        *err = search->why;
    return -search->why.code;
}

/* One round over those that have not answered; 0: the link is there. */
static int try_round(struct search *search, unsigned within_ms, struct atd_redis_link **ret_link,
                     struct atd_redis_place *ret_master)
{
    for (unsigned i = 0; i < search->url->sentinel_count; i++) {
        struct atd_redis_place master;

        if (search->answered[i] || atd_clock_monotonic_ms() >= search->deadline_ms ||
            ask(search, i, within_ms, &master) != 0 || is_tried(search, &master))
            continue;
        search->tried[search->tried_count++] = master;
        if (open_master(search, &master, ret_link) != 0)
            continue;
        *ret_master = master;
        move_to_front(search->url, i);
        return 0;
    }
    return -search->why.code;
}

int atd_redis_sentinel_open(struct atd_redis_url *url, const char *ca_file,
                            struct atd_redis_link **ret_link, struct atd_redis_place *ret_master,
                            struct atd_error *err)
{
    struct search search = {.url = url,
                            .ca_file = ca_file,
                            .deadline_ms = atd_clock_monotonic_ms() + ATD_REDIS_SENTINELS_MS};

    if (try_round(&search, ATD_REDIS_SENTINEL_MS, ret_link, ret_master) == 0 ||
        try_round(&search, ATD_REDIS_SENTINEL_AGAIN_MS, ret_link, ret_master) == 0)
        return 0;
    return finish(&search, err);
}

int atd_redis_sentinel_ask(struct atd_redis_url *url, const char *ca_file, int64_t deadline_ms,
                           struct atd_redis_place *ret_master, struct atd_error *err)
{
    struct search search = {.url = url, .ca_file = ca_file, .deadline_ms = deadline_ms};

    for (unsigned i = 0; i < url->sentinel_count; i++) {
        struct atd_redis_place master;

        if (ask(&search, i, ATD_REDIS_SENTINEL_MS, &master) == 0) {
            *ret_master = master;
            move_to_front(url, i);
            return 0;
        }
    }
    return finish(&search, err);
}

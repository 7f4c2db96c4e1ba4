#include "index/redis_track.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "index/redis_record.h"
#include "index/redis_session.h"

#define INVALIDATIONS "__redis__:invalidate"
/* Messages are taken in as long as they are there already, but not for ever. */
#define BURST_MS 50

struct atd_redis_track {
    struct atd_redis_link *link;
    enum atd_redis_way way;
    unsigned db;
    struct atd_redis_dirty dirty;
    bool all; /* anything may have changed */

    uint64_t pings; /* asked, answered: the answers come in order */
    uint64_t pongs;
    int64_t asked_ms; /* the oldest that is not answered */
    int64_t heard_ms;
};

/* Every kind of record that is loaded has its keys under one of these. */
static const char *const prefixes[] = {"LocalDatasetEntry:", "Label:", "LocalSchema:"};

void atd_redis_track_free(struct atd_redis_track *track)
{
    if (!track)
        return;
    atd_redis_link_free(track->link);
    atd_redis_dirty_release(&track->dirty);
    free(track);
}

enum atd_redis_way atd_redis_track_way(const struct atd_redis_track *track)
{
    return track->way;
}

bool atd_redis_track_has_moved(struct atd_redis_track *track, struct atd_redis_url *url,
                               const char *ca_file, unsigned every_ms)
{
    return atd_redis_link_has_moved(track->link, url, ca_file, every_ms);
}

bool atd_redis_track_is_beside(const struct atd_redis_track *track,
                               const struct atd_redis_link *link)
{
    return atd_redis_link_is_beside(track->link, link);
}

enum atd_index_news atd_redis_track_news(const struct atd_redis_track *track)
{
    if (track->all)
        return ATD_NEWS_ALL;
    return track->dirty.count > 0 ? ATD_NEWS_SOME : ATD_NEWS_NONE;
}

struct atd_redis_dirty *atd_redis_track_dirty(struct atd_redis_track *track)
{
    return &track->dirty;
}

void atd_redis_track_doubt_all(struct atd_redis_track *track)
{
    track->all = true;
    atd_redis_dirty_clear(&track->dirty);
}

void atd_redis_track_clear(struct atd_redis_track *track)
{
    track->all = false;
    atd_redis_dirty_clear(&track->dirty);
}

/* ------------------------------------------------------------------ messages */

static void note_key(struct atd_redis_track *track, struct atd_str key)
{
    size_t number;

    if (track->all || atd_redis_kind_of(key) == ATD_REDIS_OTHER)
        return;
    if (!atd_redis_dirty_add(&track->dirty, key, &number))
        atd_redis_track_doubt_all(track);
}

/* Nil: the database, or another one, was emptied. */
static void note_keys(struct atd_redis_track *track, const redisReply *keys)
{
    if (keys->type == REDIS_REPLY_NIL)
        atd_redis_track_doubt_all(track);
    for (size_t i = 0; keys->type == REDIS_REPLY_ARRAY && i < keys->elements; i++) {
        if (keys->element[i]->type == REDIS_REPLY_STRING)
            note_key(track, atd_redis_reply_text(keys->element[i]));
        else
            atd_redis_track_doubt_all(track);
    }
}

/* "__keyspace@DB__:KEY" */
static void note_channel(struct atd_redis_track *track, struct atd_str channel)
{
    ptrdiff_t colon = atd_str_find(channel, ':');

    if (colon >= 0)
        note_key(track, atd_str_from_byte(channel, (size_t)colon + 1));
}

static bool is_text(const redisReply *reply, struct atd_str text)
{
    return (reply->type == REDIS_REPLY_STRING || reply->type == REDIS_REPLY_STATUS) &&
           atd_str_equal(atd_redis_reply_text(reply), text);
}

static void note_pong(struct atd_redis_track *track)
{
    if (track->pongs < track->pings)
        track->pongs++;
    track->asked_ms = track->heard_ms;
}

static int take_message(struct atd_redis_track *track, const redisReply *reply, bool cut,
                        struct atd_error *err)
{
    bool is_array = reply->type == REDIS_REPLY_ARRAY && reply->elements > 0;
    const redisReply *first = is_array ? reply->element[0] : reply;
    size_t count = is_array ? reply->elements : 0;

    track->heard_ms = atd_clock_monotonic_ms();
    /* More keys than are held, or one that is none of ours by its length. */
    if (cut)
        atd_redis_track_doubt_all(track);
    /* Whatever a server answers to a PING, it is alive: it may lack the disk, or we the right. */
    else if (!is_array || (count == 2 && is_text(first, ATD_STR("pong"))))
        note_pong(track);
    else if (count == 3 && is_text(first, ATD_STR("message"))) {
        /* A text is not from the server: anybody may publish there. */
        if (is_text(reply->element[1], ATD_STR(INVALIDATIONS)))
            note_keys(track, reply->element[2]);
    } else if (count == 4 && is_text(first, ATD_STR("pmessage")))
        note_channel(track, atd_redis_reply_text(reply->element[2]));
    else if (count == 2 && is_text(first, ATD_STR("invalidate")))
        note_keys(track, reply->element[1]);
    else
        return atd_error_set(err, EPROTO, "the server sends a message of an unexpected form");
    return 0;
}

/* As atd_redis_link_message, and takes it in. */
static int next_message(struct atd_redis_track *track, int wake_fd, int64_t until_ms,
                        struct atd_error *err)
{
    redisReply *reply = NULL;
    bool cut = false;
    int rc = atd_redis_link_message(track->link, wake_fd, until_ms, &reply, &cut, err);

    if (rc)
        return rc;
    rc = take_message(track, reply, cut, err);
    freeReplyObject(reply);
    return rc;
}

/* ------------------------------------------------------------------ heartbeat */

static int ask_ping(struct atd_redis_track *track, struct atd_error *err)
{
    int rc = atd_redis_link_ask(track->link, (struct atd_str[]){ATD_STR("PING")}, 1, err);

    if (rc)
        return rc;
    if (track->pings == track->pongs)
        track->asked_ms = atd_clock_monotonic_ms();
    track->pings++;
    return 0;
}

/* Asks for a sign of life when one is due. *ret_until_ms: when to look again. */
static int keep_alive(struct atd_redis_track *track, int64_t *ret_until_ms, struct atd_error *err)
{
    int64_t now_ms = atd_clock_monotonic_ms();
    int rc = 0;

    if (track->pings == track->pongs && now_ms >= track->heard_ms + ATD_REDIS_HEARTBEAT_MS)
        rc = ask_ping(track, err);
    if (rc)
        return rc;
    if (track->pings == track->pongs) {
        *ret_until_ms = track->heard_ms + ATD_REDIS_HEARTBEAT_MS;
        return 0;
    }
    *ret_until_ms = track->asked_ms + ATD_REDIS_DEAD_MS;
    if (now_ms >= *ret_until_ms)
        return atd_error_set_retryable(err, ETIMEDOUT, "the server was silent for %d s",
                                       ATD_REDIS_DEAD_MS / 1000);
    return 0;
}

/* What is there already belongs to the same news. */
static int take_burst(struct atd_redis_track *track, struct atd_error *err)
{
    int64_t until_ms = atd_clock_monotonic_ms() + BURST_MS;
    int rc = 0;

    while (rc == 0 && atd_clock_monotonic_ms() < until_ms)
        rc = next_message(track, -1, 0, err);
    return rc == -EAGAIN ? 0 : rc;
}

int atd_redis_track_listen(struct atd_redis_track *track, int wake_fd, int64_t until_ms,
                           struct atd_error *err)
{
    int64_t due_ms = 0;
    int rc;

    if (atd_redis_track_news(track) != ATD_NEWS_NONE)
        return take_burst(track, err);
    do {
        rc = keep_alive(track, &due_ms, err);
        if (rc == 0)
            rc = next_message(track, wake_fd, due_ms < until_ms ? due_ms : until_ms, err);
    } while (rc == -EAGAIN && atd_clock_monotonic_ms() < until_ms);
    if (rc)
        return rc == -EAGAIN ? 0 : rc;
    return atd_redis_track_news(track) != ATD_NEWS_NONE ? take_burst(track, err) : 0;
}

int atd_redis_track_barrier(struct atd_redis_track *track, struct atd_error *err)
{
    uint64_t number;
    int rc = ask_ping(track, err);

    number = track->pings;
    while (rc == 0 && track->pongs < number) {
        int64_t due_ms = 0;

        rc = keep_alive(track, &due_ms, err);
        if (rc == 0)
            rc = next_message(track, -1, due_ms, err);
        if (rc == -EAGAIN)
            rc = 0;
    }
    return rc;
}

/* ------------------------------------------------------------------ subscribing */

/* The answer to the last command, if it is none of refusal: -ENOTSUP. free() it. */
static int take_answer(struct atd_redis_link *link, int type, redisReply **ret_reply,
                       struct atd_error *err)
{
    redisReply *reply = NULL;
    int rc = atd_redis_link_next(link, &reply, NULL, err);

    if (rc)
        return rc;
    if (reply->type == type) {
        *ret_reply = reply;
        return 0;
    }
    rc = atd_error_set(err, ENOTSUP, "the server does not tell of changes: '" ATD_STR_FMT "'",
                       ATD_STR_ARG(atd_redis_reply_text(reply)));
    freeReplyObject(reply);
    return rc;
}

static int ask_and_take(struct atd_redis_link *link, const struct atd_str *arguments, size_t count,
                        int type, redisReply **ret_reply, struct atd_error *err)
{
    int rc = atd_redis_link_ask(link, arguments, count, err);

    return rc ? rc : take_answer(link, type, ret_reply, err);
}

static int ask_and_forget(struct atd_redis_link *link, const struct atd_str *arguments,
                          size_t count, int type, struct atd_error *err)
{
    redisReply *reply = NULL;
    int rc = ask_and_take(link, arguments, count, type, &reply, err);

    if (rc == 0)
        freeReplyObject(reply);
    return rc;
}

/* `id`: the connection that is to be told; empty: this one, by pushes. */
static int start_tracking(struct atd_redis_link *link, struct atd_str id, struct atd_error *err)
{
    struct atd_str command[ATD_REDIS_ARGUMENTS_MAX] = {ATD_STR("CLIENT"), ATD_STR("TRACKING"),
                                                       ATD_STR("ON"), ATD_STR("BCAST")};
    size_t count = 4;

    if (id.len > 0) {
        command[count++] = ATD_STR("REDIRECT");
        command[count++] = id;
    }
    for (size_t i = 0; i < ATD_ARRAY_LEN(prefixes); i++) {
        command[count++] = ATD_STR("PREFIX");
        command[count++] = atd_str_from(prefixes[i]);
    }
    return ask_and_forget(link, command, count, REDIS_REPLY_STATUS, err);
}

static int subscribe_resp2(struct atd_redis_track *track, struct atd_error *err)
{
    const struct atd_str who[] = {ATD_STR("CLIENT"), ATD_STR("ID")};
    const struct atd_str subscribe[] = {ATD_STR("SUBSCRIBE"), ATD_STR(INVALIDATIONS)};
    redisReply *id = NULL;
    char text[24];
    int rc = ask_and_take(track->link, who, 2, REDIS_REPLY_INTEGER, &id, err);

    if (rc)
        return rc;
    (void)snprintf(text, sizeof(text), "%lld", id->integer);
    freeReplyObject(id);
    rc = start_tracking(track->link, atd_str_from(text), err);
    if (rc == 0)
        rc = ask_and_forget(track->link, subscribe, 2, REDIS_REPLY_ARRAY, err);
    return rc;
}

static int subscribe_resp3(struct atd_redis_track *track, struct atd_error *err)
{
    const struct atd_str hello[] = {ATD_STR("HELLO"), ATD_STR("3")};
    int rc;

    atd_redis_link_allow_resp3(track->link);
    rc = ask_and_forget(track->link, hello, 2, REDIS_REPLY_ARRAY, err);
    return rc ? rc : start_tracking(track->link, ATD_STR(""), err);
}

/* Whether notifications of every kind that concerns us are on; we never switch them on: every
 * client of the server would pay. */
static int check_notifications(struct atd_redis_link *link, struct atd_error *err)
{
    const struct atd_str ask[] = {ATD_STR("CONFIG"), ATD_STR("GET"),
                                  ATD_STR("notify-keyspace-events")};
    static const char kinds[] = "g$hxe"; /* generic, string, hash, expired, evicted */
    redisReply *reply = NULL;
    struct atd_str events = {"", 0};
    bool on;
    int rc = ask_and_take(link, ask, 3, REDIS_REPLY_ARRAY, &reply, err);

    if (rc)
        return rc;
    if (reply->elements == 2)
        events = atd_redis_reply_text(reply->element[1]);
    on = atd_str_find(events, 'K') >= 0;
    for (size_t i = 0; kinds[i]; i++)
        on = on && (atd_str_find(events, kinds[i]) >= 0 || atd_str_find(events, 'A') >= 0);
    freeReplyObject(reply);
    return on ? 0 : atd_error_set(err, ENOTSUP, "the server's keyspace notifications are off");
}

static int subscribe_keyspace(struct atd_redis_track *track, struct atd_error *err)
{
    char patterns[ATD_ARRAY_LEN(prefixes)][64];
    struct atd_str command[1 + ATD_ARRAY_LEN(prefixes)] = {ATD_STR("PSUBSCRIBE")};
    int rc = check_notifications(track->link, err);

    for (size_t i = 0; i < ATD_ARRAY_LEN(prefixes); i++) {
        (void)snprintf(patterns[i], sizeof(patterns[i]), "__keyspace@%u__:%s*", track->db,
                       prefixes[i]);
        command[1 + i] = atd_str_from(patterns[i]);
    }
    if (rc == 0)
        rc = atd_redis_link_ask(track->link, command, ATD_ARRAY_LEN(command), err);
    /* One confirmation each, and then the first message. */
    for (size_t i = 0; rc == 0 && i < ATD_ARRAY_LEN(prefixes); i++) {
        redisReply *reply = NULL;

        rc = take_answer(track->link, REDIS_REPLY_ARRAY, &reply, err);
        if (rc == 0)
            freeReplyObject(reply);
    }
    return rc;
}

static int subscribe(struct atd_redis_track *track, struct atd_error *err)
{
    switch (track->way) {
    case ATD_REDIS_WAY_RESP2:
        return subscribe_resp2(track, err);
    case ATD_REDIS_WAY_RESP3:
        return subscribe_resp3(track, err);
    case ATD_REDIS_WAY_KEYSPACE:
    default:
        return subscribe_keyspace(track, err);
    }
}

int atd_redis_track_over(struct atd_redis_link *link, enum atd_redis_way way, unsigned db,
                         struct atd_redis_track **ret_track, struct atd_error *err)
{
    struct atd_redis_track *track = calloc(1, sizeof(*track));
    int rc;

    if (!track)
        return atd_error_set(err, ENOMEM, "out of memory");
    track->link = link;
    track->way = way;
    track->db = db;
    atd_redis_dirty_init(&track->dirty);
    atd_redis_link_set_deadline(link, atd_clock_monotonic_ms() + ATD_REDIS_ANSWER_MS);
    rc = subscribe(track, err);
    if (rc) {
        track->link = NULL;
        atd_redis_track_free(track);
        return rc;
    }
    track->heard_ms = atd_clock_monotonic_ms();
    *ret_track = track;
    return 0;
}

/* One way, on a connection that knows of no other. */
static int open_one(struct atd_redis_url *url, const char *ca_file, enum atd_redis_way way,
                    struct atd_redis_track **ret_track, struct atd_error *err)
{
    struct atd_redis_link *link = NULL;
    unsigned round_trip_us;
    int rc = atd_redis_link_open(url, ca_file, &link, err);

    if (rc == 0)
        rc = atd_redis_login(link, url, &round_trip_us, err);
    if (rc == 0)
        rc = atd_redis_track_over(link, way, url->db, ret_track, err);
    if (rc)
        atd_redis_link_free(link);
    return rc;
}

int atd_redis_track_open(struct atd_redis_url *url, const char *ca_file, unsigned ways,
                         struct atd_redis_track **ret_track, struct atd_error *err)
{
    static const enum atd_redis_way order[] = {ATD_REDIS_WAY_RESP2, ATD_REDIS_WAY_RESP3,
                                               ATD_REDIS_WAY_KEYSPACE};
    struct atd_error why = ATD_ERROR_INIT;
    int rc = atd_error_set(&why, ENOTSUP, "no way of being told of changes is wanted");

    for (size_t i = 0; i < ATD_ARRAY_LEN(order) && rc == -ENOTSUP; i++) {
        if (ways & (unsigned)order[i])
            rc = open_one(url, ca_file, order[i], ret_track, &why);
    }
    if (rc && err)
        *err = why;
    return rc;
}

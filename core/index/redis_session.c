#include "index/redis_session.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "base/check.h"
#include "base/clock.h"

/* What connections are called in the server's CLIENT LIST. */
#define CLIENT_NAME "atdatafs"

static int64_t now_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int take_status(struct atd_redis_link *link, const char *what, enum atd_redis_quote quote,
                       bool may_be_refused, struct atd_error *err)
{
    redisReply *reply = NULL;
    int rc = atd_redis_link_next(link, &reply, NULL, err);

    if (rc)
        return rc;
    if (reply->type == REDIS_REPLY_ERROR &&
        !(may_be_refused && atd_redis_error_is_refusal(atd_redis_reply_text(reply))))
        rc = atd_redis_error_set(atd_redis_reply_text(reply), what, quote, err);
    freeReplyObject(reply);
    return rc;
}

static int ask_login(struct atd_redis_link *link, const struct atd_redis_url *url,
                     const char *db_text, bool *ret_auth, struct atd_error *err)
{
    const struct atd_str user = atd_str_from(url->user);
    const struct atd_str password = atd_str_from(url->password);
    int rc = 0;

    *ret_auth = user.len > 0 || password.len > 0;
    if (user.len > 0)
        rc = atd_redis_link_ask(link, (struct atd_str[]){ATD_STR("AUTH"), user, password}, 3, err);
    else if (password.len > 0)
        rc = atd_redis_link_ask(link, (struct atd_str[]){ATD_STR("AUTH"), password}, 2, err);
    if (rc == 0 && url->db > 0)
        rc = atd_redis_link_ask(link, (struct atd_str[]){ATD_STR("SELECT"), atd_str_from(db_text)},
                                2, err);
    if (rc == 0)
        rc = atd_redis_link_ask(
            link, (struct atd_str[]){ATD_STR("CLIENT"), ATD_STR("SETNAME"), ATD_STR(CLIENT_NAME)},
            3, err);
    return rc;
}

int atd_redis_login(struct atd_redis_link *link, const struct atd_redis_url *url,
                    unsigned *ret_round_trip_us, struct atd_error *err)
{
    return atd_redis_login_until(link, url, atd_clock_monotonic_ms() + ATD_REDIS_ANSWER_MS,
                                 ret_round_trip_us, err);
}

int atd_redis_login_until(struct atd_redis_link *link, const struct atd_redis_url *url,
                          int64_t deadline_ms, unsigned *ret_round_trip_us, struct atd_error *err)
{
    int64_t start_us = now_us();
    char db_text[16];
    bool auth;
    int rc;

    (void)snprintf(db_text, sizeof(db_text), "%u", url->db);
    atd_redis_link_set_deadline(link, deadline_ms);
    rc = ask_login(link, url, db_text, &auth, err);
    if (rc == 0 && auth)
        rc = take_status(link, "logging in", ATD_REDIS_QUOTE_NOT, false, err);
    atd_redis_link_forget_sent(link);
    if (rc == 0 && url->db > 0)
        rc = take_status(link, "choosing the database", ATD_REDIS_QUOTE, false, err);
    if (rc == 0)
        rc = take_status(link, "greeting", ATD_REDIS_QUOTE, true, err);
    if (rc == 0)
        *ret_round_trip_us = (unsigned)(now_us() - start_us);
    return rc;
}

/* ------------------------------------------------------------------ roles */

static bool text_is(const redisReply *reply, const char *text)
{
    return (reply->type == REDIS_REPLY_STRING || reply->type == REDIS_REPLY_STATUS) &&
           atd_str_equal(atd_redis_reply_text(reply), atd_str_from(text));
}

/* ROLE's answer begins with it, HELLO's has it as a field; NULL: it is not there. */
static const redisReply *find_role(const redisReply *reply)
{
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0)
        return NULL;
    if (text_is(reply->element[0], "master") || text_is(reply->element[0], "slave") ||
        text_is(reply->element[0], "replica") || text_is(reply->element[0], "sentinel"))
        return reply->element[0];
    for (size_t i = 0; i + 1 < reply->elements; i += 2) {
        if (text_is(reply->element[i], "role"))
            return reply->element[i + 1];
    }
    return NULL;
}

static int ask_role(struct atd_redis_link *link, const struct atd_str *command, size_t count,
                    bool *ret_refused, bool *ret_is_master, struct atd_error *err)
{
    redisReply *reply = NULL;
    const redisReply *role;
    int rc = atd_redis_link_ask(link, command, count, err);

    if (rc == 0)
        rc = atd_redis_link_next(link, &reply, NULL, err);
    if (rc)
        return rc;
    *ret_refused =
        reply->type == REDIS_REPLY_ERROR && atd_redis_error_is_refusal(atd_redis_reply_text(reply));
    if (reply->type == REDIS_REPLY_ERROR && !*ret_refused)
        rc = atd_redis_error_set(atd_redis_reply_text(reply), "asking for the server's role",
                                 ATD_REDIS_QUOTE, err);
    role = find_role(reply);
    *ret_is_master = role ? text_is(role, "master") : *ret_refused;
    freeReplyObject(reply);
    return rc;
}

int atd_redis_role_get(struct atd_redis_link *link, bool *ret_is_master, struct atd_error *err)
{
    bool refused = false;
    int rc = ask_role(link, &ATD_STR("ROLE"), 1, &refused, ret_is_master, err);

    if (rc || !refused)
        return rc;
    return ask_role(link, (struct atd_str[]){ATD_STR("HELLO"), ATD_STR("2")}, 2, &refused,
                    ret_is_master, err);
}

/* ------------------------------------------------------------------ INFO */

/* The number after `name` at the start of a line; false when there is none. */
static bool find_number(struct atd_str info, const char *name, uint64_t *ret_number)
{
    struct atd_str wanted = atd_str_from(name);

    while (info.len > 0) {
        ptrdiff_t end = atd_str_find(info, '\n');

        if (atd_str_starts_with(info, wanted)) {
            uint64_t number = 0;
            size_t at = wanted.len;

            for (; at < info.len && info.ptr[at] >= '0' && info.ptr[at] <= '9'; at++)
                number = number * 10 + (uint64_t)(info.ptr[at] - '0');
            *ret_number = number;
            return at > wanted.len;
        }
        info = atd_str_from_byte(info, end < 0 ? info.len : (size_t)end + 1);
    }
    return false;
}

/* A section of INFO; NULL when it is refused. */
static int take_info(struct atd_redis_link *link, redisReply **ret_reply, struct atd_error *err)
{
    redisReply *reply = NULL;
    int rc = atd_redis_link_next(link, &reply, NULL, err);

    *ret_reply = NULL;
    if (rc)
        return rc;
    if (reply->type == REDIS_REPLY_STRING) {
        *ret_reply = reply;
        return 0;
    }
    /* NOAUTH after a change of passwords, LOADING: whatever it is, the load will say it better. */
    freeReplyObject(reply);
    return 0;
}

int atd_redis_mark_get(struct atd_redis_link *link, unsigned db, struct atd_redis_mark *ret_mark,
                       struct atd_error *err)
{
    struct atd_redis_mark mark = {0};
    redisReply *persistence = NULL;
    redisReply *keyspace = NULL;
    char name[32];
    int rc;

    (void)snprintf(name, sizeof(name), "db%u:keys=", db);
    atd_redis_link_set_deadline(link, atd_clock_monotonic_ms() + ATD_REDIS_ANSWER_MS);
    /* One section each: servers before 7.0 take no more. */
    rc = atd_redis_link_ask(link, (struct atd_str[]){ATD_STR("INFO"), ATD_STR("persistence")}, 2,
                            err);
    if (rc == 0)
        rc = atd_redis_link_ask(link, (struct atd_str[]){ATD_STR("INFO"), ATD_STR("keyspace")}, 2,
                                err);
    if (rc == 0)
        rc = take_info(link, &persistence, err);
    if (rc == 0)
        rc = take_info(link, &keyspace, err);
    if (rc == 0 && persistence && keyspace) {
        struct atd_str text = atd_redis_reply_text(persistence);

        mark.known = find_number(text, "rdb_changes_since_last_save:", &mark.changes) &&
                     find_number(text, "rdb_last_save_time:", &mark.last_save);
        mark.counts_saves = find_number(text, "rdb_saves:", &mark.saves);
        /* An empty database has no line. */
        (void)find_number(atd_redis_reply_text(keyspace), name, &mark.keys);
    }
    if (persistence)
        freeReplyObject(persistence);
    if (keyspace)
        freeReplyObject(keyspace);
    if (rc == 0)
        *ret_mark = mark;
    return rc;
}

int atd_redis_upheavals_get(struct atd_redis_link *link, bool *ret_known, uint64_t *ret_count,
                            struct atd_error *err)
{
    static const char *const commands[] = {"swapdb", "flushdb", "flushall"};
    redisReply *info = NULL;
    uint64_t sum = 0;
    int rc;

    atd_redis_link_set_deadline(link, atd_clock_monotonic_ms() + ATD_REDIS_ANSWER_MS);
    rc = atd_redis_link_ask(link, (struct atd_str[]){ATD_STR("INFO"), ATD_STR("commandstats")}, 2,
                            err);
    if (rc == 0)
        rc = take_info(link, &info, err);
    if (rc)
        return rc;
    for (size_t i = 0; info && i < ATD_ARRAY_LEN(commands); i++) {
        char name[48];
        uint64_t count = 0;

        /* One that was never called has no line. */
        (void)snprintf(name, sizeof(name), "cmdstat_%s:calls=", commands[i]);
        (void)find_number(atd_redis_reply_text(info), name, &count);
        sum += count;
    }
    *ret_known = info && atd_str_starts_with(atd_redis_reply_text(info), ATD_STR("# Commandstats"));
    *ret_count = sum;
    if (info)
        freeReplyObject(info);
    return 0;
}

bool atd_redis_mark_equal(const struct atd_redis_mark *a, const struct atd_redis_mark *b)
{
    return a->known == b->known && a->changes == b->changes && a->last_save == b->last_save &&
           a->saves == b->saves && a->keys == b->keys;
}

/*
 * The server behind a Redis index: does it answer, and does it keep what it is given.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/cleanup.h"
#include "doctor.h"
#include "index/redis_session.h"
#include "progress.h"

#define NAME "redis"
#define VALUE_MAX 128
#define MEMORY_SHARE_WARNING 90u

/* ------------------------------------------------------------------ asking */

/* The reply of one command; NULL when the server did not answer it well (it may be forbidden). */
static redisReply *ask(struct atd_redis_link *link, const struct atd_str *words, size_t count)
{
    redisReply *reply = NULL;

    if (atd_redis_link_ask(link, words, count, NULL) != 0 ||
        atd_redis_link_next(link, &reply, NULL, NULL) != 0)
        return NULL;
    if (reply->type != REDIS_REPLY_ERROR)
        return reply;
    freeReplyObject(reply);
    return NULL;
}

/* "name:value" of INFO's text. */
static bool info_value(struct atd_str info, const char *name, char ret_value[VALUE_MAX])
{
    size_t len = strlen(name);

    while (info.len > 0) {
        ptrdiff_t end = atd_str_find(info, '\n');
        struct atd_str line = end < 0 ? info : atd_str_head(info, (size_t)end);

        if (line.len > len && memcmp(line.ptr, name, len) == 0 && line.ptr[len] == ':') {
            struct atd_str value = atd_str_from_byte(line, len + 1);

            if (value.len > 0 && value.ptr[value.len - 1] == '\r')
                value.len--;
            (void)snprintf(ret_value, VALUE_MAX, "%.*s",
                           (int)(value.len < VALUE_MAX - 1 ? value.len : VALUE_MAX - 1), value.ptr);
            return true;
        }
        info = end < 0 ? ATD_STR("") : atd_str_from_byte(info, (size_t)end + 1);
    }
    return false;
}

static uint64_t info_number(struct atd_str info, const char *name)
{
    char value[VALUE_MAX];

    return info_value(info, name, value) ? strtoull(value, NULL, 10) : 0;
}

/* Of CONFIG GET; false: it may not be asked, or there is no such thing. */
static bool config_value(struct atd_redis_link *link, const char *name, char ret_value[VALUE_MAX])
{
    redisReply *reply =
        ask(link, (struct atd_str[]){ATD_STR("CONFIG"), ATD_STR("GET"), atd_str_from(name)}, 3);
    bool is_known = reply && reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
                    reply->element[1]->type == REDIS_REPLY_STRING;

    if (is_known)
        (void)snprintf(ret_value, VALUE_MAX, "%s", reply->element[1]->str);
    if (reply)
        freeReplyObject(reply);
    return is_known;
}

/* ------------------------------------------------------------------ what it says of itself */

static void look_at_memory(struct doctor *doctor, struct atd_str info)
{
    uint64_t most = info_number(info, "maxmemory");
    uint64_t used = info_number(info, "used_memory");
    char policy[VALUE_MAX] = "";
    char sizes[2][PROGRESS_SIZE_TEXT_MAX];

    if (!info_value(info, "maxmemory_policy", policy))
        return;
    if (strncmp(policy, "allkeys-", 8) == 0) {
        doctor_advise(
            doctor_say(doctor, "redis memory", CHECK_PROBLEM,
                       "maxmemory-policy is %s: when memory is short%s the server deletes "
                       "datasets",
                       policy, most ? "" : " (no maxmemory is set yet)"),
            "run CONFIG SET maxmemory-policy noeviction, and set it in redis.conf too");
        return;
    }
    if (most && used / (most / 100 + 1) >= MEMORY_SHARE_WARNING) {
        doctor_advise(doctor_say(doctor, "redis memory", CHECK_WARNING, "%s of %s are used",
                                 progress_size_text(used, sizes[0]),
                                 progress_size_text(most, sizes[1])),
                      "raise maxmemory: when it is used up, publishing is refused");
        return;
    }
    (void)doctor_say(doctor, "redis memory", CHECK_OK, "%s used, policy %s",
                     progress_size_text(used, sizes[0]), policy);
}

static void look_at_persistence(struct doctor *doctor, struct atd_redis_link *link,
                                struct atd_str info)
{
    char value[VALUE_MAX] = "";

    if (info_value(info, "rdb_last_bgsave_status", value) && strcmp(value, "err") == 0) {
        doctor_advise(doctor_say(doctor, "redis persistence", CHECK_PROBLEM,
                                 "the server's last attempt to save to its disk failed"),
                      "look into the server's log and free room on its disk: until it can save, it "
                      "refuses writes");
    } else if (info_number(info, "aof_enabled")) {
        (void)doctor_say(doctor, "redis persistence", CHECK_OK, "an append-only file is kept");
    } else if (!config_value(link, "save", value)) {
        (void)doctor_say(doctor, "redis persistence", CHECK_NOTE,
                         "the server does not say whether it saves anything");
    } else if (value[0]) {
        doctor_advise(doctor_say(doctor, "redis persistence", CHECK_OK,
                                 "snapshots are saved (save %s)", value),
                      "with appendonly yes a crash loses a second at most");
    } else {
        doctor_advise(doctor_say(doctor, "redis persistence", CHECK_WARNING,
                                 "nothing is saved to disk: when the server restarts, the index is "
                                 "empty"),
                      "set appendonly yes in redis.conf (CONFIG SET appendonly yes, now)");
    }
}

static void look_at_role(struct doctor *doctor, struct atd_redis_link *link)
{
    bool is_master = true;

    if (atd_redis_role_get(link, &is_master, NULL) != 0 || is_master)
        return;
    doctor_advise(doctor_say(doctor, "redis role", CHECK_PROBLEM,
                             "the server is a replica: nothing can be published there, and what it "
                             "shows may be old"),
                  "name the master, or the sentinels: redis+sentinel://HOST,HOST/MASTER");
}

static void look_at_clock(struct doctor *doctor, struct atd_redis_link *link)
{
    redisReply *reply = ask(link, &ATD_STR("TIME"), 1);

    if (reply && reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
        reply->element[0]->type == REDIS_REPLY_STRING)
        doctor_say_clock(doctor, "redis clock", "the server of the index",
                         strtoll(reply->element[0]->str, NULL, 10) - (long long)time(NULL));
    if (reply)
        freeReplyObject(reply);
}

static void look_inside(struct doctor *doctor, struct atd_redis_link *link)
{
    redisReply *reply = ask(link, &ATD_STR("INFO"), 1);
    char version[VALUE_MAX] = "";

    look_at_role(doctor, link);
    if (!reply || (reply->type != REDIS_REPLY_STRING && reply->type != REDIS_REPLY_STATUS)) {
        doctor_advise(doctor_say(doctor, "redis memory", CHECK_NOTE,
                                 "the user may not ask INFO: memory and persistence are unknown"),
                      "give it +info to have them looked at");
    } else {
        struct atd_str info = atd_redis_reply_text(reply);

        if (info_value(info, "redis_version", version))
            (void)doctor_say(doctor, "redis version", CHECK_OK, "%s", version);
        look_at_memory(doctor, info);
        look_at_persistence(doctor, link, info);
    }
    if (reply)
        freeReplyObject(reply);
    look_at_clock(doctor, link);
}

/* ------------------------------------------------------------------ reaching it */

static void say_unreachable(struct doctor *doctor, const struct atd_error *why)
{
    struct check *check = doctor_say(doctor, NAME, CHECK_PROBLEM, "%s", why->text);

    switch (why->code) {
    case ECONNREFUSED:
    case ENOENT:
        doctor_advise(check,
                      "start the server, or correct the index's URL: nothing listens at '%s'",
                      doctor->options->index.redis->shown);
        break;
    case ETIMEDOUT:
        doctor_advise(check, "look for a firewall between here and there, and whether the server "
                             "hangs");
        break;
    case EHOSTUNREACH:
        doctor_advise(check, "correct the host's name in the index's URL, or the name service");
        break;
    case EACCES:
        doctor_advise(check, "give the server's certificate authority: -o ca_file=PATH");
        break;
    case EPROTO:
        doctor_advise(check, "use redis:// instead of rediss://, or another port: that one does "
                             "not speak TLS");
        break;
    default:
        doctor_advise(check, "correct the index's URL, and try redis-cli with the same");
        break;
    }
}

static void say_refused(struct doctor *doctor, const struct atd_error *why)
{
    struct check *check = doctor_say(doctor, NAME, CHECK_PROBLEM, "%s", why->text);

    if (why->code == EACCES)
        doctor_advise(check, "give the right password in $" ATD_REDIS_PASSWORD_VARIABLE
                             " or with -o password_file=PATH (and the user in "
                             "$" ATD_REDIS_USERNAME_VARIABLE ", or in the URL)");
    else if (why->code == EAGAIN)
        doctor_advise(check, "wait: the server is starting");
    else
        doctor_advise(check, "correct the index's URL: is it a Redis server, and has it that "
                             "database?");
}

void doctor_look_at_redis(struct doctor *doctor)
{
    struct atd_redis_url *url = doctor->options->index.redis;
    struct atd_redis_link *link = NULL;
    struct atd_error why = ATD_ERROR_INIT;
    unsigned round_trip_us = 0;
    redisReply *reply;

    if (atd_redis_link_open(url, doctor->options->ca_file, &link, &why) != 0) {
        say_unreachable(doctor, &why);
        return;
    }
    if (atd_redis_login(link, url, &round_trip_us, &why) != 0) {
        say_refused(doctor, &why);
        atd_redis_link_free(link);
        return;
    }
    /* A server that wants a password says so only now when none was given. */
    reply = NULL;
    if (atd_redis_link_ask(link, &ATD_STR("DBSIZE"), 1, &why) == 0 &&
        atd_redis_link_next(link, &reply, NULL, &why) == 0 && reply->type == REDIS_REPLY_ERROR)
        (void)atd_redis_error_set(atd_redis_reply_text(reply), "asking for the number of keys",
                                  ATD_REDIS_QUOTE, &why);
    if (why.code) {
        say_refused(doctor, &why);
    } else {
        (void)doctor_say(doctor, NAME, CHECK_OK, "'%s' answers (%u.%u ms), %lld keys", url->shown,
                         round_trip_us / 1000, round_trip_us % 1000 / 100,
                         reply && reply->type == REDIS_REPLY_INTEGER ? reply->integer : 0);
        look_inside(doctor, link);
    }
    if (reply)
        freeReplyObject(reply);
    atd_redis_link_free(link);
}

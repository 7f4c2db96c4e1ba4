#include "index/redis_replicas.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"

/* Replicas tell how far they are every second. */
#define SETTLE_EVERY_MS 100

static int refused(unsigned wait, struct atd_str text, struct atd_error *err)
{
    return atd_error_set(err, EACCES,
                         "wait=%u takes the rights +wait and +info, one of which the Redis user "
                         "lacks ('" ATD_STR_FMT "')",
                         wait, ATD_STR_ARG(text));
}

/* ------------------------------------------------------------------ WAIT */

static int ask_wait(struct atd_redis_link *link, unsigned replicas, unsigned within_ms,
                    struct atd_error *err)
{
    char count[16];
    char timeout[16];

    (void)snprintf(count, sizeof(count), "%u", replicas);
    (void)snprintf(timeout, sizeof(timeout), "%u", within_ms);
    return atd_redis_link_ask(
        link, (struct atd_str[]){ATD_STR("WAIT"), atd_str_from(count), atd_str_from(timeout)}, 3,
        err);
}

static int too_few(unsigned wanted, struct atd_error *err)
{
    return atd_error_set_retryable(err, EREMOTEIO,
                                   "the change was made, but %s confirmed it within %d s: a "
                                   "failover now could lose it",
                                   wanted == 1 ? "no replica" : "too few replicas",
                                   ATD_REDIS_WAIT_MS / 1000);
}

int atd_redis_replicas_wait(struct atd_redis_link *link, unsigned wanted, struct atd_error *err)
{
    redisReply *reply = NULL;
    int rc;

    if (wanted == 0)
        return 0;
    rc = ask_wait(link, wanted, ATD_REDIS_WAIT_MS, err);
    if (rc == 0)
        rc = atd_redis_link_next(link, &reply, NULL, err);
    if (rc)
        return atd_error_set_retryable(err, EREMOTEIO,
                                       "the change was made, but whether a replica has it is not "
                                       "known: the server's answer was lost");
    /* An error too: a master that is made a replica while it waits says so (UNBLOCKED). */
    if (reply->type != REDIS_REPLY_INTEGER || reply->integer < (long long)wanted)
        rc = too_few(wanted, err);
    freeReplyObject(reply);
    return rc;
}

/* ------------------------------------------------------------------ INFO */

static bool number_after(struct atd_str line, struct atd_str name, uint64_t *ret_number)
{
    const char *at = line.len > 0 ? memmem(line.ptr, line.len, name.ptr, name.len) : NULL;
    uint64_t number = 0;
    size_t digits = 0;

    if (!at)
        return false;
    for (at += name.len; at < line.ptr + line.len && *at >= '0' && *at <= '9'; at++, digits++)
        number = number * 10 + (uint64_t)(*at - '0');
    *ret_number = number;
    return digits > 0;
}

/* "slaveN:ip=...,port=...,state=online,offset=N,lag=N" */
static bool is_online_replica(struct atd_str line)
{
    return atd_str_starts_with(line, ATD_STR("slave")) && line.len > 6 && line.ptr[5] >= '0' &&
           line.ptr[5] <= '9' && memmem(line.ptr, line.len, ",state=online,", 14) != NULL;
}

void atd_redis_replication_read(struct atd_str info, uint64_t wanted_offset,
                                struct atd_redis_replication *ret_replication)
{
    struct atd_redis_replication replication = {.is_master = false};

    while (info.len > 0) {
        ptrdiff_t end = atd_str_find(info, '\n');
        struct atd_str line = end < 0 ? info : atd_str_head(info, (size_t)end);
        uint64_t offset;

        if (atd_str_starts_with(line, ATD_STR("role:master")))
            replication.is_master = true;
        else if (atd_str_starts_with(line, ATD_STR("master_repl_offset:")))
            (void)number_after(line, ATD_STR("master_repl_offset:"), &replication.offset);
        else if (is_online_replica(line) && number_after(line, ATD_STR(",offset="), &offset)) {
            replication.online++;
            replication.arrived += offset >= wanted_offset;
        }
        info = atd_str_from_byte(info, end < 0 ? info.len : (size_t)end + 1);
    }
    *ret_replication = replication;
}

/* *ret_told false: the user may not ask, and nobody said that it matters. */
static int get_replication(struct atd_redis_link *link, unsigned wait, uint64_t wanted_offset,
                           bool *ret_told, struct atd_redis_replication *ret_replication,
                           struct atd_error *err)
{
    redisReply *reply = NULL;
    int rc = atd_redis_link_ask(link, (struct atd_str[]){ATD_STR("INFO"), ATD_STR("replication")},
                                2, err);

    if (rc == 0)
        rc = atd_redis_link_next(link, &reply, NULL, err);
    if (rc)
        return rc;
    *ret_told = reply->type == REDIS_REPLY_STRING;
    if (*ret_told)
        atd_redis_replication_read(atd_redis_reply_text(reply), wanted_offset, ret_replication);
    else if (reply->type != REDIS_REPLY_ERROR)
        rc = atd_error_set(err, EPROTO, "the server's answer to INFO is of an unexpected form");
    else if (!atd_redis_error_is_refusal(atd_redis_reply_text(reply)))
        rc = atd_redis_change_error_set(atd_redis_reply_text(reply), err);
    else if (wait != ATD_REDIS_WAIT_AUTO)
        rc = refused(wait, atd_redis_reply_text(reply), err);
    freeReplyObject(reply);
    if (rc == 0 && *ret_told && !ret_replication->is_master)
        rc = atd_error_set(err, EROFS, "the server is a read-only replica: use the master");
    return rc;
}

/* Refused before anything is changed, rather than after. */
static int check_wait(struct atd_redis_link *link, unsigned wait, unsigned *ret_wanted,
                      struct atd_error *err)
{
    redisReply *reply = NULL;
    int rc = ask_wait(link, 0, 1, err);

    if (rc == 0)
        rc = atd_redis_link_next(link, &reply, NULL, err);
    if (rc)
        return rc;
    if (reply->type == REDIS_REPLY_ERROR &&
        atd_redis_error_is_refusal(atd_redis_reply_text(reply))) {
        if (wait != ATD_REDIS_WAIT_AUTO)
            rc = refused(wait, atd_redis_reply_text(reply), err);
        *ret_wanted = 0;
    } else if (reply->type == REDIS_REPLY_ERROR) {
        rc = atd_redis_change_error_set(atd_redis_reply_text(reply), err);
    }
    freeReplyObject(reply);
    return rc;
}

int atd_redis_replicas_look(struct atd_redis_link *link, unsigned wait, unsigned *ret_wanted,
                            struct atd_error *err)
{
    struct atd_redis_replication now = {.is_master = false};
    bool told = false;
    int rc;

    *ret_wanted = 0;
    if (wait == 0)
        return 0;
    /* WAIT's own count leaves out those that are a moment behind. */
    rc = get_replication(link, wait, 0, &told, &now, err);
    if (rc || !told)
        return rc;
    if (wait != ATD_REDIS_WAIT_AUTO && now.online < wait)
        return atd_error_set_retryable(err, EAGAIN,
                                       "%u replicas are connected, and wait=%u wants %u: nothing "
                                       "was changed",
                                       now.online, wait, wait);
    *ret_wanted = wait != ATD_REDIS_WAIT_AUTO ? wait : now.online > 0;
    return *ret_wanted > 0 ? check_wait(link, wait, ret_wanted, err) : 0;
}

int atd_redis_replicas_settle(struct atd_redis_link *link, unsigned wait, bool *ret_confirmed,
                              struct atd_error *err)
{
    int64_t until_ms = atd_clock_monotonic_ms() + ATD_REDIS_WAIT_MS;
    struct atd_redis_replication now;
    uint64_t offset;
    unsigned wanted;
    bool told;
    int rc;

    *ret_confirmed = false;
    if (wait == 0)
        return 0;
    rc = get_replication(link, wait, 0, &told, &now, err);
    if (rc || !told)
        return rc;
    offset = now.offset;
    wanted = wait != ATD_REDIS_WAIT_AUTO ? wait : now.online > 0;
    for (;;) {
        rc = get_replication(link, wait, offset, &told, &now, err);
        *ret_confirmed = rc == 0 && told && wanted > 0 && now.arrived >= wanted;
        if (rc || !told || now.arrived >= wanted)
            return rc;
        if (atd_clock_monotonic_ms() >= until_ms)
            return too_few(wanted, err);
        (void)nanosleep(&(struct timespec){0, SETTLE_EVERY_MS * 1000000L}, NULL);
    }
}

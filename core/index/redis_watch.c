#include "index/redis_watch.h"

#include <errno.h>

#include "base/check.h"
#include "base/cleanup.h"

/* Arguments of one HSET: a hash of unknown fields is written in pieces. */
#define FIELDS_AT_ONCE 1000u

struct watch {
    struct atd_redis_link *link;
    const struct atd_redis_step *steps;
    size_t count;
    struct atd_str *arguments; /* room for every command */
    size_t argument_max;
    redisReply **hashes; /* a step: what HGETALL gave, or NULL */
    bool *is_other;      /* a step: its key holds something that is no hash */
};

static int ask2(struct watch *watch, struct atd_str command, struct atd_str key,
                struct atd_error *err)
{
    return atd_redis_link_ask_write(watch->link, (struct atd_str[]){command, key}, 2, err);
}

/* ------------------------------------------------------------------ looking */

static int ask_state(struct watch *watch, const struct atd_redis_step *step, struct atd_error *err)
{
    int rc = ask2(watch, ATD_STR("TYPE"), step->key, err);

    for (size_t i = 0; i < step->wanted_count && rc == 0; i++) {
        if (step->condition == ATD_REDIS_IF_STRING)
            rc = ask2(watch, ATD_STR("GET"), step->key, err);
        else
            rc = atd_redis_link_ask_write(
                watch->link, (struct atd_str[]){ATD_STR("HGET"), step->key, step->wanted[i].field},
                3, err);
    }
    if (rc == 0 && step->effect == ATD_REDIS_WITHOUT)
        rc = ask2(watch, ATD_STR("HGETALL"), step->key, err);
    return rc;
}

static int ask_states(struct watch *watch, struct atd_error *err)
{
    int rc;

    watch->arguments[0] = ATD_STR("WATCH");
    for (size_t i = 0; i < watch->count; i++)
        watch->arguments[i + 1] = watch->steps[i].key;
    rc = atd_redis_link_ask_write(watch->link, watch->arguments, watch->count + 1, err);
    for (size_t i = 0; i < watch->count && rc == 0; i++)
        rc = ask_state(watch, &watch->steps[i], err);
    return rc;
}

/* The next reply; one of the wrong type for its key counts as nil. */
static int take(struct watch *watch, redisReply **ret_reply, bool *ret_nothing,
                struct atd_error *err)
{
    bool cut = false;
    int rc = atd_redis_link_next(watch->link, ret_reply, &cut, err);

    if (rc)
        return rc;
    *ret_nothing = cut || (*ret_reply)->type == REDIS_REPLY_NIL;
    if ((*ret_reply)->type != REDIS_REPLY_ERROR)
        return 0;
    *ret_nothing = true;
    if (atd_redis_error_is_wrong_type(atd_redis_reply_text(*ret_reply)))
        return 0;
    rc = atd_redis_change_error_set(atd_redis_reply_text(*ret_reply), err);
    freeReplyObject(*ret_reply);
    *ret_reply = NULL;
    return rc;
}

static bool type_fits(enum atd_redis_condition condition, struct atd_str type)
{
    switch (condition) {
    case ATD_REDIS_IF_ANY:
        return true;
    case ATD_REDIS_IF_ABSENT:
        return atd_str_equal(type, ATD_STR("none"));
    case ATD_REDIS_IF_HASH:
        return atd_str_equal(type, ATD_STR("hash"));
    case ATD_REDIS_IF_STRING:
        return atd_str_equal(type, ATD_STR("string"));
    default:
        return false;
    }
}

static int take_state(struct watch *watch, size_t place, bool *ret_holds, struct atd_error *err)
{
    const struct atd_redis_step *step = &watch->steps[place];
    redisReply *reply = NULL;
    bool nothing = false;
    bool holds;
    int rc = take(watch, &reply, &nothing, err);

    if (rc)
        return rc;
    holds = reply->type == REDIS_REPLY_STATUS &&
            type_fits(step->condition, atd_redis_reply_text(reply));
    watch->is_other[place] = !atd_str_equal(atd_redis_reply_text(reply), ATD_STR("hash")) &&
                             !atd_str_equal(atd_redis_reply_text(reply), ATD_STR("none"));
    freeReplyObject(reply);
    for (size_t i = 0; i < step->wanted_count; i++) {
        struct atd_str wanted = atd_bytes_str(step->wanted[i].value);

        rc = take(watch, &reply, &nothing, err);
        if (rc)
            return rc;
        /* Not a byte of what is cut counts: it is larger than anything that we write. */
        if (nothing)
            holds = holds && !wanted.ptr && reply->type == REDIS_REPLY_NIL;
        else
            holds = holds && wanted.ptr && reply->type == REDIS_REPLY_STRING &&
                    atd_str_equal(atd_redis_reply_text(reply), wanted);
        freeReplyObject(reply);
    }
    if (step->effect == ATD_REDIS_WITHOUT) {
        rc = take(watch, &watch->hashes[place], &nothing, err);
        if (rc == 0 && !nothing && watch->hashes[place]->type != REDIS_REPLY_ARRAY)
            rc = atd_error_set(err, EPROTO,
                               "the server's answer to HGETALL is of an unexpected "
                               "form");
        if (rc == 0 && nothing && holds)
            rc = atd_error_set(err, EFBIG, "a record is too large to be changed");
    }
    *ret_holds = holds;
    return rc;
}

/* The first reply is WATCH's own. */
static int take_states(struct watch *watch, enum atd_redis_verdict *ret_verdict, size_t *ret_which,
                       struct atd_error *err)
{
    redisReply *reply = NULL;
    struct atd_str text;
    int rc = atd_redis_link_next(watch->link, &reply, NULL, err);

    if (rc)
        return rc;
    text = atd_redis_reply_text(reply);
    *ret_verdict = ATD_REDIS_DONE;
    if (reply->type == REDIS_REPLY_ERROR && atd_redis_error_is(text, ATD_STR("CROSSSLOT")))
        *ret_verdict = ATD_REDIS_CROSSSLOT;
    else if (reply->type == REDIS_REPLY_ERROR)
        rc = atd_redis_change_error_set(text, err);
    else if (reply->type != REDIS_REPLY_STATUS)
        rc = atd_error_set(err, EPROTO, "the server's answer to WATCH is of an unexpected form");
    freeReplyObject(reply);
    for (size_t i = 0; i < watch->count && rc == 0; i++) {
        bool holds = false;

        rc = take_state(watch, i, &holds, err);
        if (rc == 0 && !holds && *ret_verdict == ATD_REDIS_DONE) {
            *ret_verdict = ATD_REDIS_CONFLICT;
            *ret_which = i;
        }
    }
    return rc;
}

/* ------------------------------------------------------------------ writing */

/* One HSET; *ret_asked counts commands. */
static int ask_hset(struct watch *watch, struct atd_str key, size_t argument_count,
                    size_t *ret_asked, struct atd_error *err)
{
    watch->arguments[0] = ATD_STR("HSET");
    watch->arguments[1] = key;
    ++*ret_asked;
    return atd_redis_link_ask_write(watch->link, watch->arguments, 2 + argument_count, err);
}

static int ask_del(struct watch *watch, struct atd_str key, size_t *ret_asked,
                   struct atd_error *err)
{
    ++*ret_asked;
    return ask2(watch, ATD_STR("DEL"), key, err);
}

static int ask_merge(struct watch *watch, const struct atd_redis_step *step, size_t *ret_asked,
                     struct atd_error *err)
{
    for (size_t i = 0; i < step->pair_count; i++) {
        watch->arguments[2 + 2 * i] = step->pairs[i].field;
        watch->arguments[3 + 2 * i] = atd_bytes_str(step->pairs[i].value);
    }
    return ask_hset(watch, step->key, 2 * step->pair_count, ret_asked, err);
}

/* All but one field of the hash that was read. */
static int ask_without(struct watch *watch, const struct atd_redis_step *step,
                       const redisReply *hash, size_t *ret_asked, struct atd_error *err)
{
    size_t used = 0;
    int rc = ask_del(watch, step->key, ret_asked, err);

    for (size_t i = 0; i + 1 < hash->elements && rc == 0; i += 2) {
        struct atd_str field = atd_redis_reply_text(hash->element[i]);

        if (atd_str_equal(field, step->pairs[0].field))
            continue;
        watch->arguments[2 + used] = field;
        watch->arguments[3 + used] = atd_redis_reply_text(hash->element[i + 1]);
        used += 2;
        if (used == FIELDS_AT_ONCE) {
            rc = ask_hset(watch, step->key, used, ret_asked, err);
            used = 0;
        }
    }
    return rc || used == 0 ? rc : ask_hset(watch, step->key, used, ret_asked, err);
}

static int ask_effect(struct watch *watch, size_t place, size_t *ret_asked, struct atd_error *err)
{
    const struct atd_redis_step *step = &watch->steps[place];
    int rc = 0;

    switch (step->effect) {
    case ATD_REDIS_NONE:
    case ATD_REDIS_WITHOUT:
        return 0;
    case ATD_REDIS_DELETE:
        return ask_del(watch, step->key, ret_asked, err);
    case ATD_REDIS_SET:
        ++*ret_asked;
        return atd_redis_link_ask_write(
            watch->link,
            (struct atd_str[]){ATD_STR("SET"), step->key, atd_bytes_str(step->pairs[0].value)}, 3,
            err);
    default:
        if (step->effect == ATD_REDIS_RENEW || watch->is_other[place])
            rc = ask_del(watch, step->key, ret_asked, err);
        return rc ? rc : ask_merge(watch, step, ret_asked, err);
    }
}

/* The server's answer to EXEC: true in *ret_touched when a key was touched meanwhile. */
static int take_exec(const redisReply *reply, bool *ret_touched, struct atd_error *err)
{
    *ret_touched = reply->type == REDIS_REPLY_NIL;
    if (*ret_touched)
        return 0;
    if (reply->type == REDIS_REPLY_ERROR)
        return atd_redis_change_error_set(atd_redis_reply_text(reply), err);
    if (reply->type != REDIS_REPLY_ARRAY)
        return atd_error_set(err, EREMOTEIO,
                             "the server's answer to a change is of an unexpected form, so that it "
                             "is not known whether it was made");
    for (size_t i = 0; i < reply->elements; i++) {
        if (reply->element[i]->type == REDIS_REPLY_ERROR)
            return atd_redis_change_error_set(atd_redis_reply_text(reply->element[i]), err);
    }
    return 0;
}

/* Its answer is waited for: after a MULTI that is refused each command would be done at once. */
static int begin(struct watch *watch, struct atd_error *err)
{
    redisReply *reply = NULL;
    int rc = atd_redis_link_ask_write(watch->link, (struct atd_str[]){ATD_STR("MULTI")}, 1, err);

    if (rc == 0)
        rc = atd_redis_link_next(watch->link, &reply, NULL, err);
    if (rc)
        return rc;
    if (reply->type == REDIS_REPLY_ERROR)
        rc = atd_redis_change_error_set(atd_redis_reply_text(reply), err);
    freeReplyObject(reply);
    return rc;
}

static int execute(struct watch *watch, bool *ret_touched, struct atd_error *err)
{
    struct atd_error first = ATD_ERROR_INIT;
    size_t asked = 0;
    int rc = begin(watch, err);

    /* A hash that is written anew as it was read comes first: others may change it too. */
    for (size_t i = 0; i < watch->count && rc == 0; i++) {
        if (watch->steps[i].effect == ATD_REDIS_WITHOUT)
            rc = ask_without(watch, &watch->steps[i], watch->hashes[i], &asked, err);
    }
    for (size_t i = 0; i < watch->count && rc == 0; i++)
        rc = ask_effect(watch, i, &asked, err);
    if (rc == 0)
        rc = atd_redis_link_ask_write(watch->link, (struct atd_str[]){ATD_STR("EXEC")}, 1, err);
    for (size_t i = 0; i <= asked && rc == 0; i++) {
        redisReply *reply = NULL;

        rc = atd_redis_link_next_of_change(watch->link, &reply, err);
        if (rc)
            return rc;
        /* EXEC itself only says that something before it was refused. */
        if (i < asked && reply->type == REDIS_REPLY_ERROR && !first.code)
            (void)atd_redis_change_error_set(atd_redis_reply_text(reply), &first);
        if (i == asked && !first.code)
            rc = take_exec(reply, ret_touched, err);
        freeReplyObject(reply);
    }
    if (rc || !first.code)
        return rc;
    if (err)
        *err = first;
    return -first.code;
}

static int unwatch(struct watch *watch, struct atd_error *err)
{
    redisReply *reply = NULL;
    int rc = atd_redis_link_ask_write(watch->link, (struct atd_str[]){ATD_STR("UNWATCH")}, 1, err);

    if (rc == 0)
        rc = atd_redis_link_next(watch->link, &reply, NULL, err);
    if (rc)
        return rc;
    /* Refused or not: what is still watched only makes the next EXEC look twice. */
    freeReplyObject(reply);
    return 0;
}

/* ------------------------------------------------------------------ the loop */

static void forget_hashes(struct watch *watch)
{
    for (size_t i = 0; i < watch->count; i++) {
        if (watch->hashes[i])
            freeReplyObject(watch->hashes[i]);
        watch->hashes[i] = NULL;
    }
}

static int attempt(struct watch *watch, bool *ret_touched, enum atd_redis_verdict *ret_verdict,
                   size_t *ret_which, struct atd_error *err)
{
    int rc = ask_states(watch, err);

    *ret_touched = false;
    if (rc == 0)
        rc = take_states(watch, ret_verdict, ret_which, err);
    if (rc)
        return rc;
    return *ret_verdict == ATD_REDIS_DONE ? execute(watch, ret_touched, err) : unwatch(watch, err);
}

int atd_redis_watch_run(struct atd_redis_link *link, const struct atd_redis_step *steps,
                        size_t count, enum atd_redis_verdict *ret_verdict, size_t *ret_which,
                        struct atd_error *err)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ATD_REDIS_PLAN_BYTES_MAX);
    struct watch watch = {.link = link, .steps = steps, .count = count};
    bool touched = true;
    int rc = 0;

    watch.argument_max = count + 2 + FIELDS_AT_ONCE;
    watch.arguments = atd_arena_alloc_array(&arena, watch.argument_max, sizeof(struct atd_str));
    watch.hashes = atd_arena_alloc_array(&arena, count, sizeof(redisReply *));
    watch.is_other = atd_arena_alloc_array(&arena, count, sizeof(bool));
    if (!watch.arguments || !watch.hashes || !watch.is_other)
        return atd_error_set(err, ENOMEM, "a change: out of memory");
    for (unsigned tries = 0; rc == 0 && touched; tries++) {
        if (tries == ATD_REDIS_WATCH_TRIES_MAX)
            return atd_error_set_retryable(err, EBUSY,
                                           "others change the same records all the time");
        rc = attempt(&watch, &touched, ret_verdict, ret_which, err);
        forget_hashes(&watch);
    }
    return rc;
}

/*
 * The Redis writer: a link of its own, made when it is first needed and again when it is dead, or
 * when the sentinels name another master. What is said on it: redis_commit.h, redis_replicas.h;
 * what a record looks like: redis_record.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "index/record_copy.h"
#include "index/redis_commit.h"
#include "index/redis_plan.h"
#include "index/redis_record.h"
#include "index/redis_replicas.h"
#include "index/redis_session.h"
#include "index/writer.h"

/* A link that was good so long ago is held against the sentinels before it is used. */
#define MOVED_EVERY_MS 1000

struct redis_writer {
    struct atd_index_writer base;
    struct atd_redis_url url;
    char *ca_file;
    struct atd_redis_link *link; /* NULL: none yet, or dead */
    uint64_t links;              /* ever made */
};

/* ------------------------------------------------------------------ the link */

static void go_down(struct redis_writer *writer)
{
    atd_redis_link_free(writer->link);
    writer->link = NULL;
}

/* *ret_fresh: it was made just now. */
static int go_up(struct redis_writer *writer, bool *ret_fresh, struct atd_error *err)
{
    struct atd_redis_link *link = NULL;
    unsigned round_trip_us;
    int rc;

    if (writer->link &&
        (atd_redis_link_is_dead(writer->link) ||
         atd_redis_link_has_moved(writer->link, &writer->url, writer->ca_file, MOVED_EVERY_MS)))
        go_down(writer);
    *ret_fresh = !writer->link;
    if (writer->link)
        return 0;
    rc = atd_redis_link_open(&writer->url, writer->ca_file, &link, err);
    if (rc == 0)
        rc = atd_redis_login(link, &writer->url, &round_trip_us, err);
    if (rc) {
        atd_redis_link_free(link);
        /* Of a socket that is not there; who reads would take it for a missing record. */
        if (rc == -ENOENT)
            err->code = ECONNREFUSED;
        return rc == -ENOENT ? -ECONNREFUSED : rc;
    }
    writer->link = link;
    writer->links++;
    return 0;
}

/* Between the end of an old master and the first word of a new one. */
static int say_failover(const struct redis_writer *writer, int rc, struct atd_error *why)
{
    if (rc != -EROFS || !writer->url.sentinel_count)
        return rc;
    return atd_error_set_retryable(why, EAGAIN,
                                   "the master has become a replica: a failover is under way");
}

/* What is said on the link; `ctx` is its own. */
typedef int (*conversation)(struct redis_writer *writer, void *ctx, struct atd_error *err);

/*
 * A link that broke without anybody noticing is made once more: whatever ends with these errors was
 * not done (EREMOTEIO is another). The state of a link after an error is not known.
 */
static int converse(struct redis_writer *writer, conversation talk, void *ctx,
                    struct atd_error *err)
{
    int64_t deadline_ms = atd_clock_monotonic_ms() + ATD_INDEX_WRITE_MS;

    for (;;) {
        struct atd_error why = ATD_ERROR_INIT;
        bool fresh;
        int rc = go_up(writer, &fresh, &why);

        if (rc == 0) {
            atd_redis_link_set_deadline(writer->link, deadline_ms);
            rc = say_failover(writer, talk(writer, ctx, &why), &why);
            if (rc && rc != -ESTALE && rc != -ENOENT)
                go_down(writer);
        } else {
            fresh = true;
        }
        if (!fresh && (rc == -ECONNRESET || rc == -EPIPE))
            continue;
        if (rc && err)
            *err = why;
        return rc;
    }
}

/* ------------------------------------------------------------------ reading */

struct reading {
    enum atd_index_kind kind;
    const union atd_index_record *key;
    struct atd_arena *arena;
    union atd_index_record record;
    bool found;
    char problem[256]; /* "": none */
};

static int see_entry(void *ctx, const struct atd_index_entry *entry, struct atd_error *err)
{
    struct reading *reading = ctx;

    reading->found = true;
    return atd_index_entry_copy(reading->arena, entry, &reading->record.entry, err);
}

static int see_label(void *ctx, const struct atd_index_label *label, struct atd_error *err)
{
    struct reading *reading = ctx;

    /* Where a version has an '@' two labels may have one key. */
    if (!atd_str_equal(label->name, reading->key->label.name))
        return 0;
    reading->found = true;
    return atd_index_label_copy(reading->arena, label, &reading->record.label, err);
}

static int see_schema(void *ctx, const struct atd_index_schema *schema, struct atd_error *err)
{
    struct reading *reading = ctx;

    if (!atd_str_equal(schema->version, reading->key->schema.version))
        return 0;
    reading->found = true;
    return atd_index_schema_copy(reading->arena, schema, &reading->record.schema, err);
}

static void see_problem(void *ctx, const char *what, struct atd_str key, const char *reason)
{
    struct reading *reading = ctx;

    (void)what;
    (void)key;
    (void)snprintf(reading->problem, sizeof(reading->problem), "%s", reason);
}

static int talk_read(struct redis_writer *writer, void *ctx, struct atd_error *err)
{
    static const enum atd_redis_kind kinds[] = {
        [ATD_INDEX_ENTRY] = ATD_REDIS_ENTRY,
        [ATD_INDEX_LABEL] = ATD_REDIS_LABEL,
        [ATD_INDEX_SCHEMA] = ATD_REDIS_SCHEMA,
    };
    struct reading *reading = ctx;
    const struct atd_index_sink sink = {reading,    see_entry, see_label,
                                        see_schema, NULL,      see_problem};
    const enum atd_redis_kind kind = kinds[reading->kind];
    struct atd_str key = atd_redis_key_of(reading->arena, reading->kind, reading->key);
    redisReply *reply = NULL;
    bool cut = false;
    int rc;

    if (!key.ptr)
        return atd_error_set(err, ENOMEM, "a record: out of memory");
    rc = atd_redis_link_ask(writer->link, (struct atd_str[]){atd_redis_command_of(kind), key}, 2,
                            err);
    if (rc == 0)
        rc = atd_redis_link_next(writer->link, &reply, &cut, err);
    if (rc)
        return rc;
    rc = atd_redis_record_report(kind, key, reply, cut, &sink, err);
    freeReplyObject(reply);
    if (rc || reading->found)
        return rc;
    if (reading->problem[0])
        return atd_error_set(err, EINVAL, "the record at '" ATD_STR_FMT "' is broken: %s",
                             ATD_STR_ARG(key), reading->problem);
    return atd_error_set(err, ENOENT, "there is no '" ATD_STR_FMT "'", ATD_STR_ARG(key));
}

static int redis_read(struct atd_index_writer *base, enum atd_index_kind kind,
                      const union atd_index_record *key, struct atd_arena *arena,
                      union atd_index_record *ret_record, struct atd_error *err)
{
    struct reading reading = {.kind = kind, .key = key, .arena = arena};
    int rc = converse((struct redis_writer *)base, talk_read, &reading, err);

    if (rc == 0)
        *ret_record = reading.record;
    return rc;
}

/* ------------------------------------------------------------------ changing */

struct changing {
    const struct atd_index_operation *operations;
    size_t count;
    size_t *ret_which;
};

static int talk_commit(struct redis_writer *writer, void *ctx, struct atd_error *err)
{
    const struct changing *changing = ctx;
    unsigned wanted = 0;
    int rc = atd_redis_replicas_look(writer->link, writer->url.wait, &wanted, err);

    if (rc == 0)
        rc = atd_redis_commit(writer->link, changing->operations, changing->count,
                              changing->ret_which, err);
    if (rc)
        return rc;
    if (wanted > 0)
        return atd_redis_replicas_wait(writer->link, wanted, err);
    /* One without replicas may be one that was stopped, and does not know yet what it missed. */
    return atd_redis_link_confirm(writer->link, &writer->url, writer->ca_file,
                                  writer->url.wait == ATD_REDIS_WAIT_AUTO, err);
}

static int talk_settle(struct redis_writer *writer, void *ctx, struct atd_error *err)
{
    bool confirmed = false;
    int rc = atd_redis_replicas_settle(writer->link, writer->url.wait, &confirmed, err);

    (void)ctx;
    /* As after a commit: what is found at a master that lost its place is lost. */
    if (rc || confirmed)
        return rc;
    return atd_redis_link_confirm(writer->link, &writer->url, writer->ca_file,
                                  writer->url.wait == ATD_REDIS_WAIT_AUTO, err);
}

static int redis_settle(struct atd_index_writer *base, struct atd_error *err)
{
    struct redis_writer *writer = (struct redis_writer *)base;

    return writer->url.wait ? converse(writer, talk_settle, NULL, err) : 0;
}

static uint64_t redis_epoch(const struct atd_index_writer *base)
{
    const struct redis_writer *writer = (const struct redis_writer *)base;

    return writer->url.sentinel_count ? writer->links : 0;
}

static int redis_commit(struct atd_index_writer *base, const struct atd_index_operation *operations,
                        size_t count, size_t *ret_which, struct atd_error *err)
{
    struct changing changing = {operations, count, ret_which};

    return converse((struct redis_writer *)base, talk_commit, &changing, err);
}

/* ------------------------------------------------------------------ whether one could */

static bool text_is(const redisReply *reply, const char *text)
{
    return (reply->type == REDIS_REPLY_STRING || reply->type == REDIS_REPLY_STATUS) &&
           atd_str_equal(atd_redis_reply_text(reply), atd_str_from(text));
}

/* HELLO's answer says it as a field, INFO's in a line. */
static bool is_replica(const redisReply *reply)
{
    struct atd_str text = atd_redis_reply_text(reply);

    if (reply->type == REDIS_REPLY_STRING)
        return text.len > 0 && memmem(text.ptr, text.len, "role:slave", 10) != NULL;
    if (reply->type != REDIS_REPLY_ARRAY)
        return false;
    for (size_t i = 0; i + 1 < reply->elements; i += 2) {
        if (text_is(reply->element[i], "role"))
            return text_is(reply->element[i + 1], "replica") ||
                   text_is(reply->element[i + 1], "slave");
    }
    return false;
}

/* A refusal is an answer too: a commit will tell. */
static int take_sign_of_life(struct redis_writer *writer, bool *ret_refused, struct atd_error *err)
{
    redisReply *reply = NULL;
    int rc = atd_redis_link_next(writer->link, &reply, NULL, err);

    if (rc)
        return rc;
    *ret_refused =
        reply->type == REDIS_REPLY_ERROR && atd_redis_error_is_refusal(atd_redis_reply_text(reply));
    if (reply->type == REDIS_REPLY_ERROR && !*ret_refused)
        rc = atd_redis_change_error_set(atd_redis_reply_text(reply), err);
    else if (is_replica(reply))
        rc = atd_error_set(err, EROFS, "the server is a read-only replica: use the master");
    freeReplyObject(reply);
    return rc;
}

static int talk_check(struct redis_writer *writer, void *ctx, struct atd_error *err)
{
    bool refused = false;
    int rc;

    (void)ctx;
    /* HELLO takes no right; servers before 6 do not know it. A PING fails when writing does. */
    rc = atd_redis_link_ask(writer->link, (struct atd_str[]){ATD_STR("PING")}, 1, err);
    if (rc == 0)
        rc = atd_redis_link_ask(writer->link, (struct atd_str[]){ATD_STR("HELLO"), ATD_STR("2")}, 2,
                                err);
    if (rc == 0)
        rc = take_sign_of_life(writer, &refused, err);
    if (rc == 0)
        rc = take_sign_of_life(writer, &refused, err);
    if (rc || !refused)
        return rc;
    rc = atd_redis_link_ask(writer->link,
                            (struct atd_str[]){ATD_STR("INFO"), ATD_STR("replication")}, 2, err);
    return rc ? rc : take_sign_of_life(writer, &refused, err);
}

static int redis_check(struct atd_index_writer *base, struct atd_error *err)
{
    return converse((struct redis_writer *)base, talk_check, NULL, err);
}

/* ------------------------------------------------------------------ the writer */

static void redis_free(struct atd_index_writer *base)
{
    struct redis_writer *writer = (struct redis_writer *)base;

    atd_redis_link_free(writer->link);
    free(writer->ca_file);
    explicit_bzero(&writer->url, sizeof(writer->url));
    free(writer);
}

static const struct atd_index_writer_ops redis_writer_ops = {
    .provider = "redis",
    .read = redis_read,
    .commit = redis_commit,
    .check = redis_check,
    .settle = redis_settle,
    .epoch = redis_epoch,
    .free = redis_free,
};

int atd_index_redis_writer(const struct atd_redis_url *url, const char *ca_file,
                           struct atd_index_writer **ret_writer, struct atd_error *err)
{
    struct redis_writer *writer = calloc(1, sizeof(*writer));

    if (!writer)
        return atd_error_set(err, ENOMEM, "index: out of memory");
    writer->base.ops = &redis_writer_ops;
    writer->url = *url;
    writer->base.location = strdup(url->shown);
    if (ca_file)
        writer->ca_file = strdup(ca_file);
    if (!writer->base.location || (ca_file && !writer->ca_file)) {
        atd_index_writer_free(&writer->base);
        return atd_error_set(err, ENOMEM, "index: out of memory");
    }
    *ret_writer = &writer->base;
    return 0;
}

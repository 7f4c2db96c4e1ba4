/*
 * A Redis server of a test's own with a writer and a reader of its index; `direct` sees the keys.
 */
#ifndef ATD_TESTS_REDIS_WRITING_H
#define ATD_TESTS_REDIS_WRITING_H

#include "index/redis.h"
#include "redis_server.h"
#include "writer_suite.h"

/* S3-REDIS 6.4: what the documentation tells a server's owner to allow. */
#define ACL_BEFORE                                                                           \
    "ACL SETUSER atd on >p resetkeys resetchannels -@all ~LocalDatasetEntry:* "              \
    "~LocalSchema:* ~LocalLens:* ~Label:* &__redis__:invalidate +ping +select +client|id "   \
    "+client|tracking +client|trackinginfo +client|setname +subscribe +scan +type +hgetall " \
    "+hget +hlen +hset +get +set +del +unlink +watch +unwatch +multi +exec +discard"
#define ACL_SCRIPTS " +eval +evalsha +script|load +script|exists"

static struct redis_server server;
static redisContext *direct;
static struct atd_index_writer *writer;
static struct atd_index *reader;

static inline void setup(void)
{
    (void)signal(SIGPIPE, SIG_DFL);
    server_make_dir(&server);
}

static inline void teardown(void)
{
    if (direct)
        redisFree(direct);
    atd_index_writer_free(writer);
    atd_index_free(reader);
    server_remove(&server);
}

static inline struct atd_redis_url url_of(const char *secrets, const char *socket)
{
    struct atd_redis_url url;
    struct atd_error err = ATD_ERROR_INIT;
    char text[256];

    (void)snprintf(text, sizeof(text), "unix://%s%s", secrets, socket);
    cr_assert_eq(atd_redis_url_parse(text, &url, &err), 0, "%s", err.text);
    return url;
}

static inline void open_writer(const char *secrets, const char *socket)
{
    const struct atd_redis_url url = url_of(secrets, socket);

    atd_index_writer_free(writer);
    cr_assert_eq(atd_index_redis_writer(&url, NULL, &writer, NULL), 0);
}

static inline void start(void)
{
    const struct atd_redis_url url = url_of("", server.socket);

    server_start(&server);
    direct = server_connect(&server);
    cr_assert_eq(atd_index_redis_open(&url, NULL, &reader, NULL), 0);
    open_writer("", server.socket);
}

/* A command's reply as text: elements parted by blanks. */
static inline const char *ask(const char *fmt, ...)
{
    static char text[4096];
    va_list args;
    redisReply *reply;
    size_t len = 0;

    va_start(args, fmt);
    reply = redisvCommand(direct, fmt, args);
    va_end(args);
    cr_assert_not_null(reply, "%s", direct->errstr);
    text[0] = '\0';
    if (reply->type == REDIS_REPLY_INTEGER)
        (void)snprintf(text, sizeof(text), "%lld", reply->integer);
    else if (reply->str)
        (void)snprintf(text, sizeof(text), "%s", reply->str);
    for (size_t i = 0; i < reply->elements && len < sizeof(text); i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s ", reply->element[i]->str);
    freeReplyObject(reply);
    return text;
}

static inline struct atd_index_operation an_entry(void)
{
    return put(ATD_INDEX_PUT_ENTRY, entry("c", "n", "u", NULL));
}

#endif

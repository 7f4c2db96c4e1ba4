/*
 * What the tests of tracking share: a server of their own, who writes to it, and an index that is
 * told.
 */
#ifndef ATD_TESTS_UNIT_REDIS_TRACKED_H
#define ATD_TESTS_UNIT_REDIS_TRACKED_H

#include "index/redis.h"
#include "index/redis_track.h"
#include "index_seen.h"
#include "redis_server.h"

static struct redis_server server;
static struct seen seen;
static redisContext *writer;

static inline void setup(void)
{
    (void)signal(SIGPIPE, SIG_DFL);
    server_make_dir(&server);
}

static inline void teardown(void)
{
    if (writer)
        redisFree(writer);
    server_remove(&server);
}

static inline void start(void)
{
    server_start(&server);
    writer = server_connect(&server);
}

static inline struct atd_index *open_as(const char *login, unsigned ways)
{
    struct atd_redis_url url;
    struct atd_index *index = NULL;
    struct atd_error err = ATD_ERROR_INIT;
    char text[256];

    (void)snprintf(text, sizeof(text), "unix://%s%s", login, server.socket);
    cr_assert_eq(atd_redis_url_parse(text, &url, &err), 0, "%s", err.text);
    cr_assert_eq(atd_index_redis_open(&url, NULL, &index, &err), 0, "%s", err.text);
    atd_index_redis_set_ways(index, ways);
    return index;
}

static inline struct atd_index *open_loaded(unsigned ways)
{
    struct atd_index *index = open_as("", ways);
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(see(index, &seen, &err), 0, "%s", err.text);
    return index;
}

#endif

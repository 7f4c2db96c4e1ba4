/*
 * Any bytes as a server's side of a login, a look at its counters and a load. The server closes
 * after them, so that nothing waits.
 */
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "index/redis_load.h"
#include "index/redis_session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Less than a socket takes at once. */
#define INPUT_MAX 65536

static void require(bool condition)
{
    if (!condition)
        abort();
}

static size_t touched;

static void touch(struct atd_str text)
{
    for (size_t i = 0; i < text.len; i++)
        touched += (unsigned char)text.ptr[i];
}

static int take_entry(void *ctx, const struct atd_index_entry *entry, struct atd_error *err)
{
    (void)ctx;
    (void)err;
    touch(entry->cid);
    touch(entry->name);
    touch(entry->schema_ref);
    require(entry->data_urls.ptr != NULL);
    touch(atd_bytes_str(entry->data_urls));
    touch(atd_bytes_str(entry->metadata));
    return 0;
}

static int take_label(void *ctx, const struct atd_index_label *label, struct atd_error *err)
{
    (void)ctx;
    (void)err;
    touch(label->name);
    touch(label->version);
    touch(label->cid);
    touch(label->description);
    touch(label->created_at);
    return 0;
}

static int take_schema(void *ctx, const struct atd_index_schema *schema, struct atd_error *err)
{
    (void)ctx;
    (void)err;
    touch(schema->name);
    require(atd_str_find(schema->version, '@') < 0);
    touch(atd_bytes_str(schema->json));
    return 0;
}

static void take_problem(void *ctx, const char *what, struct atd_str key, const char *reason)
{
    (void)ctx;
    touch(key);
    require(what[0] && reason[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct atd_index_sink sink = {NULL,        take_entry, take_label,
                                        take_schema, NULL,       take_problem};
    static const struct atd_redis_url url = {.user = "u", .password = "p", .db = 1};
    struct atd_redis_load_result result;
    struct atd_redis_link *link = NULL;
    struct atd_redis_mark mark;
    struct atd_error err = ATD_ERROR_INIT;
    unsigned round_trip_us = 0;
    int sockets[2];
    int rc;

    if (size > INPUT_MAX)
        return 0;
    require(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    require(size == 0 || send(sockets[1], data, size, MSG_NOSIGNAL) == (ssize_t)size);
    require(shutdown(sockets[1], SHUT_WR) == 0);
    require(atd_redis_link_over(sockets[0], &link, &err) == 0);
    rc = atd_redis_login(link, &url, &round_trip_us, &err);
    if (rc == 0)
        rc = atd_redis_mark_get(link, url.db, &mark, &err);
    if (rc == 0)
        rc = atd_redis_load(link, round_trip_us, &sink, &result, &err);
    require(rc == 0 || (rc == -err.code && err.code > 0 && err.text[0]));
    atd_redis_link_free(link);
    (void)close(sockets[1]);
    return 0;
}

/*
 * Arbitrary messages from a server that tells of changes. The first byte says in which way, then
 * come the answers to subscribing, then whatever is not asked for.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "index/redis_track.h"

#define INPUT_MAX 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void listen_to(struct atd_redis_track *track)
{
    struct atd_error err = ATD_ERROR_INIT;
    int rc = 0;

    /* The end comes as an error. */
    while (rc == 0) {
        const struct atd_redis_dirty *dirty = atd_redis_track_dirty(track);
        volatile unsigned char sum = 0;

        for (size_t i = 0; i < dirty->count; i++) {
            struct atd_str key = atd_redis_dirty_at(dirty, i);

            for (size_t k = 0; k < key.len; k++)
                sum = (unsigned char)(sum + (unsigned char)key.ptr[k]);
        }
        require(atd_redis_track_news(track) != ATD_NEWS_ALL || dirty->count == 0);
        atd_redis_track_clear(track);
        rc = atd_redis_track_listen(track, -1, atd_clock_monotonic_ms() + 60000, &err);
    }
    require(rc == -err.code && err.code > 0 && err.text[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum atd_redis_way ways[] = {ATD_REDIS_WAY_RESP2, ATD_REDIS_WAY_RESP3,
                                              ATD_REDIS_WAY_KEYSPACE};
    struct atd_redis_track *track = NULL;
    struct atd_redis_link *link = NULL;
    struct atd_error err = ATD_ERROR_INIT;
    int sockets[2];
    int rc;

    if (size == 0 || size > INPUT_MAX)
        return 0;
    require(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    require(size == 1 || send(sockets[1], data + 1, size - 1, MSG_NOSIGNAL) == (ssize_t)(size - 1));
    require(shutdown(sockets[1], SHUT_WR) == 0);
    require(atd_redis_link_over(sockets[0], &link, &err) == 0);
    rc = atd_redis_track_over(link, ways[data[0] % 3], 0, &track, &err);
    if (rc == 0) {
        listen_to(track);
    } else {
        require(rc == -err.code && err.code > 0 && err.text[0]);
        atd_redis_link_free(link);
    }
    atd_redis_track_free(track);
    (void)close(sockets[1]);
    return 0;
}

/* A body on its way out. */
#include <arpa/inet.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "net/http_exchange.h"

size_t atd_http_on_send(char *room, size_t size, size_t count, void *ctx)
{
    struct atd_http_exchange *exchange = ctx;
    struct atd_bytes body;
    size_t len = size * count;

    if (exchange->state != ATD_EXCHANGE_ACTIVE)
        return CURL_READFUNC_ABORT;
    body = exchange->transfer->message->body;
    if (len > body.len - exchange->sent)
        len = body.len - exchange->sent;
    if (len > 0)
        memcpy(room, body.ptr + exchange->sent, len);
    exchange->sent += len;
    ATD_NET_COUNT(atd_http_stats(exchange->loop->engine), sent_bytes, len);
    return len;
}

/* curl sends a body again when a connection that it reused turns out to be dead. */
int atd_http_on_seek(void *ctx, curl_off_t offset, int origin)
{
    struct atd_http_exchange *exchange = ctx;

    if (exchange->state != ATD_EXCHANGE_ACTIVE || origin != SEEK_SET || offset < 0 ||
        (size_t)offset > exchange->transfer->message->body.len)
        return CURL_SEEKFUNC_FAIL;
    exchange->sent = (size_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* ------------------------------------------------------------------ sockets */

void atd_http_sockets_add(struct atd_http_sockets *sockets, int fd)
{
    if (sockets->count < ATD_HTTP_SOCKETS_MAX)
        sockets->fds[sockets->count++] = fd;
}

void atd_http_sockets_remove(struct atd_http_sockets *sockets, int fd)
{
    for (size_t i = 0; i < sockets->count; i++) {
        if (sockets->fds[i] == fd) {
            sockets->fds[i] = sockets->fds[--sockets->count];
            return;
        }
    }
}

static int port_of(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } address;
    socklen_t len = sizeof(address);

    memset(&address, 0, sizeof(address));
    if (getsockname(fd, &address.any, &len) != 0)
        return -1;
    return ntohs(address.any.sa_family == AF_INET6 ? address.v6.sin6_port : address.v4.sin_port);
}

int atd_http_sockets_find(const struct atd_http_sockets *sockets, int port)
{
    for (size_t i = 0; i < sockets->count; i++) {
        if (port > 0 && port_of(sockets->fds[i]) == port)
            return sockets->fds[i];
    }
    return -1;
}

/* ------------------------------------------------------------------ how far it is */

/* Bytes in the kernel that the other side has not confirmed; 0 when that cannot be told. */
static int64_t unconfirmed(int fd)
{
    int bytes = 0;

    return fd >= 0 && ioctl(fd, SIOCOUTQ, &bytes) == 0 ? bytes : 0;
}

bool atd_http_exchange_got_on(struct atd_http_exchange *exchange)
{
    int64_t waiting = unconfirmed(exchange->fd);
    curl_off_t given = 0;
    int64_t left_before = exchange->left;

    (void)curl_easy_getinfo(exchange->easy, CURLINFO_SIZE_UPLOAD_T, &given);
    exchange->left = given - waiting;
    exchange->sending =
        waiting > 0 || (uint64_t)given < (uint64_t)exchange->transfer->message->body.len;
    /* Less than before: sent again from its start, which is as good. */
    return exchange->left != left_before;
}

/* A body on its way out. */
#include <linux/sockios.h>
#include <sys/ioctl.h>

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

/* Bytes in the kernel that the other side has not confirmed; 0 when that cannot be told. */
static int64_t unconfirmed(CURL *easy)
{
    curl_socket_t fd = CURL_SOCKET_BAD;
    int bytes = 0;

    if (curl_easy_getinfo(easy, CURLINFO_ACTIVESOCKET, &fd) != CURLE_OK || fd == CURL_SOCKET_BAD ||
        ioctl(fd, SIOCOUTQ, &bytes) != 0)
        return 0;
    return bytes;
}

bool atd_http_exchange_got_on(struct atd_http_exchange *exchange)
{
    int64_t waiting = unconfirmed(exchange->easy);
    curl_off_t given = 0;
    int64_t left_before = exchange->left;

    (void)curl_easy_getinfo(exchange->easy, CURLINFO_SIZE_UPLOAD_T, &given);
    exchange->left = given - waiting;
    exchange->sending =
        waiting > 0 || (uint64_t)given < (uint64_t)exchange->transfer->message->body.len;
    /* Less than before: sent again from its start, which is as good. */
    return exchange->left != left_before;
}

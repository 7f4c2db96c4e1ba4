/* What curl calls while a transfer runs. Nothing here calls curl. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/http_exchange.h"

/* ------------------------------------------------------------------ receiving */

/* curl itself goes on to the next reply. */
static bool will_follow(const struct atd_http_exchange *exchange)
{
    int status = exchange->intake.head.status;

    return exchange->transfer->follow_redirects && exchange->intake.has_location &&
           (status == 301 || status == 302 || status == 303 || status == 307 || status == 308);
}

static void note_byte(struct atd_http_exchange *exchange)
{
    exchange->active_ms = atd_clock_monotonic_ms();
    if (exchange->first_byte_ms < 0)
        exchange->first_byte_ms = exchange->active_ms - exchange->start_ms;
}

/* False: the transfer ends. */
static bool give_head(struct atd_http_exchange *exchange)
{
    struct atd_http_transfer *transfer = exchange->transfer;

    exchange->head_given = true;
    if (transfer->head)
        exchange->refusal = transfer->head(transfer, &exchange->intake.head);
    return exchange->refusal == 0 && exchange->state == ATD_EXCHANGE_ACTIVE;
}

size_t atd_http_on_header(char *line, size_t size, size_t count, void *ctx)
{
    struct atd_http_exchange *exchange = ctx;
    struct atd_str text = {line, size * count};
    const char *why;

    if (exchange->state != ATD_EXCHANGE_ACTIVE)
        return 0;
    note_byte(exchange);
    if (exchange->head_given) {
        exchange->intake.all_bytes += text.len; /* a trailer */
        return exchange->intake.all_bytes <= ATD_HTTP_ALL_HEADER_BYTES_MAX ? text.len : 0;
    }
    switch (atd_http_intake_line(&exchange->intake, text, &why)) {
    case ATD_INTAKE_MORE:
        return text.len;
    case ATD_INTAKE_BAD:
        atd_http_exchange_end(exchange, EPROTO, false, "%s", why);
        return 0;
    case ATD_INTAKE_END:
        break;
    }
    if (exchange->intake.head.status >= 200 && !will_follow(exchange) && !give_head(exchange))
        return 0;
    return text.len;
}

size_t atd_http_on_body(char *data, size_t size, size_t count, void *ctx)
{
    struct atd_http_exchange *exchange = ctx;
    struct atd_http_transfer *transfer = exchange->transfer;
    size_t len = size * count;

    if (exchange->state != ATD_EXCHANGE_ACTIVE)
        return 0;
    note_byte(exchange);
    if (!exchange->head_given && !give_head(exchange))
        return 0;
    ATD_NET_COUNT(atd_http_stats(exchange->loop->engine), received_bytes, len);
    if (transfer->data)
        exchange->refusal = transfer->data(transfer, (const uint8_t *)data, len);
    else
        ATD_NET_COUNT(atd_http_stats(exchange->loop->engine), discarded_bytes, len);
    return exchange->refusal == 0 && exchange->state == ATD_EXCHANGE_ACTIVE ? len : 0;
}

/* ------------------------------------------------------------------ addresses */

/*
 * Where clouds answer questions about a machine's own credentials: a URL from an index must not
 * reach it. 169.254.0.0/16, also written as IPv6; fe80::/10; fd00:ec2::/32 (AWS: metadata ::254,
 * container ::23), fd20:ce::254 (Google), fd00:42::42 (Scaleway), 100.100.100.200 (Alibaba),
 * 168.63.129.16 (Azure). With a proxy the address is the proxy's: what that one may
 * reach is not this machine's secret.
 */
static bool is_link_local_v4(const uint8_t a[4])
{
    return (a[0] == 169 && a[1] == 254) ||
           (a[0] == 100 && a[1] == 100 && a[2] == 100 && a[3] == 200) ||
           (a[0] == 168 && a[1] == 63 && a[2] == 129 && a[3] == 16);
}

static bool is_link_local_v6(const uint8_t a[16])
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    static const uint8_t nat64[12] = {0, 0x64, 0xff, 0x9b};
    static const uint8_t aws[4] = {0xfd, 0x00, 0x0e, 0xc2};
    static const uint8_t scaleway[16] = {0xfd, 0x00, 0x00, 0x42, [15] = 0x42};
    static const uint8_t google[16] = {0xfd, 0x20, 0x00, 0xce, [14] = 0x02, [15] = 0x54};

    if (memcmp(a, mapped, sizeof(mapped)) == 0 || memcmp(a, nat64, sizeof(nat64)) == 0)
        return is_link_local_v4(a + 12);
    return (a[0] == 0xfe && (a[1] & 0xc0) == 0x80) || memcmp(a, aws, sizeof(aws)) == 0 ||
           memcmp(a, google, sizeof(google)) == 0 || memcmp(a, scaleway, sizeof(scaleway)) == 0;
}

static bool is_link_local(const struct sockaddr *address)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    if (address->sa_family == AF_INET) {
        memcpy(&v4, address, sizeof(v4));
        return is_link_local_v4((const uint8_t *)&v4.sin_addr);
    }
    if (address->sa_family == AF_INET6) {
        memcpy(&v6, address, sizeof(v6));
        return is_link_local_v6(v6.sin6_addr.s6_addr);
    }
    return true; /* neither: not ours to connect to */
}

curl_socket_t atd_http_on_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct atd_http_exchange *exchange = ctx;
    int fd;

    (void)purpose;
    if (exchange->transfer->refuse_link_local && is_link_local(&address->addr)) {
        exchange->refused_address = true;
        return CURL_SOCKET_BAD;
    }
    fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    if (fd >= 0)
        atd_http_sockets_add(&exchange->loop->sockets, fd);
    return fd;
}

int atd_http_on_close(void *ctx, curl_socket_t fd)
{
    struct atd_http_loop *loop = ctx;

    atd_http_sockets_remove(&loop->sockets, fd);
    return close(fd);
}

/* The request is about to be written to a connection. */
static int issue(struct atd_http_exchange *exchange, int local_port)
{
    exchange->issues++;
    if (exchange->transfer->message->body.len > 0)
        exchange->fd = atd_http_sockets_find(&exchange->loop->sockets, local_port);
    return CURL_PREREQFUNC_OK;
}

/*
 * Before each request on a connection, new or kept. A connection that a transfer without the rule
 * on addresses opened may be reused by one with it.
 */
int atd_http_on_connected(void *ctx, char *address, char *local, int port, int local_port)
{
    struct atd_http_exchange *exchange = ctx;
    uint8_t v6[16];
    uint8_t v4[4];

    (void)local;
    (void)port;
    if (!exchange->transfer->refuse_link_local)
        return issue(exchange, local_port);
    if ((inet_pton(AF_INET, address, v4) == 1 && is_link_local_v4(v4)) ||
        (inet_pton(AF_INET6, address, v6) == 1 && is_link_local_v6(v6))) {
        exchange->refused_address = true;
        return CURL_PREREQFUNC_ABORT;
    }
    return issue(exchange, local_port);
}

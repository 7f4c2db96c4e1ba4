#include "support/fake_http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MUST(condition)                                                           \
    do {                                                                          \
        if (!(condition)) {                                                       \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                              \
        }                                                                         \
    } while (0)

#define CONNECTIONS_MAX 4096
#define CHUNK_BYTES 4096

struct connection {
    struct fake_http *server;
    pthread_t thread;
    int fd;
    unsigned number;
    unsigned served;
    char *input; /* FAKE_HEADERS_MAX: what was received and not yet used */
    size_t input_len;
};

struct fake_http {
    fake_answer answer;
    fake_intake intake; /* NULL: bodies are read as they come */
    void *ctx;
    int listener;
    int stop_event; /* readable: the server stops */
    unsigned port;
    pthread_t thread;

    pthread_mutex_t lock;
    /* guarded by lock */
    struct connection *connections[CONNECTIONS_MAX];
    unsigned connection_count;
    unsigned request_count;
    unsigned body_count;
    unsigned busy;
    unsigned busiest;
};

static int64_t now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Waits for `events` on fd; false when the server stops or the time is over. -1: for ever. */
static bool wait_for(struct connection *connection, short events, int timeout_ms)
{
    struct pollfd fds[2] = {
        {.fd = connection->server->stop_event, .events = POLLIN},
        {.fd = connection->fd, .events = events},
    };
    int rc;

    do
        rc = poll(fds, 2, timeout_ms);
    while (rc < 0 && errno == EINTR);
    return rc > 0 && !fds[0].revents && fds[1].revents;
}

/* False: the other side has gone, or the server stops. */
static bool sleep_for(struct connection *connection, unsigned delay_ms)
{
    int64_t until_ms = now_ms() + delay_ms;

    for (;;) {
        int64_t left_ms = until_ms - now_ms();
        struct pollfd fds[2] = {
            {.fd = connection->server->stop_event, .events = POLLIN},
            {.fd = connection->fd, .events = POLLRDHUP},
        };

        if (left_ms <= 0)
            return true;
        if (poll(fds, 2, (int)left_ms) > 0 && (fds[0].revents || fds[1].revents))
            return false;
    }
}

static bool send_all(struct connection *connection, const void *data, size_t len)
{
    const char *at = data;

    while (len > 0) {
        ssize_t sent;

        if (!wait_for(connection, POLLOUT, -1))
            return false;
        sent = send(connection->fd, at, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (sent <= 0)
            return false;
        at += sent;
        len -= (size_t)sent;
    }
    return true;
}

/* More input, at most `max` bytes; false at its end. */
static bool receive_some(struct connection *connection, size_t max)
{
    ssize_t got;

    if (connection->input_len == FAKE_HEADERS_MAX || !wait_for(connection, POLLIN, -1))
        return false;
    if (max > FAKE_HEADERS_MAX - connection->input_len)
        max = FAKE_HEADERS_MAX - connection->input_len;
    got = recv(connection->fd, connection->input + connection->input_len, max, 0);
    if (got <= 0)
        return false;
    connection->input_len += (size_t)got;
    return true;
}

static void use_input(struct connection *connection, size_t len)
{
    connection->input_len -= len;
    memmove(connection->input, connection->input + len, connection->input_len);
}

bool fake_http_header(const struct fake_request *request, const char *name, char *ret_value,
                      size_t size)
{
    size_t name_len = strlen(name);

    for (const char *line = request->headers; *line;) {
        const char *end = strstr(line, "\r\n");

        if (!end)
            return false;
        if (strncasecmp(line, name, name_len) == 0 && line[name_len] == ':') {
            line += name_len + 1;
            line += strspn(line, " ");
            (void)snprintf(ret_value, size, "%.*s", (int)(end - line), line);
            return true;
        }
        line = end + 2;
    }
    return false;
}

static void end_connection(struct connection *connection, enum fake_end end)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};

    if (end == FAKE_STALL)
        (void)wait_for(connection, POLLRDHUP, -1);
    if (end == FAKE_RESET)
        (void)setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

static void ask_how_to_read(struct connection *connection, const struct fake_request *request,
                            struct fake_reading *reading)
{
    struct fake_http *server = connection->server;
    struct fake_request head = *request;

    (void)pthread_mutex_lock(&server->lock);
    head.number = server->body_count++;
    head.connection = connection->number;
    head.on_connection = connection->served;
    if (server->intake)
        server->intake(server->ctx, &head, reading);
    (void)pthread_mutex_unlock(&server->lock);
}

/* The next bytes of the body; false: there are no more, or there will be none. */
static bool receive_piece(struct connection *connection, const struct fake_reading *reading,
                          uint8_t *body, size_t len, size_t *have)
{
    size_t drip = reading->drip_bytes ? reading->drip_bytes : CHUNK_BYTES;
    size_t end = reading->drip_ms && len - *have > drip ? *have + drip : len;

    if (reading->drip_ms && !sleep_for(connection, reading->drip_ms))
        return false;
    while (*have < end) {
        size_t part = end - *have;

        if (connection->input_len == 0 && !receive_some(connection, part))
            return false;
        if (part > connection->input_len)
            part = connection->input_len;
        memcpy(body + *have, connection->input, part);
        use_input(connection, part);
        *have += part;
    }
    return true;
}

static bool receive_body(struct connection *connection, struct fake_request *request)
{
    struct fake_reading reading = {.delay_ms = 0};
    char text[32];
    size_t have = 0;
    size_t len;
    uint8_t *body;

    if (!fake_http_header(request, "content-length", text, sizeof(text)))
        return true;
    request->body_len = strtoull(text, NULL, 10);
    MUST(request->body_len <= FAKE_BODY_MAX);
    MUST(body = malloc(request->body_len + 1));
    request->body = body;
    ask_how_to_read(connection, request, &reading);
    len = reading.cut && reading.cut_at < request->body_len ? reading.cut_at : request->body_len;
    if (!sleep_for(connection, reading.delay_ms))
        return false;
    while (have < len) {
        if (!receive_piece(connection, &reading, body, len, &have))
            return false;
    }
    if (reading.cut)
        end_connection(connection, reading.end);
    return !reading.cut;
}

/* The next request; false when there is none. */
static bool receive_request(struct connection *connection, struct fake_request *request)
{
    char *end = NULL;
    char *first_line_end;
    size_t head_len;

    while (!(end = connection->input_len
                       ? memmem(connection->input, connection->input_len, "\r\n\r\n", 4)
                       : NULL)) {
        if (!receive_some(connection, FAKE_HEADERS_MAX))
            return false;
    }
    head_len = (size_t)(end - connection->input) + 2;
    first_line_end = memmem(connection->input, connection->input_len, "\r\n", 2);
    MUST(first_line_end);
    *first_line_end = '\0';
    MUST(sscanf(connection->input, "%15s %4095s", request->method, request->target) == 2);
    first_line_end += 2;
    (void)snprintf(request->headers, sizeof(request->headers), "%.*s",
                   (int)(head_len - (size_t)(first_line_end - connection->input)), first_line_end);
    use_input(connection, head_len + 2);
    return receive_body(connection, request);
}

static bool send_chunked(struct connection *connection, const uint8_t *body, size_t len, bool whole)
{
    while (len > 0) {
        size_t part = len < CHUNK_BYTES ? len : CHUNK_BYTES;
        char head[32];
        int head_len = snprintf(head, sizeof(head), "%zx\r\n", part);

        if (!send_all(connection, head, (size_t)head_len) || !send_all(connection, body, part) ||
            !send_all(connection, "\r\n", 2))
            return false;
        body += part;
        len -= part;
    }
    return !whole || send_all(connection, "0\r\n\r\n", 5);
}

static bool send_plain(struct connection *connection, const uint8_t *body, size_t len,
                       const struct fake_reply *reply)
{
    size_t drip = reply->drip_bytes ? reply->drip_bytes : CHUNK_BYTES;

    while (reply->drip_ms && len > drip) {
        if (!send_all(connection, body, drip) || !sleep_for(connection, reply->drip_ms))
            return false;
        body += drip;
        len -= drip;
    }
    return send_all(connection, body, len);
}

static bool send_head(struct connection *connection, const struct fake_reply *reply)
{
    char head[FAKE_REPLY_HEADERS_MAX + 256];
    char length[64] = "";
    int status = reply->status ? reply->status : 200;

    if (reply->chunked)
        (void)snprintf(length, sizeof(length), "Transfer-Encoding: chunked\r\n");
    else if (!reply->no_length && status != 304 && status != 204)
        (void)snprintf(length, sizeof(length), "Content-Length: %llu\r\n",
                       (unsigned long long)(reply->lie ? reply->said_length : reply->body_len));
    (void)snprintf(head, sizeof(head), "HTTP/1.1 %d Whatever\r\n%s%s\r\n", status, length,
                   reply->headers);
    return send_all(connection, head, strlen(head));
}

/* False: the connection is of no use any more. */
static bool send_reply(struct connection *connection, const struct fake_request *request,
                       const struct fake_reply *reply)
{
    bool bodyless = strcmp(request->method, "HEAD") == 0 || reply->status == 304;
    size_t len = reply->cut && reply->cut_at < reply->body_len ? reply->cut_at : reply->body_len;

    if (!sleep_for(connection, reply->delay_ms))
        return false;
    if (reply->raw)
        return send_all(connection, reply->raw,
                        reply->raw_len ? reply->raw_len : strlen(reply->raw));
    if (reply->cut && reply->cut_at == SIZE_MAX)
        return true;
    if ((reply->before && !send_all(connection, reply->before, strlen(reply->before))) ||
        !send_head(connection, reply) || !sleep_for(connection, reply->pause_ms))
        return false;
    if (bodyless)
        return true;
    if (reply->chunked)
        return send_chunked(connection, reply->body, len, len == reply->body_len && !reply->cut);
    return send_plain(connection, reply->body, len, reply);
}

static void count_busy(struct fake_http *server, int change)
{
    (void)pthread_mutex_lock(&server->lock);
    server->busy += (unsigned)change;
    if (server->busy > server->busiest)
        server->busiest = server->busy;
    (void)pthread_mutex_unlock(&server->lock);
}

/* False: the connection ends. */
static bool serve_one(struct connection *connection)
{
    struct fake_http *server = connection->server;
    struct fake_request *request = calloc(1, sizeof(*request));
    struct fake_reply *reply = calloc(1, sizeof(*reply));
    bool go_on = false;

    MUST(request && reply);
    if (receive_request(connection, request)) {
        (void)pthread_mutex_lock(&server->lock);
        request->number = server->request_count++;
        request->connection = connection->number;
        request->on_connection = connection->served++;
        server->answer(server->ctx, request, reply);
        (void)pthread_mutex_unlock(&server->lock);
        count_busy(server, 1);
        go_on = send_reply(connection, request, reply);
        if (!go_on || reply->end != FAKE_KEEP) {
            end_connection(connection, go_on ? reply->end : FAKE_CLOSE);
            go_on = false;
        }
        go_on = go_on && !reply->cut && !reply->no_length;
        count_busy(server, -1);
    }
    free((void *)(uintptr_t)request->body);
    free(request);
    free(reply);
    return go_on;
}

static void *serve_connection(void *ctx)
{
    struct connection *connection = ctx;

    while (serve_one(connection))
        continue;
    (void)close(connection->fd);
    return NULL;
}

static void add_connection(struct fake_http *server, int fd)
{
    struct connection *connection = calloc(1, sizeof(*connection));
    int on = 1;

    /* Head and body are two writes, which must not wait for each other. */
    MUST(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0);
    MUST(connection && (connection->input = malloc(FAKE_HEADERS_MAX)));
    connection->server = server;
    connection->fd = fd;
    (void)pthread_mutex_lock(&server->lock);
    MUST(server->connection_count < CONNECTIONS_MAX);
    connection->number = server->connection_count;
    server->connections[server->connection_count++] = connection;
    (void)pthread_mutex_unlock(&server->lock);
    MUST(pthread_create(&connection->thread, NULL, serve_connection, connection) == 0);
}

static void *accept_until_stopped(void *ctx)
{
    struct fake_http *server = ctx;

    for (;;) {
        struct pollfd fds[2] = {
            {.fd = server->stop_event, .events = POLLIN},
            {.fd = server->listener, .events = POLLIN},
        };
        int fd;

        if (poll(fds, 2, -1) < 0)
            continue;
        if (fds[0].revents)
            return NULL;
        fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            add_connection(server, fd);
    }
}

struct fake_http *fake_http_start(fake_answer answer, void *ctx)
{
    struct fake_http *server = calloc(1, sizeof(*server));
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);

    MUST(server);
    server->answer = answer;
    server->ctx = ctx;
    (void)pthread_mutex_init(&server->lock, NULL);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    MUST((server->stop_event = eventfd(0, EFD_CLOEXEC)) >= 0);
    MUST((server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) >= 0);
    MUST(bind(server->listener, (struct sockaddr *)&address, len) == 0);
    MUST(listen(server->listener, 512) == 0);
    MUST(getsockname(server->listener, (struct sockaddr *)&address, &len) == 0);
    server->port = ntohs(address.sin_port);
    MUST(pthread_create(&server->thread, NULL, accept_until_stopped, server) == 0);
    return server;
}

void fake_http_read_as(struct fake_http *server, fake_intake intake, int buffer_bytes)
{
    /* Accepted sockets inherit it, and with it the window that they offer. */
    if (buffer_bytes)
        MUST(setsockopt(server->listener, SOL_SOCKET, SO_RCVBUF, &buffer_bytes,
                        sizeof(buffer_bytes)) == 0);
    server->intake = intake;
}

void fake_http_stop(struct fake_http *server)
{
    uint64_t one = 1;

    if (!server)
        return;
    MUST(write(server->stop_event, &one, sizeof(one)) == sizeof(one));
    MUST(pthread_join(server->thread, NULL) == 0);
    for (unsigned i = 0; i < server->connection_count; i++) {
        MUST(pthread_join(server->connections[i]->thread, NULL) == 0);
        free(server->connections[i]->input);
        free(server->connections[i]);
    }
    (void)close(server->listener);
    (void)close(server->stop_event);
    (void)pthread_mutex_destroy(&server->lock);
    free(server);
}

unsigned fake_http_port(const struct fake_http *server)
{
    return server->port;
}

void fake_http_url(const struct fake_http *server, const char *path, char *ret_url, size_t size)
{
    (void)snprintf(ret_url, size, "http://127.0.0.1:%u%s", server->port, path);
}

static unsigned read_counter(struct fake_http *server, const unsigned *counter)
{
    unsigned value;

    (void)pthread_mutex_lock(&server->lock);
    value = *counter;
    (void)pthread_mutex_unlock(&server->lock);
    return value;
}

unsigned fake_http_requests(struct fake_http *server)
{
    return read_counter(server, &server->request_count);
}

unsigned fake_http_connections(struct fake_http *server)
{
    return read_counter(server, &server->connection_count);
}

unsigned fake_http_busy(struct fake_http *server)
{
    return read_counter(server, &server->busy);
}

unsigned fake_http_busiest(struct fake_http *server)
{
    return read_counter(server, &server->busiest);
}

static void add_header(struct fake_reply *reply, const char *name, const char *value)
{
    size_t used = strlen(reply->headers);

    (void)snprintf(reply->headers + used, sizeof(reply->headers) - used, "%s: %s\r\n", name, value);
}

void fake_http_object(const struct fake_request *request, struct fake_reply *reply,
                      const void *object, size_t len)
{
    char range[64];
    char text[96];
    unsigned long long first = 0;
    unsigned long long last = len ? len - 1 : 0;
    int fields = 0;

    if (fake_http_header(request, "range", range, sizeof(range)))
        fields = sscanf(range, "bytes=%llu-%llu", &first, &last);
    add_header(reply, "ETag", "\"fake\"");
    reply->body = object;
    reply->body_len = len;
    if (fields < 1)
        return;
    if (first >= len) {
        reply->status = 416;
        reply->body_len = 0;
        (void)snprintf(text, sizeof(text), "bytes */%zu", len);
        add_header(reply, "Content-Range", text);
        return;
    }
    if (last >= len)
        last = len - 1;
    reply->status = 206;
    reply->body = (const uint8_t *)object + first;
    reply->body_len = (size_t)(last - first + 1);
    (void)snprintf(text, sizeof(text), "bytes %llu-%llu/%zu", first, last, len);
    add_header(reply, "Content-Range", text);
}

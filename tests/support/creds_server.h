/*
 * A small HTTP server on the loopback that answers by a table and keeps every request whole.
 * No test framework: `abort()` on what cannot be.
 */
#ifndef ATD_TESTS_CREDS_SERVER_H
#define ATD_TESTS_CREDS_SERVER_H

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define SERVER_REQUESTS_MAX 64
#define SERVER_RULES_MAX 16
#define SERVER_REQUEST_MAX 65536
#define SERVER_HUNG_MAX 16

enum { SERVER_HANG = -1, SERVER_CLOSE = -2, SERVER_RAW = -3 }; /* instead of a status */

struct server_rule {
    const char *start; /* of the request line: "GET /path " */
    int status;
    const char *body; /* RAW: the whole reply */
    int times;        /* then the next rule that fits; 0: always */
    bool only_head;   /* no body, whatever Content-Length says */
};

struct server {
    int listener;
    int port;
    int stop[2];
    pthread_t thread;
    int hung[SERVER_HUNG_MAX];
    int hung_count;

    pthread_mutex_t mutex;
    struct server_rule rules[SERVER_RULES_MAX];
    int rule_count;
    char *requests[SERVER_REQUESTS_MAX];
    int request_count;
    char url[64];
};

static inline void server_must(bool condition, const char *what)
{
    if (!condition) {
        (void)fprintf(stderr, "test server: %s\n", what);
        abort();
    }
}

/* Head and body; false when the client went away or says nonsense. */
static inline bool server_read(int fd, char *text)
{
    size_t len = 0;
    size_t need = 0;

    while (need == 0 || len < need) {
        ssize_t got;
        char *end;

        if (len + 1 >= SERVER_REQUEST_MAX)
            return false;
        got = read(fd, text + len, SERVER_REQUEST_MAX - 1 - len);
        if (got <= 0)
            return false;
        len += (size_t)got;
        text[len] = '\0';
        end = strstr(text, "\r\n\r\n");
        if (end && need == 0) {
            char *said = strcasestr(text, "\r\nContent-Length:");

            need = (size_t)(end - text) + 4;
            if (said && said < end)
                need += (size_t)atol(said + 17);
        }
    }
    return true;
}

static inline struct server_rule server_pick(struct server *server, const char *text)
{
    struct server_rule picked = {"", 599, "no rule", 0, false};

    (void)pthread_mutex_lock(&server->mutex);
    if (server->request_count < SERVER_REQUESTS_MAX) /* later ones are only counted */
        server->requests[server->request_count] = strdup(text);
    server->request_count++;
    for (int i = 0; i < server->rule_count; i++) {
        struct server_rule *rule = &server->rules[i];

        if (rule->times < 0 || strncmp(text, rule->start, strlen(rule->start)) != 0)
            continue;
        picked = *rule;
        if (rule->times > 0 && --rule->times == 0)
            rule->times = -1;
        break;
    }
    (void)pthread_mutex_unlock(&server->mutex);
    return picked;
}

static inline void server_send(int fd, const char *text)
{
    size_t len = strlen(text);

    while (len > 0) {
        ssize_t sent = send(fd, text, len, MSG_NOSIGNAL);

        if (sent <= 0)
            return;
        text += sent;
        len -= (size_t)sent;
    }
}

static inline void server_answer(struct server *server, int fd)
{
    static const char head[] = "HTTP/1.1 %d Whatever\r\nContent-Length: %zu\r\n"
                               "Date: Tue, 24 Nov 2026 10:00:00 GMT\r\nX-Test:  yes \r\n"
                               "Connection: close\r\n\r\n";
    char *text = malloc(SERVER_REQUEST_MAX);
    struct server_rule rule;
    char line[512];

    server_must(text, "memory");
    if (!server_read(fd, text)) {
        free(text);
        (void)close(fd);
        return;
    }
    rule = server_pick(server, text);
    free(text);
    if (rule.status == SERVER_HANG) {
        server_must(server->hung_count < SERVER_HUNG_MAX, "too many hang");
        server->hung[server->hung_count++] = fd;
        return;
    }
    if (rule.status == SERVER_RAW) {
        server_send(fd, rule.body);
    } else if (rule.status != SERVER_CLOSE) {
        (void)snprintf(line, sizeof(line), head, rule.status, strlen(rule.body));
        server_send(fd, line);
        if (!rule.only_head)
            server_send(fd, rule.body);
    }
    (void)shutdown(fd, SHUT_WR);
    (void)close(fd);
}

static inline void *server_run(void *ctx)
{
    struct server *server = ctx;

    for (;;) {
        struct pollfd fds[] = {{server->listener, POLLIN, 0}, {server->stop[0], POLLIN, 0}};
        int fd;

        if (poll(fds, 2, -1) < 0)
            continue;
        if (fds[1].revents)
            return NULL;
        fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            server_answer(server, fd);
    }
}

static inline void server_start(struct server *server)
{
    struct sockaddr_in where = {.sin_family = AF_INET,
                                .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(where);

    memset(server, 0, sizeof(*server));
    (void)pthread_mutex_init(&server->mutex, NULL);
    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    server_must(server->listener >= 0, "socket");
    server_must(bind(server->listener, (struct sockaddr *)&where, len) == 0, "bind");
    server_must(listen(server->listener, 64) == 0, "listen");
    server_must(getsockname(server->listener, (struct sockaddr *)&where, &len) == 0, "name");
    server->port = ntohs(where.sin_port);
    (void)snprintf(server->url, sizeof(server->url), "http://127.0.0.1:%d", server->port);
    server_must(pipe(server->stop) == 0, "pipe");
    server_must(pthread_create(&server->thread, NULL, server_run, server) == 0, "thread");
}

static inline void server_rule(struct server *server, const char *start, int status,
                               const char *body, int times)
{
    (void)pthread_mutex_lock(&server->mutex);
    server_must(server->rule_count < SERVER_RULES_MAX, "too many rules");
    server->rules[server->rule_count++] = (struct server_rule){start, status, body, times, false};
    (void)pthread_mutex_unlock(&server->mutex);
}

static inline void server_forget_rules(struct server *server)
{
    (void)pthread_mutex_lock(&server->mutex);
    server->rule_count = 0;
    (void)pthread_mutex_unlock(&server->mutex);
}

/* In place of all others, in one step. */
static inline void server_only_rule(struct server *server, const char *start, int status,
                                    const char *body)
{
    (void)pthread_mutex_lock(&server->mutex);
    server->rule_count = 1;
    server->rules[0] = (struct server_rule){start, status, body, 0, false};
    (void)pthread_mutex_unlock(&server->mutex);
}

static inline int server_count(struct server *server)
{
    int count;

    (void)pthread_mutex_lock(&server->mutex);
    count = server->request_count;
    (void)pthread_mutex_unlock(&server->mutex);
    return count;
}

static inline void server_stop(struct server *server)
{
    server_must(write(server->stop[1], "x", 1) == 1, "stop");
    (void)pthread_join(server->thread, NULL);
    for (int i = 0; i < server->hung_count; i++)
        (void)close(server->hung[i]);
    for (int i = 0; i < SERVER_REQUESTS_MAX; i++)
        free(server->requests[i]);
    (void)close(server->listener);
    (void)close(server->stop[0]);
    (void)close(server->stop[1]);
    (void)pthread_mutex_destroy(&server->mutex);
}

#endif

/*
 * A real redis-server of a test's own, in a directory of its own: started, stopped by its process
 * number, gone with the test whatever becomes of it.
 */
#ifndef ATD_TESTS_REDIS_SERVER_H
#define ATD_TESTS_REDIS_SERVER_H

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

#define SERVER_OPTIONS_MAX 24

struct redis_server {
    char dir[64];
    char socket[96];
    pid_t pid;
    const char *options[SERVER_OPTIONS_MAX + 1]; /* more of the command line */
};

static inline void server_make_dir(struct redis_server *server)
{
    (void)strcpy(server->dir, "/tmp/atd-redis-XXXXXX");
    cr_assert_not_null(mkdtemp(server->dir));
    (void)snprintf(server->socket, sizeof(server->socket), "%s/sock", server->dir);
}

/* A port that nobody has now. */
static inline unsigned free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    cr_assert_eq(bind(fd, (struct sockaddr *)&address, len), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    (void)close(fd);
    return ntohs(address.sin_port);
}

static inline redisContext *server_connect(const struct redis_server *server)
{
    int64_t until_ms = atd_clock_monotonic_ms() + 20000;

    for (;;) {
        redisContext *writer = redisConnectUnix(server->socket);
        redisReply *pong = writer && !writer->err ? redisCommand(writer, "PING") : NULL;
        bool up = pong != NULL;

        freeReplyObject(pong);
        if (up)
            return writer;
        if (writer)
            redisFree(writer);
        cr_assert_lt(atd_clock_monotonic_ms(), until_ms, "redis-server does not start");
        (void)usleep(10000);
    }
}

static inline void server_start(struct redis_server *server)
{
    pid_t parent = getpid();

    server->pid = fork();
    cr_assert(server->pid >= 0);
    if (server->pid == 0) {
        /* execvp() takes char *const[] and changes nothing. */
        union {
            const char *given[SERVER_OPTIONS_MAX + 16];
            char *taken[SERVER_OPTIONS_MAX + 16];
        } arguments = {{"redis-server", "--unixsocket", server->socket, "--dir", server->dir,
                        "--save", "", "--bind", "127.0.0.1"}};
        size_t count = 9;
        bool has_port = false;
        int null = open("/dev/null", O_RDWR);

        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        for (size_t i = 0; server->options[i]; i++) {
            has_port = has_port || strcmp(server->options[i], "--port") == 0;
            arguments.given[count++] = server->options[i];
        }
        if (!has_port) {
            arguments.given[count++] = "--port";
            arguments.given[count++] = "0";
        }
        (void)dup2(null, STDOUT_FILENO);
        (void)execvp(arguments.taken[0], arguments.taken);
        _exit(127);
    }
    redisFree(server_connect(server));
}

static inline void server_kill(struct redis_server *server)
{
    if (server->pid <= 0)
        return;
    (void)kill(server->pid, SIGKILL);
    (void)waitpid(server->pid, NULL, 0);
    server->pid = 0;
}

static inline void server_remove(struct redis_server *server)
{
    char command[128];

    server_kill(server);
    if (!server->dir[0])
        return;
    (void)snprintf(command, sizeof(command), "rm -rf %s", server->dir);
    cr_assert_eq(system(command), 0);
}

/* Runs a command that must not fail; blanks part the arguments, %b takes (const char *, size_t). */
#define RUN(writer, ...)                                                         \
    do {                                                                         \
        redisReply *run_reply = redisCommand((writer), __VA_ARGS__);             \
        cr_assert_not_null(run_reply, "%s", (writer)->errstr);                   \
        cr_assert_neq(run_reply->type, REDIS_REPLY_ERROR, "%s", run_reply->str); \
        freeReplyObject(run_reply);                                              \
    } while (0)

#endif

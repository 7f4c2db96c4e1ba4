#include "index/redis_connect.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"

#define ADDRESSES_MAX 16

int atd_redis_set_nonblocking(int fd, struct atd_error *err)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return atd_error_set(err, errno, "%s", strerror(errno));
    return 0;
}

int atd_redis_wait_fd(int fd, short events, int64_t deadline_ms, short *ret_events)
{
    struct pollfd poll_fd = {.fd = fd, .events = events};

    for (;;) {
        int64_t left_ms = deadline_ms - atd_clock_monotonic_ms();
        int ready;

        if (left_ms < 0)
            return -ETIMEDOUT;
        ready = poll(&poll_fd, 1, left_ms > INT_MAX ? INT_MAX : (int)left_ms);
        if (ready > 0) {
            if (ret_events)
                *ret_events = poll_fd.revents;
            return 0;
        }
        if (ready == 0)
            return -ETIMEDOUT;
        if (errno != EINTR)
            return -errno;
    }
}

/* 0 or a negative errno; *ret_fd on success. */
static int connect_to(const struct sockaddr *address, socklen_t len, int64_t deadline_ms,
                      int *ret_fd)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int code = 0;
    int rc = 0;
    socklen_t size = sizeof(code);

    if (fd < 0)
        return -errno;
    if (connect(fd, address, len) != 0)
        rc = -errno;
    /* A Unix socket whose queue is full says EAGAIN: that is a server that does not accept. */
    if (rc == -EINPROGRESS || rc == -EINTR) {
        rc = atd_redis_wait_fd(fd, POLLOUT, deadline_ms, NULL);
        if (rc == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size) != 0)
            code = errno;
        if (rc == 0)
            rc = -code;
    }
    if (rc) {
        (void)close(fd);
        return rc;
    }
    *ret_fd = fd;
    return 0;
}

static int refused(int code, struct atd_error *err)
{
    int rc;

    switch (code) {
    case ECONNREFUSED:
        return atd_error_set_retryable(err, code, "no server answers there (connection refused)");
    case ENOENT:
        return atd_error_set_retryable(err, code, "no such socket: is the server running?");
    case ETIMEDOUT:
        return atd_error_set_retryable(err, code,
                                       "the server cannot be reached: connecting takes "
                                       "too long");
    case EACCES:
    case EPERM:
        return atd_error_set(err, code, "cannot connect: %s", strerror(code));
    case EAGAIN:
        return atd_error_set_retryable(err, ECONNREFUSED, "the server accepts no connections now");
    default:
        rc = atd_error_set_retryable(err, code, "cannot connect: %s", strerror(code));
        return rc;
    }
}

static int connect_unix(const struct atd_redis_url *url, int64_t deadline_ms, int *ret_fd,
                        struct atd_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = strlen(url->path);
    int rc;

    _Static_assert(sizeof(address.sun_path) >= sizeof(url->path), "a path of a URL fits");
    memcpy(address.sun_path, url->path, len + 1);
    rc = connect_to((const struct sockaddr *)&address, sizeof(address), deadline_ms, ret_fd);
    return rc ? refused(-rc, err) : 0;
}

static int resolve(const struct atd_redis_url *url, struct addrinfo **ret_list,
                   struct atd_error *err)
{
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    char port[16];
    int code;

    (void)snprintf(port, sizeof(port), "%u", url->port);
    code = getaddrinfo(url->host, port, &hints, ret_list);
    if (code == 0)
        return 0;
    if (code == EAI_MEMORY)
        return atd_error_set(err, ENOMEM, "out of memory");
    return atd_error_set_retryable(err, EHOSTUNREACH, "the host has no address: %s",
                                   code == EAI_SYSTEM ? strerror(errno) : gai_strerror(code));
}

static void tune(int fd)
{
    int on = 1;

    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

static int connect_tcp(const struct atd_redis_url *url, int64_t deadline_ms, int *ret_fd,
                       struct atd_error *err)
{
    struct addrinfo *list = NULL;
    int64_t left = 0;
    int rc = resolve(url, &list, err);

    if (rc)
        return rc;
    for (const struct addrinfo *one = list; one && left < ADDRESSES_MAX; one = one->ai_next)
        left++;
    rc = -EHOSTUNREACH;
    for (const struct addrinfo *one = list; one && left > 0; one = one->ai_next, left--) {
        /* One that does not answer must leave time for the others. */
        int64_t now_ms = atd_clock_monotonic_ms();

        rc = connect_to(one->ai_addr, one->ai_addrlen, now_ms + (deadline_ms - now_ms) / left,
                        ret_fd);
        if (rc == 0)
            break;
    }
    freeaddrinfo(list);
    if (rc)
        return refused(-rc, err);
    tune(*ret_fd);
    return 0;
}

int atd_redis_connect(const struct atd_redis_url *url, int64_t deadline_ms, int *ret_fd,
                      struct atd_error *err)
{
    return url->path[0] ? connect_unix(url, deadline_ms, ret_fd, err)
                        : connect_tcp(url, deadline_ms, ret_fd, err);
}

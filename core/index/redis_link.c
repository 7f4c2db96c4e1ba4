#include "index/redis_link.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "atdata/buf.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "index/redis_connect.h"
#include "index/redis_guard.h"
#include "index/redis_sentinel.h"
#include "index/redis_tls.h"

/* hiredis' own step; with more in hand it moves more memory about. */
#define IN_BYTES 16384
#define OUT_FIRST_BYTES 16384

struct atd_redis_link {
    int fd;
    struct atd_redis_tls *tls; /* NULL: plain */
    redisReader *reader;
    struct atd_redis_guard guard;
    int64_t deadline_ms;
    unsigned silence_ms;
    bool heard; /* a whole reply has come */
    struct atd_buf out;
    size_t out_sent;
    bool out_refused;              /* the server was gone: what was to be sent went nowhere */
    struct atd_redis_place master; /* whom the sentinels named; port 0: there are none */
    int64_t asked_ms;              /* when they did last */
    size_t in_used;
    size_t in_len;
    char in[IN_BYTES];
};

void atd_redis_link_free(struct atd_redis_link *link)
{
    if (!link)
        return;
    atd_redis_tls_free(link->tls);
    if (link->fd >= 0)
        (void)close(link->fd);
    if (link->reader)
        redisReaderFree(link->reader);
    if (link->out.ptr)
        explicit_bzero(link->out.ptr, link->out.cap);
    atd_buf_release(&link->out);
    free(link);
}

int atd_redis_link_over(int fd, struct atd_redis_link **ret_link, struct atd_error *err)
{
    struct atd_redis_link *link = calloc(1, sizeof(*link));
    int rc = atd_redis_set_nonblocking(fd, err);

    if (link)
        link->reader = redisReaderCreate();
    if (rc == 0 && (!link || !link->reader))
        rc = atd_error_set(err, ENOMEM, "out of memory");
    if (rc) {
        if (link)
            link->fd = -1;
        atd_redis_link_free(link);
        return rc;
    }
    link->fd = fd;
    link->silence_ms = ATD_REDIS_SILENCE_MS;
    atd_redis_guard_init(&link->guard);
    atd_buf_init(&link->out, 2 * (size_t)ATD_REDIS_OUT_BYTES_MAX);
    /* So that it does not move, and leave copies behind, while there is a password in it. */
    atd_buf_append_zeros(&link->out, OUT_FIRST_BYTES);
    rc = atd_buf_finish(&link->out, "a connection", err);
    if (rc) {
        link->fd = -1;
        atd_redis_link_free(link);
        return rc;
    }
    atd_buf_clear(&link->out);
    *ret_link = link;
    return 0;
}

static int start_tls(struct atd_redis_link *link, const struct atd_redis_url *url,
                     const char *ca_file, int64_t deadline_ms, struct atd_error *err)
{
    enum atd_redis_wait wait;
    int rc = atd_redis_tls_new(link->fd, url, ca_file, &link->tls, err);

    while (rc == 0 && (rc = atd_redis_tls_handshake(link->tls, &wait, err)) == -EAGAIN) {
        rc = atd_redis_wait_fd(link->fd, wait == ATD_REDIS_WAIT_WRITE ? POLLOUT : POLLIN,
                               deadline_ms, NULL);
        if (rc == -ETIMEDOUT)
            rc = atd_error_set_retryable(err, ETIMEDOUT,
                                         "no answer to the TLS handshake within %d s (does the "
                                         "server speak TLS on this port?)",
                                         ATD_REDIS_CONNECT_MS / 1000);
        else if (rc)
            rc = atd_error_set(err, -rc, "%s", strerror(-rc));
        else
            continue;
        break;
    }
    return rc;
}

int atd_redis_link_open_at(const struct atd_redis_url *url, const char *ca_file,
                           int64_t deadline_ms, struct atd_redis_link **ret_link,
                           struct atd_error *err)
{
    atd_auto_fd int fd = -1;
    struct atd_redis_link *link = NULL;
    int rc = atd_redis_connect(url, deadline_ms, &fd, err);

    if (rc == 0)
        rc = atd_redis_link_over(fd, &link, err);
    if (rc)
        return rc;
    (void)atd_steal_fd(&fd);
    if (url->tls)
        rc = start_tls(link, url, ca_file, deadline_ms, err);
    if (rc) {
        atd_redis_link_free(link);
        return rc;
    }
    *ret_link = link;
    return 0;
}

int atd_redis_link_open(struct atd_redis_url *url, const char *ca_file,
                        struct atd_redis_link **ret_link, struct atd_error *err)
{
    struct atd_redis_place master = {.port = 0};
    int rc;

    if (!url->sentinel_count)
        return atd_redis_link_open_at(url, ca_file, atd_clock_monotonic_ms() + ATD_REDIS_CONNECT_MS,
                                      ret_link, err);
    rc = atd_redis_sentinel_open(url, ca_file, ret_link, &master, err);
    if (rc == 0) {
        (*ret_link)->master = master;
        (*ret_link)->silence_ms = ATD_REDIS_WATCHED_SILENCE_MS;
        (*ret_link)->asked_ms = atd_clock_monotonic_ms();
    }
    return rc;
}

static bool is_same_place(const struct atd_redis_place *a, const struct atd_redis_place *b)
{
    return a->port == b->port && strcmp(a->host, b->host) == 0;
}

bool atd_redis_link_has_moved(struct atd_redis_link *link, struct atd_redis_url *url,
                              const char *ca_file, unsigned every_ms)
{
    int64_t now_ms = atd_clock_monotonic_ms();
    struct atd_redis_place master;

    if (!link->master.port || now_ms - link->asked_ms < every_ms)
        return false;
    if (atd_redis_sentinel_ask(url, ca_file, now_ms + ATD_REDIS_MOVED_MS, &master, NULL) != 0)
        master = link->master;
    link->asked_ms = atd_clock_monotonic_ms();
    return !is_same_place(&master, &link->master);
}

bool atd_redis_link_is_beside(const struct atd_redis_link *link, const struct atd_redis_link *other)
{
    return !link->master.port || !other->master.port ||
           is_same_place(&link->master, &other->master);
}

int atd_redis_link_confirm(struct atd_redis_link *link, struct atd_redis_url *url,
                           const char *ca_file, bool must_know, struct atd_error *err)
{
    struct atd_error why = ATD_ERROR_INIT;
    struct atd_redis_place master;
    int rc;

    if (!link->master.port)
        return 0;
    rc = atd_redis_sentinel_ask(url, ca_file, atd_clock_monotonic_ms() + ATD_REDIS_MOVED_MS,
                                &master, &why);
    if (rc && must_know)
        return atd_error_set_retryable(err, EREMOTEIO,
                                       "the change was made where there is no replica, and no "
                                       "sentinel says whether that is still the master: %s",
                                       why.text);
    if (rc || is_same_place(&master, &link->master))
        return 0;
    return atd_error_set_retryable(err, EREMOTEIO,
                                   "the change was made at a master that has lost its place");
}

void atd_redis_link_set_deadline(struct atd_redis_link *link, int64_t deadline_ms)
{
    link->deadline_ms = deadline_ms;
}

int atd_redis_link_ask(struct atd_redis_link *link, const struct atd_str *arguments, size_t count,
                       struct atd_error *err)
{
    const char *texts[ATD_REDIS_ARGUMENTS_MAX];
    size_t lengths[ATD_REDIS_ARGUMENTS_MAX];
    char *command = NULL;
    long long len;

    atd_assert(count > 0 && count <= ATD_REDIS_ARGUMENTS_MAX);
    for (size_t i = 0; i < count; i++) {
        if (arguments[i].len > ATD_REDIS_ARGUMENT_BYTES_MAX)
            return atd_error_set(err, EFBIG, "a key is longer than %u bytes",
                                 ATD_REDIS_ARGUMENT_BYTES_MAX);
        texts[i] = arguments[i].ptr ? arguments[i].ptr : "";
        lengths[i] = arguments[i].len;
    }
    len = redisFormatCommandArgv(&command, (int)count, texts, lengths);
    if (len < 0)
        return atd_error_set(err, ENOMEM, "out of memory");
    atd_buf_append(&link->out, command, (size_t)len);
    explicit_bzero(command, (size_t)len);
    redisFreeCommand(command);
    return atd_buf_finish(&link->out, "commands to the server", err);
}

static void append_head(struct atd_buf *out, char type, size_t number)
{
    atd_buf_printf(out, "%c%zu\r\n", type, number);
}

int atd_redis_link_ask_write(struct atd_redis_link *link, const struct atd_str *arguments,
                             size_t count, struct atd_error *err)
{
    size_t before = link->out.len;
    int rc;

    /* Not through hiredis, which would hold all of it once more. */
    link->out.max_bytes = ATD_REDIS_WRITE_BYTES_MAX;
    append_head(&link->out, '*', count);
    for (size_t i = 0; i < count; i++) {
        append_head(&link->out, '$', arguments[i].len);
        atd_buf_append_str(&link->out, arguments[i]);
        atd_buf_append_text(&link->out, "\r\n");
    }
    rc = atd_buf_finish(&link->out, "a change", err);
    if (rc) {
        /* So that half a command is never sent. */
        link->out.failed = 0;
        link->out.len = before;
    }
    return rc;
}

bool atd_redis_link_all_sent(const struct atd_redis_link *link)
{
    return link->out.len == 0 && !link->out_refused;
}

bool atd_redis_link_has_room(const struct atd_redis_link *link)
{
    return link->out.len - link->out_sent < ATD_REDIS_OUT_BYTES_MAX;
}

void atd_redis_link_forget_sent(struct atd_redis_link *link)
{
    explicit_bzero(link->out.ptr, link->out_sent);
    explicit_bzero(link->out.ptr + link->out.len, link->out.cap - link->out.len);
}

bool atd_redis_link_is_dead(const struct atd_redis_link *link)
{
    struct pollfd poll_fd = {.fd = link->fd, .events = POLLRDHUP};

    return poll(&poll_fd, 1, 0) > 0;
}

/* ------------------------------------------------------------------ moving bytes */

static int broken(int code, struct atd_error *err)
{
    return atd_error_set_retryable(err, code, "the connection broke: %s", strerror(code));
}

/* Bytes sent, or -EAGAIN, or a set error. */
static ssize_t send_some(struct atd_redis_link *link, enum atd_redis_wait *ret_wait,
                         struct atd_error *err)
{
    const uint8_t *bytes = link->out.ptr + link->out_sent;
    size_t len = link->out.len - link->out_sent;
    ssize_t done;

    *ret_wait = ATD_REDIS_WAIT_WRITE;
    if (link->tls)
        return atd_redis_tls_send(link->tls, bytes, len, ret_wait, err);
    done = send(link->fd, bytes, len, MSG_NOSIGNAL);
    /* Closed: it may have said why before; receiving goes on until that end. */
    if (done < 0 && (errno == EPIPE || errno == ECONNRESET)) {
        link->out_refused = true;
        return (ssize_t)len;
    }
    if (done < 0)
        return errno == EAGAIN || errno == EINTR ? -EAGAIN : broken(errno, err);
    return done;
}

static int at_end(const struct atd_redis_link *link, struct atd_error *err)
{
    if (!link->heard)
        return atd_error_set_retryable(err, ECONNRESET,
                                       "the server closed the connection without an answer (is it "
                                       "a Redis server? one that wants TLS has a rediss:// URL)");
    return atd_error_set_retryable(err, ECONNRESET, "the server closed the connection");
}

/* Bytes received, or -EAGAIN, or a set error. */
static ssize_t recv_some(struct atd_redis_link *link, enum atd_redis_wait *ret_wait,
                         struct atd_error *err)
{
    ssize_t done;

    *ret_wait = ATD_REDIS_WAIT_READ;
    if (link->tls)
        return atd_redis_tls_recv(link->tls, link->in, sizeof(link->in), ret_wait, err);
    done = recv(link->fd, link->in, sizeof(link->in), 0);
    if (done == 0)
        return at_end(link, err);
    if (done < 0) {
        if (errno == EAGAIN || errno == EINTR)
            return -EAGAIN;
        return errno == ECONNRESET ? at_end(link, err) : broken(errno, err);
    }
    return done;
}

static void note_sent(struct atd_redis_link *link, size_t len)
{
    link->out_sent += len;
    if (link->out_sent == link->out.len) {
        atd_buf_clear(&link->out);
        link->out_sent = 0;
        /* Nobody needs the room of a large change for long. */
        if (link->out.cap > 4 * (size_t)ATD_REDIS_OUT_BYTES_MAX)
            atd_buf_release(&link->out);
    } else if (link->out_sent > ATD_REDIS_OUT_BYTES_MAX / 2 &&
               link->out_sent >= link->out.len - link->out_sent) {
        memmove(link->out.ptr, link->out.ptr + link->out_sent, link->out.len - link->out_sent);
        link->out.len -= link->out_sent;
        link->out_sent = 0;
    }
}

/* Who waits for a message, not for a reply: nobody owes them one. */
struct patience {
    int wake_fd;
    int64_t until_ms;
};

static int wait_for_message(struct atd_redis_link *link, short events,
                            const struct patience *patience, struct atd_error *err)
{
    struct pollfd fds[] = {{.fd = link->fd, .events = events},
                           {.fd = patience->wake_fd, .events = POLLIN}};
    int64_t left_ms = patience->until_ms - atd_clock_monotonic_ms();
    int count;

    left_ms = left_ms < 0 ? 0 : left_ms;
    count = poll(fds, 2, left_ms > INT_MAX ? INT_MAX : (int)left_ms);
    if (count < 0 && errno != EINTR)
        return atd_error_set(err, errno, "waiting for the server: %s", strerror(errno));
    if (count < 0 || fds[0].revents)
        return 0;
    return count == 0 ? -EAGAIN : -EINTR;
}

static int wait_for(struct atd_redis_link *link, short events, struct atd_error *err)
{
    int64_t until_ms = atd_clock_monotonic_ms() + link->silence_ms;
    bool silence = until_ms < link->deadline_ms;
    int rc = atd_redis_wait_fd(link->fd, events, silence ? until_ms : link->deadline_ms, NULL);

    if (rc == -ETIMEDOUT && silence)
        return atd_error_set_retryable(err, ETIMEDOUT, "the server was silent for %u s",
                                       link->silence_ms / 1000);
    if (rc == -ETIMEDOUT)
        return atd_error_set_retryable(err, ETIMEDOUT, "the server's answer takes too long");
    return rc ? atd_error_set(err, -rc, "waiting for the server: %s", strerror(-rc)) : 0;
}

/* Sends what goes, and receives: returns when something came. `patience` NULL: a reply is due. */
static int receive(struct atd_redis_link *link, const struct patience *patience,
                   struct atd_error *err)
{
    for (;;) {
        short events = POLLIN;
        enum atd_redis_wait send_wait = ATD_REDIS_WAIT_READ;
        enum atd_redis_wait recv_wait = ATD_REDIS_WAIT_READ;
        ssize_t done = 0;
        int rc;

        while (link->out.len > 0 && (done = send_some(link, &send_wait, err)) > 0)
            note_sent(link, (size_t)done);
        if (done < 0 && done != -EAGAIN)
            return (int)done;
        done = recv_some(link, &recv_wait, err);
        if (done > 0) {
            link->in_used = 0;
            link->in_len = (size_t)done;
            return 0;
        }
        if (done != -EAGAIN)
            return (int)done;
        if (recv_wait == ATD_REDIS_WAIT_WRITE ||
            (link->out.len > 0 && send_wait == ATD_REDIS_WAIT_WRITE))
            events |= POLLOUT;
        rc = patience ? wait_for_message(link, events, patience, err) : wait_for(link, events, err);
        if (rc)
            return rc;
    }
}

static bool feed_reader(void *ctx, const char *bytes, size_t len)
{
    return redisReaderFeed(ctx, bytes, len) == REDIS_OK;
}

/* hiredis must have exactly one whole reply by now. */
static int take_reply(struct atd_redis_link *link, redisReply **ret_reply, struct atd_error *err)
{
    void *reply = NULL;

    if (redisReaderGetReply(link->reader, &reply) != REDIS_OK || !reply) {
        if (link->reader->err == REDIS_ERR_OOM)
            return atd_error_set(err, ENOMEM, "out of memory");
        return atd_error_set(err, EPROTO, "the server's answer is broken: %s",
                             link->reader->err ? link->reader->errstr : "it has no end");
    }
    link->heard = true;
    *ret_reply = reply;
    return 0;
}

/* A server that drips a byte now and then has no more time than a silent one. */
static int check_deadline(struct atd_redis_link *link, const struct patience *patience,
                          bool has_received, struct atd_error *err)
{
    int64_t now_ms = atd_clock_monotonic_ms();

    if (patience)
        return has_received && now_ms > patience->until_ms ? -EAGAIN : 0;
    return now_ms > link->deadline_ms
               ? atd_error_set_retryable(err, ETIMEDOUT, "the server's answer takes too long")
               : 0;
}

static int take_next(struct atd_redis_link *link, const struct patience *patience,
                     redisReply **ret_reply, bool *ret_cut, struct atd_error *err)
{
    const struct atd_redis_guard_sink sink = {link->reader, feed_reader};
    bool done = false;
    bool cut = false;
    bool has_received = false;

    while (!done) {
        struct atd_str bytes = {link->in + link->in_used, link->in_len - link->in_used};
        size_t used = 0;
        int rc;

        if (bytes.len == 0) {
            rc = check_deadline(link, patience, has_received, err);
            if (rc == 0)
                rc = receive(link, patience, err);
            if (rc)
                return rc;
            has_received = true;
            continue;
        }
        rc = atd_redis_guard_pass(&link->guard, bytes, &sink, &used, &done, &cut, err);
        if (rc)
            return rc;
        link->in_used += used;
    }
    if (ret_cut)
        *ret_cut = cut;
    return take_reply(link, ret_reply, err);
}

int atd_redis_link_next(struct atd_redis_link *link, redisReply **ret_reply, bool *ret_cut,
                        struct atd_error *err)
{
    return take_next(link, NULL, ret_reply, ret_cut, err);
}

int atd_redis_link_message(struct atd_redis_link *link, int wake_fd, int64_t until_ms,
                           redisReply **ret_reply, bool *ret_cut, struct atd_error *err)
{
    const struct patience patience = {wake_fd, until_ms};

    return take_next(link, &patience, ret_reply, ret_cut, err);
}

void atd_redis_link_allow_resp3(struct atd_redis_link *link)
{
    atd_redis_guard_allow_resp3(&link->guard);
}

int atd_redis_link_next_of_change(struct atd_redis_link *link, redisReply **ret_reply,
                                  struct atd_error *err)
{
    struct atd_error why = ATD_ERROR_INIT;
    int rc = atd_redis_link_next(link, ret_reply, NULL, &why);

    if (rc == 0)
        return 0;
    if (atd_redis_link_all_sent(link))
        return atd_error_set(err, EREMOTEIO,
                             "the answer to a change was lost, so that it is not known whether it "
                             "was made: %s",
                             why.text);
    if (err)
        *err = why;
    return rc;
}

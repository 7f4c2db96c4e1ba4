/*
 * A connection to a Redis server: commands go out, replies come in, in the same order.
 *
 * The socket is our own (no SIGPIPE, deadlines, TLS with any hiredis); hiredis is the codec alone.
 * Sending and receiving go on together, so that the two sides never wait for each other, however
 * much is under way. After any error but a reply's own the link is of no use: free it.
 * Source: S3-REDIS 6.5.
 *
 * Threads: one at a time.
 */
#ifndef ATD_INDEX_REDIS_LINK_H
#define ATD_INDEX_REDIS_LINK_H

#include <hiredis/hiredis.h>

#include "base/limits.h"
#include "index/redis_error.h"
#include "index/redis_url.h"

#define ATD_REDIS_CONNECT_MS 5000  /* until connected, TLS included */
#define ATD_REDIS_SILENCE_MS 10000 /* without a byte in either direction */
/* The same where sentinels have another server soon: less than an editor's patience. */
#define ATD_REDIS_WATCHED_SILENCE_MS 4000

/* Commands that wait to be sent; who has more asks for replies first. */
#define ATD_REDIS_OUT_BYTES_MAX (1u << 20)
/* The longest argument: a key with two names in it. */
#define ATD_REDIS_ARGUMENT_BYTES_MAX (2 * ATD_NAME_BYTES_MAX + 64)
#define ATD_REDIS_ARGUMENTS_MAX 16
/* The same for commands that write: one entry at its largest, and its keys. */
#define ATD_REDIS_WRITE_BYTES_MAX (ATD_URLS_BYTES_MAX + ATD_METADATA_BYTES_MAX + (8u << 20))

struct atd_redis_link;

/*
 * Connects. `ca_file` NULL: the system's. Blocks: on the resolver, and up to ATD_REDIS_CONNECT_MS.
 * With sentinels: to the master that they name now (redis_sentinel.h), and the one that answered
 * becomes the URL's first.
 * Errors: ECONNREFUSED, ETIMEDOUT, ENOENT (socket), EHOSTUNREACH (resolver), retryable, and others
 * of the system; EACCES for the certificate; EPROTO when there is no TLS; those of the sentinels.
 */
int atd_redis_link_open(struct atd_redis_url *url, const char *ca_file,
                        struct atd_redis_link **ret_link, struct atd_error *err) ATD_MUST_USE;

/* The same, at the URL's own host, until `deadline_ms` (atd_clock_monotonic_ms). */
int atd_redis_link_open_at(const struct atd_redis_url *url, const char *ca_file,
                           int64_t deadline_ms, struct atd_redis_link **ret_link,
                           struct atd_error *err) ATD_MUST_USE;

/*
 * True when the sentinels name another master than the one the link leads to: what is read there is
 * old, and what is written there will be lost. They are asked when the last answer is `every_ms`
 * old; while none of them answers the link counts as good. False without sentinels.
 * Blocks: up to ATD_REDIS_MOVED_MS.
 */
#define ATD_REDIS_MOVED_MS 1000
bool atd_redis_link_has_moved(struct atd_redis_link *link, struct atd_redis_url *url,
                              const char *ca_file, unsigned every_ms);

/* False when sentinels named two masters for the two links; without sentinels nobody knows. */
bool atd_redis_link_is_beside(const struct atd_redis_link *link,
                              const struct atd_redis_link *other);

/*
 * After a change that no replica confirmed: 0 when the sentinels still name this master. Without
 * sentinels always. Blocks: up to ATD_REDIS_MOVED_MS. Errors: EREMOTEIO (retryable) they name
 * another one, or `must_know` and none of them answers.
 */
int atd_redis_link_confirm(struct atd_redis_link *link, struct atd_redis_url *url,
                           const char *ca_file, bool must_know, struct atd_error *err) ATD_MUST_USE;

/* A link over a connected stream socket: for tests. `fd` is taken on success. */
int atd_redis_link_over(int fd, struct atd_redis_link **ret_link,
                        struct atd_error *err) ATD_MUST_USE;

/* No command may be under way past this moment (atd_clock_monotonic_ms); at first: none at all. */
void atd_redis_link_set_deadline(struct atd_redis_link *link, int64_t deadline_ms);

/*
 * Adds a command to what is to be sent; nothing is sent before atd_redis_link_next().
 * Errors: ENOMEM; EFBIG past the maxima above.
 */
int atd_redis_link_ask(struct atd_redis_link *link, const struct atd_str *arguments, size_t count,
                       struct atd_error *err) ATD_MUST_USE;

/*
 * The same for a command that writes: of as many arguments as there are, together (with what waits
 * already) at most ATD_REDIS_WRITE_BYTES_MAX. Errors: ENOMEM; EFBIG.
 */
int atd_redis_link_ask_write(struct atd_redis_link *link, const struct atd_str *arguments,
                             size_t count, struct atd_error *err) ATD_MUST_USE;

/*
 * True when all that was asked has gone out, so that the server may have done it; false: the last
 * command, at least, cannot have reached it as a whole.
 */
bool atd_redis_link_all_sent(const struct atd_redis_link *link);

/* True while another command fits well within what may wait to be sent. */
bool atd_redis_link_has_room(const struct atd_redis_link *link);

/*
 * The next reply; freeReplyObject() it. *ret_cut (may be NULL) tells that a part of it was too
 * large and is nil (redis_guard.h). An error reply is a reply. Blocks: until it is there, or a
 * deadline. Errors: ETIMEDOUT, ECONNRESET, both retryable; EPROTO; ENOMEM.
 */
int atd_redis_link_next(struct atd_redis_link *link, redisReply **ret_reply, bool *ret_cut,
                        struct atd_error *err) ATD_MUST_USE;

/*
 * The same for the reply to a change: EREMOTEIO when the command has gone out and no answer that
 * can be read came back, so that nobody knows whether it was done.
 */
int atd_redis_link_next_of_change(struct atd_redis_link *link, redisReply **ret_reply,
                                  struct atd_error *err) ATD_MUST_USE;

/*
 * The next message on a link where they come unasked; replies come through it too. What waits to be
 * sent goes out meanwhile. -EAGAIN and -EINTR, without a sentence, when none has come till
 * `until_ms` (atd_clock_monotonic_ms; past: only what is there), or when `wake_fd` (-1: none) can
 * be read; what has come in part is kept. Blocks: as it says, in one poll(). Errors: as _next, but
 * without a deadline.
 */
int atd_redis_link_message(struct atd_redis_link *link, int wake_fd, int64_t until_ms,
                           redisReply **ret_reply, bool *ret_cut,
                           struct atd_error *err) ATD_MUST_USE;

/* For a link that is about to say HELLO 3. */
void atd_redis_link_allow_resp3(struct atd_redis_link *link);

/* Forgets the bytes of commands that were sent: there was a password among them. */
void atd_redis_link_forget_sent(struct atd_redis_link *link);

/* True when the server has closed the connection. Does not block. */
bool atd_redis_link_is_dead(const struct atd_redis_link *link);

/* NULL is fine. */
void atd_redis_link_free(struct atd_redis_link *link);

static inline struct atd_str atd_redis_reply_text(const redisReply *reply)
{
    return (struct atd_str){reply->str ? reply->str : "", reply->str ? reply->len : 0};
}

#endif

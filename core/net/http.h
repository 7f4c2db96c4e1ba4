/*
 * The HTTP engine: a few threads, each with one curl multi handle; one transfer is one attempt.
 *
 * What an attempt means (retry, resume, hedging) is net/call.h's business. Source of the libcurl
 * settings: S3-REDIS 3.
 *
 * Threads: every transfer, timer and task belongs to one loop (one of the engine's threads); their
 * callbacks run on its thread, without a lock, and must not block. Functions that say "on the
 * loop" may only be called there.
 */
#ifndef ATD_NET_HTTP_H
#define ATD_NET_HTTP_H

#include "atdata/arena.h"
#include "atdata/error.h"
#include "atdata/str.h"
#include "net/net_stats.h"

#define ATD_HTTP_THREADS_MAX 4u
#define ATD_HTTP_HEADERS_MAX 64u
#define ATD_HTTP_HEADER_BYTES_MAX 65536u /* all header lines of one reply */

struct atd_http_engine;
struct atd_http_loop;

struct atd_http_options {
    unsigned threads;       /* 1 to ATD_HTTP_THREADS_MAX */
    const char *ca_file;    /* PEM; NULL: the system's */
    const char *user_agent; /* "atdatafs/0.1.0" */
};

/* Errors: EAGAIN, ENOMEM. curl_global_init() was called. */
int atd_http_start(const struct atd_http_options *options, struct atd_http_engine **ret_engine,
                   struct atd_error *err) ATD_MUST_USE;

/*
 * Ends every transfer (done with ECANCELED), then the threads. False, leaving it behind, when a
 * thread did not end within `timeout_ms`. NULL is fine. Nothing may be started any more.
 */
bool atd_http_stop(struct atd_http_engine *engine, unsigned timeout_ms);

struct atd_net_stats *atd_http_stats(struct atd_http_engine *engine);

/* The loop with the fewest transfers. Any thread. */
struct atd_http_loop *atd_http_pick_loop(struct atd_http_engine *engine);
struct atd_http_engine *atd_http_loop_engine(struct atd_http_loop *loop);

/* ------------------------------------------------------------------ tasks and timers */

/* Embedded by the caller. */
struct atd_http_task {
    struct atd_http_task *next;
    void (*run)(struct atd_http_task *task); /* owns it from then on */
};

/* Has it run on the loop, in the order of posting. Any thread; never fails, never blocks. */
void atd_http_post(struct atd_http_loop *loop, struct atd_http_task *task);

/* Embedded by the caller; zeroed before its first use. */
struct atd_http_timer {
    void (*fire)(struct atd_http_timer *timer);
    int64_t due_ms;
    size_t heap_place; /* 0: not armed */
};

/* On the loop. Arming an armed timer moves it. A fired or disarmed timer may be freed. */
int atd_http_timer_arm(struct atd_http_loop *loop, struct atd_http_timer *timer, unsigned delay_ms,
                       struct atd_error *err) ATD_MUST_USE;
void atd_http_timer_disarm(struct atd_http_loop *loop, struct atd_http_timer *timer);

/* ------------------------------------------------------------------ one transfer */

struct atd_http_header {
    struct atd_str name;  /* as sent or received; names compare without case */
    struct atd_str value; /* trimmed */
};

/* What is sent. All views are borrowed until the transfer is done. */
struct atd_http_message {
    const char *method; /* "GET", "HEAD", "PUT", "POST", "DELETE" */
    const char *url;    /* sent byte for byte (CURLOPT_PATH_AS_IS) */
    struct atd_http_header headers[ATD_HTTP_HEADERS_MAX];
    size_t header_count;
    struct atd_bytes body;
};

/* Status line and headers of a reply; views are valid during the call. */
struct atd_http_head {
    int status;
    struct atd_http_header headers[ATD_HTTP_HEADERS_MAX];
    size_t header_count;
    int64_t content_length; /* -1: not given */
    int64_t date_s;         /* of the Date header; 0: none */
};

/* ptr NULL when there is none. Without case. */
struct atd_str atd_http_head_find(const struct atd_http_head *head, const char *name);

struct atd_http_result {
    struct atd_error error; /* code 0: a whole reply came. ETIMEDOUT, ECONNREFUSED, ECONNRESET,
                               EHOSTUNREACH (also no such host), EPROTO (not HTTP, too many
                               headers, body shorter than said), EACCES (TLS refused, link-local
                               address), ECANCELED, ENOMEM. Text without query string. */
    int status;             /* 0: none came */
    int64_t first_byte_ms;  /* from start to the first byte of the reply; -1: none */
    int64_t total_ms;
    bool reused;   /* the connection had been used before */
    bool arrived;  /* a connection was there for it: the request may have reached the server */
    bool replayed; /* libcurl sent it again, as the kept connection that it took was dead */
};

struct atd_http_transfer {
    /* set by the caller, fixed until done */
    const struct atd_http_message *message;
    unsigned connect_timeout_ms;
    unsigned first_byte_timeout_ms; /* from start, or the body's last byte sent, to the first byte
                                       of the reply */
    unsigned idle_timeout_ms;       /* between two bytes of the reply */
    unsigned send_timeout_ms;       /* between two bytes of the body that leave this machine; 0:
                                       idle_timeout_ms */
    bool fresh_connection;          /* do not reuse one (hedging) */
    bool follow_redirects;          /* at most 5, http(s) only; only without credentials */
    bool refuse_link_local;         /* 169.254.0.0/16, fe80::/10 and the like: EACCES */
    /* On the loop. Non-zero ends the transfer: done gets that negative errno. May be NULL. */
    int (*head)(struct atd_http_transfer *transfer, const struct atd_http_head *head);
    int (*data)(struct atd_http_transfer *transfer, const uint8_t *data, size_t len);
    /* On the loop, now and then: the body got on. May be NULL. */
    void (*sent)(struct atd_http_transfer *transfer);
    /* The last call; the transfer may be freed or started again in it. */
    void (*done)(struct atd_http_transfer *transfer, const struct atd_http_result *result);
    void *ctx;

    void *impl; /* the engine's */
};

/* On the loop. done is called later, never from within, whatever happens. */
void atd_http_transfer_start(struct atd_http_loop *loop, struct atd_http_transfer *transfer);

/* On the loop. done follows with ECANCELED, unless it was about to be called anyway. */
void atd_http_transfer_cancel(struct atd_http_loop *loop, struct atd_http_transfer *transfer);

/* ------------------------------------------------------------------ and without a loop */

/*
 * One request in the calling thread, for small replies off the hot path (credentials).
 * Blocks: at most `timeout_ms`. `no_proxy`: never through a proxy (metadata services). The head's
 * views lie in `arena`, the body (at most `body_max` bytes, EFBIG) too. Errors: as in
 * atd_http_result.
 */
int atd_http_fetch(const struct atd_http_message *message, unsigned timeout_ms, bool no_proxy,
                   const char *ca_file, size_t body_max, struct atd_arena *arena,
                   struct atd_http_head *ret_head, struct atd_bytes *ret_body,
                   struct atd_error *err) ATD_MUST_USE;

#endif

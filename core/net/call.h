/*
 * A call: one request to an endpoint with everything that makes it dependable. Attempts with full
 * jitter and a token bucket, resumption of a body at the byte reached, one hedged duplicate within
 * a budget, a concurrency limit per endpoint that halves when asked to slow down, and a deadline
 * without progress. What the request is, and what a reply means, the store says (atd_call_ops).
 * Source: S3-REDIS 2.6.
 *
 * Threads: a call lives on one loop; all callbacks run there, without a lock, and must not block.
 */
#ifndef ATD_NET_CALL_H
#define ATD_NET_CALL_H

#include "net/http.h"

/* Shared by all calls to one server: bucket of retries, limit, latencies, clock offset. */
struct atd_endpoint;

struct atd_endpoint_limits {
    unsigned concurrency_first;     /* attempts in flight at the start, e.g. 32 */
    unsigned concurrency_max;       /* e.g. 64 */
    unsigned connect_timeout_ms;    /* 5000 */
    unsigned first_byte_timeout_ms; /* 10000 */
    unsigned idle_timeout_ms;       /* 10000 */
    unsigned retry_tokens;          /* 500 */
    unsigned backoff_base_ms;       /* 50 */
    unsigned backoff_throttled_ms;  /* 1000 */
    unsigned backoff_max_ms;        /* 20000 */
    unsigned hedge_percent;         /* at most so many of 100 calls; 0: none */
};
extern const struct atd_endpoint_limits atd_endpoint_limits_default;

/* Errors: ENOMEM. The engine must outlive it. */
int atd_endpoint_new(struct atd_http_engine *engine, const struct atd_endpoint_limits *limits,
                     struct atd_endpoint **ret_endpoint, struct atd_error *err) ATD_MUST_USE;
/* No call is under way any more. NULL is fine. */
void atd_endpoint_free(struct atd_endpoint *endpoint);

struct atd_http_engine *atd_endpoint_engine(struct atd_endpoint *endpoint);
/* Seconds to add to the local clock. Any thread. */
int64_t atd_endpoint_clock_offset_s(struct atd_endpoint *endpoint);
void atd_endpoint_set_clock_offset(struct atd_endpoint *endpoint, int64_t offset_s);
/* What the prefetch window needs: median milliseconds to the first byte, and bytes a second of
 * all recent bodies together; 0 while unknown. Any thread. */
void atd_endpoint_speed(struct atd_endpoint *endpoint, unsigned *ret_first_byte_ms,
                        uint64_t *ret_bytes_per_s);

struct atd_call;

enum atd_call_kind {
    ATD_CALL_GET,
    ATD_CALL_HEAD,
    ATD_CALL_LIST,
    ATD_CALL_PUT, /* carries bytes of objects; never hedged */
    ATD_CALL_OTHER,
};

enum atd_verdict {
    ATD_VERDICT_DONE,      /* the call succeeded */
    ATD_VERDICT_FAIL,      /* it failed for good; err is set */
    ATD_VERDICT_RETRY,     /* a passing failure; err is what to say if there are no more tries */
    ATD_VERDICT_THROTTLED, /* the same, and slow down */
    ATD_VERDICT_AGAIN,     /* something was corrected (clock, region, credentials): at once, and
                              no more than ATD_CALL_CORRECTIONS_MAX times a call */
};
#define ATD_CALL_CORRECTIONS_MAX 4

struct atd_call_ops {
    /*
     * Builds an attempt, when `done_bytes` of `into` are there already. Texts go into `arena`,
     * which lives until the attempt's end. -EAGAIN: not yet (credentials are on their way), asked
     * again soon. Any other error ends the call.
     */
    int (*prepare)(struct atd_call *call, size_t done_bytes, struct atd_arena *arena,
                   struct atd_http_message *ret_message, struct atd_error *err);
    /*
     * Looks at a reply's head. True: its body is the rest of `into`, from done_bytes on, and its
     * length was checked. False: collect the body (at most ATD_CALL_BODY_MAX) and call judge.
     * May be NULL: always false.
     */
    bool (*accept)(struct atd_call *call, size_t done_bytes, const struct atd_http_head *head);
    /* A whole reply that was not accepted, with its collected body. Of a reply to a call with
     * `into` only the first ATD_CALL_REFUSED_BODY_MAX bytes: an error, or a server that sends the
     * whole object instead of the range. */
    enum atd_verdict (*judge)(struct atd_call *call, const struct atd_http_head *head,
                              struct atd_bytes body, struct atd_error *err);
    /* Bytes [0, received) of `into` are there. May be NULL. */
    void (*progress)(struct atd_call *call, size_t received);
    /* The last call. `why` NULL: success. Errors: what judge said, ETIMEDOUT, ECANCELED, those of
     * atd_http_result. The call may be freed in it. */
    void (*done)(struct atd_call *call, const struct atd_error *why);
};

#define ATD_CALL_SENDS_MAX 8u
#define ATD_CALL_REFUSED_BODY_MAX (64u << 10)
#define ATD_CALL_BODY_MAX (4u << 20) /* a LIST page of 1000 keys of 1 KiB, encoded, fits */

struct atd_call {
    /* set by the caller, fixed until done */
    struct atd_endpoint *endpoint;
    const struct atd_call_ops *ops;
    enum atd_call_kind kind;
    uint8_t *into; /* NULL: no such body */
    size_t into_len;
    /*
     * No byte for so long, tries and all: ETIMEDOUT. Bytes of a body that leave this machine count
     * too, in the first ATD_CALL_SENDS_MAX attempts that send any: a server that takes every body
     * and refuses it is no progress.
     */
    unsigned stall_timeout_ms;
    /*
     * The longest wait for the answer after the last byte of the request was sent, and between two
     * bytes of it; 0: the endpoint's limits. For CompleteMultipartUpload, which may think for
     * minutes (and sends blanks meanwhile). stall_timeout_ms ought to be no shorter.
     */
    unsigned answer_timeout_ms;
    bool urgent; /* goes before those that are not */
    bool may_hedge;
    /* Not tried again once an attempt may have arrived: to do it a second time, later, would be
     * something else. On a connection of its own, as libcurl repeats itself on kept ones. */
    bool once;
    bool follow_redirects;
    bool refuse_link_local;
    void *ctx;

    void *impl; /* call.c's */
};

/* Any thread, never blocks. done follows, never from within. Errors: ENOMEM (done is not called) */
int atd_call_start(struct atd_call *call, struct atd_error *err) ATD_MUST_USE;

/*
 * Any thread, only before done was called (the caller's lock decides that). done follows, with
 * ECANCELED unless it was ending anyway.
 */
void atd_call_cancel(struct atd_call *call);

/*
 * Whether the server may have acted on an attempt that brought no answer to it: the connection
 * broke, time ran out, a status of 5xx or an error inside a 2xx; also when libcurl itself sent the
 * request again because a kept connection was dead. In judge: an attempt before the one judged; in
 * done: any. On the loop, in judge and done only. A 404 or 412 then may be this call's own doing.
 */
bool atd_call_may_have_arrived(const struct atd_call *call);

/* The same conditions: somebody waits for it now. */
void atd_call_make_urgent(struct atd_call *call);

#endif

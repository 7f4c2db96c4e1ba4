/*
 * What stores over HTTP have in common: a ranged read as one call whose replies are checked before
 * a byte is taken, and calls that a thread waits for, for a limited time. The store itself (s3,
 * http) says what a request looks like and what an error reply means: struct atd_remote_ops.
 *
 *     remote_read.c   ranged reads            remote.c   the store, stat, listing: blocking calls
 *     remote_write.c  writes
 */
#ifndef ATD_STORE_REMOTE_H
#define ATD_STORE_REMOTE_H

#include "net/call.h"
#include "store/places.h"
#include "store/refused.h"
#include "store/store.h"

enum atd_remote_operation {
    ATD_REMOTE_READ,
    ATD_REMOTE_HEAD,
    ATD_REMOTE_PROBE, /* GET of the first byte, for the size */
    ATD_REMOTE_LIST,
    ATD_REMOTE_WRITE, /* which, the store's own call says */
};

struct atd_remote;
struct atd_remote_call;

/* Writes that another thread may end together. */
struct atd_remote_group {
    /* guarded by remote->lock */
    struct atd_remote_call *first;
    bool is_cancelled; /* also those that come later */
};

/* The first member of a store's own call, of ops->call_size bytes, zeroed. */
struct atd_remote_call {
    struct atd_call call;
    struct atd_remote *remote;
    enum atd_remote_operation operation;
    struct atd_str url;   /* READ: the get's; else `texts` */
    struct atd_str place; /* set by ops->open: the bucket or host */

    /* READ. On the loop. */
    struct atd_store_get *get;
    bool is_pinned;       /* get->found is of the reply accepted first: no other version will do */
    size_t done_bytes;    /* of the attempt looked at */
    unsigned odd_replies; /* other ranges than asked for; LIST: pages that are none */
    bool is_refused;      /* fixed: it was never started; `why` is to be told */
    struct atd_http_task tell;
    struct atd_error why;

    /* The others: the waiting thread's. `result` may be written by the loop until finished. */
    char *texts;          /* copies of url and after: a call may outlive the wait */
    struct atd_str after; /* LIST */
    struct atd_object_info info;
    int status;            /* of the last reply */
    uint8_t first_byte[1]; /* PROBE: a call with a body of its own is not collected to its end */
    bool wants_probe;      /* HEAD: a PROBE may tell what this did not */
    bool may_have_arrived; /* WRITE: atd_call_may_have_arrived() at the end */
    /* guarded by remote->lock */
    pthread_cond_t ended;
    bool has_ended;
    bool is_abandoned; /* nobody waits any more: who ends it frees it */
    struct atd_remote_call *next_of_group;
};

struct atd_remote_ops {
    size_t call_size;
    /* Understands call->url (and after), in the caller's thread. Errors: EINVAL. */
    int (*open)(struct atd_remote_call *call, struct atd_error *err);
    /* May be NULL: releases what the call has besides. */
    void (*close)(struct atd_remote_call *call);
    /* `range` as "bytes=A-B" numbers when has_range; `if_match` may be "". */
    int (*prepare)(struct atd_remote_call *call, bool has_range, uint64_t first_byte,
                   uint64_t last_byte, const char *if_match, struct atd_arena *arena,
                   struct atd_http_message *ret_message, struct atd_error *err);
    /* A reply that is not 2xx (nor a 416 to a range). Sets err. */
    enum atd_verdict (*judge_error)(struct atd_remote_call *call, const struct atd_http_head *head,
                                    struct atd_bytes body, struct atd_error *err);
    /* A 2xx to a LIST; NULL when there are none. */
    enum atd_verdict (*judge_list)(struct atd_remote_call *call, struct atd_bytes body,
                                   struct atd_error *err);
    /* Any reply to a WRITE; NULL when there are none. */
    enum atd_verdict (*judge_write)(struct atd_remote_call *call, const struct atd_http_head *head,
                                    struct atd_bytes body, struct atd_error *err);
};

struct atd_remote {
    struct atd_store store; /* first: a remote is a store */
    const struct atd_remote_ops *ops;
    struct atd_http_engine *engine;
    struct atd_endpoint *endpoint; /* of its calls, unless ops->open chose another */
    struct atd_places places;
    struct atd_refused refused;
    struct atd_http_task drain;
    bool follow_redirects;
    bool refuse_link_local;
    bool doubts_empty_heads; /* a HEAD that says 0 bytes is checked by a PROBE */
    bool may_ignore_ranges;  /* a 200 for a part is what the server can do, not a fault */

    struct atd_lock lock;
    /* guarded by lock */
    pthread_cond_t idle;
    unsigned waits; /* blocking calls that did not end yet */
};

/* Sets up everything but what the ops have besides. Errors: ENOMEM. */
int atd_remote_init(struct atd_remote *remote, const struct atd_store_ops *store_ops,
                    const struct atd_remote_ops *ops, struct atd_http_engine *engine,
                    const struct atd_endpoint_limits *limits, struct atd_error *err) ATD_MUST_USE;
/*
 * False, and nothing is freed, when an abandoned call does not end: the engine hangs, and a leak
 * is better than a call into freed memory.
 */
bool atd_remote_release(struct atd_remote *remote);

/* For struct atd_store_ops. */
void atd_remote_get_start(struct atd_store *store, struct atd_store_get *get);
void atd_remote_get_cancel(struct atd_store *store, struct atd_store_get *get);
void atd_remote_get_make_urgent(struct atd_store *store, struct atd_store_get *get);
int atd_remote_stat(struct atd_store *store, struct atd_str url, unsigned timeout_ms,
                    struct atd_object_info *ret_info, struct atd_error *err);
void atd_remote_speed(struct atd_store *store, unsigned *ret_first_byte_ms,
                      uint64_t *ret_bytes_per_s);

/*
 * Makes a call (no READ, no WRITE), runs it and waits at most about `timeout_ms`. With 0 the ended
 * call is the caller's: atd_remote_call_free(). Blocks. Errors: ETIMEDOUT and the call's.
 */
int atd_remote_run(struct atd_remote *remote, enum atd_remote_operation operation,
                   struct atd_str url, struct atd_str after, unsigned timeout_ms,
                   struct atd_remote_call **ret_call, struct atd_error *err) ATD_MUST_USE;
void atd_remote_call_free(struct atd_remote_call *call);

/*
 * Runs a WRITE that the store made (atd_remote_call_new) and filled, and waits for its end: it
 * sends memory of the caller's, so it is never left behind. `stall_timeout_ms` without progress end
 * it. `group` may be NULL. The call stays the caller's, whatever happened. Errors: ECANCELED, and
 * the call's.
 */
int atd_remote_write(struct atd_remote_call *call, struct atd_remote_group *group,
                     enum atd_call_kind kind, unsigned stall_timeout_ms,
                     struct atd_error *err) ATD_MUST_USE;
/* Any thread, never blocks. */
void atd_remote_group_cancel(struct atd_remote *remote, struct atd_remote_group *group);
bool atd_remote_group_is_cancelled(struct atd_remote *remote, const struct atd_remote_group *group);

/* A call that is not opened yet. Errors: ENOMEM. */
int atd_remote_call_new(struct atd_remote *remote, enum atd_remote_operation operation,
                        struct atd_str url, struct atd_remote_call **ret_call,
                        struct atd_error *err) ATD_MUST_USE;

/* For remote.c and remote_write.c: the callbacks of calls that are waited for. */
extern const struct atd_call_ops atd_remote_waited_ops;

/* The URL as errors quote it: without user, password and query. */
#define ATD_REMOTE_WHAT_MAX 400
void atd_remote_what(struct atd_str url, char ret_text[ATD_REMOTE_WHAT_MAX]);

#endif

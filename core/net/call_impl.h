/*
 * Inside of the calls: the state of one. call.c moves it, attempt.c does one request.
 *
 *               start
 *                 |
 *                 v      turn came              EAGAIN
 *            +-> WAITING ----------> (prepare) -------> PREPARING
 *            |                        |    ^                |
 *            |                     ok |    +---- timer -----+
 *            |                        v
 *            |                     RUNNING: one attempt, or two when it was doubled
 *            |                        |
 *      timer |      passing failure,  |  success, failure for good,
 *            |      budget left       |  budget used up
 *         PAUSING <-------------------+--------------------> ENDING --> OVER
 *                                            cancel, stall,
 *            from every state above ----- engine stops ------^
 *
 * WAITING and PAUSING hold no turn, PREPARING one, RUNNING one for each attempt. ENDING waits for
 * attempts that are being cancelled, so that nobody writes to `into` after done. A turn that was
 * granted to a call which ended meanwhile is given back when its task runs; the call's memory
 * lives as long (references).
 */
#ifndef ATD_NET_CALL_IMPL_H
#define ATD_NET_CALL_IMPL_H

#include "atdata/buf.h"
#include "net/endpoint.h"
#include "net/http_loop.h"

#define ATD_CALL_ARENA_BYTES_MAX (1u << 20) /* texts of a request and the head of its reply */
#define ATD_CALL_HOST_MAX 128
/* How soon a store that was not ready is asked again. */
#define ATD_CALL_PREPARE_MIN_MS 20u
#define ATD_CALL_PREPARE_MAX_MS 100u
/* Bytes that one body gathers before the meter hears of them. */
#define ATD_CALL_METER_BYTES (256u << 10)

enum atd_call_state {
    ATD_CALL_WAITING,
    ATD_CALL_PREPARING,
    ATD_CALL_RUNNING,
    ATD_CALL_PAUSING,
    ATD_CALL_ENDING,
    ATD_CALL_OVER,
};

enum atd_attempt_mode {
    ATD_ATTEMPT_UNDECIDED,  /* no head yet */
    ATD_ATTEMPT_ACCEPTED,   /* writes to `into`: at most one of a call's attempts */
    ATD_ATTEMPT_COLLECTING, /* for judge */
};

struct atd_call_impl;

struct atd_attempt {
    struct atd_http_transfer transfer;
    struct atd_call_impl *impl;
    bool active;
    bool duplicate;
    bool given_up; /* another one won, or the call ends */
    bool enough;   /* of the body was collected for judge */
    bool has_sent; /* some of its body left this machine, as far as was looked */
    bool stale;    /* the body went on elsewhere while this one waited for its head */
    size_t begin;  /* the first byte of `into` that it asks for */
    enum atd_attempt_mode mode;
    int64_t start_ms;
    struct atd_arena arena;
    struct atd_http_message message;
    struct atd_http_head head; /* in the arena; when collecting */
    struct atd_buf body;
    size_t unmetered_bytes;
    struct atd_error why; /* code 0: none; why data refused */
};

struct atd_call_impl {
    struct atd_call *call; /* not touched after done */
    struct atd_http_loop *loop;
    struct atd_endpoint *endpoint; /* referenced */
    struct atd_net_stats *stats;

    /* atomic */
    atomic_uint references; /* the call's, and one a posted task or queued turn */
    atomic_bool cancel_posted;

    struct atd_http_task start_task;
    struct atd_http_task cancel_task;
    struct atd_http_task granted_task;
    struct atd_turn turn; /* guarded by the endpoint's lock */

    /* on the loop only */
    struct atd_http_client client;
    enum atd_call_state state;
    struct atd_attempt attempts[2];
    struct atd_http_timer stall_timer;
    struct atd_http_timer pause_timer; /* PREPARING and PAUSING */
    struct atd_http_timer late_timer;
    unsigned late_after_ms; /* quiet for so long: worth a duplicate */
    size_t done_bytes;
    int64_t progress_ms; /* when it last got on */
    unsigned tries;
    unsigned sends; /* attempts with has_sent */
    unsigned corrections;
    unsigned exponent; /* of the backoff */
    unsigned cost;     /* tokens that progress gives back */
    bool doubled;
    bool may_have_arrived;    /* atd_call_may_have_arrived() */
    bool reset_forgiven;      /* a dead connection was excused */
    struct atd_error last;    /* of the last attempt; code 0: none */
    struct atd_error outcome; /* code 0: success */
    char host[ATD_CALL_HOST_MAX];
};

/* ------------------------------------------------------------------ attempt.c */

/* Lets the store build the request, in an attempt that is not active. Errors: as prepare. */
int atd_attempt_prepare(struct atd_attempt *attempt, struct atd_error *err);
void atd_attempt_start(struct atd_attempt *attempt, bool duplicate);
void atd_attempt_cancel(struct atd_attempt *attempt);

/* ------------------------------------------------------------------ call.c, for attempt.c */

/* Bytes of `into` came. */
void atd_call_got_on(struct atd_call_impl *impl);
/* `attempt` writes from now on; the other one is given up. */
void atd_call_won(struct atd_call_impl *impl, struct atd_attempt *attempt);
/* The attempt has ended; its turn is given back here. May free the call. */
void atd_call_attempt_ended(struct atd_attempt *attempt, const struct atd_http_result *result);

#endif

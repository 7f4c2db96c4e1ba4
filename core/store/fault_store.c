#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/workers.h"
#include "store/fault_store.h"

#define JOIN_TIMEOUT_MS 10000u

/*
 * A get under way; lives until its outer done has returned.
 *
 *   WAITING (for its time) --run--> INNER --inner done--> ended
 *                          \                        \--> WAITING (stalled) --run--> ended
 *                           `--run--> ended
 *
 * Guarded by the store's lock: all but outer, rule and cut_bytes, which are fixed.
 */
struct fault_get {
    struct fault_get *next;
    struct fault_store *store;
    struct atd_store_get *outer;
    struct atd_store_get inner;
    struct atd_fault_rule rule;
    uint64_t cut_bytes; /* so many are delivered */
    int64_t due_ms;
    bool canceled;
    bool inner_under_way; /* a cancel goes to the inner store */
    bool inner_ended;
};

struct fault_store {
    struct atd_store base;
    struct atd_store *inner;
    struct atd_fault_rule (*decide)(void *ctx, const struct atd_store_get *get);
    void *ctx;
    struct atd_fault_writes writes;
    struct atd_lock lock;
    pthread_cond_t wake;
    unsigned long thread;

    /* guarded by lock */
    struct fault_get *waiting;
    bool stopping;
};

static struct fault_store *from_base(struct atd_store *store)
{
    return (struct fault_store *)(void *)store;
}

static void end(struct fault_get *fault, const struct atd_error *why)
{
    fault->outer->done(fault->outer, why);
    free(fault);
}

static void end_canceled(struct fault_get *fault)
{
    struct atd_error err = ATD_ERROR_INIT;

    (void)atd_error_set(&err, ECANCELED, "reading '" ATD_STR_FMT "' was cancelled",
                        ATD_STR_ARG(fault->outer->url));
    end(fault, &err);
}

/* Ends the get with what its fault looks like to a caller. */
static void end_with_fault(struct fault_get *fault)
{
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_str url = fault->outer->url;

    switch (fault->rule.fault) {
    case ATD_FAULT_STALL:
        (void)atd_error_set_retryable(&err, ETIMEDOUT, "'" ATD_STR_FMT "': nothing came for %u ms",
                                      ATD_STR_ARG(url), fault->outer->stall_timeout_ms);
        break;
    case ATD_FAULT_SHORT:
        (void)atd_error_set_retryable(&err, EIO, "'" ATD_STR_FMT "': the body ended early",
                                      ATD_STR_ARG(url));
        break;
    case ATD_FAULT_RESET:
        (void)atd_error_set_retryable(
            &err, ECONNRESET, "'" ATD_STR_FMT "': the connection was lost", ATD_STR_ARG(url));
        break;
    case ATD_FAULT_FORBIDDEN:
        (void)atd_error_set(&err, EACCES, "'" ATD_STR_FMT "' may not be read", ATD_STR_ARG(url));
        break;
    case ATD_FAULT_CHANGED:
        (void)atd_error_set(&err, ESTALE, "'" ATD_STR_FMT "' is another version now",
                            ATD_STR_ARG(url));
        break;
    case ATD_FAULT_WRONG_RANGE:
        (void)atd_error_set(&err, EIO, "'" ATD_STR_FMT "': the server sent another range",
                            ATD_STR_ARG(url));
        break;
    default:
        (void)atd_error_set_retryable(&err, EIO, "'" ATD_STR_FMT "': the server is unavailable",
                                      ATD_STR_ARG(url));
        break;
    }
    end(fault, &err);
}

static void wait_until_locked(struct fault_get *fault, int64_t due_ms)
{
    struct fault_store *store = fault->store;

    fault->due_ms = due_ms;
    fault->next = store->waiting;
    store->waiting = fault;
    (void)pthread_cond_signal(&store->wake);
}

static void inner_progress(struct atd_store_get *inner, size_t received)
{
    struct fault_get *fault = inner->ctx;

    fault->outer->found = inner->found;
    if (fault->outer->progress)
        fault->outer->progress(fault->outer, received);
}

static void inner_done(struct atd_store_get *inner, const struct atd_error *why)
{
    struct fault_get *fault = inner->ctx;
    struct fault_store *store = fault->store;
    bool cut = inner->end < fault->outer->end;
    bool stall = false;

    fault->outer->found = inner->found;
    atd_lock_take(&store->lock);
    fault->inner_under_way = false;
    fault->inner_ended = true;
    if (!why && cut && !fault->canceled && fault->rule.fault == ATD_FAULT_STALL) {
        stall = true;
        wait_until_locked(fault, atd_clock_monotonic_ms() + fault->outer->stall_timeout_ms);
    }
    atd_lock_give(&store->lock);
    if (stall)
        return;
    if (why || !cut)
        end(fault, why);
    else
        end_with_fault(fault);
}

/* The time of a waiting get has come, or it was cancelled. Gives the lock for a callback. */
static void run_locked(struct fault_get *fault)
{
    struct fault_store *store = fault->store;
    bool canceled = fault->canceled;

    if (!canceled && fault->cut_bytes > 0 && !fault->inner_ended) {
        fault->inner = *fault->outer;
        fault->inner.end = fault->outer->first + fault->cut_bytes;
        fault->inner.progress = inner_progress;
        fault->inner.done = inner_done;
        fault->inner.ctx = fault;
        fault->inner.impl = NULL;
        fault->inner_under_way = true;
        /* Under the lock, so that a cancel finds a get that was started. */
        atd_store_get_start(store->inner, &fault->inner);
        return;
    }
    if (!canceled && fault->rule.fault == ATD_FAULT_STALL && !fault->inner_ended) {
        fault->inner_ended = true;
        wait_until_locked(fault, atd_clock_monotonic_ms() + fault->outer->stall_timeout_ms);
        return;
    }
    atd_lock_give(&store->lock);
    if (canceled)
        end_canceled(fault);
    else
        end_with_fault(fault);
    atd_lock_take(&store->lock);
}

/* The waiting get that is due first; NULL: none, and how long to wait. */
static struct fault_get *take_due_locked(struct fault_store *store, unsigned *ret_wait_ms)
{
    int64_t now = atd_clock_monotonic_ms();
    int64_t first = INT64_MAX;

    for (struct fault_get **at = &store->waiting; *at; at = &(*at)->next) {
        struct fault_get *fault = *at;

        if (fault->canceled || fault->due_ms <= now) {
            *at = fault->next;
            return fault;
        }
        if (fault->due_ms < first)
            first = fault->due_ms;
    }
    *ret_wait_ms = first == INT64_MAX ? 0 : (unsigned)(first - now);
    return NULL;
}

static void *keep_time(void *ctx)
{
    struct fault_store *store = ctx;

    atd_lock_take(&store->lock);
    while (!store->stopping) {
        unsigned wait_ms = 0;
        struct fault_get *fault = take_due_locked(store, &wait_ms);

        if (fault)
            run_locked(fault);
        else if (wait_ms > 0)
            atd_cond_wait_ms(&store->wake, &store->lock, wait_ms);
        else
            atd_cond_wait(&store->wake, &store->lock);
    }
    atd_lock_give(&store->lock);
    return NULL;
}

static void fault_get_start(struct atd_store *base, struct atd_store_get *get)
{
    struct fault_store *store = from_base(base);
    struct fault_get *fault = calloc(1, sizeof(*fault));
    uint64_t size = get->end - get->first;
    int64_t now = atd_clock_monotonic_ms();

    atd_assert(fault); /* a test's double: out of memory is the test's end */
    fault->store = store;
    fault->outer = get;
    fault->rule = store->decide(store->ctx, get);
    switch (fault->rule.fault) {
    case ATD_FAULT_NONE:
    case ATD_FAULT_DELAY:
        fault->cut_bytes = size;
        break;
    case ATD_FAULT_STALL:
    case ATD_FAULT_SHORT:
    case ATD_FAULT_RESET:
        fault->cut_bytes = fault->rule.value < size ? fault->rule.value : size;
        break;
    default:
        break;
    }
    get->impl = fault;
    atd_lock_take(&store->lock);
    wait_until_locked(fault, fault->rule.fault == ATD_FAULT_DELAY ? now + (int64_t)fault->rule.value
                                                                  : now);
    atd_lock_give(&store->lock);
}

static void fault_get_cancel(struct atd_store *base, struct atd_store_get *get)
{
    struct fault_store *store = from_base(base);
    struct fault_get *fault = get->impl;

    atd_lock_take(&store->lock);
    fault->canceled = true;
    if (fault->inner_under_way)
        atd_store_get_cancel(store->inner, &fault->inner);
    (void)pthread_cond_signal(&store->wake);
    atd_lock_give(&store->lock);
}

static int fault_stat(struct atd_store *base, struct atd_str url, unsigned timeout_ms,
                      struct atd_object_info *ret_info, struct atd_error *err)
{
    return atd_store_stat(from_base(base)->inner, url, timeout_ms, ret_info, err);
}

static int fault_list(struct atd_store *base, struct atd_str prefix, struct atd_str after,
                      unsigned timeout_ms, atd_store_list_fn fn, void *ctx, bool *ret_more,
                      struct atd_error *err)
{
    return atd_store_list(from_base(base)->inner, prefix, after, timeout_ms, fn, ctx, ret_more,
                          err);
}

static void fault_speed(struct atd_store *base, unsigned *ret_first_byte_ms,
                        uint64_t *ret_bytes_per_s)
{
    atd_store_speed(from_base(base)->inner, ret_first_byte_ms, ret_bytes_per_s);
}

static void fault_free(struct atd_store *base)
{
    struct fault_store *store = from_base(base);

    atd_lock_take(&store->lock);
    atd_assert(!store->waiting);
    store->stopping = true;
    (void)pthread_cond_signal(&store->wake);
    atd_lock_give(&store->lock);
    if (!atd_thread_join(store->thread, JOIN_TIMEOUT_MS))
        return;
    atd_store_free(store->inner);
    (void)pthread_cond_destroy(&store->wake);
    atd_lock_destroy(&store->lock);
    free(store);
}

static const struct atd_store_ops fault_ops = {
    .kind = "fault",
    .write = &atd_fault_write_ops,
    .get_start = fault_get_start,
    .get_cancel = fault_get_cancel,
    .stat = fault_stat,
    .list = fault_list,
    .speed = fault_speed,
    .free = fault_free,
};

void atd_store_fault_writes(
    struct atd_store *base,
    struct atd_write_fault_rule (*decide)(void *ctx, const struct atd_write_event *event),
    void *ctx)
{
    struct fault_store *store = from_base(base);

    store->writes.decide = decide;
    store->writes.ctx = ctx;
}

const struct atd_fault_writes *atd_fault_writes_of(struct atd_store *base)
{
    return &from_base(base)->writes;
}

int atd_store_fault_new(struct atd_store *inner,
                        struct atd_fault_rule (*decide)(void *ctx, const struct atd_store_get *get),
                        void *ctx, struct atd_store **ret_store, struct atd_error *err)
{
    struct fault_store *store = calloc(1, sizeof(*store));
    int rc;

    if (!store)
        return atd_error_set(err, ENOMEM, "fault store: out of memory");
    store->base.ops = &fault_ops;
    store->inner = inner;
    store->writes.inner = inner;
    store->decide = decide;
    store->ctx = ctx;
    atd_lock_init(&store->lock, ATD_RANK_FAULT);
    atd_cond_init(&store->wake);
    rc = atd_thread_start("store-fault", keep_time, store, &store->thread, err);
    if (rc) {
        (void)pthread_cond_destroy(&store->wake);
        atd_lock_destroy(&store->lock);
        free(store);
        return rc;
    }
    *ret_store = &store->base;
    return 0;
}

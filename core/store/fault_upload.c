#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/lock.h"
#include "store/fault_store.h"

struct fault_upload {
    struct atd_store_upload base; /* first */
    /* fixed */
    struct atd_store_upload *inner;
    char *url;
    size_t url_len;

    struct atd_lock lock;
    pthread_cond_t wake;
    /* guarded by lock */
    bool is_cancelled;
};

static struct fault_upload *from_base(struct atd_store_upload *upload)
{
    return (struct fault_upload *)(void *)upload;
}

/* ------------------------------------------------------------------ the faults */

/* Waits; true when it was cancelled meanwhile. NULL: nothing can cancel it. */
static bool sleep_ms(struct fault_upload *upload, uint64_t ms)
{
    int64_t until = atd_clock_monotonic_ms() + (int64_t)ms;
    bool is_cancelled = false;

    if (!upload) {
        (void)usleep((useconds_t)(ms * 1000));
        return false;
    }
    atd_lock_take(&upload->lock);
    for (;;) {
        int64_t left = until - atd_clock_monotonic_ms();

        is_cancelled = upload->is_cancelled;
        if (is_cancelled || left <= 0)
            break;
        atd_cond_wait_ms(&upload->wake, &upload->lock, (unsigned)left);
    }
    atd_lock_give(&upload->lock);
    return is_cancelled;
}

/* What a step does instead of its work; 0: the work is to be done, and tell() called. */
static int fail(struct atd_store *store, struct fault_upload *upload, enum atd_write_step step,
                struct atd_str url, unsigned part_number, unsigned timeout_ms,
                struct atd_write_fault_rule *ret_rule, struct atd_error *err)
{
    const struct atd_fault_writes *writes = atd_fault_writes_of(store);
    const struct atd_write_event event = {step, url, part_number};
    struct atd_write_fault_rule rule = {ATD_WRITE_FAULT_NONE, 0};

    if (writes->decide)
        rule = writes->decide(writes->ctx, &event);
    *ret_rule = rule;
    switch (rule.fault) {
    case ATD_WRITE_FAULT_NONE:
    case ATD_WRITE_FAULT_UNGUARDED:
        return 0;
    case ATD_WRITE_FAULT_DELAY:
    case ATD_WRITE_FAULT_STALL:
        if (sleep_ms(upload, rule.fault == ATD_WRITE_FAULT_DELAY ? rule.value : timeout_ms))
            return atd_error_set(err, ECANCELED, "writing '" ATD_STR_FMT "' was cancelled",
                                 ATD_STR_ARG(url));
        if (rule.fault == ATD_WRITE_FAULT_DELAY)
            return 0;
        return atd_error_set_retryable(err, ETIMEDOUT, "'" ATD_STR_FMT "': nothing came for %u ms",
                                       ATD_STR_ARG(url), timeout_ms);
    case ATD_WRITE_FAULT_FORBIDDEN:
        return atd_error_set(err, EACCES, "'" ATD_STR_FMT "' may not be written", ATD_STR_ARG(url));
    case ATD_WRITE_FAULT_UNAVAILABLE:
        return atd_error_set_retryable(err, EIO, "'" ATD_STR_FMT "': the server is unavailable",
                                       ATD_STR_ARG(url));
    case ATD_WRITE_FAULT_EXISTS:
        return atd_error_set(err, EEXIST, "'" ATD_STR_FMT "' exists already", ATD_STR_ARG(url));
    case ATD_WRITE_FAULT_DROPPED:
        return atd_error_set_retryable(
            err, EAGAIN, "the server dropped the upload of '" ATD_STR_FMT "'", ATD_STR_ARG(url));
    case ATD_WRITE_FAULT_DAMAGED:
        return atd_error_set(err, EIO, "'" ATD_STR_FMT "' is not what was sent", ATD_STR_ARG(url));
    case ATD_WRITE_FAULT_UNKNOWN:
        if (rule.value)
            return 0; /* tell() says it */
        break;
    }
    return atd_error_set(err, EREMOTEIO, "nobody can say whether '" ATD_STR_FMT "' was written",
                         ATD_STR_ARG(url));
}

/* After the work: what its caller is told. */
static int tell(struct atd_write_fault_rule rule, struct atd_str url, int rc, struct atd_error *err)
{
    if (rc || rule.fault != ATD_WRITE_FAULT_UNKNOWN)
        return rc;
    return atd_error_set(err, EREMOTEIO, "nobody can say whether '" ATD_STR_FMT "' was written",
                         ATD_STR_ARG(url));
}

/* ------------------------------------------------------------------ the interface */

static void fault_free_upload(struct atd_store_upload *base)
{
    struct fault_upload *upload = from_base(base);

    atd_store_upload_free(upload->inner);
    (void)pthread_cond_destroy(&upload->wake);
    atd_lock_destroy(&upload->lock);
    free(upload->url);
    free(upload);
}

static int fault_begin(struct atd_store *store, struct atd_str url, uint64_t part_bytes,
                       unsigned timeout_ms, char ret_id[ATD_UPLOAD_ID_MAX + 1],
                       struct atd_store_upload **ret_upload, struct atd_error *err)
{
    struct atd_store *inner = atd_fault_writes_of(store)->inner;
    struct atd_write_fault_rule rule;
    struct fault_upload *upload;
    int rc = fail(store, NULL, ATD_WRITE_BEGIN, url, 0, timeout_ms, &rule, err);

    if (rc)
        return rc;
    upload = calloc(1, sizeof(*upload));
    atd_assert(upload); /* a test's double: out of memory is the test's end */
    upload->url = strndup(url.ptr, url.len);
    atd_assert(upload->url);
    upload->url_len = url.len;
    atd_lock_init(&upload->lock, ATD_RANK_UPLOAD);
    atd_cond_init(&upload->wake);
    rc = atd_store_upload_begin(inner, url, part_bytes, timeout_ms, ret_id, &upload->inner, err);
    /* The upload stays behind, as one of which nobody was told. */
    rc = tell(rule, url, rc, err);
    if (rc) {
        fault_free_upload(&upload->base);
        return rc;
    }
    *ret_upload = &upload->base;
    return 0;
}

static struct atd_str url_of(const struct fault_upload *upload)
{
    return (struct atd_str){upload->url, upload->url_len};
}

static int fault_part(struct atd_store_upload *base, unsigned number, struct atd_bytes bytes,
                      unsigned timeout_ms, struct atd_error *err)
{
    struct fault_upload *upload = from_base(base);
    struct atd_write_fault_rule rule;
    int rc =
        fail(base->store, upload, ATD_WRITE_PART, url_of(upload), number, timeout_ms, &rule, err);

    if (rc == 0)
        rc = atd_store_upload_part(upload->inner, number, bytes, timeout_ms, err);
    return tell(rule, url_of(upload), rc, err);
}

static int fault_finish(struct atd_store_upload *base, unsigned part_count, unsigned timeout_ms,
                        struct atd_object_info *ret_info, struct atd_error *err)
{
    struct fault_upload *upload = from_base(base);
    struct atd_write_fault_rule rule;
    int rc = fail(base->store, upload, ATD_WRITE_FINISH, url_of(upload), 0, timeout_ms, &rule, err);

    if (rc == 0)
        rc = atd_store_upload_finish(upload->inner, part_count, timeout_ms, ret_info, err);
    return tell(rule, url_of(upload), rc, err);
}

static void fault_cancel(struct atd_store_upload *base)
{
    struct fault_upload *upload = from_base(base);

    atd_lock_take(&upload->lock);
    upload->is_cancelled = true;
    (void)pthread_cond_broadcast(&upload->wake);
    atd_lock_give(&upload->lock);
    atd_store_upload_cancel(upload->inner);
}

static int fault_abort(struct atd_store_upload *base, unsigned timeout_ms, struct atd_error *err)
{
    struct fault_upload *upload = from_base(base);
    struct atd_write_fault_rule rule;
    /* Not the upload itself: an abort is not cancelled. */
    int rc = fail(base->store, NULL, ATD_WRITE_ABORT, url_of(upload), 0, timeout_ms, &rule, err);

    if (rc == 0)
        rc = atd_store_upload_abort(upload->inner, timeout_ms, err);
    return tell(rule, url_of(upload), rc, err);
}

static int fault_discard(struct atd_store *store, struct atd_str url, const char *id,
                         unsigned timeout_ms, struct atd_error *err)
{
    struct atd_write_fault_rule rule;
    int rc = fail(store, NULL, ATD_WRITE_DISCARD, url, 0, timeout_ms, &rule, err);

    if (rc == 0)
        rc = atd_store_upload_discard(atd_fault_writes_of(store)->inner, url, id, timeout_ms, err);
    return tell(rule, url, rc, err);
}

static int fault_put(struct atd_store *store, struct atd_str url, struct atd_bytes bytes,
                     unsigned timeout_ms, struct atd_object_info *ret_info, struct atd_error *err)
{
    struct atd_write_fault_rule rule;
    int rc = fail(store, NULL, ATD_WRITE_PUT, url, 0, timeout_ms, &rule, err);

    if (rc == 0)
        rc =
            atd_store_put(atd_fault_writes_of(store)->inner, url, bytes, timeout_ms, ret_info, err);
    return tell(rule, url, rc, err);
}

static int fault_adopt(struct atd_store *store, struct atd_str url, int fd, const char *path,
                       struct atd_object_info *ret_info, struct atd_error *err)
{
    struct atd_write_fault_rule rule;
    int rc = fail(store, NULL, ATD_WRITE_ADOPT, url, 0, 0, &rule, err);

    if (rc == 0)
        rc = atd_store_adopt(atd_fault_writes_of(store)->inner, url, fd, path, ret_info, err);
    return tell(rule, url, rc, err);
}

static int fault_remove(struct atd_store *store, struct atd_str url, unsigned timeout_ms,
                        struct atd_error *err)
{
    struct atd_write_fault_rule rule;
    int rc = fail(store, NULL, ATD_WRITE_DELETE, url, 0, timeout_ms, &rule, err);

    if (rc == 0)
        rc = atd_store_delete(atd_fault_writes_of(store)->inner, url, timeout_ms, err);
    return tell(rule, url, rc, err);
}

static int fault_guards(struct atd_store *store, struct atd_str prefix_url,
                        struct atd_str scratch_name, unsigned timeout_ms, bool *ret_guards,
                        struct atd_error *err)
{
    struct atd_write_fault_rule rule;
    int rc = fail(store, NULL, ATD_WRITE_GUARDS, prefix_url, 0, timeout_ms, &rule, err);

    if (rc)
        return rc;
    if (rule.fault == ATD_WRITE_FAULT_UNGUARDED) {
        *ret_guards = false;
        return 0;
    }
    return atd_store_guards(atd_fault_writes_of(store)->inner, prefix_url, scratch_name, timeout_ms,
                            ret_guards, err);
}

static const char *fault_maker(struct atd_store *store)
{
    return atd_store_maker(atd_fault_writes_of(store)->inner);
}

const struct atd_store_write_ops atd_fault_write_ops = {
    .begin = fault_begin,
    .part = fault_part,
    .finish = fault_finish,
    .cancel = fault_cancel,
    .abort = fault_abort,
    .free_upload = fault_free_upload,
    .discard = fault_discard,
    .put = fault_put,
    .adopt = fault_adopt,
    .remove = fault_remove,
    .guards = fault_guards,
    .maker = fault_maker,
};

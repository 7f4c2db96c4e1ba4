/* Part sizes, the wrappers, and uploads to memory and through faults. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/check.h"
#include "content.h"
#include "store/stores.h"
#include "store_get.h"

#define MIB ((uint64_t)1 << 20)
#define PART 1000u
#define SIZE 2500u
#define URL "mem://a.tar"

static struct atd_store *store; /* the fault store around `memory` */
static struct atd_store *memory;
static struct atd_error err;
static uint8_t source[SIZE];
static char id[ATD_UPLOAD_ID_MAX + 1];

/* What the next event of this step gets; others pass. */
static enum atd_write_step step;
static struct atd_write_fault_rule rule;
static unsigned only_part;
static atomic_uint events;

static struct atd_fault_rule no_fault(void *ctx, const struct atd_store_get *get)
{
    (void)ctx;
    (void)get;
    return (struct atd_fault_rule){ATD_FAULT_NONE, 0};
}

static struct atd_write_fault_rule decide(void *ctx, const struct atd_write_event *event)
{
    cr_assert_eq(ctx, &rule);
    cr_assert(atd_str_starts_with(event->url, ATD_STR("mem://")));
    if (event->step != step || (only_part && event->part_number != only_part))
        return (struct atd_write_fault_rule){ATD_WRITE_FAULT_NONE, 0};
    atomic_fetch_add(&events, 1);
    return rule;
}

static void set_up(void)
{
    cr_assert_eq(atd_store_memory_new(&memory, &err), 0);
    cr_assert_eq(atd_store_fault_new(memory, no_fault, NULL, &store, &err), 0);
    atd_store_fault_writes(store, decide, &rule);
    rule = (struct atd_write_fault_rule){ATD_WRITE_FAULT_NONE, 0};
    content_fill(1, 0, 0, source, SIZE);
}

static void tear_down(void)
{
    atd_store_free(store);
}

TestSuite(upload, .init = set_up, .fini = tear_down);

static struct atd_bytes piece(size_t first, size_t len)
{
    return (struct atd_bytes){source + first, len};
}

static struct atd_store_upload *begin(void)
{
    struct atd_store_upload *upload = NULL;

    cr_assert_eq(atd_store_upload_begin(store, ATD_STR(URL), PART, 1000, id, &upload, &err), 0,
                 "%s", err.text);
    return upload;
}

/* Out of order, the first one twice. */
static void send_all(struct atd_store_upload *upload)
{
    cr_assert_eq(atd_store_upload_part(upload, 3, piece(2000, 500), 1000, &err), 0);
    cr_assert_eq(atd_store_upload_part(upload, 1, piece(7, PART), 1000, &err), 0);
    cr_assert_eq(atd_store_upload_part(upload, 2, piece(1000, PART), 1000, &err), 0);
    cr_assert_eq(atd_store_upload_part(upload, 1, piece(0, PART), 1000, &err), 0);
}

static void check_object(void)
{
    struct waited_get get;
    uint8_t into[SIZE] = {0};

    waited_start(&get, store, URL, 0, SIZE, into, NULL);
    cr_assert(waited_ends(&get));
    cr_assert_eq(get.why.code, 0, "%s", get.why.text);
    cr_assert_eq(memcmp(into, source, SIZE), 0);
}

static int stat_code(void)
{
    struct atd_object_info info;

    return atd_store_stat(store, ATD_STR(URL), 1000, &info, &err);
}

/* ------------------------------------------------------------------ part sizes */

Test(upload, parts_are_large_enough_for_any_size)
{
    static const struct {
        uint64_t size;
        uint64_t part;
    } cases[] = {
        {0, 8 * MIB},
        {1, 8 * MIB},
        {8 * MIB * 10000, 8 * MIB},
        {8 * MIB * 10000 + 1, 9 * MIB},
        {9 * MIB * 10000, 9 * MIB},
        {ATD_UPLOAD_SIZE_UNKNOWN, 16 * MIB},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++)
        cr_assert_eq(atd_upload_part_bytes(cases[i].size), cases[i].part, "case %zu", i);
    for (uint64_t size = 1; size < (uint64_t)1 << 62; size = size * 3 + 1) {
        uint64_t part = atd_upload_part_bytes(size);

        cr_assert_eq(part % MIB, 0);
        cr_assert_leq((size + part - 1) / part, ATD_UPLOAD_PARTS_MAX);
    }
    cr_assert_geq(atd_upload_part_bytes(UINT64_MAX - 1), (UINT64_MAX - 1) / 10000);
}

/* ------------------------------------------------------------------ memory */

Test(upload, nothing_is_visible_before_the_end)
{
    struct atd_object_info info;
    struct atd_object_info found;
    struct atd_store_upload *upload = begin();

    cr_assert_eq(atd_store_memory_uploads(memory), 1);
    send_all(upload);
    cr_assert_eq(stat_code(), -ENOENT);
    cr_assert_eq(atd_store_upload_finish(upload, 3, 1000, &info, &err), 0, "%s", err.text);
    atd_store_upload_free(upload);
    cr_assert_eq(atd_store_memory_uploads(memory), 0);
    cr_assert_eq(info.size_bytes, SIZE);
    cr_assert_eq(atd_store_stat(store, ATD_STR(URL), 1000, &found, &err), 0);
    cr_assert(atd_object_info_same(&info, &found));
    check_object();
}

Test(upload, an_object_is_never_replaced)
{
    struct atd_object_info info;
    struct atd_store_upload *upload = begin();
    bool guards = false;

    cr_assert_eq(
        atd_store_guards(store, ATD_STR("mem://"), ATD_STR(".scratch"), 1000, &guards, &err), 0);
    cr_assert(guards);
    cr_assert_eq(atd_store_put(store, ATD_STR(URL), piece(0, SIZE), 1000, &info, &err), 0);
    send_all(upload);
    cr_assert_eq(atd_store_upload_finish(upload, 3, 1000, &info, &err), -EEXIST);
    cr_assert_eq(atd_store_upload_abort(upload, 1000, &err), 0);
    atd_store_upload_free(upload);
    cr_assert_eq(atd_store_put(store, ATD_STR(URL), piece(1, 5), 1000, &info, &err), -EEXIST);
    check_object();

    cr_assert_eq(atd_store_delete(store, ATD_STR(URL), 1000, &err), 0);
    cr_assert_eq(stat_code(), -ENOENT);
    cr_assert_eq(atd_store_delete(store, ATD_STR(URL), 1000, &err), 0);
    cr_assert_eq(atd_store_put(store, ATD_STR(URL), piece(0, SIZE), 1000, &info, &err), 0);
    check_object();
}

static int count(void *ctx, struct atd_str url, const struct atd_object_info *info)
{
    (void)url;
    (void)info;
    ++*(int *)ctx;
    return 0;
}

Test(upload, deleted_objects_are_not_listed)
{
    struct atd_object_info info;
    int listed = 0;
    bool more;

    cr_assert_eq(atd_store_put(store, ATD_STR("mem://b"), piece(0, 5), 1000, &info, &err), 0);
    cr_assert_eq(atd_store_put(store, ATD_STR("mem://c"), piece(0, 0), 1000, &info, &err), 0);
    cr_assert_eq(atd_store_delete(store, ATD_STR("mem://b"), 1000, &err), 0);
    cr_assert_eq(
        atd_store_list(store, ATD_STR("mem://"), ATD_STR(""), 1000, count, &listed, &more, &err),
        0);
    cr_assert_eq(listed, 1);
}

Test(upload, parts_that_are_missing_or_short_are_noticed)
{
    struct atd_object_info info;
    struct atd_store_upload *upload = begin();

    cr_assert_eq(atd_store_upload_part(upload, 2, piece(0, PART), 1000, &err), 0);
    cr_assert_eq(atd_store_upload_finish(upload, 2, 1000, &info, &err), -EINVAL);
    cr_assert_eq(atd_store_upload_finish(upload, 20, 1000, &info, &err), -EINVAL);
    cr_assert_eq(atd_store_upload_part(upload, 1, piece(0, 10), 1000, &err), 0);
    cr_assert_eq(atd_store_upload_finish(upload, 2, 1000, &info, &err), -EINVAL);
    cr_assert_not_null(strstr(err.text, "part 1 of 2"), "%s", err.text);
    cr_assert_eq(atd_store_upload_part(upload, 10001, piece(0, 10), 1000, &err), -EFBIG);
    cr_assert_eq(atd_store_upload_abort(upload, 1000, &err), 0);
    atd_store_upload_free(upload);
    cr_assert_eq(stat_code(), -ENOENT);
}

Test(upload, what_a_dead_process_left_is_taken_back)
{
    struct atd_object_info info;
    char other[ATD_UPLOAD_ID_MAX + 1];
    struct atd_store_upload *kept;
    struct atd_store_upload *upload = begin();

    memcpy(other, id, sizeof(other));
    atd_store_upload_free(upload);
    kept = begin();
    send_all(kept);
    cr_assert_str_neq(other, id);
    cr_assert_eq(atd_store_upload_discard(store, ATD_STR(URL), other, 1000, &err), 0);
    cr_assert_eq(atd_store_upload_discard(store, ATD_STR(URL), other, 1000, &err), 0);
    cr_assert_eq(atd_store_memory_uploads(memory), 1);
    cr_assert_eq(atd_store_upload_discard(store, ATD_STR("mem://other"), "", 1000, &err), 0);
    cr_assert_eq(atd_store_memory_uploads(memory), 1);
    cr_assert_eq(atd_store_upload_discard(store, ATD_STR(URL), "", 1000, &err), 0);
    cr_assert_eq(atd_store_memory_uploads(memory), 0);
    cr_assert_eq(atd_store_upload_part(kept, 4, piece(0, 10), 1000, &err), -ENOENT);
    cr_assert_eq(atd_store_upload_finish(kept, 3, 1000, &info, &err), -ENOENT);
    cr_assert_eq(atd_store_upload_abort(kept, 1000, &err), 0);
    atd_store_upload_free(kept);
}

Test(upload, cancelled_uploads_make_nothing)
{
    struct atd_object_info info;
    struct atd_store_upload *upload = begin();

    send_all(upload);
    atd_store_upload_cancel(upload);
    cr_assert_eq(atd_store_upload_part(upload, 1, piece(0, PART), 1000, &err), -ECANCELED);
    cr_assert_eq(atd_store_upload_finish(upload, 3, 1000, &info, &err), -ECANCELED);
    cr_assert_eq(atd_store_upload_abort(upload, 1000, &err), 0);
    atd_store_upload_free(upload);
    cr_assert_eq(stat_code(), -ENOENT);
    cr_assert_eq(atd_store_memory_uploads(memory), 0);
}

Test(upload, no_local_file_is_taken_over)
{
    struct atd_object_info info;

    cr_assert_eq(atd_store_adopt(store, ATD_STR(URL), 0, "/tmp/x", &info, &err), -ENOTSUP);
}

/* ------------------------------------------------------------------ faults */

/* Runs one step with its fault; *ret_done: whether the work was done all the same. */
static int run_step(enum atd_write_step which, bool *ret_done)
{
    struct atd_store_upload *upload = NULL;
    struct atd_object_info info;
    bool guards = true;
    int rc;

    *ret_done = false;
    switch (which) {
    case ATD_WRITE_BEGIN:
        rc = atd_store_upload_begin(store, ATD_STR(URL), PART, 100, id, &upload, &err);
        *ret_done = atd_store_memory_uploads(memory) == 1;
        break;
    case ATD_WRITE_PART:
    case ATD_WRITE_FINISH:
    case ATD_WRITE_ABORT:
        upload = begin();
        rc = atd_store_upload_part(upload, 1, piece(0, 5), 100, &err);
        if (rc == 0 && which != ATD_WRITE_ABORT)
            rc = atd_store_upload_finish(upload, 1, 100, &info, &err);
        else if (rc == 0)
            rc = atd_store_upload_abort(upload, 100, &err);
        *ret_done = which == ATD_WRITE_ABORT
                        ? atd_store_memory_uploads(memory) == 0
                        : atd_store_stat(memory, ATD_STR(URL), 1, &info, NULL) == 0;
        break;
    case ATD_WRITE_DISCARD:
        atd_store_upload_free(begin());
        rc = atd_store_upload_discard(store, ATD_STR(URL), "", 100, &err);
        *ret_done = atd_store_memory_uploads(memory) == 0;
        break;
    case ATD_WRITE_PUT:
        rc = atd_store_put(store, ATD_STR(URL), piece(0, 5), 100, &info, &err);
        *ret_done = atd_store_stat(memory, ATD_STR(URL), 1, &info, NULL) == 0;
        break;
    case ATD_WRITE_DELETE:
        cr_assert_eq(atd_store_put(memory, ATD_STR(URL), piece(0, 5), 100, &info, &err), 0);
        rc = atd_store_delete(store, ATD_STR(URL), 100, &err);
        *ret_done = atd_store_stat(memory, ATD_STR(URL), 1, &info, NULL) != 0;
        break;
    case ATD_WRITE_ADOPT:
        rc = atd_store_adopt(store, ATD_STR(URL), 0, "/tmp/x", &info, &err);
        break;
    default:
        rc = atd_store_guards(store, ATD_STR("mem://"), ATD_STR(".scratch"), 100, &guards, &err);
        *ret_done = rc == 0;
        break;
    }
    atd_store_upload_free(upload);
    cr_assert_eq(atd_store_delete(memory, ATD_STR(URL), 100, &err), 0);
    cr_assert_eq(atd_store_upload_discard(memory, ATD_STR(URL), "", 100, &err), 0);
    return rc;
}

Test(upload, each_fault_ends_as_it_says)
{
    static const struct {
        struct atd_write_fault_rule rule;
        int code;
        bool retryable;
    } cases[] = {
        {{ATD_WRITE_FAULT_DELAY, 20}, 0, false},
        {{ATD_WRITE_FAULT_STALL, 0}, ETIMEDOUT, true},
        {{ATD_WRITE_FAULT_FORBIDDEN, 0}, EACCES, false},
        {{ATD_WRITE_FAULT_UNAVAILABLE, 0}, EIO, true},
        {{ATD_WRITE_FAULT_EXISTS, 0}, EEXIST, false},
        {{ATD_WRITE_FAULT_DROPPED, 0}, EAGAIN, true},
        {{ATD_WRITE_FAULT_DAMAGED, 0}, EIO, false},
        {{ATD_WRITE_FAULT_UNKNOWN, 0}, EREMOTEIO, false},
        {{ATD_WRITE_FAULT_UNKNOWN, 1}, EREMOTEIO, false},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        for (step = ATD_WRITE_BEGIN; step <= ATD_WRITE_GUARDS; step++) {
            int64_t start = atd_clock_monotonic_ms();
            int code = cases[i].code;
            bool done;
            int rc;

            /* Nothing was done, so nothing can be unknown. */
            if (step == ATD_WRITE_GUARDS && cases[i].rule.fault == ATD_WRITE_FAULT_UNKNOWN)
                continue;
            if (step == ATD_WRITE_ADOPT && (code == 0 || cases[i].rule.value))
                code = ENOTSUP;
            rule = cases[i].rule;
            atomic_store(&events, 0);
            err = (struct atd_error)ATD_ERROR_INIT;
            rc = run_step(step, &done);
            cr_assert_eq(rc, -code, "case %zu, step %d: %s", i, step, err.text);
            cr_assert_eq(atomic_load(&events), 1, "case %zu, step %d", i, step);
            if (code && code != ENOTSUP)
                cr_assert_eq(err.retryable, cases[i].retryable, "case %zu, step %d", i, step);
            if (step != ATD_WRITE_ADOPT && step != ATD_WRITE_PART)
                cr_assert_eq(done, code == 0 || (code == EREMOTEIO && cases[i].rule.value),
                             "case %zu, step %d", i, step);
            if (code == ETIMEDOUT && step != ATD_WRITE_ADOPT) /* which has no timeout */
                cr_assert_geq(atd_clock_monotonic_ms() - start, 100);
            rule.fault = ATD_WRITE_FAULT_NONE;
        }
    }
}

Test(upload, a_fault_can_be_of_one_part)
{
    struct atd_store_upload *upload = begin();

    step = ATD_WRITE_PART;
    only_part = 2;
    rule.fault = ATD_WRITE_FAULT_UNAVAILABLE;
    cr_assert_eq(atd_store_upload_part(upload, 1, piece(0, PART), 1000, &err), 0);
    cr_assert_eq(atd_store_upload_part(upload, 2, piece(0, PART), 1000, &err), -EIO);
    cr_assert_eq(atd_store_upload_part(upload, 3, piece(0, 5), 1000, &err), 0);
    cr_assert_eq(atd_store_upload_abort(upload, 1000, &err), 0);
    atd_store_upload_free(upload);
}

Test(upload, a_store_may_say_that_it_does_not_guard)
{
    bool guards = true;

    step = ATD_WRITE_GUARDS;
    rule.fault = ATD_WRITE_FAULT_UNGUARDED;
    cr_assert_eq(
        atd_store_guards(store, ATD_STR("mem://"), ATD_STR(".scratch"), 1000, &guards, &err), 0);
    cr_assert_not(guards);
}

static void *stalled_part(void *upload)
{
    static struct atd_error why;

    return atd_store_upload_part(upload, 1, piece(0, PART), 60000, &why) == -ECANCELED ? upload
                                                                                       : NULL;
}

Test(upload, a_stalled_part_can_be_cancelled)
{
    struct atd_store_upload *upload = begin();
    int64_t start = atd_clock_monotonic_ms();
    pthread_t thread;
    void *outcome;

    step = ATD_WRITE_PART;
    rule.fault = ATD_WRITE_FAULT_STALL;
    atomic_store(&events, 0);
    cr_assert_eq(pthread_create(&thread, NULL, stalled_part, upload), 0);
    while (atomic_load(&events) == 0 && atd_clock_monotonic_ms() - start < 30000)
        (void)usleep(500);
    atd_store_upload_cancel(upload);
    cr_assert_eq(pthread_join(thread, &outcome), 0);
    cr_assert_not_null(outcome);
    cr_assert_lt(atd_clock_monotonic_ms() - start, 30000);
    cr_assert_eq(atd_store_upload_abort(upload, 1000, &err), 0);
    atd_store_upload_free(upload);
}

/* ------------------------------------------------------------------ stores that cannot write */

Test(upload, a_store_without_writing_says_so)
{
    static const struct atd_store_ops ops = {.kind = "http"};
    struct atd_store readonly = {&ops};
    struct atd_store_upload *upload = NULL;
    struct atd_object_info info;
    bool guards;

    cr_assert_eq(atd_store_upload_begin(&readonly, ATD_STR("x"), PART, 1, id, &upload, &err),
                 -ENOTSUP);
    cr_assert_not_null(strstr(err.text, "http"), "%s", err.text);
    cr_assert_eq(atd_store_put(&readonly, ATD_STR("x"), piece(0, 1), 1, &info, &err), -ENOTSUP);
    cr_assert_eq(atd_store_adopt(&readonly, ATD_STR("x"), 0, "x", &info, &err), -ENOTSUP);
    cr_assert_eq(atd_store_delete(&readonly, ATD_STR("x"), 1, &err), -ENOTSUP);
    cr_assert_eq(atd_store_guards(&readonly, ATD_STR("x"), ATD_STR(".scratch"), 1, &guards, &err),
                 -ENOTSUP);
    cr_assert_eq(atd_store_upload_discard(&readonly, ATD_STR("x"), "", 1, &err), -ENOTSUP);
    atd_store_upload_free(NULL);
}

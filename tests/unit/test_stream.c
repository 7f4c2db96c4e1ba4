#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "content.h"
#include "store/stores.h"
#include "store/stream.h"

#define SIZE (3 * ATD_STREAM_PARTS * ATD_STREAM_PART_BYTES + 12345)

static struct atd_store *store;
static struct atd_error err;
static struct atd_object_info info;

static void fill(void *ctx, uint64_t offset, uint8_t *into, size_t len)
{
    (void)ctx;
    content_fill(1, 0, offset, into, len);
}

static void set_up(void)
{
    cr_assert_eq(atd_store_memory_new(&store, &err), 0);
    cr_assert_eq(atd_store_memory_put_made(store, ATD_STR("mem://a"), SIZE, fill, NULL, &err), 0);
    cr_assert_eq(atd_store_stat(store, ATD_STR("mem://a"), 1000, &info, &err), 0);
}

static void tear_down(void)
{
    atd_store_free(store);
}

TestSuite(stream, .init = set_up, .fini = tear_down);

static struct atd_stream *open_stream(void)
{
    struct atd_stream *stream;

    cr_assert_eq(atd_stream_open(store, ATD_STR("mem://a"), &info, 5000, &stream, &err), 0);
    return stream;
}

Test(stream, every_byte_comes_once_and_in_order)
{
    struct atd_stream *stream = open_stream();
    struct atd_bytes bytes;
    uint64_t gets;
    uint64_t asked;
    uint64_t at = 0;

    do {
        cr_assert_eq(atd_stream_offset(stream), at);
        cr_assert_eq(atd_stream_next(stream, &bytes, &err), 0, "%s", err.text);
        cr_assert_eq(content_check(1, 0, at, bytes.ptr, bytes.len), bytes.len);
        at += bytes.len;
    } while (bytes.len > 0);
    cr_assert_eq(at, SIZE);
    cr_assert_eq(atd_stream_next(stream, &bytes, &err), 0);
    cr_assert_eq(bytes.len, 0);
    atd_store_memory_counts(store, &gets, &asked);
    cr_assert_eq(asked, SIZE);
    cr_assert_eq(gets, (SIZE + ATD_STREAM_PART_BYTES - 1) / ATD_STREAM_PART_BYTES);
    atd_stream_free(stream);
}

Test(stream, reads_ahead_no_further_than_it_may)
{
    struct atd_stream *stream = open_stream();
    struct atd_bytes bytes;
    uint64_t gets;
    uint64_t asked;

    cr_assert_eq(atd_stream_next(stream, &bytes, &err), 0);
    atd_store_memory_counts(store, &gets, &asked);
    cr_assert_leq(gets, ATD_STREAM_PARTS);
    atd_stream_free(stream); /* ends what is under way */
}

Test(stream, nothing_is_asked_of_an_empty_object)
{
    struct atd_stream *stream;
    struct atd_bytes bytes;
    uint64_t gets;
    uint64_t asked;

    cr_assert_eq(atd_store_memory_put(store, ATD_STR("mem://e"), (struct atd_bytes){NULL, 0}, &err),
                 0);
    cr_assert_eq(atd_store_stat(store, ATD_STR("mem://e"), 1000, &info, &err), 0);
    cr_assert_eq(atd_stream_open(store, ATD_STR("mem://e"), &info, 5000, &stream, &err), 0);
    cr_assert_eq(atd_stream_next(stream, &bytes, &err), 0);
    cr_assert_eq(bytes.len, 0);
    atd_store_memory_counts(store, &gets, &asked);
    cr_assert_eq(gets, 0);
    atd_stream_free(stream);
}

Test(stream, another_version_is_not_mixed_in)
{
    struct atd_stream *stream = open_stream();
    struct atd_bytes bytes;
    int rc;

    cr_assert_eq(atd_stream_next(stream, &bytes, &err), 0);
    cr_assert_eq(atd_store_memory_put_made(store, ATD_STR("mem://a"), SIZE, fill, NULL, &err), 0);
    do {
        rc = atd_stream_next(stream, &bytes, &err);
    } while (rc == 0 && bytes.len > 0);
    cr_assert_eq(rc, -ESTALE);
    atd_stream_free(stream);
}

static atomic_uint faults_left;

/* One read of the middle fails; all others are well. */
static struct atd_fault_rule decide(void *ctx, const struct atd_store_get *get)
{
    const struct atd_fault_rule bad = *(const struct atd_fault_rule *)ctx;

    if (get->first < 4 * ATD_STREAM_PART_BYTES || atomic_load(&faults_left) == 0)
        return (struct atd_fault_rule){ATD_FAULT_NONE, 0};
    atomic_fetch_sub(&faults_left, 1);
    return bad;
}

Test(stream, a_failed_read_ends_it_with_its_error)
{
    static struct atd_fault_rule rule = {ATD_FAULT_RESET, 1000};
    struct atd_stream *stream;
    struct atd_store *faulty;
    struct atd_bytes bytes;
    uint64_t got = 0;
    int rc;

    atomic_store(&faults_left, 1);
    cr_assert_eq(atd_store_fault_new(store, decide, &rule, &faulty, &err), 0);
    cr_assert_eq(atd_stream_open(faulty, ATD_STR("mem://a"), &info, 5000, &stream, &err), 0);
    while ((rc = atd_stream_next(stream, &bytes, &err)) == 0 && bytes.len > 0)
        got += bytes.len;
    cr_assert_eq(rc, -ECONNRESET);
    cr_assert_eq(got, 4 * ATD_STREAM_PART_BYTES);
    atd_stream_free(stream);
    atd_store_free(faulty);
    store = NULL;
}

static void *cancel_soon(void *ctx)
{
    atd_stream_cancel(ctx);
    return NULL;
}

Test(stream, a_stalled_read_can_be_cancelled)
{
    static struct atd_fault_rule rule = {ATD_FAULT_STALL, 0};
    struct atd_stream *stream;
    struct atd_store *faulty;
    struct atd_bytes bytes;
    pthread_t thread;
    int rc = 0;

    atomic_store(&faults_left, 100);
    cr_assert_eq(atd_store_fault_new(store, decide, &rule, &faulty, &err), 0);
    cr_assert_eq(atd_stream_open(faulty, ATD_STR("mem://a"), &info, 600000, &stream, &err), 0);
    for (int i = 0; i < 4; i++)
        cr_assert_eq(atd_stream_next(stream, &bytes, &err), 0);
    cr_assert_eq(pthread_create(&thread, NULL, cancel_soon, stream), 0);
    rc = atd_stream_next(stream, &bytes, &err);
    cr_assert_eq(rc, -ECANCELED);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    atd_stream_free(stream);
    atd_store_free(faulty);
    store = NULL;
}

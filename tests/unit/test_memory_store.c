#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

#include "content.h"
#include "store/stores.h"
#include "store_get.h"

#define SIZE 1000000u

static struct atd_store *store;
static struct atd_error err;
static uint8_t source[SIZE];
static uint8_t into[SIZE];

static void set_up(void)
{
    cr_assert_eq(atd_store_memory_new(&store, &err), 0);
    content_fill(1, 0, 0, source, SIZE);
    cr_assert_eq(
        atd_store_memory_put(store, ATD_STR("mem://a"), (struct atd_bytes){source, SIZE}, &err), 0);
}

static void tear_down(void)
{
    atd_store_free(store);
}

Test(memory_store, serves_a_range_in_steps, .init = set_up, .fini = tear_down)
{
    struct waited_get get;
    uint64_t gets;
    uint64_t bytes;

    waited_start(&get, store, "mem://a", 1000, 901000, into, NULL);
    cr_assert(waited_ends(&get));
    cr_assert_eq(get.why.code, 0, "%s", get.why.text);
    cr_assert_eq(atomic_load(&get.received), 900000);
    cr_assert_eq(atomic_load(&get.progresses), 14);
    cr_assert(!get.within_start);
    cr_assert_eq(get.get.found.size_bytes, SIZE);
    cr_assert_eq(content_check(1, 0, 1000, into, 900000), 900000);
    atd_store_memory_counts(store, &gets, &bytes);
    cr_assert_eq(gets, 1);
    cr_assert_eq(bytes, 900000);
}

Test(memory_store, knows_versions, .init = set_up, .fini = tear_down)
{
    struct atd_object_info first;
    struct atd_object_info second;
    struct waited_get get;

    cr_assert_eq(atd_store_stat(store, ATD_STR("mem://a"), 1000, &first, &err), 0);
    cr_assert_eq(
        atd_store_memory_put(store, ATD_STR("mem://a"), (struct atd_bytes){source, SIZE}, &err), 0);
    cr_assert_eq(atd_store_stat(store, ATD_STR("mem://a"), 1000, &second, &err), 0);
    cr_assert_str_neq(first.etag, second.etag);
    waited_start(&get, store, "mem://a", 0, SIZE, into, &first);
    cr_assert(waited_ends(&get));
    cr_assert_eq(get.why.code, ESTALE);
    waited_start(&get, store, "mem://a", 0, SIZE + 1, into, NULL);
    cr_assert(waited_ends(&get));
    cr_assert_eq(get.why.code, ESTALE);
    waited_start(&get, store, "mem://b", 0, 1, into, NULL);
    cr_assert(waited_ends(&get));
    cr_assert_eq(get.why.code, ENOENT);
    cr_assert_eq(atd_store_stat(store, ATD_STR("mem://b"), 1000, &first, &err), -ENOENT);
}

static void fill_huge(void *ctx, uint64_t offset, uint8_t *bytes, size_t len)
{
    (void)ctx;
    (void)usleep(1000);
    content_fill(7, 0, offset, bytes, len);
}

Test(memory_store, makes_bytes_and_cancels, .init = set_up, .fini = tear_down)
{
    struct waited_get get;
    uint8_t *much = malloc(64u << 20);

    cr_assert_eq(
        atd_store_memory_put_made(store, ATD_STR("mem://huge"), 1ULL << 40, fill_huge, NULL, &err),
        0);
    waited_start(&get, store, "mem://huge", 1ULL << 39, (1ULL << 39) + 10, into, NULL);
    cr_assert(waited_ends(&get));
    cr_assert_eq(get.why.code, 0);
    cr_assert_eq(content_check(7, 0, 1ULL << 39, into, 10), 10);
    waited_start(&get, store, "mem://huge", 0, 64u << 20, much, NULL);
    atd_store_get_cancel(store, &get.get);
    cr_assert(waited_ends(&get));
    cr_assert_eq(get.why.code, ECANCELED);
    free(much);
}

struct listing {
    char last[32];
    int count;
};

static int note(void *ctx, struct atd_str url, const struct atd_object_info *info)
{
    struct listing *listing = ctx;

    cr_assert(info->size_bytes == 3);
    (void)snprintf(listing->last, sizeof(listing->last), "%.*s", (int)url.len, url.ptr);
    listing->count++;
    return 0;
}

Test(memory_store, lists_in_pages, .init = set_up, .fini = tear_down)
{
    struct listing listing = {"", 0};
    bool more = true;

    for (int i = 0; i < 1500; i++) {
        char url[32];

        (void)snprintf(url, sizeof(url), "mem://l/%04d", i);
        cr_assert_eq(
            atd_store_memory_put(store, atd_str_from(url), (struct atd_bytes){source, 3}, &err), 0);
    }
    cr_assert_eq(atd_store_list(store, ATD_STR("mem://l/"), (struct atd_str){NULL, 0}, 1000, note,
                                &listing, &more, &err),
                 0);
    cr_assert_eq(listing.count, 1000);
    cr_assert(more);
    cr_assert_str_eq(listing.last, "mem://l/0999");
    cr_assert_eq(atd_store_list(store, ATD_STR("mem://l/"), atd_str_from(listing.last), 1000, note,
                                &listing, &more, &err),
                 0);
    cr_assert_eq(listing.count, 1500);
    cr_assert(!more);
}

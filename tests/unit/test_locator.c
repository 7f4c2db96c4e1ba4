#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "catalog/locator.h"
#include "store/stores.h"

/* A store that counts what it is asked and refuses what a test says. */
struct counting {
    struct atd_store base;
    struct atd_store *inner;
    unsigned lists;
    unsigned stats;
    int list_error;
    int stat_error;
};

static int counting_list(struct atd_store *base, struct atd_str prefix, struct atd_str after,
                         unsigned timeout_ms, atd_store_list_fn fn, void *ctx, bool *ret_more,
                         struct atd_error *err)
{
    struct counting *counting = (struct counting *)base;

    counting->lists++;
    if (counting->list_error)
        return atd_error_set(err, counting->list_error, "list refused");
    return atd_store_list(counting->inner, prefix, after, timeout_ms, fn, ctx, ret_more, err);
}

static int counting_stat(struct atd_store *base, struct atd_str url, unsigned timeout_ms,
                         struct atd_object_info *ret_info, struct atd_error *err)
{
    struct counting *counting = (struct counting *)base;

    __atomic_add_fetch(&counting->stats, 1, __ATOMIC_SEQ_CST);
    if (counting->stat_error)
        return atd_error_set(err, counting->stat_error, "stat refused");
    return atd_store_stat(counting->inner, url, timeout_ms, ret_info, err);
}

static const struct atd_store_ops counting_ops = {
    .kind = "counting", .stat = counting_stat, .list = counting_list};

/* What a lesson said, by place. */
struct heard {
    unsigned calls;
    int code[4096];
    uint64_t size[4096];
    bool retryable[4096];
};

static void on_located(void *ctx, size_t place, const struct atd_object_info *info,
                       const struct atd_error *why)
{
    struct heard *heard = ctx;

    heard->calls++;
    heard->code[place] = info ? 0 : why->code;
    heard->size[place] = info ? info->size_bytes : 0;
    heard->retryable[place] = !info && why->retryable;
}

static struct counting counting;
static struct atd_object_table *table;
static struct atd_locator *locator;
static struct atd_arena arena;
static struct atd_shard_url urls[4096];
static size_t url_count;
static struct heard heard;

static void start(const char *wide_prefix)
{
    struct atd_locator_options options = {
        .s3 = &counting.base, .s3_scope = "test", .wide_prefix = wide_prefix, .timeout_ms = 1000};

    counting = (struct counting){.base = {&counting_ops}};
    cr_assert_eq(atd_store_memory_new(&counting.inner, NULL), 0);
    cr_assert_eq(atd_object_table_open(NULL, &table, NULL, NULL), 0);
    options.table = table;
    cr_assert_eq(atd_locator_new(&options, &locator, NULL), 0);
    atd_arena_init(&arena, 16u << 20);
    url_count = 0;
    heard = (struct heard){0};
}

static void end(void)
{
    cr_assert(atd_locator_free(locator));
    atd_object_table_close(table);
    atd_store_free(counting.inner);
    atd_arena_release(&arena);
}

static void put(const char *url, size_t size)
{
    static const uint8_t zeros[4096];

    cr_assert_eq(atd_store_memory_put(counting.inner, atd_str_from(url),
                                      (struct atd_bytes){zeros, size}, NULL),
                 0);
}

static void want(const char *url)
{
    struct atd_str text = atd_arena_str(&arena, atd_str_from(url));

    cr_assert_eq(atd_shard_url_parse(text, &arena, &urls[url_count++], NULL), 0);
}

static void learn(void)
{
    heard = (struct heard){0};
    cr_assert_eq(atd_locator_learn(locator, urls, url_count, on_located, &heard, NULL), 0);
}

Test(locator, many_shards_of_one_prefix_take_a_list_a_thousand)
{
    char url[64];

    start(NULL);
    for (int i = 0; i < 2500; i++) {
        (void)snprintf(url, sizeof(url), "s3://b/set/data--%06d.tar", i);
        put(url, (size_t)i % 4096);
        want(url);
    }
    learn();
    cr_assert_eq(heard.calls, 2500);
    for (int i = 0; i < 2500; i++) {
        cr_assert_eq(heard.code[i], 0);
        cr_assert_eq(heard.size[i], (uint64_t)i % 4096);
    }
    cr_assert_leq(counting.lists, 3);
    cr_assert_eq(counting.stats, 0);
    learn();
    cr_assert_leq(counting.lists, 3, "known once, known for ever");
    end();
}

Test(locator, order_and_duplicates_do_not_matter)
{
    start(NULL);
    put("s3://b/a/2.tar", 2);
    put("s3://b/a/1.tar", 1);
    put("s3://b/a/3.tar", 3);
    want("s3://b/a/3.tar");
    want("s3://b/a/1.tar");
    want("s3://b/a/3.tar");
    want("s3://b/a/2.tar");
    learn();
    cr_assert_eq(heard.size[0], 3);
    cr_assert_eq(heard.size[1], 1);
    cr_assert_eq(heard.size[2], 3);
    cr_assert_eq(heard.size[3], 2);
    cr_assert_eq(counting.lists, 1);
    end();
}

Test(locator, what_a_listing_lacks_does_not_exist)
{
    start(NULL);
    put("s3://b/a/1.tar", 1);
    put("s3://b/a/3.tar", 3);
    want("s3://b/a/0.tar");
    want("s3://b/a/1.tar");
    want("s3://b/a/2.tar");
    want("s3://b/a/3.tar");
    want("s3://b/a/4.tar");
    learn();
    cr_assert_eq(heard.calls, 5);
    cr_assert_eq(heard.code[0], ENOENT);
    cr_assert_eq(heard.code[1], 0);
    cr_assert_eq(heard.code[2], ENOENT);
    cr_assert_eq(heard.code[3], 0);
    cr_assert_eq(heard.code[4], ENOENT);
    cr_assert_not(heard.retryable[0]);
    end();
}

Test(locator, the_configured_prefix_is_listed_whole_so_that_neighbours_cost_nothing)
{
    char url[64];

    start("s3://b/sets/");
    for (int i = 0; i < 900; i++) {
        (void)snprintf(url, sizeof(url), "s3://b/sets/%03d/x.tar", i);
        put(url, 1);
    }
    for (int i = 0; i < 900; i++) {
        (void)snprintf(url, sizeof(url), "s3://b/sets/%03d/x.tar", i);
        url_count = 0;
        want(url);
        learn();
        cr_assert_eq(heard.code[0], 0);
    }
    cr_assert_eq(counting.lists, 1);
    cr_assert_eq(counting.stats, 0);
    end();
}

Test(locator, a_single_shard_elsewhere_is_asked_for_by_itself)
{
    start(NULL);
    put("s3://b/x.tar", 7);
    want("s3://b/x.tar");
    learn();
    cr_assert_eq(heard.size[0], 7);
    cr_assert_eq(counting.lists, 0);
    cr_assert_eq(counting.stats, 1);
    end();
}

Test(locator, several_buckets_are_several_listings)
{
    start(NULL);
    put("s3://b/x.tar", 1);
    put("s3://b/y.tar", 2);
    put("s3://c/x.tar", 3);
    put("s3://c/y.tar", 4);
    want("s3://c/y.tar");
    want("s3://b/y.tar");
    want("s3://c/x.tar");
    want("s3://b/x.tar");
    learn();
    for (int i = 0; i < 4; i++)
        cr_assert_eq(heard.size[i], (uint64_t)(4 - (i % 2) * 2 - (i / 2)), "%d", i);
    cr_assert_eq(counting.lists, 2);
    end();
}

Test(locator, refused_lists_are_replaced_by_parallel_questions_and_remembered)
{
    char url[64];

    start(NULL);
    for (int i = 0; i < 200; i++) {
        (void)snprintf(url, sizeof(url), "s3://b/set/%03d.tar", i);
        if (i != 77)
            put(url, (size_t)i);
        want(url);
    }
    counting.list_error = EACCES;
    learn();
    for (int i = 0; i < 200; i++)
        cr_assert_eq(heard.code[i], i == 77 ? ENOENT : 0, "%d", i);
    cr_assert_eq(counting.lists, 1);
    cr_assert_eq(counting.stats, 200);
    end();
}

Test(locator, a_store_that_does_not_answer_says_nothing_about_its_objects)
{
    start(NULL);
    put("s3://b/1.tar", 1);
    put("s3://b/2.tar", 1);
    want("s3://b/1.tar");
    want("s3://b/2.tar");
    counting.list_error = ETIMEDOUT;
    learn();
    cr_assert_eq(heard.calls, 2);
    cr_assert_eq(heard.code[0], ETIMEDOUT);
    cr_assert(heard.retryable[0] && heard.retryable[1]);
    cr_assert_eq(counting.lists, 1);
    learn();
    cr_assert_eq(counting.lists, 1, "it is left alone for a while");
    cr_assert(heard.retryable[0]);
    end();
}

/* Hosts that are down by name. */
static int stat_by_host(struct atd_store *base, struct atd_str url, unsigned timeout_ms,
                        struct atd_object_info *ret_info, struct atd_error *err)
{
    (void)timeout_ms;
    __atomic_add_fetch(&((struct counting *)base)->stats, 1, __ATOMIC_SEQ_CST);
    *ret_info = (struct atd_object_info){.size_bytes = 5};
    return atd_str_starts_with(url, ATD_STR("http://dead")) ? atd_error_set(err, ETIMEDOUT, "dead")
                                                            : 0;
}

Test(locator, a_dead_host_says_nothing_about_another)
{
    static const struct atd_store_ops ops = {.kind = "hosts", .stat = stat_by_host};
    struct counting hosts = {.base = {&ops}};
    struct atd_locator_options options = {.http = &hosts.base, .timeout_ms = 1000};

    start(NULL);
    cr_assert(atd_locator_free(locator));
    options.table = table;
    cr_assert_eq(atd_locator_new(&options, &locator, NULL), 0);
    want("http://dead/1.tar");
    want("http://alive/1.tar");
    want("http://dead:81/1.tar");
    want("http://zebra/1.tar");
    learn();
    cr_assert_eq(heard.calls, 4);
    cr_assert_eq(heard.code[0], ETIMEDOUT);
    cr_assert_eq(heard.code[1], 0);
    cr_assert_eq(heard.code[2], ETIMEDOUT);
    cr_assert_eq(heard.code[3], 0);
    cr_assert_eq(hosts.stats, 4);
    learn();
    cr_assert_eq(hosts.stats, 4, "the living are known, the dead are left alone for a while");
    cr_assert_eq(heard.code[0], ETIMEDOUT);
    end();
}

Test(locator, who_may_not_read_anything_is_told_so)
{
    start(NULL);
    want("s3://b/1.tar");
    want("s3://b/2.tar");
    counting.list_error = EACCES;
    counting.stat_error = EACCES;
    learn();
    cr_assert_eq(heard.code[0], EACCES);
    cr_assert_eq(heard.code[1], EACCES);
    cr_assert_not(heard.retryable[1]);
    end();
}

Test(locator, what_changed_is_asked_for_again)
{
    struct atd_object_info info;

    start(NULL);
    put("s3://b/x.tar", 1);
    want("s3://b/x.tar");
    learn();
    put("s3://b/x.tar", 2);
    learn();
    cr_assert_eq(heard.size[0], 1);
    atd_locator_forget(locator, urls[0].text);
    cr_assert_not(atd_locator_find(locator, &urls[0], &info));
    learn();
    cr_assert_eq(heard.size[0], 2);
    end();
}

/*
 * Readers of the current generation and of its shard lists, and others who ask for loads and await
 * them, while the index changes all the time and the poller and the sweeper do their work: every
 * generation that a reader holds is whole. Once with an index that is loaded each time, once with
 * one that tells changes: then generations share their texts, and new ones are appended while old
 * ones are read.
 */
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "catalog/live.h"
#include "catalog/shards.h"
#include "race.h"

#define RUN_MS 1500

static struct atd_live *live;
static struct atd_file_store *store;
static struct atd_locator *locator;
static atomic_int swaps;
static atomic_bool stop;

/* Two states of one index: the same names, other URLs. */
static const uint8_t urls_a[] = "\x91\xab/data/a.tar";
static const uint8_t urls_b[] = "\x92\xab/data/b.tar\xab/data/c.tar";
#define TEXT(literal)                   \
    {                                   \
        "" literal, sizeof(literal) - 1 \
    }
static const struct atd_index_entry state_a[] = {
    {TEXT("cid1"), TEXT("d"), TEXT("r"), {urls_a, sizeof(urls_a) - 1}, {NULL, 0}, {NULL, 0}},
};
static const struct atd_index_entry state_b[] = {
    {TEXT("cid1"), TEXT("d"), TEXT("r"), {urls_b, sizeof(urls_b) - 1}, {NULL, 0}, {NULL, 0}},
    {TEXT("cid2"), TEXT("e"), TEXT("r"), {urls_b, sizeof(urls_b) - 1}, {NULL, 0}, {NULL, 0}},
};

static const struct atd_index_label labels_a[] = {
    {TEXT("d"), TEXT("1"), TEXT("cid1"), TEXT("of one"), {NULL, 0}},
};
static const struct atd_index_label labels_b[] = {
    {TEXT("d"), TEXT("1"), TEXT("cid2"), TEXT("of two"), {NULL, 0}},
    {TEXT("d"), TEXT(""), TEXT("cid1"), TEXT("of one"), {NULL, 0}},
};

/* Every byte that a generation refers to. */
static size_t read_texts(const struct atd_catalog *catalog)
{
    size_t sum = 0;

    for (size_t i = 0; i < atd_catalog_entry_count(catalog); i++) {
        const struct atd_catalog_entry *entry = atd_catalog_entry_at(catalog, i);
        struct atd_bytes urls = atd_entry_data_urls(entry);

        MUST(atd_str_equal(atd_entry_schema_ref(entry), ATD_STR("r")));
        MUST(atd_catalog_find_cid(catalog, atd_entry_cid(entry)) == entry);
        for (size_t k = 0; k < urls.len; k++)
            sum += urls.ptr[k];
    }
    for (size_t i = 0; i < atd_catalog_shown_label_count(catalog); i++) {
        const struct atd_catalog_label *label = atd_catalog_shown_label_at(catalog, i);

        MUST(atd_str_equal(atd_label_file_name(label), ATD_STR("d@1")));
        MUST(atd_str_equal(atd_label_cid(label),
                           atd_entry_cid(atd_catalog_entry_at(catalog, label->entry))));
        MUST(atd_str_starts_with(atd_label_description(label), ATD_STR("of ")));
    }
    return sum;
}

static void on_change(void *ctx, struct atd_catalog *before, struct atd_catalog *after)
{
    (void)ctx;
    MUST(atd_catalog_generation(after) == atd_catalog_generation(before) + 1);
    (void)atomic_fetch_add(&swaps, 1);
}

static void *read_until_stopped(void *ctx)
{
    struct atd_catalog *old = atd_live_get(live);
    size_t old_sum = read_texts(old);

    (void)ctx;
    for (unsigned turn = 0; !atomic_load(&stop); turn++) {
        struct atd_catalog *catalog = atd_live_get(live);

        MUST(read_texts(old) == old_sum);
        if (turn % 64 == 0) {
            atd_catalog_unref(old);
            old = atd_catalog_ref(catalog);
            old_sum = read_texts(old);
        }

        for (size_t i = 0; i < atd_catalog_dataset_count(catalog); i++) {
            const struct atd_dataset *dataset = atd_catalog_dataset_at(catalog, i);
            const struct atd_catalog_entry *entry = atd_catalog_entry_at(catalog, dataset->entry);
            struct atd_shard_list *list;

            MUST(atd_catalog_shards_get(catalog, entry, locator, ATD_EFFORT_DISK, &list, NULL) ==
                 0);
            MUST(atd_shard_list_count(list) == entry->url_count);
            if (i == 0)
                atd_catalog_shards_forget(catalog, entry, list);
            atd_shard_list_unref(list);
        }
        atd_catalog_unref(catalog);
    }
    atd_catalog_unref(old);
    return NULL;
}

/* Whoever changed the index waits for a view that shows it. */
static void *ask_until_stopped(void *ctx)
{
    (void)ctx;
    while (!atomic_load(&stop)) {
        uint64_t generation = atd_live_generation(live);

        MUST(atd_live_await(live, atd_live_request(live), 60000));
        MUST(atd_live_generation(live) > generation);
        atd_live_refresh(live);
    }
    return NULL;
}

/* Without a load of its own, which an index that tells does not need. */
static void *ask_barriers_until_stopped(void *ctx)
{
    (void)ctx;
    while (!atomic_load(&stop)) {
        MUST(atd_live_await(live, atd_live_barrier(live), 60000));
        atd_live_refresh(live);
    }
    return NULL;
}

static void *run_barriers(void *ctx)
{
    race(ask_barriers_until_stopped, ctx);
    return NULL;
}

static void *run_askers(void *ctx)
{
    race(ask_until_stopped, ctx);
    return NULL;
}

static void *run_readers(void *ctx)
{
    race(read_until_stopped, ctx);
    return NULL;
}

/* `index` is taken. */
static void run(struct atd_index *index, bool tells)
{
    static const struct atd_live_watcher watcher = {NULL, on_change, NULL};
    int64_t until_ms = atd_clock_monotonic_ms() + RUN_MS;
    struct atd_live_status status;
    pthread_t readers;
    pthread_t askers;

    atomic_store(&stop, false);
    atomic_store(&swaps, 0);
    atd_index_memory_set(index, state_a, 1, labels_a, 1, NULL, 0);
    MUST(atd_live_open(index, locator, &live, NULL) == 0);
    MUST(atd_live_start(live, &watcher, NULL) == 0);
    MUST(pthread_create(&readers, NULL, run_readers, NULL) == 0);
    MUST(pthread_create(&askers, NULL, tells ? run_barriers : run_askers, NULL) == 0);
    for (int i = 0; atd_clock_monotonic_ms() < until_ms; i++) {
        if (i % 2)
            atd_index_memory_set(index, state_a, 1, labels_a, 1, NULL, 0);
        else
            atd_index_memory_set(index, state_b, 2, labels_b, 2, NULL, 0);
        (void)usleep(tells ? 1000 : 20000);
    }
    atomic_store(&stop, true);
    MUST(pthread_join(readers, NULL) == 0);
    MUST(pthread_join(askers, NULL) == 0);
    MUST(atomic_load(&swaps) > 2);
    atd_live_status(live, &status);
    MUST(tells ? status.updates > 2 : status.updates == 0);
    MUST(atd_live_close(live));
    atd_index_free(index);
}

int main(void)
{
    static const char *const roots[] = {"/data"};

    MUST(atd_file_store_new(roots, 1, &store, NULL) == 0);
    MUST(atd_locator_new(&(struct atd_locator_options){.files = store}, &locator, NULL) == 0);
    run(atd_index_memory_new(), false);
    run(atd_index_memory_new_telling(), true);
    MUST(atd_locator_free(locator));
    atd_file_store_free(store);
    return 0;
}

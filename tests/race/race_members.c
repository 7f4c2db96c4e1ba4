/*
 * Threads get the members of a few shards from a cache that is too small for all of them, with a
 * folder on the disk; then somebody interrupts while they do.
 */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "dataset/members.h"
#include "race.h"
#include "store/stores.h"
#include "support/cache_setup.h"

#define RUN_MS 1500
#define SHARDS 8u
#define TAR_BLOCK 512u

static struct atd_store *store;
static struct atd_members_cache *cache;
static struct atd_object_info infos[SHARDS];
static struct atd_shard shards[SHARDS];
static char urls[SHARDS][32];
static atomic_uint seeds;
static atomic_uint canceled;
static atomic_bool may_cancel;
static int64_t until_ms;

static void put_header(uint8_t *block, unsigned number)
{
    unsigned sum = 0;

    (void)snprintf((char *)block, 100, "%06u.bin", number);
    (void)snprintf((char *)block + 124, 12, "%011o", 1u);
    block[156] = '0';
    memset(block + 148, ' ', 8);
    for (unsigned i = 0; i < TAR_BLOCK; i++)
        sum += block[i];
    (void)snprintf((char *)block + 148, 8, "%06o", sum);
}

/* Shard n has 100 * (n + 1) members of one byte. */
static void make_shard(unsigned n)
{
    unsigned count = 100 * (n + 1);
    size_t len = (2 * (size_t)count + 2) * TAR_BLOCK;
    uint8_t *tar = calloc(1, len);
    struct atd_shard *shard = &shards[n];

    MUST(tar);
    for (unsigned i = 0; i < count; i++)
        put_header(tar + 2 * (size_t)i * TAR_BLOCK, i);
    (void)snprintf(urls[n], sizeof(urls[n]), "s3://b/%u.tar", n);
    shard->url = shard->file_name = atd_str_from(urls[n]);
    MUST(atd_store_memory_put(store, shard->url, (struct atd_bytes){tar, len}, NULL) == 0);
    MUST(atd_store_stat(store, shard->url, 10000, &infos[n], NULL) == 0);
    shard->store = store;
    shard->etag = atd_str_from(infos[n].etag);
    shard->size_bytes = len;
    shard->version[0] = (uint8_t)n;
    free(tar);
}

static void *use(void *ctx)
{
    unsigned seed = atomic_fetch_add(&seeds, 1);

    (void)ctx;
    while (atd_clock_monotonic_ms() < until_ms) {
        unsigned n = (unsigned)rand_r(&seed) % SHARDS;
        struct atd_members *members = atd_members_peek(cache, &shards[n]);
        int rc = members ? 0 : atd_members_get(cache, &shards[n], &members, NULL);

        if (rc) {
            MUST(rc == -ECANCELED && atomic_load(&may_cancel));
            (void)atomic_fetch_add(&canceled, 1);
            return NULL;
        }
        MUST(atd_members_count(members) == (size_t)100 * (n + 1));
        MUST(atd_members_at(members, 99).data_offset == 199 * TAR_BLOCK);
        atd_members_unref(members);
    }
    return NULL;
}

static void *interrupt(void *ctx)
{
    (void)ctx;
    (void)usleep(200000);
    atomic_store(&may_cancel, true);
    atd_members_cache_interrupt(cache);
    return NULL;
}

static void run(const char *dir, bool interrupts)
{
    const struct atd_members_cache_options options = {
        .dir = dir, .memory_bytes = 60000, .timeout_ms = 10000};
    struct atd_members_stats stats;
    pthread_t thread;

    MUST(atd_members_cache_new(&options, &cache, NULL) == 0);
    until_ms = atd_clock_monotonic_ms() + (interrupts ? 20000 : RUN_MS);
    if (interrupts)
        MUST(pthread_create(&thread, NULL, interrupt, NULL) == 0);
    race(use, NULL);
    if (interrupts)
        MUST(pthread_join(thread, NULL) == 0);
    atd_members_cache_stats(cache, &stats);
    MUST(interrupts || stats.failed == 0);
    MUST(stats.walked >= SHARDS);
    MUST(!dir || stats.from_folder > 0);
    atd_members_cache_free(cache);
}

int main(void)
{
    char path[PATH_MAX];

    make_temp_dir(path);
    MUST(atd_store_memory_new(&store, NULL) == 0);
    for (unsigned n = 0; n < SHARDS; n++)
        make_shard(n);
    run(path, false);
    run(NULL, true);
    MUST(atomic_load(&canceled) == RACE_THREADS);
    atd_store_free(store);
    remove_tree(path);
    return 0;
}

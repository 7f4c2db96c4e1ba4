#include "dataset/sample_read.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/lock.h"
#include "dataset/member_names.h"

#define BUCKETS 1024u /* keys are digests */
/* What a schema takes to be decoded; a larger one is done without. */
#define SCHEMA_ARENA_MAX (64u << 20)

struct atd_read_sample {
    atomic_uint references;
    struct atd_arena arena;
    struct atd_sample_files files;
    size_t size_bytes; /* what it takes */
    uint8_t bytes[];
};

/* A sample that is there, or that somebody is reading. */
struct kept {
    uint8_t key[ATD_SAMPLE_KEY_BYTES];
    struct atd_read_sample *sample; /* NULL: it is being read */
    struct kept *next;              /* in its bucket */
    struct kept *older;
    struct kept *newer;
};

struct atd_sample_cache {
    struct atd_member_source source;
    size_t memory_bytes;
    struct atd_lock lock;
    pthread_cond_t changed;

    /* guarded by lock */
    struct kept *buckets[BUCKETS];
    struct kept *oldest; /* of those that are there */
    struct kept *newest;
    size_t used_bytes;
};

/* ------------------------------------------------------------------ one sample */

const struct atd_sample_files *atd_read_sample_files(const struct atd_read_sample *sample)
{
    return &sample->files;
}

struct atd_read_sample *atd_read_sample_ref(struct atd_read_sample *sample)
{
    atomic_fetch_add(&sample->references, 1);
    return sample;
}

void atd_read_sample_unref(struct atd_read_sample *sample)
{
    if (!sample || atomic_fetch_sub(&sample->references, 1) != 1)
        return;
    atd_arena_release(&sample->arena);
    free(sample);
}

static int make_files(struct atd_read_sample *sample, size_t size, struct atd_bytes schema_json,
                      struct atd_error *err)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(SCHEMA_ARENA_MAX);
    const struct atd_schema *schema = NULL;

    /* One that does not decode is shown as it is elsewhere; samples are looked at then. */
    if (schema_json.len && atd_schema_decode(schema_json, &arena, &schema, NULL) != 0)
        schema = NULL;
    return atd_sample_files_make((struct atd_bytes){sample->bytes, size}, schema, &sample->arena,
                                 &sample->files, err);
}

static int read_sample(const struct atd_member_source *source, const struct atd_shard *shard,
                       const struct atd_member *member, struct atd_bytes schema_json,
                       struct atd_read_sample **ret_sample, struct atd_error *err)
{
    size_t size = (size_t)member->size_bytes;
    struct atd_read_sample *sample;
    int rc;

    if (member->size_bytes > ATD_SAMPLE_BYTES_MAX)
        return atd_error_set(err, E2BIG, "a sample of more than %u bytes", ATD_SAMPLE_BYTES_MAX);
    sample = malloc(sizeof(*sample) + size);
    if (!sample)
        return atd_error_set(err, ENOMEM, "out of memory");
    atomic_init(&sample->references, 1);
    atd_arena_init(&sample->arena, ATD_SAMPLE_FILES_ARENA_MAX);
    rc = atd_member_read(source, shard, member->data_offset, size, sample->bytes, err);
    if (rc == 0)
        rc = make_files(sample, size, schema_json, err);
    if (rc) {
        atd_read_sample_unref(sample);
        return rc;
    }
    sample->size_bytes = sizeof(*sample) + size + atd_arena_footprint(&sample->arena);
    *ret_sample = sample;
    return 0;
}

/* ------------------------------------------------------------------ the table */

static struct kept **bucket_of(struct atd_sample_cache *cache,
                               const uint8_t key[ATD_SAMPLE_KEY_BYTES])
{
    uint32_t bits;

    memcpy(&bits, key, sizeof(bits));
    return &cache->buckets[bits % BUCKETS];
}

static struct kept *find_locked(struct atd_sample_cache *cache,
                                const uint8_t key[ATD_SAMPLE_KEY_BYTES])
{
    struct kept *kept = *bucket_of(cache, key);

    while (kept && memcmp(kept->key, key, ATD_SAMPLE_KEY_BYTES) != 0)
        kept = kept->next;
    return kept;
}

static void remove_locked(struct atd_sample_cache *cache, struct kept *kept)
{
    struct kept **at = bucket_of(cache, kept->key);

    while (*at != kept)
        at = &(*at)->next;
    *at = kept->next;
}

static void unlink_locked(struct atd_sample_cache *cache, struct kept *kept)
{
    if (kept->older)
        kept->older->newer = kept->newer;
    else
        cache->oldest = kept->newer;
    if (kept->newer)
        kept->newer->older = kept->older;
    else
        cache->newest = kept->older;
    kept->older = kept->newer = NULL;
}

static void link_locked(struct atd_sample_cache *cache, struct kept *kept)
{
    kept->older = cache->newest;
    if (cache->newest)
        cache->newest->newer = kept;
    else
        cache->oldest = kept;
    cache->newest = kept;
}

static struct atd_read_sample *take_locked(struct atd_sample_cache *cache, struct kept *kept)
{
    unlink_locked(cache, kept);
    link_locked(cache, kept);
    return atd_read_sample_ref(kept->sample);
}

/* Takes the oldest out until there is room; returns them as a list by `next`, to be freed without
 * the lock. */
static struct kept *evict_locked(struct atd_sample_cache *cache)
{
    struct kept *evicted = NULL;

    while (cache->oldest && cache->used_bytes > cache->memory_bytes) {
        struct kept *kept = cache->oldest;

        cache->used_bytes -= kept->sample->size_bytes;
        unlink_locked(cache, kept);
        remove_locked(cache, kept);
        kept->next = evicted;
        evicted = kept;
    }
    return evicted;
}

static void free_list(struct kept *kept)
{
    while (kept) {
        struct kept *next = kept->next;

        atd_read_sample_unref(kept->sample);
        free(kept);
        kept = next;
    }
}

struct atd_sample_cache *atd_sample_cache_new(const struct atd_member_source *source,
                                              size_t memory_bytes)
{
    struct atd_sample_cache *cache = calloc(1, sizeof(*cache));

    if (!cache)
        return NULL;
    cache->source = *source;
    cache->memory_bytes = memory_bytes;
    atd_lock_init(&cache->lock, ATD_RANK_SAMPLES);
    atd_cond_init(&cache->changed);
    return cache;
}

void atd_sample_cache_free(struct atd_sample_cache *cache)
{
    if (!cache)
        return;
    for (size_t i = 0; i < BUCKETS; i++)
        free_list(cache->buckets[i]);
    (void)pthread_cond_destroy(&cache->changed);
    atd_lock_destroy(&cache->lock);
    free(cache);
}

struct atd_read_sample *atd_sample_cache_peek(struct atd_sample_cache *cache,
                                              const uint8_t key[ATD_SAMPLE_KEY_BYTES])
{
    struct atd_read_sample *sample = NULL;
    struct kept *kept;

    atd_lock_take(&cache->lock);
    kept = find_locked(cache, key);
    if (kept && kept->sample)
        sample = take_locked(cache, kept);
    atd_lock_give(&cache->lock);
    return sample;
}

/* Waits while somebody else reads it. NULL: `fresh` stands for it now, and the caller reads it. */
static struct atd_read_sample *take_or_begin(struct atd_sample_cache *cache,
                                             const uint8_t key[ATD_SAMPLE_KEY_BYTES],
                                             struct kept *fresh)
{
    struct atd_read_sample *sample = NULL;
    struct kept *kept;

    atd_lock_take(&cache->lock);
    while ((kept = find_locked(cache, key)) && !kept->sample)
        atd_cond_wait(&cache->changed, &cache->lock);
    if (kept) {
        sample = take_locked(cache, kept);
    } else {
        memcpy(fresh->key, key, ATD_SAMPLE_KEY_BYTES);
        fresh->next = *bucket_of(cache, key);
        *bucket_of(cache, key) = fresh;
    }
    atd_lock_give(&cache->lock);
    return sample;
}

/* `sample` NULL: it could not be read, and is forgotten. */
static void end(struct atd_sample_cache *cache, struct kept *fresh, struct atd_read_sample *sample)
{
    struct kept *dropped;

    atd_lock_take(&cache->lock);
    if (sample) {
        fresh->sample = atd_read_sample_ref(sample);
        cache->used_bytes += sample->size_bytes;
        link_locked(cache, fresh);
        dropped = evict_locked(cache); /* itself, if it is larger than all the room */
    } else {
        remove_locked(cache, fresh);
        fresh->next = NULL;
        dropped = fresh;
    }
    (void)pthread_cond_broadcast(&cache->changed);
    atd_lock_give(&cache->lock);
    free_list(dropped);
}

int atd_sample_cache_get(struct atd_sample_cache *cache, const uint8_t key[ATD_SAMPLE_KEY_BYTES],
                         const struct atd_shard *shard, const struct atd_member *member,
                         struct atd_bytes schema_json, struct atd_read_sample **ret_sample,
                         struct atd_error *err)
{
    struct kept *fresh = calloc(1, sizeof(*fresh));
    struct atd_read_sample *sample;
    int rc;

    if (!fresh)
        return atd_error_set(err, ENOMEM, "out of memory");
    sample = take_or_begin(cache, key, fresh);
    if (sample) {
        free(fresh);
        *ret_sample = sample;
        return 0;
    }
    rc = read_sample(&cache->source, shard, member, schema_json, &sample, err);
    end(cache, fresh, rc ? NULL : sample);
    if (rc == 0)
        *ret_sample = sample;
    return rc;
}

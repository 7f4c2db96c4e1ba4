#include "dataset/members.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/hash.h"
#include "dataset/members_find.h"

#define BUCKETS 4096u

/* ------------------------------------------------------------------ members */

struct atd_members {
    atomic_uint refs;
    struct atd_member_list list;
};

struct atd_members *atd_members_ref(struct atd_members *members)
{
    atomic_fetch_add(&members->refs, 1);
    return members;
}

void atd_members_unref(struct atd_members *members)
{
    if (!members || atomic_fetch_sub(&members->refs, 1) > 1)
        return;
    atd_member_list_release(&members->list);
    free(members);
}

size_t atd_members_count(const struct atd_members *members)
{
    return members->list.count;
}

struct atd_member atd_members_at(const struct atd_members *members, size_t place)
{
    const struct atd_listed_member *member;

    atd_assert(place < members->list.count);
    member = &members->list.members[place];
    return (struct atd_member){.name = atd_member_list_name(&members->list, place),
                               .data_offset = member->data_offset,
                               .size_bytes = member->size_bytes};
}

/* ------------------------------------------------------------------ the cache */

/* What memory has of one version. */
struct slot {
    uint8_t version[ATD_SHARD_VERSION_BYTES];
    struct slot *next; /* in its bucket */
    struct slot *newer;
    struct slot *older;
    struct atd_members *members;
    size_t bytes;
};

/* One version that somebody is finding out; the others wait for it. */
struct flight {
    uint8_t version[ATD_SHARD_VERSION_BYTES];
    struct flight *next;
    unsigned users; /* the finder too */
    bool is_done;
    pthread_cond_t landed;
    struct atd_members *members; /* is_done: with a reference; NULL: it failed */
    struct atd_error why;
};

struct atd_members_cache {
    /* fixed */
    uint64_t seed;
    size_t memory_bytes;

    struct atd_members_finder finder;

    struct atd_lock lock;
    /* guarded by lock */
    struct slot *buckets[BUCKETS];
    struct slot *newest;
    struct slot *oldest;
    struct flight *flights;
    struct atd_members_stats stats;
};

int atd_members_cache_new(const struct atd_members_cache_options *options,
                          struct atd_members_cache **ret_cache, struct atd_error *err)
{
    struct atd_members_cache *cache = calloc(1, sizeof(*cache));
    struct atd_str scope = atd_str_from(options->scope ? options->scope : "");
    int rc;

    if (!cache)
        return atd_error_set(err, ENOMEM, "a cache of members: out of memory");
    rc = atd_members_folder_init(&cache->finder.folder, options->dir, err);
    if (rc) {
        free(cache);
        return rc;
    }
    cache->seed = atd_hash_seed();
    cache->memory_bytes = options->memory_bytes;
    cache->finder.files = options->files;
    cache->finder.timeout_ms = options->timeout_ms;
    atd_sha256_of(scope.ptr, scope.len, cache->finder.scope);
    atd_members_fetches_init(&cache->finder.fetches);
    atd_lock_init(&cache->lock, ATD_RANK_MEMBERS);
    *ret_cache = cache;
    return 0;
}

void atd_members_cache_interrupt(struct atd_members_cache *cache)
{
    atd_members_fetches_interrupt(&cache->finder.fetches);
}

static struct slot **place_of(struct atd_members_cache *cache,
                              const uint8_t version[ATD_SHARD_VERSION_BYTES])
{
    struct atd_str key = {(const char *)version, ATD_SHARD_VERSION_BYTES};
    struct slot **place = &cache->buckets[atd_hash(cache->seed, key) % BUCKETS];

    while (*place && memcmp((*place)->version, version, ATD_SHARD_VERSION_BYTES) != 0)
        place = &(*place)->next;
    return place;
}

/* Out of the order of use. */
static void unlink_locked(struct atd_members_cache *cache, struct slot *slot)
{
    if (slot->newer)
        slot->newer->older = slot->older;
    else
        cache->newest = slot->older;
    if (slot->older)
        slot->older->newer = slot->newer;
    else
        cache->oldest = slot->newer;
}

static void link_locked(struct atd_members_cache *cache, struct slot *slot)
{
    slot->newer = NULL;
    slot->older = cache->newest;
    if (cache->newest)
        cache->newest->newer = slot;
    else
        cache->oldest = slot;
    cache->newest = slot;
}

static void drop_locked(struct atd_members_cache *cache, struct slot *slot)
{
    struct slot **place = place_of(cache, slot->version);

    atd_assert(*place == slot);
    *place = slot->next;
    unlink_locked(cache, slot);
    cache->stats.memory_bytes -= slot->bytes;
    atd_members_unref(slot->members);
    free(slot);
}

/* What others hold stays: dropping it would free nothing, and make it twice. */
static void trim_locked(struct atd_members_cache *cache)
{
    struct slot *newer;

    for (struct slot *slot = cache->oldest; slot && cache->stats.memory_bytes > cache->memory_bytes;
         slot = newer) {
        newer = slot->newer;
        if (atomic_load(&slot->members->refs) == 1)
            drop_locked(cache, slot);
    }
}

void atd_members_cache_free(struct atd_members_cache *cache)
{
    if (!cache)
        return;
    atd_assert(!cache->flights);
    while (cache->oldest)
        drop_locked(cache, cache->oldest);
    atd_members_folder_release(&cache->finder.folder);
    atd_members_fetches_release(&cache->finder.fetches);
    atd_lock_destroy(&cache->lock);
    free(cache);
}

void atd_members_cache_stats(struct atd_members_cache *cache, struct atd_members_stats *ret_stats)
{
    atd_lock_take(&cache->lock);
    *ret_stats = cache->stats;
    atd_lock_give(&cache->lock);
}

/* ------------------------------------------------------------------ looking */

/* With a reference, or NULL. */
static struct atd_members *peek_locked(struct atd_members_cache *cache,
                                       const struct atd_shard *shard)
{
    struct slot *slot = *place_of(cache, shard->version);

    if (!slot)
        return NULL;
    unlink_locked(cache, slot);
    link_locked(cache, slot);
    cache->stats.from_memory++;
    return atd_members_ref(slot->members);
}

struct atd_members *atd_members_peek(struct atd_members_cache *cache, const struct atd_shard *shard)
{
    struct atd_members *members;

    atd_lock_take(&cache->lock);
    members = peek_locked(cache, shard);
    atd_lock_give(&cache->lock);
    return members;
}

/* Without memory for a slot they are the callers' only. */
static void keep_locked(struct atd_members_cache *cache, const struct flight *flight)
{
    struct slot *slot = calloc(1, sizeof(*slot));
    struct slot **place = place_of(cache, flight->version);

    if (!slot)
        return;
    atd_assert(!*place);
    memcpy(slot->version, flight->version, sizeof(slot->version));
    slot->members = atd_members_ref(flight->members);
    slot->bytes =
        sizeof(*slot) + sizeof(*slot->members) + atd_member_list_bytes(&slot->members->list);
    *place = slot;
    link_locked(cache, slot);
    cache->stats.memory_bytes += slot->bytes;
    trim_locked(cache);
}

static struct flight *find_flight_locked(struct atd_members_cache *cache,
                                         const struct atd_shard *shard)
{
    struct flight *flight = cache->flights;

    while (flight && memcmp(flight->version, shard->version, sizeof(flight->version)) != 0)
        flight = flight->next;
    return flight;
}

static struct flight *begin_flight_locked(struct atd_members_cache *cache,
                                          const struct atd_shard *shard)
{
    struct flight *flight = calloc(1, sizeof(*flight));

    if (!flight)
        return NULL;
    memcpy(flight->version, shard->version, sizeof(flight->version));
    atd_cond_init(&flight->landed);
    flight->next = cache->flights;
    cache->flights = flight;
    return flight;
}

static void land_locked(struct atd_members_cache *cache, struct flight *flight,
                        enum atd_members_from from)
{
    struct flight **place = &cache->flights;

    while (*place != flight)
        place = &(*place)->next;
    *place = flight->next;
    flight->is_done = true;
    (void)pthread_cond_broadcast(&flight->landed);
    if (!flight->members) {
        cache->stats.failed++;
        return;
    }
    cache->stats.from_folder += from == ATD_MEMBERS_FROM_FOLDER;
    cache->stats.from_beside += from == ATD_MEMBERS_FROM_BESIDE;
    cache->stats.walked += from == ATD_MEMBERS_FROM_WALK;
    keep_locked(cache, flight);
}

static void leave_locked(struct flight *flight)
{
    if (--flight->users > 0)
        return;
    atd_members_unref(flight->members);
    (void)pthread_cond_destroy(&flight->landed);
    free(flight);
}

/* The finder's: without the lock. */
static void fly(struct atd_members_cache *cache, const struct atd_shard *shard,
                struct flight *flight, enum atd_members_from *ret_from)
{
    struct atd_members *members = calloc(1, sizeof(*members));
    int rc;

    if (members)
        rc = atd_members_find(&cache->finder, shard, &members->list, ret_from, &flight->why);
    else
        rc = atd_error_set(&flight->why, ENOMEM, "a shard's members: out of memory");
    if (rc) {
        (void)atd_error_wrap(&flight->why, rc, "the members of '" ATD_STR_FMT "'",
                             ATD_STR_ARG(shard->file_name));
        free(members);
        return;
    }
    atd_member_list_fit(&members->list); /* it stays for long */
    atomic_init(&members->refs, 1);
    flight->members = members;
}

int atd_members_get(struct atd_members_cache *cache, const struct atd_shard *shard,
                    struct atd_members **ret_members, struct atd_error *err)
{
    struct atd_members *members;
    struct flight *flight = NULL;
    enum atd_members_from from = ATD_MEMBERS_FROM_WALK;
    bool is_finder = false;
    int rc = 0;

    atd_assert(shard->error_code == 0);
    atd_lock_take(&cache->lock);
    members = peek_locked(cache, shard);
    if (!members) {
        flight = find_flight_locked(cache, shard);
        is_finder = !flight;
        if (!flight)
            flight = begin_flight_locked(cache, shard);
        if (flight)
            flight->users++;
        else
            rc = -ENOMEM;
    }
    if (flight && is_finder) {
        atd_lock_give(&cache->lock);
        fly(cache, shard, flight, &from);
        atd_lock_take(&cache->lock);
        land_locked(cache, flight, from);
    }
    while (flight && !flight->is_done)
        atd_cond_wait(&flight->landed, &cache->lock);
    if (flight && flight->members) {
        members = atd_members_ref(flight->members);
    } else if (flight) {
        rc = -flight->why.code;
        if (err)
            *err = flight->why;
    }
    if (flight)
        leave_locked(flight);
    atd_lock_give(&cache->lock);
    if (members)
        *ret_members = members;
    else if (!flight)
        return atd_error_set(err, ENOMEM, "a shard's members: out of memory");
    return rc;
}

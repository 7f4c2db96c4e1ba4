#include "index/redis_dirty.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/hash.h"

#define CAPACITY_LEAST 64u
/* A burst's memory is given back. */
#define CAPACITY_KEPT 1024u

void atd_redis_dirty_init(struct atd_redis_dirty *dirty)
{
    *dirty = (struct atd_redis_dirty){.bytes = ATD_BUF_INIT(ATD_REDIS_DIRTY_BYTES_MAX),
                                      .seed = atd_hash_seed()};
}

void atd_redis_dirty_release(struct atd_redis_dirty *dirty)
{
    atd_buf_release(&dirty->bytes);
    free(dirty->starts);
    free(dirty->slots);
    atd_redis_dirty_init(dirty);
}

void atd_redis_dirty_clear(struct atd_redis_dirty *dirty)
{
    if (dirty->capacity > CAPACITY_KEPT || dirty->bytes.failed) {
        atd_redis_dirty_release(dirty);
        return;
    }
    atd_buf_clear(&dirty->bytes);
    if (dirty->count > 0)
        memset(dirty->slots, 0, dirty->capacity * sizeof(*dirty->slots));
    dirty->count = 0;
}

struct atd_str atd_redis_dirty_at(const struct atd_redis_dirty *dirty, size_t number)
{
    uint32_t start;

    atd_assert(number < dirty->count);
    start = dirty->starts[number];
    return (struct atd_str){(const char *)dirty->bytes.ptr + start,
                            dirty->starts[number + 1] - start};
}

static uint32_t *slot_of(const struct atd_redis_dirty *dirty, struct atd_str key)
{
    size_t at = (size_t)atd_hash(dirty->seed, key) & (dirty->capacity - 1);

    while (dirty->slots[at] && !atd_str_equal(atd_redis_dirty_at(dirty, dirty->slots[at] - 1), key))
        at = (at + 1) & (dirty->capacity - 1);
    return &dirty->slots[at];
}

static bool grow(struct atd_redis_dirty *dirty)
{
    size_t capacity = dirty->capacity ? 2 * dirty->capacity : CAPACITY_LEAST;
    uint32_t *starts = reallocarray(dirty->starts, capacity / 2 + 1, sizeof(*starts));
    uint32_t *slots = calloc(capacity, sizeof(*slots));

    if (starts)
        dirty->starts = starts;
    if (!starts || !slots) {
        free(slots);
        return false;
    }
    starts[dirty->count] = (uint32_t)dirty->bytes.len;
    free(dirty->slots);
    dirty->slots = slots;
    dirty->capacity = capacity;
    for (size_t i = 0; i < dirty->count; i++)
        *slot_of(dirty, atd_redis_dirty_at(dirty, i)) = (uint32_t)i + 1;
    return true;
}

bool atd_redis_dirty_add(struct atd_redis_dirty *dirty, struct atd_str key, size_t *ret_number)
{
    uint32_t *slot;

    if (2 * (dirty->count + 1) > dirty->capacity && !grow(dirty))
        return false;
    slot = slot_of(dirty, key);
    if (*slot) {
        *ret_number = *slot - 1;
        return true;
    }
    if (dirty->count == ATD_REDIS_DIRTY_KEYS_MAX)
        return false;
    atd_buf_append_str(&dirty->bytes, key);
    if (dirty->bytes.failed)
        return false;
    *ret_number = dirty->count++;
    *slot = (uint32_t)dirty->count;
    dirty->starts[dirty->count] = (uint32_t)dirty->bytes.len;
    return true;
}

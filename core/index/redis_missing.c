#include "index/redis_missing.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "LocalDatasetEntry:"
#define SLOTS_FIRST 1024u
#define SLOTS_MAX ((size_t)1 << 27)
#define WANTED_FIRST 64u
#define WANTED_MAX ((size_t)1 << 24)

/* Keys as digests: two that have one digest make an entry count as listed, which it nearly always
 * is. */
struct atd_redis_missing {
    uint64_t *slots; /* 0: free */
    size_t slot_count;
    size_t listed;
    char (*wanted)[ATD_REDIS_MISSING_KEY_MAX]; /* that were not listed when they were noted */
    size_t wanted_room;
    size_t wanted_count;
    size_t next;
    unsigned given;
};

struct atd_redis_missing *atd_redis_missing_new(void)
{
    struct atd_redis_missing *missing = calloc(1, sizeof(*missing));

    if (!missing)
        return NULL;
    missing->slots = calloc(SLOTS_FIRST, sizeof(*missing->slots));
    missing->slot_count = SLOTS_FIRST;
    if (missing->slots)
        return missing;
    free(missing);
    return NULL;
}

void atd_redis_missing_free(struct atd_redis_missing *missing)
{
    if (!missing)
        return;
    free(missing->slots);
    free(missing->wanted);
    free(missing);
}

/* FNV-1a; an attacker who finds collisions hides his own entries. */
static uint64_t digest_of(struct atd_str text)
{
    uint64_t digest = 0xcbf29ce484222325u;

    for (size_t i = 0; i < text.len; i++)
        digest = (digest ^ (unsigned char)text.ptr[i]) * 0x100000001b3u;
    digest ^= digest >> 32;
    return digest ? digest : 1;
}

/* The digest's slot, or the free one where it would be. */
static uint64_t *find_slot(uint64_t *slots, size_t count, uint64_t digest)
{
    size_t at = (size_t)digest & (count - 1);

    while (slots[at] && slots[at] != digest)
        at = (at + 1) & (count - 1);
    return &slots[at];
}

static bool grow(struct atd_redis_missing *missing)
{
    size_t count = 2 * missing->slot_count;
    uint64_t *slots = count > SLOTS_MAX ? NULL : calloc(count, sizeof(*slots));

    if (!slots)
        return false;
    for (size_t i = 0; i < missing->slot_count; i++) {
        if (missing->slots[i])
            *find_slot(slots, count, missing->slots[i]) = missing->slots[i];
    }
    free(missing->slots);
    missing->slots = slots;
    missing->slot_count = count;
    return true;
}

void atd_redis_missing_listed(struct atd_redis_missing *missing, struct atd_str key)
{
    uint64_t digest = digest_of(key);
    uint64_t *slot;

    if (4 * missing->listed >= 3 * missing->slot_count && !grow(missing))
        return;
    slot = find_slot(missing->slots, missing->slot_count, digest);
    if (*slot)
        return;
    *slot = digest;
    missing->listed++;
}

static bool is_listed(const struct atd_redis_missing *missing, struct atd_str key)
{
    return *find_slot(missing->slots, missing->slot_count, digest_of(key)) != 0;
}

void atd_redis_missing_wanted(struct atd_redis_missing *missing, struct atd_str cid)
{
    char key[ATD_REDIS_MISSING_KEY_MAX];

    if (cid.len == 0 || sizeof(PREFIX) - 1 + cid.len >= sizeof(key) ||
        memchr(cid.ptr, '\0', cid.len))
        return; /* no CID is that long: the label leads nowhere */
    (void)snprintf(key, sizeof(key), PREFIX ATD_STR_FMT, ATD_STR_ARG(cid));
    if (is_listed(missing, atd_str_from(key)))
        return;
    if (missing->wanted_count == missing->wanted_room) {
        size_t room = missing->wanted_room ? 2 * missing->wanted_room : WANTED_FIRST;
        void *wanted =
            room > WANTED_MAX ? NULL : realloc(missing->wanted, room * sizeof(missing->wanted[0]));

        if (!wanted)
            return;
        missing->wanted = wanted;
        missing->wanted_room = room;
    }
    memcpy(missing->wanted[missing->wanted_count++], key, sizeof(key));
}

bool atd_redis_missing_next(struct atd_redis_missing *missing, struct atd_str *ret_key)
{
    while (missing->next < missing->wanted_count && missing->given < ATD_REDIS_MISSING_MAX) {
        struct atd_str key = atd_str_from(missing->wanted[missing->next++]);

        if (is_listed(missing, key))
            continue;
        atd_redis_missing_listed(missing, key); /* two labels may lead to it */
        missing->given++;
        *ret_key = key;
        return true;
    }
    return false;
}

#include "index/redis_missed.h"

#include <stdlib.h>
#include <string.h>

#define ENTRY_PREFIX "LocalDatasetEntry:"
#define CAPACITY_LEAST 1024u

void atd_redis_missed_init(struct atd_redis_missed *missed)
{
    memset(missed, 0, sizeof(*missed));
    atd_buf_init(&missed->keys, ATD_REDIS_MISSED_BYTES_MAX);
}

void atd_redis_missed_release(struct atd_redis_missed *missed)
{
    free(missed->seen);
    atd_buf_release(&missed->keys);
}

/* FNV-1a and a last mixing: two keys of one digest cost a dangling label, until the next load. */
static uint64_t digest_of(struct atd_str key)
{
    uint64_t sum = 0xcbf29ce484222325u;

    for (size_t i = 0; i < key.len; i++)
        sum = (sum ^ (unsigned char)key.ptr[i]) * 0x100000001b3u;
    sum = (sum ^ (sum >> 32)) * 0xff51afd7ed558ccdu;
    sum ^= sum >> 29;
    return sum ? sum : 1;
}

static uint64_t *place_of(const struct atd_redis_missed *missed, uint64_t digest)
{
    size_t at = (size_t)digest & (missed->capacity - 1);

    while (missed->seen[at] && missed->seen[at] != digest)
        at = (at + 1) & (missed->capacity - 1);
    return &missed->seen[at];
}

static bool grow(struct atd_redis_missed *missed)
{
    struct atd_redis_missed larger = *missed;

    larger.capacity = missed->capacity ? 2 * missed->capacity : CAPACITY_LEAST;
    larger.seen = calloc(larger.capacity, sizeof(*larger.seen));
    if (!larger.seen)
        return false;
    for (size_t i = 0; i < missed->capacity; i++) {
        if (missed->seen[i])
            *place_of(&larger, missed->seen[i]) = missed->seen[i];
    }
    free(missed->seen);
    *missed = larger;
    return true;
}

/* True when it was not there. */
static bool add(struct atd_redis_missed *missed, struct atd_str key)
{
    uint64_t digest = digest_of(key);
    uint64_t *place;

    if (missed->incomplete)
        return false;
    if (2 * missed->count >= missed->capacity && !grow(missed)) {
        missed->incomplete = true;
        return false;
    }
    place = place_of(missed, digest);
    if (*place)
        return false;
    *place = digest;
    missed->count++;
    return true;
}

void atd_redis_missed_note_entry(struct atd_redis_missed *missed, struct atd_str key)
{
    (void)add(missed, key);
}

void atd_redis_missed_note_label(struct atd_redis_missed *missed, struct atd_str cid)
{
    uint32_t len = (uint32_t)(strlen(ENTRY_PREFIX) + cid.len);

    if (missed->keys.len + sizeof(len) + len > ATD_REDIS_MISSED_BYTES_MAX)
        return;
    atd_buf_append(&missed->keys, &len, sizeof(len));
    atd_buf_append(&missed->keys, ENTRY_PREFIX, strlen(ENTRY_PREFIX));
    atd_buf_append(&missed->keys, cid.ptr, cid.len);
}

bool atd_redis_missed_next(struct atd_redis_missed *missed, struct atd_str *ret_key)
{
    while (!missed->keys.failed && missed->next < missed->keys.len) {
        const char *at = (const char *)missed->keys.ptr + missed->next;
        struct atd_str key = {at + sizeof(uint32_t), 0};
        uint32_t len;

        memcpy(&len, at, sizeof(len));
        key.len = len;
        missed->next += sizeof(len) + len;
        if (add(missed, key)) {
            *ret_key = key;
            return true;
        }
    }
    return false;
}

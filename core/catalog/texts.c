#include "catalog/texts.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "atdata/arena.h"
#include "base/check.h"
#include "base/hash.h"

/* What many generations of a few million entries take; beyond it loading fails. */
#define TEXTS_BYTES_MAX ((size_t)16 << 30)
#define SLOTS_LEAST 64u

struct atd_texts {
    atomic_uint refs;
    /* the rest belongs to the thread that appends */
    struct atd_arena arena;
    const struct atd_shared_text **slots; /* a hash table with open addresses; NULL: free */
    size_t slot_count;                    /* a power of two, or 0 */
    size_t shared_count;
    uint64_t seed;
};

struct atd_texts *atd_texts_new(void)
{
    struct atd_texts *texts = calloc(1, sizeof(*texts));

    if (!texts)
        return NULL;
    atomic_init(&texts->refs, 1);
    atd_arena_init(&texts->arena, TEXTS_BYTES_MAX);
    texts->seed = atd_hash_seed();
    return texts;
}

struct atd_texts *atd_texts_ref(struct atd_texts *texts)
{
    (void)atomic_fetch_add(&texts->refs, 1);
    return texts;
}

void atd_texts_unref(struct atd_texts *texts)
{
    if (!texts || atomic_fetch_sub(&texts->refs, 1) != 1)
        return;
    atd_arena_release(&texts->arena);
    free(texts->slots);
    free(texts);
}

size_t atd_texts_used_bytes(const struct atd_texts *texts)
{
    return texts->arena.used_bytes;
}

size_t atd_texts_shared_count(const struct atd_texts *texts)
{
    return texts->shared_count;
}

struct atd_str atd_texts_keep(struct atd_texts *texts, struct atd_str text)
{
    return atd_arena_str(&texts->arena, text);
}

/* The slot of `text`, or the free one where it belongs. */
static size_t slot_of(const struct atd_texts *texts, struct atd_str text)
{
    size_t at = (size_t)atd_hash(texts->seed, text) & (texts->slot_count - 1);

    while (texts->slots[at] && !(texts->slots[at]->len == text.len &&
                                 memcmp(texts->slots[at]->bytes, text.ptr, text.len) == 0))
        at = (at + 1) & (texts->slot_count - 1);
    return at;
}

/* Keeps the table at most half full. */
static bool make_room(struct atd_texts *texts)
{
    const struct atd_shared_text **before = texts->slots;
    size_t count = texts->slot_count;

    if (texts->shared_count < count / 2)
        return true;
    texts->slots = calloc(count ? 2 * count : SLOTS_LEAST, sizeof(struct atd_shared_text *));
    if (!texts->slots) {
        texts->slots = before;
        return false;
    }
    texts->slot_count = count ? 2 * count : SLOTS_LEAST;
    for (size_t i = 0; i < count; i++) {
        if (before[i])
            texts->slots[slot_of(texts, (struct atd_str){before[i]->bytes, before[i]->len})] =
                before[i];
    }
    free(before);
    return true;
}

const struct atd_shared_text *atd_texts_share(struct atd_texts *texts, struct atd_str text)
{
    struct atd_shared_text *shared;
    size_t slot;

    atd_assert(text.len < ATD_NONE);
    if (!text.ptr)
        text = ATD_STR("");
    if (!make_room(texts))
        return NULL;
    slot = slot_of(texts, text);
    if (texts->slots[slot])
        return texts->slots[slot];
    shared = atd_arena_alloc(&texts->arena, sizeof(*shared) + text.len + 1);
    if (!shared)
        return NULL;
    shared->number = (uint32_t)texts->shared_count++;
    shared->len = (uint32_t)text.len;
    memcpy(shared->bytes, text.ptr, text.len);
    texts->slots[slot] = shared;
    return shared;
}

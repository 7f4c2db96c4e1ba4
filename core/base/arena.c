#include "atdata/arena.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_FIRST_CHUNK 1024u
#define ARENA_LARGEST_CHUNK (1u << 20)
#define ARENA_ALIGN alignof(max_align_t)

struct atd_arena_chunk {
    struct atd_arena_chunk *next;
    size_t used;
    size_t cap;
    alignas(max_align_t) unsigned char data[];
};

void atd_arena_init(struct atd_arena *arena, size_t max_bytes)
{
    *arena = (struct atd_arena)ATD_ARENA_INIT(max_bytes);
}

void atd_arena_release(struct atd_arena *arena)
{
    struct atd_arena_chunk *chunk = arena->chunks;

    while (chunk) {
        struct atd_arena_chunk *next = chunk->next;

        free(chunk);
        chunk = next;
    }
    arena->chunks = NULL;
    arena->used_bytes = 0;
}

void atd_arena_wipe(struct atd_arena *arena)
{
    for (struct atd_arena_chunk *chunk = arena->chunks; chunk; chunk = chunk->next)
        explicit_bzero(chunk->data, chunk->used);
    atd_arena_release(arena);
}

static struct atd_arena_chunk *add_chunk_of(struct atd_arena *arena, size_t cap)
{
    struct atd_arena_chunk *chunk = malloc(sizeof(*chunk) + cap);

    if (!chunk)
        return NULL;
    chunk->used = 0;
    chunk->cap = cap;
    chunk->next = arena->chunks;
    arena->chunks = chunk;
    return chunk;
}

static struct atd_arena_chunk *add_chunk(struct atd_arena *arena, size_t need)
{
    size_t cap = arena->chunks ? arena->chunks->cap * 2 : ARENA_FIRST_CHUNK;

    if (cap > ARENA_LARGEST_CHUNK)
        cap = ARENA_LARGEST_CHUNK;
    return add_chunk_of(arena, cap < need ? need : cap);
}

bool atd_arena_reserve(struct atd_arena *arena, size_t bytes)
{
    if (bytes > ARENA_LARGEST_CHUNK)
        bytes = ARENA_LARGEST_CHUNK;
    return arena->chunks || add_chunk_of(arena, bytes ? bytes : 1);
}

size_t atd_arena_footprint(const struct atd_arena *arena)
{
    size_t bytes = 0;

    for (const struct atd_arena_chunk *chunk = arena->chunks; chunk; chunk = chunk->next)
        bytes += sizeof(*chunk) + chunk->cap;
    return bytes;
}

/* `align` bytes of alignment; text wants 1, so that packed names stay packed. */
static void *take(struct atd_arena *arena, size_t size, size_t align)
{
    struct atd_arena_chunk *chunk = arena->chunks;
    size_t start;
    void *place;

    if (size > arena->max_bytes || arena->used_bytes > arena->max_bytes - size)
        return NULL;
    start = chunk ? (chunk->used + align - 1) & ~(align - 1) : 0;
    if (!chunk || start > chunk->cap || chunk->cap - start < size) {
        chunk = add_chunk(arena, size ? size : 1);
        if (!chunk)
            return NULL;
        start = 0;
    }
    place = chunk->data + start;
    chunk->used = start + size;
    arena->used_bytes += size;
    return place;
}

void *atd_arena_alloc(struct atd_arena *arena, size_t size)
{
    void *place = take(arena, size, ARENA_ALIGN);

    return place ? memset(place, 0, size) : NULL;
}

void *atd_arena_alloc_array(struct atd_arena *arena, size_t count, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(count, size, &bytes))
        return NULL;
    return atd_arena_alloc(arena, bytes);
}

struct atd_str atd_arena_str(struct atd_arena *arena, struct atd_str s)
{
    char *copy = s.len < SIZE_MAX ? take(arena, s.len + 1, 1) : NULL;

    if (!copy)
        return (struct atd_str){NULL, 0};
    if (s.len)
        memcpy(copy, s.ptr, s.len);
    copy[s.len] = '\0';
    return (struct atd_str){copy, s.len};
}

struct atd_bytes atd_arena_bytes(struct atd_arena *arena, struct atd_bytes b)
{
    return atd_str_bytes(atd_arena_str(arena, atd_bytes_str(b)));
}

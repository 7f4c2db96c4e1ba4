/*
 * Contents of which every byte is known from (object, version, offset), so that a wrong byte is
 * recognised wherever it comes from; and a get that waits, for tests of stores.
 */
#ifndef ATD_TESTS_CONTENT_H
#define ATD_TESTS_CONTENT_H

#include <stdint.h>
#include <stdlib.h>

static inline uint8_t content_byte(unsigned object, unsigned version, uint64_t offset)
{
    uint64_t x = (offset >> 3) + 0x9e3779b97f4a7c15ULL * (object + 1) +
                 0xd1b54a32d192ed03ULL * (version + 1);

    x ^= x >> 31;
    x *= 0xbf58476d1ce4e5b9ULL;
    x ^= x >> 29;
    return (uint8_t)(x >> (8 * (offset & 7)));
}

static inline void content_fill(unsigned object, unsigned version, uint64_t offset, uint8_t *into,
                                size_t len)
{
    for (size_t i = 0; i < len; i++)
        into[i] = content_byte(object, version, offset + i);
}

/* Position of the first wrong byte, or `len`. */
static inline size_t content_check(unsigned object, unsigned version, uint64_t offset,
                                   const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != content_byte(object, version, offset + i))
            return i;
    }
    return len;
}

static inline uint64_t content_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

#endif

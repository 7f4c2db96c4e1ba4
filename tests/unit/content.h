/*
 * Contents of which every byte is known from (object, version, offset), so that a wrong byte is
 * recognised wherever it comes from; and a get that waits, for tests of stores.
 */
#ifndef ATD_TESTS_CONTENT_H
#define ATD_TESTS_CONTENT_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Eight bytes at a time (little-endian), for tests look at gigabytes without optimisation. */
static inline uint64_t content_word(unsigned object, unsigned version, uint64_t word)
{
    uint64_t x =
        word + 0x9e3779b97f4a7c15ULL * (object + 1) + 0xd1b54a32d192ed03ULL * (version + 1);

    x ^= x >> 31;
    x *= 0xbf58476d1ce4e5b9ULL;
    return x ^ x >> 29;
}

static inline uint8_t content_byte(unsigned object, unsigned version, uint64_t offset)
{
    return (uint8_t)(content_word(object, version, offset >> 3) >> (8 * (offset & 7)));
}

static inline void content_fill(unsigned object, unsigned version, uint64_t offset, uint8_t *into,
                                size_t len)
{
    size_t i = 0;

    while (i < len) {
        uint64_t at = offset + i;

        if (at % 8 == 0 && len - i >= 8) {
            uint64_t word = content_word(object, version, at / 8);

            memcpy(into + i, &word, 8);
            i += 8;
        } else {
            into[i++] = content_byte(object, version, at);
        }
    }
}

/* Position of the first wrong byte, or `len`. */
static inline size_t content_check(unsigned object, unsigned version, uint64_t offset,
                                   const uint8_t *bytes, size_t len)
{
    size_t i = 0;

    while (i < len) {
        uint64_t at = offset + i;
        uint64_t word;

        if (at % 8 == 0 && len - i >= 8) {
            memcpy(&word, bytes + i, 8);
            if (word != content_word(object, version, at / 8))
                return i;
            i += 8;
        } else if (bytes[i] != content_byte(object, version, at)) {
            return i;
        } else {
            i++;
        }
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

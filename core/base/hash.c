#include "base/hash.h"

#include <sys/random.h>

#include "base/clock.h"

uint64_t atd_hash_seed(void)
{
    uint64_t seed;

    /* Before there are random bytes, at boot: where memory lies is secret enough. */
    if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != (ssize_t)sizeof(seed))
        seed = (uint64_t)(uintptr_t)&seed ^ (uint64_t)atd_clock_boot_ms() << 40;
    return seed;
}

/* FNV-1a and a last mixing, since tables use the low bits. */
uint64_t atd_hash(uint64_t seed, struct atd_str text)
{
    uint64_t sum = seed ^ 0xcbf29ce484222325u;

    for (size_t i = 0; i < text.len; i++)
        sum = (sum ^ (unsigned char)text.ptr[i]) * 0x100000001b3u;
    sum = (sum ^ (sum >> 32)) * 0xff51afd7ed558ccdu;
    return sum ^ (sum >> 29);
}

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"

/* The definition, bit by bit. */
static uint32_t slow(const uint8_t *bytes, size_t len)
{
    uint32_t crc = 0xffffffffu;

    for (size_t i = 0; i < len; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

Test(crc32c, has_the_published_values)
{
    /* RFC 3720 B.4 */
    uint8_t bytes[32] = {0};

    cr_assert_eq(atd_crc32c(0, "123456789", 9), 0xe3069283u);
    cr_assert_eq(atd_crc32c(0, "", 0), 0);
    cr_assert_eq(atd_crc32c(0, bytes, 32), 0x8a9136aau);
    memset(bytes, 0xff, 32);
    cr_assert_eq(atd_crc32c(0, bytes, 32), 0x62a8ab43u);
    for (uint8_t i = 0; i < 32; i++)
        bytes[i] = i;
    cr_assert_eq(atd_crc32c(0, bytes, 32), 0x46dd794eu);
}

Test(crc32c, is_that_of_the_definition_at_every_length_place_and_cut)
{
    enum { LEN = 700 };
    uint8_t *bytes = malloc(LEN);

    for (size_t i = 0; i < LEN; i++)
        bytes[i] = (uint8_t)(i * i * 31 + i / 3);
    for (size_t start = 0; start < 17; start++) {
        for (size_t len = 0; start + len <= LEN; len += 1 + len / 9) {
            uint32_t want = slow(bytes + start, len);

            cr_assert_eq(atd_crc32c(0, bytes + start, len), want);
            for (size_t cut = 0; cut <= len; cut += 1 + len / 5)
                cr_assert_eq(
                    atd_crc32c(atd_crc32c(0, bytes + start, cut), bytes + start + cut, len - cut),
                    want);
        }
    }
    free(bytes);
}

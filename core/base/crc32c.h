/*
 * CRC-32C (Castagnoli), as iSCSI and ext4 use it; ISA-L does the work.
 * Source: RFC 3720 B.4; the check value of "123456789" is 0xE3069283.
 */
#ifndef ATD_BASE_CRC32C_H
#define ATD_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/*
 * The sum of `len` bytes that follow bytes whose sum is `crc` (0: none came before), so that
 * atd_crc32c(atd_crc32c(0, a), b) is the sum of a followed by b.
 */
uint32_t atd_crc32c(uint32_t crc, const void *data, size_t len);

#endif

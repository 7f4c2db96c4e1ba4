#include "base/crc32c.h"

#include <isa-l/crc.h>

/* ISA-L takes the length as an int. */
#define STEP_BYTES (1u << 30)

uint32_t atd_crc32c(uint32_t crc, const void *data, size_t len)
{
    /* ISA-L's prototype lacks the const; it only reads. */
    union {
        const void *in;
        unsigned char *out;
    } at = {data};

    /* It neither inverts what it is given nor what it returns, as the definition asks. */
    crc = ~crc;
    while (len > 0) {
        size_t step = len < STEP_BYTES ? len : STEP_BYTES;

        crc = crc32_iscsi(at.out, (int)step, crc);
        at.out += step;
        len -= step;
    }
    return ~crc;
}

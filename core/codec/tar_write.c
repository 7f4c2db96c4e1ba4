#include "codec/tar_write.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/check.h"

#define BLOCK_BYTES 512u
#define NAME_BYTES 100u
/* The name that Python's tarfile gives the file of a pax record. */
#define PAX_NAME "././@PaxHeader"

/* The fields of a ustar header that are written: where, and how long. */
struct header {
    char name[100];
    char mode[8];
    char uid[8];
    char gid[8];
    char size[12];
    char mtime[12];
    char checksum[8];
    char type;
    char link[100];
    char magic[8]; /* "ustar", NUL, "00" */
    char user[32];
    char group[32];
    char device[16];
    char prefix[155];
    char pad[12];
};
_Static_assert(sizeof(struct header) == BLOCK_BYTES, "a header is one block");

static void write_octal(char *field, size_t size, uint64_t value)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%0*" PRIo64, (int)size - 1, value);
    memcpy(field, text, size);
}

static void write_block(struct atd_str name, char type, uint64_t size_bytes, uint64_t mtime_s,
                        struct atd_buf *out)
{
    struct header header = {.type = type, .magic = {'u', 's', 't', 'a', 'r', 0, '0', '0'}};
    uint8_t bytes[BLOCK_BYTES];
    unsigned sum = 0;

    memcpy(header.name, name.ptr, name.len < NAME_BYTES ? name.len : NAME_BYTES);
    write_octal(header.mode, sizeof(header.mode), 0444);
    write_octal(header.uid, sizeof(header.uid), 0);
    write_octal(header.gid, sizeof(header.gid), 0);
    write_octal(header.size, sizeof(header.size), size_bytes);
    write_octal(header.mtime, sizeof(header.mtime), mtime_s);
    memset(header.checksum, ' ', sizeof(header.checksum));
    memcpy(bytes, &header, sizeof(bytes));
    for (size_t i = 0; i < sizeof(bytes); i++)
        sum += bytes[i];
    /* Six digits, NUL, blank. */
    write_octal(header.checksum, 7, sum);
    atd_buf_append(out, &header, sizeof(header));
}

/* "LENGTH path=NAME\n", where LENGTH counts itself. */
static void write_pax(struct atd_str name, uint64_t mtime_s, struct atd_buf *out)
{
    size_t rest = strlen(" path=") + name.len + 1;
    size_t len = rest + 1;
    char digits[24];

    while (len != rest + (size_t)snprintf(digits, sizeof(digits), "%zu", len))
        len = rest + strlen(digits);
    write_block(ATD_STR(PAX_NAME), 'x', len, mtime_s, out);
    atd_buf_printf(out, "%zu path=", len);
    atd_buf_append_str(out, name);
    atd_buf_append_byte(out, '\n');
    atd_buf_append_zeros(out, atd_tar_padding(len));
}

void atd_tar_write_header(struct atd_str name, uint64_t size_bytes, uint64_t mtime_s,
                          struct atd_buf *out)
{
    atd_assert(name.len > 0 && size_bytes <= ATD_TAR_WRITE_SIZE_MAX);
    if (name.len > NAME_BYTES)
        write_pax(name, mtime_s, out);
    write_block(name, '0', size_bytes, mtime_s, out);
}

size_t atd_tar_padding(uint64_t size_bytes)
{
    return (size_t)(-size_bytes % BLOCK_BYTES);
}

void atd_tar_write_end(uint64_t size_bytes, struct atd_buf *out)
{
    uint64_t end = size_bytes + 2 * (uint64_t)BLOCK_BYTES;

    end += (ATD_TAR_RECORD_BYTES - end % ATD_TAR_RECORD_BYTES) % ATD_TAR_RECORD_BYTES;
    atd_buf_append_zeros(out, (size_t)(end - size_bytes));
}

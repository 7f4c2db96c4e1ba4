#include "codec/tar_header.h"

#include <errno.h>
#include <inttypes.h>

/* A field of the header. Source: POSIX.1-2017 pax, "ustar Header Block". */
struct field {
    const char *name;
    size_t at;
    size_t len;
};

static const struct field name_field = {"name", 0, 100};
static const struct field size_field = {"size", 124, 12};
static const struct field mtime_field = {"mtime", 136, 12};
static const struct field checksum_field = {"checksum", 148, 8};
static const struct field prefix_field = {"prefix", 345, 155};
/* Of no use here, but a reader that looks at them must be able to. */
static const struct field other_fields[] = {
    {"mode", 100, 8}, {"uid", 108, 8}, {"gid", 116, 8}, {"devmajor", 329, 8}, {"devminor", 337, 8},
};
#define TYPE_AT 156
#define MAGIC_AT 257

bool atd_tar_is_zero_block(const uint8_t block[ATD_TAR_BLOCK_BYTES])
{
    for (size_t i = 0; i < ATD_TAR_BLOCK_BYTES; i++)
        if (block[i] != 0)
            return false;
    return true;
}

/* GNU's form: the first byte is 0x80, or 0xff for a negative number, then big-endian bytes. */
static bool read_base256(const uint8_t *ptr, size_t len, int64_t *ret_value)
{
    bool negative = ptr[0] == 0xff;
    uint64_t value = negative ? UINT64_MAX : 0;

    if (ptr[0] != 0x80 && !negative)
        return false;
    for (size_t i = 1; i < len; i++) {
        /* Before eight more bits come in, the top nine must all say the sign. */
        if (value >> 55 != (negative ? 0x1ffu : 0))
            return false;
        value = value << 8 | ptr[i];
    }
    *ret_value = (int64_t)value;
    return (*ret_value < 0) == negative;
}

/* Octal digits between blanks, up to a NUL; nothing at all is 0. */
static bool read_octal(const uint8_t *ptr, size_t len, int64_t *ret_value)
{
    uint64_t value = 0;
    size_t at = 0;

    while (at < len && ptr[at] == ' ')
        at++;
    for (; at < len && ptr[at] >= '0' && ptr[at] <= '7'; at++) {
        if (value > INT64_MAX >> 3)
            return false;
        value = value << 3 | (uint64_t)(ptr[at] - '0');
    }
    while (at < len && ptr[at] == ' ')
        at++;
    *ret_value = (int64_t)value;
    return at == len || ptr[at] == '\0';
}

static int read_number(const uint8_t *block, const struct field *field, uint64_t offset,
                       int64_t *ret_value, struct atd_error *err)
{
    const uint8_t *ptr = block + field->at;

    if (ptr[0] & 0x80 ? read_base256(ptr, field->len, ret_value)
                      : read_octal(ptr, field->len, ret_value))
        return 0;
    return atd_error_set(err, EINVAL, "tar header at byte %" PRIu64 ": bad %s", offset,
                         field->name);
}

/* The field itself counts as blanks. Some old writers added up signed characters. Source: GNU tar
 * manual, "Basic Tar Format". */
static bool checksum_matches(const uint8_t *block, int64_t stored)
{
    uint32_t plain = ' ' * (uint32_t)checksum_field.len;
    uint32_t high = 0; /* bytes that are negative as signed characters */

    for (size_t i = 0; i < ATD_TAR_BLOCK_BYTES; i++)
        plain += block[i];
    for (size_t i = 0; i < checksum_field.len; i++)
        plain -= block[checksum_field.at + i];
    if (stored == plain)
        return true;
    for (size_t i = 0; i < ATD_TAR_BLOCK_BYTES; i++)
        high += block[i] >> 7;
    for (size_t i = 0; i < checksum_field.len; i++)
        high -= block[checksum_field.at + i] >> 7;
    return stored == (int64_t)plain - 256 * (int64_t)high;
}

static size_t text_length(const uint8_t *block, const struct field *field)
{
    return strnlen((const char *)block + field->at, field->len);
}

/* GNU's own format marks itself "ustar  " and keeps other things where the prefix would be. */
static bool has_prefix(const uint8_t *block)
{
    return memcmp(block + MAGIC_AT, "ustar", 5) == 0 &&
           memcmp(block + MAGIC_AT, "ustar  ", 8) != 0 && block[prefix_field.at] != '\0';
}

static void read_name(const uint8_t *block, struct atd_tar_header *header)
{
    size_t name_len = text_length(block, &name_field);
    size_t len = 0;

    if (has_prefix(block)) {
        len = text_length(block, &prefix_field);
        memcpy(header->name, block + prefix_field.at, len);
        header->name[len++] = '/';
    }
    memcpy(header->name + len, block + name_field.at, name_len);
    header->name_len = len + name_len;
}

int atd_tar_header_read(const uint8_t block[ATD_TAR_BLOCK_BYTES], uint64_t offset,
                        struct atd_tar_header *ret_header, struct atd_error *err)
{
    struct atd_tar_header header = {0};
    int64_t value = 0;
    int64_t ignored;
    int rc = read_number(block, &checksum_field, offset, &value, NULL);

    if (rc != 0 || !checksum_matches(block, value))
        return atd_error_set(err, EINVAL,
                             offset == 0 ? "file is not a tar: no valid header at byte %" PRIu64
                                         : "tar header at byte %" PRIu64 ": bad checksum",
                             offset);
    rc = read_number(block, &size_field, offset, &value, err);
    if (rc == 0 && value < 0)
        rc = atd_error_set(err, EINVAL, "tar header at byte %" PRIu64 ": negative size", offset);
    if (rc == 0)
        rc = read_number(block, &mtime_field, offset, &header.mtime_s, err);
    for (size_t i = 0; rc == 0 && i < sizeof(other_fields) / sizeof(other_fields[0]); i++)
        rc = read_number(block, &other_fields[i], offset, &ignored, err);
    if (rc != 0)
        return rc;
    header.size_bytes = (uint64_t)value;
    header.type = (char)block[TYPE_AT];
    read_name(block, &header);
    if (header.type == '\0')
        header.type = header.name_len && header.name[header.name_len - 1] == '/' ? '5' : '0';
    *ret_header = header;
    return 0;
}

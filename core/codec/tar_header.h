/*
 * One 512-byte tar header block. Source: POSIX.1-2017 pax, "ustar Interchange Format"; GNU tar
 * manual, "Basic Tar Format" (base-256 numbers).
 */
#ifndef ATD_CODEC_TAR_HEADER_H
#define ATD_CODEC_TAR_HEADER_H

#include "atdata/error.h"
#include "atdata/str.h"

#define ATD_TAR_BLOCK_BYTES 512u
/* ustar's prefix of 155 bytes, a slash, and a name of 100. */
#define ATD_TAR_HEADER_NAME_MAX 256u

struct atd_tar_header {
    char name[ATD_TAR_HEADER_NAME_MAX];
    size_t name_len;
    char type; /* the typeflag; NUL is given as '0', or '5' when the name ends in a slash (v7) */
    uint64_t size_bytes;
    int64_t mtime_s;
};

bool atd_tar_is_zero_block(const uint8_t block[ATD_TAR_BLOCK_BYTES]);

/*
 * Reads a block that lies at `offset` of the file. Refuses what Python's tarfile cannot read, since
 * that silently takes a bad header for the end of the archive. Errors: EINVAL with the offset.
 */
int atd_tar_header_read(const uint8_t block[ATD_TAR_BLOCK_BYTES], uint64_t offset,
                        struct atd_tar_header *ret_header, struct atd_error *err) ATD_MUST_USE;

#endif

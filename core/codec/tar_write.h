/*
 * Writing the headers of a tar file: ustar, with a pax record for names that do not fit. Pure.
 * Source: POSIX pax.
 */
#ifndef ATD_CODEC_TAR_WRITE_H
#define ATD_CODEC_TAR_WRITE_H

#include "atdata/buf.h"

#define ATD_TAR_WRITE_SIZE_MAX (((uint64_t)1 << 33) - 1)
/* A file's length is a multiple of it, as other tools have it. */
#define ATD_TAR_RECORD_BYTES 10240u

/*
 * Appends the header blocks of a regular file, mode 0444, owner 0. `name` is not empty, without
 * NUL, and UTF-8 when it is longer than 100 bytes; `size_bytes` at most ATD_TAR_WRITE_SIZE_MAX.
 * Failures are `out`'s.
 */
void atd_tar_write_header(struct atd_str name, uint64_t size_bytes, uint64_t mtime_s,
                          struct atd_buf *out);

/* How many zeros follow data of that length. */
size_t atd_tar_padding(uint64_t size_bytes);

/* Appends the end blocks of a file of `size_bytes`. */
void atd_tar_write_end(uint64_t size_bytes, struct atd_buf *out);

#endif

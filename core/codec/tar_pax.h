/*
 * The records of a pax extended header. Source: POSIX.1-2017 pax, "pax Extended Header".
 */
#ifndef ATD_CODEC_TAR_PAX_H
#define ATD_CODEC_TAR_PAX_H

#include "atdata/error.h"
#include "atdata/str.h"

/* What matters here of one header; views point into its body. */
struct atd_tar_pax {
    bool has_path;
    struct atd_str path; /* empty: the header's own name counts again */
    bool has_size;
    uint64_t size_bytes;
    bool has_mtime;
    int64_t mtime_s;
};

/*
 * Reads a body that lies at `offset` of the file. Of equal keys the last counts.
 * Errors: EINVAL a bad record, a bad size, a NUL in a path, a GNU sparse file, each with the
 * offset; E2BIG a path over ATD_TAR_NAME_BYTES_MAX.
 */
int atd_tar_pax_read(struct atd_bytes body, uint64_t offset, struct atd_tar_pax *ret_pax,
                     struct atd_error *err) ATD_MUST_USE;

#endif

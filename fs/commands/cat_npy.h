/*
 * One field of samples as .npy files.
 */
#ifndef ATD_FS_CAT_NPY_H
#define ATD_FS_CAT_NPY_H

#include "codec/sample_split.h"

struct npy_target {
    const char *field;     /* of msgpack samples, or an extension */
    const char *file;      /* NULL: files in `directory` */
    const char *directory; /* "KEY.npy" each, KEY spelled as a file name */
    unsigned written;
};

/*
 * Writes the field of a sample; a file that is there already stays as it is. Errors: EINVAL the
 * field is no array, or the sample has none of that name; EEXIST; those of the disk; ENOMEM.
 */
int npy_write(struct npy_target *target, struct atd_str key, const struct atd_sample_part *parts,
              size_t count, struct atd_error *err) ATD_MUST_USE;

#endif

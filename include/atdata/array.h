/*
 * Arrays inside samples: NumPy's .npy and the library's compact form.
 * Source: ATDATA-FORMATS 5.3; NumPy's "NPY format" for versions 1.0, 2.0 and 3.0.
 */
#ifndef ATDATA_ARRAY_H
#define ATDATA_ARRAY_H

#include "atdata/buf.h"
#include "atdata/error.h"
#include "atdata/str.h"

ATD_BEGIN_DECLS

#define ATD_ARRAY_NDIM_MAX 64
#define ATD_DTYPE_LEN_MAX 255

enum atd_array_form { ATD_ARRAY_NPY, ATD_ARRAY_COMPACT };

struct atd_array {
    enum atd_array_form form;
    struct atd_str dtype; /* NumPy "str" form: '<f4', '|b1', '<M8[ns]'; for a compound .npy dtype
                             the descr text as written, beginning '[': UTF-8 in version 3.0,
                             Latin-1 before */
    uint64_t item_size;   /* bytes; of a compound dtype the sum of its fields. May be 0: '|S0' */
    bool fortran;         /* .npy only: data in Fortran order */
    unsigned ndim;
    uint64_t shape[ATD_ARRAY_NDIM_MAX];
    struct atd_bytes data;
};

/*
 * Reads a header and checks that the data has exactly the size it announces. Views into `bytes`.
 * The first six bytes decide: 93 'NUMPY' is .npy, anything else compact. Pickled (object) arrays
 * are refused, never unpickled. Errors: EINVAL with the position.
 */
int atd_array_decode(struct atd_bytes bytes, struct atd_array *ret_array,
                     struct atd_error *err) ATD_MUST_USE;

/* True when bytes are an array beyond reasonable doubt (5.3's advice for an untyped viewer). */
bool atd_array_sniff(struct atd_bytes bytes);

/* Appends .npy version 1.0 (2.0 when the header needs it), data aligned to 64, byte for byte what
 * numpy.save writes for the same dtype, shape and order. A compound dtype with UTF-8 names is
 * version 3.0, also where NumPy would find room in Latin-1. */
void atd_array_encode_npy(const struct atd_array *array, struct atd_buf *out);

/* Appends the compact form: C order only (`fortran` false), no compound dtype, no items of 0 bytes
 * (its readers refuse them). Errors: EINVAL. */
int atd_array_encode_compact(const struct atd_array *array, struct atd_buf *out,
                             struct atd_error *err) ATD_MUST_USE;

/* Size in bytes of one item of a dtype in "str" form. Errors: EINVAL unknown or object dtype. */
int atd_dtype_item_size(struct atd_str dtype, uint64_t *ret_size,
                        struct atd_error *err) ATD_MUST_USE;

ATD_END_DECLS

#endif

/*
 * Inside the array codec: its .npy half, and what both halves share. Source: NumPy's "NPY format",
 * versions 1.0, 2.0 and 3.0.
 */
#ifndef ATD_CODEC_ARRAY_NPY_H
#define ATD_CODEC_ARRAY_NPY_H

#include "atdata/array.h"

bool atd_npy_has_magic(struct atd_bytes bytes);

/* As atd_array_decode, for bytes with the magic. `array` holds rubbish after a failure. */
int atd_npy_decode(struct atd_bytes bytes, struct atd_array *array,
                   struct atd_error *err) ATD_MUST_USE;

/* Checks that the data have the size which shape and item size announce, without overflow.
 * `data_at` is their position, for the error. */
int atd_array_check_size(const struct atd_array *array, size_t data_at,
                         struct atd_error *err) ATD_MUST_USE;

/* As atd_array_sniff, and decodes what is one. */
bool atd_array_recognize(struct atd_bytes bytes, struct atd_array *ret_array) ATD_MUST_USE;

/* The greatest item NumPy makes (its itemsize is an int). */
#define ATD_ITEM_BYTES_MAX INT32_MAX

#endif

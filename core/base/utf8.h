/*
 * Strict UTF-8 (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF.
 * Python's "strict" decoder, which reads every name in an index, has the same rules.
 */
#ifndef ATD_BASE_UTF8_H
#define ATD_BASE_UTF8_H

#include "atdata/str.h"

/* Length 1 to 4 of the valid character at `ptr`, or 0 when the bytes are none. `len` > 0. */
size_t atd_utf8_step(const uint8_t *ptr, size_t len);

/* Like atd_utf8_step and stores the code point. */
size_t atd_utf8_decode(const uint8_t *ptr, size_t len, uint32_t *ret_code_point);

/* True when all of `s` is valid; else *ret_position (may be NULL) is the first bad byte. */
bool atd_utf8_is_valid(struct atd_str s, size_t *ret_position);

#endif

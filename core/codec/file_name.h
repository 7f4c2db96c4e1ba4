/*
 * Index names (arbitrary bytes) as file names, reversibly. Source: DESIGN 2.1.
 *
 * Percent-encoded: '/', NUL and the other control characters (U+0000..U+001F, U+007F), every byte
 * of invalid UTF-8, a leading dot, and a '%' that is followed by two hex digits. "" becomes "%"
 * and "%" becomes "%25". Upper-case hex. Everything else stays.
 */
#ifndef ATD_CODEC_FILE_NAME_H
#define ATD_CODEC_FILE_NAME_H

#include "atdata/buf.h"
#include "atdata/error.h"
#include "atdata/str.h"

/* True when the name needs no encoding and fits: the file name is the name itself. */
bool atd_file_name_is_plain(struct atd_str name);

/* True when the encoded name is no longer than a file name may be: it is not cut. */
bool atd_file_name_fits(struct atd_str name);

/*
 * Appends the file name of `name` followed by `suffix` (plain ASCII such as ".json", may be
 * empty). When that is longer than ATD_FILE_NAME_MAX bytes the encoded name is cut at a character
 * (never inside a %XX), then comes "~", the last 8 characters of `cid`, and the suffix: such a
 * file name cannot be decoded, only looked up.
 */
void atd_file_name_encode(struct atd_str name, struct atd_str cid, struct atd_str suffix,
                          struct atd_buf *out);

/*
 * The reverse for names that were not cut. Errors: EINVAL for text that atd_file_name_encode never
 * produces (so that every name has exactly one file name).
 */
int atd_file_name_decode(struct atd_str file_name, struct atd_buf *out,
                         struct atd_error *err) ATD_MUST_USE;

#endif

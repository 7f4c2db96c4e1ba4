/*
 * Base64 with padding and the standard alphabet. Source: RFC 4648 4.
 */
#ifndef ATD_CODEC_BASE64_H
#define ATD_CODEC_BASE64_H

#include "atdata/buf.h"
#include "atdata/str.h"

void atd_base64_encode(struct atd_bytes bytes, struct atd_buf *out);

/*
 * Appends what `text` says. False for anything that atd_base64_encode does not write: blanks,
 * missing padding, stray bits. `out` may have grown then.
 */
bool atd_base64_decode(struct atd_str text, struct atd_buf *out) ATD_MUST_USE;

#endif

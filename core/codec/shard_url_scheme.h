/*
 * The scheme of a URL: what classifying and expanding both ask for.
 */
#ifndef ATD_CODEC_SHARD_URL_SCHEME_H
#define ATD_CODEC_SHARD_URL_SCHEME_H

#include "atdata/str.h"

/*
 * The scheme without its colon (RFC 3986, 3.1), or an empty view for a path. One letter is no
 * scheme but a drive ("C:\x"), which here is some relative path.
 */
struct atd_str atd_shard_url_scheme(struct atd_str text);

/* Compares without case; `lower_name` is in lower case. */
bool atd_shard_url_scheme_is(struct atd_str scheme, const char *lower_name);

#endif

/*
 * The scheme of a URL, and how an error quotes one: what classifying and expanding both ask for.
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

/*
 * A URL as errors quote it, which end in logs: without query and fragment, where signatures are,
 * and with "***" for a user and password before the '@'. Views point into `text`.
 */
struct atd_url_quote {
    struct atd_str head;
    const char *stars;
    struct atd_str tail;
};
struct atd_url_quote atd_shard_url_quote(struct atd_str text);

#define ATD_URL_QUOTE_FMT ATD_STR_FMT "%s" ATD_STR_FMT
#define ATD_URL_QUOTE_ARG(quote) ATD_STR_ARG((quote).head), (quote).stars, ATD_STR_ARG((quote).tail)

#endif

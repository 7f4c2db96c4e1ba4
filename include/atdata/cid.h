/*
 * Content identifiers of index entries.
 *
 * cid = "b" + base32(01 71 12 20 || sha256(dag-cbor({data_urls, schema_ref}))), lower case, no
 * padding; 59 characters beginning "bafyrei". Name and metadata take no part.
 * Source: ATDATA-FORMATS 3.
 */
#ifndef ATDATA_CID_H
#define ATDATA_CID_H

#include "atdata/error.h"
#include "atdata/str.h"

ATD_BEGIN_DECLS

#define ATD_CID_TEXT_LEN 59

struct atd_cid {
    char text[ATD_CID_TEXT_LEN + 1]; /* terminated */
};

/*
 * The CID that the Python library computes for the same reference and URLs, in their order, with
 * no normalisation of any kind.
 * Errors: EINVAL text that is not UTF-8 (the URL's number is named); ENOMEM.
 */
int atd_cid_compute(struct atd_str schema_ref, const struct atd_str *urls, size_t url_count,
                    struct atd_cid *ret_cid, struct atd_error *err) ATD_MUST_USE;

/* True for text that could be an entry's CID: 59 characters, "bafyrei", the base32 alphabet. */
bool atd_cid_is_valid(struct atd_str text);

ATD_END_DECLS

#endif

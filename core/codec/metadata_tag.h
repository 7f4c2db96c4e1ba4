/*
 * What JSON cannot say of metadata is tagged: {"$bytes": "<base64>"}, {"$float": "nan"},
 * {"$ext": [type, "<base64>"]}, and the key "$bytes:<base64>". So that a user's own key of such a
 * name survives, a text key that could be taken for a tag gets one more "$" in front when it is
 * written, which reading takes off.
 */
#ifndef ATD_CODEC_METADATA_TAG_H
#define ATD_CODEC_METADATA_TAG_H

#include "atdata/str.h"

#define ATD_BYTES_KEY_PREFIX ATD_STR("$bytes:")

/* One "$" or more, then the rest of a tag. */
static inline bool atd_looks_like_tag(struct atd_str key)
{
    size_t dollars = 0;

    while (dollars < key.len && key.ptr[dollars] == '$')
        dollars++;
    key = atd_str_from_byte(key, dollars);
    return dollars > 0 &&
           (atd_str_equal(key, ATD_STR("bytes")) || atd_str_equal(key, ATD_STR("float")) ||
            atd_str_equal(key, ATD_STR("ext")) || atd_str_starts_with(key, ATD_STR("bytes:")));
}

#endif

#include "atdata/entry.h"

#include <errno.h>

#include "base/limits.h"
#include "base/utf8.h"
#include "codec/msgpack_read.h"
#include "codec/msgpack_write.h"

static int urls_begin(struct atd_bytes msgpack, struct atd_mp_reader *reader, uint32_t *ret_count,
                      struct atd_error *err)
{
    struct atd_mp_token token;
    int rc;

    if (msgpack.len > ATD_URLS_BYTES_MAX)
        return atd_error_set(err, E2BIG, "data_urls is larger than the limit of %u bytes",
                             ATD_URLS_BYTES_MAX);
    atd_mp_reader_init(reader, msgpack);
    rc = atd_mp_next(reader, &token, err);
    if (rc < 0)
        return atd_error_wrap(err, rc, "data_urls");
    if (token.type != ATD_MP_ARRAY)
        return atd_error_set(err, EINVAL, "data_urls is no array at byte 0");
    if (token.count > ATD_SHARDS_MAX)
        return atd_error_set(err, E2BIG, "data_urls has %u elements, the limit is %u", token.count,
                             ATD_SHARDS_MAX);
    *ret_count = token.count;
    return 0;
}

static int urls_next(struct atd_mp_reader *reader, uint32_t number, struct atd_str *ret_url,
                     struct atd_error *err)
{
    struct atd_mp_token token;
    size_t bad;
    int rc = atd_mp_next(reader, &token, err);

    if (rc < 0)
        return atd_error_wrap(err, rc, "data_urls element %u", number);
    if (token.type != ATD_MP_STR)
        return atd_error_set(err, EINVAL, "data_urls element %u at byte %zu is no text", number,
                             token.offset);
    if (!atd_utf8_is_valid(atd_bytes_str(token.body), &bad))
        return atd_error_set(err, EINVAL,
                             "data_urls element %u at byte %zu is not valid utf-8 at its byte %zu",
                             number, token.offset, bad);
    *ret_url = atd_bytes_str(token.body);
    return 0;
}

static int check_end(const struct atd_mp_reader *reader, const char *what, struct atd_error *err)
{
    if (reader->at < reader->doc.len)
        return atd_error_set(err, EINVAL, "%s has %zu bytes too many from byte %zu on", what,
                             reader->doc.len - reader->at, reader->at);
    return 0;
}

int atd_urls_check(struct atd_bytes msgpack, size_t *ret_count, struct atd_error *err)
{
    struct atd_mp_reader reader;
    uint32_t count;
    int rc = urls_begin(msgpack, &reader, &count, err);

    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        struct atd_str url;

        rc = urls_next(&reader, i, &url, err);
    }
    if (rc == 0)
        rc = check_end(&reader, "data_urls", err);
    if (rc == 0)
        *ret_count = count;
    return rc;
}

int atd_urls_decode(struct atd_bytes msgpack, struct atd_arena *arena, struct atd_str **ret_urls,
                    size_t *ret_count, struct atd_error *err)
{
    struct atd_mp_reader reader;
    struct atd_str *urls;
    size_t checked;
    uint32_t count;
    int rc = atd_urls_check(msgpack, &checked, err);

    if (rc < 0)
        return rc;
    urls = atd_arena_alloc_array(arena, checked, sizeof(*urls));
    if (!urls)
        return atd_error_set(err, ENOMEM, "data_urls: out of memory for %zu elements", checked);
    rc = urls_begin(msgpack, &reader, &count, err);
    for (uint32_t i = 0; rc == 0 && i < count; i++)
        rc = urls_next(&reader, i, &urls[i], err);
    if (rc < 0)
        return rc;
    *ret_urls = urls;
    *ret_count = checked;
    return 0;
}

void atd_urls_encode(const struct atd_str *urls, size_t count, struct atd_buf *out)
{
    atd_mp_write_array(out, count);
    for (size_t i = 0; i < count; i++)
        atd_mp_write_str(out, urls[i]);
}

int atd_metadata_check(struct atd_bytes msgpack, bool *ret_is_none, struct atd_error *err)
{
    static const struct atd_mp_rules rules = {
        .allow_bin_keys = true, .allow_ext = true, .what = "metadata"};
    struct atd_mp_reader reader;
    int rc;

    if (msgpack.len > ATD_METADATA_BYTES_MAX)
        return atd_error_set(err, E2BIG, "metadata is larger than the limit of %u bytes",
                             ATD_METADATA_BYTES_MAX);
    atd_mp_reader_init(&reader, msgpack);
    rc = atd_mp_skip_checked(&reader, &rules, err);
    if (rc == 0)
        rc = check_end(&reader, "metadata", err);
    if (rc == 0 && ret_is_none)
        *ret_is_none = msgpack.ptr[0] == 0xc0;
    return rc;
}

/* The first token of a value; false for what is no msgpack at all. */
static bool first_token(struct atd_bytes value, struct atd_mp_reader *reader,
                        struct atd_mp_token *ret_token)
{
    atd_mp_reader_init(reader, value);
    return atd_mp_next(reader, ret_token, NULL) == 0;
}

bool atd_metadata_find(struct atd_bytes msgpack, struct atd_str key, struct atd_bytes *ret_value)
{
    struct atd_mp_reader reader;
    struct atd_mp_token map;
    bool found = false;

    if (!first_token(msgpack, &reader, &map) || map.type != ATD_MP_MAP)
        return false;
    for (uint32_t i = 0; i < map.count; i++) {
        struct atd_mp_token token;
        size_t start;

        if (atd_mp_next(&reader, &token, NULL) < 0)
            break;
        start = reader.at;
        atd_mp_skip(&reader);
        if (token.type == ATD_MP_STR && atd_str_equal(atd_bytes_str(token.body), key)) {
            *ret_value = (struct atd_bytes){msgpack.ptr + start, reader.at - start};
            found = true;
        }
    }
    return found;
}

bool atd_msgpack_as_text(struct atd_bytes value, struct atd_str *ret_text)
{
    struct atd_mp_reader reader;
    struct atd_mp_token token;

    if (!first_token(value, &reader, &token) || token.type != ATD_MP_STR)
        return false;
    *ret_text = atd_bytes_str(token.body);
    return true;
}

bool atd_msgpack_is_map(struct atd_bytes value)
{
    struct atd_mp_reader reader;
    struct atd_mp_token token;

    return first_token(value, &reader, &token) && token.type == ATD_MP_MAP;
}

bool atd_msgpack_as_u64(struct atd_bytes value, uint64_t *ret_value)
{
    struct atd_mp_reader reader;
    struct atd_mp_token token;

    if (!first_token(value, &reader, &token) || token.type != ATD_MP_UINT)
        return false;
    *ret_value = token.u;
    return true;
}

/*
 * Edits of metadata: maps are copied pair by pair as they are stored, but for one key.
 *
 * Values are made from the innermost out: the record of a shard, the map of records, ours, the
 * whole. Each level is one copy, and there are four, so that an edit is linear.
 */
#include "codec/metadata_edit.h"

#include <errno.h>

#include "atdata/entry.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "codec/metadata_keys.h"
#include "codec/msgpack_read.h"
#include "codec/msgpack_write.h"

/* A map of no pairs. */
static const uint8_t empty_map[] = {0x80};
#define EMPTY_MAP ((struct atd_bytes){empty_map, sizeof(empty_map)})

#define NIL_BYTE 0xc0

static const struct atd_bytes absent = {NULL, 0};

/* ------------------------------------------------------------------ maps */

/* A walk over the pairs of a map that was checked. */
struct pairs {
    struct atd_mp_reader reader;
    uint32_t left;
};

static struct pairs pairs_of(struct atd_bytes map)
{
    struct pairs pairs;
    struct atd_mp_token token = {0};
    int rc;

    atd_mp_reader_init(&pairs.reader, map);
    rc = atd_mp_next(&pairs.reader, &token, NULL);
    atd_assert(rc == 0 && token.type == ATD_MP_MAP);
    pairs.left = token.count;
    return pairs;
}

/* The whole pair, and whether its key is this text. */
static bool next_pair(struct pairs *pairs, struct atd_str key, struct atd_bytes *ret_pair,
                      bool *ret_is_key)
{
    struct atd_mp_token token = {0};
    size_t start = pairs->reader.at;
    int rc;

    if (pairs->left == 0)
        return false;
    pairs->left--;
    rc = atd_mp_next(&pairs->reader, &token, NULL);
    atd_assert(rc == 0);
    *ret_is_key = token.type == ATD_MP_STR && atd_str_equal(atd_bytes_str(token.body), key);
    atd_mp_skip(&pairs->reader);
    *ret_pair = (struct atd_bytes){pairs->reader.doc.ptr + start, pairs->reader.at - start};
    return true;
}

/* In how many pairs the key is; stores the first of them. */
static uint32_t count_key(struct atd_bytes map, struct atd_str key, struct atd_bytes *ret_first)
{
    struct pairs pairs = pairs_of(map);
    struct atd_bytes pair;
    uint32_t count = 0;
    bool is_key;

    while (next_pair(&pairs, key, &pair, &is_key)) {
        if (is_key && count++ == 0)
            *ret_first = pair;
    }
    return count;
}

static void write_pair(struct atd_str key, struct atd_bytes value, struct atd_buf *out)
{
    if (!value.ptr)
        return;
    atd_mp_write_str(out, key);
    atd_buf_append(out, value.ptr, value.len);
}

/* Appends the pairs from `from` on without those of the key. */
static void write_others(struct pairs pairs, const uint8_t *from, struct atd_str key,
                         struct atd_buf *out)
{
    struct atd_bytes pair;
    bool is_key;

    while (next_pair(&pairs, key, &pair, &is_key)) {
        if (!is_key && pair.ptr >= from)
            atd_buf_append(out, pair.ptr, pair.len);
    }
}

/*
 * Appends the map with one key's value replaced, in the place of its first pair, as a Python dict
 * would; a new key comes last. A value of ptr NULL: without the key.
 */
static void write_with(struct atd_bytes map, struct atd_str key, struct atd_bytes value,
                       struct atd_buf *out)
{
    struct pairs pairs = pairs_of(map);
    const uint8_t *body = map.ptr + pairs.reader.at;
    const uint8_t *end = map.ptr + map.len;
    struct atd_bytes first = {end, 0}; /* of a key that is not there: behind the last pair */
    uint32_t there = count_key(map, key, &first);
    const uint8_t *rest = first.ptr + first.len;

    atd_mp_write_map(out, (size_t)pairs.left - there + (value.ptr != NULL));
    atd_buf_append(out, body, (size_t)(first.ptr - body));
    write_pair(key, value, out);
    if (there <= 1)
        atd_buf_append(out, rest, (size_t)(end - rest));
    else
        write_others(pairs, rest, key, out);
}

static bool is_empty_map(struct atd_bytes map)
{
    return pairs_of(map).left == 0;
}

static bool is_nil(struct atd_bytes value)
{
    return value.len == 1 && value.ptr[0] == NIL_BYTE;
}

/* The map under a key, the empty one when there is none, false for a value of another type. */
static bool find_map(struct atd_bytes map, struct atd_str key, struct atd_bytes *ret_map)
{
    if (!atd_metadata_find(map, key, ret_map) || is_nil(*ret_map)) {
        *ret_map = EMPTY_MAP;
        return true;
    }
    return atd_msgpack_is_map(*ret_map);
}

static int find_map_or_refuse(struct atd_bytes map, struct atd_str key, struct atd_bytes *ret_map,
                              struct atd_error *err)
{
    if (find_map(map, key, ret_map))
        return 0;
    return atd_error_set(err, EINVAL,
                         "metadata has '" ATD_STR_FMT "', but it is no map: shards cannot be "
                         "recorded before that key is taken out of metadata.json",
                         ATD_STR_ARG(key));
}

/* ------------------------------------------------------------------ begin and end of an edit */

/* *ret_map is the empty map when there is no metadata; false: it is no map. */
static int begin(struct atd_bytes metadata, struct atd_bytes *ret_map, bool *ret_is_map,
                 struct atd_error *err)
{
    bool is_none = true;
    int rc = metadata.ptr ? atd_metadata_check(metadata, &is_none, err) : 0;

    if (rc < 0)
        return rc;
    *ret_map = is_none ? EMPTY_MAP : metadata;
    *ret_is_map = is_none || atd_msgpack_is_map(metadata);
    return 0;
}

static int begin_with_map(struct atd_bytes metadata, struct atd_bytes *ret_map,
                          struct atd_error *err)
{
    bool is_map;
    int rc = begin(metadata, ret_map, &is_map, err);

    if (rc == 0 && !is_map)
        rc = atd_error_set(err, EINVAL,
                           "the dataset's metadata is no map: shards cannot be recorded in it "
                           "before metadata.json is written anew");
    return rc;
}

/* The result is looked at as readers will: a URL that is no text, or too much of everything. */
static int end(const struct atd_buf *result, struct atd_buf *out, struct atd_error *err)
{
    int rc = atd_buf_finish(result, "metadata", err);

    if (rc == 0)
        rc = atd_metadata_check(atd_buf_bytes(result), NULL, err);
    if (rc < 0)
        return rc;
    atd_buf_append_str(out, atd_buf_str(result));
    return atd_buf_finish(out, "metadata", err);
}

/* Larger than what may be stored, so that it is the check which refuses. */
#define SCRATCH_BYTES_MAX (2u * ATD_METADATA_BYTES_MAX)

/* Appends the whole with another map of records; ptr NULL: without one. */
static void write_records(struct atd_bytes map, struct atd_bytes ours, struct atd_bytes records,
                          struct atd_buf *out)
{
    atd_auto_buf struct atd_buf new_ours = ATD_BUF_INIT(SCRATCH_BYTES_MAX);

    write_with(ours, ATD_METADATA_SHARDS, records, &new_ours);
    if (new_ours.failed)
        out->failed = new_ours.failed;
    else
        write_with(map, ATD_METADATA_OURS,
                   is_empty_map(atd_buf_bytes(&new_ours)) ? absent : atd_buf_bytes(&new_ours), out);
}

/* Appends the whole with this record of a shard. */
static int put_record(struct atd_bytes map, struct atd_str url, struct atd_bytes record,
                      struct atd_buf *out, struct atd_error *err)
{
    atd_auto_buf struct atd_buf new_records = ATD_BUF_INIT(SCRATCH_BYTES_MAX);
    struct atd_bytes ours;
    struct atd_bytes records;
    int rc = find_map_or_refuse(map, ATD_METADATA_OURS, &ours, err);

    if (rc == 0)
        rc = find_map_or_refuse(ours, ATD_METADATA_SHARDS, &records, err);
    if (rc < 0)
        return rc;
    write_with(records, url, record, &new_records);
    rc = atd_buf_finish(&new_records, "metadata", err);
    if (rc == 0)
        write_records(map, ours, atd_buf_bytes(&new_records), out);
    return rc == 0 ? atd_buf_finish(out, "metadata", err) : rc;
}

/* ------------------------------------------------------------------ one shard */

static void write_record(const struct atd_shard_record *record, struct atd_buf *out)
{
    bool has_size = record->size_bytes != UINT64_MAX;
    bool has_etag = record->etag.len > 0;
    bool has_samples = record->samples >= 0;
    bool has_mtime = record->mtime_ns != INT64_MIN;
    bool has_index = record->index_bytes > 0;

    atd_mp_write_map(out, (size_t)has_size + has_etag + has_samples + has_mtime + has_index);
    if (has_size) {
        atd_mp_write_str(out, ATD_SHARD_SIZE);
        atd_mp_write_uint(out, record->size_bytes);
    }
    if (has_etag) {
        atd_mp_write_str(out, ATD_SHARD_ETAG);
        atd_mp_write_str(out, record->etag);
    }
    if (has_samples) {
        atd_mp_write_str(out, ATD_SHARD_SAMPLES);
        atd_mp_write_int(out, record->samples);
    }
    if (has_mtime) {
        atd_mp_write_str(out, ATD_SHARD_MTIME);
        atd_mp_write_int(out, record->mtime_ns);
    }
    if (has_index) {
        atd_mp_write_str(out, ATD_SHARD_INDEX);
        atd_mp_write_uint(out, record->index_bytes);
    }
}

/* Appends the map with the shard's checksum. */
static int put_checksum(struct atd_bytes map, const struct atd_shard_record *record,
                        struct atd_buf *out, struct atd_error *err)
{
    atd_auto_buf struct atd_buf value = ATD_BUF_INIT(256);
    atd_auto_buf struct atd_buf sums = ATD_BUF_INIT(SCRATCH_BYTES_MAX);
    struct atd_bytes old;
    int rc = find_map_or_refuse(map, ATD_METADATA_CHECKSUMS, &old, err);

    if (rc < 0)
        return rc;
    atd_mp_write_str(&value, atd_str_from(record->sha256));
    write_with(old, record->url, atd_buf_bytes(&value), &sums);
    rc = atd_buf_finish(&value, "metadata", err);
    if (rc == 0)
        rc = atd_buf_finish(&sums, "metadata", err);
    if (rc == 0)
        write_with(map, ATD_METADATA_CHECKSUMS, atd_buf_bytes(&sums), out);
    return rc == 0 ? atd_buf_finish(out, "metadata", err) : rc;
}

int atd_metadata_put_shard(struct atd_bytes metadata, const struct atd_shard_record *record,
                           struct atd_buf *out, struct atd_error *err)
{
    atd_auto_buf struct atd_buf value = ATD_BUF_INIT(ATD_METADATA_BYTES_MAX);
    atd_auto_buf struct atd_buf with_sum = ATD_BUF_INIT(SCRATCH_BYTES_MAX);
    atd_auto_buf struct atd_buf result = ATD_BUF_INIT(SCRATCH_BYTES_MAX);
    struct atd_bytes map;
    int rc = begin_with_map(metadata, &map, err);

    if (rc == 0 && record->sha256[0]) {
        rc = put_checksum(map, record, &with_sum, err);
        map = atd_buf_bytes(&with_sum);
    }
    if (rc < 0)
        return rc;
    write_record(record, &value);
    rc = atd_buf_finish(&value, "metadata", err);
    if (rc == 0)
        rc = put_record(map, record->url, atd_buf_bytes(&value), &result, err);
    return rc == 0 ? end(&result, out, err) : rc;
}

/* The shard's record as it is, or an empty one. */
static struct atd_bytes find_record(struct atd_bytes map, struct atd_str url)
{
    struct atd_bytes ours;
    struct atd_bytes records;
    struct atd_bytes record;

    if (find_map(map, ATD_METADATA_OURS, &ours) && find_map(ours, ATD_METADATA_SHARDS, &records) &&
        find_map(records, url, &record))
        return record;
    return EMPTY_MAP;
}

/* Appends the whole with one value of the shard's record replaced; ptr NULL: without it. */
static int put_value(struct atd_bytes metadata, struct atd_str url, struct atd_str key,
                     struct atd_bytes value, struct atd_buf *out, struct atd_error *err)
{
    atd_auto_buf struct atd_buf record = ATD_BUF_INIT(SCRATCH_BYTES_MAX);
    atd_auto_buf struct atd_buf result = ATD_BUF_INIT(SCRATCH_BYTES_MAX);
    struct atd_bytes map;
    int rc = begin_with_map(metadata, &map, err);

    if (rc < 0)
        return rc;
    write_with(find_record(map, url), key, value, &record);
    rc = atd_buf_finish(&record, "metadata", err);
    if (rc == 0)
        rc = put_record(map, url, atd_buf_bytes(&record), &result, err);
    return rc == 0 ? end(&result, out, err) : rc;
}

int atd_metadata_put_mtime(struct atd_bytes metadata, struct atd_str url, int64_t mtime_ns,
                           struct atd_buf *out, struct atd_error *err)
{
    atd_auto_buf struct atd_buf time = ATD_BUF_INIT(16);
    int rc;

    atd_mp_write_int(&time, mtime_ns);
    rc = atd_buf_finish(&time, "metadata", err);
    return rc == 0 ? put_value(metadata, url, ATD_SHARD_MTIME, atd_buf_bytes(&time), out, err) : rc;
}

int atd_metadata_set_leaving(struct atd_bytes metadata, struct atd_str url, bool leaving,
                             struct atd_buf *out, struct atd_error *err)
{
    static const uint8_t yes[] = {0xc3};
    const struct atd_bytes value = {yes, sizeof(yes)};

    return put_value(metadata, url, ATD_SHARD_LEAVING, leaving ? value : absent, out, err);
}

bool atd_metadata_is_leaving(struct atd_bytes metadata, struct atd_str url)
{
    struct atd_bytes value;

    return metadata.ptr && atd_msgpack_is_map(metadata) &&
           atd_metadata_find(find_record(metadata, url), ATD_SHARD_LEAVING, &value) &&
           value.len == 1 && value.ptr[0] == 0xc3;
}

/*
 * Appends the map at `key` of `map` without `inner`; false when there is no such map, or nothing in
 * it to take away.
 */
static bool write_without(struct atd_bytes map, struct atd_str key, struct atd_str inner,
                          struct atd_buf *out)
{
    struct atd_bytes old;
    struct atd_bytes first;

    if (!find_map(map, key, &old) || count_key(old, inner, &first) == 0)
        return false;
    write_with(old, inner, absent, out);
    return true;
}

int atd_metadata_drop_shard(struct atd_bytes metadata, struct atd_str url, struct atd_buf *out,
                            struct atd_error *err)
{
    atd_auto_buf struct atd_buf sums = ATD_BUF_INIT(SCRATCH_BYTES_MAX);
    atd_auto_buf struct atd_buf records = ATD_BUF_INIT(SCRATCH_BYTES_MAX);
    atd_auto_buf struct atd_buf without_sum = ATD_BUF_INIT(SCRATCH_BYTES_MAX);
    atd_auto_buf struct atd_buf result = ATD_BUF_INIT(SCRATCH_BYTES_MAX);
    struct atd_bytes whole = metadata;
    struct atd_bytes map;
    struct atd_bytes ours;
    bool is_map;
    int rc = begin(metadata, &map, &is_map, err);

    if (rc < 0)
        return rc;
    if (is_map && write_without(map, ATD_METADATA_CHECKSUMS, url, &sums)) {
        rc = atd_buf_finish(&sums, "metadata", err);
        if (rc < 0)
            return rc;
        write_with(map, ATD_METADATA_CHECKSUMS,
                   is_empty_map(atd_buf_bytes(&sums)) ? absent : atd_buf_bytes(&sums),
                   &without_sum);
        rc = atd_buf_finish(&without_sum, "metadata", err);
        whole = map = atd_buf_bytes(&without_sum);
    }
    if (rc == 0 && is_map && find_map(map, ATD_METADATA_OURS, &ours) &&
        write_without(ours, ATD_METADATA_SHARDS, url, &records)) {
        rc = atd_buf_finish(&records, "metadata", err);
        if (rc < 0)
            return rc;
        write_records(map, ours,
                      is_empty_map(atd_buf_bytes(&records)) ? absent : atd_buf_bytes(&records),
                      &result);
        rc = atd_buf_finish(&result, "metadata", err);
        whole = atd_buf_bytes(&result);
    }
    if (rc < 0)
        return rc;
    if (whole.ptr != metadata.ptr && is_empty_map(whole))
        return 0;
    atd_buf_append(out, whole.ptr, whole.len);
    return atd_buf_finish(out, "metadata", err);
}

/* ------------------------------------------------------------------ the user's part */

/* Replaces what the user wrote under one of our keys by the map that was there. */
static int keep(struct atd_bytes old, struct atd_str key, struct atd_buf *map,
                struct atd_error *err)
{
    atd_auto_buf struct atd_buf with = ATD_BUF_INIT(SCRATCH_BYTES_MAX);
    struct atd_bytes kept;
    struct atd_bytes written;
    int rc;

    if (!atd_metadata_find(old, key, &kept) || !atd_msgpack_is_map(kept) ||
        (atd_metadata_find(atd_buf_bytes(map), key, &written) && atd_msgpack_is_map(written)))
        return 0;
    write_with(atd_buf_bytes(map), key, kept, &with);
    rc = atd_buf_finish(&with, "metadata", err);
    if (rc < 0)
        return rc;
    atd_buf_clear(map);
    atd_buf_append_str(map, atd_buf_str(&with));
    return atd_buf_finish(map, "metadata", err);
}

int atd_metadata_replace_user(struct atd_bytes metadata, struct atd_bytes user, struct atd_buf *out,
                              struct atd_error *err)
{
    atd_auto_buf struct atd_buf result = ATD_BUF_INIT(SCRATCH_BYTES_MAX);
    struct atd_bytes old;
    bool is_map;
    int rc = begin(metadata, &old, &is_map, err);

    if (rc == 0)
        rc = atd_metadata_check(user, NULL, err);
    if (rc == 0 && !atd_msgpack_is_map(user))
        rc = atd_error_set(err, EINVAL, "metadata must be a map of names and values");
    if (rc < 0)
        return rc;
    atd_buf_append(&result, user.ptr, user.len);
    rc = atd_buf_finish(&result, "metadata", err);
    if (rc == 0 && is_map)
        rc = keep(old, ATD_METADATA_CHECKSUMS, &result, err);
    if (rc == 0 && is_map)
        rc = keep(old, ATD_METADATA_OURS, &result, err);
    if (rc < 0)
        return rc;
    return is_empty_map(atd_buf_bytes(&result)) ? 0 : end(&result, out, err);
}

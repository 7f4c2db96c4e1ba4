/*
 * What metadata records of shards, read; and the place of a new one among them.
 */
#include "atdata/entry.h"
#include "base/check.h"
#include "codec/metadata_edit.h"
#include "codec/metadata_keys.h"
#include "codec/msgpack_read.h"

/* One value of a record; what makes no sense stays unknown. */
static void read_fact(struct atd_str key, const struct atd_mp_token *value,
                      struct atd_shard_record *record)
{
    bool is_uint = value->type == ATD_MP_UINT;

    if (atd_str_equal(key, ATD_SHARD_SIZE)) {
        record->size_bytes = is_uint ? value->u : UINT64_MAX;
    } else if (atd_str_equal(key, ATD_SHARD_ETAG)) {
        record->etag = value->type == ATD_MP_STR ? atd_bytes_str(value->body) : ATD_STR("");
    } else if (atd_str_equal(key, ATD_SHARD_SAMPLES)) {
        record->samples = is_uint && value->u <= INT64_MAX ? (int64_t)value->u : -1;
    } else if (atd_str_equal(key, ATD_SHARD_INDEX)) {
        record->index_bytes = is_uint ? value->u : 0;
    } else if (atd_str_equal(key, ATD_SHARD_MTIME)) {
        record->mtime_ns = INT64_MIN;
        if (value->type == ATD_MP_INT)
            record->mtime_ns = value->i;
        else if (is_uint && value->u <= INT64_MAX)
            record->mtime_ns = (int64_t)value->u;
    }
}

/* The reader stands behind a record's map of `count` pairs afterwards. */
static void read_record(struct atd_mp_reader *reader, uint32_t count,
                        struct atd_shard_record *record)
{
    for (uint32_t i = 0; i < count; i++) {
        struct atd_mp_token key = {0};
        struct atd_mp_token value = {0};
        struct atd_mp_reader peek;
        int rc = atd_mp_next(reader, &key, NULL);

        atd_assert(rc == 0);
        peek = *reader;
        rc = atd_mp_next(&peek, &value, NULL);
        atd_assert(rc == 0);
        atd_mp_skip(reader);
        if (key.type == ATD_MP_STR)
            read_fact(atd_bytes_str(key.body), &value, record);
    }
}

void atd_metadata_each_shard(struct atd_bytes metadata, atd_shard_record_fn fn, void *ctx)
{
    struct atd_mp_reader reader;
    struct atd_mp_token map = {0};
    struct atd_bytes ours;
    struct atd_bytes records;
    int rc;

    if (!atd_metadata_find(metadata, ATD_METADATA_OURS, &ours) ||
        !atd_metadata_find(ours, ATD_METADATA_SHARDS, &records) || !atd_msgpack_is_map(records))
        return;
    atd_mp_reader_init(&reader, records);
    rc = atd_mp_next(&reader, &map, NULL);
    atd_assert(rc == 0);
    for (uint32_t i = 0; i < map.count; i++) {
        struct atd_shard_record record = {
            .size_bytes = UINT64_MAX, .samples = -1, .mtime_ns = INT64_MIN};
        struct atd_mp_token url = {0};
        struct atd_mp_token value = {0};
        struct atd_mp_reader body;

        rc = atd_mp_next(&reader, &url, NULL);
        atd_assert(rc == 0);
        body = reader;
        rc = atd_mp_next(&body, &value, NULL);
        atd_assert(rc == 0);
        if (value.type == ATD_MP_MAP) {
            read_record(&body, value.count, &record);
            reader = body;
        } else {
            atd_mp_skip(&reader);
        }
        record.url = atd_bytes_str(url.body);
        if (value.type == ATD_MP_MAP && url.type == ATD_MP_STR)
            fn(ctx, &record);
    }
}

size_t atd_urls_place(const struct atd_str *urls, size_t count, struct atd_str url)
{
    size_t low = 0;
    size_t high = count;

    for (size_t i = 1; i < count; i++)
        if (atd_str_compare(urls[i - 1], urls[i]) > 0)
            return count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (atd_str_compare(urls[middle], url) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

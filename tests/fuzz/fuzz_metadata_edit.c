/*
 * A length, so many bytes of a URL, and metadata: any at all. What an edit gives passes the check
 * of readers, holds what was put, and everything that was not edited as it was.
 */
#include <stdint.h>
#include <stdlib.h>

#include "atdata/entry.h"
#include "base/cleanup.h"
#include "codec/metadata_edit.h"
#include "codec/msgpack_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BUF_BYTES (64u << 20)
#define SUM "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void require(bool condition)
{
    if (!condition)
        abort();
}

/* Appends the pairs of a map, but for those of two keys; nothing of what is no map. */
static void put_rest(struct atd_bytes map, struct atd_str a, struct atd_str b, struct atd_buf *out)
{
    struct atd_mp_reader reader;
    struct atd_mp_token token = {0};

    if (!atd_msgpack_is_map(map))
        return;
    atd_mp_reader_init(&reader, map);
    require(atd_mp_next(&reader, &token, NULL) == 0);
    for (uint32_t left = token.count; left > 0; left--) {
        size_t start = reader.at;
        struct atd_str key;

        require(atd_mp_next(&reader, &token, NULL) == 0);
        key = atd_bytes_str(token.body);
        atd_mp_skip(&reader);
        if (token.type != ATD_MP_STR || !(atd_str_equal(key, a) || atd_str_equal(key, b)))
            atd_buf_append(out, map.ptr + start, reader.at - start);
    }
}

/* All that an edit of this URL leaves alone. */
static void put_untouched(struct atd_bytes metadata, struct atd_str url, struct atd_buf *out)
{
    struct atd_bytes sums = {NULL, 0};
    struct atd_bytes ours = {NULL, 0};
    struct atd_bytes shards = {NULL, 0};

    put_rest(metadata, ATD_STR("checksums"), ATD_STR("atdatafs"), out);
    if (atd_metadata_find(metadata, ATD_STR("checksums"), &sums))
        put_rest(sums, url, url, out);
    if (atd_metadata_find(metadata, ATD_STR("atdatafs"), &ours))
        put_rest(ours, ATD_STR("shards"), ATD_STR("shards"), out);
    if (atd_metadata_find(ours, ATD_STR("shards"), &shards))
        put_rest(shards, url, url, out);
    require(out->failed == 0);
}

static void require_untouched(struct atd_bytes a, struct atd_bytes b, struct atd_str url)
{
    atd_auto_buf struct atd_buf before = ATD_BUF_INIT(BUF_BYTES);
    atd_auto_buf struct atd_buf after = ATD_BUF_INIT(BUF_BYTES);

    put_untouched(a, url, &before);
    put_untouched(b, url, &after);
    require(atd_str_equal(atd_buf_str(&before), atd_buf_str(&after)));
}

struct wanted {
    const struct atd_shard_record *record;
    bool found;
};

static void on_record(void *ctx, const struct atd_shard_record *record)
{
    struct wanted *wanted = ctx;

    if (!atd_str_equal(record->url, wanted->record->url))
        return;
    require(!wanted->found && record->size_bytes == wanted->record->size_bytes &&
            record->samples == wanted->record->samples &&
            record->mtime_ns == wanted->record->mtime_ns &&
            record->index_bytes == wanted->record->index_bytes &&
            atd_str_equal(record->etag, wanted->record->etag));
    wanted->found = true;
}

static void require_record(struct atd_bytes metadata, const struct atd_shard_record *record,
                           bool there)
{
    struct wanted wanted = {record, false};

    atd_metadata_each_shard(metadata, on_record, &wanted);
    require(wanted.found == there);
}

static void put_and_drop(struct atd_bytes metadata, const struct atd_shard_record *record)
{
    atd_auto_buf struct atd_buf put = ATD_BUF_INIT(BUF_BYTES);
    atd_auto_buf struct atd_buf twice = ATD_BUF_INIT(BUF_BYTES);
    atd_auto_buf struct atd_buf dropped = ATD_BUF_INIT(BUF_BYTES);
    struct atd_error err = ATD_ERROR_INIT;
    int rc = atd_metadata_put_shard(metadata, record, &put, &err);

    require(rc == -err.code && (rc == 0 || put.len == 0));
    if (rc < 0)
        return;
    require(atd_metadata_check(atd_buf_bytes(&put), NULL, NULL) == 0);
    require_record(atd_buf_bytes(&put), record, true);
    require_untouched(metadata, atd_buf_bytes(&put), record->url);
    require(atd_metadata_put_shard(atd_buf_bytes(&put), record, &twice, NULL) == 0);
    require(atd_str_equal(atd_buf_str(&put), atd_buf_str(&twice)));
    require(atd_metadata_drop_shard(atd_buf_bytes(&put), record->url, &dropped, NULL) == 0);
    require_untouched(metadata, atd_buf_bytes(&dropped), record->url);
    if (dropped.len)
        require(atd_metadata_check(atd_buf_bytes(&dropped), NULL, NULL) == 0);
    require_record(atd_buf_bytes(&dropped), record, false);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(BUF_BYTES);
    struct atd_error err = ATD_ERROR_INIT;
    size_t url_len = size ? data[0] : 0;
    struct atd_shard_record record = {.url = {(const char *)data + 1, url_len},
                                      .sha256 = SUM,
                                      .size_bytes = 10240,
                                      .etag = ATD_STR("e"),
                                      .samples = -1,
                                      .mtime_ns = INT64_MAX,
                                      .index_bytes = 77};
    struct atd_bytes metadata;
    bool is_good;

    if (size < 1 + url_len)
        return 0;
    metadata = (struct atd_bytes){data + 1 + url_len, size - 1 - url_len};
    is_good = atd_metadata_check(metadata, NULL, NULL) == 0;
    put_and_drop(metadata, &record);
    if (atd_metadata_put_mtime(metadata, record.url, -1, &out, &err) == 0) {
        require(is_good && atd_metadata_check(atd_buf_bytes(&out), NULL, NULL) == 0);
        require_untouched(metadata, atd_buf_bytes(&out), record.url);
    }
    atd_buf_clear(&out);
    require((atd_metadata_drop_shard(metadata, record.url, &out, NULL) == 0) == is_good);
    if (out.len)
        require(atd_metadata_check(atd_buf_bytes(&out), NULL, NULL) == 0);
    if (is_good)
        require_untouched(metadata, atd_buf_bytes(&out), record.url);
    atd_buf_clear(&out);
    if (atd_metadata_replace_user(metadata, metadata, &out, NULL) == 0 && out.len)
        require(atd_metadata_check(atd_buf_bytes(&out), NULL, NULL) == 0);
    return 0;
}

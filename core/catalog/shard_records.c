/*
 * What an entry's metadata says of its shards: checksums, as the library writes them, and the
 * records of those that were published through atdatafs.
 */
#include <stdlib.h>

#include "atdata/entry.h"
#include "catalog/shard_list.h"
#include "codec/metadata_edit.h"
#include "codec/msgpack_read.h"

/* The list by URL, in which the same one may stand several times. */
struct by_url {
    struct atd_shard_list *list;
    struct atd_shard_recorded *recorded;
    uint32_t *places;
    bool failed; /* out of memory */
};

static int compare_url(const void *a, const void *b, void *ctx)
{
    const struct atd_shard *shards = ctx;

    return atd_str_compare(shards[*(const uint32_t *)a].url, shards[*(const uint32_t *)b].url);
}

static bool is_sha256_hex(struct atd_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (!((text.ptr[i] >= '0' && text.ptr[i] <= '9') ||
              (text.ptr[i] >= 'a' && text.ptr[i] <= 'f')))
            return false;
    }
    return text.len == 64;
}

/* The first place in the order whose URL is not before `url`. */
static size_t first_place(const struct by_url *by_url, struct atd_str url)
{
    size_t low = 0;
    size_t high = by_url->list->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (atd_str_compare(by_url->list->shards[by_url->places[middle]].url, url) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The shard at a place of the order, while it has that URL; else NULL. */
static struct atd_shard *shard_at(const struct by_url *by_url, size_t place, struct atd_str url)
{
    struct atd_shard *shard;

    if (place >= by_url->list->count)
        return NULL;
    shard = &by_url->list->shards[by_url->places[place]];
    return atd_str_equal(shard->url, url) ? shard : NULL;
}

/*
 * metadata["checksums"] maps the URL exactly as in data_urls to the shard's SHA-256
 * (ATDATA-FORMATS 6.6). Anything else in its place is ignored.
 */
static void read_checksums(struct by_url *by_url, struct atd_bytes metadata)
{
    struct atd_mp_reader reader;
    struct atd_mp_token token;
    struct atd_bytes map;

    if (!atd_metadata_find(metadata, ATD_STR("checksums"), &map) || !atd_msgpack_is_map(map))
        return;
    atd_mp_reader_init(&reader, map);
    if (atd_mp_next(&reader, &token, NULL) != 0)
        return;
    for (uint32_t pairs = token.count; pairs > 0; pairs--) {
        struct atd_mp_token key;
        struct atd_mp_token value = {0};
        struct atd_shard *shard;
        size_t value_at;

        if (atd_mp_next(&reader, &key, NULL) != 0)
            break;
        value_at = reader.at;
        if (atd_mp_next(&reader, &value, NULL) != 0)
            break;
        reader.at = value_at;
        atd_mp_skip(&reader);
        if (key.type != ATD_MP_STR || value.type != ATD_MP_STR ||
            !is_sha256_hex(atd_bytes_str(value.body)))
            continue;
        for (size_t at = first_place(by_url, atd_bytes_str(key.body));
             (shard = shard_at(by_url, at, atd_bytes_str(key.body))); at++) {
            shard->sha256 = atd_arena_str(&by_url->list->arena, atd_bytes_str(value.body));
            by_url->failed = by_url->failed || !shard->sha256.ptr;
        }
    }
}

static void on_record(void *ctx, const struct atd_shard_record *record)
{
    struct by_url *by_url = ctx;
    struct atd_shard *shard;

    for (size_t at = first_place(by_url, record->url); (shard = shard_at(by_url, at, record->url));
         at++) {
        /* Views into the entry's metadata, which outlive the examination. */
        by_url->recorded[by_url->places[at]] = (struct atd_shard_recorded){
            .size_bytes = record->size_bytes, .etag = record->etag, .mtime_ns = record->mtime_ns};
        shard->samples = record->samples;
        shard->index_bytes = record->index_bytes;
    }
}

bool atd_shard_list_read_metadata(struct atd_shard_list *list, struct atd_bytes metadata,
                                  struct atd_shard_recorded *recorded)
{
    struct by_url by_url = {.list = list, .recorded = recorded};

    for (size_t i = 0; i < list->count; i++) {
        recorded[i] = (struct atd_shard_recorded){.mtime_ns = INT64_MIN};
        list->shards[i].samples = -1;
    }
    if (!metadata.ptr || list->count == 0)
        return true;
    by_url.places = reallocarray(NULL, list->count, sizeof(*by_url.places));
    if (!by_url.places)
        return false;
    for (size_t i = 0; i < list->count; i++)
        by_url.places[i] = (uint32_t)i;
    qsort_r(by_url.places, list->count, sizeof(*by_url.places), compare_url, list->shards);
    read_checksums(&by_url, metadata);
    atd_metadata_each_shard(metadata, on_record, &by_url);
    free(by_url.places);
    return !by_url.failed;
}

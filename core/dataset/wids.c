#include "dataset/wids.h"

#include <stdlib.h>

#include "codec/json_write.h"

static int compare_urls(const void *a, const void *b)
{
    const struct atd_wids_shard *left = a;
    const struct atd_wids_shard *right = b;

    return atd_str_compare(left->url, right->url);
}

static void put_shard(struct atd_json_writer *json, const struct atd_wids_shard *shard)
{
    atd_json_object_begin(json);
    atd_json_key(json, "url");
    atd_json_str(json, shard->url);
    atd_json_key(json, "nsamples");
    atd_json_uint(json, shard->samples);
    atd_json_key(json, "filesize");
    atd_json_uint(json, shard->size_bytes);
    atd_json_object_end(json);
}

void atd_wids_write(struct atd_str name, struct atd_wids_shard *shards, size_t count,
                    struct atd_buf *out)
{
    struct atd_json_writer json;

    if (count)
        qsort(shards, count, sizeof(*shards), compare_urls);
    atd_json_init(&json, out, ATD_JSON_PRETTY);
    atd_json_object_begin(&json);
    atd_json_key(&json, "__kind__");
    atd_json_text(&json, "wids-shard-index-v1");
    atd_json_key(&json, "wids_version");
    atd_json_int(&json, 1);
    atd_json_key(&json, "shardlist");
    atd_json_array_begin(&json);
    for (size_t i = 0; i < count; i++)
        put_shard(&json, &shards[i]);
    atd_json_array_end(&json);
    atd_json_key(&json, "name");
    atd_json_str(&json, name);
    atd_json_object_end(&json);
    atd_buf_append_byte(out, '\n');
}

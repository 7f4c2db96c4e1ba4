#include "render.h"

#include <errno.h>
#include <stdio.h>

#include "atdata/cid.h"
#include "atdata/entry.h"
#include "atdata/schema.h"
#include "atdata/schema_ref.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "codec/json_write.h"

/* What the library and this driver keep in metadata beside the user's (DESIGN 4). */
static const char *const not_the_users[] = {"checksums", "atdatafs", NULL};

static void append_ref(const struct atd_catalog_schema *schema, struct atd_buf *ref)
{
    atd_schema_ref_format(ATD_REF_NEW, schema->bare, schema->version, ref);
}

int render_schema_json(const struct atd_catalog_schema *schema, struct atd_buf *out,
                       struct atd_error *err)
{
    atd_auto_buf struct atd_buf ref = ATD_BUF_INIT(4 * (size_t)ATD_NAME_BYTES_MAX);

    append_ref(schema, &ref);
    return atd_schema_pretty(schema->json, atd_buf_str(&ref), out, err);
}

int render_schema_py(const struct atd_catalog_schema *schema, struct atd_buf *out,
                     struct atd_error *err)
{
    atd_auto_buf struct atd_buf ref = ATD_BUF_INIT(4 * (size_t)ATD_NAME_BYTES_MAX);
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(8 * (size_t)ATD_SCHEMA_BYTES_MAX);
    const struct atd_schema *decoded;
    int rc = atd_schema_decode(schema->json, &arena, &decoded, err);

    if (rc)
        return rc;
    append_ref(schema, &ref);
    atd_schema_python(decoded, atd_buf_str(&ref), out);
    return atd_buf_finish(out, "schema.py", err);
}

int render_metadata(const struct atd_catalog_entry *entry, struct atd_buf *out,
                    struct atd_error *err)
{
    if (atd_entry_metadata(entry).ptr)
        atd_metadata_to_json(atd_entry_metadata(entry), not_the_users, 0, out);
    else
        atd_buf_append_text(out, "{}");
    atd_buf_append_byte(out, '\n');
    return atd_buf_finish(out, "metadata.json", err);
}

static void put_time(struct atd_json_writer *json, const char *key, int64_t seconds)
{
    char text[ATD_CLOCK_TEXT_MAX];

    if (!seconds)
        return;
    atd_clock_format(seconds, text);
    atd_json_key(json, key);
    atd_json_text(json, text);
}

void render_shard(const struct atd_shard *shard, struct atd_json_writer *json)
{
    atd_json_object_begin(json);
    atd_json_key(json, "file");
    if (shard->error_code)
        atd_json_null(json);
    else
        atd_json_str(json, shard->file_name);
    atd_json_key(json, "url");
    atd_json_str(json, shard->url);
    if (!shard->error_code) {
        char etag[96];

        atd_json_key(json, "size");
        atd_json_uint(json, shard->size_bytes);
        /* What tells two states of a local file apart; an object store has a real one. */
        (void)snprintf(
            etag, sizeof(etag), "%llx-%llx-%llx.%09lld", (unsigned long long)shard->identity.inode,
            (unsigned long long)shard->identity.size_bytes,
            (unsigned long long)shard->identity.mtime_s, (long long)shard->identity.mtime_ns);
        atd_json_key(json, "etag");
        if (shard->store)
            atd_json_str(json, shard->etag);
        else
            atd_json_text(json, etag);
        put_time(json, "mtime", shard->mtime_s);
    }
    if (shard->sha256.ptr) {
        atd_json_key(json, "sha256");
        atd_json_str(json, shard->sha256);
    }
    if (shard->error_code) {
        atd_json_key(json, "error");
        atd_json_str(json, shard->reason);
    }
    atd_json_object_end(json);
}

static void put_labels(struct atd_json_writer *json, struct atd_catalog *catalog,
                       const struct atd_catalog_entry *entry)
{
    atd_json_key(json, "labels");
    atd_json_array_begin(json);
    for (size_t i = 0; i < entry->label_count; i++) {
        const struct atd_catalog_label *label = atd_catalog_label_of(catalog, entry, i);

        atd_json_object_begin(json);
        atd_json_key(json, "name");
        atd_json_str(json, atd_label_name(label));
        atd_json_key(json, "version");
        if (label->version_len)
            atd_json_str(json, atd_label_version(label));
        else
            atd_json_null(json);
        if (label->description_len != ATD_NONE) {
            atd_json_key(json, "description");
            atd_json_str(json, atd_label_description(label));
        }
        if (label->created_at_len != ATD_NONE) {
            atd_json_key(json, "created_at");
            atd_json_str(json, atd_label_created_at(label));
        }
        atd_json_object_end(json);
    }
    atd_json_array_end(json);
}

/* The URLs as stored, and the CID that they and the reference really have. */
static int put_urls(struct atd_json_writer *json, const struct atd_catalog_entry *entry,
                    struct atd_error *err)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT((size_t)1 << 30);
    struct atd_str *urls;
    struct atd_cid cid;
    size_t count;
    int rc = atd_urls_decode(atd_entry_data_urls(entry), &arena, &urls, &count, err);

    if (rc)
        return rc;
    /* Readers never verify the CID (ATDATA-FORMATS 1.2): say when it is not the content's. */
    if (atd_cid_compute(atd_entry_schema_ref(entry), urls, count, &cid, NULL) != 0 ||
        !atd_str_equal(atd_str_from(cid.text), atd_entry_cid(entry))) {
        atd_json_key(json, "content_cid");
        if (atd_cid_compute(atd_entry_schema_ref(entry), urls, count, &cid, NULL) == 0)
            atd_json_text(json, cid.text);
        else
            atd_json_null(json);
    }
    atd_json_key(json, "data_urls");
    atd_json_array_begin(json);
    for (size_t i = 0; i < count; i++)
        atd_json_str(json, urls[i]);
    atd_json_array_end(json);
    return 0;
}

int render_entry(struct atd_catalog *catalog, const struct atd_dataset *dataset,
                 const struct atd_catalog_entry *entry, const struct atd_shard_list *shards,
                 struct atd_buf *out, struct atd_error *err)
{
    struct atd_json_writer json;
    int rc;

    atd_json_init(&json, out, ATD_JSON_PRETTY);
    atd_json_object_begin(&json);
    atd_json_key(&json, "name");
    atd_json_str(&json, atd_entry_name(entry));
    atd_json_key(&json, "cid");
    atd_json_str(&json, atd_entry_cid(entry));
    atd_json_key(&json, "schema_ref");
    atd_json_str(&json, atd_entry_schema_ref(entry));
    put_time(&json, "created_at", entry->created_at_s);
    rc = put_urls(&json, entry, err);
    if (rc)
        return rc;
    put_labels(&json, catalog, entry);
    if (dataset && dataset->other_count) {
        atd_json_key(&json, "ambiguous");
        atd_json_array_begin(&json);
        for (size_t i = 0; i < dataset->other_count; i++)
            atd_json_str(&json, atd_entry_cid(atd_catalog_other_of(catalog, dataset, i)));
        atd_json_array_end(&json);
    }
    if (atd_shard_list_error(shards)) {
        atd_json_key(&json, "error");
        atd_json_text(&json, atd_shard_list_error(shards));
    }
    atd_json_key(&json, "shards");
    atd_json_array_begin(&json);
    for (size_t i = 0; i < atd_shard_list_count(shards); i++)
        render_shard(atd_shard_list_at(shards, i), &json);
    atd_json_array_end(&json);
    atd_json_object_end(&json);
    atd_buf_append_byte(out, '\n');
    return atd_buf_finish(out, "entry.json", err);
}

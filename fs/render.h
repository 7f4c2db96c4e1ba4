/*
 * The text files of a dataset's directory.
 */
#ifndef ATD_FS_RENDER_H
#define ATD_FS_RENDER_H

#include "atdata/buf.h"
#include "catalog/shards.h"
#include "codec/json_write.h"
#include "fs.h"

/* schema.json: the record as registered, with "$ref" as get_schema() adds it. */
int render_schema_json(const struct atd_catalog_schema *schema, struct atd_buf *out,
                       struct atd_error *err);
/* schema.py */
int render_schema_py(const struct atd_catalog_schema *schema, struct atd_buf *out,
                     struct atd_error *err);
/* metadata.json: the user's part, without checksums and our own map; "{}" when there is none. */
int render_metadata(const struct atd_catalog_entry *entry, struct atd_buf *out,
                    struct atd_error *err);
/* One of its shards, an object of entry.json. */
void render_shard(const struct atd_shard *shard, struct atd_json_writer *json);
/* entry.json. `dataset` is NULL in by-cid/; `shards` must have been made. */
int render_entry(struct atd_catalog *catalog, const struct atd_dataset *dataset,
                 const struct atd_catalog_entry *entry, const struct atd_shard_list *shards,
                 struct atd_buf *out, struct atd_error *err);

#endif

#include "control.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "catalog/shards.h"
#include "codec/json_write.h"
#include "publishing.h"
#include "samples.h"

/* Shards that cannot be read and are told of one by one; the rest is counted. */
#define SHARD_PROBLEMS_MAX 1000

const char *const control_names[CONTROL_FILES] = {"status.json", "metrics", "events.jsonl",
                                                  "config.json"};

static void put_bool(struct atd_json_writer *json, const char *key, bool value)
{
    atd_json_key(json, key);
    atd_json_bool(json, value);
}

static void put_time(struct atd_json_writer *json, const char *key, int64_t seconds)
{
    char text[ATD_CLOCK_TEXT_MAX];

    atd_clock_format(seconds, text);
    atd_json_put_text(json, key, text);
}

static void put_problem(struct atd_json_writer *json, const char *what, struct atd_str key,
                        struct atd_str reason)
{
    atd_json_object_begin(json);
    atd_json_put_text(json, "what", what);
    atd_json_key(json, "key");
    atd_json_str(json, key);
    atd_json_key(json, "reason");
    atd_json_str(json, reason);
    atd_json_object_end(json);
}

/* Shards that are known to be unreadable: those that were looked at (the sweep looks at all). */
static uint64_t put_shard_problems(struct atd_json_writer *json, struct atd_catalog *catalog)
{
    uint64_t count = 0;

    for (size_t i = 0; i < atd_catalog_entry_count(catalog); i++) {
        const struct atd_catalog_entry *entry = atd_catalog_entry_at(catalog, i);
        struct atd_shard_list *list = atd_catalog_shards_peek(catalog, entry);

        if (!list)
            continue;
        if (atd_shard_list_error(list) && count++ < SHARD_PROBLEMS_MAX)
            put_problem(json, "entry", atd_entry_cid(entry),
                        atd_str_from(atd_shard_list_error(list)));
        for (size_t j = 0; j < atd_shard_list_count(list); j++) {
            const struct atd_shard *shard = atd_shard_list_at(list, j);

            if (shard->error_code && count++ < SHARD_PROBLEMS_MAX)
                put_problem(json, "shard", shard->url, shard->reason);
        }
        atd_shard_list_unref(list);
    }
    return count;
}

/* Of the index, on the disk: whether it is what is shown, and when it was saved. */
static void put_snapshot(const struct atd_live_status *live, struct atd_json_writer *json)
{
    if (!live->snapshot_path)
        return;
    atd_json_key(json, "snapshot");
    atd_json_object_begin(json);
    atd_json_put_text(json, "path", live->snapshot_path);
    put_bool(json, "shown", live->from_snapshot);
    if (live->from_snapshot)
        put_time(json, "time", live->snapshot_s);
    if (live->snapshot_saved_s)
        put_time(json, "saved_at", live->snapshot_saved_s);
    if (live->snapshot_error[0])
        atd_json_put_text(json, "error", live->snapshot_error);
    atd_json_object_end(json);
}

static void put_index(struct fs *fs, struct atd_catalog *catalog, struct atd_json_writer *json)
{
    struct atd_live_status live;

    atd_live_status(fs->live, &live);
    atd_json_key(json, "index");
    atd_json_object_begin(json);
    atd_json_put_text(json, "provider", fs->index->ops->provider);
    atd_json_put_text(json, "location", fs->index->location);
    atd_json_put_text(json, "state", live.stale ? "stale" : "live");
    put_bool(json, "stale", live.stale);
    if (live.stale)
        atd_json_put_text(json, "error", live.error);
    put_snapshot(&live, json);
    atd_json_put_uint(json, "generation", atd_catalog_generation(catalog));
    put_time(json, "loaded_at", atd_catalog_loaded_at_s(catalog));
    atd_json_put_text(json, "coherence", live.coherence);
    atd_json_put_uint(json, "loads", live.loads);
    atd_json_put_uint(json, "updates", live.updates);
    atd_json_put_uint(json, "load_failures", live.load_failures);
    atd_json_put_uint(json, "datasets", atd_catalog_dataset_count(catalog));
    atd_json_put_uint(json, "entries", atd_catalog_entry_count(catalog));
    atd_json_put_uint(json, "schemas", atd_catalog_schema_count(catalog));
    atd_json_put_uint(json, "labels", atd_catalog_label_count(catalog));
    atd_json_object_end(json);
}

static void write_status(struct fs *fs, struct atd_catalog *catalog, struct atd_buf *out)
{
    struct atd_json_writer json;
    uint64_t shard_problems;

    atd_json_init(&json, out, ATD_JSON_PRETTY);
    atd_json_object_begin(&json);
    atd_json_put_text(&json, "version", ATD_VERSION);
    atd_json_put_uint(&json, "pid", (uint64_t)getpid());
    put_time(&json, "mounted_at", fs->started_at_s);
    atd_json_put_text(&json, "mountpoint", fs->options->mountpoint);
    put_bool(&json, "passthrough", passthrough_is_on(fs->passthrough));
    put_index(fs, catalog, &json);
    remote_write_status(fs->remote, &json);
    samples_write_status(fs->samples, &json);
    publishing_write_status(fs, &json);
    atd_json_put_uint(&json, "nodes", nodes_count(fs->nodes));
    atd_json_key(&json, "problems");
    atd_json_array_begin(&json);
    for (size_t i = 0; i < atd_catalog_problem_kept(catalog); i++) {
        const struct atd_problem *problem = atd_catalog_problem_at(catalog, i);

        put_problem(&json, problem->what, problem->key, problem->reason);
    }
    shard_problems = put_shard_problems(&json, catalog);
    atd_json_array_end(&json);
    /* All of them, also those beyond what is listed. */
    atd_json_put_uint(&json, "problem_count", atd_catalog_problem_count(catalog) + shard_problems);
    atd_json_object_end(&json);
    atd_buf_append_byte(out, '\n');
}

static void put_named(struct atd_json_writer *json, const char *key, const char *text)
{
    if (text)
        atd_json_put_text(json, key, text);
}

/* No secrets: neither the Redis password nor what the env file holds. */
static void put_remote_config(struct atd_json_writer *json, const struct options *options)
{
    put_named(json, "bucket", options->bucket);
    put_named(json, "prefix", options->prefix);
    put_named(json, "endpoint", options->endpoint);
    put_named(json, "region", options->region);
    put_named(json, "env_file", options->env_file);
    put_named(json, "profile", options->profile);
    put_named(json, "ca_file", options->ca_file);
    put_named(json, "password_file", options->password_file);
    put_bool(json, "unsigned", options->unsigned_requests);
    put_named(json, "cache_dir", options->cache_dir);
    atd_json_put_uint(json, "cache_size", options->cache_size_bytes);
    atd_json_put_uint(json, "cache_floor", options->cache_floor_bytes);
    atd_json_put_uint(json, "memory", options->memory_bytes);
    atd_json_put_uint(json, "timeout_s", options->timeout_s);
}

static void put_publish_config(struct atd_json_writer *json, const struct options *options)
{
    put_bool(json, "read_only", options->read_only);
    put_bool(json, "allow_delete", options->allow_delete);
    atd_json_put_text(json, "compat", options->universal ? "universal" : "modern");
    put_named(json, "state_dir", options->state_dir);
    atd_json_put_uint(json, "spool_limit", options->spool_limit_bytes);
    atd_json_put_uint(json, "spool_floor", options->spool_floor_bytes);
    atd_json_put_uint(json, "scratch_limit", options->scratch_limit_bytes);
}

static void write_config(struct fs *fs, struct atd_buf *out)
{
    const struct options *options = fs->options;
    struct atd_json_writer json;
    char umask_text[8];

    atd_json_init(&json, out, ATD_JSON_PRETTY);
    atd_json_object_begin(&json);
    atd_json_key(&json, "index");
    atd_json_text(&json, atd_index_url_shown(&options->index));
    atd_json_key(&json, "data_roots");
    atd_json_array_begin(&json);
    for (size_t i = 0; i < options->data_root_count; i++)
        atd_json_text(&json, options->data_roots[i]);
    atd_json_array_end(&json);
    put_bool(&json, "allow_other", options->allow_other);
    put_bool(&json, "default_permissions", options->default_permissions);
    put_bool(&json, "foreground", options->foreground);
    atd_json_put_uint(&json, "uid", options->uid);
    atd_json_put_uint(&json, "gid", options->gid);
    (void)snprintf(umask_text, sizeof(umask_text), "%03o", (unsigned)options->umask);
    atd_json_put_text(&json, "umask", umask_text);
    atd_json_put_text(&json, "consistency", options->barrier ? "barrier" : "eventual");
    atd_json_put_uint(&json, "poll_ms", ATD_INDEX_POLL_MS);
    put_remote_config(&json, options);
    put_publish_config(&json, options);
    atd_json_object_end(&json);
    atd_buf_append_byte(out, '\n');
}

static void write_metrics(struct fs *fs, struct atd_catalog *catalog, struct atd_buf *out)
{
    struct atd_live_status live;

    metrics_write(&fs->metrics, out);
    remote_write_metrics(fs->remote, out);
    samples_write_metrics(fs->samples, out);
    publishing_write_metrics(fs, out);
    atd_live_status(fs->live, &live);
    atd_buf_printf(out,
                   "# HELP atdatafs_index_loads_total times the index was read\n"
                   "# TYPE atdatafs_index_loads_total counter\n"
                   "atdatafs_index_loads_total %" PRIu64 "\n"
                   "# HELP atdatafs_index_load_failures_total reads of the index that failed\n"
                   "# TYPE atdatafs_index_load_failures_total counter\n"
                   "atdatafs_index_load_failures_total %" PRIu64 "\n"
                   "# HELP atdatafs_index_stale 1 when the index cannot be read now\n"
                   "# TYPE atdatafs_index_stale gauge\n"
                   "atdatafs_index_stale %d\n"
                   "# HELP atdatafs_index_from_snapshot 1 while a snapshot is what is shown\n"
                   "# TYPE atdatafs_index_from_snapshot gauge\n"
                   "atdatafs_index_from_snapshot %d\n"
                   "# HELP atdatafs_datasets datasets shown\n"
                   "# TYPE atdatafs_datasets gauge\n"
                   "atdatafs_datasets %zu\n"
                   "# HELP atdatafs_shards_unreadable shards that cannot be read\n"
                   "# TYPE atdatafs_shards_unreadable gauge\n"
                   "atdatafs_shards_unreadable %" PRIu64 "\n"
                   "# HELP atdatafs_nodes inodes the kernel remembers\n"
                   "# TYPE atdatafs_nodes gauge\n"
                   "atdatafs_nodes %zu\n",
                   live.loads, live.load_failures, live.stale, live.from_snapshot,
                   atd_catalog_dataset_count(catalog), live.shards_unreadable,
                   nodes_count(fs->nodes));
}

int control_render(struct fs *fs, struct atd_catalog *catalog, struct atd_str name,
                   struct atd_buf *out, struct atd_error *err)
{
    if (atd_str_equal(name, ATD_STR("status.json")))
        write_status(fs, catalog, out);
    else if (atd_str_equal(name, ATD_STR("metrics")))
        write_metrics(fs, catalog, out);
    else if (atd_str_equal(name, ATD_STR("events.jsonl")))
        events_write(fs->events, out);
    else if (atd_str_equal(name, ATD_STR("config.json")))
        write_config(fs, out);
    else
        return atd_error_set(err, ENOENT, "there is no such control file");
    return atd_buf_finish(out, "a control file", err);
}

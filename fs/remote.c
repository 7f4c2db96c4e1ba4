#include "remote.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "store/object_table.h"

struct remote {
    const struct options *options;
    struct atd_cache_stats stats;
    struct atd_sites sites;
    struct atd_object_table *table;
    struct atd_cache_dir *dir; /* NULL: memory only */
    struct atd_reader *reader;
    struct atd_error cache_why; /* why there is no cache directory */
};

/* Opens the cache directory and the object table in it. */
static int start_cache(struct remote *remote, struct atd_error *err)
{
    const struct options *options = remote->options;
    const struct atd_cache_dir_options dir = {
        .path = options->cache_dir,
        .size_max_bytes = options->cache_size_bytes,
        .free_floor_bytes = options->cache_floor_bytes,
        .stats = &remote->stats,
        .make_late = !options->cache_named,
    };
    atd_auto_free char *table = NULL;
    int rc = 0;

    if (options->cache_dir)
        rc = atd_cache_dir_open(&dir, &remote->dir, &remote->cache_why);
    if (rc && options->cache_named) {
        *err = remote->cache_why;
        return rc;
    }
    if (rc)
        atd_log(ATD_LOG_WARNING, "no cache directory, shards are read through memory: %s",
                remote->cache_why.text);
    if (remote->dir && asprintf(&table, "%s/objects", options->cache_dir) < 0)
        return atd_error_set(err, ENOMEM, "out of memory");
    return atd_object_table_open(table, &remote->table, &remote->cache_why, err);
}

static int start_reader(struct remote *remote,
                        void (*local_changed)(void *ctx, struct atd_str url,
                                              const struct atd_object_info *info),
                        void *ctx, struct atd_error *err)
{
    const struct atd_reader_options reader = {
        .dir = remote->dir,
        .memory_bytes = remote->options->memory_bytes,
        .timeout_ms = remote->options->timeout_s * 1000,
        .stats = &remote->stats,
        .scope = remote->sites.endpoint,
        .local_changed = local_changed,
        .ctx = ctx,
    };

    return atd_reader_new(&reader, &remote->reader, err);
}

struct atd_sites_options remote_sites_options(const struct options *options)
{
    return (struct atd_sites_options){
        .bucket = options->bucket,
        .prefix = options->prefix,
        .endpoint = options->endpoint,
        .region = options->region,
        .env_file = options->env_file,
        .profile = options->profile,
        .ca_file = options->ca_file,
        .style = options->style,
        .unsigned_requests = options->unsigned_requests,
        .user_agent = "atdatafs/" ATD_VERSION,
    };
}

int remote_start(const struct options *options,
                 void (*local_changed)(void *ctx, struct atd_str url,
                                       const struct atd_object_info *info),
                 void *ctx, struct remote **ret_remote, struct atd_error *err)
{
    const struct atd_sites_options sites = remote_sites_options(options);
    struct remote *remote = calloc(1, sizeof(*remote));
    int rc;

    if (!remote)
        return atd_error_set(err, ENOMEM, "out of memory");
    remote->options = options;
    *ret_remote = remote; /* whatever fails, the caller stops and frees it */
    rc = atd_sites_start(&remote->sites, &sites, err);
    if (rc == 0)
        rc = start_cache(remote, err);
    if (rc == 0)
        rc = start_reader(remote, local_changed, ctx, err);
    return rc;
}

bool remote_stop(struct remote *remote)
{
    if (remote && remote->dir)
        atd_cache_dir_interrupt(remote->dir); /* a verification must not hold the reader up */
    /* The reader cancels its reads first; the engine ends what is left. */
    return !remote ||
           ((!remote->reader || atd_reader_stop(remote->reader)) && atd_sites_stop(&remote->sites));
}

bool remote_free(struct remote *remote)
{
    if (!remote)
        return true;
    atd_reader_free(remote->reader);
    if (!atd_cache_dir_close(remote->dir) || !atd_sites_free(&remote->sites))
        return false;
    atd_object_table_close(remote->table);
    free(remote);
    return true;
}

struct atd_reader *remote_reader(struct remote *remote)
{
    return remote->reader;
}

void remote_fill_locator(struct remote *remote, struct atd_locator_options *options)
{
    atd_sites_fill_locator(&remote->sites, remote->table, remote->options->timeout_s, options);
}

const struct atd_sites *remote_sites(const struct remote *remote)
{
    return &remote->sites;
}

struct atd_object_table *remote_table(struct remote *remote)
{
    return remote->table;
}

const char *remote_credentials(struct remote *remote)
{
    return remote->sites.credentials ? atd_credentials_source(remote->sites.credentials)
                                     : "none (unsigned)";
}

const char *remote_cache_path(const struct remote *remote)
{
    return remote && remote->dir ? remote->options->cache_dir : NULL;
}

struct atd_cache_dir *remote_cache_dir(struct remote *remote)
{
    return remote->dir;
}

/* ------------------------------------------------------------------ what is shown */

void remote_write_status(struct remote *remote, struct atd_json_writer *json)
{
    struct atd_net_stats *net = atd_http_stats(remote->sites.engine);
    struct atd_cache_stats *cache = &remote->stats;
    unsigned first_byte_ms;
    uint64_t bytes_per_s;

    atd_store_speed(remote->sites.s3, &first_byte_ms, &bytes_per_s);
    atd_json_key(json, "store");
    atd_json_object_begin(json);
    atd_json_put_text(json, "endpoint", remote->sites.endpoint);
    atd_json_put_text(json, "credentials", remote_credentials(remote));
    atd_json_put_uint(json, "first_byte_ms", first_byte_ms);
    atd_json_put_uint(json, "bytes_per_second", bytes_per_s);
#define X(name, help) atd_json_put_uint(json, #name, atomic_load(&net->name));
    ATD_NET_GAUGES(X)
    ATD_NET_COUNTERS(X)
#undef X
    atd_json_put_uint(json, "objects_known", atd_object_table_count(remote->table));
    atd_json_object_end(json);
    atd_json_key(json, "cache");
    atd_json_object_begin(json);
    if (remote->dir) {
        atd_json_put_text(json, "directory", remote->options->cache_dir);
        atd_json_put_uint(json, "used_bytes", atd_cache_dir_used_bytes(remote->dir));
        atd_json_put_uint(json, "limit_bytes", remote->options->cache_size_bytes);
    }
    if (remote->cache_why.code)
        atd_json_put_text(json, "error", remote->cache_why.text);
#define X(name, help) atd_json_put_uint(json, #name, atomic_load(&cache->name));
    ATD_CACHE_GAUGES(X)
    ATD_CACHE_COUNTERS(X)
#undef X
    atd_json_object_end(json);
}

static void write_one(struct atd_buf *out, const char *layer, const char *name, const char *help,
                      bool is_counter, uint64_t value)
{
    const char *suffix = is_counter ? "_total" : "";

    atd_buf_printf(out,
                   "# HELP atdatafs_%s_%s%s %s\n# TYPE atdatafs_%s_%s%s %s\n"
                   "atdatafs_%s_%s%s %" PRIu64 "\n",
                   layer, name, suffix, help, layer, name, suffix, is_counter ? "counter" : "gauge",
                   layer, name, suffix, value);
}

void remote_write_metrics(struct remote *remote, struct atd_buf *out)
{
    struct atd_net_stats *net = atd_http_stats(remote->sites.engine);
    struct atd_cache_stats *cache = &remote->stats;

#define X(name, help) write_one(out, "net", #name, help, true, atomic_load(&net->name));
    ATD_NET_COUNTERS(X)
#undef X
#define X(name, help) write_one(out, "net", #name, help, false, atomic_load(&net->name));
    ATD_NET_GAUGES(X)
#undef X
#define X(name, help) write_one(out, "cache", #name, help, true, atomic_load(&cache->name));
    ATD_CACHE_COUNTERS(X)
#undef X
#define X(name, help) write_one(out, "cache", #name, help, false, atomic_load(&cache->name));
    ATD_CACHE_GAUGES(X)
#undef X
    if (remote->dir) {
        write_one(out, "cache", "used_bytes", "bytes in the cache directory, as far as known",
                  false, atd_cache_dir_used_bytes(remote->dir));
        write_one(out, "cache", "limit_bytes", "and its limit (option cache_size)", false,
                  remote->options->cache_size_bytes);
    }
    write_one(out, "cache", "objects_known", "remote shards whose size is known", false,
              atd_object_table_count(remote->table));
}

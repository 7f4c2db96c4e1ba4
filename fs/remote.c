#include "remote.h"

#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "net/http.h"
#include "store/object_table.h"
#include "store/stores.h"

#define HTTP_THREADS 2u
#define STOP_MS 5000u
#define LOCATE_TIMEOUT_S 8u

struct remote {
    const struct options *options;
    struct atd_cache_stats stats;
    struct atd_http_engine *engine;
    struct atd_credentials *credentials; /* NULL: requests are not signed */
    struct atd_store *s3;
    struct atd_store *http;
    struct atd_object_table *table;
    struct atd_cache_dir *dir; /* NULL: memory only */
    struct atd_reader *reader;
    char *endpoint; /* for people and for the table; "aws" */
    char *wide_prefix;
    struct atd_error cache_why; /* why there is no cache directory */
};

static int start_s3(struct remote *remote, struct atd_error *err)
{
    const struct options *options = remote->options;
    struct atd_s3_options s3 = {
        .endpoint = options->endpoint, .region = options->region, .style = options->style};
    const struct atd_credentials_options credentials = {
        .env_file = options->env_file, .profile = options->profile, .ca_file = options->ca_file};
    int rc = 0;

    if (!options->unsigned_requests) {
        rc = atd_credentials_new(&credentials, &remote->credentials, err);
        if (rc)
            return rc;
        if (!s3.endpoint)
            s3.endpoint = atd_credentials_endpoint(remote->credentials);
        if (!s3.region)
            s3.region = atd_credentials_region(remote->credentials);
    }
    s3.credentials = remote->credentials;
    remote->endpoint = strdup(s3.endpoint ? s3.endpoint : "aws");
    if (!remote->endpoint ||
        (options->bucket && asprintf(&remote->wide_prefix, "s3://%s/%s%s", options->bucket,
                                     options->prefix, options->prefix[0] ? "/" : "") < 0))
        return atd_error_set(err, ENOMEM, "out of memory");
    return atd_store_s3_new(remote->engine, &s3, &remote->s3, err);
}

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
        .scope = remote->endpoint,
        .local_changed = local_changed,
        .ctx = ctx,
    };

    return atd_reader_new(&reader, &remote->reader, err);
}

int remote_start(const struct options *options,
                 void (*local_changed)(void *ctx, struct atd_str url,
                                       const struct atd_object_info *info),
                 void *ctx, struct remote **ret_remote, struct atd_error *err)
{
    const struct atd_http_options http = {.threads = HTTP_THREADS,
                                          .ca_file = options->ca_file,
                                          .user_agent = "atdatafs/" ATD_VERSION};
    struct remote *remote = calloc(1, sizeof(*remote));
    int rc;

    if (!remote)
        return atd_error_set(err, ENOMEM, "out of memory");
    remote->options = options;
    *ret_remote = remote; /* whatever fails, the caller stops and frees it */
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return atd_error_set(err, EIO, "libcurl does not start");
    rc = atd_http_start(&http, &remote->engine, err);
    if (rc == 0)
        rc = start_s3(remote, err);
    if (rc == 0)
        rc = atd_store_http_new(remote->engine, NULL, &remote->http, err);
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
    return !remote || ((!remote->reader || atd_reader_stop(remote->reader)) &&
                       atd_http_stop(remote->engine, STOP_MS));
}

bool remote_free(struct remote *remote)
{
    if (!remote)
        return true;
    atd_reader_free(remote->reader);
    if (!atd_cache_dir_close(remote->dir) || !atd_credentials_free(remote->credentials, STOP_MS))
        return false;
    atd_object_table_close(remote->table);
    atd_store_free(remote->http);
    atd_store_free(remote->s3);
    free(remote->endpoint);
    free(remote->wide_prefix);
    free(remote);
    curl_global_cleanup();
    return true;
}

struct atd_reader *remote_reader(struct remote *remote)
{
    return remote->reader;
}

void remote_fill_locator(struct remote *remote, struct atd_locator_options *options)
{
    options->s3 = remote->s3;
    options->http = remote->http;
    options->table = remote->table;
    options->s3_scope = remote->endpoint;
    options->wide_prefix = remote->wide_prefix;
    /* Who lists is not kept waiting as long as who reads: it is asked again soon. */
    options->timeout_ms = remote->options->timeout_s < LOCATE_TIMEOUT_S
                              ? remote->options->timeout_s * 1000
                              : LOCATE_TIMEOUT_S * 1000;
}

struct atd_store *remote_s3(struct remote *remote)
{
    return remote->s3;
}

const char *remote_scope(const struct remote *remote)
{
    return remote->endpoint;
}

struct atd_object_table *remote_table(struct remote *remote)
{
    return remote->table;
}

const char *remote_credentials(struct remote *remote)
{
    return remote->credentials ? atd_credentials_source(remote->credentials) : "none (unsigned)";
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

static void put_text(struct atd_json_writer *json, const char *key, const char *text)
{
    atd_json_key(json, key);
    atd_json_text(json, text);
}

static void put_uint(struct atd_json_writer *json, const char *key, uint64_t value)
{
    atd_json_key(json, key);
    atd_json_uint(json, value);
}

void remote_write_status(struct remote *remote, struct atd_json_writer *json)
{
    struct atd_net_stats *net = atd_http_stats(remote->engine);
    struct atd_cache_stats *cache = &remote->stats;
    unsigned first_byte_ms;
    uint64_t bytes_per_s;

    atd_store_speed(remote->s3, &first_byte_ms, &bytes_per_s);
    atd_json_key(json, "store");
    atd_json_object_begin(json);
    put_text(json, "endpoint", remote->endpoint);
    put_text(json, "credentials", remote_credentials(remote));
    put_uint(json, "first_byte_ms", first_byte_ms);
    put_uint(json, "bytes_per_second", bytes_per_s);
#define X(name, help) put_uint(json, #name, atomic_load(&net->name));
    ATD_NET_GAUGES(X)
    ATD_NET_COUNTERS(X)
#undef X
    put_uint(json, "objects_known", atd_object_table_count(remote->table));
    atd_json_object_end(json);
    atd_json_key(json, "cache");
    atd_json_object_begin(json);
    if (remote->dir) {
        put_text(json, "directory", remote->options->cache_dir);
        put_uint(json, "used_bytes", atd_cache_dir_used_bytes(remote->dir));
        put_uint(json, "limit_bytes", remote->options->cache_size_bytes);
    }
    if (remote->cache_why.code)
        put_text(json, "error", remote->cache_why.text);
#define X(name, help) put_uint(json, #name, atomic_load(&cache->name));
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
    struct atd_net_stats *net = atd_http_stats(remote->engine);
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

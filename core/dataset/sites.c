#include "dataset/sites.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"

#define HTTP_THREADS 2u
#define STOP_MS 5000u
/* Who lists is not kept waiting as long as who reads: it is asked again soon. */
#define LOCATE_TIMEOUT_S 8u
/* Of the digest of an index's name. */
#define STATE_NAME_BYTES 8u

static int no_memory(struct atd_error *err)
{
    return atd_error_set(err, ENOMEM, "out of memory");
}

static int start_s3(struct atd_sites *sites, const struct atd_sites_options *options,
                    struct atd_error *err)
{
    struct atd_s3_options s3 = {
        .endpoint = options->endpoint, .region = options->region, .style = options->style};
    const struct atd_credentials_options credentials = {
        .env_file = options->env_file, .profile = options->profile, .ca_file = options->ca_file};
    int rc = 0;

    if (!options->unsigned_requests) {
        rc = atd_credentials_new(&credentials, &sites->credentials, err);
        if (rc)
            return rc;
        if (!s3.endpoint)
            s3.endpoint = atd_credentials_endpoint(sites->credentials);
        if (!s3.region)
            s3.region = atd_credentials_region(sites->credentials);
    }
    s3.credentials = sites->credentials;
    sites->endpoint = strdup(s3.endpoint ? s3.endpoint : "aws");
    if (!sites->endpoint ||
        (options->bucket && asprintf(&sites->wide_prefix, "s3://%s/%s%s", options->bucket,
                                     options->prefix, options->prefix[0] ? "/" : "") < 0))
        return no_memory(err);
    return atd_store_s3_new(sites->engine, &s3, &sites->s3, err);
}

int atd_sites_start(struct atd_sites *sites, const struct atd_sites_options *options,
                    struct atd_error *err)
{
    const struct atd_http_options http = {
        .threads = HTTP_THREADS, .ca_file = options->ca_file, .user_agent = options->user_agent};
    int rc;

    *sites = (struct atd_sites){0};
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return atd_error_set(err, EIO, "libcurl does not start");
    rc = atd_http_start(&http, &sites->engine, err);
    if (rc) {
        curl_global_cleanup();
        return rc;
    }
    rc = start_s3(sites, options, err);
    return rc ? rc : atd_store_http_new(sites->engine, NULL, &sites->http, err);
}

bool atd_sites_stop(struct atd_sites *sites)
{
    return !sites->engine || atd_http_stop(sites->engine, STOP_MS);
}

bool atd_sites_free(struct atd_sites *sites)
{
    if (!atd_credentials_free(sites->credentials, STOP_MS))
        return false;
    atd_store_free(sites->http);
    atd_store_free(sites->s3);
    free(sites->endpoint);
    free(sites->wide_prefix);
    if (sites->engine)
        curl_global_cleanup();
    *sites = (struct atd_sites){0};
    return true;
}

void atd_sites_fill_locator(const struct atd_sites *sites, struct atd_object_table *table,
                            unsigned timeout_s, struct atd_locator_options *options)
{
    options->s3 = sites->s3;
    options->http = sites->http;
    options->table = table;
    options->s3_scope = sites->endpoint;
    options->wide_prefix = sites->wide_prefix;
    options->timeout_ms = 1000 * (timeout_s < LOCATE_TIMEOUT_S ? timeout_s : LOCATE_TIMEOUT_S);
}

int atd_store_name_parse(const char *text, char **ret_bucket, char **ret_prefix,
                         struct atd_error *err)
{
    const char *bucket = text + strlen("s3://");
    size_t bucket_len;
    const char *prefix;
    size_t prefix_len;

    if (strncmp(text, "s3://", strlen("s3://")) != 0 || !*bucket || *bucket == '/')
        return atd_error_set(err, EINVAL, "a store is named s3://BUCKET/PREFIX");
    bucket_len = strcspn(bucket, "/");
    prefix = bucket + bucket_len;
    while (*prefix == '/')
        prefix++;
    prefix_len = strlen(prefix);
    while (prefix_len > 0 && prefix[prefix_len - 1] == '/')
        prefix_len--;
    *ret_bucket = strndup(bucket, bucket_len);
    *ret_prefix = strndup(prefix, prefix_len);
    if (*ret_bucket && *ret_prefix)
        return 0;
    free(*ret_bucket);
    free(*ret_prefix);
    *ret_bucket = *ret_prefix = NULL;
    return no_memory(err);
}

/* ------------------------------------------------------------------ new shards */

int atd_new_place_choose(const struct atd_sites *sites, const struct atd_sites_options *options,
                         const struct atd_index_url *index, const struct atd_file_store *files,
                         const char *disk_root, struct atd_new_place *ret_place,
                         struct atd_error *err)
{
    struct atd_new_place *place = ret_place;
    int rc = 0;

    *place = (struct atd_new_place){0};
    if (options->bucket) {
        place->store = sites->s3;
        if (asprintf(&place->prefix_url, "s3://%s%s%s", options->bucket,
                     options->prefix[0] ? "/" : "", options->prefix) < 0)
            place->prefix_url = NULL;
    } else if (index->path) {
        rc = atd_store_file_new(files, &place->disk, err);
        place->store = place->disk;
        place->prefix_url = strdup(disk_root);
    } else {
        return 0;
    }
    return rc == 0 && !place->prefix_url ? no_memory(err) : rc;
}

void atd_new_place_release(struct atd_new_place *place)
{
    atd_store_free(place->disk);
    free(place->prefix_url);
    *place = (struct atd_new_place){0};
}

int atd_state_dir_of(const char *base, const struct atd_index_url *index, char **ret_path,
                     struct atd_error *err)
{
    const char *shown = atd_index_url_shown(index);
    uint8_t digest[ATD_SHA256_BYTES];
    char hex[2 * STATE_NAME_BYTES + 1];

    atd_sha256_of(shown, strlen(shown), digest);
    for (size_t i = 0; i < STATE_NAME_BYTES; i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    if (asprintf(ret_path, "%s/%s", base, hex) >= 0)
        return 0;
    *ret_path = NULL;
    return no_memory(err);
}

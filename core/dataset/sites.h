/*
 * Where shards lie in a network: the HTTP engine, credentials, and the stores of s3:// and
 * http(s):// objects, started and stopped in the order of who uses whom. And where new shards go.
 */
#ifndef ATD_DATASET_SITES_H
#define ATD_DATASET_SITES_H

#include "catalog/locator.h"
#include "index/index_url.h"
#include "net/http.h"
#include "store/stores.h"

struct atd_sites_options {
    const char *bucket;   /* where the team's shards lie; NULL: not named */
    const char *prefix;   /* in it, without slashes at its ends; "" */
    const char *endpoint; /* URL; NULL: what the credentials' source says, else AWS */
    const char *region;
    const char *env_file;
    const char *profile;
    const char *ca_file;
    enum atd_s3_style style;
    bool unsigned_requests;
    const char *user_agent;
};

/* All NULL before the start. */
struct atd_sites {
    struct atd_http_engine *engine;
    struct atd_credentials *credentials; /* NULL: requests are not signed */
    struct atd_store *s3;
    struct atd_store *http;
    char *endpoint;    /* for people and for the object table; "aws" */
    char *wide_prefix; /* "s3://BUCKET/PREFIX/"; NULL: no bucket */
};

/* Nothing is asked of a server yet. Whatever fails, the sites are to be stopped and freed. Blocks
 * on the disk. Errors: each with what to do. */
int atd_sites_start(struct atd_sites *sites, const struct atd_sites_options *options,
                    struct atd_error *err) ATD_MUST_USE;
/* Ends every request. False when a thread hangs. */
bool atd_sites_stop(struct atd_sites *sites);
/* After a stop that returned true, when nobody uses the stores. False when a thread hangs. */
bool atd_sites_free(struct atd_sites *sites);

/* The stores' part of a locator's options; `timeout_s` is that of a read. */
void atd_sites_fill_locator(const struct atd_sites *sites, struct atd_object_table *table,
                            unsigned timeout_s, struct atd_locator_options *options);

/* s3://BUCKET[/PREFIX]. The texts are the caller's to free. Errors: EINVAL, ENOMEM. */
int atd_store_name_parse(const char *text, char **ret_bucket, char **ret_prefix,
                         struct atd_error *err) ATD_MUST_USE;

/* ------------------------------------------------------------------ new shards */

/* Where new shards go: the bucket that was named, else the disk store beside a SQLite index. */
struct atd_new_place {
    struct atd_store *store; /* NULL: nowhere */
    struct atd_store *disk;  /* ours; NULL: they go to the object store */
    char *prefix_url;        /* "s3://BUCKET/PREFIX" or an absolute directory */
};

/* `disk_root` is for a SQLite index. Whatever fails, the place is to be released. */
int atd_new_place_choose(const struct atd_sites *sites, const struct atd_sites_options *options,
                         const struct atd_index_url *index, const struct atd_file_store *files,
                         const char *disk_root, struct atd_new_place *ret_place,
                         struct atd_error *err) ATD_MUST_USE;
void atd_new_place_release(struct atd_new_place *place);

/* BASE/HEX: each index has its own directory, two processes of one index share it, and two indexes
 * never meet. The text is the caller's to free. */
int atd_state_dir_of(const char *base, const struct atd_index_url *index, char **ret_path,
                     struct atd_error *err) ATD_MUST_USE;

#endif

/*
 * Where shards lie and what is known of them: local files from the disk, objects from the object
 * table, and, what that lacks, once and for ever from the store.
 *
 * Learning costs as few requests as it can: URLs are sorted, one LIST page answers for up to 1000
 * of them, and everything it shows is remembered, the neighbours' shards too. Where LIST is
 * refused, parallel HEADs; where those are refused, the first byte's Content-Range (the store does
 * that). A store that does not answer is left alone for a while. Source: DESIGN 3; PEERS 5.0.
 *
 * Threads: any.
 */
#ifndef ATD_CATALOG_LOCATOR_H
#define ATD_CATALOG_LOCATOR_H

#include "atdata/shard_url.h"
#include "store/file_store.h"
#include "store/object_table.h"
#include "store/store.h"

/* How far a request may go for an answer. */
enum atd_effort { ATD_EFFORT_MEMORY, ATD_EFFORT_DISK, ATD_EFFORT_NETWORK };

struct atd_locator;

struct atd_locator_options {
    const struct atd_file_store *files; /* borrowed, like all of these */
    struct atd_store *s3;               /* NULL: s3:// shards cannot be read */
    struct atd_store *http;             /* NULL: http(s):// shards cannot be read */
    struct atd_object_table *table;     /* NULL only when both stores are */
    const char *s3_scope;               /* the endpoint, for the table */
    const char *wide_prefix; /* "s3://BUCKET/PREFIX/": all below it may be listed; NULL */
    unsigned timeout_ms;     /* of one request of a store, tries and all */
};

/* Errors: ENOMEM, EAGAIN. */
int atd_locator_new(const struct atd_locator_options *options, struct atd_locator **ret_locator,
                    struct atd_error *err) ATD_MUST_USE;
/* NULL is fine. False, leaving it behind, when a thread hangs. */
bool atd_locator_free(struct atd_locator *locator);

const struct atd_file_store *atd_locator_files(const struct atd_locator *locator);

/* The store that a parsed URL is read from; NULL (with err set: ENOTSUP and why) when there is
 * none. Never for local files. */
struct atd_store *atd_locator_store(const struct atd_locator *locator,
                                    const struct atd_shard_url *url, struct atd_error *err);

/* From memory. */
bool atd_locator_find(const struct atd_locator *locator, const struct atd_shard_url *url,
                      struct atd_object_info *ret_info);

/* An object turned out to be another version: it is asked for again when next needed. Blocks on
 * the disk. */
void atd_locator_forget(struct atd_locator *locator, struct atd_str url);
/* True once that happened to the URL: what an entry's metadata records of it is not believed. */
bool atd_locator_is_doubtful(struct atd_locator *locator, struct atd_str url);

/* One URL's facts, or why there are none: ENOENT the store has no such object; EACCES; else the
 * store could not be asked, and `why` is retryable. */
typedef void (*atd_located_fn)(void *ctx, size_t place, const struct atd_object_info *info,
                               const struct atd_error *why);

/*
 * Learns the objects, calling `fn` once each, in any order, in the calling thread. All URLs are of
 * one store. Blocks: on the network, at most a few times options.timeout_ms. Errors: ENOMEM
 * (`fn` was not called for all).
 */
int atd_locator_learn(struct atd_locator *locator, const struct atd_shard_url *urls, size_t count,
                      atd_located_fn fn, void *ctx, struct atd_error *err) ATD_MUST_USE;

#endif

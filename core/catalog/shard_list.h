/*
 * The inside of a shard list, for core/catalog only.
 */
#ifndef ATD_CATALOG_SHARD_LIST_H
#define ATD_CATALOG_SHARD_LIST_H

#include <stdatomic.h>

#include "atdata/arena.h"
#include "catalog/shards.h"

struct atd_shard_list {
    atomic_uint refs;
    struct atd_arena arena;
    struct atd_shard *shards; /* in the order of data_urls */
    uint32_t *by_name;        /* places by file name */
    size_t count;
    size_t readable;
    bool may_change;        /* a local file was not to be had: it may come */
    int64_t retry_after_ms; /* some remote shard was not to be had: ask again then; 0: never */
    const char *error;      /* the whole list's; in the arena */
    int64_t made_at_ms;
};

/* shard_names.c: names every shard by its last segment; equal ones get ~2, ~3 in the order of
 * data_urls. False when out of memory. */
bool atd_shard_list_name(struct atd_shard_list *list, const struct atd_str *names);

/* What the entry's metadata records of a shard's object (codec/metadata_edit.h). */
struct atd_shard_recorded {
    uint64_t size_bytes;
    struct atd_str etag; /* empty: neither it nor the size is known */
    int64_t mtime_ns;    /* INT64_MIN: unknown */
};

/* shard_records.c: metadata["checksums"] and the shard records: fills in sha256 and samples, and
 * `recorded`, one for each shard. False when out of memory. */
bool atd_shard_list_read_metadata(struct atd_shard_list *list, struct atd_bytes metadata,
                                  struct atd_shard_recorded *recorded);

/* shard_facts.c: classifies the URLs and finds out what each shard is; what is wrong with one
 * stands in it. `names` gets the last segments. Errors: EWOULDBLOCK the effort does not do; ENOMEM,
 * EMFILE, ENFILE. */
int atd_shard_list_examine(struct atd_shard_list *list, struct atd_locator *locator,
                           enum atd_effort effort, const struct atd_shard_recorded *recorded,
                           struct atd_str *names, struct atd_error *err) ATD_MUST_USE;

#endif

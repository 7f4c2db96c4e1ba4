/*
 * The shards of an entry: its data_urls expanded, named as files, and looked up where they lie.
 *
 * A list is immutable and shared by reference; it is made when first needed (or by the sweep that
 * follows a load) and kept with the entry until a file is found changed.
 */
#ifndef ATD_CATALOG_SHARDS_H
#define ATD_CATALOG_SHARDS_H

#include "catalog/catalog.h"
#include "catalog/locator.h"

#define ATD_SHARD_VERSION_BYTES 16

struct atd_shard {
    struct atd_str file_name;
    struct atd_str url;
    struct atd_str path;               /* what the disk store opens; ptr NULL: not a local file */
    struct atd_str sha256;             /* 64 hex digits from metadata's checksums; ptr NULL: none */
    struct atd_store *store;           /* where a remote shard is read; NULL: a local file */
    struct atd_str etag;               /* remote: without quotes; may be empty */
    struct atd_file_identity identity; /* local, when error_code is 0 */
    uint64_t size_bytes;               /* when error_code is 0, like mtime and version */
    int64_t mtime_s;                   /* as recorded, else the object's; 0: unknown */
    int64_t mtime_ns;
    int64_t object_mtime_s;                   /* remote: the store's own; 0: unknown */
    int64_t samples;                          /* as recorded; -1: unknown */
    int error_code;                           /* 0, or why the shard cannot be read (errno) */
    struct atd_str reason;                    /* the sentence for error_code */
    uint8_t version[ATD_SHARD_VERSION_BYTES]; /* of (url, identity or etag): the same bytes */
};

/* What its store is asked for: this version. Remote shards only. */
void atd_shard_info(const struct atd_shard *shard, struct atd_object_info *ret_info);

struct atd_shard_list;

struct atd_shard_list *atd_shard_list_ref(struct atd_shard_list *list);
void atd_shard_list_unref(struct atd_shard_list *list);

/* In the order of data_urls. */
size_t atd_shard_list_count(const struct atd_shard_list *list);
const struct atd_shard *atd_shard_list_at(const struct atd_shard_list *list, size_t place);
/* How many can be read. */
size_t atd_shard_list_readable(const struct atd_shard_list *list);
/* Why the whole list could not be made (its count is 0 then); NULL when it could. */
const char *atd_shard_list_error(const struct atd_shard_list *list);
/* How long ago the disk was asked. */
int64_t atd_shard_list_age_ms(const struct atd_shard_list *list);
/* True when some local file was not to be had, so that a later look may find another list. */
bool atd_shard_list_may_change(const struct atd_shard_list *list);
/* True when some remote shard was not to be had and its store may be asked again by now. */
bool atd_shard_list_is_due(const struct atd_shard_list *list);
/* True when both show the same files with the same bytes, and the same reasons for the others. */
bool atd_shard_list_equal(const struct atd_shard_list *a, const struct atd_shard_list *b);
/* By file name; NULL when there is none. */
const struct atd_shard *atd_shard_list_find(const struct atd_shard_list *list,
                                            struct atd_str file_name);

/*
 * The URLs alone: data_urls expanded, in order, in `arena` or the catalog's. Blocks on the disk (a
 * local element that exists as it stands is no pattern); no store is asked. Errors: EINVAL, E2BIG a
 * list that cannot be shown; ENOMEM.
 */
int atd_catalog_shard_urls(const struct atd_catalog_entry *entry, struct atd_locator *locator,
                           struct atd_arena *arena, struct atd_str **ret_urls, size_t *ret_count,
                           struct atd_error *err) ATD_MUST_USE;

/*
 * Looks a shard up among data_urls' elements as a directory would show them, without asking disk or
 * store. *ret_is_listed: `url` is one of the shards. *ret_named: the URL of the shard that is
 * called `file_name`, in `arena`; ptr NULL: none. `url` may be empty. Errors: ENOMEM; E2BIG a list
 * that cannot be shown.
 */
int atd_shard_urls_find(const struct atd_str *elements, size_t count, struct atd_str url,
                        struct atd_str file_name, struct atd_arena *arena, bool *ret_is_listed,
                        struct atd_str *ret_named, struct atd_error *err) ATD_MUST_USE;

/* The list if it was made already, with a reference for the caller; else NULL. Never blocks. */
struct atd_shard_list *atd_catalog_shards_peek(struct atd_catalog *catalog,
                                               const struct atd_catalog_entry *entry);

/*
 * The list, made now if need be, with a reference for the caller. Blocks on the disk, and with
 * ATD_EFFORT_NETWORK on stores whose objects are not known yet. What is wrong with single shards
 * stands in the list. Errors: EWOULDBLOCK (without a sentence) a store would have to be asked;
 * ENOMEM, EMFILE, ENFILE.
 */
int atd_catalog_shards_get(struct atd_catalog *catalog, const struct atd_catalog_entry *entry,
                           struct atd_locator *locator, enum atd_effort effort,
                           struct atd_shard_list **ret_list, struct atd_error *err) ATD_MUST_USE;

/* The same, made anew whatever is there. */
int atd_catalog_shards_renew(struct atd_catalog *catalog, const struct atd_catalog_entry *entry,
                             struct atd_locator *locator, enum atd_effort effort,
                             struct atd_shard_list **ret_list, struct atd_error *err) ATD_MUST_USE;

/*
 * For the sweep, which looks at all entries once. The first place from `first` on that is to be
 * looked at (nobody was there, or a file was missing), or the count; adds what the lists on the way
 * show of unreadable shards.
 */
size_t atd_catalog_shards_next(struct atd_catalog *catalog, size_t first, uint64_t *unreadable);
/*
 * As _renew with ATD_EFFORT_DISK, of an entry that nobody asked for: lists of many entries without
 * anything wrong are not kept, and a store that would have to be asked is not asked for again.
 */
int atd_catalog_shards_look(struct atd_catalog *catalog, const struct atd_catalog_entry *entry,
                            struct atd_locator *locator, struct atd_shard_list **ret_list,
                            struct atd_error *err) ATD_MUST_USE;

/* Drops a list that was found wrong (a file changed), so that the next user makes a new one. */
void atd_catalog_shards_forget(struct atd_catalog *catalog, const struct atd_catalog_entry *entry,
                               const struct atd_shard_list *list);

/* Takes over from an older generation the lists of entries that did not change. */
void atd_catalog_shards_inherit(struct atd_catalog *catalog, struct atd_catalog *older);

#endif

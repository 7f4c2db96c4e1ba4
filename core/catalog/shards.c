#include "catalog/shards.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "atdata/entry.h"
#include "atdata/shard_url.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/limits.h"
#include "catalog/generation.h"
#include "codec/file_name.h"
#include "codec/msgpack_read.h"

#define SHARD_LIST_BYTES_MAX ((size_t)2 << 30)
/* All lists that are kept; beyond it they are made for each use. */
#define SHARD_LISTS_BYTES_MAX ((size_t)256 << 20)
/* ".tar.gz" and the like; a longer "extension" is part of the name. */
#define EXTENSION_MAX 16

/* The names a dataset's directory has already (DESIGN 2). */
static const char *const taken_names[] = {"schema.json", "schema.py", "metadata.json", "entry.json",
                                          "samples"};

struct atd_shard_list {
    atomic_uint refs;
    struct atd_arena arena;
    struct atd_shard *shards; /* in the order of data_urls */
    uint32_t *by_name;        /* places by file name */
    size_t count;
    size_t readable;
    bool may_change;   /* a file was not to be had: it may come */
    const char *error; /* the whole list's; in the arena */
    int64_t made_at_ms;
};

struct atd_shard_list *atd_shard_list_ref(struct atd_shard_list *list)
{
    (void)atomic_fetch_add(&list->refs, 1);
    return list;
}

void atd_shard_list_unref(struct atd_shard_list *list)
{
    if (!list || atomic_fetch_sub(&list->refs, 1) != 1)
        return;
    atd_arena_release(&list->arena);
    free(list);
}

size_t atd_shard_list_count(const struct atd_shard_list *list)
{
    return list->count;
}

const struct atd_shard *atd_shard_list_at(const struct atd_shard_list *list, size_t place)
{
    atd_assert(place < list->count);
    return &list->shards[place];
}

size_t atd_shard_list_readable(const struct atd_shard_list *list)
{
    return list->readable;
}

const char *atd_shard_list_error(const struct atd_shard_list *list)
{
    return list->error;
}

int64_t atd_shard_list_age_ms(const struct atd_shard_list *list)
{
    return atd_clock_monotonic_ms() - list->made_at_ms;
}

bool atd_shard_list_may_change(const struct atd_shard_list *list)
{
    return list->may_change;
}

bool atd_shard_list_equal(const struct atd_shard_list *a, const struct atd_shard_list *b)
{
    if (a->count != b->count || (a->error == NULL) != (b->error == NULL))
        return false;
    for (size_t i = 0; i < a->count; i++) {
        const struct atd_shard *left = &a->shards[i];
        const struct atd_shard *right = &b->shards[i];

        if (left->error_code != right->error_code ||
            !atd_str_equal(left->file_name, right->file_name) ||
            memcmp(left->version, right->version, sizeof(left->version)) != 0)
            return false;
    }
    return true;
}

const struct atd_shard *atd_shard_list_find(const struct atd_shard_list *list,
                                            struct atd_str file_name)
{
    size_t low = 0;
    size_t high = list->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct atd_shard *shard = &list->shards[list->by_name[middle]];
        int order = atd_str_compare(file_name, shard->file_name);

        if (order == 0)
            return shard;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static int no_memory(struct atd_error *err)
{
    return atd_error_set(err, ENOMEM, "the list of shards needs more memory than there is");
}

/* ------------------------------------------------------------------ names of files */

static int compare_last(const void *a, const void *b, void *ctx)
{
    const struct atd_str *names = ctx;
    uint32_t left = *(const uint32_t *)a;
    uint32_t right = *(const uint32_t *)b;
    int order = atd_str_compare(names[left], names[right]);

    return order ? order : (left > right) - (left < right);
}

static int compare_file_names(const void *a, const void *b, void *ctx)
{
    const struct atd_shard *shards = ctx;

    return atd_str_compare(shards[*(const uint32_t *)a].file_name,
                           shards[*(const uint32_t *)b].file_name);
}

/* Length of the name before its extension: "x" of "x.tar.gz", "x.v1" of "x.v1.tar". */
static size_t stem_length(struct atd_str name)
{
    ptrdiff_t dot = atd_str_find_last(name, '.');

    for (size_t at = name.len; at-- > 1;) {
        if (name.len - at <= EXTENSION_MAX &&
            atd_str_starts_with(atd_str_from_byte(name, at), ATD_STR(".tar"))) {
            dot = (ptrdiff_t)at;
            break;
        }
    }
    if (dot <= 0 || name.len - (size_t)dot > EXTENSION_MAX)
        return name.len;
    for (size_t i = (size_t)dot; i < name.len; i++) {
        char c = name.ptr[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '.' || c == '-' || c == '_'))
            return name.len;
    }
    return (size_t)dot;
}

#define URL_DIGEST_LEN 16

/* What tells cut names of one dataset apart: its CID is the same for all of them. */
static void digest_url(struct atd_str url, char ret_hex[URL_DIGEST_LEN + 1])
{
    uint8_t digest[ATD_SHA256_BYTES];

    atd_sha256_of(url.ptr, url.len, digest);
    for (size_t i = 0; i < URL_DIGEST_LEN / 2; i++)
        (void)snprintf(ret_hex + 2 * i, 3, "%02x", digest[i]);
}

/* `copy` 1 is the name itself, 2 its first duplicate ("x~2.tar"). */
static struct atd_str spell(struct atd_arena *arena, struct atd_str name, struct atd_str identity,
                            unsigned copy)
{
    atd_auto_buf struct atd_buf buf = ATD_BUF_INIT(4 * (size_t)ATD_NAME_BYTES_MAX);
    size_t stem = stem_length(name);
    char suffix[EXTENSION_MAX + 16];

    if (copy == 1 && atd_file_name_is_plain(name))
        return atd_arena_str(arena, name);
    if (copy == 1)
        (void)snprintf(suffix, sizeof(suffix), "%.*s", (int)(name.len - stem), name.ptr + stem);
    else
        (void)snprintf(suffix, sizeof(suffix), "~%u%.*s", copy, (int)(name.len - stem),
                       name.ptr + stem);
    atd_file_name_encode(atd_str_head(name, stem), identity, atd_str_from(suffix), &buf);
    return buf.failed ? (struct atd_str){NULL, 0} : atd_arena_str(arena, atd_buf_str(&buf));
}

static bool is_fixed_name(struct atd_str name)
{
    for (size_t i = 0; i < ATD_ARRAY_LEN(taken_names); i++) {
        if (atd_str_equal(name, atd_str_from(taken_names[i])))
            return true;
    }
    return false;
}

/* True when a file name is one that the directory or a first shard of some name has. */
static bool is_taken(struct atd_str file_name, const struct atd_str *names, const uint32_t *sorted,
                     size_t count)
{
    size_t low = 0;
    size_t high = count;

    if (is_fixed_name(file_name))
        return true;
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (atd_str_compare(names[sorted[middle]], file_name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && atd_str_equal(names[sorted[low]], file_name);
}

/* Names every shard: equal last segments get ~2, ~3 in the order of data_urls. */
static bool name_shards(struct atd_shard_list *list, const struct atd_str *names)
{
    atd_auto_free uint32_t *sorted =
        reallocarray(NULL, list->count ? list->count : 1, sizeof(*sorted));

    if (!sorted)
        return false;
    for (size_t i = 0; i < list->count; i++)
        sorted[i] = (uint32_t)i;
    qsort_r(sorted, list->count, sizeof(*sorted), compare_last, (void *)(uintptr_t)names);
    for (size_t at = 0; at < list->count;) {
        struct atd_str name = names[sorted[at]];
        unsigned copy = is_fixed_name(name) ? 2 : 1;

        for (; at < list->count && atd_str_equal(names[sorted[at]], name); at++) {
            struct atd_shard *shard = &list->shards[sorted[at]];
            char digest[URL_DIGEST_LEN + 1];

            digest_url(shard->url, digest);
            do {
                shard->file_name = spell(&list->arena, name, atd_str_from(digest), copy);
                if (!shard->file_name.ptr)
                    return false;
            } while (copy++ > 1 && is_taken(shard->file_name, names, sorted, list->count));
        }
    }
    list->by_name = atd_arena_alloc_array(&list->arena, list->count, sizeof(*list->by_name));
    if (!list->by_name)
        return false;
    memcpy(list->by_name, sorted, list->count * sizeof(*sorted));
    qsort_r(list->by_name, list->count, sizeof(*list->by_name), compare_file_names, list->shards);
    return true;
}

/* ------------------------------------------------------------------ what the disk says */

static void version_shard(struct atd_shard *shard)
{
    const uint64_t parts[] = {shard->identity.device,
                              shard->identity.inode,
                              shard->identity.size_bytes,
                              (uint64_t)shard->identity.mtime_s,
                              (uint64_t)shard->identity.mtime_ns,
                              (uint64_t)shard->identity.ctime_s,
                              (uint64_t)shard->identity.ctime_ns};
    uint8_t digests[2][ATD_SHA256_BYTES];
    uint8_t digest[ATD_SHA256_BYTES];

    atd_sha256_of(shard->url.ptr, shard->url.len, digests[0]);
    atd_sha256_of(parts, sizeof(parts), digests[1]);
    atd_sha256_of(digests, sizeof(digests), digest);
    memcpy(shard->version, digest, sizeof(shard->version));
}

static void refuse(struct atd_shard_list *list, struct atd_shard *shard,
                   const struct atd_error *why)
{
    shard->error_code = why->code;
    shard->reason = atd_arena_str(&list->arena, atd_str_from(why->text));
}

/* Classifies the URL and looks its file up; whatever is wrong stands in the shard. */
static int examine(struct atd_shard_list *list, struct atd_shard *shard,
                   const struct atd_file_store *store, struct atd_str *ret_last,
                   struct atd_error *err)
{
    struct atd_shard_url url;
    struct atd_error why = ATD_ERROR_INIT;
    int rc = atd_shard_url_parse(shard->url, &list->arena, &url, &why);

    *ret_last = shard->url;
    if (rc == 0) {
        *ret_last = url.last;
        switch (url.scheme) {
        case ATD_URL_LOCAL:
            rc = atd_file_store_stat(store, url.path, &shard->identity, &why);
            if (rc == 0)
                shard->path = url.path;
            else
                list->may_change = true;
            break;
        case ATD_URL_S3:
        case ATD_URL_HTTP:
            rc = atd_error_set(&why, ENOTSUP,
                               "%.*s:// shards cannot be read: this mount has no object store",
                               (int)url.scheme_text.len, url.scheme_text.ptr);
            break;
        case ATD_URL_RELATIVE:
            rc = atd_error_set(&why, ENOTSUP,
                               "a relative path depends on who reads it and is never opened");
            break;
        default:
            rc = atd_error_set(&why, ENOTSUP, "the scheme '%.*s:' is never opened or run",
                               (int)(url.scheme_text.len < 32 ? url.scheme_text.len : 32),
                               url.scheme_text.ptr);
            break;
        }
    }
    if (rc == -ENOMEM || rc == -EMFILE || rc == -ENFILE) {
        /* Says nothing about the shard: it must not vanish from a listing for that. */
        if (err)
            *err = why;
        return rc;
    }
    if (rc) {
        refuse(list, shard, &why);
        return 0;
    }
    list->readable++;
    version_shard(shard);
    return 0;
}

/* ------------------------------------------------------------------ checksums */

static int compare_url(const void *a, const void *b, void *ctx)
{
    const struct atd_shard *shards = ctx;

    return atd_str_compare(shards[*(const uint32_t *)a].url, shards[*(const uint32_t *)b].url);
}

static bool is_sha256_hex(struct atd_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (!((text.ptr[i] >= '0' && text.ptr[i] <= '9') ||
              (text.ptr[i] >= 'a' && text.ptr[i] <= 'f')))
            return false;
    }
    return text.len == 64;
}

/*
 * metadata["checksums"] maps the URL exactly as in data_urls to the shard's SHA-256
 * (ATDATA-FORMATS 6.6). Anything else in its place is ignored.
 */
static bool read_checksums(struct atd_shard_list *list, struct atd_bytes metadata)
{
    struct atd_mp_reader reader;
    struct atd_mp_token token;
    struct atd_bytes map;
    uint32_t *sorted;

    if (!metadata.ptr || !atd_metadata_find(metadata, ATD_STR("checksums"), &map) ||
        !atd_msgpack_is_map(map))
        return true;
    sorted = reallocarray(NULL, list->count ? list->count : 1, sizeof(*sorted));
    if (!sorted)
        return false;
    for (size_t i = 0; i < list->count; i++)
        sorted[i] = (uint32_t)i;
    qsort_r(sorted, list->count, sizeof(*sorted), compare_url, list->shards);
    atd_mp_reader_init(&reader, map);
    if (atd_mp_next(&reader, &token, NULL) == 0) {
        for (uint32_t pairs = token.count; pairs > 0; pairs--) {
            struct atd_mp_token key;
            struct atd_mp_token value = {0};
            size_t value_at;
            size_t low = 0;
            size_t high = list->count;

            if (atd_mp_next(&reader, &key, NULL) != 0)
                break;
            value_at = reader.at;
            if (atd_mp_next(&reader, &value, NULL) != 0)
                break;
            reader.at = value_at;
            atd_mp_skip(&reader);
            if (key.type != ATD_MP_STR || value.type != ATD_MP_STR ||
                !is_sha256_hex(atd_bytes_str(value.body)))
                continue;
            while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (atd_str_compare(list->shards[sorted[middle]].url, atd_bytes_str(key.body)) < 0)
                    low = middle + 1;
                else
                    high = middle;
            }
            for (; low < list->count &&
                   atd_str_equal(list->shards[sorted[low]].url, atd_bytes_str(key.body));
                 low++)
                list->shards[sorted[low]].sha256 =
                    atd_arena_str(&list->arena, atd_bytes_str(value.body));
        }
    }
    free(sorted);
    return true;
}

/* ------------------------------------------------------------------ making a list */

/* For patterns: a local element that exists as it stands is a name with braces or blanks in it. */
static bool exists_literally(void *ctx, struct atd_str element)
{
    const struct atd_file_store *store = ctx;
    atd_auto_arena struct atd_arena scratch = ATD_ARENA_INIT(1u << 20);
    struct atd_file_identity identity;
    struct atd_shard_url url;

    return atd_shard_url_parse(element, &scratch, &url, NULL) == 0 && url.scheme == ATD_URL_LOCAL &&
           atd_file_store_stat(store, url.path, &identity, NULL) == 0;
}

static int fill_list(struct atd_shard_list *list, const struct atd_catalog_entry *entry,
                     const struct atd_file_store *store, struct atd_error *err)
{
    atd_auto_arena struct atd_arena scratch = ATD_ARENA_INIT(SHARD_LIST_BYTES_MAX);
    atd_auto_free struct atd_str *names = NULL;
    struct atd_str *elements;
    struct atd_str *urls;
    size_t element_count;
    size_t count;
    int rc = atd_urls_decode(entry->data_urls, &scratch, &elements, &element_count, err);

    if (rc == 0)
        rc = atd_shard_urls_expand(elements, element_count, ATD_SHARDS_MAX, exists_literally,
                                   (void *)(uintptr_t)store, &scratch, &urls, &count, err);
    if (rc)
        return rc;
    list->shards = atd_arena_alloc_array(&list->arena, count, sizeof(*list->shards));
    names = reallocarray(NULL, count ? count : 1, sizeof(*names));
    if (!list->shards || !names)
        return no_memory(err);
    for (size_t i = 0; i < count; i++) {
        list->shards[i].url = atd_arena_str(&list->arena, urls[i]);
        if (!list->shards[i].url.ptr)
            return no_memory(err);
        rc = examine(list, &list->shards[i], store, &names[i], err);
        if (rc)
            return rc;
    }
    list->count = count;
    if (!name_shards(list, names) || !read_checksums(list, entry->metadata))
        return no_memory(err);
    return 0;
}

static int make_list(const struct atd_catalog_entry *entry, const struct atd_file_store *store,
                     struct atd_shard_list **ret_list, struct atd_error *err)
{
    struct atd_shard_list *list = calloc(1, sizeof(*list));
    struct atd_error why = ATD_ERROR_INIT;
    int rc;

    if (!list)
        return no_memory(err);
    atomic_init(&list->refs, 1);
    atd_arena_init(&list->arena, SHARD_LIST_BYTES_MAX);
    rc = fill_list(list, entry, store, &why);
    list->made_at_ms = atd_clock_monotonic_ms();
    if (rc == -ENOMEM || rc == -EMFILE || rc == -ENFILE) {
        atd_shard_list_unref(list);
        if (err)
            *err = why;
        return rc;
    }
    if (rc) {
        /* Nothing of the entry can be shown as a shard; the entry itself can. */
        list->count = 0;
        list->readable = 0;
        list->error = atd_arena_str(&list->arena, atd_str_from(why.text)).ptr;
        if (!list->error)
            list->error = "its list of shards cannot be made";
    }
    *ret_list = list;
    return 0;
}

struct atd_shard_list *atd_catalog_shards_peek(struct atd_catalog *catalog,
                                               const struct atd_catalog_entry *entry)
{
    struct atd_shard_list *list;

    atd_lock_take(&catalog->shards_lock);
    list = catalog->shard_lists[entry->number];
    if (list)
        (void)atd_shard_list_ref(list);
    atd_lock_give(&catalog->shards_lock);
    return list;
}

/* Puts a list into its slot, unless all lists together would grow past their bound. */
static void keep_list(struct atd_catalog *catalog, const struct atd_catalog_entry *entry,
                      struct atd_shard_list *list)
{
    struct atd_shard_list *older;

    atd_lock_take(&catalog->shards_lock);
    older = catalog->shard_lists[entry->number];
    if (older)
        catalog->shard_bytes -= older->arena.used_bytes;
    catalog->shard_lists[entry->number] = NULL;
    if (list && list->arena.used_bytes <= SHARD_LISTS_BYTES_MAX - catalog->shard_bytes) {
        catalog->shard_bytes += list->arena.used_bytes;
        catalog->shard_lists[entry->number] = atd_shard_list_ref(list);
    }
    atd_lock_give(&catalog->shards_lock);
    atd_shard_list_unref(older);
}

int atd_catalog_shards_renew(struct atd_catalog *catalog, const struct atd_catalog_entry *entry,
                             const struct atd_file_store *store, struct atd_shard_list **ret_list,
                             struct atd_error *err)
{
    struct atd_shard_list *list;
    int rc = make_list(entry, store, &list, err);

    if (rc)
        return rc;
    keep_list(catalog, entry, list);
    *ret_list = list;
    return 0;
}

int atd_catalog_shards_get(struct atd_catalog *catalog, const struct atd_catalog_entry *entry,
                           const struct atd_file_store *store, struct atd_shard_list **ret_list,
                           struct atd_error *err)
{
    struct atd_shard_list *list = atd_catalog_shards_peek(catalog, entry);

    if (!list)
        return atd_catalog_shards_renew(catalog, entry, store, ret_list, err);
    *ret_list = list;
    return 0;
}

void atd_catalog_shards_forget(struct atd_catalog *catalog, const struct atd_catalog_entry *entry,
                               const struct atd_shard_list *list)
{
    struct atd_shard_list *dropped = NULL;

    atd_lock_take(&catalog->shards_lock);
    if (catalog->shard_lists[entry->number] == list) {
        dropped = catalog->shard_lists[entry->number];
        catalog->shard_bytes -= dropped->arena.used_bytes;
        catalog->shard_lists[entry->number] = NULL;
    }
    atd_lock_give(&catalog->shards_lock);
    atd_shard_list_unref(dropped);
}

void atd_catalog_shards_inherit(struct atd_catalog *catalog, struct atd_catalog *older)
{
    for (size_t i = 0; i < catalog->entry_count; i++) {
        const struct atd_catalog_entry *entry = &catalog->entries[i];
        const struct atd_catalog_entry *before = atd_catalog_find_entry(older, entry->file_name);
        struct atd_shard_list *list;

        if (!before || !atd_str_equal(before->cid, entry->cid) ||
            !atd_str_equal(atd_bytes_str(before->data_urls), atd_bytes_str(entry->data_urls)) ||
            !atd_str_equal(atd_bytes_str(before->metadata), atd_bytes_str(entry->metadata)))
            continue;
        list = atd_catalog_shards_peek(older, before);
        if (list)
            keep_list(catalog, entry, list);
        atd_shard_list_unref(list);
    }
}

#include "catalog/shards.h"

#include <errno.h>
#include <stdlib.h>

#include "atdata/entry.h"
#include "atdata/shard_url.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "catalog/generation.h"
#include "catalog/shard_list.h"

#define SHARD_LIST_BYTES_MAX ((size_t)2 << 30)
/* All lists that are kept; beyond it they are made for each use. */
#define SHARD_LISTS_BYTES_MAX ((size_t)256 << 20)
/* Of these, lists that nobody asked for: one takes three times what its entry does. */
#define UNASKED_LISTS_BYTES_MAX ((size_t)1 << 20)
/* So many lists are taken over in one go. */
#define INHERITED_AT_ONCE 256u
/* So many places are looked through without letting others at the lists. */
#define PASSED_AT_ONCE 4096u

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

bool atd_shard_list_is_due(const struct atd_shard_list *list)
{
    return list->retry_after_ms && atd_clock_monotonic_ms() >= list->retry_after_ms;
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

/* ------------------------------------------------------------------ making a list */

/* For patterns: a local element that exists as it stands is a name with braces or blanks in it. */
static bool exists_literally(void *ctx, struct atd_str element)
{
    const struct atd_locator *locator = ctx;
    atd_auto_arena struct atd_arena scratch = ATD_ARENA_INIT(1u << 20);
    struct atd_file_identity identity;
    struct atd_shard_url url;

    return atd_shard_url_parse(element, &scratch, &url, NULL) == 0 && url.scheme == ATD_URL_LOCAL &&
           atd_file_store_stat(atd_locator_files(locator), url.path, &identity, NULL) == 0;
}

int atd_catalog_shard_urls(const struct atd_catalog_entry *entry, struct atd_locator *locator,
                           struct atd_arena *arena, struct atd_str **ret_urls, size_t *ret_count,
                           struct atd_error *err)
{
    struct atd_str *elements;
    size_t count;
    int rc = atd_urls_decode(atd_entry_data_urls(entry), arena, &elements, &count, err);

    return rc ? rc
              : atd_shard_urls_expand(elements, count, ATD_SHARDS_MAX, exists_literally, locator,
                                      arena, ret_urls, ret_count, err);
}

/* A copy where it is there. */
static bool move_text(struct atd_arena *arena, struct atd_str *text)
{
    if (!text->ptr)
        return true;
    *text = atd_arena_str(arena, *text);
    return text->ptr != NULL;
}

/* Into memory of just the size: many lists are kept for long, and most are of one shard. Without
 * memory for it the list stays as it is. */
static void pack_list(struct atd_shard_list *list)
{
    struct atd_arena arena = ATD_ARENA_INIT(SHARD_LIST_BYTES_MAX);
    struct atd_shard *shards;
    uint32_t *by_name;
    bool fine = atd_arena_reserve(&arena, list->arena.used_bytes + 2 * _Alignof(max_align_t));

    shards = fine ? atd_arena_alloc_array(&arena, list->count, sizeof(*shards)) : NULL;
    by_name = shards ? atd_arena_alloc_array(&arena, list->count, sizeof(*by_name)) : NULL;
    fine = by_name != NULL;
    for (size_t i = 0; i < list->count && fine; i++) {
        by_name[i] = list->by_name[i];
        shards[i] = list->shards[i];
        fine = move_text(&arena, &shards[i].file_name) && move_text(&arena, &shards[i].url) &&
               move_text(&arena, &shards[i].sha256) && move_text(&arena, &shards[i].etag) &&
               move_text(&arena, &shards[i].reason);
        if (shards[i].path.ptr && atd_str_equal(shards[i].path, shards[i].url))
            shards[i].path = shards[i].url;
        else
            fine = fine && move_text(&arena, &shards[i].path);
    }
    if (fine) {
        list->shards = shards;
        list->by_name = by_name;
    }
    atd_arena_release(fine ? &list->arena : &arena);
    if (fine)
        list->arena = arena;
}

static int fill_list(struct atd_shard_list *list, const struct atd_catalog_entry *entry,
                     struct atd_locator *locator, enum atd_effort effort, struct atd_error *err)
{
    atd_auto_arena struct atd_arena scratch = ATD_ARENA_INIT(SHARD_LIST_BYTES_MAX);
    atd_auto_free struct atd_str *names = NULL;
    atd_auto_free struct atd_shard_recorded *recorded = NULL;
    struct atd_str *urls;
    size_t count;
    int rc = atd_catalog_shard_urls(entry, locator, &scratch, &urls, &count, err);

    if (rc)
        return rc;
    list->shards = atd_arena_alloc_array(&list->arena, count, sizeof(*list->shards));
    names = reallocarray(NULL, count ? count : 1, sizeof(*names));
    recorded = reallocarray(NULL, count ? count : 1, sizeof(*recorded));
    if (!list->shards || !names || !recorded)
        return no_memory(err);
    for (size_t i = 0; i < count; i++) {
        list->shards[i].url = atd_arena_str(&list->arena, urls[i]);
        if (!list->shards[i].url.ptr)
            return no_memory(err);
    }
    list->count = count;
    if (!atd_shard_list_read_metadata(list, atd_entry_metadata(entry), recorded))
        return no_memory(err);
    rc = atd_shard_list_examine(list, locator, effort, recorded, names, err);
    if (rc)
        return rc;
    if (!atd_shard_list_name(list, names))
        return no_memory(err);
    pack_list(list);
    return 0;
}

static int make_list(const struct atd_catalog_entry *entry, struct atd_locator *locator,
                     enum atd_effort effort, struct atd_shard_list **ret_list,
                     struct atd_error *err)
{
    struct atd_shard_list *list = calloc(1, sizeof(*list));
    struct atd_error why = ATD_ERROR_INIT;
    int rc;

    if (!list)
        return no_memory(err);
    atomic_init(&list->refs, 1);
    atd_arena_init(&list->arena, SHARD_LIST_BYTES_MAX);
    rc = fill_list(list, entry, locator, effort, &why);
    list->made_at_ms = atd_clock_monotonic_ms();
    if (rc == -ENOMEM || rc == -EMFILE || rc == -ENFILE || rc == -EWOULDBLOCK) {
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

/* Fills in URLs and file names alone. */
static int name_list(struct atd_shard_list *list, const struct atd_str *elements,
                     size_t element_count, struct atd_error *err)
{
    atd_auto_free struct atd_str *names = NULL;
    struct atd_str *urls;
    size_t count;
    int rc = atd_shard_urls_expand(elements, element_count, ATD_SHARDS_MAX, NULL, NULL,
                                   &list->arena, &urls, &count, err);

    if (rc)
        return rc;
    list->shards = atd_arena_alloc_array(&list->arena, count, sizeof(*list->shards));
    names = reallocarray(NULL, count ? count : 1, sizeof(*names));
    if (!list->shards || !names)
        return no_memory(err);
    list->count = count;
    for (size_t i = 0; i < count; i++) {
        struct atd_shard_url url;

        list->shards[i].url = urls[i];
        rc = atd_shard_url_parse(urls[i], &list->arena, &url, NULL);
        if (rc == -ENOMEM)
            return no_memory(err);
        names[i] = rc ? urls[i] : url.last;
    }
    return atd_shard_list_name(list, names) ? 0 : no_memory(err);
}

int atd_shard_urls_find(const struct atd_str *elements, size_t count, struct atd_str url,
                        struct atd_str file_name, struct atd_arena *arena, bool *ret_is_listed,
                        struct atd_str *ret_named, struct atd_error *err)
{
    struct atd_shard_list list = {.arena = ATD_ARENA_INIT(SHARD_LIST_BYTES_MAX)};
    struct atd_str named = {NULL, 0};
    bool is_listed = false;
    int rc = name_list(&list, elements, count, err);

    if (rc == 0) {
        const struct atd_shard *shard = atd_shard_list_find(&list, file_name);

        for (size_t i = 0; i < list.count && !is_listed; i++)
            is_listed = atd_str_equal(list.shards[i].url, url);
        if (shard) {
            named = atd_arena_str(arena, shard->url);
            rc = named.ptr ? 0 : no_memory(err);
        }
    }
    atd_arena_release(&list.arena);
    if (rc)
        return rc;
    *ret_is_listed = is_listed;
    *ret_named = named;
    return 0;
}

struct atd_shard_list *atd_catalog_shards_peek(struct atd_catalog *catalog,
                                               const struct atd_catalog_entry *entry)
{
    uint32_t place = atd_catalog_place_of(catalog, entry);
    struct atd_shard_list *list;

    atd_lock_take(&catalog->shards_lock);
    list = catalog->shard_lists[place];
    if (list)
        (void)atd_shard_list_ref(list);
    atd_lock_give(&catalog->shards_lock);
    return list;
}

static size_t list_bytes(const struct atd_shard_list *list)
{
    return sizeof(*list) + atd_arena_footprint(&list->arena);
}

static bool has_room_locked(const struct atd_catalog *catalog, const struct atd_shard_list *list,
                            size_t max_bytes)
{
    return catalog->shard_bytes <= max_bytes &&
           list_bytes(list) <= max_bytes - catalog->shard_bytes;
}

/* Puts a list into its slot, unless all lists together would grow past `max_bytes` (one that takes
 * another's place was asked for). NULL: there is none to keep. Either way somebody was there. */
static void keep_list(struct atd_catalog *catalog, const struct atd_catalog_entry *entry,
                      struct atd_shard_list *list, size_t max_bytes)
{
    uint32_t place = atd_catalog_place_of(catalog, entry);
    struct atd_shard_list *older;

    atd_lock_take(&catalog->shards_lock);
    older = catalog->shard_lists[place];
    if (older) {
        catalog->shard_bytes -= list_bytes(older);
        max_bytes = SHARD_LISTS_BYTES_MAX;
    }
    catalog->shard_lists[place] = NULL;
    if (list && has_room_locked(catalog, list, max_bytes)) {
        catalog->shard_bytes += list_bytes(list);
        catalog->shard_lists[place] = atd_shard_list_ref(list);
    }
    catalog->shards_seen[place] = true;
    atd_lock_give(&catalog->shards_lock);
    atd_shard_list_unref(older);
}

int atd_catalog_shards_renew(struct atd_catalog *catalog, const struct atd_catalog_entry *entry,
                             struct atd_locator *locator, enum atd_effort effort,
                             struct atd_shard_list **ret_list, struct atd_error *err)
{
    struct atd_shard_list *list;
    int rc = make_list(entry, locator, effort, &list, err);

    if (rc)
        return rc;
    keep_list(catalog, entry, list, SHARD_LISTS_BYTES_MAX);
    *ret_list = list;
    return 0;
}

int atd_catalog_shards_look(struct atd_catalog *catalog, const struct atd_catalog_entry *entry,
                            struct atd_locator *locator, struct atd_shard_list **ret_list,
                            struct atd_error *err)
{
    struct atd_shard_list *list;
    bool is_well;
    int rc = make_list(entry, locator, ATD_EFFORT_DISK, &list, err);

    if (rc) {
        if (rc == -EWOULDBLOCK)
            keep_list(catalog, entry, NULL, 0);
        return rc;
    }
    /* What is wrong is told of, and missing files are looked for again. */
    is_well = !list->error && list->readable == list->count;
    keep_list(catalog, entry, list, is_well ? UNASKED_LISTS_BYTES_MAX : SHARD_LISTS_BYTES_MAX);
    *ret_list = list;
    return 0;
}

size_t atd_catalog_shards_next(struct atd_catalog *catalog, size_t first, uint64_t *unreadable)
{
    bool found = false;

    while (!found && first < catalog->entry_count) {
        size_t end = catalog->entry_count - first < PASSED_AT_ONCE ? catalog->entry_count
                                                                   : first + PASSED_AT_ONCE;

        atd_lock_take(&catalog->shards_lock);
        for (; first < end; first++) {
            const struct atd_shard_list *list = catalog->shard_lists[first];

            found = list ? list->may_change : !catalog->shards_seen[first];
            if (found)
                break;
            if (list)
                *unreadable += list->count - list->readable + (list->error != NULL);
        }
        atd_lock_give(&catalog->shards_lock);
    }
    return first;
}

int atd_catalog_shards_get(struct atd_catalog *catalog, const struct atd_catalog_entry *entry,
                           struct atd_locator *locator, enum atd_effort effort,
                           struct atd_shard_list **ret_list, struct atd_error *err)
{
    struct atd_shard_list *list = atd_catalog_shards_peek(catalog, entry);

    if (!list)
        return atd_catalog_shards_renew(catalog, entry, locator, effort, ret_list, err);
    *ret_list = list;
    return 0;
}

void atd_catalog_shards_forget(struct atd_catalog *catalog, const struct atd_catalog_entry *entry,
                               const struct atd_shard_list *list)
{
    uint32_t place = atd_catalog_place_of(catalog, entry);
    struct atd_shard_list *dropped = NULL;

    atd_lock_take(&catalog->shards_lock);
    if (catalog->shard_lists[place] == list) {
        dropped = catalog->shard_lists[place];
        catalog->shard_bytes -= list_bytes(dropped);
        catalog->shard_lists[place] = NULL;
        catalog->shards_seen[place] = false;
    }
    atd_lock_give(&catalog->shards_lock);
    atd_shard_list_unref(dropped);
}

/* True when both entries have the same shards, for all that the index knows. */
static bool lists_the_same(const struct atd_catalog_entry *a, const struct atd_catalog_entry *b)
{
    return a->text == b->text || (atd_str_equal(atd_entry_cid(a), atd_entry_cid(b)) &&
                                  atd_str_equal(atd_bytes_str(atd_entry_data_urls(a)),
                                                atd_bytes_str(atd_entry_data_urls(b))) &&
                                  atd_str_equal(atd_bytes_str(atd_entry_metadata(a)),
                                                atd_bytes_str(atd_entry_metadata(b))));
}

/* Lists on their way to a newer generation, with a reference each; NULL: the sweep kept none. */
struct inherited {
    struct atd_shard_list *lists[INHERITED_AT_ONCE];
    uint32_t places[INHERITED_AT_ONCE]; /* there */
    size_t count;
};

/* The lists of the places from `first` on, as many as there is room for; where it stopped. */
static size_t borrow_lists(struct atd_catalog *catalog, size_t first, struct inherited *ret_found)
{
    ret_found->count = 0;
    atd_lock_take(&catalog->shards_lock);
    for (; first < catalog->entry_count && ret_found->count < INHERITED_AT_ONCE; first++) {
        struct atd_shard_list *list = catalog->shard_lists[first];

        if (!list && !catalog->shards_seen[first])
            continue;
        ret_found->places[ret_found->count] = (uint32_t)first;
        ret_found->lists[ret_found->count++] = list ? atd_shard_list_ref(list) : NULL;
    }
    atd_lock_give(&catalog->shards_lock);
    return first;
}

/* Takes the references over, but for those that are not wanted. */
static void hand_over(struct atd_catalog *catalog, struct inherited *inherited)
{
    atd_lock_take(&catalog->shards_lock);
    for (size_t i = 0; i < inherited->count; i++) {
        struct atd_shard_list *list = inherited->lists[i];
        uint32_t place = inherited->places[i];

        if (place == ATD_NONE)
            continue;
        catalog->shards_seen[place] = true;
        if (list && !catalog->shard_lists[place] &&
            has_room_locked(catalog, list, SHARD_LISTS_BYTES_MAX)) {
            catalog->shard_bytes += list_bytes(list);
            catalog->shard_lists[place] = list;
            inherited->lists[i] = NULL;
        }
    }
    atd_lock_give(&catalog->shards_lock);
    for (size_t i = 0; i < inherited->count; i++)
        atd_shard_list_unref(inherited->lists[i]);
}

void atd_catalog_shards_inherit(struct atd_catalog *catalog, struct atd_catalog *older)
{
    struct inherited found;
    size_t next = 0;
    size_t at = 0;

    /* Both tables are in one order, and most rows of both are the same ones. */
    while (next < older->entry_count) {
        next = borrow_lists(older, next, &found);
        for (size_t i = 0; i < found.count; i++) {
            const struct atd_catalog_entry *before = &older->entries[found.places[i]];

            while (at < catalog->entry_count && catalog->entries[at].text != before->text &&
                   atd_str_compare(atd_entry_file_name(&catalog->entries[at]),
                                   atd_entry_file_name(before)) < 0)
                at++;
            found.places[i] =
                at < catalog->entry_count && lists_the_same(&catalog->entries[at], before)
                    ? (uint32_t)at
                    : ATD_NONE;
        }
        hand_over(catalog, &found);
    }
}

/*
 * What goes through all that is staged: listings, what gives way to a catalog, what is forgotten.
 */
#include <errno.h>
#include <stdlib.h>

#include "atdata/arena.h"
#include "atdata/entry.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "staging_table.h"

typedef bool wanted_fn(const struct staged *staged, const void *ctx);

static size_t count_locked(struct staging *staging, wanted_fn *wanted, const void *ctx)
{
    size_t count = 0;

    for (size_t i = 0; i < STAGED_BUCKETS && staging->named_count; i++) {
        for (const struct staged *at = staging->by_name[i]; at; at = at->next_by_name)
            count += wanted(at, ctx);
    }
    return count;
}

/* References on all named ones that are wanted, in no order. False: out of memory. */
static bool collect_locked(struct staging *staging, wanted_fn *wanted, const void *ctx,
                           struct staged_list *list)
{
    size_t count = count_locked(staging, wanted, ctx);

    if (count == 0)
        return true;
    list->items = calloc(count, sizeof(*list->items));
    if (!list->items)
        return false;
    for (size_t i = 0; i < STAGED_BUCKETS; i++) {
        for (struct staged *at = staging->by_name[i]; at; at = at->next_by_name) {
            char *leaf;

            if (!wanted(at, ctx))
                continue;
            leaf = strdup(at->leaf);
            if (!leaf)
                return false;
            at->refs++;
            list->items[list->count++] = (struct staged_listed){at, leaf};
        }
    }
    return true;
}

static int collect(struct staging *staging, wanted_fn *wanted, const void *ctx,
                   struct staged_list *ret_list)
{
    struct staged_list list = {0};
    bool is_done;

    atd_lock_take(&staging->lock);
    is_done = collect_locked(staging, wanted, ctx, &list);
    atd_lock_give(&staging->lock);
    if (!is_done) {
        staging_list_free(staging, &list);
        return -ENOMEM;
    }
    *ret_list = list;
    return 0;
}

struct in_directory {
    enum node_kind directory;
    struct atd_str subject;
};

static bool is_in_directory(const struct staged *staged, const void *ctx)
{
    const struct in_directory *in = ctx;

    return staged_is_in(staged, in->directory, in->subject);
}

static int by_leaf(const void *a, const void *b)
{
    return strcmp(((const struct staged_listed *)a)->leaf, ((const struct staged_listed *)b)->leaf);
}

int staging_list(struct staging *staging, enum node_kind directory, struct atd_str subject,
                 struct staged_list *ret_list, struct atd_error *err)
{
    const struct in_directory in = {directory, subject};
    struct staged_list list;

    if (collect(staging, is_in_directory, &in, &list) != 0)
        return atd_error_set(err, ENOMEM, "out of memory");
    if (list.count)
        qsort(list.items, list.count, sizeof(*list.items), by_leaf);
    *ret_list = list;
    return 0;
}

void staging_list_free(struct staging *staging, struct staged_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        staged_unref(staging, list->items[i].staged);
        free(list->items[i].leaf);
    }
    free(list->items);
    *list = (struct staged_list){0};
}

/* ------------------------------------------------------------------ giving way */

static bool is_published(const struct staged *staged, const void *ctx)
{
    (void)ctx;
    return staged->is_published;
}

/* Whether the dataset's entry names the URL that the file was published as. */
static bool catalog_shows(struct atd_catalog *catalog, const struct staged *staged,
                          struct atd_str dataset_name)
{
    const struct atd_dataset *dataset = atd_catalog_find_dataset(catalog, dataset_name);
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ATD_URLS_BYTES_MAX);
    struct atd_publication_status status;
    struct atd_str *urls;
    size_t count;

    if (!dataset)
        return false;
    atd_publication_status(staged->publication, &status);
    if (atd_urls_decode(atd_entry_data_urls(atd_catalog_entry_at(catalog, dataset->entry)), &arena,
                        &urls, &count, NULL) != 0)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (atd_str_equal(urls[i], atd_str_from(status.url)))
            return true;
    }
    return false;
}

void staging_settle(struct staging *staging, struct atd_catalog *catalog)
{
    struct staged_list list;

    staging_settle_datasets(staging, catalog);
    if (collect(staging, is_published, NULL, &list) != 0)
        return; /* with the next generation, or swept */
    for (size_t i = 0; i < list.count; i++) {
        struct staged *staged = list.items[i].staged;
        struct staged_look look;

        staging_look(staging, staged, &look);
        /* A record was applied by an edit, which ends when a catalog shows it. */
        if (staged->kind == STAGED_TEXT ||
            (staged->kind == STAGED_FILE &&
             catalog_shows(catalog, staged, atd_str_from(look.where.subject))))
            (void)staging_remove(staging, staged);
    }
    staging_list_free(staging, &list);
}

void staging_forget(struct staging *staging)
{
    atd_lock_take(&staging->lock);
    for (size_t i = 0; i < STAGED_BUCKETS; i++) {
        while (staging->by_name[i]) {
            struct staged *staged = staging->by_name[i];

            staging_take_name_locked(staging, staged);
            atd_lock_give(&staging->lock);
            staged_unref(staging, staged);
            atd_lock_take(&staging->lock);
        }
    }
    atd_lock_give(&staging->lock);
}

static bool is_forgotten_locked(struct staging *staging, const struct staged *staged,
                                int64_t now_ms)
{
    int64_t keep_s = staged->is_published          ? STAGED_PUBLISHED_S
                     : staged->kind == STAGED_NOTE ? STAGED_NOTE_KEEP_S
                                                   : STAGED_FORGOTTEN_S;

    /* Whoever has a reference works with it, or has it open. */
    return staged->refs == 1 && now_ms - staged->touched_ms > keep_s * 1000 &&
           !(staged->kind == STAGED_DIR && staging_holds_names_locked(staging, staged));
}

void staging_sweep(struct staging *staging)
{
    int64_t now_ms = atd_clock_monotonic_ms();
    struct staged *swept = NULL;

    atd_lock_take(&staging->lock);
    for (size_t i = 0; i < STAGED_BUCKETS && staging->named_count; i++) {
        struct staged *next;

        for (struct staged *at = staging->by_name[i]; at; at = next) {
            next = at->next_by_name;
            if (!is_forgotten_locked(staging, at, now_ms))
                continue;
            staging_take_name_locked(staging, at);
            at->next_by_name = swept;
            swept = at;
        }
    }
    atd_lock_give(&staging->lock);
    while (swept) {
        struct staged *next = swept->next_by_name;

        staged_unref(staging, swept);
        swept = next;
    }
}

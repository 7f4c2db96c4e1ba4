#include "listing.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/hash.h"

/* Who reads a large directory in pieces gets them from one state for so long. */
#define STATE_MS 2000

/* Positions are file offsets: not negative. */
#define POSITION_SHIFT 2

void listings_init(struct listings *listings)
{
    *listings = (struct listings){.seed = atd_hash_seed()};
    atd_lock_init(&listings->lock, ATD_RANK_LISTINGS);
}

void listing_unref(struct listing *listing)
{
    if (!listing || atomic_fetch_sub(&listing->refs, 1) != 1)
        return;
    view_close(&listing->view);
    free(listing);
}

void listings_release(struct listings *listings)
{
    atd_lock_destroy(&listings->lock);
}

/* ------------------------------------------------------------------ the order */

static int compare_names(const void *a, const void *b)
{
    const struct listing_name *left = a;
    const struct listing_name *right = b;

    if (left->position != right->position)
        return left->position < right->position ? -1 : 1;
    return (left->place > right->place) - (left->place < right->place);
}

/* Takes the view over. NULL when out of memory: it is still the caller's. */
static struct listing *make(struct fs *fs, fuse_ino_t number, const struct view *view)
{
    size_t count = view_count(view);
    struct listing *listing = malloc(sizeof(*listing) + count * sizeof(listing->names[0]));

    if (!listing)
        return NULL;
    atomic_init(&listing->refs, 1);
    listing->number = number;
    listing->view = *view;
    listing->made_ms = atd_clock_monotonic_ms();
    listing->count = count;
    for (size_t place = 0; place < count; place++) {
        struct view_names names;
        struct atd_str name = view_name_at(view, place, &names);
        uint64_t position = atd_hash(fs->listings->seed, name) >> POSITION_SHIFT;

        listing->names[place] = (struct listing_name){position + LISTING_DOTS + 1, place};
    }
    qsort(listing->names, count, sizeof(listing->names[0]), compare_names);
    return listing;
}

size_t listing_after(const struct listing *listing, uint64_t position)
{
    size_t first = 0;
    size_t end = listing->count;

    while (first < end) {
        size_t middle = first + (end - first) / 2;

        if (listing->names[middle].position <= position)
            first = middle + 1;
        else
            end = middle;
    }
    return first;
}

/* ------------------------------------------------------------------ what is kept */

static struct listing *find(struct listings *listings, fuse_ino_t number)
{
    struct listing *found = NULL;

    atd_lock_take(&listings->lock);
    for (size_t i = 0; i < LISTINGS_KEPT && !found; i++) {
        if (listings->kept[i] && listings->kept[i]->number == number)
            found = listings->kept[i];
    }
    if (found)
        atomic_fetch_add(&found->refs, 1);
    atd_lock_give(&listings->lock);
    return found;
}

/* Instead of the directory's former one, or of the oldest. */
static void keep(struct listings *listings, struct listing *listing)
{
    struct listing *dropped = NULL;
    size_t i = 0;

    atomic_fetch_add(&listing->refs, 1);
    atd_lock_take(&listings->lock);
    while (i < LISTINGS_KEPT - 1 && listings->kept[i] &&
           listings->kept[i]->number != listing->number)
        i++;
    dropped = listings->kept[i];
    for (; i > 0; i--)
        listings->kept[i] = listings->kept[i - 1];
    listings->kept[0] = listing;
    atd_lock_give(&listings->lock);
    listing_unref(dropped);
}

/* Whether it keeps something from being freed. */
static bool is_burden(const struct listing *listing, uint64_t generation)
{
    return listing->view.staged.count > 0 ||
           atd_catalog_generation(listing->view.catalog) < generation;
}

/* Drops the burdens that are so old. Returns when the next one will be. */
static int64_t drop_older(struct listings *listings, uint64_t generation, int64_t age_ms)
{
    struct listing *dropped[LISTINGS_KEPT] = {0};
    int64_t now_ms = atd_clock_monotonic_ms();
    int64_t next_ms = INT64_MAX;
    size_t left = 0;

    atd_lock_take(&listings->lock);
    for (size_t i = 0; i < LISTINGS_KEPT; i++) {
        struct listing *listing = listings->kept[i];
        int64_t left_ms = listing ? listing->made_ms + age_ms - now_ms : 0;
        bool is_dropped = listing && is_burden(listing, generation);

        listings->kept[i] = NULL;
        if (is_dropped && left_ms <= 0) {
            dropped[i] = listing;
            continue;
        }
        if (is_dropped && left_ms < next_ms)
            next_ms = left_ms;
        if (listing)
            listings->kept[left++] = listing;
    }
    atd_lock_give(&listings->lock);
    for (size_t i = 0; i < LISTINGS_KEPT; i++)
        listing_unref(dropped[i]);
    return next_ms;
}

int64_t listings_tidy(struct listings *listings, uint64_t generation)
{
    return drop_older(listings, generation, STATE_MS);
}

void listings_drop(struct listings *listings)
{
    (void)drop_older(listings, UINT64_MAX, 0);
}

static bool is_same_state(const struct listing *listing, const struct view *view)
{
    return atd_catalog_generation(listing->view.catalog) == atd_catalog_generation(view->catalog) &&
           listing->view.shards == view->shards && view_is_settled(&listing->view);
}

static bool will_do(const struct listing *listing, uint64_t position)
{
    return position > LISTING_DOTS && atd_clock_monotonic_ms() - listing->made_ms < STATE_MS;
}

int listing_get(struct fs *fs, const struct node *directory, uint64_t position,
                enum atd_effort effort, struct listing **ret_listing, struct atd_error *err)
{
    struct listing *listing = find(fs->listings, directory->number);
    struct view view;
    int rc;

    if (listing && will_do(listing, position)) {
        *ret_listing = listing;
        return 0;
    }
    rc = view_open(fs, directory->kind, node_subject(directory), VIEW_SHARDS, effort, &view, err);
    if (rc) {
        listing_unref(listing);
        return rc;
    }
    if (!samples_view_is_of(&view, directory)) {
        listing_unref(listing);
        view_close(&view);
        return atd_error_set(err, ESTALE, "the name means another directory now");
    }
    if (listing && is_same_state(listing, &view)) {
        view_close(&view);
        *ret_listing = listing;
        return 0;
    }
    listing_unref(listing);
    if (effort == ATD_EFFORT_MEMORY && view_count(&view) > LISTING_LARGE) {
        view_close(&view);
        return -EWOULDBLOCK;
    }
    listing = make(fs, directory->number, &view);
    if (!listing) {
        view_close(&view);
        return atd_error_set(err, ENOMEM, "out of memory");
    }
    if (listing->count > LISTING_LARGE)
        keep(fs->listings, listing);
    *ret_listing = listing;
    return 0;
}

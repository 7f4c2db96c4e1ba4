#include "catalog/merge.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/cleanup.h"

void atd_fresh_release(struct atd_fresh *fresh)
{
    free(fresh->rows);
    free(fresh->gone);
    *fresh = (struct atd_fresh){0};
}

static void *row_at(const struct atd_row_kind *kind, void *rows, size_t place)
{
    return (uint8_t *)rows + place * kind->bytes;
}

static const void *const_row_at(const struct atd_row_kind *kind, const void *rows, size_t place)
{
    return (const uint8_t *)rows + place * kind->bytes;
}

bool atd_fresh_add(struct atd_fresh *fresh, const struct atd_row_kind *kind, const void *row,
                   bool gone)
{
    if (fresh->count == fresh->cap) {
        size_t wanted = fresh->cap + fresh->cap / 2 + 16;
        void *rows;
        bool *flags;

        /* Half of what a place can say: the base may have as many. */
        if (wanted >= ATD_NONE / 2)
            return false;
        rows = reallocarray(fresh->rows, wanted, kind->bytes);
        if (!rows)
            return false;
        fresh->rows = rows;
        flags = reallocarray(fresh->gone, wanted, sizeof(*flags));
        if (!flags)
            return false;
        fresh->gone = flags;
        fresh->cap = wanted;
    }
    memcpy(row_at(kind, fresh->rows, fresh->count), row, kind->bytes);
    fresh->gone[fresh->count++] = gone;
    return true;
}

/* ------------------------------------------------------------------ rows */

struct sorting {
    const struct atd_row_kind *kind;
    const struct atd_fresh *fresh;
};

static struct atd_str fresh_text(const void *ctx, uint32_t place)
{
    const struct sorting *sorting = ctx;

    return sorting->kind->text(const_row_at(sorting->kind, sorting->fresh->rows, place));
}

static int compare_fresh(const void *ctx, uint32_t a, uint32_t b)
{
    const struct sorting *sorting = ctx;

    return sorting->kind->compare(const_row_at(sorting->kind, sorting->fresh->rows, a),
                                  const_row_at(sorting->kind, sorting->fresh->rows, b));
}

struct merging {
    const struct atd_row_kind *kind;
    const void *base;
    const struct atd_fresh *fresh;
    struct atd_merged *merged;
    size_t hidden_cap;
};

/* Puts a row at the end, or aside when the one before it has its file name; its place. */
static bool put(struct merging *merging, const void *row, bool is_fresh, uint32_t *ret_place)
{
    const struct atd_row_kind *kind = merging->kind;
    struct atd_merged *merged = merging->merged;

    *ret_place = ATD_NONE;
    if (kind->collide && merged->count &&
        kind->collide(row_at(kind, merged->rows, merged->count - 1), row)) {
        if (merged->hidden_count == merging->hidden_cap) {
            void *grown = reallocarray(merged->hidden, merging->hidden_cap * 2 + 16, kind->bytes);

            if (!grown)
                return false;
            merged->hidden = grown;
            merging->hidden_cap = merging->hidden_cap * 2 + 16;
        }
        memcpy(row_at(kind, merged->hidden, merged->hidden_count++), row, kind->bytes);
        return true;
    }
    memcpy(row_at(kind, merged->rows, merged->count), row, kind->bytes);
    merged->is_fresh[merged->count] = is_fresh;
    *ret_place = (uint32_t)merged->count++;
    return true;
}

/* Rows of the base that nothing comes between. */
static bool put_run(struct merging *merging, size_t first, size_t end)
{
    const struct atd_row_kind *kind = merging->kind;
    struct atd_merged *merged = merging->merged;

    if (first == end)
        return true;
    if (!put(merging, const_row_at(kind, merging->base, first), false, &merged->map[first]))
        return false;
    first++;
    memcpy(row_at(kind, merged->rows, merged->count), const_row_at(kind, merging->base, first),
           (end - first) * kind->bytes);
    memset(merged->is_fresh + merged->count, 0, (end - first) * sizeof(*merged->is_fresh));
    while (first < end)
        merged->map[first++] = (uint32_t)merged->count++;
    return true;
}

/* The first row of the base from `low` on that is not before `row`. */
static size_t first_not_before(const struct merging *merging, size_t low, size_t high,
                               const void *row)
{
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (merging->kind->compare(const_row_at(merging->kind, merging->base, middle), row) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* A row that takes the place of the base's of its key, or says that there is none now. */
static bool replace(struct merging *merging, size_t base_place, const void *row, bool gone)
{
    const struct atd_row_kind *kind = merging->kind;
    struct atd_merged *merged = merging->merged;
    const void *before = const_row_at(kind, merging->base, base_place);

    if (!gone && kind->equal(before, row)) {
        if (kind->texts_are_kept)
            merged->dropped_bytes += kind->text_bytes(row);
        return put(merging, before, false, &merged->map[base_place]);
    }
    merged->dropped_bytes += kind->text_bytes(before);
    merged->map[base_place] = ATD_NONE;
    return gone || put(merging, row, true, &merged->map[base_place]);
}

static bool merge_all(struct merging *merging, size_t base_count, const uint32_t *order)
{
    const struct atd_row_kind *kind = merging->kind;
    const struct atd_fresh *fresh = merging->fresh;
    size_t at = 0;

    for (size_t i = 0; i < fresh->count; i++) {
        const void *row = const_row_at(kind, fresh->rows, order[i]);
        bool gone = fresh->gone[order[i]];
        uint32_t place;
        size_t end;

        if (i + 1 < fresh->count &&
            kind->compare(row, const_row_at(kind, fresh->rows, order[i + 1])) == 0) {
            if (!gone && kind->texts_are_kept)
                merging->merged->dropped_bytes += kind->text_bytes(row);
            continue;
        }
        end = first_not_before(merging, at, base_count, row);
        if (!put_run(merging, at, end))
            return false;
        at = end;
        if (at < base_count && kind->compare(const_row_at(kind, merging->base, at), row) == 0) {
            if (!replace(merging, at++, row, gone))
                return false;
        } else if (!gone && !put(merging, row, true, &place)) {
            return false;
        }
    }
    return put_run(merging, at, base_count);
}

bool atd_rows_merge(const struct atd_row_kind *kind, const void *base, size_t base_count,
                    const struct atd_fresh *fresh, struct atd_merged *ret_merged)
{
    struct merging merging = {kind, base, fresh, ret_merged, 0};
    struct sorting sorting = {kind, fresh};
    const struct atd_ordering by_key_then_arrival = {&sorting, fresh_text, compare_fresh};
    atd_auto_free uint32_t *order = reallocarray(NULL, fresh->count + 1, sizeof(*order));

    /* One more: an empty table is no NULL. */
    ret_merged->rows = reallocarray(NULL, base_count + fresh->count + 1, kind->bytes);
    ret_merged->is_fresh = reallocarray(NULL, base_count + fresh->count + 1, sizeof(bool));
    ret_merged->map = reallocarray(NULL, base_count + 1, sizeof(*ret_merged->map));
    if (!order || !ret_merged->rows || !ret_merged->is_fresh || !ret_merged->map)
        return false;
    for (size_t i = 0; i < fresh->count; i++)
        order[i] = (uint32_t)i;
    return atd_places_sort(order, fresh->count, &by_key_then_arrival) &&
           merge_all(&merging, base_count, order);
}

void atd_merged_release(struct atd_merged *merged)
{
    free(merged->rows);
    free(merged->hidden);
    free(merged->map);
    free(merged->is_fresh);
    *merged = (struct atd_merged){0};
}

/* ------------------------------------------------------------------ places */

uint32_t *atd_places_merge(const uint32_t *base, size_t base_count, const struct atd_merged *rows,
                           bool (*keep)(const void *ctx, uint32_t place), uint32_t *added,
                           size_t added_count, const struct atd_ordering *ordering,
                           size_t *ret_count)
{
    uint32_t *places = reallocarray(NULL, base_count + added_count + 1, sizeof(*places));
    uint32_t *kept;
    size_t kept_count = 0;
    size_t at = 0;
    size_t count = 0;

    if (!places || !atd_places_sort(added, added_count, ordering)) {
        free(places);
        return NULL;
    }
    /* What stays waits behind the room for what comes, which is filled from the front. */
    kept = places + added_count;
    for (size_t i = 0; i < base_count; i++) {
        uint32_t place = rows->map[base[i]];

        if (place != ATD_NONE && !rows->is_fresh[place] && (!keep || keep(ordering->ctx, place)))
            kept[kept_count++] = place;
    }
    for (size_t i = 0; i < added_count; i++) {
        size_t low = at;
        size_t high = kept_count;

        while (low < high) {
            size_t middle = low + (high - low) / 2;

            if (ordering->compare(ordering->ctx, kept[middle], added[i]) < 0)
                low = middle + 1;
            else
                high = middle;
        }
        memmove(places + count, kept + at, (low - at) * sizeof(*places));
        count += low - at;
        at = low;
        places[count++] = added[i];
    }
    memmove(places + count, kept + at, (kept_count - at) * sizeof(*places));
    *ret_count = count + kept_count - at;
    return places;
}

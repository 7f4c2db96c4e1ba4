#include "publish/extents.h"

#include <string.h>

#include "base/check.h"

/* The first range that ends at `offset` or behind it. */
static size_t find(const struct atd_extents *extents, uint64_t offset)
{
    size_t low = 0;
    size_t high = extents->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (extents->at[middle].end < offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void check(const struct atd_extents *extents)
{
    atd_assert(extents->count <= ATD_EXTENTS_MAX);
#ifdef ATD_PARANOID
    for (size_t i = 0; i < extents->count; i++) {
        atd_assert(extents->at[i].start < extents->at[i].end);
        atd_assert(i == 0 || extents->at[i - 1].end < extents->at[i].start);
    }
#endif
}

void atd_extents_add(struct atd_extents *extents, uint64_t start, uint64_t end)
{
    size_t first = find(extents, start);
    size_t past = first;

    atd_assert(start < end);
    for (; past < extents->count && extents->at[past].start <= end; past++) {
        if (extents->at[past].start < start)
            start = extents->at[past].start;
        if (extents->at[past].end > end)
            end = extents->at[past].end;
    }
    if (first == past) { /* touches none: a new one */
        if (first == ATD_EXTENTS_MAX)
            return;
        if (extents->count == ATD_EXTENTS_MAX)
            extents->count--;
        memmove(&extents->at[first + 1], &extents->at[first],
                (extents->count - first) * sizeof(extents->at[0]));
        extents->count++;
    } else {
        memmove(&extents->at[first + 1], &extents->at[past],
                (extents->count - past) * sizeof(extents->at[0]));
        extents->count -= past - first - 1;
    }
    extents->at[first] = (struct atd_extent){start, end};
    check(extents);
}

void atd_extents_cut(struct atd_extents *extents, uint64_t from)
{
    while (extents->count && extents->at[extents->count - 1].start >= from)
        extents->count--;
    if (extents->count && extents->at[extents->count - 1].end > from)
        extents->at[extents->count - 1].end = from;
    check(extents);
}

bool atd_extents_overlap(const struct atd_extents *extents, uint64_t start, uint64_t end)
{
    size_t place = start == UINT64_MAX ? extents->count : find(extents, start + 1);

    return place < extents->count && extents->at[place].start < end;
}

uint64_t atd_extents_ordered_end(const struct atd_extents *extents)
{
    return extents->count && extents->at[0].start == 0 ? extents->at[0].end : 0;
}

#include "catalog/diff.h"

#include <stdlib.h>

#include "base/check.h"
#include "catalog/generation.h"

/* Two generations, and of each entry of the later one where the same one stands in the earlier. */
struct pair {
    const struct atd_catalog *before;
    const struct atd_catalog *after;
    uint32_t *unchanged; /* ATD_NONE: it is another one; NULL: not known, for want of memory */
};

/* How the walk below sees one table of one generation. */
struct table_view {
    size_t (*count)(const struct atd_catalog *catalog);
    struct atd_str (*file_name)(const struct atd_catalog *catalog, size_t place);
    bool (*equal)(const struct atd_catalog *a, size_t a_place, const struct atd_catalog *b,
                  size_t b_place);
    /* How many rows from these two on are plainly the same: most rows of two generations are, and
     * share their texts. May say less than there are. */
    size_t (*same)(const struct pair *pair, size_t i, size_t j);
};

/* A text that generations share is the same one. */
static bool text_equal(struct atd_str a, struct atd_str b)
{
    return a.len == b.len && (a.ptr == b.ptr || atd_str_equal(a, b));
}

static struct atd_str dataset_name(const struct atd_catalog *catalog, size_t place)
{
    return atd_dataset_file_name(atd_catalog_dataset_at(catalog, place));
}

/* Not memcmp: this is asked of every entry. */
static bool fingerprints_equal(const struct atd_catalog_entry *a, const struct atd_catalog_entry *b)
{
    uint64_t left[2];
    uint64_t right[2];

    memcpy(left, a->fingerprint, sizeof(left));
    memcpy(right, b->fingerprint, sizeof(right));
    return ((left[0] ^ right[0]) | (left[1] ^ right[1])) == 0;
}

static bool dataset_equal(const struct atd_catalog *a, size_t a_place, const struct atd_catalog *b,
                          size_t b_place)
{
    const struct atd_dataset *left = atd_catalog_dataset_at(a, a_place);
    const struct atd_dataset *right = atd_catalog_dataset_at(b, b_place);

    if (left->other_count != right->other_count ||
        !text_equal(atd_dataset_name(left), atd_dataset_name(right)) ||
        !fingerprints_equal(atd_catalog_entry_at(a, left->entry),
                            atd_catalog_entry_at(b, right->entry)))
        return false;
    for (size_t i = 0; i < left->other_count; i++) {
        if (!fingerprints_equal(atd_catalog_other_of(a, left, i),
                                atd_catalog_other_of(b, right, i)))
            return false;
    }
    return true;
}

static struct atd_str entry_name(const struct atd_catalog *catalog, size_t place)
{
    return atd_entry_file_name(atd_catalog_entry_at(catalog, place));
}

static bool entry_equal(const struct atd_catalog *a, size_t a_place, const struct atd_catalog *b,
                        size_t b_place)
{
    return fingerprints_equal(atd_catalog_entry_at(a, a_place), atd_catalog_entry_at(b, b_place));
}

static struct atd_str schema_name(const struct atd_catalog *catalog, size_t place)
{
    return atd_catalog_schema_at(catalog, place)->stem;
}

static bool schema_equal(const struct atd_catalog *a, size_t a_place, const struct atd_catalog *b,
                         size_t b_place)
{
    const struct atd_catalog_schema *left = atd_catalog_schema_at(a, a_place);
    const struct atd_catalog_schema *right = atd_catalog_schema_at(b, b_place);

    return left->created_at_s == right->created_at_s &&
           text_equal(atd_bytes_str(left->json), atd_bytes_str(right->json));
}

static struct atd_str label_name(const struct atd_catalog *catalog, size_t place)
{
    return atd_label_file_name(atd_catalog_shown_label_at(catalog, place));
}

static bool label_equal(const struct atd_catalog *a, size_t a_place, const struct atd_catalog *b,
                        size_t b_place)
{
    const struct atd_catalog_label *left = atd_catalog_shown_label_at(a, a_place);
    const struct atd_catalog_label *right = atd_catalog_shown_label_at(b, b_place);

    if (left->text == right->text && left->cid == right->cid)
        return true;
    return atd_label_created_at_s(left) == atd_label_created_at_s(right) &&
           text_equal(atd_label_cid(left), atd_label_cid(right));
}

static size_t less(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t same_datasets(const struct pair *pair, size_t i, size_t j)
{
    const struct atd_dataset *a = pair->before->datasets + i;
    const struct atd_dataset *b = pair->after->datasets + j;
    size_t most = less(pair->before->dataset_count - i, pair->after->dataset_count - j);
    size_t count = 0;

    while (pair->unchanged && count < most && a[count].file_name == b[count].file_name &&
           a[count].name == b[count].name && !a[count].other_count && !b[count].other_count &&
           pair->unchanged[b[count].entry] == a[count].entry)
        count++;
    return count;
}

static size_t same_entries(const struct pair *pair, size_t i, size_t j)
{
    size_t most = less(pair->before->entry_count - i, pair->after->entry_count - j);
    size_t count = 0;

    while (pair->unchanged && count < most && pair->unchanged[j + count] == i + count)
        count++;
    return count;
}

static size_t same_schemas(const struct pair *pair, size_t i, size_t j)
{
    const struct atd_catalog_schema *a = pair->before->schemas + i;
    const struct atd_catalog_schema *b = pair->after->schemas + j;
    size_t most = less(pair->before->schema_count - i, pair->after->schema_count - j);
    size_t count = 0;

    while (count < most && a[count].json.ptr == b[count].json.ptr &&
           a[count].created_at_s == b[count].created_at_s)
        count++;
    return count;
}

static size_t same_labels(const struct pair *pair, size_t i, size_t j)
{
    const uint32_t *a = pair->before->shown_labels + i;
    const uint32_t *b = pair->after->shown_labels + j;
    size_t most = less(pair->before->shown_label_count - i, pair->after->shown_label_count - j);
    size_t count = 0;

    while (count < most &&
           pair->before->labels[a[count]].text == pair->after->labels[b[count]].text &&
           pair->before->labels[a[count]].cid == pair->after->labels[b[count]].cid)
        count++;
    return count;
}

static const struct table_view views[] = {
    [ATD_DIFF_DATASET] = {atd_catalog_dataset_count, dataset_name, dataset_equal, same_datasets},
    [ATD_DIFF_ENTRY] = {atd_catalog_entry_count, entry_name, entry_equal, same_entries},
    [ATD_DIFF_SCHEMA] = {atd_catalog_schema_count, schema_name, schema_equal, same_schemas},
    [ATD_DIFF_LABEL] = {atd_catalog_shown_label_count, label_name, label_equal, same_labels},
};

/* Both tables are sorted by file name: one merge. */
static void diff_table(const struct pair *pair, enum atd_diff_table table, atd_diff_fn fn,
                       void *ctx)
{
    const struct table_view *view = &views[table];
    size_t before_count = view->count(pair->before);
    size_t after_count = view->count(pair->after);
    size_t i = 0;
    size_t j = 0;

    while (i < before_count || j < after_count) {
        size_t same = view->same(pair, i, j);
        int order;

        i += same;
        j += same;
        if (i == before_count && j == after_count)
            break;
        if (i == before_count)
            order = 1;
        else if (j == after_count)
            order = -1;
        else
            order =
                atd_str_compare(view->file_name(pair->before, i), view->file_name(pair->after, j));
        if (order < 0) {
            fn(ctx, table, ATD_DIFF_REMOVED, view->file_name(pair->before, i++));
        } else if (order > 0) {
            fn(ctx, table, ATD_DIFF_ADDED, view->file_name(pair->after, j++));
        } else {
            if (!view->equal(pair->before, i, pair->after, j))
                fn(ctx, table, ATD_DIFF_CHANGED, view->file_name(pair->after, j));
            i++;
            j++;
        }
    }
}

/* Entries that both generations have, with one fingerprint; NULL when out of memory. */
static uint32_t *unchanged_entries(const struct atd_catalog *before,
                                   const struct atd_catalog *after)
{
    uint32_t *unchanged = reallocarray(NULL, after->entry_count + 1, sizeof(*unchanged));
    size_t i = 0;

    for (size_t j = 0; unchanged && j < after->entry_count; j++) {
        const struct atd_catalog_entry *entry = &after->entries[j];
        int order = -1;

        while (i < before->entry_count && before->entries[i].text != entry->text &&
               (order = atd_str_compare(entry_name(before, i), entry_name(after, j))) < 0)
            i++;
        unchanged[j] = ATD_NONE;
        if (i == before->entry_count || (before->entries[i].text != entry->text && order != 0))
            continue;
        if (fingerprints_equal(&before->entries[i], entry))
            unchanged[j] = (uint32_t)i;
        i++;
    }
    return unchanged;
}

void atd_catalog_diff(const struct atd_catalog *before, const struct atd_catalog *after,
                      atd_diff_fn fn, void *ctx)
{
    struct pair pair = {before, after, NULL};

    pair.unchanged = unchanged_entries(before, after);
    for (size_t i = 0; i < ATD_ARRAY_LEN(views); i++)
        diff_table(&pair, (enum atd_diff_table)i, fn, ctx);
    free(pair.unchanged);
}

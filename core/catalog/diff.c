#include "catalog/diff.h"

#include "base/check.h"

/* How the walk below sees one table of one generation. */
struct table_view {
    size_t (*count)(const struct atd_catalog *catalog);
    struct atd_str (*file_name)(const struct atd_catalog *catalog, size_t place);
    bool (*equal)(const struct atd_catalog *a, size_t a_place, const struct atd_catalog *b,
                  size_t b_place);
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

static bool fingerprints_equal(const struct atd_catalog_entry *a, const struct atd_catalog_entry *b)
{
    return memcmp(a->fingerprint, b->fingerprint, ATD_FINGERPRINT_BYTES) == 0;
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

static const struct table_view views[] = {
    [ATD_DIFF_DATASET] = {atd_catalog_dataset_count, dataset_name, dataset_equal},
    [ATD_DIFF_ENTRY] = {atd_catalog_entry_count, entry_name, entry_equal},
    [ATD_DIFF_SCHEMA] = {atd_catalog_schema_count, schema_name, schema_equal},
    [ATD_DIFF_LABEL] = {atd_catalog_shown_label_count, label_name, label_equal},
};

/* Most rows of two generations are the same ones, their texts too. */
static int compare_names(struct atd_str a, struct atd_str b)
{
    return a.ptr == b.ptr && a.len == b.len ? 0 : atd_str_compare(a, b);
}

/* Both tables are sorted by file name: one merge. */
static void diff_table(const struct atd_catalog *before, const struct atd_catalog *after,
                       enum atd_diff_table table, atd_diff_fn fn, void *ctx)
{
    const struct table_view *view = &views[table];
    size_t before_count = view->count(before);
    size_t after_count = view->count(after);
    size_t i = 0;
    size_t j = 0;

    while (i < before_count || j < after_count) {
        int order;

        if (i == before_count)
            order = 1;
        else if (j == after_count)
            order = -1;
        else
            order = compare_names(view->file_name(before, i), view->file_name(after, j));
        if (order < 0) {
            fn(ctx, table, ATD_DIFF_REMOVED, view->file_name(before, i++));
        } else if (order > 0) {
            fn(ctx, table, ATD_DIFF_ADDED, view->file_name(after, j++));
        } else {
            if (!view->equal(before, i, after, j))
                fn(ctx, table, ATD_DIFF_CHANGED, view->file_name(after, j));
            i++;
            j++;
        }
    }
}

void atd_catalog_diff(const struct atd_catalog *before, const struct atd_catalog *after,
                      atd_diff_fn fn, void *ctx)
{
    for (size_t i = 0; i < ATD_ARRAY_LEN(views); i++)
        diff_table(before, after, (enum atd_diff_table)i, fn, ctx);
}

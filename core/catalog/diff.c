#include "catalog/diff.h"

#include "base/check.h"

/* How the walk below sees one table of one generation. */
struct table_view {
    size_t (*count)(const struct atd_catalog *catalog);
    struct atd_str (*file_name)(const struct atd_catalog *catalog, size_t place);
    bool (*equal)(const struct atd_catalog *a, size_t a_place, const struct atd_catalog *b,
                  size_t b_place);
};

static struct atd_str dataset_name(const struct atd_catalog *catalog, size_t place)
{
    return atd_catalog_dataset_at(catalog, place)->file_name;
}

static bool dataset_equal(const struct atd_catalog *a, size_t a_place, const struct atd_catalog *b,
                          size_t b_place)
{
    return memcmp(atd_catalog_dataset_at(a, a_place)->fingerprint,
                  atd_catalog_dataset_at(b, b_place)->fingerprint, ATD_FINGERPRINT_BYTES) == 0;
}

static struct atd_str entry_name(const struct atd_catalog *catalog, size_t place)
{
    return atd_catalog_entry_at(catalog, place)->file_name;
}

static bool entry_equal(const struct atd_catalog *a, size_t a_place, const struct atd_catalog *b,
                        size_t b_place)
{
    return memcmp(atd_catalog_entry_at(a, a_place)->fingerprint,
                  atd_catalog_entry_at(b, b_place)->fingerprint, ATD_FINGERPRINT_BYTES) == 0;
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
           atd_str_equal(atd_bytes_str(left->json), atd_bytes_str(right->json));
}

static struct atd_str label_name(const struct atd_catalog *catalog, size_t place)
{
    return atd_catalog_shown_label_at(catalog, place)->file_name;
}

static bool label_equal(const struct atd_catalog *a, size_t a_place, const struct atd_catalog *b,
                        size_t b_place)
{
    const struct atd_catalog_label *left = atd_catalog_shown_label_at(a, a_place);
    const struct atd_catalog_label *right = atd_catalog_shown_label_at(b, b_place);

    return left->created_at_s == right->created_at_s && atd_str_equal(left->cid, right->cid);
}

static const struct table_view views[] = {
    [ATD_DIFF_DATASET] = {atd_catalog_dataset_count, dataset_name, dataset_equal},
    [ATD_DIFF_ENTRY] = {atd_catalog_entry_count, entry_name, entry_equal},
    [ATD_DIFF_SCHEMA] = {atd_catalog_schema_count, schema_name, schema_equal},
    [ATD_DIFF_LABEL] = {atd_catalog_shown_label_count, label_name, label_equal},
};

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
            order = atd_str_compare(view->file_name(before, i), view->file_name(after, j));
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

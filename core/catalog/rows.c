/*
 * How the rows of each table are ordered, compared and counted.
 */
#include "catalog/generation.h"
#include "catalog/intake.h"

static bool may_be_equal(struct atd_str a, struct atd_str b)
{
    return (a.ptr == NULL) == (b.ptr == NULL) && atd_str_equal(a, b);
}

/* Never 0 for two places: merging keeps the order of those that are equal otherwise. */
static int compare_places(uint32_t left, uint32_t right)
{
    return (left > right) - (left < right);
}

/* ------------------------------------------------------------------ entries */

static int compare_entries(const void *a, const void *b)
{
    int order = atd_str_compare(atd_entry_file_name(a), atd_entry_file_name(b));

    return order ? order : atd_str_compare(atd_entry_cid(a), atd_entry_cid(b));
}

static bool entries_equal(const void *a, const void *b)
{
    const struct atd_catalog_entry *left = a;
    const struct atd_catalog_entry *right = b;

    return left->created_at_s == right->created_at_s && left->ref == right->ref &&
           atd_str_equal(atd_entry_cid(left), atd_entry_cid(right)) &&
           atd_str_equal(atd_entry_name(left), atd_entry_name(right)) &&
           atd_str_equal(atd_bytes_str(atd_entry_data_urls(left)),
                         atd_bytes_str(atd_entry_data_urls(right))) &&
           may_be_equal(atd_bytes_str(atd_entry_metadata(left)),
                        atd_bytes_str(atd_entry_metadata(right)));
}

/* Only names that were cut share a file name. */
static bool entries_collide(const void *a, const void *b)
{
    const struct atd_catalog_entry *left = a;
    const struct atd_catalog_entry *right = b;

    return (left->file_name_len || right->file_name_len) &&
           atd_str_equal(atd_entry_file_name(left), atd_entry_file_name(right));
}

static size_t entry_bytes(const void *row)
{
    const struct atd_catalog_entry *entry = row;
    size_t metadata_len = entry->metadata_len == ATD_NONE ? 0 : entry->metadata_len;

    return (size_t)entry->cid_len + entry->name_len + entry->data_urls_len + metadata_len +
           entry->file_name_len + 3;
}

static struct atd_str entry_text(const void *row)
{
    return atd_entry_file_name(row);
}

const struct atd_row_kind atd_entry_rows = {
    .bytes = sizeof(struct atd_catalog_entry),
    .text = entry_text,
    .compare = compare_entries,
    .equal = entries_equal,
    .collide = entries_collide,
    .text_bytes = entry_bytes,
    .texts_are_kept = true,
};

static struct atd_str entry_name(const void *ctx, uint32_t place)
{
    return atd_entry_name(&((const struct atd_catalog *)ctx)->entries[place]);
}

static int compare_entry_names(const void *ctx, uint32_t a, uint32_t b)
{
    const struct atd_catalog *catalog = ctx;
    int order = atd_str_compare(entry_name(ctx, a), entry_name(ctx, b));

    return order ? order
                 : atd_str_compare(atd_entry_cid(&catalog->entries[a]),
                                   atd_entry_cid(&catalog->entries[b]));
}

struct atd_ordering atd_order_by_name(const struct atd_catalog *catalog)
{
    return (struct atd_ordering){catalog, entry_name, compare_entry_names};
}

/* ------------------------------------------------------------------ labels */

static int compare_labels(const void *a, const void *b)
{
    int order = atd_str_compare(atd_label_name(a), atd_label_name(b));

    return order ? order : atd_str_compare(atd_label_version(a), atd_label_version(b));
}

static bool labels_equal(const void *a, const void *b)
{
    return compare_labels(a, b) == 0 && atd_str_equal(atd_label_cid(a), atd_label_cid(b)) &&
           may_be_equal(atd_label_created_at(a), atd_label_created_at(b)) &&
           may_be_equal(atd_label_description(a), atd_label_description(b));
}

static size_t label_bytes(const void *row)
{
    return atd_label_own_text(row).len + 1;
}

static struct atd_str label_text(const void *row)
{
    return atd_label_name(row);
}

const struct atd_row_kind atd_label_rows = {
    .bytes = sizeof(struct atd_catalog_label),
    .text = label_text,
    .compare = compare_labels,
    .equal = labels_equal,
    .text_bytes = label_bytes,
};

static struct atd_str label_cid(const void *ctx, uint32_t place)
{
    return atd_label_cid(&((const struct atd_catalog *)ctx)->labels[place]);
}

static int compare_label_cids(const void *ctx, uint32_t a, uint32_t b)
{
    int order = atd_str_compare(label_cid(ctx, a), label_cid(ctx, b));

    return order ? order : compare_places(a, b);
}

struct atd_ordering atd_order_by_label_cid(const struct atd_catalog *catalog)
{
    return (struct atd_ordering){catalog, label_cid, compare_label_cids};
}

static struct atd_str label_file(const void *ctx, uint32_t place)
{
    return atd_label_file_name(&((const struct atd_catalog *)ctx)->labels[place]);
}

static int compare_label_files(const void *ctx, uint32_t a, uint32_t b)
{
    int order = atd_str_compare(label_file(ctx, a), label_file(ctx, b));

    return order ? order : compare_places(a, b);
}

struct atd_ordering atd_order_by_label_file(const struct atd_catalog *catalog)
{
    return (struct atd_ordering){catalog, label_file, compare_label_files};
}

/* ------------------------------------------------------------------ schemas */

static int compare_schemas(const void *a, const void *b)
{
    const struct atd_catalog_schema *left = a;
    const struct atd_catalog_schema *right = b;
    int order = atd_str_compare(left->stem, right->stem);

    if (order == 0)
        order = atd_str_compare(left->name, right->name);
    return order ? order : atd_str_compare(left->version, right->version);
}

static bool schemas_equal(const void *a, const void *b)
{
    const struct atd_catalog_schema *left = a;
    const struct atd_catalog_schema *right = b;

    return compare_schemas(a, b) == 0 && left->created_at_s == right->created_at_s &&
           atd_str_equal(atd_bytes_str(left->json), atd_bytes_str(right->json));
}

/* Names that were cut, and a@b, c beside a, b@c. */
static bool schemas_collide(const void *a, const void *b)
{
    return atd_str_equal(((const struct atd_catalog_schema *)a)->stem,
                         ((const struct atd_catalog_schema *)b)->stem);
}

static size_t schema_bytes(const void *row)
{
    const struct atd_catalog_schema *schema = row;

    return schema->name.len + schema->version.len + schema->json.len + schema->stem.len + 4;
}

static struct atd_str schema_text(const void *row)
{
    return ((const struct atd_catalog_schema *)row)->stem;
}

const struct atd_row_kind atd_schema_rows = {
    .bytes = sizeof(struct atd_catalog_schema),
    .text = schema_text,
    .compare = compare_schemas,
    .equal = schemas_equal,
    .collide = schemas_collide,
    .text_bytes = schema_bytes,
    .texts_are_kept = true,
};

static struct atd_str schema_bare(const void *ctx, uint32_t place)
{
    return ((const struct atd_catalog *)ctx)->schemas[place].bare;
}

static int compare_schema_bares(const void *ctx, uint32_t a, uint32_t b)
{
    const struct atd_catalog *catalog = ctx;
    const struct atd_catalog_schema *left = &catalog->schemas[a];
    const struct atd_catalog_schema *right = &catalog->schemas[b];
    int order = atd_str_compare(left->bare, right->bare);

    if (order == 0)
        order = atd_str_compare(left->version, right->version);
    /* The undotted name first: the one every release can get (ATDATA-FORMATS 1.3). */
    if (order == 0)
        order = (left->name.len > right->name.len) - (left->name.len < right->name.len);
    return order ? order : atd_str_compare(left->name, right->name);
}

struct atd_ordering atd_order_by_bare(const struct atd_catalog *catalog)
{
    return (struct atd_ordering){catalog, schema_bare, compare_schema_bares};
}

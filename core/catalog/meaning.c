/*
 * Which entry a name means, and which names show in datasets/. Source: DESIGN 2.2, 4.4.
 */
#include <errno.h>
#include <stdlib.h>

#include "atdata/schema_ref.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/digest.h"
#include "base/limits.h"
#include "catalog/generation.h"
#include "codec/file_name.h"

/* One name and everything that carries it. */
struct name_group {
    struct atd_str name;
    size_t first_entry; /* places in entries_by_name */
    size_t entry_count;
    size_t first_label; /* places in labels */
    size_t label_count;
};

static const struct atd_catalog_entry *entry_named(const struct atd_catalog *catalog, size_t place)
{
    return &catalog->entries[catalog->entries_by_name[place]];
}

static struct name_group find_group(const struct atd_catalog *catalog, struct atd_str name)
{
    struct name_group group = {.name = name};

    group.first_entry = atd_catalog_first_named(catalog, name);
    while (group.first_entry + group.entry_count < catalog->entry_count &&
           atd_str_equal(entry_named(catalog, group.first_entry + group.entry_count)->name, name))
        group.entry_count++;
    group.first_label = atd_catalog_first_label_named(catalog, name);
    while (group.first_label + group.label_count < catalog->label_count &&
           atd_str_equal(catalog->labels[group.first_label + group.label_count].name, name))
        group.label_count++;
    return group;
}

/* True when some entry or live label carries the name. */
static bool name_is_used(const struct atd_catalog *catalog, struct atd_str name)
{
    struct name_group group = find_group(catalog, name);

    for (size_t i = 0; group.entry_count == 0 && i < group.label_count; i++) {
        if (catalog->labels[group.first_label + i].entry != ATD_NONE)
            return true;
    }
    return group.entry_count > 0;
}

/*
 * True for an entry that was renamed when it was superseded: NAME@superseded:CID while NAME is in
 * use, or NAME@VERSION while the label NAME, VERSION points at it. Such names do not show.
 */
bool atd_catalog_is_superseded(const struct atd_catalog *catalog,
                               const struct atd_catalog_entry *entry)
{
    static const char mark[] = "superseded:";
    ptrdiff_t at = atd_str_find_last(entry->name, '@');
    struct atd_str name;
    struct atd_str version;

    if (at < 0)
        return false;
    name = atd_str_head(entry->name, (size_t)at);
    version = atd_str_from_byte(entry->name, (size_t)at + 1);
    if (atd_str_starts_with(version, atd_str_from(mark)) &&
        atd_str_equal(atd_str_from_byte(version, sizeof(mark) - 1), entry->cid))
        return name_is_used(catalog, name);
    for (size_t i = 0; i < entry->label_count; i++) {
        const struct atd_catalog_label *label = atd_catalog_label_of(catalog, entry, i);

        if (label->version.len && atd_str_equal(label->version, version) &&
            atd_str_equal(label->name, name))
            return true;
    }
    return false;
}

/* Later created_at wins (compared as text, ATDATA-FORMATS 1.4), then semver, then bytes. */
static bool label_is_newer(const struct atd_catalog_label *a, const struct atd_catalog_label *b)
{
    struct atd_semver left;
    struct atd_semver right;
    bool left_is_semver = atd_semver_parse(a->version, &left);
    bool right_is_semver = atd_semver_parse(b->version, &right);
    int order = atd_str_compare(a->created_at, b->created_at);

    if (order)
        return order > 0;
    if (left_is_semver != right_is_semver)
        return left_is_semver;
    if (left_is_semver) {
        order = atd_semver_compare(&left, &right);
        if (order)
            return order > 0;
    }
    return atd_str_compare(a->version, b->version) > 0;
}

static const struct atd_catalog_label *best_label(const struct atd_catalog *catalog,
                                                  const struct name_group *group)
{
    const struct atd_catalog_label *best = NULL;

    for (size_t i = 0; i < group->label_count; i++) {
        const struct atd_catalog_label *label = &catalog->labels[group->first_label + i];

        if (label->entry == ATD_NONE)
            continue;
        if (label->version.len == 0)
            return label;
        if (!best || label_is_newer(label, best))
            best = label;
    }
    return best;
}

static bool name_dataset(struct atd_catalog *catalog, struct atd_dataset *dataset)
{
    atd_auto_buf struct atd_buf buf = ATD_BUF_INIT(4 * (size_t)ATD_NAME_BYTES_MAX);

    if (atd_file_name_is_plain(dataset->name)) {
        dataset->file_name = dataset->name;
        return true;
    }
    atd_file_name_encode(dataset->name, catalog->entries[dataset->entry].cid, ATD_STR(""), &buf);
    dataset->file_name =
        buf.failed ? (struct atd_str){NULL, 0} : atd_arena_str(&catalog->arena, atd_buf_str(&buf));
    return dataset->file_name.ptr != NULL;
}

static void fingerprint_dataset(struct atd_catalog *catalog, struct atd_dataset *dataset)
{
    uint8_t digest[ATD_SHA256_BYTES];
    uint8_t parts[3][ATD_FINGERPRINT_BYTES] = {{0}};

    atd_sha256_of(dataset->name.ptr, dataset->name.len, digest);
    memcpy(parts[0], digest, sizeof(parts[0]));
    memcpy(parts[1], catalog->entries[dataset->entry].fingerprint, sizeof(parts[1]));
    for (size_t i = 0; i < dataset->other_count; i++) {
        const struct atd_catalog_entry *other = atd_catalog_other_of(catalog, dataset, i);

        for (size_t j = 0; j < sizeof(parts[2]); j++)
            parts[2][j] = (uint8_t)(parts[2][j] * 31 + other->fingerprint[j]);
    }
    atd_sha256_of(parts, sizeof(parts), digest);
    memcpy(dataset->fingerprint, digest, sizeof(dataset->fingerprint));
}

const struct atd_catalog_entry *atd_catalog_meaning(const struct atd_catalog *catalog,
                                                    struct atd_str name)
{
    struct name_group group = find_group(catalog, name);
    const struct atd_catalog_label *label = best_label(catalog, &group);

    if (label)
        return &catalog->entries[label->entry];
    return group.entry_count ? entry_named(catalog, group.first_entry) : NULL;
}

/* Decides what the name means; nothing when it means no entry or does not show. */
static bool add_dataset(struct atd_catalog *catalog, const struct name_group *group)
{
    const struct atd_catalog_label *label = best_label(catalog, group);
    struct atd_dataset dataset = {.name = group->name};

    if (label) {
        dataset.entry = label->entry;
    } else if (group->entry_count == 0) {
        return true;
    } else {
        const struct atd_catalog_entry *first = entry_named(catalog, group->first_entry);

        if (group->entry_count == 1 && atd_catalog_is_superseded(catalog, first))
            return true;
        /* Sorted by CID within the name: the first is the smallest. */
        dataset.entry = first->number;
        dataset.first_other = (uint32_t)(group->first_entry + 1);
        dataset.other_count = (uint32_t)(group->entry_count - 1);
    }
    if (!name_dataset(catalog, &dataset))
        return false;
    fingerprint_dataset(catalog, &dataset);
    catalog->datasets[catalog->dataset_count++] = dataset;
    return true;
}

/* The next name in order, from either table; false at the end of both. */
static bool next_group(const struct atd_catalog *catalog, size_t *entry_at, size_t *label_at,
                       struct name_group *ret_group)
{
    bool has_entry = *entry_at < catalog->entry_count;
    bool has_label = *label_at < catalog->label_count;
    struct name_group group = {.first_entry = *entry_at, .first_label = *label_at};

    if (!has_entry && !has_label)
        return false;
    if (!has_label || (has_entry && atd_str_compare(entry_named(catalog, *entry_at)->name,
                                                    catalog->labels[*label_at].name) <= 0))
        group.name = entry_named(catalog, *entry_at)->name;
    else
        group.name = catalog->labels[*label_at].name;
    while (*entry_at < catalog->entry_count &&
           atd_str_equal(entry_named(catalog, *entry_at)->name, group.name))
        ++*entry_at;
    while (*label_at < catalog->label_count &&
           atd_str_equal(catalog->labels[*label_at].name, group.name))
        ++*label_at;
    group.entry_count = *entry_at - group.first_entry;
    group.label_count = *label_at - group.first_label;
    *ret_group = group;
    return true;
}

static int by_dataset_file_name(const void *a, const void *b)
{
    const struct atd_dataset *left = a;
    const struct atd_dataset *right = b;
    int order = atd_str_compare(left->file_name, right->file_name);

    return order ? order : atd_str_compare(left->name, right->name);
}

/* Two names can share a file name only if one of them was cut: nobody meets it by accident. */
static void drop_equal_file_names(struct atd_catalog *catalog)
{
    size_t kept = 0;

    for (size_t i = 0; i < catalog->dataset_count; i++) {
        if (kept > 0 &&
            atd_str_equal(catalog->datasets[kept - 1].file_name, catalog->datasets[i].file_name))
            atd_catalog_note_problem(catalog, "name", catalog->datasets[i].name,
                                     "another dataset's file name is the same");
        else
            catalog->datasets[kept++] = catalog->datasets[i];
    }
    catalog->dataset_count = kept;
}

int atd_catalog_resolve_names(struct atd_catalog *catalog, struct atd_error *err)
{
    struct name_group group;
    size_t entry_at = 0;
    size_t label_at = 0;

    catalog->datasets = reallocarray(NULL, catalog->entry_count + catalog->label_count + 1,
                                     sizeof(*catalog->datasets));
    if (!catalog->datasets)
        return atd_error_set(err, ENOMEM, "the catalog needs more memory than there is");
    while (next_group(catalog, &entry_at, &label_at, &group)) {
        if (!add_dataset(catalog, &group))
            return atd_error_set(err, ENOMEM, "the catalog needs more memory than there is");
    }
    if (catalog->dataset_count)
        qsort(catalog->datasets, catalog->dataset_count, sizeof(*catalog->datasets),
              by_dataset_file_name);
    drop_equal_file_names(catalog);
    return 0;
}

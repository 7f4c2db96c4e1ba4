/*
 * Which entry a name means, and whether it shows in datasets/. Source: DESIGN 2.2, 4.4.
 */
#include "atdata/schema_ref.h"
#include "catalog/generation.h"

static const struct atd_catalog_entry *entry_named(const struct atd_catalog *catalog, size_t place)
{
    return &catalog->entries[catalog->entries_by_name[place]];
}

struct atd_name_group atd_name_group_find(const struct atd_catalog *catalog, struct atd_str name)
{
    struct atd_name_group group = {.name = name};

    group.first_entry = atd_catalog_first_named(catalog, name);
    while (group.first_entry + group.entry_count < catalog->entry_count &&
           atd_str_equal(
               atd_entry_name(entry_named(catalog, group.first_entry + group.entry_count)), name))
        group.entry_count++;
    group.first_label = atd_catalog_first_label_named(catalog, name);
    while (group.first_label + group.label_count < catalog->label_count &&
           atd_str_equal(atd_label_name(&catalog->labels[group.first_label + group.label_count]),
                         name))
        group.label_count++;
    if (group.entry_count)
        group.name = atd_entry_name(entry_named(catalog, group.first_entry));
    else if (group.label_count)
        group.name = atd_label_name(&catalog->labels[group.first_label]);
    return group;
}

/* True when some entry or live label carries the name. */
static bool name_is_used(const struct atd_catalog *catalog, struct atd_str name)
{
    size_t place = atd_catalog_first_named(catalog, name);

    if (place < catalog->entry_count &&
        atd_str_equal(atd_entry_name(entry_named(catalog, place)), name))
        return true;
    for (place = atd_catalog_first_label_named(catalog, name);
         place < catalog->label_count &&
         atd_str_equal(atd_label_name(&catalog->labels[place]), name);
         place++) {
        if (catalog->labels[place].entry != ATD_NONE)
            return true;
    }
    return false;
}

/*
 * True for an entry that was renamed when it was superseded: NAME@superseded:CID while NAME is in
 * use, or NAME@VERSION while the label NAME, VERSION points at it. Such names do not show.
 */
bool atd_catalog_is_superseded(const struct atd_catalog *catalog,
                               const struct atd_catalog_entry *entry)
{
    static const char mark[] = "superseded:";
    struct atd_str whole = atd_entry_name(entry);
    ptrdiff_t at = atd_str_find_last(whole, '@');
    struct atd_str name;
    struct atd_str version;

    if (at < 0)
        return false;
    name = atd_str_head(whole, (size_t)at);
    version = atd_str_from_byte(whole, (size_t)at + 1);
    if (atd_str_starts_with(version, atd_str_from(mark)) &&
        atd_str_equal(atd_str_from_byte(version, sizeof(mark) - 1), atd_entry_cid(entry)))
        return name_is_used(catalog, name);
    for (size_t i = 0; i < entry->label_count; i++) {
        const struct atd_catalog_label *label = atd_catalog_label_of(catalog, entry, i);

        if (label->version_len && atd_str_equal(atd_label_version(label), version) &&
            atd_str_equal(atd_label_name(label), name))
            return true;
    }
    return false;
}

/* Later created_at wins (compared as text, ATDATA-FORMATS 1.4), then semver, then bytes. */
static bool label_is_newer(const struct atd_catalog_label *a, const struct atd_catalog_label *b)
{
    struct atd_semver left;
    struct atd_semver right;
    bool left_is_semver = atd_semver_parse(atd_label_version(a), &left);
    bool right_is_semver = atd_semver_parse(atd_label_version(b), &right);
    int order = atd_str_compare(atd_label_created_at(a), atd_label_created_at(b));

    if (order)
        return order > 0;
    if (left_is_semver != right_is_semver)
        return left_is_semver;
    if (left_is_semver) {
        order = atd_semver_compare(&left, &right);
        if (order)
            return order > 0;
    }
    return atd_str_compare(atd_label_version(a), atd_label_version(b)) > 0;
}

static const struct atd_catalog_label *best_label(const struct atd_catalog *catalog,
                                                  const struct atd_name_group *group)
{
    const struct atd_catalog_label *best = NULL;

    for (size_t i = 0; i < group->label_count; i++) {
        const struct atd_catalog_label *label = &catalog->labels[group->first_label + i];

        if (label->entry == ATD_NONE)
            continue;
        if (label->version_len == 0)
            return label;
        if (!best || label_is_newer(label, best))
            best = label;
    }
    return best;
}

const struct atd_catalog_entry *atd_catalog_meaning(const struct atd_catalog *catalog,
                                                    struct atd_str name)
{
    struct atd_name_group group = atd_name_group_find(catalog, name);
    const struct atd_catalog_label *label = best_label(catalog, &group);

    if (label)
        return &catalog->entries[label->entry];
    return group.entry_count ? entry_named(catalog, group.first_entry) : NULL;
}

bool atd_name_group_show(const struct atd_catalog *catalog, const struct atd_name_group *group,
                         struct atd_dataset *ret_dataset)
{
    const struct atd_catalog_label *label = best_label(catalog, group);
    struct atd_dataset dataset = {.name = group->name.ptr,
                                  .name_len = (uint32_t)group->name.len & 0xffffff};

    if (label) {
        dataset.entry = label->entry;
    } else if (group->entry_count == 0) {
        return false;
    } else {
        const struct atd_catalog_entry *first = entry_named(catalog, group->first_entry);

        if (group->entry_count == 1 && atd_catalog_is_superseded(catalog, first))
            return false;
        /* Sorted by CID within the name: the first is the smallest. */
        dataset.entry = atd_catalog_place_of(catalog, first);
        dataset.other_count = (uint32_t)(group->entry_count - 1);
        dataset.first_other = dataset.other_count ? (uint32_t)(group->first_entry + 1) : 0;
    }
    *ret_dataset = dataset;
    return true;
}

bool atd_name_group_next(const struct atd_catalog *catalog, size_t *entry_at, size_t *label_at,
                         struct atd_name_group *ret_group)
{
    bool has_entry = *entry_at < catalog->entry_count;
    bool has_label = *label_at < catalog->label_count;
    struct atd_name_group group = {.first_entry = *entry_at, .first_label = *label_at};

    if (!has_entry && !has_label)
        return false;
    if (!has_label ||
        (has_entry && atd_str_compare(atd_entry_name(entry_named(catalog, *entry_at)),
                                      atd_label_name(&catalog->labels[*label_at])) <= 0))
        group.name = atd_entry_name(entry_named(catalog, *entry_at));
    else
        group.name = atd_label_name(&catalog->labels[*label_at]);
    while (*entry_at < catalog->entry_count &&
           atd_str_equal(atd_entry_name(entry_named(catalog, *entry_at)), group.name))
        ++*entry_at;
    while (*label_at < catalog->label_count &&
           atd_str_equal(atd_label_name(&catalog->labels[*label_at]), group.name))
        ++*label_at;
    group.entry_count = *entry_at - group.first_entry;
    group.label_count = *label_at - group.first_label;
    *ret_group = group;
    return true;
}

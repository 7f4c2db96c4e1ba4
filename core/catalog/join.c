/*
 * What belongs together: labels and entries by CID, entries and schemas by reference; and the
 * fingerprints of what came of it. Only what a change concerns is looked at.
 */
#include <stdlib.h>

#include "atdata/schema_ref.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/digest.h"
#include "catalog/generation.h"
#include "catalog/intake.h"

/* A reference that was not looked up yet. */
#define UNRESOLVED (ATD_NONE - 1)
/* What is digested of an entry in one piece; more is digested as it comes. */
#define GATHERED_MAX 65536u

bool atd_making_touch(struct atd_making *making, struct atd_str name)
{
    if (making->is_first)
        return true; /* all are looked at */
    if (making->name_count == making->name_cap) {
        struct atd_str *grown =
            reallocarray(making->names, making->name_cap * 2 + 64, sizeof(*grown));

        if (!grown)
            return false;
        making->names = grown;
        making->name_cap = making->name_cap * 2 + 64;
    }
    making->names[making->name_count++] = name;
    return true;
}

/* ------------------------------------------------------------------ orders */

/* The places of fresh rows, malloc'ed; NULL when out of memory. */
static uint32_t *fresh_places(const struct atd_merged *rows, size_t *ret_count)
{
    size_t count = 0;
    uint32_t *places;

    for (size_t i = 0; i < rows->count; i++)
        count += rows->is_fresh[i];
    places = reallocarray(NULL, count + 1, sizeof(*places));
    *ret_count = 0;
    for (size_t i = 0; places && i < rows->count; i++) {
        if (rows->is_fresh[i])
            places[(*ret_count)++] = (uint32_t)i;
    }
    return places;
}

/* A table of places of all rows in another order. */
static uint32_t *order_rows(const uint32_t *base, size_t base_count, const struct atd_merged *rows,
                            struct atd_ordering ordering)
{
    size_t added_count;
    size_t count = 0;
    atd_auto_free uint32_t *added = fresh_places(rows, &added_count);
    uint32_t *places;

    if (!added)
        return NULL;
    places = atd_places_merge(base, base_count, rows, NULL, added, added_count, &ordering, &count);
    atd_assert(!places || count == rows->count);
    return places;
}

/* ------------------------------------------------------------------ schemas */

static uint32_t find_schema(const struct atd_catalog *catalog, struct atd_str reference)
{
    struct atd_schema_ref ref;
    size_t low = 0;
    size_t high = catalog->schema_count;

    if (atd_schema_ref_parse(reference, &ref, NULL) != 0 || ref.form == ATD_REF_NETWORK)
        return ATD_NONE;
    /* The first of (bare name, version) in the sorted places. */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct atd_catalog_schema *schema =
            &catalog->schemas[catalog->schemas_by_bare[middle]];
        int order = atd_str_compare(schema->bare, ref.name);

        if (order == 0)
            order = atd_str_compare(schema->version, ref.version);
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < catalog->schema_count) {
        const struct atd_catalog_schema *schema = &catalog->schemas[catalog->schemas_by_bare[low]];

        if (atd_str_equal(schema->bare, ref.name) && atd_str_equal(schema->version, ref.version))
            return catalog->schemas_by_bare[low];
    }
    return ATD_NONE;
}

/* True when the table of schemas is the base's. */
static bool schemas_are_the_same(const struct atd_making *making)
{
    if (making->schemas.count != making->base->schema_count)
        return false;
    for (size_t i = 0; i < making->schemas.count; i++) {
        if (making->schemas.is_fresh[i])
            return false;
    }
    return true;
}

static void join_fresh_to_schemas(struct atd_making *making)
{
    struct atd_catalog *catalog = making->catalog;

    for (size_t i = 0; i < catalog->entry_count; i++) {
        struct atd_catalog_entry *entry = &catalog->entries[i];

        if (making->entries.is_fresh[i])
            entry->schema = find_schema(catalog, atd_entry_schema_ref(entry));
    }
}

/* Each reference is looked up once, however many entries share it. */
static bool join_all_to_schemas(struct atd_making *making)
{
    struct atd_catalog *catalog = making->catalog;
    size_t count = atd_texts_shared_count(catalog->texts);
    atd_auto_free uint32_t *known = reallocarray(NULL, count + 1, sizeof(*known));
    const struct atd_merged *schemas = &making->schemas;

    if (!known)
        return false;
    for (size_t i = 0; i < count; i++)
        known[i] = UNRESOLVED;
    for (size_t i = 0; i < catalog->entry_count; i++) {
        struct atd_catalog_entry *entry = &catalog->entries[i];
        uint32_t *schema = &known[entry->ref->number];
        uint32_t before = entry->schema;

        if (*schema == UNRESOLVED)
            *schema = find_schema(catalog, atd_entry_schema_ref(entry));
        entry->schema = *schema;
        if (making->entry_changed[i])
            continue;
        making->entry_changed[i] = before == ATD_NONE ? entry->schema != ATD_NONE
                                                      : atd_merged_lost(schemas, before) ||
                                                            entry->schema != schemas->map[before];
    }
    return true;
}

static bool join_schemas(struct atd_making *making)
{
    if (!schemas_are_the_same(making))
        return join_all_to_schemas(making);
    join_fresh_to_schemas(making);
    return true;
}

/* ------------------------------------------------------------------ labels */

static bool dangle(const struct atd_catalog_label *label)
{
    return label->entry == ATD_NONE;
}

/* Labels of the base that are gone, or other ones now. */
static bool leave_lost_labels(struct atd_making *making)
{
    const struct atd_catalog *base = making->base;

    for (size_t i = 0; i < base->label_count; i++) {
        uint32_t entry = base->labels[i].entry;

        if (!atd_merged_lost(&making->labels, i))
            continue;
        if (!atd_making_touch(making, atd_label_name(&base->labels[i])))
            return false;
        if (entry != ATD_NONE && making->entries.map[entry] != ATD_NONE)
            making->entry_changed[making->entries.map[entry]] = true;
    }
    return true;
}

static bool join_label(struct atd_making *making, size_t place)
{
    struct atd_catalog *catalog = making->catalog;
    struct atd_catalog_label *label = &catalog->labels[place];

    if (making->labels.is_fresh[place]) {
        const struct atd_catalog_entry *entry = atd_catalog_find_cid(catalog, atd_label_cid(label));

        making->label_came[place] = true;
        label->entry = entry ? atd_catalog_place_of(catalog, entry) : ATD_NONE;
        if (entry)
            making->entry_changed[label->entry] = true;
        return atd_label_settle(catalog->texts, entry, label) &&
               atd_making_touch(making, atd_label_name(label));
    }
    if (dangle(label))
        return true;
    label->entry = making->entries.map[label->entry];
    return !dangle(label) || atd_making_touch(making, atd_label_name(label));
}

/* Labels that were there before their entry. */
static bool join_entry(struct atd_making *making, uint32_t place)
{
    struct atd_catalog *catalog = making->catalog;
    struct atd_str cid = atd_entry_cid(&catalog->entries[place]);
    size_t low = 0;
    size_t high = catalog->label_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (atd_str_compare(atd_label_cid(&catalog->labels[catalog->labels_by_cid[middle]]), cid) <
            0)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < catalog->label_count; low++) {
        uint32_t number = catalog->labels_by_cid[low];
        struct atd_catalog_label *label = &catalog->labels[number];

        if (!atd_str_equal(atd_label_cid(label), cid))
            break;
        if (!dangle(label))
            continue;
        label->entry = place;
        making->label_came[number] = true;
        if (!atd_making_touch(making, atd_label_name(label)))
            return false;
    }
    return true;
}

static void count_labels(struct atd_catalog *catalog)
{
    for (size_t i = 0; i < catalog->entry_count; i++) {
        catalog->entries[i].first_label = 0;
        catalog->entries[i].label_count = 0;
    }
    for (size_t i = 0; i < catalog->label_count; i++) {
        uint32_t place = catalog->labels[catalog->labels_by_cid[i]].entry;

        if (place == ATD_NONE)
            continue;
        if (catalog->entries[place].label_count++ == 0)
            catalog->entries[place].first_label = (uint32_t)i;
    }
}

static bool join_labels(struct atd_making *making)
{
    struct atd_catalog *catalog = making->catalog;

    if (!leave_lost_labels(making))
        return false;
    for (size_t i = 0; i < catalog->label_count; i++) {
        if (!join_label(making, i))
            return false;
    }
    catalog->labels_by_cid = order_rows(making->base->labels_by_cid, making->base->label_count,
                                        &making->labels, atd_order_by_label_cid(catalog));
    if (!catalog->labels_by_cid)
        return false;
    for (size_t i = 0; !making->is_first && i < catalog->entry_count; i++) {
        if (making->entries.is_fresh[i] && !join_entry(making, (uint32_t)i))
            return false;
    }
    count_labels(catalog);
    return true;
}

/* ------------------------------------------------------------------ what shows of labels */

static bool label_shows(const void *ctx, uint32_t place)
{
    const struct atd_catalog *catalog = ctx;

    return catalog->labels[place].file_name_len && !dangle(&catalog->labels[place]);
}

/* Labels that were hidden may show now. */
static void recall_hidden_labels(struct atd_making *making)
{
    const struct atd_catalog *base = making->base;

    for (size_t i = 0; i < base->hidden_label_count; i++) {
        if (!atd_merged_lost(&making->labels, base->hidden_labels[i]))
            making->label_came[making->labels.map[base->hidden_labels[i]]] = true;
    }
}

/* Labels whose names were cut can share a file name: the first in order keeps it. */
static bool hide_equal_label_files(struct atd_making *making)
{
    struct atd_catalog *catalog = making->catalog;
    size_t kept = 0;
    size_t cap = 0;

    for (size_t i = 0; i < catalog->shown_label_count; i++) {
        uint32_t place = catalog->shown_labels[i];
        uint32_t last = kept ? catalog->shown_labels[kept - 1] : place;
        uint32_t *grown;

        if (kept == 0 || !(making->label_came[place] || making->label_came[last]) ||
            !atd_str_equal(atd_label_file_name(&catalog->labels[last]),
                           atd_label_file_name(&catalog->labels[place]))) {
            catalog->shown_labels[kept++] = place;
            continue;
        }
        if (catalog->hidden_label_count == cap) {
            cap = cap * 2 + 16;
            grown = reallocarray(catalog->hidden_labels, cap, sizeof(*grown));
            if (!grown)
                return false;
            catalog->hidden_labels = grown;
        }
        catalog->hidden_labels[catalog->hidden_label_count++] = place;
    }
    catalog->shown_label_count = kept;
    return true;
}

static bool show_labels(struct atd_making *making)
{
    struct atd_catalog *catalog = making->catalog;
    const struct atd_ordering by_file = atd_order_by_label_file(catalog);
    size_t count = 0;
    uint32_t *added;

    recall_hidden_labels(making);
    for (size_t i = 0; i < catalog->label_count; i++)
        count += making->label_came[i] && label_shows(catalog, (uint32_t)i);
    added = reallocarray(NULL, count + 1, sizeof(*added));
    if (!added)
        return false;
    count = 0;
    for (size_t i = 0; i < catalog->label_count; i++) {
        if (making->label_came[i] && label_shows(catalog, (uint32_t)i))
            added[count++] = (uint32_t)i;
    }
    catalog->shown_labels = atd_places_merge(
        making->base->shown_labels, making->base->shown_label_count, &making->labels, label_shows,
        added, count, &by_file, &catalog->shown_label_count);
    free(added);
    return catalog->shown_labels && hide_equal_label_files(making);
}

/* ------------------------------------------------------------------ fingerprints */

/* One digest of many pieces: gathered while they are small, which is cheaper. */
struct digesting {
    struct atd_buf *gathered;
    struct atd_sha256 *sha; /* NULL: all is gathered */
    bool failed;
};

static void digest_bytes(struct digesting *digesting, const void *data, size_t len)
{
    if (!digesting->sha && len > GATHERED_MAX - digesting->gathered->len) {
        digesting->sha = atd_sha256_new();
        digesting->failed = digesting->failed || !digesting->sha;
        if (digesting->sha)
            atd_sha256_add(digesting->sha, atd_buf_str(digesting->gathered).ptr,
                           digesting->gathered->len);
    }
    if (digesting->sha)
        atd_sha256_add(digesting->sha, data, len);
    else if (!digesting->failed)
        atd_buf_append(digesting->gathered, data, len);
}

static void digest_text(struct digesting *digesting, struct atd_str s)
{
    uint64_t len = s.ptr ? s.len : UINT64_MAX;

    digest_bytes(digesting, &len, sizeof(len));
    digest_bytes(digesting, s.ptr, s.len);
}

/* Everything that the entry's directory shows but for what is on the disk. */
static bool fingerprint_entry(struct atd_catalog *catalog, struct atd_catalog_entry *entry,
                              struct atd_buf *gathered)
{
    struct digesting digesting = {.gathered = gathered};
    uint8_t digest[ATD_SHA256_BYTES];

    atd_buf_clear(gathered);
    digest_text(&digesting, atd_entry_cid(entry));
    digest_text(&digesting, atd_entry_name(entry));
    digest_text(&digesting, atd_entry_schema_ref(entry));
    digest_text(&digesting, atd_bytes_str(atd_entry_data_urls(entry)));
    digest_text(&digesting, atd_bytes_str(atd_entry_metadata(entry)));
    digest_bytes(&digesting, &entry->created_at_s, sizeof(entry->created_at_s));
    if (entry->schema != ATD_NONE) {
        const struct atd_catalog_schema *schema = &catalog->schemas[entry->schema];

        digest_text(&digesting, schema->stem);
        digest_text(&digesting, atd_bytes_str(schema->json));
        digest_bytes(&digesting, &schema->created_at_s, sizeof(schema->created_at_s));
    }
    for (size_t i = 0; i < entry->label_count; i++) {
        const struct atd_catalog_label *label = atd_catalog_label_of(catalog, entry, i);

        digest_text(&digesting, atd_label_name(label));
        digest_text(&digesting, atd_label_version(label));
        digest_text(&digesting, atd_label_description(label));
        digest_text(&digesting, atd_label_created_at(label));
    }
    if (digesting.sha)
        atd_sha256_finish(digesting.sha, digest);
    else
        atd_sha256_of(atd_buf_str(gathered).ptr, gathered->len, digest);
    atd_sha256_free(digesting.sha);
    memcpy(entry->fingerprint, digest, sizeof(entry->fingerprint));
    return !digesting.failed && !gathered->failed;
}

static bool fingerprint_entries(struct atd_making *making)
{
    struct atd_catalog *catalog = making->catalog;
    atd_auto_buf struct atd_buf gathered = ATD_BUF_INIT(GATHERED_MAX);

    for (size_t i = 0; i < catalog->entry_count; i++) {
        struct atd_catalog_entry *entry = &catalog->entries[i];

        if (!making->entry_changed[i])
            continue;
        /* Its labels say whether its name shows. */
        if (!fingerprint_entry(catalog, entry, &gathered) ||
            !atd_making_touch(making, atd_entry_name(entry)))
            return false;
    }
    return true;
}

/* ------------------------------------------------------------------ all of it */

static bool start(struct atd_making *making)
{
    const struct atd_catalog *base = making->base;

    making->entry_changed = reallocarray(NULL, making->entries.count + 1, sizeof(bool));
    making->label_came = calloc(making->labels.count + 1, sizeof(bool));
    if (!making->entry_changed || !making->label_came)
        return false;
    memcpy(making->entry_changed, making->entries.is_fresh, making->entries.count);
    for (size_t i = 0; i < base->entry_count; i++) {
        if (atd_merged_lost(&making->entries, i) &&
            !atd_making_touch(making, atd_entry_name(&base->entries[i])))
            return false;
    }
    return true;
}

bool atd_making_join(struct atd_making *making)
{
    struct atd_catalog *catalog = making->catalog;
    const struct atd_catalog *base = making->base;

    if (!start(making))
        return false;
    catalog->entries_by_name = order_rows(base->entries_by_name, base->entry_count,
                                          &making->entries, atd_order_by_name(catalog));
    catalog->schemas_by_bare = order_rows(base->schemas_by_bare, base->schema_count,
                                          &making->schemas, atd_order_by_bare(catalog));
    return catalog->entries_by_name && catalog->schemas_by_bare && join_schemas(making) &&
           join_labels(making) && show_labels(making) && fingerprint_entries(making);
}

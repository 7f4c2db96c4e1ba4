/*
 * What a registry says: entries, labels, schemas, and what a reference means.
 */
#include <errno.h>

#include "atdata/cid.h"
#include "atdata/entry.h"
#include "atdata/schema_ref.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "dataset/registry_private.h"

#define LOCAL "@local/"

/* ------------------------------------------------------------------ copies */

static bool copy_text(struct atd_str text, struct atd_arena *arena, struct atd_str *ret_copy)
{
    *ret_copy = text.ptr ? atd_arena_str(arena, text) : text;
    return !text.ptr || ret_copy->ptr;
}

int atd_registry_copy_entry(const struct atd_catalog_entry *row, struct atd_arena *arena,
                            struct atd_entry *ret_entry, struct atd_error *err)
{
    struct atd_bytes packed = atd_arena_bytes(arena, atd_entry_data_urls(row));
    struct atd_bytes metadata = atd_entry_metadata(row);
    struct atd_entry entry = {0};
    struct atd_str *urls;
    int rc;

    if (metadata.ptr)
        entry.metadata = atd_arena_bytes(arena, metadata);
    if (!packed.ptr || (metadata.ptr && !entry.metadata.ptr) ||
        !copy_text(atd_entry_name(row), arena, &entry.name) ||
        !copy_text(atd_entry_cid(row), arena, &entry.cid) ||
        !copy_text(atd_entry_schema_ref(row), arena, &entry.schema_ref))
        return atd_registry_no_memory(err);
    rc = atd_urls_decode(packed, arena, &urls, &entry.url_count, err);
    if (rc)
        return rc;
    entry.data_urls = urls;
    *ret_entry = entry;
    return 0;
}

static int copy_label(const struct atd_catalog_label *row, struct atd_arena *arena,
                      struct atd_label *ret_label, struct atd_error *err)
{
    struct atd_label label;

    if (!copy_text(atd_label_name(row), arena, &label.name) ||
        !copy_text(atd_label_version(row), arena, &label.version) ||
        !copy_text(atd_label_cid(row), arena, &label.cid) ||
        !copy_text(atd_label_description(row), arena, &label.description) ||
        !copy_text(atd_label_created_at(row), arena, &label.created_at))
        return atd_registry_no_memory(err);
    *ret_label = label;
    return 0;
}

static int copy_schema(const struct atd_registry *registry, const struct atd_catalog_schema *row,
                       struct atd_arena *arena, struct atd_schema_record *ret_record,
                       struct atd_error *err)
{
    atd_auto_buf struct atd_buf ref = ATD_BUF_INIT(4 * (size_t)ATD_NAME_BYTES_MAX);
    struct atd_schema_record record;
    int rc;

    atd_schema_ref_format(registry->universal ? ATD_REF_LEGACY : ATD_REF_NEW, row->bare,
                          row->version, &ref);
    rc = atd_buf_finish(&ref, "the reference", err);
    if (rc)
        return rc;
    record.json = atd_arena_bytes(arena, row->json);
    if (!record.json.ptr || !copy_text(row->bare, arena, &record.name) ||
        !copy_text(row->version, arena, &record.version) ||
        !copy_text(atd_buf_str(&ref), arena, &record.ref))
        return atd_registry_no_memory(err);
    *ret_record = record;
    return 0;
}

/* ------------------------------------------------------------------ lists */

int atd_registry_list_entries(struct atd_registry *registry, struct atd_arena *arena,
                              const struct atd_entry **ret_entries, size_t *ret_count,
                              struct atd_error *err)
{
    struct atd_catalog *catalog = atd_live_get(registry->live);
    size_t count = atd_catalog_entry_count(catalog);
    struct atd_entry *entries = atd_arena_alloc_array(arena, count, sizeof(*entries));
    size_t shown = 0;
    int rc = 0;

    if (!entries) {
        atd_catalog_unref(catalog);
        return atd_registry_no_memory(err);
    }
    for (size_t i = 0; rc == 0 && i < count; i++) {
        const struct atd_catalog_entry *row = atd_catalog_entry_at(catalog, i);

        if (!atd_catalog_is_superseded(catalog, row))
            rc = atd_registry_copy_entry(row, arena, &entries[shown++], err);
    }
    atd_catalog_unref(catalog);
    if (rc)
        return rc;
    *ret_entries = entries;
    *ret_count = shown;
    return 0;
}

int atd_registry_list_labels(struct atd_registry *registry, struct atd_arena *arena,
                             const struct atd_label **ret_labels, size_t *ret_count,
                             struct atd_error *err)
{
    struct atd_catalog *catalog = atd_live_get(registry->live);
    size_t count = atd_catalog_label_count(catalog);
    struct atd_label *labels = atd_arena_alloc_array(arena, count, sizeof(*labels));
    int rc = 0;

    if (!labels) {
        atd_catalog_unref(catalog);
        return atd_registry_no_memory(err);
    }
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = copy_label(atd_catalog_label_at(catalog, i), arena, &labels[i], err);
    atd_catalog_unref(catalog);
    if (rc)
        return rc;
    *ret_labels = labels;
    *ret_count = count;
    return 0;
}

int atd_registry_list_schemas(struct atd_registry *registry, struct atd_arena *arena,
                              const struct atd_schema_record **ret_records, size_t *ret_count,
                              struct atd_error *err)
{
    struct atd_catalog *catalog = atd_live_get(registry->live);
    size_t count = atd_catalog_schema_count(catalog);
    struct atd_schema_record *records = atd_arena_alloc_array(arena, count, sizeof(*records));
    int rc = 0;

    if (!records) {
        atd_catalog_unref(catalog);
        return atd_registry_no_memory(err);
    }
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = copy_schema(registry, atd_catalog_schema_at(catalog, i), arena, &records[i], err);
    atd_catalog_unref(catalog);
    if (rc)
        return rc;
    *ret_records = records;
    *ret_count = count;
    return 0;
}

/* ------------------------------------------------------------------ one */

static int no_entry(struct atd_str reference, struct atd_error *err)
{
    return atd_error_set(err, ENOENT, "there is no dataset '" ATD_STR_FMT "' in the index",
                         ATD_STR_ARG(reference));
}

static int found(struct atd_catalog *catalog, const struct atd_catalog_entry *row,
                 struct atd_str reference, struct atd_arena *arena, struct atd_entry *ret_entry,
                 struct atd_error *err)
{
    int rc = row ? atd_registry_copy_entry(row, arena, ret_entry, err) : no_entry(reference, err);

    atd_catalog_unref(catalog);
    return rc;
}

int atd_registry_get_entry(struct atd_registry *registry, struct atd_str name,
                           struct atd_arena *arena, struct atd_entry *ret_entry,
                           struct atd_error *err)
{
    struct atd_catalog *catalog = atd_live_get(registry->live);

    return found(catalog, atd_catalog_meaning(catalog, name), name, arena, ret_entry, err);
}

int atd_registry_get_entry_by_cid(struct atd_registry *registry, struct atd_str cid,
                                  struct atd_arena *arena, struct atd_entry *ret_entry,
                                  struct atd_error *err)
{
    struct atd_catalog *catalog = atd_live_get(registry->live);

    return found(catalog, atd_catalog_find_cid(catalog, cid), cid, arena, ret_entry, err);
}

/* The entry of the label NAME@VERSION; NULL: there is no such label, or its entry is gone. */
static const struct atd_catalog_entry *find_labelled(const struct atd_catalog *catalog,
                                                     struct atd_str name, struct atd_str version)
{
    for (size_t i = atd_catalog_first_label_named(catalog, name);
         i < atd_catalog_label_count(catalog); i++) {
        const struct atd_catalog_label *label = atd_catalog_label_at(catalog, i);

        if (!atd_str_equal(atd_label_name(label), name))
            return NULL;
        if (atd_str_equal(atd_label_version(label), version))
            return label->entry == ATD_NONE ? NULL : atd_catalog_entry_at(catalog, label->entry);
    }
    return NULL;
}

int atd_registry_get_entry_by_label(struct atd_registry *registry, struct atd_str name,
                                    struct atd_str version, struct atd_arena *arena,
                                    struct atd_entry *ret_entry, struct atd_error *err)
{
    struct atd_catalog *catalog = atd_live_get(registry->live);
    const struct atd_catalog_entry *row = find_labelled(catalog, name, version);

    if (row)
        return found(catalog, row, name, arena, ret_entry, err);
    atd_catalog_unref(catalog);
    return atd_error_set(err, ENOENT,
                         "no label '" ATD_STR_FMT "@" ATD_STR_FMT "' leads to a "
                         "dataset in the index",
                         ATD_STR_ARG(name), ATD_STR_ARG(version));
}

int atd_registry_find(const struct atd_catalog *catalog, struct atd_str reference,
                      const struct atd_catalog_entry **ret_row, struct atd_error *err)
{
    struct atd_str name = reference;
    bool is_local = atd_str_starts_with(reference, ATD_STR(LOCAL));
    const struct atd_catalog_entry *row;
    ptrdiff_t at;

    if (is_local)
        name = atd_str_from_byte(reference, strlen(LOCAL));
    if (!name.len)
        return atd_error_set(err, EINVAL, "'" ATD_STR_FMT "' names no dataset",
                             ATD_STR_ARG(reference));
    at = atd_str_find_last(name, '@');
    row = atd_catalog_meaning(catalog, name);
    if (!row && !is_local && atd_cid_is_valid(name))
        row = atd_catalog_find_cid(catalog, name);
    if (!row && !is_local && reference.ptr[0] == '@')
        return atd_error_set(err, EINVAL,
                             "'" ATD_STR_FMT "' is not of this index: only @local/NAME is",
                             ATD_STR_ARG(reference));
    if (!row && (at == 0 || at == (ptrdiff_t)name.len - 1))
        return atd_error_set(err, EINVAL, "'" ATD_STR_FMT "' lacks a name or a version",
                             ATD_STR_ARG(reference));
    if (!row && at > 0)
        row = find_labelled(catalog, atd_str_head(name, (size_t)at),
                            atd_str_from_byte(name, (size_t)at + 1));
    if (!row)
        return no_entry(reference, err);
    *ret_row = row;
    return 0;
}

int atd_registry_resolve(struct atd_registry *registry, struct atd_str reference,
                         struct atd_arena *arena, struct atd_entry *ret_entry,
                         struct atd_error *err)
{
    struct atd_catalog *catalog = atd_live_get(registry->live);
    const struct atd_catalog_entry *row = NULL;
    int rc = atd_registry_find(catalog, reference, &row, err);

    if (rc == 0)
        rc = atd_registry_copy_entry(row, arena, ret_entry, err);
    atd_catalog_unref(catalog);
    return rc;
}

/* ------------------------------------------------------------------ a schema */

/* Records are few, and sorted by their file names, not by what references name. */
const struct atd_catalog_schema *atd_registry_find_schema(const struct atd_catalog *catalog,
                                                          struct atd_str text)
{
    struct atd_schema_ref ref;

    if (atd_schema_ref_parse(text, &ref, NULL) != 0 || ref.form == ATD_REF_NETWORK)
        return NULL;
    for (size_t i = 0; i < atd_catalog_schema_count(catalog); i++) {
        const struct atd_catalog_schema *schema = atd_catalog_schema_at(catalog, i);

        if (atd_str_equal(schema->bare, ref.name) && atd_str_equal(schema->version, ref.version))
            return schema;
    }
    return NULL;
}

int atd_registry_get_schema(struct atd_registry *registry, struct atd_str text,
                            struct atd_arena *arena, struct atd_schema_record *ret_record,
                            struct atd_error *err)
{
    struct atd_catalog *catalog = atd_live_get(registry->live);
    const struct atd_catalog_schema *row = atd_registry_find_schema(catalog, text);
    struct atd_schema_ref ref;
    int rc = atd_schema_ref_parse(text, &ref, err);

    if (rc == 0 && !row)
        rc = atd_error_set(err, ENOENT, "schema '" ATD_STR_FMT "' is not in the index",
                           ATD_STR_ARG(text));
    if (rc == 0)
        rc = copy_schema(registry, row, arena, ret_record, err);
    atd_catalog_unref(catalog);
    return rc;
}

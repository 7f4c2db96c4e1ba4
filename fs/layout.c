#include "layout.h"

#include <errno.h>
#include <stdio.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/digest.h"
#include "base/limits.h"
#include "control.h"
#include "layout_staged.h"
#include "samples.h"

static const struct {
    const char *name;
    enum node_kind kind;
} root_names[] = {
    {"datasets", NODE_DATASETS}, {"schemas", NODE_SCHEMAS},   {"labels", NODE_LABELS},
    {"by-cid", NODE_BY_CID},     {".atdatafs", NODE_CONTROL},
};
_Static_assert(ATD_ARRAY_LEN(root_names) == LAYOUT_ROOT_NAMES, "a link of the root each");

static const struct {
    const char *name;
    enum node_kind kind;
} record_names[] = {
    {"schema.json", NODE_SCHEMA_JSON},
    {"schema.py", NODE_SCHEMA_PY},
    {"schema.jsonschema", NODE_SCHEMA_JSONSCHEMA},
    {"metadata.json", NODE_METADATA},
    {"entry.json", NODE_ENTRY},
};

/* In schemas/, each behind the stem. */
static const struct {
    const char *suffix;
    enum node_kind kind;
} schema_forms[] = {
    {".json", NODE_SCHEMAS_JSON},
    {".py", NODE_SCHEMAS_PY},
    {".jsonschema", NODE_SCHEMAS_JSONSCHEMA},
};

#define SCHEMA_FORMS ATD_ARRAY_LEN(schema_forms)

#define RECORD_NAMES ATD_ARRAY_LEN(record_names)

/* ------------------------------------------------------------------ items */

void layout_text_version(const void *text, size_t len, int64_t mtime_s,
                         uint8_t ret_version[NODE_VERSION_BYTES])
{
    uint8_t digest[ATD_SHA256_BYTES];

    atd_sha256_of(text, len, digest);
    memcpy(ret_version, digest, NODE_VERSION_BYTES);
    for (size_t i = 0; i < sizeof(mtime_s); i++)
        ret_version[i] = (uint8_t)(ret_version[i] ^ (uint64_t)mtime_s >> (8 * i));
}

/* A text file's size and version are those of its contents, so it is rendered to be known. */
static bool fill_text(struct fs *fs, const struct view *view, struct item *item)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(ATD_RENDER_BYTES_MAX);
    struct atd_error why = ATD_ERROR_INIT;

    if (view_render(fs, view, item->kind, item->leaf, &text, &why) != 0) {
        events_note(fs->events, "render", &why);
        return false;
    }
    item->size_bytes = text.len;
    item->link_count = 1;
    layout_text_version(text.ptr, text.len, item->mtime_s, item->version);
    return true;
}

/* One that was put into a dataset before it had an entry. */
static bool empty_record_item(struct fs *fs, const struct view *view, size_t place,
                              struct item *item)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(ATD_RENDER_BYTES_MAX);

    *item = (struct item){
        .kind = record_names[place].kind,
        .parent = view->kind,
        .subject = view_subject(view),
        .leaf = atd_str_from(record_names[place].name),
    };
    return view_empty_record(view, item->kind, &text, &item->mtime_s) && fill_text(fs, view, item);
}

static bool record_item(struct fs *fs, const struct view *view, size_t place, struct item *item)
{
    enum node_kind kind = record_names[place].kind;
    const struct atd_catalog_schema *schema = view_schema(view);
    bool is_schema = kind != NODE_METADATA && kind != NODE_ENTRY;

    if (!view->entry)
        return empty_record_item(fs, view, place, item);
    if (is_schema && !schema)
        return false;
    *item = (struct item){
        .kind = kind,
        .parent = view->kind,
        .subject = view_subject(view),
        .leaf = atd_str_from(record_names[place].name),
        .mtime_s = is_schema ? schema->created_at_s : view->entry->created_at_s,
    };
    return fill_text(fs, view, item);
}

/*
 * Once a remote shard lies here whole and verified, its name means another node, whose every open
 * the kernel serves by itself, while those who have the old one open go on as they were (FUSE 6).
 */
static bool is_local_now(struct fs *fs, const struct atd_shard *shard)
{
    struct atd_object_info info;

    if (!passthrough_is_on(fs->passthrough))
        return false;
    atd_shard_info(shard, &info);
    return atd_reader_is_local(fs->reader, shard->url, &info);
}

void layout_shard_version(const struct atd_shard *shard, bool is_local,
                          uint8_t ret_version[NODE_VERSION_BYTES])
{
    memcpy(ret_version, shard->version, NODE_VERSION_BYTES);
    if (is_local)
        ret_version[0] ^= 0xff;
}

static bool shard_item(struct fs *fs, const struct view *view, const struct atd_shard *shard,
                       struct item *item)
{
    if (shard->error_code || view_hides(view, shard->file_name))
        return false;
    *item = (struct item){
        .kind = NODE_SHARD,
        .parent = view->kind,
        .subject = view_subject(view),
        .leaf = shard->file_name,
        .link_count = 1,
        .size_bytes = shard->size_bytes,
        .mtime_s = shard->mtime_s,
        .mtime_ns = shard->mtime_ns,
        .is_remote = shard->store != NULL,
        .is_local_copy = shard->store && is_local_now(fs, shard),
        .age_ms = shard->store ? 0 : atd_shard_list_age_ms(view->shards),
    };
    layout_shard_version(shard, item->is_local_copy, item->version);
    return true;
}

static void dataset_item(const struct view *view, const struct atd_dataset *dataset,
                         struct item *item)
{
    const struct atd_catalog_entry *entry = atd_catalog_entry_at(view->catalog, dataset->entry);

    *item = (struct item){
        .kind = NODE_DATASET,
        .subject = atd_dataset_file_name(dataset),
        .leaf = atd_dataset_file_name(dataset),
        .link_count = 2,
        .mtime_s = entry->created_at_s,
    };
}

static void cid_item(const struct atd_catalog_entry *entry, struct item *item)
{
    *item = (struct item){
        .kind = NODE_CID,
        .subject = atd_entry_file_name(entry),
        .leaf = atd_entry_file_name(entry),
        .link_count = 2,
        .mtime_s = entry->created_at_s,
    };
}

/* schemas/NAME@VERSION.json and the other forms, spelled into `storage`. Empty: it is too long
 * (stems are cut so that ".json" fits). */
static struct atd_str schemas_name(const struct atd_catalog_schema *schema, size_t form,
                                   struct view_names *storage)
{
    int len = snprintf(storage->leaf, sizeof(storage->leaf), "%.*s%s", (int)schema->stem.len,
                       schema->stem.ptr, schema_forms[form].suffix);

    return (struct atd_str){storage->leaf,
                            len > 0 && len <= (int)ATD_FILE_NAME_MAX ? (size_t)len : 0};
}

static bool schemas_item(struct fs *fs, const struct view *view,
                         const struct atd_catalog_schema *schema, size_t form,
                         struct view_names *storage, struct item *item)
{
    struct atd_str name = schemas_name(schema, form, storage);

    if (name.len == 0)
        return false;
    *item = (struct item){
        .kind = schema_forms[form].kind,
        .subject = schema->stem,
        .leaf = name,
        .mtime_s = schema->created_at_s,
    };
    return fill_text(fs, view, item);
}

static bool label_item(struct fs *fs, const struct view *view,
                       const struct atd_catalog_label *label, struct item *item)
{
    *item = (struct item){
        .kind = NODE_LABEL,
        .subject = atd_label_file_name(label),
        .leaf = atd_label_file_name(label),
        .mtime_s = atd_label_created_at_s(label),
    };
    return fill_text(fs, view, item);
}

static bool control_item(struct fs *fs, const struct view *view, size_t place, struct item *item)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(ATD_RENDER_BYTES_MAX);

    *item = (struct item){
        .kind = NODE_CONTROL_FILE,
        .leaf = atd_str_from(control_names[place]),
        .link_count = 1,
        .mtime_s = fs->started_at_s,
    };
    if (control_render(fs, view->catalog, item->leaf, &text, NULL) != 0)
        return false;
    item->size_bytes = text.len;
    /* Its contents change all the time: one node, whose size is asked for anew. */
    return true;
}

static void root_item(size_t place, struct item *item)
{
    *item = (struct item){
        .kind = root_names[place].kind,
        .leaf = atd_str_from(root_names[place].name),
        .link_count = 2,
    };
}

/* ------------------------------------------------------------------ listing and finding */

/* Of the catalog alone. */
static size_t catalog_count(const struct view *view)
{
    switch (view->kind) {
    case NODE_ROOT:
        return ATD_ARRAY_LEN(root_names);
    case NODE_DATASETS:
        return atd_catalog_dataset_count(view->catalog);
    case NODE_SCHEMAS:
        return SCHEMA_FORMS * atd_catalog_schema_count(view->catalog);
    case NODE_LABELS:
        return atd_catalog_shown_label_count(view->catalog);
    case NODE_BY_CID:
        return atd_catalog_entry_count(view->catalog);
    case NODE_CONTROL:
        return CONTROL_FILES;
    case NODE_DATASET:
    case NODE_CID:
        return RECORD_NAMES + 1 + (view->shards ? atd_shard_list_count(view->shards) : 0);
    default:
        return samples_count(view);
    }
}

static bool catalog_at(struct fs *fs, const struct view *view, size_t place,
                       struct view_names *storage, struct item *ret_item)
{
    switch (view->kind) {
    case NODE_ROOT:
        root_item(place, ret_item);
        return true;
    case NODE_DATASETS:
        dataset_item(view, atd_catalog_dataset_at(view->catalog, place), ret_item);
        return true;
    case NODE_SCHEMAS:
        return schemas_item(fs, view, atd_catalog_schema_at(view->catalog, place / SCHEMA_FORMS),
                            place % SCHEMA_FORMS, storage, ret_item);
    case NODE_LABELS:
        return label_item(fs, view, atd_catalog_shown_label_at(view->catalog, place), ret_item);
    case NODE_BY_CID:
        cid_item(atd_catalog_entry_at(view->catalog, place), ret_item);
        return true;
    case NODE_CONTROL:
        return control_item(fs, view, place, ret_item);
    case NODE_DATASET:
    case NODE_CID:
        if (place < RECORD_NAMES)
            return record_item(fs, view, place, ret_item);
        if (place == RECORD_NAMES)
            return samples_is_listed(fs, view) && samples_item(view, storage, ret_item);
        return shard_item(fs, view, atd_shard_list_at(view->shards, place - RECORD_NAMES - 1),
                          ret_item);
    default:
        return samples_at(view, place, storage, ret_item);
    }
}

static struct atd_str catalog_name(const struct view *view, size_t place,
                                   struct view_names *storage)
{
    switch (view->kind) {
    case NODE_ROOT:
        return atd_str_from(root_names[place].name);
    case NODE_DATASETS:
        return atd_dataset_file_name(atd_catalog_dataset_at(view->catalog, place));
    case NODE_SCHEMAS:
        return schemas_name(atd_catalog_schema_at(view->catalog, place / SCHEMA_FORMS),
                            place % SCHEMA_FORMS, storage);
    case NODE_LABELS:
        return atd_label_file_name(atd_catalog_shown_label_at(view->catalog, place));
    case NODE_BY_CID:
        return atd_entry_file_name(atd_catalog_entry_at(view->catalog, place));
    case NODE_CONTROL:
        return atd_str_from(control_names[place]);
    case NODE_DATASET:
    case NODE_CID:
        if (place < RECORD_NAMES)
            return atd_str_from(record_names[place].name);
        if (place == RECORD_NAMES)
            return ATD_STR(SAMPLES_NAME);
        return atd_shard_list_at(view->shards, place - RECORD_NAMES - 1)->file_name;
    default:
        return samples_name_at(view, place, storage);
    }
}

/* The order: what is staged, the catalog's, datasets without a shard. */
size_t view_count(const struct view *view)
{
    return view->staged.count + catalog_count(view) + view->empty_count;
}

bool view_at(struct fs *fs, const struct view *view, size_t place, struct view_names *storage,
             struct item *ret_item)
{
    size_t catalogs = catalog_count(view);
    size_t other;

    if (place < view->staged.count) {
        view_staged_item(view, place, storage, ret_item);
        return true;
    }
    place -= view->staged.count;
    if (place < catalogs)
        return catalog_at(fs, view, place, storage, ret_item) &&
               !view_find_staged(view, ret_item->leaf, &other);
    view_empty_item(view, place - catalogs, ret_item);
    return !atd_catalog_find_dataset(view->catalog, ret_item->leaf);
}

struct atd_str view_name_at(const struct view *view, size_t place, struct view_names *storage)
{
    size_t catalogs = catalog_count(view);

    if (place < view->staged.count)
        return staged_leaf_name(atd_str_from(view->staged.items[place].leaf));
    place -= view->staged.count;
    if (place < catalogs)
        return catalog_name(view, place, storage);
    return atd_str_from(view->empty[place - catalogs]);
}

static bool find_in_root(struct atd_str name, struct item *ret_item)
{
    for (size_t i = 0; i < ATD_ARRAY_LEN(root_names); i++) {
        if (atd_str_equal(name, atd_str_from(root_names[i].name))) {
            root_item(i, ret_item);
            return true;
        }
    }
    return false;
}

static bool find_in_schemas(struct fs *fs, const struct view *view, struct atd_str name,
                            struct view_names *storage, struct item *ret_item)
{
    for (size_t i = 0; i < SCHEMA_FORMS; i++) {
        struct atd_str suffix = atd_str_from(schema_forms[i].suffix);
        const struct atd_catalog_schema *schema;

        if (!atd_str_ends_with(name, suffix))
            continue;
        schema = atd_catalog_find_schema(view->catalog, atd_str_head(name, name.len - suffix.len));
        return schema && schemas_item(fs, view, schema, i, storage, ret_item);
    }
    return false;
}

static bool find_dataset(const struct view *view, struct atd_str name, struct item *ret_item)
{
    const struct atd_dataset *dataset = atd_catalog_find_dataset(view->catalog, name);
    size_t place;

    if (dataset) {
        dataset_item(view, dataset, ret_item);
        return true;
    }
    if (!view_find_empty(view, name, &place))
        return false;
    view_empty_item(view, place, ret_item);
    return true;
}

static bool find_in_entry(struct fs *fs, const struct view *view, struct atd_str name,
                          struct view_names *storage, struct item *ret_item)
{
    const struct atd_shard *shard;

    for (size_t i = 0; i < RECORD_NAMES; i++) {
        if (atd_str_equal(name, atd_str_from(record_names[i].name)))
            return record_item(fs, view, i, ret_item);
    }
    if (atd_str_equal(name, ATD_STR(SAMPLES_NAME)) && samples_item(view, storage, ret_item))
        return true;
    shard = view_shard(view, name);
    return shard && shard_item(fs, view, shard, ret_item);
}

bool layout_record_kind(struct atd_str name, enum node_kind *ret_kind)
{
    for (size_t i = 0; i < RECORD_NAMES; i++) {
        if (atd_str_equal(name, atd_str_from(record_names[i].name))) {
            *ret_kind = record_names[i].kind;
            return true;
        }
    }
    return false;
}

bool view_find(struct fs *fs, const struct view *view, struct atd_str name,
               struct view_names *storage, struct item *ret_item)
{
    const struct atd_catalog_entry *entry;
    const struct atd_catalog_label *label;
    size_t place;

    if (view_find_staged(view, name, &place)) {
        view_staged_item(view, place, storage, ret_item);
        return true;
    }
    switch (view->kind) {
    case NODE_ROOT:
        return find_in_root(name, ret_item);
    case NODE_DATASETS:
        return find_dataset(view, name, ret_item);
    case NODE_SCHEMAS:
        return find_in_schemas(fs, view, name, storage, ret_item);
    case NODE_LABELS:
        label = atd_catalog_find_label(view->catalog, name);
        return label && label_item(fs, view, label, ret_item);
    case NODE_BY_CID:
        entry = atd_catalog_find_entry(view->catalog, name);
        if (entry)
            cid_item(entry, ret_item);
        return entry != NULL;
    case NODE_CONTROL:
        for (size_t i = 0; i < CONTROL_FILES; i++) {
            if (atd_str_equal(name, atd_str_from(control_names[i])))
                return control_item(fs, view, i, ret_item);
        }
        return false;
    case NODE_DATASET:
    case NODE_CID:
        return find_in_entry(fs, view, name, storage, ret_item);
    default:
        return samples_find(view, name, storage, ret_item);
    }
}

/*
 * A dataset as a whole: what its name means, its metadata, its end.
 */
#include <errno.h>

#include "atdata/entry.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "publish/edit.h"

/* Operations that rename what hangs on a name leave room for the others of their commit. */
#define HANGERS_MAX (ATD_INDEX_OPERATIONS_MAX - 16u)

/* ------------------------------------------------------------------ what a name means */

/* By name: the catalog's meaning first, then whatever else it has under that name. */
static int meaning_by_name(struct atd_editor *editor, const struct atd_catalog *catalog,
                           struct atd_str name, struct atd_arena *arena,
                           struct atd_edit_now *ret_now, struct atd_error *err)
{
    const struct atd_catalog_entry *candidate = atd_catalog_meaning(catalog, name);
    size_t place = atd_catalog_first_named(catalog, name);

    while (candidate) {
        /* One that only a label brought here keeps its own name. */
        bool is_of_name = atd_str_equal(atd_entry_name(candidate), name);
        int rc = atd_edit_find_entry(editor, atd_entry_cid(candidate), arena, &ret_now->exists,
                                     &ret_now->entry, err);

        if (rc)
            return rc;
        /* One that was renamed meanwhile is not meant any more. */
        if (ret_now->exists && (!is_of_name || atd_str_equal(ret_now->entry.name, name)))
            return 0;
        ret_now->exists = false;
        candidate = NULL;
        if (place < atd_catalog_entry_count(catalog) &&
            atd_str_equal(atd_entry_name(atd_catalog_named_at(catalog, place)), name))
            candidate = atd_catalog_named_at(catalog, place++);
    }
    return 0;
}

int atd_edit_meaning(struct atd_editor *editor, const struct atd_catalog *catalog,
                     struct atd_str name, struct atd_arena *arena, struct atd_edit_now *ret_now,
                     struct atd_error *err)
{
    int rc;

    *ret_now = (struct atd_edit_now){0};
    rc = atd_edit_find_label(editor, name, ATD_STR(""), arena, &ret_now->has_label, &ret_now->label,
                             err);
    if (rc == 0 && ret_now->has_label)
        rc = atd_edit_find_entry(editor, ret_now->label.cid, arena, &ret_now->exists,
                                 &ret_now->entry, err);
    if (rc || ret_now->exists)
        return rc;
    return meaning_by_name(editor, catalog, name, arena, ret_now, err);
}

int atd_edit_read(struct atd_editor *editor, struct atd_str name, struct atd_arena *arena,
                  struct atd_edit_dataset *ret_dataset, struct atd_error *err)
{
    struct atd_catalog *catalog = atd_live_get(editor->options.live);
    struct atd_edit_dataset dataset = {0};
    struct atd_edit_now now;
    int rc = atd_edit_meaning(editor, catalog, name, arena, &now, err);

    atd_catalog_unref(catalog);
    if (rc == 0 && now.exists) {
        dataset.exists = true;
        dataset.entry = now.entry;
        rc = atd_urls_decode(now.entry.data_urls, arena, &dataset.urls, &dataset.url_count, err);
        if (rc == 0)
            rc = atd_edit_schema_of(editor, now.entry.schema_ref, arena, &dataset.schema, err);
    }
    if (rc)
        return atd_error_wrap(err, rc, "dataset '" ATD_STR_FMT "'", ATD_STR_ARG(name));
    *ret_dataset = dataset;
    return 0;
}

static int no_dataset(struct atd_error *err)
{
    return atd_error_set(err, ENOENT, "there is no such dataset");
}

/* ------------------------------------------------------------------ metadata */

struct metadata_edit {
    struct atd_str name;
    struct atd_bytes user;
};

static int plan_metadata(struct atd_edit *edit, void *ctx, struct atd_error *err)
{
    const struct metadata_edit *want = ctx;
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(ATD_METADATA_BYTES_MAX);
    struct atd_edit_now now;
    struct atd_bytes metadata = {NULL, 0};
    int rc = atd_edit_meaning(edit->editor, edit->catalog, want->name, &edit->arena, &now, err);

    if (rc == 0 && !now.exists)
        rc = no_dataset(err);
    if (rc == 0)
        rc = atd_metadata_replace_user(now.entry.metadata, want->user, &out, err);
    if (rc == 0)
        rc = atd_buf_finish(&out, "the metadata", err);
    if (rc)
        return rc;
    if (out.len)
        metadata = atd_buf_bytes(&out);
    return atd_edit_put_metadata_of(edit, want->name, &now, metadata, err);
}

int atd_edit_set_metadata(struct atd_editor *editor, struct atd_str name, struct atd_bytes user,
                          struct atd_error *err)
{
    struct metadata_edit want = {name, user};
    int rc = atd_edit_run(editor, plan_metadata, &want, err);

    return rc ? atd_error_wrap(err, rc, "changing the metadata of dataset '" ATD_STR_FMT "'",
                               ATD_STR_ARG(name))
              : 0;
}

/* ------------------------------------------------------------------ its end */

static int lists_shards(const struct atd_index_entry *entry, struct atd_error *err)
{
    size_t count = 0;
    int rc = atd_urls_check(entry->data_urls, &count, err);

    if (rc == 0 && count)
        rc = atd_error_set(err, ENOTEMPTY, "it lists %zu shards", count);
    return rc;
}

/* The labels of the name, but NAME@ itself. Errors: ENOTEMPTY one leads to another entry. */
static int remove_versions(struct atd_edit *edit, struct atd_str name,
                           const struct atd_index_entry *entry, struct atd_error *err)
{
    const struct atd_catalog *catalog = edit->catalog;
    int rc = 0;

    for (size_t i = atd_catalog_first_label_named(catalog, name);
         rc == 0 && i < atd_catalog_label_count(catalog); i++) {
        const struct atd_catalog_label *known = atd_catalog_label_at(catalog, i);
        struct atd_index_label label;
        struct atd_index_entry other;
        bool is_there;
        bool is_alive = false;

        if (!atd_str_equal(atd_label_name(known), name))
            break;
        if (!atd_label_version(known).len)
            continue;
        rc = atd_edit_find_label(edit->editor, name, atd_label_version(known), &edit->arena,
                                 &is_there, &label, err);
        if (rc || !is_there)
            continue;
        if (!atd_str_equal(label.cid, entry->cid))
            rc = atd_edit_find_entry(edit->editor, label.cid, &edit->arena, &is_alive, &other, err);
        if (rc == 0 && is_alive)
            rc = atd_error_set(err, ENOTEMPTY,
                               "its version '" ATD_STR_FMT "' is there: remove that label first",
                               ATD_STR_ARG(label.version));
        if (rc == 0)
            rc = atd_edit_delete_label(edit, &label, err);
    }
    return rc;
}

/*
 * The entry itself, with the versioned labels of other names that lead to it. When it is what
 * another name means too (edit_successor.c), it stays for that one, under its name.
 */
static int remove_entry(struct atd_edit *edit, struct atd_str name,
                        const struct atd_index_entry *entry, struct atd_error *err)
{
    const struct atd_catalog_entry *known = atd_catalog_find_cid(edit->catalog, entry->cid);
    size_t before = edit->count;
    int rc = 0;

    for (size_t i = 0; rc == 0 && known && i < known->label_count; i++) {
        const struct atd_catalog_label *label = atd_catalog_label_of(edit->catalog, known, i);
        struct atd_index_label fresh;
        bool is_there;

        if (atd_str_equal(atd_label_name(label), name))
            continue;
        rc = atd_edit_find_label(edit->editor, atd_label_name(label), atd_label_version(label),
                                 &edit->arena, &is_there, &fresh, err);
        if (rc || !is_there || !atd_str_equal(fresh.cid, entry->cid))
            continue;
        if (!fresh.version.len) {
            edit->count = before;
            rc = atd_edit_check_label(edit, &fresh, err);
            return rc ? rc : atd_edit_set_name(edit, entry, fresh.name, err);
        }
        rc = atd_edit_delete_label(edit, &fresh, err);
    }
    return rc ? rc : atd_edit_delete_entry(edit, entry, err);
}

static void count_record(void *ctx, const struct atd_shard_record *record)
{
    (void)record;
    ++*(size_t *)ctx;
}

/* An earlier state of the dataset: superseded under its name by atdatafs, which wrote it too. */
static bool is_earlier_state(struct atd_edit *edit, struct atd_str name,
                             const struct atd_catalog_entry *known)
{
    struct atd_str base;
    size_t records = 0;

    if (known->label_count ||
        !atd_edit_is_superseded(atd_entry_name(known), atd_entry_cid(known), &base) ||
        !atd_str_equal(base, name))
        return false;
    if (atd_entry_metadata(known).ptr)
        atd_metadata_each_shard(atd_entry_metadata(known), count_record, &records);
    return records > 0 || atd_editor_is_own(edit->editor, atd_entry_cid(known));
}

/*
 * Others of that name would be the dataset then, and earlier states of it would show. What others
 * inserted under the name, and we only renamed, stays: it shows from now on.
 */
static int remove_others(struct atd_edit *edit, struct atd_str name,
                         const struct atd_index_entry *entry, struct atd_error *err)
{
    const struct atd_catalog *catalog = edit->catalog;
    int rc = 0;

    for (size_t i = atd_catalog_first_named(catalog, name);
         rc == 0 && i < atd_catalog_entry_count(catalog) && edit->count < HANGERS_MAX; i++) {
        const struct atd_catalog_entry *known = atd_catalog_named_at(catalog, i);
        struct atd_index_entry fresh;
        bool is_there;
        bool is_ours;

        if (!atd_str_starts_with(atd_entry_name(known), name))
            break;
        is_ours = is_earlier_state(edit, name, known);
        if (atd_str_equal(atd_entry_cid(known), entry->cid) ||
            (!is_ours && !atd_str_equal(atd_entry_name(known), name)))
            continue;
        rc = atd_edit_find_entry(edit->editor, atd_entry_cid(known), &edit->arena, &is_there,
                                 &fresh, err);
        if (rc || !is_there || !atd_str_equal(fresh.name, atd_entry_name(known)))
            continue;
        if (!is_ours)
            rc = lists_shards(&fresh, err);
        if (rc == 0)
            rc = atd_edit_delete_entry(edit, &fresh, err);
    }
    return rc;
}

static int plan_remove(struct atd_edit *edit, void *ctx, struct atd_error *err)
{
    const struct atd_str *name = ctx;
    struct atd_edit_now now;
    bool is_of_name;
    int rc = atd_edit_meaning(edit->editor, edit->catalog, *name, &edit->arena, &now, err);

    if (rc)
        return rc;
    if (!now.exists)
        return edit->was_sent ? 0 : no_dataset(err);
    is_of_name = atd_str_equal(now.entry.name, *name);
    rc = lists_shards(&now.entry, err);
    if (rc == 0 && now.has_label)
        rc = atd_edit_delete_label(edit, &now.label, err);
    /* An entry of another name, which only a label brought here, is that one's. */
    if (rc == 0 && is_of_name)
        rc = remove_entry(edit, *name, &now.entry, err);
    if (rc == 0)
        rc = remove_versions(edit, *name, &now.entry, err);
    return rc ? rc : remove_others(edit, *name, &now.entry, err);
}

int atd_edit_remove_dataset(struct atd_editor *editor, struct atd_str name, struct atd_error *err)
{
    int rc = atd_edit_run(editor, plan_remove, &name, err);

    return rc ? atd_error_wrap(err, rc, "removing dataset '" ATD_STR_FMT "'", ATD_STR_ARG(name))
              : 0;
}

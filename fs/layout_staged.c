#include "layout_staged.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"

static bool holds_staged(enum node_kind kind)
{
    return kind == NODE_DATASET || kind == NODE_SCHEMAS || kind == NODE_STAGED_DIR;
}

struct atd_str view_subject(const struct view *view)
{
    if (samples_is_directory(view->kind))
        return atd_str_from(view->subject);
    if (view->dataset)
        return atd_dataset_file_name(view->dataset);
    return view->entry ? atd_entry_file_name(view->entry) : atd_str_from(view->subject);
}

const struct atd_shard *view_shard(const struct view *view, struct atd_str name)
{
    return view->shards ? atd_shard_list_find(view->shards, name) : NULL;
}

bool view_hides(const struct view *view, struct atd_str name)
{
    return view->kind == NODE_DATASET && staging_is_hidden(view->staging, view_subject(view), name);
}

bool view_is_settled(const struct view *view)
{
    return (!holds_staged(view->kind) && view->kind != NODE_DATASETS) ||
           staging_version(view->staging) == view->staging_version;
}

/* ------------------------------------------------------------------ opening */

/* "DATASET/.~tmp~" -> the place of that directory in the dataset's. */
static struct staged_place scratch_place(struct atd_str subject)
{
    ptrdiff_t slash = atd_str_find(subject, '/');

    atd_assert(slash >= 0);
    return (struct staged_place){NODE_DATASET, atd_str_head(subject, (size_t)slash),
                                 atd_str_from_byte(subject, (size_t)slash + 1)};
}

/* Leaves what is in this one of a dataset's scratch directories. */
static void keep_scratch(struct view *view, struct atd_str directory)
{
    struct staged_list *list = &view->staged;
    size_t kept = 0;

    for (size_t i = 0; i < list->count; i++) {
        struct staged_listed *listed = &list->items[i];
        struct atd_str leaf = atd_str_from(listed->leaf);
        struct atd_str name = staged_leaf_name(leaf);

        if (atd_str_equal(atd_str_head(leaf, leaf.len - name.len - 1), directory)) {
            list->items[kept++] = *listed;
        } else {
            staged_unref(view->staging, listed->staged);
            free(listed->leaf);
        }
    }
    list->count = kept;
}

static int take_one(struct view *view, struct atd_str subject, struct atd_str name,
                    struct atd_error *err)
{
    struct staged_where storage;
    struct staged_place place;
    struct staged *staged;

    if (!staged_place_in(view->kind, subject, name, &storage, &place))
        return 0;
    staged = staging_find(view->staging, &place);
    if (!staged)
        return 0;
    view->staged.items = calloc(1, sizeof(*view->staged.items));
    if (view->staged.items) {
        view->staged.items[0] =
            (struct staged_listed){staged, strndup(place.leaf.ptr, place.leaf.len)};
        view->staged.count = 1;
    } else {
        staged_unref(view->staging, staged);
    }
    if (!view->staged.items || !view->staged.items[0].leaf)
        return atd_error_set(err, ENOMEM, "out of memory");
    return 0;
}

static int take_all(struct view *view, struct atd_str subject, struct atd_error *err)
{
    struct staged_place scratch;
    int rc;

    if (view->kind != NODE_STAGED_DIR)
        return staging_list(view->staging, view->kind, subject, &view->staged, err);
    scratch = scratch_place(subject);
    rc = staging_list(view->staging, NODE_STAGED_DIR, scratch.subject, &view->staged, err);
    if (rc == 0)
        keep_scratch(view, scratch.leaf);
    return rc;
}

static int take_empty(struct view *view, struct atd_str name, struct atd_error *err)
{
    if (!name.ptr)
        return staging_datasets(view->staging, &view->empty, &view->empty_count, err);
    if (!staging_has_dataset(view->staging, name))
        return 0;
    view->empty = calloc(1, sizeof(*view->empty));
    if (view->empty)
        view->empty[0] = strndup(name.ptr, name.len);
    if (!view->empty || !view->empty[0])
        return atd_error_set(err, ENOMEM, "out of memory");
    view->empty_count = 1;
    return 0;
}

int view_take_staged(struct view *view, struct atd_str subject, struct atd_str name,
                     bool *ret_only_staged, struct atd_error *err)
{
    struct staged_place scratch;
    struct staged *directory;

    view->staging_version = staging_version(view->staging);
    *ret_only_staged = view->kind == NODE_DATASET && staging_has_dataset(view->staging, subject);
    if (view->kind == NODE_DATASETS)
        return take_empty(view, name, err);
    if (!holds_staged(view->kind))
        return 0;
    atd_assert(subject.len < sizeof(view->subject));
    if (subject.len)
        memcpy(view->subject, subject.ptr, subject.len);
    view->subject[subject.len] = '\0';
    if (view->kind == NODE_STAGED_DIR) {
        scratch = scratch_place(subject);
        directory = staging_find(view->staging, &scratch);
        staged_unref(view->staging, directory);
        if (!directory)
            return atd_error_set(err, ENOENT, "'" ATD_STR_FMT "' is gone",
                                 ATD_STR_ARG(scratch.leaf));
    }
    return name.ptr ? take_one(view, subject, name, err) : take_all(view, subject, err);
}

void view_give_staged(struct view *view)
{
    if (view->staging)
        staging_list_free(view->staging, &view->staged);
    staging_datasets_free(view->empty, view->empty_count);
    view->empty = NULL;
    view->empty_count = 0;
}

/* ------------------------------------------------------------------ items */

void view_staged_item(const struct view *view, size_t place, struct view_names *storage,
                      struct item *ret_item)
{
    const struct staged_listed *listed = &view->staged.items[place];
    struct atd_str name = staged_leaf_name(atd_str_from(listed->leaf));
    bool is_directory = listed->staged->kind == STAGED_DIR;

    *ret_item = (struct item){
        .kind = is_directory ? NODE_STAGED_DIR : NODE_STAGED,
        .parent = view->kind,
        .subject = view_subject(view),
        .leaf = name,
        .link_count = is_directory ? 2 : 1,
        .mtime_s = listed->staged->made_s,
        .staged_id = listed->staged->id,
    };
    if (is_directory) {
        int len =
            snprintf(storage->subject, sizeof(storage->subject), "%.*s/%.*s",
                     (int)ret_item->subject.len, ret_item->subject.ptr, (int)name.len, name.ptr);

        atd_assert(len > 0 && (size_t)len < sizeof(storage->subject));
        ret_item->subject = (struct atd_str){storage->subject, (size_t)len};
        ret_item->staged_id = 0; /* known by where it is, like every directory */
    }
}

static int compare_listed(const void *name, const void *listed)
{
    struct atd_str leaf = atd_str_from(((const struct staged_listed *)listed)->leaf);

    return atd_str_compare(*(const struct atd_str *)name, staged_leaf_name(leaf));
}

bool view_find_staged(const struct view *view, struct atd_str name, size_t *ret_place)
{
    const struct staged_list *list = &view->staged;
    const struct staged_listed *found =
        list->count ? bsearch(&name, list->items, list->count, sizeof(*list->items), compare_listed)
                    : NULL;

    if (found)
        *ret_place = (size_t)(found - list->items);
    return found != NULL;
}

void view_empty_item(const struct view *view, size_t place, struct item *ret_item)
{
    struct atd_str name = atd_str_from(view->empty[place]);

    *ret_item = (struct item){
        .kind = NODE_DATASET, .subject = name, .leaf = name, .link_count = 2, .is_empty = true};
}

static int compare_empty(const void *name, const void *empty)
{
    return atd_str_compare(*(const struct atd_str *)name, atd_str_from(*(char *const *)empty));
}

bool view_find_empty(const struct view *view, struct atd_str name, size_t *ret_place)
{
    char **found = view->empty_count ? bsearch(&name, view->empty, view->empty_count,
                                               sizeof(*view->empty), compare_empty)
                                     : NULL;

    if (found)
        *ret_place = (size_t)(found - view->empty);
    return found != NULL;
}

bool view_empty_record(const struct view *view, enum node_kind kind, struct atd_buf *out,
                       int64_t *ret_mtime_s)
{
    if (view->kind != NODE_DATASET || (kind != NODE_SCHEMA_JSON && kind != NODE_METADATA))
        return false;
    return staging_get_record(view->staging, atd_str_from(view->subject),
                              kind == NODE_METADATA ? STAGED_METADATA : STAGED_SCHEMA, out,
                              ret_mtime_s);
}

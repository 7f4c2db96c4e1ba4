/*
 * Opening a view: what of the catalog, the shards and what is staged a directory is made of, and
 * how much effort that takes.
 */
#include <errno.h>

#include "base/check.h"
#include "base/limits.h"
#include "layout_staged.h"
#include "samples.h"

/* About a millisecond of rendering. */
#define HEAVY_SHARDS 1000

static bool holds_records(enum node_kind kind)
{
    return kind == NODE_DATASET || kind == NODE_CID;
}

static enum view_need view_need_of(enum node_kind kind, struct atd_str name)
{
    enum atd_upload_name upload;
    enum node_kind record;

    /* No shard's file name begins with a dot (DESIGN 2.1). */
    if (!holds_records(kind) || (name.len && name.ptr[0] == '.'))
        return VIEW_RECORDS;
    if (layout_record_kind(name, &record) && record != NODE_ENTRY)
        return VIEW_RECORDS;
    if (atd_str_equal(name, ATD_STR(SAMPLES_NAME))) /* no shard's name (catalog/shard_names.h) */
        return VIEW_RECORDS;
    upload = atd_upload_name_classify(name, NULL, NULL);
    return upload == ATD_UPLOAD_TEMP || upload == ATD_UPLOAD_SCRATCH ? VIEW_SHARDS_HERE
                                                                     : VIEW_SHARDS;
}

static int find_entry(struct view *view, struct atd_str subject, struct atd_error *err)
{
    if (view->kind == NODE_DATASET) {
        view->dataset = atd_catalog_find_dataset(view->catalog, subject);
        if (view->dataset)
            view->entry = atd_catalog_entry_at(view->catalog, view->dataset->entry);
    } else {
        view->entry = atd_catalog_find_entry(view->catalog, subject);
    }
    if (!view->entry)
        return atd_error_set(err, ENOENT, "'" ATD_STR_FMT "' is not in the index any more",
                             ATD_STR_ARG(subject));
    return 0;
}

/* Makes the list again when a store that said no may be asked again; tells the kernel if that
 * made a difference. */
static int renew_shards(struct fs *fs, struct view *view, enum atd_effort effort,
                        struct atd_error *err)
{
    struct atd_shard_list *fresh;
    int rc = atd_catalog_shards_renew(view->catalog, view->entry, fs->locator, effort, &fresh, err);

    if (rc)
        return rc;
    if (!atd_shard_list_equal(view->shards, fresh))
        notify_entry_shards(fs, view->catalog, view->entry);
    atd_shard_list_unref(view->shards);
    view->shards = fresh;
    return 0;
}

static int view_shards(struct fs *fs, struct view *view, enum view_need need,
                       enum atd_effort effort, struct atd_error *err)
{
    bool is_due;
    int rc = 0;

    view->shards = atd_catalog_shards_peek(view->catalog, view->entry);
    if (need == VIEW_SHARDS_HERE) {
        if (view->shards || effort == ATD_EFFORT_MEMORY)
            return view->shards ? 0 : -EWOULDBLOCK;
        rc = atd_catalog_shards_get(view->catalog, view->entry, fs->locator, ATD_EFFORT_DISK,
                                    &view->shards, err);
        return rc == -EWOULDBLOCK ? 0 : rc;
    }
    is_due = need == VIEW_SHARDS && view->shards && atd_shard_list_is_due(view->shards);
    if (effort == ATD_EFFORT_MEMORY)
        return view->shards && !view_is_heavy(view) && !is_due ? 0 : -EWOULDBLOCK;
    if (!view->shards)
        rc = atd_catalog_shards_get(view->catalog, view->entry, fs->locator, effort, &view->shards,
                                    err);
    else if (is_due)
        rc = renew_shards(fs, view, effort, err);
    if (rc == 0 && atd_shard_list_may_change(view->shards))
        atd_live_look_again(fs->live);
    return rc;
}

/* Whether a shard of the entry may be called so: a URL says it. (Patterns are no tools' names.) */
static bool may_be_shard(const struct atd_catalog_entry *entry, struct atd_str name)
{
    struct atd_bytes urls = atd_entry_data_urls(entry);

    return memmem(urls.ptr, urls.len, name.ptr, name.len) != NULL;
}

/* `name`: of what is staged only this is wanted; ptr NULL: all. */
static int try_view(struct fs *fs, enum node_kind kind, struct atd_str subject, struct atd_str name,
                    enum view_need need, enum atd_effort effort, struct view *ret_view,
                    struct atd_error *err)
{
    struct view view = {.kind = kind, .staging = fs->staging};
    bool only_staged;
    int rc = view_take_staged(&view, subject, name, &only_staged, err);

    view.catalog = atd_live_get(fs->live);
    if (rc == 0 && holds_records(kind)) {
        rc = find_entry(&view, subject, only_staged ? NULL : err);
        if (rc == 0 && need == VIEW_SHARDS_HERE && may_be_shard(view.entry, name))
            need = VIEW_KNOWN_SHARDS;
        if (rc == -ENOENT && only_staged)
            rc = 0;
        else if (rc == 0 && need != VIEW_RECORDS && !(name.ptr && view.staged.count))
            rc = view_shards(fs, &view, need, effort, err);
    }
    atd_assert(rc != -EWOULDBLOCK || effort != ATD_EFFORT_NETWORK);
    if (rc) {
        view_close(&view);
        return rc;
    }
    *ret_view = view;
    return 0;
}

/* The same for a directory that may have been renamed since somebody opened it. */
static int open_view(struct fs *fs, enum node_kind kind, struct atd_str subject,
                     struct atd_str name, enum view_need need, enum atd_effort effort,
                     struct view *ret_view, struct atd_error *err)
{
    int rc = try_view(fs, kind, subject, name, need, effort, ret_view, err);
    char renamed[ATD_FILE_NAME_MAX + 1];

    if (rc != -ENOENT || kind != NODE_DATASET || !staging_renamed(fs->staging, subject, renamed))
        return rc;
    if (err)
        *err = (struct atd_error)ATD_ERROR_INIT;
    return try_view(fs, kind, atd_str_from(renamed), name, need, effort, ret_view, err);
}

int view_open(struct fs *fs, enum node_kind kind, struct atd_str subject, enum view_need need,
              enum atd_effort effort, struct view *ret_view, struct atd_error *err)
{
    static const struct atd_str all = {NULL, 0};

    if (samples_is_directory(kind))
        return samples_view_open(fs, kind, subject, all, effort, ret_view, err);
    return open_view(fs, kind, subject, all, need, effort, ret_view, err);
}

int view_open_for(struct fs *fs, enum node_kind kind, struct atd_str subject, struct atd_str name,
                  enum atd_effort effort, struct view *ret_view, struct atd_error *err)
{
    enum view_need need = view_need_of(kind, name);
    const struct atd_shard *shard;
    struct view view;
    int rc;

    if (samples_is_directory(kind))
        return samples_view_open(fs, kind, subject, name, effort, ret_view, err);
    if (need != VIEW_SHARDS)
        return open_view(fs, kind, subject, name, need, effort, ret_view, err);
    rc = open_view(fs, kind, subject, name, VIEW_KNOWN_SHARDS, effort, &view, err);
    if (rc)
        return rc;
    shard = view_shard(&view, name);
    if (view.shards && atd_shard_list_is_due(view.shards) && (!shard || shard->error_code)) {
        view_close(&view);
        return open_view(fs, kind, subject, name, VIEW_SHARDS, effort, ret_view, err);
    }
    *ret_view = view;
    return 0;
}

bool view_is_heavy(const struct view *view)
{
    return view->shards && atd_shard_list_count(view->shards) > HEAVY_SHARDS;
}

void layout_check_current(struct fs *fs, struct atd_catalog *answered)
{
    struct atd_catalog *now;

    if (atd_live_generation(fs->live) == atd_catalog_generation(answered))
        return;
    now = atd_live_get(fs->live);
    notify_generation(fs, answered, now);
    atd_catalog_unref(now);
}

void view_close(struct view *view)
{
    samples_view_close(view);
    view_give_staged(view);
    atd_shard_list_unref(view->shards);
    atd_catalog_unref(view->catalog);
    *view = (struct view){0};
}

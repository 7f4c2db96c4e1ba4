#include "target.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "codec/file_name.h"

int target_dataset_name(struct fs *fs, struct atd_str file_name, struct atd_buf *out,
                        struct atd_error *err)
{
    struct atd_catalog *catalog = atd_live_get(fs->live);
    const struct atd_dataset *dataset = atd_catalog_find_dataset(catalog, file_name);
    int rc = 0;

    if (dataset)
        atd_buf_append_str(out, atd_dataset_name(dataset));
    else
        rc = atd_file_name_decode(file_name, out, err);
    atd_catalog_unref(catalog);
    if (rc) {
        if (err && err->code == EINVAL)
            err->code = EACCES;
        return err ? -err->code : -EACCES;
    }
    return atd_buf_finish(out, "the dataset's name", err);
}

static int refuse_directory(const struct node *directory, struct atd_error *err)
{
    if (samples_is_directory(directory->kind))
        return samples_refuse(err);
    switch (directory->kind) {
    case NODE_BY_CID:
    case NODE_CID:
        return atd_error_set(err, EROFS, "by-cid/ shows entries as they are and never changes");
    case NODE_DATASETS:
        return atd_error_set(err, EACCES,
                             "only directories can be made here: mkdir makes a dataset");
    case NODE_LABELS:
        return atd_error_set(err, EACCES,
                             "labels are symbolic links: ln -s ../datasets/NAME NAME@VERSION");
    default:
        return atd_error_set(err, EACCES, "nothing can be put here");
    }
}

static bool is_json(struct atd_str name)
{
    return name.len > strlen(".json") && name.ptr[0] != '.' &&
           atd_str_ends_with(name, ATD_STR(".json"));
}

/* Copies it: a target owns its texts. They fit, whoever made the place. */
static void set_place(struct target *target, const struct staged_place *place)
{
    struct staged_where *where = &target->where;

    atd_assert(place->subject.len < sizeof(where->subject) &&
               place->leaf.len < sizeof(where->leaf));
    where->directory = place->directory;
    memcpy(where->subject, place->subject.ptr, place->subject.len);
    where->subject[place->subject.len] = '\0';
    memcpy(where->leaf, place->leaf.ptr, place->leaf.len);
    where->leaf[place->leaf.len] = '\0';
    target->place = staged_where_place(where);
}

/* ".X@1.0.0.json.a1b2c3", "X@1.0.0.json.part": a schema on its way, whatever tool writes it. */
static bool is_of_json(struct atd_str name)
{
    return memmem(name.ptr, name.len, ".json.", strlen(".json.")) != NULL;
}

static int classify(struct target *target, struct atd_error *err)
{
    struct atd_str name = staged_leaf_name(target->place.leaf);
    bool is_in_scratch = target->place.directory == NODE_STAGED_DIR;

    target->final = (struct atd_str){"", 0};
    if (target->place.directory == NODE_SCHEMAS) {
        if (is_json(name)) {
            target->name_kind = ATD_UPLOAD_RECORD;
            target->final = name;
            return 0;
        }
        target->name_kind = atd_upload_name_classify(name, NULL, NULL);
        if (target->name_kind == ATD_UPLOAD_SCRATCH || target->name_kind == ATD_UPLOAD_TEMP ||
            is_of_json(name)) {
            target->name_kind = ATD_UPLOAD_SCRATCH;
            return 0;
        }
        return atd_error_set(err, EACCES,
                             "'" ATD_STR_FMT "': a schema is published as NAME@VERSION.json",
                             ATD_STR_ARG(name));
    }
    target->name_kind = atd_upload_name_classify(name, &target->final, err);
    if (target->name_kind == ATD_UPLOAD_REFUSED)
        return -EACCES;
    if (is_in_scratch && target->name_kind == ATD_UPLOAD_SHARD)
        target->name_kind = ATD_UPLOAD_TEMP; /* of itself: it will be moved out */
    if (is_in_scratch && target->name_kind == ATD_UPLOAD_RECORD)
        target->name_kind = ATD_UPLOAD_SCRATCH;
    return 0;
}

/* With the place set. */
static int fill(struct fs *fs, struct target *target, struct atd_error *err)
{
    int rc = classify(target, err);

    if (rc == 0 && target->place.directory != NODE_SCHEMAS)
        rc = target_dataset_name(fs, target->place.subject, &target->dataset, err);
    return rc;
}

static void init(struct target *target)
{
    memset(target, 0, sizeof(*target));
    atd_buf_init(&target->dataset, ATD_NAME_BYTES_MAX);
}

/* A directory that somebody is in, or that the kernel remembers, may be gone. */
static bool has_dataset(struct fs *fs, struct atd_str file_name)
{
    /* In this order: an empty one goes only when a catalog has it. */
    bool is_there = staging_has_dataset(fs->staging, file_name);
    struct atd_catalog *catalog = atd_live_get(fs->live);

    is_there = is_there || atd_catalog_find_dataset(catalog, file_name);
    atd_catalog_unref(catalog);
    return is_there;
}

int target_find(struct fs *fs, const struct node *directory, const char *name,
                struct target *ret_target, struct atd_error *err)
{
    struct staged_where storage;
    struct staged_place place;
    char renamed[ATD_FILE_NAME_MAX + 1];

    init(ret_target);
    if (strlen(name) > ATD_FILE_NAME_MAX)
        return atd_error_set(err, ENAMETOOLONG, "the name is longer than %u bytes",
                             ATD_FILE_NAME_MAX);
    if (!staged_place_in(directory->kind, node_subject(directory), atd_str_from(name), &storage,
                         &place))
        return refuse_directory(directory, err);
    if (directory->kind == NODE_DATASET && !has_dataset(fs, place.subject) &&
        staging_renamed(fs->staging, place.subject, renamed))
        place.subject = atd_str_from(renamed);
    if (place.directory != NODE_SCHEMAS && !has_dataset(fs, place.subject))
        return atd_error_set(err, ESTALE, "the dataset '" ATD_STR_FMT "' is gone",
                             ATD_STR_ARG(place.subject));
    set_place(ret_target, &place);
    return fill(fs, ret_target, err);
}

struct staged *target_find_staged(struct fs *fs, const struct node *directory, const char *name)
{
    struct staged_where storage;
    struct staged_place place;

    if (!staged_place_in(directory->kind, node_subject(directory), atd_str_from(name), &storage,
                         &place))
        return NULL;
    return staging_find(fs->staging, &place);
}

int target_of_staged(struct fs *fs, struct staged *staged, struct target *ret_target,
                     struct atd_error *err)
{
    struct staged_look look;

    init(ret_target);
    staging_look(fs->staging, staged, &look);
    if (!look.is_named)
        return atd_error_set(err, ENOENT, "it was unlinked");
    ret_target->where = look.where;
    ret_target->place = staged_where_place(&ret_target->where);
    return fill(fs, ret_target, err);
}

int target_copy(const struct target *target, struct target *ret_copy, struct atd_error *err)
{
    ptrdiff_t final_at = target->final.len ? target->final.ptr - target->place.leaf.ptr : 0;

    init(ret_copy);
    set_place(ret_copy, &target->place);
    ret_copy->name_kind = target->name_kind;
    ret_copy->final = (struct atd_str){"", 0};
    if (target->final.len)
        ret_copy->final = (struct atd_str){ret_copy->place.leaf.ptr + final_at, target->final.len};
    atd_buf_append(&ret_copy->dataset, target->dataset.ptr, target->dataset.len);
    return atd_buf_finish(&ret_copy->dataset, "a dataset's name", err);
}

void target_release(struct target *target)
{
    atd_buf_release(&target->dataset);
}

int target_is_free(struct fs *fs, const struct target *target, enum atd_effort effort,
                   struct atd_error *err)
{
    const struct atd_shard *shard;
    struct atd_error why = ATD_ERROR_INIT;
    struct view view;
    int rc;

    if (!target->final.len || target->place.directory == NODE_SCHEMAS ||
        staging_is_hidden(fs->staging, target->place.subject, target->final))
        return 0;
    rc = view_open_for(fs, NODE_DATASET, target->place.subject, target->final, effort, &view, &why);
    if (rc == -EWOULDBLOCK)
        return rc;
    if (rc)
        return 0; /* no such dataset yet, or its shards cannot be listed: the commit will tell */
    shard = view.shards ? atd_shard_list_find(view.shards, target->final) : NULL;
    if (shard)
        rc = atd_error_set(err, EEXIST,
                           "'" ATD_STR_FMT "' is published and published shards never change; "
                           "choose another name",
                           ATD_STR_ARG(target->final));
    view_close(&view);
    return rc;
}

void notify_place(struct fs *fs, const struct staged_place *place)
{
    notify_staged(fs, place->directory, place->subject, place->leaf);
}

void notify_note(struct fs *fs, const struct staged_place *place)
{
    struct staged_where where;

    staged_note_place(place, &where);
    notify_staged(fs, where.directory, atd_str_from(where.subject), atd_str_from(where.leaf));
}

void target_path(const struct staged_place *place, char ret_path[TARGET_PATH_MAX])
{
    if (place->directory == NODE_SCHEMAS)
        (void)snprintf(ret_path, TARGET_PATH_MAX, "schemas/" ATD_STR_FMT, ATD_STR_ARG(place->leaf));
    else
        (void)snprintf(ret_path, TARGET_PATH_MAX, "datasets/" ATD_STR_FMT "/" ATD_STR_FMT,
                       ATD_STR_ARG(place->subject), ATD_STR_ARG(place->leaf));
}

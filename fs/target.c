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
        atd_buf_append_str(out, dataset->name);
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

static int classify(struct target *target, struct atd_str name, struct atd_error *err)
{
    if (target->place.directory == NODE_SCHEMAS) {
        target->final = name;
        if (is_json(name)) {
            target->name_kind = ATD_UPLOAD_RECORD;
            return 0;
        }
        target->name_kind = atd_upload_name_classify(name, &target->final, NULL);
        if (target->name_kind == ATD_UPLOAD_SCRATCH || target->name_kind == ATD_UPLOAD_TEMP) {
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
    if (target->is_in_scratch && target->name_kind == ATD_UPLOAD_SHARD)
        target->name_kind = ATD_UPLOAD_TEMP; /* of itself: it will be moved out */
    if (target->is_in_scratch && target->name_kind == ATD_UPLOAD_RECORD)
        target->name_kind = ATD_UPLOAD_SCRATCH;
    return 0;
}

static int find(struct fs *fs, enum node_kind directory, struct atd_str subject,
                struct atd_str scratch, struct atd_str name, struct target *target,
                struct atd_error *err)
{
    size_t prefix = scratch.len ? scratch.len + 1 : 0;
    int rc;

    if (name.len > ATD_FILE_NAME_MAX || scratch.len > ATD_FILE_NAME_MAX)
        return atd_error_set(err, ENAMETOOLONG, "the name is longer than %u bytes",
                             ATD_FILE_NAME_MAX);
    if (prefix) {
        memcpy(target->leaf, scratch.ptr, scratch.len);
        target->leaf[scratch.len] = '/';
    }
    memcpy(target->leaf + prefix, name.ptr, name.len);
    target->place = (struct staged_place){
        .directory = directory, .subject = subject, .leaf = {target->leaf, prefix + name.len}};
    target->is_in_scratch = directory == NODE_STAGED_DIR;
    rc = classify(target, (struct atd_str){target->leaf + prefix, name.len}, err);
    if (rc == 0 && directory != NODE_SCHEMAS)
        rc = target_dataset_name(fs, subject, &target->dataset, err);
    return rc;
}

int target_find(struct fs *fs, const struct node *directory, const char *name,
                struct target *ret_target, struct atd_error *err)
{
    struct atd_str none = {"", 0};

    memset(ret_target, 0, sizeof(*ret_target));
    atd_buf_init(&ret_target->dataset, ATD_NAME_BYTES_MAX);
    switch (directory->kind) {
    case NODE_SCHEMAS:
        return find(fs, NODE_SCHEMAS, none, none, atd_str_from(name), ret_target, err);
    case NODE_DATASET:
        return find(fs, NODE_DATASET, node_subject(directory), none, atd_str_from(name),
                    ret_target, err);
    case NODE_STAGED_DIR:
        return find(fs, NODE_STAGED_DIR, node_subject(directory), node_leaf(directory),
                    atd_str_from(name), ret_target, err);
    default:
        return refuse_directory(directory, err);
    }
}

int target_of_staged(struct fs *fs, struct staged *staged, struct target *ret_target,
                     struct atd_error *err)
{
    struct atd_str leaf = atd_str_from(staged->leaf);
    struct atd_str scratch = {"", 0};
    ptrdiff_t slash = atd_str_find(leaf, '/');

    memset(ret_target, 0, sizeof(*ret_target));
    atd_buf_init(&ret_target->dataset, ATD_NAME_BYTES_MAX);
    if (slash >= 0) {
        scratch = atd_str_head(leaf, (size_t)slash);
        leaf = atd_str_from_byte(leaf, (size_t)slash + 1);
    }
    return find(fs, staged->directory, atd_str_from(staged->subject), scratch, leaf, ret_target,
                err);
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
        staging_hidden_url(fs->staging, target->place.subject, target->final, NULL))
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

void target_path(const struct staged_place *place, char ret_path[TARGET_PATH_MAX])
{
    if (place->directory == NODE_SCHEMAS)
        (void)snprintf(ret_path, TARGET_PATH_MAX, "schemas/" ATD_STR_FMT, ATD_STR_ARG(place->leaf));
    else
        (void)snprintf(ret_path, TARGET_PATH_MAX, "datasets/" ATD_STR_FMT "/" ATD_STR_FMT,
                       ATD_STR_ARG(place->subject), ATD_STR_ARG(place->leaf));
}

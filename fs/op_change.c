/*
 * MKDIR, RMDIR, UNLINK, SYMLINK, LINK, MKNOD: names that come and go. RENAME: op_rename.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "codec/file_name.h"
#include "defer.h"
#include "file.h"
#include "index_edit.h"
#include "publishing.h"
#include "reply.h"
#include "target.h"
#include "unlinked.h"
#include "verdict.h"

/* So long an rm waits for the index to show what was published just before. */
#define CATCH_UP_MS 2000u

/* What nobody may change, wherever it is: true when the request was answered. */
static bool reply_if_fixed(fuse_req_t req, const char *operation, const struct node *directory,
                           const char *name)
{
    struct fs *fs = fs_of(req);
    struct atd_error why = ATD_ERROR_INIT;

    if (!directory) {
        (void)fuse_reply_err(req, ESTALE);
        return true;
    }
    if (!fs->publisher)
        (void)publishing_refuse(fs, &why);
    else if (directory->kind == NODE_BY_CID || directory->kind == NODE_CID)
        (void)atd_error_set(&why, EROFS, "by-cid/ shows entries as they are and never changes");
    else if (samples_is_directory(directory->kind))
        (void)samples_refuse(&why);
    else if (directory->kind == NODE_ROOT || directory->kind == NODE_CONTROL)
        (void)atd_error_set(&why, EACCES, "nothing can be changed here");
    else
        return false;
    reply_name_error(req, operation, directory, name, &why);
    return true;
}

/* ------------------------------------------------------------------ MKDIR */

static int make_dataset(struct fs *fs, const char *name, enum atd_effort effort,
                        struct atd_error *err)
{
    atd_auto_buf struct atd_buf index_name = ATD_BUF_INIT(ATD_NAME_BYTES_MAX);
    struct atd_str file_name = atd_str_from(name);
    int rc;

    if (file_name.len > ATD_FILE_NAME_MAX)
        return atd_error_set(err, ENAMETOOLONG, "the name is longer than %u bytes",
                             ATD_FILE_NAME_MAX);
    rc = target_dataset_name(fs, file_name, &index_name, err);
    if (rc == 0)
        rc = atd_dataset_name_check(atd_buf_str(&index_name), err);
    if (rc == 0)
        rc = publishing_ready(fs, effort, err);
    return rc ? rc : staging_add_dataset(fs->staging, file_name, err);
}

static int answer_mkdir(struct deferred *deferred)
{
    fuse_req_t req = deferred->req;
    struct fs *fs = fs_of(req);
    const struct node *directory = nodes_find(fs->nodes, deferred->number);
    struct atd_error why = ATD_ERROR_INIT;
    struct staged *staged = NULL;
    struct staged_place place;
    int rc;

    if (reply_if_fixed(req, "mkdir", directory, deferred->name))
        return 0;
    if (directory->kind == NODE_DATASETS) {
        rc = make_dataset(fs, deferred->name, deferred->effort, &why);
    } else if (directory->kind == NODE_DATASET &&
               atd_upload_name_is_scratch_dir(atd_str_from(deferred->name))) {
        place = (struct staged_place){.directory = NODE_DATASET,
                                      .subject = node_subject(directory),
                                      .leaf = atd_str_from(deferred->name)};
        rc = staging_add(fs->staging, &place, STAGED_DIR, NULL, &staged, &why);
        if (staged)
            staged_unref(fs->staging, staged);
    } else {
        rc = atd_error_set(&why, EACCES,
                           directory->kind == NODE_DATASET
                               ? "a dataset has no directories in it: its shards lie side by side"
                               : "no directory can be made here");
    }
    if (rc == -EWOULDBLOCK)
        return rc;
    if (rc)
        reply_name_error(req, "mkdir", directory, deferred->name, &why);
    else
        reply_made(req, deferred->number, deferred->name);
    return 0;
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    struct fs *fs = fs_of(req);
    const struct node *directory = nodes_find(fs->nodes, parent);

    (void)mode;
    if (!reply_if_fixed(req, "mkdir", directory, name))
        defer(req, &(struct deferred_args){.number = parent, .name = name}, answer_mkdir);
}

/* ------------------------------------------------------------------ UNLINK */

/* One that was published here and that no catalog shows: not yet, or somebody else deleted it. */
static int forget_published(struct fs *fs, struct staged *staged, struct atd_error *err)
{
    uint64_t request = atd_live_barrier(fs->live);
    bool is_gone = atd_live_await(fs->live, request, CATCH_UP_MS);

    if (is_gone) {
        struct atd_catalog *catalog = atd_live_get(fs->live);

        staging_settle(fs->staging, catalog);
        atd_catalog_unref(catalog);
        is_gone = staging_remove(fs->staging, staged);
    }
    return is_gone ? 0 : atd_error_set(err, EBUSY, "it was published this moment");
}

/* A published shard: hidden now, taken out of the index after the grace (TOOLS 4.7). */
static int hide_shard(struct fs *fs, const struct node *directory, struct atd_str name,
                      enum atd_effort effort, struct atd_error *err)
{
    const struct atd_shard *shard;
    struct view view;
    /* It is taken out of the index later, when nobody could be told any more. */
    int rc = atd_publisher_can_edit(fs->publisher, err);

    if (rc == 0)
        rc = view_open_for(fs, NODE_DATASET, node_subject(directory), name, effort, &view, err);
    if (rc)
        return rc;
    shard = view_shard(&view, name);
    if (shard)
        rc = unlinked_add(fs->unlinked, view_subject(&view), name, shard->url, err);
    else if (!view.staged.count)
        rc = atd_error_set(err, ENOENT, "there is no such shard");
    else if (effort == ATD_EFFORT_NETWORK)
        rc = forget_published(fs, view.staged.items[0].staged, err);
    else
        rc = -EWOULDBLOCK;
    view_close(&view);
    return rc;
}

static int refuse_delete(struct atd_error *err)
{
    return atd_error_set(err, EPERM,
                         "published things are deleted only in mounts with -o allow_delete");
}

static int unlink_published(struct fs *fs, fuse_req_t req, const struct node *directory,
                            const char *name, enum atd_effort effort, bool *ret_answered,
                            struct atd_error *err)
{
    enum atd_upload_name kind = atd_upload_name_classify(atd_str_from(name), NULL, NULL);

    if (!fs->options->allow_delete)
        return refuse_delete(err);
    if (directory->kind == NODE_LABELS) {
        *ret_answered = true;
        index_edit_remove_label(fs, req, name);
        return 0;
    }
    if (directory->kind != NODE_DATASET)
        return atd_error_set(err, EPERM, "schemas are never deleted: entries refer to them");
    /* Records go with their dataset: rm -r takes them away before it, and is not held up. */
    if (kind == ATD_UPLOAD_SHARD)
        return hide_shard(fs, directory, atd_str_from(name), effort, err);
    return 0;
}

static int answer_unlink(struct deferred *deferred)
{
    fuse_req_t req = deferred->req;
    struct fs *fs = fs_of(req);
    const struct node *directory = nodes_find(fs->nodes, deferred->number);
    struct atd_error why = ATD_ERROR_INIT;
    bool answered = false;
    int rc;

    if (reply_if_fixed(req, "unlink", directory, deferred->name))
        return 0;
    rc = unlink_published(fs, req, directory, deferred->name, deferred->effort, &answered, &why);
    if (rc == -EWOULDBLOCK)
        return rc;
    if (rc)
        reply_name_error(req, "unlink", directory, deferred->name, &why);
    else if (!answered)
        (void)fuse_reply_err(req, 0);
    return 0;
}

/*
 * A publish that somebody waits for ends now; unless it is being written into the index: that
 * cannot be taken back, and the shard must not show again after its rm succeeded.
 */
static int end_publish(struct staged *staged, struct atd_error *err)
{
    if (!staged->publication || !verdict_is_pending(staged))
        return 0;
    atomic_store(&staged->is_unlinked, true); /* before the answer, which looks at it */
    if (atd_publication_cancel(staged->publication))
        return 0;
    atomic_store(&staged->is_unlinked, false);
    return atd_error_set(err, EBUSY, "it is being published this moment");
}

static bool is_published(struct fs *fs, struct staged *staged)
{
    struct staged_look look;

    staging_look(fs->staging, staged, &look);
    return look.is_published;
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fs *fs = fs_of(req);
    const struct node *directory = nodes_find(fs->nodes, parent);
    struct atd_error why = ATD_ERROR_INIT;
    struct staged *staged;
    int rc;

    if (reply_if_fixed(req, "unlink", directory, name))
        return;
    staged = target_find_staged(fs, directory, name);
    if (staged && !is_published(fs, staged)) {
        /* What was sent of it is taken back by the publisher, when its last handle is closed. */
        rc = end_publish(staged, &why);
        if (rc == 0)
            (void)staging_remove(fs->staging, staged);
        staged_unref(fs->staging, staged);
        if (rc)
            reply_name_error(req, "unlink", directory, name, &why);
        else
            (void)fuse_reply_err(req, 0);
        return;
    }
    if (staged)
        staged_unref(fs->staging, staged);
    defer(req, &(struct deferred_args){.number = parent, .name = name}, answer_unlink);
}

/* ------------------------------------------------------------------ RMDIR */

/* True when files are being written in a dataset's directory. */
static int find_staged_files(struct fs *fs, struct atd_str subject, bool *ret_found,
                             struct atd_error *err)
{
    struct staged_list list;
    int rc = staging_list(fs->staging, NODE_DATASET, subject, &list, err);

    *ret_found = false;
    if (rc)
        return rc;
    for (size_t i = 0; i < list.count; i++)
        *ret_found = *ret_found || list.items[i].staged->kind != STAGED_NOTE;
    staging_list_free(fs->staging, &list);
    return 0;
}

static void rmdir_dataset(fuse_req_t req, const struct node *directory, const char *name)
{
    struct fs *fs = fs_of(req);
    struct atd_error why = ATD_ERROR_INIT;
    struct atd_catalog *catalog = atd_live_get(fs->live);
    bool is_published = atd_catalog_find_dataset(catalog, atd_str_from(name)) != NULL;
    bool has_files = false;
    int rc = find_staged_files(fs, atd_str_from(name), &has_files, &why);

    atd_catalog_unref(catalog);
    if (rc == 0 && has_files)
        rc = atd_error_set(&why, ENOTEMPTY, "files are being written in it");
    if (rc == 0 && is_published && !fs->options->allow_delete)
        rc = refuse_delete(&why);
    if (rc == 0 && is_published) {
        index_edit_remove_dataset(fs, req, name);
        return;
    }
    if (rc == 0 && !staging_remove_dataset(fs->staging, atd_str_from(name)))
        rc = atd_error_set(&why, ENOENT, "there is no such dataset");
    if (rc)
        reply_name_error(req, "rmdir", directory, name, &why);
    else
        (void)fuse_reply_err(req, 0);
}

static int answer_rmdir(struct deferred *deferred)
{
    fuse_req_t req = deferred->req;
    struct fs *fs = fs_of(req);
    const struct node *directory = nodes_find(fs->nodes, deferred->number);
    struct atd_error why = ATD_ERROR_INIT;
    struct staged *staged;
    int rc = 0;

    if (reply_if_fixed(req, "rmdir", directory, deferred->name))
        return 0;
    if (directory->kind == NODE_DATASETS) {
        rmdir_dataset(req, directory, deferred->name);
        return 0;
    }
    staged = target_find_staged(fs, directory, deferred->name);
    if (!staged && strcmp(deferred->name, SAMPLES_NAME) == 0)
        rc = samples_refuse(&why);
    else if (!staged || staged->kind != STAGED_DIR)
        rc = atd_error_set(&why, ENOENT, "there is no such directory");
    if (rc == 0 && !staging_remove(fs->staging, staged))
        rc = atd_error_set(&why, ENOTEMPTY, "files are being written in it");
    if (staged)
        staged_unref(fs->staging, staged);
    if (rc)
        reply_name_error(req, "rmdir", directory, deferred->name, &why);
    else
        (void)fuse_reply_err(req, 0);
    return 0;
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fs *fs = fs_of(req);
    const struct node *directory = nodes_find(fs->nodes, parent);

    if (!reply_if_fixed(req, "rmdir", directory, name))
        defer(req, &(struct deferred_args){.number = parent, .name = name}, answer_rmdir);
}

/* ------------------------------------------------------------------ SYMLINK, LINK, MKNOD */

void op_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name)
{
    struct fs *fs = fs_of(req);
    const struct node *directory = nodes_find(fs->nodes, parent);
    struct atd_error why = ATD_ERROR_INIT;

    if (reply_if_fixed(req, "symlink", directory, name))
        return;
    if (directory->kind != NODE_LABELS) {
        (void)atd_error_set(&why, EACCES, "links are made in labels/ only");
        reply_name_error(req, "symlink", directory, name, &why);
        return;
    }
    index_edit_label(fs, req, parent, name, link);
}

void op_link(fuse_req_t req, fuse_ino_t number, fuse_ino_t parent, const char *name)
{
    const struct node *directory = nodes_find(fs_of(req)->nodes, parent);
    struct atd_error why = ATD_ERROR_INIT;

    (void)number;
    if (reply_if_fixed(req, "link", directory, name))
        return;
    (void)atd_error_set(&why, EPERM, "a file has one name here");
    reply_name_error(req, "link", directory, name, &why);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t device)
{
    const struct node *directory = nodes_find(fs_of(req)->nodes, parent);
    struct atd_error why = ATD_ERROR_INIT;

    (void)mode;
    (void)device;
    if (reply_if_fixed(req, "mknod", directory, name))
        return;
    (void)atd_error_set(&why, EPERM, "only ordinary files can be made here");
    reply_name_error(req, "mknod", directory, name, &why);
}

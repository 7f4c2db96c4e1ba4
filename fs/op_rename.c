/*
 * RENAME: a temporary name becomes a shard's (which publishes it) or a record's (which applies it),
 * a dataset gets another name. Nothing is uploaded here that could have been before: the kernel
 * holds the directory's lock meanwhile (TOOLS 2c). Source: DESIGN 2.4; TOOLS 4.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/workers.h"
#include "file.h"
#include "index_edit.h"
#include "publishing.h"
#include "records.h"
#include "reply.h"
#include "target.h"
#include "verdict.h"

struct rename_work {
    struct atd_work work; /* first */
    fuse_req_t req;
    fuse_ino_t parent;
    fuse_ino_t new_parent;
    unsigned flags;
    enum atd_effort effort;
    char name[ATD_FILE_NAME_MAX + 1];
    char new_name[ATD_FILE_NAME_MAX + 1];
};

static void refuse(struct rename_work *work, const struct node *directory,
                   const struct atd_error *why)
{
    char path[TARGET_PATH_MAX];
    char what[TARGET_PATH_MAX + 600];

    layout_path(fs_of(work->req), directory, path, sizeof(path));
    (void)snprintf(what, sizeof(what), "rename %s/%s to %s", path, work->name, work->new_name);
    reply_error(fs_of(work->req), work->req, what, why);
}

/* ------------------------------------------------------------------ of staged files */

static bool is_published(struct fs *fs, struct staged *staged)
{
    struct staged_look look;

    staging_look(fs->staging, staged, &look);
    return look.is_published;
}

static int rename_scratch(struct fs *fs, struct staged *staged, const struct target *to,
                          struct atd_error *err)
{
    return staging_rename(fs->staging, staged, &to->place, err);
}

/* True while somebody is still writing under the name of a shard: it is published at its flush. */
static bool is_being_written(struct fs *fs, struct staged *staged)
{
    struct atd_publication_status status;
    struct target own;
    bool is_shard;

    if (target_of_staged(fs, staged, &own, NULL) != 0) {
        target_release(&own);
        return false;
    }
    is_shard = own.name_kind == ATD_UPLOAD_SHARD;
    target_release(&own);
    atd_publication_status(staged->publication, &status);
    return is_shard && (status.size_bytes == 0 || status.is_dirty);
}

static int rename_staged(struct rename_work *work, struct staged *staged,
                         const struct node *new_directory, bool *ret_answered,
                         struct atd_error *err)
{
    struct fs *fs = fs_of(work->req);
    struct staged *there;
    struct target to;
    int rc = target_find(fs, new_directory, work->new_name, &to, err);

    if (rc == 0 && !staged->publication)
        rc = atd_error_set(err, EACCES, "it cannot be renamed");
    if (rc == 0 && verdict_is_pending(staged))
        rc = atd_error_set(err, EBUSY, "it is being published this moment");
    if (rc == 0)
        rc = target_is_free(fs, &to, work->effort, err);
    if (rc == -EEXIST && !(work->flags & RENAME_NOREPLACE)) {
        err->code = EPERM; /* over a published shard */
        rc = -EPERM;
    }
    there = rc == 0 ? staging_find(fs->staging, &to.place) : NULL;
    if (there && (work->flags & RENAME_NOREPLACE))
        rc = atd_error_set(err, EEXIST, "the name is taken");
    if (there && rc == 0 && is_published(fs, there))
        rc = atd_error_set(err, EPERM, "'%s' is published, and published shards never change",
                           work->new_name);
    if (there)
        staged_unref(fs->staging, there);
    if (rc == 0) {
        if (to.name_kind == ATD_UPLOAD_SHARD && !is_being_written(fs, staged)) {
            *ret_answered = true;
            verdict_rename(fs, work->req, staged, &to);
        } else if (to.name_kind == ATD_UPLOAD_RECORD) {
            *ret_answered = true;
            verdict_rename_record(fs, work->req, staged, &to);
        } else {
            rc = rename_scratch(fs, staged, &to, err);
        }
    }
    target_release(&to);
    return rc;
}

/* ------------------------------------------------------------------ of published things */

/*
 * An editor moves the record aside to write a new one (vim's schema.json~): it gets a copy, and the
 * record stays what it is until then.
 */
static int move_record_aside(struct rename_work *work, const struct node *directory,
                             const struct node *new_directory, struct atd_error *err)
{
    struct fs *fs = fs_of(work->req);
    struct view_names names;
    struct staged *staged = NULL;
    struct staged_place old = {.directory = NODE_DATASET,
                               .subject = node_subject(directory),
                               .leaf = atd_str_from(work->name)};
    struct target to;
    struct node *node = NULL;
    struct view view;
    struct item item;
    int rc = target_find(fs, new_directory, work->new_name, &to, err);

    if (rc == 0 && to.name_kind != ATD_UPLOAD_SCRATCH)
        rc = atd_error_set(err, EPERM, "a record keeps its name");
    if (rc == 0) {
        rc = view_open_for(fs, directory->kind, node_subject(directory), old.leaf,
                           ATD_EFFORT_MEMORY, &view, err);
        if (rc == 0) {
            if (view_find(fs, &view, old.leaf, &names, &item))
                node = nodes_remember(fs->nodes, &item);
            view_close(&view);
        }
    }
    if (rc == 0 && !node)
        rc = atd_error_set(err, ENOENT, "there is no '%s'", work->name);
    if (rc == 0)
        rc = records_stage(fs, node, &to.place, true, &staged, err);
    if (node)
        nodes_forget(fs->nodes, node->number, 1);
    if (staged) {
        staged_unref(fs->staging, staged);
        /* The kernel believes that the record itself has the new name now. */
        notify_place(fs, &to.place);
        notify_place(fs, &old);
    }
    target_release(&to);
    return rc;
}

static int rename_published(struct rename_work *work, const struct node *directory,
                            const struct node *new_directory, bool *ret_answered,
                            struct atd_error *err)
{
    struct fs *fs = fs_of(work->req);

    if (directory->kind == NODE_DATASETS && new_directory->kind == NODE_DATASETS) {
        *ret_answered = true;
        index_edit_rename(fs, work->req, work->name, work->new_name);
        return 0;
    }
    if (directory->kind == NODE_DATASET && new_directory == directory &&
        atd_upload_name_classify(atd_str_from(work->name), NULL, NULL) == ATD_UPLOAD_RECORD)
        return move_record_aside(work, directory, new_directory, err);
    return atd_error_set(err, EPERM, "published things keep their names");
}

/* ------------------------------------------------------------------ the request */

static int check(struct rename_work *work, const struct node *directory,
                 const struct node *new_directory, struct atd_error *err)
{
    struct fs *fs = fs_of(work->req);

    if (!fs->publisher)
        return publishing_refuse(fs, err);
    if (directory->kind == NODE_CID || new_directory->kind == NODE_CID ||
        directory->kind == NODE_BY_CID || new_directory->kind == NODE_BY_CID)
        return atd_error_set(err, EROFS, "by-cid/ shows entries as they are and never changes");
    if (samples_is_directory(directory->kind) || samples_is_directory(new_directory->kind) ||
        (directory->kind == NODE_DATASET && strcmp(work->name, SAMPLES_NAME) == 0))
        return samples_refuse(err);
    if (work->flags & ~(unsigned)RENAME_NOREPLACE)
        return atd_error_set(err, EINVAL, "names cannot be exchanged here");
    return 0;
}

/* Answers, or returns -EWOULDBLOCK when that takes more effort. */
static int rename_it(struct rename_work *work)
{
    struct fs *fs = fs_of(work->req);
    const struct node *directory = nodes_find(fs->nodes, work->parent);
    const struct node *new_directory = nodes_find(fs->nodes, work->new_parent);
    struct atd_error why = ATD_ERROR_INIT;
    struct staged *staged = NULL;
    bool answered = false;
    int rc;

    if (!directory || !new_directory) {
        (void)fuse_reply_err(work->req, ESTALE);
        return 0;
    }
    rc = check(work, directory, new_directory, &why);
    if (rc == 0)
        staged = target_find_staged(fs, directory, work->name);
    if (staged && is_published(fs, staged))
        rc = atd_error_set(&why, EPERM, "published shards keep their names");
    else if (rc == 0 && staged)
        rc = rename_staged(work, staged, new_directory, &answered, &why);
    else if (rc == 0)
        rc = rename_published(work, directory, new_directory, &answered, &why);
    if (staged)
        staged_unref(fs->staging, staged);
    if (rc == -EWOULDBLOCK)
        return rc;
    if (rc)
        refuse(work, directory, &why);
    else if (!answered)
        (void)fuse_reply_err(work->req, 0);
    return 0;
}

static void run(struct atd_work *base)
{
    struct rename_work *work = (struct rename_work *)base;
    struct fs *fs = fs_of(work->req);

    if (rename_it(work) == -EWOULDBLOCK) {
        work->effort = ATD_EFFORT_NETWORK;
        if (atd_workers_submit(fs->network_workers, &work->work, NULL) == 0)
            return; /* that thread's from now on */
        (void)fuse_reply_err(work->req, EIO);
    }
    free(work);
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
               const char *new_name, unsigned flags)
{
    struct fs *fs = fs_of(req);
    struct rename_work *work;

    METRICS_ADD(&fs->metrics, rename_requests, 1);
    if (strlen(name) > ATD_FILE_NAME_MAX || strlen(new_name) > ATD_FILE_NAME_MAX) {
        (void)fuse_reply_err(req, ENAMETOOLONG);
        return;
    }
    work = calloc(1, sizeof(*work));
    if (!work) {
        (void)fuse_reply_err(req, ENOMEM);
        return;
    }
    work->work.run = run;
    work->req = req;
    work->parent = parent;
    work->new_parent = new_parent;
    work->flags = flags;
    work->effort = ATD_EFFORT_DISK;
    (void)strcpy(work->name, name);
    (void)strcpy(work->new_name, new_name);
    if (atd_workers_submit(fs->meta_workers, &work->work, NULL) != 0) {
        (void)fuse_reply_err(req, EIO);
        free(work);
    }
}

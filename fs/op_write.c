/*
 * CREATE, OPEN for writing, WRITE, FLUSH, FSYNC, SETATTR, FALLOCATE.
 *
 * What is written goes to a publication; a FLUSH of the process that opened the file asks for the
 * verdict. Nothing waits in a FUSE thread: files are made by a worker, a writer who is too far
 * ahead of the upload is answered later. Source: TOOLS 4.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "defer.h"
#include "file.h"
#include "index_edit.h"
#include "process.h"
#include "publishing.h"
#include "records.h"
#include "reply.h"
#include "verdict.h"

/* ------------------------------------------------------------------ CREATE */

static int stage_new(struct fs *fs, const struct target *target, struct staged **ret_staged,
                     struct atd_error *err)
{
    bool is_text = target->name_kind == ATD_UPLOAD_RECORD;
    bool is_shard = target->name_kind == ATD_UPLOAD_SHARD || target->name_kind == ATD_UPLOAD_TEMP;
    struct atd_publication *publication = NULL;
    int rc = is_shard ? records_keep_schema(fs, target, err) : 0;

    if (rc == 0)
        rc = atd_publication_new(fs->publisher, atd_buf_str(&target->dataset),
                                 is_shard ? target->final : (struct atd_str){"", 0}, &publication,
                                 err);
    if (rc)
        return rc;
    rc = staging_add(fs->staging, &target->place, is_text ? STAGED_TEXT : STAGED_FILE, publication,
                     ret_staged, err);
    if (rc)
        atd_publication_unref(publication);
    return rc;
}

/* Errors: EWOULDBLOCK more effort is needed. */
static int create(struct fs *fs, const struct node *directory, const char *name,
                  enum atd_effort effort, struct staged **ret_staged, struct atd_error *err)
{
    struct target target;
    int rc = target_find(fs, directory, name, &target, err);

    if (rc == 0)
        rc = target_is_free(fs, &target, effort, err);
    if (rc == -EEXIST) {
        err->code = EACCES; /* what tools show at create (TOOLS 4, errno) */
        rc = -EACCES;
    }
    if (rc == 0) {
        rc = publishing_ready(fs, effort, err);
        if (rc == 0 && stage_new(fs, &target, ret_staged, err) != 0) {
            err->code = verdict_errno(err);
            rc = -err->code;
        }
        if (rc && rc != -EWOULDBLOCK)
            verdict_note(fs, &target, err);
    }
    target_release(&target);
    return rc;
}

/* Takes the reference. */
static void reply_created(fuse_req_t req, const struct node *directory, const char *name,
                          struct staged *staged, struct fuse_file_info *info)
{
    struct fs *fs = fs_of(req);
    struct fuse_entry_param entry;
    fuse_ino_t number = 0;
    struct file *file;

    file = file_open_staged(fs, staged_ref(fs->staging, staged), true, fuse_req_ctx(req)->pid);
    if (file && lookup_made(fs, directory, name, &entry) == 0)
        number = entry.ino;
    if (!number)
        (void)staging_remove(fs->staging, staged); /* who is told of a failure finds no file */
    staged_unref(fs->staging, staged);
    if (!number) {
        if (file)
            file_free(fs, file);
        (void)fuse_reply_err(req, file ? EIO : ENOMEM);
        return;
    }
    file_reply_staged(req, file, &entry, info);
}

static int answer_create(struct deferred *deferred)
{
    fuse_req_t req = deferred->req;
    struct fs *fs = fs_of(req);
    const struct node *directory = nodes_find(fs->nodes, deferred->number);
    struct atd_error why = ATD_ERROR_INIT;
    struct staged *staged = NULL;
    int rc = directory ? create(fs, directory, deferred->name, deferred->effort, &staged, &why)
                       : -ESTALE;

    if (rc == -EWOULDBLOCK)
        return rc;
    if (!directory)
        (void)fuse_reply_err(req, ESTALE);
    else if (rc)
        reply_name_error(req, "create", directory, deferred->name, &why);
    else
        reply_created(req, directory, deferred->name, staged, &deferred->info);
    return 0;
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
               struct fuse_file_info *info)
{
    struct fs *fs = fs_of(req);
    const struct node *directory = nodes_find(fs->nodes, parent);
    struct atd_error why = ATD_ERROR_INIT;

    (void)mode;
    METRICS_ADD(&fs->metrics, create_requests, 1);
    if (!directory) {
        (void)fuse_reply_err(req, ESTALE);
    } else if (!fs->publisher) {
        (void)publishing_refuse(fs, &why);
        reply_name_error(req, "create", directory, name, &why);
    } else {
        defer(req, &(struct deferred_args){.number = parent, .name = name, .info = info},
              answer_create);
    }
}

/* ------------------------------------------------------------------ OPEN for writing */

/*
 * A record that is opened for writing: a staged copy gets its name, and the answer is ESTALE, at
 * which the kernel looks the name up again, finds the copy and opens that.
 */
static int open_record(struct fs *fs, const struct node *node, bool truncates,
                       enum atd_effort effort, struct atd_error *err)
{
    const struct staged_place place = {.directory = node->parent == NODE_DATASET ? NODE_DATASET
                                                                                 : NODE_SCHEMAS,
                                       .subject = node_subject(node),
                                       .leaf = node_leaf(node)};
    struct staged *staged = NULL;
    int rc = publishing_ready(fs, effort, err);

    if (rc == 0)
        rc = records_stage(fs, node, &place, !truncates, &staged, err);
    if (rc && rc != -EEXIST)
        return rc;
    if (staged)
        staged_unref(fs->staging, staged);
    notify_place(fs, &place);
    return file_stale(node, err);
}

static int refuse_open(const struct node *node, struct atd_error *err)
{
    if (samples_is_inside(node->kind))
        return samples_refuse(err);
    if (node->parent == NODE_CID || node->kind == NODE_CONTROL_FILE)
        return atd_error_set(err, EROFS, "it only shows what is and is never written");
    if (node->kind == NODE_SHARD)
        return atd_error_set(err, EPERM,
                             "published shards never change; copy the new one under another name");
    if (node->kind == NODE_SCHEMAS_JSON)
        return atd_error_set(err, EPERM,
                             "a published schema version never changes; write a new version");
    return atd_error_set(err, EACCES,
                         "it is made from other records: write schema.json or "
                         "metadata.json");
}

static int answer_open_record(struct deferred *deferred)
{
    fuse_req_t req = deferred->req;
    struct fs *fs = fs_of(req);
    const struct node *node = nodes_find(fs->nodes, deferred->number);
    struct atd_error why = ATD_ERROR_INIT;
    int rc =
        node ? open_record(fs, node, (deferred->info.flags & O_TRUNC) != 0, deferred->effort, &why)
             : -ESTALE;

    if (rc == -EWOULDBLOCK)
        return rc;
    if (rc == -ESTALE)
        (void)fuse_reply_err(req, ESTALE);
    else
        reply_node_error(fs, req, "open for writing", node, &why);
    return 0;
}

static void open_staged(fuse_req_t req, const struct node *node, struct fuse_file_info *info)
{
    struct fs *fs = fs_of(req);
    struct staged *staged = staging_find_id(fs->staging, node->staged_id);
    struct atd_error why = ATD_ERROR_INIT;
    struct file *file;
    int rc = 0;

    if (!staged) {
        (void)fuse_reply_err(req, ESTALE);
        return;
    }
    if (!staged->publication)
        rc = atd_error_set(&why, EACCES, "it tells why a file was refused; rm it when read");
    else if (info->flags & O_TRUNC)
        rc = atd_publication_truncate(staged->publication, 0, &why);
    if (rc) {
        staged_unref(fs->staging, staged);
        reply_node_error(fs, req, "open for writing", node, &why);
        return;
    }
    file = file_open_staged(fs, staged, true, fuse_req_ctx(req)->pid);
    if (file)
        file_reply_staged(req, file, NULL, info);
    else
        (void)fuse_reply_err(req, ENOMEM);
}

void op_write_open(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *info)
{
    struct fs *fs = fs_of(req);
    const struct node *node = nodes_find(fs->nodes, number);
    struct atd_error why = ATD_ERROR_INIT;

    if (!node) {
        (void)fuse_reply_err(req, ESTALE);
    } else if (!fs->publisher) {
        (void)publishing_refuse(fs, &why);
        reply_node_error(fs, req, "open for writing", node, &why);
    } else if (node->kind == NODE_STAGED) {
        open_staged(req, node, info);
    } else if (node->parent == NODE_DATASET &&
               (node->kind == NODE_SCHEMA_JSON || node->kind == NODE_METADATA)) {
        defer(req, &(struct deferred_args){.number = number, .info = info}, answer_open_record);
    } else {
        (void)refuse_open(node, &why);
        reply_node_error(fs, req, "open for writing", node, &why);
    }
}

/* ------------------------------------------------------------------ WRITE */

struct held_write {
    struct atd_publication_wait wait; /* first */
    fuse_req_t req;
    struct atd_publication *publication; /* the file's, which is open */
    const struct node *node;
    size_t size;
};

static void reply_written(fuse_req_t req, const struct node *node, size_t size,
                          const struct atd_error *why)
{
    struct fs *fs = fs_of(req);
    struct atd_error shown;

    if (!why) {
        METRICS_ADD(&fs->metrics, written_bytes, size);
        (void)fuse_reply_write(req, size);
        return;
    }
    shown = *why;
    shown.code = verdict_errno(why);
    reply_node_error(fs, req, "write", node, &shown);
}

/* After a short write tools write the rest again, and show that error: the reason, not EIO. */
static void repeat_first_error(struct atd_publication *publication, struct atd_error *why)
{
    struct atd_publication_status status;

    atd_publication_status(publication, &status);
    if (status.state == ATD_PUBLICATION_POISONED &&
        (status.why.code == EFBIG || status.why.code == EDQUOT || status.why.code == ENOSPC))
        *why = status.why;
}

static void on_written(struct atd_publication_wait *wait, const struct atd_error *why)
{
    struct held_write *held = (struct held_write *)wait;

    /* Waits for an on_interrupt() that is under way; none comes afterwards. */
    fuse_req_interrupt_func(held->req, NULL, NULL);
    reply_written(held->req, held->node, held->size, why);
    free(held);
}

/* Who is being killed while the store is slow cannot end before the answer (TOOLS 4.9). */
static void on_interrupt(fuse_req_t req, void *data)
{
    struct held_write *held = data;

    if (process_is_dying(fuse_req_ctx(req)->pid))
        atd_publication_give_up(held->publication, &held->wait);
}

void op_write(fuse_req_t req, fuse_ino_t number, const char *bytes, size_t size, off_t offset,
              struct fuse_file_info *info)
{
    struct fs *fs = fs_of(req);
    const struct node *node = nodes_find(fs->nodes, number);
    struct file *file = file_of(info);
    struct held_write *held;
    struct atd_error why = ATD_ERROR_INIT;
    int rc;

    METRICS_ADD(&fs->metrics, write_requests, 1);
    if (!file->staged || !file->staged->publication || offset < 0) {
        (void)fuse_reply_err(req, offset < 0 ? EINVAL : EBADF);
        return;
    }
    held = calloc(1, sizeof(*held));
    if (!held) {
        (void)fuse_reply_err(req, EIO);
        return;
    }
    *held = (struct held_write){.wait = {.done = on_written},
                                .req = req,
                                .publication = file->staged->publication,
                                .node = node,
                                .size = size};
    atomic_store(&file->has_written, true);
    (void)atomic_fetch_add(&file->staged->writes, 1);
    fuse_req_interrupt_func(req, on_interrupt, held);
    rc = atd_publication_write(file->staged->publication, (uint64_t)offset,
                               (struct atd_bytes){(const uint8_t *)bytes, size}, &held->wait, &why);
    if (rc == -EINPROGRESS)
        return; /* on_written answers */
    fuse_req_interrupt_func(req, NULL, NULL);
    free(held);
    if (rc == -EIO)
        repeat_first_error(file->staged->publication, &why);
    reply_written(req, node, size, rc ? &why : NULL);
}

/* ------------------------------------------------------------------ FLUSH, FSYNC */

/* True when the FLUSH comes from the process that opened the file, as far as anybody can say. */
static bool is_owner(fuse_req_t req, const struct file *file)
{
    pid_t process = process_of_thread(fuse_req_ctx(req)->pid);

    return process == 0 || file->opener == 0 || process == file->opener;
}

/*
 * True when a verdict was given on all that this handle has written, so that whoever asked for it
 * was told: GIO renames what it writes over a record and closes it afterwards.
 */
static bool was_told(struct file *file)
{
    const struct staged *staged = file->staged;
    bool has_written = atomic_exchange(&file->has_written, false);

    return atomic_load(&staged->is_settled) &&
           (!has_written || atomic_load(&staged->writes) == atomic_load(&staged->settled_writes));
}

/* What a FLUSH or FSYNC of a file that did not change since its verdict is answered with. */
static void reply_settled(fuse_req_t req, const struct atd_publication_status *status)
{
    if (status->state == ATD_PUBLICATION_POISONED)
        (void)fuse_reply_err(req, EIO);
    else if (status->state == ATD_PUBLICATION_REFUSED)
        (void)fuse_reply_err(req, verdict_errno(&status->why));
    else
        (void)fuse_reply_err(req, 0);
}

void op_flush(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *info)
{
    struct fs *fs = fs_of(req);
    struct file *file = file_of(info);
    struct atd_publication_status status;
    bool is_pending;

    (void)number;
    METRICS_ADD(&fs->metrics, flush_requests, 1);
    if (!file->staged || !file->staged->publication) {
        (void)fuse_reply_err(req, 0);
        return;
    }
    /* Before the state: a verdict that ends in between has set it. */
    is_pending = verdict_is_pending(file->staged);
    atd_publication_status(file->staged->publication, &status);
    if (status.state == ATD_PUBLICATION_POISONED && is_owner(req, file) &&
        atomic_exchange(&file->has_written, false))
        verdict_spoiled(fs, file->staged, &status.why);
    if ((!status.is_dirty && !is_pending) || status.state == ATD_PUBLICATION_POISONED)
        reply_settled(req, &status);
    else if (status.size_bytes == 0 || !is_owner(req, file))
        (void)fuse_reply_err(req, 0); /* a shell's, before or between the writers (TOOLS 4.2) */
    else if (was_told(file))
        (void)fuse_reply_err(req, 0);
    else
        verdict_flush(fs, req, file->staged); /* or waits along with who asked already */
}

void op_fsync(fuse_req_t req, fuse_ino_t number, int datasync, struct fuse_file_info *info)
{
    struct fs *fs = fs_of(req);
    struct file *file = file_of(info);
    struct atd_publication_status status;

    (void)number;
    (void)datasync;
    if (!file->staged || !file->staged->publication) {
        (void)fuse_reply_err(req, 0);
        return;
    }
    atd_publication_status(file->staged->publication, &status);
    if (!status.is_dirty || status.state == ATD_PUBLICATION_POISONED)
        reply_settled(req, &status);
    else
        verdict_fsync(fs, req, file->staged);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t number, int datasync, struct fuse_file_info *info)
{
    (void)number;
    (void)datasync;
    (void)info;
    (void)fuse_reply_err(req, 0);
}

void file_released(struct fs *fs, struct file *file)
{
    bool has_written = atomic_load(&file->has_written);
    struct atd_publication_status status;
    struct staged_look look;

    if (!file->staged->publication)
        return;
    atd_publication_status(file->staged->publication, &status);
    staging_look(fs->staging, file->staged, &look);
    if (has_written && status.state == ATD_PUBLICATION_POISONED)
        verdict_spoiled(fs, file->staged, &status.why);
    else if (has_written && status.is_dirty && status.size_bytes &&
             status.state == ATD_PUBLICATION_SPOOLING)
        verdict_release(fs, file->staged);
    else if (file->staged->kind == STAGED_TEXT && look.name_kind == ATD_UPLOAD_RECORD)
        /* Emptied or opened, and nothing was written: the record is what it was. */
        (void)staging_remove_unused(fs->staging, file->staged);
}

/* ------------------------------------------------------------------ SETATTR */

static int64_t wanted_mtime_ns(const struct stat *attr, int to_set)
{
    struct timespec now;

    if (to_set & FUSE_SET_ATTR_MTIME_NOW) {
        (void)clock_gettime(CLOCK_REALTIME, &now);
        return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    }
    return (int64_t)attr->st_mtim.tv_sec * 1000000000 + attr->st_mtim.tv_nsec;
}

static void set_staged(fuse_req_t req, const struct node *node, const struct stat *attr, int to_set)
{
    struct fs *fs = fs_of(req);
    struct staged *staged = staging_find_id(fs->staging, node->staged_id);
    bool sets_mtime = (to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)) != 0;
    struct atd_publication_status status = {0};
    struct atd_error why = ATD_ERROR_INIT;
    struct staged_look look;
    struct stat st;
    int rc = 0;

    if (!staged) {
        (void)fuse_reply_err(req, ESTALE);
        return;
    }
    if (staged->publication && (to_set & FUSE_SET_ATTR_SIZE))
        rc = atd_publication_truncate(staged->publication, (uint64_t)attr->st_size, &why);
    if (rc == 0 && staged->publication && sets_mtime) {
        atd_publication_set_mtime(staged->publication, wanted_mtime_ns(attr, to_set));
        atd_publication_status(staged->publication, &status);
        staging_look(fs->staging, staged, &look);
    }
    if (rc == 0 && (to_set & FUSE_SET_ATTR_MODE))
        staging_set_mode(fs->staging, staged, attr->st_mode & 07777);
    staged_unref(fs->staging, staged);
    if (rc) {
        why.code = verdict_errno(&why);
        reply_node_error(fs, req, "truncate", node, &why);
        return;
    }
    if (status.state == ATD_PUBLICATION_PUBLISHED) /* its shard may be shown at any moment */
        index_edit_mtime(fs, req, node, atd_str_from(look.where.subject), atd_str_from(status.url),
                         wanted_mtime_ns(attr, to_set));
    else if (layout_stat(fs, node, &st))
        (void)fuse_reply_attr(req, &st, 0);
    else
        (void)fuse_reply_err(req, ESTALE);
}

void op_setattr(fuse_req_t req, fuse_ino_t number, struct stat *attr, int to_set,
                struct fuse_file_info *info)
{
    struct fs *fs = fs_of(req);
    const struct node *node = nodes_find(fs->nodes, number);
    struct atd_error why = ATD_ERROR_INIT;
    struct stat st;

    (void)info;
    METRICS_ADD(&fs->metrics, setattr_requests, 1);
    if (!node) {
        (void)fuse_reply_err(req, ESTALE);
    } else if (!fs->publisher || node->parent == NODE_CID || node->kind == NODE_CID ||
               samples_is_inside(node->kind)) {
        (void)atd_error_set(&why, EROFS, "it is read only");
        reply_node_error(fs, req, "setattr", node, &why);
    } else if (node->kind == NODE_STAGED) {
        set_staged(req, node, attr, to_set);
    } else if (to_set & FUSE_SET_ATTR_SIZE) {
        (void)refuse_open(node, &why);
        reply_node_error(fs, req, "truncate", node, &why);
    } else if (node->kind == NODE_SHARD &&
               (to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW))) {
        index_edit_mtime(fs, req, node, node_subject(node), ATD_STR(""),
                         wanted_mtime_ns(attr, to_set));
    } else {
        /* Owners, modes and times of what is not ours to keep: accepted without effect, because
         * tools fail over a refusal (TOOLS 4, "accept silently"). */
        (void)layout_stat(fs, node, &st);
        (void)fuse_reply_attr(req, &st, reply_attr_keep(node));
    }
}

/* ------------------------------------------------------------------ FALLOCATE */

void op_fallocate(fuse_req_t req, fuse_ino_t number, int mode, off_t offset, off_t length,
                  struct fuse_file_info *info)
{
    struct fs *fs = fs_of(req);
    const struct node *node = nodes_find(fs->nodes, number);
    struct file *file = file_of(info);
    struct atd_error why = ATD_ERROR_INIT;
    int rc;

    if (!file->staged || !file->staged->publication || offset < 0 || length <= 0) {
        (void)fuse_reply_err(req, EOPNOTSUPP);
        return;
    }
    rc = atd_publication_allocate(file->staged->publication, mode, (uint64_t)offset,
                                  (uint64_t)length, &why);
    if (rc == 0 || rc == -EOPNOTSUPP) {
        (void)fuse_reply_err(req, -rc);
        return;
    }
    why.code = verdict_errno(&why);
    reply_node_error(fs, req, "fallocate", node, &why);
}

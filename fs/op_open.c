/*
 * OPEN, RELEASE.
 *
 * A text file is rendered when it is opened and read from that copy. A shard is opened by a worker
 * and checked to be the version its node stands for: a local one on the disk, a remote one through
 * the reader, which needs no request for that. Files that are whole here are handed over to the
 * kernel (passthrough) where that is allowed.
 *
 * Whenever the node's bytes are not to be had any more the answer to OPEN is ESTALE: the kernel
 * looks the name up again, gets the node of the new bytes, and opens that.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "defer.h"
#include "file.h"
#include "layout.h"
#include "process.h"
#include "reply.h"

static void free_file(struct fs *fs, struct handle *handle)
{
    struct file *file = (struct file *)handle;

    if (file->node)
        passthrough_close_backing(fs->passthrough, nodes_close(fs->nodes, file->node));
    if (file->fd >= 0)
        (void)close(file->fd);
    if (file->reader)
        atd_reader_close(file->reader);
    staged_unref(fs->staging, file->staged);
    atd_read_sample_unref(file->sample);
    free(file->url);
    free(file->text);
    free(file);
}

/* ------------------------------------------------------------------ OPEN */

int file_stale(const struct node *node, struct atd_error *err)
{
    struct atd_str leaf = node_leaf(node);

    return atd_error_set(err, ESTALE, "'" ATD_STR_FMT "' has changed", ATD_STR_ARG(leaf));
}

static int open_text(struct fs *fs, const struct view *view, const struct node *node,
                     struct file *file, struct atd_error *err)
{
    struct atd_buf text = ATD_BUF_INIT(ATD_RENDER_BYTES_MAX);
    uint8_t version[NODE_VERSION_BYTES];
    int rc = view_render(fs, view, node->kind, node_leaf(node), &text, err);

    if (rc == 0 && node->kind != NODE_CONTROL_FILE) {
        layout_text_version(text.ptr, text.len, node->mtime_s, version);
        if (memcmp(version, node->version, sizeof(version)) != 0)
            rc = file_stale(node, err);
    }
    if (rc) {
        atd_buf_release(&text);
        return rc == -ENOENT ? file_stale(node, err) : rc;
    }
    file->text = atd_buf_take(&text, &file->text_len);
    return 0;
}

static int open_local(struct fs *fs, const struct view *view, const struct node *node,
                      const struct atd_shard *shard, struct file *file, struct atd_error *err)
{
    int rc = atd_file_store_open(fs->store, shard->path, &file->fd, &file->identity, err);

    if (rc == 0 && !atd_file_identity_equal(&file->identity, &shard->identity))
        rc = file_stale(node, err);
    if (rc == -ESTALE || rc == -ENOENT) {
        notify_entry_shards(fs, view->catalog, view->entry);
        atd_catalog_shards_forget(view->catalog, view->entry, view->shards);
        return file_stale(node, err);
    }
    file->size_bytes = file->identity.size_bytes;
    return rc;
}

static int open_remote(struct fs *fs, const struct view *view, const struct node *node,
                       const struct atd_shard *shard, struct file *file, struct atd_error *err)
{
    struct atd_object_info info;
    const struct atd_reader_source source = {
        .store = shard->store, .url = shard->url, .info = &info, .sha256_hex = shard->sha256};
    int rc;

    atd_shard_info(shard, &info);
    file->size_bytes = info.size_bytes;
    if (info.size_bytes == 0)
        return 0;
    file->url = strndup(shard->url.ptr, shard->url.len);
    if (!file->url)
        return atd_error_set(err, ENOMEM, "out of memory");
    rc = atd_reader_open(fs->reader, &source, &file->reader, err);
    if (rc == -EBADMSG)
        err->code = EIO; /* what read(2) says of bad data; the sentence says more */
    if (rc)
        return -err->code;
    if (node->is_local_copy && atd_reader_local_fd(file->reader, &file->fd, err) != 0) {
        /* Whole, only not to be had as a file at this moment (another mount shares the directory):
         * the reader serves this node. The name would lead here again. */
        if (atd_reader_is_local(fs->reader, shard->url, &info))
            return 0;
        /* Evicted meanwhile: its name means the node that is fetched again. */
        notify_entry_shards(fs, view->catalog, view->entry);
        return file_stale(node, err);
    }
    return 0;
}

static int open_shard(struct fs *fs, const struct view *view, const struct node *node,
                      struct file *file, struct atd_error *err)
{
    const struct atd_shard *shard = view_shard(view, node_leaf(node));
    uint8_t version[NODE_VERSION_BYTES];

    if (!shard || shard->error_code)
        return file_stale(node, err);
    layout_shard_version(shard, node->is_local_copy, version);
    if (memcmp(version, node->version, sizeof(version)) != 0)
        return file_stale(node, err);
    return shard->store ? open_remote(fs, view, node, shard, file, err)
                        : open_local(fs, view, node, shard, file, err);
}

struct backing_request {
    struct fs *fs;
    int fd;
};

static int32_t open_backing(void *ctx)
{
    const struct backing_request *request = ctx;

    /* A node that the reader serves never changes to passthrough: a mapping that outlives its
     * file would make the next open fail (FUSE 6). */
    return request->fd < 0 ? 0 : passthrough_open_backing(request->fs->passthrough, request->fd);
}

static void reply_text_opened(struct fs *fs, fuse_req_t req, const struct node *node,
                              struct file *file, struct fuse_file_info *info)
{
    info->fh = (uintptr_t)file;
    info->noflush = 1;
    info->keep_cache = node->kind != NODE_CONTROL_FILE;
    /* No lasting size: the kernel must not cut what it reads at the one it saw. */
    info->direct_io = node->kind == NODE_CONTROL_FILE;
    handles_add(&fs->handles, &file->handle);
    if (fuse_reply_open(req, info) != 0)
        handles_free(fs, &fs->handles, &file->handle);
}

static void reply_shard_opened(struct fs *fs, fuse_req_t req, struct node *node, struct file *file,
                               struct fuse_file_info *info)
{
    /* A member is not the file that it lies in. */
    struct backing_request request = {.fs = fs, .fd = node->kind == NODE_SHARD ? file->fd : -1};
    enum node_mode mode;
    int32_t backing_id;
    int rc;

    nodes_open(fs->nodes, node, open_backing, &request, &mode, &backing_id);
    file->node = node;
    info->fh = (uintptr_t)file;
    handles_add(&fs->handles, &file->handle);
    info->noflush = 1;
    if (mode == NODE_MODE_PASSTHROUGH) {
        METRICS_ADD(&fs->metrics, passthrough_opens, 1);
        /* The kernel has its own reference: no descriptor is spent on an open shard. */
        (void)close(atd_steal_fd(&file->fd));
        rc = passthrough_reply_open(fs->passthrough, req, info, backing_id);
    } else {
        METRICS_ADD(&fs->metrics, cached_opens, 1);
        if (file->reader && file->fd >= 0)
            (void)close(atd_steal_fd(&file->fd)); /* the kernel would not have it */
        info->keep_cache = 1;                     /* never with passthrough: EIO (FUSE 6) */
        rc = fuse_reply_open(req, info);
    }
    if (rc != 0)
        handles_free(fs, &fs->handles, &file->handle);
}

struct file *file_open_staged(struct fs *fs, struct staged *staged, bool is_writer, pid_t opener)
{
    struct file *file = calloc(1, sizeof(*file));

    if (!file) {
        staged_unref(fs->staging, staged);
        return NULL;
    }
    staging_touch(fs->staging, staged);
    file->fd = -1;
    file->handle.free = free_file;
    file->staged = staged;
    file->is_writer = is_writer;
    file->opener = is_writer ? process_of_thread(opener) : 0;
    if (!staged->text)
        return file;
    file->text = (uint8_t *)strdup(staged->text);
    if (!file->text) {
        free_file(fs, &file->handle);
        return NULL;
    }
    file->text_len = strlen(staged->text);
    return file;
}

bool file_is_staged(const struct handle *handle)
{
    return handle->free == free_file && ((const struct file *)handle)->staged;
}

void file_free(struct fs *fs, struct file *file)
{
    free_file(fs, &file->handle);
}

/* What is staged is read as it is written: the kernel asks for its size each time, and keeps none
 * of its bytes from one open to the next. */
void file_reply_staged(fuse_req_t req, struct file *file, const struct fuse_entry_param *entry,
                       struct fuse_file_info *info)
{
    struct fs *fs = fs_of(req);
    int rc;

    info->fh = (uintptr_t)file;
    info->noflush = !file->is_writer;
    handles_add(&fs->handles, &file->handle);
    rc = entry ? fuse_reply_create(req, entry, info) : fuse_reply_open(req, info);
    if (rc != 0) {
        handles_free(fs, &fs->handles, &file->handle);
        if (entry) /* not delivered: the kernel does not count it */
            nodes_forget(fs->nodes, entry->ino, 1);
    }
}

static void open_staged(fuse_req_t req, const struct node *node, struct fuse_file_info *info)
{
    struct fs *fs = fs_of(req);
    struct staged *staged = staging_find_id(fs->staging, node->staged_id);
    struct file *file = staged ? file_open_staged(fs, staged, false, 0) : NULL;

    if (file)
        file_reply_staged(req, file, NULL, info);
    else
        (void)fuse_reply_err(req, staged ? ENOMEM : ESTALE);
}

/* Answers, or returns -EWOULDBLOCK when that takes more effort. */
static int open_node(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *info,
                     enum atd_effort effort)
{
    struct fs *fs = fs_of(req);
    struct node *node = nodes_find(fs->nodes, number);
    struct atd_error why = ATD_ERROR_INIT;
    enum node_kind directory_kind;
    struct atd_str subject;
    struct view view = {0};
    struct file *file;
    int rc;

    if (!node || node_kind_is_directory(node->kind)) {
        (void)fuse_reply_err(req, node ? EISDIR : ESTALE);
        return 0;
    }
    /* O_TRUNC also of who only reads: the kernel leaves it to us. */
    if ((info->flags & O_ACCMODE) != O_RDONLY || (info->flags & O_TRUNC)) {
        if (fs->publisher)
            op_write_open(req, number, info);
        else
            (void)fuse_reply_err(req, EROFS);
        return 0;
    }
    if (node->kind == NODE_STAGED) {
        open_staged(req, node, info);
        return 0;
    }
    if (node->kind == NODE_SHARD && effort == ATD_EFFORT_MEMORY)
        return -EWOULDBLOCK; /* open(2) itself may wait */
    file = calloc(1, sizeof(*file));
    if (!file) {
        (void)fuse_reply_err(req, ENOMEM);
        return 0;
    }
    file->fd = -1;
    file->handle.free = free_file;
    node_directory(node, &directory_kind, &subject);
    rc = view_open_for(fs, directory_kind, subject, node_leaf(node), effort, &view, &why);
    if (rc == -ENOENT)
        rc = file_stale(node, &why);
    if (rc == 0 && node->kind == NODE_SHARD)
        rc = open_shard(fs, &view, node, file, &why);
    else if (rc == 0 && (node->kind == NODE_MEMBER || node->kind == NODE_FIELD))
        rc = samples_open(fs, &view, node, effort, file, &why);
    else if (rc == 0)
        rc = open_text(fs, &view, node, file, &why);
    if (rc) {
        free_file(fs, &file->handle);
        if (rc != -EWOULDBLOCK) {
            METRICS_ADD(&fs->metrics, stale_opens, rc == -ESTALE);
            reply_node_error(fs, req, "open", node, &why);
        }
    } else if (node->kind == NODE_SHARD || file->reader || file->fd >= 0) {
        reply_shard_opened(fs, req, node, file, info);
    } else {
        reply_text_opened(fs, req, node, file, info);
    }
    if (view.catalog)
        view_close(&view);
    return rc == -EWOULDBLOCK ? rc : 0;
}

static int answer_open(struct deferred *deferred)
{
    return open_node(deferred->req, deferred->number, &deferred->info, deferred->effort);
}

void op_open(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *info)
{
    METRICS_ADD(&fs_of(req)->metrics, open_requests, 1);
    if (open_node(req, number, info, ATD_EFFORT_MEMORY) == -EWOULDBLOCK)
        defer(req, &(struct deferred_args){.number = number, .info = info}, answer_open);
}

/* ------------------------------------------------------------------ a copy became whole */

struct changed {
    struct fs *fs;
    struct atd_str url;
};

static void notify_if_same(void *ctx, struct handle *handle)
{
    const struct changed *changed = ctx;
    const struct file *file = (const struct file *)handle;
    enum node_kind kind;
    struct atd_str subject;
    fuse_ino_t directory;

    if (handle->free != free_file || !file->url || !file->node ||
        !atd_str_equal(atd_str_from(file->url), changed->url))
        return;
    node_directory(file->node, &kind, &subject);
    directory = nodes_number_of_directory(changed->fs->nodes, kind, subject);
    if (directory)
        notify_name(changed->fs->notify, directory, node_leaf(file->node), true);
}

void file_local_changed(void *ctx, struct atd_str url, const struct atd_object_info *info)
{
    struct fs *fs = ctx;
    struct changed changed = {fs, url};

    (void)info; /* another version of the same URL is looked up in vain, no more */
    if (fs->notify && passthrough_is_on(fs->passthrough))
        handles_visit(&fs->handles, notify_if_same, &changed);
}

/* ------------------------------------------------------------------ RELEASE */

void op_release(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *info)
{
    struct fs *fs = fs_of(req);

    (void)number;
    if (file_of(info)->is_writer)
        file_released(fs, file_of(info));
    handles_free(fs, &fs->handles, &file_of(info)->handle);
    (void)fuse_reply_err(req, 0);
}

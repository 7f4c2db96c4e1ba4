/*
 * OPEN, READ, RELEASE.
 *
 * A text file is rendered when it is opened and read from that copy. A shard is opened on the
 * disk by a worker, checked to be the file its node stands for, and handed over to the kernel
 * (passthrough) where that is allowed; else READ answers from the page cache at once and leaves
 * what is not there to the io workers, so that no FUSE thread waits for the disk.
 *
 * Whenever the node's bytes are not to be had any more the answer to OPEN is ESTALE: the kernel
 * looks the name up again, gets the node of the new bytes, and opens that.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "defer.h"
#include "layout.h"
#include "reply.h"

/* The largest READ the kernel sends (its 256 pages). */
#define READ_BYTES_MAX (1u << 20)

struct file {
    struct handle handle;
    struct node *node; /* shards: registered with nodes_open */
    uint8_t *text;     /* text files: the contents */
    size_t text_len;
    int fd; /* shards: the local file; -1 otherwise */
    struct atd_file_identity identity;
};

struct read_work {
    struct atd_work work;
    fuse_req_t req;
    struct file *file; /* the kernel sends no RELEASE before the reply */
    size_t size;
    off_t offset;
};

static struct fs *fs_of(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

static struct file *file_of(const struct fuse_file_info *info)
{
    return (struct file *)(uintptr_t)info->fh; // NOLINT(performance-no-int-to-ptr)
}

static void free_file(struct fs *fs, struct handle *handle)
{
    struct file *file = (struct file *)handle;

    if (file->node)
        passthrough_close_backing(fs->passthrough, nodes_close(fs->nodes, file->node));
    if (file->fd >= 0)
        (void)close(file->fd);
    free(file->text);
    free(file);
}

/* ------------------------------------------------------------------ OPEN */

static int stale(const struct node *node, struct atd_error *err)
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
            rc = stale(node, err);
    }
    if (rc) {
        atd_buf_release(&text);
        return rc == -ENOENT ? stale(node, err) : rc;
    }
    file->text = atd_buf_take(&text, &file->text_len);
    return 0;
}

static int open_shard(struct fs *fs, const struct view *view, struct node *node, struct file *file,
                      struct atd_error *err)
{
    const struct atd_shard *shard = atd_shard_list_find(view->shards, node_leaf(node));
    int rc;

    if (!shard || shard->error_code ||
        memcmp(shard->version, node->version, sizeof(node->version)) != 0)
        return stale(node, err);
    rc = atd_file_store_open(fs->store, shard->path, &file->fd, &file->identity, err);
    if (rc == 0 && !atd_file_identity_equal(&file->identity, &shard->identity))
        rc = stale(node, err);
    if (rc == -ESTALE || rc == -ENOENT) {
        notify_entry_shards(fs, view->catalog, view->entry);
        atd_catalog_shards_forget(view->catalog, view->entry, view->shards);
        return stale(node, err);
    }
    return rc;
}

struct backing_request {
    struct fs *fs;
    int fd;
};

static int32_t open_backing(void *ctx)
{
    const struct backing_request *request = ctx;

    return passthrough_open_backing(request->fs->passthrough, request->fd);
}

static void reply_text_opened(struct fs *fs, fuse_req_t req, const struct node *node,
                              struct file *file, struct fuse_file_info *info)
{
    info->fh = (uintptr_t)file;
    info->noflush = 1;
    info->keep_cache = node->kind != NODE_CONTROL_FILE;
    /* No lasting size: the kernel must not cut what it reads at the one it saw. */
    info->direct_io = node->kind == NODE_CONTROL_FILE;
    if (fuse_reply_open(req, info) != 0)
        handles_free(fs, &fs->handles, &file->handle);
}

static void reply_shard_opened(struct fs *fs, fuse_req_t req, struct node *node, struct file *file,
                               struct fuse_file_info *info)
{
    struct backing_request request = {.fs = fs, .fd = file->fd};
    enum node_mode mode;
    int32_t backing_id;
    int rc;

    nodes_open(fs->nodes, node, open_backing, &request, &mode, &backing_id);
    file->node = node;
    info->fh = (uintptr_t)file;
    info->noflush = 1;
    if (mode == NODE_MODE_PASSTHROUGH) {
        METRICS_ADD(&fs->metrics, passthrough_opens, 1);
        /* The kernel has its own reference: no descriptor is spent on an open shard. */
        (void)close(atd_steal_fd(&file->fd));
        rc = passthrough_reply_open(fs->passthrough, req, info, backing_id);
    } else {
        METRICS_ADD(&fs->metrics, cached_opens, 1);
        info->keep_cache = 1; /* never with passthrough: EIO (FUSE 6) */
        rc = fuse_reply_open(req, info);
    }
    if (rc != 0)
        handles_free(fs, &fs->handles, &file->handle);
}

/* Answers, or returns -EWOULDBLOCK when that would need the disk and may_block is false. */
static int open_node(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *info, bool may_block)
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
    if ((info->flags & O_ACCMODE) != O_RDONLY) {
        (void)fuse_reply_err(req, EROFS);
        return 0;
    }
    if (node->kind == NODE_SHARD && !may_block)
        return -EWOULDBLOCK; /* open(2) itself may wait */
    file = calloc(1, sizeof(*file));
    if (!file) {
        (void)fuse_reply_err(req, ENOMEM);
        return 0;
    }
    file->fd = -1;
    file->handle.free = free_file;
    handles_add(&fs->handles, &file->handle);
    node_directory(node, &directory_kind, &subject);
    rc = view_open(fs, directory_kind, subject, view_need_of(directory_kind, node_leaf(node)),
                   may_block, &view, &why);
    if (rc == -ENOENT)
        rc = stale(node, &why);
    if (rc == 0)
        rc = node->kind == NODE_SHARD ? open_shard(fs, &view, node, file, &why)
                                      : open_text(fs, &view, node, file, &why);
    if (rc) {
        handles_free(fs, &fs->handles, &file->handle);
        if (rc != -EWOULDBLOCK) {
            METRICS_ADD(&fs->metrics, stale_opens, rc == -ESTALE);
            reply_node_error(fs, req, "open", node, &why);
        }
    } else if (node->kind == NODE_SHARD) {
        reply_shard_opened(fs, req, node, file, info);
    } else {
        reply_text_opened(fs, req, node, file, info);
    }
    if (view.catalog)
        view_close(&view);
    return rc == -EWOULDBLOCK ? rc : 0;
}

static void answer_open(struct deferred *deferred)
{
    (void)open_node(deferred->req, deferred->number, &deferred->info, true);
}

void op_open(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *info)
{
    METRICS_ADD(&fs_of(req)->metrics, open_requests, 1);
    if (open_node(req, number, info, false) == -EWOULDBLOCK)
        defer(req, &(struct deferred_args){.number = number, .info = info}, answer_open);
}

/* ------------------------------------------------------------------ READ */

/* One buffer a thread, kept: a fresh megabyte for each READ costs more than the copy (FUSE 0.7). */
static _Thread_local uint8_t *thread_buffer;
static pthread_key_t buffer_key;
static pthread_once_t buffer_once = PTHREAD_ONCE_INIT;

static void make_buffer_key(void)
{
    int rc = pthread_key_create(&buffer_key, free);

    atd_assert(rc == 0);
}

static uint8_t *take_buffer(void)
{
    (void)pthread_once(&buffer_once, make_buffer_key);
    if (!thread_buffer && posix_memalign((void **)&thread_buffer, 4096, READ_BYTES_MAX) == 0)
        (void)pthread_setspecific(buffer_key, thread_buffer);
    return thread_buffer;
}

static void reply_bytes(fuse_req_t req, const uint8_t *bytes, size_t len)
{
    METRICS_ADD(&fs_of(req)->metrics, read_bytes, len);
    (void)fuse_reply_buf(req, (const char *)bytes, len);
}

/* The file must still be the one that was opened: bytes of two states are never mixed. */
static bool is_unchanged(const struct file *file)
{
    struct atd_file_identity identity;
    struct stat st;

    if (fstat(file->fd, &st) != 0)
        return false;
    identity = atd_file_identity_of(&st);
    return atd_file_identity_same_bytes(&identity, &file->identity);
}

static void reply_changed(struct fs *fs, fuse_req_t req, const struct file *file)
{
    struct atd_error why = ATD_ERROR_INIT;

    (void)stale(file->node, &why);
    reply_node_error(fs, req, "read", file->node, &why);
}

static size_t clip(const struct file *file, size_t size, off_t offset)
{
    uint64_t left = (uint64_t)offset < file->identity.size_bytes
                        ? file->identity.size_bytes - (uint64_t)offset
                        : 0;

    if (size > READ_BYTES_MAX)
        size = READ_BYTES_MAX;
    return size < left ? size : (size_t)left;
}

static void run_read(struct atd_work *work)
{
    struct read_work *read_work = (struct read_work *)work;
    fuse_req_t req = read_work->req;
    struct fs *fs = fs_of(req);
    struct file *file = read_work->file;
    uint8_t *buffer = take_buffer();
    size_t done = 0;
    ssize_t got = buffer ? 1 : -1;

    if (!buffer)
        errno = ENOMEM;
    while (got > 0 && done < read_work->size) {
        got =
            pread(file->fd, buffer + done, read_work->size - done, read_work->offset + (off_t)done);
        if (got < 0 && errno == EINTR)
            got = 1;
        else if (got > 0)
            done += (size_t)got;
    }
    if (got < 0) {
        struct atd_error why = ATD_ERROR_INIT;

        (void)atd_error_set(&why, errno == ENOMEM ? ENOMEM : EIO, "%s", strerror(errno));
        reply_node_error(fs, req, "read", file->node, &why);
    } else if (!is_unchanged(file)) {
        reply_changed(fs, req, file);
    } else {
        reply_bytes(req, buffer, done);
    }
    free(read_work);
}

static void read_shard(fuse_req_t req, struct file *file, size_t size, off_t offset)
{
    struct fs *fs = fs_of(req);
    struct atd_error why = ATD_ERROR_INIT;
    struct read_work *work;
    uint8_t *buffer = take_buffer();
    struct iovec iov;
    ssize_t got;

    size = clip(file, size, offset);
    if (!buffer) {
        (void)fuse_reply_err(req, ENOMEM);
        return;
    }
    iov = (struct iovec){buffer, size};
    got = size ? preadv2(file->fd, &iov, 1, offset, RWF_NOWAIT) : 0;
    if (got == (ssize_t)size) {
        if (is_unchanged(file))
            reply_bytes(req, buffer, size);
        else
            reply_changed(fs, req, file);
        return;
    }
    METRICS_ADD(&fs->metrics, read_deferred, 1);
    work = malloc(sizeof(*work));
    if (!work) {
        (void)fuse_reply_err(req, ENOMEM);
        return;
    }
    *work = (struct read_work){
        .work = {.run = run_read}, .req = req, .file = file, .size = size, .offset = offset};
    if (atd_workers_submit(fs->io_workers, &work->work, &why) != 0) {
        reply_node_error(fs, req, "read", file->node, &why);
        free(work);
    }
}

/*
 * From a copy: as soon as the kernel has the reply a RELEASE in another thread may free the text,
 * and AddressSanitizer looks at what writev() was given only after the call.
 */
static void read_text(fuse_req_t req, const struct file *file, size_t size, off_t offset)
{
    size_t start = (uint64_t)offset < file->text_len ? (size_t)offset : file->text_len;
    size_t len = file->text_len - start;
    uint8_t *buffer = take_buffer();

    if (!buffer) {
        (void)fuse_reply_err(req, ENOMEM);
        return;
    }
    if (len > size)
        len = size;
    if (len > READ_BYTES_MAX)
        len = READ_BYTES_MAX;
    if (len)
        memcpy(buffer, file->text + start, len);
    reply_bytes(req, buffer, len);
}

void op_read(fuse_req_t req, fuse_ino_t number, size_t size, off_t offset,
             struct fuse_file_info *info)
{
    struct file *file = file_of(info);

    (void)number;
    METRICS_ADD(&fs_of(req)->metrics, read_requests, 1);
    if (offset < 0) {
        (void)fuse_reply_err(req, EINVAL);
    } else if (file->fd >= 0) {
        read_shard(req, file, size, offset);
    } else if (file->node) {
        (void)fuse_reply_err(req, EIO); /* passthrough: the kernel never asks */
    } else {
        read_text(req, file, size, offset);
    }
}

/* ------------------------------------------------------------------ RELEASE */

void op_release(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *info)
{
    struct fs *fs = fs_of(req);

    (void)number;
    handles_free(fs, &fs->handles, &file_of(info)->handle);
    (void)fuse_reply_err(req, 0);
}

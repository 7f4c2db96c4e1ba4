/*
 * READ. No FUSE thread waits: what the page cache has is answered at once, what the disk must be
 * asked for by the io workers, what a store must be asked for by the thread that fetches it.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "file.h"
#include "layout.h"
#include "reply.h"

struct read_work {
    struct atd_work work;
    fuse_req_t req;
    struct file *file; /* the kernel sends no RELEASE before the reply */
    size_t size;
    off_t offset;
};

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

    (void)file_stale(file->node, &why);
    reply_node_error(fs, req, "read", file->node, &why);
}

static size_t clip(const struct file *file, size_t size, off_t offset)
{
    uint64_t left = (uint64_t)offset < file->size_bytes ? file->size_bytes - (uint64_t)offset : 0;

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
    offset += (off_t)file->base;
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
    struct atd_bytes head =
        file->sample ? file->head : (struct atd_bytes){file->text, file->text_len};
    size_t all = head.len + file->body.len;
    size_t start = (uint64_t)offset < all ? (size_t)offset : all;
    size_t len = all - start;
    size_t of_head = 0;
    uint8_t *buffer = take_buffer();

    if (!buffer) {
        (void)fuse_reply_err(req, ENOMEM);
        return;
    }
    if (len > size)
        len = size;
    if (len > READ_BYTES_MAX)
        len = READ_BYTES_MAX;
    if (start < head.len) {
        of_head = len < head.len - start ? len : head.len - start;
        memcpy(buffer, head.ptr + start, of_head);
    }
    if (len > of_head)
        memcpy(buffer + of_head, file->body.ptr + (start + of_head - head.len), len - of_head);
    reply_bytes(req, buffer, len);
}

/* ------------------------------------------------------------------ what is staged */

struct staged_read {
    struct atd_work work;
    fuse_req_t req;
    fuse_ino_t number;
    struct file *file; /* the kernel sends neither RELEASE nor FORGET before the reply */
    size_t size;
    off_t offset;
};

static void run_staged_read(struct atd_work *work)
{
    struct staged_read *read = (struct staged_read *)work;
    fuse_req_t req = read->req;
    struct fs *fs = fs_of(req);
    struct atd_publication *publication = read->file->staged->publication;
    struct atd_error why = ATD_ERROR_INIT;
    uint8_t *buffer = take_buffer();
    size_t done = 0;
    size_t got = 1;
    int rc = buffer ? 0 : atd_error_set(&why, ENOMEM, "out of memory");

    while (rc == 0 && got > 0 && done < read->size) {
        rc = atd_publication_read(publication, (uint64_t)read->offset + done, buffer + done,
                                  read->size - done, &got, &why);
        if (rc == 0)
            done += got;
    }
    if (rc)
        reply_node_error(fs, req, "read", nodes_find(fs->nodes, read->number), &why);
    else
        reply_bytes(req, buffer, done);
    free(read);
}

static void read_staged(fuse_req_t req, fuse_ino_t number, struct file *file, size_t size,
                        off_t offset)
{
    struct staged_read *read = malloc(sizeof(*read));
    struct atd_error why = ATD_ERROR_INIT;

    if (!read) {
        (void)fuse_reply_err(req, ENOMEM);
        return;
    }
    METRICS_ADD(&fs_of(req)->metrics, read_deferred, 1);
    *read = (struct staged_read){.work = {.run = run_staged_read},
                                 .req = req,
                                 .number = number,
                                 .file = file,
                                 .size = size < READ_BYTES_MAX ? size : READ_BYTES_MAX,
                                 .offset = offset};
    if (atd_workers_submit(fs_of(req)->io_workers, &read->work, &why) != 0) {
        reply_node_error(fs_of(req), req, "read", nodes_find(fs_of(req)->nodes, number), &why);
        free(read);
    }
}

/* ------------------------------------------------------------------ remote shards */

struct remote_read {
    struct atd_read read;
    struct atd_work interrupt; /* answers when the read was taken back */
    fuse_req_t req;
    struct file *file; /* the kernel sends neither RELEASE nor FORGET before the reply */
};

struct outdated {
    struct atd_work work;
    struct fs *fs;
    enum node_kind kind;
    struct atd_str subject;
    struct atd_str leaf;
    uint8_t version[NODE_VERSION_BYTES]; /* the node's, like is_local_copy */
    bool is_local_copy;
    char text[];
};

/* The object is another version now: what was known of it is forgotten, and its name means the new
 * one at the next lookup. */
static void run_forget(struct atd_work *work)
{
    struct outdated *outdated = (struct outdated *)work;
    struct fs *fs = outdated->fs;
    uint8_t version[NODE_VERSION_BYTES];
    const struct atd_shard *shard;
    struct view view;

    if (samples_is_directory(outdated->kind)) {
        samples_forget_node(fs, outdated->kind, outdated->subject, outdated->leaf,
                            outdated->version);
        free(outdated);
        return;
    }
    if (view_open(fs, outdated->kind, outdated->subject, VIEW_KNOWN_SHARDS, ATD_EFFORT_DISK, &view,
                  NULL) == 0) {
        shard = view_shard(&view, outdated->leaf);
        if (shard && shard->store)
            layout_shard_version(shard, outdated->is_local_copy, version);
        /* Unless the name means another one by now. */
        if (shard && shard->store && memcmp(version, outdated->version, sizeof(version)) == 0) {
            atd_locator_forget(fs->locator, shard->url);
            notify_entry_shards(fs, view.catalog, view.entry);
            atd_catalog_shards_forget(view.catalog, view.entry, view.shards);
        }
        view_close(&view);
    }
    free(outdated);
}

static void forget_later(struct fs *fs, const struct node *node)
{
    struct atd_str subject = node_subject(node);
    struct atd_str leaf = node_leaf(node);
    struct outdated *outdated = malloc(sizeof(*outdated) + subject.len + leaf.len);

    if (!outdated)
        return; /* the next reader meets it again */
    memcpy(outdated->text, subject.ptr, subject.len);
    memcpy(outdated->text + subject.len, leaf.ptr, leaf.len);
    outdated->work.run = run_forget;
    outdated->fs = fs;
    outdated->kind = node->parent;
    outdated->subject = (struct atd_str){outdated->text, subject.len};
    outdated->leaf = (struct atd_str){outdated->text + subject.len, leaf.len};
    memcpy(outdated->version, node->version, sizeof(outdated->version));
    outdated->is_local_copy = node->is_local_copy;
    if (atd_workers_submit(fs->meta_workers, &outdated->work, NULL) != 0)
        free(outdated);
}

static void on_remote_read(struct atd_read *read, const struct iovec *pieces, int piece_count,
                           const struct atd_error *why)
{
    struct remote_read *remote_read = (struct remote_read *)read;
    fuse_req_t req = remote_read->req;
    struct fs *fs = fs_of(req);
    struct atd_error shown;

    /* Waits for an on_interrupt() that is under way; none comes afterwards. */
    fuse_req_interrupt_func(req, NULL, NULL);
    if (!why) {
        METRICS_ADD(&fs->metrics, read_bytes, read->size);
        (void)fuse_reply_iov(req, pieces, piece_count);
        free(remote_read);
        return;
    }
    shown = *why;
    if (atomic_load(&read->is_canceled)) {
        (void)fuse_reply_err(req, EINTR);
        free(remote_read);
        return;
    }
    /* What programs understand of read(2): another version, too late, or no good. */
    if (shown.code == ENOENT)
        shown.code = ESTALE;
    else if (shown.code != ESTALE && shown.code != ETIMEDOUT && shown.code != ENOMEM)
        shown.code = EIO;
    /* Once a handle: who reads on with it all the same must not have the store asked each time. */
    if (shown.code == ESTALE && !atomic_exchange(&remote_read->file->is_stale, true))
        forget_later(fs, remote_read->file->node);
    reply_node_error(fs, req, "read", remote_read->file->node, &shown);
    free(remote_read);
}

static void answer_interrupted(struct atd_work *work)
{
    struct remote_read *remote_read =
        (struct remote_read *)(void *)((char *)work - offsetof(struct remote_read, interrupt));

    fuse_req_interrupt_func(remote_read->req, NULL, NULL);
    (void)fuse_reply_err(remote_read->req, EINTR);
    free(remote_read);
}

/*
 * Whoever waits for the read was interrupted or killed: the kernel tells so of reads past its page
 * cache (O_DIRECT). Called with the request's lock held, so that a worker has to answer it.
 */
static void on_interrupt(fuse_req_t req, void *data)
{
    struct remote_read *remote_read = data;

    if (!atd_reader_cancel(remote_read->file->reader, &remote_read->read))
        return; /* it is being answered */
    remote_read->interrupt.run = answer_interrupted;
    /* Refused only when the mount ends, and with it every request. */
    if (atd_workers_submit(fs_of(req)->io_workers, &remote_read->interrupt, NULL) != 0)
        atd_log(ATD_LOG_DEBUG, "an interrupted read is left to the end of the mount");
}

static void read_remote(fuse_req_t req, struct file *file, size_t size, off_t offset)
{
    struct remote_read *remote_read;

    size = clip(file, size, offset);
    if (size == 0) {
        reply_bytes(req, NULL, 0);
        return;
    }
    METRICS_ADD(&fs_of(req)->metrics, read_remote, 1);
    remote_read = calloc(1, sizeof(*remote_read));
    if (!remote_read) {
        (void)fuse_reply_err(req, ENOMEM);
        return;
    }
    remote_read->req = req;
    remote_read->file = file;
    remote_read->read.offset = file->base + (uint64_t)offset;
    remote_read->read.size = size;
    remote_read->read.done = on_remote_read;
    fuse_req_interrupt_func(req, on_interrupt, remote_read);
    atd_reader_read(file->reader, &remote_read->read);
}

void op_read(fuse_req_t req, fuse_ino_t number, size_t size, off_t offset,
             struct fuse_file_info *info)
{
    struct file *file = file_of(info);

    METRICS_ADD(&fs_of(req)->metrics, read_requests, 1);
    if (offset < 0) {
        (void)fuse_reply_err(req, EINVAL);
    } else if (file->staged && file->staged->publication) {
        read_staged(req, number, file, size, offset);
    } else if (file->reader || (file->node && file->size_bytes == 0)) {
        read_remote(req, file, size, offset);
    } else if (file->fd >= 0) {
        read_shard(req, file, size, offset);
    } else if (file->node) {
        (void)fuse_reply_err(req, EIO); /* passthrough: the kernel never asks */
    } else {
        read_text(req, file, size, offset);
    }
}

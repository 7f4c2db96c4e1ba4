/*
 * LOOKUP, FORGET, GETATTR, READLINK, STATFS.
 *
 * Each request is answered at once when memory has the answer; else it goes to the meta workers,
 * which may wait for the disk.
 */
#include <errno.h>
#include <sys/statvfs.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "defer.h"
#include "layout.h"
#include "reply.h"

static struct fs *fs_of(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

/* ------------------------------------------------------------------ LOOKUP */

/* "No such name", remembered by the kernel for a while. */
static void reply_absent(fuse_req_t req)
{
    const struct fuse_entry_param absent = {.ino = 0, .entry_timeout = KEEP_ABSENT_S};

    (void)fuse_reply_entry(req, &absent);
}

/*
 * A remote shard that could not be asked about is not absent: who names it is told why it cannot
 * be had. False: there is no such shard.
 */
static bool reply_refused_shard(fuse_req_t req, const struct node *directory,
                                const struct view *view, struct atd_str name)
{
    const struct atd_shard *shard =
        samples_is_directory(view->kind) ? NULL : view_shard(view, name);
    struct atd_error why = ATD_ERROR_INIT;

    if (!shard || view_hides(view, name) || !shard->store || !shard->error_code ||
        shard->error_code == ENOENT)
        return false;
    (void)atd_error_set(
        &why,
        shard->error_code == EACCES || shard->error_code == ETIMEDOUT ? shard->error_code : EIO,
        "%.*s", (int)shard->reason.len, shard->reason.ptr);
    reply_node_error(fs_of(req), req, "lookup in", directory, &why);
    return true;
}

/* Answers, or returns -EWOULDBLOCK when that takes more effort. */
static int lookup(fuse_req_t req, fuse_ino_t parent, const char *name, enum atd_effort effort)
{
    struct fs *fs = fs_of(req);
    struct node *directory = nodes_find(fs->nodes, parent);
    struct atd_error why = ATD_ERROR_INIT;
    struct atd_str wanted = atd_str_from(name);
    struct fuse_entry_param entry;
    struct view_names names;
    struct view view;
    struct item item;
    struct node *node;
    int rc;

    if (!directory || wanted.len > ATD_FILE_NAME_MAX) {
        (void)fuse_reply_err(req, directory ? ENAMETOOLONG : ESTALE);
        return 0;
    }
    node_set_looked_into(directory);
    rc = view_open_for(fs, directory->kind, node_subject(directory), wanted, effort, &view, &why);
    if (rc == -EWOULDBLOCK)
        return rc;
    if (rc == -ENOENT) {
        reply_absent(req);
        return 0;
    }
    if (rc) {
        reply_node_error(fs, req, "lookup in", directory, &why);
        return 0;
    }
    if (!samples_view_is_of(&view, directory)) {
        (void)fuse_reply_err(req, ESTALE); /* the directory's name means another one now */
    } else if (!view_find(fs, &view, wanted, &names, &item)) {
        if (!reply_refused_shard(req, directory, &view, wanted))
            reply_absent(req);
        if (directory->kind != NODE_CONTROL && !samples_is_directory(directory->kind) &&
            wanted.ptr[0] != '.')
            atd_live_refresh(fs->live); /* perhaps it was only just published */
    } else if (!(node = nodes_remember(fs->nodes, &item))) {
        (void)fuse_reply_err(req, ENOMEM);
    } else {
        fuse_ino_t number = node->number;

        reply_fill_entry(fs, node, &item, true, &entry);
        /* Not delivered (the caller was killed): the kernel does not count it. */
        if (fuse_reply_entry(req, &entry) != 0)
            nodes_forget(fs->nodes, number, 1);
    }
    layout_check_current(fs, view.catalog);
    view_close(&view);
    return 0;
}

static int answer_lookup(struct deferred *deferred)
{
    return lookup(deferred->req, deferred->number, deferred->name, deferred->effort);
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    METRICS_ADD(&fs_of(req)->metrics, lookup_requests, 1);
    if (lookup(req, parent, name, ATD_EFFORT_MEMORY) == -EWOULDBLOCK)
        defer(req, &(struct deferred_args){.number = parent, .name = name}, answer_lookup);
}

/* ------------------------------------------------------------------ what was just made */

int lookup_made(struct fs *fs, const struct node *directory, const char *name,
                struct fuse_entry_param *ret_entry)
{
    struct view_names names;
    struct view view;
    struct item item;
    struct node *node = NULL;

    if (view_open_for(fs, directory->kind, node_subject(directory), atd_str_from(name),
                      ATD_EFFORT_MEMORY, &view, NULL) != 0)
        return -EIO;
    if (view_find(fs, &view, atd_str_from(name), &names, &item))
        node = nodes_remember(fs->nodes, &item);
    if (node)
        reply_fill_entry(fs, node, &item, true, ret_entry);
    view_close(&view);
    return node ? 0 : -EIO;
}

void reply_made(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fs *fs = fs_of(req);
    const struct node *directory = nodes_find(fs->nodes, parent);
    struct fuse_entry_param entry;

    if (!directory || lookup_made(fs, directory, name, &entry) != 0)
        (void)fuse_reply_err(req, EIO);
    else if (fuse_reply_entry(req, &entry) != 0)
        nodes_forget(fs->nodes, entry.ino, 1);
}

/* ------------------------------------------------------------------ FORGET */

void op_forget(fuse_req_t req, fuse_ino_t number, uint64_t count)
{
    struct fs *fs = fs_of(req);

    METRICS_ADD(&fs->metrics, forget_requests, 1);
    nodes_forget(fs->nodes, number, count);
    fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    struct fs *fs = fs_of(req);

    METRICS_ADD(&fs->metrics, forget_requests, count);
    for (size_t i = 0; i < count; i++)
        nodes_forget(fs->nodes, forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(req);
}

/* ------------------------------------------------------------------ GETATTR */

static void reply_attr(struct fs *fs, fuse_req_t req, const struct node *node)
{
    struct stat st;

    if (!layout_stat(fs, node, &st)) {
        (void)fuse_reply_err(req, ESTALE);
        return;
    }
    if (node->kind == NODE_CONTROL_FILE) {
        atd_auto_buf struct atd_buf text = ATD_BUF_INIT(ATD_RENDER_BYTES_MAX);
        struct view view;

        if (view_open(fs, NODE_CONTROL, (struct atd_str){"", 0}, VIEW_RECORDS, ATD_EFFORT_MEMORY,
                      &view, NULL) == 0) {
            if (view_render(fs, &view, node->kind, node_leaf(node), &text, NULL) == 0)
                st.st_size = (off_t)text.len;
            view_close(&view);
        }
        st.st_mtim.tv_sec = time(NULL);
    }
    (void)fuse_reply_attr(req, &st, reply_attr_keep(node));
}

/*
 * Looks whether a shard is still the file that its node stands for. If not: ESTALE, at which the
 * kernel looks the name up again and gets the node of the new bytes.
 */
static int answer_getattr(struct deferred *deferred)
{
    fuse_req_t req = deferred->req;
    struct fs *fs = fs_of(req);
    const struct node *node = nodes_find(fs->nodes, deferred->number);
    struct atd_error why = ATD_ERROR_INIT;
    struct atd_file_identity identity;
    const struct atd_shard *shard = NULL;
    struct view view = {0};
    int rc = node ? view_open_for(fs, node->parent, node_subject(node), node_leaf(node),
                                  deferred->effort, &view, &why)
                  : -ESTALE;

    if (rc == -EWOULDBLOCK)
        return rc;

    if (rc == 0) {
        shard = view_shard(&view, node_leaf(node));
        if (!shard || shard->error_code ||
            memcmp(shard->version, node->version, sizeof(node->version)) != 0)
            rc = -ESTALE;
        else if (atd_file_store_stat(fs->store, shard->path, &identity, &why) != 0 ||
                 !atd_file_identity_equal(&identity, &shard->identity))
            rc = -ESTALE;
        if (rc && shard) {
            notify_entry_shards(fs, view.catalog, view.entry);
            atd_catalog_shards_forget(view.catalog, view.entry, view.shards);
        }
    }
    if (rc)
        (void)fuse_reply_err(req, ESTALE);
    else
        reply_attr(fs, req, node);
    if (view.catalog)
        view_close(&view);
    return 0;
}

void op_getattr(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *info)
{
    struct fs *fs = fs_of(req);
    const struct node *node = nodes_find(fs->nodes, number);

    METRICS_ADD(&fs->metrics, getattr_requests, 1);
    if (!node)
        (void)fuse_reply_err(req, ESTALE);
    else if (node->kind == NODE_SHARD && !node->is_remote && !info)
        defer(req, &(struct deferred_args){.number = number}, answer_getattr);
    else
        reply_attr(fs, req, node); /* an open file, or an object's version: its own bytes */
}

/* ------------------------------------------------------------------ READLINK */

void op_readlink(fuse_req_t req, fuse_ino_t number)
{
    struct fs *fs = fs_of(req);
    const struct node *node = nodes_find(fs->nodes, number);
    atd_auto_buf struct atd_buf target = ATD_BUF_INIT(4096);
    struct atd_error why = ATD_ERROR_INIT;
    struct view view;

    METRICS_ADD(&fs->metrics, readlink_requests, 1);
    if (!node || node->kind != NODE_LABEL) {
        (void)fuse_reply_err(req, node ? EINVAL : ESTALE);
        return;
    }
    if (view_open(fs, NODE_LABELS, (struct atd_str){"", 0}, VIEW_RECORDS, ATD_EFFORT_MEMORY, &view,
                  &why) != 0) {
        reply_node_error(fs, req, "readlink", node, &why);
        return;
    }
    if (view_render(fs, &view, NODE_LABEL, node_leaf(node), &target, &why) != 0)
        reply_node_error(fs, req, "readlink", node, &why);
    else
        (void)fuse_reply_readlink(req, (const char *)target.ptr);
    view_close(&view);
}

/* ------------------------------------------------------------------ STATFS */

/* Shown where nothing is known: file managers do not copy to where 0 blocks are (TOOLS 2b). */
#define UNKNOWN_BYTES (1ull << 50)

/* The file system where what is written takes room; else that of the cache, or of the first data
 * root that exists: where shards do. */
static int answer_statfs(struct deferred *deferred)
{
    const struct fs *fs = fs_of(deferred->req);
    const char *cache = remote_cache_path(fs->remote);
    struct statvfs st = {.f_bsize = 4096, .f_frsize = 4096};
    bool is_done = fs->spool_path && statvfs(fs->spool_path, &st) == 0;

    if (!is_done && cache)
        is_done = statvfs(cache, &st) == 0;
    for (size_t i = 0; !is_done && i < fs->options->data_root_count; i++)
        is_done = statvfs(fs->options->data_roots[i], &st) == 0;
    if (st.f_frsize == 0)
        st.f_frsize = st.f_bsize ? st.f_bsize : 4096;
    if (st.f_blocks == 0)
        st.f_blocks = st.f_bfree = st.f_bavail = UNKNOWN_BYTES / st.f_frsize;
    /* A write that has no room says so with its reason. */
    if (fs->publisher && st.f_bavail == 0)
        st.f_bfree = st.f_bavail = 1;
    st.f_namemax = ATD_FILE_NAME_MAX;
    (void)fuse_reply_statfs(deferred->req, &st);
    return 0;
}

void op_statfs(fuse_req_t req, fuse_ino_t number)
{
    METRICS_ADD(&fs_of(req)->metrics, statfs_requests, 1);
    defer(req, &(struct deferred_args){.number = number}, answer_statfs);
}

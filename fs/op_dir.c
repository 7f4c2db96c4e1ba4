/*
 * OPENDIR, READDIR, READDIRPLUS, RELEASEDIR.
 *
 * A directory handle holds a view of one generation, that of the listing's beginning, so that what
 * is read in pieces is one state of the index, however long it takes. The kernel keeps the whole
 * listing afterwards, so that a repeated one costs OPENDIR and RELEASEDIR alone. Refusing OPENDIR
 * for good (ENOSYS) would save these, but holds for every directory of the mount: the kernel would
 * keep listings of staged names too (is_kept), and nothing would hold the state between two
 * READDIRs of a slow reader.
 *
 * With consistency=barrier, who opens a directory of the index sees all that anybody committed
 * before: the index is asked first, by a worker. Either way the kernel uses no listing that it has
 * yet to be told is old. An index that does not answer delays a few such requests for a moment and
 * then none, until it does.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "defer.h"
#include "layout.h"
#include "reply.h"

/* So long a listing waits for the index's word: far more than a round trip to a far server. */
#define BARRIER_MS 500

/* "." and ".." come first; the view's places follow. */
#define DOTS 2

struct directory {
    struct handle handle;
    struct view view;
    bool is_cached; /* the kernel keeps what it is told */
};

static struct fs *fs_of(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

static struct directory *directory_of(const struct fuse_file_info *info)
{
    return (struct directory *)(uintptr_t)info->fh; // NOLINT(performance-no-int-to-ptr)
}

static void free_directory(struct fs *fs, struct handle *handle)
{
    struct directory *directory = (struct directory *)handle;

    (void)fs;
    view_close(&directory->view);
    free(directory);
}

/* Whether the kernel may keep the listing. Control files have no lasting sizes; staged names come
 * and go without a notification. */
static bool is_kept(const struct view *view)
{
    return view->kind != NODE_CONTROL && view->kind != NODE_STAGED_DIR && view->staged.count == 0;
}

/* Answers, or returns -EWOULDBLOCK when that takes more effort. */
static int open_directory(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *info,
                          enum atd_effort effort)
{
    struct fs *fs = fs_of(req);
    struct node *node = nodes_find(fs->nodes, number);
    struct atd_error why = ATD_ERROR_INIT;
    struct directory *directory;
    int rc;

    if (!node || !node_kind_is_directory(node->kind)) {
        (void)fuse_reply_err(req, node ? ENOTDIR : ESTALE);
        return 0;
    }
    directory = calloc(1, sizeof(*directory));
    if (!directory) {
        (void)fuse_reply_err(req, ENOMEM);
        return 0;
    }
    node_set_looked_into(node);
    rc = view_open(fs, node->kind, node_subject(node), VIEW_SHARDS, effort, &directory->view, &why);
    if (rc) {
        free(directory);
        if (rc == -EWOULDBLOCK)
            return rc;
        reply_node_error(fs, req, "opendir", node, &why);
        return 0;
    }
    if (!samples_view_is_of(&directory->view, node)) { /* the name means another directory now */
        view_close(&directory->view);
        free(directory);
        (void)fuse_reply_err(req, ESTALE);
        return 0;
    }
    directory->handle.free = free_directory;
    directory->is_cached = is_kept(&directory->view);
    handles_add(&fs->handles, &directory->handle);
    info->fh = (uintptr_t)directory;
    /* Both, or the kernel caches nothing (FUSE 3.1). */
    info->cache_readdir = directory->is_cached;
    info->keep_cache = directory->is_cached &&
                       notify_has_told(fs->notify, atd_catalog_generation(directory->view.catalog));
    if (fuse_reply_open(req, info) != 0)
        handles_free(fs, &fs->handles, &directory->handle);
    return 0;
}

/* False when there is no use in asking the index: it is known to be away, or slow to answer. */
static bool index_answers(struct fs *fs)
{
    uint64_t late = atomic_load(&fs->late_barrier);
    struct atd_live_status status;

    atd_live_status(fs->live, &status);
    if (status.stale || (late && !atd_live_await(fs->live, late, 0)))
        return false;
    if (late)
        atomic_store(&fs->late_barrier, 0);
    return true;
}

static bool wants_barrier(struct fs *fs, fuse_ino_t number)
{
    const struct node *node = nodes_find(fs->nodes, number);

    if (!fs->options->barrier || !node)
        return false;
    switch (node->kind) {
    case NODE_DATASETS:
    case NODE_SCHEMAS:
    case NODE_LABELS:
    case NODE_BY_CID:
    case NODE_DATASET:
        return index_answers(fs);
    default:
        return false;
    }
}

/* Requests that come together share a round trip: the next one answers all that are there. */
static void wait_for_barrier(struct fs *fs)
{
    uint64_t request = atd_live_barrier(fs->live);

    METRICS_ADD(&fs->metrics, barriers, 1);
    if (atd_live_await(fs->live, request, BARRIER_MS))
        return;
    METRICS_ADD(&fs->metrics, barriers_late, 1);
    atomic_store(&fs->late_barrier, request);
}

static int answer_opendir_after_barrier(struct deferred *deferred)
{
    /* Not once more when a store has to be asked as well. */
    if (deferred->effort == ATD_EFFORT_DISK)
        wait_for_barrier(fs_of(deferred->req));
    return open_directory(deferred->req, deferred->number, &deferred->info, deferred->effort);
}

static int answer_opendir(struct deferred *deferred)
{
    return open_directory(deferred->req, deferred->number, &deferred->info, deferred->effort);
}

void op_opendir(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *info)
{
    const struct deferred_args args = {.number = number, .info = info};

    METRICS_ADD(&fs_of(req)->metrics, opendir_requests, 1);
    if (wants_barrier(fs_of(req), number))
        defer(req, &args, answer_opendir_after_barrier);
    else if (open_directory(req, number, info, ATD_EFFORT_MEMORY) == -EWOULDBLOCK)
        defer(req, &args, answer_opendir);
}

/* Forgets what a listing told the kernel when the answer was not delivered. */
struct told {
    fuse_ino_t *numbers;
    size_t count;
    size_t cap;
};

static bool tell(struct told *told, fuse_ino_t number)
{
    if (told->count == told->cap) {
        size_t cap = told->cap ? told->cap * 2 : 64;
        fuse_ino_t *grown = reallocarray(told->numbers, cap, sizeof(*grown));

        if (!grown)
            return false;
        told->numbers = grown;
        told->cap = cap;
    }
    told->numbers[told->count++] = number;
    return true;
}

static size_t add_dot(fuse_req_t req, char *buf, size_t room, off_t place, bool plus)
{
    const struct fuse_entry_param entry = {.attr = {.st_mode = S_IFDIR, .st_ino = 1}};
    const char *name = place == 0 ? "." : "..";

    /* Number 0: the kernel makes no inode of it and counts no lookup. */
    return plus ? fuse_add_direntry_plus(req, buf, room, name, &entry, place + 1)
                : fuse_add_direntry(req, buf, room, name, &entry.attr, place + 1);
}

static bool is_fresh(struct fs *fs, const struct view *view)
{
    return atd_live_generation(fs->live) == atd_catalog_generation(view->catalog) &&
           view_is_settled(view);
}

/*
 * A listing that begins shows the state of now, not of the time of the opendir (rewinddir wants
 * that too): what changed in between was notified before the kernel had anything to forget.
 */
static void renew_view(struct fs *fs, struct view *view)
{
    struct view fresh;

    if (is_fresh(fs, view))
        return;
    if (view_open(fs, view->kind, view_subject(view), VIEW_SHARDS, ATD_EFFORT_DISK, &fresh, NULL) !=
        0)
        return; /* it is gone, or a store must be asked: the old state ends with nothing kept */
    if (memcmp(fresh.samples.version, view->samples.version, NODE_VERSION_BYTES) != 0) {
        view_close(&fresh); /* its name means another directory now */
        return;
    }
    view_close(view);
    *view = fresh;
}

struct listing {
    bool plus;
    bool is_current; /* else nothing of it may be kept */
};

/* A name without a node: the kernel looks it up when somebody wants to know more. */
static size_t add_unsized(fuse_req_t req, char *buf, size_t room, const struct item *item,
                          const char *name, off_t next, bool plus)
{
    const struct fuse_entry_param entry = {
        .attr = {.st_mode = S_IFREG, .st_ino = node_item_st_ino(item)}};

    return plus ? fuse_add_direntry_plus(req, buf, room, name, &entry, next)
                : fuse_add_direntry(req, buf, room, name, &entry.attr, next);
}

/* Adds one item; returns the bytes it takes (more than `room`: it was not added), 0 on ENOMEM. */
static size_t add_item(fuse_req_t req, char *buf, size_t room, const struct item *item, off_t next,
                       const struct listing *listing, struct told *told)
{
    bool plus = listing->plus;
    struct fs *fs = fs_of(req);
    char name[ATD_FILE_NAME_MAX + 1];
    struct fuse_entry_param entry;
    struct node *node;
    size_t size;

    memcpy(name, item->leaf.ptr, item->leaf.len);
    name[item->leaf.len] = '\0';
    if (fuse_add_direntry(req, NULL, 0, name, NULL, 0) > room)
        return room + 1; /* not even the plain form fits: make no node of it */
    if (item->is_unsized)
        return add_unsized(req, buf, room, item, name, next, plus);
    node = nodes_remember(fs->nodes, item);
    if (!node)
        return 0;
    reply_fill_entry(fs, node, item, listing->is_current, &entry);
    size = plus ? fuse_add_direntry_plus(req, buf, room, name, &entry, next)
                : fuse_add_direntry(req, buf, room, name, &entry.attr, next);
    if (!plus || size > room) {
        nodes_forget(fs->nodes, entry.ino, 1);
    } else if (!tell(told, entry.ino)) {
        nodes_forget(fs->nodes, entry.ino, 1);
        return 0;
    }
    return size;
}

static void list(fuse_req_t req, fuse_ino_t number, size_t size, off_t offset,
                 const struct fuse_file_info *info, bool plus)
{
    struct fs *fs = fs_of(req);
    struct view *view = &directory_of(info)->view;
    atd_auto_free char *buf = malloc(size);
    struct listing listing = {.plus = plus};
    struct atd_catalog *catalog;
    struct view mark;
    bool must_drop;
    struct told told = {0};
    size_t used = 0;
    size_t need = 1;

    if (!buf || offset < 0) {
        (void)fuse_reply_err(req, buf ? EINVAL : ENOMEM);
        return;
    }
    if (offset == 0)
        renew_view(fs, view);
    listing.is_current = atd_live_generation(fs->live) == atd_catalog_generation(view->catalog);
    for (size_t place = (size_t)offset; place < view_count(view) + DOTS; place++) {
        struct view_names names;
        struct item item;

        if (place < DOTS)
            need = add_dot(req, buf + used, size - used, (off_t)place, plus);
        else if (view_at(fs, view, place - DOTS, &names, &item))
            need = add_item(req, buf + used, size - used, &item, (off_t)place + 1, &listing, &told);
        else
            continue;
        if (need == 0 || need > size - used)
            break;
        used += need;
    }
    /* Once answered, a RELEASEDIR in another thread may free the view. */
    catalog = atd_catalog_ref(view->catalog);
    mark = (struct view){
        .kind = view->kind, .staging = view->staging, .staging_version = view->staging_version};
    must_drop = !listing.is_current || (directory_of(info)->is_cached && !is_kept(view));
    /* What was collected before memory ran out is an answer too; nothing at all is an error. */
    if ((used == 0 && need == 0 ? fuse_reply_err(req, ENOMEM) : fuse_reply_buf(req, buf, used)) !=
        0) {
        for (size_t i = 0; i < told.count; i++)
            nodes_forget(fs->nodes, told.numbers[i], 1);
    }
    free(told.numbers);
    /* The kernel keeps the listing: one of an old state it must drop when it has it all. */
    if (listing.is_current)
        layout_check_current(fs, catalog);
    if (used == 0 && (must_drop || !view_is_settled(&mark)))
        notify_name(fs->notify, number, (struct atd_str){"", 0}, false);
    atd_catalog_unref(catalog);
}

/*
 * READDIRs of one handle come one at a time (the kernel holds the file's position lock), so that
 * the view may be renewed in place.
 */
static int answer_readdir(struct deferred *deferred)
{
    list(deferred->req, deferred->number, deferred->size, deferred->offset, &deferred->info, false);
    return 0;
}

static int answer_readdirplus(struct deferred *deferred)
{
    list(deferred->req, deferred->number, deferred->size, deferred->offset, &deferred->info, true);
    return 0;
}

/* True when the answer is work for a worker: to render a lot, or to ask the disk for a new view. */
static bool is_slow(struct fs *fs, const struct fuse_file_info *info, off_t offset)
{
    const struct view *view = &directory_of(info)->view;

    return view_is_heavy(view) || (offset == 0 && view->entry && !is_fresh(fs, view));
}

static void readdir_now_or_later(fuse_req_t req, const struct deferred_args *args, bool plus)
{
    struct fs *fs = fs_of(req);

    METRICS_ADD(&fs->metrics, readdir_requests, 1);
    if (is_slow(fs, args->info, args->offset))
        defer(req, args, plus ? answer_readdirplus : answer_readdir);
    else
        list(req, args->number, args->size, args->offset, args->info, plus);
}

void op_readdir(fuse_req_t req, fuse_ino_t number, size_t size, off_t offset,
                struct fuse_file_info *info)
{
    const struct deferred_args args = {
        .number = number, .info = info, .size = size, .offset = offset};

    readdir_now_or_later(req, &args, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t number, size_t size, off_t offset,
                    struct fuse_file_info *info)
{
    const struct deferred_args args = {
        .number = number, .info = info, .size = size, .offset = offset};

    readdir_now_or_later(req, &args, true);
}

void op_releasedir(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *info)
{
    struct fs *fs = fs_of(req);

    (void)number;
    handles_free(fs, &fs->handles, &directory_of(info)->handle);
    (void)fuse_reply_err(req, 0);
}

/*
 * OPENDIR, READDIR, READDIRPLUS, RELEASEDIR.
 *
 * A listing is read without having been opened: its order is the same in every state of the
 * directory (listing.h), so that nothing is held between two READDIRs. OPENDIR is answered ENOSYS;
 * the kernel then asks for none any more, keeps every whole listing, and a repeated `ls` sends
 * nothing here. It makes a listing anew when it made or removed a name itself, and when it is told
 * to (notify.c). What may change without either is told to be dropped as soon as it was read.
 *
 * With consistency=barrier, who opens a directory of the index sees all that anybody committed
 * before: OPENDIR is wanted then, and the index is asked first, by a worker; the kernel uses no
 * listing that it has yet to be told is old. An index that does not answer delays a few such
 * requests for a moment and then none, until it does. (Kernels before 5.1 want OPENDIR too.)
 */
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "defer.h"
#include "layout.h"
#include "listing.h"
#include "reply.h"

/* So long a listing waits for the index's word: far more than a round trip to a far server. */
#define BARRIER_MS 500

static struct fs *fs_of(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

/*
 * Whether the kernel may keep a listing that it was given. Of what is staged here it is told, too,
 * but who sees it come and go looks often. Files that are not to be had may come back without
 * anybody's word. And nobody tells of what becomes of a dataset to those who are in the directory
 * that had its former name.
 */
static bool is_kept(const struct node *directory, const struct view *view)
{
    if (view->kind == NODE_STAGED_DIR || view->staged.count > 0)
        return false;
    if (view->kind == NODE_DATASET && !atd_str_equal(view_subject(view), node_subject(directory)))
        return false;
    return !view->shards ||
           (!atd_shard_list_may_change(view->shards) &&
            atd_shard_list_readable(view->shards) == atd_shard_list_count(view->shards));
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

/* Answers: the listing may be kept, and used when nothing is on its way that makes it old. */
static void open_directory(fuse_req_t req, const struct fuse_file_info *info)
{
    struct fs *fs = fs_of(req);
    struct fuse_file_info answer = *info;

    /* Both, or the kernel caches nothing (FUSE 3.1). */
    answer.cache_readdir = true;
    answer.keep_cache = notify_has_told(fs->notify, atd_live_generation(fs->live));
    (void)fuse_reply_open(req, &answer);
}

static int answer_opendir_after_barrier(struct deferred *deferred)
{
    wait_for_barrier(fs_of(deferred->req));
    open_directory(deferred->req, &deferred->info);
    return 0;
}

void op_opendir(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *info)
{
    const struct deferred_args args = {.number = number, .info = info};
    struct fs *fs = fs_of(req);

    METRICS_ADD(&fs->metrics, opendir_requests, 1);
    if (wants_barrier(fs, number))
        defer(req, &args, answer_opendir_after_barrier);
    else if (fs->options->barrier || !fs->kernel_lists_unopened)
        open_directory(req, info);
    else
        (void)fuse_reply_err(req, ENOSYS);
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

/* `next`: the position of the dot. */
static size_t add_dot(fuse_req_t req, char *buf, size_t room, off_t next, bool plus)
{
    const struct fuse_entry_param entry = {.attr = {.st_mode = S_IFDIR, .st_ino = 1}};
    const char *name = next == 1 ? "." : "..";

    /* Number 0: the kernel makes no inode of it and counts no lookup. */
    return plus ? fuse_add_direntry_plus(req, buf, room, name, &entry, next)
                : fuse_add_direntry(req, buf, room, name, &entry.attr, next);
}

struct answer {
    bool plus;
    bool is_current; /* else nothing of it may be kept */
    bool is_end;     /* there are no more names */
    uint64_t state;  /* of the directory */
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
                       const struct answer *answer, struct told *told)
{
    bool plus = answer->plus;
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
    reply_fill_entry(fs, node, item, answer->is_current, &entry);
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

/* Becomes higher with each change of what the view shows; 0: it may change without. */
static uint64_t state_of(const struct node *directory, const struct view *view)
{
    return is_kept(directory, view) ? atd_catalog_generation(view->catalog) + view->staging_version
                                    : 0;
}

/*
 * `oldest`: of the states that the kernel's listing is of, at its end. What it was told of a change
 * may have come before the names that it was to forget.
 */
static void tell_kernel(struct fs *fs, fuse_ino_t number, const struct listing *listing,
                        const struct answer *answer, uint64_t oldest)
{
    const struct view *view = &listing->view;
    bool is_current = atd_live_generation(fs->live) == atd_catalog_generation(view->catalog);

    /* The index moved on meanwhile: what was told of it may have come too early for this answer. */
    if (answer->is_current)
        layout_check_current(fs, view->catalog);
    if (!answer->state ||
        (answer->is_end && !(is_current && oldest >= answer->state && view_is_settled(view))))
        notify_name(fs->notify, number, (struct atd_str){"", 0}, false);
}

static void list(fuse_req_t req, struct node *directory, size_t size, uint64_t position,
                 struct listing *listing, bool plus)
{
    struct fs *fs = fs_of(req);
    const struct view *view = &listing->view;
    fuse_ino_t number = directory->number; /* once answered, the node may be gone */
    uint64_t oldest = UINT64_MAX;
    atd_auto_free char *buf = malloc(size);
    struct answer answer = {
        .plus = plus,
        .state = state_of(directory, view),
        .is_current = atd_live_generation(fs->live) == atd_catalog_generation(view->catalog),
    };
    struct told told = {0};
    size_t used = 0;
    size_t need = 1;

    if (!buf) {
        (void)fuse_reply_err(req, ENOMEM);
        return;
    }
    for (; position < LISTING_DOTS; position++) {
        need = add_dot(req, buf + used, size - used, (off_t)position + 1, plus);
        if (need > size - used)
            break;
        used += need;
    }
    for (size_t i = listing_after(listing, position); i < listing->count && need <= size - used;
         i++) {
        const struct listing_name *name = &listing->names[i];
        struct view_names names;
        struct item item;

        if (!view_at(fs, view, name->place, &names, &item))
            continue;
        need = add_item(req, buf + used, size - used, &item, (off_t)name->position, &answer, &told);
        if (need == 0 || need > size - used)
            break;
        used += need;
    }
    answer.is_end = used == 0 && need != 0;
    if (answer.is_end)
        oldest = node_end_listing(directory);
    else if (used)
        node_note_listed(directory, answer.state);
    /* What was collected before memory ran out is an answer too; nothing at all is an error. */
    if ((used == 0 && need == 0 ? fuse_reply_err(req, ENOMEM) : fuse_reply_buf(req, buf, used)) !=
        0) {
        for (size_t i = 0; i < told.count; i++)
            nodes_forget(fs->nodes, told.numbers[i], 1);
    }
    free(told.numbers);
    tell_kernel(fs, number, listing, &answer, oldest);
}

/* Answers, or returns -EWOULDBLOCK when that takes more effort. */
static int read_directory(fuse_req_t req, const struct deferred_args *args, enum atd_effort effort,
                          bool plus)
{
    struct fs *fs = fs_of(req);
    struct node *node = nodes_find(fs->nodes, args->number);
    struct atd_error why = ATD_ERROR_INIT;
    struct listing *listing;
    int rc;

    if (!node || !node_kind_is_directory(node->kind) || args->offset < 0) {
        (void)fuse_reply_err(req, !node ? ESTALE : args->offset < 0 ? EINVAL : ENOTDIR);
        return 0;
    }
    node_set_looked_into(node);
    rc = listing_get(fs, node, (uint64_t)args->offset, effort, &listing, &why);
    if (rc == -EWOULDBLOCK)
        return rc;
    if (rc) {
        reply_node_error(fs, req, "readdir", node, &why);
        return 0;
    }
    if (effort == ATD_EFFORT_MEMORY && view_is_heavy(&listing->view))
        rc = -EWOULDBLOCK;
    else
        list(req, node, args->size, (uint64_t)args->offset, listing, plus);
    listing_unref(listing);
    return rc;
}

static int read_deferred(struct deferred *deferred, bool plus)
{
    const struct deferred_args args = {
        .number = deferred->number, .size = deferred->size, .offset = deferred->offset};

    return read_directory(deferred->req, &args, deferred->effort, plus);
}

static int answer_readdir(struct deferred *deferred)
{
    return read_deferred(deferred, false);
}

static int answer_readdirplus(struct deferred *deferred)
{
    return read_deferred(deferred, true);
}

static void read_now_or_later(fuse_req_t req, const struct deferred_args *args, bool plus)
{
    METRICS_ADD(&fs_of(req)->metrics, readdir_requests, 1);
    if (read_directory(req, args, ATD_EFFORT_MEMORY, plus) == -EWOULDBLOCK)
        defer(req, args, plus ? answer_readdirplus : answer_readdir);
}

void op_readdir(fuse_req_t req, fuse_ino_t number, size_t size, off_t offset,
                struct fuse_file_info *info)
{
    const struct deferred_args args = {
        .number = number, .info = info, .size = size, .offset = offset};

    read_now_or_later(req, &args, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t number, size_t size, off_t offset,
                    struct fuse_file_info *info)
{
    const struct deferred_args args = {
        .number = number, .info = info, .size = size, .offset = offset};

    read_now_or_later(req, &args, true);
}

/* Nothing was held. */
void op_releasedir(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *info)
{
    (void)number;
    (void)info;
    (void)fuse_reply_err(req, 0);
}

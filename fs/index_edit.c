#include "index_edit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "codec/file_name.h"
#include "layout.h"
#include "publish/editor.h"
#include "publish/publisher.h"
#include "reply.h"
#include "staging.h"
#include "target.h"
#include "unlinked.h"
#include "verdict.h"

#define HIDDEN_URLS_MAX (64u << 20)

struct index_edit {
    struct atd_publisher_edit edit; /* first */
    struct fs *fs;
    fuse_req_t req;         /* NULL: nobody to answer */
    char what[1024];        /* "rename datasets/x": for messages */
    struct atd_buf name;    /* the index's: of the dataset or label */
    struct atd_buf version; /* label */
    struct atd_buf other;   /* the new name, the CID, the URL */
    struct atd_buf hidden;  /* URLs of unlinked shards, each with a NUL behind */
    int64_t mtime_ns;
    struct stat shown; /* mtime: how the file was shown before */
    fuse_ino_t number; /* the node to answer with: the parent of a link, the shard */
    char subject[ATD_FILE_NAME_MAX + 1]; /* the dataset's file name */
    char leaf[ATD_FILE_NAME_MAX + 1];
};

static struct index_edit *make(struct fs *fs, fuse_req_t req,
                               int (*run)(struct atd_publisher_edit *, struct atd_editor *,
                                          struct atd_error *),
                               void (*done)(struct atd_publisher_edit *, const struct atd_error *))
{
    struct index_edit *edit = calloc(1, sizeof(*edit));

    if (!edit) {
        if (req)
            (void)fuse_reply_err(req, ENOMEM);
        return NULL;
    }
    edit->edit.run = run;
    edit->edit.done = done;
    edit->fs = fs;
    edit->req = req;
    atd_buf_init(&edit->name, ATD_NAME_BYTES_MAX);
    atd_buf_init(&edit->version, ATD_NAME_BYTES_MAX);
    atd_buf_init(&edit->other, 1u << 20);
    atd_buf_init(&edit->hidden, HIDDEN_URLS_MAX);
    return edit;
}

static void free_edit(struct index_edit *edit)
{
    atd_buf_release(&edit->name);
    atd_buf_release(&edit->version);
    atd_buf_release(&edit->other);
    atd_buf_release(&edit->hidden);
    free(edit);
}

/* Refuses with the errno as it is where tools expect it, else with one that they understand. */
static void refuse(struct index_edit *edit, const struct atd_error *why)
{
    struct atd_error shown = *why;

    if (why->code != EEXIST && why->code != ENOENT && why->code != ENOTEMPTY &&
        why->code != EACCES && why->code != ENAMETOOLONG && why->code != ENOMEM)
        shown.code = verdict_errno(why);
    if (edit->req)
        reply_error(edit->fs, edit->req, edit->what, &shown);
    else
        events_note(edit->fs->events, edit->what, &shown);
}

static void done_plain(struct atd_publisher_edit *base, const struct atd_error *why)
{
    struct index_edit *edit = (struct index_edit *)base;

    if (why)
        refuse(edit, why);
    else if (edit->req)
        (void)fuse_reply_err(edit->req, 0);
    free_edit(edit);
}

/* Hands it over, or refuses with what went wrong before. */
static void submit(struct index_edit *edit, int rc, struct atd_error *why)
{
    if (rc == 0 && edit->req)
        rc = atd_publisher_can_edit(edit->fs->publisher, why);
    if (rc == 0)
        rc = atd_publisher_edit(edit->fs->publisher, &edit->edit, why);
    if (rc) {
        refuse(edit, why);
        free_edit(edit);
    }
}

/* ------------------------------------------------------------------ labels */

/* "NAME@VERSION": the last '@' splits, as the library's own references. */
static int split_label(struct index_edit *edit, const char *file_name, struct atd_error *err)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(ATD_NAME_BYTES_MAX);
    struct atd_str name;
    ptrdiff_t at;
    int rc = atd_file_name_decode(atd_str_from(file_name), &text, err);

    if (rc)
        return rc;
    name = atd_buf_str(&text);
    at = atd_str_find_last(name, '@');
    if (at <= 0 || (size_t)at + 1 == name.len)
        return atd_error_set(err, EINVAL,
                             "a label is called NAME@VERSION, such as mnist@1.0.0; the unversioned "
                             "label follows publishing by itself");
    atd_buf_append_str(&edit->name, atd_str_head(name, (size_t)at));
    atd_buf_append_str(&edit->version, atd_str_from_byte(name, (size_t)at + 1));
    return atd_dataset_name_check(atd_buf_str(&edit->name), err);
}

/* The CID of the entry that the link's last two components name. */
static int resolve_link(struct fs *fs, const char *link, struct atd_buf *out, struct atd_error *err)
{
    struct atd_str text = atd_str_from(link);
    const struct atd_catalog_entry *entry = NULL;
    const struct atd_dataset *dataset;
    struct atd_catalog *catalog;
    struct atd_str leaf;
    struct atd_str directory;
    ptrdiff_t slash;

    while (text.len > 1 && text.ptr[text.len - 1] == '/')
        text.len--;
    slash = atd_str_find_last(text, '/');
    leaf = atd_str_from_byte(text, (size_t)(slash + 1));
    directory = atd_str_head(text, slash > 0 ? (size_t)slash : 0);
    directory = atd_str_from_byte(directory, (size_t)(atd_str_find_last(directory, '/') + 1));
    catalog = atd_live_get(fs->live);
    if (atd_str_equal(directory, ATD_STR("datasets"))) {
        dataset = atd_catalog_find_dataset(catalog, leaf);
        entry = dataset ? atd_catalog_entry_at(catalog, dataset->entry) : NULL;
    } else if (atd_str_equal(directory, ATD_STR("by-cid"))) {
        entry = atd_catalog_find_entry(catalog, leaf);
    }
    if (entry)
        atd_buf_append_str(out, atd_entry_cid(entry));
    atd_catalog_unref(catalog);
    if (!entry)
        return atd_error_set(err, EINVAL,
                             "a label points at ../datasets/NAME or ../by-cid/CID, and '%.200s' is "
                             "no entry of this index",
                             link);
    return 0;
}

static int run_label(struct atd_publisher_edit *base, struct atd_editor *editor,
                     struct atd_error *err)
{
    struct index_edit *edit = (struct index_edit *)base;

    return atd_edit_label(editor, atd_buf_str(&edit->name), atd_buf_str(&edit->version),
                          atd_buf_str(&edit->other), err);
}

static void done_label(struct atd_publisher_edit *base, const struct atd_error *why)
{
    struct index_edit *edit = (struct index_edit *)base;

    if (why)
        refuse(edit, why);
    else
        reply_made(edit->req, edit->number, edit->leaf);
    free_edit(edit);
}

void index_edit_label(struct fs *fs, fuse_req_t req, fuse_ino_t parent, const char *name,
                      const char *link)
{
    struct index_edit *edit = make(fs, req, run_label, done_label);
    struct atd_error why = ATD_ERROR_INIT;
    int rc;

    if (!edit)
        return;
    (void)snprintf(edit->what, sizeof(edit->what), "symlink labels/%.255s", name);
    (void)snprintf(edit->leaf, sizeof(edit->leaf), "%s", name);
    edit->number = parent;
    rc = split_label(edit, name, &why);
    if (rc == 0)
        rc = resolve_link(fs, link, &edit->other, &why);
    submit(edit, rc, &why);
}

static int run_remove_label(struct atd_publisher_edit *base, struct atd_editor *editor,
                            struct atd_error *err)
{
    struct index_edit *edit = (struct index_edit *)base;

    return atd_edit_remove_label(editor, atd_buf_str(&edit->name), atd_buf_str(&edit->version),
                                 err);
}

void index_edit_remove_label(struct fs *fs, fuse_req_t req, const char *name)
{
    struct index_edit *edit = make(fs, req, run_remove_label, done_plain);
    struct atd_error why = ATD_ERROR_INIT;
    struct atd_catalog *catalog;
    const struct atd_catalog_label *label;
    int rc = 0;

    if (!edit)
        return;
    (void)snprintf(edit->what, sizeof(edit->what), "unlink labels/%.255s", name);
    catalog = atd_live_get(fs->live);
    label = atd_catalog_find_label(catalog, atd_str_from(name));
    if (label) {
        atd_buf_append_str(&edit->name, atd_label_name(label));
        atd_buf_append_str(&edit->version, atd_label_version(label));
    } else {
        rc = atd_error_set(&why, ENOENT, "there is no such label");
    }
    atd_catalog_unref(catalog);
    submit(edit, rc, &why);
}

/* ------------------------------------------------------------------ shards that were unlinked */

/* Those of edit->subject. */
static int take_hidden(struct index_edit *edit, struct atd_error *err)
{
    staging_hidden_urls(edit->fs->staging, atd_str_from(edit->subject), &edit->hidden);
    return atd_buf_finish(&edit->hidden, "the URLs of unlinked shards", err);
}

static int compare_urls(const void *a, const void *b)
{
    return atd_str_compare(*(const struct atd_str *)a, *(const struct atd_str *)b);
}

/* Of texts with a NUL behind each: sorted. */
static int split_urls(const struct atd_buf *texts, struct atd_str **ret_urls, size_t *ret_count,
                      struct atd_error *err)
{
    struct atd_str *urls = calloc(STAGED_HIDDEN_MAX, sizeof(*urls));
    size_t count = 0;

    if (!urls)
        return atd_error_set(err, ENOMEM, "out of memory");
    for (size_t at = 0; at < texts->len && count < STAGED_HIDDEN_MAX; at += urls[count++].len + 1)
        urls[count] = atd_str_from((const char *)texts->ptr + at);
    qsort(urls, count, sizeof(*urls), compare_urls);
    *ret_urls = urls;
    *ret_count = count;
    return 0;
}

/* Their grace is over: nobody overwrites them in a directory that is being removed (rm -r), and
 * under another name of the dataset they would be there again. */
static int remove_hidden(struct index_edit *edit, struct atd_editor *editor, struct atd_error *err)
{
    atd_auto_buf struct atd_buf marked_texts = ATD_BUF_INIT(HIDDEN_URLS_MAX);
    atd_auto_free struct atd_str *marked = NULL;
    atd_auto_free struct atd_str *urls = NULL;
    size_t marked_count = 0;
    size_t count = 0;
    size_t kept = 0;
    int rc;

    if (edit->hidden.len == 0)
        return 0;
    unlinked_marked_urls(edit->fs->unlinked, atd_str_from(edit->subject), &marked_texts);
    rc = atd_buf_finish(&marked_texts, "the URLs of unlinked shards", err);
    if (rc == 0)
        rc = split_urls(&marked_texts, &marked, &marked_count, err);
    if (rc == 0)
        rc = split_urls(&edit->hidden, &urls, &count, err);
    if (rc)
        return rc;
    /* Those that are marked go if they still are: somebody may have published them again. */
    for (size_t i = 0; i < count; i++) {
        if (!bsearch(&urls[i], marked, marked_count, sizeof(*marked), compare_urls))
            urls[kept++] = urls[i];
    }
    if (marked_count)
        rc = atd_edit_remove_leaving(editor, atd_buf_str(&edit->name), marked, marked_count, err);
    if (rc == 0 && kept)
        rc = atd_edit_remove_shards(editor, atd_buf_str(&edit->name), urls, kept, err);
    return rc;
}

/* ------------------------------------------------------------------ datasets */

static int run_rename(struct atd_publisher_edit *base, struct atd_editor *editor,
                      struct atd_error *err)
{
    struct index_edit *edit = (struct index_edit *)base;
    int rc = remove_hidden(edit, editor, err);

    return rc ? rc
              : atd_edit_rename(editor, atd_buf_str(&edit->name), atd_buf_str(&edit->other), err);
}

/* What is known of it here alone goes with it. The kernel takes what it knows as the old one for
 * the new one now: it is to look again. Before the answer: it is told as soon as it lets go of the
 * directory. */
static void follow_rename(struct fs *fs, const char *name, const char *new_name)
{
    const struct staged_place places[] = {
        {.directory = NODE_DATASETS, .subject = ATD_STR(""), .leaf = atd_str_from(name)},
        {.directory = NODE_DATASETS, .subject = ATD_STR(""), .leaf = atd_str_from(new_name)}};

    staging_note_rename(fs->staging, places[0].leaf, places[1].leaf);
    staging_move_notes(fs->staging, atd_str_from(name), atd_str_from(new_name));
    for (size_t i = 0; i < ATD_ARRAY_LEN(places); i++)
        notify_place(fs, &places[i]);
}

static void done_rename(struct atd_publisher_edit *base, const struct atd_error *why)
{
    struct index_edit *edit = (struct index_edit *)base;

    if (!why) {
        staging_unhide_all(edit->fs->staging, atd_str_from(edit->subject));
        follow_rename(edit->fs, edit->subject, edit->leaf);
    }
    done_plain(base, why);
}

static bool has_staged_files(struct fs *fs, const char *name)
{
    struct staged_list list;
    bool found = false;

    if (staging_list(fs->staging, NODE_DATASET, atd_str_from(name), &list, NULL) != 0)
        return true;
    for (size_t i = 0; i < list.count; i++)
        found = found || list.items[i].staged->kind != STAGED_NOTE;
    staging_list_free(fs->staging, &list);
    return found;
}

void index_edit_rename(struct fs *fs, fuse_req_t req, const char *name, const char *new_name)
{
    struct index_edit *edit = make(fs, req, run_rename, done_rename);
    struct atd_error why = ATD_ERROR_INIT;
    struct atd_catalog *catalog;
    bool is_published;
    int rc;

    if (!edit)
        return;
    (void)snprintf(edit->what, sizeof(edit->what), "rename datasets/%.255s to %.255s", name,
                   new_name);
    (void)snprintf(edit->subject, sizeof(edit->subject), "%s", name);
    (void)snprintf(edit->leaf, sizeof(edit->leaf), "%s", new_name);
    catalog = atd_live_get(fs->live);
    is_published = atd_catalog_find_dataset(catalog, atd_str_from(name)) != NULL;
    if (atd_catalog_find_dataset(catalog, atd_str_from(new_name)) ||
        staging_has_dataset(fs->staging, atd_str_from(new_name)))
        rc = atd_error_set(&why, EEXIST, "there is a dataset of that name");
    else if (has_staged_files(fs, name))
        rc = atd_error_set(&why, EBUSY, "files are being written in it");
    else
        rc = target_dataset_name(fs, atd_str_from(name), &edit->name, &why);
    if (rc == 0)
        rc = target_dataset_name(fs, atd_str_from(new_name), &edit->other, &why);
    if (rc == 0)
        rc = atd_dataset_name_check(atd_buf_str(&edit->other), &why);
    atd_catalog_unref(catalog);
    if (rc == 0 && !is_published) {
        /* It exists here alone. */
        rc = staging_rename_dataset(fs->staging, atd_str_from(name), atd_str_from(new_name), &why);
        if (rc == 0) {
            follow_rename(fs, name, new_name);
            (void)fuse_reply_err(req, 0);
            free_edit(edit);
            return;
        }
    }
    if (rc == 0)
        rc = take_hidden(edit, &why);
    submit(edit, rc, &why);
}

static int run_remove_dataset(struct atd_publisher_edit *base, struct atd_editor *editor,
                              struct atd_error *err)
{
    struct index_edit *edit = (struct index_edit *)base;
    int rc = remove_hidden(edit, editor, err);

    return rc ? rc : atd_edit_remove_dataset(editor, atd_buf_str(&edit->name), err);
}

static void done_remove_dataset(struct atd_publisher_edit *base, const struct atd_error *why)
{
    struct index_edit *edit = (struct index_edit *)base;

    if (!why)
        staging_unhide_all(edit->fs->staging, atd_str_from(edit->subject));
    done_plain(base, why);
}

void index_edit_remove_dataset(struct fs *fs, fuse_req_t req, const char *name)
{
    struct index_edit *edit = make(fs, req, run_remove_dataset, done_remove_dataset);
    struct atd_error why = ATD_ERROR_INIT;
    int rc;

    if (!edit)
        return;
    (void)snprintf(edit->what, sizeof(edit->what), "rmdir datasets/%.255s", name);
    (void)snprintf(edit->subject, sizeof(edit->subject), "%s", name);
    rc = take_hidden(edit, &why);
    if (rc == 0)
        rc = target_dataset_name(fs, atd_str_from(name), &edit->name, &why);
    submit(edit, rc, &why);
}

/* ------------------------------------------------------------------ shards */

static int run_mtime(struct atd_publisher_edit *base, struct atd_editor *editor,
                     struct atd_error *err)
{
    struct index_edit *edit = (struct index_edit *)base;

    return atd_edit_set_mtime(editor, atd_buf_str(&edit->name), atd_buf_str(&edit->other),
                              edit->mtime_ns, err);
}

static void done_mtime(struct atd_publisher_edit *base, const struct atd_error *why)
{
    struct index_edit *edit = (struct index_edit *)base;
    struct node *node = nodes_find(edit->fs->nodes, edit->number);
    struct stat st;

    if (why || !node) {
        struct atd_error gone = ATD_ERROR_INIT;

        (void)atd_error_set(&gone, ENOENT, "it is not in the index any more");
        refuse(edit, why ? why : &gone);
    } else {
        if (!layout_stat(edit->fs, node, &st))
            st = edit->shown; /* a staged one that has given way to its shard */
        st.st_mtim.tv_sec = (time_t)(edit->mtime_ns / 1000000000);
        st.st_mtim.tv_nsec = (long)(edit->mtime_ns % 1000000000);
        if (st.st_mtim.tv_nsec < 0) { /* before 1970 */
            st.st_mtim.tv_sec--;
            st.st_mtim.tv_nsec += 1000000000;
        }
        if (node->kind == NODE_SHARD)
            node_set_mtime(node, st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
        (void)fuse_reply_attr(edit->req, &st, 0);
    }
    free_edit(edit);
}

/* The URL of a shard's node, appended; false when it is not known without asking. */
static bool url_of(struct fs *fs, const struct node *node, struct atd_buf *out)
{
    const struct atd_shard *shard;
    struct view view;
    bool found;

    if (view_open(fs, node->parent, node_subject(node), VIEW_KNOWN_SHARDS, ATD_EFFORT_DISK, &view,
                  NULL) != 0)
        return false;
    shard = atd_shard_list_find(view.shards, node_leaf(node));
    found = shard != NULL;
    if (found)
        atd_buf_append_str(out, shard->url);
    view_close(&view);
    return found;
}

void index_edit_mtime(struct fs *fs, fuse_req_t req, const struct node *node,
                      struct atd_str subject, struct atd_str url, int64_t mtime_ns)
{
    struct index_edit *edit = make(fs, req, run_mtime, done_mtime);
    struct atd_error why = ATD_ERROR_INIT;
    char path[TARGET_PATH_MAX];
    int rc;

    if (!edit)
        return;
    layout_path(fs, node, path, sizeof(path));
    (void)snprintf(edit->what, sizeof(edit->what), "set the time of %s", path);
    edit->number = node->number;
    edit->mtime_ns = mtime_ns;
    rc = target_dataset_name(fs, subject, &edit->name, &why);
    if (rc == 0 && !layout_stat(fs, node, &edit->shown))
        rc = atd_error_set(&why, ESTALE, "it is gone");
    atd_buf_append_str(&edit->other, url);
    if (rc == 0 && !url.len && !url_of(fs, node, &edit->other))
        rc = atd_error_set(&why, ENOENT, "it is not in the index any more");
    submit(edit, rc, &why);
}

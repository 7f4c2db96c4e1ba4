/*
 * What a node looks like: attributes and path.
 */
#include <stdio.h>

#include "base/check.h"
#include "layout.h"

/* Sub-directories count as links to their parent. */
static uint32_t links_of(struct fs *fs, const struct node *node)
{
    struct atd_catalog *catalog;
    size_t children = 0;

    if (node->kind == NODE_ROOT)
        return 2 + LAYOUT_ROOT_NAMES;
    if (node->kind != NODE_DATASETS && node->kind != NODE_BY_CID)
        return node->link_count;
    catalog = atd_live_get(fs->live);
    children = node->kind == NODE_DATASETS ? atd_catalog_dataset_count(catalog)
                                           : atd_catalog_entry_count(catalog);
    atd_catalog_unref(catalog);
    if (node->kind == NODE_DATASETS)
        children += staging_dataset_count(fs->staging);
    return (uint32_t)(2 + children);
}

/* Directories are one node whatever they show: theirs is the time of what they show now. */
static int64_t mtime_of(struct fs *fs, const struct node *node)
{
    const struct atd_dataset *dataset;
    struct atd_catalog *catalog;
    int64_t mtime_s = node->mtime_s;

    if (node->kind == NODE_DATASET) {
        catalog = atd_live_get(fs->live);
        dataset = atd_catalog_find_dataset(catalog, node_subject(node));
        if (dataset)
            mtime_s = atd_catalog_entry_at(catalog, dataset->entry)->created_at_s;
        atd_catalog_unref(catalog);
    } else if (node->kind <= NODE_BY_CID) {
        catalog = atd_live_get(fs->live);
        mtime_s = atd_catalog_loaded_at_s(catalog);
        atd_catalog_unref(catalog);
    }
    return mtime_s ? mtime_s : fs->started_at_s;
}

/* What somebody may make, change or remove names in. */
static bool is_writable_directory(enum node_kind kind)
{
    return kind == NODE_DATASETS || kind == NODE_DATASET || kind == NODE_SCHEMAS ||
           kind == NODE_LABELS || kind == NODE_STAGED_DIR;
}

/* Tools must not believe that they can write what they cannot (TOOLS 3: ACCESS). */
static mode_t mode_of(const struct fs *fs, const struct node *node)
{
    bool is_record = node->kind == NODE_SCHEMA_JSON || node->kind == NODE_METADATA;
    bool is_writable = !fs->publisher || is_writable_directory(node->kind);
    mode_t umask = fs->options->umask;

    if (node_kind_is_directory(node->kind))
        return S_IFDIR | ((is_writable ? 0777 : 0555) & ~umask);
    if (node->kind == NODE_LABEL)
        return S_IFLNK | 0777;
    if (is_record && node->parent == NODE_DATASET && fs->publisher)
        return S_IFREG | (0666 & ~umask);
    return S_IFREG | (0444 & ~umask);
}

/* ------------------------------------------------------------------ what is staged */

/* st_ino stays when the file becomes what its name says. */
static uint64_t staged_st_ino(const struct staged_place *place)
{
    struct item item = {.kind = NODE_STAGED,
                        .parent = place->directory,
                        .subject = place->subject,
                        .leaf = place->leaf};

    if (place->directory == NODE_SCHEMAS && atd_str_ends_with(place->leaf, ATD_STR(".json"))) {
        item.kind = NODE_SCHEMAS_JSON;
        item.parent = NODE_ROOT;
        item.subject = atd_str_head(place->leaf, place->leaf.len - 5);
    } else if (place->directory == NODE_DATASET) {
        if (atd_str_equal(place->leaf, ATD_STR("schema.json")))
            item.kind = NODE_SCHEMA_JSON;
        else if (atd_str_equal(place->leaf, ATD_STR("metadata.json")))
            item.kind = NODE_METADATA;
    }
    return node_item_st_ino(&item);
}

static void stat_staged(struct fs *fs, struct staged *staged, struct stat *st)
{
    struct atd_publication_status status;
    struct staged_look look;
    struct staged_place place;
    mode_t mode = staged->kind == STAGED_NOTE ? 0444 : 0666;

    staging_look(fs->staging, staged, &look);
    place = staged_where_place(&look.where);
    st->st_ino = staged_st_ino(&place);
    st->st_nlink = look.is_named;
    st->st_mode =
        S_IFREG | (look.mode == STAGED_MODE_DEFAULT ? mode & ~fs->options->umask : look.mode);
    st->st_mtim.tv_sec = (time_t)staged->made_s;
    if (staged->publication) {
        atd_publication_status(staged->publication, &status);
        st->st_size = (off_t)status.size_bytes;
        st->st_blocks = status.blocks;
        st->st_mtim.tv_sec = (time_t)(status.mtime_ns / 1000000000);
        st->st_mtim.tv_nsec = (long)(status.mtime_ns % 1000000000);
        if (st->st_mtim.tv_nsec < 0) { /* before 1970 */
            st->st_mtim.tv_sec--;
            st->st_mtim.tv_nsec += 1000000000;
        }
    } else if (staged->text) {
        st->st_size = (off_t)strlen(staged->text);
        st->st_blocks = (st->st_size + 511) / 512;
    }
}

/* ------------------------------------------------------------------ all of them */

bool layout_stat(struct fs *fs, const struct node *node, struct stat *ret_st)
{
    const struct options *options = fs->options;
    struct staged *staged = NULL;
    struct stat st = {0};

    if (node->kind == NODE_STAGED) {
        staged = staging_find_id(fs->staging, node->staged_id);
        if (!staged)
            return false;
    }
    st.st_uid = options->uid;
    st.st_gid = options->gid;
    st.st_blksize = 1 << 20;
    if (staged) {
        stat_staged(fs, staged, &st);
        staged_unref(fs->staging, staged);
    } else {
        st.st_ino = node->st_ino;
        st.st_nlink = links_of(fs, node);
        st.st_size = (off_t)node->size_bytes;
        /* True sizes in blocks: GNU tar -S takes a file of 0 blocks for a hole (TOOLS 3). */
        st.st_blocks = (st.st_size + 511) / 512;
        st.st_mtim.tv_sec = (time_t)mtime_of(fs, node);
        st.st_mtim.tv_nsec = (long)node->mtime_ns;
        st.st_mode = mode_of(fs, node);
    }
    st.st_atim = st.st_mtim;
    st.st_ctim = st.st_mtim;
    *ret_st = st;
    return true;
}

/* ------------------------------------------------------------------ where it is */

void node_directory(const struct node *node, enum node_kind *ret_kind, struct atd_str *ret_subject)
{
    *ret_subject = (struct atd_str){"", 0};
    switch (node->kind) {
    case NODE_SCHEMAS_JSON:
    case NODE_SCHEMAS_PY:
    case NODE_SCHEMAS_JSONSCHEMA:
        *ret_kind = NODE_SCHEMAS;
        break;
    case NODE_LABEL:
        *ret_kind = NODE_LABELS;
        break;
    case NODE_CONTROL_FILE:
        *ret_kind = NODE_CONTROL;
        break;
    case NODE_STAGED_DIR:
        *ret_kind = NODE_DATASET;
        *ret_subject = node_subject(node);
        ret_subject->len = (size_t)atd_str_find(*ret_subject, '/');
        break;
    default:
        *ret_kind = node->parent;
        *ret_subject = node_subject(node);
        break;
    }
}

static void spell_path(enum node_kind directory, struct atd_str subject, struct atd_str leaf,
                       char *path, size_t size)
{
    static const char *const tops[] = {
        [NODE_ROOT] = "",
        [NODE_DATASETS] = "datasets",
        [NODE_SCHEMAS] = "schemas",
        [NODE_LABELS] = "labels",
        [NODE_BY_CID] = "by-cid",
        [NODE_CONTROL] = ".atdatafs",
        [NODE_DATASET] = "datasets",
        [NODE_CID] = "by-cid",
        [NODE_STAGED_DIR] = "datasets",
    };

    if (samples_is_directory(directory)) {
        samples_path(subject, leaf, path, size);
        return;
    }
    if (directory != NODE_DATASET && directory != NODE_CID && directory != NODE_STAGED_DIR)
        subject = (struct atd_str){"", 0};
    (void)snprintf(path, size, "%s%s%.*s%s%.*s", tops[directory], subject.len ? "/" : "",
                   (int)subject.len, subject.ptr, leaf.len ? "/" : "", (int)leaf.len, leaf.ptr);
}

void layout_path(struct fs *fs, const struct node *node, char *path, size_t size)
{
    enum node_kind directory = node->kind;
    struct atd_str subject = node_subject(node);
    struct atd_str leaf = node_leaf(node);
    struct staged *staged =
        node->kind == NODE_STAGED ? staging_find_id(fs->staging, node->staged_id) : NULL;

    if (staged) {
        struct staged_look look;

        /* The leaf of one in a scratch directory begins with that directory's name. */
        staging_look(fs->staging, staged, &look);
        staged_unref(fs->staging, staged);
        spell_path(look.where.directory, atd_str_from(look.where.subject),
                   atd_str_from(look.where.leaf), path, size);
        return;
    }
    if (node_kind_is_directory(node->kind))
        leaf = (struct atd_str){"", 0};
    else
        node_directory(node, &directory, &subject);
    spell_path(directory, subject, leaf, path, size);
}

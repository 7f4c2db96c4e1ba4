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

void layout_stat(struct fs *fs, const struct node *node, struct stat *ret_st)
{
    const struct options *options = fs->options;
    struct stat st = {0};

    st.st_ino = node->st_ino;
    st.st_uid = options->uid;
    st.st_gid = options->gid;
    st.st_nlink = links_of(fs, node);
    st.st_size = (off_t)node->size_bytes;
    /* True sizes in blocks: GNU tar -S takes a file of 0 blocks for a hole (TOOLS 3). */
    st.st_blocks = (st.st_size + 511) / 512;
    st.st_blksize = 1 << 20;
    st.st_mtim.tv_sec = (time_t)mtime_of(fs, node);
    st.st_mtim.tv_nsec = (long)node->mtime_ns;
    st.st_atim = st.st_mtim;
    st.st_ctim = st.st_mtim;
    if (node_kind_is_directory(node->kind))
        st.st_mode = S_IFDIR | (0777 & ~options->umask);
    else if (node->kind == NODE_LABEL)
        st.st_mode = S_IFLNK | 0777;
    else
        st.st_mode = S_IFREG | (0444 & ~options->umask);
    *ret_st = st;
}

void layout_path(const struct node *node, char *path, size_t size)
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
    };
    enum node_kind kind = node->kind;
    struct atd_str subject = node_subject(node);
    struct atd_str leaf = node_leaf(node);

    if (!node_kind_is_directory(kind))
        node_directory(node, &kind, &subject);
    if (node->kind == NODE_DATASET || node->kind == NODE_CID)
        leaf = (struct atd_str){"", 0};
    if (kind != NODE_DATASET && kind != NODE_CID)
        subject = (struct atd_str){"", 0};
    if (kind <= NODE_CONTROL && node_kind_is_directory(node->kind))
        leaf = (struct atd_str){"", 0};
    (void)snprintf(path, size, "%s%s" ATD_STR_FMT "%s" ATD_STR_FMT, tops[kind],
                   subject.len ? "/" : "", ATD_STR_ARG(subject), leaf.len ? "/" : "",
                   ATD_STR_ARG(leaf));
}

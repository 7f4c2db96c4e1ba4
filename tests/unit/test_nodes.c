#include <criterion/criterion.h>
#include <stdio.h>

#include "nodes.h"

static struct item shard(const char *dataset, const char *leaf, uint8_t version)
{
    struct item item = {
        .kind = NODE_SHARD,
        .parent = NODE_DATASET,
        .subject = atd_str_from(dataset),
        .leaf = atd_str_from(leaf),
        .size_bytes = 7,
    };

    item.version[3] = version;
    return item;
}

Test(nodes, one_number_a_state_and_one_st_ino_a_file)
{
    struct nodes *nodes = nodes_new();
    struct item first = shard("d", "x.tar", 1);
    struct item second = shard("d", "x.tar", 2);
    struct item other = shard("d", "y.tar", 1);
    const struct node *a = nodes_remember(nodes, &first);
    const struct node *again = nodes_remember(nodes, &first);
    const struct node *b = nodes_remember(nodes, &second);
    const struct node *c = nodes_remember(nodes, &other);

    cr_assert_eq(a, again);
    cr_assert_neq(a->number, b->number);
    cr_assert_eq(a->st_ino, b->st_ino);
    cr_assert_neq(a->st_ino, c->st_ino);
    cr_assert_eq(nodes_find(nodes, a->number), a);
    cr_assert(atd_str_equal(node_subject(a), ATD_STR("d")));
    cr_assert(atd_str_equal(node_leaf(a), ATD_STR("x.tar")));
    {
        struct item in_by_cid = first;

        in_by_cid.parent = NODE_CID;
        cr_assert_neq(nodes_remember(nodes, &in_by_cid)->number, a->number);
    }
    /* Subject and leaf must not run into each other. */
    {
        struct item left = shard("ab", "c", 0);
        struct item right = shard("a", "bc", 0);

        cr_assert_neq(nodes_remember(nodes, &left)->st_ino, nodes_remember(nodes, &right)->st_ino);
    }
    nodes_free(nodes);
}

Test(nodes, live_until_forgotten_as_often_as_they_were_told)
{
    struct nodes *nodes = nodes_new();
    struct item item = shard("d", "x.tar", 1);
    fuse_ino_t number = nodes_remember(nodes, &item)->number;
    fuse_ino_t later;

    (void)nodes_remember(nodes, &item);
    (void)nodes_remember(nodes, &item);
    cr_assert_eq(nodes_count(nodes), 2);
    nodes_forget(nodes, number, 2);
    cr_assert_not_null(nodes_find(nodes, number));
    nodes_forget(nodes, number, 1);
    cr_assert_null(nodes_find(nodes, number));
    cr_assert_eq(nodes_count(nodes), 1);
    later = nodes_remember(nodes, &item)->number;
    cr_assert_neq(later, number, "numbers are never reused");
    nodes_forget(nodes, 99999, 1);
    nodes_forget(nodes, FUSE_ROOT_ID, 1);
    cr_assert_not_null(nodes_find(nodes, FUSE_ROOT_ID));
    nodes_free(nodes);
}

Test(nodes, remember_which_directories_were_looked_into)
{
    struct nodes *nodes = nodes_new();
    const struct item item = {
        .kind = NODE_DATASET, .subject = ATD_STR("d"), .leaf = ATD_STR("d"), .link_count = 2};
    struct node *node = nodes_remember(nodes, &item);

    cr_assert_eq(nodes_number_of_directory(nodes, NODE_DATASET, ATD_STR("d")), node->number);
    cr_assert_eq(nodes_number_of_looked_into(nodes, NODE_DATASET, ATD_STR("d")), 0);
    node_set_looked_into(node);
    cr_assert_eq(nodes_number_of_looked_into(nodes, NODE_DATASET, ATD_STR("d")), node->number);
    cr_assert_eq(nodes_number_of_looked_into(nodes, NODE_CID, ATD_STR("d")), 0);
    nodes_forget(nodes, node->number, 1);
    cr_assert_eq(nodes_number_of_looked_into(nodes, NODE_DATASET, ATD_STR("d")), 0);
    nodes_free(nodes);
}

Test(nodes, tables_grow)
{
    struct nodes *nodes = nodes_new();
    char name[32];
    fuse_ino_t first = 0;

    for (int i = 0; i < 20000; i++) {
        struct item item;

        (void)snprintf(name, sizeof(name), "s-%d.tar", i);
        item = shard("d", name, 0);
        if (i == 0)
            first = nodes_remember(nodes, &item)->number;
        else
            (void)nodes_remember(nodes, &item);
    }
    cr_assert_eq(nodes_count(nodes), 20001);
    for (int i = 0; i < 20000; i++) {
        const struct node *node = nodes_find(nodes, first + (fuse_ino_t)i);

        (void)snprintf(name, sizeof(name), "s-%d.tar", i);
        cr_assert(node && atd_str_equal(node_leaf(node), atd_str_from(name)));
    }
    nodes_free(nodes);
}

static int32_t next_backing;

static int32_t give_backing(void *ctx)
{
    (void)ctx;
    return next_backing;
}

Test(nodes, all_handles_of_a_node_are_served_in_one_way)
{
    struct nodes *nodes = nodes_new();
    struct item item = shard("d", "x.tar", 1);
    struct node *node = nodes_remember(nodes, &item);
    enum node_mode mode;
    int32_t id;

    next_backing = 0; /* the kernel refuses: cached, and cached it stays while one is open */
    nodes_open(nodes, node, give_backing, NULL, &mode, &id);
    cr_assert_eq(mode, NODE_MODE_CACHED);
    next_backing = 5;
    nodes_open(nodes, node, give_backing, NULL, &mode, &id);
    cr_assert_eq(mode, NODE_MODE_CACHED);
    cr_assert_eq(nodes_close(nodes, node), 0);
    cr_assert_eq(nodes_close(nodes, node), 0);

    nodes_open(nodes, node, give_backing, NULL, &mode, &id);
    cr_assert_eq(mode, NODE_MODE_PASSTHROUGH);
    cr_assert_eq(id, 5);
    next_backing = 6; /* a second backing id for one inode would be EIO (FUSE 6) */
    nodes_open(nodes, node, give_backing, NULL, &mode, &id);
    cr_assert_eq(id, 5);
    cr_assert_eq(nodes_close(nodes, node), 0);
    /* Forgotten while open: it lives until the last close. */
    nodes_forget(nodes, node->number, 1);
    cr_assert_eq(nodes_count(nodes), 2);
    cr_assert_eq(nodes_close(nodes, node), 5, "the last close gives the id back");
    cr_assert_eq(nodes_count(nodes), 1);
    nodes_free(nodes);
}

Test(nodes, directories_are_found_by_kind_and_subject)
{
    struct nodes *nodes = nodes_new();
    struct item datasets = {.kind = NODE_DATASETS, .leaf = ATD_STR("datasets")};
    struct item dataset = {
        .kind = NODE_DATASET, .subject = ATD_STR("mnist"), .leaf = ATD_STR("mnist")};
    const struct node *top = nodes_remember(nodes, &datasets);
    const struct node *node = nodes_remember(nodes, &dataset);

    cr_assert_eq(nodes_number_of_directory(nodes, NODE_DATASET, ATD_STR("mnist")), node->number);
    cr_assert_eq(nodes_number_of_directory(nodes, NODE_DATASETS, ATD_STR("")), top->number);
    cr_assert_eq(nodes_number_of_directory(nodes, NODE_CID, ATD_STR("mnist")), 0);
    nodes_free(nodes);
}

/*
 * Lookups, forgets, opens and closes of the same few files from several threads: afterwards every
 * node but the root is gone and every backing id that was given was given back.
 */
#include <stdatomic.h>

#include "nodes.h"
#include "race.h"

#define ROUNDS 20000
#define FILES 7

static atomic_int given;
static atomic_int returned;
static atomic_int next_id = 1;

static int32_t give(void *ctx)
{
    (void)ctx;
    (void)atomic_fetch_add(&given, 1);
    return atomic_fetch_add(&next_id, 1);
}

static void *body(void *ctx)
{
    struct nodes *nodes = ctx;

    for (int i = 0; i < ROUNDS; i++) {
        struct item item = {.kind = NODE_SHARD,
                            .parent = NODE_DATASET,
                            .subject = ATD_STR("d"),
                            .leaf = ATD_STR("x")};
        struct node *node;
        enum node_mode mode;
        fuse_ino_t number;
        int32_t id;

        item.version[0] = (uint8_t)(i % FILES);
        node = nodes_remember(nodes, &item);
        MUST(node);
        number = node->number;
        MUST(nodes_find(nodes, number) == node);
        nodes_open(nodes, node, give, NULL, &mode, &id);
        MUST(mode == NODE_MODE_PASSTHROUGH && id > 0);
        if (i % 2)
            nodes_forget(nodes, number, 1);
        if (nodes_close(nodes, node) > 0)
            (void)atomic_fetch_add(&returned, 1);
        if (i % 2 == 0)
            nodes_forget(nodes, number, 1);
        (void)nodes_number_of_directory(nodes, NODE_DATASETS, ATD_STR(""));
    }
    return NULL;
}

int main(void)
{
    struct nodes *nodes = nodes_new();

    MUST(nodes);
    race(body, nodes);
    MUST(nodes_count(nodes) == 1);
    MUST(atomic_load(&given) == atomic_load(&returned));
    nodes_free(nodes);
    return 0;
}

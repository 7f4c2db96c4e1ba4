#include "nodes.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/digest.h"
#include "base/lock.h"

#define FIRST_BUCKETS 1024u

struct nodes {
    struct atd_lock lock;

    /* guarded by lock */
    struct node **by_number;
    struct node **by_key;
    size_t bucket_count; /* a power of two, of both tables */
    size_t count;
    fuse_ino_t next_number;
};

bool node_kind_is_directory(enum node_kind kind)
{
    return kind <= NODE_CID || (kind >= NODE_STAGED_DIR && kind <= NODE_SAMPLE);
}

struct atd_str node_subject(const struct node *node)
{
    return (struct atd_str){node->text, node->subject_len};
}

struct atd_str node_leaf(const struct node *node)
{
    return (struct atd_str){node->text + node->subject_len, node->leaf_len};
}

/* The digest of where an item is. */
static void digest_path(const struct item *item, uint8_t ret_digest[ATD_SHA256_BYTES])
{
    uint8_t path[2 + 8 + 2 * NODE_TEXT_BYTES_MAX];
    uint64_t subject_len = item->subject.len;
    /* A directory is known by kind and subject alone (nodes_number_of_directory). */
    struct atd_str leaf = node_kind_is_directory(item->kind) ? (struct atd_str){"", 0} : item->leaf;
    size_t len = 0;

    atd_assert(item->subject.len <= NODE_TEXT_BYTES_MAX && item->leaf.len <= NODE_TEXT_BYTES_MAX);
    path[len++] = (uint8_t)(item->kind == NODE_STAGED ? NODE_SHARD : item->kind);
    path[len++] = (uint8_t)(node_kind_is_directory(item->kind) ? 0 : item->parent);
    memcpy(path + len, &subject_len, sizeof(subject_len));
    len += sizeof(subject_len);
    if (item->subject.len)
        memcpy(path + len, item->subject.ptr, item->subject.len);
    len += item->subject.len;
    if (leaf.len)
        memcpy(path + len, leaf.ptr, leaf.len);
    len += leaf.len;
    atd_sha256_of(path, len, ret_digest);
}

static uint64_t st_ino_of(const uint8_t digest[ATD_SHA256_BYTES])
{
    uint64_t st_ino;

    memcpy(&st_ino, digest, sizeof(st_ino));
    return st_ino <= FUSE_ROOT_ID ? st_ino + 2 : st_ino;
}

uint64_t node_item_st_ino(const struct item *item)
{
    uint8_t digest[ATD_SHA256_BYTES];

    digest_path(item, digest);
    return st_ino_of(digest);
}

/* From the digests of (where it is) and of (where it is, which bytes). */
static void identify(const struct item *item, uint64_t *ret_st_ino, uint8_t ret_key[NODE_KEY_BYTES])
{
    uint8_t digest[ATD_SHA256_BYTES];
    uint8_t staged[1 + sizeof(item->staged_id)] = {NODE_STAGED};

    digest_path(item, digest);
    *ret_st_ino = st_ino_of(digest);
    if (item->kind == NODE_STAGED) {
        /* Wherever it is. */
        memcpy(staged + 1, &item->staged_id, sizeof(item->staged_id));
        atd_sha256_of(staged, sizeof(staged), digest);
    }
    for (size_t i = 0; i < NODE_VERSION_BYTES; i++)
        digest[8 + i] = (uint8_t)(digest[8 + i] ^ item->version[i]);
    memcpy(ret_key, digest + 8, NODE_KEY_BYTES);
}

static size_t bucket_of_number(const struct nodes *nodes, fuse_ino_t number)
{
    return (size_t)(number * 0x9e3779b97f4a7c15u >> 20) & (nodes->bucket_count - 1);
}

/* Keys are digests: any bits do. */
static size_t bucket_of_key(const struct nodes *nodes, const uint8_t key[NODE_KEY_BYTES])
{
    uint64_t bits;

    memcpy(&bits, key, sizeof(bits));
    return (size_t)bits & (nodes->bucket_count - 1);
}

static void insert_locked(struct nodes *nodes, struct node *node)
{
    size_t number_bucket = bucket_of_number(nodes, node->number);
    size_t key_bucket = bucket_of_key(nodes, node->key);

    node->next_by_number = nodes->by_number[number_bucket];
    nodes->by_number[number_bucket] = node;
    node->next_by_key = nodes->by_key[key_bucket];
    nodes->by_key[key_bucket] = node;
}

static void remove_locked(struct nodes *nodes, struct node *node)
{
    struct node **at = &nodes->by_number[bucket_of_number(nodes, node->number)];

    while (*at != node)
        at = &(*at)->next_by_number;
    *at = node->next_by_number;
    at = &nodes->by_key[bucket_of_key(nodes, node->key)];
    while (*at != node)
        at = &(*at)->next_by_key;
    *at = node->next_by_key;
    nodes->count--;
}

static struct node *find_number_locked(struct nodes *nodes, fuse_ino_t number)
{
    struct node *node = nodes->by_number[bucket_of_number(nodes, number)];

    while (node && node->number != number)
        node = node->next_by_number;
    return node;
}

static struct node *find_key_locked(struct nodes *nodes, const uint8_t key[NODE_KEY_BYTES])
{
    struct node *node = nodes->by_key[bucket_of_key(nodes, key)];

    while (node && memcmp(node->key, key, NODE_KEY_BYTES) != 0)
        node = node->next_by_key;
    return node;
}

/* Doubles the tables; stays as it is when out of memory (chains grow, nothing fails). */
static void grow_locked(struct nodes *nodes)
{
    size_t wanted = nodes->bucket_count * 2;
    struct node **by_number = calloc(wanted, sizeof(*by_number));
    struct node **by_key = calloc(wanted, sizeof(*by_key));
    struct node **old_by_number = nodes->by_number;
    size_t old_count = nodes->bucket_count;

    if (!by_number || !by_key) {
        free(by_number);
        free(by_key);
        return;
    }
    free(nodes->by_key);
    nodes->by_number = by_number;
    nodes->by_key = by_key;
    nodes->bucket_count = wanted;
    for (size_t i = 0; i < old_count; i++) {
        struct node *node = old_by_number[i];

        while (node) {
            struct node *next = node->next_by_number;

            insert_locked(nodes, node);
            node = next;
        }
    }
    free(old_by_number);
}

void node_set_mtime(struct node *node, int64_t mtime_s, int64_t mtime_ns)
{
    atomic_store(&node->mtime_s, mtime_s);
    atomic_store(&node->mtime_ns, mtime_ns);
}

void node_set_looked_into(struct node *node)
{
    atomic_store(&node->is_looked_into, true);
}

void node_note_listed(struct node *node, uint64_t state)
{
    uint64_t oldest = atomic_load(&node->listed);

    while (state < oldest && !atomic_compare_exchange_weak(&node->listed, &oldest, state))
        ;
}

uint64_t node_end_listing(struct node *node)
{
    return atomic_exchange(&node->listed, UINT64_MAX);
}

static struct node *make_node(const struct item *item, uint64_t st_ino,
                              const uint8_t key[NODE_KEY_BYTES])
{
    struct node *node = calloc(1, sizeof(*node) + item->subject.len + item->leaf.len);

    if (!node)
        return NULL;
    node->st_ino = st_ino;
    atomic_init(&node->listed, UINT64_MAX);
    node->kind = item->kind;
    node->parent = item->parent;
    memcpy(node->key, key, sizeof(node->key));
    memcpy(node->version, item->version, sizeof(node->version));
    node->size_bytes = item->size_bytes;
    node_set_mtime(node, item->mtime_s, item->mtime_ns);
    node->link_count = item->link_count;
    node->is_remote = item->is_remote;
    node->is_local_copy = item->is_local_copy;
    node->staged_id = item->staged_id;
    node->subject_len = (uint32_t)item->subject.len;
    node->leaf_len = (uint32_t)item->leaf.len;
    if (item->subject.len)
        memcpy(node->text, item->subject.ptr, item->subject.len);
    if (item->leaf.len)
        memcpy(node->text + item->subject.len, item->leaf.ptr, item->leaf.len);
    return node;
}

struct nodes *nodes_new(void)
{
    const struct item root = {.kind = NODE_ROOT};
    struct nodes *nodes = calloc(1, sizeof(*nodes));
    struct node *node;

    if (!nodes)
        return NULL;
    atd_lock_init(&nodes->lock, ATD_RANK_NODES);
    nodes->bucket_count = FIRST_BUCKETS;
    nodes->by_number = calloc(FIRST_BUCKETS, sizeof(struct node *));
    nodes->by_key = calloc(FIRST_BUCKETS, sizeof(struct node *));
    nodes->next_number = FUSE_ROOT_ID;
    node = nodes->by_number && nodes->by_key ? nodes_remember(nodes, &root) : NULL;
    if (!node) {
        nodes_free(nodes);
        return NULL;
    }
    atd_assert(node->number == FUSE_ROOT_ID);
    return nodes;
}

void nodes_free(struct nodes *nodes)
{
    if (!nodes)
        return;
    for (size_t i = 0; nodes->by_number && i < nodes->bucket_count; i++) {
        while (nodes->by_number[i]) {
            struct node *node = nodes->by_number[i];

            nodes->by_number[i] = node->next_by_number;
            free(node);
        }
    }
    free(nodes->by_number);
    free(nodes->by_key);
    atd_lock_destroy(&nodes->lock);
    free(nodes);
}

struct node *nodes_remember(struct nodes *nodes, const struct item *item)
{
    uint8_t key[NODE_KEY_BYTES];
    struct node *fresh;
    struct node *node;
    uint64_t st_ino;

    identify(item, &st_ino, key);
    atd_lock_take(&nodes->lock);
    node = find_key_locked(nodes, key);
    if (node)
        node->lookups++;
    if (node && node->kind == NODE_SHARD)
        node_set_mtime(node, item->mtime_s, item->mtime_ns);
    atd_lock_give(&nodes->lock);
    if (node)
        return node;
    fresh = make_node(item, st_ino, key);
    if (!fresh)
        return NULL;
    atd_lock_take(&nodes->lock);
    node = find_key_locked(nodes, key);
    if (!node) {
        node = fresh;
        fresh = NULL;
        node->number = nodes->next_number++;
        if (nodes->count++ >= nodes->bucket_count)
            grow_locked(nodes);
        insert_locked(nodes, node);
    }
    node->lookups++;
    atd_lock_give(&nodes->lock);
    free(fresh);
    return node;
}

/* Frees the node when nobody knows it any more; the root stays. */
static struct node *drop_if_unused_locked(struct nodes *nodes, struct node *node)
{
    if (node->lookups > 0 || node->opens > 0 || node->number == FUSE_ROOT_ID)
        return NULL;
    remove_locked(nodes, node);
    return node;
}

void nodes_forget(struct nodes *nodes, fuse_ino_t number, uint64_t count)
{
    struct node *dropped = NULL;
    struct node *node;

    atd_lock_take(&nodes->lock);
    node = find_number_locked(nodes, number);
    if (node) {
        atd_paranoid(node->lookups >= count);
        node->lookups -= count < node->lookups ? count : node->lookups;
        dropped = drop_if_unused_locked(nodes, node);
    }
    atd_lock_give(&nodes->lock);
    free(dropped);
}

struct node *nodes_find(struct nodes *nodes, fuse_ino_t number)
{
    struct node *node;

    atd_lock_take(&nodes->lock);
    node = find_number_locked(nodes, number);
    atd_lock_give(&nodes->lock);
    return node;
}

static fuse_ino_t number_of_directory(struct nodes *nodes, enum node_kind kind,
                                      struct atd_str subject, bool looked_into)
{
    const struct item item = {.kind = kind, .subject = subject};
    uint8_t key[NODE_KEY_BYTES];
    fuse_ino_t number;
    struct node *node;
    uint64_t st_ino;

    identify(&item, &st_ino, key);
    atd_lock_take(&nodes->lock);
    node = find_key_locked(nodes, key);
    number = node && (!looked_into || atomic_load(&node->is_looked_into)) ? node->number : 0;
    atd_lock_give(&nodes->lock);
    return number;
}

fuse_ino_t nodes_number_of_directory(struct nodes *nodes, enum node_kind kind,
                                     struct atd_str subject)
{
    return number_of_directory(nodes, kind, subject, false);
}

fuse_ino_t nodes_number_of_looked_into(struct nodes *nodes, enum node_kind kind,
                                       struct atd_str subject)
{
    return number_of_directory(nodes, kind, subject, true);
}

size_t nodes_count(struct nodes *nodes)
{
    size_t count;

    atd_lock_take(&nodes->lock);
    count = nodes->count;
    atd_lock_give(&nodes->lock);
    return count;
}

void nodes_open(struct nodes *nodes, struct node *node, int32_t (*open_backing)(void *ctx),
                void *ctx, enum node_mode *ret_mode, int32_t *ret_backing_id)
{
    atd_lock_take(&nodes->lock);
    atd_paranoid((node->opens == 0) == (node->mode == NODE_MODE_NONE));
    if (node->opens++ == 0) {
        /* A mapping may outlive its file: once cached, passthrough would be EIO (FUSE 6). */
        node->backing_id = node->was_cached ? 0 : open_backing(ctx);
        node->mode = node->backing_id > 0 ? NODE_MODE_PASSTHROUGH : NODE_MODE_CACHED;
        node->was_cached = node->is_remote && node->mode == NODE_MODE_CACHED;
    }
    *ret_mode = node->mode;
    *ret_backing_id = node->backing_id;
    atd_lock_give(&nodes->lock);
}

int32_t nodes_close(struct nodes *nodes, struct node *node)
{
    struct node *dropped = NULL;
    int32_t backing_id = 0;

    atd_lock_take(&nodes->lock);
    atd_assert(node->opens > 0);
    if (--node->opens == 0) {
        if (node->mode == NODE_MODE_PASSTHROUGH)
            backing_id = node->backing_id;
        node->mode = NODE_MODE_NONE;
        node->backing_id = 0;
        dropped = drop_if_unused_locked(nodes, node);
    }
    atd_lock_give(&nodes->lock);
    free(dropped);
    return backing_id;
}

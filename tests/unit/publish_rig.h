/*
 * What the tests of publishing share: a publisher over a store and an index in memory, both of
 * which can be told to fail; tars made by hand; callers that wait.
 */
#ifndef ATD_TESTS_UNIT_PUBLISH_RIG_H
#define ATD_TESTS_UNIT_PUBLISH_RIG_H

#include <criterion/criterion.h>
#include <ftw.h>
#include <stdio.h>

#include "atdata/entry.h"
#include "catalog/shards.h"
#include "publish/publication_private.h"
#include "shards.h"
#include "store/stores.h"
#include "store_get.h"

#define MIB ((size_t)1 << 20)
#define DEADLINE_MS 30000
#define PREFIX "s3://bucket/pre"
#define WORKS(call)                                         \
    do {                                                    \
        struct atd_error ok_err = ATD_ERROR_INIT;           \
        struct atd_error *const err = &ok_err;              \
        int ok_rc = (call);                                 \
        cr_assert_eq(ok_rc, 0, "%s: %s", #call, err->text); \
    } while (0)
/* Waits until something becomes true. */
#define COMES(condition)                                                        \
    do {                                                                        \
        int64_t until_ms = atd_clock_monotonic_ms() + DEADLINE_MS;              \
        while (!(condition)) {                                                  \
            cr_assert_lt(atd_clock_monotonic_ms(), until_ms, "%s", #condition); \
            (void)usleep(500);                                                  \
        }                                                                       \
    } while (0)

/* ------------------------------------------------------------------ an index that misbehaves */

enum index_fault { INDEX_NONE, INDEX_LOST_DONE, INDEX_LOST, INDEX_REFUSES };

struct hook_writer {
    struct atd_index_writer base;
    struct atd_index_writer *inner;
    atomic_int fault;    /* enum index_fault */
    atomic_int commits;  /* begun */
    atomic_bool stalls;  /* commits wait while it is set */
    atomic_bool is_deaf; /* reads fail while it is set */
    void (*at_commit)(void *ctx, bool after);
    void *at_commit_ctx;
};

static inline struct hook_writer *hook_of(struct atd_index_writer *writer)
{
    return (struct hook_writer *)(void *)writer;
}

static inline int hook_read(struct atd_index_writer *writer, enum atd_index_kind kind,
                            const union atd_index_record *key, struct atd_arena *arena,
                            union atd_index_record *ret_record, struct atd_error *err)
{
    struct hook_writer *hook = hook_of(writer);

    if (atomic_load(&hook->is_deaf))
        return atd_error_set_retryable(err, ECONNREFUSED, "the index is down");
    return hook->inner->ops->read(hook->inner, kind, key, arena, ret_record, err);
}

static inline int hook_commit(struct atd_index_writer *writer,
                              const struct atd_index_operation *operations, size_t count,
                              size_t *ret_which, struct atd_error *err)
{
    struct hook_writer *hook = hook_of(writer);
    int fault = atomic_load(&hook->fault);
    int rc = 0;

    (void)atomic_fetch_add(&hook->commits, 1);
    while (atomic_load(&hook->stalls))
        (void)usleep(500);
    if (hook->at_commit)
        hook->at_commit(hook->at_commit_ctx, false);
    if (fault == INDEX_REFUSES)
        return atd_error_set(err, EROFS, "the index is read only");
    if (fault != INDEX_LOST)
        rc = hook->inner->ops->commit(hook->inner, operations, count, ret_which, err);
    if (hook->at_commit)
        hook->at_commit(hook->at_commit_ctx, true);
    if (rc == 0 && fault != INDEX_NONE)
        return atd_error_set(err, EREMOTEIO, "the answer was lost");
    return rc;
}

static inline void hook_free(struct atd_index_writer *writer)
{
    (void)writer;
}

static const struct atd_index_writer_ops hook_ops = {
    .provider = "hook", .read = hook_read, .commit = hook_commit, .free = hook_free};

/* ------------------------------------------------------------------ the rig */

#define RULES_MAX 8
#define RIG_SCOPE "test"

/* The nth step of its kind (from 1; 0: each) fails so. */
struct rule {
    enum atd_write_step step;
    int nth;
    struct atd_write_fault_rule fault;
};

struct rig {
    char dir[64];
    struct atd_index *index;
    struct atd_file_store *files;
    struct atd_object_table *table;
    struct atd_locator *locator;
    struct atd_live *live;
    struct hook_writer hook;
    struct atd_store *memory;
    struct atd_store *store;
    struct atd_publisher *publisher;
    struct rule rules[RULES_MAX]; /* before anything is written */
    atomic_int steps[ATD_WRITE_GUARDS + 1];
    atomic_bool stalls;   /* parts wait while it is set */
    atomic_int events[2]; /* published, failed */
    const char *prefix;
    unsigned recover_every_ms; /* 0: 50 */
    const char *scope;         /* NULL: RIG_SCOPE */
};

static inline struct atd_write_fault_rule rig_decide(void *ctx, const struct atd_write_event *event)
{
    struct rig *rig = ctx;
    int number = atomic_fetch_add(&rig->steps[event->step], 1) + 1;

    while (event->step == ATD_WRITE_PART && atomic_load(&rig->stalls))
        (void)usleep(500);
    for (int i = 0; i < RULES_MAX; i++) {
        const struct rule *rule = &rig->rules[i];

        if (rule->fault.fault && rule->step == event->step &&
            (rule->nth == 0 || rule->nth == number))
            return rule->fault;
    }
    return (struct atd_write_fault_rule){ATD_WRITE_FAULT_NONE, 0};
}

static inline void rig_event(void *ctx, const char *what, struct atd_str dataset,
                             struct atd_str file_name, struct atd_str url, struct atd_str cid,
                             const struct atd_error *why)
{
    struct rig *rig = ctx;

    (void)dataset;
    (void)file_name;
    (void)url;
    (void)cid;
    (void)why;
    (void)atomic_fetch_add(&rig->events[strcmp(what, "published") != 0], 1);
}

static inline void rig_start(struct rig *rig)
{
    struct atd_publisher_options options = {
        .live = rig->live,
        .writer = &rig->hook.base,
        .store = rig->store,
        .prefix_url = rig->prefix,
        .table = rig->table,
        .scope = rig->scope ? rig->scope : RIG_SCOPE,
        .state_dir = rig->dir,
        .spool_limit_bytes = 1u << 30,
        .scratch_limit_bytes = MIB,
        .memory_bytes = 48 * MIB,
        .timeout_s = 5,
        .edit_patience_ms = 200,
        .recover_every_ms = rig->recover_every_ms ? rig->recover_every_ms : 50,
        .event = rig_event,
        .event_ctx = rig,
    };

    WORKS(atd_publisher_open(&options, &rig->publisher, err));
}

/* `store` NULL: one in memory. */
static inline void rig_open_over(struct rig *rig, struct atd_store *store, const char *prefix,
                                 const char *root)
{
    const char *roots[] = {root};
    struct atd_locator_options places;

    (void)snprintf(rig->dir, sizeof(rig->dir), "/tmp/atd-publish-XXXXXX");
    cr_assert_not_null(mkdtemp(rig->dir));
    rig->prefix = prefix;
    rig->index = atd_index_memory_new();
    WORKS(atd_file_store_new(roots, 1, &rig->files, err));
    rig->memory = store;
    if (!store)
        WORKS(atd_store_memory_new(&rig->memory, err));
    WORKS(atd_store_fault_new(rig->memory, NULL, NULL, &rig->store, err));
    atd_store_fault_writes(rig->store, rig_decide, rig);
    WORKS(atd_object_table_open(NULL, &rig->table, NULL, err));
    places = (struct atd_locator_options){.files = rig->files,
                                          .s3 = store ? NULL : rig->store,
                                          .table = rig->table,
                                          .s3_scope = RIG_SCOPE,
                                          .timeout_ms = 1000};
    WORKS(atd_locator_new(&places, &rig->locator, err));
    WORKS(atd_live_open(&(struct atd_live_options){.index = rig->index, .locator = rig->locator},
                        &rig->live, err));
    WORKS(atd_live_start(rig->live, &(struct atd_live_watcher){NULL, NULL, NULL}, err));
    rig->hook.base.ops = &hook_ops;
    WORKS(atd_index_memory_writer(rig->index, &rig->hook.inner, err));
    rig_start(rig);
}

static inline void rig_open(struct rig *rig)
{
    rig_open_over(rig, NULL, PREFIX, "/nowhere");
}

static inline int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void remove_tree(const char *dir)
{
    (void)nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* What is in the state directory: 0 when all is tidied up. */
static inline unsigned rig_leftovers(const struct rig *rig);

static inline void rig_close(struct rig *rig)
{
    cr_assert(atd_publisher_close(rig->publisher, 10000));
    cr_assert(atd_live_close(rig->live));
    cr_assert(atd_locator_free(rig->locator));
    atd_object_table_close(rig->table);
    atd_index_writer_free(rig->hook.inner);
    atd_index_free(rig->index);
    atd_store_free(rig->store);
    atd_file_store_free(rig->files);
    remove_tree(rig->dir);
}

/* ------------------------------------------------------------------ tars */

/* A plain WebDataset of exactly `size` bytes (a multiple of 512, at least 2 KiB), like no other
 * `seed`'s. */
static inline struct atd_bytes make_tar(size_t size, uint64_t seed)
{
    struct atd_buf tar = ATD_BUF_INIT(SHARD_BYTES_MAX);
    uint64_t state = seed * 2654435761u + 1;
    unsigned number = 0;

    while (tar.len + 2 * BLOCK < size) {
        size_t room = size - tar.len - 3 * BLOCK;
        size_t len = room > MIB + BLOCK ? MIB : room;
        uint8_t *data = malloc(len + 8);
        char name[32];

        for (size_t at = 0; at < len; at += 8) {
            uint64_t word = next_random(&state);

            memcpy(data + at, &word, 8);
        }
        (void)snprintf(name, sizeof(name), "k%06u.bin", number++);
        put_member(&tar, name, '0', (struct atd_bytes){data, len});
        free(data);
    }
    put_end(&tar);
    cr_assert_eq(tar.len, size);
    return atd_buf_bytes(&tar);
}

static inline void drop_tar(struct atd_bytes tar)
{
    free((void *)(uintptr_t)tar.ptr);
}

/* ------------------------------------------------------------------ callers */

struct waiter {
    struct atd_publication_wait wait; /* first */
    atomic_bool done;
    int code;
    char text[ATD_ERROR_TEXT_MAX];
};

static inline void waiter_done(struct atd_publication_wait *wait, const struct atd_error *why)
{
    struct waiter *waiter = (struct waiter *)(void *)wait;

    waiter->code = why ? why->code : 0;
    if (why)
        memcpy(waiter->text, why->text, sizeof(waiter->text));
    atomic_store(&waiter->done, true);
}

static inline struct atd_publication_wait *waiter_start(struct waiter *waiter)
{
    memset(waiter, 0, sizeof(*waiter));
    waiter->wait.done = waiter_done;
    return &waiter->wait;
}

static inline int waiter_code(struct waiter *waiter)
{
    COMES(atomic_load(&waiter->done));
    return waiter->code;
}

static inline struct atd_publication *begin(struct rig *rig, const char *dataset, const char *name)
{
    struct atd_publication *publication;

    WORKS(atd_publication_new(rig->publisher, atd_str_from(dataset), atd_str_from(name),
                              &publication, err));
    return publication;
}

static inline void put_bytes(struct atd_publication *publication, uint64_t offset,
                             struct atd_bytes bytes)
{
    for (size_t at = 0; at < bytes.len;) {
        size_t len = bytes.len - at < 128 * 1024 ? bytes.len - at : 128 * 1024;
        struct atd_error err = ATD_ERROR_INIT;
        struct waiter waiter;
        int rc =
            atd_publication_write(publication, offset + at, (struct atd_bytes){bytes.ptr + at, len},
                                  waiter_start(&waiter), &err);

        if (rc == -EINPROGRESS)
            rc = -waiter_code(&waiter);
        cr_assert_eq(rc, 0, "%s", err.text);
        at += len;
    }
}

static inline int ask_check(struct atd_publication *publication, bool is_hint)
{
    struct waiter waiter;

    atd_publication_check(publication, is_hint, waiter_start(&waiter));
    return waiter_code(&waiter);
}

static inline int ask_publish(struct atd_publication *publication, const char *dataset,
                              const char *name)
{
    struct waiter waiter;

    atd_publication_publish(publication, atd_str_from(dataset), atd_str_from(name), ATD_STR(""),
                            waiter_start(&waiter));
    return waiter_code(&waiter);
}

static inline struct atd_publication_status status_of(struct atd_publication *publication)
{
    struct atd_publication_status status;

    atd_publication_status(publication, &status);
    return status;
}

static inline uint64_t under_way(struct rig *rig)
{
    struct atd_publisher_stats stats;

    atd_publisher_stats(rig->publisher, &stats);
    return stats.under_way;
}

/* Lets it go, and waits until it is gone. */
static inline void finish(struct rig *rig, struct atd_publication *publication)
{
    uint64_t before = under_way(rig);

    atd_publication_unref(publication);
    COMES(under_way(rig) < before);
}

/* Copies a whole tar in, as cp does. */
static inline int copy_in(struct rig *rig, const char *dataset, const char *name,
                          struct atd_bytes tar)
{
    struct atd_publication *publication = begin(rig, dataset, name);
    int code;

    put_bytes(publication, 0, tar);
    code = ask_publish(publication, dataset, name);
    finish(rig, publication);
    return code;
}

/* ------------------------------------------------------------------ what became of it */

struct counted {
    unsigned shards;
    unsigned indexes;
    unsigned lone; /* indexes of no shard */
    char last[512];
};

static inline int count_object(void *ctx, struct atd_str url, const struct atd_object_info *info)
{
    struct counted *counted = ctx;
    struct atd_str suffix = ATD_STR(ATD_MEMBERS_SUFFIX);

    (void)info;
    if (!atd_str_ends_with(url, suffix)) {
        counted->shards++;
        (void)snprintf(counted->last, sizeof(counted->last), ATD_STR_FMT, ATD_STR_ARG(url));
        return 0;
    }
    counted->indexes++;
    counted->lone +=
        !atd_str_equal(atd_str_head(url, url.len - suffix.len), atd_str_from(counted->last));
    return 0;
}

static inline struct counted count_objects(struct rig *rig)
{
    struct counted counted = {0};
    bool more;

    WORKS(atd_store_list(rig->memory, ATD_STR(PREFIX), ATD_STR(""), 1000, count_object, &counted,
                         &more, err));
    return counted;
}

/* Without the member indexes beside them. */
static inline unsigned objects(struct rig *rig)
{
    return count_objects(rig).shards;
}

/* The dataset's URLs, one a line. */
static inline void urls_of(struct rig *rig, const char *dataset, struct atd_buf *out)
{
    struct atd_catalog *catalog = atd_live_get(rig->live);
    const struct atd_catalog_entry *entry = atd_catalog_meaning(catalog, atd_str_from(dataset));
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(16 * MIB);
    struct atd_str *urls;
    size_t count = 0;

    atd_buf_clear(out);
    if (entry)
        WORKS(atd_urls_decode(atd_entry_data_urls(entry), &arena, &urls, &count, err));
    for (size_t i = 0; i < count; i++) {
        atd_buf_append_str(out, urls[i]);
        atd_buf_append_byte(out, '\n');
    }
    atd_buf_append_byte(out, '\0');
    cr_assert_eq(out->failed, 0);
    atd_catalog_unref(catalog);
}

#define LISTS(rig, dataset, text)                          \
    do {                                                   \
        struct atd_buf lists_buf = ATD_BUF_INIT(16 * MIB); \
        urls_of(rig, dataset, &lists_buf);                 \
        cr_assert_str_eq((char *)lists_buf.ptr, text);     \
        atd_buf_release(&lists_buf);                       \
    } while (0)

static inline void check_object(struct rig *rig, const char *url, struct atd_bytes bytes)
{
    struct atd_object_info info;
    struct waited_get get;
    uint8_t *into = malloc(bytes.len);

    WORKS(atd_store_stat(rig->memory, atd_str_from(url), 1000, &info, err));
    cr_assert_eq(info.size_bytes, bytes.len, "%llu", (unsigned long long)info.size_bytes);
    waited_start(&get, rig->memory, url, 0, bytes.len, into, NULL);
    cr_assert(waited_ends(&get));
    cr_assert_eq(get.why.code, 0, "%s", get.why.text);
    cr_assert_eq(memcmp(into, bytes.ptr, bytes.len), 0);
    free(into);
}

static unsigned leftover_count;

static inline int count_leftover(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)path;
    (void)st;
    (void)ftw;
    leftover_count += type == FTW_F;
    return 0;
}

static inline unsigned rig_leftovers(const struct rig *rig)
{
    leftover_count = 0;
    (void)nftw(rig->dir, count_leftover, 16, FTW_PHYS);
    return leftover_count;
}

/* Nothing is left of what was not published: no upload, no job, no spool, `count` objects. */
static inline void check_tidy(struct rig *rig, unsigned count)
{
    COMES(rig_leftovers(rig) == 0);
    COMES(atd_store_memory_uploads(rig->memory) == 0);
    COMES(objects(rig) == count);
    cr_assert_eq(count_objects(rig).lone, 0);
}

#endif

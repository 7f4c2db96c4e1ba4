/*
 * What the tests of the editor share: an index in memory, a view of it, a writer that misbehaves at
 * a chosen commit, and a look at what the index holds.
 */
#ifndef TESTS_UNIT_EDITOR_RIG_H
#define TESTS_UNIT_EDITOR_RIG_H

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "atdata/entry.h"
#include "atdata/schema.h"
#include "base/cleanup.h"
#include "catalog/live.h"
#include "codec/schema_infer.h"
#include "publish/editor.h"

#define S(literal) ATD_STR(literal)
#define WORKS(call)                                         \
    do {                                                    \
        struct atd_error ok_err = ATD_ERROR_INIT;           \
        struct atd_error *const err = &ok_err;              \
        int ok_rc = (call);                                 \
        cr_assert_eq(ok_rc, 0, "%s: %s", #call, err->text); \
    } while (0)
#define FAILS(number, call)                                                   \
    do {                                                                      \
        struct atd_error ok_err = ATD_ERROR_INIT;                             \
        struct atd_error *const err = &ok_err;                                \
        int ok_rc = (call);                                                   \
        cr_assert_eq(ok_rc, -(number), "%s: %d %s", #call, ok_rc, err->text); \
        cr_assert_eq(err->code, (number));                                    \
        cr_assert_gt(strlen(err->text), 0);                                   \
    } while (0)

/* ------------------------------------------------------------------ a writer that misbehaves */

/* TORN: on a cluster, what is under new keys was written before somebody else was faster. */
enum hook_fault { HOOK_NONE, HOOK_CONFLICT, HOOK_LOST_DONE, HOOK_LOST, HOOK_DOWN, HOOK_TORN };

struct hook_writer {
    struct atd_index_writer base;
    struct atd_index_writer *inner;
    unsigned commits; /* begun */
    unsigned reads;
    unsigned fault_at; /* the commit (from 1) that fails; 0: none */
    unsigned fault_count;
    enum hook_fault fault;
    unsigned read_fault_at; /* the read (from 1) that fails */
    /* Called before the step (read or commit, from 1) of that number. */
    void (*before)(void *ctx);
    void *before_ctx;
    unsigned before_at;
    unsigned steps;
    /* Called after every one that changed something. */
    void (*after)(void *ctx);
    void *after_ctx;
};

static inline void hook_step(struct hook_writer *hook)
{
    if (++hook->steps == hook->before_at && hook->before)
        hook->before(hook->before_ctx);
}

static inline int hook_read(struct atd_index_writer *writer, enum atd_index_kind kind,
                            const union atd_index_record *key, struct atd_arena *arena,
                            union atd_index_record *ret_record, struct atd_error *err)
{
    struct hook_writer *hook = (struct hook_writer *)writer;

    hook_step(hook);
    if (++hook->reads == hook->read_fault_at)
        return atd_error_set(err, EIO, "the read failed");
    return hook->inner->ops->read(hook->inner, kind, key, arena, ret_record, err);
}

static inline int hook_tear(struct hook_writer *hook, const struct atd_index_operation *operations,
                            size_t count, size_t *ret_which, struct atd_error *err)
{
    for (size_t i = 0; i < count; i++) {
        int rc = 0;

        if (operations[i].action == ATD_INDEX_PUT_ENTRY ||
            operations[i].action == ATD_INDEX_PUT_SCHEMA)
            rc = hook->inner->ops->commit(hook->inner, &operations[i], 1, ret_which, err);
        if (rc)
            return rc;
    }
    return atd_error_set(err, EREMOTEIO, "the change was made in part: another one was faster");
}

static inline int hook_commit(struct atd_index_writer *writer,
                              const struct atd_index_operation *operations, size_t count,
                              size_t *ret_which, struct atd_error *err)
{
    struct hook_writer *hook = (struct hook_writer *)writer;
    unsigned number = ++hook->commits;
    bool fails =
        hook->fault_at && number >= hook->fault_at && number < hook->fault_at + hook->fault_count;
    int rc = 0;

    hook_step(hook);
    if (fails && hook->fault == HOOK_CONFLICT)
        return atd_error_set(err, ESTALE, "another one was faster");
    if (fails && hook->fault == HOOK_TORN)
        return hook_tear(hook, operations, count, ret_which, err);
    if (fails && hook->fault == HOOK_DOWN)
        return atd_error_set_retryable(err, ECONNREFUSED, "the index is down");
    if (!fails || hook->fault != HOOK_LOST)
        rc = hook->inner->ops->commit(hook->inner, operations, count, ret_which, err);
    if (rc == 0 && hook->after)
        hook->after(hook->after_ctx);
    if (fails && rc == 0)
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

struct rig {
    struct atd_index *index;
    struct atd_file_store *files;
    struct atd_locator *locator;
    struct atd_live *live;
    struct hook_writer hook;
    struct atd_editor *editor;
    int64_t now_us;
};

static inline int64_t rig_now(void *ctx)
{
    return ((struct rig *)ctx)->now_us;
}

static inline struct atd_editor *rig_editor(struct rig *rig, struct atd_index_writer *writer,
                                            bool universal)
{
    struct atd_editor_options options = {.writer = writer,
                                         .live = rig->live,
                                         .universal = universal,
                                         .now_us = rig_now,
                                         .now_ctx = rig,
                                         .patience_ms = 300};
    struct atd_editor *editor;

    WORKS(atd_editor_new(&options, &editor, err));
    return editor;
}

static inline void rig_open(struct rig *rig)
{
    static const char *const roots[] = {"/data"};

    *rig = (struct rig){.now_us = INT64_C(1790000000000000)};
    rig->index = atd_index_memory_new();
    WORKS(atd_file_store_new(roots, 1, &rig->files, err));
    WORKS(atd_locator_new(&(struct atd_locator_options){.files = rig->files}, &rig->locator, err));
    WORKS(atd_live_open(&(struct atd_live_options){.index = rig->index, .locator = rig->locator},
                        &rig->live, err));
    rig->hook.base.ops = &hook_ops;
    WORKS(atd_index_memory_writer(rig->index, &rig->hook.inner, err));
    rig->editor = rig_editor(rig, &rig->hook.base, false);
}

static inline void rig_close(struct rig *rig)
{
    atd_editor_free(rig->editor);
    atd_index_writer_free(rig->hook.inner);
    cr_assert(atd_live_close(rig->live));
    cr_assert(atd_locator_free(rig->locator));
    atd_file_store_free(rig->files);
    atd_index_free(rig->index);
}

/* The view is loaded by whoever awaits it. */
static inline void rig_refresh(struct rig *rig)
{
    cr_assert(atd_live_await(rig->live, atd_live_request(rig->live), 1000));
}

/* ------------------------------------------------------------------ what the index holds */

#define RIG_ROWS_MAX 64u

struct rows {
    struct atd_arena arena;
    struct atd_index_entry entries[RIG_ROWS_MAX];
    size_t entry_count;
    struct atd_index_label labels[RIG_ROWS_MAX];
    size_t label_count;
    struct atd_index_schema schemas[RIG_ROWS_MAX];
    size_t schema_count;
};

static inline struct atd_str rows_str(struct rows *rows, struct atd_str text)
{
    return text.ptr ? atd_arena_str(&rows->arena, text) : text;
}

static inline int rows_entry(void *ctx, const struct atd_index_entry *entry, struct atd_error *err)
{
    struct rows *rows = ctx;
    struct atd_index_entry *copy = &rows->entries[rows->entry_count++];

    (void)err;
    cr_assert_lt(rows->entry_count, RIG_ROWS_MAX);
    *copy = *entry;
    copy->cid = rows_str(rows, entry->cid);
    copy->name = rows_str(rows, entry->name);
    copy->schema_ref = rows_str(rows, entry->schema_ref);
    copy->data_urls = atd_arena_bytes(&rows->arena, entry->data_urls);
    if (entry->metadata.ptr)
        copy->metadata = atd_arena_bytes(&rows->arena, entry->metadata);
    return 0;
}

static inline int rows_label(void *ctx, const struct atd_index_label *label, struct atd_error *err)
{
    struct rows *rows = ctx;
    struct atd_index_label *copy = &rows->labels[rows->label_count++];

    (void)err;
    cr_assert_lt(rows->label_count, RIG_ROWS_MAX);
    copy->name = rows_str(rows, label->name);
    copy->version = rows_str(rows, label->version);
    copy->cid = rows_str(rows, label->cid);
    copy->description = rows_str(rows, label->description);
    copy->created_at = rows_str(rows, label->created_at);
    return 0;
}

static inline int rows_schema(void *ctx, const struct atd_index_schema *schema,
                              struct atd_error *err)
{
    struct rows *rows = ctx;
    struct atd_index_schema *copy = &rows->schemas[rows->schema_count++];

    (void)err;
    cr_assert_lt(rows->schema_count, RIG_ROWS_MAX);
    copy->name = rows_str(rows, schema->name);
    copy->version = rows_str(rows, schema->version);
    copy->json = atd_arena_bytes(&rows->arena, schema->json);
    return 0;
}

/* The index as it is; with a writer of its own nothing is counted. */
static inline void rows_take(struct rig *rig, struct rows *rows)
{
    const struct atd_index_sink sink = {
        .ctx = rows, .entry = rows_entry, .label = rows_label, .schema = rows_schema};

    memset(rows, 0, sizeof(*rows));
    atd_arena_init(&rows->arena, (size_t)1 << 26);
    WORKS(atd_index_load(rig->index, &sink, err));
}

static inline void rows_release(struct rows *rows)
{
    atd_arena_release(&rows->arena);
}

static inline const struct atd_index_label *rows_label_of(const struct rows *rows, const char *name,
                                                          const char *version)
{
    for (size_t i = 0; i < rows->label_count; i++) {
        if (atd_str_equal(rows->labels[i].name, atd_str_from(name)) &&
            atd_str_equal(rows->labels[i].version, atd_str_from(version)))
            return &rows->labels[i];
    }
    return NULL;
}

/* The entry of that name; *ret_count (may be NULL): how many there are. */
static inline const struct atd_index_entry *rows_named(const struct rows *rows, const char *name,
                                                       size_t *ret_count)
{
    const struct atd_index_entry *found = NULL;
    size_t count = 0;

    for (size_t i = 0; i < rows->entry_count; i++) {
        if (atd_str_equal(rows->entries[i].name, atd_str_from(name))) {
            found = &rows->entries[i];
            count++;
        }
    }
    if (ret_count)
        *ret_count = count;
    return found;
}

/*
 * What Python finds: exactly one entry of that name, and the label leads to it. Gives its URLs,
 * joined by blanks.
 */
static inline void rows_expect(struct rig *rig, const char *name, const char *urls)
{
    struct rows rows;
    const struct atd_index_label *label;
    const struct atd_index_entry *entry;
    struct atd_str *list;
    char joined[4096] = "";
    size_t count;

    rows_take(rig, &rows);
    entry = rows_named(&rows, name, &count);
    cr_assert_eq(count, urls ? 1 : 0, "%zu entries are called %s", count, name);
    label = rows_label_of(&rows, name, "");
    cr_assert_eq(label != NULL, urls != NULL);
    if (urls) {
        cr_assert(atd_str_equal(label->cid, entry->cid));
        WORKS(atd_urls_decode(entry->data_urls, &rows.arena, &list, &count, err));
        for (size_t i = 0; i < count; i++)
            (void)snprintf(joined + strlen(joined), sizeof(joined) - strlen(joined), "%s%.*s",
                           i ? " " : "", (int)list[i].len, list[i].ptr);
        cr_assert_str_eq(joined, urls);
    }
    rows_release(&rows);
}

/* The user's and our metadata as JSON, "" without any. */
static inline void rows_metadata(struct rig *rig, const char *name, char ret_json[4096])
{
    atd_auto_buf struct atd_buf json = ATD_BUF_INIT(4000);
    struct rows rows;
    const struct atd_index_entry *entry;

    rows_take(rig, &rows);
    entry = rows_named(&rows, name, NULL);
    cr_assert_not_null(entry);
    if (entry->metadata.ptr)
        atd_metadata_to_json(entry->metadata, NULL, 0, &json);
    (void)snprintf(ret_json, 4096, "%s", json.len ? (const char *)json.ptr : "");
    rows_release(&rows);
}

/* ------------------------------------------------------------------ edits in a word */

/* A schema seen in samples: one required text field of that name (an extension). */
static inline struct atd_schema_inferrer *rig_seen(const char *extension)
{
    struct atd_schema_inferrer *seen = atd_schema_inferrer_new();

    WORKS(atd_schema_inferrer_add_member(seen, 0, atd_str_from(extension), err));
    return seen;
}

/* Adds s3://b/NAME/FILE; the sha256 is made of `mark`. */
static inline int rig_add(struct atd_editor *editor, const char *name, const char *file, char mark,
                          struct atd_edit_result *ret_result, struct atd_error *err)
{
    struct atd_schema_inferrer *seen = rig_seen("txt");
    struct atd_edit_shard shard = {
        .record = {.size_bytes = 10240, .etag = S("e"), .samples = 3, .mtime_ns = 5}, .seen = seen};
    struct atd_edit_result result;
    char url[256];
    int rc;

    (void)snprintf(url, sizeof(url), "s3://b/%s/%s", name, file);
    shard.record.url = atd_str_from(url);
    memset(shard.record.sha256, mark, 64);
    rc = atd_edit_add_shard(editor, atd_str_from(name), atd_str_from(file), &shard, &result, err);
    if (rc == 0 && ret_result)
        *ret_result = result;
    atd_schema_inferrer_free(seen);
    return rc;
}

/* A schema of one required int field. */
static inline struct atd_schema schema_of(const char *name, const char *version, const char *field)
{
    static struct atd_field fields[4];
    static unsigned next;
    struct atd_field *one = &fields[next++ % 4];

    *one = (struct atd_field){.name = atd_str_from(field),
                              .type = {.kind = ATD_KIND_PRIMITIVE,
                                       .kind_text = S("primitive"),
                                       .primitive = ATD_PRIMITIVE_INT,
                                       .primitive_text = S("int")}};
    return (struct atd_schema){.name = atd_str_from(name),
                               .version = atd_str_from(version),
                               .fields = one,
                               .field_count = 1};
}

/* The dataset "d" of a.tar and b.tar; *ret_first is its state with a.tar alone. */
static inline void rig_open_with_two(struct rig *rig, struct atd_edit_result *ret_first)
{
    rig_open(rig);
    WORKS(rig_add(rig->editor, "d", "a.tar", 'a', ret_first, err));
    WORKS(rig_add(rig->editor, "d", "b.tar", 'b', NULL, err));
    rig_refresh(rig);
}

#endif

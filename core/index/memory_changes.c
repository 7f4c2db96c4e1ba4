/*
 * What changed between two states of the memory index, told as an index does that only knows which
 * keys were written: keys first, then what is there.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "index/memory.h"

/* Of the records that did not change one in so many is told too: it was written again. */
#define TOLD_AGAIN_ONE_IN 16u

/* One record of either state by its key. */
struct keyed {
    enum atd_index_kind kind;
    bool is_after;
    struct atd_str key;
    const void *record;
};

static int by_key(const void *a, const void *b)
{
    const struct keyed *left = a;
    const struct keyed *right = b;
    int order = (left->kind > right->kind) - (left->kind < right->kind);

    if (order == 0)
        order = atd_str_compare(left->key, right->key);
    if (order == 0)
        order = left->is_after - right->is_after;
    return order ? order : (left->record > right->record) - (left->record < right->record);
}

/* "NAME@VERSION"; ptr NULL when out of memory. */
static struct atd_str join(struct atd_arena *arena, struct atd_str name, struct atd_str version)
{
    char *whole = atd_arena_alloc(arena, name.len + 1 + version.len);

    if (!whole)
        return (struct atd_str){NULL, 0};
    if (name.len)
        memcpy(whole, name.ptr, name.len);
    whole[name.len] = '@';
    if (version.len)
        memcpy(whole + name.len + 1, version.ptr, version.len);
    return (struct atd_str){whole, name.len + 1 + version.len};
}

/* Appends all records of a state; false when out of memory. */
static bool list(const struct atd_memory_state *state, bool is_after, struct atd_arena *arena,
                 struct keyed *all, size_t *count)
{
    for (size_t i = 0; i < state->entry_count; i++)
        all[(*count)++] =
            (struct keyed){ATD_INDEX_ENTRY, is_after, state->entries[i].cid, &state->entries[i]};
    for (size_t i = 0; i < state->label_count; i++) {
        struct atd_str key = join(arena, state->labels[i].name, state->labels[i].version);

        if (!key.ptr)
            return false;
        all[(*count)++] = (struct keyed){ATD_INDEX_LABEL, is_after, key, &state->labels[i]};
    }
    for (size_t i = 0; i < state->schema_count; i++) {
        struct atd_str key = join(arena, state->schemas[i].name, state->schemas[i].version);

        if (!key.ptr)
            return false;
        all[(*count)++] = (struct keyed){ATD_INDEX_SCHEMA, is_after, key, &state->schemas[i]};
    }
    return true;
}

static bool texts_equal(struct atd_str a, struct atd_str b)
{
    return (a.ptr == NULL) == (b.ptr == NULL) && atd_str_equal(a, b);
}

static bool records_equal(enum atd_index_kind kind, const void *a, const void *b)
{
    if (kind == ATD_INDEX_ENTRY) {
        const struct atd_index_entry *left = a;
        const struct atd_index_entry *right = b;

        return texts_equal(left->name, right->name) &&
               texts_equal(left->schema_ref, right->schema_ref) &&
               texts_equal(atd_bytes_str(left->data_urls), atd_bytes_str(right->data_urls)) &&
               texts_equal(atd_bytes_str(left->metadata), atd_bytes_str(right->metadata)) &&
               texts_equal(left->created_at, right->created_at);
    }
    if (kind == ATD_INDEX_LABEL) {
        const struct atd_index_label *left = a;
        const struct atd_index_label *right = b;

        return texts_equal(left->name, right->name) && texts_equal(left->version, right->version) &&
               texts_equal(left->cid, right->cid) &&
               texts_equal(left->description, right->description) &&
               texts_equal(left->created_at, right->created_at);
    }
    return texts_equal(((const struct atd_index_schema *)a)->name,
                       ((const struct atd_index_schema *)b)->name) &&
           texts_equal(atd_bytes_str(((const struct atd_index_schema *)a)->json),
                       atd_bytes_str(((const struct atd_index_schema *)b)->json)) &&
           texts_equal(((const struct atd_index_schema *)a)->created_at,
                       ((const struct atd_index_schema *)b)->created_at);
}

static int report(const struct keyed *record, const struct atd_index_sink *sink,
                  struct atd_error *err)
{
    if (record->kind == ATD_INDEX_ENTRY)
        return sink->entry(sink->ctx, record->record, err);
    if (record->kind == ATD_INDEX_LABEL)
        return sink->label(sink->ctx, record->record, err);
    return sink->schema(sink->ctx, record->record, err);
}

/* Records of one key: usually one before and one after. */
static int report_key(const struct keyed *first, size_t count, bool again,
                      const struct atd_index_sink *sink, struct atd_error *err)
{
    bool is_same = count == 2 && !first[0].is_after && first[1].is_after &&
                   records_equal(first->kind, first[0].record, first[1].record);
    int rc;

    if (is_same && !again)
        return 0;
    rc = sink->gone(sink->ctx, first->kind, first->key, err);
    for (size_t i = 0; i < count && rc == 0; i++) {
        if (first[i].is_after)
            rc = report(&first[i], sink, err);
    }
    return rc;
}

int atd_memory_report_changes(const struct atd_memory_state *before,
                              const struct atd_memory_state *after,
                              const struct atd_index_sink *sink, struct atd_error *err)
{
    size_t most = before->entry_count + before->label_count + before->schema_count +
                  after->entry_count + after->label_count + after->schema_count;
    struct atd_arena arena = ATD_ARENA_INIT(ATD_MEMORY_INDEX_BYTES_MAX);
    struct keyed *all = reallocarray(NULL, most + 1, sizeof(*all));
    size_t count = 0;
    size_t end;
    int rc = 0;

    if (!all || !list(before, false, &arena, all, &count) ||
        !list(after, true, &arena, all, &count))
        rc = atd_error_set(err, ENOMEM, "the index needs more memory than there is");
    if (rc == 0)
        qsort(all, count, sizeof(*all), by_key);
    for (size_t i = 0; i < count && rc == 0; i = end) {
        end = i + 1;
        while (end < count && all[end].kind == all[i].kind &&
               atd_str_equal(all[end].key, all[i].key))
            end++;
        rc = report_key(&all[i], end - i, i % TOLD_AGAIN_ONE_IN == 0, sink, err);
    }
    free(all);
    atd_arena_release(&arena);
    return rc;
}

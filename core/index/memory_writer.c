/*
 * Commits to the memory index: the next state is made beside the current one and swapped in when
 * nobody else was faster.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "index/memory.h"
#include "index/record_copy.h"
#include "index/writer.h"

struct memory_writer {
    struct atd_index_writer base;
    struct atd_index *index;
};

/* A state while it is being changed; room for every operation's record. */
struct draft {
    struct atd_memory_state *state;
    struct atd_index_entry *entries;
    struct atd_index_label *labels;
    struct atd_index_schema *schemas;
};

static int no_memory(struct atd_error *err)
{
    return atd_error_set(err, ENOMEM, "the index needs more memory than there is");
}

static bool bytes_equal(struct atd_bytes a, struct atd_bytes b)
{
    return (a.ptr == NULL) == (b.ptr == NULL) && atd_str_equal(atd_bytes_str(a), atd_bytes_str(b));
}

/* ------------------------------------------------------------------ finding and comparing */

/* The place of the record with that key; the count when there is none. */
static size_t find(const struct atd_memory_state *state, enum atd_index_kind kind,
                   const union atd_index_record *key)
{
    size_t i = 0;

    switch (kind) {
    case ATD_INDEX_ENTRY:
        while (i < state->entry_count && !atd_str_equal(state->entries[i].cid, key->entry.cid))
            i++;
        break;
    case ATD_INDEX_LABEL:
        while (i < state->label_count &&
               (!atd_str_equal(state->labels[i].name, key->label.name) ||
                !atd_str_equal(state->labels[i].version, key->label.version)))
            i++;
        break;
    case ATD_INDEX_SCHEMA:
        while (i < state->schema_count &&
               (!atd_str_equal(state->schemas[i].name, key->schema.name) ||
                !atd_str_equal(state->schemas[i].version, key->schema.version)))
            i++;
        break;
    }
    return i;
}

static size_t count_of(const struct atd_memory_state *state, enum atd_index_kind kind)
{
    if (kind == ATD_INDEX_ENTRY)
        return state->entry_count;
    return kind == ATD_INDEX_LABEL ? state->label_count : state->schema_count;
}

static bool is_as_expected(const struct atd_memory_state *state,
                           const struct atd_index_operation *operation)
{
    const union atd_index_record *before = &operation->before;
    size_t place = find(state, operation->kind, before);
    bool exists = place < count_of(state, operation->kind);

    if (operation->expect == ATD_INDEX_ANY)
        return exists || (operation->action != ATD_INDEX_SET_ENTRY_NAME &&
                          operation->action != ATD_INDEX_SET_ENTRY_METADATA);
    if (operation->expect == ATD_INDEX_ABSENT || !exists)
        return operation->expect == ATD_INDEX_ABSENT && !exists;
    if (operation->kind == ATD_INDEX_ENTRY) {
        const struct atd_index_entry *entry = &state->entries[place];

        return atd_str_equal(entry->name, before->entry.name) &&
               atd_str_equal(entry->schema_ref, before->entry.schema_ref) &&
               bytes_equal(entry->data_urls, before->entry.data_urls) &&
               bytes_equal(entry->metadata, before->entry.metadata);
    }
    if (operation->kind == ATD_INDEX_LABEL)
        return atd_str_equal(state->labels[place].cid, before->label.cid);
    return bytes_equal(state->schemas[place].json, before->schema.json);
}

/* Every state owns all that it views: the one before may be freed. */
static bool begin_draft(const struct atd_memory_state *before, size_t more, struct draft *draft)
{
    struct atd_arena *arena;
    bool fine = true;

    draft->state = atd_memory_state_new();
    if (!draft->state)
        return false;
    arena = &draft->state->arena;
    draft->entries =
        atd_arena_alloc_array(arena, before->entry_count + more, sizeof(*draft->entries));
    draft->labels =
        atd_arena_alloc_array(arena, before->label_count + more, sizeof(*draft->labels));
    draft->schemas =
        atd_arena_alloc_array(arena, before->schema_count + more, sizeof(*draft->schemas));
    if (!draft->entries || !draft->labels || !draft->schemas)
        return false;
    for (size_t i = 0; i < before->entry_count; i++) {
        fine =
            atd_index_entry_copy(arena, &before->entries[i], &draft->entries[i], NULL) == 0 && fine;
    }
    for (size_t i = 0; i < before->label_count; i++) {
        fine =
            atd_index_label_copy(arena, &before->labels[i], &draft->labels[i], NULL) == 0 && fine;
    }
    for (size_t i = 0; i < before->schema_count; i++) {
        fine = atd_index_schema_copy(arena, &before->schemas[i], &draft->schemas[i], NULL) == 0 &&
               fine;
    }
    draft->state->entries = draft->entries;
    draft->state->entry_count = before->entry_count;
    draft->state->labels = draft->labels;
    draft->state->label_count = before->label_count;
    draft->state->schemas = draft->schemas;
    draft->state->schema_count = before->schema_count;
    return fine;
}

/* ------------------------------------------------------------------ changing */

static bool put_entry(struct draft *draft, const struct atd_index_entry *after, size_t place)
{
    draft->state->entry_count += place == draft->state->entry_count;
    return atd_index_entry_copy(&draft->state->arena, after, &draft->entries[place], NULL) == 0;
}

static bool put_label(struct draft *draft, const struct atd_index_label *after, size_t place)
{
    struct atd_index_label label = *after;

    if (place < draft->state->label_count && !label.description.ptr)
        label.description = draft->labels[place].description;
    draft->state->label_count += place == draft->state->label_count;
    return atd_index_label_copy(&draft->state->arena, &label, &draft->labels[place], NULL) == 0;
}

static bool put_schema(struct draft *draft, const struct atd_index_schema *after, size_t place)
{
    draft->state->schema_count += place == draft->state->schema_count;
    return atd_index_schema_copy(&draft->state->arena, after, &draft->schemas[place], NULL) == 0;
}

static void drop(struct draft *draft, enum atd_index_kind kind, size_t place)
{
    if (kind == ATD_INDEX_ENTRY)
        draft->entries[place] = draft->entries[--draft->state->entry_count];
    else if (kind == ATD_INDEX_LABEL)
        draft->labels[place] = draft->labels[--draft->state->label_count];
    else
        draft->schemas[place] = draft->schemas[--draft->state->schema_count];
}

static bool apply(struct draft *draft, const struct atd_index_operation *operation)
{
    const union atd_index_record *key = operation->action == ATD_INDEX_PUT_ENTRY ||
                                                operation->action == ATD_INDEX_PUT_LABEL ||
                                                operation->action == ATD_INDEX_PUT_SCHEMA
                                            ? &operation->after
                                            : &operation->before;
    size_t place = find(draft->state, operation->kind, key);
    bool exists = place < count_of(draft->state, operation->kind);
    struct atd_index_entry entry;

    switch (operation->action) {
    case ATD_INDEX_CHECK:
        return true;
    case ATD_INDEX_PUT_ENTRY:
        return put_entry(draft, &operation->after.entry, place);
    case ATD_INDEX_SET_ENTRY_NAME:
        entry = draft->entries[place];
        entry.name = operation->after.entry.name;
        return put_entry(draft, &entry, place);
    case ATD_INDEX_SET_ENTRY_METADATA:
        entry = draft->entries[place];
        entry.metadata = operation->after.entry.metadata;
        return put_entry(draft, &entry, place);
    case ATD_INDEX_PUT_LABEL:
        return put_label(draft, &operation->after.label, place);
    case ATD_INDEX_PUT_SCHEMA:
        return put_schema(draft, &operation->after.schema, place);
    case ATD_INDEX_DELETE_ENTRY:
    case ATD_INDEX_DELETE_LABEL:
    case ATD_INDEX_DELETE_SCHEMA:
        if (exists)
            drop(draft, operation->kind, place);
        return true;
    }
    return true;
}

/* ------------------------------------------------------------------ the provider */

static int memory_read(struct atd_index_writer *writer, enum atd_index_kind kind,
                       const union atd_index_record *key, struct atd_arena *arena,
                       union atd_index_record *ret_record, struct atd_error *err)
{
    struct atd_memory_state *state = atd_memory_state_get(((struct memory_writer *)writer)->index);
    size_t place = find(state, kind, key);
    int rc;

    if (place == count_of(state, kind))
        rc = atd_error_set(err, ENOENT, "there is no such record");
    else if (kind == ATD_INDEX_ENTRY)
        rc = atd_index_entry_copy(arena, &state->entries[place], &ret_record->entry, err);
    else if (kind == ATD_INDEX_LABEL)
        rc = atd_index_label_copy(arena, &state->labels[place], &ret_record->label, err);
    else
        rc = atd_index_schema_copy(arena, &state->schemas[place], &ret_record->schema, err);
    atd_memory_state_unref(state);
    return rc;
}

/* -EAGAIN: another commit was faster. */
static int try_commit(struct atd_index *index, const struct atd_index_operation *operations,
                      size_t count, size_t *ret_which, struct atd_error *err)
{
    struct atd_memory_state *before = atd_memory_state_get(index);
    struct draft draft = {0};
    bool fine;
    int rc = 0;

    for (size_t i = 0; i < count && rc == 0; i++) {
        if (!is_as_expected(before, &operations[i])) {
            if (ret_which)
                *ret_which = i;
            rc = atd_error_set(err, ESTALE, "another one changed the index meanwhile");
        }
    }
    if (rc == 0) {
        fine = begin_draft(before, count, &draft);
        for (size_t i = 0; i < count && fine; i++)
            fine = apply(&draft, &operations[i]);
        if (!fine)
            rc = no_memory(err);
        else if (atd_memory_state_swap(index, before, draft.state))
            draft.state = NULL; /* taken */
        else
            rc = -EAGAIN;
    }
    atd_memory_state_unref(draft.state);
    atd_memory_state_unref(before);
    return rc;
}

static int memory_commit(struct atd_index_writer *writer,
                         const struct atd_index_operation *operations, size_t count,
                         size_t *ret_which, struct atd_error *err)
{
    int rc;

    do
        rc = try_commit(((struct memory_writer *)writer)->index, operations, count, ret_which, err);
    while (rc == -EAGAIN);
    return rc;
}

static int memory_check(struct atd_index_writer *writer, struct atd_error *err)
{
    (void)writer;
    (void)err;
    return 0;
}

static void memory_free(struct atd_index_writer *writer)
{
    free(writer);
}

static const struct atd_index_writer_ops memory_writer_ops = {
    .provider = "memory",
    .read = memory_read,
    .commit = memory_commit,
    .check = memory_check,
    .free = memory_free,
};

int atd_index_memory_writer(struct atd_index *index, struct atd_index_writer **ret_writer,
                            struct atd_error *err)
{
    struct memory_writer *writer = calloc(1, sizeof(*writer));

    atd_memory_index_check(index);
    if (!writer)
        return no_memory(err);
    writer->base.ops = &memory_writer_ops;
    writer->base.location = strdup(index->location);
    if (!writer->base.location) {
        free(writer);
        return no_memory(err);
    }
    writer->index = index;
    *ret_writer = &writer->base;
    return 0;
}

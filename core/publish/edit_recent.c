/*
 * Shards that somebody was told are published, for a minute: replication is asynchronous, so that a
 * server which takes another's place may never have heard of them. When the writer's connection is
 * a new one each is looked up again, and put back when it is gone.
 *
 * Gone is a shard that its dataset does not list, and whose entry is not there either: an entry
 * that somebody superseded stays for ATD_SUPERSEDED_KEEP_S, and one that was renamed keeps its CID.
 * What this editor itself took out is not looked for.
 */
#include <errno.h>
#include <stdlib.h>

#include "atdata/entry.h"
#include "base/clock.h"
#include "publish/edit.h"

#define RECENT_BYTES_MAX ((size_t)1 << 20)

struct atd_edit_recent {
    struct atd_edit_recent *next;
    int64_t at_ms;
    bool is_kept_out; /* taken out again by this editor */
    struct atd_arena arena;
    struct atd_str name;
    struct atd_str file_name;
    struct atd_str cid; /* of the entry that lists it first */
    struct atd_edit_shard shard;
};

static void free_recent(struct atd_edit_recent *recent)
{
    if (!recent)
        return;
    atd_arena_release(&recent->arena);
    free(recent);
}

void atd_edit_forget_all(struct atd_editor *editor)
{
    while (editor->recent) {
        struct atd_edit_recent *next = editor->recent->next;

        free_recent(editor->recent);
        editor->recent = next;
    }
    editor->last_recent = NULL;
    editor->recent_count = 0;
}

static void drop_first(struct atd_editor *editor)
{
    struct atd_edit_recent *first = editor->recent;

    editor->recent = first->next;
    if (!editor->recent)
        editor->last_recent = NULL;
    editor->recent_count--;
    free_recent(first);
}

static struct atd_edit_recent *copy(struct atd_editor *editor, struct atd_str name,
                                    struct atd_str file_name, const struct atd_edit_shard *shard,
                                    const struct atd_edit_result *result)
{
    struct atd_edit_recent *recent = calloc(1, sizeof(*recent));
    struct atd_arena *arena;

    if (!recent)
        return NULL;
    arena = &recent->arena;
    atd_arena_init(arena, RECENT_BYTES_MAX);
    recent->at_ms = atd_clock_monotonic_ms();
    recent->name = atd_arena_str(arena, name);
    recent->file_name = atd_arena_str(arena, file_name);
    recent->cid = atd_arena_str(arena, atd_str_from(result->cid.text));
    recent->shard.record = shard->record;
    recent->shard.record.url = atd_arena_str(arena, shard->record.url);
    recent->shard.record.etag = atd_arena_str(arena, shard->record.etag);
    recent->shard.replaces = atd_arena_str(arena, shard->replaces);
    /* One that cannot be read now is found in the dataset, if need be. */
    if (atd_edit_schema_of(editor, atd_str_from(result->schema_ref), arena, &recent->shard.schema,
                           NULL) != 0)
        recent->shard.schema = NULL;
    if (recent->name.ptr && recent->file_name.ptr && recent->cid.ptr &&
        recent->shard.record.url.ptr)
        return recent;
    free_recent(recent);
    return NULL;
}

void atd_edit_remember(struct atd_editor *editor, struct atd_str name, struct atd_str file_name,
                       const struct atd_edit_shard *shard, const struct atd_edit_result *result)
{
    struct atd_edit_recent *recent;

    if (atd_index_writer_epoch(editor->options.writer) == 0)
        return; /* this index forgets nothing */
    if (editor->recent_count == ATD_EDIT_RECENT_MAX)
        drop_first(editor);
    recent = copy(editor, name, file_name, shard, result);
    if (!recent)
        return;
    if (editor->last_recent)
        editor->last_recent->next = recent;
    else
        editor->recent = recent;
    editor->last_recent = recent;
    editor->recent_count++;
}

void atd_edit_keep_out(struct atd_editor *editor, struct atd_str name, const struct atd_str *urls,
                       size_t count)
{
    for (struct atd_edit_recent *at = editor->recent; at; at = at->next) {
        if (!atd_str_equal(at->name, name))
            continue;
        at->is_kept_out = at->is_kept_out || !urls;
        for (size_t i = 0; i < count && !at->is_kept_out; i++)
            at->is_kept_out = atd_str_equal(at->shard.record.url, urls[i]);
    }
}

/* ------------------------------------------------------------------ looking again */

static int is_there(struct atd_editor *editor, const struct atd_edit_recent *recent,
                    bool *ret_there, struct atd_error *err)
{
    struct atd_arena arena;
    struct atd_catalog *catalog = atd_live_get(editor->options.live);
    struct atd_edit_now now;
    struct atd_index_entry entry;
    struct atd_str *urls = NULL;
    size_t count = 0;
    int rc;

    *ret_there = false;
    atd_arena_init(&arena, ATD_EDIT_BYTES_MAX);
    rc = atd_edit_meaning(editor, catalog, recent->name, &arena, &now, err);
    if (rc == 0 && now.exists)
        rc = atd_urls_decode(now.entry.data_urls, &arena, &urls, &count, err);
    for (size_t i = 0; rc == 0 && i < count && !*ret_there; i++)
        *ret_there = atd_str_equal(urls[i], recent->shard.record.url);
    if (rc == 0 && !*ret_there)
        rc = atd_edit_find_entry(editor, recent->cid, &arena, ret_there, &entry, err);
    atd_catalog_unref(catalog);
    atd_arena_release(&arena);
    return rc;
}

static int look_again(struct atd_editor *editor, struct atd_edit_recent *recent, atd_edit_lost lost,
                      void *ctx, struct atd_error *err)
{
    struct atd_error why = ATD_ERROR_INIT;
    struct atd_edit_result result;
    bool there;
    int rc = is_there(editor, recent, &there, err);

    if (rc || there)
        return rc;
    rc = atd_edit_run_add(editor, recent->name, recent->file_name, &recent->shard, &result, &why);
    if (rc && why.retryable) {
        if (err)
            *err = why;
        return rc;
    }
    if (lost)
        lost(ctx, recent->name, recent->file_name, recent->shard.record.url, rc ? &why : NULL);
    /* Told once; what cannot be put back is not tried again. */
    recent->is_kept_out = rc != 0;
    return 0;
}

static int look_at_all(struct atd_editor *editor, atd_edit_lost lost, void *ctx,
                       struct atd_error *err)
{
    uint64_t epoch = atd_index_writer_epoch(editor->options.writer);
    int rc = 0;

    if (epoch == editor->recent_epoch)
        return 0;
    for (struct atd_edit_recent *at = editor->recent; at && rc == 0; at = at->next) {
        if (!at->is_kept_out)
            rc = look_again(editor, at, lost, ctx, err);
    }
    /* Had it changed again meanwhile, the next call looks again. */
    if (rc == 0)
        editor->recent_epoch = epoch;
    return rc;
}

int atd_edit_recheck(struct atd_editor *editor, atd_edit_lost lost, void *ctx, int64_t *ret_next_ms,
                     struct atd_error *err)
{
    int64_t until_ms = atd_clock_monotonic_ms() - ATD_EDIT_RECENT_MS;
    int rc = 0;

    *ret_next_ms = -1;
    if (!editor->recent)
        return 0;
    *ret_next_ms = ATD_EDIT_RECHECK_MS;
    rc = atd_index_writer_check(editor->options.writer, err);
    if (rc == 0)
        rc = look_at_all(editor, lost, ctx, err);
    while (rc == 0 && editor->recent && editor->recent->at_ms < until_ms)
        drop_first(editor);
    return rc;
}

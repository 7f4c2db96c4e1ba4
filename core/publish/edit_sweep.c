/*
 * Deleting superseded entries, a minute after they were first seen so.
 *
 * An entry called NAME@superseded:CID goes when no label points to it and nothing is lost: this
 * editor superseded it itself, or (what a process left that is gone by now) it has our records of
 * shards and lists none that NAME does not list today. Entries that others inserted under one name
 * are renamed so too, but have no such records: they stay, hidden, until somebody removes them.
 */
#include <errno.h>
#include <stdlib.h>

#include "atdata/entry.h"
#include "base/check.h"
#include "publish/edit.h"

/*
 * Several go in one commit, also those that are not quite due. Over Redis the library lists by a
 * SCAN and an HGETALL a key: each commit that deletes fails a list that is under way, which most
 * programs try again once; a commit for each would fail the next one too.
 */
#define DELETED_AT_ONCE_MAX 64u
#define NEARLY_DUE_S 5
#define SECOND_US INT64_C(1000000)
/* When something was in the way. */
#define RETRY_S 5

/* ------------------------------------------------------------------ those of this editor */

void atd_editor_own(struct atd_editor *editor, struct atd_str cid)
{
    char *place = editor->own[editor->own_count % ATD_EDIT_OWN_MAX];

    if (cid.len != ATD_CID_TEXT_LEN || atd_editor_is_own(editor, cid))
        return; /* a foreign one that is not like ours is not ours to delete */
    memcpy(place, cid.ptr, ATD_CID_TEXT_LEN);
    editor->own_count++;
}

void atd_editor_disown(struct atd_editor *editor, struct atd_str cid)
{
    size_t count = editor->own_count < ATD_EDIT_OWN_MAX ? editor->own_count : ATD_EDIT_OWN_MAX;

    for (size_t i = 0; i < count; i++) {
        if (atd_str_equal(atd_str_from(editor->own[i]), cid))
            editor->own[i][0] = '\0';
    }
}

bool atd_editor_is_own(const struct atd_editor *editor, struct atd_str cid)
{
    size_t count = editor->own_count < ATD_EDIT_OWN_MAX ? editor->own_count : ATD_EDIT_OWN_MAX;

    for (size_t i = 0; i < count; i++) {
        if (atd_str_equal(atd_str_from(editor->own[i]), cid))
            return true;
    }
    return false;
}

/* ------------------------------------------------------------------ who waits */

static int compare_waiting(const void *a, const void *b)
{
    return strcmp(((const struct atd_edit_waiting *)a)->cid,
                  ((const struct atd_edit_waiting *)b)->cid);
}

/* Looks a new generation through: who came, who is gone. */
static void look_through(struct atd_editor *editor, const struct atd_catalog *catalog,
                         int64_t now_us)
{
    size_t known = editor->waiting_count;
    size_t kept = 0;

    for (size_t i = 0; i < known; i++)
        editor->waiting[i].is_there = false;
    for (size_t i = 0; i < atd_catalog_entry_count(catalog); i++) {
        const struct atd_catalog_entry *entry = atd_catalog_entry_at(catalog, i);
        struct atd_edit_waiting one = {.seen_us = now_us, .is_there = true};
        struct atd_edit_waiting *there = NULL;

        if (entry->label_count || atd_entry_cid(entry).len != ATD_CID_TEXT_LEN ||
            !atd_edit_is_superseded(atd_entry_name(entry), atd_entry_cid(entry), NULL))
            continue;
        memcpy(one.cid, atd_entry_cid(entry).ptr, ATD_CID_TEXT_LEN);
        if (known)
            there = bsearch(&one, editor->waiting, known, sizeof(one), compare_waiting);
        if (there)
            there->is_there = true;
        else if (editor->waiting_count < ATD_EDIT_WAITING_MAX)
            editor->waiting[editor->waiting_count++] = one;
    }
    for (size_t i = 0; i < editor->waiting_count; i++) {
        if (editor->waiting[i].is_there)
            editor->waiting[kept++] = editor->waiting[i];
    }
    editor->waiting_count = kept;
    if (kept)
        qsort(editor->waiting, kept, sizeof(*editor->waiting), compare_waiting);
    editor->swept_generation = atd_catalog_generation(catalog);
}

/* ------------------------------------------------------------------ one that is due */

static void count_record(void *ctx, const struct atd_shard_record *record)
{
    (void)record;
    ++*(size_t *)ctx;
}

static int compare_urls(const void *a, const void *b)
{
    return atd_str_compare(*(const struct atd_str *)a, *(const struct atd_str *)b);
}

/* *ret_covered: all that the entry lists stands in `now` too. */
static int is_covered(struct atd_edit *edit, const struct atd_index_entry *entry,
                      const struct atd_index_entry *now, bool *ret_covered, struct atd_error *err)
{
    struct atd_str *old_urls;
    struct atd_str *urls;
    size_t old_count;
    size_t count;
    size_t records = 0;
    int rc = atd_urls_decode(entry->data_urls, &edit->arena, &old_urls, &old_count, err);

    *ret_covered = false;
    if (rc == 0)
        rc = atd_urls_decode(now->data_urls, &edit->arena, &urls, &count, err);
    if (rc || !entry->metadata.ptr || !count || atd_metadata_check(entry->metadata, NULL, NULL))
        return rc;
    atd_metadata_each_shard(entry->metadata, count_record, &records);
    qsort(urls, count, sizeof(*urls), compare_urls);
    *ret_covered = records > 0;
    for (size_t i = 0; *ret_covered && i < old_count; i++)
        *ret_covered = bsearch(&old_urls[i], urls, count, sizeof(*urls), compare_urls) != NULL;
    return 0;
}

/* The record as it is now, and the name it was superseded under as it is now. */
static int plan_delete(struct atd_edit *edit, struct atd_str cid, struct atd_error *err)
{
    struct atd_index_entry entry;
    struct atd_edit_now now;
    struct atd_str name;
    bool exists;
    bool goes;
    int rc = atd_edit_find_entry(edit->editor, cid, &edit->arena, &exists, &entry, err);

    if (rc || !exists || !atd_edit_is_superseded(entry.name, entry.cid, &name))
        return rc; /* gone, or in use again */
    rc = atd_edit_meaning(edit->editor, edit->catalog, name, &edit->arena, &now, err);
    if (rc || (now.exists && atd_str_equal(now.entry.cid, entry.cid)))
        return rc;
    goes = atd_editor_is_own(edit->editor, entry.cid);
    if (!goes && now.exists)
        rc = is_covered(edit, &entry, &now.entry, &goes, err);
    return rc || !goes ? rc : atd_edit_delete_entry(edit, &entry, err);
}

struct due {
    struct atd_edit_waiting *waiting[DELETED_AT_ONCE_MAX];
    size_t count;
};

static int plan_deletes(struct atd_edit *edit, void *ctx, struct atd_error *err)
{
    const struct due *due = ctx;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < due->count; i++)
        rc = plan_delete(edit, atd_str_from(due->waiting[i]->cid), err);
    return rc;
}

static int64_t left_us(const struct atd_edit_waiting *waiting, int64_t now_us)
{
    return waiting->seen_us + ATD_SUPERSEDED_KEEP_S * SECOND_US - now_us;
}

/* Those that go now: none, or all from the one that is due on that will soon be. */
static void find_due(struct atd_editor *editor, int64_t now_us, struct due *due)
{
    bool is_due = false;

    due->count = 0;
    for (size_t i = 0; i < editor->waiting_count; i++) {
        struct atd_edit_waiting *waiting = &editor->waiting[i];

        if (waiting->seen_us > now_us)
            waiting->seen_us = now_us; /* the clock was set back */
        if (waiting->is_settled || left_us(waiting, now_us) > NEARLY_DUE_S * SECOND_US)
            continue;
        is_due = is_due || left_us(waiting, now_us) <= 0;
        if (due->count < DELETED_AT_ONCE_MAX)
            due->waiting[due->count++] = waiting;
    }
    if (!is_due)
        due->count = 0;
}

int atd_edit_sweep(struct atd_editor *editor, int64_t *ret_next_s, struct atd_error *err)
{
    struct atd_catalog *catalog = atd_live_get(editor->options.live);
    int64_t now_us = atd_editor_now_us(editor);
    int64_t next_us = -1;
    struct due due;
    int rc = 0;

    if (atd_catalog_generation(catalog) != editor->swept_generation)
        look_through(editor, catalog, now_us);
    atd_catalog_unref(catalog);
    find_due(editor, now_us, &due);
    if (due.count)
        rc = atd_edit_run(editor, plan_deletes, &due, err);
    for (size_t i = 0; rc == 0 && i < due.count; i++)
        due.waiting[i]->is_settled = true;
    for (size_t i = 0; i < editor->waiting_count; i++) {
        int64_t left = left_us(&editor->waiting[i], now_us);

        if (editor->waiting[i].is_settled)
            continue;
        if (left <= 0)
            left = RETRY_S * SECOND_US;
        if (next_us < 0 || left < next_us)
            next_us = left;
    }
    *ret_next_s = next_us < 0 ? -1 : (next_us + SECOND_US - 1) / SECOND_US;
    return rc ? atd_error_wrap(err, rc, "deleting superseded entries") : 0;
}

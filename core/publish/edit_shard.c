/*
 * Shards of a dataset: added, taken out, their records changed.
 */
#include <errno.h>
#include <stdlib.h>

#include "atdata/entry.h"
#include "atdata/shard_url.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "catalog/shards.h"
#include "publish/edit.h"

/* ------------------------------------------------------------------ adding one */

struct add_edit {
    struct atd_str name;
    struct atd_str file_name;
    const struct atd_edit_shard *shard;
    struct atd_edit_result result;
    bool was_new; /* the try whose answer was lost made the dataset */
};

static void note_result(struct add_edit *want, struct atd_str cid, struct atd_str ref)
{
    struct atd_edit_result *result = &want->result;

    (void)snprintf(result->cid.text, sizeof(result->cid.text), "%.*s",
                   (int)(cid.len < ATD_CID_TEXT_LEN ? cid.len : ATD_CID_TEXT_LEN), cid.ptr);
    (void)snprintf(
        result->schema_ref, sizeof(result->schema_ref), "%.*s",
        (int)(ref.len < sizeof(result->schema_ref) ? ref.len : sizeof(result->schema_ref) - 1),
        ref.ptr);
}

/* True when the metadata has the checksum for the URL. */
static bool has_checksum(struct atd_bytes metadata, struct atd_str url, const char *sha256)
{
    struct atd_bytes checksums;
    struct atd_bytes value;
    struct atd_str text;

    return sha256[0] && metadata.ptr &&
           atd_metadata_find(metadata, ATD_STR("checksums"), &checksums) &&
           atd_msgpack_is_map(checksums) && atd_metadata_find(checksums, url, &value) &&
           atd_msgpack_as_text(value, &text) && atd_str_equal(text, atd_str_from(sha256));
}

/* The list with the shard in it; *ret_changed false: it was there and nothing is replaced. */
static int place_url(struct atd_edit *edit, const struct atd_str *urls, size_t count,
                     const struct atd_edit_shard *shard, bool is_listed, struct atd_str **ret_urls,
                     size_t *ret_count, bool *ret_changed, struct atd_error *err)
{
    struct atd_str *list = atd_arena_alloc_array(&edit->arena, count + 1, sizeof(*list));
    bool is_placed = is_listed;
    bool changed = false;
    size_t kept = 0;

    if (!list)
        return atd_edit_no_memory(err);
    for (size_t i = 0; i < count; i++) {
        bool is_replaced = shard->replaces.len && atd_str_equal(urls[i], shard->replaces) &&
                           !atd_str_equal(urls[i], shard->record.url);

        changed = changed || is_replaced;
        if (!is_replaced)
            list[kept++] = urls[i];
        else if (!is_placed)
            list[kept++] = shard->record.url;
        is_placed = is_placed || is_replaced;
    }
    if (!is_placed) {
        size_t place = atd_urls_place(list, kept, shard->record.url);

        memmove(list + place + 1, list + place, (kept - place) * sizeof(*list));
        list[place] = shard->record.url;
        kept++;
        changed = true;
    }
    *ret_urls = list;
    *ret_count = kept;
    *ret_changed = changed;
    return 0;
}

/* The entry's metadata with the shard's record, without that of the one it replaces. */
static int put_record(struct atd_bytes metadata, const struct atd_edit_shard *shard, bool replaced,
                      struct atd_buf *out, struct atd_error *err)
{
    atd_auto_buf struct atd_buf without = ATD_BUF_INIT(ATD_METADATA_BYTES_MAX);
    int rc = 0;

    if (replaced && metadata.ptr) {
        rc = atd_metadata_drop_shard(metadata, shard->replaces, &without, err);
        if (rc == 0)
            rc = atd_buf_finish(&without, "the metadata", err);
        metadata = without.len ? atd_buf_bytes(&without) : (struct atd_bytes){NULL, 0};
    }
    if (rc == 0)
        rc = atd_metadata_put_shard(metadata, &shard->record, out, err);
    return rc ? rc : atd_buf_finish(out, "the metadata", err);
}

/* A shard of that name is there at another URL: *ret_same says whether it is the same one. */
static int meet_named(const struct add_edit *want, const struct atd_edit_now *now,
                      struct atd_str named, bool *ret_same, struct atd_error *err)
{
    const struct atd_edit_shard *shard = want->shard;

    *ret_same = false;
    if (!named.ptr || atd_str_equal(named, shard->record.url) ||
        (shard->replaces.len && atd_str_equal(named, shard->replaces)))
        return 0;
    *ret_same = has_checksum(now->entry.metadata, named, shard->record.sha256);
    return *ret_same ? 0
                     : atd_error_set(err, EEXIST,
                                     "the dataset has a shard of that name with other bytes, and "
                                     "shards are immutable: choose another name");
}

/* It is there already: who unlinked it just now does not take it out any more. */
static int keep_named(struct atd_edit *edit, struct add_edit *want, const struct atd_edit_now *now,
                      struct atd_str named, struct atd_error *err)
{
    atd_auto_buf struct atd_buf metadata = ATD_BUF_INIT(ATD_METADATA_BYTES_MAX);
    int rc;

    want->result.was_there = true;
    note_result(want, now->entry.cid, now->entry.schema_ref);
    if (!atd_metadata_is_leaving(now->entry.metadata, named))
        return 0;
    rc = atd_metadata_set_leaving(now->entry.metadata, named, false, &metadata, err);
    return rc ? rc : atd_edit_put_metadata_of(edit, want->name, now, atd_buf_bytes(&metadata), err);
}

static int plan_add(struct atd_edit *edit, void *ctx, struct atd_error *err)
{
    struct add_edit *want = ctx;
    const struct atd_edit_shard *shard = want->shard;
    atd_auto_buf struct atd_buf metadata = ATD_BUF_INIT(ATD_METADATA_BYTES_MAX);
    struct atd_edit_successor successor = {0};
    struct atd_edit_now now;
    struct atd_cid cid;
    struct atd_str *urls = NULL;
    struct atd_str named = {NULL, 0};
    size_t count = 0;
    bool is_listed = false;
    bool is_same = false;
    bool changed = true;
    int rc = atd_edit_meaning(edit->editor, edit->catalog, want->name, &edit->arena, &now, err);

    if (rc == 0 && now.exists)
        rc = atd_urls_decode(now.entry.data_urls, &edit->arena, &urls, &count, err);
    if (rc == 0 && now.exists && now.entry.metadata.ptr)
        rc = atd_metadata_check(now.entry.metadata, NULL, err);
    if (rc == 0)
        rc = atd_shard_urls_find(urls, count, shard->record.url, want->file_name, &edit->arena,
                                 &is_listed, &named, err);
    if (rc == 0)
        rc = meet_named(want, &now, named, &is_same, err);
    if (rc == 0 && is_same)
        return keep_named(edit, want, &now, named, err);
    if (rc == 0)
        rc = place_url(edit, urls, count, shard, is_listed, &urls, &count, &changed, err);
    if (rc == 0 && count > ATD_SHARDS_MAX)
        rc = atd_error_set(err, E2BIG, "the dataset has %u shards, and more are not shown",
                           ATD_SHARDS_MAX);
    if (rc == 0)
        rc = put_record(now.entry.metadata, shard, changed && shard->replaces.len > 0, &metadata,
                        err);
    if (rc)
        return rc;
    if (!changed) {
        /* Listed by the very try whose answer was lost, as far as can be told. */
        want->result.was_there = !edit->was_sent;
        want->result.is_new_dataset = edit->was_sent && want->was_new;
        note_result(want, now.entry.cid, now.entry.schema_ref);
        return atd_edit_put_metadata_of(edit, want->name, &now, atd_buf_bytes(&metadata), err);
    }
    successor.urls = urls;
    successor.url_count = count;
    successor.metadata = atd_arena_bytes(&edit->arena, atd_buf_bytes(&metadata));
    if (!successor.metadata.ptr)
        return atd_edit_no_memory(err);
    rc = atd_edit_settle_schema(edit, want->name, &now, shard, &successor.schema_ref, err);
    if (rc == 0)
        rc = atd_edit_succeed(edit, want->name, &now, &successor, &cid, err);
    if (rc)
        return rc;
    want->was_new = !now.exists;
    want->result.was_there = false;
    want->result.is_new_dataset = !now.exists;
    note_result(want, atd_str_from(cid.text), successor.schema_ref);
    return 0;
}

int atd_edit_run_add(struct atd_editor *editor, struct atd_str name, struct atd_str file_name,
                     const struct atd_edit_shard *shard, struct atd_edit_result *ret_result,
                     struct atd_error *err)
{
    struct add_edit want = {.name = name, .file_name = file_name, .shard = shard};
    int rc = atd_edit_run(editor, plan_add, &want, err);

    if (rc)
        return atd_error_wrap(err, rc, "adding '" ATD_STR_FMT "' to dataset '" ATD_STR_FMT "'",
                              ATD_STR_ARG(file_name), ATD_STR_ARG(name));
    *ret_result = want.result;
    return 0;
}

int atd_edit_add_shard(struct atd_editor *editor, struct atd_str name, struct atd_str file_name,
                       const struct atd_edit_shard *shard, struct atd_edit_result *ret_result,
                       struct atd_error *err)
{
    int rc = atd_edit_run_add(editor, name, file_name, shard, ret_result, err);

    if (rc == 0)
        atd_edit_remember(editor, name, file_name, shard, ret_result);
    return rc;
}

/* ------------------------------------------------------------------ taking some out */

struct remove_edit {
    struct atd_str name;
    const struct atd_str *urls; /* sorted */
    size_t count;
    bool only_leaving;
    struct atd_bytes metadata; /* of the entry as it is: says which are leaving */
};

static int compare_urls(const void *a, const void *b)
{
    return atd_str_compare(*(const struct atd_str *)a, *(const struct atd_str *)b);
}

static bool is_unwanted(const struct remove_edit *want, struct atd_str url)
{
    return want->count && bsearch(&url, want->urls, want->count, sizeof(url), compare_urls) &&
           (!want->only_leaving || atd_metadata_is_leaving(want->metadata, url));
}

struct url_list {
    struct atd_str *urls; /* malloc'ed */
    size_t count;
    size_t room;
};

static int append_url(struct url_list *list, struct atd_str url, struct atd_error *err)
{
    if (list->count == list->room) {
        size_t room = list->room ? 2 * list->room : 64;
        struct atd_str *urls = reallocarray(list->urls, room, sizeof(*urls));

        if (!urls)
            return atd_edit_no_memory(err);
        list->urls = urls;
        list->room = room;
    }
    list->urls[list->count++] = url;
    return 0;
}

/* Appends what is left of one element: itself, or the shards of a pattern that lost some. */
static int keep_element(struct atd_edit *edit, const struct remove_edit *want,
                        struct atd_str element, struct url_list *left, bool *changed,
                        struct atd_error *err)
{
    struct atd_str *shards;
    size_t count;
    size_t lost = 0;
    int rc;

    if (is_unwanted(want, element)) {
        *changed = true;
        return 0;
    }
    rc = atd_shard_urls_expand(&element, 1, ATD_SHARDS_MAX, NULL, NULL, &edit->arena, &shards,
                               &count, err);
    for (size_t i = 0; rc == 0 && i < count; i++)
        lost += is_unwanted(want, shards[i]);
    if (rc == 0 && lost == 0)
        return append_url(left, element, err);
    *changed = true;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        if (!is_unwanted(want, shards[i]))
            rc = append_url(left, shards[i], err);
    }
    return rc;
}

/* Every removed shard's record goes; *ret_metadata is in the arena. */
static int drop_records(struct atd_edit *edit, const struct remove_edit *want,
                        struct atd_bytes metadata, struct atd_bytes *ret_metadata,
                        struct atd_error *err)
{
    struct atd_buf bufs[2] = {ATD_BUF_INIT(ATD_METADATA_BYTES_MAX),
                              ATD_BUF_INIT(ATD_METADATA_BYTES_MAX)};
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < want->count && metadata.ptr; i++) {
        struct atd_buf *out = &bufs[metadata.ptr == bufs[0].ptr];

        if (!is_unwanted(want, want->urls[i]))
            continue;
        atd_buf_clear(out);
        rc = atd_metadata_drop_shard(metadata, want->urls[i], out, err);
        if (rc == 0)
            rc = atd_buf_finish(out, "the metadata", err);
        metadata = out->len ? atd_buf_bytes(out) : (struct atd_bytes){NULL, 0};
    }
    if (rc == 0 && metadata.ptr) {
        metadata = atd_arena_bytes(&edit->arena, metadata);
        if (!metadata.ptr)
            rc = atd_edit_no_memory(err);
    }
    *ret_metadata = metadata;
    atd_buf_release(&bufs[0]);
    atd_buf_release(&bufs[1]);
    return rc;
}

static int plan_remove(struct atd_edit *edit, void *ctx, struct atd_error *err)
{
    struct remove_edit *want = ctx;
    struct atd_edit_successor successor = {0};
    struct url_list left = {0};
    struct atd_edit_now now;
    struct atd_str *urls;
    size_t count;
    bool changed = false;
    struct atd_cid cid;
    int rc = atd_edit_meaning(edit->editor, edit->catalog, want->name, &edit->arena, &now, err);

    if (rc || !now.exists)
        return rc; /* none of them is listed */
    if (want->only_leaving && now.entry.metadata.ptr)
        rc = atd_metadata_check(now.entry.metadata, NULL, err);
    if (rc)
        return rc;
    want->metadata = now.entry.metadata;
    rc = atd_urls_decode(now.entry.data_urls, &edit->arena, &urls, &count, err);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = keep_element(edit, want, urls[i], &left, &changed, err);
    if (rc == 0 && changed)
        rc = drop_records(edit, want, now.entry.metadata, &successor.metadata, err);
    if (rc == 0 && changed) {
        successor.schema_ref = now.entry.schema_ref;
        successor.urls = left.urls;
        successor.url_count = left.count;
        rc = atd_edit_succeed(edit, want->name, &now, &successor, &cid, err);
    }
    free(left.urls);
    return rc;
}

/* Runs a plan over the URLs, sorted. */
static int run_over(struct atd_editor *editor, atd_edit_plan plan, struct remove_edit *want,
                    const struct atd_str *urls, struct atd_error *err)
{
    size_t count = want->count;
    atd_auto_free struct atd_str *sorted = reallocarray(NULL, count + 1, sizeof(*sorted));
    int rc;

    if (!sorted)
        return atd_edit_no_memory(err);
    if (count) {
        memcpy(sorted, urls, count * sizeof(*sorted));
        qsort(sorted, count, sizeof(*sorted), compare_urls);
    }
    want->urls = sorted;
    rc = atd_edit_run(editor, plan, want, err);
    /* Not of a plan that only marks. */
    if (rc == 0 && plan == plan_remove)
        atd_edit_keep_out(editor, want->name, sorted, count);
    return rc ? atd_error_wrap(err, rc, "taking shards out of dataset '" ATD_STR_FMT "'",
                               ATD_STR_ARG(want->name))
              : 0;
}

int atd_edit_remove_shards(struct atd_editor *editor, struct atd_str name,
                           const struct atd_str *urls, size_t count, struct atd_error *err)
{
    struct remove_edit want = {.name = name, .count = count};

    return run_over(editor, plan_remove, &want, urls, err);
}

int atd_edit_remove_leaving(struct atd_editor *editor, struct atd_str name,
                            const struct atd_str *urls, size_t count, struct atd_error *err)
{
    struct remove_edit want = {.name = name, .count = count, .only_leaving = true};

    return run_over(editor, plan_remove, &want, urls, err);
}

/* ------------------------------------------------------------------ about to be taken out */

static int plan_mark(struct atd_edit *edit, void *ctx, struct atd_error *err)
{
    const struct remove_edit *want = ctx;
    struct atd_buf bufs[2] = {ATD_BUF_INIT(ATD_METADATA_BYTES_MAX),
                              ATD_BUF_INIT(ATD_METADATA_BYTES_MAX)};
    struct atd_edit_now now;
    struct atd_bytes metadata;
    struct atd_str *urls;
    struct atd_str *shards;
    size_t count;
    int rc = atd_edit_meaning(edit->editor, edit->catalog, want->name, &edit->arena, &now, err);

    if (rc || !now.exists)
        return rc;
    metadata = now.entry.metadata;
    rc = atd_urls_decode(now.entry.data_urls, &edit->arena, &urls, &count, err);
    if (rc == 0)
        rc = atd_shard_urls_expand(urls, count, ATD_SHARDS_MAX, NULL, NULL, &edit->arena, &shards,
                                   &count, err);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        struct atd_buf *out = &bufs[metadata.ptr == bufs[0].ptr];

        if (!is_unwanted(want, shards[i]))
            continue;
        atd_buf_clear(out);
        rc = atd_metadata_set_leaving(metadata, shards[i], true, out, err);
        metadata = atd_buf_bytes(out);
    }
    if (rc == 0)
        rc = atd_edit_put_metadata_of(edit, want->name, &now, metadata, err);
    atd_buf_release(&bufs[0]);
    atd_buf_release(&bufs[1]);
    return rc;
}

int atd_edit_mark_leaving(struct atd_editor *editor, struct atd_str name,
                          const struct atd_str *urls, size_t count, struct atd_error *err)
{
    struct remove_edit want = {.name = name, .count = count};

    return run_over(editor, plan_mark, &want, urls, err);
}

/* ------------------------------------------------------------------ its time */

struct mtime_edit {
    struct atd_str name;
    struct atd_str url;
    int64_t mtime_ns;
};

static int plan_mtime(struct atd_edit *edit, void *ctx, struct atd_error *err)
{
    const struct mtime_edit *want = ctx;
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(ATD_METADATA_BYTES_MAX);
    struct atd_edit_now now;
    struct atd_str *urls;
    struct atd_str named;
    size_t count;
    bool is_listed = false;
    int rc = atd_edit_meaning(edit->editor, edit->catalog, want->name, &edit->arena, &now, err);

    if (rc == 0 && now.exists)
        rc = atd_urls_decode(now.entry.data_urls, &edit->arena, &urls, &count, err);
    if (rc == 0 && now.exists)
        rc = atd_shard_urls_find(urls, count, want->url, ATD_STR(""), &edit->arena, &is_listed,
                                 &named, err);
    if (rc == 0 && !is_listed)
        rc = atd_error_set(err, ENOENT, "the dataset does not list '" ATD_STR_FMT "'",
                           ATD_STR_ARG(want->url));
    if (rc == 0)
        rc = atd_metadata_put_mtime(now.entry.metadata, want->url, want->mtime_ns, &out, err);
    if (rc == 0)
        rc = atd_buf_finish(&out, "the metadata", err);
    return rc ? rc : atd_edit_put_metadata_of(edit, want->name, &now, atd_buf_bytes(&out), err);
}

int atd_edit_set_mtime(struct atd_editor *editor, struct atd_str name, struct atd_str url,
                       int64_t mtime_ns, struct atd_error *err)
{
    struct mtime_edit want = {name, url, mtime_ns};
    int rc = atd_edit_run(editor, plan_mtime, &want, err);

    return rc ? atd_error_wrap(err, rc, "changing a shard's time in dataset '" ATD_STR_FMT "'",
                               ATD_STR_ARG(name))
              : 0;
}

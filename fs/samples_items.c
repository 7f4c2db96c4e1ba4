/*
 * What the directories in samples/ show: items by place and by name, and their text files.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "atdata/dali_idx.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "dataset/wids.h"
#include "layout_staged.h"
#include "samples_private.h"

/* Before the shards' in samples/. */
#define TOP_NAMES 1
/* A shard's directory and its index. */
#define NAMES_OF_SHARD 2
/* Links of a directory of which nobody has counted the directories in it. */
#define LINKS_UNKNOWN 1

/* ------------------------------------------------------------------ items */

bool samples_item(const struct view *view, struct view_names *storage, struct item *ret_item)
{
    struct atd_str name = view_subject(view);
    int len;

    if (!view->entry || view->entry->url_count == 0)
        return false;
    len = snprintf(storage->subject, sizeof(storage->subject), "%s/%.*s",
                   view->kind == NODE_CID ? "by-cid" : "datasets", (int)name.len, name.ptr);
    atd_assert(len > 0 && (size_t)len < sizeof(storage->subject));
    *ret_item = (struct item){
        .kind = NODE_SAMPLES,
        .parent = view->kind,
        .subject = {storage->subject, (size_t)len},
        .leaf = ATD_STR(SAMPLES_NAME),
        .link_count = LINKS_UNKNOWN,
        .mtime_s = view->entry->created_at_s,
    };
    return true;
}

bool samples_is_listed(struct fs *fs, const struct view *view)
{
    return fs->options->list_samples && (view->kind == NODE_CID || !fs->options->allow_delete);
}

/* The subject of a directory in this one. */
static struct atd_str subject_in(const struct view *view, struct atd_str leaf,
                                 struct view_names *storage)
{
    int len = snprintf(storage->subject, sizeof(storage->subject), "%s/%.*s", view->subject,
                       (int)leaf.len, leaf.ptr);

    atd_assert(len > 0 && (size_t)len < sizeof(storage->subject));
    return (struct atd_str){storage->subject, (size_t)len};
}

static void shard_item(const struct view *view, const struct atd_shard *shard, struct atd_str stem,
                       struct view_names *storage, struct item *ret_item)
{
    *ret_item = (struct item){
        .kind = NODE_SAMPLES_SHARD,
        .parent = view->kind,
        .subject = subject_in(view, stem, storage),
        .leaf = stem,
        .link_count = LINKS_UNKNOWN,
        .mtime_s = shard->mtime_s,
        .mtime_ns = shard->mtime_ns,
    };
    samples_shard_version(view, shard, ret_item->version);
}

/* An index whose members are not looked at for its name alone. */
static void unsized_item(const struct view *view, struct atd_str leaf, struct item *ret_item)
{
    *ret_item = (struct item){.kind = NODE_SAMPLES_TEXT,
                              .parent = view->kind,
                              .subject = view_subject(view),
                              .leaf = leaf,
                              .link_count = 1,
                              .is_unsized = true};
}

static bool text_item(const struct view *view, struct atd_str leaf, int64_t mtime_s,
                      struct item *ret_item)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(ATD_RENDER_BYTES_MAX);

    unsized_item(view, leaf, ret_item);
    if (samples_render(view, leaf, &text, NULL) != 0)
        return false;
    ret_item->is_unsized = false;
    ret_item->mtime_s = mtime_s;
    ret_item->size_bytes = text.len;
    layout_text_version(text.ptr, text.len, mtime_s, ret_item->version);
    return true;
}

static void member_item(const struct view *view, const struct atd_member_name *name,
                        struct view_names *storage, struct item *ret_item)
{
    const struct atd_shard *shard = view->samples.shard;

    *ret_item = (struct item){
        .kind = name->is_sample ? NODE_SAMPLE : NODE_MEMBER,
        .parent = view->kind,
        .subject = name->is_sample ? subject_in(view, name->name, storage) : view_subject(view),
        .leaf = name->name,
        .link_count = name->is_sample ? 2 : 1,
        .size_bytes = name->is_sample ? 0 : name->member.size_bytes,
        .mtime_s = shard->mtime_s,
        .mtime_ns = shard->mtime_ns,
        .is_remote = shard->store != NULL,
    };
    samples_member_version(view, &name->member, ret_item->version);
}

static void field_item(const struct view *view, const struct atd_sample_file *file,
                       struct item *ret_item)
{
    const struct atd_shard *shard = view->samples.shard;

    *ret_item = (struct item){
        .kind = NODE_FIELD,
        .parent = view->kind,
        .subject = view_subject(view),
        .leaf = file->name,
        .link_count = 1,
        .size_bytes = atd_sample_file_size(file),
        .mtime_s = shard->mtime_s,
        .mtime_ns = shard->mtime_ns,
        .is_remote = shard->store != NULL,
    };
    memcpy(ret_item->version, view->samples.sample_key, NODE_VERSION_BYTES);
}

/* ------------------------------------------------------------------ by place */

size_t samples_count(const struct view *view)
{
    switch (view->kind) {
    case NODE_SAMPLES:
        return TOP_NAMES + NAMES_OF_SHARD * atd_shard_list_count(view->shards);
    case NODE_SAMPLES_SHARD:
        return view->samples.inside->names ? atd_member_names_count(view->samples.inside->names)
                                           : 1;
    case NODE_SAMPLE:
        return atd_read_sample_files(view->samples.sample)->count;
    default:
        return 0;
    }
}

/* The name of a shard's index, where it has one; else empty. */
static struct atd_str idx_name(const struct view *view, const struct atd_shard *shard,
                               struct view_names *storage)
{
    struct atd_str name = {storage->leaf, 0};
    int len;

    if (shard->file_name.len <= strlen(".tar") || shard->file_name.len > ATD_FILE_NAME_MAX)
        return name;
    len = snprintf(storage->leaf, sizeof(storage->leaf), "%.*s.idx",
                   (int)(shard->file_name.len - strlen(".tar")), shard->file_name.ptr);
    name.len = (size_t)len;
    return samples_find_idx(view, name) == shard ? name : (struct atd_str){storage->leaf, 0};
}

/* Empty where nothing shows. */
static struct atd_str top_name(const struct view *view, size_t place, struct view_names *storage)
{
    const struct atd_shard *shard;

    if (place < TOP_NAMES)
        return ATD_STR(SAMPLES_INDEX_JSON);
    place -= TOP_NAMES;
    shard = atd_shard_list_at(view->shards, place / NAMES_OF_SHARD);
    return place % NAMES_OF_SHARD == 0 ? samples_stem(view, shard) : idx_name(view, shard, storage);
}

static bool top_at(const struct view *view, size_t place, struct view_names *storage,
                   struct item *ret_item)
{
    struct atd_str name = top_name(view, place, storage);

    if (name.len == 0)
        return false;
    if (place >= TOP_NAMES && (place - TOP_NAMES) % NAMES_OF_SHARD == 0)
        shard_item(view, atd_shard_list_at(view->shards, (place - TOP_NAMES) / NAMES_OF_SHARD),
                   name, storage, ret_item);
    else
        unsized_item(view, name, ret_item);
    return true;
}

struct atd_str samples_name_at(const struct view *view, size_t place, struct view_names *storage)
{
    const struct samples_view *samples = &view->samples;

    switch (view->kind) {
    case NODE_SAMPLES:
        return top_name(view, place, storage);
    case NODE_SAMPLES_SHARD:
        return samples->inside->names ? atd_member_names_at(samples->inside->names, place).name
                                      : ATD_STR(SAMPLES_WHY);
    default:
        return atd_read_sample_files(samples->sample)->files[place].name;
    }
}

bool samples_at(const struct view *view, size_t place, struct view_names *storage,
                struct item *ret_item)
{
    const struct samples_view *samples = &view->samples;
    struct atd_member_name name;

    switch (view->kind) {
    case NODE_SAMPLES:
        return top_at(view, place, storage, ret_item);
    case NODE_SAMPLES_SHARD:
        if (!samples->inside->names)
            return text_item(view, ATD_STR(SAMPLES_WHY), samples->shard->mtime_s, ret_item);
        name = atd_member_names_at(samples->inside->names, place);
        member_item(view, &name, storage, ret_item);
        return true;
    case NODE_SAMPLE:
        field_item(view, &atd_read_sample_files(samples->sample)->files[place], ret_item);
        return true;
    default:
        return false;
    }
}

/* ------------------------------------------------------------------ by name */

static bool find_in_top(const struct view *view, struct atd_str name, struct view_names *storage,
                        struct item *ret_item)
{
    const struct atd_shard *shard;

    if (view->samples.counts || view->samples.inside)
        return text_item(view, name, view->entry->created_at_s, ret_item);
    shard = samples_find_stem(view, name);
    if (shard)
        shard_item(view, shard, name, storage, ret_item);
    return shard != NULL;
}

bool samples_find(const struct view *view, struct atd_str name, struct view_names *storage,
                  struct item *ret_item)
{
    const struct samples_view *samples = &view->samples;
    const struct atd_sample_file *file;
    struct atd_member_name member;

    switch (view->kind) {
    case NODE_SAMPLES:
        return find_in_top(view, name, storage, ret_item);
    case NODE_SAMPLES_SHARD:
        if (!samples->inside->names)
            return atd_str_equal(name, ATD_STR(SAMPLES_WHY)) &&
                   text_item(view, name, samples->shard->mtime_s, ret_item);
        if (!atd_member_names_find(samples->inside->names, name, &member))
            return false;
        member_item(view, &member, storage, ret_item);
        return true;
    case NODE_SAMPLE:
        file = atd_sample_files_find(atd_read_sample_files(samples->sample), name);
        if (file)
            field_item(view, file, ret_item);
        return file != NULL;
    default:
        return false;
    }
}

/* ------------------------------------------------------------------ texts */

/* Nothing, where there can be no index: a name that was listed is there. */
static int render_idx(const struct samples_shard *inside, struct atd_buf *out,
                      struct atd_error *err)
{
    struct atd_members *members = inside->names ? atd_member_names_members(inside->names) : NULL;
    struct atd_dali_idx *idx = atd_dali_idx_new(ATD_RENDER_BYTES_MAX);
    int rc = idx ? 0 : atd_error_set(err, ENOMEM, "out of memory");

    if (!members) {
        atd_dali_idx_free(idx);
        return rc;
    }
    for (size_t i = 0; rc == 0 && i < atd_members_count(members); i++) {
        struct atd_member member = atd_members_at(members, i);
        const struct atd_tar_member told = {.name = member.name,
                                            .type = '0',
                                            .is_file = true,
                                            .data_offset = member.data_offset,
                                            .size_bytes = member.size_bytes};

        rc = atd_dali_idx_add(idx, &told, err);
    }
    if (rc == 0)
        rc = atd_dali_idx_write(idx, out, err);
    atd_dali_idx_free(idx);
    return rc == -EINVAL ? 0 : rc; /* a name that the format cannot hold */
}

static int render_wids(const struct view *view, struct atd_buf *out, struct atd_error *err)
{
    size_t count = atd_shard_list_count(view->shards);
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ATD_RENDER_BYTES_MAX);
    struct atd_wids_shard *shards =
        atd_arena_alloc_array(&arena, count ? count : 1, sizeof(*shards));
    size_t told = 0;

    for (size_t i = 0; shards && i < count; i++) {
        const struct atd_shard *shard = atd_shard_list_at(view->shards, i);
        char url[ATD_FILE_NAME_MAX + 4];
        int len =
            snprintf(url, sizeof(url), "../%.*s", (int)shard->file_name.len, shard->file_name.ptr);

        if (view->samples.counts[i] == UINT64_MAX)
            continue;
        shards[told] = (struct atd_wids_shard){
            .url = atd_arena_str(&arena, (struct atd_str){url, (size_t)len}),
            .samples = view->samples.counts[i],
            .size_bytes = shard->size_bytes};
        if (!shards[told++].url.ptr)
            shards = NULL;
    }
    if (!shards)
        return atd_error_set(err, ENOMEM, "out of memory");
    atd_wids_write(atd_entry_name(view->entry), shards, told, out);
    return atd_buf_finish(out, SAMPLES_INDEX_JSON, err);
}

int samples_render(const struct view *view, struct atd_str leaf, struct atd_buf *out,
                   struct atd_error *err)
{
    const struct samples_view *samples = &view->samples;

    if (view->kind == NODE_SAMPLES && samples->counts)
        return render_wids(view, out, err);
    if (view->kind == NODE_SAMPLES && samples->inside)
        return render_idx(samples->inside, out, err);
    if (view->kind == NODE_SAMPLES_SHARD && !samples->inside->names) {
        atd_buf_printf(out, "The samples of this shard cannot be shown one by one: %s.\n",
                       samples->inside->why.text);
        return atd_buf_finish(out, SAMPLES_WHY, err);
    }
    return atd_error_set(err, ENOENT, "there is no '" ATD_STR_FMT "'", ATD_STR_ARG(leaf));
}

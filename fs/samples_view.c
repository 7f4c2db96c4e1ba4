/*
 * Views of the directories in samples/: which dataset, which shard, which sample.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/digest.h"
#include "layout_staged.h"
#include "samples_private.h"

/* "datasets/NAME/STEM/KEY" */
struct place {
    enum node_kind holder;
    struct atd_str name; /* of the dataset or entry */
    struct atd_str stem;
    struct atd_str key;
};

static struct atd_str cut(struct atd_str *rest)
{
    ptrdiff_t slash = atd_str_find(*rest, '/');
    struct atd_str head = slash < 0 ? *rest : atd_str_head(*rest, (size_t)slash);

    *rest = atd_str_from_byte(*rest, slash < 0 ? rest->len : (size_t)slash + 1);
    return head;
}

static struct place parse(struct atd_str subject)
{
    struct atd_str top = cut(&subject);
    struct place place = {.holder =
                              atd_str_equal(top, ATD_STR("by-cid")) ? NODE_CID : NODE_DATASET};

    place.name = cut(&subject);
    place.stem = cut(&subject);
    place.key = subject;
    return place;
}

/* The subject of the view's directory: the dataset may have another name now. */
static void spell_subject(struct view *view, enum node_kind holder, const struct place *place)
{
    struct atd_str name = view_subject(view);
    int len = snprintf(view->subject, sizeof(view->subject), "%s/%.*s%s%.*s%s%.*s",
                       holder == NODE_CID ? "by-cid" : "datasets", (int)name.len, name.ptr,
                       place->stem.len ? "/" : "", (int)place->stem.len, place->stem.ptr,
                       place->key.len ? "/" : "", (int)place->key.len, place->key.ptr);

    atd_assert(len > 0 && (size_t)len < sizeof(view->subject));
}

/* ------------------------------------------------------------------ shards by name */

#define TAR ".tar"

static bool is_tar(struct atd_str name)
{
    return name.len > strlen(TAR) && atd_str_ends_with(name, ATD_STR(TAR));
}

/* Of a name that is not longer than a file name may be; NULL: there is no such shard. */
static const struct atd_shard *find_tar(const struct view *view, struct atd_str stem)
{
    char name[ATD_FILE_NAME_MAX + 1];
    const struct atd_shard *shard;
    int len;

    if (stem.len == 0 || stem.len + strlen(TAR) > ATD_FILE_NAME_MAX || !view->shards)
        return NULL;
    len = snprintf(name, sizeof(name), "%.*s" TAR, (int)stem.len, stem.ptr);
    shard = atd_shard_list_find(view->shards, (struct atd_str){name, (size_t)len});
    return shard;
}

/* About to be deleted, or not to be had: as in the dataset's directory. */
static bool is_shown(const struct view *view, const struct atd_shard *shard)
{
    return !shard->error_code &&
           !(view->dataset && staging_is_hidden(view->staging, atd_dataset_file_name(view->dataset),
                                                shard->file_name));
}

/* Whether the name without ".tar" is something else's. */
static bool is_taken(const struct view *view, struct atd_str stem)
{
    const struct atd_shard *exact = atd_shard_list_find(view->shards, stem);

    if (atd_str_equal(stem, ATD_STR(SAMPLES_INDEX_JSON)))
        return true;
    if (atd_str_ends_with(stem, ATD_STR(".idx")) &&
        find_tar(view, atd_str_head(stem, stem.len - strlen(".idx"))))
        return true;
    return exact && !is_tar(stem);
}

struct atd_str samples_stem(const struct view *view, const struct atd_shard *shard)
{
    struct atd_str name = shard->file_name;
    struct atd_str stem = is_tar(name) ? atd_str_head(name, name.len - strlen(TAR)) : name;

    if (!is_shown(view, shard))
        return ATD_STR("");
    if (is_tar(name))
        return is_taken(view, stem) ? name : stem;
    return atd_str_equal(name, ATD_STR(SAMPLES_INDEX_JSON)) ||
                   (atd_str_ends_with(name, ATD_STR(".idx")) &&
                    find_tar(view, atd_str_head(name, name.len - strlen(".idx"))))
               ? ATD_STR("")
               : name;
}

const struct atd_shard *samples_find_stem(const struct view *view, struct atd_str stem)
{
    const struct atd_shard *shards[] = {
        find_tar(view, stem), view->shards ? atd_shard_list_find(view->shards, stem) : NULL};

    for (size_t i = 0; i < sizeof(shards) / sizeof(shards[0]); i++) {
        if (shards[i] && atd_str_equal(samples_stem(view, shards[i]), stem))
            return shards[i];
    }
    return NULL;
}

const struct atd_shard *samples_find_idx(const struct view *view, struct atd_str name)
{
    const struct atd_shard *shard;

    if (!atd_str_ends_with(name, ATD_STR(".idx")))
        return NULL;
    shard = find_tar(view, atd_str_head(name, name.len - strlen(".idx")));
    return shard && is_shown(view, shard) ? shard : NULL;
}

/* ------------------------------------------------------------------ versions */

void samples_member_version(const struct view *view, const struct atd_member *member,
                            uint8_t ret_version[NODE_VERSION_BYTES])
{
    uint8_t all[NODE_VERSION_BYTES + 2 * sizeof(uint64_t)];
    uint8_t digest[ATD_SHA256_BYTES];

    memcpy(all, view->samples.version, NODE_VERSION_BYTES);
    memcpy(all + NODE_VERSION_BYTES, &member->data_offset, sizeof(uint64_t));
    memcpy(all + NODE_VERSION_BYTES + sizeof(uint64_t), &member->size_bytes, sizeof(uint64_t));
    atd_sha256_of(all, sizeof(all), digest);
    memcpy(ret_version, digest, NODE_VERSION_BYTES);
}

void samples_shard_version(const struct view *view, const struct atd_shard *shard,
                           uint8_t ret_version[NODE_VERSION_BYTES])
{
    uint8_t both[ATD_SHARD_VERSION_BYTES + ATD_SHA256_BYTES];
    uint8_t digest[ATD_SHA256_BYTES];

    memcpy(both, shard->version, ATD_SHARD_VERSION_BYTES);
    memcpy(both + ATD_SHARD_VERSION_BYTES, view->samples.schema_digest, ATD_SHA256_BYTES);
    atd_sha256_of(both, sizeof(both), digest);
    memcpy(ret_version, digest, NODE_VERSION_BYTES);
}

/* Which fields are arrays is the schema's word. */
static void set_schema(struct view *view)
{
    const struct atd_catalog_schema *schema = view_schema(view);

    view->samples.schema_json = schema ? schema->json : (struct atd_bytes){(const uint8_t *)"", 0};
    atd_sha256_of(view->samples.schema_json.ptr, view->samples.schema_json.len,
                  view->samples.schema_digest);
}

static void set_shard(struct view *view, const struct atd_shard *shard)
{
    view->samples.shard = shard;
    samples_shard_version(view, shard, view->samples.version);
}

bool samples_view_is_of(const struct view *view, const struct node *node)
{
    switch (node->kind) {
    case NODE_SAMPLES_SHARD:
        return memcmp(view->samples.version, node->version, NODE_VERSION_BYTES) == 0;
    case NODE_SAMPLE:
        return memcmp(view->samples.sample_key, node->version, NODE_VERSION_BYTES) == 0;
    default:
        return true;
    }
}

/* ------------------------------------------------------------------ opening */

void samples_forget(struct fs *fs, const struct view *view, const struct atd_shard *shard)
{
    if (shard->store)
        atd_locator_forget(fs->locator, shard->url);
    notify_entry_shards(fs, view->catalog, view->entry);
    atd_catalog_shards_forget(view->catalog, view->entry, view->shards);
}

static int gone(struct atd_str what, struct atd_error *err)
{
    return atd_error_set(err, ENOENT, "there is no '" ATD_STR_FMT "' in samples/ any more",
                         ATD_STR_ARG(what));
}

static int open_sample(struct fs *fs, struct view *view, struct atd_str key, enum atd_effort effort,
                       struct atd_error *err)
{
    struct samples_view *samples = &view->samples;
    struct atd_member_name found;

    if (!samples->inside->names || !atd_member_names_find(samples->inside->names, key, &found) ||
        !found.is_sample)
        return gone(key, err);
    samples_member_version(view, &found.member, samples->sample_key);
    samples->sample = atd_sample_cache_peek(fs->samples->cache, samples->sample_key);
    if (samples->sample)
        return 0;
    if (effort == ATD_EFFORT_MEMORY || (effort == ATD_EFFORT_DISK && samples->shard->store))
        return -EWOULDBLOCK;
    return atd_sample_cache_get(fs->samples->cache, samples->sample_key, samples->shard,
                                &found.member, samples->schema_json, &samples->sample, err);
}

/* How many samples are in each shard: as it was recorded, else counted. */
static int count_samples(struct fs *fs, struct view *view, enum atd_effort effort,
                         struct atd_error *err)
{
    size_t count = atd_shard_list_count(view->shards);
    uint64_t *counts = calloc(count ? count : 1, sizeof(*counts));

    if (!counts)
        return atd_error_set(err, ENOMEM, "out of memory");
    view->samples.counts = counts;
    for (size_t i = 0; i < count; i++) {
        const struct atd_shard *shard = atd_shard_list_at(view->shards, i);
        struct samples_shard *inside;
        int rc;

        counts[i] = UINT64_MAX;
        if (!is_shown(view, shard))
            continue;
        if (shard->samples >= 0) {
            counts[i] = (uint64_t)shard->samples;
            continue;
        }
        rc = samples_shard_get(fs->samples, shard, effort, &inside, err);
        if (rc) {
            view->samples.shard = shard; /* which one failed */
            return rc;
        }
        if (inside->names)
            counts[i] = atd_members_samples(atd_member_names_members(inside->names));
        samples_shard_unref(inside);
    }
    return 0;
}

/* What `name` takes in samples/ itself. */
static int open_top(struct fs *fs, struct view *view, struct atd_str name, enum atd_effort effort,
                    struct atd_error *err)
{
    const struct atd_shard *shard;

    if (!name.ptr)
        return 0;
    if (atd_str_equal(name, ATD_STR(SAMPLES_INDEX_JSON)))
        return count_samples(fs, view, effort, err);
    shard = samples_find_idx(view, name);
    if (!shard)
        return 0;
    if (effort == ATD_EFFORT_MEMORY)
        return -EWOULDBLOCK; /* to render it may take long */
    set_shard(view, shard);
    return samples_shard_get(fs->samples, shard, effort, &view->samples.inside, err);
}

static int open_in_shard(struct fs *fs, struct view *view, const struct place *place,
                         enum atd_effort effort, struct atd_error *err)
{
    const struct atd_shard *shard = samples_find_stem(view, place->stem);
    int rc;

    if (!shard)
        return gone(place->stem, err);
    set_shard(view, shard);
    rc = samples_shard_get(fs->samples, shard, effort, &view->samples.inside, err);
    if (rc == 0 && view->kind == NODE_SAMPLE)
        rc = open_sample(fs, view, place->key, effort, err);
    return rc;
}

/* What programs understand of a directory or a name that cannot be read. */
static int as_told(int rc, struct atd_error *err)
{
    switch (-rc) {
    case 0:
    case EWOULDBLOCK:
    case ENOENT:
    case ESTALE:
    case EACCES:
    case ETIMEDOUT:
    case ENOMEM:
        return rc;
    default:
        if (err)
            err->code = EIO;
        return -EIO;
    }
}

int samples_view_open(struct fs *fs, enum node_kind kind, struct atd_str subject,
                      struct atd_str name, enum atd_effort effort, struct view *ret_view,
                      struct atd_error *err)
{
    struct place place = parse(subject);
    /* A listing of samples/ shows the shards that the dataset's shows. */
    enum view_need need = kind == NODE_SAMPLES && !name.ptr ? VIEW_SHARDS : VIEW_KNOWN_SHARDS;
    struct view view;
    int rc = view_open(fs, place.holder, place.name, need, effort, &view, err);

    if (rc)
        return rc;
    view_give_staged(&view);
    view.staged = (struct staged_list){0};
    if (!view.entry || !view.shards) {
        view_close(&view);
        return gone(place.name, err);
    }
    spell_subject(&view, place.holder, &place);
    view.kind = kind;
    set_schema(&view);
    rc = kind == NODE_SAMPLES ? open_top(fs, &view, name, effort, err)
                              : open_in_shard(fs, &view, &place, effort, err);
    if (rc == -ESTALE)
        samples_forget(fs, &view, view.samples.shard);
    if (rc) {
        view_close(&view);
        return as_told(rc, err);
    }
    *ret_view = view;
    return 0;
}

void samples_view_close(struct view *view)
{
    samples_shard_unref(view->samples.inside);
    atd_read_sample_unref(view->samples.sample);
    free(view->samples.counts);
    view->samples = (struct samples_view){0};
}

/*
 * What samples/ keeps in memory: the names of the members of shards that were looked into lately.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "samples_private.h"

/* Bounds of memory, of what nobody uses this moment. */
#define MEMBERS_BYTES_MAX (32u << 20)
#define NAMES_BYTES_MAX (32u << 20)
#define NAMES_KEPT_MAX 256u
#define SAMPLES_BYTES_MAX (32u << 20)

int samples_start(struct fs *fs, struct samples **ret_samples, struct atd_error *err)
{
    const struct atd_members_cache_options options = {
        .dir = remote_cache_path(fs->remote),
        .scope = remote_sites(fs->remote)->endpoint,
        .files = fs->store,
        .memory_bytes = MEMBERS_BYTES_MAX,
        .timeout_ms = fs->options->timeout_s * 1000,
    };
    struct samples *samples = calloc(1, sizeof(*samples));

    if (!samples)
        return atd_error_set(err, ENOMEM, "out of memory");
    *ret_samples = samples; /* whatever fails, the caller frees it */
    atd_lock_init(&samples->lock, ATD_RANK_SAMPLES);
    atd_members_fetches_init(&samples->fetches);
    samples->source = (struct atd_member_source){.files = fs->store,
                                                 .reader = fs->reader,
                                                 .fetches = &samples->fetches,
                                                 .timeout_ms = options.timeout_ms};
    samples->cache = atd_sample_cache_new(&samples->source, SAMPLES_BYTES_MAX);
    if (!samples->cache)
        return atd_error_set(err, ENOMEM, "out of memory");
    return atd_members_cache_new(&options, &samples->members, err);
}

void samples_interrupt(struct samples *samples)
{
    if (!samples)
        return;
    atd_members_fetches_interrupt(&samples->fetches);
    if (samples->members)
        atd_members_cache_interrupt(samples->members);
}

void samples_free(struct samples *samples)
{
    if (!samples)
        return;
    while (samples->newest) {
        struct samples_shard *inside = samples->newest;

        samples->newest = inside->older;
        samples_shard_unref(inside);
    }
    atd_sample_cache_free(samples->cache);
    atd_members_cache_free(samples->members);
    atd_members_fetches_release(&samples->fetches);
    atd_lock_destroy(&samples->lock);
    free(samples);
}

/* ------------------------------------------------------------------ what is shown of it */

#define MEMBERS_COUNTERS(X)                                                      \
    X(from_memory, "members of a shard that were in memory")                     \
    X(from_folder, "members of a shard that were in the cache directory")        \
    X(from_beside, "members of a shard that were read from the index beside it") \
    X(walked, "members of a shard that were found by reading its headers")       \
    X(failed, "members of a shard that could not be had")

void samples_write_status(const struct samples *samples, struct atd_json_writer *json)
{
    struct atd_members_stats stats;

    atd_members_cache_stats(samples->members, &stats);
    atd_json_key(json, "samples");
    atd_json_object_begin(json);
#define X(name, help)                     \
    atd_json_key(json, "members_" #name); \
    atd_json_uint(json, stats.name);
    MEMBERS_COUNTERS(X)
#undef X
    atd_json_key(json, "members_memory_bytes");
    atd_json_uint(json, stats.memory_bytes);
    atd_json_object_end(json);
}

void samples_write_metrics(const struct samples *samples, struct atd_buf *out)
{
    struct atd_members_stats stats;

    atd_members_cache_stats(samples->members, &stats);
#define X(name, help)                                                            \
    atd_buf_printf(out,                                                          \
                   "# HELP atdatafs_samples_members_" #name "_total " help       \
                   "\n# TYPE atdatafs_samples_members_" #name "_total counter\n" \
                   "atdatafs_samples_members_" #name "_total %" PRIu64 "\n",     \
                   stats.name);
    MEMBERS_COUNTERS(X)
#undef X
}

/* ------------------------------------------------------------------ kinds and places */

bool samples_is_directory(enum node_kind kind)
{
    return kind == NODE_SAMPLES || kind == NODE_SAMPLES_SHARD || kind == NODE_SAMPLE;
}

bool samples_is_inside(enum node_kind kind)
{
    return samples_is_directory(kind) || kind == NODE_SAMPLES_TEXT || kind == NODE_MEMBER ||
           kind == NODE_FIELD;
}

int samples_refuse(struct atd_error *err)
{
    return atd_error_set(err, EROFS, "samples/ shows what is in the shards and never changes");
}

void samples_path(struct atd_str subject, struct atd_str leaf, char *path, size_t size)
{
    ptrdiff_t top = atd_str_find(subject, '/');
    struct atd_str rest = atd_str_from_byte(subject, (size_t)(top + 1));
    ptrdiff_t below = atd_str_find(rest, '/');
    size_t head = below < 0 ? subject.len : (size_t)top + 1 + (size_t)below;

    (void)snprintf(path, size, "%.*s/" SAMPLES_NAME "%.*s%s%.*s", (int)head, subject.ptr,
                   (int)(subject.len - head), subject.ptr + head, leaf.len ? "/" : "",
                   (int)leaf.len, leaf.ptr);
}

/* ------------------------------------------------------------------ what has changed */

/* All that a shard may be called by; which of them it is depends on its neighbours. */
static void notify_shard(struct fs *fs, fuse_ino_t directory, struct atd_str file_name)
{
    char idx[ATD_FILE_NAME_MAX + 8];
    struct atd_str stem;
    int len;

    notify_name(fs->notify, directory, file_name, true);
    if (!atd_str_ends_with(file_name, ATD_STR(".tar")))
        return;
    stem = atd_str_head(file_name, file_name.len - strlen(".tar"));
    notify_name(fs->notify, directory, stem, true);
    len = snprintf(idx, sizeof(idx), "%.*s.idx", (int)stem.len, stem.ptr);
    notify_name(fs->notify, directory, (struct atd_str){idx, (size_t)len}, false);
}

void samples_notify(struct fs *fs, enum node_kind kind, struct atd_str subject,
                    struct atd_catalog *catalog, const struct atd_catalog_entry *entry)
{
    char place[VIEW_SUBJECT_BYTES];
    int len = snprintf(place, sizeof(place), "%s/%.*s", kind == NODE_CID ? "by-cid" : "datasets",
                       (int)subject.len, subject.ptr);
    fuse_ino_t directory =
        nodes_number_of_looked_into(fs->nodes, NODE_SAMPLES, (struct atd_str){place, (size_t)len});
    struct atd_shard_list *list = directory ? atd_catalog_shards_peek(catalog, entry) : NULL;

    if (!directory)
        return;
    for (size_t i = 0; list && i < atd_shard_list_count(list); i++)
        notify_shard(fs, directory, atd_shard_list_at(list, i)->file_name);
    atd_shard_list_unref(list);
    notify_name(fs->notify, directory, ATD_STR(SAMPLES_INDEX_JSON), false);
    notify_name(fs->notify, directory, ATD_STR(""), false);
}

/* ------------------------------------------------------------------ members by name */

static size_t footprint(const struct samples_shard *inside)
{
    return sizeof(*inside) + (inside->names ? atd_member_names_footprint(inside->names) : 0);
}

void samples_shard_unref(struct samples_shard *inside)
{
    if (!inside || atomic_fetch_sub(&inside->references, 1) != 1)
        return;
    atd_member_names_unref(inside->names);
    free(inside);
}

struct samples_shard *samples_shard_peek(struct samples *samples, const struct atd_shard *shard)
{
    struct samples_shard *inside;

    atd_lock_take(&samples->lock);
    for (struct samples_shard **at = &samples->newest; (inside = *at); at = &inside->older) {
        if (memcmp(inside->version, shard->version, sizeof(inside->version)) != 0)
            continue;
        *at = inside->older;
        inside->older = samples->newest;
        samples->newest = inside;
        atomic_fetch_add(&inside->references, 1);
        break;
    }
    atd_lock_give(&samples->lock);
    return inside;
}

/* Takes what is too much out of the table: all behind the first that fit. */
static struct samples_shard *evict_locked(struct samples *samples)
{
    struct samples_shard **at = &samples->newest;
    struct samples_shard *evicted;
    size_t bytes = 0;
    size_t count = 0;

    while (*at && count < NAMES_KEPT_MAX && (count == 0 || bytes < NAMES_BYTES_MAX)) {
        bytes += footprint(*at);
        count++;
        at = &(*at)->older;
    }
    evicted = *at;
    *at = NULL;
    return evicted;
}

/* Two that made the same at the same time both put it in: the older copy goes with time. */
static void keep(struct samples *samples, struct samples_shard *inside)
{
    struct samples_shard *evicted;

    atomic_fetch_add(&inside->references, 1);
    atd_lock_take(&samples->lock);
    inside->older = samples->newest;
    samples->newest = inside;
    evicted = evict_locked(samples);
    atd_lock_give(&samples->lock);
    while (evicted) {
        struct samples_shard *older = evicted->older;

        samples_shard_unref(evicted);
        evicted = older;
    }
}

/* What will not be otherwise as long as the shard is this version. */
static bool is_for_ever(int code)
{
    return code == ENOTSUP || code == EINVAL || code == E2BIG || code == EFBIG;
}

static int make(struct samples *samples, const struct atd_shard *shard,
                struct samples_shard *inside, struct atd_error *err)
{
    struct atd_members *members;
    int rc = atd_members_get(samples->members, shard, &members, &inside->why);

    if (rc == 0) {
        rc = atd_member_names_new(members, &inside->names, &inside->why);
        atd_members_unref(members);
    }
    if (rc == 0 || is_for_ever(inside->why.code))
        return 0;
    if (inside->why.code == ENOENT)
        inside->why.code = ESTALE; /* the index has it */
    if (err)
        *err = inside->why;
    return -inside->why.code;
}

int samples_shard_get(struct samples *samples, const struct atd_shard *shard,
                      enum atd_effort effort, struct samples_shard **ret_inside,
                      struct atd_error *err)
{
    struct samples_shard *inside = samples_shard_peek(samples, shard);
    struct atd_members *known;
    int rc;

    if (inside) {
        *ret_inside = inside;
        return 0;
    }
    if (effort == ATD_EFFORT_MEMORY)
        return -EWOULDBLOCK; /* also when the members are known: many names take a while */
    if (effort == ATD_EFFORT_DISK && shard->store) {
        known = atd_members_peek(samples->members, shard);
        atd_members_unref(known);
        if (!known)
            return -EWOULDBLOCK;
    }
    inside = calloc(1, sizeof(*inside));
    if (!inside)
        return atd_error_set(err, ENOMEM, "out of memory");
    atomic_init(&inside->references, 1);
    memcpy(inside->version, shard->version, sizeof(inside->version));
    rc = make(samples, shard, inside, err);
    if (rc) {
        samples_shard_unref(inside);
        return rc;
    }
    keep(samples, inside);
    *ret_inside = inside;
    return 0;
}

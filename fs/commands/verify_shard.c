#include "verify_shard.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "atdata/tar_index.h"
#include "base/cleanup.h"
#include "base/digest.h"
#include "codec/metadata_edit.h"
#include "publish/inspect.h"
#include "publish/inspect_unpack.h"
#include "store/stream.h"

/* ------------------------------------------------------------------ what is recorded */

struct recorded {
    struct atd_str url;
    uint64_t size_bytes;
    size_t turn;
};

struct records {
    struct recorded *all;
    size_t count;
    size_t cap;
    bool out_of_memory;
};

static void take_record(void *ctx, const struct atd_shard_record *record)
{
    struct records *records = ctx;

    if (records->count == records->cap) {
        size_t cap = records->cap ? records->cap * 2 : 16;
        struct recorded *grown = reallocarray(records->all, cap, sizeof(*grown));

        if (!grown) {
            records->out_of_memory = true;
            return;
        }
        records->all = grown;
        records->cap = cap;
    }
    records->all[records->count] =
        (struct recorded){record->url, record->size_bytes, records->count};
    records->count++;
}

static int by_url(const void *a, const void *b)
{
    const struct recorded *left = a;
    const struct recorded *right = b;
    int order = atd_str_compare(left->url, right->url);

    /* The last one of a URL counts, and comes first. */
    return order ? order : (left->turn < right->turn) - (left->turn > right->turn);
}

static uint64_t size_of(const struct records *records, struct atd_str url)
{
    size_t low = 0;
    size_t high = records->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (atd_str_compare(records->all[middle].url, url) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < records->count && atd_str_equal(records->all[low].url, url)
               ? records->all[low].size_bytes
               : UINT64_MAX;
}

int verify_take_records(const struct atd_catalog_entry *entry, struct verify_shard *shards,
                        size_t count, struct atd_error *err)
{
    struct atd_bytes metadata = atd_entry_metadata(entry);
    struct records records = {0};
    int rc = 0;

    if (metadata.ptr)
        atd_metadata_each_shard(metadata, take_record, &records);
    if (records.out_of_memory)
        rc = atd_error_set(err, ENOMEM, "out of memory");
    else if (records.count)
        qsort(records.all, records.count, sizeof(*records.all), by_url);
    for (size_t i = 0; rc == 0 && i < count; i++)
        shards[i].recorded_bytes = size_of(&records, shards[i].shard->url);
    free(records.all);
    return rc;
}

/* ------------------------------------------------------------------ verdicts */

static void __attribute__((format(printf, 4, 5)))
judge(struct verify_shard *shard, enum verify_verdict verdict, const char *kind, const char *format,
      ...)
{
    struct atd_error text = ATD_ERROR_INIT;
    va_list args;

    va_start(args, format);
    (void)atd_error_vset(&text, EIO, format, args); /* what comes from elsewhere is cleaned */
    va_end(args);
    shard->verdict = verdict;
    shard->kind = kind;
    memcpy(shard->reason, text.text, sizeof(shard->reason));
}

static void judge_error(struct verify_shard *shard, const struct atd_error *why)
{
    judge(shard, VERIFY_BAD, why->code == ENOENT ? "missing" : "unreadable", "%s", why->text);
}

/* ------------------------------------------------------------------ its bytes */

/* The bytes pass through these, in order. */
struct reading {
    struct atd_sha256 *sha;
    struct atd_tar_walk *walk;     /* NULL: not looked into */
    struct atd_unpacker *unpacker; /* NULL: it is a plain tar */
    uint64_t unpacked;             /* bytes that went into the walk */
};

static int on_member(void *ctx, const struct atd_tar_member *member, struct atd_error *err)
{
    (void)ctx;
    (void)member;
    (void)err;
    return 0;
}

static int walk_on(void *ctx, struct atd_bytes bytes, struct atd_error *err)
{
    struct reading *reading = ctx;
    int rc = atd_tar_walk_feed(reading->walk, reading->unpacked, bytes, err);

    reading->unpacked += bytes.len;
    return rc;
}

static int look_into(struct reading *reading, uint64_t offset, struct atd_bytes bytes,
                     struct atd_error *err)
{
    if (!reading->walk)
        return 0;
    if (offset == 0) {
        enum atd_packing packing = atd_packing_of(bytes);

        if (packing != ATD_PACKING_NONE) {
            reading->unpacker = atd_unpacker_new(packing, ATD_INSPECT_RATIO_MAX, walk_on, reading);
            if (!reading->unpacker)
                return atd_error_set(err, ENOMEM, "out of memory");
        }
    }
    return reading->unpacker ? atd_unpacker_feed(reading->unpacker, bytes, err)
                             : walk_on(reading, bytes, err);
}

/* After the last byte: is that the end of a tar? */
static int look_at_end(struct reading *reading, struct atd_error *err)
{
    int rc;

    if (!reading->walk)
        return 0;
    rc = reading->unpacker ? atd_unpacker_finish(reading->unpacker, err) : 0;
    if (rc == 0 && atd_tar_walk_end(reading->walk, reading->unpacked, err) != ATD_TAR_COMPLETE)
        rc = -EINVAL;
    return rc;
}

static int read_all(const struct verify_options *options, struct verify_shard *shard,
                    struct atd_stream *stream, struct reading *reading, bool *ret_is_inside,
                    struct atd_error *err)
{
    struct atd_bytes bytes;
    int rc;

    *ret_is_inside = false;
    do {
        rc = atd_stream_next(stream, &bytes, err);
        if (rc)
            return rc;
        if (reading->sha)
            atd_sha256_add(reading->sha, bytes.ptr, bytes.len);
        *ret_is_inside = true; /* what fails from here on is the shard itself */
        rc = bytes.len ? look_into(reading, shard->read_bytes, bytes, err)
                       : look_at_end(reading, err);
        if (rc)
            return rc;
        *ret_is_inside = false;
        shard->read_bytes += bytes.len;
        atomic_fetch_add(options->progress, bytes.len);
    } while (bytes.len > 0);
    return 0;
}

static bool looks_like_tar(struct atd_str url)
{
    static const char *const suffixes[] = {".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"};

    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        size_t len = strlen(suffixes[i]);

        if (url.len > len && strncasecmp(url.ptr + url.len - len, suffixes[i], len) == 0)
            return true;
    }
    return false;
}

static void compare_sum(struct verify_shard *shard, struct atd_sha256 *sha)
{
    uint8_t digest[ATD_SHA256_BYTES];
    char hex[2 * ATD_SHA256_BYTES + 1];

    atd_sha256_finish(sha, digest);
    for (size_t i = 0; i < sizeof(digest); i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    if (shard->shard->sha256.len == 2 * ATD_SHA256_BYTES &&
        strncasecmp(hex, shard->shard->sha256.ptr, 2 * ATD_SHA256_BYTES) == 0)
        shard->verdict = VERIFY_GOOD;
    else
        judge(shard, VERIFY_BAD, "sha256",
              "its bytes have the SHA-256 %s, and the index says %.64s", hex,
              shard->shard->sha256.ptr);
}

static void read_through(const struct verify_options *options, struct verify_shard *shard,
                         struct atd_store *store, const struct atd_object_info *info)
{
    bool has_sum = shard->shard->sha256.ptr != NULL;
    struct reading reading = {0};
    struct atd_stream *stream = NULL;
    struct atd_error why = ATD_ERROR_INIT;
    bool is_inside = false;
    int rc;

    if (has_sum)
        reading.sha = atd_sha256_new();
    else if (looks_like_tar(shard->shard->url))
        reading.walk = atd_tar_walk_new(on_member, NULL);
    rc = atd_stream_open(store, shard->shard->url, info, options->timeout_ms, &stream, &why);
    if (rc == 0 && has_sum && !reading.sha)
        rc = atd_error_set(&why, ENOMEM, "out of memory");
    if (rc == 0)
        rc = read_all(options, shard, stream, &reading, &is_inside, &why);
    if (rc && is_inside && why.code != ENOMEM)
        judge(shard, VERIFY_BAD, "truncated", "it is not a whole tar: %s", why.text);
    else if (rc)
        judge_error(shard, &why);
    else if (has_sum)
        compare_sum(shard, reading.sha);
    else
        judge(shard, VERIFY_UNPROVEN, "unproven",
              reading.walk ? "no checksum is recorded; it is a whole tar"
                           : "no checksum is recorded; only its size was looked at");
    atd_stream_free(stream);
    atd_unpacker_free(reading.unpacker);
    atd_tar_walk_free(reading.walk);
    atd_sha256_free(reading.sha);
}

/* ------------------------------------------------------------------ the whole */

void verify_shard(const struct verify_options *options, struct verify_shard *shard)
{
    struct atd_store *store = shard->shard->store ? shard->shard->store : options->disk;
    struct atd_error why = ATD_ERROR_INIT;
    struct atd_object_info info;
    int rc;

    if (shard->shard->error_code == ENOTSUP) {
        judge(shard, VERIFY_SKIPPED, "scheme", "" ATD_STR_FMT, ATD_STR_ARG(shard->shard->reason));
        return;
    }
    /* Asked for now, whatever is known of it. */
    rc = atd_store_stat(store, shard->shard->url, options->timeout_ms, &info, &why);
    if (rc)
        judge_error(shard, &why);
    else if (shard->recorded_bytes != UINT64_MAX && info.size_bytes != shard->recorded_bytes)
        judge(shard, VERIFY_BAD, "size", "it has %" PRIu64 " bytes, and the index says %" PRIu64,
              info.size_bytes, shard->recorded_bytes);
    else if (!options->is_quick)
        read_through(options, shard, store, &info);
    else if (shard->recorded_bytes != UINT64_MAX)
        shard->verdict = VERIFY_GOOD;
    else
        judge(shard, VERIFY_UNPROVEN, "unproven", "it is there; no size is recorded");
}

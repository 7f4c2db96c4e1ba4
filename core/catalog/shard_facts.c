/*
 * What the shards of an entry are: local files and remote objects, sizes and versions.
 */
#include <errno.h>
#include <stdlib.h>

#include "atdata/shard_url.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/digest.h"
#include "catalog/shard_list.h"

/* A store that could not be asked is asked again so much later, one that said no, later. */
#define UNREACHABLE_RETRY_MS 3000
#define REFUSED_RETRY_MS 60000

/* ------------------------------------------------------------------ versions */

static void version_of(struct atd_shard *shard, const void *state, size_t len)
{
    uint8_t digests[2][ATD_SHA256_BYTES];
    uint8_t digest[ATD_SHA256_BYTES];

    atd_sha256_of(shard->url.ptr, shard->url.len, digests[0]);
    atd_sha256_of(state, len, digests[1]);
    atd_sha256_of(digests, sizeof(digests), digest);
    memcpy(shard->version, digest, sizeof(shard->version));
}

static void version_local(struct atd_shard *shard)
{
    const uint64_t parts[] = {shard->identity.device,
                              shard->identity.inode,
                              shard->identity.size_bytes,
                              (uint64_t)shard->identity.mtime_s,
                              (uint64_t)shard->identity.mtime_ns,
                              (uint64_t)shard->identity.ctime_s,
                              (uint64_t)shard->identity.ctime_ns};

    version_of(shard, parts, sizeof(parts));
}

void atd_shard_info(const struct atd_shard *shard, struct atd_object_info *ret_info)
{
    *ret_info =
        (struct atd_object_info){.size_bytes = shard->size_bytes, .mtime_s = shard->object_mtime_s};
    if (shard->etag.len)
        memcpy(ret_info->etag, shard->etag.ptr, shard->etag.len);
}

static bool fill_remote(struct atd_shard_list *list, struct atd_shard *shard,
                        const struct atd_object_info *info)
{
    /* The ETag tells versions apart; only without one the time has to. */
    struct {
        uint64_t size_bytes;
        int64_t mtime_s;
        char etag[ATD_ETAG_MAX + 1];
    } state;

    memset(&state, 0, sizeof(state));
    state.size_bytes = info->size_bytes;
    state.mtime_s = info->etag[0] ? 0 : info->mtime_s;
    memcpy(state.etag, info->etag, strlen(info->etag));
    shard->size_bytes = info->size_bytes;
    shard->mtime_s = info->mtime_s;
    shard->object_mtime_s = info->mtime_s;
    shard->etag = atd_arena_str(&list->arena, atd_str_from(info->etag));
    shard->error_code = 0;
    version_of(shard, &state, sizeof(state));
    return shard->etag.ptr != NULL;
}

static void refuse(struct atd_shard_list *list, struct atd_shard *shard,
                   const struct atd_error *why)
{
    shard->error_code = why->code;
    shard->reason = atd_arena_str(&list->arena, atd_str_from(why->text));
}

/* ------------------------------------------------------------------ one shard */

static int look_at_disk(struct atd_shard_list *list, struct atd_shard *shard,
                        const struct atd_locator *locator, const struct atd_shard_url *url,
                        struct atd_error *why)
{
    int rc = atd_file_store_stat(atd_locator_files(locator), url->path, &shard->identity, why);

    if (rc) {
        list->may_change = true;
        return rc;
    }
    shard->path = url->path;
    shard->size_bytes = shard->identity.size_bytes;
    shard->mtime_s = shard->identity.mtime_s;
    shard->mtime_ns = shard->identity.mtime_ns;
    version_local(shard);
    return 0;
}

/*
 * From memory: what was learned of the object, else what its publisher recorded with the entry (so
 * that a teammate's shard costs no request). An object that turned out to be another version than
 * recorded is asked for.
 */
static bool find_remote(struct atd_locator *locator, const struct atd_shard_url *url,
                        const struct atd_shard_recorded *recorded, struct atd_object_info *ret_info)
{
    if (atd_locator_find(locator, url, ret_info))
        return true;
    if (!recorded->etag.len || recorded->etag.len > ATD_ETAG_MAX ||
        recorded->size_bytes > INT64_MAX || memchr(recorded->etag.ptr, '\0', recorded->etag.len) ||
        atd_locator_is_doubtful(locator, url->text))
        return false;
    *ret_info = (struct atd_object_info){.size_bytes = recorded->size_bytes};
    memcpy(ret_info->etag, recorded->etag.ptr, recorded->etag.len);
    return true;
}

/* The time that the publisher's copy had is what tools compare (rsync). The file's own stays in its
 * identity. */
static void show_recorded_time(struct atd_shard *shard, const struct atd_shard_recorded *recorded)
{
    if (shard->error_code || recorded->mtime_ns == INT64_MIN)
        return;
    shard->mtime_s = recorded->mtime_ns / 1000000000;
    shard->mtime_ns = recorded->mtime_ns % 1000000000;
    if (shard->mtime_ns < 0) {
        shard->mtime_s--;
        shard->mtime_ns += 1000000000;
    }
}

/*
 * Classifies the URL and looks local files up; whatever is wrong stands in the shard. A remote
 * shard whose object is not known yet gets -EINPROGRESS.
 */
static int examine(struct atd_shard_list *list, struct atd_shard *shard,
                   struct atd_locator *locator, const struct atd_shard_recorded *recorded,
                   struct atd_shard_url *url, struct atd_error *err)
{
    struct atd_object_info info;
    struct atd_error why = ATD_ERROR_INIT;
    int rc = atd_shard_url_parse(shard->url, &list->arena, url, &why);

    if (rc)
        url->last = shard->url;
    else if (url->scheme == ATD_URL_LOCAL)
        rc = look_at_disk(list, shard, locator, url, &why);
    else if (url->scheme == ATD_URL_RELATIVE)
        rc = atd_error_set(&why, ENOTSUP,
                           "a relative path depends on who reads it and is never opened");
    else if (url->scheme == ATD_URL_OTHER)
        rc = atd_error_set(&why, ENOTSUP, "the scheme '%.*s:' is never opened or run",
                           (int)(url->scheme_text.len < 32 ? url->scheme_text.len : 32),
                           url->scheme_text.ptr);
    else if (!(shard->store = atd_locator_store(locator, url, &why)))
        rc = -why.code;
    else if (!find_remote(locator, url, recorded, &info))
        return -EINPROGRESS;
    else if (!fill_remote(list, shard, &info))
        rc = atd_error_set(&why, ENOMEM, "out of memory");
    if (rc == -ENOMEM || rc == -EMFILE || rc == -ENFILE) {
        /* Says nothing about the shard: it must not vanish from a listing for that. */
        if (err)
            *err = why;
        return rc;
    }
    if (rc)
        refuse(list, shard, &why);
    return 0;
}

/* ------------------------------------------------------------------ those the store is asked for
 */

struct asked {
    struct atd_shard_list *list;
    struct atd_shard_url *urls;
    uint32_t *places; /* of the urls in the list */
    size_t count;
    bool out_of_memory;
};

static void on_located(void *ctx, size_t place, const struct atd_object_info *info,
                       const struct atd_error *why)
{
    struct asked *asked = ctx;
    struct atd_shard_list *list = asked->list;
    struct atd_shard *shard = &list->shards[asked->places[place]];
    int64_t retry_ms;

    if (info) {
        asked->out_of_memory = !fill_remote(list, shard, info) || asked->out_of_memory;
        return;
    }
    refuse(list, shard, why);
    retry_ms =
        atd_clock_monotonic_ms() + (why->retryable ? UNREACHABLE_RETRY_MS : REFUSED_RETRY_MS);
    if (!list->retry_after_ms || retry_ms < list->retry_after_ms)
        list->retry_after_ms = retry_ms;
}

/* The schemes one after the other: a lesson is about one store. */
static int ask(struct asked *asked, struct atd_locator *locator, enum atd_url_scheme scheme,
               struct atd_error *err)
{
    struct asked part = {.list = asked->list};
    int rc;

    part.urls = reallocarray(NULL, asked->count, sizeof(*part.urls));
    part.places = reallocarray(NULL, asked->count, sizeof(*part.places));
    for (size_t i = 0; part.urls && part.places && i < asked->count; i++) {
        if (asked->urls[i].scheme != scheme)
            continue;
        part.urls[part.count] = asked->urls[i];
        part.places[part.count++] = asked->places[i];
    }
    rc = part.urls && part.places
             ? atd_locator_learn(locator, part.urls, part.count, on_located, &part, err)
             : -ENOMEM;
    free(part.urls);
    free(part.places);
    if (rc == -ENOMEM || part.out_of_memory)
        return atd_error_set(err, ENOMEM, "the list of shards needs more memory than there is");
    return rc;
}

int atd_shard_list_examine(struct atd_shard_list *list, struct atd_locator *locator,
                           enum atd_effort effort, const struct atd_shard_recorded *recorded,
                           struct atd_str *names, struct atd_error *err)
{
    struct asked asked = {.list = list};
    int rc = 0;

    asked.urls = reallocarray(NULL, list->count ? list->count : 1, sizeof(*asked.urls));
    asked.places = reallocarray(NULL, list->count ? list->count : 1, sizeof(*asked.places));
    if (!asked.urls || !asked.places)
        rc = atd_error_set(err, ENOMEM, "the list of shards needs more memory than there is");
    for (size_t i = 0; rc == 0 && i < list->count; i++) {
        struct atd_shard_url *url = &asked.urls[asked.count];

        rc = examine(list, &list->shards[i], locator, &recorded[i], url, err);
        names[i] = url->last;
        if (rc == -EINPROGRESS) {
            asked.places[asked.count++] = (uint32_t)i;
            rc = 0;
        }
    }
    if (rc == 0 && asked.count && effort != ATD_EFFORT_NETWORK)
        rc = -EWOULDBLOCK;
    if (rc == 0 && asked.count)
        rc = ask(&asked, locator, ATD_URL_S3, err);
    if (rc == 0 && asked.count)
        rc = ask(&asked, locator, ATD_URL_HTTP, err);
    for (size_t i = 0; rc == 0 && i < list->count; i++) {
        show_recorded_time(&list->shards[i], &recorded[i]);
        list->readable += list->shards[i].error_code == 0;
    }
    free(asked.urls);
    free(asked.places);
    return rc;
}

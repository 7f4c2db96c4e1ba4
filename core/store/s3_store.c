#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "atdata/shard_url.h"
#include "base/cleanup.h"
#include "codec/shard_url_scheme.h"
#include "store/s3_store.h"

#define KIND "s3"
#define REGION_DEFAULT "us-east-1"
#define R2_SUFFIX ".r2.cloudflarestorage.com"
/* Memory of one decoded page: 1000 keys of 1 KiB and their facts (ETAG_MAX each) fit. */
#define LIST_ARENA_MAX (8u << 20)
#define ODD_PAGES_MAX 1u     /* of one listing that are asked for again */
#define KEY_BYTES_MAX 1024u  /* of S3: what is longer could not be asked for */
#define LISTED_URL_MAX 4096u /* bucket and key, each at most KEY_BYTES_MAX */
/* A server whose clock is said to be wrong by less than this has another complaint. */
#define CLOCK_SLACK_S 5

static struct atd_s3_store *of_call(const struct atd_remote_call *call)
{
    return (struct atd_s3_store *)call->remote;
}

static void region_of(struct atd_s3_store *store, struct atd_str bucket,
                      char ret_region[ATD_REGION_MAX + 1])
{
    if (!atd_places_region(&store->remote.places, bucket, ret_region))
        memcpy(ret_region, store->region, sizeof(store->region));
}

bool atd_store_s3_region(struct atd_store *store, struct atd_str bucket,
                         char ret_region[ATD_REGION_MAX + 1])
{
    return atd_places_region(&((struct atd_s3_store *)store)->remote.places, bucket, ret_region);
}

/* ------------------------------------------------------------------ URLs */

static int refuse_url(struct atd_str url, const char *complaint, struct atd_error *err)
{
    char what[ATD_REMOTE_WHAT_MAX];

    atd_remote_what(url, what);
    return atd_error_set(err, EINVAL, "%s %s", what, complaint);
}

int atd_s3_object(struct atd_str url, struct atd_str *ret_bucket, struct atd_str *ret_key,
                  struct atd_error *err)
{
    struct atd_arena unused = ATD_ARENA_INIT(0); /* for file: URLs only */
    struct atd_shard_url parts;
    int rc = atd_shard_url_parse(url, &unused, &parts, err);

    atd_arena_release(&unused);
    if (rc)
        return rc;
    if (parts.scheme != ATD_URL_S3)
        return refuse_url(url, "is not an s3:// URL", err);
    if (atd_str_find(parts.bucket, '@') >= 0)
        return refuse_url(url, "holds a user or password, which are not sent", err);
    *ret_bucket = parts.bucket;
    *ret_key = parts.key;
    return 0;
}

int atd_s3_prefix(struct atd_str url, struct atd_str *ret_bucket, struct atd_str *ret_prefix,
                  struct atd_error *err)
{
    struct atd_str scheme = atd_shard_url_scheme(url);
    struct atd_str rest = atd_str_from_byte(url, scheme.len);
    ptrdiff_t slash;

    if (!atd_shard_url_scheme_is(scheme, "s3") || !atd_str_starts_with(rest, ATD_STR("://")))
        return refuse_url(url, "is not an s3:// URL", err);
    rest = atd_str_from_byte(rest, sizeof("://") - 1);
    slash = atd_str_find(rest, '/');
    if (slash <= 0)
        return refuse_url(url, "is not s3://BUCKET/PREFIX", err);
    *ret_bucket = atd_str_head(rest, (size_t)slash);
    *ret_prefix = atd_str_from_byte(rest, (size_t)slash + 1);
    return 0;
}

static int s3_open(struct atd_remote_call *base, struct atd_error *err)
{
    struct atd_s3_call *call = (struct atd_s3_call *)base;
    struct atd_str bucket;
    int rc;

    atd_arena_init(&call->arena, LIST_ARENA_MAX);
    if (base->operation != ATD_REMOTE_LIST)
        return atd_s3_object(base->url, &base->place, &call->key, err);
    rc = atd_s3_prefix(base->url, &base->place, &call->key, err);
    if (rc || base->after.len == 0)
        return rc;
    rc = atd_s3_prefix(base->after, &bucket, &call->start_after, err);
    if (rc == 0 && !atd_str_equal(bucket, base->place))
        rc = refuse_url(base->after, "is in another bucket than what is listed", err);
    return rc;
}

static void s3_close(struct atd_remote_call *base)
{
    struct atd_s3_call *call = (struct atd_s3_call *)base;

    explicit_bzero(&call->used, sizeof(call->used));
    atd_arena_release(&call->arena);
}

/* ------------------------------------------------------------------ requests and replies */

static int s3_prepare(struct atd_remote_call *base, bool has_range, uint64_t first_byte,
                      uint64_t last_byte, const char *if_match, struct atd_arena *arena,
                      struct atd_http_message *ret_message, struct atd_error *err)
{
    struct atd_s3_call *call = (struct atd_s3_call *)base;
    struct atd_s3_store *store = of_call(base);
    struct atd_s3_request request = {
        .operation = base->operation == ATD_REMOTE_LIST   ? ATD_S3_LIST
                     : base->operation == ATD_REMOTE_HEAD ? ATD_S3_HEAD
                                                          : ATD_S3_GET,
        .bucket = base->place,
        .has_range = has_range,
        .first_byte = first_byte,
        .last_byte = last_byte,
    };

    if (base->operation == ATD_REMOTE_WRITE) {
        request = call->write->request;
        request.bucket = base->place;
        request.key = call->key;
    } else if (base->operation == ATD_REMOTE_LIST) {
        request.prefix = call->key;
        request.start_after = call->start_after;
        request.max_keys = ATD_S3_LIST_KEYS_MAX;
    } else {
        request.key = call->key;
    }
    request.if_match = atd_arena_str(arena, atd_str_from(if_match));
    if (!request.if_match.ptr)
        return atd_error_set(err, ENOMEM, "a request could not be made: out of memory");
    if (store->credentials) {
        int rc = atd_credentials_get(store->credentials, &call->used, err);

        if (rc)
            return rc;
    }
    region_of(store, base->place, call->region);
    call->clock_offset_s = atd_endpoint_clock_offset_s(store->remote.endpoint);
    return atd_s3_request_build(
        &store->site, &request, atd_str_from(call->region), store->credentials ? &call->used : NULL,
        (int64_t)time(NULL) + call->clock_offset_s, arena, ret_message, err);
}

/* Each returns true when trying again makes sense. */

static bool adopt_clock(struct atd_s3_call *call, const struct atd_http_head *head)
{
    struct atd_s3_store *store = of_call(&call->base);
    int64_t offset_s;

    if (head->date_s == 0)
        return false;
    offset_s = head->date_s - (int64_t)time(NULL);
    if (llabs(offset_s - call->clock_offset_s) < CLOCK_SLACK_S)
        return false;
    atd_endpoint_set_clock_offset(store->remote.endpoint, offset_s);
    ATD_NET_COUNT(atd_http_stats(store->remote.engine), clock_corrections, 1);
    return true;
}

static bool adopt_region(struct atd_s3_call *call, const char *region)
{
    struct atd_s3_store *store = of_call(&call->base);

    if (strcmp(region, call->region) == 0 ||
        !atd_places_set_region(&store->remote.places, call->base.place, region))
        return false;
    ATD_NET_COUNT(atd_http_stats(store->remote.engine), region_corrections, 1);
    return true;
}

static bool renew_credentials(struct atd_s3_call *call)
{
    struct atd_s3_store *store = of_call(&call->base);

    return store->credentials && atd_credentials_refuse(store->credentials, &call->used);
}

enum atd_verdict atd_s3_verdict(struct atd_s3_call *call, enum atd_s3_trouble trouble,
                                const char *region, const struct atd_http_head *head)
{
    bool corrected = false;

    switch (trouble) {
    case ATD_S3_TROUBLE_PASSING:
        return ATD_VERDICT_RETRY;
    case ATD_S3_TROUBLE_THROTTLED:
        return ATD_VERDICT_THROTTLED;
    case ATD_S3_TROUBLE_CLOCK:
        corrected = adopt_clock(call, head);
        break;
    case ATD_S3_TROUBLE_REGION:
        corrected = adopt_region(call, region);
        break;
    case ATD_S3_TROUBLE_CREDENTIALS:
        corrected = renew_credentials(call);
        break;
    case ATD_S3_TROUBLE_FINAL:
        break;
    }
    return corrected ? ATD_VERDICT_AGAIN : ATD_VERDICT_FAIL;
}

static enum atd_verdict s3_judge_error(struct atd_remote_call *base,
                                       const struct atd_http_head *head, struct atd_bytes body,
                                       struct atd_error *err)
{
    struct atd_s3_call *call = (struct atd_s3_call *)base;
    char what[ATD_REMOTE_WHAT_MAX];
    char region[64] = "";
    enum atd_s3_trouble trouble;

    atd_remote_what(base->url, what);
    trouble = atd_s3_error_classify(head, body, what, (int64_t)time(NULL) + call->clock_offset_s,
                                    region, err);
    return atd_s3_verdict(call, trouble, region, head);
}

static enum atd_verdict s3_judge_list(struct atd_remote_call *base, struct atd_bytes body,
                                      struct atd_error *err)
{
    struct atd_s3_call *call = (struct atd_s3_call *)base;
    char what[ATD_REMOTE_WHAT_MAX];
    int rc;

    atd_arena_release(&call->arena);
    atd_arena_init(&call->arena, LIST_ARENA_MAX);
    rc = atd_s3_list_parse(body, &call->arena, &call->list, err);
    if (rc == 0)
        return ATD_VERDICT_DONE;
    atd_remote_what(base->url, what);
    (void)atd_error_wrap(err, rc, "listing %s", what);
    /* A page cut by a proxy comes whole the next time; what is no list at all does not. */
    return rc == -EPROTO && base->odd_replies++ < ODD_PAGES_MAX ? ATD_VERDICT_RETRY
                                                                : ATD_VERDICT_FAIL;
}

static const struct atd_remote_ops remote_ops = {
    .call_size = sizeof(struct atd_s3_call),
    .open = s3_open,
    .close = s3_close,
    .prepare = s3_prepare,
    .judge_error = s3_judge_error,
    .judge_list = s3_judge_list,
    .judge_write = atd_s3_judge_write,
};

/* ------------------------------------------------------------------ the rest of the interface */

static int by_key(const void *a, const void *b)
{
    return atd_str_compare(((const struct atd_s3_listed *)a)->key,
                           ((const struct atd_s3_listed *)b)->key);
}

/*
 * Reports what lies under the prefix and after start_after, in byte order: not every server sorts
 * so (some walk directories), and a caller that goes on after the last key must get on.
 */
static int report_page(struct atd_s3_call *call, atd_store_list_fn fn, void *ctx, bool *ret_more,
                       struct atd_error *err)
{
    struct atd_s3_list *list = &call->list;
    atd_auto_buf struct atd_buf url = ATD_BUF_INIT(LISTED_URL_MAX);
    /* "s3://BUCKET/" as the caller spells it. */
    struct atd_str root = atd_str_head(call->base.url, call->base.url.len - call->key.len);
    struct atd_str last = call->start_after;
    char what[ATD_REMOTE_WHAT_MAX];
    bool reported = false;

    qsort(list->keys, list->key_count, sizeof(*list->keys), by_key);
    for (size_t i = 0; i < list->key_count; i++) {
        struct atd_str key = list->keys[i].key;
        int rc;

        if (key.len > KEY_BYTES_MAX || !atd_str_starts_with(key, call->key) ||
            atd_str_compare(key, last) <= 0)
            continue;
        last = key;
        reported = true;
        atd_buf_clear(&url);
        atd_buf_append_str(&url, root);
        atd_buf_append_str(&url, key);
        rc = atd_buf_finish(&url, "a listed URL", err);
        if (rc)
            return rc;
        if (fn(ctx, atd_buf_str(&url), &list->keys[i].info) != 0) {
            *ret_more = list->is_truncated || i + 1 < list->key_count;
            return 0;
        }
    }
    if (list->is_truncated && !reported) {
        atd_remote_what(call->base.url, what);
        return atd_error_set(err, EPROTO, "listing %s: the server repeats itself", what);
    }
    *ret_more = list->is_truncated;
    return 0;
}

static int s3_list(struct atd_store *store, struct atd_str prefix, struct atd_str after,
                   unsigned timeout_ms, atd_store_list_fn fn, void *ctx, bool *ret_more,
                   struct atd_error *err)
{
    struct atd_remote_call *call = NULL;
    int rc = atd_remote_run((struct atd_remote *)store, ATD_REMOTE_LIST, prefix, after, timeout_ms,
                            &call, err);

    if (rc)
        return rc;
    rc = report_page((struct atd_s3_call *)call, fn, ctx, ret_more, err);
    atd_remote_call_free(call);
    return rc;
}

static int s3_presign(struct atd_store *base, struct atd_str url, unsigned expires_s,
                      struct atd_buf *ret_url, struct atd_error *err)
{
    struct atd_s3_store *store = (struct atd_s3_store *)base;
    struct atd_credential used;
    char region[ATD_REGION_MAX + 1];
    struct atd_str bucket;
    struct atd_str key;
    int64_t now_s = (int64_t)time(NULL) + atd_endpoint_clock_offset_s(store->remote.endpoint);
    int rc = atd_s3_object(url, &bucket, &key, err);

    if (rc)
        return rc;
    if (!store->credentials)
        return atd_error_set(err, EACCES, "a URL cannot be signed without credentials");
    rc = atd_credentials_get(store->credentials, &used, err);
    if (rc)
        return rc;
    region_of(store, bucket, region);
    rc = atd_s3_presign(&store->site, bucket, key, atd_str_from(region), &used, now_s, expires_s,
                        ret_url, err);
    explicit_bzero(&used, sizeof(used));
    return rc;
}

static void s3_free(struct atd_store *base)
{
    struct atd_s3_store *store = (struct atd_s3_store *)base;

    if (atd_remote_release(&store->remote))
        free(store);
}

static const struct atd_store_ops store_ops = {
    .kind = KIND,
    .write = &atd_s3_write_ops,
    .get_start = atd_remote_get_start,
    .get_cancel = atd_remote_get_cancel,
    .get_make_urgent = atd_remote_get_make_urgent,
    .stat = atd_remote_stat,
    .list = s3_list,
    .presign = s3_presign,
    .speed = atd_remote_speed,
    .free = s3_free,
};

/* The host may end in a port. */
static bool is_r2(const struct atd_s3_site *site)
{
    struct atd_str host = {site->host, strcspn(site->host, ":")};

    return atd_str_ends_with(host, ATD_STR(R2_SUFFIX));
}

static int choose_region(struct atd_s3_store *store, const struct atd_s3_options *options,
                         struct atd_error *err)
{
    const char *configured =
        options->credentials ? atd_credentials_region(options->credentials) : NULL;
    const char *region = options->region       ? options->region
                         : is_r2(&store->site) ? "auto"
                         : configured          ? configured
                                               : REGION_DEFAULT;
    size_t len = strlen(region);

    if (len == 0 || len > ATD_REGION_MAX)
        return atd_error_set(err, EINVAL, "'%s' is no name of a region", region);
    memcpy(store->region, region, len + 1);
    return 0;
}

static int choose_maker(struct atd_s3_store *store, struct atd_error *err)
{
    uint64_t random;

    if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return atd_error_set(err, EIO, "no random bytes: %s", strerror(errno));
    (void)snprintf(store->maker, sizeof(store->maker), "%016" PRIx64, random);
    return 0;
}

int atd_store_s3_new(struct atd_http_engine *engine, const struct atd_s3_options *options,
                     struct atd_store **ret_store, struct atd_error *err)
{
    struct atd_s3_store *store = calloc(1, sizeof(*store));
    int rc;

    if (!store)
        return atd_error_set(err, ENOMEM, "S3 store: out of memory");
    rc = atd_s3_site_init(&store->site, options->endpoint, options->style, err);
    if (rc == 0)
        rc = choose_region(store, options, err);
    if (rc == 0)
        rc = choose_maker(store, err);
    if (rc == 0)
        rc = atd_remote_init(&store->remote, &store_ops, &remote_ops, engine, options->limits, err);
    if (rc) {
        free(store);
        return rc;
    }
    store->credentials = options->credentials;
    *ret_store = &store->remote.store;
    return 0;
}

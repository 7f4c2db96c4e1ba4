#include "catalog/locator.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/lock.h"
#include "base/workers.h"
#include "catalog/doubts.h"
#include "catalog/servers.h"

#define STAT_THREADS 16u
#define STOP_MS 5000u

struct atd_locator {
    struct atd_locator_options options;
    struct atd_workers *workers;
    struct atd_servers servers;
    struct atd_doubts doubts;
};

/* One call of atd_locator_learn: URLs of one store, in byte order. */
struct lesson {
    struct atd_locator *locator;
    struct atd_store *store;
    struct atd_server *server; /* of the next one */
    const struct atd_shard_url *urls;
    uint32_t *order; /* places by URL */
    size_t count;
    size_t at; /* order[at] is the next that is not known */
    atd_located_fn fn;
    void *ctx;
};

int atd_locator_new(const struct atd_locator_options *options, struct atd_locator **ret_locator,
                    struct atd_error *err)
{
    struct atd_locator *locator = calloc(1, sizeof(*locator));
    int rc;

    if (!locator)
        return atd_error_set(err, ENOMEM, "the table of shards needs more memory than there is");
    atd_assert(options->table || (!options->s3 && !options->http));
    locator->options = *options;
    atd_servers_init(&locator->servers);
    atd_doubts_init(&locator->doubts);
    if (options->s3 || options->http) {
        rc = atd_workers_start("atd-locate", STAT_THREADS, &locator->workers, err);
        if (rc) {
            (void)atd_locator_free(locator);
            return rc;
        }
    }
    *ret_locator = locator;
    return 0;
}

bool atd_locator_free(struct atd_locator *locator)
{
    if (!locator)
        return true;
    if (!atd_workers_stop(locator->workers, STOP_MS))
        return false;
    atd_servers_release(&locator->servers);
    atd_doubts_release(&locator->doubts);
    free(locator);
    return true;
}

const struct atd_file_store *atd_locator_files(const struct atd_locator *locator)
{
    return locator->options.files;
}

struct atd_store *atd_locator_store(const struct atd_locator *locator,
                                    const struct atd_shard_url *url, struct atd_error *err)
{
    struct atd_store *store = url->scheme == ATD_URL_S3     ? locator->options.s3
                              : url->scheme == ATD_URL_HTTP ? locator->options.http
                                                            : NULL;

    if (!store)
        (void)atd_error_set(
            err, ENOTSUP, "%.*s:// shards cannot be read: this mount has no object store",
            (int)(url->scheme_text.len < 32 ? url->scheme_text.len : 32), url->scheme_text.ptr);
    return store;
}

static struct atd_str scope_of(const struct atd_locator *locator, const struct atd_shard_url *url)
{
    return url->scheme == ATD_URL_S3 && locator->options.s3_scope
               ? atd_str_from(locator->options.s3_scope)
               : (struct atd_str){"", 0};
}

bool atd_locator_find(const struct atd_locator *locator, const struct atd_shard_url *url,
                      struct atd_object_info *ret_info)
{
    return locator->options.table &&
           atd_object_table_find(locator->options.table, scope_of(locator, url), url->text,
                                 ret_info);
}

void atd_locator_forget(struct atd_locator *locator, struct atd_str url)
{
    atd_auto_arena struct atd_arena scratch = ATD_ARENA_INIT(1u << 20);
    struct atd_shard_url parsed;

    atd_doubts_add(&locator->doubts, url);
    if (locator->options.table && atd_shard_url_parse(url, &scratch, &parsed, NULL) == 0)
        atd_object_table_drop(locator->options.table, scope_of(locator, &parsed), url);
}

bool atd_locator_is_doubtful(struct atd_locator *locator, struct atd_str url)
{
    return atd_doubts_has(&locator->doubts, url);
}

/* The part of an http(s) URL that names the server. */
static struct atd_str host_of(const struct atd_shard_url *url)
{
    size_t start = url->scheme_text.len + strlen("://");
    size_t end = start;

    if (url->scheme != ATD_URL_HTTP || start > url->text.len)
        return (struct atd_str){"", 0};
    while (end < url->text.len && !strchr("/?#", url->text.ptr[end]))
        end++;
    if (end - start >= ATD_SERVER_NAME_MAX)
        end = start + ATD_SERVER_NAME_MAX - 1; /* longer than any name can be */
    return (struct atd_str){url->text.ptr + start, end - start};
}

/* ------------------------------------------------------------------ the lesson */

static const struct atd_shard_url *url_at(const struct lesson *lesson, size_t at)
{
    return &lesson->urls[lesson->order[at]];
}

static int compare_urls(const void *a, const void *b, void *ctx)
{
    const struct atd_shard_url *urls = ctx;

    return atd_str_compare(urls[*(const uint32_t *)a].text, urls[*(const uint32_t *)b].text);
}

static void learned(struct lesson *lesson, size_t at, const struct atd_object_info *info)
{
    lesson->fn(lesson->ctx, lesson->order[at], info, NULL);
}

static void failed(struct lesson *lesson, size_t at, const struct atd_error *why)
{
    lesson->fn(lesson->ctx, lesson->order[at], NULL, why);
}

/* The store said so; anything else says nothing about the object, and it is asked again soon. */
static bool is_answer(const struct atd_error *why)
{
    return why->code == ENOENT || why->code == EACCES || why->code == ENOTSUP ||
           why->code == EINVAL;
}

/* It cannot be reached: there is no use in asking it about others now. */
static bool is_down(const struct atd_error *why)
{
    return why->code == ETIMEDOUT || why->code == ECONNREFUSED || why->code == ECONNRESET ||
           why->code == EHOSTUNREACH || why->code == ENETUNREACH;
}

/* The end of those from `at` on that the same server is asked for: all of S3's. */
static size_t server_end(const struct lesson *lesson)
{
    struct atd_str host = host_of(url_at(lesson, lesson->at));
    size_t end = lesson->at;

    while (end < lesson->count && atd_str_equal(host_of(url_at(lesson, end)), host))
        end++;
    return end;
}

static void fail_server(struct lesson *lesson, const struct atd_error *why)
{
    struct atd_error retryable = *why;

    retryable.retryable = true;
    for (size_t end = server_end(lesson); lesson->at < end; lesson->at++)
        failed(lesson, lesson->at, &retryable);
}

/* Moves past what somebody else has learned meanwhile. False when nothing is left. */
static bool skip_known(struct lesson *lesson)
{
    struct atd_object_info info;

    for (; lesson->at < lesson->count; lesson->at++) {
        if (!atd_locator_find(lesson->locator, url_at(lesson, lesson->at), &info))
            return true;
        learned(lesson, lesson->at, &info);
    }
    return false;
}

/* How many from `at` on lie in the same bucket. */
static size_t same_bucket(const struct lesson *lesson)
{
    struct atd_str bucket = url_at(lesson, lesson->at)->bucket;
    size_t end = lesson->at;

    while (end < lesson->count && atd_str_equal(url_at(lesson, end)->bucket, bucket))
        end++;
    return end - lesson->at;
}

/* ------------------------------------------------------------------ by LIST */

struct page {
    struct lesson *lesson;
    size_t end; /* of the same bucket */
    bool in_order;
    bool has_last;
    struct atd_buf last; /* the last URL listed */
    size_t next;         /* the first that the page has not passed */
    uint8_t *found;      /* by place - lesson->at */
};

static int on_listed(void *ctx, struct atd_str url, const struct atd_object_info *info)
{
    struct page *page = ctx;
    struct lesson *lesson = page->lesson;
    struct atd_shard_url key = {.scheme = ATD_URL_S3, .text = url};

    if (page->has_last && atd_str_compare(url, atd_buf_str(&page->last)) <= 0)
        page->in_order = false;
    atd_buf_clear(&page->last);
    atd_buf_append_str(&page->last, url);
    page->has_last = !page->last.failed;
    /* Also what nobody asked for: the neighbours' shards need no request of their own then. */
    atd_object_table_put(lesson->locator->options.table, scope_of(lesson->locator, &key), url,
                         info);
    if (!page->in_order)
        return 0;
    while (page->next < page->end && atd_str_compare(url_at(lesson, page->next)->text, url) < 0)
        page->next++;
    for (; page->next < page->end && atd_str_equal(url_at(lesson, page->next)->text, url);
         page->next++) {
        learned(lesson, page->next, info);
        page->found[page->next - lesson->at] = 1;
    }
    return 0;
}

/*
 * What to list: all of the configured prefix, or the folder that the wanted ones have in common,
 * from just before the first wanted one on.
 */
static void choose_page(const struct lesson *lesson, size_t end, struct atd_str *ret_prefix,
                        struct atd_str *ret_after)
{
    struct atd_str first = url_at(lesson, lesson->at)->text;
    struct atd_str last = url_at(lesson, end - 1)->text;
    const char *wide = lesson->locator->options.wide_prefix;
    size_t root = first.len - url_at(lesson, lesson->at)->key.len; /* "s3://bucket/" */
    size_t common = 0;

    if (wide && atd_str_starts_with(first, atd_str_from(wide)) &&
        atd_str_starts_with(last, atd_str_from(wide))) {
        common = strlen(wide);
    } else {
        while (common < first.len && common < last.len && first.ptr[common] == last.ptr[common])
            common++;
        while (common > root && first.ptr[common - 1] != '/')
            common--;
        if (common < root)
            common = root;
    }
    *ret_prefix = atd_str_head(first, common);
    /* Exclusive, so one byte before: next to nothing lies in between. */
    *ret_after =
        first.len - 1 > common ? atd_str_head(first, first.len - 1) : (struct atd_str){"", 0};
    /* A key must not be cut inside a character. */
    while (ret_after->len > 0 && ret_after->len < first.len &&
           ((unsigned char)first.ptr[ret_after->len] & 0xc0) == 0x80)
        ret_after->len--;
    if (ret_after->len <= common)
        *ret_after = (struct atd_str){"", 0};
}

/* Says what a page means for the wanted ones it has passed. */
static void conclude_page(struct page *page, bool more)
{
    struct lesson *lesson = page->lesson;
    size_t passed = more ? page->next : page->end;
    const uint8_t *found = page->found;

    for (; lesson->at < passed; lesson->at++) {
        struct atd_error why = ATD_ERROR_INIT;
        struct atd_str url = url_at(lesson, lesson->at)->text;

        if (*found++)
            continue;
        (void)atd_error_set(&why, ENOENT, "'" ATD_STR_FMT "' does not exist", ATD_STR_ARG(url));
        failed(lesson, lesson->at, &why);
    }
}

/* One page. -EAGAIN: listing is of no use here, ask for each one. */
static int learn_by_list(struct lesson *lesson, struct atd_error *why)
{
    struct page page = {.lesson = lesson,
                        .end = lesson->at + same_bucket(lesson),
                        .in_order = true,
                        .last = ATD_BUF_INIT(1u << 16),
                        .next = lesson->at};
    struct atd_str prefix;
    struct atd_str after;
    bool more = false;
    int rc;

    page.found = calloc(page.end - lesson->at, 1);
    if (!page.found)
        return atd_error_set(why, ENOMEM, "out of memory");
    choose_page(lesson, page.end, &prefix, &after);
    rc = atd_store_list(lesson->store, prefix, after, lesson->locator->options.timeout_ms,
                        on_listed, &page, &more, why);
    if (rc == -EACCES || rc == -ENOTSUP) {
        atd_servers_note_refusal(&lesson->locator->servers, url_at(lesson, lesson->at)->bucket);
        rc = -EAGAIN;
    } else if (rc == 0 &&
               (!page.in_order || page.last.failed || (more && page.next == lesson->at))) {
        rc = -EAGAIN; /* not in byte order (S3 Express), or no step ahead: it tells nothing */
    } else if (rc == 0) {
        conclude_page(&page, more);
    }
    atd_buf_release(&page.last);
    free(page.found);
    return rc;
}

/* ------------------------------------------------------------------ one by one, in parallel */

struct stat_batch {
    struct lesson *lesson;
    struct atd_lock lock;
    pthread_cond_t ended;
    size_t left; /* guarded by lock */
};

struct stat_work {
    struct atd_work work;
    struct stat_batch *batch;
    struct atd_str url;
    int rc;
    struct atd_object_info info;
    struct atd_error why;
};

static void run_stat(struct atd_work *work)
{
    struct stat_work *stat_work = (struct stat_work *)work;
    struct stat_batch *batch = stat_work->batch;
    struct lesson *lesson = batch->lesson;

    stat_work->rc =
        atd_store_stat(lesson->store, stat_work->url, lesson->locator->options.timeout_ms,
                       &stat_work->info, &stat_work->why);
    atd_lock_take(&batch->lock);
    if (--batch->left == 0)
        (void)pthread_cond_signal(&batch->ended);
    atd_lock_give(&batch->lock);
}

/* So many are asked for at once before the turn passes on. */
#define STAT_BATCH 64u

/* Asks for the next few. Returns non-zero with `why` when the store did not answer. */
static int learn_by_stat(struct lesson *lesson, struct atd_error *why)
{
    struct atd_locator *locator = lesson->locator;
    size_t left = server_end(lesson) - lesson->at;
    size_t count = left < STAT_BATCH ? left : STAT_BATCH;
    struct stat_batch batch = {.lesson = lesson, .left = count};
    struct stat_work *works = calloc(count, sizeof(*works));
    int rc = 0;

    if (!works)
        return atd_error_set(why, ENOMEM, "out of memory");
    atd_lock_init(&batch.lock, ATD_RANK_LOCATOR);
    atd_cond_init(&batch.ended);
    for (size_t i = 0; i < count; i++) {
        works[i].work.run = run_stat;
        works[i].batch = &batch;
        works[i].url = url_at(lesson, lesson->at + i)->text;
        if (atd_workers_submit(locator->workers, &works[i].work, &works[i].why) != 0)
            run_stat(&works[i].work); /* no worker to be had: then by ourselves */
    }
    atd_lock_take(&batch.lock);
    while (batch.left > 0)
        atd_cond_wait(&batch.ended, &batch.lock);
    atd_lock_give(&batch.lock);
    for (size_t i = 0; i < count && rc == 0; i++, lesson->at++) {
        const struct atd_shard_url *url = url_at(lesson, lesson->at);

        if (works[i].rc == 0) {
            atd_object_table_put(locator->options.table, scope_of(locator, url), url->text,
                                 &works[i].info);
            learned(lesson, lesson->at, &works[i].info);
        } else if (is_down(&works[i].why)) {
            *why = works[i].why;
            rc = -works[i].why.code;
            break;
        } else {
            works[i].why.retryable = !is_answer(&works[i].why);
            failed(lesson, lesson->at, &works[i].why);
        }
    }
    (void)pthread_cond_destroy(&batch.ended);
    atd_lock_destroy(&batch.lock);
    free(works);
    return rc;
}

int atd_locator_learn(struct atd_locator *locator, const struct atd_shard_url *urls, size_t count,
                      atd_located_fn fn, void *ctx, struct atd_error *err)
{
    struct lesson lesson = {.locator = locator, .urls = urls, .count = count, .fn = fn, .ctx = ctx};
    struct atd_error why = ATD_ERROR_INIT;
    int rc = 0;

    if (count == 0)
        return 0;
    lesson.store = atd_locator_store(locator, &urls[0], err);
    atd_assert(lesson.store);
    lesson.order = reallocarray(NULL, count, sizeof(*lesson.order));
    if (!lesson.order)
        return atd_error_set(err, ENOMEM, "the list of shards needs more memory than there is");
    for (size_t i = 0; i < count; i++)
        lesson.order[i] = (uint32_t)i;
    qsort_r(lesson.order, count, sizeof(*lesson.order), compare_urls, (void *)(uintptr_t)urls);
    while (rc == 0 && skip_known(&lesson)) {
        const struct atd_shard_url *first = url_at(&lesson, lesson.at);
        bool alone = same_bucket(&lesson) == 1 && !locator->options.wide_prefix;

        if (!atd_servers_take(&locator->servers, host_of(first), &lesson.server, &why)) {
            fail_server(&lesson, &why);
            continue;
        }
        if (!skip_known(&lesson) ||
            !atd_str_equal(host_of(url_at(&lesson, lesson.at)), host_of(first))) {
            atd_servers_give(&locator->servers, lesson.server, NULL);
            continue;
        }
        rc = first->scheme == ATD_URL_S3 && !alone &&
                     !atd_servers_refuses_list(&locator->servers, first->bucket)
                 ? learn_by_list(&lesson, &why)
                 : -EAGAIN;
        /* Also when the listing failed for no reason that concerns the objects. */
        if (rc == -EAGAIN || (rc && rc != -ENOMEM && !is_answer(&why) && !is_down(&why)))
            rc = learn_by_stat(&lesson, &why);
        if (rc && rc != -ENOMEM && is_answer(&why)) {
            /* The bucket itself: it does not exist, or is none. */
            for (size_t end = lesson.at + same_bucket(&lesson); lesson.at < end; lesson.at++)
                failed(&lesson, lesson.at, &why);
            rc = 0;
        }
        atd_servers_give(&locator->servers, lesson.server, rc && rc != -ENOMEM ? &why : NULL);
        if (rc && rc != -ENOMEM) {
            fail_server(&lesson, &why);
            rc = 0;
        }
    }
    free(lesson.order);
    if (rc && err)
        *err = why;
    return rc;
}

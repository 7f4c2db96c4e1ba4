#include <errno.h>
#include <stdlib.h>

#include "atdata/shard_url.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "codec/msgpack_read.h"
#include "publish/publication_private.h"

/* Commits whose answer was lost are made again: the same shard twice is one. */
#define COMMIT_TRIES 3u

static struct atd_publication_edit *from_edit(struct atd_publisher_edit *edit)
{
    return (struct atd_publication_edit *)(void *)edit;
}

/* The end of each: reported to the actor. */
static void report(struct atd_publisher_edit *edit, const struct atd_error *why)
{
    struct atd_publication_edit *own = from_edit(edit);
    struct atd_publication *publication = own->publication;

    atd_lock_take(&publication->lock);
    own->rc = why ? -why->code : 0;
    if (why)
        own->why = *why;
    own->is_back = true;
    atd_publication_kick(publication);
    atd_lock_give(&publication->lock);
}

static void start(struct atd_publication_edit *own,
                  int (*run)(struct atd_publisher_edit *, struct atd_editor *, struct atd_error *),
                  bool only_reads)
{
    own->is_out = true;
    own->edit.run = run;
    own->edit.done = report;
    own->edit.only_reads = only_reads;
    atd_publisher_edit_own(own->publication->publisher, &own->edit);
}

/* ------------------------------------------------------------------ looking */

void atd_look_unref(struct atd_look *look)
{
    if (!look || --look->refs > 0)
        return;
    atd_arena_release(&look->arena);
    free(look);
}

static bool is_called(struct atd_str url, struct atd_str file_name)
{
    return atd_str_equal(atd_str_from_byte(url, (size_t)(atd_str_find_last(url, '/') + 1)),
                         file_name);
}

/* metadata["checksums"][url]; empty: none, or the metadata is of another kind. */
static struct atd_str find_checksum(struct atd_bytes metadata, struct atd_str url)
{
    static const struct atd_mp_rules rules = {true, true, "metadata"};
    struct atd_mp_reader reader;
    struct atd_mp_token map;
    struct atd_mp_token token;

    atd_mp_reader_init(&reader, metadata);
    if (!metadata.ptr || atd_mp_skip_checked(&reader, &rules, NULL))
        return ATD_STR("");
    atd_mp_reader_init(&reader, metadata);
    for (unsigned depth = 0; depth < 2; depth++) {
        struct atd_str key = depth == 0 ? ATD_STR("checksums") : url;
        bool found = false;

        if (atd_mp_next(&reader, &map, NULL) || map.type != ATD_MP_MAP)
            return ATD_STR("");
        for (uint32_t i = 0; i < map.count && !found; i++) {
            if (atd_mp_next(&reader, &token, NULL))
                return ATD_STR("");
            found = (token.type == ATD_MP_STR || token.type == ATD_MP_BIN) &&
                    atd_str_equal(atd_bytes_str(token.body), key);
            if (!found)
                atd_mp_skip(&reader);
        }
        if (!found)
            return ATD_STR("");
    }
    if (atd_mp_next(&reader, &token, NULL) || token.type != ATD_MP_STR)
        return ATD_STR("");
    return atd_bytes_str(token.body);
}

static void take_record(void *ctx, const struct atd_shard_record *record)
{
    struct atd_look *look = ctx;

    if (!atd_str_equal(record->url, look->twin_url))
        return;
    look->twin_etag = atd_arena_str(&look->arena, record->etag);
    look->twin_size = record->size_bytes;
}

/* The shard that is called as ours will be. */
static int find_twin(struct atd_look *look, const struct atd_edit_dataset *dataset,
                     struct atd_str file_name, struct atd_error *err)
{
    struct atd_str *urls;
    size_t count;
    int rc = atd_shard_urls_expand(dataset->urls, dataset->url_count, ATD_SHARDS_MAX, NULL, NULL,
                                   &look->arena, &urls, &count, err);

    if (rc)
        return rc;
    for (size_t i = 0; i < count && look->twin_url.len == 0; i++) {
        if (is_called(urls[i], file_name))
            look->twin_url = urls[i];
    }
    if (look->twin_url.len == 0)
        return 0;
    look->twin_sha256 = find_checksum(dataset->entry.metadata, look->twin_url);
    if (dataset->entry.metadata.ptr)
        atd_metadata_each_shard(dataset->entry.metadata, take_record, look);
    return 0;
}

static int run_look(struct atd_publisher_edit *edit, struct atd_editor *editor,
                    struct atd_error *err)
{
    struct atd_publication *publication = from_edit(edit)->publication;
    struct atd_str name = atd_str_from(publication->dataset);
    struct atd_look *look = calloc(1, sizeof(*look));
    struct atd_edit_dataset dataset;
    int rc;

    if (!look)
        return atd_error_set(err, ENOMEM, "cannot look a dataset up: out of memory");
    look->refs = 1;
    atd_arena_init(&look->arena, ATD_LOOK_ARENA_MAX);
    rc = atd_edit_read(editor, name, &look->arena, &dataset, err);
    if (rc == 0) {
        look->schema = dataset.schema;
        if (!look->schema) {
            look->schema = atd_publisher_kept_schema(publication->publisher, name, &look->arena);
            look->is_kept = look->schema != NULL;
        }
        if (dataset.exists && publication->file_name[0])
            rc = find_twin(look, &dataset, atd_str_from(publication->file_name), err);
    }
    if (rc)
        atd_look_unref(look);
    else
        publication->look_new = look;
    return rc;
}

void atd_publication_start_look(struct atd_publication *publication)
{
    start(&publication->looking, run_look, true);
}

/* ------------------------------------------------------------------ committing */

/* *ret_listed: whether the dataset lists our URL; else which one it has for our file name. */
static int find_listed(struct atd_publication *publication, struct atd_editor *editor,
                       struct atd_str url, bool *ret_listed, struct atd_error *err)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ATD_LOOK_ARENA_MAX);
    struct atd_str file_name = atd_str_from(publication->file_name);
    struct atd_edit_dataset dataset;
    struct atd_str *urls;
    size_t count;
    int rc = atd_edit_read(editor, atd_str_from(publication->dataset), &arena, &dataset, err);

    if (rc == 0)
        rc = atd_shard_urls_expand(dataset.urls, dataset.exists ? dataset.url_count : 0,
                                   ATD_SHARDS_MAX, NULL, NULL, &arena, &urls, &count, err);
    if (rc)
        return rc;
    *ret_listed = false;
    for (size_t i = 0; i < count && !*ret_listed; i++) {
        *ret_listed = atd_str_equal(urls[i], url);
        if (!*ret_listed && is_called(urls[i], file_name))
            (void)snprintf(publication->commit_url, sizeof(publication->commit_url), "%.*s",
                           (int)urls[i].len, urls[i].ptr);
    }
    return 0;
}

static int add_shard(struct atd_publication *publication, struct atd_editor *editor,
                     const struct atd_edit_shard *shard, struct atd_error *err)
{
    int rc = 0;

    for (unsigned i = 0; i < COMMIT_TRIES; i++) {
        rc = atd_edit_add_shard(editor, atd_str_from(publication->dataset),
                                atd_str_from(publication->file_name), shard,
                                &publication->commit_result, err);
        if (rc == -EREMOTEIO)
            publication->commit_unknown = true;
        if (rc == 0)
            publication->commit_unknown = false;
        if (rc != -EREMOTEIO || atomic_load(&publication->publisher->closing))
            break;
    }
    return rc;
}

static void describe(struct atd_publication *publication, struct atd_edit_shard *ret_shard)
{
    const struct atd_sending *sending = &publication->sending;
    struct atd_look *look = publication->look_used;
    struct atd_shard_record *record = &ret_shard->record;

    memset(ret_shard, 0, sizeof(*ret_shard));
    record->url = publication->is_reused ? publication->look->twin_url
                                         : atd_str_from(sending->job.url);
    (void)snprintf(record->sha256, sizeof(record->sha256), "%s", publication->result.sha256_hex);
    record->size_bytes = publication->result.size_bytes;
    record->etag = publication->is_reused ? publication->look->twin_etag
                                          : atd_str_from(sending->job.info.etag);
    record->samples = (int64_t)publication->result.samples;
    record->mtime_ns = publication->committed_mtime_ns;
    ret_shard->replaces = atd_str_from(publication->replaces);
    ret_shard->schema = look && look->is_kept ? look->schema : NULL;
    ret_shard->seen = publication->result.seen;
}

static int run_commit(struct atd_publisher_edit *edit, struct atd_editor *editor,
                      struct atd_error *err)
{
    struct atd_publication *publication = from_edit(edit)->publication;
    struct atd_publisher *publisher = publication->publisher;
    struct atd_sending *sending = &publication->sending;
    struct atd_edit_shard shard;
    bool listed = true;
    int rc = 0;

    describe(publication, &shard);
    (void)snprintf(publication->commit_url, sizeof(publication->commit_url), "%.*s",
                   (int)shard.record.url.len, shard.record.url.ptr);
    if (!publication->is_reused) {
        sending->job.state = ATD_JOB_COMMITTING;
        rc = atd_journal_put(publisher->journal, &sending->job, err);
    }
    if (rc == 0)
        rc = add_shard(publication, editor, &shard, err);
    if (rc)
        return rc;
    /* The same bytes under another URL, published meanwhile: then ours is not needed. When that
     * cannot be found out it stays: an object too many is better than one too few. */
    if (publication->commit_result.was_there && !publication->is_reused &&
        find_listed(publication, editor, shard.record.url, &listed, NULL) == 0)
        publication->commit_not_needed = !listed;
    if (publisher->options.table && !publication->is_reused && !publication->commit_not_needed)
        atd_object_table_put(publisher->options.table, atd_str_from(publisher->options.scope),
                             shard.record.url, &sending->job.info);
    atd_publisher_drop_schema(publisher, atd_str_from(publication->dataset));
    return 0;
}

void atd_publication_start_commit(struct atd_publication *publication)
{
    publication->commit_unknown = false;
    publication->commit_not_needed = false;
    start(&publication->committing, run_commit, false);
}

/* ------------------------------------------------------------------ times */

static int run_timing(struct atd_publisher_edit *edit, struct atd_editor *editor,
                      struct atd_error *err)
{
    struct atd_publication *publication = from_edit(edit)->publication;

    return atd_edit_set_mtime(editor, atd_str_from(publication->dataset),
                              atd_str_from(publication->published_url),
                              publication->timing_mtime_ns, err);
}

void atd_publication_start_timing(struct atd_publication *publication, int64_t mtime_ns)
{
    publication->timing_mtime_ns = mtime_ns;
    start(&publication->timing, run_timing, false);
}

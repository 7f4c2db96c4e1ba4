#include <errno.h>
#include <stdlib.h>

#include "atdata/entry.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "catalog/shards.h"
#include "publish/publication_private.h"

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

/* metadata["checksums"][url]; empty: none. */
static struct atd_str find_checksum(struct atd_bytes metadata, struct atd_str url)
{
    struct atd_bytes checksums;
    struct atd_bytes value;
    struct atd_str text = {"", 0};

    if (atd_metadata_find(metadata, ATD_STR("checksums"), &checksums) &&
        atd_msgpack_is_map(checksums) && atd_metadata_find(checksums, url, &value))
        (void)atd_msgpack_as_text(value, &text);
    return text;
}

static void take_record(void *ctx, const struct atd_shard_record *record)
{
    struct atd_look *look = ctx;

    if (!atd_str_equal(record->url, look->twin_url))
        return;
    look->twin_etag = atd_arena_str(&look->arena, record->etag);
    look->twin_size = record->size_bytes;
    look->twin_index_bytes = record->index_bytes;
}

/* The shard that is called as ours will be. */
static int find_twin(struct atd_look *look, const struct atd_edit_dataset *dataset,
                     struct atd_str file_name, struct atd_error *err)
{
    struct atd_bytes metadata = dataset->entry.metadata;
    struct atd_str url;
    bool listed;
    int rc = atd_shard_urls_find(dataset->urls, dataset->url_count, ATD_STR(""), file_name,
                                 &look->arena, &listed, &url, err);

    if (rc || !url.ptr)
        return rc;
    look->twin_url = url;
    if (!metadata.ptr || atd_metadata_check(metadata, NULL, NULL))
        return 0; /* nothing is known of it: then it has other bytes */
    look->twin_sha256 = find_checksum(metadata, url);
    atd_metadata_each_shard(metadata, take_record, look);
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

static void set_commit_url(struct atd_publication *publication, struct atd_str url)
{
    (void)snprintf(publication->commit_url, sizeof(publication->commit_url), "%.*s", (int)url.len,
                   url.ptr);
}

/* *ret_listed: whether the dataset lists our URL; else *ret_other is the one of our file name. */
static int find_listed(struct atd_publication *publication, struct atd_editor *editor,
                       struct atd_arena *arena, struct atd_str url, bool *ret_listed,
                       struct atd_str *ret_other)
{
    struct atd_edit_dataset dataset;
    int rc = atd_edit_read(editor, atd_str_from(publication->dataset), arena, &dataset, NULL);

    if (rc)
        return rc;
    return atd_shard_urls_find(dataset.urls, dataset.exists ? dataset.url_count : 0, url,
                               atd_str_from(publication->file_name), arena, ret_listed, ret_other,
                               NULL);
}

/*
 * The shard was there when it was to be added: at our URL, or the same bytes at another that
 * somebody published meanwhile. Then ours is not needed. When that cannot be found out ours stays:
 * an object too many is better than one too few.
 */
static void compare_with_listed(struct atd_publication *publication, struct atd_editor *editor,
                                struct atd_str url)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ATD_LOOK_ARENA_MAX);
    struct atd_str other;
    bool listed;

    if (find_listed(publication, editor, &arena, url, &listed, &other) || listed || !other.ptr ||
        other.len >= sizeof(publication->commit_url))
        return;
    publication->commit_not_needed = true;
    set_commit_url(publication, other);
}

static void describe(struct atd_publication *publication, struct atd_edit_shard *ret_shard)
{
    const struct atd_sending *sending = &publication->sending;
    struct atd_look *look = publication->look_used;
    struct atd_shard_record *record = &ret_shard->record;

    memset(ret_shard, 0, sizeof(*ret_shard));
    record->url =
        publication->is_reused ? publication->look->twin_url : atd_str_from(sending->job.url);
    (void)snprintf(record->sha256, sizeof(record->sha256), "%s", publication->result.sha256_hex);
    record->size_bytes = publication->result.size_bytes;
    /* What a local file calls its state means nothing elsewhere. */
    if (publication->publisher->options.scope)
        record->etag = publication->is_reused ? publication->look->twin_etag
                                              : atd_str_from(sending->job.info.etag);
    record->samples = (int64_t)publication->result.samples;
    record->index_bytes =
        publication->is_reused ? publication->look->twin_index_bytes : sending->index_bytes;
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
    int rc = 0;

    describe(publication, &shard);
    set_commit_url(publication, shard.record.url);
    if (!publication->is_reused) {
        sending->job.state = ATD_JOB_COMMITTING;
        rc = atd_journal_put(publisher->journal, &sending->job, err);
    }
    if (rc)
        return rc;
    rc = atd_edit_add_shard(editor, atd_str_from(publication->dataset),
                            atd_str_from(publication->file_name), &shard,
                            &publication->commit_result, err);
    /* The editor has tried long enough to find out by itself. */
    publication->commit_unknown = rc == -EREMOTEIO;
    if (rc)
        return rc;
    if (publication->commit_result.was_there && !publication->is_reused)
        compare_with_listed(publication, editor, shard.record.url);
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

#include "publish_parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/writer.h"
#include "store/stores.h"

static int make_writer(const struct options *options, struct publish_parts *parts,
                       struct atd_error *err)
{
    if (options->redis)
        return atd_index_redis_writer(options->redis, options->ca_file, &parts->writer, err);
    return atd_index_sqlite_writer(options->index_path, &parts->writer, err);
}

/* Where new shards go: the store that was named, else the disk store beside a SQLite index. */
static int choose_store(const struct parts *base, struct publish_parts *parts,
                        struct atd_publisher_options *publisher, struct atd_error *err)
{
    const struct options *options = base->options;
    int rc = 0;

    publisher->no_store_reason = "nobody said where new shards go: use -o store=s3://BUCKET/PREFIX";
    if (options->bucket) {
        publisher->store = remote_s3(base->remote);
        publisher->scope = remote_scope(base->remote);
        publisher->table = remote_table(base->remote);
        if (asprintf(&parts->prefix_url, "s3://%s%s%s", options->bucket,
                     options->prefix[0] ? "/" : "", options->prefix) < 0)
            parts->prefix_url = NULL;
    } else if (options->index_path) {
        rc = atd_store_file_new(base->files, &parts->disk, err);
        publisher->store = parts->disk;
        /* The last one is that beside the index, as the library has it. */
        parts->prefix_url = strdup(options->data_roots[options->data_root_count - 1]);
    } else {
        return 0;
    }
    if (rc == 0 && !parts->prefix_url)
        rc = atd_error_set(err, ENOMEM, "out of memory");
    publisher->prefix_url = parts->prefix_url;
    return rc;
}

int publish_parts_open(const struct parts *base, const struct publish_told *told,
                       struct publish_parts *ret_parts, struct atd_error *err)
{
    const struct options *options = base->options;
    struct atd_publisher_options publisher = {
        .live = base->live,
        .state_dir = options->state_dir,
        .spool_limit_bytes = options->spool_limit_bytes,
        .scratch_limit_bytes = options->scratch_limit_bytes,
        .floor_bytes = options->spool_floor_bytes,
        .memory_bytes = options->memory_bytes / 2,
        .timeout_s = options->timeout_s,
        .universal = options->universal,
        .event = told->event,
        .event_ctx = told->ctx,
        .lost = told->lost,
        .lost_ctx = told->ctx,
    };
    int rc;

    *ret_parts = (struct publish_parts){0};
    rc = make_writer(options, ret_parts, err);
    if (rc == 0)
        rc = choose_store(base, ret_parts, &publisher, err);
    publisher.writer = ret_parts->writer;
    return rc ? rc : atd_publisher_open(&publisher, &ret_parts->publisher, err);
}

bool publish_parts_close(struct publish_parts *parts, unsigned timeout_ms)
{
    if (!atd_publisher_close(parts->publisher, timeout_ms))
        return false;
    atd_index_writer_free(parts->writer);
    atd_store_free(parts->disk);
    free(parts->prefix_url);
    *parts = (struct publish_parts){0};
    return true;
}

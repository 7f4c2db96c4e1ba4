#include "publish_parts.h"

#include "index/writer.h"

static int choose_place(const struct parts *base, struct publish_parts *parts,
                        struct atd_publisher_options *publisher, struct atd_error *err)
{
    const struct options *options = base->options;
    const struct atd_sites_options sites = remote_sites_options(options);
    /* The last one is that beside the index, as the library has it. */
    const char *root =
        options->data_root_count ? options->data_roots[options->data_root_count - 1] : NULL;
    int rc = atd_new_place_choose(remote_sites(base->remote), &sites, &options->index, base->files,
                                  root, &parts->place, err);

    publisher->no_store_reason = "nobody said where new shards go: use -o store=s3://BUCKET/PREFIX";
    publisher->store = parts->place.store;
    publisher->prefix_url = parts->place.prefix_url;
    if (options->bucket) {
        publisher->scope = remote_sites(base->remote)->endpoint;
        publisher->table = remote_table(base->remote);
    }
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
    rc = atd_index_url_writer(&options->index, options->ca_file, &ret_parts->writer, err);
    if (rc == 0)
        rc = choose_place(base, ret_parts, &publisher, err);
    publisher.writer = ret_parts->writer;
    return rc ? rc : atd_publisher_open(&publisher, &ret_parts->publisher, err);
}

bool publish_parts_close(struct publish_parts *parts, unsigned timeout_ms)
{
    if (!atd_publisher_close(parts->publisher, timeout_ms))
        return false;
    atd_index_writer_free(parts->writer);
    atd_new_place_release(&parts->place);
    *parts = (struct publish_parts){0};
    return true;
}

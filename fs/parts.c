#include "parts.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "index/redis.h"

static int make_index(struct parts *parts, bool may_be_missing, struct atd_error *err)
{
    const struct options *options = parts->options;

    if (options->redis)
        return atd_index_redis_open(options->redis, options->ca_file, &parts->index, err);
    if (options->index_named && !may_be_missing && access(options->index_path, F_OK) != 0)
        return atd_error_set(err, errno, "index '%s': %s", options->index_path, strerror(errno));
    return atd_index_sqlite_open(options->index_path, &parts->index, err);
}

int parts_open(const struct options *options, bool may_be_missing,
               void (*local_changed)(void *ctx, struct atd_str url,
                                     const struct atd_object_info *info),
               void *ctx, struct parts *ret_parts, struct atd_error *err)
{
    struct parts *parts = ret_parts;
    struct atd_locator_options locator = {0};
    const char *roots[ATD_FILE_ROOTS_MAX];
    int rc;

    *parts = (struct parts){.options = options};
    for (size_t i = 0; i < options->data_root_count; i++)
        roots[i] = options->data_roots[i];
    rc = atd_file_store_new(roots, options->data_root_count, &parts->files, err);
    if (rc == 0)
        rc = make_index(parts, may_be_missing, err);
    if (rc == 0)
        rc = remote_start(options, local_changed, ctx, &parts->remote, err);
    if (rc)
        return rc;
    locator.files = parts->files;
    remote_fill_locator(parts->remote, &locator);
    rc = atd_locator_new(&locator, &parts->locator, err);
    return rc ? rc : atd_live_open(parts->index, parts->locator, &parts->live, err);
}

bool parts_stop(struct parts *parts)
{
    return remote_stop(parts->remote) && atd_live_close(parts->live);
}

bool parts_free(struct parts *parts)
{
    if (!atd_locator_free(parts->locator) || !remote_free(parts->remote))
        return false;
    atd_index_free(parts->index);
    atd_file_store_free(parts->files);
    return true;
}

#include "parts.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/digest.h"

/* Of the digest of an index's URL: the name of its snapshot. */
#define SNAPSHOT_NAME_BYTES 8u
/* Of an index that changes while it is read. */
#define LOAD_TRIES 20u
#define LOAD_PAUSE_MS 50

static int make_index(struct parts *parts, bool may_be_missing, struct atd_error *err)
{
    const struct options *options = parts->options;

    if (options->index.path && options->index_named && !may_be_missing &&
        access(options->index.path, F_OK) != 0)
        return atd_error_set(err, errno, "index '%s': %s", options->index.path, strerror(errno));
    return atd_index_url_open(&options->index, options->ca_file, &parts->index, err);
}

/* Where the index's snapshot lies; NULL: there is none. A SQLite file is its own. */
static int find_snapshot(struct parts *parts, enum parts_use use, char **ret_path,
                         struct atd_error *err)
{
    const char *cache = remote_cache_path(parts->remote);
    const char *location = parts->index->location;
    uint8_t digest[ATD_SHA256_BYTES];
    char hex[2 * SNAPSHOT_NAME_BYTES + 1];

    *ret_path = NULL;
    if (use != PARTS_MOUNT || !parts->options->index.redis || !cache)
        return 0;
    atd_sha256_of(location, strlen(location), digest);
    for (size_t i = 0; i < SNAPSHOT_NAME_BYTES; i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    if (asprintf(ret_path, "%s/snapshots/%s", cache, hex) < 0) {
        *ret_path = NULL;
        return atd_error_set(err, ENOMEM, "out of memory");
    }
    return 0;
}

static int open_live(struct parts *parts, enum parts_use use, struct atd_error *err)
{
    static const struct timespec pause = {0, 1000000L * LOAD_PAUSE_MS};
    struct atd_live_options live = {.index = parts->index, .locator = parts->locator};
    atd_auto_free char *snapshot = NULL;
    int rc = find_snapshot(parts, use, &snapshot, err);

    live.snapshot_path = snapshot;
    if (rc == 0)
        rc = atd_live_open(&live, &parts->live, err);
    /* A file that others write to meanwhile: nobody runs a command again for that. */
    for (unsigned tries = 1; rc == -EAGAIN && use == PARTS_COMMAND && tries < LOAD_TRIES; tries++) {
        (void)nanosleep(&pause, NULL);
        rc = atd_live_open(&live, &parts->live, err);
    }
    return rc;
}

int parts_open(const struct options *options, enum parts_use use, bool may_be_missing,
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
    return rc ? rc : open_live(parts, use, err);
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

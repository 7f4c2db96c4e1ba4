#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/dirs.h"
#include "dataset/registry_private.h"

/* The library's default (ATDATA-FORMATS 2.1); its disk store stands beside it (2.3). */
#define DEFAULT_INDEX "sqlite:~/.atdata/index.db"
#define DEFAULT_STATE "~/.local/state/atdatafs"
#define DATA_DIR "data"
#define DEFAULT_TIMEOUT_S 30u
#define TIMEOUT_MOST_S 3600u
#define DEFAULT_MEMORY_BYTES ((uint64_t)256 << 20)
#define MEMORY_LEAST_BYTES ((uint64_t)32 << 20)
/* The state directory's file system keeps so much free. */
#define SPOOL_FLOOR_BYTES ((uint64_t)256 << 20)
#define CLOSE_MS 5000u

/* ------------------------------------------------------------------ answers */

void atd_answer_init(struct atd_answer *answer)
{
    *answer = (struct atd_answer){0};
    atd_lock_init(&answer->lock, ATD_RANK_ANSWER);
    atd_cond_init(&answer->told_cond);
}

void atd_answer_tell(struct atd_answer *answer, const struct atd_error *why)
{
    atd_lock_take(&answer->lock);
    if (why)
        answer->why = *why;
    answer->is_told = true;
    /* Under the lock: who waits may be gone with the answer right after it. */
    (void)pthread_cond_signal(&answer->told_cond);
    atd_lock_give(&answer->lock);
}

int atd_answer_await(struct atd_answer *answer, struct atd_error *err)
{
    atd_lock_take(&answer->lock);
    while (!answer->is_told)
        atd_cond_wait(&answer->told_cond, &answer->lock);
    atd_lock_give(&answer->lock);
    if (!answer->why.code)
        return 0;
    if (err)
        *err = answer->why;
    return -answer->why.code;
}

void atd_answer_release(struct atd_answer *answer)
{
    (void)pthread_cond_destroy(&answer->told_cond);
    atd_lock_destroy(&answer->lock);
}

/* ------------------------------------------------------------------ options */

int atd_registry_no_memory(struct atd_error *err)
{
    return atd_error_set(err, ENOMEM, "out of memory");
}

static int take_index(struct atd_registry *registry, const char *text, struct atd_error *err)
{
    const char *from_environment = getenv("ATDATA_INDEX");
    const char *slash;
    int rc;

    if (!text)
        text = from_environment && *from_environment ? from_environment : DEFAULT_INDEX;
    rc = atd_index_url_parse(text, &registry->url, err);
    if (rc == 0 && registry->url.redis)
        rc = atd_redis_url_add_secrets(registry->url.redis, getenv, err);
    if (rc || registry->url.redis)
        return rc;
    slash = strrchr(registry->url.path, '/');
    if (asprintf(&registry->disk_root, "%.*s/%s", (int)(slash - registry->url.path),
                 registry->url.path, DATA_DIR) < 0) {
        registry->disk_root = NULL;
        return atd_registry_no_memory(err);
    }
    return 0;
}

static int take_state_dir(struct atd_registry *registry, const char *path, struct atd_error *err)
{
    const char *state_home = getenv("XDG_STATE_HOME");
    atd_auto_free char *base = NULL;
    int rc = 0;

    if (!path && state_home && state_home[0] == '/') {
        if (asprintf(&base, "%s/atdatafs", state_home) < 0)
            base = NULL;
        rc = base ? 0 : atd_registry_no_memory(err);
    } else {
        rc = atd_path_absolute(path ? path : DEFAULT_STATE, &base, err);
    }
    return rc ? rc : atd_state_dir_of(base, &registry->url, &registry->state_dir, err);
}

static int take_files(struct atd_registry *registry, const struct atd_registry_options *options,
                      struct atd_error *err)
{
    char *roots[ATD_FILE_ROOTS_MAX];
    const char *borrowed[ATD_FILE_ROOTS_MAX];
    size_t count = 0;
    int rc = 0;

    if (options->data_root_count >= ATD_FILE_ROOTS_MAX)
        return atd_error_set(err, E2BIG, "more than %d data roots", ATD_FILE_ROOTS_MAX - 1);
    for (size_t i = 0; rc == 0 && i < options->data_root_count; i++) {
        rc = atd_path_absolute(options->data_roots[i], &roots[count], err);
        if (rc == 0)
            borrowed[count] = roots[count], count++;
    }
    if (registry->disk_root)
        borrowed[count] = registry->disk_root;
    if (rc == 0)
        rc = atd_file_store_new(borrowed, count + (registry->disk_root != NULL), &registry->files,
                                err);
    for (size_t i = 0; i < count; i++)
        free(roots[i]);
    return rc;
}

static int take_options(struct atd_registry *registry, const struct atd_registry_options *options,
                        struct atd_error *err)
{
    int rc = take_index(registry, options->index_url, err);

    registry->timeout_s = options->timeout_s ? options->timeout_s : DEFAULT_TIMEOUT_S;
    registry->memory_bytes = options->memory_bytes ? options->memory_bytes : DEFAULT_MEMORY_BYTES;
    registry->universal = options->universal;
    if (rc == 0 && registry->timeout_s > TIMEOUT_MOST_S)
        rc = atd_error_set(err, EINVAL, "timeout_s is at most %u", TIMEOUT_MOST_S);
    if (rc == 0 && registry->memory_bytes < MEMORY_LEAST_BYTES)
        rc = atd_error_set(err, EINVAL, "memory_bytes is at least %u MiB",
                           (unsigned)(MEMORY_LEAST_BYTES >> 20));
    if (rc == 0 && options->store)
        rc = atd_store_name_parse(options->store, &registry->bucket, &registry->prefix, err);
    if (rc == 0)
        rc = take_files(registry, options, err);
    if (rc == 0 && !options->read_only)
        rc = take_state_dir(registry, options->state_dir, err);
    return rc;
}

/* ------------------------------------------------------------------ the parts */

static int open_publisher(struct atd_registry *registry, const struct atd_sites_options *sites,
                          const char *ca_file, struct atd_error *err)
{
    struct atd_publisher_options publisher = {
        .live = registry->live,
        .no_store_reason = "nobody said where new shards go: open the registry with a store",
        .state_dir = registry->state_dir,
        .floor_bytes = SPOOL_FLOOR_BYTES,
        .memory_bytes = registry->memory_bytes / 2,
        .timeout_s = registry->timeout_s,
        .universal = registry->universal,
    };
    int rc = atd_index_url_writer(&registry->url, ca_file, &registry->writer, err);

    if (rc == 0)
        rc = atd_new_place_choose(&registry->sites, sites, &registry->url, registry->files,
                                  registry->disk_root, &registry->place, err);
    publisher.writer = registry->writer;
    publisher.store = registry->place.store;
    publisher.prefix_url = registry->place.prefix_url;
    if (registry->bucket) {
        publisher.table = registry->table;
        publisher.scope = registry->sites.endpoint;
    }
    return rc ? rc : atd_publisher_open(&publisher, &registry->publisher, err);
}

static int open_parts(struct atd_registry *registry, const struct atd_registry_options *options,
                      struct atd_error *err)
{
    const struct atd_sites_options sites = {
        .bucket = registry->bucket,
        .prefix = registry->prefix,
        .endpoint = options->endpoint,
        .region = options->region,
        .env_file = options->env_file,
        .profile = options->profile,
        .ca_file = options->ca_file,
        .unsigned_requests = options->unsigned_requests,
        .user_agent = "libatdata",
    };
    struct atd_locator_options locator = {.files = registry->files};
    struct atd_live_options live = {0};
    int rc = atd_index_url_open(&registry->url, options->ca_file, &registry->index, err);

    if (rc == 0)
        rc = atd_sites_start(&registry->sites, &sites, err);
    if (rc == 0)
        rc = atd_object_table_open(NULL, &registry->table, NULL, err);
    if (rc)
        return rc;
    atd_sites_fill_locator(&registry->sites, registry->table, registry->timeout_s, &locator);
    rc = atd_locator_new(&locator, &registry->locator, err);
    live.index = registry->index;
    live.locator = registry->locator;
    if (rc == 0)
        rc = atd_live_open(&live, &registry->live, err);
    if (rc == 0)
        rc = atd_live_start(registry->live, &(struct atd_live_watcher){0}, err);
    if (rc == 0 && !options->read_only)
        rc = open_publisher(registry, &sites, options->ca_file, err);
    return rc;
}

int atd_registry_open(const struct atd_registry_options *options,
                      struct atd_registry **ret_registry, struct atd_error *err)
{
    struct atd_registry *registry = calloc(1, sizeof(*registry));
    int rc;

    if (!registry)
        return atd_registry_no_memory(err);
    rc = take_options(registry, options, err);
    if (rc == 0)
        rc = open_parts(registry, options, err);
    if (rc) {
        (void)atd_registry_close(registry);
        return rc;
    }
    *ret_registry = registry;
    return 0;
}

bool atd_registry_close(struct atd_registry *registry)
{
    if (!registry)
        return true;
    /* From who uses to who is used. */
    if (!atd_publisher_close(registry->publisher, CLOSE_MS) || !atd_sites_stop(&registry->sites) ||
        (registry->live && !atd_live_close(registry->live)) ||
        !atd_locator_free(registry->locator) || !atd_sites_free(&registry->sites))
        return false;
    atd_index_writer_free(registry->writer);
    atd_new_place_release(&registry->place);
    if (registry->table)
        atd_object_table_close(registry->table);
    atd_index_free(registry->index);
    atd_file_store_free(registry->files);
    atd_index_url_release(&registry->url);
    free(registry->bucket);
    free(registry->prefix);
    free(registry->disk_root);
    free(registry->state_dir);
    free(registry);
    return true;
}

int atd_registry_refresh(struct atd_registry *registry, struct atd_error *err)
{
    uint64_t barrier = atd_live_barrier(registry->live);

    if (atd_live_await(registry->live, barrier, registry->timeout_s * 1000))
        return 0;
    return atd_error_set_retryable(err, ETIMEDOUT, "the index does not answer");
}

int atd_registry_sign_url(struct atd_registry *registry, struct atd_str url, unsigned expires_s,
                          struct atd_buf *ret_url, struct atd_error *err)
{
    if (!atd_str_starts_with(url, ATD_STR("s3://")))
        return atd_error_set(err, ENOTSUP,
                             "'" ATD_STR_FMT "' is no s3:// URL: only those are "
                             "signed",
                             ATD_STR_ARG(url));
    return atd_store_presign(registry->sites.s3, url, expires_s, ret_url, err);
}

#include "warm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "commands.h"
#include "output.h"
#include "parallel.h"

/* Eviction begins a little below the limit. */
#define CACHE_SHARE_MAX(bytes) ((bytes) - (bytes) / 16)
/* After the last byte was read: writing what is in memory, and verifying the whole. */
#define SETTLE_MS 20000
#define AGAIN_MS 3000
#define FETCHES_MAX 3u
#define SETTLE_BYTES_PER_MS 20000u
#define LOOK_MS 200u

static const struct command_usage usage = {
    .name = "warm",
    .synopsis = "[-j N] NAME...|all",
    .about =
        "Fetches the shards of datasets into the cache directory, so that a mount which shares it\n"
        "reads them without a request. What is there already is not fetched again. The shards\n"
        "must fit into the cache (-o cache_size=); they may be evicted later unless they are\n"
        "pinned (atdatafs pin). NAME is a dataset, a label NAME@VERSION or a CID.",
    .options = "  -j N              shards at once (default 4)\n",
    .examples = "  atdatafs warm -i redis://index.example/0 -o env_file=.env mnist\n",
    .takes = ARGUMENTS_INDEX | ARGUMENTS_JSON | ARGUMENTS_QUIET,
    .words_least = 1,
    .words_most = ARGUMENTS_WORDS_MAX - 1,
    .words_missing = "the names of datasets are missing (or: all)",
};

/* ------------------------------------------------------------------ what is to be fetched */

static void on_local_changed(void *ctx, struct atd_str url, const struct atd_object_info *info)
{
    struct warm *warm = ctx;

    (void)url;
    (void)info;
    atd_lock_take(&warm->lock);
    (void)pthread_cond_broadcast(&warm->changed);
    atd_lock_give(&warm->lock);
}

static int no_memory(struct atd_error *err)
{
    return atd_error_set(err, ENOMEM, "out of memory");
}

static int list_shards(struct warm *warm, struct atd_error *err)
{
    struct targets *targets = &warm->targets;
    size_t total = 0;
    int rc = 0;

    warm->lists = calloc(targets->count + 1, sizeof(struct atd_shard_list *));
    if (!warm->lists)
        return no_memory(err);
    for (size_t i = 0; rc == 0 && i < targets->count; i++) {
        rc = atd_catalog_shards_get(targets->catalog, targets->entries[i], warm->parts.locator,
                                    ATD_EFFORT_NETWORK, &warm->lists[i], err);
        if (rc == 0 && atd_shard_list_error(warm->lists[i]))
            rc = atd_error_set(err, EINVAL, "'" ATD_STR_FMT "': %s",
                               ATD_STR_ARG(target_name(targets->entries[i])),
                               atd_shard_list_error(warm->lists[i]));
        total += rc ? 0 : atd_shard_list_count(warm->lists[i]);
    }
    warm->shards = rc ? NULL : calloc(total + 1, sizeof(*warm->shards));
    if (rc == 0 && !warm->shards)
        rc = no_memory(err);
    for (size_t i = 0; rc == 0 && i < targets->count; i++) {
        for (size_t k = 0; k < atd_shard_list_count(warm->lists[i]); k++) {
            struct warm_shard *shard = &warm->shards[warm->count++];

            shard->entry = targets->entries[i];
            shard->shard = atd_shard_list_at(warm->lists[i], k);
            if (shard->shard->store && !shard->shard->error_code)
                warm->wanted_bytes += shard->shard->size_bytes;
        }
    }
    return rc;
}

static int check_size(const struct warm *warm, struct atd_error *err)
{
    char sizes[2][PROGRESS_SIZE_TEXT_MAX];
    uint64_t most = CACHE_SHARE_MAX(warm->options->cache_size_bytes);

    if (warm->wanted_bytes <= most)
        return 0;
    return atd_error_set(
        err, EFBIG,
        "the shards have %s, and the cache keeps %s: raise -o cache_size=, or name "
        "fewer datasets",
        progress_size_text(warm->wanted_bytes, sizes[0]), progress_size_text(most, sizes[1]));
}

int warm_open(struct warm *warm, const struct options *options, const struct arguments *arguments,
              unsigned jobs, struct atd_error *err)
{
    int rc;

    warm->options = options;
    warm->jobs = jobs;
    atd_lock_init(&warm->lock, ATD_RANK_PUBLISHING);
    atd_cond_init(&warm->changed);
    progress_start(&warm->progress, arguments->quiet);
    rc = parts_open(options, PARTS_COMMAND, false, on_local_changed, warm, &warm->parts, err);
    if (rc == 0 && !remote_cache_path(warm->parts.remote))
        rc = atd_error_set(err, EINVAL,
                           "there is no cache directory: name one with -o cache_dir=DIR");
    if (rc == 0)
        rc = targets_find(&warm->parts, arguments->words, arguments->word_count, &warm->targets,
                          err);
    if (rc == 0)
        rc = list_shards(warm, err);
    return rc ? rc : check_size(warm, err);
}

/* ------------------------------------------------------------------ one shard */

/* One read that a thread waits for. */
struct waited {
    struct atd_read read; /* first */
    struct atd_lock lock;
    pthread_cond_t ended;
    bool has_ended;
    int rc;
    struct atd_error *err;
};

static void on_read(struct atd_read *read, const struct iovec *pieces, int piece_count,
                    const struct atd_error *why)
{
    struct waited *waited = (struct waited *)(void *)read;

    (void)pieces;
    (void)piece_count;
    atd_lock_take(&waited->lock);
    waited->has_ended = true;
    if (why) {
        waited->rc = -why->code;
        *waited->err = *why;
    }
    (void)pthread_cond_broadcast(&waited->ended);
    atd_lock_give(&waited->lock);
}

static int read_piece(struct atd_reader_handle *handle, uint64_t offset, size_t size,
                      struct atd_error *err)
{
    struct waited waited = {.read = {.offset = offset, .size = size, .done = on_read}, .err = err};

    atd_lock_init(&waited.lock, ATD_RANK_WAITED);
    atd_cond_init(&waited.ended);
    atd_reader_read(handle, &waited.read);
    atd_lock_take(&waited.lock);
    while (!waited.has_ended)
        atd_cond_wait(&waited.ended, &waited.lock);
    atd_lock_give(&waited.lock);
    (void)pthread_cond_destroy(&waited.ended);
    atd_lock_destroy(&waited.lock);
    return waited.rc;
}

static bool is_local(struct atd_reader_handle *handle)
{
    atd_auto_fd int fd = -1;

    return atd_reader_local_fd(handle, &fd, NULL) == 0;
}

/* Known by now not to be what the index says? */
static int check_sum(struct warm *warm, const struct atd_reader_source *source,
                     struct atd_error *err)
{
    struct atd_reader_handle *again;
    int rc = atd_reader_open(remote_reader(warm->parts.remote), source, &again, err);

    if (rc == 0)
        atd_reader_close(again);
    return rc;
}

/* Whether every block is in the cache directory, verified or not. */
static bool is_complete(const struct warm *warm, const struct atd_reader_source *source)
{
    size_t len = 0;
    atd_auto_free char *name =
        atd_cache_scoped_name(remote_sites(warm->parts.remote)->endpoint, source->url, &len);
    struct atd_cache_file *file;
    bool is_there = false;

    if (name && atd_cache_file_open(remote_cache_dir(warm->parts.remote),
                                    (struct atd_str){name, len}, source->info, &file, NULL) == 0) {
        is_there = atd_cache_file_is_complete(file);
        atd_cache_file_close(file);
    }
    return is_there;
}

/* Until it is complete and verified; of one that was `complete` before -ENODATA as soon as it is
 * not any more. */
static int settle(struct warm *warm, const struct atd_reader_source *source, bool complete,
                  unsigned patience_ms, struct atd_reader_handle *handle, struct atd_error *err)
{
    int64_t until = atd_clock_monotonic_ms() + patience_ms +
                    (int64_t)(source->info->size_bytes / SETTLE_BYTES_PER_MS);
    int rc = 0;

    while (rc == 0 && !is_local(handle)) {
        if (atd_clock_monotonic_ms() > until)
            return atd_error_set(
                err, ENOSPC,
                "it was read, but the cache directory did not keep it: is its disk "
                "full?");
        rc = check_sum(warm, source, err);
        if (rc == 0 && complete && !is_complete(warm, source))
            return -ENODATA;
        atd_lock_take(&warm->lock);
        atd_cond_wait_ms(&warm->changed, &warm->lock, LOOK_MS);
        atd_lock_give(&warm->lock);
    }
    return rc;
}

static int read_all(struct warm *warm, struct atd_reader_handle *handle, uint64_t size_bytes,
                    struct atd_error *err)
{
    int rc = 0;

    for (uint64_t at = 0; rc == 0 && at < size_bytes;) {
        uint64_t left = size_bytes - at;
        size_t size = left < ATD_READ_BYTES_MAX ? (size_t)left : ATD_READ_BYTES_MAX;

        rc = read_piece(handle, at, size, err);
        at += size;
        atomic_fetch_add(&warm->read_bytes, size);
    }
    return rc;
}

/* What was not kept, because the cache was just making room, is read once more. */
static int fetch_and_keep(struct warm *warm, const struct atd_reader_source *source,
                          struct atd_reader_handle *handle, struct atd_error *err)
{
    uint64_t size_bytes = source->info->size_bytes;

    for (unsigned left = FETCHES_MAX;; left--) {
        int rc = read_all(warm, handle, size_bytes, err);

        if (rc == 0 && size_bytes > 0)
            rc = settle(warm, source, false, left > 1 ? AGAIN_MS : SETTLE_MS, handle, err);
        if (rc != -ENOSPC || left == 1)
            return rc;
        *err = (struct atd_error)ATD_ERROR_INIT;
        atomic_fetch_sub(&warm->read_bytes, size_bytes);
    }
}

static int fetch(struct warm *warm, struct warm_shard *shard, struct atd_error *err)
{
    struct atd_object_info info;
    struct atd_reader_source source = {.store = shard->shard->store,
                                       .url = shard->shard->url,
                                       .info = &info,
                                       .sha256_hex = shard->shard->sha256};
    struct atd_reader_handle *handle;
    int rc;

    atd_shard_info(shard->shard, &info);
    rc = atd_reader_open(remote_reader(warm->parts.remote), &source, &handle, err);
    if (rc)
        return rc;
    rc = -ENODATA;
    if (info.size_bytes > 0 && is_complete(warm, &source)) {
        shard->outcome = WARM_KEPT;
        rc = settle(warm, &source, true, SETTLE_MS, handle, err);
        atomic_fetch_add(&warm->read_bytes, rc ? 0 : info.size_bytes);
    }
    if (rc == -ENODATA) {
        shard->outcome = WARM_FETCHED;
        rc = fetch_and_keep(warm, &source, handle, err);
    }
    atd_reader_close(handle);
    return rc;
}

static void warm_one(void *ctx, size_t item)
{
    struct warm *warm = ctx;
    struct warm_shard *shard = &warm->shards[item];
    int rc = 0;

    if (shard->shard->error_code)
        rc = atd_error_set(&shard->why, shard->shard->error_code, ATD_STR_FMT,
                           ATD_STR_ARG(shard->shard->reason));
    else if (!shard->shard->store)
        shard->outcome = WARM_LOCAL;
    else
        rc = fetch(warm, shard, &shard->why);
    if (rc)
        shard->outcome = WARM_FAILED;
    atomic_fetch_add(&warm->done, 1);
}

static void show_progress(void *ctx)
{
    struct warm *warm = ctx;
    struct progress_facts facts = {
        .done_files = (unsigned)atomic_load(&warm->done),
        .files = (unsigned)warm->count,
        .done_bytes = atomic_load(&warm->read_bytes),
        .bytes = warm->wanted_bytes,
    };

    progress_draw(&warm->progress, &facts);
}

void warm_run(struct warm *warm)
{
    const struct parallel_work work = {.count = warm->count,
                                       .jobs = warm->jobs,
                                       .run = warm_one,
                                       .tick = show_progress,
                                       .ctx = warm};

    atd_cache_dir_trim(remote_cache_dir(warm->parts.remote));
    parallel_run(&work);
    progress_clear(&warm->progress);
}

/* ------------------------------------------------------------------ what is told */

struct sums {
    size_t shards[WARM_FAILED + 1];
    uint64_t bytes[WARM_FAILED + 1];
};

static struct sums sum_up(const struct warm *warm)
{
    struct sums sums = {0};

    for (size_t i = 0; i < warm->count; i++) {
        const struct warm_shard *shard = &warm->shards[i];

        sums.shards[shard->outcome]++;
        if (!shard->shard->error_code)
            sums.bytes[shard->outcome] += shard->shard->size_bytes;
    }
    return sums;
}

static void tell_text(struct atd_buf *out, const struct warm *warm, const struct sums *sums,
                      bool quiet, bool pinned)
{
    size_t in_cache = sums->shards[WARM_FETCHED] + sums->shards[WARM_KEPT];
    char size[PROGRESS_SIZE_TEXT_MAX];

    for (size_t i = 0; i < warm->count; i++) {
        const struct warm_shard *shard = &warm->shards[i];

        if (shard->outcome == WARM_FAILED)
            (void)fprintf(stderr, "atdatafs: '" ATD_STR_FMT "/" ATD_STR_FMT "': %s\n",
                          ATD_STR_ARG(target_name(shard->entry)),
                          ATD_STR_ARG(shard->shard->file_name), shard->why.text);
    }
    if (quiet)
        return;
    output_count(out, in_cache, "shard", "shards");
    atd_buf_printf(out, " (%s) in the cache%s",
                   progress_size_text(sums->bytes[WARM_FETCHED] + sums->bytes[WARM_KEPT], size),
                   pinned ? ", pinned" : "");
    if (sums->shards[WARM_KEPT])
        atd_buf_printf(out, ", %zu of them were there", sums->shards[WARM_KEPT]);
    if (sums->shards[WARM_LOCAL])
        atd_buf_printf(out, "; %zu lie on this disk anyway", sums->shards[WARM_LOCAL]);
    if (sums->shards[WARM_FAILED])
        atd_buf_printf(out, "; %zu failed", sums->shards[WARM_FAILED]);
    atd_buf_append_text(out, "\n");
}

static void tell_json(struct atd_buf *out, const struct warm *warm, const struct sums *sums,
                      bool pinned)
{
    struct atd_json_writer json;

    atd_json_init(&json, out, ATD_JSON_PRETTY);
    atd_json_object_begin(&json);
    atd_json_put_uint(&json, "fetched", sums->shards[WARM_FETCHED]);
    atd_json_put_uint(&json, "was_there", sums->shards[WARM_KEPT]);
    atd_json_put_uint(&json, "local", sums->shards[WARM_LOCAL]);
    atd_json_put_uint(&json, "bytes", sums->bytes[WARM_FETCHED] + sums->bytes[WARM_KEPT]);
    output_json_bool(&json, "pinned", pinned);
    atd_json_key(&json, "failed");
    atd_json_array_begin(&json);
    for (size_t i = 0; i < warm->count; i++) {
        const struct warm_shard *shard = &warm->shards[i];

        if (shard->outcome != WARM_FAILED)
            continue;
        atd_json_object_begin(&json);
        output_json_str(&json, "dataset", target_name(shard->entry));
        output_json_str(&json, "shard", shard->shard->file_name);
        output_json_str(&json, "url", shard->shard->url);
        output_json_error(&json, &shard->why);
        atd_json_object_end(&json);
    }
    atd_json_array_end(&json);
    atd_json_object_end(&json);
    atd_buf_append_byte(out, '\n');
}

int warm_tell(struct warm *warm, const struct arguments *arguments, bool pinned)
{
    struct sums sums = sum_up(warm);
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(OUTPUT_BYTES_MAX);
    struct atd_error failed = ATD_ERROR_INIT;

    if (arguments->json)
        tell_json(&out, warm, &sums, pinned);
    else
        tell_text(&out, warm, &sums, arguments->quiet, pinned);
    if (output_print(&out, &failed) != 0)
        return command_failed(&failed);
    return sums.shards[WARM_FAILED] ? ATD_EXIT_FAILED : ATD_EXIT_OK;
}

/* ------------------------------------------------------------------ the whole */

int warm_close(struct warm *warm, int exit_code)
{
    exit_code = output_flush(exit_code);
    progress_clear(&warm->progress);
    for (size_t i = 0; warm->lists && i < warm->targets.count; i++)
        atd_shard_list_unref(warm->lists[i]);
    free(warm->lists);
    free(warm->shards);
    targets_release(&warm->targets);
    if (!parts_stop(&warm->parts) || !parts_free(&warm->parts))
        _exit(exit_code);
    (void)pthread_cond_destroy(&warm->changed);
    atd_lock_destroy(&warm->lock);
    return exit_code;
}

static int run(const struct options *options, const struct arguments *arguments, unsigned jobs)
{
    struct warm warm = {0};
    struct atd_error why = ATD_ERROR_INIT;
    int exit_code;

    atd_log_open("atdatafs", 0, ATD_LOG_WARNING);
    if (warm_open(&warm, options, arguments, jobs, &why) != 0) {
        progress_clear(&warm.progress);
        exit_code = command_failed(&why);
    } else {
        warm_run(&warm);
        exit_code = warm_tell(&warm, arguments, false);
    }
    return warm_close(&warm, exit_code);
}

int command_warm(int argc, char **argv)
{
    unsigned jobs = WARM_JOBS_DEFAULT;
    const struct argument_option own[] = {
        {.name = "-j", .number = &jobs, .least = 1, .most = PARALLEL_MAX},
    };
    struct arguments arguments;
    struct options options;
    int exit_code;

    if (command_begin(&usage, argc, argv, own, sizeof(own) / sizeof(own[0]), &arguments, &options,
                      &exit_code))
        exit_code = run(&options, &arguments, jobs);
    return command_end(&arguments, &options, exit_code);
}

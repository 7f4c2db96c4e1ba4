/*
 * atdatafs pin [NAME...], unpin NAME...: what eviction leaves in the cache directory.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "commands.h"
#include "output.h"
#include "parallel.h"
#include "warm.h"

/* Of the cache's limit, what pins may take: the rest must have room too. */
#define PINNED_SHARE_MAX(bytes) ((bytes) - (bytes) / 8)

static const struct command_usage pin_usage = {
    .name = "pin",
    .synopsis = "[-j N] [NAME...]",
    .about =
        "Fetches the shards of datasets into the cache directory and keeps them there: eviction\n"
        "passes them over, in every mount that shares the directory, until atdatafs unpin. The\n"
        "shards are those that the name means now: after a publish, pin it again. Without a\n"
        "name: what is pinned.",
    .options = "  -j N              shards at once (default 4)\n",
    .examples = "  atdatafs pin mnist\n"
                "  atdatafs pin\n",
    .takes = ARGUMENTS_INDEX | ARGUMENTS_JSON | ARGUMENTS_QUIET,
    .words_most = ARGUMENTS_WORDS_MAX - 1,
};

static const struct command_usage unpin_usage = {
    .name = "unpin",
    .synopsis = "NAME...",
    .about = "Lets the shards of datasets be evicted again, by the names that they were pinned by.",
    .examples = "  atdatafs unpin mnist\n",
    .takes = ARGUMENTS_INDEX,
    .words_least = 1,
    .words_most = ARGUMENTS_WORDS_MAX - 1,
    .words_missing = "the names of what is pinned are missing",
};

/* ------------------------------------------------------------------ pinning */

struct pinned {
    char *const *words; /* that are pinned anew */
    unsigned word_count;
    uint64_t bytes; /* of the others */
};

static void add_others(void *ctx, struct atd_str name, size_t count, uint64_t size_bytes)
{
    struct pinned *pinned = ctx;
    bool is_anew = false;

    (void)count;
    for (unsigned i = 0; i < pinned->word_count && !is_anew; i++)
        is_anew = atd_str_equal(name, atd_str_from(pinned->words[i]));
    if (!is_anew)
        pinned->bytes += size_bytes;
}

static int check_room(struct warm *warm, const struct arguments *arguments, struct atd_error *err)
{
    struct pinned pinned = {.words = arguments->words, .word_count = arguments->word_count};
    uint64_t most = PINNED_SHARE_MAX(warm->options->cache_size_bytes);
    char sizes[3][PROGRESS_SIZE_TEXT_MAX];
    int rc = atd_cache_pins_each(remote_cache_dir(warm->parts.remote), add_others, &pinned, err);

    if (rc || warm->wanted_bytes + pinned.bytes <= most)
        return rc;
    return atd_error_set(err, EFBIG,
                         "the shards have %s, %s are pinned already, and of the cache %s may be: "
                         "raise -o cache_size=, or unpin something",
                         progress_size_text(warm->wanted_bytes, sizes[0]),
                         progress_size_text(pinned.bytes, sizes[1]),
                         progress_size_text(most, sizes[2]));
}

/* The shards of one word. */
static int pin_one(struct warm *warm, const char *word, const struct atd_shard_list *list,
                   struct atd_error *err)
{
    size_t count = atd_shard_list_count(list);
    atd_auto_free struct atd_pin *pins = calloc(count + 1, sizeof(*pins));
    size_t kept = 0;
    int rc = pins ? 0 : atd_error_set(err, ENOMEM, "out of memory");

    for (size_t i = 0; rc == 0 && i < count; i++) {
        const struct atd_shard *shard = atd_shard_list_at(list, i);
        struct atd_object_info info;

        if (!shard->store || shard->error_code)
            continue;
        atd_shard_info(shard, &info);
        rc = atd_cache_pin_of(remote_sites(warm->parts.remote)->endpoint, shard->url, &info,
                              &pins[kept++], err);
    }
    return rc ? rc
              : atd_cache_pins_put(remote_cache_dir(warm->parts.remote), atd_str_from(word), pins,
                                   kept, err);
}

/* Before they are fetched, so that none goes meanwhile. */
static int pin_all(struct warm *warm, const struct arguments *arguments, struct atd_error *err)
{
    int rc = check_room(warm, arguments, err);

    for (unsigned i = 0; rc == 0 && i < arguments->word_count; i++) {
        struct targets one;
        struct atd_shard_list *list = NULL;

        rc = targets_find(&warm->parts, &arguments->words[i], 1, &one, err);
        if (rc == 0 && one.is_all)
            rc = atd_error_set(err, EINVAL, "datasets are pinned by their names, not by 'all'");
        if (rc == 0)
            rc = atd_catalog_shards_get(one.catalog, one.entries[0], warm->parts.locator,
                                        ATD_EFFORT_NETWORK, &list, err);
        if (rc == 0)
            rc = pin_one(warm, arguments->words[i], list, err);
        atd_shard_list_unref(list);
        targets_release(&one);
    }
    return rc;
}

static int run_pin(const struct options *options, const struct arguments *arguments, unsigned jobs)
{
    struct warm warm = {0};
    struct atd_error why = ATD_ERROR_INIT;
    int rc = warm_open(&warm, options, arguments, jobs, &why);
    int exit_code;

    if (rc == 0)
        rc = pin_all(&warm, arguments, &why);
    if (rc) {
        progress_clear(&warm.progress);
        exit_code = command_failed(&why);
    } else {
        warm_run(&warm);
        exit_code = warm_tell(&warm, arguments, true);
    }
    return warm_close(&warm, exit_code);
}

/* ------------------------------------------------------------------ looking, and letting go */

struct listing {
    struct output_table table;
    struct atd_json_writer json;
    bool is_json;
};

static void list_one(void *ctx, struct atd_str name, size_t count, uint64_t size_bytes)
{
    struct listing *listing = ctx;

    if (!listing->is_json) {
        output_cell(&listing->table, OUTPUT_STRONG, name);
        output_cell_number(&listing->table, true, count);
        output_cell_size(&listing->table, true, size_bytes);
        return;
    }
    atd_json_object_begin(&listing->json);
    output_json_str(&listing->json, "name", name);
    atd_json_put_uint(&listing->json, "shards", count);
    atd_json_put_uint(&listing->json, "bytes", size_bytes);
    atd_json_object_end(&listing->json);
}

static int list_pins(struct atd_cache_dir *dir, const struct arguments *arguments,
                     struct atd_error *err)
{
    static const char *const titles[] = {"NAME", ">SHARDS", ">SIZE"};
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(OUTPUT_BYTES_MAX);
    struct listing listing = {.is_json = arguments->json};
    int rc;

    output_table_init(&listing.table, 3, titles);
    atd_json_init(&listing.json, &out, ATD_JSON_PRETTY);
    if (listing.is_json)
        atd_json_array_begin(&listing.json);
    rc = atd_cache_pins_each(dir, list_one, &listing, err);
    if (listing.is_json) {
        atd_json_array_end(&listing.json);
        atd_buf_append_byte(&out, '\n');
    } else {
        output_table_end(&listing.table, &out);
    }
    output_table_release(&listing.table);
    return rc ? rc : output_print(&out, err);
}

/* The cache directory alone: no index is asked. */
static int run_alone(const struct options *options, const struct arguments *arguments, bool unpins)
{
    struct remote *remote = NULL;
    struct atd_error why = ATD_ERROR_INIT;
    int exit_code = ATD_EXIT_OK;
    int rc = remote_start(options, NULL, NULL, &remote, &why);

    if (rc == 0 && !remote_cache_path(remote))
        rc = atd_error_set(&why, EINVAL,
                           "there is no cache directory: name one with -o cache_dir=DIR");
    if (rc == 0 && !unpins)
        rc = list_pins(remote_cache_dir(remote), arguments, &why);
    for (unsigned i = 0; rc == 0 && unpins && i < arguments->word_count; i++)
        rc = atd_cache_pins_remove(remote_cache_dir(remote), atd_str_from(arguments->words[i]),
                                   &why);
    if (rc)
        exit_code = command_failed(&why);
    if (!remote_stop(remote) || !remote_free(remote))
        _exit(output_flush(exit_code));
    return exit_code;
}

int command_pin(int argc, char **argv)
{
    unsigned jobs = WARM_JOBS_DEFAULT;
    const struct argument_option own[] = {
        {.name = "-j", .number = &jobs, .least = 1, .most = PARALLEL_MAX},
    };
    struct arguments arguments;
    struct options options;
    int exit_code;

    if (command_begin(&pin_usage, argc, argv, own, sizeof(own) / sizeof(own[0]), &arguments,
                      &options, &exit_code)) {
        atd_log_open("atdatafs", 0, ATD_LOG_WARNING);
        exit_code = arguments.word_count ? run_pin(&options, &arguments, jobs)
                                         : run_alone(&options, &arguments, false);
    }
    return command_end(&arguments, &options, exit_code);
}

int command_unpin(int argc, char **argv)
{
    struct arguments arguments;
    struct options options;
    int exit_code;

    if (command_begin(&unpin_usage, argc, argv, NULL, 0, &arguments, &options, &exit_code)) {
        atd_log_open("atdatafs", 0, ATD_LOG_WARNING);
        exit_code = run_alone(&options, &arguments, true);
    }
    return command_end(&arguments, &options, exit_code);
}

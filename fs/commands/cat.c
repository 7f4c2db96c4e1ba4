/*
 * atdatafs cat NAME [SHARD...]: samples as JSON lines.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "arguments.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "cat_npy.h"
#include "catalog/shards.h"
#include "commands.h"
#include "output.h"
#include "parts.h"
#include "publish/inspect.h"
#include "publish/inspect_unpack.h"
#include "sample_json.h"
#include "store/stores.h"
#include "store/stream.h"
#include "targets.h"

static const struct command_usage usage = {
    .name = "cat",
    .synopsis = "[-n N] [--npy FIELD -d DIR|-O FILE] NAME [SHARD...]",
    .about =
        "Prints the samples of a dataset, or of some of its shards, one line of JSON each:\n"
        "{\"__key__\": KEY, FIELD: VALUE, ...}. Arrays are told as {\"dtype\", \"shape\"}, bytes "
        "as\n"
        "{\"bytes\": N}, members of plain WebDatasets by their extensions (small json, txt and\n"
        "cls are shown). Shards are read from the store, in order.",
    .options = "  -n N              the first N samples\n"
               "  --npy FIELD       write that array of each sample as a .npy file instead\n"
               "  -d DIR            ... DIR/KEY.npy\n"
               "  -O FILE           ... of the first sample, FILE\n",
    .examples = "  atdatafs cat -n 3 mnist\n"
                "  atdatafs cat mnist data-000000.tar | jq .label\n"
                "  atdatafs cat --npy image -O first.npy mnist\n",
    .takes = ARGUMENTS_INDEX,
    .words_least = 1,
    .words_most = ARGUMENTS_WORDS_MAX - 1,
    .words_missing = "the name of a dataset is missing",
};

/* A callback's: all that was asked for was printed. */
#define ENOUGH (-ECANCELED)

struct cat {
    unsigned most; /* samples; 0: all */
    unsigned told;
    bool is_enough;
    struct npy_target npy; /* `field` NULL: lines */
    struct atd_store *disk;
    unsigned timeout_ms;
};

/* Of one shard: bytes, unpacked if need be, into samples. */
struct reading {
    struct atd_sample_split *split;
    struct atd_unpacker *unpacker; /* NULL: a plain tar */
};

/* ------------------------------------------------------------------ samples */

static size_t keep(void *ctx, const char *extension)
{
    const struct cat *cat = ctx;

    if (strcmp(extension, "msgpack") == 0 ||
        (cat->npy.field && strcmp(extension, cat->npy.field) == 0))
        return ATD_INSPECT_SAMPLE_MAX;
    return !cat->npy.field && sample_json_is_text(extension) ? SAMPLE_TEXT_BYTES_MAX : 0;
}

static int print_line(struct atd_str key, const struct atd_sample_part *parts, size_t count,
                      struct atd_error *err)
{
    atd_auto_buf struct atd_buf line = ATD_BUF_INIT(OUTPUT_BYTES_MAX);
    struct atd_json_writer json;
    int rc;

    atd_json_init(&json, &line, ATD_JSON_TIGHT);
    rc = sample_json_write(&json, key, parts, count, err);
    atd_buf_append_byte(&line, '\n');
    return rc ? rc : output_print(&line, err);
}

static int on_sample(void *ctx, struct atd_str key, const struct atd_sample_part *parts,
                     size_t count, struct atd_error *err)
{
    struct cat *cat = ctx;
    int rc = cat->npy.field ? npy_write(&cat->npy, key, parts, count, err)
                            : print_line(key, parts, count, err);

    if (rc)
        return rc;
    cat->told++;
    /* Nobody reads any more, or the disk is full: output_flush() says so. */
    cat->is_enough = cat->told == cat->most || ferror(stdout);
    return cat->is_enough ? ENOUGH : 0;
}

/* ------------------------------------------------------------------ one shard */

static int on_unpacked(void *ctx, struct atd_bytes bytes, struct atd_error *err)
{
    const struct reading *reading = ctx;

    return atd_sample_split_feed(reading->split, bytes, err);
}

static int feed(struct reading *reading, bool is_first, struct atd_bytes bytes,
                struct atd_error *err)
{
    enum atd_packing packing = is_first ? atd_packing_of(bytes) : ATD_PACKING_NONE;

    if (packing != ATD_PACKING_NONE) {
        reading->unpacker = atd_unpacker_new(packing, ATD_INSPECT_RATIO_MAX, on_unpacked, reading);
        if (!reading->unpacker)
            return atd_error_set(err, ENOMEM, "out of memory");
    }
    return reading->unpacker ? atd_unpacker_feed(reading->unpacker, bytes, err)
                             : atd_sample_split_feed(reading->split, bytes, err);
}

static int read_all(struct reading *reading, struct atd_stream *stream, struct atd_error *err)
{
    struct atd_bytes bytes;
    bool is_first = true;
    int rc;

    do {
        rc = atd_stream_next(stream, &bytes, err);
        if (rc == 0 && bytes.len > 0)
            rc = feed(reading, is_first, bytes, err);
        is_first = false;
    } while (rc == 0 && bytes.len > 0);
    if (rc == 0 && reading->unpacker)
        rc = atd_unpacker_finish(reading->unpacker, err);
    return rc ? rc : atd_sample_split_finish(reading->split, err);
}

static int cat_shard(struct cat *cat, const struct atd_shard *shard, struct atd_error *err)
{
    const struct atd_sample_sink sink = {cat, keep, on_sample};
    struct atd_store *store = shard->store ? shard->store : cat->disk;
    struct reading reading = {0};
    struct atd_stream *stream = NULL;
    struct atd_object_info info;
    int rc = 0;

    if (shard->error_code)
        return atd_error_set(err, shard->error_code, ATD_STR_FMT, ATD_STR_ARG(shard->reason));
    if (shard->store)
        atd_shard_info(shard, &info);
    else
        rc = atd_store_stat(store, shard->url, cat->timeout_ms, &info, err);
    reading.split = atd_sample_split_new(&sink);
    if (rc == 0 && !reading.split)
        rc = atd_error_set(err, ENOMEM, "out of memory");
    if (rc == 0)
        rc = atd_stream_open(store, shard->url, &info, cat->timeout_ms, &stream, err);
    if (rc == 0)
        rc = read_all(&reading, stream, err);
    atd_stream_free(stream);
    atd_unpacker_free(reading.unpacker);
    atd_sample_split_free(reading.split);
    return cat->is_enough ? 0 : rc;
}

/* ------------------------------------------------------------------ the whole */

static int cat_one(struct cat *cat, const struct atd_shard *shard, struct atd_error *err)
{
    int rc = cat_shard(cat, shard, err);

    return rc ? atd_error_wrap(err, rc, "'" ATD_STR_FMT "'", ATD_STR_ARG(shard->file_name)) : 0;
}

static int cat_list(struct cat *cat, const struct atd_shard_list *list, char *const *names,
                    unsigned count, struct atd_error *err)
{
    const char *error = atd_shard_list_error(list);
    int rc = 0;

    if (error)
        return atd_error_set(err, EINVAL, "%s", error);
    /* A mistyped name is told before anything is printed. */
    for (unsigned i = 0; i < count; i++) {
        if (!atd_shard_list_find(list, atd_str_from(names[i])))
            return atd_error_set(err, ENOENT, "the dataset has no shard '%.200s'", names[i]);
    }
    for (unsigned i = 0; rc == 0 && !cat->is_enough && i < count; i++)
        rc = cat_one(cat, atd_shard_list_find(list, atd_str_from(names[i])), err);
    for (size_t i = 0; count == 0 && rc == 0 && !cat->is_enough && i < atd_shard_list_count(list);
         i++)
        rc = cat_one(cat, atd_shard_list_at(list, i), err);
    return rc;
}

static int cat_dataset(struct cat *cat, struct parts *parts, const struct arguments *arguments,
                       struct atd_error *err)
{
    struct atd_shard_list *list = NULL;
    struct targets targets;
    int rc = targets_find(parts, arguments->words, 1, &targets, err);

    if (rc == 0 && targets.is_all)
        rc = atd_error_set(err, ENOENT, "there is no dataset 'all' in the index");
    if (rc == 0)
        rc = atd_catalog_shards_get(targets.catalog, targets.entries[0], parts->locator,
                                    ATD_EFFORT_NETWORK, &list, err);
    if (rc == 0)
        rc = cat_list(cat, list, arguments->words + 1, arguments->word_count - 1, err);
    atd_shard_list_unref(list);
    targets_release(&targets);
    return rc;
}

static int run(const struct options *options, const struct arguments *arguments, struct cat *cat)
{
    struct parts parts;
    struct atd_error why = ATD_ERROR_INIT;
    int exit_code = ATD_EXIT_OK;
    int rc;

    atd_log_open("atdatafs", 0, ATD_LOG_WARNING);
    cat->timeout_ms = options->timeout_s * 1000;
    rc = parts_open(options, PARTS_COMMAND, false, NULL, NULL, &parts, &why);
    if (rc == 0)
        rc = atd_store_file_new(parts.files, &cat->disk, &why);
    if (rc == 0)
        rc = cat_dataset(cat, &parts, arguments, &why);
    if (rc)
        exit_code = command_failed(&why);
    else if (cat->npy.field)
        (void)printf("%u written\n", cat->npy.written);
    exit_code = output_flush(exit_code);
    atd_store_free(cat->disk);
    if (!parts_stop(&parts) || !parts_free(&parts))
        _exit(exit_code);
    return exit_code;
}

static int check(struct cat *cat, struct atd_error *err)
{
    struct npy_target *npy = &cat->npy;

    if (!npy->field && (npy->file || npy->directory))
        return atd_error_set(err, EINVAL, "-d and -O go with --npy FIELD");
    if (npy->field && !npy->file == !npy->directory)
        return atd_error_set(err, EINVAL, "--npy takes either -d DIR or -O FILE");
    if (npy->file && cat->most > 1)
        return atd_error_set(err, EINVAL, "-O writes one sample: use -d DIR for more");
    if (npy->file)
        cat->most = 1;
    return 0;
}

int command_cat(int argc, char **argv)
{
    struct cat cat = {0};
    const struct argument_option own[] = {
        {.name = "-n", .number = &cat.most, .least = 1, .most = UINT_MAX},
        {.name = "--npy", .text = &cat.npy.field},
        {.name = "-d", .text = &cat.npy.directory},
        {.name = "-O", .text = &cat.npy.file},
    };
    struct atd_error why = ATD_ERROR_INIT;
    struct arguments arguments;
    struct options options;
    int exit_code;

    if (command_begin(&usage, argc, argv, own, sizeof(own) / sizeof(own[0]), &arguments, &options,
                      &exit_code)) {
        if (check(&cat, &why) != 0) {
            (void)command_failed(&why);
            exit_code = ATD_EXIT_USAGE;
        } else {
            exit_code = run(&options, &arguments, &cat);
        }
    }
    return command_end(&arguments, &options, exit_code);
}

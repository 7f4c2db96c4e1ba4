/*
 * atdatafs status: how a mount is, or an index.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "commands.h"
#include "from_mount.h"
#include "look.h"
#include "output.h"
#include "words.h"

static const struct command_usage usage = {
    .name = "status",
    .synopsis = "[MOUNTPOINT]",
    .about = "Tells how a mount is: what its .atdatafs/status.json says. Without a mount point, "
             "how the\n"
             "index is: what kind, what it holds, which records in it cannot be read and why, and "
             "which\n"
             "store is set up. Nothing is asked of the store.",
    .exits = "0 done, 1 failed (no such mount, the index cannot be read), 2 the command line is "
             "wrong",
    .examples = "  atdatafs status\n"
                "  atdatafs status ~/datasets\n"
                "  atdatafs status --json -i redis://index.example/0 | jq .problem_count\n",
    .takes = ARGUMENTS_INDEX | ARGUMENTS_JSON,
    .words_most = 1,
};

static void put_time(struct atd_json_writer *json, const char *key, int64_t seconds)
{
    char text[ATD_CLOCK_TEXT_MAX];

    atd_clock_format(seconds, text);
    output_json_text(json, key, text);
}

static void put_index(const struct look *look, struct atd_json_writer *json)
{
    const struct atd_catalog *catalog = look->catalog;

    atd_json_key(json, "index");
    atd_json_object_begin(json);
    output_json_text(json, "provider", look->parts.index->ops->provider);
    output_json_text(json, "location", look->parts.index->location);
    put_time(json, "loaded_at", atd_catalog_loaded_at_s(catalog));
    output_json_uint(json, "datasets", atd_catalog_dataset_count(catalog));
    output_json_uint(json, "entries", atd_catalog_entry_count(catalog));
    output_json_uint(json, "schemas", atd_catalog_schema_count(catalog));
    output_json_uint(json, "labels", atd_catalog_label_count(catalog));
    atd_json_object_end(json);
}

/* Where new shards would go. */
static void put_store(const struct look *look, struct atd_json_writer *json)
{
    const struct options *options = look->options;
    atd_auto_buf struct atd_buf place = ATD_BUF_INIT(ATD_NAME_BYTES_MAX);

    if (options->bucket)
        atd_buf_printf(&place, "s3://%s%s%s", options->bucket, options->prefix[0] ? "/" : "",
                       options->prefix);
    else if (options->index_path)
        atd_buf_append_text(&place, options->data_roots[options->data_root_count - 1]);
    atd_json_key(json, "store");
    atd_json_object_begin(json);
    if (place.len)
        output_json_str(json, "new_shards", atd_buf_str(&place));
    else
        output_json_text(json, "error",
                         "nobody said where new shards go: use -o "
                         "store=s3://BUCKET/PREFIX");
    /* Of no interest where all is on the disk. */
    if (options->bucket || !options->index_path) {
        output_json_text(json, "endpoint", remote_scope(look->parts.remote));
        output_json_text(json, "credentials", remote_credentials(look->parts.remote));
    }
    atd_json_object_end(json);
}

static void put_problems(const struct atd_catalog *catalog, struct atd_json_writer *json)
{
    atd_json_key(json, "problems");
    atd_json_array_begin(json);
    for (size_t i = 0; i < atd_catalog_problem_kept(catalog); i++) {
        const struct atd_problem *problem = atd_catalog_problem_at(catalog, i);

        atd_json_object_begin(json);
        output_json_text(json, "what", problem->what);
        output_json_str(json, "key", problem->key);
        output_json_str(json, "reason", problem->reason);
        atd_json_object_end(json);
    }
    atd_json_array_end(json);
    output_json_uint(json, "problem_count", atd_catalog_problem_count(catalog));
}

static int tell(const struct arguments *arguments, struct atd_buf *text, struct atd_buf *out,
                struct atd_error *err)
{
    int rc = atd_buf_finish(text, "the status", err);

    if (rc == 0 && !arguments->json)
        return words_write(atd_buf_str(text), out, err);
    if (rc == 0)
        atd_buf_append_str(out, atd_buf_str(text));
    return rc;
}

static int run(struct look *look, struct atd_error *err)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(ATD_RENDER_BYTES_MAX);
    struct atd_json_writer json;

    atd_json_init(&json, &text, ATD_JSON_PRETTY);
    atd_json_object_begin(&json);
    output_json_text(&json, "version", ATD_VERSION);
    put_index(look, &json);
    put_store(look, &json);
    put_problems(look->catalog, &json);
    atd_json_object_end(&json);
    atd_buf_append_byte(&text, '\n');
    return tell(look->arguments, &text, &look->out, err);
}

static int of_mount(const struct arguments *arguments, struct atd_buf *out, struct atd_error *err)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(ATD_RENDER_BYTES_MAX);
    atd_auto_free char *path = NULL;
    int rc;

    if (asprintf(&path, "%s/.atdatafs/status.json", arguments->words[0]) < 0) {
        path = NULL;
        return atd_error_set(err, ENOMEM, "out of memory");
    }
    rc = from_mount_read(path, &text, err);
    if (rc == -ENOENT || rc == -ENOTDIR)
        rc = atd_error_set(err, ENOENT,
                           "'%.300s' is no mount of atdatafs; without a word the index is told of",
                           arguments->words[0]);
    else if (rc == -ENOTCONN)
        rc = atd_error_set(err, ENOTCONN,
                           "the process of the mount '%.300s' has ended; mount it again, or clear "
                           "it away with fusermount3 -u",
                           arguments->words[0]);
    return rc ? rc : tell(arguments, &text, out, err);
}

static int tell_of_mount(const struct arguments *arguments)
{
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(OUTPUT_BYTES_MAX);
    struct atd_error why = ATD_ERROR_INIT;
    int rc = of_mount(arguments, &out, &why);

    if (rc == 0)
        rc = output_print(&out, &why);
    return rc ? command_failed(&why) : ATD_EXIT_OK;
}

int command_status(int argc, char **argv)
{
    struct arguments arguments;
    struct options options;
    int exit_code;

    if (command_begin(&usage, argc, argv, NULL, 0, &arguments, &options, &exit_code))
        exit_code = arguments.word_count ? tell_of_mount(&arguments)
                                         : look_run(&arguments, &options, false, run, NULL);
    return command_end(&arguments, &options, exit_code);
}

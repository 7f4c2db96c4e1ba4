/*
 * atdatafs show: everything that is known of an entry, as its entry.json says it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "commands.h"
#include "from_mount.h"
#include "look.h"
#include "output.h"
#include "render.h"
#include "words.h"

static const struct command_usage usage = {
    .name = "show",
    .synopsis = "NAME | @local/NAME[@VERSION] | CID | PATH",
    .about =
        "Shows everything of a dataset's entry: CID, schema, labels, and of each shard its URL,\n"
        "size, ETag and checksum. With --json it is what entry.json holds in a mount. PATH is a\n"
        "dataset's directory in a mount, or anything in it (write ./NAME for one without a\n"
        "slash); then no index is opened.",
    .examples = "  atdatafs show mnist\n"
                "  atdatafs show ~/datasets/datasets/mnist/train-000000.tar\n"
                "  atdatafs show --json mnist@1.0.0 | jq -r '.shards[].sha256'\n",
    .takes = ARGUMENTS_INDEX | ARGUMENTS_JSON,
    .words_least = 1,
    .words_most = 1,
    .words_missing = "the name of a dataset, a label, a CID or a path is missing",
};

/* `out` gets the document as it is, or in words. */
static int tell(const struct arguments *arguments, struct atd_str json, struct atd_buf *out,
                struct atd_error *err)
{
    if (!arguments->json)
        return words_write(json, out, err);
    atd_buf_append_str(out, json);
    return atd_buf_finish(out, "entry.json", err);
}

static int run(struct look *look, struct atd_error *err)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(ATD_RENDER_BYTES_MAX);
    const struct atd_catalog_entry *entry;
    const struct atd_dataset *dataset;
    struct atd_shard_list *list = NULL;
    int rc = look_find(look, look->arguments->words[0], &entry, &dataset, err);

    if (rc == 0)
        rc = atd_catalog_shards_get(look->catalog, entry, look->parts.locator, ATD_EFFORT_NETWORK,
                                    &list, err);
    if (rc == 0)
        rc = render_entry(look->catalog, dataset, entry, list, &text, err);
    atd_shard_list_unref(list);
    return rc ? rc : tell(look->arguments, atd_buf_str(&text), &look->out, err);
}

/* Without an index: what the mount has. */
static int show_file(const struct arguments *arguments, const char *path)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(ATD_RENDER_BYTES_MAX);
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(OUTPUT_BYTES_MAX);
    struct atd_error why = ATD_ERROR_INIT;
    int rc = from_mount_read(path, &text, &why);

    if (rc == 0)
        rc = tell(arguments, atd_buf_str(&text), &out, &why);
    if (rc == 0)
        rc = output_print(&out, &why);
    else if (why.code == EINVAL)
        (void)atd_error_wrap(&why, rc, "'%.300s' is no entry.json", path);
    return rc ? command_failed(&why) : ATD_EXIT_OK;
}

/* A path has a slash, unless it is the directory one is in; "@local/..." is none. */
static bool may_be_path(const char *word)
{
    return word[0] != '@' && (strchr(word, '/') || strcmp(word, ".") == 0);
}

int command_show(int argc, char **argv)
{
    struct arguments arguments;
    struct options options;
    int exit_code;

    if (command_begin(&usage, argc, argv, NULL, 0, &arguments, &options, &exit_code)) {
        const char *word = arguments.words[0];
        atd_auto_free char *path = may_be_path(word) ? from_mount_entry(word) : NULL;

        exit_code =
            path ? show_file(&arguments, path) : look_run(&arguments, &options, false, run, NULL);
    }
    return command_end(&arguments, &options, exit_code);
}

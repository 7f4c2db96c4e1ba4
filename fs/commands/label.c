/*
 * atdatafs label: a version of a dataset, as ln -s in labels/ makes it.
 */
#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "change.h"
#include "codec/upload_name.h"
#include "commands.h"
#include "output.h"

static const struct command_usage usage = {
    .name = "label",
    .synopsis = "NAME | @local/NAME[@VERSION] | CID  LABEL@VERSION",
    .about =
        "Points the label LABEL@VERSION at the entry that a dataset's name means now (or another\n"
        "label, or a CID), as ln -s in a mount's labels/ does. Done twice it is one label; a "
        "label\n"
        "that means another entry is refused.",
    .examples = "  atdatafs label mnist mnist@1.0.0\n"
                "  atdatafs label bafyreib... mnist@0.9.0\n",
    .takes = ARGUMENTS_INDEX | ARGUMENTS_JSON | ARGUMENTS_QUIET,
    .words_least = 2,
    .words_most = 2,
    .words_missing = "what the label means, and the label, are needed: label NAME LABEL@VERSION",
};

struct label {
    struct atd_str name;
    struct atd_str version;
    struct atd_str cid;
};

static int change(void *ctx, struct atd_editor *editor, struct atd_error *err)
{
    struct label *label = ctx;

    return atd_edit_label(editor, label->name, label->version, label->cid, err);
}

static void tell(struct look *look, const struct label *label)
{
    struct atd_json_writer json;

    if (look->arguments->json) {
        atd_json_init(&json, &look->out, ATD_JSON_PRETTY);
        atd_json_object_begin(&json);
        output_json_str(&json, "name", label->name);
        output_json_str(&json, "version", label->version);
        output_json_str(&json, "cid", label->cid);
        atd_json_object_end(&json);
        atd_buf_append_byte(&look->out, '\n');
    } else if (!look->arguments->quiet) {
        output_escape(&look->out, atd_str_from(look->arguments->words[1]));
        atd_buf_append_text(&look->out, " is ");
        output_escape(&look->out, label->cid);
        atd_buf_append_byte(&look->out, '\n');
    }
}

static int run(struct look *look, struct atd_error *err)
{
    struct label *label = look->own;
    const struct atd_catalog_entry *entry;
    const struct atd_dataset *dataset;
    int rc = look_find(look, look->arguments->words[0], &entry, &dataset, err);

    if (rc)
        return rc;
    label->cid = atd_entry_cid(entry);
    rc = change_run(look, change, label, err);
    if (rc)
        return atd_error_wrap(err, rc, "label '%.200s'", look->arguments->words[1]);
    tell(look, label);
    return 0;
}

/* Before the index is opened: a wrong word is wrong usage. */
static int read_label(const char *word, struct label *label, struct atd_error *err)
{
    if (!look_split_version(atd_str_from(word), &label->name, &label->version))
        return atd_error_set(
            err, EINVAL,
            "'%.200s' is no label: it is called NAME@VERSION, such as mnist@1.0.0; "
            "the unversioned label follows publishing by itself",
            word);
    return atd_dataset_name_check(label->name, err);
}

int command_label(int argc, char **argv)
{
    struct label label = {0};
    struct arguments arguments;
    struct options options;
    struct atd_error why = ATD_ERROR_INIT;
    int exit_code;

    if (command_begin(&usage, argc, argv, NULL, 0, &arguments, &options, &exit_code)) {
        if (read_label(arguments.words[1], &label, &why) != 0) {
            (void)command_failed(&why);
            exit_code = ATD_EXIT_USAGE;
        } else {
            exit_code = look_run(&arguments, &options, false, run, &label);
        }
    }
    return command_end(&arguments, &options, exit_code);
}

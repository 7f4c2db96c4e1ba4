#include "publish_arguments.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "codec/upload_name.h"
#include "options.h"

static const struct command_usage usage = {
    .name = "publish",
    .synopsis = "[-j N] FILE... NAME",
    .about =
        "Publishes tar shards into the dataset NAME: each is checked, uploaded and indexed, as by\n"
        "copying it into a mount. A file that is there already with the same bytes is not\n"
        "uploaded again; one with other bytes is refused. Interrupted or failed, run it again:\n"
        "what was published stays, the rest follows.",
    .options = "  -j N              files at once (default 4)\n",
    .exits = "0 all are published, 1 some are not (each is named with the reason),\n"
             "            2 the command line is wrong, 130 and 143 interrupted",
    .examples =
        "  atdatafs publish train-*.tar mnist\n"
        "  atdatafs publish -i redis://index.example/0 -o store=s3://team/sets,env_file=.env \\\n"
        "      train-*.tar mnist\n",
    .takes = ARGUMENTS_INDEX | ARGUMENTS_JSON | ARGUMENTS_QUIET,
    .words_most = ARGUMENTS_WORDS_MAX,
};

void publish_print_help(void)
{
    arguments_print_help(&usage);
}

const char *publish_file_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* ------------------------------------------------------------------ files */

static int compare_names(const void *a, const void *b)
{
    const char *left = *(const char *const *)a;
    const char *right = *(const char *const *)b;
    int order = strcmp(publish_file_name(left), publish_file_name(right));

    return order ? order : strcmp(left, right);
}

/* Two files of one name cannot both be in a dataset; one path given twice is one file. */
static int drop_repeated(struct publish_arguments *arguments, struct atd_error *err)
{
    unsigned count = arguments->file_count;
    unsigned kept = 0;
    atd_auto_free char **sorted = calloc(count, sizeof(*sorted));
    bool repeats = false;

    if (!sorted)
        return atd_error_set(err, ENOMEM, "out of memory");
    memcpy(sorted, arguments->files, count * sizeof(*sorted));
    qsort(sorted, count, sizeof(*sorted), compare_names);
    for (unsigned i = 1; i < count; i++) {
        if (strcmp(sorted[i - 1], sorted[i]) == 0)
            repeats = true;
        else if (strcmp(publish_file_name(sorted[i - 1]), publish_file_name(sorted[i])) == 0)
            return atd_error_set(err, EINVAL,
                                 "'%.150s' and '%.150s' would both be called '%.100s'; rename one",
                                 sorted[i - 1], sorted[i], publish_file_name(sorted[i]));
    }
    if (!repeats)
        return 0;
    /* In the order of the names then, which is how patterns give them. */
    for (unsigned i = 0; i < count; i++) {
        if (i == 0 || strcmp(sorted[i - 1], sorted[i]) != 0)
            arguments->files[kept++] = sorted[i];
    }
    arguments->file_count = kept;
    return 0;
}

static int take_dataset(struct publish_arguments *arguments, struct atd_error *err)
{
    struct atd_str name;

    if (arguments->file_count < 2)
        return atd_error_set(
            err, EINVAL, "%s; see atdatafs publish --help",
            arguments->file_count == 0
                ? "files and the name of a dataset are missing"
                : "files and the name of a dataset are needed, and only one word was given");
    arguments->dataset = arguments->files[--arguments->file_count];
    name = atd_str_from(arguments->dataset);
    /* The name was forgotten. */
    if (atd_upload_name_classify(atd_str_from(publish_file_name(arguments->dataset)), NULL, NULL) ==
        ATD_UPLOAD_SHARD)
        return atd_error_set(err, EINVAL,
                             "the last word is the name of the dataset, and '%.200s' looks like a "
                             "shard; see atdatafs publish --help",
                             arguments->dataset);
    return atd_dataset_name_check(name, err);
}

int publish_arguments_read(int argc, char **argv, struct publish_arguments *ret_arguments,
                           struct atd_error *err)
{
    struct publish_arguments *arguments = ret_arguments;
    const struct argument_option own[] = {
        {.name = "-j", .number = &arguments->parallel, .least = 1, .most = PUBLISH_JOBS_MAX},
    };
    int rc;

    *arguments = (struct publish_arguments){.parallel = PUBLISH_JOBS_DEFAULT};
    rc = arguments_read(&usage, argc, argv, own, ATD_ARRAY_LEN(own), &arguments->common, err);
    arguments->files = arguments->common.words;
    arguments->file_count = arguments->common.word_count;
    if (rc || arguments->common.help)
        return rc;
    if (arguments->file_count > PUBLISH_FILES_MAX)
        return atd_error_set(err, E2BIG, "more than %u files", PUBLISH_FILES_MAX);
    rc = take_dataset(arguments, err);
    return rc ? rc : drop_repeated(arguments, err);
}

void publish_arguments_release(struct publish_arguments *arguments)
{
    arguments_release(&arguments->common);
    *arguments = (struct publish_arguments){0};
}

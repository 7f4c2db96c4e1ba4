#include "publish_arguments.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "codec/upload_name.h"
#include "options.h"

void publish_print_help(void)
{
    (void)puts(
        "usage: atdatafs publish [-i INDEX-URL] [-o OPTION,...] [-j N] [--json] [-q] FILE... NAME\n"
        "\n"
        "Publishes tar shards into the dataset NAME: each is checked, uploaded and indexed, as by\n"
        "copying it into a mount. A file that is there already with the same bytes is not\n"
        "uploaded again; one with other bytes is refused. Interrupted or failed, run it again:\n"
        "what was published stays, the rest follows.\n"
        "\n"
        "  -i INDEX-URL   redis://HOST[:PORT]/DB, rediss://..., unix:///SOCKET?db=N,\n"
        "                 redis+sentinel://HOST[:PORT],HOST.../MASTER[/DB] or\n"
        "                 sqlite:PATH; left out: $ATDATA_INDEX, else ~/.atdata/index.db\n"
        "  -o OPTION,...  as of a mount: store=s3://BUCKET/PREFIX, endpoint=URL, env_file=PATH,\n"
        "                 compat=universal, ... (atdatafs --help)\n"
        "  -j N           files at once (default 4)\n"
        "  --json         one JSON document on standard output\n"
        "  -q, --quiet    only what failed\n"
        "  --             what follows is no option\n"
        "\n"
        "exit codes: 0 all are published, 1 some are not (each is named with the reason),\n"
        "            2 the command line is wrong, 130 and 143 interrupted\n"
        "\n"
        "examples:\n"
        "  atdatafs publish train-*.tar mnist\n"
        "  atdatafs publish -i redis://index.example/0 -o store=s3://team/sets,env_file=.env \\\n"
        "      train-*.tar mnist");
}

const char *publish_file_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* ------------------------------------------------------------------ words */

/* The value of an option, from the same word or the next one. NULL: it is another option. */
static char *take_value(int argc, char **argv, int *at, const char *option, struct atd_error *err)
{
    char *arg = argv[*at];

    if (strncmp(arg, option, strlen(option)) != 0)
        return NULL;
    if (arg[strlen(option)])
        return arg + strlen(option);
    if (*at + 1 < argc)
        return argv[++*at];
    (void)atd_error_set(err, EINVAL, "%s lacks its value; see atdatafs publish --help", option);
    return NULL;
}

static int read_jobs(const char *text, unsigned *ret_jobs, struct atd_error *err)
{
    char *end;
    unsigned long number = strtoul(text, &end, 10);

    if (*end || end == text || text[0] == '-' || number < 1 || number > PUBLISH_JOBS_MAX)
        return atd_error_set(err, EINVAL, "-j takes a number from 1 to %u", PUBLISH_JOBS_MAX);
    *ret_jobs = (unsigned)number;
    return 0;
}

static int read_option(int argc, char **argv, int *at, struct publish_arguments *arguments,
                       char **index, struct atd_error *err)
{
    static char dash_o[] = "-o";
    const char *arg = argv[*at];
    struct atd_error why = ATD_ERROR_INIT;
    char *value;

    if (strcmp(arg, "-h") == 0 || strcmp(arg, "--help") == 0)
        arguments->help = true;
    else if (strcmp(arg, "--json") == 0)
        arguments->json = true;
    else if (strcmp(arg, "-q") == 0 || strcmp(arg, "--quiet") == 0)
        arguments->quiet = true;
    else if ((value = take_value(argc, argv, at, "-i", &why))) {
        /* Not quoted: it may hold a password. */
        if (!atd_is_index_url(value))
            return atd_error_set(err, EINVAL,
                                 "-i takes redis://HOST/DB, rediss://, unix:///SOCKET, "
                                 "redis+sentinel://HOST,.../MASTER or sqlite:PATH");
        *index = value;
    } else if ((value = take_value(argc, argv, at, "-j", &why)))
        return read_jobs(value, &arguments->parallel, err);
    else if ((value = take_value(argc, argv, at, "-o", &why))) {
        arguments->mount_args[arguments->mount_count++] = dash_o;
        arguments->mount_args[arguments->mount_count++] = value;
    } else {
        return atd_error_set(err, EINVAL, "%s%.200s%s", why.code ? "" : "option '",
                             why.code ? why.text : arg,
                             why.code ? "" : "' is unknown; see atdatafs publish --help");
    }
    return 0;
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
    static char name[] = "atdatafs";
    static char nowhere[] = "/"; /* a mount point, which a mount's command line has */
    struct publish_arguments *arguments = ret_arguments;
    bool options_over = false;
    char *index = NULL;
    int rc = 0;

    *arguments = (struct publish_arguments){.parallel = PUBLISH_JOBS_DEFAULT};
    arguments->files = calloc((size_t)argc + 1, sizeof(*arguments->files));
    arguments->mount_args = calloc(2 * (size_t)argc + 4, sizeof(*arguments->mount_args));
    if (!arguments->files || !arguments->mount_args)
        return atd_error_set(err, ENOMEM, "out of memory");
    arguments->mount_args[arguments->mount_count++] = name;
    for (int i = 1; i < argc && rc == 0; i++) {
        if (!options_over && strcmp(argv[i], "--") == 0)
            options_over = true;
        else if (options_over || argv[i][0] != '-' || !argv[i][1])
            arguments->files[arguments->file_count++] = argv[i];
        else
            rc = read_option(argc, argv, &i, arguments, &index, err);
    }
    if (rc || arguments->help)
        return rc;
    if (index)
        arguments->mount_args[arguments->mount_count++] = index;
    arguments->mount_args[arguments->mount_count++] = nowhere;
    if (arguments->file_count > PUBLISH_FILES_MAX)
        return atd_error_set(err, E2BIG, "more than %u files", PUBLISH_FILES_MAX);
    rc = take_dataset(arguments, err);
    return rc ? rc : drop_repeated(arguments, err);
}

void publish_arguments_release(struct publish_arguments *arguments)
{
    free(arguments->files);
    free(arguments->mount_args);
    *arguments = (struct publish_arguments){0};
}

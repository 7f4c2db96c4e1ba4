#include "look.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "base/log.h"
#include "codec/file_name.h"
#include "output.h"

/* ------------------------------------------------------------------ a whole command */

int look_run(const struct arguments *arguments, const struct options *options, bool may_be_missing,
             look_fn fn, void *own)
{
    struct look look = {.arguments = arguments, .options = options, .own = own};
    struct atd_error why = ATD_ERROR_INIT;
    int exit_code = ATD_EXIT_OK;
    int rc;

    atd_log_open("atdatafs", 0, ATD_LOG_WARNING);
    /* A server that hangs up must not end us: its connection may be TLS, which libcurl writes to
     * without care for signals. Who reads our output is seen to by output_end(). */
    (void)signal(SIGPIPE, SIG_IGN);
    atd_buf_init(&look.out, OUTPUT_BYTES_MAX);
    rc = parts_open(options, PARTS_COMMAND, may_be_missing, NULL, NULL, &look.parts, &why);
    if (rc == 0) {
        look.catalog = atd_live_get(look.parts.live);
        rc = fn(&look, &why);
    }
    if (rc == 0)
        rc = output_print(&look.out, &why);
    if (rc)
        exit_code = command_failed(&why);
    atd_catalog_unref(look.catalog);
    atd_buf_release(&look.out);
    if (!parts_stop(&look.parts) || !parts_free(&look.parts))
        _exit(output_end(exit_code));
    return exit_code;
}

int look_main(const struct command_usage *usage, int argc, char **argv,
              const struct argument_option *own_options, unsigned own_count, look_fn fn, void *own)
{
    struct arguments arguments;
    struct options options;
    int exit_code;

    if (command_begin(usage, argc, argv, own_options, own_count, &arguments, &options, &exit_code))
        exit_code = look_run(&arguments, &options, false, fn, own);
    return command_end(&arguments, &options, exit_code);
}

/* ------------------------------------------------------------------ what a word means */

bool look_split_version(struct atd_str text, struct atd_str *ret_name, struct atd_str *ret_version)
{
    ptrdiff_t at = atd_str_find_last(text, '@');

    if (at <= 0 || (size_t)at + 1 == text.len)
        return false;
    *ret_name = atd_str_head(text, (size_t)at);
    *ret_version = atd_str_from_byte(text, (size_t)at + 1);
    return true;
}

static const struct atd_dataset *find_dataset(const struct atd_catalog *catalog,
                                              const struct atd_catalog_entry *entry,
                                              struct atd_str name)
{
    atd_auto_buf struct atd_buf file_name = ATD_BUF_INIT(4 * (size_t)ATD_NAME_BYTES_MAX);
    const struct atd_dataset *dataset;

    atd_file_name_encode(name, atd_entry_cid(entry), ATD_STR(""), &file_name);
    if (file_name.failed)
        return NULL;
    dataset = atd_catalog_find_dataset(catalog, atd_buf_str(&file_name));
    return dataset && atd_str_equal(atd_dataset_name(dataset), name) ? dataset : NULL;
}

static const struct atd_catalog_entry *find_version(const struct atd_catalog *catalog,
                                                    struct atd_str name, struct atd_str version)
{
    for (size_t place = atd_catalog_first_label_named(catalog, name);
         place < atd_catalog_label_count(catalog); place++) {
        const struct atd_catalog_label *label = atd_catalog_label_at(catalog, place);

        if (!atd_str_equal(atd_label_name(label), name))
            break;
        if (label->entry != ATD_NONE && atd_str_equal(atd_label_version(label), version))
            return atd_catalog_entry_at(catalog, label->entry);
    }
    return NULL;
}

static bool find_by_name(const struct atd_catalog *catalog, struct atd_str name,
                         const struct atd_catalog_entry **ret_entry,
                         const struct atd_dataset **ret_dataset)
{
    *ret_entry = atd_catalog_meaning(catalog, name);
    *ret_dataset = *ret_entry ? find_dataset(catalog, *ret_entry, name) : NULL;
    return *ret_entry != NULL;
}

/* "@local/NAME[@VERSION]". */
static int find_reference(const struct atd_catalog *catalog, struct atd_str text,
                          const struct atd_catalog_entry **ret_entry,
                          const struct atd_dataset **ret_dataset, struct atd_error *err)
{
    ptrdiff_t slash = atd_str_find(text, '/');
    struct atd_str handle = slash > 0 ? atd_str_head(text, (size_t)slash) : text;
    struct atd_str rest = slash > 0 ? atd_str_from_byte(text, (size_t)slash + 1) : ATD_STR("");
    struct atd_str name = rest;
    struct atd_str version = ATD_STR("");

    if (!atd_str_equal(handle, ATD_STR("@local")))
        return atd_error_set(err, EINVAL,
                             "'" ATD_STR_FMT "' is not in this index, which is @local: give "
                             "@local/NAME or @local/NAME@VERSION",
                             ATD_STR_ARG(text));
    if (!rest.len || (atd_str_find(rest, '@') >= 0 && !look_split_version(rest, &name, &version)))
        return atd_error_set(err, EINVAL,
                             "'" ATD_STR_FMT "' lacks a name or a version: @local/NAME or "
                             "@local/NAME@VERSION",
                             ATD_STR_ARG(text));
    *ret_dataset = NULL;
    if (version.len)
        *ret_entry = find_version(catalog, name, version);
    else
        (void)find_by_name(catalog, name, ret_entry, ret_dataset);
    if (*ret_entry)
        return 0;
    return atd_error_set(err, ENOENT, "'" ATD_STR_FMT "' is not in the index: %s; see atdatafs ls",
                         ATD_STR_ARG(text),
                         version.len && atd_catalog_meaning(catalog, name)
                             ? "the dataset is, but no such version of it"
                             : "there is no dataset of that name");
}

int look_find(const struct look *look, const char *word, const struct atd_catalog_entry **ret_entry,
              const struct atd_dataset **ret_dataset, struct atd_error *err)
{
    const struct atd_catalog *catalog = look->catalog;
    struct atd_str text = atd_str_from(word);
    const struct atd_catalog_label *label;
    struct atd_str name;
    struct atd_str version;

    *ret_entry = NULL;
    *ret_dataset = NULL;
    if (word[0] == '@' && atd_str_find(text, '/') > 0)
        return find_reference(catalog, text, ret_entry, ret_dataset, err);
    if (find_by_name(catalog, text, ret_entry, ret_dataset))
        return 0;
    *ret_dataset = atd_catalog_find_dataset(catalog, text);
    if (*ret_dataset) {
        *ret_entry = atd_catalog_entry_at(catalog, (*ret_dataset)->entry);
        return 0;
    }
    if (look_split_version(text, &name, &version))
        *ret_entry = find_version(catalog, name, version);
    if (!*ret_entry) {
        label = atd_catalog_find_label(catalog, text);
        *ret_entry = label ? atd_catalog_entry_at(catalog, label->entry) : NULL;
    }
    if (!*ret_entry)
        *ret_entry = atd_catalog_find_cid(catalog, text);
    if (!*ret_entry)
        *ret_entry = atd_catalog_find_entry(catalog, text);
    return *ret_entry
               ? 0
               : atd_error_set(err, ENOENT,
                               "'%.200s' is no dataset, label (NAME@VERSION) or CID of the index "
                               "'%.200s'; see atdatafs ls",
                               word, look->parts.index->location);
}

/*
 * atdatafs verify [NAME...|all]: is everything there, and is it what the index says?
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "atdata/cid.h"
#include "atdata/entry.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "commands.h"
#include "output.h"
#include "parallel.h"
#include "parts.h"
#include "store/stores.h"
#include "targets.h"
#include "verify_shard.h"

#define JOBS_DEFAULT 4u
#define JOBS_QUICK 16u
#define URLS_ARENA_MAX ((size_t)1 << 30)

static const struct command_usage usage = {
    .name = "verify",
    .synopsis = "[--quick] [-j N] NAME...|all",
    .about =
        "Compares datasets with what the index says of them: the CID of each entry is computed\n"
        "anew, and of each shard existence, size, and the SHA-256 of its bytes, which are read\n"
        "from the store and not from the cache. A shard without a recorded checksum is looked\n"
        "through as a tar, and told as unproven. NAME is a dataset, a label NAME@VERSION or a "
        "CID;\n"
        "'all' is every entry, superseded ones and records that cannot be read included.",
    .options = "  --quick           read no bytes: only whether each shard is there, and its size\n"
               "  -j N              shards at once (default 4; quick 16)\n",
    .exits = "0 all is well, 1 something is not (each is named with the reason),\n"
             "            2 the command line is wrong",
    .examples = "  atdatafs verify mnist\n"
                "  atdatafs verify --quick -i redis://index.example/0 -o env_file=.env all\n",
    .takes = ARGUMENTS_INDEX | ARGUMENTS_JSON | ARGUMENTS_QUIET,
    .words_least = 1,
    .words_most = ARGUMENTS_WORDS_MAX - 1,
    .words_missing = "the names of datasets are missing (or: all)",
};

/* An entry, or a record, of which something is wrong itself. */
struct complaint {
    const struct atd_catalog_entry *entry; /* NULL: a record that has none */
    const struct atd_problem *problem;     /* NULL: the entry's CID */
    char reason[ATD_ERROR_TEXT_MAX];
};

struct verify {
    struct verify_options options;
    struct targets targets;
    struct atd_shard_list **lists; /* of the entries */
    struct verify_shard *shards;
    size_t count;
    size_t cap;
    struct complaint *complaints;
    size_t complaint_count;
    atomic_size_t done;
    atomic_uint_fast64_t read_bytes;
    uint64_t wanted_bytes;
    struct progress progress;
};

static int no_memory(struct atd_error *err)
{
    return atd_error_set(err, ENOMEM, "out of memory");
}

/* ------------------------------------------------------------------ entries */

static int complain(struct verify *verify, const struct atd_catalog_entry *entry,
                    const struct atd_problem *problem, const char *reason, struct atd_error *err)
{
    struct complaint *grown =
        reallocarray(verify->complaints, verify->complaint_count + 1, sizeof(*verify->complaints));

    if (!grown)
        return no_memory(err);
    verify->complaints = grown;
    grown[verify->complaint_count] = (struct complaint){.entry = entry, .problem = problem};
    (void)snprintf(grown[verify->complaint_count++].reason, sizeof(grown->reason), "%s", reason);
    return 0;
}

static int check_cid(struct verify *verify, const struct atd_catalog_entry *entry,
                     struct atd_error *err)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(URLS_ARENA_MAX);
    struct atd_str *urls;
    size_t count;
    struct atd_cid cid;
    struct atd_error why = ATD_ERROR_INIT;
    int rc = atd_urls_decode(atd_entry_data_urls(entry), &arena, &urls, &count, &why);

    if (rc == 0)
        rc = atd_cid_compute(atd_entry_schema_ref(entry), urls, count, &cid, &why);
    if (rc == 0 && !atd_str_equal(atd_str_from(cid.text), atd_entry_cid(entry)))
        rc = atd_error_set(&why, EBADMSG,
                           "its CID is recorded as '" ATD_STR_FMT
                           "', and its schema and URLs make %s",
                           ATD_STR_ARG(atd_entry_cid(entry)), cid.text);
    return rc ? complain(verify, entry, NULL, why.text, err) : 0;
}

/* What the index could not make sense of. Of a named entry only what is said of its own key. */
static int take_problems(struct verify *verify, struct atd_error *err)
{
    const struct atd_catalog *catalog = verify->targets.catalog;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < atd_catalog_problem_kept(catalog); i++) {
        const struct atd_problem *problem = atd_catalog_problem_at(catalog, i);
        bool is_wanted = verify->targets.is_all;

        for (size_t k = 0; k < verify->targets.count && !is_wanted; k++)
            is_wanted = strcmp(problem->what, "entry") == 0 &&
                        atd_str_equal(problem->key, atd_entry_cid(verify->targets.entries[k]));
        if (is_wanted) {
            struct atd_error text = ATD_ERROR_INIT;

            (void)atd_error_set(&text, EBADMSG, ATD_STR_FMT, ATD_STR_ARG(problem->reason));
            rc = complain(verify, NULL, problem, text.text, err);
        }
    }
    return rc;
}

static int take_shards(struct verify *verify, const struct atd_catalog_entry *entry,
                       const struct atd_shard_list *list, struct atd_error *err)
{
    size_t count = atd_shard_list_count(list);
    const char *error = atd_shard_list_error(list);

    if (error)
        return complain(verify, entry, NULL, error, err);
    if (verify->count + count > verify->cap) {
        size_t cap = (verify->count + count) * 2;
        struct verify_shard *grown = reallocarray(verify->shards, cap, sizeof(*grown));

        if (!grown)
            return no_memory(err);
        verify->shards = grown;
        verify->cap = cap;
    }
    for (size_t i = 0; i < count; i++) {
        const struct atd_shard *shard = atd_shard_list_at(list, i);

        verify->shards[verify->count + i] =
            (struct verify_shard){.entry = entry, .shard = shard, .recorded_bytes = UINT64_MAX};
    }
    verify->count += count;
    return verify_take_records(entry, verify->shards + verify->count - count, count, err);
}

static int take_entries(struct verify *verify, struct atd_locator *locator, struct atd_error *err)
{
    struct targets *targets = &verify->targets;
    int rc = take_problems(verify, err);

    verify->lists = calloc(targets->count + 1, sizeof(struct atd_shard_list *));
    if (!verify->lists)
        return no_memory(err);
    for (size_t i = 0; rc == 0 && i < targets->count; i++) {
        rc = check_cid(verify, targets->entries[i], err);
        if (rc == 0)
            rc = atd_catalog_shards_get(targets->catalog, targets->entries[i], locator,
                                        ATD_EFFORT_NETWORK, &verify->lists[i], err);
        if (rc == 0)
            rc = take_shards(verify, targets->entries[i], verify->lists[i], err);
    }
    return rc;
}

/* ------------------------------------------------------------------ shards */

static int by_object(const void *a, const void *b)
{
    const struct verify_shard *left = *(struct verify_shard *const *)a;
    const struct verify_shard *right = *(struct verify_shard *const *)b;
    int order = atd_str_compare(left->shard->url, right->shard->url);

    if (order == 0)
        order = atd_str_compare(left->shard->sha256, right->shard->sha256);
    if (order == 0)
        order = (left->recorded_bytes > right->recorded_bytes) -
                (left->recorded_bytes < right->recorded_bytes);
    return order;
}

/* Finds those that are the same: each object is read once. */
static int find_same(struct verify *verify, struct atd_error *err)
{
    atd_auto_free struct verify_shard **sorted = NULL;
    struct verify_shard *first = NULL;

    sorted = calloc(verify->count + 1, sizeof(struct verify_shard *));
    if (!sorted)
        return no_memory(err);
    for (size_t i = 0; i < verify->count; i++)
        sorted[i] = &verify->shards[i];
    qsort(sorted, verify->count, sizeof(struct verify_shard *), by_object);
    for (size_t i = 0; i < verify->count; i++) {
        if (first && by_object(&first, &sorted[i]) == 0) {
            sorted[i]->same_as = first;
            continue;
        }
        first = sorted[i];
        if (first->shard->error_code == 0)
            verify->wanted_bytes += first->shard->size_bytes;
    }
    return 0;
}

static void verify_one(void *ctx, size_t item)
{
    struct verify *verify = ctx;

    if (!verify->shards[item].same_as)
        verify_shard(&verify->options, &verify->shards[item]);
    atomic_fetch_add(&verify->done, 1);
}

static void copy_same(struct verify *verify)
{
    for (size_t i = 0; i < verify->count; i++) {
        struct verify_shard *shard = &verify->shards[i];

        if (!shard->same_as)
            continue;
        shard->verdict = shard->same_as->verdict;
        shard->kind = shard->same_as->kind;
        memcpy(shard->reason, shard->same_as->reason, sizeof(shard->reason));
    }
}

static void show_progress(void *ctx)
{
    struct verify *verify = ctx;
    struct progress_facts facts = {
        .done_files = (unsigned)atomic_load(&verify->done),
        .files = (unsigned)verify->count,
        .done_bytes = atomic_load(&verify->read_bytes),
        .bytes = verify->options.is_quick ? 0 : verify->wanted_bytes,
    };

    progress_draw(&verify->progress, &facts);
}

/* ------------------------------------------------------------------ what is told */

struct sums {
    size_t shards[VERIFY_BAD + 1];
};

static struct sums sum_up(const struct verify *verify)
{
    struct sums sums = {0};

    for (size_t i = 0; i < verify->count; i++)
        sums.shards[verify->shards[i].verdict]++;
    return sums;
}

static void tell_shard(struct atd_buf *out, const struct verify_shard *shard)
{
    bool is_bad = shard->verdict == VERIFY_BAD;

    output_styled(out, is_bad ? OUTPUT_BAD : OUTPUT_FAINT,
                  is_bad                             ? ATD_STR("BAD")
                  : shard->verdict == VERIFY_SKIPPED ? ATD_STR("skipped")
                                                     : ATD_STR("unproven"));
    atd_buf_append_text(out, " ");
    output_escape(out, target_name(shard->entry));
    atd_buf_append_text(out, "/");
    output_escape(out, shard->shard->file_name);
    atd_buf_append_text(out, ": ");
    output_escape(out, atd_str_from(shard->reason));
    atd_buf_append_text(out, "\n");
}

static void tell_complaint(struct atd_buf *out, const struct complaint *complaint)
{
    output_styled(out, OUTPUT_BAD, ATD_STR("BAD"));
    if (complaint->entry) {
        atd_buf_append_text(out, " ");
        output_escape(out, target_name(complaint->entry));
    } else {
        atd_buf_printf(out, " %s of the index '", complaint->problem->what);
        output_escape(out, complaint->problem->key);
        atd_buf_append_text(out, "'");
    }
    atd_buf_append_text(out, ": ");
    output_escape(out, atd_str_from(complaint->reason));
    atd_buf_append_text(out, "\n");
}

static void tell_text(struct atd_buf *out, const struct verify *verify, bool quiet)
{
    struct sums sums = sum_up(verify);
    char size[PROGRESS_SIZE_TEXT_MAX];

    for (size_t i = 0; i < verify->complaint_count; i++)
        tell_complaint(out, &verify->complaints[i]);
    for (size_t i = 0; i < verify->count; i++) {
        if (verify->shards[i].verdict == VERIFY_BAD ||
            (verify->shards[i].verdict != VERIFY_GOOD && !quiet))
            tell_shard(out, &verify->shards[i]);
    }
    if (quiet)
        return;
    output_count(out, verify->targets.count, "entry, ", "entries, ");
    output_count(out, verify->count, "shard", "shards");
    atd_buf_printf(out, " (%s read): %zu good", progress_size_text(verify->read_bytes, size),
                   sums.shards[VERIFY_GOOD]);
    if (sums.shards[VERIFY_UNPROVEN])
        atd_buf_printf(out, ", %zu unproven", sums.shards[VERIFY_UNPROVEN]);
    if (sums.shards[VERIFY_SKIPPED])
        atd_buf_printf(out, ", %zu skipped", sums.shards[VERIFY_SKIPPED]);
    if (sums.shards[VERIFY_BAD])
        atd_buf_printf(out, ", %zu bad", sums.shards[VERIFY_BAD]);
    if (verify->complaint_count)
        atd_buf_printf(out, "; %zu records of the index are bad", verify->complaint_count);
    atd_buf_append_text(out, "\n");
}

static void json_shard(struct atd_json_writer *json, const struct verify_shard *shard)
{
    atd_json_object_begin(json);
    output_json_str(json, "dataset", target_name(shard->entry));
    output_json_str(json, "cid", atd_entry_cid(shard->entry));
    output_json_str(json, "shard", shard->shard->file_name);
    output_json_str(json, "url", shard->shard->url);
    atd_json_put_text(json, "kind", shard->kind ? shard->kind : "");
    atd_json_put_text(json, "reason", shard->reason);
    atd_json_object_end(json);
}

static void json_complaint(struct atd_json_writer *json, const struct complaint *complaint)
{
    atd_json_object_begin(json);
    if (complaint->entry) {
        output_json_str(json, "dataset", target_name(complaint->entry));
        output_json_str(json, "cid", atd_entry_cid(complaint->entry));
        atd_json_put_text(json, "kind", "entry");
    } else {
        output_json_str(json, "key", complaint->problem->key);
        atd_json_put_text(json, "record", complaint->problem->what);
        atd_json_put_text(json, "kind", "record");
    }
    atd_json_put_text(json, "reason", complaint->reason);
    atd_json_object_end(json);
}

static void tell_json(struct atd_buf *out, const struct verify *verify)
{
    static const struct {
        const char *key;
        enum verify_verdict verdict;
    } lists[] = {
        {"problems", VERIFY_BAD}, {"unproven", VERIFY_UNPROVEN}, {"skipped", VERIFY_SKIPPED}};
    struct sums sums = sum_up(verify);
    struct atd_json_writer json;

    atd_json_init(&json, out, ATD_JSON_PRETTY);
    atd_json_object_begin(&json);
    atd_json_put_uint(&json, "entries", verify->targets.count);
    atd_json_put_uint(&json, "shards", verify->count);
    atd_json_put_uint(&json, "good", sums.shards[VERIFY_GOOD]);
    atd_json_put_uint(&json, "bytes_read", verify->read_bytes);
    for (size_t k = 0; k < sizeof(lists) / sizeof(lists[0]); k++) {
        atd_json_key(&json, lists[k].key);
        atd_json_array_begin(&json);
        for (size_t i = 0; k == 0 && i < verify->complaint_count; i++)
            json_complaint(&json, &verify->complaints[i]);
        for (size_t i = 0; i < verify->count; i++) {
            if (verify->shards[i].verdict == lists[k].verdict)
                json_shard(&json, &verify->shards[i]);
        }
        atd_json_array_end(&json);
    }
    atd_json_object_end(&json);
    atd_buf_append_byte(out, '\n');
}

static int tell(const struct verify *verify, const struct arguments *arguments, int rc,
                const struct atd_error *why)
{
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(OUTPUT_BYTES_MAX);
    struct atd_error failed = ATD_ERROR_INIT;

    if (rc)
        return command_failed(why);
    if (arguments->json)
        tell_json(&out, verify);
    else
        tell_text(&out, verify, arguments->quiet);
    if (output_print(&out, &failed) != 0)
        return command_failed(&failed);
    return verify->complaint_count || sum_up(verify).shards[VERIFY_BAD] ? ATD_EXIT_FAILED
                                                                        : ATD_EXIT_OK;
}

/* ------------------------------------------------------------------ the whole */

static void release(struct verify *verify)
{
    for (size_t i = 0; verify->lists && i < verify->targets.count; i++)
        atd_shard_list_unref(verify->lists[i]);
    free(verify->lists);
    free(verify->shards);
    free(verify->complaints);
    targets_release(&verify->targets);
    atd_store_free(verify->options.disk);
}

static int run(const struct options *options, const struct arguments *arguments, bool is_quick,
               unsigned jobs)
{
    struct parts parts;
    struct verify verify = {
        .options = {.is_quick = is_quick, .timeout_ms = options->timeout_s * 1000}};
    struct parallel_work work = {
        .jobs = jobs, .run = verify_one, .tick = show_progress, .ctx = &verify};
    struct atd_error why = ATD_ERROR_INIT;
    int exit_code;
    int rc;

    atd_log_open("atdatafs", 0, ATD_LOG_WARNING);
    verify.options.progress = &verify.read_bytes;
    progress_start(&verify.progress, arguments->quiet);
    rc = parts_open(options, PARTS_COMMAND, false, NULL, NULL, &parts, &why);
    if (rc == 0)
        rc = targets_find(&parts, arguments->words, arguments->word_count, &verify.targets, &why);
    if (rc == 0)
        rc = atd_store_file_new(parts.files, &verify.options.disk, &why);
    if (rc == 0)
        rc = take_entries(&verify, parts.locator, &why);
    if (rc == 0)
        rc = find_same(&verify, &why);
    if (rc == 0) {
        work.count = verify.count;
        parallel_run(&work);
        copy_same(&verify);
    }
    progress_clear(&verify.progress);
    exit_code = output_flush(tell(&verify, arguments, rc, &why));
    release(&verify);
    if (!parts_stop(&parts) || !parts_free(&parts))
        _exit(exit_code);
    return exit_code;
}

int command_verify(int argc, char **argv)
{
    bool is_quick = false;
    unsigned jobs = 0;
    const struct argument_option own[] = {
        {.name = "--quick", .flag = &is_quick},
        {.name = "-j", .number = &jobs, .least = 1, .most = PARALLEL_MAX},
    };
    struct arguments arguments;
    struct options options;
    int exit_code;

    if (command_begin(&usage, argc, argv, own, sizeof(own) / sizeof(own[0]), &arguments, &options,
                      &exit_code))
        exit_code = run(&options, &arguments, is_quick,
                        jobs       ? jobs
                        : is_quick ? JOBS_QUICK
                                   : JOBS_DEFAULT);
    return command_end(&arguments, &options, exit_code);
}

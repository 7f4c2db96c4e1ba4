#include "gc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "arguments.h"
#include "base/log.h"
#include "commands.h"
#include "output.h"
#include "parallel.h"
#include "publish/journal.h"
#include "store/stores.h"

#define JOBS_DEFAULT 8u
#define OLDER_THAN_DEFAULT_S 86400
#define ARENA_MAX ((size_t)16 << 30)
#define AGE_MOST_S (INT64_MAX / 1000000000)

/* ------------------------------------------------------------------ the command line */

static const struct command_usage usage = {
    .name = "gc",
    .synopsis = "[--older-than AGE] [-j N] [--delete]",
    .about =
        "Finds what nobody needs in the store: objects below store=s3://BUCKET/PREFIX (or files\n"
        "in the disk store) that no entry of the index names, and uploads that were never\n"
        "finished. Without --delete it only says what it would do.\n"
        "\n"
        "Every object below the prefix counts that this index does not name: another index\n"
        "must not share the prefix. Superseded datasets and labelled versions are entries too;\n"
        "what they name stays. The index is asked anew before each batch of deletions, and\n"
        "nothing is deleted when any of its records cannot be read.",
    .options =
        "  --delete          delete them\n"
        "  --older-than AGE  only what is older: 90s, 30m, 12h, 7d, 2w (default 1d). A publish\n"
        "                    that is under way on another machine is younger; with less than\n"
        "                    an hour make sure that there is none\n"
        "  -j N              requests at once (default 8)\n",
    .exits = "0 done (also when nothing is to be done), 1 refused or some could not be\n"
             "            deleted, 2 the command line is wrong",
    .examples = "  atdatafs gc -i redis://index.example/0 -o store=s3://team/sets,env_file=.env\n"
                "  atdatafs gc --older-than 7d --delete\n",
    .takes = ARGUMENTS_INDEX | ARGUMENTS_JSON | ARGUMENTS_QUIET,
};

/* "90s", "30m", "12h", "7d", "2w". */
static int read_age(const char *text, int64_t *ret_s, struct atd_error *err)
{
    static const struct {
        char unit;
        int64_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};
    char *end;
    unsigned long long number;

    errno = 0;
    number = strtoull(text, &end, 10);
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (text[0] >= '0' && text[0] <= '9' && !errno && end[0] == units[i].unit && !end[1] &&
            number <= (unsigned long long)(AGE_MOST_S / units[i].seconds)) {
            *ret_s = (int64_t)number * units[i].seconds;
            return 0;
        }
    }
    return atd_error_set(err, EINVAL, "--older-than takes an age such as 90s, 30m, 12h, 7d or 2w");
}

/* ------------------------------------------------------------------ once more before deleting */

struct batch {
    struct gc *gc;
    size_t first;
    struct atd_named *named;
};

static void keep_why(struct gc_object *object, const struct atd_error *why)
{
    object->outcome = GC_FAILED;
    object->why = malloc(sizeof(*why));
    if (object->why)
        *object->why = *why;
}

/* Is it still the version that was listed? */
static void look_again(void *ctx, size_t item)
{
    struct batch *batch = ctx;
    struct gc_object *object = &batch->gc->objects[batch->first + item];
    struct atd_error why = ATD_ERROR_INIT;
    struct atd_object_info info;
    int rc;

    if (object->upload_id || object->outcome != GC_FOUND)
        return;
    rc = atd_store_stat(batch->gc->store, gc_url(object), batch->gc->timeout_ms, &info, &why);
    if (rc == -ENOENT)
        object->outcome = object->was_tried ? GC_DELETED : GC_KEPT;
    else if (rc == 0 && !atd_object_info_same(&info, &object->info))
        object->outcome = GC_KEPT;
    else if (rc)
        keep_why(object, &why);
}

static int add_job(void *ctx, const struct atd_job *job, struct atd_error *err)
{
    struct atd_named *named = ctx;

    return job->url && job->url[0] ? atd_named_add(named, atd_str_from(job->url), err) : 0;
}

static void delete_one(void *ctx, size_t item)
{
    struct batch *batch = ctx;
    struct gc *gc = batch->gc;
    struct gc_object *object = &gc->objects[batch->first + item];
    struct atd_error why = ATD_ERROR_INIT;
    int rc;

    if (object->outcome != GC_FOUND)
        return;
    object->was_tried = true;
    if (object->upload_id) {
        rc = atd_store_upload_discard(gc->store, gc_url(object), object->upload_id, gc->timeout_ms,
                                      &why);
    } else {
        if (!gc->is_disk)
            atd_object_table_drop(remote_table(gc->parts->remote),
                                  atd_str_from(remote_sites(gc->parts->remote)->endpoint),
                                  gc_url(object));
        rc = atd_store_delete_once(gc->store, gc_url(object), gc->timeout_ms, &why);
    }
    if (rc)
        keep_why(object, &why);
    else
        object->outcome = GC_DELETED;
}

/* The order is gc.h's. */
static int settle_batch(struct gc *gc, size_t first, size_t count, bool may_delete,
                        struct atd_error *err)
{
    struct batch batch = {.gc = gc, .first = first, .named = atd_named_new()};
    struct parallel_work work = {
        .count = count, .jobs = gc->jobs, .run = look_again, .ctx = &batch};
    int rc;

    if (!batch.named)
        return atd_error_set(err, ENOMEM, "out of memory");
    parallel_run(&work);
    rc = atd_journal_look(gc->options->state_dir, add_job, batch.named, err);
    if (rc == 0)
        rc = atd_named_load(batch.named, gc->parts->index, err);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        struct gc_object *object = &gc->objects[first + i];

        /* An upload goes whatever the index says, but not while somebody here works on it. */
        if (object->outcome == GC_FOUND && atd_named_has(batch.named, gc_url(object)) &&
            !object->upload_id)
            object->outcome = GC_KEPT;
    }
    work.run = delete_one;
    if (rc == 0 && may_delete)
        parallel_run(&work);
    atd_named_free(batch.named);
    return rc;
}

/* Uploads that a process of this machine works on; dead ones' are taken back by the next start. */
static int drop_live_uploads(struct gc *gc, struct atd_error *err)
{
    struct atd_named *jobs = atd_named_new();
    int rc = jobs ? atd_journal_look(gc->options->state_dir, add_job, jobs, err)
                  : atd_error_set(err, ENOMEM, "out of memory");

    for (size_t i = 0; rc == 0 && i < gc->count; i++) {
        if (gc->objects[i].upload_id && atd_named_has(jobs, gc_url(&gc->objects[i])))
            gc->objects[i].outcome = GC_KEPT;
    }
    atd_named_free(jobs);
    return rc;
}

/* ------------------------------------------------------------------ what is told */

struct sums {
    size_t objects[GC_FAILED + 1];
    size_t uploads[GC_FAILED + 1];
    uint64_t bytes[GC_FAILED + 1];
};

static struct sums sum_up(const struct gc *gc)
{
    struct sums sums = {0};

    for (size_t i = 0; i < gc->count; i++) {
        const struct gc_object *object = &gc->objects[i];

        if (object->upload_id)
            sums.uploads[object->outcome]++;
        else
            sums.objects[object->outcome]++;
        sums.bytes[object->outcome] += object->size_bytes;
    }
    return sums;
}

static void append_age(struct atd_buf *out, const struct gc *gc, const struct gc_object *object)
{
    int64_t age = gc->now_s - object->changed_s;

    if (object->changed_s <= 0)
        atd_buf_append_text(out, "of unknown age");
    else if (age >= 2 * 86400)
        atd_buf_printf(out, "%lld days old", (long long)(age / 86400));
    else if (age >= 2 * 3600)
        atd_buf_printf(out, "%lld hours old", (long long)(age / 3600));
    else
        atd_buf_printf(out, "%lld minutes old", (long long)(age > 0 ? age / 60 : 0));
}

static void tell_one(struct atd_buf *out, const struct gc *gc, const struct gc_object *object)
{
    char size[PROGRESS_SIZE_TEXT_MAX];

    atd_buf_append_text(out, object->outcome == GC_DELETED ? "deleted " : "would delete ");
    if (object->upload_id)
        atd_buf_append_text(out, "the unfinished upload of ");
    output_escape(out, gc_url(object));
    atd_buf_append_text(out, " (");
    if (!object->upload_id)
        atd_buf_printf(out, "%s, ", progress_size_text(object->size_bytes, size));
    append_age(out, gc, object);
    atd_buf_append_text(out, ")\n");
}

static void tell_sum(struct atd_buf *out, const struct gc *gc, bool may_delete)
{
    struct sums sums = sum_up(gc);
    enum gc_outcome what = may_delete ? GC_DELETED : GC_FOUND;
    char size[PROGRESS_SIZE_TEXT_MAX];

    output_count(out, gc->looked_at, "object", "objects");
    atd_buf_append_text(out, " looked at; ");
    atd_buf_append_text(out, may_delete ? "deleted " : "would delete ");
    output_count(out, sums.objects[what], "object", "objects");
    atd_buf_printf(out, " (%s) and ", progress_size_text(sums.bytes[what], size));
    output_count(out, sums.uploads[what], "unfinished upload", "unfinished uploads");
    if (gc->young)
        atd_buf_printf(out, "; %zu that no entry names are too young", gc->young);
    if (sums.objects[GC_FAILED] + sums.uploads[GC_FAILED])
        atd_buf_printf(out, "; %zu could not be deleted",
                       sums.objects[GC_FAILED] + sums.uploads[GC_FAILED]);
    atd_buf_append_text(out, may_delete || sums.objects[what] + sums.uploads[what] == 0
                                 ? "\n"
                                 : "\nnothing was deleted: give --delete to do it\n");
}

static void tell_text(struct atd_buf *out, const struct gc *gc, bool may_delete, bool quiet)
{
    for (size_t i = 0; i < gc->count; i++) {
        const struct gc_object *object = &gc->objects[i];

        if (object->outcome == GC_FAILED)
            (void)fprintf(stderr, "atdatafs: '" ATD_STR_FMT "' was not deleted: %s\n",
                          ATD_STR_ARG(gc_url(object)),
                          object->why ? object->why->text : "out of memory");
        else if (object->outcome == (may_delete ? GC_DELETED : GC_FOUND) && !quiet)
            tell_one(out, gc, object);
    }
    if (gc->uploads_why.code)
        (void)fprintf(stderr, "atdatafs: unfinished uploads were not looked at: %s\n",
                      gc->uploads_why.text);
    if (!quiet)
        tell_sum(out, gc, may_delete);
}

static void tell_json(struct atd_buf *out, const struct gc *gc, bool may_delete,
                      const struct atd_error *why)
{
    static const char *const words[] = {"found", "deleted", "kept", "failed"};
    struct sums sums = sum_up(gc);
    enum gc_outcome what = may_delete ? GC_DELETED : GC_FOUND;
    struct atd_json_writer json;

    atd_json_init(&json, out, ATD_JSON_PRETTY);
    atd_json_object_begin(&json);
    output_json_bool(&json, "delete", may_delete);
    atd_json_put_uint(&json, "looked_at", gc->looked_at);
    atd_json_put_uint(&json, "too_young", gc->young);
    atd_json_put_uint(&json, "objects_count", sums.objects[what]);
    atd_json_put_uint(&json, "uploads_count", sums.uploads[what]);
    atd_json_put_uint(&json, "bytes", sums.bytes[what]);
    if (why->code)
        output_json_error(&json, why);
    if (gc->uploads_why.code)
        atd_json_put_text(&json, "uploads_not_looked_at", gc->uploads_why.text);
    atd_json_key(&json, "objects");
    atd_json_array_begin(&json);
    for (size_t i = 0; i < gc->count; i++) {
        const struct gc_object *object = &gc->objects[i];

        if (object->outcome == GC_KEPT)
            continue;
        atd_json_object_begin(&json);
        output_json_str(&json, "url", gc_url(object));
        atd_json_put_text(&json, "outcome", words[object->outcome]);
        if (object->upload_id)
            atd_json_put_text(&json, "upload_id", object->upload_id);
        else
            atd_json_put_uint(&json, "size", object->size_bytes);
        atd_json_key(&json, "changed_at");
        atd_json_int(&json, object->changed_s);
        if (object->why)
            output_json_error(&json, object->why);
        atd_json_object_end(&json);
    }
    atd_json_array_end(&json);
    atd_json_object_end(&json);
    atd_buf_append_byte(out, '\n');
}

/* ------------------------------------------------------------------ the whole */

/* Where objects lie; the disk store is made here, and the caller's. */
static int choose_store(struct gc *gc, struct atd_store **ret_disk, struct atd_error *err)
{
    const struct options *options = gc->options;
    int rc = 0;

    if (options->bucket) {
        gc->store = remote_sites(gc->parts->remote)->s3;
        if (asprintf(&gc->prefix_url, "s3://%s/%s%s", options->bucket, options->prefix,
                     options->prefix[0] ? "/" : "") < 0)
            gc->prefix_url = NULL;
    } else if (options->index.path) {
        gc->is_disk = true;
        rc = atd_store_file_new(gc->parts->files, ret_disk, err);
        gc->store = *ret_disk;
        gc->prefix_url = strdup(options->data_roots[options->data_root_count - 1]);
    } else {
        return atd_error_set(err, EINVAL,
                             "nobody said where objects lie: use -o store=s3://BUCKET/PREFIX");
    }
    return rc || gc->prefix_url ? rc : atd_error_set(err, ENOMEM, "out of memory");
}

static int collect(struct gc *gc, struct atd_error *err)
{
    struct atd_named *named = atd_named_new();
    int rc = named ? atd_named_load(named, gc->parts->index, err)
                   : atd_error_set(err, ENOMEM, "out of memory");

    if (rc == 0)
        rc = gc_collect(gc, named, err);
    atd_named_free(named);
    return rc ? rc : drop_live_uploads(gc, err);
}

/* Those of which nobody knows whether they went are looked at from the start. True: there are any.
 */
static bool begin_again(struct gc *gc, size_t first, size_t count)
{
    bool any = false;

    for (size_t i = first; i < first + count; i++) {
        struct gc_object *object = &gc->objects[i];

        if (object->outcome != GC_FAILED || !object->why || !object->why->retryable)
            continue;
        free(atd_steal(object->why));
        object->outcome = GC_FOUND;
        any = true;
    }
    return any;
}

static int collect_and_settle(struct gc *gc, bool may_delete, struct atd_error *err)
{
    int rc = collect(gc, err);

    for (size_t first = 0; rc == 0 && first < gc->count; first += GC_BATCH) {
        size_t left = gc->count - first;
        size_t count = left < GC_BATCH ? left : GC_BATCH;

        rc = settle_batch(gc, first, count, may_delete, err);
        for (unsigned tries = 1; rc == 0 && tries < GC_TRIES && begin_again(gc, first, count);
             tries++)
            rc = settle_batch(gc, first, count, may_delete, err);
    }
    return rc;
}

static void release(struct gc *gc)
{
    for (size_t i = 0; i < gc->count; i++)
        free(gc->objects[i].why);
    free(gc->objects);
    free(gc->prefix_url);
    atd_arena_release(&gc->arena);
}

static int tell(const struct gc *gc, const struct arguments *arguments, bool may_delete, int rc,
                const struct atd_error *why)
{
    struct sums sums = sum_up(gc);
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(OUTPUT_BYTES_MAX);
    struct atd_error failed = ATD_ERROR_INIT;

    if (arguments->json)
        tell_json(&out, gc, may_delete, why);
    else if (gc->count || rc == 0)
        tell_text(&out, gc, may_delete, arguments->quiet);
    if (rc)
        (void)command_failed(why);
    if (output_print(&out, &failed) != 0)
        return command_failed(&failed);
    return rc || sums.objects[GC_FAILED] + sums.uploads[GC_FAILED] > 0 ? ATD_EXIT_FAILED
                                                                       : ATD_EXIT_OK;
}

static int run(const struct options *options, const struct arguments *arguments, bool may_delete,
               unsigned jobs, int64_t older_than_s)
{
    struct parts parts;
    struct atd_error why = ATD_ERROR_INIT;
    struct gc gc = {.options = options,
                    .parts = &parts,
                    .timeout_ms = options->timeout_s * 1000,
                    .jobs = jobs,
                    .older_than_s = older_than_s,
                    .now_s = (int64_t)time(NULL),
                    .arena = ATD_ARENA_INIT(ARENA_MAX)};
    struct atd_store *disk = NULL;
    int exit_code;
    int rc;

    atd_log_open("atdatafs", 0, ATD_LOG_WARNING);
    rc = parts_open(options, PARTS_COMMAND, false, NULL, NULL, &parts, &why);
    if (rc == 0)
        rc = choose_store(&gc, &disk, &why);
    if (rc == 0)
        rc = collect_and_settle(&gc, may_delete, &why);
    exit_code = output_flush(tell(&gc, arguments, may_delete, rc, &why));
    release(&gc);
    atd_store_free(disk);
    if (!parts_stop(&parts) || !parts_free(&parts))
        _exit(exit_code);
    return exit_code;
}

int command_gc(int argc, char **argv)
{
    const char *age = NULL;
    bool may_delete = false;
    unsigned jobs = JOBS_DEFAULT;
    const struct argument_option own[] = {
        {.name = "--older-than", .text = &age},
        {.name = "--delete", .flag = &may_delete},
        {.name = "-j", .number = &jobs, .least = 1, .most = PARALLEL_MAX},
    };
    int64_t older_than_s = OLDER_THAN_DEFAULT_S;
    struct atd_error why = ATD_ERROR_INIT;
    struct arguments arguments;
    struct options options;
    int exit_code;

    if (command_begin(&usage, argc, argv, own, sizeof(own) / sizeof(own[0]), &arguments, &options,
                      &exit_code)) {
        if (age && read_age(age, &older_than_s, &why) != 0) {
            (void)command_failed(&why);
            exit_code = ATD_EXIT_USAGE;
        } else if (may_delete && options.read_only) {
            (void)atd_error_set(&why, EINVAL, "option ro deletes nothing: leave it out");
            (void)command_failed(&why);
            exit_code = ATD_EXIT_USAGE;
        } else {
            exit_code = run(&options, &arguments, may_delete, jobs, older_than_s);
        }
    }
    return command_end(&arguments, &options, exit_code);
}

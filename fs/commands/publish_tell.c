/*
 * What `atdatafs publish` says: lines for people, a JSON document for scripts.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "arguments.h"
#include "base/cleanup.h"
#include "base/utf8.h"
#include "output.h"
#include "publish_jobs.h"

void publish_tell_job(struct publish *publish, const struct job *job)
{
    struct atd_error line = ATD_ERROR_INIT;
    char size[PROGRESS_SIZE_TEXT_MAX];

    if (job->outcome != OUTCOME_FAILED && (publish->quiet || publish->json))
        return;
    progress_clear(&publish->progress);
    if (job->outcome == OUTCOME_FAILED) {
        /* A name may hold anything: an error's text is safe to print. */
        (void)atd_error_set(&line, job->why.code, "%.250s: %s", job->path, job->why.text);
        (void)fprintf(stderr, "atdatafs: %s\n", line.text);
    } else {
        (void)printf("%s %s (%s)\n", job->was_there ? "was there" : "published", job->file_name,
                     progress_size_text(job->size_bytes, size));
    }
}

/* ------------------------------------------------------------------ JSON */

static const char *outcome_of(const struct job *job)
{
    switch (job->outcome) {
    case OUTCOME_PUBLISHED:
        return job->was_there ? "was_there" : "published";
    case OUTCOME_FAILED:
        return "failed";
    default:
        return "not_begun";
    }
}

static void write_job(struct atd_json_writer *json, const struct job *job)
{
    atd_json_object_begin(json);
    atd_json_put_text(json, "path", job->path);
    atd_json_put_text(json, "file", job->file_name);
    atd_json_put_text(json, "outcome", outcome_of(job));
    atd_json_put_uint(json, "size_bytes", job->size_bytes);
    if (job->outcome == OUTCOME_FAILED) {
        output_json_error(json, &job->why);
    } else if (job->outcome == OUTCOME_PUBLISHED) {
        atd_json_put_text(json, "url", job->url ? job->url : "");
        atd_json_put_text(json, "cid", job->cid.text);
    }
    atd_json_object_end(json);
}

static void print_json(const struct publish *publish, const struct atd_error *why)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(OUTPUT_BYTES_MAX);
    struct atd_error failed = ATD_ERROR_INIT;
    struct atd_json_writer json;

    atd_json_init(&json, &text, ATD_JSON_PRETTY);
    atd_json_object_begin(&json);
    atd_json_put_text(&json, "dataset", publish->dataset);
    atd_json_put_uint(&json, "published", publish->published - publish->was_there);
    atd_json_put_uint(&json, "was_there", publish->was_there);
    atd_json_put_uint(&json, "failed", publish->failed);
    atd_json_put_uint(&json, "not_begun", publish->count - publish->published - publish->failed);
    if (why || publish->stopped.code) {
        atd_json_key(&json, "stopped");
        atd_json_object_begin(&json);
        output_json_error(&json, why ? why : &publish->stopped);
        atd_json_object_end(&json);
    }
    atd_json_key(&json, "files");
    atd_json_array_begin(&json);
    for (unsigned i = 0; i < publish->count; i++)
        write_job(&json, &publish->jobs[i]);
    atd_json_array_end(&json);
    atd_json_object_end(&json);
    atd_buf_append_byte(&text, '\n');
    if (output_print(&text, &failed) != 0)
        (void)command_failed(&failed);
}

/* ------------------------------------------------------------------ the end */

static void append_count(struct atd_buf *out, unsigned count, const char *what)
{
    if (count)
        atd_buf_printf(out, "%s%u %s", out->len ? ", " : "", count, what);
}

static void print_summary(const struct publish *publish)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(256);
    char size[PROGRESS_SIZE_TEXT_MAX];

    append_count(&text, publish->published - publish->was_there, "published");
    if (publish->published > publish->was_there)
        atd_buf_printf(&text, " (%s)", progress_size_text(publish->published_bytes, size));
    append_count(&text, publish->was_there, publish->was_there == 1 ? "was there" : "were there");
    append_count(&text, publish->failed, "failed");
    append_count(&text, publish->count - publish->published - publish->failed, "not begun");
    (void)printf("%.*s\n", (int)text.len, (const char *)text.ptr);
}

void publish_tell_all(struct publish *publish, const struct atd_error *why)
{
    progress_clear(&publish->progress);
    if (why)
        (void)fprintf(stderr, "atdatafs: %s\n", why->text);
    if (publish->stopped.code)
        (void)fprintf(stderr, "atdatafs: the rest was not begun: %s\n", publish->stopped.text);
    if (publish->signal)
        (void)fprintf(stderr, "atdatafs: interrupted (%s): run it again to publish the rest\n",
                      strsignal(publish->signal));
    if (publish->json)
        print_json(publish, why);
    else if (!why && !publish->quiet && publish->count > 1)
        print_summary(publish);
}

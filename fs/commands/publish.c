/*
 * atdatafs publish FILE... NAME: the mount's publishing without a mount.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "commands.h"
#include "options.h"
#include "output.h"
#include "parts.h"
#include "publish_arguments.h"
#include "publish_jobs.h"
#include "publish_parts.h"

/* What was sent and is not wanted is taken back within this; else by the next start. */
#define STOP_MS 5000u
/* What earlier runs left is looked at for so long at most after all was published. */
#define RECOVER_MS 2000u
#define SIGNALLED 128 /* a shell's exit code of a process that a signal ended, less its number */

static int exit_code_of(const struct publish *publish, int rc)
{
    if (publish->signal)
        return SIGNALLED + publish->signal;
    return rc || publish->published < publish->count || atomic_load(&publish->lost) > 0
               ? ATD_EXIT_FAILED
               : ATD_EXIT_OK;
}

/* What was told to be published is not: it may be too late to say so, but not to fail. */
static void on_lost(void *ctx, struct atd_str dataset, struct atd_str file_name, struct atd_str url,
                    const struct atd_error *why)
{
    struct publish *publish = ctx;

    (void)dataset;
    if (!why)
        return; /* it was put back */
    atomic_fetch_add(&publish->lost, 1);
    (void)fprintf(stderr,
                  "atdatafs: " ATD_STR_FMT ": lost again by a failover of the index (its object is "
                  "'" ATD_STR_FMT "'): %s\n",
                  ATD_STR_ARG(file_name), ATD_STR_ARG(url), why->text);
}

static int publish_all(const struct options *options, struct publish *publish)
{
    struct parts parts;
    struct publish_parts publish_parts = {0};
    struct atd_error why = ATD_ERROR_INIT;
    bool ended = true;
    int exit_code;
    int rc = parts_open(options, PARTS_COMMAND, true, NULL, NULL, &parts, &why);

    if (rc == 0)
        rc = atd_live_start(parts.live, &(struct atd_live_watcher){0}, &why);
    if (rc == 0)
        rc = publish_parts_open(&parts, &(struct publish_told){NULL, on_lost, publish},
                                &publish_parts, &why);
    publish->publisher = publish_parts.publisher;
    if (rc == 0)
        rc = atd_publisher_ready(publish->publisher, &why);
    if (rc == 0)
        ended = publish_jobs_run(publish);
    publish_tell_all(publish, rc ? &why : NULL);
    exit_code = output_flush(exit_code_of(publish, rc));
    if (rc == 0 && ended && !publish->signal)
        atd_publisher_recover_wait(publish->publisher, RECOVER_MS);
    if (!ended || !publish_parts_close(&publish_parts, STOP_MS) || !parts_stop(&parts) ||
        !parts_free(&parts))
        _exit(exit_code);
    return exit_code;
}

static int run(const struct options *options, const struct publish_arguments *arguments)
{
    struct publish publish = {.dataset = arguments->dataset,
                              .parallel = arguments->parallel,
                              .json = arguments->common.json,
                              .quiet = arguments->common.quiet};
    struct atd_error why = ATD_ERROR_INIT;
    int exit_code = ATD_EXIT_FAILED;

    atd_log_open("atdatafs", 0, ATD_LOG_WARNING);
    (void)setvbuf(stdout, NULL, _IOLBF, 0); /* in step with what standard error says */
    if (publish_jobs_make(&publish, arguments->files, arguments->file_count, &why) != 0) {
        (void)fprintf(stderr, "atdatafs: %s\n", why.text);
    } else {
        struct progress_facts nothing_yet = {.files = publish.count, .bytes = publish.wanted_bytes};

        atd_lock_init(&publish.lock, ATD_RANK_PUBLISHING);
        atd_cond_init(&publish.wake);
        progress_start(&publish.progress, arguments->common.quiet);
        publish_watch_signals(&publish.progress);
        progress_draw(&publish.progress, &nothing_yet); /* the index may take a while */
        exit_code = publish_all(options, &publish);
        (void)pthread_cond_destroy(&publish.wake);
        atd_lock_destroy(&publish.lock);
    }
    publish_jobs_free(&publish);
    return exit_code;
}

int command_publish(int argc, char **argv)
{
    struct publish_arguments arguments;
    struct options options = {0};
    struct atd_error why = ATD_ERROR_INIT;
    int exit_code = ATD_EXIT_OK;
    int rc = publish_arguments_read(argc, argv, &arguments, &why);

    if (rc == 0 && !arguments.common.help)
        rc = options_parse(arguments.common.mount_count, arguments.common.mount_args, &options,
                           &why);
    if (rc == 0 && options.read_only)
        rc = atd_error_set(&why, EINVAL, "option ro publishes nothing: leave it out");
    if (rc) {
        (void)fprintf(stderr, "atdatafs: %s\n", why.text);
        exit_code = ATD_EXIT_USAGE;
    } else if (arguments.common.help) {
        publish_print_help();
        exit_code = output_flush(exit_code);
    } else {
        exit_code = run(&options, &arguments);
    }
    publish_arguments_release(&arguments);
    options_release(&options);
    return exit_code;
}

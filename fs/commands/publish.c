/*
 * atdatafs publish FILE... NAME: the mount's publishing without a mount.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/lock.h"
#include "base/log.h"
#include "codec/json_write.h"
#include "codec/upload_name.h"
#include "commands.h"
#include "options.h"
#include "parts.h"
#include "progress.h"
#include "publish/publication.h"
#include "publish_parts.h"

#define JOBS_DEFAULT 4u
#define JOBS_MAX 64u
#define FILES_MAX 1000000u
#define WATCH_MS 50u
#define STOP_MS 10000u
#define JSON_MAX (256u << 20)

enum outcome { OUTCOME_WAITS, OUTCOME_RUNS, OUTCOME_PUBLISHED, OUTCOME_FAILED };

struct job {
    struct atd_publication_wait wait; /* first */
    struct publish *publish;
    const char *path;
    const char *file_name;
    uint64_t size_bytes;
    struct atd_publication *publication; /* RUNS */
    /* guarded by publish->lock while it runs */
    enum outcome outcome;
    bool has_verdict;
    struct atd_error why;
    /* afterwards */
    struct atd_publication_status status;
};

struct publish {
    const char *dataset;
    struct job *jobs;
    unsigned count;
    unsigned parallel;
    bool json;
    bool quiet;
    struct atd_publisher *publisher;
    struct progress progress;
    struct atd_lock lock;
    pthread_cond_t wake;
};

/* ------------------------------------------------------------------ the command line */

static void print_help(void)
{
    (void)puts(
        "usage: atdatafs publish [-i INDEX-URL] [-o OPTION,...] [-j N] [--json] [-q] FILE... NAME\n"
        "\n"
        "Publishes tar shards into the dataset NAME: each is checked, uploaded and indexed, as by\n"
        "copying it into a mount. A file that is there already with the same bytes is not "
        "uploaded\n"
        "again; one with other bytes is refused.\n"
        "\n"
        "  -i INDEX-URL   redis://HOST/DB, sqlite:PATH; left out: $ATDATA_INDEX, else\n"
        "                 ~/.atdata/index.db\n"
        "  -o OPTION,...  as of a mount: store=s3://BUCKET/PREFIX, endpoint=URL, env_file=PATH, "
        "...\n"
        "  -j N           files at once (default 4)\n"
        "  --json         a JSON document on standard output\n"
        "  -q             no progress, no list of what was published\n"
        "\n"
        "exit codes: 0 all are published, 1 some are not (each is named with the reason), 2 usage\n"
        "\n"
        "examples:\n"
        "  atdatafs publish train-*.tar mnist\n"
        "  atdatafs publish -i redis://index.example/0 -o store=s3://team/datasets *.tar mnist");
}

struct arguments {
    char *mount_args[8]; /* what options_parse gets */
    int mount_count;
    char **files;
    int file_count;
    const char *dataset;
    unsigned parallel;
    bool json;
    bool quiet;
    bool help;
};

static int usage(struct atd_error *err, const char *complaint, const char *what)
{
    return atd_error_set(err, EINVAL, "%s '%.200s'; see atdatafs publish --help", complaint, what);
}

static int read_jobs(const char *text, unsigned *ret_jobs, struct atd_error *err)
{
    char *end;
    unsigned long number = strtoul(text, &end, 10);

    if (*end || end == text || number < 1 || number > JOBS_MAX)
        return atd_error_set(err, EINVAL, "-j takes a number from 1 to %u", JOBS_MAX);
    *ret_jobs = (unsigned)number;
    return 0;
}

/* A file named like an option comes after "--". */
static int read_arguments(int argc, char **argv, struct arguments *arguments, struct atd_error *err)
{
    static char name[] = "atdatafs";
    static char dash_o[] = "-o";
    static char nowhere[] = "/";
    bool options_over = false;
    char *index = NULL;
    char *list = NULL;
    int rc = 0;

    arguments->parallel = JOBS_DEFAULT;
    for (int i = 1; i < argc && rc == 0; i++) {
        char *arg = argv[i];

        if (options_over || arg[0] != '-' || !arg[1])
            arguments->files[arguments->file_count++] = arg;
        else if (strcmp(arg, "--") == 0)
            options_over = true;
        else if (strcmp(arg, "-h") == 0 || strcmp(arg, "--help") == 0)
            arguments->help = true;
        else if (strcmp(arg, "--json") == 0)
            arguments->json = true;
        else if (strcmp(arg, "-q") == 0 || strcmp(arg, "--quiet") == 0)
            arguments->quiet = true;
        else if (strcmp(arg, "-i") == 0 && i + 1 < argc)
            index = argv[++i];
        else if (strcmp(arg, "-o") == 0 && i + 1 < argc && !list)
            list = argv[++i];
        else if (strcmp(arg, "-j") == 0 && i + 1 < argc)
            rc = read_jobs(argv[++i], &arguments->parallel, err);
        else
            rc = usage(err, "cannot understand", arg);
    }
    if (rc || arguments->help)
        return rc;
    if (arguments->file_count < 2)
        return atd_error_set(err, EINVAL,
                             "files and the name of a dataset are needed; see atdatafs publish "
                             "--help");
    if ((unsigned)arguments->file_count > FILES_MAX)
        return atd_error_set(err, E2BIG, "more than %u files", FILES_MAX);
    arguments->dataset = arguments->files[--arguments->file_count];
    arguments->mount_args[arguments->mount_count++] = name;
    if (index)
        arguments->mount_args[arguments->mount_count++] = index;
    arguments->mount_args[arguments->mount_count++] = nowhere;
    if (list) {
        arguments->mount_args[arguments->mount_count++] = dash_o;
        arguments->mount_args[arguments->mount_count++] = list;
    }
    return 0;
}

/* ------------------------------------------------------------------ the files */

static void settle(struct job *job, enum outcome outcome)
{
    struct publish *publish = job->publish;
    char size[PROGRESS_SIZE_TEXT_MAX];

    job->outcome = outcome;
    if (outcome == OUTCOME_FAILED) {
        progress_clear(&publish->progress);
        (void)fprintf(stderr, "atdatafs: %s: %s\n", job->path, job->why.text);
    } else if (!publish->quiet && !publish->json) {
        progress_clear(&publish->progress);
        (void)printf("%s %s (%s)\n", job->status.was_there ? "is there" : "published",
                     job->file_name, progress_size_text(job->size_bytes, size));
    }
}

static void on_verdict(struct atd_publication_wait *wait, const struct atd_error *why)
{
    struct job *job = (struct job *)wait;
    struct publish *publish = job->publish;

    atd_lock_take(&publish->lock);
    job->has_verdict = true;
    if (why)
        job->why = *why;
    (void)pthread_cond_signal(&publish->wake);
    atd_lock_give(&publish->lock);
}

static int begin(struct job *job, struct atd_error *err)
{
    struct publish *publish = job->publish;
    atd_auto_fd int fd = open(job->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat st;
    int64_t mtime_ns;
    int rc;

    if (fd < 0 || fstat(fd, &st) != 0)
        return atd_error_set(err, errno, "%s", strerror(errno));
    if (!S_ISREG(st.st_mode))
        return atd_error_set(err, EINVAL, "it is no regular file");
    if (atd_upload_name_classify(atd_str_from(job->file_name), NULL, err) != ATD_UPLOAD_SHARD)
        return atd_error_set(err, EINVAL,
                             "'%s' is not named like a shard: NAME.tar, .tar.gz, .tar.bz2, .tar.xz",
                             job->file_name);
    mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    rc = atd_publication_over(publish->publisher, atd_str_from(publish->dataset),
                              atd_str_from(job->file_name), fd, mtime_ns, &job->publication, err);
    if (rc)
        return rc;
    (void)atd_steal_fd(&fd);
    job->outcome = OUTCOME_RUNS;
    job->wait.done = on_verdict;
    atd_publication_publish(job->publication, atd_str_from(publish->dataset),
                            atd_str_from(job->file_name), (struct atd_str){"", 0}, &job->wait);
    return 0;
}

/* A job whose verdict is there; NULL: none yet. */
static struct job *finished_locked(struct publish *publish)
{
    for (unsigned i = 0; i < publish->count; i++) {
        if (publish->jobs[i].outcome == OUTCOME_RUNS && publish->jobs[i].has_verdict)
            return &publish->jobs[i];
    }
    return NULL;
}

static void draw(struct publish *publish)
{
    struct atd_publication_status status;
    uint64_t done_bytes = 0;
    uint64_t bytes = 0;
    unsigned done = 0;

    if (!publish->progress.shown)
        return;
    for (unsigned i = 0; i < publish->count; i++) {
        struct job *job = &publish->jobs[i];

        bytes += job->size_bytes;
        if (job->outcome == OUTCOME_RUNS) {
            atd_publication_status(job->publication, &status);
            done_bytes += status.sent_bytes;
        } else if (job->outcome != OUTCOME_WAITS) {
            done_bytes += job->size_bytes;
            done++;
        }
    }
    progress_draw(&publish->progress, done, publish->count, done_bytes, bytes);
}

static struct job *await_verdict(struct publish *publish)
{
    struct job *job;

    for (;;) {
        atd_lock_take(&publish->lock);
        job = finished_locked(publish);
        if (!job)
            atd_cond_wait_ms(&publish->wake, &publish->lock, WATCH_MS);
        job = finished_locked(publish);
        atd_lock_give(&publish->lock);
        if (job)
            return job;
        draw(publish);
    }
}

/* Returns how many failed. */
static unsigned run_jobs(struct publish *publish)
{
    unsigned next = 0;
    unsigned running = 0;
    unsigned failed = 0;
    struct job *job;

    while (next < publish->count || running > 0) {
        while (next < publish->count && running < publish->parallel) {
            job = &publish->jobs[next++];
            if (begin(job, &job->why) == 0) {
                running++;
            } else {
                settle(job, OUTCOME_FAILED);
                failed++;
            }
        }
        if (running == 0)
            continue;
        job = await_verdict(publish);
        running--;
        atd_publication_status(job->publication, &job->status);
        atd_publication_unref(job->publication);
        job->publication = NULL;
        settle(job, job->why.code ? OUTCOME_FAILED : OUTCOME_PUBLISHED);
        failed += job->why.code != 0;
    }
    progress_clear(&publish->progress);
    return failed;
}

/* ------------------------------------------------------------------ what is told */

static void put_text(struct atd_json_writer *json, const char *key, const char *text)
{
    atd_json_key(json, key);
    atd_json_text(json, text);
}

static void write_job(struct atd_json_writer *json, const struct job *job)
{
    atd_json_object_begin(json);
    put_text(json, "path", job->path);
    put_text(json, "file", job->file_name);
    put_text(json, "outcome",
             job->outcome == OUTCOME_FAILED ? "failed"
             : job->status.was_there        ? "present"
                                            : "published");
    if (job->outcome == OUTCOME_FAILED) {
        const char *name = strerrorname_np(job->why.code);

        put_text(json, "errno", name ? name : "?");
        put_text(json, "reason", job->why.text);
    } else {
        put_text(json, "url", job->status.url);
        put_text(json, "cid", job->status.cid.text);
        atd_json_key(json, "size_bytes");
        atd_json_uint(json, job->size_bytes);
    }
    atd_json_object_end(json);
}

static void print_json(const struct publish *publish)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(JSON_MAX);
    struct atd_json_writer json;

    atd_json_init(&json, &text, ATD_JSON_PRETTY);
    atd_json_object_begin(&json);
    put_text(&json, "dataset", publish->dataset);
    atd_json_key(&json, "files");
    atd_json_array_begin(&json);
    for (unsigned i = 0; i < publish->count; i++)
        write_job(&json, &publish->jobs[i]);
    atd_json_array_end(&json);
    atd_json_object_end(&json);
    atd_buf_append_byte(&text, '\n');
    if (!text.failed)
        (void)fwrite(text.ptr, 1, text.len, stdout);
}

/* ------------------------------------------------------------------ all of it */

static int make_jobs(struct publish *publish, char **files, unsigned count, struct atd_error *err)
{
    publish->jobs = calloc(count, sizeof(*publish->jobs));
    if (!publish->jobs)
        return atd_error_set(err, ENOMEM, "out of memory");
    publish->count = count;
    for (unsigned i = 0; i < count; i++) {
        struct job *job = &publish->jobs[i];
        const char *slash = strrchr(files[i], '/');
        struct stat st;

        job->publish = publish;
        job->path = files[i];
        job->file_name = slash ? slash + 1 : files[i];
        if (stat(files[i], &st) == 0 && S_ISREG(st.st_mode))
            job->size_bytes = (uint64_t)st.st_size;
    }
    return 0;
}

static int publish_all(const struct options *options, struct publish *publish)
{
    struct parts parts;
    struct publish_parts publish_parts = {0};
    struct atd_error why = ATD_ERROR_INIT;
    unsigned failed = 0;
    int rc = parts_open(options, true, NULL, NULL, &parts, &why);

    if (rc == 0)
        rc = atd_live_start(parts.live, &(struct atd_live_watcher){0}, &why);
    if (rc == 0)
        rc = publish_parts_open(&parts, NULL, NULL, &publish_parts, &why);
    publish->publisher = publish_parts.publisher;
    if (rc == 0)
        rc = atd_publisher_ready(publish->publisher, &why);
    if (rc == 0)
        failed = run_jobs(publish);
    if (rc)
        (void)fprintf(stderr, "atdatafs: %s\n", why.text);
    if (rc == 0 && publish->json)
        print_json(publish);
    (void)fflush(stdout);
    if (!publish_parts_close(&publish_parts, STOP_MS) || !parts_stop(&parts) || !parts_free(&parts))
        _exit(rc || failed ? ATD_EXIT_FAILED : ATD_EXIT_OK);
    return rc || failed ? ATD_EXIT_FAILED : ATD_EXIT_OK;
}

int command_publish(int argc, char **argv)
{
    struct arguments arguments = {.files = calloc((size_t)argc + 1, sizeof(char *))};
    struct options options = {0};
    struct publish publish = {0};
    struct atd_error why = ATD_ERROR_INIT;
    int exit_code = ATD_EXIT_OK;
    int rc = arguments.files ? read_arguments(argc, argv, &arguments, &why)
                             : atd_error_set(&why, ENOMEM, "out of memory");

    if (rc == 0 && arguments.help) {
        print_help();
        free(arguments.files);
        return ATD_EXIT_OK;
    }
    if (rc == 0)
        rc = options_parse(arguments.mount_count, arguments.mount_args, &options, &why);
    if (rc == 0)
        rc = atd_dataset_name_check(atd_str_from(arguments.dataset), &why);
    if (rc == 0)
        rc = make_jobs(&publish, arguments.files, (unsigned)arguments.file_count, &why);
    if (rc) {
        (void)fprintf(stderr, "atdatafs: %s\n", why.text);
        exit_code = ATD_EXIT_USAGE;
    } else {
        atd_log_open("atdatafs", 0, ATD_LOG_WARNING);
        publish.dataset = arguments.dataset;
        publish.parallel = arguments.parallel;
        publish.json = arguments.json;
        publish.quiet = arguments.quiet;
        atd_lock_init(&publish.lock, ATD_RANK_PUBLISHING);
        atd_cond_init(&publish.wake);
        progress_start(&publish.progress, arguments.quiet || arguments.json);
        exit_code = publish_all(&options, &publish);
        (void)pthread_cond_destroy(&publish.wake);
        atd_lock_destroy(&publish.lock);
    }
    free(publish.jobs);
    free(arguments.files);
    options_release(&options);
    return exit_code;
}

#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "file.h"
#include "fs.h"
#include "listing.h"
#include "mountpoint.h"
#include "publishing.h"
#include "samples.h"
#include "staging.h"

/* No handler waits for anything, so more threads than cores would only chase each other. */
#define FUSE_THREADS_MIN 2
#define FUSE_THREADS_MAX 8
#define STOP_MS 10000
/* A mount that starts from a snapshot is usable when the index was loaded, or after so long: most
 * are loaded by then, and nobody has seen anything old. */
#define CATCH_UP_MS 1000

/* What the serving process tells its parent. */
struct outcome {
    int exit_code;
    char text[ATD_ERROR_TEXT_MAX];
};

/* Where to tell it: a pipe's end, or -1 in the foreground. */
struct teller {
    int fd;
    bool told;
};

static void tell(struct teller *teller, int exit_code, const char *text)
{
    struct outcome outcome = {.exit_code = exit_code};

    if (teller->told)
        return;
    teller->told = true;
    if (teller->fd < 0) {
        if (exit_code)
            (void)fprintf(stderr, "atdatafs: %s\n", text);
        return;
    }
    (void)snprintf(outcome.text, sizeof(outcome.text), "%s", text);
    if (write(teller->fd, &outcome, sizeof(outcome)) != (ssize_t)sizeof(outcome))
        atd_log(ATD_LOG_ERROR, "cannot tell the parent: %s", text);
    (void)close(teller->fd);
    teller->fd = -1;
}

/* The kernel has shaken hands: the mount is usable, so the parent may return. */
static void on_ready(struct fs *fs)
{
    struct teller *teller = fs->ready_ctx;
    int null;

    if (teller->fd >= 0) {
        /* Whoever waits for our output's end (a pipe in a script) must not wait for the mount's. */
        null = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (null >= 0) {
            (void)dup2(null, STDIN_FILENO);
            (void)dup2(null, STDOUT_FILENO);
            (void)dup2(null, STDERR_FILENO);
            if (null > STDERR_FILENO)
                (void)close(null);
        }
    }
    tell(teller, ATD_EXIT_OK, "");
    atd_log(ATD_LOG_INFO, "mounted '%s' on '%s'", fs->index->location, fs->options->mountpoint);
}

/* ------------------------------------------------------------------ the parts */

static int make_parts(struct fs *fs, struct atd_error *err)
{
    int rc = parts_open(fs->options, PARTS_MOUNT, !fs->options->index_named, file_local_changed, fs,
                        &fs->parts, err);

    fs->index = fs->parts.index;
    fs->store = fs->parts.files;
    fs->remote = fs->parts.remote;
    fs->locator = fs->parts.locator;
    fs->live = fs->parts.live;
    if (rc)
        return rc;
    fs->reader = remote_reader(fs->remote);
    fs->nodes = nodes_new();
    fs->events = events_new();
    fs->staging = staging_new();
    if (!fs->nodes || !fs->events || !fs->staging)
        return atd_error_set(err, ENOMEM, "out of memory");
    rc = samples_start(fs, &fs->samples, err);
    if (rc)
        return rc;
    rc = atd_workers_start("atd-meta", META_THREADS, &fs->meta_workers, err);
    if (rc == 0)
        rc = atd_workers_start("atd-io", IO_THREADS, &fs->io_workers, err);
    if (rc == 0)
        rc = atd_workers_start("atd-network", NETWORK_THREADS, &fs->network_workers, err);
    return rc ? rc : publishing_start(fs, err);
}

static int make_session(struct fs *fs, struct atd_error *err)
{
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    const struct options *options = fs->options;

    if (fuse_opt_add_arg(&args, "atdatafs") == 0 &&
        fuse_opt_add_arg(&args, "-ofsname=atdatafs,subtype=atdatafs,nosuid,nodev") == 0 &&
        (fs->publisher || fuse_opt_add_arg(&args, "-oro") == 0) &&
        (!options->noexec || fuse_opt_add_arg(&args, "-onoexec") == 0) &&
        (!options->allow_other || fuse_opt_add_arg(&args, "-oallow_other") == 0) &&
        (!options->default_permissions || fuse_opt_add_arg(&args, "-odefault_permissions") == 0))
        fs->session = fuse_session_new(&args, &fs_operations, sizeof(fs_operations), fs);
    fuse_opt_free_args(&args);
    if (!fs->session)
        return atd_error_set(err, EIO, "libfuse refuses to start a session");
    return 0;
}

/*
 * Mounts by ourselves where we may, which makes passthrough possible; else through fusermount3,
 * as an ordinary user.
 */
static int mount_session(struct fs *fs, struct atd_error *err)
{
    int device;
    int rc = mountpoint_mount(fs->options, !fs->publisher, &device, err);

    if (rc == 0) {
        rc = passthrough_attach(fs->session, device, &fs->passthrough, err);
        if (rc) {
            mountpoint_unmount(fs->options->mountpoint);
            (void)close(device);
        }
        return rc;
    }
    if (rc != -EPERM && rc != -EACCES)
        return rc;
    if (fuse_session_mount(fs->session, fs->options->mountpoint) != 0)
        return atd_error_set(
            err, EIO, "cannot mount on '%s': fusermount3 refused; is the directory yours%s",
            fs->options->mountpoint,
            fs->options->allow_other ? ", and does /etc/fuse.conf have user_allow_other?" : "?");
    return 0;
}

static void unmount_session(struct fs *fs)
{
    if (fs->passthrough)
        mountpoint_unmount_own(fs->options->mountpoint, fuse_session_fd(fs->session));
    else
        fuse_session_unmount(fs->session);
}

/* Serves until the mount ends. */
static int loop(struct fs *fs, struct atd_error *err)
{
    struct fuse_loop_config *config = fuse_loop_cfg_create();
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned threads = cores < FUSE_THREADS_MIN   ? FUSE_THREADS_MIN
                       : cores > FUSE_THREADS_MAX ? FUSE_THREADS_MAX
                                                  : (unsigned)cores;
    int rc;

    if (!config)
        return atd_error_set(err, ENOMEM, "out of memory");
    /* As many idle as there may be: threads are not made and ended all the time. */
    fuse_loop_cfg_set_max_threads(config, threads);
    fuse_loop_cfg_set_idle_threads(config, threads);
    rc = fuse_session_loop_mt(fs->session, config);
    fuse_loop_cfg_destroy(config);
    if (rc < 0 && rc != -ECONNABORTED)
        return atd_error_set(err, -rc, "the connection with the kernel broke: %s", strerror(-rc));
    /* Unmounted (ECONNABORTED: with a request on its way), or a signal (its number): clean ends. */
    return 0;
}

/* ------------------------------------------------------------------ the end */

/*
 * While there is still a store: what is being published is taken back, and who waits for it is told
 * so. That uses nearly everything else.
 */
static bool end_publishing(struct fs *fs)
{
    bool ended = publishing_stop(fs) && atd_workers_stop(fs->meta_workers, STOP_MS) &&
                 atd_workers_stop(fs->io_workers, STOP_MS);

    if (!ended || !fs->staging)
        return ended;
    handles_release_some(fs, &fs->handles, file_is_staged);
    staging_forget(fs->staging);
    publishing_end(fs);
    return true;
}

/* From here on no store answers, so that nobody waits for one. */
static bool end_requests(struct fs *fs)
{
    if (!remote_stop(fs->remote) || !atd_workers_stop(fs->network_workers, STOP_MS))
        return false;
    if (fs->nodes)
        handles_release(fs, &fs->handles);
    listings_drop(fs->listings);
    if (fs->staging)
        staging_forget(fs->staging); /* what the last requests left */
    samples_free(fs->samples);
    fs->samples = NULL;
    return publishing_free(fs) && atd_live_close(fs->live) && notify_stop(fs->notify);
}

/*
 * Stops the threads in the order of who calls whom, then frees everything. A thread that hangs in
 * a dead disk cannot be joined: then the process ends as it is, which frees everything too.
 */
static void release(struct fs *fs)
{
    samples_interrupt(fs->samples);
    if (!end_publishing(fs) || !end_requests(fs) || !parts_free(&fs->parts)) {
        atd_log(ATD_LOG_WARNING, "a thread hangs on a disk or a server; ending without it");
        _exit(ATD_EXIT_OK);
    }
    listings_release(fs->listings);
    staging_free(fs->staging);
    if (fs->session)
        fuse_session_destroy(fs->session);
    passthrough_free(fs->passthrough);
    nodes_free(fs->nodes);
    events_free(fs->events);
}

/* Files that were published give way to their shards before the kernel is told of those. */
static void on_generation(void *ctx, struct atd_catalog *before, struct atd_catalog *after)
{
    struct fs *fs = ctx;

    staging_settle(fs->staging, after);
    notify_generation(fs, before, after);
    publishing_index_changed(fs);
}

static void warn_of_snapshot(struct fs *fs)
{
    struct atd_live_status live;

    atd_live_status(fs->live, &live);
    if (live.from_snapshot)
        atd_log(ATD_LOG_WARNING, "%s", live.error);
}

static int serve_mounted(struct fs *fs, struct atd_error *err)
{
    const struct atd_live_watcher watcher = {fs, on_generation, notify_entry_shards};
    int rc;

    rc = notify_start(fs, &fs->notify, err);
    if (rc == 0)
        rc = atd_live_start(fs->live, &watcher, err);
    if (rc == 0 && !atd_live_catch_up(fs->live, CATCH_UP_MS))
        warn_of_snapshot(fs);
    if (rc == 0 && fuse_set_signal_handlers(fs->session) != 0)
        rc = atd_error_set(err, EIO, "cannot handle signals");
    if (rc == 0) {
        rc = loop(fs, err);
        /* It is ending: who unmounts and then says so, as systemd does, is not to cut short what is
         * taken back now. */
        (void)signal(SIGTERM, SIG_IGN);
        fuse_remove_signal_handlers(fs->session);
    }
    unmount_session(fs);
    return rc;
}

/* As many descriptors as we may have: without passthrough each open shard takes one. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

static int serve(const struct options *options, struct teller *teller)
{
    struct listings listings;
    struct fs fs = {
        .options = options, .listings = &listings, .ready = on_ready, .ready_ctx = teller};
    struct atd_error why = ATD_ERROR_INIT;
    int rc;

    fs.started_at_s = (int64_t)time(NULL);
    handles_init(&fs.handles);
    listings_init(&listings);
    raise_descriptor_limit();
    rc = make_parts(&fs, &why);
    if (rc == 0)
        rc = make_session(&fs, &why);
    if (rc == 0)
        rc = mount_session(&fs, &why);
    if (rc == 0)
        rc = serve_mounted(&fs, &why);
    release(&fs);
    if (rc) {
        tell(teller, ATD_EXIT_FAILED, why.text);
        return ATD_EXIT_FAILED;
    }
    tell(teller, ATD_EXIT_FAILED, "the mount ended before it was usable");
    return ATD_EXIT_OK;
}

/* ------------------------------------------------------------------ the two processes */

static int wait_for_child(pid_t child, int fd)
{
    struct outcome outcome;
    ssize_t got;
    int status;

    do
        got = read(fd, &outcome, sizeof(outcome));
    while (got < 0 && errno == EINTR);
    if (got == (ssize_t)sizeof(outcome)) {
        if (outcome.exit_code)
            (void)fprintf(stderr, "atdatafs: %s\n", outcome.text);
        return outcome.exit_code;
    }
    (void)waitpid(child, &status, 0);
    (void)fprintf(stderr, "atdatafs: the mounting process died; run with -f to see why\n");
    return ATD_EXIT_FAILED;
}

int session_run(const struct options *options)
{
    struct teller teller = {.fd = -1};
    int ends[2];
    pid_t child;

    if (options->foreground) {
        atd_log_open("atdatafs", 0, options->debug ? ATD_LOG_DEBUG : ATD_LOG_INFO);
        return serve(options, &teller);
    }
    /* Before any thread: a fork keeps only the thread that called it. */
    if (pipe2(ends, O_CLOEXEC) != 0 || (child = fork()) < 0) {
        (void)fprintf(stderr, "atdatafs: cannot start: %s\n", strerror(errno));
        return ATD_EXIT_FAILED;
    }
    if (child > 0) {
        (void)close(ends[1]);
        return wait_for_child(child, ends[0]);
    }
    /* What the caller had open (a lock, a pipe) is none of the mount's business. */
    teller.fd = dup3(ends[1], STDERR_FILENO + 1, O_CLOEXEC);
    if (teller.fd < 0)
        teller.fd = ends[1]; /* it is that number already */
    (void)close_range((unsigned)teller.fd + 1, ~0u, 0);
    (void)setsid();
    if (chdir("/") != 0)
        atd_log(ATD_LOG_DEBUG, "chdir: %s", strerror(errno));
    atd_log_open("atdatafs", 1, ATD_LOG_INFO);
    return serve(options, &teller);
}

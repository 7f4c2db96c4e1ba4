#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "publish/journal_private.h"

/* A job that is written anew while a directory is read may be passed over: not twice. */
#define LOOKS 2u

struct look {
    const char *state_dir;
    atd_journal_look_fn fn;
    void *ctx;
};

static int unreadable(const struct look *look, const char *what, int code, struct atd_error *err)
{
    if (code == ENOMEM)
        return atd_error_set(err, ENOMEM, "the journal in '%s': out of memory", look->state_dir);
    return atd_error_set(err, EAGAIN,
                         "'%s' in '%s' cannot be read (%s): nobody knows what is being published",
                         what, look->state_dir, strerror(code));
}

static bool begins_with(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

static int look_at_job(const struct look *look, int dir_fd, const char *name, struct atd_error *err)
{
    struct atd_job job;
    int rc = atd_job_read(dir_fd, name, &job);

    if (rc == -ENOENT)
        return 0; /* it ended meanwhile */
    if (rc)
        return unreadable(look, name, -rc, err);
    rc = look->fn(look->ctx, &job, err);
    atd_job_release(&job);
    return rc;
}

/* Calls `each` for the names with the prefix; a directory that is gone has none. */
static int each_name(const struct look *look, int at_fd, const char *dir, const char *prefix,
                     int (*each)(const struct look *look, int dir_fd, const char *name,
                                 struct atd_error *err),
                     struct atd_error *err)
{
    int fd = openat(at_fd, dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *listing = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    int rc = 0;

    if (!listing) {
        rc = errno == ENOENT ? 0 : unreadable(look, dir, errno, err);
        if (fd >= 0)
            (void)close(fd);
        return rc;
    }
    while (rc == 0 && (errno = 0, entry = readdir(listing))) {
        if (begins_with(entry->d_name, prefix) &&
            !atd_str_ends_with(atd_str_from(entry->d_name), atd_str_from(ATD_JOB_PART_SUFFIX)))
            rc = each(look, dirfd(listing), entry->d_name, err);
    }
    if (rc == 0 && errno)
        rc = unreadable(look, dir, errno, err);
    (void)closedir(listing);
    return rc;
}

static int look_at_run(const struct look *look, int dir_fd, const char *name, struct atd_error *err)
{
    return each_name(look, dir_fd, name, ATD_JOB_PREFIX, look_at_job, err);
}

int atd_journal_look(const char *state_dir, atd_journal_look_fn fn, void *ctx,
                     struct atd_error *err)
{
    const struct look look = {state_dir, fn, ctx};
    int rc = 0;

    for (unsigned i = 0; rc == 0 && i < LOOKS; i++)
        rc = each_name(&look, AT_FDCWD, state_dir, ATD_RUN_PREFIX, look_at_run, err);
    return rc;
}

#include "from_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

#define READ_BYTES (64u << 10)
/* From KEY/FIELD in samples/SHARD/ up to the dataset's directory. */
#define LEVELS_MAX 6

int from_mount_read(const char *path, struct atd_buf *out, struct atd_error *err)
{
    /* A FIFO must not hold us up. */
    atd_auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    uint8_t piece[READ_BYTES];
    struct stat st;
    ssize_t got = 1;

    if (fd < 0 || fstat(fd, &st) != 0)
        return atd_error_set(err, errno, "'%.300s': %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return atd_error_set(err, EINVAL, "'%.300s' is no regular file", path);
    while (got != 0 && !out->failed) {
        got = read(fd, piece, sizeof(piece));
        if (got < 0 && errno != EINTR)
            return atd_error_set(err, errno, "'%.300s': %s", path, strerror(errno));
        if (got > 0)
            atd_buf_append(out, piece, (size_t)got);
    }
    return atd_buf_finish(out, path, err);
}

char *from_mount_entry(const char *path)
{
    static const char name[] = "entry.json";
    atd_auto_free char *directory = realpath(path, NULL);
    struct stat st;

    if (!directory)
        return NULL;
    for (int level = 0; level < LEVELS_MAX && directory[0]; level++) {
        char *slash = strrchr(directory, '/');
        char *candidate = NULL;

        if (strcmp(slash + 1, name) == 0)
            return atd_steal(directory);
        if (asprintf(&candidate, "%s/%s", directory, name) < 0)
            return NULL;
        if (stat(candidate, &st) == 0 && S_ISREG(st.st_mode))
            return candidate;
        free(candidate);
        *slash = '\0';
    }
    return NULL;
}

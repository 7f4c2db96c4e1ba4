#include "base/dirs.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int atd_make_dirs(const char *path)
{
    char part[PATH_MAX];

    if (strlen(path) >= sizeof(part))
        return -ENAMETOOLONG;
    for (const char *slash = path; slash;) {
        size_t len;

        slash = strchr(slash + 1, '/');
        len = slash ? (size_t)(slash - path) : strlen(path);
        memcpy(part, path, len);
        part[len] = '\0';
        if (mkdir(part, 0700) != 0 && errno != EEXIST) {
            int code = errno;

            /* Where it exists, EROFS and EACCES are possible too, and mean nothing. */
            if (access(part, F_OK) != 0)
                return -code;
        }
    }
    return 0;
}

int atd_path_absolute(const char *path, char **ret_path, struct atd_error *err)
{
    char cwd[PATH_MAX];
    const char *home = getenv("HOME");
    char *made;
    int len;

    if (path[0] == '~' && path[1] == '/' && home) {
        len = asprintf(&made, "%s/%s", home, path + 2);
    } else if (path[0] == '/') {
        len = asprintf(&made, "%s", path);
    } else if (!getcwd(cwd, sizeof(cwd))) {
        return atd_error_set(err, errno, "the working directory cannot be read: %s",
                             strerror(errno));
    } else {
        len = asprintf(&made, "%s/%s", cwd, path);
    }
    if (len < 0)
        return atd_error_set(err, ENOMEM, "out of memory");
    *ret_path = made;
    return 0;
}

#include "base/dirs.h"

#include <errno.h>
#include <limits.h>
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

#include "process.h"

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The text after "NAME:\t" in /proc/THREAD/status; false when there is none. */
static bool read_field(pid_t thread, const char *name, char *text, size_t size)
{
    char path[64];
    char line[256];
    size_t len = strlen(name);
    bool found = false;
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/%ld/status", (long)thread);
    file = thread > 0 ? fopen(path, "re") : NULL;
    if (!file)
        return false;
    while (!found && fgets(line, sizeof(line), file)) {
        if (strncmp(line, name, len) == 0 && line[len] == ':') {
            (void)snprintf(text, size, "%s", line + len + 1);
            found = true;
        }
    }
    (void)fclose(file);
    return found;
}

pid_t process_of_thread(pid_t thread)
{
    char text[64];

    if (!read_field(thread, "Tgid", text, sizeof(text)))
        return 0;
    return (pid_t)strtol(text, NULL, 10);
}

bool process_is_dying(pid_t thread)
{
    char text[64];

    if (!read_field(thread, "SigPnd", text, sizeof(text)))
        return false;
    return (strtoull(text, NULL, 16) >> (SIGKILL - 1) & 1) != 0;
}

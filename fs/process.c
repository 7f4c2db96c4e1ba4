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

bool process_was_killed(pid_t thread)
{
    /* proc(5): "PID (COMM) STATE" and numbers, the 9th the kernel's flags, the 52nd, which is the
     * last, the exit code as wait(2) tells it. A COMM may hold anything. */
    const unsigned long exiting = 0x4; /* PF_EXITING */
    unsigned long flags = 0;
    char path[64];
    char line[2048];
    char *last;
    char *at;
    size_t len;
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/%ld/stat", (long)thread);
    file = thread > 0 ? fopen(path, "re") : NULL;
    if (!file)
        return false;
    len = fread(line, 1, sizeof(line) - 1, file);
    (void)fclose(file);
    line[len] = '\0';
    at = strrchr(line, ')');
    if (!at || sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %lu", &flags) != 1 || !(flags & exiting))
        return false;
    last = strrchr(at, ' ');
    return last && (strtoul(last, NULL, 10) & 0x7f) != 0; /* WTERMSIG */
}

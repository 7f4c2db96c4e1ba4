/*
 * Runs a fuzz target over every file of the directories (or files) named on the command line, and
 * over each of those inputs cut short at a few places. Fails when there was no input at all.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned long inputs;

/* A copy of exactly `size` bytes, so that ASan sees a read past the end. */
static void run(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);

    if (!copy)
        abort();
    if (size)
        memcpy(copy, data, size);
    (void)LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static void replay_file(const char *path, size_t size)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(size ? size : 1);

    if (!file || !data || fread(data, 1, size, file) != size) {
        (void)fprintf(stderr, "cannot read %s\n", path);
        exit(2);
    }
    (void)fclose(file);
    run(data, size);
    for (size_t part = 1; part < 16; part++)
        run(data, size * part / 16);
    if (size)
        run(data, size - 1);
    free(data);
    inputs++;
}

static void replay(const char *path)
{
    struct stat st;
    DIR *dir;
    struct dirent *entry;

    if (stat(path, &st) != 0) {
        (void)fprintf(stderr, "no such corpus: %s\n", path);
        exit(2);
    }
    if (!S_ISDIR(st.st_mode)) {
        replay_file(path, (size_t)st.st_size);
        return;
    }
    dir = opendir(path);
    if (!dir)
        exit(2);
    while ((entry = readdir(dir))) {
        char child[4096];

        if (entry->d_name[0] == '.')
            continue;
        (void)snprintf(child, sizeof(child), "%s/%s", path, entry->d_name);
        replay(child);
    }
    (void)closedir(dir);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        replay(argv[i]);
    (void)printf("replayed %lu inputs\n", inputs);
    return inputs ? 0 : 1;
}

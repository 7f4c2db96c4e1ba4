/*
 * How fast a shard is looked through while it is written, beside SHA-256 alone of the same bytes,
 * which is the most of the work. usage: bench_inspect SHARD [SECONDS]
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "publish/inspect.h"

/* As the pump reads a spool. */
#define PIECE_BYTES (1u << 20)

static double now_s(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int inspect(struct atd_bytes shard, struct atd_inspect_result *ret_result)
{
    struct atd_inspection *inspection = atd_inspection_new(NULL);
    struct atd_error err = ATD_ERROR_INIT;
    int rc = inspection ? 0 : -1;

    for (size_t at = 0; rc == 0 && at < shard.len; at += PIECE_BYTES) {
        size_t len = shard.len - at < PIECE_BYTES ? shard.len - at : PIECE_BYTES;

        rc = atd_inspection_feed(inspection, (struct atd_bytes){shard.ptr + at, len}, &err);
    }
    if (rc == 0)
        rc = atd_inspection_finish(inspection, ret_result, &err);
    if (rc != 0)
        (void)fprintf(stderr, "bench_inspect: %s\n", err.text);
    atd_inspection_free(inspection);
    return rc;
}

static int hash(struct atd_bytes shard, struct atd_inspect_result *ret_result)
{
    atd_sha256_of(shard.ptr, shard.len, ret_result->sha256);
    return 0;
}

/* MB/s over at least `seconds`; 0 when it fails. */
static double measure(int (*run)(struct atd_bytes, struct atd_inspect_result *),
                      struct atd_bytes shard, double seconds)
{
    struct atd_inspect_result result = {0};
    double start = now_s();
    double bytes = 0;

    do {
        if (run(shard, &result) != 0)
            return 0;
        bytes += (double)shard.len;
    } while (now_s() - start < seconds);
    return bytes / 1e6 / (now_s() - start);
}

int main(int argc, char **argv)
{
    struct atd_inspect_result result = {0};
    struct atd_bytes shard;
    struct stat st;
    double seconds = argc > 2 ? strtod(argv[2], NULL) : 2;
    double alone, whole;
    int fd;

    if (argc < 2) {
        (void)fprintf(stderr, "usage: bench_inspect SHARD [SECONDS]\n");
        return 2;
    }
    fd = open(argv[1], O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0 || st.st_size == 0) {
        perror(argv[1]);
        return 1;
    }
    shard.len = (size_t)st.st_size;
    shard.ptr = mmap(NULL, shard.len, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (shard.ptr == MAP_FAILED || inspect(shard, &result) != 0)
        return 1;
    alone = measure(hash, shard, seconds);
    whole = measure(inspect, shard, seconds);
    (void)printf("%llu bytes, %llu samples: inspection %.0f MB/s, sha256 alone %.0f MB/s, %.2f of "
                 "it\n",
                 (unsigned long long)shard.len, (unsigned long long)result.samples, whole, alone,
                 whole / alone);
    return whole > 0 ? 0 : 1;
}

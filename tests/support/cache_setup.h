/*
 * What tests of the cache share: a directory that goes away, objects whose bytes are known, and
 * files damaged on purpose.
 */
#ifndef ATD_TESTS_CACHE_SETUP_H
#define ATD_TESTS_CACHE_SETUP_H

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cache/cache_dir_private.h"

#define BLOCK ((size_t)ATD_BLOCK_BYTES)

static inline int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void remove_tree(const char *path)
{
    (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* A new directory below $TMPDIR or /tmp. */
static inline void make_temp_dir(char ret_path[PATH_MAX])
{
    const char *base = getenv("TMPDIR");

    (void)snprintf(ret_path, PATH_MAX, "%s/atd-cache-XXXXXX", base && base[0] ? base : "/tmp");
    if (!mkdtemp(ret_path))
        abort();
}

/* The bytes of an object are a function of its number and the offset. */
static inline uint8_t object_byte(unsigned object, uint64_t offset)
{
    uint64_t x =
        (offset / 8 + 1) * 0x9e3779b97f4a7c15ull + (uint64_t)object * 0xc2b2ae3d27d4eb4full;

    x ^= x >> 29;
    x *= 0xbf58476d1ce4e5b9ull;
    return (uint8_t)(x >> (8 * (offset % 8)));
}

static inline void object_fill(unsigned object, uint64_t offset, uint8_t *into, size_t len)
{
    for (size_t i = 0; i < len; i++)
        into[i] = object_byte(object, offset + i);
}

static inline bool object_is(unsigned object, uint64_t offset, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != object_byte(object, offset + i))
            return false;
    }
    return true;
}

static inline struct atd_object_info object_info(uint64_t size, const char *etag)
{
    struct atd_object_info info = {.size_bytes = size};

    (void)snprintf(info.etag, sizeof(info.etag), "%s", etag);
    return info;
}

/* The path of one of an object's two files. */
static inline void object_path(const char *dir, struct atd_str url,
                               const struct atd_object_info *info, const char *suffix,
                               char ret_path[PATH_MAX])
{
    uint8_t hash[ATD_SHA256_BYTES];
    char name[ATD_CACHE_NAME_MAX];

    atd_block_map_hash(url, info, hash);
    atd_cache_name(hash, suffix, name);
    if (snprintf(ret_path, PATH_MAX, "%s/v1/%s", dir, name) >= PATH_MAX)
        abort();
}

static inline void flip_bit(const char *path, off_t offset)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t byte;

    if (fd < 0 || pread(fd, &byte, 1, offset) != 1)
        abort();
    byte ^= 0x10;
    if (pwrite(fd, &byte, 1, offset) != 1)
        abort();
    (void)close(fd);
}

/* Sets the time of last use, `age_s` ago. */
static inline void set_age(const char *path, time_t age_s)
{
    struct timespec times[2];

    (void)clock_gettime(CLOCK_REALTIME, &times[0]);
    times[0].tv_sec -= age_s;
    times[1] = times[0];
    if (utimensat(AT_FDCWD, path, times, 0) != 0)
        abort();
}

#endif

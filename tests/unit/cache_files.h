/*
 * What the Criterion tests of the cache directory share: each test has its own directory.
 */
#ifndef ATD_TESTS_CACHE_FILES_H
#define ATD_TESTS_CACHE_FILES_H

#include <criterion/criterion.h>
#include <sched.h>
#include <sys/mount.h>

#include "support/cache_setup.h"

#define URL ATD_STR("s3://bucket/a.tar")
#define SIZE (5 * BLOCK + 1234)

static char path[PATH_MAX];
static struct atd_cache_stats stats;

static inline void setup(void)
{
    make_temp_dir(path);
}

static inline void teardown(void)
{
    (void)umount2(path, MNT_DETACH); /* of mount_tiny() */
    remove_tree(path);
}

static inline struct atd_cache_dir *open_dir(uint64_t size_max_bytes)
{
    const struct atd_cache_dir_options options = {
        .path = path, .size_max_bytes = size_max_bytes, .stats = &stats};
    struct atd_cache_dir *dir = NULL;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_cache_dir_open(&options, &dir, &err), 0, "%s", err.text);
    return dir;
}

static inline struct atd_cache_file *open_object(struct atd_cache_dir *dir, struct atd_str url,
                                                 const struct atd_object_info *info)
{
    struct atd_cache_file *file = NULL;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_cache_file_open(dir, url, info, &file, &err), 0, "%s", err.text);
    return file;
}

static inline int write_blocks(struct atd_cache_file *file, unsigned object, uint64_t block,
                               size_t count)
{
    uint64_t left = file->size_bytes - block * BLOCK;
    size_t len = count * BLOCK < left ? count * BLOCK : (size_t)left;
    uint8_t *bytes = malloc(len);
    struct atd_error err = ATD_ERROR_INIT;
    int rc;

    object_fill(object, block * BLOCK, bytes, len);
    rc = atd_cache_file_write(file, block, bytes, len, &err);
    cr_assert(rc == 0 ? err.code == 0 : err.code == -rc && err.text[0]);
    free(bytes);
    return rc;
}

/* 0, or the error; what was read must be right. */
static inline int read_blocks(struct atd_cache_file *file, unsigned object, uint64_t block,
                              size_t count, bool nowait)
{
    uint64_t left = file->size_bytes - block * BLOCK;
    size_t len = count * BLOCK < left ? count * BLOCK : (size_t)left;
    uint8_t *bytes = malloc(len);
    struct atd_error err = ATD_ERROR_INIT;
    int rc = atd_cache_file_read(file, block, count, nowait, bytes, &err);

    cr_assert(rc == 0 ? err.code == 0 : err.code == -rc && err.text[0]);
    if (rc == 0)
        cr_assert(object_is(object, block * BLOCK, bytes, len));
    free(bytes);
    return rc;
}

/* A complete object, closed. */
static inline void put_object(struct atd_cache_dir *dir, unsigned object, struct atd_str url,
                              const struct atd_object_info *info)
{
    struct atd_cache_file *file = open_object(dir, url, info);

    cr_assert_eq(write_blocks(file, object, 0, (size_t)file->map.block_count), 0);
    atd_cache_file_close(file);
}

static inline struct atd_str numbered_url(unsigned object, char text[64])
{
    (void)snprintf(text, 64, "s3://bucket/%u.tar", object);
    return atd_str_from(text);
}

/* False once at least so much is known to be used. */
static inline bool pending(struct atd_cache_dir *dir, uint64_t least)
{
    for (int i = 0; i < 2000; i++) {
        if (atd_cache_dir_used_bytes(dir) >= least)
            return false;
        (void)usleep(10000);
    }
    return true;
}

/* Mounts a tmpfs over the test's directory, seen by this process only. */
static inline bool mount_tiny(const char *options)
{
    if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0)
        return false;
    cr_assert_eq(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    cr_assert_eq(mount("tmpfs", path, "tmpfs", 0, options), 0);
    return true;
}

#endif

#include <criterion/criterion.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "support/cache_setup.h"

#define URL ATD_STR("s3://bucket/a.tar")
#define SIZE (5 * BLOCK + 1234)

static char path[PATH_MAX];
static struct atd_cache_stats stats;

static void setup(void)
{
    make_temp_dir(path);
}

static void teardown(void)
{
    remove_tree(path);
}

TestSuite(cache_dir, .init = setup, .fini = teardown);

static struct atd_cache_dir *open_dir(uint64_t size_max_bytes)
{
    const struct atd_cache_dir_options options = {
        .path = path, .size_max_bytes = size_max_bytes, .stats = &stats};
    struct atd_cache_dir *dir = NULL;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_cache_dir_open(&options, &dir, &err), 0, "%s", err.text);
    return dir;
}

static struct atd_cache_file *open_object(struct atd_cache_dir *dir, struct atd_str url,
                                          const struct atd_object_info *info)
{
    struct atd_cache_file *file = NULL;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_cache_file_open(dir, url, info, &file, &err), 0, "%s", err.text);
    return file;
}

static int write_blocks(struct atd_cache_file *file, unsigned object, uint64_t block, size_t count)
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
static int read_blocks(struct atd_cache_file *file, unsigned object, uint64_t block, size_t count,
                       bool nowait)
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

static void sha_of_object(unsigned object, size_t size, char ret_hex[65])
{
    uint8_t *bytes = malloc(size);
    uint8_t digest[ATD_SHA256_BYTES];

    object_fill(object, 0, bytes, size);
    atd_sha256_of(bytes, size, digest);
    for (int i = 0; i < ATD_SHA256_BYTES; i++)
        (void)sprintf(ret_hex + 2 * i, "%02x", digest[i]);
    free(bytes);
}

Test(cache_dir, what_is_written_is_read_and_survives_a_restart)
{
    struct atd_cache_dir *dir = open_dir(1u << 30);
    const struct atd_object_info info = object_info(SIZE, "e1");
    struct atd_cache_file *file = open_object(dir, URL, &info);

    cr_assert_eq(read_blocks(file, 1, 0, 1, false), -ENODATA);
    cr_assert_eq(write_blocks(file, 1, 1, 2), 0);
    cr_assert_eq(write_blocks(file, 1, 5, 1), 0);
    cr_assert(!atd_cache_file_has(file, 0) && atd_cache_file_has(file, 1) &&
              atd_cache_file_has(file, 2) && !atd_cache_file_has(file, 3) &&
              atd_cache_file_has(file, 5) && !atd_cache_file_has(file, 6));
    cr_assert_eq(atd_cache_file_present_blocks(file), 3);
    cr_assert_eq(read_blocks(file, 1, 1, 2, false), 0);
    cr_assert_eq(read_blocks(file, 1, 5, 1, false), 0);
    cr_assert_eq(read_blocks(file, 1, 1, 3, false), -ENODATA);
    /* Just written: the page cache has it, on every file system that can tell. */
    cr_assert(read_blocks(file, 1, 1, 2, true) == 0 || read_blocks(file, 1, 1, 2, true) == -EAGAIN);
    cr_assert_eq(read_blocks(file, 1, 0, 1, true), -ENODATA);
    atd_cache_file_close(file);
    cr_assert(atd_cache_dir_close(dir));

    dir = open_dir(1u << 30);
    file = open_object(dir, URL, &info);
    cr_assert_eq(atd_cache_file_present_blocks(file), 3);
    cr_assert_eq(read_blocks(file, 1, 1, 2, false), 0);
    cr_assert_eq(write_blocks(file, 1, 0, 1), 0);
    cr_assert_eq(write_blocks(file, 1, 3, 3), 0);
    cr_assert(atd_cache_file_is_complete(file));
    cr_assert_eq(read_blocks(file, 1, 0, 6, false), 0);
    atd_cache_file_close(file);
    cr_assert(atd_cache_dir_close(dir));
    cr_assert_eq(stats.bad_blocks, 0);
    cr_assert(atd_cache_dir_close(NULL));
    atd_cache_file_close(NULL);
}

Test(cache_dir, a_version_has_one_handle_and_another_version_another_file)
{
    struct atd_cache_dir *dir = open_dir(1u << 30);
    const struct atd_object_info one = object_info(SIZE, "e1");
    struct atd_object_info other[4] = {object_info(SIZE, "e2"), object_info(SIZE + 1, "e1"),
                                       object_info(SIZE, "e1"), object_info(SIZE, "e1")};
    struct atd_cache_file *file = open_object(dir, URL, &one);
    struct atd_cache_file *again = open_object(dir, URL, &one);

    other[2].mtime_s = 77;
    cr_assert_eq(file, again);
    cr_assert_eq(write_blocks(file, 1, 0, 1), 0);
    for (int i = 0; i < 4; i++) {
        struct atd_str url = i == 3 ? ATD_STR("s3://bucket/b.tar") : URL;
        struct atd_cache_file *file2 = open_object(dir, url, &other[i]);

        cr_assert_neq(file2, file);
        cr_assert_eq(atd_cache_file_present_blocks(file2), 0);
        atd_cache_file_close(file2);
    }
    atd_cache_file_close(file);
    cr_assert_eq(read_blocks(again, 1, 0, 1, false), 0);
    atd_cache_file_close(again);
    cr_assert(atd_cache_dir_close(dir));
}

Test(cache_dir, an_empty_object_is_complete)
{
    struct atd_cache_dir *dir = open_dir(1u << 30);
    const struct atd_object_info info = object_info(0, "e");
    struct atd_cache_file *file = open_object(dir, URL, &info);

    cr_assert(atd_cache_file_is_complete(file));
    cr_assert_eq(
        atd_cache_file_verify(
            file, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", NULL),
        0);
    cr_assert(atd_cache_file_is_verified(file));
    atd_cache_file_close(file);
    cr_assert(atd_cache_dir_close(dir));
}

Test(cache_dir, verified_files_are_remembered_by_this_process_only)
{
    struct atd_cache_dir *dir = open_dir(1u << 30);
    const struct atd_object_info info = object_info(SIZE, "e1");
    struct atd_cache_file *file = open_object(dir, URL, &info);
    struct atd_error err = ATD_ERROR_INIT;
    char sha[65];
    uint8_t bytes[100];
    int fd = -1;

    sha_of_object(1, SIZE, sha);
    cr_assert_eq(atd_cache_file_verify(file, sha, &err), -ENODATA);
    cr_assert_eq(write_blocks(file, 1, 0, 6), 0);
    cr_assert(!atd_cache_file_is_verified(file));
    cr_assert_eq(atd_cache_file_verify(file, "short", NULL), -EINVAL);
    cr_assert_eq(atd_cache_file_verify(file, sha, &err), 0, "%s", err.text);
    cr_assert(atd_cache_file_is_verified(file));
    cr_assert_eq(atd_cache_file_dup(file, &fd, &err), 0, "%s", err.text);
    cr_assert_eq(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    cr_assert_eq(pread(fd, bytes, sizeof(bytes), BLOCK + 7), (ssize_t)sizeof(bytes));
    cr_assert(object_is(1, BLOCK + 7, bytes, sizeof(bytes)));
    (void)close(fd);
    atd_cache_file_close(file);

    file = open_object(dir, URL, &info);
    cr_assert(atd_cache_file_is_verified(file));
    cr_assert_eq(stats.verified_objects, 1);
    cr_assert_eq(atd_cache_file_verify(file, sha, &err), 0);
    cr_assert_eq(stats.verified_objects, 1);
    atd_cache_file_close(file);
    cr_assert(atd_cache_dir_close(dir));

    dir = open_dir(1u << 30);
    file = open_object(dir, URL, &info);
    cr_assert(atd_cache_file_is_complete(file));
    cr_assert(!atd_cache_file_is_verified(file));
    atd_cache_file_close(file);
    cr_assert(atd_cache_dir_close(dir));
}

Test(cache_dir, a_change_of_the_data_between_two_opens_ends_being_verified)
{
    struct atd_cache_dir *dir = open_dir(1u << 30);
    const struct atd_object_info info = object_info(SIZE, "e1");
    struct atd_cache_file *file = open_object(dir, URL, &info);
    char data[PATH_MAX];

    cr_assert_eq(write_blocks(file, 1, 0, 6), 0);
    cr_assert_eq(atd_cache_file_verify(file, NULL, NULL), 0);
    atd_cache_file_close(file);
    object_path(path, URL, &info, ".data", data);
    (void)usleep(20000); /* the clock of the file system ticks */
    flip_bit(data, 3 * BLOCK);
    file = open_object(dir, URL, &info);
    cr_assert(!atd_cache_file_is_verified(file));
    cr_assert_eq(atd_cache_file_verify(file, NULL, NULL), -ENODATA);
    cr_assert(!atd_cache_file_has(file, 3) && atd_cache_file_has(file, 2));
    cr_assert_eq(stats.bad_blocks, 1);
    atd_cache_file_close(file);
    cr_assert(atd_cache_dir_close(dir));
}

Test(cache_dir, an_object_without_its_sha256_is_thrown_away)
{
    struct atd_cache_dir *dir = open_dir(1u << 30);
    const struct atd_object_info info = object_info(SIZE, "e1");
    struct atd_cache_file *file = open_object(dir, URL, &info);
    struct atd_cache_file *next;
    struct atd_error err = ATD_ERROR_INIT;
    char data[PATH_MAX];
    char map[PATH_MAX];
    char sha[65];
    int fd;

    sha_of_object(2, SIZE, sha);
    object_path(path, URL, &info, ".data", data);
    object_path(path, URL, &info, ".map", map);
    cr_assert_eq(write_blocks(file, 1, 0, 6), 0);
    cr_assert_eq(atd_cache_file_verify(file, NULL, &err), 0);
    cr_assert_eq(atd_cache_file_verify(file, sha, &err), -EBADMSG);
    cr_assert(!atd_cache_file_is_verified(file) && !atd_cache_file_is_complete(file));
    cr_assert_eq(read_blocks(file, 1, 0, 1, false), -ENODATA);
    cr_assert_eq(write_blocks(file, 1, 0, 1), -EIO);
    cr_assert_eq(atd_cache_file_dup(file, &fd, &err), -ENODATA);
    cr_assert_eq(access(data, F_OK), -1);
    cr_assert_eq(access(map, F_OK), -1);
    cr_assert_eq(stats.mismatched_objects, 1);
    /* An open from now on is of a new file. */
    next = open_object(dir, URL, &info);
    cr_assert_neq(next, file);
    atd_cache_file_close(file);
    cr_assert_eq(write_blocks(next, 1, 0, 1), 0);
    cr_assert_eq(read_blocks(next, 1, 0, 1, false), 0);
    atd_cache_file_close(next);
    cr_assert(atd_cache_dir_close(dir));
}

/* ------------------------------------------------------------------ damage */

/* A complete object, closed. */
static void put_object(struct atd_cache_dir *dir, unsigned object, struct atd_str url,
                       const struct atd_object_info *info)
{
    struct atd_cache_file *file = open_object(dir, url, info);

    cr_assert_eq(write_blocks(file, object, 0, (size_t)file->map.block_count), 0);
    atd_cache_file_close(file);
}

Test(cache_dir, a_flipped_bit_anywhere_costs_a_refetch_and_nothing_else)
{
    struct atd_cache_dir *dir = open_dir(1u << 30);
    const struct atd_object_info info = object_info(SIZE, "e1");
    char data[PATH_MAX];
    char map[PATH_MAX];
    struct {
        const char *path;
        off_t offset;
        uint64_t present; /* blocks, after the open */
        int rc;           /* of reading block 2 */
    } cases[] = {
        {data, 2 * BLOCK, 6, -ENODATA},
        {data, 3 * BLOCK - 1, 6, -ENODATA},
        {map, ATD_MAP_HEADER_BYTES + 16, 5, -ENODATA},
        {map, ATD_MAP_HEADER_BYTES + 20, 5, -ENODATA},
        {map, 0, 0, -ENODATA},
        {map, 17, 0, -ENODATA},
        {map, 4095, 0, -ENODATA},
        {map, 4000, 0, -ENODATA},
        {data, SIZE - 1, 6, 0},
    };

    object_path(path, URL, &info, ".data", data);
    object_path(path, URL, &info, ".map", map);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct atd_cache_file *file;

        put_object(dir, 1, URL, &info);
        flip_bit(cases[i].path, cases[i].offset);
        file = open_object(dir, URL, &info);
        cr_expect_eq(atd_cache_file_present_blocks(file), cases[i].present, "case %zu", i);
        cr_expect_eq(read_blocks(file, 1, 2, 1, false), cases[i].rc, "case %zu", i);
        cr_expect_eq(atd_cache_file_has(file, 2), cases[i].rc == 0, "case %zu", i);
        if (cases[i].offset == (off_t)SIZE - 1)
            cr_expect_eq(read_blocks(file, 1, 5, 1, false), -ENODATA);
        cr_assert_eq(write_blocks(file, 1, 0, 6), 0);
        cr_assert_eq(read_blocks(file, 1, 0, 6, false), 0);
        atd_cache_file_close(file);
    }
    cr_assert_eq(stats.bad_blocks, 3);
    cr_assert(atd_cache_dir_close(dir));
}

Test(cache_dir, files_of_another_length_are_replaced)
{
    struct atd_cache_dir *dir = open_dir(1u << 30);
    const struct atd_object_info info = object_info(SIZE, "e1");
    char data[PATH_MAX];
    char map[PATH_MAX];

    object_path(path, URL, &info, ".data", data);
    object_path(path, URL, &info, ".map", map);
    for (int i = 0; i < 8; i++) {
        struct atd_cache_file *file;

        put_object(dir, 1, URL, &info);
        switch (i) {
        case 0:
            cr_assert_eq(truncate(data, BLOCK), 0);
            break;
        case 1:
            cr_assert_eq(truncate(data, SIZE + 1), 0);
            break;
        case 2:
            cr_assert_eq(truncate(data, 0), 0);
            break;
        case 3:
            cr_assert_eq(truncate(map, ATD_MAP_HEADER_BYTES), 0);
            break;
        case 4:
            cr_assert_eq(truncate(map, 100), 0);
            break;
        case 5:
            cr_assert_eq(unlink(map), 0);
            break;
        case 6:
            cr_assert_eq(unlink(data), 0);
            break;
        default:
            cr_assert_eq(unlink(map), 0);
            cr_assert_eq(symlink("/etc/passwd", map), 0);
            break;
        }
        file = open_object(dir, URL, &info);
        cr_assert_eq(atd_cache_file_present_blocks(file), 0, "case %d", i);
        cr_assert_eq(write_blocks(file, 1, 0, 6), 0);
        cr_assert_eq(read_blocks(file, 1, 0, 6, false), 0);
        atd_cache_file_close(file);
    }
    cr_assert(atd_cache_dir_close(dir));
}

Test(cache_dir, a_file_cut_short_while_open_is_no_crash)
{
    struct atd_cache_dir *dir = open_dir(1u << 30);
    const struct atd_object_info info = object_info(SIZE, "e1");
    struct atd_cache_file *file = open_object(dir, URL, &info);
    char data[PATH_MAX];
    char map[PATH_MAX];

    object_path(path, URL, &info, ".data", data);
    object_path(path, URL, &info, ".map", map);
    cr_assert_eq(write_blocks(file, 1, 0, 6), 0);
    cr_assert_eq(truncate(data, 2 * BLOCK), 0);
    cr_assert_eq(read_blocks(file, 1, 0, 2, false), 0);
    cr_assert_eq(read_blocks(file, 1, 0, 3, false), -ENODATA);
    cr_assert(atd_cache_file_has(file, 1) && !atd_cache_file_has(file, 2));
    cr_assert_eq(truncate(map, 10), 0);
    cr_assert_eq(read_blocks(file, 1, 0, 1, false), -EIO);
    atd_cache_file_close(file);
    cr_assert(atd_cache_dir_close(dir));
}

Test(cache_dir, marks_without_data_as_after_a_power_cut_are_found)
{
    struct atd_cache_dir *dir = open_dir(1u << 30);
    const struct atd_object_info info = object_info(SIZE, "e1");
    struct atd_cache_file *file;
    char data[PATH_MAX];
    int fd;

    object_path(path, URL, &info, ".data", data);
    put_object(dir, 1, URL, &info);
    /* The map reached the disk, the data did not: a hole of the right length. */
    fd = open(data, O_WRONLY | O_TRUNC | O_CLOEXEC);
    cr_assert_eq(ftruncate(fd, SIZE), 0);
    (void)close(fd);
    file = open_object(dir, URL, &info);
    cr_assert_eq(atd_cache_file_present_blocks(file), 6);
    cr_assert_eq(atd_cache_file_verify(file, NULL, NULL), -ENODATA);
    cr_assert_eq(atd_cache_file_present_blocks(file), 0);
    cr_assert_eq(stats.bad_blocks, 6);
    atd_cache_file_close(file);
    cr_assert(atd_cache_dir_close(dir));
}

/* ------------------------------------------------------------------ room */

static struct atd_str numbered_url(unsigned object, char text[64])
{
    (void)snprintf(text, 64, "s3://bucket/%u.tar", object);
    return atd_str_from(text);
}

/* A complete object of `blocks` blocks, last used `age_s` ago. */
static void put_aged(struct atd_cache_dir *dir, unsigned object, size_t blocks, time_t age_s)
{
    const struct atd_object_info info = object_info(blocks * BLOCK, "e");
    char text[64];
    struct atd_str url = numbered_url(object, text);
    char map[PATH_MAX];

    put_object(dir, object, url, &info);
    object_path(path, url, &info, ".map", map);
    set_age(map, age_s);
}

static bool exists(unsigned object, size_t blocks)
{
    const struct atd_object_info info = object_info(blocks * BLOCK, "e");
    char text[64];
    struct atd_str url = numbered_url(object, text);
    char data[PATH_MAX];
    char map[PATH_MAX];

    object_path(path, url, &info, ".data", data);
    object_path(path, url, &info, ".map", map);
    cr_assert_eq(access(data, F_OK), access(map, F_OK));
    return access(data, F_OK) == 0;
}

static bool pending(struct atd_cache_dir *dir, uint64_t least)
{
    for (int i = 0; i < 2000; i++) {
        if (atd_cache_dir_used_bytes(dir) >= least)
            return false;
        (void)usleep(10000);
    }
    return true;
}

static bool is_gone_soon(unsigned object, size_t blocks)
{
    for (int i = 0; i < 2000; i++) {
        if (!exists(object, blocks))
            return true;
        (void)usleep(10000);
    }
    return false;
}

Test(cache_dir, the_limit_evicts_the_longest_unused_first)
{
    /* 40 blocks; each object takes 10 and its map. */
    struct atd_cache_dir *dir = open_dir(40 * BLOCK);
    const struct atd_object_info info = object_info(10 * BLOCK, "e");
    struct atd_cache_file *file;
    char text[64];

    put_aged(dir, 1, 10, 3000);
    put_aged(dir, 2, 10, 5000);
    put_aged(dir, 3, 10, 4000);
    file = open_object(dir, numbered_url(4, text), &info);
    cr_assert_eq(write_blocks(file, 4, 0, 10), 0);
    cr_assert(is_gone_soon(2, 10)); /* by the write or by the thread, which keeps some room */
    cr_assert(exists(1, 10));
    cr_assert_eq(read_blocks(file, 4, 0, 10, false), 0);
    cr_assert_leq(atd_cache_dir_used_bytes(dir), 40 * BLOCK);
    atd_cache_file_close(file);
    put_aged(dir, 5, 10, 10);
    cr_assert(is_gone_soon(3, 10));
    cr_assert(exists(1, 10) && exists(4, 10) && exists(5, 10));
    cr_assert_eq(stats.evicted_files, 2);
    cr_assert_geq(stats.evicted_bytes, 20 * BLOCK);
    cr_assert(atd_cache_dir_close(dir));
}

Test(cache_dir, files_in_use_are_never_evicted)
{
    struct atd_cache_dir *dir = open_dir(16 * BLOCK);
    struct atd_cache_dir *other = open_dir(16 * BLOCK);
    const struct atd_object_info info = object_info(20 * BLOCK, "e");
    struct atd_cache_file *mine = open_object(dir, ATD_STR("s3://b/mine"), &info);
    struct atd_cache_file *theirs = open_object(other, ATD_STR("s3://b/theirs"), &info);
    size_t written = 0;
    int rc = 0;

    cr_assert_eq(write_blocks(theirs, 2, 0, 4), 0);
    cr_assert_eq(write_blocks(mine, 1, written++, 1), 0);
    /* The first write makes it look what lies there. */
    cr_assert(!pending(dir, 5 * BLOCK));
    while (rc == 0 && written < 20) {
        rc = write_blocks(mine, 1, written, 1);
        written += rc == 0;
    }
    cr_assert_eq(rc, -EFBIG);
    cr_assert_geq(stats.write_failures, 1);
    cr_assert(written >= 8 && written < 13, "%zu", written);
    cr_assert(!atd_cache_file_has(mine, written));
    cr_assert_eq(read_blocks(mine, 1, 0, written, false), 0);
    cr_assert_eq(read_blocks(theirs, 2, 0, 4, false), 0);
    cr_assert_eq(stats.evicted_files, 0);
    /* Once nobody uses it, it makes room. */
    atd_cache_file_close(theirs);
    for (int i = 0; i < 2000 && rc; i++) {
        rc = write_blocks(mine, 1, written, 1);
        (void)usleep(10000);
    }
    cr_assert_eq(rc, 0);
    cr_assert_eq(stats.evicted_files, 1);
    cr_assert_eq(read_blocks(mine, 1, 0, written + 1, false), 0);
    atd_cache_file_close(mine);
    cr_assert(atd_cache_dir_close(dir));
    cr_assert(atd_cache_dir_close(other));
}

static uint64_t fake_free(struct atd_cache_dir *dir)
{
    return dir->fake_free_bytes;
}

Test(cache_dir, the_floor_of_the_file_system_evicts_and_then_refuses)
{
    struct atd_cache_dir *dir = open_dir(1u << 30);
    const struct atd_object_info info = object_info(10 * BLOCK, "e");
    struct atd_cache_file *file;
    struct atd_error err = ATD_ERROR_INIT;
    uint8_t *bytes = calloc(1, BLOCK);

    put_aged(dir, 1, 4, 4000);
    put_aged(dir, 2, 4, 5000);
    file = open_object(dir, URL, &info);
    dir->free_bytes = fake_free;
    dir->free_floor_bytes = 100u << 20;
    dir->fake_free_bytes = (100u << 20) + BLOCK;
    cr_assert_eq(write_blocks(file, 1, 0, 1), 0);
    cr_assert(exists(1, 4) && exists(2, 4));
    dir->fake_free_bytes = 100u << 20;
    cr_assert_eq(write_blocks(file, 1, 1, 1), 0);
    cr_assert(exists(1, 4) && !exists(2, 4));
    /* What was evicted beyond that is used up before more goes. */
    cr_assert_eq(write_blocks(file, 1, 2, 3), 0);
    cr_assert(exists(1, 4));
    cr_assert_eq(write_blocks(file, 1, 5, 2), 0);
    cr_assert(!exists(1, 4));
    cr_assert_eq(write_blocks(file, 1, 7, 2), 0);
    cr_assert_eq(atd_cache_file_write(file, 9, bytes, BLOCK, &err), -ENOSPC);
    cr_assert(strstr(err.text, "104857600"), "%s", err.text);
    cr_assert(!atd_cache_file_has(file, 9));
    cr_assert_eq(read_blocks(file, 1, 0, 9, false), 0);
    free(bytes);
    atd_cache_file_close(file);
    cr_assert(atd_cache_dir_close(dir));
}

Test(cache_dir, what_lies_there_is_counted_and_leftovers_go)
{
    struct atd_cache_dir *dir = open_dir(1u << 30);
    const struct atd_object_info info = object_info(3 * BLOCK, "e");
    char orphan_map[PATH_MAX];
    char orphan_data[PATH_MAX];
    char young_data[PATH_MAX];
    char other[PATH_MAX];
    char gone[PATH_MAX];
    int fd;

    put_aged(dir, 1, 10, 100);
    for (unsigned i = 2; i <= 4; i++) {
        char text[64];

        put_object(dir, i, numbered_url(i, text), &info);
        object_path(path, numbered_url(i, text), &info, i == 2 ? ".map" : ".data",
                    i == 2   ? orphan_map
                    : i == 3 ? orphan_data
                             : young_data);
        object_path(path, numbered_url(i, text), &info, i == 2 ? ".data" : ".map", gone);
        cr_assert_eq(unlink(gone), 0);
    }
    set_age(orphan_map, 100);
    set_age(orphan_data, 100);
    /* Not ours: stays. */
    memcpy(other, orphan_data, sizeof(other));
    other[strlen(other) - strlen("data")] = '\0';
    (void)strcat(other, "txt");
    fd = open(other, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    cr_assert_geq(fd, 0);
    (void)close(fd);
    set_age(other, 100);
    cr_assert(atd_cache_dir_close(dir));

    dir = open_dir(1u << 30);
    cr_assert(!pending(dir, 13 * BLOCK));
    for (int i = 0; i < 500 && (access(orphan_map, F_OK) == 0 || access(orphan_data, F_OK) == 0);
         i++)
        (void)usleep(10000);
    cr_assert_eq(access(orphan_map, F_OK), -1);
    cr_assert_eq(access(orphan_data, F_OK), -1);
    cr_assert_eq(access(young_data, F_OK), 0);
    cr_assert_eq(access(other, F_OK), 0);
    cr_assert(exists(1, 10));
    cr_assert_leq(atd_cache_dir_used_bytes(dir), 14 * BLOCK);
    cr_assert(atd_cache_dir_close(dir));
}

/* ------------------------------------------------------------------ directories */

static int try_open(const char *where, struct atd_error *err)
{
    const struct atd_cache_dir_options options = {
        .path = where, .size_max_bytes = 1u << 30, .stats = &stats};
    struct atd_cache_dir *dir = NULL;
    int rc = atd_cache_dir_open(&options, &dir, err);

    if (rc == 0)
        cr_assert(atd_cache_dir_close(dir));
    else
        cr_assert(err->code == -rc && strlen(err->text) > 20);
    return rc;
}

Test(cache_dir, is_made_private_with_what_is_missing_above_it)
{
    struct atd_error err = ATD_ERROR_INIT;
    char deep[PATH_MAX + 16];
    struct stat st;

    (void)snprintf(deep, sizeof(deep), "%s/x/y/z", path);
    cr_assert_eq(try_open(deep, &err), 0, "%s", err.text);
    cr_assert_eq(stat(deep, &st), 0);
    cr_assert_eq(st.st_mode & 07777, 0700);
    (void)strcat(deep, "/v1");
    cr_assert_eq(stat(deep, &st), 0);
    cr_assert_eq(st.st_mode & 07777, 0700);
    cr_assert_eq(chmod(deep, 0755), 0);
    cr_assert_eq(try_open(path, &err), 0);
}

Test(cache_dir, says_what_is_wrong_with_a_directory)
{
    struct atd_error err = ATD_ERROR_INIT;
    char name[PATH_MAX + 8];
    int fd;

    cr_assert_eq(try_open("relative", &err), -EINVAL);
    (void)snprintf(name, sizeof(name), "%s/file", path);
    fd = open(name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    (void)close(fd);
    cr_assert_eq(try_open(name, &err), -ENOTDIR);
    cr_assert(strstr(err.text, "not a directory"));
    (void)strcat(name, "/below");
    cr_assert_eq(try_open(name, &err), -ENOTDIR);
    (void)memset(name, 'x', sizeof(name));
    name[0] = '/';
    name[sizeof(name) - 1] = '\0';
    cr_assert_eq(try_open(name, &err), -ENAMETOOLONG);
    (void)snprintf(name, sizeof(name), "%s/open", path);
    cr_assert_eq(mkdir(name, 0700), 0);
    cr_assert_eq(chmod(name, 0777), 0);
    cr_assert_eq(try_open(name, &err), -EACCES);
    cr_assert(strstr(err.text, "chmod go-w"));
    if (geteuid() == 0) {
        cr_assert_eq(chmod(name, 0700), 0);
        cr_assert_eq(chown(name, 12345, 12345), 0);
        cr_assert_eq(try_open(name, &err), -EACCES);
        cr_assert(strstr(err.text, "somebody else"));
    }
}

/* ------------------------------------------------------------------ a tiny disk, for root */

/* Mounts a tmpfs over the test's directory, seen by this process only. */
static bool mount_tiny(const char *options)
{
    if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0)
        return false;
    cr_assert_eq(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    cr_assert_eq(mount("tmpfs", path, "tmpfs", 0, options), 0);
    return true;
}

Test(cache_dir, a_full_disk_evicts_then_refuses_and_marks_nothing)
{
    struct atd_cache_dir *dir;
    const struct atd_object_info info = object_info(64 * BLOCK, "e");
    struct atd_cache_file *file;
    size_t written = 0;
    int rc = 0;

    if (!mount_tiny("size=2m,mode=700")) {
        cr_assert_neq(geteuid(), 0, "root without mounts cannot test a full disk");
        return;
    }
    dir = open_dir(1u << 30);
    put_aged(dir, 1, 8, 5000);
    put_aged(dir, 2, 8, 4000);
    file = open_object(dir, URL, &info);
    while (rc == 0 && written < 64) {
        rc = write_blocks(file, 1, written, 1);
        written += rc == 0;
    }
    cr_assert_eq(rc, -ENOSPC);
    cr_assert(!exists(1, 8) && !exists(2, 8));
    cr_assert(written > 20 && written < 32, "%zu", written);
    cr_assert(!atd_cache_file_has(file, written));
    cr_assert_eq(atd_cache_file_present_blocks(file), written);
    cr_assert_eq(read_blocks(file, 1, 0, written, false), 0);
    cr_assert_eq(stats.write_failures, 1);
    atd_cache_file_close(file);
    cr_assert(atd_cache_dir_close(dir));
}

Test(cache_dir, a_read_only_disk_is_said_so)
{
    struct atd_error err = ATD_ERROR_INIT;
    char name[PATH_MAX + 8];

    if (!mount_tiny("size=1m,mode=700"))
        return;
    cr_assert_eq(try_open(path, &err), 0);
    cr_assert_eq(mount("tmpfs", path, "tmpfs", MS_REMOUNT | MS_RDONLY, NULL), 0);
    cr_assert_eq(try_open(path, &err), -EROFS);
    cr_assert(strstr(err.text, "read-only"));
    (void)snprintf(name, sizeof(name), "%s/new", path);
    cr_assert_eq(try_open(name, &err), -EROFS);
}

/* ------------------------------------------------------------------ other processes */

/* Writes blocks and reports each over the pipe, until it is killed. */
static void write_until_killed(int report)
{
    struct atd_cache_dir *dir = open_dir(1u << 30);
    const struct atd_object_info info = object_info(1024 * BLOCK, "e");
    struct atd_cache_file *file = open_object(dir, URL, &info);

    for (uint32_t i = 0; i < 1024; i++) {
        uint32_t block = i * 389 % 1024;

        if (write_blocks(file, 1, block, 1) != 0 ||
            write(report, &block, sizeof(block)) != sizeof(block))
            _exit(1);
    }
    pause();
}

Test(cache_dir, a_killed_writer_leaves_all_that_it_reported)
{
    const struct atd_object_info info = object_info(1024 * BLOCK, "e");
    struct atd_cache_dir *dir;
    struct atd_cache_file *file;
    uint32_t reported[1024];
    size_t count = 0;
    int pipes[2];
    pid_t child;

    cr_assert_eq(pipe(pipes), 0);
    child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        write_until_killed(pipes[1]);
        _exit(1);
    }
    (void)close(pipes[1]);
    while (count < 300) {
        cr_assert_eq(read(pipes[0], &reported[count], sizeof(uint32_t)), 4);
        count++;
    }
    cr_assert_eq(kill(child, SIGKILL), 0);
    while (count < 1024 && read(pipes[0], &reported[count], sizeof(uint32_t)) == 4)
        count++;
    (void)close(pipes[0]);
    cr_assert_eq(waitpid(child, NULL, 0), child);

    dir = open_dir(1u << 30);
    file = open_object(dir, URL, &info);
    for (size_t i = 0; i < count; i++)
        cr_assert_eq(read_blocks(file, 1, reported[i], 1, false), 0);
    for (uint64_t block = 0; block < 1024; block++) {
        if (atd_cache_file_has(file, block))
            cr_assert_eq(read_blocks(file, 1, block, 1, false), 0);
    }
    cr_assert_eq(stats.bad_blocks, 0);
    atd_cache_file_close(file);
    cr_assert(atd_cache_dir_close(dir));
}

Test(cache_dir, what_another_process_fetched_is_seen)
{
    struct atd_cache_dir *dir = open_dir(1u << 30);
    struct atd_cache_dir *other = open_dir(1u << 30);
    const struct atd_object_info info = object_info(SIZE, "e1");
    struct atd_cache_file *file = open_object(dir, URL, &info);
    struct atd_cache_file *theirs = open_object(other, URL, &info);

    cr_assert_eq(write_blocks(theirs, 1, 0, 5), 0);
    cr_assert_eq(read_blocks(file, 1, 2, 1, false), 0); /* reading asks the file */
    cr_assert(atd_cache_file_has(file, 2));
    cr_assert_eq(write_blocks(file, 1, 5, 1), 0); /* fetching looks what there is */
    cr_assert(atd_cache_file_is_complete(file));
    cr_assert(!atd_cache_file_is_complete(theirs));
    cr_assert_eq(atd_cache_file_verify(theirs, NULL, NULL), 0); /* so does checking */
    atd_cache_file_close(file);
    atd_cache_file_close(theirs);
    cr_assert(atd_cache_dir_close(dir));
    cr_assert(atd_cache_dir_close(other));
}

#define SHARED_OBJECTS 12u
#define SHARED_BLOCKS 8u

/* Reads and writes at random in a directory too small for all, with damage from outside. */
static void use_at_random(unsigned seed)
{
    struct atd_cache_dir *dir = open_dir(48 * BLOCK);
    const struct atd_object_info info = object_info(SHARED_BLOCKS * BLOCK - 99, "e");
    int64_t until_ms = atd_clock_monotonic_ms() + 1500;
    unsigned rounds = 0;

    while (atd_clock_monotonic_ms() < until_ms) {
        unsigned object = (unsigned)rand_r(&seed) % SHARED_OBJECTS;
        char text[64];
        struct atd_str url = numbered_url(object, text);
        struct atd_cache_file *file = NULL;
        struct atd_error err = ATD_ERROR_INIT;
        int rc = atd_cache_file_open(dir, url, &info, &file, &err);

        cr_assert(rc == 0 || rc == -EBUSY, "%s", err.text);
        if (rc)
            continue;
        for (unsigned i = 0; i < 6; i++) {
            uint64_t block = (uint64_t)rand_r(&seed) % SHARED_BLOCKS;

            rc = read_blocks(file, object, block, 1, false);
            cr_assert(rc == 0 || rc == -ENODATA);
            if (rc == -ENODATA) {
                rc = write_blocks(file, object, block, 1);
                cr_assert(rc == 0 || rc == -EFBIG);
            }
        }
        if (atd_cache_file_is_complete(file)) {
            rc = atd_cache_file_verify(file, NULL, NULL);
            cr_assert(rc == 0 || rc == -ENODATA);
        }
        atd_cache_file_close(file);
        rounds++;
    }
    cr_assert_gt(rounds, 20);
    cr_assert_eq(stats.bad_blocks, 0);
    cr_assert(atd_cache_dir_close(dir));
}

Test(cache_dir, processes_share_it_while_it_evicts)
{
    struct atd_cache_dir *dir;
    pid_t children[3];

    for (unsigned i = 0; i < 3; i++) {
        children[i] = fork();
        cr_assert_geq(children[i], 0);
        if (children[i] == 0) {
            use_at_random(i + 1);
            _exit(stats.evicted_files > 0 ? 0 : 3);
        }
    }
    for (unsigned i = 0; i < 3; i++) {
        int status = -1;

        cr_assert_eq(waitpid(children[i], &status, 0), children[i]);
        cr_assert(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 3), "%x",
                  (unsigned)status);
    }
    dir = open_dir(48 * BLOCK);
    cr_assert(!pending(dir, 1));
    cr_assert_leq(atd_cache_dir_used_bytes(dir), 60 * BLOCK);
    cr_assert(atd_cache_dir_close(dir));
}

/* ------------------------------------------------------------------ ending a verification */

struct verification {
    struct atd_cache_file *file;
    atomic_int rc;
};

static void *verify_again_and_again(void *ctx)
{
    struct verification *verification = ctx;
    int rc = 0;

    /* Until it is told to stop: being verified is undone, so that each has work to do. */
    while (rc == 0) {
        rc = atd_cache_file_verify(verification->file, NULL, NULL);
        atomic_store(&verification->file->verified, false);
    }
    atomic_store(&verification->rc, rc);
    return NULL;
}

Test(cache_dir, a_verification_ends_with_the_directory_or_its_last_other_user)
{
    for (int by_close = 0; by_close < 2; by_close++) {
        struct atd_cache_dir *dir = open_dir(1u << 30);
        const struct atd_object_info info = object_info(400 * BLOCK, "e");
        struct verification verification = {.file = open_object(dir, URL, &info)};
        struct atd_cache_file *user = open_object(dir, URL, &info);
        pthread_t thread;

        cr_assert_eq(write_blocks(user, 1, 0, 400), 0);
        cr_assert_eq(pthread_create(&thread, NULL, verify_again_and_again, &verification), 0);
        while (atomic_load(&stats.verified_objects) < 2)
            (void)usleep(1000);
        if (by_close) {
            bool verifying = false;

            while (!verifying) {
                atd_lock_take(&dir->lock);
                verifying = user->verifiers > 0;
                atd_lock_give(&dir->lock);
            }
            atd_cache_file_close(user);
            /* It may have ended just before, and goes on alone then: that is fine too. */
            for (int i = 0; i < 200 && atomic_load(&verification.rc) == 0; i++)
                (void)usleep(1000);
        }
        atd_cache_dir_interrupt(dir);
        cr_assert_eq(pthread_join(thread, NULL), 0);
        cr_assert_eq(atomic_load(&verification.rc), -ECANCELED);
        if (!by_close)
            atd_cache_file_close(user);
        atd_cache_file_close(verification.file);
        cr_assert(atd_cache_dir_close(dir));
    }
}

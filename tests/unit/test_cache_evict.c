#include "cache_files.h"

TestSuite(cache_evict, .init = setup, .fini = teardown);

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

static bool is_gone_soon(unsigned object, size_t blocks)
{
    for (int i = 0; i < 2000; i++) {
        if (!exists(object, blocks))
            return true;
        (void)usleep(10000);
    }
    return false;
}

Test(cache_evict, the_limit_evicts_the_longest_unused_first)
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
    /* It is counted just behind the removal. */
    for (int i = 0; i < 2000 && atd_cache_dir_used_bytes(dir) > 40 * BLOCK; i++)
        (void)usleep(10000);
    cr_assert_leq(atd_cache_dir_used_bytes(dir), 40 * BLOCK);
    atd_cache_file_close(file);
    put_aged(dir, 5, 10, 10);
    cr_assert(is_gone_soon(3, 10));
    cr_assert(exists(1, 10) && exists(4, 10) && exists(5, 10));
    for (int i = 0; i < 2000 && atomic_load(&stats.evicted_bytes) < 20 * BLOCK; i++)
        (void)usleep(10000);
    cr_assert_eq(stats.evicted_files, 2);
    cr_assert_geq(stats.evicted_bytes, 20 * BLOCK);
    cr_assert(atd_cache_dir_close(dir));
}

Test(cache_evict, files_in_use_are_never_evicted)
{
    struct atd_cache_dir *dir = open_dir(16 * BLOCK);
    struct atd_cache_dir *other = open_dir(16 * BLOCK);
    const struct atd_object_info info = object_info(20 * BLOCK, "e");
    struct atd_cache_file *mine = open_object(dir, ATD_STR("s3://b/mine"), &info);
    struct atd_cache_file *theirs = open_object(other, ATD_STR("s3://b/theirs"), &info);
    size_t written = 0;
    int rc = 0;

    cr_assert_eq(write_blocks(theirs, 2, 0, 4), 0);
    /* Made by one open, used by a second. */
    atd_cache_file_close(theirs);
    theirs = open_object(other, ATD_STR("s3://b/theirs"), &info);
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

Test(cache_evict, the_floor_of_the_file_system_evicts_and_then_refuses)
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

Test(cache_evict, what_lies_there_is_counted_and_leftovers_go)
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

/* ------------------------------------------------------------------ a tiny disk, for root */

Test(cache_evict, a_full_disk_evicts_then_refuses_and_marks_nothing)
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

#include "cache_files.h"

TestSuite(cache_dir, .init = setup, .fini = teardown);

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

Test(cache_dir, made_late_it_is_made_by_the_first_file)
{
    const struct atd_object_info info = object_info(SIZE, "e1");
    char below[PATH_MAX + 8];
    struct atd_cache_dir_options options = {
        .path = below, .size_max_bytes = 1u << 30, .stats = &stats, .make_late = true};
    struct atd_cache_dir *dir = NULL;
    struct atd_cache_file *file;

    (void)snprintf(below, sizeof(below), "%s/a/b", path);
    cr_assert_eq(atd_cache_dir_open(&options, &dir, NULL), 0);
    cr_assert_neq(access(below, F_OK), 0);
    cr_assert(atd_cache_dir_close(dir));
    cr_assert_eq(atd_cache_dir_open(&options, &dir, NULL), 0);
    file = open_object(dir, URL, &info);
    cr_assert_eq(write_blocks(file, 1, 0, 1), 0);
    cr_assert_eq(access(below, F_OK), 0);
    atd_cache_file_close(file);
    cr_assert(atd_cache_dir_close(dir));
    options.path = "/proc/nonexistent";
    cr_assert_eq(atd_cache_dir_open(&options, &dir, NULL), 0);
    cr_assert_neq(atd_cache_file_open(dir, URL, &info, &file, NULL), 0);
    cr_assert(atd_cache_dir_close(dir));
}

Test(cache_dir, a_version_has_one_handle_and_another_version_another_file)
{
    struct atd_cache_dir *dir = open_dir(1u << 30);
    const struct atd_object_info one = object_info(SIZE, "e1");
    struct atd_object_info other[4] = {object_info(SIZE, "e2"), object_info(SIZE + 1, "e1"),
                                       object_info(SIZE, ""), object_info(SIZE, "e1")};
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

Test(cache_dir, what_cannot_be_told_apart_or_is_too_large_is_not_kept)
{
    struct atd_cache_dir *dir = open_dir(1u << 30);
    struct atd_object_info info = object_info(SIZE, "");
    struct atd_cache_file *file = NULL;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_cache_file_open(dir, URL, &info, &file, &err), -ENOTSUP);
    cr_assert_eq(err.code, ENOTSUP);
    info.mtime_s = 5;
    file = open_object(dir, URL, &info);
    atd_cache_file_close(file);
    info = object_info(UINT64_MAX, "e");
    cr_assert_eq(atd_cache_file_open(dir, URL, &info, &file, &err), -EFBIG);
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
    struct timespec times[2];
    struct stat st;
    char data[PATH_MAX];

    cr_assert_eq(write_blocks(file, 1, 0, 6), 0);
    cr_assert_eq(atd_cache_file_verify(file, NULL, NULL), 0);
    atd_cache_file_close(file);
    object_path(path, URL, &info, ".data", data);
    (void)usleep(20000); /* the clock of the file system ticks */
    cr_assert_eq(stat(data, &st), 0);
    flip_bit(data, 3 * BLOCK);
    /* As if it were the old one, but for the time that nobody can set. */
    times[0] = st.st_atim;
    times[1] = st.st_mtim;
    cr_assert_eq(utimensat(AT_FDCWD, data, times, 0), 0);
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

Test(cache_dir, who_reads_a_replaced_file_keeps_its_bytes)
{
    struct atd_cache_dir *dir = open_dir(1u << 30);
    const struct atd_object_info info = object_info(SIZE, "e1");
    struct atd_cache_file *file = open_object(dir, URL, &info);
    struct stat st;
    char map[PATH_MAX];
    uint8_t *bytes = malloc(SIZE);
    int fd = -1;

    object_path(path, URL, &info, ".map", map);
    cr_assert_eq(write_blocks(file, 1, 0, 6), 0);
    cr_assert_eq(atd_cache_file_dup(file, &fd, NULL), 0);
    atd_cache_file_close(file);
    flip_bit(map, 50);
    file = open_object(dir, URL, &info);
    cr_assert_eq(atd_cache_file_present_blocks(file), 0);
    cr_assert_eq(pread(fd, bytes, SIZE, 0), (ssize_t)SIZE);
    cr_assert(object_is(1, 0, bytes, SIZE));
    cr_assert_eq(fstat(fd, &st), 0);
    cr_assert_neq(st.st_ino, file->inode);
    cr_assert_eq(st.st_nlink, 0);
    (void)close(fd);
    free(bytes);
    atd_cache_file_close(file);
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

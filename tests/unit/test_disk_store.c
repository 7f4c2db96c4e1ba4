#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/stores.h"
#include "support/one_get.h"

#define SIZE ((size_t)3 * 1024 * 1024 + 17)

static char dir[64];
static char path[128];
static struct atd_file_store *files;
static struct atd_store *store;

static uint8_t byte_at(size_t at)
{
    return (uint8_t)(at * 31 + (at >> 8));
}

static void write_file(const char *name, size_t size)
{
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    file = fopen(path, "w");
    cr_assert_not_null(file);
    for (size_t i = 0; i < size; i++)
        (void)fputc(byte_at(i), file);
    (void)fclose(file);
}

static void setup(void)
{
    struct atd_error err = ATD_ERROR_INIT;
    const char *roots[] = {dir};

    (void)strcpy(dir, "/tmp/atd-disk-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    cr_assert_eq(atd_file_store_new(roots, 1, &files, &err), 0, "%s", err.text);
    cr_assert_eq(atd_store_file_new(files, &store, &err), 0, "%s", err.text);
    write_file("a b.tar", SIZE);
}

static void teardown(void)
{
    char command[128];

    atd_store_free(store);
    atd_file_store_free(files);
    (void)snprintf(command, sizeof(command), "rm -rf %s", dir);
    cr_assert_eq(system(command), 0);
}

static struct one_get *read_of(const char *url, uint64_t first, uint64_t end,
                               const struct atd_object_info *expect)
{
    struct one_get *one = one_get_start(store, url, first, end, expect, 10000);

    cr_assert(one_get_wait_done(one));
    cr_assert_eq(one->done_count, 1);
    cr_assert_not(one->went_back);
    return one;
}

static void check_bytes(const struct one_get *one)
{
    for (size_t i = 0; i < one->get.end - one->get.first; i++)
        if (one->get.into[i] != byte_at(one->get.first + i))
            cr_assert_fail("byte %zu is wrong", i);
}

TestSuite(disk_store, .init = setup, .fini = teardown);

Test(disk_store, reads_ranges_by_path_and_by_file_url)
{
    static const struct {
        uint64_t first;
        uint64_t end;
    } ranges[] = {
        {0, 1}, {0, SIZE}, {5, 1u << 20}, {(1u << 20) - 1, (2u << 20) + 1}, {SIZE - 1, SIZE}};
    char url[256];

    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        for (int as_url = 0; as_url < 2; as_url++) {
            struct one_get *one;

            (void)snprintf(url, sizeof(url), as_url ? "file://%s/a%%20b.tar" : "%s/a b.tar", dir);
            one = read_of(url, ranges[i].first, ranges[i].end, NULL);
            cr_assert_eq(one->why.code, 0, "%s", one->why.text);
            cr_assert(one->found_before_data);
            cr_assert_eq(one->received, ranges[i].end - ranges[i].first);
            cr_assert_eq(one->get.found.size_bytes, SIZE);
            cr_assert(one->get.found.etag[0]);
            check_bytes(one);
            one_get_free(one);
        }
    }
}

Test(disk_store, facts_are_those_that_a_read_finds)
{
    struct atd_object_info info;
    struct atd_error err = ATD_ERROR_INIT;
    struct one_get *one;

    cr_assert_eq(atd_store_stat(store, atd_str_from(path), 1000, &info, &err), 0, "%s", err.text);
    cr_assert_eq(info.size_bytes, SIZE);
    cr_assert(info.mtime_s > 0);
    one = read_of(path, 10, 20, &info);
    cr_assert_eq(one->why.code, 0, "%s", one->why.text);
    cr_assert(atd_object_info_same(&info, &one->get.found));
    check_bytes(one);
    one_get_free(one);
}

Test(disk_store, another_version_is_stale)
{
    struct atd_object_info info;
    struct atd_error err = ATD_ERROR_INIT;
    struct timespec times[2];
    struct stat st;
    struct one_get *one;

    cr_assert_eq(atd_store_stat(store, atd_str_from(path), 1000, &info, &err), 0);
    cr_assert_eq(stat(path, &st), 0);
    /* Same size, same times: only the inode and the change time tell. */
    cr_assert_eq(unlink(path), 0);
    write_file("a b.tar", SIZE);
    times[0] = st.st_atim;
    times[1] = st.st_mtim;
    cr_assert_eq(utimensat(AT_FDCWD, path, times, 0), 0);
    one = read_of(path, 0, 100, &info);
    cr_assert_eq(one->why.code, ESTALE, "%s", one->why.text);
    cr_assert_eq(one->received, 0);
    one_get_free(one);

    one = read_of(path, SIZE - 5, SIZE + 1, NULL);
    cr_assert_eq(one->why.code, ESTALE);
    cr_assert_eq(one->received, 0);
    one_get_free(one);
}

/* Between two steps: the first was of the old version, and more of it is not to be had. */
static void write_meanwhile(struct atd_store_get *get, size_t received)
{
    int fd = open(path, O_WRONLY);

    if (received < SIZE / 2)
        cr_assert_eq(pwrite(fd, "x", 1, SIZE - 1), 1);
    (void)close(fd);
    one_get_progress(get, received);
}

Test(disk_store, file_written_during_the_read_is_stale)
{
    struct one_get one = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    struct timespec past[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};

    /* So that the clock's grain cannot hide the write. */
    cr_assert_eq(utimensat(AT_FDCWD, path, past, 0), 0);
    one.get = (struct atd_store_get){
        .url = atd_str_from(path),
        .end = SIZE,
        .into = malloc(SIZE),
        .stall_timeout_ms = 10000,
        .progress = write_meanwhile,
        .done = one_get_done,
        .ctx = &one,
    };
    atd_store_get_start(store, &one.get);
    cr_assert(one_get_wait_done(&one));
    cr_assert_eq(one.why.code, ESTALE, "%d: %s", one.why.code, one.why.text);
    cr_assert(one.received > 0 && one.received < SIZE);
    for (size_t i = 0; i < one.received; i++)
        cr_assert_eq(one.get.into[i], byte_at(i));
    free(one.get.into);
}

Test(disk_store, refuses_what_is_not_below_a_root_or_no_path)
{
    static const struct {
        const char *url;
        int code;
    } cases[] = {
        {"/etc/passwd", EACCES},       {"file:///etc/passwd", EACCES},
        {"relative.tar", EINVAL},      {"s3://bucket/key", EINVAL},
        {"https://host/path", EINVAL}, {"file://otherhost/etc/passwd", EINVAL},
    };
    struct atd_object_info info;
    struct atd_error err = ATD_ERROR_INIT;
    struct one_get *one;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        one = read_of(cases[i].url, 0, 1, NULL);
        cr_assert_eq(one->why.code, cases[i].code, "%s: %s", cases[i].url, one->why.text);
        one_get_free(one);
        cr_assert_eq(atd_store_stat(store, atd_str_from(cases[i].url), 100, &info, &err),
                     -cases[i].code);
    }
    (void)snprintf(path, sizeof(path), "%s/none", dir);
    one = read_of(path, 0, 1, NULL);
    cr_assert_eq(one->why.code, ENOENT);
    one_get_free(one);
    cr_assert_eq(atd_store_list(store, ATD_STR("/"), ATD_STR(""), 100, NULL, NULL, NULL, &err),
                 -ENOTSUP);
    cr_assert_eq(atd_store_presign(store, ATD_STR("/"), 1, NULL, &err), -ENOTSUP);
}

#define MANY 64

/* Whatever they get to before the cancellation, each ends once, with all or with ECANCELED. */
Test(disk_store, cancelled_reads_end_once)
{
    struct one_get *reads[MANY];

    for (int i = 0; i < MANY; i++)
        reads[i] = one_get_start(store, path, 0, SIZE, NULL, 10000);
    for (int i = MANY - 1; i >= 0; i -= 2) {
        struct one_get *one = reads[i];

        atd_store_get_make_urgent(store, &reads[i - 1]->get);
        (void)pthread_mutex_lock(&one->mutex);
        if (one->done_count == 0)
            atd_store_get_cancel(store, &one->get);
        (void)pthread_mutex_unlock(&one->mutex);
    }
    for (int i = 0; i < MANY; i++) {
        cr_assert(one_get_wait_done(reads[i]));
        if (i % 2 == 0)
            cr_assert_eq(reads[i]->why.code, 0);
        if (reads[i]->why.code == 0)
            check_bytes(reads[i]);
        else
            cr_assert_eq(reads[i]->why.code, ECANCELED);
    }
    /* The last of the queue was cancelled long before its turn. */
    cr_assert_eq(reads[MANY - 1]->why.code, ECANCELED);
    for (int i = 0; i < MANY; i++) {
        cr_assert_eq(reads[i]->done_count, 1);
        one_get_free(reads[i]);
    }
}

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/object_records.h"
#include "store/object_table.h"
#include "support/child.h"

#define SCOPE ATD_STR("https://s3.example")

static char dir[PATH_MAX];
static char path[PATH_MAX + 16];

static void setup(void)
{
    const char *base = getenv("TMPDIR");

    (void)snprintf(dir, sizeof(dir), "%s/atd-objects-XXXXXX", base && base[0] ? base : "/tmp");
    cr_assert(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/objects", dir);
}

static void teardown(void)
{
    char more[PATH_MAX + 32];

    (void)umount2(dir, MNT_DETACH); /* where a test had mounted a small disk */
    (void)unlink(path);
    (void)snprintf(more, sizeof(more), "%s.new", path);
    (void)unlink(more);
    (void)rmdir(path);
    (void)rmdir(dir);
}

TestSuite(object_table, .init = setup, .fini = teardown);

static struct atd_object_table *open_table(const char *where, int warning_code)
{
    struct atd_object_table *table = NULL;
    struct atd_error warning = ATD_ERROR_INIT;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_object_table_open(where, &table, &warning, &err), 0, "%s", err.text);
    cr_assert_eq(warning.code, warning_code, "%s", warning.text);
    return table;
}

static struct atd_str url_of(unsigned number, char text[64])
{
    (void)snprintf(text, 64, "s3://bucket/prefix/data-%06u.tar", number);
    return atd_str_from(text);
}

static struct atd_object_info info_of(unsigned number, unsigned version)
{
    struct atd_object_info info = {.size_bytes = number * 1000ull + version,
                                   .mtime_s = 1700000000 + version};

    (void)snprintf(info.etag, sizeof(info.etag), "e%u-%u", number, version);
    return info;
}

static void put(struct atd_object_table *table, unsigned number, unsigned version)
{
    const struct atd_object_info info = info_of(number, version);
    char text[64];

    atd_object_table_put(table, SCOPE, url_of(number, text), &info);
}

static bool has(struct atd_object_table *table, unsigned number, unsigned version)
{
    const struct atd_object_info want = info_of(number, version);
    struct atd_object_info got;
    char text[64];

    if (!atd_object_table_find(table, SCOPE, url_of(number, text), &got))
        return false;
    return got.size_bytes == want.size_bytes && got.mtime_s == want.mtime_s &&
           strcmp(got.etag, want.etag) == 0;
}

static bool knows(struct atd_object_table *table, unsigned number)
{
    struct atd_object_info got;
    char text[64];

    return atd_object_table_find(table, SCOPE, url_of(number, text), &got);
}

static off_t file_size(void)
{
    struct stat st;

    return stat(path, &st) == 0 ? st.st_size : -1;
}

static void check_changes(const char *where)
{
    struct atd_object_table *table = open_table(where, 0);
    struct atd_object_info info = {0};
    char text[64];

    for (unsigned i = 0; i < 3000; i++)
        put(table, i, 0);
    for (unsigned i = 0; i < 3000; i += 3)
        put(table, i, 123456);
    for (unsigned i = 1; i < 3000; i += 3)
        atd_object_table_drop(table, SCOPE, url_of(i, text));
    put(table, 4, 7);
    /* The same URL at another endpoint is another object. */
    info.size_bytes = 5;
    atd_object_table_put(table, ATD_STR("other"), url_of(0, text), &info);
    atd_object_table_put(table, ATD_STR(""), ATD_STR(""), &info);
    for (int again = 0; again < 2; again++) {
        cr_assert_eq(atd_object_table_count(table), 2003);
        for (unsigned i = 0; i < 3000; i++) {
            if (i == 4)
                cr_assert(has(table, i, 7));
            else if (i % 3 == 1)
                cr_assert(!knows(table, i));
            else
                cr_assert(has(table, i, i % 3 ? 0 : 123456), "%u", i);
        }
        cr_assert(atd_object_table_find(table, ATD_STR("other"), url_of(0, text), &info));
        cr_assert_eq(info.size_bytes, 5);
        cr_assert_str_eq(info.etag, "");
        cr_assert(atd_object_table_find(table, ATD_STR(""), ATD_STR(""), &info));
        cr_assert(!atd_object_table_find(table, ATD_STR("third"), url_of(0, text), &info));
        if (!where)
            break;
        atd_object_table_close(table);
        table = open_table(where, 0);
    }
    atd_object_table_close(table);
}

Test(object_table, remembers_in_memory)
{
    check_changes(NULL);
    atd_object_table_close(NULL);
}

Test(object_table, remembers_after_a_restart)
{
    struct stat st;

    check_changes(path);
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(st.st_mode & 07777, 0600);
}

Test(object_table, what_is_known_already_is_not_written_again)
{
    struct atd_object_table *table = open_table(path, 0);
    char text[64];
    off_t size;

    put(table, 1, 1);
    size = file_size();
    put(table, 1, 1);
    atd_object_table_drop(table, SCOPE, url_of(2, text));
    cr_assert_eq(file_size(), size);
    put(table, 1, 2);
    cr_assert_gt(file_size(), size);
    atd_object_table_close(table);
}

Test(object_table, texts_beyond_the_maxima_are_not_kept)
{
    struct atd_object_table *table = open_table(path, 0);
    const struct atd_object_info info = {.size_bytes = 1};
    struct atd_object_info got;
    char *text = malloc(ATD_RECORD_URL_MAX + 1);
    struct atd_str url = {text, ATD_RECORD_URL_MAX};

    memset(text, 'u', ATD_RECORD_URL_MAX + 1);
    atd_object_table_put(table, SCOPE, url, &info);
    cr_assert(atd_object_table_find(table, SCOPE, url, &got));
    url.len++;
    atd_object_table_put(table, SCOPE, url, &info);
    cr_assert(!atd_object_table_find(table, SCOPE, url, &got));
    url.len = ATD_RECORD_SCOPE_MAX + 1;
    atd_object_table_put(table, url, ATD_STR("u"), &info);
    cr_assert(!atd_object_table_find(table, url, ATD_STR("u"), &got));
    atd_object_table_close(table);
    table = open_table(path, 0);
    cr_assert_eq(atd_object_table_count(table), 1);
    atd_object_table_close(table);
    free(text);
}

/* ------------------------------------------------------------------ damage */

Test(object_table, a_torn_tail_costs_the_last_record_only)
{
    struct atd_object_table *table = open_table(path, 0);
    struct atd_object_table_status status;
    off_t before;
    off_t after;

    for (unsigned i = 0; i < 20; i++)
        put(table, i, 0);
    before = file_size();
    put(table, 20, 0);
    after = file_size();
    atd_object_table_close(table);
    for (off_t cut = after - 1; cut >= before; cut--) {
        cr_assert_eq(truncate(path, cut), 0);
        table = open_table(path, 0);
        cr_assert_eq(atd_object_table_count(table), 20);
        cr_assert(!knows(table, 20));
        atd_object_table_close(table);
    }
    /* With half a record before it, the next one is found all the same. */
    cr_assert_eq(truncate(path, before), 0);
    table = open_table(path, 0);
    put(table, 20, 0);
    atd_object_table_close(table);
    cr_assert_eq(truncate(path, after - 3), 0);
    table = open_table(path, 0);
    put(table, 21, 0);
    cr_assert_eq(atd_object_table_count(table), 21);
    /* What is torn is done with: the place for more is the end. */
    atd_object_table_status(table, &status);
    cr_assert_eq(status.file_bytes, (uint64_t)file_size());
    cr_assert_gt(status.damaged_bytes, 10);
    atd_object_table_close(table);
    table = open_table(path, 0);
    cr_assert_eq(atd_object_table_count(table), 21);
    cr_assert(has(table, 21, 0) && has(table, 19, 0) && !knows(table, 20));
    atd_object_table_close(table);
}

Test(object_table, a_flipped_bit_costs_one_record)
{
    struct atd_object_table *table = open_table(path, 0);
    off_t size;
    int fd;

    for (unsigned i = 0; i < 6; i++)
        put(table, i, 0);
    atd_object_table_close(table);
    size = file_size();
    fd = open(path, O_RDWR | O_CLOEXEC);
    for (off_t at = 0; at < size; at++) {
        struct atd_object_table_status status;
        uint8_t byte;
        unsigned known = 0;

        cr_assert_eq(pread(fd, &byte, 1, at), 1);
        byte ^= 0x04;
        cr_assert_eq(pwrite(fd, &byte, 1, at), 1);
        table = open_table(path, 0);
        for (unsigned i = 0; i < 6; i++) {
            cr_assert(has(table, i, 0) == knows(table, i));
            known += knows(table, i);
        }
        cr_assert_eq(known, at < 8 ? 6 : 5, "at %ld: %u", (long)at, known);
        atd_object_table_status(table, &status);
        cr_assert_gt(status.damaged_bytes, 0);
        cr_assert_eq(status.file_bytes, (uint64_t)size);
        atd_object_table_close(table);
        byte ^= 0x04;
        cr_assert_eq(pwrite(fd, &byte, 1, at), 1);
    }
    (void)close(fd);
}

Test(object_table, a_file_that_is_none_is_left_alone)
{
    const char text[] = "these are somebody's notes, not a table\n";
    struct atd_object_table *table;
    char now[sizeof(text)];
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    cr_assert_eq(write(fd, text, sizeof(text)), (ssize_t)sizeof(text));
    table = open_table(path, EBADMSG);
    put(table, 1, 1);
    cr_assert(has(table, 1, 1));
    atd_object_table_close(table);
    cr_assert_eq(file_size(), (off_t)sizeof(text));
    cr_assert_eq(pread(fd, now, sizeof(now), 0), (ssize_t)sizeof(now));
    cr_assert_eq(memcmp(now, text, sizeof(text)), 0);
    (void)close(fd);
}

Test(object_table, without_a_usable_file_it_lives_in_memory)
{
    struct atd_object_table *table;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(mkdir(path, 0700), 0);
    table = open_table(path, EISDIR);
    put(table, 1, 1);
    cr_assert(has(table, 1, 1));
    atd_object_table_close(table);
    cr_assert_eq(rmdir(path), 0);
    cr_assert_eq(atd_object_table_open("/proc/nonexistent/objects", &table, NULL, &err), 0);
    put(table, 1, 1);
    cr_assert(has(table, 1, 1));
    atd_object_table_close(table);
    cr_assert_eq(mkfifo(path, 0600), 0);
    table = open_table(path, EINVAL);
    atd_object_table_close(table);
    cr_assert_eq(unlink(path), 0);
    table = open_table(path, 0);
    atd_object_table_close(table);
    cr_assert_eq(chmod(path, 0666), 0);
    table = open_table(path, EACCES);
    atd_object_table_close(table);
}

/* What knows nothing leaves nothing behind. */
Test(object_table, its_directory_is_made_by_the_first_record)
{
    char below[256];
    char file[300];
    struct atd_object_table *table;

    (void)snprintf(below, sizeof(below), "%.200s.dir/a", path);
    (void)snprintf(file, sizeof(file), "%s/objects", below);
    table = open_table(file, 0);
    cr_assert_not(has(table, 1, 1));
    cr_assert_neq(access(below, F_OK), 0);
    put(table, 1, 1);
    cr_assert_eq(access(file, F_OK), 0);
    atd_object_table_close(table);
    table = open_table(file, 0);
    cr_assert(has(table, 1, 1));
    atd_object_table_close(table);
    cr_assert_eq(unlink(file), 0);
    cr_assert_eq(rmdir(below), 0);
    *strrchr(below, '/') = '\0';
    cr_assert_eq(rmdir(below), 0);
}

/* ------------------------------------------------------------------ size */

Test(object_table, a_full_disk_costs_only_what_did_not_fit)
{
    struct atd_object_table *table;
    struct atd_object_table_status status;
    unsigned stored = 0;

    if (geteuid() != 0)
        return;
    cr_assert_eq(unshare(CLONE_NEWNS), 0);
    cr_assert_eq(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    cr_assert_eq(mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=700"), 0);
    table = open_table(path, 0);
    for (unsigned i = 0; i < 2000; i++)
        put(table, i, 0);
    atd_object_table_status(table, &status);
    cr_assert(status.write_failures > 0 && status.write_failures < 2000);
    for (unsigned i = 0; i < 2000; i++)
        cr_assert(has(table, i, 0));
    atd_object_table_close(table);
    table = open_table(path, 0);
    for (unsigned i = 0; i < 2000; i++)
        stored += has(table, i, 0);
    cr_assert_eq(stored + status.write_failures, 2000);
    atd_object_table_status(table, &status);
    cr_assert_eq(status.damaged_bytes, 0); /* nothing is written in part */
    atd_object_table_close(table);
}

Test(object_table, is_rewritten_when_most_of_it_is_superseded)
{
    struct atd_object_table *table = open_table(path, 0);
    struct atd_object_table *other = open_table(path, 0);
    off_t largest = 0;
    off_t size = 0;

    put(other, 5000, 1);
    for (unsigned version = 0; version < 60; version++) {
        for (unsigned i = 0; i < 500; i++)
            put(table, i, version);
        size = file_size();
        largest = size > largest ? size : largest;
    }
    cr_assert_lt(largest, 3 << 20);
    cr_assert_gt(largest, 1 << 19);
    /* Who had the old file open goes on in the new one, both ways. */
    put(other, 5001, 1);
    cr_assert(has(other, 499, 59));
    put(table, 5002, 1);
    cr_assert(has(table, 5001, 1));
    atd_object_table_close(table);
    atd_object_table_close(other);
    table = open_table(path, 0);
    cr_assert_eq(atd_object_table_count(table), 503);
    cr_assert(has(table, 0, 59) && has(table, 499, 59) && has(table, 5000, 1) &&
              has(table, 5001, 1) && has(table, 5002, 1));
    atd_object_table_close(table);
}

Test(object_table, finds_what_another_process_learned)
{
    struct atd_object_table *table = open_table(path, 0);
    struct atd_object_table *other = open_table(path, 0);
    bool found = false;

    put(other, 1, 1);
    for (int i = 0; i < 1000 && !found; i++) {
        found = has(table, 1, 1);
        (void)usleep(10000);
    }
    cr_assert(found);
    /* Also when the other one has rewritten the file. */
    for (unsigned version = 0; version < 40; version++) {
        for (unsigned i = 0; i < 500; i++)
            put(other, 1000 + i, version);
    }
    put(other, 9999, 1);
    found = false;
    for (int i = 0; i < 1000 && !found; i++) {
        found = has(table, 9999, 1);
        (void)usleep(10000);
    }
    cr_assert(found);
    atd_object_table_close(table);
    atd_object_table_close(other);
}

static void put_until_killed(unsigned child, int report)
{
    struct atd_object_table *table = open_table(path, 0);

    for (unsigned i = 0; i < 100000; i++) {
        unsigned number = child * 100000 + i % 2000;

        put(table, number, i / 2000);
        if (i < 2000 && write(report, &number, sizeof(number)) != sizeof(number))
            _exit(1);
    }
    pause();
}

Test(object_table, killed_writers_leave_all_that_they_reported)
{
    struct atd_object_table *table;
    unsigned *reported = calloc(10000, sizeof(*reported));
    size_t count = 0;
    int pipes[2];
    pid_t children[2];

    cr_assert_eq(pipe(pipes), 0);
    for (unsigned i = 0; i < 2; i++) {
        children[i] = child_fork();
        if (children[i] == 0) {
            put_until_killed(i, pipes[1]);
            _exit(1);
        }
    }
    (void)close(pipes[1]);
    while (count < 1000)
        cr_assert_eq(read(pipes[0], &reported[count++], sizeof(unsigned)), 4);
    for (unsigned i = 0; i < 2; i++)
        child_kill(children[i]);
    while (count < 10000 && read(pipes[0], &reported[count], sizeof(unsigned)) == 4)
        count++;
    (void)close(pipes[0]);
    table = open_table(path, 0);
    for (size_t i = 0; i < count; i++)
        cr_assert(knows(table, reported[i]), "%u", reported[i]);
    atd_object_table_close(table);
    free(reported);
}

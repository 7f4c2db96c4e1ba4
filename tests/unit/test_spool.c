#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/check.h"
#include "publish/spool.h"

#define KEEP FALLOC_FL_KEEP_SIZE
#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define MIB ((uint64_t)1 << 20)

static char dir[64];
static char path[128];

static void setup(void)
{
    (void)strcpy(dir, "/tmp/atd-spool-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/spool", dir);
}

static void teardown(void)
{
    cr_assert_eq(rmdir(dir), 0, "the spool is still there");
}

TestSuite(spool, .init = setup, .fini = teardown);

static struct atd_spool *open_spool(uint64_t limit, uint64_t floor)
{
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_spool *spool;

    cr_assert_eq(atd_spool_new(path, limit, floor, &spool, &err), 0, "%s", err.text);
    return spool;
}

static int put(struct atd_spool *spool, uint64_t offset, size_t len, uint8_t byte)
{
    uint8_t *bytes = malloc(len ? len : 1);
    int rc;

    memset(bytes, byte, len);
    rc = atd_spool_write(spool, offset, (struct atd_bytes){bytes, len}, NULL);
    free(bytes);
    return rc;
}

enum op { DONE, WRITE, TRUNCATE, ALLOCATE, WHOLE };

/* One operation and what is told after it. */
struct step {
    enum op op;
    int64_t offset;
    int64_t len; /* of a truncation: the size */
    int mode;
    uint64_t ordered_end;
    uint64_t size;
    uint64_t epoch;
};

static void run(const char *name, const struct step *steps)
{
    struct atd_spool *spool = open_spool(0, 0);
    struct atd_spool_progress progress;

    for (int i = 0; steps[i].op != DONE; i++) {
        const struct step *step = &steps[i];
        struct atd_error err = ATD_ERROR_INIT;
        int rc = 0;

        if (step->op == WRITE)
            rc = put(spool, (uint64_t)step->offset, (size_t)step->len, 'x');
        else if (step->op == TRUNCATE)
            rc = atd_spool_truncate(spool, (uint64_t)step->len, &err);
        else if (step->op == ALLOCATE)
            rc = atd_spool_allocate(spool, step->mode, (uint64_t)step->offset, (uint64_t)step->len,
                                    &err);
        cr_assert_eq(rc, 0, "%s, step %d: %s", name, i, err.text);
        if (step->op == WHOLE)
            atd_spool_whole(spool, &progress);
        else
            atd_spool_progress(spool, &progress);
        cr_assert_eq(progress.ordered_end, step->ordered_end, "%s, step %d: ordered_end %llu", name,
                     i, (unsigned long long)progress.ordered_end);
        cr_assert_eq(progress.size_bytes, step->size, "%s, step %d: size %llu", name, i,
                     (unsigned long long)progress.size_bytes);
        cr_assert_eq(progress.epoch, step->epoch, "%s, step %d: epoch %llu", name, i,
                     (unsigned long long)progress.epoch);
        cr_assert_eq(progress.changing, 0);
        cr_assert_eq(atd_spool_size(spool), step->size);
        cr_assert_eq(lseek(atd_spool_fd(spool), 0, SEEK_END), (off_t)step->size);
    }
    atd_spool_free(spool);
}

/* The sequences of TOOLS 1, scaled down. */
Test(spool, every_tools_way_of_writing)
{
    static const struct step cp[] = {
        {WRITE, 0, 100, 0, 100, 100, 0},
        {WRITE, 100, 100, 0, 200, 200, 0},
        {WRITE, 200, 7, 0, 207, 207, 0},
        {WHOLE, 0, 0, 0, 207, 207, 0},
        {DONE},
    };
    /* The end blocks exist by the size only. */
    static const struct step cp_sparse[] = {
        {WRITE, 0, 20480, 0, 20480, 20480, 0},
        {ALLOCATE, 20480, 10240, PUNCH, 20480, 20480, 0},
        {TRUNCATE, 0, 30720, 0, 20480, 30720, 0},
        {WHOLE, 0, 0, 0, 30720, 30720, 0},
        {DONE},
    };
    static const struct step rsync_sparse[] = {
        {WRITE, 0, 100, 0, 100, 100, 0},
        {WRITE, 300, 100, 0, 100, 400, 0},
        {WRITE, 400, 100, 0, 100, 500, 0},
        {WRITE, 900, 100, 0, 100, 1000, 0},
        {TRUNCATE, 0, 1200, 0, 100, 1200, 0},
        {WHOLE, 0, 0, 0, 1200, 1200, 0},
        {DONE},
    };
    /* Always, and to the size that it has. */
    static const struct step rsync_inplace[] = {
        {WRITE, 0, 100, 0, 100, 100, 0},
        {WRITE, 100, 100, 0, 200, 200, 0},
        {TRUNCATE, 0, 200, 0, 200, 200, 0},
        {WHOLE, 0, 0, 0, 200, 200, 0},
        {DONE},
    };
    static const struct step aria2[] = {
        {ALLOCATE, 0, 5000, 0, 0, 5000, 0},
        {WRITE, 0, 1000, 0, 1000, 5000, 0},
        {WRITE, 2500, 1000, 0, 1000, 5000, 0}, /* the second connection */
        {WRITE, 1000, 1000, 0, 2000, 5000, 0},
        {WRITE, 3500, 1500, 0, 2000, 5000, 0},
        {WRITE, 2000, 500, 0, 5000, 5000, 0},
        {WHOLE, 0, 0, 0, 5000, 5000, 0},
        {DONE},
    };
    static const struct step rclone[] = {
        {ALLOCATE, 0, 5000, KEEP, 0, 0, 0},
        {WRITE, 0, 2000, 0, 2000, 2000, 0},
        {WRITE, 2000, 3000, 0, 5000, 5000, 0},
        {WHOLE, 0, 0, 0, 5000, 5000, 0},
        {DONE},
    };
    static const struct step glibc_fallocate[] = {
        {WRITE, 4095, 1, 0, 0, 4096, 0},         {WRITE, 8191, 1, 0, 0, 8192, 0},
        {WRITE, 12287, 1, 0, 0, 12288, 0},       {WRITE, 0, 8000, 0, 8000, 12288, 0},
        {WRITE, 8000, 4288, 0, 12288, 12288, 0}, {DONE},
    };
    /* tar r overwrites the end blocks, cat >> and rsync --append do not. */
    static const struct step tar_r[] = {
        {WRITE, 0, 10240, 0, 10240, 10240, 0},    {WHOLE, 0, 0, 0, 10240, 10240, 0},
        {WRITE, 5120, 10240, 0, 15360, 15360, 1}, {WRITE, 15360, 5120, 0, 20480, 20480, 1},
        {WHOLE, 0, 0, 0, 20480, 20480, 1},        {DONE},
    };
    static const struct step append[] = {
        {WRITE, 0, 100, 0, 100, 100, 0},  {WHOLE, 0, 0, 0, 100, 100, 0},
        {WRITE, 100, 50, 0, 150, 150, 0}, {TRUNCATE, 0, 150, 0, 150, 150, 0},
        {WHOLE, 0, 0, 0, 150, 150, 0},    {DONE},
    };
    static const struct step gio_restart[] = {
        {WRITE, 0, 1000, 0, 1000, 1000, 0},
        {WRITE, 1000, 1000, 0, 2000, 2000, 0},
        {WRITE, 0, 256, 0, 256, 2000, 1},
        {WRITE, 256, 256, 0, 512, 2000, 1}, /* the epoch goes up once for all of it */
        {WRITE, 512, 2000, 0, 2512, 2512, 1},
        {WHOLE, 0, 0, 0, 2512, 2512, 1},
        {DONE},
    };
    static const struct step truncated_and_anew[] = {
        {WRITE, 0, 1000, 0, 1000, 1000, 0}, {TRUNCATE, 0, 0, 0, 0, 0, 1},
        {WRITE, 0, 10, 0, 10, 10, 1},       {TRUNCATE, 0, 5, 0, 5, 5, 2},
        {TRUNCATE, 0, 50, 0, 5, 50, 2}, /* what comes back is a hole */
        {WRITE, 5, 45, 0, 50, 50, 2},       {DONE},
    };
    static const struct step holes_behind[] = {
        {WRITE, 0, 8192, 0, 8192, 8192, 0},
        {ALLOCATE, 4096, 4096, PUNCH, 4096, 8192, 1},
        {ALLOCATE, 6000, 100, PUNCH, 4096, 8192, 1},
        {WHOLE, 0, 0, 0, 8192, 8192, 1},
        {WRITE, 6000, 10, 0, 6010, 8192, 2},
        {WHOLE, 0, 0, 0, 8192, 8192, 2},
        {DONE},
    };
    static const struct step mended_head[] = {
        {WRITE, 0, 1000, 0, 1000, 1000, 0},
        {WRITE, 0, 10, 0, 10, 1000, 1},
        {WHOLE, 0, 0, 0, 1000, 1000, 1},
        {WRITE, 999, 1, 0, 1000, 1000, 2},
        {DONE},
    };

    run("cp", cp);
    run("cp --sparse=always", cp_sparse);
    run("rsync -S", rsync_sparse);
    run("rsync --inplace", rsync_inplace);
    run("aria2", aria2);
    run("rclone", rclone);
    run("posix_fallocate", glibc_fallocate);
    run("tar r", tar_r);
    run("append", append);
    run("gio", gio_restart);
    run("truncated", truncated_and_anew);
    run("holes", holes_behind);
    run("head", mended_head);
}

Test(spool, nobody_who_was_not_told_is_disturbed)
{
    struct atd_spool *spool = open_spool(0, 0);
    struct atd_spool_progress progress;

    for (int i = 0; i < 10; i++)
        cr_assert_eq(put(spool, 0, 100, 'a'), 0);
    atd_spool_progress(spool, &progress);
    cr_assert_eq(progress.epoch, 0);
    cr_assert_eq(progress.ordered_end, 100);
    cr_assert_eq(progress.written, 1000);
    cr_assert_eq(put(spool, 0, 0, 'a'), 0);
    atd_spool_progress(spool, &progress);
    cr_assert_eq(progress.epoch, 0);
    atd_spool_free(spool);
}

Test(spool, many_fragments_wait_for_the_whole)
{
    struct atd_spool *spool = open_spool(0, 0);
    struct atd_spool_progress progress;

    for (uint64_t i = 0; i < 3000; i++)
        cr_assert_eq(put(spool, 100 * i, 50, 'a'), 0);
    for (uint64_t i = 0; i < 3000; i++)
        cr_assert_eq(put(spool, 100 * i + 50, 50, 'b'), 0);
    atd_spool_progress(spool, &progress);
    /* A certain place, not the whole truth. */
    cr_assert_gt(progress.ordered_end, 20000);
    cr_assert_lt(progress.ordered_end, 300000);
    atd_spool_whole(spool, &progress);
    cr_assert_eq(progress.ordered_end, 300000);
    cr_assert_eq(progress.epoch, 0);
    atd_spool_free(spool);
}

/* Against a map of bytes: what is told was written, and nothing told changes within an epoch. */
Test(spool, any_sequence, .timeout = 120)
{
    enum { SIZE = 4096 };

    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct atd_spool *spool = open_spool(0, 0);
        struct atd_spool_progress last = {0};
        uint8_t content[2 * SIZE] = {0};
        uint8_t seen[2 * SIZE]; /* content when it was told */
        uint8_t read[2 * SIZE];
        bool written[2 * SIZE] = {false};
        uint64_t state = seed * 0x9e3779b97f4a7c15u;
        uint64_t size = 0;

        for (int round = 0; round < 400; round++) {
            struct atd_spool_progress now;
            uint64_t at, len;
            unsigned kind;
            size_t got;

            state = state * 6364136223846793005u + 1442695040888963407u;
            kind = (unsigned)(state >> 60);
            at = (state >> 32) % SIZE;
            len = 1 + (state >> 20) % 300;
            if (kind < 6) /* in order */
                at = last.ordered_end < SIZE ? last.ordered_end : at;
            if (kind < 11) {
                cr_assert_eq(put(spool, at, len, (uint8_t)round), 0);
                memset(content + at, round & 0xff, len);
                memset(written + at, 1, len);
                size = at + len > size ? at + len : size;
            } else if (kind == 11) {
                cr_assert_eq(atd_spool_truncate(spool, at, NULL), 0);
                memset(content + at, 0, sizeof(content) - at);
                memset(written + at, 0, sizeof(written) - at);
                size = at;
            } else if (kind == 12) {
                cr_assert_eq(atd_spool_allocate(spool, PUNCH, at, len, NULL), 0);
                memset(content + at, 0, len);
                memset(written + at, 0, len);
            } else if (kind == 13) {
                cr_assert_eq(atd_spool_allocate(spool, at & 1 ? 0 : KEEP, at, len, NULL), 0);
                if (at & 1)
                    size = at + len > size ? at + len : size;
            } else if (kind == 14) {
                atd_spool_whole(spool, &now);
                cr_assert_eq(now.ordered_end, size);
                memset(written, 1, size);
            }
            if (state & 1)
                continue; /* nobody asks */
            atd_spool_progress(spool, &now);
            cr_assert_eq(now.size_bytes, size);
            cr_assert_leq(now.ordered_end, size);
            for (uint64_t i = 0; i < now.ordered_end; i++)
                cr_assert(written[i], "seed %llu: byte %llu was told and is not written",
                          (unsigned long long)seed, (unsigned long long)i);
            cr_assert_eq(atd_spool_read(spool, 0, read, sizeof(read), &got, NULL), 0);
            cr_assert_eq(got, size);
            cr_assert_eq(memcmp(read, content, size), 0);
            if (now.epoch == last.epoch) {
                cr_assert_geq(now.ordered_end, last.ordered_end);
                cr_assert_eq(memcmp(seen, content, last.ordered_end), 0, "seed %llu round %d",
                             (unsigned long long)seed, round);
            }
            memcpy(seen, content, sizeof(seen));
            last = now;
        }
        atd_spool_free(spool);
    }
}

Test(spool, reads_what_is_there)
{
    struct atd_spool *spool = open_spool(0, 0);
    uint8_t bytes[10];
    size_t got = 99;

    cr_assert_eq(atd_spool_read(spool, 0, bytes, 10, &got, NULL), 0);
    cr_assert_eq(got, 0);
    cr_assert_eq(put(spool, 5, 3, 'x'), 0);
    cr_assert_eq(atd_spool_read(spool, 3, bytes, 10, &got, NULL), 0);
    cr_assert_eq(got, 5);
    cr_assert_eq(memcmp(bytes, "\0\0xxx", 5), 0);
    cr_assert_eq(atd_spool_read(spool, UINT64_MAX, bytes, 10, &got, NULL), 0);
    cr_assert_eq(got, 0);
    cr_assert_eq(atd_spool_sync(spool, NULL), 0);
    cr_assert_geq(atd_spool_blocks(spool), 0);
    cr_assert_str_eq(atd_spool_path(spool), path);
    atd_spool_free(spool);
    atd_spool_free(NULL);
}

Test(spool, the_limit)
{
    struct atd_spool *spool = open_spool(100, 0);
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(put(spool, 0, 100, 'x'), 0);
    cr_assert_eq(put(spool, 100, 1, 'x'), -EFBIG);
    cr_assert_eq(put(spool, UINT64_MAX - 1, 10, 'x'), -EFBIG);
    cr_assert_eq(atd_spool_truncate(spool, 101, &err), -EFBIG);
    cr_assert_str_eq(err.text, "file is larger than the limit of 100 bytes");
    cr_assert_eq(atd_spool_allocate(spool, 0, 50, 51, NULL), -EFBIG);
    cr_assert_eq(atd_spool_allocate(spool, KEEP, UINT64_MAX, 51, NULL), -EFBIG);
    cr_assert_eq(atd_spool_size(spool), 100);
    atd_spool_set_limit(spool, 50);
    cr_assert_eq(put(spool, 0, 50, 'x'), 0);
    cr_assert_eq(put(spool, 0, 51, 'x'), -EFBIG);
    cr_assert_eq(atd_spool_truncate(spool, 80, NULL), 0); /* smaller than it was */
    atd_spool_set_limit(spool, 0);
    cr_assert_eq(put(spool, 1000, 51, 'x'), 0);
    atd_spool_free(spool);
}

Test(spool, the_floor)
{
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_spool *spool = open_spool(0, UINT64_MAX);
    struct statvfs vfs;

    cr_assert_eq(atd_spool_write(spool, 0, atd_str_bytes(ATD_STR("x")), &err), -EDQUOT);
    cr_assert(strstr(err.text, "make room there"), "%s", err.text);
    cr_assert_eq(atd_spool_allocate(spool, 0, 0, 10, NULL), -EDQUOT);
    cr_assert_eq(atd_spool_allocate(spool, KEEP, 0, 10, NULL), -EDQUOT);
    cr_assert_eq(atd_spool_size(spool), 0);
    cr_assert_eq(atd_spool_truncate(spool, 10, NULL), 0); /* takes no room */
    cr_assert_eq(statvfs(dir, &vfs), 0);
    atd_spool_free(spool);
    /* A file system with so much less than that to spare lets nothing in that is larger. */
    spool = open_spool(0, (uint64_t)vfs.f_bavail * vfs.f_frsize / 2);
    cr_assert_eq(put(spool, 0, MIB, 'x'), 0);
    cr_assert_eq(atd_spool_allocate(spool, KEEP, 0, (uint64_t)vfs.f_bavail * vfs.f_frsize, NULL),
                 -EDQUOT);
    atd_spool_free(spool);
}

Test(spool, fallocate_that_nobody_has)
{
    struct atd_spool *spool = open_spool(0, 0);

    cr_assert_eq(put(spool, 0, 10, 'x'), 0);
    cr_assert_eq(atd_spool_allocate(spool, FALLOC_FL_COLLAPSE_RANGE, 0, 4096, NULL), -EOPNOTSUPP);
    cr_assert_eq(atd_spool_allocate(spool, FALLOC_FL_PUNCH_HOLE, 0, 4096, NULL), -EOPNOTSUPP);
    cr_assert_eq(atd_spool_allocate(spool, 0, 0, 0, NULL), -EOPNOTSUPP);
    cr_assert_eq(atd_spool_size(spool), 10);
    atd_spool_free(spool);
}

/* /dev/full says ENOSPC to every write: no spool passes it on. */
Test(spool, a_full_disk_is_edquot)
{
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_spool *spool = open_spool(0, 0);
    struct atd_spool_progress progress;
    int full = open("/dev/full", O_RDWR | O_CLOEXEC);

    cr_assert_eq(put(spool, 0, 100, 'x'), 0);
    atd_spool_progress(spool, &progress);
    cr_assert_geq(full, 0);
    cr_assert_eq(dup2(full, atd_spool_fd(spool)), atd_spool_fd(spool));
    (void)close(full);
    cr_assert_eq(atd_spool_write(spool, 50, atd_str_bytes(ATD_STR("y")), &err), -EDQUOT);
    cr_assert(strstr(err.text, "No space left"), "%s", err.text);
    atd_spool_progress(spool, &progress);
    cr_assert_eq(progress.epoch, 1); /* who knows what is there now */
    cr_assert_leq(progress.ordered_end, 50);
    cr_assert_eq(progress.changing, 0);
    atd_spool_free(spool);
}

Test(spool, is_private_and_goes_away)
{
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_spool *spool = open_spool(0, 0);
    struct atd_spool *other;
    struct stat st;

    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(st.st_mode & 07777, 0600);
    cr_assert_eq(atd_spool_new(path, 0, 0, &other, &err), -EEXIST);
    cr_assert(strstr(err.text, path), "%s", err.text);
    atd_spool_free(spool);
    cr_assert_eq(access(path, F_OK), -1);
    spool = open_spool(0, 0);
    cr_assert_eq(unlink(path), 0);
    atd_spool_free(spool);
    cr_assert_eq(atd_spool_new("/nowhere/at/all", 0, 0, &other, &err), -ENOENT);
}

Test(spool, over_a_file_that_is_there)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    struct atd_spool_progress progress;
    struct atd_spool *spool;
    uint8_t bytes[10];
    size_t got;

    cr_assert_eq(write(fd, "0123456789", 10), 10);
    cr_assert_eq(atd_spool_over(fd, &spool, NULL), 0);
    cr_assert_null(atd_spool_path(spool));
    atd_spool_progress(spool, &progress);
    cr_assert(progress.size_bytes == 10 && progress.ordered_end == 10 && progress.epoch == 0);
    cr_assert_eq(atd_spool_read(spool, 4, bytes, 10, &got, NULL), 0);
    cr_assert(got == 6 && memcmp(bytes, "456789", 6) == 0);
    cr_assert_eq(put(spool, 0, 1, 'x'), -EPERM);
    cr_assert_eq(atd_spool_truncate(spool, 0, NULL), -EPERM);
    cr_assert_eq(atd_spool_allocate(spool, 0, 0, 1, NULL), -EPERM);
    atd_spool_free(spool);
    cr_assert_eq(access(path, F_OK), 0);
    cr_assert_eq(unlink(path), 0);
    fd = open(dir, O_RDONLY | O_CLOEXEC);
    cr_assert_eq(atd_spool_over(fd, &spool, NULL), -EINVAL);
    cr_assert_eq(close(fd), 0); /* not taken */
}

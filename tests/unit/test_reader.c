#include <fcntl.h>
#include <sys/stat.h>

#include "base/digest.h"
#include "cache/cursor.h"
#include "reader_suite.h"

/* ------------------------------------------------------------------ counts */

static void read_whole(uint64_t size, size_t step)
{
    uint64_t before = gets();

    for (uint64_t at = 0; at < size; at += step) {
        size_t len = size - at < step ? (size_t)(size - at) : step;

        cr_assert_eq(rig_read(handle, 0, 0, at, len), 0, "at %lu", (unsigned long)at);
    }
    cr_assert_leq(gets() - before, (size + ATD_PART_BYTES - 1) / ATD_PART_BYTES + 2);
}

static void sequential(void)
{
    static const uint64_t sizes[] = {1, 65536, 1000000, 8 * MIB + 1, 50 * MIB + 12345};

    for (size_t i = 0; i < ATD_ARRAY_LEN(sizes); i++) {
        uint64_t before = asked();

        cr_assert_eq(rig_put(&rig, 0, 0, sizes[i]), 0);
        cr_assert_eq(rig_open(&rig, 0, NULL, &handle), 0);
        read_whole(sizes[i], i % 2 ? 128 * KIB : MIB);
        cr_assert_eq(asked() - before, sizes[i], "no byte twice, none too many");
        atd_reader_close(handle);
    }
    cr_assert_eq(atomic_load(&rig.stats.wasted_bytes), 0);
}

Test(reader, sequential_reads_count_in_memory, .init = start_without, .fini = stop)
{
    sequential();
}

Test(reader, sequential_reads_count_on_disk, .init = start_with, .fini = stop)
{
    sequential();
}

/* Three parts of memory. */
static void sequential_in_little_memory(bool with_dir)
{
    rig.memory_bytes = 32 * MIB;
    start(with_dir);
    cr_assert_eq(rig_put(&rig, 0, 0, 90 * MIB + 3), 0);
    cr_assert_eq(rig_open(&rig, 0, NULL, &handle), 0);
    read_whole(90 * MIB + 3, 128 * KIB);
    cr_assert_eq(asked(), 90 * MIB + 3);
    atd_reader_close(handle);
}

Test(reader, sequential_reads_count_in_little_memory, .fini = stop)
{
    sequential_in_little_memory(false);
}

Test(reader, sequential_reads_count_in_little_memory_with_disk, .fini = stop)
{
    sequential_in_little_memory(true);
}

static void one_range(void)
{
    cr_assert_eq(rig_put(&rig, 0, 0, 1024 * MIB), 0);
    cr_assert_eq(rig_open(&rig, 0, NULL, &handle), 0);
    cr_assert_eq(rig_read(handle, 0, 0, 500 * MIB + 4096 * 3, 100 * KIB), 0);
    cr_assert_eq(gets(), 1);
    cr_assert_leq(asked(), MIB);
    /* Across the grid of parts too. */
    cr_assert_eq(rig_read(handle, 0, 0, 800 * MIB - 4096, 100 * KIB), 0);
    cr_assert_eq(gets(), 2);
    atd_reader_close(handle);
}

Test(reader, one_range_costs_one_get, .init = start_without, .fini = stop)
{
    one_range();
}

Test(reader, one_range_costs_one_get_with_disk, .init = start_with, .fini = stop)
{
    one_range();
}

static void random_samples(void)
{
    uint64_t state = 3;
    uint64_t before;

    cr_assert_eq(rig_put(&rig, 0, 0, 4096 * MIB), 0);
    cr_assert_eq(rig_open(&rig, 0, NULL, &handle), 0);
    for (unsigned i = 0; i < 40; i++) {
        uint64_t offset = (i * 37 % 64) * 64 * MIB + content_random(&state) % MIB;
        size_t size = 70000 + content_random(&state) % 200000;

        before = asked();
        cr_assert_eq(rig_read(handle, 0, 0, offset, size), 0);
        cr_assert_eq(gets(), i + 1);
        if (i >= 2)
            cr_assert_eq(asked() - before, size);
        /* And again: from memory. */
        cr_assert_eq(rig_read(handle, 0, 0, offset + 10, size - 10), 0);
        cr_assert_eq(gets(), i + 1);
    }
    atd_reader_close(handle);
}

Test(reader, random_samples_are_fetched_exactly, .init = start_without, .fini = stop)
{
    random_samples();
}

Test(reader, random_samples_are_fetched_exactly_with_disk, .init = start_with, .fini = stop)
{
    random_samples();
}

Test(reader, many_small_reads_keep_a_bounded_number, .init = start_without, .fini = stop)
{
    cr_assert_eq(rig_put(&rig, 0, 0, 1ULL << 40), 0);
    cr_assert_eq(rig_open(&rig, 0, NULL, &handle), 0);
    for (uint64_t i = 0; i < 1500; i++)
        cr_assert_eq(rig_read(handle, 0, 0, i * 7919 % 1500 * 64 * MIB, 1000), 0);
    cr_assert_leq(atomic_load(&rig.stats.memory_used_bytes), (1024 + 20) * 64 * KIB + 4 * MIB);
    cr_assert_gt(atomic_load(&rig.stats.wasted_bytes), 0);
    atd_reader_close(handle);
}

Test(reader, hops_stream, .init = start_without, .fini = stop)
{
    cr_assert_eq(rig_put(&rig, 0, 0, 64 * MIB), 0);
    cr_assert_eq(rig_open(&rig, 0, NULL, &handle), 0);
    for (uint64_t at = 0; at + 512 < 64 * MIB; at += 100 * KIB + 512)
        cr_assert_eq(rig_read(handle, 0, 0, at, 512), 0);
    cr_assert_leq(gets(), 10);
    cr_assert_leq(asked(), 64 * MIB);
    atd_reader_close(handle);
}

#define SHARED_BYTES (40 * MIB + 777)

static void *read_all(void *ctx)
{
    struct atd_reader_handle *mine = NULL;

    (void)ctx;
    if (rig_open(&rig, 0, NULL, &mine) != 0)
        return &rig;
    for (uint64_t at = 0; at < SHARED_BYTES; at += 128 * KIB) {
        size_t len = SHARED_BYTES - at < 128 * KIB ? SHARED_BYTES - at : 128 * KIB;

        if (rig_read(mine, 0, 0, at, len) != 0)
            return &rig;
    }
    atd_reader_close(mine);
    return NULL;
}

static void eight_readers(void)
{
    pthread_t threads[8];

    rig.step_delay_us = 100;
    cr_assert_eq(rig_put(&rig, 0, 0, SHARED_BYTES), 0);
    cr_assert_eq(rig_open(&rig, 0, NULL, &handle), 0); /* so that the object stays */
    for (int i = 0; i < 8; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, read_all, NULL), 0);
    for (int i = 0; i < 8; i++) {
        void *failed;

        (void)pthread_join(threads[i], &failed);
        cr_assert_null(failed);
    }
    cr_assert_eq(asked(), SHARED_BYTES, "each byte once");
    atd_reader_close(handle);
}

Test(reader, eight_handles_fetch_each_byte_once, .init = start_without, .fini = stop)
{
    eight_readers();
}

Test(reader, eight_handles_fetch_each_byte_once_with_disk, .init = start_with, .fini = stop)
{
    eight_readers();
}

/* ------------------------------------------------------------------ the cache directory */

Test(reader, restart_fetches_nothing_again, .init = start_with, .fini = stop)
{
    cr_assert_eq(rig_put(&rig, 0, 0, 20 * MIB + 5), 0);
    cr_assert_eq(rig_open(&rig, 0, NULL, &handle), 0);
    read_whole(20 * MIB + 5, MIB);
    cr_assert(RIG_EVENTUALLY(rig_is_local(&rig, 0)));
    cr_assert(RIG_EVENTUALLY(atomic_load(&rig.local_changes) == 1));
    atd_reader_close(handle);
    cr_assert(rig_stop_reader(&rig));
    cr_assert_eq(rig_start_reader(&rig), 0);
    cr_assert(!rig_is_local(&rig, 0));
    cr_assert_eq(rig_open(&rig, 0, NULL, &handle), 0);
    read_whole(20 * MIB + 5, MIB);
    cr_assert_eq(asked(), 20 * MIB + 5);
    cr_assert(RIG_EVENTUALLY(rig_is_local(&rig, 0)), "found complete, it is checked");
    atd_reader_close(handle);
}

static int flip(const char *path, const struct stat *st, int type, struct FTW *where)
{
    size_t len = strlen(path);
    uint8_t byte;
    int fd;

    (void)st;
    (void)where;
    if (type != FTW_F || len < 5 || strcmp(path + len - 5, ".data") != 0)
        return 0;
    fd = open(path, O_RDWR | O_CLOEXEC);
    cr_assert(fd >= 0);
    cr_assert_eq(pread(fd, &byte, 1, 3 * 65536 + 17), 1);
    byte ^= 4;
    cr_assert_eq(pwrite(fd, &byte, 1, 3 * 65536 + 17), 1);
    (void)close(fd);
    return 0;
}

Test(reader, flipped_bit_is_fetched_again, .init = start_with, .fini = stop)
{
    uint64_t before;

    cr_assert_eq(rig_put(&rig, 0, 0, 2 * MIB), 0);
    cr_assert_eq(rig_open(&rig, 0, NULL, &handle), 0);
    read_whole(2 * MIB, MIB);
    cr_assert(RIG_EVENTUALLY(rig_is_local(&rig, 0)));
    atd_reader_close(handle);
    cr_assert(rig_stop_reader(&rig));
    cr_assert_eq(nftw(rig.path, flip, 8, FTW_PHYS), 0);
    before = asked();
    cr_assert_eq(rig_start_reader(&rig), 0);
    cr_assert_eq(rig_open(&rig, 0, NULL, &handle), 0);
    cr_assert_eq(rig_read(handle, 0, 0, 0, MIB), 0);
    cr_assert_geq(asked() - before, 65536);
    cr_assert_leq(asked() - before, 2 * MIB - 65536 * 4);
    /* By the read, and perhaps by the check of the whole at the same moment. */
    cr_assert_geq(atomic_load(&rig.stats.bad_blocks), 1);
    cr_assert(RIG_EVENTUALLY(rig_is_local(&rig, 0)));
    atd_reader_close(handle);
}

Test(reader, full_cache_directory_still_serves, .fini = stop)
{
    rig.cache_bytes = 4 * MIB;
    start(true);
    cr_assert_eq(rig_put(&rig, 0, 0, 40 * MIB), 0);
    cr_assert_eq(rig_open(&rig, 0, NULL, &handle), 0);
    for (uint64_t at = 0; at < 40 * MIB; at += MIB)
        cr_assert_eq(rig_read(handle, 0, 0, at, MIB), 0);
    cr_assert(RIG_EVENTUALLY(atomic_load(&rig.stats.write_failures) > 0));
    cr_assert_eq(asked(), 40 * MIB);
    atd_reader_close(handle);
}

static void sha_of(unsigned object, uint64_t size, char ret_hex[65])
{
    uint8_t *bytes = malloc(size);
    uint8_t digest[ATD_SHA256_BYTES];

    content_fill(object, 0, 0, bytes, size);
    atd_sha256_of(bytes, size, digest);
    for (int i = 0; i < ATD_SHA256_BYTES; i++)
        (void)snprintf(ret_hex + 2 * i, 3, "%02x", digest[i]);
    free(bytes);
}

Test(reader, local_files_are_handed_out, .init = start_with, .fini = stop)
{
    char hex[65];
    struct stat st;
    uint8_t bytes[100];
    int fd = -1;

    sha_of(0, 3 * MIB + 1, hex);
    cr_assert_eq(rig_put(&rig, 0, 0, 3 * MIB + 1), 0);
    cr_assert_eq(rig_open(&rig, 0, hex, &handle), 0);
    cr_assert_eq(atd_reader_local_fd(handle, &fd, NULL), -ENODATA);
    read_whole(3 * MIB + 1, MIB);
    cr_assert(RIG_EVENTUALLY(rig_is_local(&rig, 0)));
    cr_assert_eq(atd_reader_local_fd(handle, &fd, NULL), 0);
    cr_assert_eq(fstat(fd, &st), 0);
    cr_assert_eq(st.st_size, 3 * MIB + 1);
    cr_assert_eq(pread(fd, bytes, 100, 2 * MIB), 100);
    cr_assert_eq(content_check(0, 0, 2 * MIB, bytes, 100), 100);
    (void)close(fd);
    atd_reader_close(handle);
    /* Again: known, without another check. */
    cr_assert_eq(rig_open(&rig, 0, hex, &handle), 0);
    cr_assert_eq(atd_reader_local_fd(handle, &fd, NULL), 0);
    (void)close(fd);
    atd_reader_close(handle);
    cr_assert_eq(atomic_load(&rig.local_changes), 1);
    cr_assert_eq(atomic_load(&rig.stats.verified_objects), 1);
}

Test(reader, wrong_sha256_is_never_served, .init = start_with, .fini = stop)
{
    char hex[65];
    struct rig_read read;

    sha_of(1, MIB, hex);
    cr_assert_eq(rig_put(&rig, 0, 0, MIB), 0);
    cr_assert_eq(rig_open(&rig, 0, hex, &handle), 0);
    cr_assert_eq(rig_read(handle, 0, 0, 0, MIB), 0);
    cr_assert(RIG_EVENTUALLY(rig_read(handle, 0, 0, 0, 4096) == EIO));
    rig_read_start(&read, handle, 0, 0, 0, 1);
    cr_assert_eq(rig_read_wait(&read), EIO);
    cr_assert(strstr(read.text, "does not have the SHA-256 recorded in the index"), "%s",
              read.text);
    atd_reader_close(handle);
    cr_assert_eq(rig_open(&rig, 0, hex, &handle), -EBADMSG);
    cr_assert(!rig_is_local(&rig, 0));
    sha_of(0, MIB, hex);
    cr_assert_eq(rig_open(&rig, 0, hex, &handle), 0, "the index was put right");
    cr_assert_eq(rig_read(handle, 0, 0, 0, MIB), 0);
    cr_assert(RIG_EVENTUALLY(rig_is_local(&rig, 0)));
    atd_reader_close(handle);
}

/* One entry of the index tells the SHA-256 of a shard and another does not: what was verified for
 * the latter is not yet for the former. */
Test(reader, local_without_a_sha256_is_not_local_for_one, .init = start_with, .fini = stop)
{
    struct atd_reader_handle *strict;
    char wrong[65];
    int fd = -1;

    sha_of(1, 32 * MIB, wrong);
    cr_assert_eq(rig_put(&rig, 0, 0, 32 * MIB), 0);
    cr_assert_eq(rig_open(&rig, 0, NULL, &handle), 0);
    read_whole(32 * MIB, MIB);
    cr_assert(RIG_EVENTUALLY(rig_is_local(&rig, 0)));
    cr_assert_eq(rig_open(&rig, 0, wrong, &strict), 0);
    cr_assert_eq(atd_reader_local_fd(strict, &fd, NULL), -ENODATA, "nobody has checked it");
    cr_assert(RIG_EVENTUALLY(rig_read(strict, 0, 0, 0, 4096) == EIO));
    cr_assert_eq(atd_reader_local_fd(strict, &fd, NULL), -ENODATA);
    atd_reader_close(strict);
    atd_reader_close(handle);
}

/* Two opens at once make two users of the cache file for a moment: the one that goes does not end
 * the check that the other has begun. */
Test(reader, another_user_of_the_file_does_not_end_the_check, .init = start_with, .fini = stop)
{
    struct atd_object_info info;
    struct atd_cache_file *file;

    cr_assert_eq(rig_put(&rig, 0, 0, 128 * MIB), 0);
    cr_assert_eq(rig_open(&rig, 0, NULL, &handle), 0);
    read_whole(128 * MIB, MIB);
    cr_assert(RIG_EVENTUALLY(rig_is_local(&rig, 0)));
    atd_reader_close(handle);
    cr_assert(rig_stop_reader(&rig));
    cr_assert_eq(rig_start_reader(&rig), 0);
    cr_assert_eq(atd_store_stat(rig.memory, ATD_STR("mem://b/0000.tar"), 1000, &info, NULL), 0);
    cr_assert_eq(rig_open(&rig, 0, NULL, &handle), 0);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(atd_cache_file_open(rig.dir, ATD_STR(" mem://b/0000.tar"), &info, &file, NULL),
                     0);
        (void)usleep(1000);
        atd_cache_file_close(file);
    }
    cr_assert(RIG_EVENTUALLY(rig_is_local(&rig, 0)));
    atd_reader_close(handle);
}

#include <criterion/criterion.h>
#include <sys/mman.h>

#include "support/cache_setup.h"

#define URL ATD_STR("s3://bucket/a.tar")

static int format(struct atd_str url, const struct atd_object_info *info)
{
    int fd = memfd_create("map", MFD_CLOEXEC);

    cr_assert_eq(atd_block_map_format(fd, url, info, NULL), 0);
    return fd;
}

static struct atd_block_map load(int fd, struct atd_str url, const struct atd_object_info *info)
{
    struct atd_block_map map;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_block_map_load(fd, url, info, &map, &err), 0, "%s", err.text);
    return map;
}

Test(block_map, counts_blocks_and_bytes)
{
    cr_assert_eq(atd_block_map_count(0), 0);
    cr_assert_eq(atd_block_map_count(1), 1);
    cr_assert_eq(atd_block_map_count(BLOCK), 1);
    cr_assert_eq(atd_block_map_count(BLOCK + 1), 2);
    cr_assert_eq(atd_block_map_count(UINT64_MAX), UINT64_MAX / BLOCK + 1);
    cr_assert_eq(atd_block_map_file_bytes(BLOCK + 1), 4096 + 16);
}

Test(block_map, hashes_every_fact_of_a_version)
{
    struct atd_object_info infos[] = {object_info(1, "e"), object_info(2, "e"), object_info(1, "f"),
                                      object_info(1, ""),  object_info(1, ""),  object_info(1, "e"),
                                      object_info(1, "e")};
    struct atd_str urls[] = {URL, URL, URL, URL, URL, ATD_STR("s3://bucket/a.ta"), ATD_STR("")};
    uint8_t hashes[7][ATD_SHA256_BYTES];

    infos[4].mtime_s = 1;
    for (int i = 0; i < 7; i++) {
        atd_block_map_hash(urls[i], &infos[i], hashes[i]);
        for (int j = 0; j < i; j++)
            cr_assert_neq(memcmp(hashes[i], hashes[j], sizeof(hashes[i])), 0, "%d %d", i, j);
    }
    infos[0].mtime_s = 5; /* is of no account with an ETag */
    atd_block_map_hash(urls[0], &infos[0], hashes[1]);
    cr_assert_eq(memcmp(hashes[0], hashes[1], sizeof(hashes[0])), 0);
}

Test(block_map, marks_and_unmarks_for_others_to_see)
{
    const struct atd_object_info info = object_info(200 * BLOCK, "e");
    int fd = format(URL, &info);
    struct atd_block_map one = load(fd, URL, &info);
    struct atd_block_map two = load(dup(fd), URL, &info);
    uint32_t sums[ATD_MAP_BATCH_MAX];
    uint32_t got[ATD_MAP_BATCH_MAX];

    for (uint32_t i = 0; i < ATD_MAP_BATCH_MAX; i++)
        sums[i] = i * 0x01010101u;
    cr_assert_eq(atd_block_map_mark(&one, 100, 64, sums, NULL), 0);
    cr_assert(!atd_block_map_has(&one, 99) && atd_block_map_has(&one, 100) &&
              atd_block_map_has(&one, 163) && !atd_block_map_has(&one, 164));
    cr_assert_eq(atomic_load(&one.present_count), 64);
    cr_assert(!atd_block_map_has(&two, 100));
    cr_assert_eq(atd_block_map_sums(&two, 100, 64, false, got, NULL), 0);
    cr_assert_eq(memcmp(sums, got, sizeof(sums)), 0);
    cr_assert_eq(atomic_load(&two.present_count), 64);
    atd_block_map_unmark(&one, 120);
    cr_assert(!atd_block_map_has(&one, 120) && atd_block_map_has(&two, 120));
    cr_assert_eq(atd_block_map_sums(&two, 119, 2, false, got, NULL), -ENODATA);
    cr_assert(!atd_block_map_has(&two, 120));
    cr_assert_eq(atd_block_map_mark(&one, 199, 1, sums, NULL), 0);
    atd_block_map_refresh(&two, 0, 199);
    cr_assert(!atd_block_map_has(&two, 199));
    atd_block_map_refresh(&two, 199, UINT64_MAX);
    cr_assert(atd_block_map_has(&two, 199));
    atd_block_map_forget(&two);
    cr_assert_eq(atomic_load(&two.present_count), 0);
    atd_block_map_release(&one);
    atd_block_map_release(&two);
}

Test(block_map, a_load_finds_marks_between_holes)
{
    /* 16 TiB, whose map is 2 GiB of hole. */
    const struct atd_object_info info = object_info(ATD_MAP_OBJECT_BYTES_MAX, "e");
    const uint64_t blocks[] = {0, 511, 512, 70000, 123456789, ATD_MAP_OBJECT_BYTES_MAX / BLOCK - 1};
    int fd = format(URL, &info);
    struct atd_block_map map = load(dup(fd), URL, &info);
    uint32_t sum = 5;

    for (size_t i = 0; i < 6; i++)
        cr_assert_eq(atd_block_map_mark(&map, blocks[i], 1, &sum, NULL), 0);
    atd_block_map_release(&map);
    map = load(fd, URL, &info);
    cr_assert_eq(atomic_load(&map.present_count), 6);
    for (size_t i = 0; i < 6; i++)
        cr_assert(atd_block_map_has(&map, blocks[i]));
    atd_block_map_release(&map);
}

Test(block_map, refuses_every_other_header)
{
    char *long_url = malloc(5000);
    const struct atd_object_info info = object_info(3 * BLOCK, "e");
    struct atd_object_info other = object_info(3 * BLOCK, "f");
    struct atd_str url = {long_url, 5000};
    struct atd_block_map map;
    int fd;

    memset(long_url, 'u', 5000);
    fd = format(url, &info);
    cr_assert_eq(atd_block_map_load(fd, URL, &info, &map, NULL), -EBADMSG);
    cr_assert_eq(atd_block_map_load(fd, url, &other, &map, NULL), -EBADMSG);
    other = info;
    other.etag[0] = '\0';
    cr_assert_eq(atd_block_map_load(fd, url, &other, &map, NULL), -EBADMSG);
    long_url[4999] = 'v'; /* behind what the header shows of it */
    cr_assert_eq(atd_block_map_load(fd, url, &info, &map, NULL), -EBADMSG);
    long_url[4999] = 'u';
    for (off_t at = 0; at < (off_t)ATD_MAP_HEADER_BYTES; at++) {
        uint8_t byte;

        cr_assert_eq(pread(fd, &byte, 1, at), 1);
        byte ^= 1;
        cr_assert_eq(pwrite(fd, &byte, 1, at), 1);
        cr_assert_eq(atd_block_map_load(fd, url, &info, &map, NULL), -EBADMSG);
        byte ^= 1;
        cr_assert_eq(pwrite(fd, &byte, 1, at), 1);
    }
    cr_assert_eq(ftruncate(fd, ATD_MAP_HEADER_BYTES + 23), 0);
    cr_assert_eq(atd_block_map_load(fd, url, &info, &map, NULL), -EBADMSG);
    cr_assert_eq(ftruncate(fd, ATD_MAP_HEADER_BYTES + 24), 0);
    map = load(fd, url, &info);
    atd_block_map_release(&map);
    free(long_url);
}

Test(block_map, a_sum_is_of_the_version_the_place_and_the_bytes)
{
    const struct atd_object_info one = object_info(3 * BLOCK, "e");
    const struct atd_object_info two = object_info(3 * BLOCK, "f");
    struct atd_block_map a = load(format(URL, &one), URL, &one);
    struct atd_block_map b = load(format(URL, &two), URL, &two);
    uint8_t *bytes = calloc(1, BLOCK);
    uint32_t sum = atd_block_map_sum(&a, 0, bytes, BLOCK);

    cr_assert_neq(sum, 0);
    cr_assert_eq(sum, atd_block_map_sum(&a, 0, bytes, BLOCK));
    cr_assert_neq(sum, atd_block_map_sum(&a, 1, bytes, BLOCK));
    cr_assert_neq(sum, atd_block_map_sum(&a, 0, bytes, BLOCK - 1));
    cr_assert_neq(sum, atd_block_map_sum(&b, 0, bytes, BLOCK));
    bytes[77] = 1;
    cr_assert_neq(sum, atd_block_map_sum(&a, 0, bytes, BLOCK));
    free(bytes);
    atd_block_map_release(&a);
    atd_block_map_release(&b);
}

/*
 * Any bytes as a .map file: it is refused, or it is read within its bounds. The first byte chooses
 * the size of the object; with an even one the header is made right, so that the entries are
 * reached.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cache/block_map.h"
#include "cache/cache_dir.h"

#define URL ATD_STR("s3://bucket/shard.tar")

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void use(struct atd_block_map *map, const struct atd_object_info *info)
{
    uint64_t present = 0;
    uint32_t sums[ATD_MAP_BATCH_MAX];

    require(map->block_count == atd_block_map_count(info->size_bytes));
    for (uint64_t block = 0; block < map->block_count; block++) {
        bool there = atd_block_map_has(map, block);
        int rc = atd_block_map_sums(map, block, 1, false, sums, NULL);

        require(rc == (there ? 0 : -ENODATA));
        present += there;
    }
    require(!atd_block_map_has(map, map->block_count));
    require(atomic_load(&map->present_count) == present);
    require(atd_block_map_is_complete(map) == (present == map->block_count));
    if (map->block_count) {
        sums[0] = 7;
        require(atd_block_map_mark(map, map->block_count - 1, 1, sums, NULL) == 0);
        require(atd_block_map_sums(map, map->block_count - 1, 1, false, sums, NULL) == 0);
        require(sums[0] == 7);
        atd_block_map_unmark(map, map->block_count - 1);
        require(!atd_block_map_has(map, map->block_count - 1));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct atd_object_info info = {.etag = "e"};
    struct atd_block_map map;
    size_t len;
    int fd;
    int rc;

    if (size < 1)
        return 0;
    info.size_bytes = (uint64_t)(data[0] / 2) * ATD_BLOCK_BYTES + data[0];
    len = (size_t)atd_block_map_file_bytes(info.size_bytes);
    fd = memfd_create("map", MFD_CLOEXEC);
    require(fd >= 0);
    if (data[0] % 2 == 0) {
        size_t entries =
            size - 1 < len - ATD_MAP_HEADER_BYTES ? size - 1 : len - ATD_MAP_HEADER_BYTES;

        require(atd_block_map_format(fd, URL, &info, NULL) == 0);
        require(pwrite(fd, data + 1, entries, ATD_MAP_HEADER_BYTES) == (ssize_t)entries);
    } else {
        require(pwrite(fd, data + 1, size - 1, 0) == (ssize_t)(size - 1));
    }
    rc = atd_block_map_load(fd, URL, &info, &map, NULL);
    if (rc == 0) {
        use(&map, &info);
        atd_block_map_release(&map);
    } else {
        require(rc == -EBADMSG && data[0] % 2 == 1);
        (void)close(fd);
    }
    return 0;
}

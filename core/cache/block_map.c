#include "cache/block_map.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "cache/cache_dir.h"

#define MARK_XOR 0x4b434c42u /* "BLCK" */
#define MAGIC "ATDCACHE"
/* How much of the map is read at once: 256 MiB of the object. */
#define LOAD_ENTRIES 4096u

/* Places in the header. */
enum {
    AT_MAGIC = 0,
    AT_VERSION = 8,
    AT_BLOCK_BYTES = 12,
    AT_SIZE = 16,
    AT_MTIME = 24,
    AT_HASH = 32,
    AT_ETAG = 64,
    AT_URL_LEN = AT_ETAG + ATD_ETAG_MAX + 1,
    AT_URL = AT_URL_LEN + 8, /* as much as fits, for people; the hash is of the whole */
    AT_SUM = ATD_MAP_HEADER_BYTES - 4,
};

static void put_le(uint8_t *at, uint64_t value, size_t width)
{
    for (size_t i = 0; i < width; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static uint32_t get_le32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void put_entry(uint8_t *at, uint32_t sum)
{
    put_le(at, sum, 4);
    put_le(at + 4, sum ^ MARK_XOR, 4);
}

static bool get_entry(const uint8_t *at, uint32_t *ret_sum)
{
    *ret_sum = get_le32(at);
    return get_le32(at + 4) == (*ret_sum ^ MARK_XOR);
}

static size_t etag_len(const struct atd_object_info *info)
{
    return strnlen(info->etag, ATD_ETAG_MAX);
}

/* As atd_object_info_same() has it: with an ETag the time says nothing more, and not every source
 * of the facts tells it. */
static uint64_t time_of(const struct atd_object_info *info)
{
    return info->etag[0] ? 0 : (uint64_t)info->mtime_s;
}

void atd_block_map_hash(struct atd_str url, const struct atd_object_info *info,
                        uint8_t ret_hash[ATD_SHA256_BYTES])
{
    uint8_t facts[AT_URL] = {0};
    uint8_t url_hash[ATD_SHA256_BYTES];
    uint8_t both[AT_URL + ATD_SHA256_BYTES];

    /* Fixed places, so that no two versions run into the same bytes. */
    put_le(facts + AT_VERSION, ATD_MAP_VERSION, 4);
    put_le(facts + AT_BLOCK_BYTES, ATD_BLOCK_BYTES, 4);
    put_le(facts + AT_SIZE, info->size_bytes, 8);
    put_le(facts + AT_MTIME, time_of(info), 8);
    memcpy(facts + AT_ETAG, info->etag, etag_len(info));
    put_le(facts + AT_URL_LEN, url.len, 8);
    atd_sha256_of(url.ptr ? url.ptr : "", url.len, url_hash);
    memcpy(both, facts, sizeof(facts));
    memcpy(both + sizeof(facts), url_hash, sizeof(url_hash));
    atd_sha256_of(both, sizeof(both), ret_hash);
}

static void make_header(struct atd_str url, const struct atd_object_info *info,
                        uint8_t ret_header[ATD_MAP_HEADER_BYTES])
{
    size_t url_len = url.len < AT_SUM - AT_URL ? url.len : AT_SUM - AT_URL;

    memset(ret_header, 0, ATD_MAP_HEADER_BYTES);
    memcpy(ret_header + AT_MAGIC, MAGIC, 8);
    put_le(ret_header + AT_VERSION, ATD_MAP_VERSION, 4);
    put_le(ret_header + AT_BLOCK_BYTES, ATD_BLOCK_BYTES, 4);
    put_le(ret_header + AT_SIZE, info->size_bytes, 8);
    put_le(ret_header + AT_MTIME, time_of(info), 8);
    atd_block_map_hash(url, info, ret_header + AT_HASH);
    memcpy(ret_header + AT_ETAG, info->etag, etag_len(info));
    put_le(ret_header + AT_URL_LEN, url.len, 8);
    if (url_len)
        memcpy(ret_header + AT_URL, url.ptr, url_len);
    put_le(ret_header + AT_SUM, atd_crc32c(0, ret_header, AT_SUM), 4);
}

uint64_t atd_block_map_count(uint64_t object_bytes)
{
    return object_bytes / ATD_BLOCK_BYTES + (object_bytes % ATD_BLOCK_BYTES != 0);
}

uint64_t atd_block_map_file_bytes(uint64_t object_bytes)
{
    return ATD_MAP_HEADER_BYTES + ATD_MAP_ENTRY_BYTES * atd_block_map_count(object_bytes);
}

static off_t entry_offset(uint64_t block)
{
    return (off_t)(ATD_MAP_HEADER_BYTES + ATD_MAP_ENTRY_BYTES * block);
}

static int write_whole(int fd, const uint8_t *bytes, size_t len, off_t offset,
                       struct atd_error *err)
{
    while (len > 0) {
        ssize_t got = pwrite(fd, bytes, len, offset);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return atd_error_set(err, got < 0 ? errno : EIO, "cannot write a map in the cache: %s",
                                 got < 0 ? strerror(errno) : "nothing was written");
        bytes += got;
        len -= (size_t)got;
        offset += got;
    }
    return 0;
}

/* Errors: EAGAIN; EIO, also when the file is shorter than it was. */
static int read_whole(int fd, uint8_t *into, size_t len, off_t offset, bool nowait,
                      struct atd_error *err)
{
    while (len > 0) {
        struct iovec piece = {into, len};
        ssize_t got = preadv2(fd, &piece, 1, offset, nowait ? RWF_NOWAIT : 0);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && nowait && (errno == EAGAIN || errno == EOPNOTSUPP))
            return atd_error_set_retryable(err, EAGAIN, "the disk would have to be asked");
        if (got <= 0)
            return atd_error_set(err, EIO, "cannot read a map in the cache: %s",
                                 got < 0 ? strerror(errno) : "it became shorter");
        into += got;
        len -= (size_t)got;
        offset += got;
    }
    return 0;
}

int atd_block_map_format(int fd, struct atd_str url, const struct atd_object_info *info,
                         struct atd_error *err)
{
    uint8_t header[ATD_MAP_HEADER_BYTES];

    if (ftruncate(fd, (off_t)atd_block_map_file_bytes(info->size_bytes)) != 0)
        return atd_error_set(err, errno, "cannot make a map in the cache: %s", strerror(errno));
    make_header(url, info, header);
    return write_whole(fd, header, sizeof(header), 0, err);
}

static void set_bit(struct atd_block_map *map, uint64_t block, bool value)
{
    uint64_t bit = 1ull << (block % 64);
    atomic_uint_fast64_t *word = &map->present[block / 64];
    uint64_t before;

    if (value == ((atomic_load_explicit(word, memory_order_relaxed) & bit) != 0))
        return;
    before = value ? atomic_fetch_or(word, bit) : atomic_fetch_and(word, ~bit);
    if (value && !(before & bit))
        (void)atomic_fetch_add(&map->present_count, 1);
    else if (!value && (before & bit))
        (void)atomic_fetch_sub(&map->present_count, 1);
}

/* Reads the entries of [first, end), leaving out holes, and sets (never clears) bits. */
static int scan_entries(struct atd_block_map *map, uint64_t first, uint64_t end,
                        struct atd_error *err)
{
    uint8_t entries[LOAD_ENTRIES * ATD_MAP_ENTRY_BYTES];

    while (first < end) {
        off_t data = lseek(map->fd, entry_offset(first), SEEK_DATA);
        uint64_t count;
        int rc;

        if (data < 0 && errno == ENXIO)
            return 0; /* nothing but a hole up to the end */
        if (data > entry_offset(first))
            first = ((uint64_t)data - ATD_MAP_HEADER_BYTES) / ATD_MAP_ENTRY_BYTES;
        if (first >= end)
            return 0;
        count = end - first < LOAD_ENTRIES ? end - first : LOAD_ENTRIES;
        rc = read_whole(map->fd, entries, count * ATD_MAP_ENTRY_BYTES, entry_offset(first), false,
                        err);
        if (rc)
            return rc;
        for (uint64_t i = 0; i < count; i++) {
            uint32_t sum;

            if (get_entry(entries + i * ATD_MAP_ENTRY_BYTES, &sum))
                set_bit(map, first + i, true);
        }
        first += count;
    }
    return 0;
}

int atd_block_map_load(int fd, struct atd_str url, const struct atd_object_info *info,
                       struct atd_block_map *ret_map, struct atd_error *err)
{
    struct atd_block_map map = {.fd = fd, .object_bytes = info->size_bytes};
    uint8_t expected[ATD_MAP_HEADER_BYTES];
    uint8_t found[ATD_MAP_HEADER_BYTES];
    uint8_t hash[ATD_SHA256_BYTES];
    struct stat st;
    int rc;

    if (fstat(fd, &st) != 0)
        return atd_error_set(err, EIO, "cannot read a map in the cache: %s", strerror(errno));
    if ((uint64_t)st.st_size != atd_block_map_file_bytes(info->size_bytes))
        return atd_error_set(err, EBADMSG, "a map in the cache has another length");
    rc = read_whole(fd, found, sizeof(found), 0, false, err);
    if (rc)
        return rc;
    make_header(url, info, expected);
    if (memcmp(found, expected, sizeof(found)) != 0)
        return atd_error_set(err, EBADMSG, "a map in the cache is damaged or another object's");
    atd_block_map_hash(url, info, hash);
    map.seed = atd_crc32c(0, hash, sizeof(hash));
    map.block_count = atd_block_map_count(info->size_bytes);
    map.present = calloc(map.block_count / 64 + 1, sizeof(*map.present));
    if (!map.present)
        return atd_error_set(err, ENOMEM, "map in the cache: out of memory");
    rc = scan_entries(&map, 0, map.block_count, err);
    if (rc) {
        free(map.present);
        return rc;
    }
    ret_map->fd = map.fd;
    ret_map->object_bytes = map.object_bytes;
    ret_map->block_count = map.block_count;
    ret_map->seed = map.seed;
    ret_map->present = map.present;
    atomic_init(&ret_map->present_count, atomic_load(&map.present_count));
    return 0;
}

void atd_block_map_release(struct atd_block_map *map)
{
    if (map->fd >= 0)
        (void)close(map->fd);
    map->fd = -1;
    free(map->present);
    map->present = NULL;
}

bool atd_block_map_has(const struct atd_block_map *map, uint64_t block)
{
    return block < map->block_count &&
           (atomic_load_explicit(&map->present[block / 64], memory_order_acquire) >> (block % 64) &
            1);
}

bool atd_block_map_is_complete(const struct atd_block_map *map)
{
    return atomic_load(&map->present_count) == map->block_count;
}

uint32_t atd_block_map_sum(const struct atd_block_map *map, uint64_t block, const uint8_t *bytes,
                           size_t len)
{
    uint8_t number[8];

    put_le(number, block, sizeof(number));
    return atd_crc32c(atd_crc32c(map->seed, number, sizeof(number)), bytes, len);
}

/*
 * The file says that the block is absent. Another thread may be recording it just now (first in
 * the file, then the bit): so the bit is cleared first and the file asked again.
 */
static void note_absent(struct atd_block_map *map, uint64_t block)
{
    uint8_t entry[ATD_MAP_ENTRY_BYTES];
    uint32_t sum;

    if (!atd_block_map_has(map, block))
        return;
    set_bit(map, block, false);
    if (read_whole(map->fd, entry, sizeof(entry), entry_offset(block), false, NULL) == 0 &&
        get_entry(entry, &sum))
        set_bit(map, block, true);
}

int atd_block_map_sums(struct atd_block_map *map, uint64_t block, size_t count, bool nowait,
                       uint32_t *ret_sums, struct atd_error *err)
{
    uint8_t entries[ATD_MAP_BATCH_MAX * ATD_MAP_ENTRY_BYTES];
    bool all = true;
    int rc;

    atd_assert(count <= ATD_MAP_BATCH_MAX && block + count <= map->block_count);
    rc =
        read_whole(map->fd, entries, count * ATD_MAP_ENTRY_BYTES, entry_offset(block), nowait, err);
    if (rc)
        return rc;
    for (size_t i = 0; i < count; i++) {
        bool there = get_entry(entries + i * ATD_MAP_ENTRY_BYTES, &ret_sums[i]);

        if (there)
            set_bit(map, block + i, true);
        else if (nowait && atd_block_map_has(map, block + i))
            return atd_error_set_retryable(err, EAGAIN, "the disk would have to be asked");
        else
            note_absent(map, block + i);
        all = all && there;
    }
    if (!all)
        return atd_error_set(err, ENODATA, "the cache does not have these blocks");
    return 0;
}

int atd_block_map_find_others(struct atd_block_map *map, uint64_t block, size_t count,
                              const uint32_t *sums, bool *ret_is_other, struct atd_error *err)
{
    uint8_t entries[ATD_MAP_BATCH_MAX * ATD_MAP_ENTRY_BYTES];
    int rc;

    atd_assert(count <= ATD_MAP_BATCH_MAX && block + count <= map->block_count);
    rc = read_whole(map->fd, entries, count * ATD_MAP_ENTRY_BYTES, entry_offset(block), false, err);
    for (size_t i = 0; i < count && rc == 0; i++) {
        uint32_t sum;

        ret_is_other[i] = get_entry(entries + i * ATD_MAP_ENTRY_BYTES, &sum) && sum != sums[i];
        if (ret_is_other[i])
            set_bit(map, block + i, true);
    }
    return rc;
}

int atd_block_map_mark(struct atd_block_map *map, uint64_t block, size_t count,
                       const uint32_t *sums, struct atd_error *err)
{
    uint8_t entries[ATD_MAP_BATCH_MAX * ATD_MAP_ENTRY_BYTES];
    int rc;

    atd_assert(count > 0 && count <= ATD_MAP_BATCH_MAX && block + count <= map->block_count);
    for (size_t i = 0; i < count; i++)
        put_entry(entries + i * ATD_MAP_ENTRY_BYTES, sums[i]);
    rc = write_whole(map->fd, entries, count * ATD_MAP_ENTRY_BYTES, entry_offset(block), err);
    for (size_t i = 0; i < count && rc == 0; i++)
        set_bit(map, block + i, true);
    return rc;
}

void atd_block_map_unmark(struct atd_block_map *map, uint64_t block)
{
    const uint8_t absent[ATD_MAP_ENTRY_BYTES] = {0};

    set_bit(map, block, false);
    /* When this fails the block is found bad once more: nothing is lost but time. */
    (void)write_whole(map->fd, absent, sizeof(absent), entry_offset(block), NULL);
}

void atd_block_map_forget(struct atd_block_map *map)
{
    for (uint64_t i = 0; i <= map->block_count / 64; i++) {
        uint64_t before = atomic_exchange(&map->present[i], 0);

        (void)atomic_fetch_sub(&map->present_count, (unsigned)__builtin_popcountll(before));
    }
}

void atd_block_map_refresh(struct atd_block_map *map, uint64_t block, uint64_t count)
{
    uint64_t end = count < map->block_count - block ? block + count : map->block_count;

    atd_assert(block <= map->block_count);
    (void)scan_entries(map, block, end, NULL);
}

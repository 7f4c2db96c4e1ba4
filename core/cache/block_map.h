/*
 * The .map file of a cached object: which blocks lie in the data file, and what they sum to.
 *
 *   0     header, ATD_MAP_HEADER_BYTES: a pure function of (URL, size, ETag or else time), so
 *         that it is checked by comparing it whole; nothing in it is ever decoded
 *   4096  8 bytes a block: the block's sum, and the same sum again XORed with a constant. A hole,
 *         a torn pair or a flipped bit is thus "absent". All little endian.
 *
 * The sum of a block is the CRC32C of (hash of the object's version, block number, bytes): neither
 * the zeros of a hole nor a misplaced block has it.
 *
 * The file is read and written by system calls, not mapped: a failing or full disk is then an
 * error, not a SIGBUS, on every file system. In memory there is one bit a block, which says what
 * was known when the file was last looked at; what counts for a read is the file.
 *
 * Threads: any, after the load.
 */
#ifndef ATD_CACHE_BLOCK_MAP_H
#define ATD_CACHE_BLOCK_MAP_H

#include <stdatomic.h>

#include "atdata/error.h"
#include "base/digest.h"
#include "net/object_info.h"

#define ATD_MAP_VERSION 1u
#define ATD_MAP_HEADER_BYTES 4096u
#define ATD_MAP_ENTRY_BYTES 8u
/* ext4's largest file; also bounds the bits in memory (32 MiB). Larger objects are not cached. */
#define ATD_MAP_OBJECT_BYTES_MAX (16ull << 40)
/* Blocks in one call of _sums and _mark. */
#define ATD_MAP_BATCH_MAX 64u

struct atd_block_map {
    int fd; /* owned */
    uint64_t object_bytes;
    uint64_t block_count;
    uint32_t seed; /* the sum of the version's hash */
    atomic_uint_fast64_t present_count;
    atomic_uint_fast64_t *present; /* a bit a block */
};

/* Names the version of the object: SHA-256 of (layout, URL, size, ETag or else time). */
void atd_block_map_hash(struct atd_str url, const struct atd_object_info *info,
                        uint8_t ret_hash[ATD_SHA256_BYTES]);

uint64_t atd_block_map_count(uint64_t object_bytes);
uint64_t atd_block_map_file_bytes(uint64_t object_bytes);

/* Makes the empty file `fd` a map without any block. The header comes last: a file without it is
 * unsound. Errors: ENOSPC, EIO, EFBIG. */
int atd_block_map_format(int fd, struct atd_str url, const struct atd_object_info *info,
                         struct atd_error *err) ATD_MUST_USE;

/*
 * Reads it. `fd` is taken on success. Errors: EBADMSG it is not the map of this version (another
 * header, another length); EIO; ENOMEM.
 */
int atd_block_map_load(int fd, struct atd_str url, const struct atd_object_info *info,
                       struct atd_block_map *ret_map, struct atd_error *err) ATD_MUST_USE;
void atd_block_map_release(struct atd_block_map *map);

/* What the bits say. Never block. */
bool atd_block_map_has(const struct atd_block_map *map, uint64_t block);
bool atd_block_map_is_complete(const struct atd_block_map *map);

uint32_t atd_block_map_sum(const struct atd_block_map *map, uint64_t block, const uint8_t *bytes,
                           size_t len);

/*
 * The recorded sums of blocks [block, block + count), count at most ATD_MAP_BATCH_MAX; brings the
 * bits up to date. Errors: ENODATA some block is absent; EAGAIN (nowait) it would block; EIO.
 */
int atd_block_map_sums(struct atd_block_map *map, uint64_t block, size_t count, bool nowait,
                       uint32_t *ret_sums, struct atd_error *err) ATD_MUST_USE;

/* Which of the blocks are recorded with another sum than `sums` has: somebody stored other bytes.
 * Their bits are set. Errors: EIO. */
int atd_block_map_find_others(struct atd_block_map *map, uint64_t block, size_t count,
                              const uint32_t *sums, bool *ret_is_other,
                              struct atd_error *err) ATD_MUST_USE;

/* Records blocks as present. Their bytes are in the data file. Errors: ENOSPC, EDQUOT, EIO. */
int atd_block_map_mark(struct atd_block_map *map, uint64_t block, size_t count,
                       const uint32_t *sums, struct atd_error *err) ATD_MUST_USE;

/* Records a block as absent; where the disk does not let it, at least in memory. */
void atd_block_map_unmark(struct atd_block_map *map, uint64_t block);
/* Forgets all in memory only. */
void atd_block_map_forget(struct atd_block_map *map);

/* Looks what other processes added among [block, block + count). */
void atd_block_map_refresh(struct atd_block_map *map, uint64_t block, uint64_t count);

#endif

/*
 * Checking a whole file, after which the kernel may read it by itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/hex.h"
#include "cache/cache_dir_private.h"

#define VERIFY_BLOCKS 16u

bool atd_cache_file_is_verified(const struct atd_cache_file *file)
{
    return atomic_load(&file->verified);
}

static int parse_sha(const char *hex, uint8_t ret_sha[ATD_SHA256_BYTES], struct atd_error *err)
{
    for (size_t i = 0; i < 2 * ATD_SHA256_BYTES; i++) {
        int digit = atd_hex_value(hex[i]);

        if (digit < 0)
            return atd_error_set(err, EINVAL, "a SHA-256 is not 64 hexadecimal digits");
        ret_sha[i / 2] = (uint8_t)(i % 2 ? ret_sha[i / 2] | digit : digit << 4);
    }
    if (hex[2 * ATD_SHA256_BYTES])
        return atd_error_set(err, EINVAL, "a SHA-256 is not 64 hexadecimal digits");
    return 0;
}

/* Every block, and into `sha` (may be NULL) the whole. Errors: ENODATA, ECANCELED, EIO. */
static int check_blocks(struct atd_cache_file *file, int fd, struct atd_sha256 *sha,
                        struct atd_error *err)
{
    atd_auto_free uint8_t *buffer = malloc((size_t)VERIFY_BLOCKS * ATD_BLOCK_BYTES);
    int result = 0;

    if (!buffer)
        return atd_error_set(err, ENOMEM, "checking a file in the cache: out of memory");
    for (uint64_t block = 0; block < file->map.block_count; block += VERIFY_BLOCKS) {
        uint64_t left = file->map.block_count - block;
        size_t count = left < VERIFY_BLOCKS ? (size_t)left : VERIFY_BLOCKS;
        int rc;

        if (atomic_load(&file->cancel_verify) || atomic_load(&file->dir->interrupted))
            return atd_error_set(err, ECANCELED, "nobody needs the check any more");
        rc = atd_cache_file_read_batch(file, fd, block, count, false, buffer, err);
        if (rc && rc != -ENODATA)
            return rc;
        /* Goes on after bad blocks, so that all are found and fetched together. */
        if (rc)
            result = rc;
        else if (sha)
            atd_sha256_add(sha, buffer, atd_cache_file_bytes_of(file, block, count));
    }
    return result;
}

/* It is not what the index says: nobody shall find it again. */
static void discard(struct atd_cache_file *file)
{
    struct atd_cache_dir *dir = file->dir;
    char name[ATD_CACHE_NAME_MAX];

    atomic_store(&file->discarded, true);
    atomic_store(&file->verified, false);
    atd_lock_take(&dir->lock);
    atd_cache_unlist_locked(file);
    atd_lock_give(&dir->lock);
    atd_cache_name(file->hash, ".data", name);
    if (atd_cache_names(dir, name, file->device, file->inode)) {
        char map_name[ATD_CACHE_NAME_MAX];

        atd_cache_name(file->hash, ".map", map_name);
        (void)unlinkat(dir->fd, map_name, 0);
        (void)unlinkat(dir->fd, name, 0);
    }
    atd_block_map_forget(&file->map);
    ATD_CACHE_COUNT(dir->stats, mismatched_objects, 1);
}

static int check_whole(struct atd_cache_file *file, const uint8_t *want, struct atd_error *err)
{
    atd_auto_sha256 struct atd_sha256 *sha = want ? atd_sha256_new() : NULL;
    atd_auto_fd int fd = -1;
    struct stat st;
    int rc;

    if (want && !sha)
        return atd_error_set(err, ENOMEM, "checking a file in the cache: out of memory");
    if (!atd_cache_file_is_complete(file))
        atd_block_map_refresh(&file->map, 0, file->map.block_count);
    if (!atd_cache_file_is_complete(file))
        return atd_error_set(err, ENODATA, "the file in the cache is not complete");
    rc = atd_cache_file_dup(file, &fd, err);
    if (rc)
        return rc;
    if (fstat(fd, &st) != 0)
        return atd_cache_file_error(errno, "read", err);
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    rc = check_blocks(file, fd, sha, err);
    if (rc == 0 && sha) {
        uint8_t got[ATD_SHA256_BYTES];

        atd_sha256_finish(sha, got);
        if (memcmp(got, want, sizeof(got)) != 0) {
            discard(file);
            return atd_error_set(err, EBADMSG,
                                 "the object's bytes do not have the SHA-256 that the index tells");
        }
    }
    if (rc == 0) {
        /* As it was before: if it was written to since, a later open does not trust it. */
        const struct atd_cache_stamp stamp = atd_cache_stamp_of(&st);

        atd_cache_remember_verified(file, &stamp, want);
        ATD_CACHE_COUNT(file->dir->stats, verified_objects, 1);
    }
    return rc;
}

int atd_cache_file_verify(struct atd_cache_file *file, const char *sha256_hex,
                          struct atd_error *err)
{
    struct atd_cache_dir *dir = file->dir;
    uint8_t want[ATD_SHA256_BYTES];
    bool known;
    int rc = sha256_hex ? parse_sha(sha256_hex, want, err) : 0;

    if (rc)
        return rc;
    atd_lock_take(&dir->lock);
    known = atomic_load(&file->verified) &&
            (!sha256_hex || (file->has_sha && memcmp(file->sha, want, sizeof(want)) == 0));
    if (!known && file->verifiers++ == 0)
        atomic_store(&file->cancel_verify, false);
    atd_lock_give(&dir->lock);
    if (known)
        return 0;
    rc = check_whole(file, sha256_hex ? want : NULL, err);
    atd_lock_take(&dir->lock);
    file->verifiers--;
    atd_lock_give(&dir->lock);
    return rc;
}

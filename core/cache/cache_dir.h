/*
 * The cache directory: one sparse data file an object, with a block map beside it.
 *
 * Layout (all names below DIR/v1/, private to the user, mode 0700/0600):
 *   XX/HASH.data   the object's bytes at their own offsets; holes where nothing was fetched
 *   XX/HASH.map    header (magic, version, URL, size, ETag, sum of the header), then 8 bytes a
 *                  block of 64 KiB: CRC32C of (object, block number, bytes) and a present mark
 * HASH is of (version of the layout, URL, size, ETag; without ETag: mtime): another version of the
 * object is another file.
 *
 * Crash safety costs no fsync: a block counts only if its bytes match its CRC, so a map that is
 * ahead of the data (power cut) makes a refetch, never wrong bytes; after kill -9 both are whole,
 * because the page cache survives. Several processes may share a directory: both files are only
 * ever added to with the same bytes; whoever uses one holds a shared flock on its .data, and
 * eviction takes only what it can lock alone.
 *
 * Threads: any. "Blocks" below means on the local disk.
 */
#ifndef ATD_CACHE_CACHE_DIR_H
#define ATD_CACHE_CACHE_DIR_H

#include "atdata/error.h"
#include "cache/cache_stats.h"
#include "net/object_info.h"

#define ATD_BLOCK_BYTES 65536u

struct atd_cache_dir;
struct atd_cache_file;

struct atd_cache_dir_options {
    const char *path;              /* absolute; made (0700) when missing */
    uint64_t size_max_bytes;       /* of allocated bytes of all files; at least 1 MiB */
    uint64_t free_floor_bytes;     /* the file system keeps so much free */
    struct atd_cache_stats *stats; /* borrowed */
    /* Where the directory is missing it is made by the first _file_open (which then has the errors
     * of _open), so that who never reads a remote shard finds none. */
    bool make_late;
};

/*
 * Opens the directory and starts its eviction thread, which also looks (late and lazily) what is
 * there: a huge directory does not delay the start. Blocks. Errors: EACCES (also: somebody else's,
 * or writable by others), ENOTDIR, EROFS, ENOSPC, each with what to do.
 */
int atd_cache_dir_open(const struct atd_cache_dir_options *options, struct atd_cache_dir **ret_dir,
                       struct atd_error *err) ATD_MUST_USE;
/* All files are closed. NULL is fine. False when a thread hangs in the disk. */
bool atd_cache_dir_close(struct atd_cache_dir *dir);

/* Every verification under way and any later one ends with ECANCELED: before a close, so that its
 * users can end. Never blocks. */
void atd_cache_dir_interrupt(struct atd_cache_dir *dir);

/* What all files take now, as far as it is known. */
uint64_t atd_cache_dir_used_bytes(struct atd_cache_dir *dir);

/* Looks now what is there, and evicts what is over the limit: for who is about to write much and
 * will not live long. Blocks. */
void atd_cache_dir_trim(struct atd_cache_dir *dir);

/*
 * The file of one version of an object, made when missing; one shared handle a process and
 * version, counted. Blocks. Errors: ENOSPC, EIO, EMFILE, ...: the caller goes on without a file.
 * What lies there and is unsound (bad header, wrong lengths) is replaced. ENOTSUP: neither ETag nor
 * time is known, so that nothing tells this version from a later one.
 */
int atd_cache_file_open(struct atd_cache_dir *dir, struct atd_str url,
                        const struct atd_object_info *info, struct atd_cache_file **ret_file,
                        struct atd_error *err) ATD_MUST_USE;
/* NULL is fine. Blocks. */
void atd_cache_file_close(struct atd_cache_file *file);

/* True when the block is marked present. Never blocks. */
bool atd_cache_file_has(const struct atd_cache_file *file, uint64_t block);
bool atd_cache_file_is_complete(const struct atd_cache_file *file);
uint64_t atd_cache_file_present_blocks(const struct atd_cache_file *file);

/*
 * Reads whole blocks [block, block + count) into `into` (the object's last one may be short) and
 * checks each. With `nowait` only what the page cache holds (RWF_NOWAIT).
 * Errors: EAGAIN (nowait) the disk would have to be asked; ENODATA some block is not there, or
 * was found bad and is now marked absent (counted): fetch it; EIO.
 */
int atd_cache_file_read(struct atd_cache_file *file, uint64_t block, size_t count, bool nowait,
                        uint8_t *into, struct atd_error *err) ATD_MUST_USE;

/*
 * Stores whole blocks (the object's last one may be short). Blocks. When the disk is full or the
 * limit reached, unused files are evicted and it is tried again. Errors: ENOSPC, EIO: nothing is
 * marked, the caller goes on without the cache; EFBIG the directory's limit does not allow it.
 */
int atd_cache_file_write(struct atd_cache_file *file, uint64_t block, const uint8_t *bytes,
                         size_t len, struct atd_error *err) ATD_MUST_USE;

/*
 * Reads a complete file through and checks every block; with `sha256_hex` (64 digits, or NULL) the
 * whole too. Then the file is verified: the kernel may read it by itself. Blocks long; meant for
 * a background thread. Errors: ENODATA blocks were bad and are absent now; EBADMSG every block is
 * as it was received, but the whole does not have that SHA-256: the file is thrown away, and the
 * object must not be served; ECANCELED the file is being closed by the last other user, or
 * atd_cache_dir_interrupt() was called. Already verified in the same way: returns at once. Counts
 * verified_objects and mismatched_objects. The caller's handle stays open during the call.
 */
int atd_cache_file_verify(struct atd_cache_file *file, const char *sha256_hex,
                          struct atd_error *err) ATD_MUST_USE;
bool atd_cache_file_is_verified(const struct atd_cache_file *file);

/* A new read-only descriptor of the data file for passthrough; the caller's. */
int atd_cache_file_dup(const struct atd_cache_file *file, int *ret_fd,
                       struct atd_error *err) ATD_MUST_USE;

#endif

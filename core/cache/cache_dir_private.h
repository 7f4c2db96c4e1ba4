/*
 * What the files of the cache directory share: cache_dir.c (the directory and its table of open
 * files), cache_file.c (one file), verify.c (checking it whole), evict.c (room), pins.c (what stays
 * when room is made).
 *
 * Lock order: one lock, ATD_RANK_CACHE; never held across a system call on the disk.
 */
#ifndef ATD_CACHE_CACHE_DIR_PRIVATE_H
#define ATD_CACHE_CACHE_DIR_PRIVATE_H

#include <pthread.h>
#include <sys/stat.h>

#include "base/lock.h"
#include "cache/block_map.h"
#include "cache/cache_dir.h"

#define ATD_CACHE_BUCKETS 1024u
#define ATD_CACHE_PREFIXES 256u /* sub-directories, by the first byte of the hash */
/* Verified versions remembered; one more displaces another. */
#define ATD_CACHE_VERIFIED_MAX 4096u
/* "XX/" + 64 digits + ".data" and the terminator */
#define ATD_CACHE_NAME_MAX 80

/* What a data file was when it was verified. Nobody writes to a complete one, so that it stays so.
 */
struct atd_cache_stamp {
    uint64_t device;
    uint64_t inode;
    int64_t size;
    int64_t mtime_s, mtime_ns;
    int64_t ctime_s, ctime_ns;
};

struct atd_cache_verified {
    struct atd_cache_stamp stamp;
    bool has_sha;
    uint8_t sha[ATD_SHA256_BYTES];
};

/*
 * One open version.
 *
 *   OPENING --(its opener)--> OPEN --(last close)--> gone
 *           \--------------> FAILED --(last waiter)--> gone
 *
 * An open one is partial, complete (the map says so) or verified (`verified`); a bad block makes
 * it partial again, a wrong SHA-256 makes it discarded: unlinked, and without any block.
 */
enum atd_cache_file_state { ATD_CACHE_FILE_OPENING, ATD_CACHE_FILE_OPEN, ATD_CACHE_FILE_FAILED };

struct atd_cache_file {
    /* fixed once open */
    struct atd_cache_dir *dir;
    uint8_t hash[ATD_SHA256_BYTES];
    uint64_t size_bytes;
    int data_fd; /* holds the shared flock */
    uint64_t device, inode;
    struct atd_block_map map;

    /* guarded by dir->lock */
    struct atd_cache_file *next;
    enum atd_cache_file_state state;
    bool in_table;
    unsigned refs;
    unsigned verifiers; /* of these, callers of _verify */
    bool has_sha;       /* verified against `sha` */
    uint8_t sha[ATD_SHA256_BYTES];
    struct atd_error why; /* FAILED */

    /* atomic */
    atomic_bool verified;
    atomic_bool discarded;
    atomic_bool cancel_verify;
    atomic_int_fast64_t refreshed_ms; /* when other processes' blocks were looked for */
};

struct atd_cache_dir {
    struct atd_lock lock;
    pthread_cond_t wake;    /* the thread */
    pthread_cond_t changed; /* a file is open or not; an eviction ended */

    /* guarded by lock */
    struct atd_cache_file *files[ATD_CACHE_BUCKETS];
    struct atd_cache_verified *verified; /* ATD_CACHE_VERIFIED_MAX, by inode */
    bool stopping;
    bool making;       /* somebody makes the directory, late */
    bool evicting;     /* somebody scans or evicts; one at a time */
    bool evict_wanted; /* now: nearly full */

    /* atomic */
    atomic_bool scan_wanted; /* set under the lock: something was written since the last look */
    atomic_bool interrupted;
    atomic_bool made; /* `fd` and `thread` are there */
    atomic_uint_fast64_t used_bytes;
    atomic_bool has_written;
    /* By this process, ever, into each sub-directory. */
    atomic_uint_fast64_t written_bytes[ATD_CACHE_PREFIXES];
    atomic_int_fast64_t fruitless_until_ms; /* nothing can be evicted: no use in looking again */
    atomic_int_fast64_t free_credit_bytes;  /* evicted for the floor, not yet used up */

    /* fixed */
    int fd;     /* of DIR/v1 */
    char *path; /* DIR/v1, for messages */
    uint64_t size_max_bytes;
    uint64_t free_floor_bytes;
    struct atd_cache_stats *stats;
    unsigned long thread;
    /* What the file system has left; tests put another here. */
    uint64_t (*free_bytes)(struct atd_cache_dir *dir);
    uint64_t fake_free_bytes; /* for such a test */
};

/* ------------------------------------------------------------------ cache_dir.c */

/* Makes the directory now, when that was left for the first who needs it. Errors: as _open. */
int atd_cache_dir_made(struct atd_cache_dir *dir, struct atd_error *err) ATD_MUST_USE;
/* "XX/HASH.suffix" */
void atd_cache_name(const uint8_t hash[ATD_SHA256_BYTES], const char *suffix,
                    char ret_name[ATD_CACHE_NAME_MAX]);
/* True when the name, relative to dir->fd, is that very inode. */
bool atd_cache_names(const struct atd_cache_dir *dir, const char *name, uint64_t device,
                     uint64_t inode);
bool atd_cache_is_open(struct atd_cache_dir *dir, const uint8_t hash[ATD_SHA256_BYTES]);
struct atd_cache_stamp atd_cache_stamp_of(const struct stat *st);
bool atd_cache_stamps_equal(const struct atd_cache_stamp *a, const struct atd_cache_stamp *b);
void atd_cache_remember_verified(struct atd_cache_file *file, const struct atd_cache_stamp *stamp,
                                 const uint8_t *sha);
void atd_cache_unlist_locked(struct atd_cache_file *file);

/* ------------------------------------------------------------------ cache_file.c */

/* The part of opening that blocks: fills the fields that are fixed once open. */
int atd_cache_file_attach(struct atd_cache_file *file, struct atd_str url,
                          const struct atd_object_info *info, struct atd_error *err) ATD_MUST_USE;
void atd_cache_file_detach(struct atd_cache_file *file);

int atd_cache_file_error(int code, const char *what, struct atd_error *err);

size_t atd_cache_file_bytes_of(const struct atd_cache_file *file, uint64_t block, size_t count);

/*
 * Reads and checks at most ATD_MAP_BATCH_MAX blocks from `fd`, the data file. With `nowait` a bad
 * block is EAGAIN: whoever may block looks again, and records it.
 */
int atd_cache_file_read_batch(struct atd_cache_file *file, int fd, uint64_t block, size_t count,
                              bool nowait, uint8_t *into, struct atd_error *err) ATD_MUST_USE;

/* ------------------------------------------------------------------ evict.c */

uint64_t atd_cache_free_bytes(struct atd_cache_dir *dir);

/* Before so many bytes are written. Errors: EFBIG the limit, ENOSPC the floor does not allow. */
int atd_cache_make_room(struct atd_cache_dir *dir, uint64_t bytes,
                        struct atd_error *err) ATD_MUST_USE;
/* The disk is full. True when something was evicted. */
bool atd_cache_evict_for_full_disk(struct atd_cache_dir *dir, uint64_t bytes);
void atd_cache_note_written(struct atd_cache_dir *dir, const uint8_t hash[ATD_SHA256_BYTES],
                            uint64_t bytes);

/* The thread. */
void *atd_cache_evict_until_stopped(void *ctx);

#endif

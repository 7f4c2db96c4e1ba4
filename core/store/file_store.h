/*
 * The disk store: shards as local files, below configured roots only.
 *
 * Whoever may write the index may write any path into it, so a path is opened only when it lies
 * below a data root and every step of it, symbolic links included, stays there (openat2 with
 * RESOLVE_BENEATH). What is not a regular file (a FIFO, a device) is recognised without being
 * opened and refused: nothing here can hang on it. Source: DESIGN 2.1; ATDATA-FORMATS 2.3.
 *
 * Threads: any. Blocks: on the disk, in every function but _new and _free.
 */
#ifndef ATD_STORE_FILE_STORE_H
#define ATD_STORE_FILE_STORE_H

#include <limits.h>
#include <sys/stat.h>

#include "atdata/error.h"
#include "atdata/str.h"

#define ATD_FILE_ROOTS_MAX 64

/*
 * What identifies the bytes of a local file: equal values mean the same file, not written since.
 * The change time is part of it because tools restore the modification time (rsync -t, touch -r).
 */
struct atd_file_identity {
    uint64_t device;
    uint64_t inode;
    uint64_t size_bytes;
    int64_t mtime_s;
    int64_t mtime_ns;
    int64_t ctime_s;
    int64_t ctime_ns;
};

/* Without the change time, which a chmod or a hard link moves under a reader. */
static inline bool atd_file_identity_same_bytes(const struct atd_file_identity *a,
                                                const struct atd_file_identity *b)
{
    return a->device == b->device && a->inode == b->inode && a->size_bytes == b->size_bytes &&
           a->mtime_s == b->mtime_s && a->mtime_ns == b->mtime_ns;
}

static inline bool atd_file_identity_equal(const struct atd_file_identity *a,
                                           const struct atd_file_identity *b)
{
    return atd_file_identity_same_bytes(a, b) && a->ctime_s == b->ctime_s &&
           a->ctime_ns == b->ctime_ns;
}

struct atd_file_identity atd_file_identity_of(const struct stat *st);

struct atd_file_store;

/*
 * The roots are absolute paths; they need not exist yet. Errors: EINVAL a relative root, E2BIG,
 * ENOMEM.
 */
int atd_file_store_new(const char *const *roots, size_t root_count,
                       struct atd_file_store **ret_store, struct atd_error *err);
void atd_file_store_free(struct atd_file_store *store);

size_t atd_file_store_root_count(const struct atd_file_store *store);
const char *atd_file_store_root(const struct atd_file_store *store, size_t number);

/*
 * Looks a regular file up by its absolute path.
 * Errors: ENOENT; EACCES not below a data root, a link that leads out of it, or no permission;
 * EINVAL not a regular file; others of the system, each with a sentence.
 */
int atd_file_store_stat(const struct atd_file_store *store, struct atd_str path,
                        struct atd_file_identity *ret_identity, struct atd_error *err) ATD_MUST_USE;

/* The same and opens it for reading; the descriptor is the caller's. */
int atd_file_store_open(const struct atd_file_store *store, struct atd_str path, int *ret_fd,
                        struct atd_file_identity *ret_identity, struct atd_error *err) ATD_MUST_USE;

/*
 * For writers: the directory that `path` lies in, open for reading, and the last name of the path.
 * `make`: directories that are missing are made, the root's own included (0755 less the umask, as
 * Python's makedirs), and are on the disk when it returns. Errors: as stat, and EINVAL a path that
 * ends in no name or has a step "." or ".."; ENAMETOOLONG; EROFS, ENOSPC.
 */
int atd_file_store_open_dir(const struct atd_file_store *store, struct atd_str path, bool make,
                            int *ret_fd, char ret_name[NAME_MAX + 1],
                            struct atd_error *err) ATD_MUST_USE;

#endif

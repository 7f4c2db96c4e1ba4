/*
 * The mounted file system: everything a request needs, made once by session.c.
 */
#ifndef ATD_FS_FS_H
#define ATD_FS_FS_H

#include "base/workers.h"
#include "cache/reader.h"
#include "catalog/live.h"
#include "events.h"
#include "fuse.h"
#include "handles.h"
#include "index/index.h"
#include "metrics.h"
#include "nodes.h"
#include "notify.h"
#include "options.h"
#include "parts.h"
#include "passthrough.h"
#include "remote.h"
#include "store/file_store.h"

/*
 * How long the kernel keeps what it was told. Names and attributes change only by a new
 * generation, which is notified; so they are kept for a day. A local shard may be changed by
 * anybody: its attributes are checked again after a minute (and at every open). Absent names are
 * kept a second: appearing ones are notified, but a file that comes back on the disk is not.
 */
#define KEEP_S 86400.0
#define KEEP_SHARD_ATTR_S 60.0
#define KEEP_ABSENT_S 1.0

/* Blocked disk reads do not keep lookups waiting, nor do stores that do not answer: three pools. */
#define META_THREADS 8
#define IO_THREADS 16
#define NETWORK_THREADS 16

struct listings;      /* listing.h */
struct samples;       /* samples.h */
struct publishing;    /* publishing.h */
struct unlinked;      /* unlinked.h */
struct staging;       /* staging.h */
struct atd_publisher; /* publish/publisher.h */

struct fs {
    const struct options *options;
    struct parts parts; /* the next five are its */
    struct atd_index *index;
    struct atd_file_store *store;
    struct remote *remote;       /* stores and cache: what remote shards take */
    struct atd_locator *locator; /* where shards lie */
    struct atd_reader *reader;   /* the remote's */
    struct atd_live *live;
    struct nodes *nodes;
    struct samples *samples;         /* what shards hold, as files */
    struct staging *staging;         /* never NULL; empty when nothing can be written */
    struct atd_publisher *publisher; /* NULL: see publishing_refuse() */
    struct publishing *publishing;   /* the same, and who tidies */
    struct unlinked *unlinked;       /* the same; what is deleted later */
    const char *spool_path;          /* where what is written takes room; NULL with no publisher */
    struct handles handles;
    struct listings *listings;  /* of large directories */
    bool kernel_lists_unopened; /* OPENDIR may be refused for good */
    struct notify *notify;
    struct events *events;
    struct atd_workers *meta_workers;
    struct atd_workers *io_workers;
    struct atd_workers *network_workers;
    struct passthrough *passthrough; /* NULL: the daemon did not mount by itself */
    struct fuse_session *session;
    struct metrics metrics;
    atomic_uint_fast64_t late_barrier; /* op_dir.c: one that had no answer in time; 0: none */
    int64_t started_at_s;
    void (*ready)(struct fs *fs); /* called once, when the kernel has shaken hands */
    void *ready_ctx;
};

/* The operations of the session; its user data is a struct fs. */
extern const struct fuse_lowlevel_ops fs_operations;

/* op_lookup.c */
void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_forget(fuse_req_t req, fuse_ino_t number, uint64_t count);
void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void op_getattr(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *info);
void op_readlink(fuse_req_t req, fuse_ino_t number);
void op_statfs(fuse_req_t req, fuse_ino_t number);
/* The entry of a name that was just made here, its lookup count one higher. -EIO: it does not show.
 */
int lookup_made(struct fs *fs, const struct node *directory, const char *name,
                struct fuse_entry_param *ret_entry);
/* Answers a MKDIR or SYMLINK so. */
void reply_made(fuse_req_t req, fuse_ino_t parent, const char *name);
/* op_dir.c */
void op_opendir(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *info);
void op_readdir(fuse_req_t req, fuse_ino_t number, size_t size, off_t offset,
                struct fuse_file_info *info);
void op_readdirplus(fuse_req_t req, fuse_ino_t number, size_t size, off_t offset,
                    struct fuse_file_info *info);
void op_releasedir(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *info);
/* op_open.c */
void op_open(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *info);
void op_release(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *info);
/* op_write.c */
void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
               struct fuse_file_info *info);
void op_write(fuse_req_t req, fuse_ino_t number, const char *bytes, size_t size, off_t offset,
              struct fuse_file_info *info);
void op_flush(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *info);
void op_fsync(fuse_req_t req, fuse_ino_t number, int datasync, struct fuse_file_info *info);
void op_fsyncdir(fuse_req_t req, fuse_ino_t number, int datasync, struct fuse_file_info *info);
void op_setattr(fuse_req_t req, fuse_ino_t number, struct stat *attr, int to_set,
                struct fuse_file_info *info);
void op_fallocate(fuse_req_t req, fuse_ino_t number, int mode, off_t offset, off_t length,
                  struct fuse_file_info *info);
/* An OPEN for writing of something that is there already. Answers. */
void op_write_open(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *info);
/* op_change.c, op_rename.c */
void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name);
void op_link(fuse_req_t req, fuse_ino_t number, fuse_ino_t parent, const char *name);
void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t device);
void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
               const char *new_name, unsigned flags);
/* op_read.c */
void op_read(fuse_req_t req, fuse_ino_t number, size_t size, off_t offset,
             struct fuse_file_info *info);

#endif

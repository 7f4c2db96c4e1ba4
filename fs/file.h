/*
 * An open file: what fuse_file_info.fh points at.
 */
#ifndef ATD_FS_FILE_H
#define ATD_FS_FILE_H

#include "fs.h"
#include "samples.h"
#include "staging.h"

/* The largest READ the kernel sends (its 256 pages). */
#define READ_BYTES_MAX (1u << 20)

/*
 * Text:          text. So is a member of a shard that was read whole.
 * A field:       sample, of which it is head and body.
 * A staged one:  staged, with a reference.
 * A local shard: fd and identity; fd is -1 once the kernel has taken the file over.
 * A remote one:  reader (NULL when it is empty) and url; the reader keeps the cached copy from
 *                being evicted even while only the kernel reads it.
 * A large member of a shard: as the shard, from base on, without url.
 */
struct file {
    struct handle handle;
    struct node *node; /* shards, large members: registered with nodes_open */
    uint8_t *text;
    size_t text_len;
    struct staged *staged;
    bool is_writer;          /* of a staged one: opened for writing */
    pid_t opener;            /* the process that did; 0: nobody knows */
    atomic_bool has_written; /* through this handle */
    int fd;
    struct atd_file_identity identity;
    uint64_t size_bytes; /* shards, members */
    uint64_t base;       /* where it begins in what is read; 0 but for members */
    struct atd_read_sample *sample;
    struct atd_bytes head;
    struct atd_bytes body;
    struct atd_reader_handle *reader;
    char *url;
    atomic_bool is_stale; /* remote: a read has found another version, and that was passed on */
};

static inline struct fs *fs_of(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

static inline struct file *file_of(const struct fuse_file_info *info)
{
    return (struct file *)(uintptr_t)info->fh; // NOLINT(performance-no-int-to-ptr)
}

/* Sets ESTALE: "'x.tar' has changed". */
int file_stale(const struct node *node, struct atd_error *err);

/*
 * A handle on a staged file, whose reference is taken, also when this fails. `opener` is the thread
 * that asked, for one that is opened for writing; else 0. NULL: out of memory.
 */
struct file *file_open_staged(struct fs *fs, struct staged *staged, bool is_writer, pid_t opener);
/* Answers the OPEN or CREATE; `entry` NULL: it is an OPEN. Frees the handle when nobody takes it.
 */
void file_reply_staged(fuse_req_t req, struct file *file, const struct fuse_entry_param *entry,
                       struct fuse_file_info *info);
/* True for handles on staged files. */
bool file_is_staged(const struct handle *handle);
/* One that was never answered with. */
void file_free(struct fs *fs, struct file *file);
/* op_write.c: the last handle that wrote is being closed. */
void file_released(struct fs *fs, struct file *file);

/* What the reader calls when a remote shard became whole and verified here, or stopped being so:
 * whoever has it open gets the new node at the next open. `fs` is a struct fs. */
void file_local_changed(void *fs, struct atd_str url, const struct atd_object_info *info);

#endif

/*
 * The table of operations, and what is agreed with the kernel. Source of the settings: FUSE 8.
 * Left out on purpose: getxattr, setxattr, listxattr, access (ENOSYS once, then never asked again:
 * a getxattr before every write would double the cost of a copy, TOOLS 1), copy_file_range and
 * lseek (the tools and the kernel do without).
 */
#include "fs.h"

/*
 * READs in flight for the whole mount. Buffered reads count as background: with the kernel's 12, or
 * 64, readers of a store that does not answer would keep those waiting whose bytes are here.
 */
#define MAX_BACKGROUND 1024
#define CONGESTION 768

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
    struct fs *fs = userdata;
    const unsigned wanted = FUSE_CAP_READDIRPLUS | FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_ASYNC_READ |
                            FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_AUTO_INVAL_DATA;

    conn->want |= conn->capable & wanted;
    /* Asynchronous O_DIRECT would wait even for a killed reader's answer; without it the kernel
     * says that he is gone (on_interrupt). Always PLUS: the adaptive mode makes du and find ask for
     * every file (FUSE 3.1). Splice is no gain and silently slow at 1 MiB (FUSE 1.3). */
    conn->want &=
        ~(unsigned)(FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
                    FUSE_CAP_SPLICE_MOVE | FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_ASYNC_DIO);
    conn->max_background = MAX_BACKGROUND;
    conn->congestion_threshold = CONGESTION;
    conn->time_gran = 1;
    fs->kernel_lists_unopened = (conn->capable & FUSE_CAP_NO_OPENDIR_SUPPORT) != 0;
    passthrough_offer(fs->passthrough);
    if (fs->ready)
        fs->ready(fs);
}

const struct fuse_lowlevel_ops fs_operations = {
    .init = op_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .getattr = op_getattr,
    .readlink = op_readlink,
    .statfs = op_statfs,
    .opendir = op_opendir,
    .readdir = op_readdir,
    .readdirplus = op_readdirplus,
    .releasedir = op_releasedir,
    .open = op_open,
    .read = op_read,
    .release = op_release,
    .create = op_create,
    .write = op_write,
    .flush = op_flush,
    .fsync = op_fsync,
    .fsyncdir = op_fsyncdir,
    .setattr = op_setattr,
    .fallocate = op_fallocate,
    .mkdir = op_mkdir,
    .rmdir = op_rmdir,
    .unlink = op_unlink,
    .rename = op_rename,
    .symlink = op_symlink,
    .link = op_link,
    .mknod = op_mknod,
};

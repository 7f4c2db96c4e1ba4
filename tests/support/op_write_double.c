/* Stands in for fs/op_write.c: nothing can be opened for writing. */
#include <errno.h>

#include "fs.h"

void op_write_open(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *info)
{
    (void)number;
    (void)info;
    (void)fuse_reply_err(req, EROFS);
}

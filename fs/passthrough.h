/*
 * FUSE passthrough: the kernel reads a complete local shard by itself.
 *
 * libfuse learned it in 3.16; this works with Debian 12's 3.14 as well, because the session talks
 * through our own functions, which add what the library leaves out to two replies: INIT (offer)
 * and OPEN (backing id). Needs our own mount(2), so CAP_SYS_ADMIN. Source: FUSE 6.
 */
#ifndef ATD_FS_PASSTHROUGH_H
#define ATD_FS_PASSTHROUGH_H

#include "atdata/error.h"
#include "fuse.h"

struct passthrough;

/*
 * Makes the session, whose user data is a struct fs, talk through `device` (an open /dev/fuse,
 * taken on success). The caller stores *ret in that struct fs before the session's loop runs.
 */
int passthrough_attach(struct fuse_session *session, int device, struct passthrough **ret,
                       struct atd_error *err);
void passthrough_free(struct passthrough *passthrough); /* NULL is fine */

/* To be called in the init handler, in whose thread the reply is sent. NULL is fine. */
void passthrough_offer(struct passthrough *passthrough);

/* True once the kernel agreed. False for NULL. */
bool passthrough_is_on(const struct passthrough *passthrough);

/* Registers an open file; a positive id, or 0 when the kernel does not let us. */
int32_t passthrough_open_backing(struct passthrough *passthrough, int fd);
void passthrough_close_backing(struct passthrough *passthrough, int32_t backing_id);

/* fuse_reply_open() that hands the file over to the kernel. */
int passthrough_reply_open(struct passthrough *passthrough, fuse_req_t req,
                           const struct fuse_file_info *info, int32_t backing_id);

#endif

#include "passthrough.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fs.h"
#include "mountpoint.h"

/*
 * What Debian 12's <linux/fuse.h> lacks. Source: the FUSE protocol as of Linux 6.9
 * (include/uapi/linux/fuse.h); offsets are into the wire structures, which never change.
 */
#define FUSE_OP_INIT 26u
#define INIT_EXT_FLAG (1u << 30)    /* flags: flags2 is there */
#define PASSTHROUGH_FLAG2 (1u << 5) /* flags2: bit 37 of the whole */
#define OPEN_PASSTHROUGH (1u << 7)  /* open_flags */
#define MAX_STACK_DEPTH 1u          /* our files lie on an ordinary file system */

struct backing_map {
    int32_t fd;
    uint32_t flags;
    uint64_t padding;
};
#define IOC_BACKING_OPEN _IOW(229, 1, struct backing_map)
#define IOC_BACKING_CLOSE _IOW(229, 2, uint32_t)

enum {
    IN_HEADER_BYTES = 40,
    IN_OPCODE = 4,
    INIT_IN_FLAGS = IN_HEADER_BYTES + 12,
    INIT_IN_FLAGS2 = IN_HEADER_BYTES + 16,
    INIT_OUT_FLAGS = 12,
    INIT_OUT_FLAGS2 = 32,
    INIT_OUT_STACK_DEPTH = 36,
    INIT_OUT_BYTES = 64,
    OPEN_OUT_FLAGS = 8,
    OPEN_OUT_BACKING = 12,
    OPEN_OUT_BYTES = 16,
};

struct passthrough {
    int device;
    atomic_bool offered_by_kernel;
    atomic_bool on;
    atomic_bool refused; /* the ioctl said no once: not asked again */
};

/* The next reply this thread sends is the one to change. */
static _Thread_local enum { REPLY_PLAIN, REPLY_INIT, REPLY_OPEN } next_reply;
static _Thread_local int32_t next_backing_id;

static uint32_t get_u32(const uint8_t *bytes)
{
    uint32_t value;

    memcpy(&value, bytes, sizeof(value));
    return value;
}

static void put_u32(uint8_t *bytes, uint32_t value)
{
    memcpy(bytes, &value, sizeof(value));
}

/* Looks whether the kernel's INIT offers passthrough. `userdata` is the session's: the struct fs.
 */
static ssize_t read_request(int fd, void *buf, size_t len, void *userdata)
{
    struct passthrough *passthrough = ((struct fs *)userdata)->passthrough;
    const uint8_t *bytes = buf;
    ssize_t got = read(fd, buf, len);

    if (got >= INIT_IN_FLAGS2 + 4 && get_u32(bytes + IN_OPCODE) == FUSE_OP_INIT &&
        (get_u32(bytes + INIT_IN_FLAGS) & INIT_EXT_FLAG) &&
        (get_u32(bytes + INIT_IN_FLAGS2) & PASSTHROUGH_FLAG2))
        atomic_store(&passthrough->offered_by_kernel, true);
    /* The mount ended while the kernel was handing out a request: for libfuse ENODEV is the end. */
    if (got < 0 && errno == ECONNABORTED)
        errno = ENODEV;
    return got;
}

static void change_init(struct passthrough *passthrough, uint8_t *body, size_t len)
{
    if (len < INIT_OUT_BYTES || !atomic_load(&passthrough->offered_by_kernel))
        return;
    put_u32(body + INIT_OUT_FLAGS, get_u32(body + INIT_OUT_FLAGS) | INIT_EXT_FLAG);
    put_u32(body + INIT_OUT_FLAGS2, get_u32(body + INIT_OUT_FLAGS2) | PASSTHROUGH_FLAG2);
    put_u32(body + INIT_OUT_STACK_DEPTH, MAX_STACK_DEPTH);
    atomic_store(&passthrough->on, true);
}

static void change_open(uint8_t *body, size_t len)
{
    if (len < OPEN_OUT_BYTES)
        return;
    put_u32(body + OPEN_OUT_FLAGS, get_u32(body + OPEN_OUT_FLAGS) | OPEN_PASSTHROUGH);
    put_u32(body + OPEN_OUT_BACKING, (uint32_t)next_backing_id);
}

/* A reply is a header, then (successful INIT and OPEN) one body. */
static ssize_t write_reply(int fd, struct iovec *iov, int count, void *userdata)
{
    struct fs *fs = userdata;
    bool is_init = count == 2 && next_reply == REPLY_INIT;
    ssize_t sent;

    if (is_init)
        change_init(fs->passthrough, iov[1].iov_base, iov[1].iov_len);
    else if (count == 2 && next_reply == REPLY_OPEN)
        change_open(iov[1].iov_base, iov[1].iov_len);
    next_reply = REPLY_PLAIN;
    sent = writev(fd, iov, count);
    /* Not earlier: the kernel lowers it to what it offered when it takes the INIT reply. */
    if (is_init)
        mountpoint_set_readahead(fs->options->mountpoint);
    return sent;
}

int passthrough_attach(struct fuse_session *session, int device, struct passthrough **ret,
                       struct atd_error *err)
{
    static const struct fuse_custom_io io = {.writev = write_reply, .read = read_request};
    struct passthrough *passthrough = calloc(1, sizeof(*passthrough));
    int rc;

    if (!passthrough)
        return atd_error_set(err, ENOMEM, "out of memory");
    passthrough->device = device;
    rc = fuse_session_custom_io(session, &io, device);
    if (rc != 0) {
        free(passthrough);
        return atd_error_set(err, EIO, "libfuse refuses the session: %s", strerror(abs(rc)));
    }
    *ret = passthrough;
    return 0;
}

void passthrough_free(struct passthrough *passthrough)
{
    free(passthrough);
}

void passthrough_offer(struct passthrough *passthrough)
{
    if (passthrough)
        next_reply = REPLY_INIT;
}

bool passthrough_is_on(const struct passthrough *passthrough)
{
    return passthrough && atomic_load(&passthrough->on) && !atomic_load(&passthrough->refused);
}

int32_t passthrough_open_backing(struct passthrough *passthrough, int fd)
{
    struct backing_map map = {.fd = fd};
    int id;

    if (!passthrough_is_on(passthrough))
        return 0;
    id = ioctl(passthrough->device, IOC_BACKING_OPEN, &map);
    if (id > 0)
        return id;
    if (errno == EPERM || errno == ENOTTY || errno == EOPNOTSUPP)
        atomic_store(&passthrough->refused, true);
    return 0;
}

void passthrough_close_backing(struct passthrough *passthrough, int32_t backing_id)
{
    uint32_t id = (uint32_t)backing_id;

    if (passthrough && backing_id > 0)
        (void)ioctl(passthrough->device, IOC_BACKING_CLOSE, &id);
}

int passthrough_reply_open(struct passthrough *passthrough, fuse_req_t req,
                           const struct fuse_file_info *info, int32_t backing_id)
{
    int rc;

    (void)passthrough;
    next_reply = REPLY_OPEN;
    next_backing_id = backing_id;
    rc = fuse_reply_open(req, info);
    next_reply = REPLY_PLAIN;
    return rc;
}

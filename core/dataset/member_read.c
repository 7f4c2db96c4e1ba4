#include "dataset/member_read.h"

#include <errno.h>
#include <unistd.h>

#include "base/cleanup.h"

static int set_stale(const struct atd_shard *shard, struct atd_error *err)
{
    return atd_error_set(err, ESTALE, "shard '" ATD_STR_FMT "' has changed",
                         ATD_STR_ARG(shard->file_name));
}

/* ------------------------------------------------------------------ a file */

static int read_all(int fd, uint64_t offset, size_t size, uint8_t *into, struct atd_error *err)
{
    size_t done = 0;

    while (done < size) {
        ssize_t got = pread(fd, into + done, size - done, (off_t)(offset + done));

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return atd_error_set(err, EIO, "%s", strerror(errno));
        if (got == 0)
            return atd_error_set(err, ESTALE, "the shard has become shorter");
        done += (size_t)got;
    }
    return 0;
}

int atd_member_open_local(const struct atd_member_source *source, const struct atd_shard *shard,
                          int *ret_fd, struct atd_error *err)
{
    atd_auto_fd int fd = -1;
    struct atd_file_identity identity;
    int rc = atd_file_store_open(source->files, shard->path, &fd, &identity, err);

    if (rc == -ENOENT || (rc == 0 && !atd_file_identity_equal(&identity, &shard->identity)))
        return set_stale(shard, err);
    if (rc == 0)
        *ret_fd = atd_steal_fd(&fd);
    return rc;
}

static int read_local(const struct atd_member_source *source, const struct atd_shard *shard,
                      uint64_t offset, size_t size, uint8_t *into, struct atd_error *err)
{
    struct atd_file_identity identity;
    atd_auto_fd int fd = -1;
    struct stat st;
    int rc = atd_member_open_local(source, shard, &fd, err);

    if (rc == 0)
        rc = read_all(fd, offset, size, into, err);
    if (rc)
        return rc;
    /* Written meanwhile: the bytes may be of two states. */
    if (fstat(fd, &st) != 0)
        return atd_error_set(err, EIO, "%s", strerror(errno));
    identity = atd_file_identity_of(&st);
    return atd_file_identity_same_bytes(&identity, &shard->identity) ? 0 : set_stale(shard, err);
}

/* From the whole copy in the cache directory; false: there is none (any more). */
static bool read_copy(const struct atd_member_source *source, const struct atd_shard *shard,
                      const struct atd_object_info *info, uint64_t offset, size_t size,
                      uint8_t *into)
{
    const struct atd_reader_source from = {
        .store = shard->store, .url = shard->url, .info = info, .sha256_hex = shard->sha256};
    struct atd_reader_handle *handle;
    atd_auto_fd int fd = -1;
    bool is_read;

    if (!source->reader || !atd_reader_is_local(source->reader, shard->url, info) ||
        atd_reader_open(source->reader, &from, &handle, NULL) != 0)
        return false;
    is_read =
        atd_reader_local_fd(handle, &fd, NULL) == 0 && read_all(fd, offset, size, into, NULL) == 0;
    atd_reader_close(handle);
    return is_read;
}

/* ------------------------------------------------------------------ a request */

static int read_remote(const struct atd_member_source *source, const struct atd_shard *shard,
                       const struct atd_object_info *info, uint64_t offset, size_t size,
                       uint8_t *into, struct atd_error *err)
{
    const struct atd_store_get range = {.url = shard->url,
                                        .first = offset,
                                        .end = offset + size,
                                        .expect = info,
                                        .into = into,
                                        .urgent = true,
                                        .stall_timeout_ms = source->timeout_ms};
    struct atd_error why = ATD_ERROR_INIT;
    int rc = atd_members_fetch(source->fetches, shard->store, &range, &why);

    if (rc == 0)
        return 0;
    if (why.code == ENOENT)
        why.code = ESTALE;
    if (err)
        *err = why;
    return -why.code;
}

int atd_member_read(const struct atd_member_source *source, const struct atd_shard *shard,
                    uint64_t offset, size_t size, uint8_t *into, struct atd_error *err)
{
    struct atd_object_info info;

    if (offset > shard->size_bytes || size > shard->size_bytes - offset)
        return atd_error_set(err, EINVAL, "a member lies beyond the end of its shard");
    if (size == 0)
        return 0;
    if (!shard->store)
        return read_local(source, shard, offset, size, into, err);
    atd_shard_info(shard, &info);
    if (read_copy(source, shard, &info, offset, size, into))
        return 0;
    return read_remote(source, shard, &info, offset, size, into, err);
}

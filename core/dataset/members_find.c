#include "dataset/members_find.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "dataset/members_walk.h"

/* What a local disk reads in the time of one more seek or call. */
#define LOCAL_JUMP_BYTES ((uint64_t)64 << 10)
/* The same of a store, by its measured speed, within bounds: it may be wrong by far. */
#define REMOTE_JUMP_BYTES ((uint64_t)256 << 10)
#define REMOTE_JUMP_MIN_BYTES ((uint64_t)64 << 10)
#define REMOTE_JUMP_MAX_BYTES ((uint64_t)1 << 20)

static int interrupted(struct atd_error *err)
{
    return atd_error_set(err, ECANCELED, "reading a shard's members was interrupted");
}

/* ------------------------------------------------------------------ bytes */

static int read_fd(int fd, uint64_t first, uint64_t end, uint8_t *into, struct atd_error *err)
{
    while (first < end) {
        ssize_t got = pread(fd, into, (size_t)(end - first), (off_t)first);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return atd_error_set(err, errno, "cannot read it: %s", strerror(errno));
        if (got == 0)
            return atd_error_set(err, ESTALE, "it became shorter while it was read");
        into += got;
        first += (uint64_t)got;
    }
    return 0;
}

struct local {
    struct atd_members_finder *finder;
    int fd;
};

static int read_local(void *ctx, uint64_t first, uint64_t end, uint8_t *into, struct atd_error *err)
{
    const struct local *local = ctx;

    if (atd_members_fetches_are_interrupted(&local->finder->fetches))
        return interrupted(err);
    return read_fd(local->fd, first, end, into, err);
}

struct remote {
    struct atd_members_finder *finder;
    const struct atd_shard *shard;
    struct atd_object_info info;
};

static int read_remote(void *ctx, uint64_t first, uint64_t end, uint8_t *into,
                       struct atd_error *err)
{
    const struct remote *remote = ctx;
    struct atd_store_get range = {.url = remote->shard->url,
                                  .first = first,
                                  .end = end,
                                  .expect = &remote->info,
                                  .into = into,
                                  .stall_timeout_ms = remote->finder->timeout_ms};

    return atd_members_fetch(&remote->finder->fetches, remote->shard->store, &range, err);
}

/* ------------------------------------------------------------------ beside the shard */

/* The URL, or the path, of what lies beside; NULL: out of memory. */
static char *name_beside(struct atd_str name)
{
    char *beside;

    return asprintf(&beside, "%.*s" ATD_MEMBERS_SUFFIX, (int)name.len, name.ptr) < 0 ? NULL
                                                                                     : beside;
}

/*
 * A file may be written over in place, and what the index tells would still be recorded: it is
 * believed only when it came after whatever was last done to the shard.
 */
static bool is_newer(const struct atd_file_identity *index, const struct atd_file_identity *shard)
{
    return index->mtime_s > shard->ctime_s ||
           (index->mtime_s == shard->ctime_s && index->mtime_ns >= shard->ctime_ns);
}

static int read_beside_local(const struct atd_members_finder *finder, const struct atd_shard *shard,
                             const char *path, uint8_t *into, struct atd_error *err)
{
    atd_auto_fd int fd = -1;
    struct atd_file_identity identity;
    int rc = atd_file_store_open(finder->files, atd_str_from(path), &fd, &identity, err);

    if (rc)
        return rc;
    if (identity.size_bytes != shard->index_bytes || !is_newer(&identity, &shard->identity))
        return atd_error_set(err, ESTALE, "the member index is older than the shard");
    return read_fd(fd, 0, shard->index_bytes, into, err);
}

/* 0 with a list; ENOENT: there is none, or none to be believed. */
static int find_beside(struct atd_members_finder *finder, const struct atd_shard *shard,
                       struct atd_member_list *ret_list, struct atd_error *err)
{
    struct atd_member_index_of of;
    atd_auto_free char *name = NULL;
    atd_auto_free uint8_t *bytes = NULL;
    int rc;

    if (shard->index_bytes == 0 || shard->index_bytes > ATD_MEMBER_INDEX_BYTES_MAX ||
        !shard->sha256.ptr || !atd_member_index_of_content(shard->sha256, shard->size_bytes, &of))
        return -ENOENT;
    name = name_beside(shard->store ? shard->url : shard->path);
    bytes = malloc((size_t)shard->index_bytes);
    if (!name || !bytes)
        return atd_error_set(err, ENOMEM, "a shard's member index: out of memory");
    if (shard->store) {
        struct atd_store_get range = {.url = atd_str_from(name),
                                      .end = shard->index_bytes,
                                      .into = bytes,
                                      .stall_timeout_ms = finder->timeout_ms};

        rc = atd_members_fetch(&finder->fetches, shard->store, &range, err);
    } else {
        rc = read_beside_local(finder, shard, name, bytes, err);
    }
    if (rc == 0)
        rc = atd_member_index_decode((struct atd_bytes){bytes, (size_t)shard->index_bytes}, &of,
                                     ret_list, err);
    switch (-rc) {
    case ENOENT:
    case EACCES:
    case EINVAL:
    case ENOTSUP:
    case ESTALE:
    case EBADMSG:
        return -ENOENT;
    default:
        return rc; /* a store that does not answer would not do so for the shard either */
    }
}

/* ------------------------------------------------------------------ in the shard */

static uint64_t remote_jump(struct atd_store *store)
{
    unsigned first_byte_ms = 0;
    uint64_t bytes_per_s = 0;
    uint64_t jump;

    atd_store_speed(store, &first_byte_ms, &bytes_per_s);
    if (!first_byte_ms || !bytes_per_s)
        return REMOTE_JUMP_BYTES;
    jump = bytes_per_s / 1000 * first_byte_ms;
    if (jump < REMOTE_JUMP_MIN_BYTES)
        return REMOTE_JUMP_MIN_BYTES;
    return jump < REMOTE_JUMP_MAX_BYTES ? jump : REMOTE_JUMP_MAX_BYTES;
}

static int walk_remote(struct atd_members_finder *finder, const struct atd_shard *shard,
                       struct atd_member_list *ret_list, struct atd_error *err)
{
    struct remote remote = {.finder = finder, .shard = shard};
    const struct atd_members_source source = {.read = read_remote,
                                              .ctx = &remote,
                                              .size_bytes = shard->size_bytes,
                                              .jump_bytes = remote_jump(shard->store)};

    atd_shard_info(shard, &remote.info);
    return atd_members_walk(&source, ret_list, err);
}

static int walk_local(struct atd_members_finder *finder, const struct atd_shard *shard,
                      struct atd_member_list *ret_list, struct atd_error *err)
{
    atd_auto_fd int fd = -1;
    struct local local = {.finder = finder};
    const struct atd_members_source source = {.read = read_local,
                                              .ctx = &local,
                                              .size_bytes = shard->size_bytes,
                                              .jump_bytes = LOCAL_JUMP_BYTES};
    struct atd_file_identity identity;
    struct stat st;
    int rc = atd_file_store_open(finder->files, shard->path, &fd, &identity, err);

    if (rc)
        return rc;
    if (!atd_file_identity_equal(&identity, &shard->identity))
        return atd_error_set(err, ESTALE, "it is another file now");
    local.fd = fd;
    rc = atd_members_walk(&source, ret_list, err);
    if (rc)
        return rc;
    if (fstat(fd, &st) == 0) {
        identity = atd_file_identity_of(&st);
        if (atd_file_identity_same_bytes(&identity, &shard->identity))
            return 0;
    }
    atd_member_list_release(ret_list);
    return atd_error_set(err, ESTALE, "it was changed while it was read");
}

/* ------------------------------------------------------------------ all of it */

/* False when nothing tells this version from a later one: then it is not kept. */
static bool name_version(const struct atd_members_finder *finder, const struct atd_shard *shard,
                         struct atd_member_index_of *ret_of)
{
    uint8_t both[ATD_SHA256_BYTES + ATD_SHARD_VERSION_BYTES];

    if (shard->store && !shard->etag.len && !shard->object_mtime_s)
        return false;
    *ret_of = (struct atd_member_index_of){.kind = ATD_MEMBERS_OF_VERSION,
                                           .shard_bytes = shard->size_bytes};
    memcpy(both, finder->scope, ATD_SHA256_BYTES);
    memcpy(both + ATD_SHA256_BYTES, shard->version, ATD_SHARD_VERSION_BYTES);
    atd_sha256_of(both, sizeof(both), ret_of->subject);
    return true;
}

int atd_members_find(struct atd_members_finder *finder, const struct atd_shard *shard,
                     struct atd_member_list *ret_list, enum atd_members_from *ret_from,
                     struct atd_error *err)
{
    struct atd_member_index_of of;
    bool is_named = name_version(finder, shard, &of);
    int rc;

    if (atd_members_fetches_are_interrupted(&finder->fetches))
        return interrupted(err);
    if (!shard->store && !finder->files)
        return atd_error_set(err, ENOTSUP, "local shards are not read here");
    *ret_from = ATD_MEMBERS_FROM_FOLDER;
    if (is_named && atd_members_folder_load(&finder->folder, &of, ret_list))
        return 0;
    *ret_from = ATD_MEMBERS_FROM_BESIDE;
    rc = find_beside(finder, shard, ret_list, err);
    if (rc == -ENOENT) {
        *ret_from = ATD_MEMBERS_FROM_WALK;
        rc = shard->store ? walk_remote(finder, shard, ret_list, err)
                          : walk_local(finder, shard, ret_list, err);
    }
    if (rc == 0 && is_named)
        atd_members_folder_store(&finder->folder, &of, ret_list);
    return rc;
}

#include "dataset/member_stream.h"

#include <errno.h>
#include <stdlib.h>

#include "atdata/loader.h"
#include "atdata/tar_index.h"
#include "base/cleanup.h"
#include "publish/inspect.h"
#include "publish/inspect_unpack.h"

/* So much of a compressed shard is unpacked at once: 64 KiB may become 70 MiB. */
#define PACKED_STEP_BYTES ((size_t)64 << 10)
#define BUFFER_BYTES_MAX (ATD_LOADED_BYTES_MAX + ((size_t)256 << 20))
#define NAMES_BYTES_MAX ((size_t)64 << 20)

/* One whose headers were read; its data may not be here yet. */
struct waiting {
    size_t name_at;
    size_t name_len;
    uint64_t offset;
    uint64_t size_bytes;
};

struct atd_member_stream {
    atd_next_bytes_fn next;
    void *ctx;
    struct atd_tar_walk *walk;
    struct atd_unpacker *unpacker; /* NULL: a plain tar, or nothing is known yet */
    bool is_begun;
    bool is_at_end;           /* of the shard's bytes */
    struct atd_error end_why; /* why it ends there; code 0: it is the end */
    struct atd_bytes rest;    /* of the packed bytes in hand */
    struct atd_buf buffer;    /* the tar's bytes [base, base + buffer.len) */
    uint64_t base;
    struct atd_buf names;
    struct waiting *waiting;
    size_t waiting_count;
    size_t waiting_cap;
    size_t waiting_at;
    struct atd_error why; /* what the walker found wrong, behind those that wait; code 0: nothing */
};

static int no_memory(struct atd_error *err)
{
    return atd_error_set(err, ENOMEM, "out of memory");
}

static int on_member(void *ctx, const struct atd_tar_member *member, struct atd_error *err)
{
    struct atd_member_stream *members = ctx;

    if (!member->is_file)
        return 0;
    if (member->size_bytes > ATD_LOADED_BYTES_MAX)
        return atd_error_set(err, E2BIG, "member '" ATD_STR_FMT "' has more than %zu MiB",
                             ATD_STR_ARG(member->name), (size_t)ATD_LOADED_BYTES_MAX >> 20);
    if (members->waiting_count == members->waiting_cap) {
        size_t cap = members->waiting_cap ? 2 * members->waiting_cap : 256;
        struct waiting *grown = realloc(members->waiting, cap * sizeof(*grown));

        if (!grown)
            return no_memory(err);
        members->waiting = grown;
        members->waiting_cap = cap;
    }
    members->waiting[members->waiting_count++] = (struct waiting){
        members->names.len, member->name.len, member->data_offset, member->size_bytes};
    atd_buf_append_str(&members->names, member->name);
    return atd_buf_finish(&members->names, "names of members", err);
}

struct atd_member_stream *atd_member_stream_new(atd_next_bytes_fn next, void *ctx)
{
    struct atd_member_stream *members = calloc(1, sizeof(*members));

    if (!members)
        return NULL;
    members->next = next;
    members->ctx = ctx;
    members->walk = atd_tar_walk_new(on_member, members);
    atd_buf_init(&members->buffer, BUFFER_BYTES_MAX);
    atd_buf_init(&members->names, NAMES_BYTES_MAX);
    if (!members->walk) {
        atd_member_stream_free(members);
        return NULL;
    }
    return members;
}

void atd_member_stream_free(struct atd_member_stream *members)
{
    if (!members)
        return;
    atd_tar_walk_free(members->walk);
    atd_unpacker_free(members->unpacker);
    atd_buf_release(&members->buffer);
    atd_buf_release(&members->names);
    free(members->waiting);
    free(members);
}

/* ------------------------------------------------------------------ bytes */

static int on_unpacked(void *ctx, struct atd_bytes bytes, struct atd_error *err)
{
    struct atd_member_stream *members = ctx;

    atd_buf_append(&members->buffer, bytes.ptr, bytes.len);
    return atd_buf_finish(&members->buffer, "unpacked bytes", err);
}

/* The first bytes say how the shard is packed; they are never fewer than it takes, unless the shard
 * has no more. */
static int begin(struct atd_member_stream *members, struct atd_error *err)
{
    enum atd_packing packing = atd_packing_of(members->rest);

    members->is_begun = true;
    if (packing == ATD_PACKING_NONE)
        return 0;
    members->unpacker = atd_unpacker_new(packing, ATD_INSPECT_RATIO_MAX, on_unpacked, members);
    return members->unpacker ? 0 : no_memory(err);
}

static int take_packed(struct atd_member_stream *members, struct atd_error *err)
{
    struct atd_bytes step = members->rest;
    int rc;

    if (step.len > PACKED_STEP_BYTES)
        step.len = PACKED_STEP_BYTES;
    rc = atd_unpacker_feed(members->unpacker, step, err);
    members->rest.ptr += step.len;
    members->rest.len -= step.len;
    return rc;
}

static int take_more(struct atd_member_stream *members, struct atd_error *err)
{
    int rc = 0;

    if (!members->rest.len) {
        rc = members->next(members->ctx, &members->rest, err);
        if (rc == 0 && !members->is_begun)
            rc = begin(members, err);
        members->is_at_end = rc == 0 && !members->rest.len;
    }
    if (rc || members->is_at_end)
        return rc == 0 && members->unpacker ? atd_unpacker_finish(members->unpacker, err) : rc;
    if (members->unpacker)
        return take_packed(members, err);
    atd_buf_append(&members->buffer, members->rest.ptr, members->rest.len);
    members->rest.len = 0;
    return atd_buf_finish(&members->buffer, "the shard's bytes", err);
}

/* Adds some of the tar's next bytes to the buffer, and drops what lies before `keep`. A failure is
 * an end: what came before it is handed out first, however the bytes were cut. */
static void pull(struct atd_member_stream *members, uint64_t keep)
{
    uint64_t end = members->base + members->buffer.len;
    size_t drop = (size_t)((keep < end ? keep : end) - members->base);

    if (drop > 0) {
        memmove(members->buffer.ptr, members->buffer.ptr + drop, members->buffer.len - drop);
        members->buffer.len -= drop;
        members->base += drop;
    }
    if (take_more(members, &members->end_why) != 0)
        members->is_at_end = true;
}

static int tell(const struct atd_error *why, struct atd_error *err)
{
    if (why->code && err)
        *err = *why;
    return -why->code;
}

/* ------------------------------------------------------------------ members */

static int hand_out(struct atd_member_stream *members, struct atd_str *ret_name,
                    struct atd_bytes *ret_bytes, struct atd_error *err)
{
    const struct waiting *next = &members->waiting[members->waiting_at];
    struct atd_str name = {(const char *)members->names.ptr + next->name_at, next->name_len};

    while (members->base + members->buffer.len < next->offset + next->size_bytes) {
        if (members->end_why.code)
            return tell(&members->end_why, err);
        if (members->is_at_end)
            return atd_error_set(err, EINVAL, "it ends inside member '" ATD_STR_FMT "'",
                                 ATD_STR_ARG(name));
        pull(members, next->offset);
    }
    members->waiting_at++;
    *ret_name = name;
    *ret_bytes = (struct atd_bytes){members->buffer.ptr + (next->offset - members->base),
                                    (size_t)next->size_bytes};
    return 0;
}

/* No end blocks are no fault: tarfile reads such a tar too. */
static int check_end(const struct atd_member_stream *members, struct atd_error *err)
{
    struct atd_error why = ATD_ERROR_INIT;
    enum atd_tar_end end =
        atd_tar_walk_end(members->walk, members->base + members->buffer.len, &why);

    if (members->end_why.code)
        return tell(&members->end_why, err);
    return end == ATD_TAR_COMPLETE || end == ATD_TAR_NO_END ? 0 : tell(&why, err);
}

/* Has the walker look at more of the tar. *ret_ended: there are no more members. */
static int walk_on(struct atd_member_stream *members, bool *ret_ended, struct atd_error *err)
{
    uint64_t want = atd_tar_walk_next_offset(members->walk);
    struct atd_bytes here;

    members->waiting_count = members->waiting_at = 0;
    atd_buf_clear(&members->names);
    *ret_ended = want == UINT64_MAX;
    if (*ret_ended)
        return 0;
    while (!members->is_at_end && members->base + members->buffer.len <= want)
        pull(members, want);
    here = atd_buf_bytes(&members->buffer);
    if (members->base + here.len > want) {
        /* The members before the fault come first, however the bytes were cut. */
        (void)!atd_tar_walk_feed(members->walk, members->base, here, &members->why);
        return 0;
    }
    *ret_ended = true;
    return check_end(members, err);
}

int atd_member_stream_next(struct atd_member_stream *members, struct atd_str *ret_name,
                           struct atd_bytes *ret_bytes, struct atd_error *err)
{
    bool ended = false;
    int rc = 0;

    while (rc == 0 && !ended && members->waiting_at == members->waiting_count) {
        if (members->why.code)
            return tell(&members->why, err);
        rc = walk_on(members, &ended, err);
    }
    if (rc)
        return rc;
    if (members->waiting_at < members->waiting_count)
        return hand_out(members, ret_name, ret_bytes, err);
    *ret_name = (struct atd_str){NULL, 0};
    return 0;
}

/*
 * The bytes' way: feed() hashes them and takes the first few to see how the file is packed; they go
 * through the unpacker or not; take_tape() hands each piece to whom it belongs, the walker (header
 * blocks), the sample that is being collected, or nobody.
 */
#include "publish/inspect.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "atdata/tar_index.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "codec/tar_header.h"
#include "publish/inspect_members.h"
#include "publish/inspect_unpack.h"

/* A larger buffer is not kept from one sample to the next. */
#define SAMPLE_KEEP_BYTES (16u << 20)

/* The members of a plain tar; given up when there are too many. */
struct index {
    struct atd_inspect_member *members;
    size_t count;
    size_t cap;
    struct atd_arena names;
    bool is_given_up;
};

struct atd_inspection {
    struct atd_sha256 *sha;
    uint64_t fed;
    int rc; /* 0, or what every call answers from now on */
    struct atd_error failed;
    bool is_finished;

    uint8_t head[ATD_PACKING_HEAD_BYTES]; /* until it is known how the file is packed */
    size_t head_len;
    struct atd_unpacker *unpacker; /* NULL: plain, or not known yet */

    /* the tape: the tar's own bytes */
    uint64_t at; /* offset of the next */
    struct atd_tar_walk *walk;
    struct atd_inspect_members *members;
    uint64_t wanted; /* bytes of a sample that are due next */
    struct atd_buf sample;
    uint64_t end;  /* behind the end blocks, once seen */
    uint64_t tail; /* offset of the first byte behind them that is no zero; 0: none */

    uint64_t member_count;
    char last_name[256]; /* of the last member, cut, for messages */
    struct index index;
};

/* ------------------------------------------------------------------ the tape */

static void index_give_up(struct index *index)
{
    index->is_given_up = true;
    index->count = index->cap = 0;
    free(index->members);
    index->members = NULL;
    atd_arena_release(&index->names);
}

static void index_add(struct index *index, const struct atd_tar_member *member)
{
    struct atd_inspect_member entry = {.data_offset = member->data_offset,
                                       .size_bytes = member->size_bytes};

    if (index->is_given_up)
        return;
    if (index->count == index->cap) {
        size_t cap = index->cap ? index->cap * 2 : 64;
        struct atd_inspect_member *grown =
            index->count < ATD_INSPECT_MEMBERS_MAX
                ? reallocarray(index->members, cap, sizeof(*index->members))
                : NULL;

        if (!grown) {
            index_give_up(index);
            return;
        }
        index->members = grown;
        index->cap = cap;
    }
    entry.name = atd_arena_str(&index->names, member->name);
    if (!entry.name.ptr)
        index_give_up(index);
    else
        index->members[index->count++] = entry;
}

static int decode_sample(struct atd_inspection *inspection, struct atd_bytes msgpack,
                         struct atd_error *err)
{
    int rc = atd_inspect_members_decode(inspection->members, msgpack, err);

    if (inspection->sample.cap > SAMPLE_KEEP_BYTES)
        atd_buf_release(&inspection->sample);
    atd_buf_clear(&inspection->sample);
    return rc;
}

static int see_member(void *ctx, const struct atd_tar_member *member, struct atd_error *err)
{
    struct atd_inspection *inspection = ctx;
    bool wanted;
    int rc;

    (void)snprintf(inspection->last_name, sizeof(inspection->last_name), ATD_STR_FMT,
                   ATD_STR_ARG(member->name));
    if (member->is_file) {
        inspection->member_count++;
        index_add(&inspection->index, member);
    }
    rc = atd_inspect_members_add(inspection->members, member, &wanted, err);
    if (rc != 0 || !wanted)
        return rc;
    if (member->size_bytes > ATD_INSPECT_SAMPLE_MAX)
        return atd_error_set(err, E2BIG,
                             "member '" ATD_STR_FMT "': a sample of %" PRIu64
                             " bytes is larger than the limit of %zu",
                             ATD_STR_ARG(member->name), member->size_bytes, ATD_INSPECT_SAMPLE_MAX);
    inspection->wanted = member->size_bytes;
    return member->size_bytes ? 0 : decode_sample(inspection, (struct atd_bytes){NULL, 0}, err);
}

/* A piece of the sample that is due: decoded where it lies when it is whole there. */
static int take_sample(struct atd_inspection *inspection, struct atd_bytes piece,
                       struct atd_error *err)
{
    struct atd_buf *sample = &inspection->sample;

    inspection->wanted -= piece.len;
    if (inspection->wanted == 0 && sample->len == 0)
        return decode_sample(inspection, piece, err);
    atd_buf_append(sample, piece.ptr, piece.len);
    if (sample->failed)
        return atd_error_set(err, ENOMEM, "sample: out of memory");
    return inspection->wanted ? 0 : decode_sample(inspection, atd_buf_bytes(sample), err);
}

/* Bytes behind the end blocks: writers leave zeros. */
static void take_tail(struct atd_inspection *inspection, struct atd_bytes piece)
{
    if (inspection->tail)
        return;
    if (piece.ptr[0] == 0 && memcmp(piece.ptr, piece.ptr + 1, piece.len - 1) == 0)
        return;
    inspection->tail = inspection->at;
    while (*piece.ptr++ == 0)
        inspection->tail++;
}

/* To the walker goes one block at a time, so that the sample behind a header is not passed over,
 * and the place of the end is known. */
static int take_block(struct atd_inspection *inspection, struct atd_bytes piece,
                      struct atd_error *err)
{
    int rc = atd_tar_walk_feed(inspection->walk, inspection->at, piece, err);

    if (rc == 0 && atd_tar_walk_next_offset(inspection->walk) == UINT64_MAX)
        inspection->end = inspection->at + piece.len;
    return rc;
}

static int take_tape(void *ctx, struct atd_bytes bytes, struct atd_error *err)
{
    struct atd_inspection *inspection = ctx;

    while (bytes.len) {
        uint64_t next = atd_tar_walk_next_offset(inspection->walk);
        uint64_t len = bytes.len;
        struct atd_bytes piece = bytes;
        int rc = 0;

        if (inspection->wanted)
            len = inspection->wanted;
        else if (next == inspection->at)
            len = ATD_TAR_BLOCK_BYTES - inspection->at % ATD_TAR_BLOCK_BYTES;
        else if (!inspection->end)
            len = next - inspection->at;
        piece.len = len < bytes.len ? (size_t)len : bytes.len;
        if (inspection->wanted)
            rc = take_sample(inspection, piece, err);
        else if (inspection->end)
            take_tail(inspection, piece);
        else if (next == inspection->at)
            rc = take_block(inspection, piece, err);
        if (rc != 0)
            return rc;
        inspection->at += piece.len;
        bytes = (struct atd_bytes){bytes.ptr + piece.len, bytes.len - piece.len};
    }
    return 0;
}

/* ------------------------------------------------------------------ feeding */

struct atd_inspection *atd_inspection_new(const struct atd_schema *schema)
{
    struct atd_inspection *inspection = calloc(1, sizeof(*inspection));

    if (!inspection)
        return NULL;
    atd_buf_init(&inspection->sample, ATD_INSPECT_SAMPLE_MAX);
    atd_arena_init(&inspection->index.names, ATD_INSPECT_NAMES_BYTES_MAX);
    inspection->sha = atd_sha256_new();
    inspection->walk = atd_tar_walk_new(see_member, inspection);
    inspection->members = atd_inspect_members_new(schema);
    if (!inspection->sha || !inspection->walk || !inspection->members) {
        atd_inspection_free(inspection);
        return NULL;
    }
    return inspection;
}

void atd_inspection_free(struct atd_inspection *inspection)
{
    if (!inspection)
        return;
    atd_sha256_free(inspection->sha);
    atd_unpacker_free(inspection->unpacker);
    atd_tar_walk_free(inspection->walk);
    atd_inspect_members_free(inspection->members);
    atd_buf_release(&inspection->sample);
    index_give_up(&inspection->index);
    free(inspection);
}

uint64_t atd_inspection_fed(const struct atd_inspection *inspection)
{
    return inspection->fed;
}

static int take(struct atd_inspection *inspection, struct atd_bytes bytes, struct atd_error *err)
{
    return inspection->unpacker ? atd_unpacker_feed(inspection->unpacker, bytes, err)
                                : take_tape(inspection, bytes, err);
}

/* The first bytes are there, or the file has no more. */
static int begin(struct atd_inspection *inspection, struct atd_error *err)
{
    struct atd_bytes head = {inspection->head, inspection->head_len};
    enum atd_packing packing = atd_packing_of(head);

    if (packing != ATD_PACKING_NONE) {
        inspection->unpacker =
            atd_unpacker_new(packing, ATD_INSPECT_RATIO_MAX, take_tape, inspection);
        if (!inspection->unpacker)
            return atd_error_set(err, ENOMEM, "inspection: out of memory");
        index_give_up(&inspection->index);
    }
    return take(inspection, head, err);
}

static int take_all(struct atd_inspection *inspection, struct atd_bytes bytes,
                    struct atd_error *err)
{
    size_t len = sizeof(inspection->head) - inspection->head_len;
    int rc = 0;

    if (len) {
        len = bytes.len < len ? bytes.len : len;
        memcpy(inspection->head + inspection->head_len, bytes.ptr, len);
        inspection->head_len += len;
        bytes = (struct atd_bytes){bytes.ptr + len, bytes.len - len};
        if (inspection->head_len == sizeof(inspection->head))
            rc = begin(inspection, err);
    }
    return rc == 0 && bytes.len ? take(inspection, bytes, err) : rc;
}

/* What went wrong once is the answer from then on. */
static int settle(struct atd_inspection *inspection, int rc, const struct atd_error *why)
{
    if (rc != 0) {
        inspection->rc = rc;
        inspection->failed = *why;
    }
    return rc;
}

static int answer(const struct atd_inspection *inspection, struct atd_error *err)
{
    if (inspection->rc != 0 && err)
        *err = inspection->failed;
    return inspection->rc;
}

int atd_inspection_feed(struct atd_inspection *inspection, struct atd_bytes bytes,
                        struct atd_error *err)
{
    struct atd_error why = ATD_ERROR_INIT;

    atd_assert(!inspection->is_finished);
    inspection->fed += bytes.len;
    if (inspection->rc == 0 && bytes.len) {
        atd_sha256_add(inspection->sha, bytes.ptr, bytes.len);
        (void)settle(inspection, take_all(inspection, bytes, &why), &why);
    }
    return answer(inspection, err);
}

/* ------------------------------------------------------------------ the verdict */

static int check_complete(const struct atd_inspection *inspection, struct atd_error *err)
{
    uint64_t next = atd_tar_walk_next_offset(inspection->walk);

    if (inspection->at && next != UINT64_MAX && next > inspection->at)
        return atd_error_set(err, EINVAL,
                             "tar of %" PRIu64
                             " bytes ends inside '%s', which goes on to byte %" PRIu64
                             ": the copy is not complete",
                             inspection->at, inspection->last_name, next);
    switch (atd_tar_walk_end(inspection->walk, inspection->at, err)) {
    case ATD_TAR_COMPLETE:
        return 0;
    case ATD_TAR_EMPTY:
    case ATD_TAR_NO_END:
    case ATD_TAR_TRUNCATED:
        break;
    }
    return -EINVAL;
}

static int check_tail(const struct atd_inspection *inspection, struct atd_error *err)
{
    if (inspection->tail)
        return atd_error_set(err, EINVAL,
                             "tar ends at byte %" PRIu64 ", and webdataset does not read what "
                             "follows at byte %" PRIu64 ": was another tar appended?",
                             inspection->end, inspection->tail);
    if (inspection->end && inspection->at - inspection->end > ATD_INSPECT_PADDING_MAX)
        return atd_error_set(err, EINVAL,
                             "tar ends at byte %" PRIu64 " and %" PRIu64 " zero bytes follow: "
                             "was the file not written to its end?",
                             inspection->end, inspection->at - inspection->end);
    return 0;
}

bool atd_inspection_is_whole(const struct atd_inspection *inspection)
{
    if (inspection->rc != 0)
        return true;
    if (inspection->unpacker && atd_unpacker_finish(inspection->unpacker, NULL) != 0)
        return false;
    return inspection->head_len == sizeof(inspection->head) &&
           check_complete(inspection, NULL) == 0 && check_tail(inspection, NULL) == 0;
}

static int finish(struct atd_inspection *inspection, struct atd_error *err)
{
    int rc = 0;

    if (inspection->head_len < sizeof(inspection->head))
        rc = begin(inspection, err);
    if (rc == 0 && inspection->unpacker)
        rc = atd_unpacker_finish(inspection->unpacker, err);
    if (rc == 0)
        rc = check_complete(inspection, err);
    if (rc == 0)
        rc = check_tail(inspection, err);
    return rc == 0 ? atd_inspect_members_finish(inspection->members, err) : rc;
}

static void write_hex(const uint8_t digest[ATD_SHA256_BYTES], char ret_hex[65])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < ATD_SHA256_BYTES; i++) {
        ret_hex[2 * i] = digits[digest[i] >> 4];
        ret_hex[2 * i + 1] = digits[digest[i] & 15];
    }
    ret_hex[64] = '\0';
}

int atd_inspection_finish(struct atd_inspection *inspection, struct atd_inspect_result *ret_result,
                          struct atd_error *err)
{
    struct atd_inspect_result result = {0};
    struct atd_error why = ATD_ERROR_INIT;

    atd_assert(!inspection->is_finished);
    inspection->is_finished = true;
    if (inspection->rc == 0)
        (void)settle(inspection, finish(inspection, &why), &why);
    if (inspection->rc != 0)
        return answer(inspection, err);
    result.size_bytes = inspection->fed;
    atd_sha256_finish(inspection->sha, result.sha256);
    write_hex(result.sha256, result.sha256_hex);
    result.samples = atd_inspect_members_samples(inspection->members);
    result.members = inspection->member_count;
    result.is_msgpack = atd_inspect_members_are_msgpack(inspection->members);
    result.is_compressed = inspection->unpacker != NULL;
    result.seen = atd_inspect_members_seen(inspection->members);
    *ret_result = result;
    return 0;
}

size_t atd_inspection_member_count(const struct atd_inspection *inspection)
{
    return inspection->index.count;
}

const struct atd_inspect_member *atd_inspection_member(const struct atd_inspection *inspection,
                                                       size_t place)
{
    atd_assert(place < inspection->index.count);
    return &inspection->index.members[place];
}

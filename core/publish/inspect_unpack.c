#include "publish/inspect_unpack.h"

#include <bzlib.h>
#include <errno.h>
#include <inttypes.h>
#include <lzma.h>
#include <stdlib.h>
#include <zlib.h>

#include "base/check.h"

/* What is unpacked at once: small enough to stay in the processor's cache. */
#define OUT_BYTES (256u << 10)
/* What a library takes at once: its counters are 32 bits. */
#define IN_BYTES_MAX (1u << 20)
/* gzip, not zlib's own form, with the largest window. Source: zlib.h, inflateInit2(). */
#define GZIP_WINDOW (16 + MAX_WBITS)
/* Place and bit of gzip's FLG.FEXTRA. Source: RFC 1952, 2.3. */
#define GZIP_FLAGS_AT 3u
#define GZIP_EXTRA 4u

struct atd_unpacker {
    enum atd_packing packing;
    unsigned ratio_max;
    atd_unpacked_fn fn;
    void *ctx;
    union {
        z_stream gzip;
        bz_stream bzip2;
        lzma_stream xz;
    };
    uint64_t in_bytes;  /* taken, up to the end of the stream */
    uint64_t out_bytes; /* given */
    bool is_ended;
    bool has_tail; /* other than zeros came behind the end */
    uint8_t out[OUT_BYTES];
};

static const char *const packing_names[] = {
    [ATD_PACKING_NONE] = "tar",
    [ATD_PACKING_GZIP] = "gzip",
    [ATD_PACKING_BZIP2] = "bzip2",
    [ATD_PACKING_XZ] = "xz",
};

/* Source: CPython, tarfile._StreamProxy.getcomptype(). */
enum atd_packing atd_packing_of(struct atd_bytes head)
{
    struct atd_str text = atd_bytes_str(head);

    if (atd_str_starts_with(text, ATD_STR("\x1f\x8b\x08")))
        return ATD_PACKING_GZIP;
    if (head.len >= ATD_PACKING_HEAD_BYTES && atd_str_starts_with(text, ATD_STR("BZh")) &&
        memcmp(head.ptr + 4, "1AY&SY", 6) == 0)
        return ATD_PACKING_BZIP2;
    if (atd_str_starts_with(text, ATD_STR("\xfd"
                                          "7zXZ")) ||
        atd_str_starts_with(text, ATD_STR("\x5d\0\0\x80"))) /* the old lzma form */
        return ATD_PACKING_XZ;
    return ATD_PACKING_NONE;
}

static bool begin(struct atd_unpacker *unpacker)
{
    switch (unpacker->packing) {
    case ATD_PACKING_GZIP:
        return inflateInit2(&unpacker->gzip, GZIP_WINDOW) == Z_OK;
    case ATD_PACKING_BZIP2:
        return BZ2_bzDecompressInit(&unpacker->bzip2, 0, 0) == BZ_OK;
    case ATD_PACKING_XZ:
        unpacker->xz = (lzma_stream)LZMA_STREAM_INIT;
        return lzma_auto_decoder(&unpacker->xz, ATD_UNPACK_MEMORY_MAX, 0) == LZMA_OK;
    case ATD_PACKING_NONE:
        break;
    }
    return false;
}

struct atd_unpacker *atd_unpacker_new(enum atd_packing packing, unsigned ratio_max,
                                      atd_unpacked_fn fn, void *ctx)
{
    struct atd_unpacker *unpacker = calloc(1, sizeof(*unpacker));

    atd_assert(packing != ATD_PACKING_NONE);
    if (!unpacker)
        return NULL;
    unpacker->packing = packing;
    unpacker->ratio_max = ratio_max;
    unpacker->fn = fn;
    unpacker->ctx = ctx;
    if (!begin(unpacker)) {
        free(unpacker);
        return NULL;
    }
    return unpacker;
}

void atd_unpacker_free(struct atd_unpacker *unpacker)
{
    if (!unpacker)
        return;
    switch (unpacker->packing) {
    case ATD_PACKING_GZIP:
        (void)inflateEnd(&unpacker->gzip);
        break;
    case ATD_PACKING_BZIP2:
        (void)BZ2_bzDecompressEnd(&unpacker->bzip2);
        break;
    case ATD_PACKING_XZ:
        lzma_end(&unpacker->xz);
        break;
    case ATD_PACKING_NONE:
        break;
    }
    free(unpacker);
}

/* What one call of a library did. */
struct step {
    size_t in_left;
    size_t out_len;
    bool is_end;
    int code; /* 0, EINVAL damaged, E2BIG wants too much memory, ENOMEM */
};

/* Z_BUF_ERROR, and its like below: nothing could be done, which is no failure. */
static struct step step_gzip(struct atd_unpacker *unpacker, struct atd_bytes in)
{
    z_stream *stream = &unpacker->gzip;
    int rc;

    /* zlib takes a pointer to what it does not write. */
    stream->next_in = (Bytef *)(uintptr_t)in.ptr;
    stream->avail_in = (uInt)in.len;
    stream->next_out = unpacker->out;
    stream->avail_out = OUT_BYTES;
    rc = inflate(stream, Z_NO_FLUSH);
    return (struct step){
        .in_left = stream->avail_in,
        .out_len = OUT_BYTES - stream->avail_out,
        .is_end = rc == Z_STREAM_END,
        .code = rc == Z_OK || rc == Z_STREAM_END || rc == Z_BUF_ERROR ? 0
                : rc == Z_MEM_ERROR                                   ? ENOMEM
                                                                      : EINVAL,
    };
}

static struct step step_bzip2(struct atd_unpacker *unpacker, struct atd_bytes in)
{
    bz_stream *stream = &unpacker->bzip2;
    int rc;

    stream->next_in = (char *)(uintptr_t)in.ptr;
    stream->avail_in = (unsigned)in.len;
    stream->next_out = (char *)unpacker->out;
    stream->avail_out = OUT_BYTES;
    rc = BZ2_bzDecompress(stream);
    return (struct step){
        .in_left = stream->avail_in,
        .out_len = OUT_BYTES - stream->avail_out,
        .is_end = rc == BZ_STREAM_END,
        .code = rc == BZ_OK || rc == BZ_STREAM_END ? 0
                : rc == BZ_MEM_ERROR               ? ENOMEM
                                                   : EINVAL,
    };
}

static struct step step_xz(struct atd_unpacker *unpacker, struct atd_bytes in)
{
    lzma_stream *stream = &unpacker->xz;
    lzma_ret rc;
    int code = EINVAL;

    stream->next_in = in.ptr;
    stream->avail_in = in.len;
    stream->next_out = unpacker->out;
    stream->avail_out = OUT_BYTES;
    rc = lzma_code(stream, LZMA_RUN);
    if (rc == LZMA_OK || rc == LZMA_STREAM_END || rc == LZMA_BUF_ERROR)
        code = 0;
    else if (rc == LZMA_MEMLIMIT_ERROR)
        code = E2BIG;
    else if (rc == LZMA_MEM_ERROR)
        code = ENOMEM;
    return (struct step){.in_left = stream->avail_in,
                         .out_len = OUT_BYTES - stream->avail_out,
                         .is_end = rc == LZMA_STREAM_END,
                         .code = code};
}

static struct step take_step(struct atd_unpacker *unpacker, struct atd_bytes in)
{
    if (unpacker->packing == ATD_PACKING_GZIP)
        return step_gzip(unpacker, in);
    return unpacker->packing == ATD_PACKING_BZIP2 ? step_bzip2(unpacker, in)
                                                  : step_xz(unpacker, in);
}

static int step_failed(const struct atd_unpacker *unpacker, int code, struct atd_error *err)
{
    const char *name = packing_names[unpacker->packing];

    if (code == ENOMEM)
        return atd_error_set(err, ENOMEM, "%s: out of memory", name);
    if (code == E2BIG)
        return atd_error_set(err, E2BIG,
                             "%s data take more than %" PRIu64 " MiB of memory to unpack", name,
                             ATD_UNPACK_MEMORY_MAX >> 20);
    return atd_error_set(err, EINVAL, "%s data are damaged near byte %" PRIu64 " unpacked", name,
                         unpacker->out_bytes);
}

/* Hands on what a step unpacked. */
static int give(struct atd_unpacker *unpacker, size_t len, struct atd_error *err)
{
    const char *name = packing_names[unpacker->packing];
    int rc = 0;

    unpacker->out_bytes += len;
    if (unpacker->out_bytes > ATD_UNPACK_FREE_BYTES &&
        unpacker->out_bytes / unpacker->ratio_max > unpacker->in_bytes)
        return atd_error_set(err, E2BIG,
                             "%s data of %" PRIu64 " bytes unpack to more than %" PRIu64
                             " bytes, over %u times as much",
                             name, unpacker->in_bytes, unpacker->out_bytes, unpacker->ratio_max);
    if (len)
        rc = unpacker->fn(unpacker->ctx, (struct atd_bytes){unpacker->out, len}, err);
    return rc == 0 ? 0 : atd_error_wrap(err, rc, "in the %s data", name);
}

/* Unpacks from a piece until it is used up and gives nothing more; *piece is what is left, when
 * the stream ended in it. */
static int take_piece(struct atd_unpacker *unpacker, struct atd_bytes *piece, struct atd_error *err)
{
    for (;;) {
        struct step step = take_step(unpacker, *piece);
        size_t taken = piece->len - step.in_left;
        int rc;

        unpacker->in_bytes += taken;
        *piece = (struct atd_bytes){piece->ptr + taken, step.in_left};
        /* What came before the damage counts first. */
        rc = give(unpacker, step.out_len, err);
        if (rc == 0 && step.code != 0)
            rc = step_failed(unpacker, step.code, err);
        if (rc != 0)
            return rc;
        unpacker->is_ended = step.is_end;
        if (step.is_end || (taken == 0 && step.out_len == 0) ||
            (piece->len == 0 && step.out_len < OUT_BYTES))
            return 0;
    }
}

/* Python's reader skips an extra field in the data instead of the header, and fails. */
static int check_gzip_flags(const struct atd_unpacker *unpacker, struct atd_bytes bytes,
                            struct atd_error *err)
{
    if (unpacker->packing == ATD_PACKING_GZIP && unpacker->in_bytes <= GZIP_FLAGS_AT &&
        bytes.len > GZIP_FLAGS_AT - unpacker->in_bytes &&
        (bytes.ptr[GZIP_FLAGS_AT - unpacker->in_bytes] & GZIP_EXTRA))
        return atd_error_set(err, EINVAL,
                             "gzip header has an extra field (bgzip's), which webdataset cannot "
                             "read: compress it with gzip or pigz");
    return 0;
}

int atd_unpacker_feed(struct atd_unpacker *unpacker, struct atd_bytes bytes, struct atd_error *err)
{
    int rc = check_gzip_flags(unpacker, bytes, err);

    while (rc == 0 && bytes.len && !unpacker->is_ended) {
        size_t len = bytes.len < IN_BYTES_MAX ? bytes.len : IN_BYTES_MAX;
        struct atd_bytes piece = {bytes.ptr, len};

        rc = take_piece(unpacker, &piece, err);
        len -= piece.len;
        bytes = (struct atd_bytes){bytes.ptr + len, bytes.len - len};
        if (rc == 0 && len == 0 && !unpacker->is_ended)
            rc = step_failed(unpacker, EINVAL, err);
    }
    for (size_t i = 0; rc == 0 && i < bytes.len && !unpacker->has_tail; i++)
        unpacker->has_tail = bytes.ptr[i] != 0;
    return rc;
}

int atd_unpacker_finish(const struct atd_unpacker *unpacker, struct atd_error *err)
{
    const char *name = packing_names[unpacker->packing];

    if (!unpacker->is_ended)
        return atd_error_set(err, EINVAL,
                             "%s data of %" PRIu64 " bytes are cut short: the copy is not complete",
                             name, unpacker->in_bytes);
    if (unpacker->has_tail)
        return atd_error_set(err, EINVAL,
                             "%s data end at byte %" PRIu64 ", and webdataset does not read the "
                             "rest: compress the tar in one piece",
                             name, unpacker->in_bytes);
    return 0;
}

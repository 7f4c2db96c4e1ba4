/*
 * Shards made by hand, and packed, for the tests of inspection.
 */
#ifndef ATD_TESTS_UNIT_SHARDS_H
#define ATD_TESTS_UNIT_SHARDS_H

#include <bzlib.h>
#include <errno.h>
#include <lzma.h>
#include <zlib.h>

#include "atdata/sample.h"
#include "tar_walks.h"

#define SHARD_BYTES_MAX ((size_t)1 << 30)

static inline void put_member(struct atd_buf *tar, const char *name, char type,
                              struct atd_bytes data)
{
    uint8_t block[BLOCK];
    char size[13];

    make_header(block, name, type);
    (void)snprintf(size, sizeof(size), "%011zo", data.len);
    set_field(block, 124, size, 11);
    atd_buf_append(tar, block, BLOCK);
    atd_buf_append(tar, data.ptr, data.len);
    atd_buf_append_zeros(tar, (BLOCK - data.len % BLOCK) % BLOCK);
}

static inline void put_text_member(struct atd_buf *tar, const char *name, const char *text)
{
    put_member(tar, name, '0', atd_str_bytes(atd_str_from(text)));
}

/* A sample {"label": label, "data": data_bytes zeros}. */
static inline void put_sample(struct atd_buf *tar, const char *name, int label, size_t data_bytes)
{
    atd_auto_buf struct atd_buf sample = ATD_BUF_INIT(SHARD_BYTES_MAX);
    uint8_t *data = calloc(1, data_bytes + 1);

    atd_sample_put_map(&sample, 2);
    atd_sample_put_str(&sample, ATD_STR("label"));
    atd_sample_put_int(&sample, label);
    atd_sample_put_str(&sample, ATD_STR("data"));
    atd_sample_put_bin(&sample, (struct atd_bytes){data, data_bytes});
    put_member(tar, name, '0', atd_buf_bytes(&sample));
    free(data);
}

static inline void put_end(struct atd_buf *tar)
{
    atd_buf_append_zeros(tar, 2 * BLOCK);
}

enum packer { PACK_GZIP, PACK_BZIP2, PACK_XZ, PACK_LZMA, PACKERS };

static inline size_t pack_gzip(struct atd_bytes data, uint8_t *out, size_t cap)
{
    z_stream stream = {.next_in = (Bytef *)(uintptr_t)data.ptr,
                       .avail_in = (uInt)data.len,
                       .next_out = out,
                       .avail_out = (uInt)cap};

    cr_assert_eq(deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    cr_assert_eq(deflate(&stream, Z_FINISH), Z_STREAM_END);
    cr_assert_eq(deflateEnd(&stream), Z_OK);
    return cap - stream.avail_out;
}

/* Appends `data`, packed as one stream. */
static inline void put_packed(struct atd_buf *out, enum packer packer, struct atd_bytes data)
{
    size_t cap = data.len + data.len / 2 + 100000;
    uint8_t *packed = malloc(cap);
    unsigned bzip2_len = (unsigned)cap;
    size_t len = 0;
    lzma_options_lzma options;
    lzma_stream alone = LZMA_STREAM_INIT;

    switch (packer) {
    case PACK_GZIP:
        len = pack_gzip(data, packed, cap);
        break;
    case PACK_BZIP2:
        cr_assert_eq(BZ2_bzBuffToBuffCompress((char *)packed, &bzip2_len,
                                              (char *)(uintptr_t)data.ptr, (unsigned)data.len, 9, 0,
                                              0),
                     BZ_OK);
        len = bzip2_len;
        break;
    case PACK_XZ:
        cr_assert_eq(lzma_easy_buffer_encode(1, LZMA_CHECK_CRC64, NULL, data.ptr, data.len, packed,
                                             &len, cap),
                     LZMA_OK);
        break;
    case PACK_LZMA:
        cr_assert(!lzma_lzma_preset(&options, 6));
        cr_assert_eq(lzma_alone_encoder(&alone, &options), LZMA_OK);
        alone.next_in = data.ptr;
        alone.avail_in = data.len;
        alone.next_out = packed;
        alone.avail_out = cap;
        cr_assert_eq(lzma_code(&alone, LZMA_FINISH), LZMA_STREAM_END);
        len = cap - alone.avail_out;
        lzma_end(&alone);
        break;
    case PACKERS:
        break;
    }
    atd_buf_append(out, packed, len);
    free(packed);
}

#endif

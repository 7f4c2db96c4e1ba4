#include "publish/inspect_unpack.h"

#include "publish/inspect.h"
#include "shards.h"

static const size_t pieces[] = {1, 9, 511, 513, 1u << 20};
static const enum atd_packing packings[] = {ATD_PACKING_GZIP, ATD_PACKING_BZIP2, ATD_PACKING_XZ,
                                            ATD_PACKING_XZ};

static int inspect(struct atd_bytes bytes, size_t piece, struct atd_inspect_result *ret_result,
                   struct atd_error *err)
{
    struct atd_inspection *inspection = atd_inspection_new(NULL);
    int rc;

    for (size_t at = 0; at < bytes.len;) {
        size_t len = bytes.len - at < piece ? bytes.len - at : piece;
        uint8_t *copy = exact_copy(bytes.ptr + at, len);

        rc = atd_inspection_feed(inspection, (struct atd_bytes){copy, len}, NULL);
        (void)rc; /* it comes again */
        free(copy);
        at += len;
    }
    rc = atd_inspection_finish(inspection, ret_result, err);
    cr_assert_eq(atd_inspection_member_count(inspection), 0);
    atd_inspection_free(inspection);
    return rc;
}

static void check(struct atd_bytes bytes, const char *why)
{
    for (size_t i = 0; i < ATD_ARRAY_LEN(pieces); i++) {
        struct atd_inspect_result result;
        struct atd_error err = ATD_ERROR_INIT;
        uint8_t digest[ATD_SHA256_BYTES];
        int rc = inspect(bytes, pieces[i], &result, &err);

        if (why) {
            cr_assert_lt(rc, 0, "taken: %s", why);
            cr_assert(strstr(err.text, why), "'%s' is not in '%s'", why, err.text);
            continue;
        }
        cr_assert_eq(rc, 0, "%s", err.text);
        cr_assert(result.is_compressed && result.is_msgpack);
        cr_assert_eq(result.samples, 3);
        cr_assert_eq(result.members, 3);
        atd_sha256_of(bytes.ptr, bytes.len, digest);
        cr_assert_eq(memcmp(digest, result.sha256, sizeof(digest)), 0);
        cr_assert_eq(result.size_bytes, bytes.len);
    }
}

/* Three samples of random bytes. */
static void build(struct atd_buf *tar)
{
    uint64_t state = 7;

    for (int i = 0; i < 3; i++) {
        atd_auto_buf struct atd_buf sample = ATD_BUF_INIT(1u << 20);
        uint8_t data[9001];
        char name[32];

        for (size_t at = 0; at < sizeof(data); at++)
            data[at] = (uint8_t)next_random(&state);
        atd_sample_put_map(&sample, 1);
        atd_sample_put_str(&sample, ATD_STR("data"));
        atd_sample_put_bin(&sample, (struct atd_bytes){data, sizeof(data)});
        (void)snprintf(name, sizeof(name), "k%d.msgpack", i);
        put_member(tar, name, '0', atd_buf_bytes(&sample));
    }
    put_end(tar);
    atd_buf_append_zeros(tar, 7000);
}

Test(inspect_unpack, by_content)
{
    atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(SHARD_BYTES_MAX);

    build(&tar);
    cr_assert_eq(atd_packing_of((struct atd_bytes){tar.ptr, 10}), ATD_PACKING_NONE);
    cr_assert_eq(atd_packing_of((struct atd_bytes){NULL, 0}), ATD_PACKING_NONE);
    for (int packer = 0; packer < PACKERS; packer++) {
        atd_auto_buf struct atd_buf packed = ATD_BUF_INIT(SHARD_BYTES_MAX);

        put_packed(&packed, packer, atd_buf_bytes(&tar));
        cr_assert_eq(atd_packing_of((struct atd_bytes){packed.ptr, 10}), packings[packer]);
        check(atd_buf_bytes(&packed), NULL);
        atd_buf_append_zeros(&packed, 2000); /* a padded tape: zeros are passed over */
        check(atd_buf_bytes(&packed), NULL);
    }
}

Test(inspect_unpack, every_cut_is_refused, .timeout = 120)
{
    atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(SHARD_BYTES_MAX);

    build(&tar);
    for (int packer = 0; packer < PACKERS; packer++) {
        atd_auto_buf struct atd_buf packed = ATD_BUF_INIT(SHARD_BYTES_MAX);

        put_packed(&packed, packer, atd_buf_bytes(&tar));
        for (size_t len = 0; len < packed.len; len += packed.len - len < 200 ? 1 : 41) {
            struct atd_inspect_result result;
            struct atd_error err = ATD_ERROR_INIT;

            cr_assert_eq(inspect((struct atd_bytes){packed.ptr, len}, 1000, &result, &err), -EINVAL,
                         "%d cut to %zu of %zu", packer, len, packed.len);
        }
    }
}

/* Python's streaming tarfile stops at the end of the first stream (and fails in bz2 and xz when it
 * asks for more): what bgzip, pbzip2 and cat make of a tar is read short. */
Test(inspect_unpack, only_the_first_stream_counts)
{
    atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(SHARD_BYTES_MAX);
    struct atd_bytes head;
    struct atd_bytes rest;

    build(&tar);
    head = (struct atd_bytes){tar.ptr, 11000};
    rest = (struct atd_bytes){tar.ptr + 11000, tar.len - 11000};
    for (int packer = 0; packer < PACKERS; packer++) {
        atd_auto_buf struct atd_buf packed = ATD_BUF_INIT(SHARD_BYTES_MAX);

        put_packed(&packed, packer, head);
        check(atd_buf_bytes(&packed), "ends inside 'k1.msgpack'");
        put_packed(&packed, packer, rest);
        check(atd_buf_bytes(&packed), "webdataset does not read the rest: compress the tar in one");
        atd_buf_clear(&packed);
        put_packed(&packed, packer, atd_buf_bytes(&tar));
        put_packed(&packed, packer, atd_buf_bytes(&tar));
        check(atd_buf_bytes(&packed), "webdataset does not read the rest: compress the tar in one");
    }
}

Test(inspect_unpack, gzip_headers)
{
    static const struct {
        const char *flags_and_time; /* byte 3, then the six that follow */
        struct atd_str more;
        const char *why;
    } cases[] = {
        {"\x08", {"name\0", 5}, NULL},
        {"\x18", {"name\0comment\0", 13}, NULL},
        {"\x04", {"\x06\0BC\x02\0\x1b\0", 8}, "gzip header has an extra field"},
    };
    atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(SHARD_BYTES_MAX);
    atd_auto_buf struct atd_buf packed = ATD_BUF_INIT(SHARD_BYTES_MAX);

    build(&tar);
    put_packed(&packed, PACK_GZIP, atd_buf_bytes(&tar));
    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        atd_auto_buf struct atd_buf other = ATD_BUF_INIT(SHARD_BYTES_MAX);

        atd_buf_append(&other, packed.ptr, 3);
        atd_buf_append(&other, cases[i].flags_and_time, 1);
        atd_buf_append(&other, packed.ptr + 4, 6);
        atd_buf_append_str(&other, cases[i].more);
        atd_buf_append(&other, packed.ptr + 10, packed.len - 10);
        check(atd_buf_bytes(&other), cases[i].why);
    }
}

Test(inspect_unpack, what_is_no_tar_inside)
{
    for (int packer = 0; packer < PACKERS; packer++) {
        atd_auto_buf struct atd_buf packed = ATD_BUF_INIT(SHARD_BYTES_MAX);
        char text[2000];

        memset(text, 'x', sizeof(text));
        put_packed(&packed, packer, (struct atd_bytes){(uint8_t *)text, sizeof(text)});
        check(atd_buf_bytes(&packed), "file is not a tar: no valid header at byte 0");
        atd_buf_clear(&packed);
        put_packed(&packed, packer, (struct atd_bytes){(uint8_t *)text, 0});
        if (packer != PACK_BZIP2) /* an empty one has another magic: no tar at all */
            check(atd_buf_bytes(&packed), "file is empty");
    }
}

/* Damage anywhere is an error or, where no check sees it, harmless: never a crash. */
Test(inspect_unpack, damage, .timeout = 120)
{
    atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(SHARD_BYTES_MAX);

    build(&tar);
    for (int packer = 0; packer < PACKERS; packer++) {
        atd_auto_buf struct atd_buf packed = ATD_BUF_INIT(SHARD_BYTES_MAX);
        unsigned refused = 0;
        unsigned tried = 0;

        put_packed(&packed, packer, atd_buf_bytes(&tar));
        for (size_t at = 0; at < packed.len; at += 61) {
            struct atd_inspect_result result;
            struct atd_error err = ATD_ERROR_INIT;

            packed.ptr[at] ^= 0x41;
            tried++;
            refused += inspect(atd_buf_bytes(&packed), 777, &result, &err) != 0;
            packed.ptr[at] ^= 0x41;
        }
        /* The old lzma form has no checksum: most of it is noticed by what is inside. */
        if (packer != PACK_LZMA)
            cr_assert_eq(refused, tried, "%d: %u of %u", packer, refused, tried);
    }
}

static int count_bytes(void *ctx, struct atd_bytes bytes, struct atd_error *err)
{
    (void)err;
    *(uint64_t *)ctx += bytes.len;
    return 0;
}

/* Zeros, which gzip packs 1:1030 and xz much better. */
Test(inspect_unpack, bombs_are_stopped, .timeout = 300)
{
    static const size_t zeros_len = (size_t)64 << 20;
    atd_auto_buf struct atd_buf packed = ATD_BUF_INIT(SHARD_BYTES_MAX);
    uint8_t *zeros = calloc(1, zeros_len);
    lzma_stream stream = LZMA_STREAM_INIT;
    uint8_t *out = malloc(1u << 20);
    struct atd_unpacker *unpacker;
    struct atd_error err = ATD_ERROR_INIT;
    uint64_t unpacked = 0;
    int rc;

    cr_assert_eq(lzma_easy_encoder(&stream, 1, LZMA_CHECK_NONE), LZMA_OK);
    stream.next_out = out;
    stream.avail_out = 1u << 20;
    for (int i = 0; i < 18; i++) { /* 1.1 GiB */
        stream.next_in = zeros;
        stream.avail_in = zeros_len;
        cr_assert_eq(lzma_code(&stream, LZMA_RUN), LZMA_OK);
    }
    cr_assert_eq(lzma_code(&stream, LZMA_FINISH), LZMA_STREAM_END);
    atd_buf_append(&packed, out, (1u << 20) - stream.avail_out);
    lzma_end(&stream);
    unpacker = atd_unpacker_new(ATD_PACKING_XZ, 1100, count_bytes, &unpacked);
    rc = atd_unpacker_feed(unpacker, atd_buf_bytes(&packed), &err);
    cr_assert_eq(rc, -E2BIG, "%zu bytes", packed.len);
    cr_assert(strstr(err.text, "over 1100 times as much"), "%s", err.text);
    cr_assert_leq(unpacked, ATD_UNPACK_FREE_BYTES + (1u << 20));
    atd_unpacker_free(unpacker);
    free(out);
    free(zeros);
}

Test(inspect_unpack, memory_is_limited)
{
    atd_auto_buf struct atd_buf packed = ATD_BUF_INIT(SHARD_BYTES_MAX);
    uint8_t *block;
    size_t block_len;
    uint32_t sum;
    uint64_t unpacked = 0;
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_unpacker *unpacker = atd_unpacker_new(ATD_PACKING_XZ, 1100, count_bytes, &unpacked);

    /* The dictionary's size becomes 256 MiB. Source: the .xz file format, 3.1 and 5.3.1. */
    put_packed(&packed, PACK_XZ, (struct atd_bytes){(const uint8_t *)"abc", 3});
    block = packed.ptr + 12;
    block_len = (size_t)block[0] * 4;
    for (size_t at = 2; at < block_len; at++)
        if (block[at] == 0x21 && block[at + 1] == 1) {
            block[at + 2] = 32;
            break;
        }
    sum = lzma_crc32(block, block_len, 0);
    for (int i = 0; i < 4; i++)
        block[block_len + (size_t)i] = (uint8_t)(sum >> 8 * i);
    cr_assert_eq(atd_unpacker_feed(unpacker, atd_buf_bytes(&packed), &err), -E2BIG, "%s", err.text);
    cr_assert(strstr(err.text, "MiB of memory"), "%s", err.text);
    atd_unpacker_free(unpacker);
    atd_unpacker_free(NULL);
}

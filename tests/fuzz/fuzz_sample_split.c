/*
 * Any bytes as a tar of samples, at once and byte by byte: the same samples and the same end.
 */
#include <stdint.h>
#include <stdlib.h>

#include "codec/sample_split.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static size_t keep(void *ctx, const char *extension)
{
    (void)ctx;
    return extension[0] == 'm' ? 1u << 20 : 16;
}

static void add(uint64_t *sum, const void *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        *sum = (*sum ^ ((const uint8_t *)bytes)[i]) * 1099511628211u + 1;
}

static int see(void *ctx, struct atd_str key, const struct atd_sample_part *parts, size_t count,
               struct atd_error *err)
{
    (void)err;
    require(count > 0 && count <= ATD_SAMPLE_PARTS_MAX);
    add(ctx, key.ptr, key.len);
    for (size_t i = 0; i < count; i++) {
        require(strlen(parts[i].extension) <= ATD_SAMPLE_EXTENSION_MAX);
        require(!parts[i].is_kept || parts[i].bytes.len == parts[i].size_bytes);
        add(ctx, parts[i].extension, strlen(parts[i].extension) + 1);
        add(ctx, parts[i].bytes.ptr, parts[i].is_kept ? parts[i].bytes.len : 0);
        add(ctx, &parts[i].size_bytes, sizeof(parts[i].size_bytes));
    }
    return 0;
}

static int split(const uint8_t *data, size_t size, size_t piece, uint64_t *ret_sum)
{
    const struct atd_sample_sink sink = {ret_sum, keep, see};
    struct atd_sample_split *splitter = atd_sample_split_new(&sink);
    struct atd_error err = ATD_ERROR_INIT;
    int rc = 0;

    require(splitter != NULL);
    *ret_sum = 0;
    for (size_t at = 0; rc == 0 && at < size; at += piece)
        rc = atd_sample_split_feed(
            splitter, (struct atd_bytes){data + at, size - at < piece ? size - at : piece}, &err);
    if (rc == 0)
        rc = atd_sample_split_finish(splitter, &err);
    require(rc == -err.code);
    atd_sample_split_free(splitter);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t whole;
    uint64_t bytes;
    int rc = split(data, size, size ? size : 1, &whole);

    require(split(data, size, 1, &bytes) == rc && bytes == whole);
    return 0;
}

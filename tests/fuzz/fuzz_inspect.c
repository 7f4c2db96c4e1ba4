/*
 * Any bytes as a shard, fed at once and in random pieces: the same verdict, and the same facts.
 */
#include <stdint.h>
#include <stdlib.h>

#include "publish/inspect.h"
#include "publish/inspect_unpack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct verdict {
    int rc;
    struct atd_error err;
    struct atd_inspect_result result;
    size_t members;
};

static void require(bool condition)
{
    if (!condition)
        abort();
}

static struct verdict inspect(struct atd_bytes bytes, uint32_t seed)
{
    struct verdict verdict = {.err = ATD_ERROR_INIT};
    struct atd_inspection *inspection = atd_inspection_new(NULL);
    int fed = 0;

    require(inspection != NULL);
    for (size_t at = 0; at < bytes.len;) {
        size_t len = bytes.len - at;
        uint8_t *copy;

        seed = seed ? seed * 1664525u + 1013904223u : 0;
        if (seed && len > seed >> 21)
            len = (seed >> 21) + 1 < len ? (seed >> 21) + 1 : len;
        copy = malloc(len);
        require(copy != NULL);
        memcpy(copy, bytes.ptr + at, len);
        fed = atd_inspection_feed(inspection, (struct atd_bytes){copy, len}, NULL);
        free(copy);
        at += len;
    }
    verdict.members = atd_inspection_is_whole(inspection);
    verdict.rc = atd_inspection_finish(inspection, &verdict.result, &verdict.err);
    require((verdict.rc == 0) == (verdict.err.code == 0));
    require(fed == 0 || fed == verdict.rc);
    if (verdict.rc == 0) {
        const struct atd_inspect_result *result = &verdict.result;

        require(result->size_bytes == bytes.len);
        require(result->samples <= result->members);
        verdict.members = atd_inspection_member_count(inspection);
        require(verdict.members == (result->is_compressed ? 0 : result->members));
        for (size_t i = 0; i < verdict.members; i++) {
            const struct atd_inspect_member *member = atd_inspection_member(inspection, i);

            require(member->size_bytes <= bytes.len &&
                    member->data_offset <= bytes.len - member->size_bytes);
        }
    }
    atd_inspection_free(inspection);
    return verdict;
}

static void inspect_all_ways(struct atd_bytes bytes, uint32_t seed)
{
    struct verdict whole = inspect(bytes, 0);
    struct verdict pieces = inspect(bytes, seed | 1);

    /* How much comes out before damage is noticed depends on the pieces, in liblzma. */
    if (atd_packing_of(bytes) != ATD_PACKING_NONE && whole.rc != 0) {
        require(pieces.rc != 0);
        return;
    }
    require(whole.rc == pieces.rc && strcmp(whole.err.text, pieces.err.text) == 0);
    require(whole.members == pieces.members);
    if (whole.rc == 0)
        require(whole.result.samples == pieces.result.samples &&
                whole.result.is_msgpack == pieces.result.is_msgpack &&
                memcmp(whole.result.sha256, pieces.result.sha256, ATD_SHA256_BYTES) == 0);
}

/* Makes the checksum right in every block that looks like a header. */
static void mend_checksums(uint8_t *data, size_t size)
{
    for (size_t at = 0; size - at >= 512; at += 512) {
        uint8_t *block = data + at;
        unsigned sum = 0;

        if (memcmp(block + 257, "ustar", 5) != 0)
            continue;
        memset(block + 148, ' ', 8);
        for (size_t i = 0; i < 512; i++)
            sum += block[i];
        for (size_t i = 6; i-- > 0; sum >>= 3)
            block[148 + i] = (uint8_t)('0' + (sum & 7));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint32_t seed = (uint32_t)size * 2654435761u;
    uint8_t *copy = malloc(size ? size : 1);

    require(copy != NULL);
    inspect_all_ways((struct atd_bytes){data, size}, seed);
    if (size)
        memcpy(copy, data, size);
    mend_checksums(copy, size);
    inspect_all_ways((struct atd_bytes){copy, size}, seed + 2);
    free(copy);
    return 0;
}

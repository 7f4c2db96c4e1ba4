/*
 * Any bytes as a shard, in one piece and in small ones: the same members, and the same verdict.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "dataset/member_stream.h"

#define MEMBERS_MAX 100000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct pieces {
    struct atd_bytes left;
    size_t step;
};

static void require(bool condition)
{
    if (!condition)
        abort();
}

static int next_piece(void *ctx, struct atd_bytes *ret_bytes, struct atd_error *err)
{
    struct pieces *pieces = ctx;

    (void)err;
    *ret_bytes = pieces->left;
    if (ret_bytes->len > pieces->step)
        ret_bytes->len = pieces->step;
    if (pieces->left.len) {
        pieces->left.ptr += ret_bytes->len;
        pieces->left.len -= ret_bytes->len;
    }
    return 0;
}

/* A sum of all names and bytes, and how it ended. */
static uint64_t read_all(const uint8_t *data, size_t size, size_t step, int *ret_rc)
{
    struct pieces pieces = {{data, size}, step};
    struct atd_member_stream *members = atd_member_stream_new(next_piece, &pieces);
    struct atd_error err = ATD_ERROR_INIT;
    uint64_t sum = 0;

    require(members != NULL);
    for (unsigned i = 0; i < MEMBERS_MAX; i++) {
        struct atd_bytes bytes;
        struct atd_str name;

        *ret_rc = atd_member_stream_next(members, &name, &bytes, &err);
        require((*ret_rc == 0) == (err.code == 0));
        if (*ret_rc || !name.ptr)
            break;
        for (size_t k = 0; k < name.len; k++)
            sum = sum * 31 + (uint8_t)name.ptr[k];
        for (size_t k = 0; k < bytes.len; k++)
            sum = sum * 37 + bytes.ptr[k];
        sum = sum * 41 + name.len + bytes.len;
    }
    atd_member_stream_free(members);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* The first piece says how the shard is packed. */
    static const size_t steps[] = {16, 513, 4096};
    int whole_rc;
    uint64_t whole = read_all(data, size, SIZE_MAX, &whole_rc);

    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        int rc;

        require(read_all(data, size, steps[i], &rc) == whole && rc == whole_rc);
    }
    return 0;
}

/*
 * Any bytes as a member index: they are refused, or what they list lies in the shard in order, and
 * comes back when it is written again. With a first byte that is even, size, subject and checksum
 * are made right, so that the members are reached.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "atdata/tar_index.h"
#include "base/cleanup.h"
#include "base/crc32c.h"
#include "codec/member_index.h"

#define SHARD_BYTES ((uint64_t)1 << 40)
#define AT_SHARD_BYTES 16u
#define HEADER_BYTES 64u
#define BYTES_MAX ((size_t)16 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void put_le(uint8_t *at, uint64_t value, size_t width)
{
    for (size_t i = 0; i < width; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static void check(const struct atd_member_list *list)
{
    uint64_t end = 0;
    size_t names_len = 0;

    require(list->count <= ATD_MEMBER_INDEX_MEMBERS_MAX);
    for (size_t i = 0; i < list->count; i++) {
        const struct atd_listed_member *member = &list->members[i];

        require(member->data_offset % 512 == 0 && member->data_offset >= end + 512);
        require(member->data_offset <= SHARD_BYTES);
        require(member->size_bytes <= SHARD_BYTES - member->data_offset);
        require(member->name_at == names_len && member->name_len <= ATD_TAR_NAME_BYTES_MAX);
        names_len += member->name_len;
        end = member->data_offset + member->size_bytes;
    }
    require(names_len == list->names_len && names_len <= ATD_MEMBER_INDEX_NAMES_BYTES_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct atd_member_index_of of = {.kind = ATD_MEMBERS_OF_VERSION,
                                           .shard_bytes = SHARD_BYTES};
    atd_auto_buf struct atd_buf bytes = ATD_BUF_INIT(BYTES_MAX);
    atd_auto_buf struct atd_buf again = ATD_BUF_INIT(ATD_MEMBER_INDEX_BYTES_MAX);
    struct atd_member_list list = {0};
    struct atd_error err = ATD_ERROR_INIT;
    int rc;

    if (size < 1 || size > BYTES_MAX / 2)
        return 0;
    atd_buf_append(&bytes, data + 1, size - 1);
    if (data[0] % 2 == 0 && bytes.len >= HEADER_BYTES + 4) {
        static const uint8_t subject[ATD_SHA256_BYTES];

        (void)memcpy(bytes.ptr, "ATDMEMB1\1\0\0\0\2\0\0\0", AT_SHARD_BYTES);
        put_le(bytes.ptr + AT_SHARD_BYTES, SHARD_BYTES, 8);
        (void)memcpy(bytes.ptr + AT_SHARD_BYTES + 8, subject, sizeof(subject));
        put_le(bytes.ptr + bytes.len - 4, atd_crc32c(0, bytes.ptr, bytes.len - 4), 4);
    }
    rc = atd_member_index_decode(atd_buf_bytes(&bytes), &of, &list, &err);
    require((rc == 0) == (err.code == 0));
    if (rc)
        return 0;
    check(&list);
    atd_member_index_encode(&list, &of, &again);
    require(!again.failed);
    atd_member_list_release(&list);
    require(atd_member_index_decode(atd_buf_bytes(&again), &of, &list, NULL) == 0);
    check(&list);
    atd_member_list_release(&list);
    return 0;
}

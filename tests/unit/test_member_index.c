#include "codec/member_index.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "atdata/tar_index.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/crc32c.h"

#define SHARD_BYTES 100000u

static const struct atd_member_index_of of = {
    .kind = ATD_MEMBERS_OF_CONTENT, .shard_bytes = SHARD_BYTES, .subject = {1, 2, 3}};

static void add(struct atd_member_list *list, const char *name, uint64_t offset, uint64_t size)
{
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_member_list_add(list, atd_str_from(name), offset, size, &err), 0, "%s",
                 err.text);
}

static void fill(struct atd_member_list *list)
{
    add(list, "train/000000.msgpack", 512, 1000);
    add(list, "train/000001.msgpack", 2048, 0);
    add(list, "", 2560, 1);
    add(list, "\xff\n/../x", 5120, 90000);
    add(list, "train", 96256, SHARD_BYTES - 96256);
}

/* Of a copy of exactly that size, so that a sanitizer sees what reads on. */
static int decode(struct atd_bytes bytes, const struct atd_member_index_of *whose,
                  struct atd_member_list *ret_list, struct atd_error *err)
{
    atd_auto_free uint8_t *copy = malloc(bytes.len ? bytes.len : 1);

    if (bytes.len)
        memcpy(copy, bytes.ptr, bytes.len);
    return atd_member_index_decode((struct atd_bytes){copy, bytes.len}, whose, ret_list, err);
}

static void assert_same(const struct atd_member_list *a, const struct atd_member_list *b)
{
    cr_assert_eq(a->count, b->count);
    for (size_t i = 0; i < a->count; i++) {
        cr_assert_eq(a->members[i].data_offset, b->members[i].data_offset);
        cr_assert_eq(a->members[i].size_bytes, b->members[i].size_bytes);
        cr_assert(atd_str_equal(atd_member_list_name(a, i), atd_member_list_name(b, i)));
    }
}

static void encode(struct atd_buf *out)
{
    struct atd_member_list list = {0};

    fill(&list);
    atd_member_index_encode(&list, &of, out);
    cr_assert_eq(atd_buf_finish(out, "index", NULL), 0);
    atd_member_list_release(&list);
}

Test(member_index, comes_back_as_it_was)
{
    atd_auto_buf struct atd_buf bytes = ATD_BUF_INIT(10000);
    struct atd_member_list list = {0};
    struct atd_member_list again = {0};
    struct atd_error err = ATD_ERROR_INIT;

    fill(&list);
    atd_member_list_fit(&list);
    cr_assert_eq(atd_member_list_bytes(&list), 5 * sizeof(*list.members) + list.names_len);
    encode(&bytes);
    cr_assert_eq(decode(atd_buf_bytes(&bytes), &of, &again, &err), 0, "%s", err.text);
    assert_same(&list, &again);
    atd_member_list_release(&list);
    atd_member_list_release(&again);
}

Test(member_index, an_empty_list)
{
    atd_auto_buf struct atd_buf bytes = ATD_BUF_INIT(10000);
    struct atd_member_list list = {0};

    atd_member_index_encode(&list, &of, &bytes);
    cr_assert_eq(decode(atd_buf_bytes(&bytes), &of, &list, NULL), 0);
    cr_assert_eq(list.count, 0);
    atd_member_list_release(&list);
}

Test(member_index, ten_bytes_a_member)
{
    atd_auto_buf struct atd_buf bytes = ATD_BUF_INIT(1u << 20);
    struct atd_member_list list = {0};
    struct atd_member_list again = {0};
    struct atd_member_index_of large = of;

    large.shard_bytes = 1u << 30;
    for (unsigned i = 0; i < 10000; i++) {
        char name[32];

        (void)snprintf(name, sizeof(name), "%08u.msgpack", i);
        add(&list, name, 512 + i * (uint64_t)102400, 100000 + i % 1000);
    }
    atd_member_index_encode(&list, &large, &bytes);
    cr_assert_lt(bytes.len, 10000u * 18);
    cr_assert_eq(decode(atd_buf_bytes(&bytes), &large, &again, NULL), 0);
    assert_same(&list, &again);
    atd_member_list_release(&list);
    atd_member_list_release(&again);
}

Test(member_index, damage_at_every_byte)
{
    atd_auto_buf struct atd_buf bytes = ATD_BUF_INIT(10000);
    struct atd_member_list list = {0};

    encode(&bytes);
    for (size_t at = 0; at < bytes.len; at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            bytes.ptr[at] ^= (uint8_t)(1u << bit);
            cr_assert_eq(decode(atd_buf_bytes(&bytes), &of, &list, NULL), -EBADMSG, "byte %zu", at);
            bytes.ptr[at] ^= (uint8_t)(1u << bit);
        }
    }
    cr_assert_eq(decode(atd_buf_bytes(&bytes), &of, &list, NULL), 0);
    atd_member_list_release(&list);
}

static void put_sum(struct atd_buf *bytes)
{
    uint32_t sum = atd_crc32c(0, bytes->ptr, bytes->len - 4);

    for (size_t i = 0; i < 4; i++)
        bytes->ptr[bytes->len - 4 + i] = (uint8_t)(sum >> (8 * i));
}

/* With a sum that fits, as who means harm would write it. */
Test(member_index, damage_at_every_byte_that_is_signed)
{
    atd_auto_buf struct atd_buf good = ATD_BUF_INIT(10000);

    encode(&good);
    for (size_t at = 0; at + 4 < good.len; at++) {
        for (unsigned value = 0; value < 256; value++) {
            atd_auto_buf struct atd_buf bytes = ATD_BUF_INIT(10000);
            struct atd_member_list list = {0};

            atd_buf_append(&bytes, good.ptr, good.len);
            bytes.ptr[at] = (uint8_t)value;
            put_sum(&bytes);
            if (decode(atd_buf_bytes(&bytes), &of, &list, NULL))
                continue;
            for (size_t i = 0; i < list.count; i++) {
                uint64_t before =
                    i ? list.members[i - 1].data_offset + list.members[i - 1].size_bytes : 0;

                cr_assert_geq(list.members[i].data_offset, before + 512);
                cr_assert_leq(list.members[i].data_offset + list.members[i].size_bytes,
                              SHARD_BYTES);
            }
            atd_member_list_release(&list);
        }
    }
}

Test(member_index, cut_anywhere)
{
    atd_auto_buf struct atd_buf bytes = ATD_BUF_INIT(10000);
    struct atd_member_list list = {0};

    encode(&bytes);
    for (size_t len = 0; len < bytes.len; len++) {
        atd_auto_buf struct atd_buf cut = ATD_BUF_INIT(10000);

        cr_assert_eq(decode((struct atd_bytes){bytes.ptr, len}, &of, &list, NULL), -EBADMSG);
        if (len < 68)
            continue;
        atd_buf_append(&cut, bytes.ptr, len);
        put_sum(&cut);
        cr_assert_eq(decode(atd_buf_bytes(&cut), &of, &list, NULL), -EBADMSG, "%zu bytes", len);
    }
    atd_buf_append_byte(&bytes, 0);
    cr_assert_eq(decode(atd_buf_bytes(&bytes), &of, &list, NULL), -EBADMSG);
    put_sum(&bytes);
    cr_assert_eq(decode(atd_buf_bytes(&bytes), &of, &list, NULL), -EBADMSG);
}

Test(member_index, of_other_bytes)
{
    atd_auto_buf struct atd_buf bytes = ATD_BUF_INIT(10000);
    struct atd_member_list list = {0};
    struct atd_member_index_of other = of;
    struct atd_error err = ATD_ERROR_INIT;

    encode(&bytes);
    other.shard_bytes++;
    cr_assert_eq(decode(atd_buf_bytes(&bytes), &other, &list, &err), -ESTALE);
    cr_assert_str_eq(err.text, "a member index is of other bytes than this shard's");
    other = of;
    other.subject[31] = 1;
    cr_assert_eq(decode(atd_buf_bytes(&bytes), &other, &list, NULL), -ESTALE);
    other = of;
    other.kind = ATD_MEMBERS_OF_VERSION;
    cr_assert_eq(decode(atd_buf_bytes(&bytes), &other, &list, NULL), -ESTALE);
    bytes.ptr[8]++;
    put_sum(&bytes);
    cr_assert_eq(decode(atd_buf_bytes(&bytes), &of, &list, NULL), -ENOTSUP);
}

Test(member_index, what_no_tar_has_is_not_listed)
{
    struct atd_member_list list = {0};
    char *name = calloc(1, ATD_TAR_NAME_BYTES_MAX + 1);
    struct atd_str longest = {name, ATD_TAR_NAME_BYTES_MAX};
    struct atd_str longer = {name, ATD_TAR_NAME_BYTES_MAX + 1};

    cr_assert_eq(atd_member_list_add(&list, ATD_STR("x"), 0, 1, NULL), -EINVAL);
    cr_assert_eq(atd_member_list_add(&list, ATD_STR("x"), 513, 1, NULL), -EINVAL);
    cr_assert_eq(atd_member_list_add(&list, ATD_STR("x"), 512, INT64_MAX, NULL), -EINVAL);
    cr_assert_eq(atd_member_list_add(&list, longer, 512, 1, NULL), -EINVAL);
    cr_assert_eq(atd_member_list_add(&list, longest, 512, 1, NULL), 0);
    cr_assert_eq(atd_member_list_add(&list, ATD_STR("x"), 1024, 1, NULL), -EINVAL);
    cr_assert_eq(atd_member_list_add(&list, ATD_STR("x"), 1536, 1, NULL), 0);
    atd_member_list_release(&list);
    free(name);
}

Test(member_index, limits)
{
    struct atd_member_list list = {0};
    char *name = calloc(1, ATD_TAR_NAME_BYTES_MAX);
    struct atd_error err = ATD_ERROR_INIT;
    int rc = 0;

    for (unsigned i = 0; rc == 0; i++)
        rc = atd_member_list_add(&list, ATD_STR("x"), 512 + i * (uint64_t)512, 0, &err);
    cr_assert_eq(rc, -E2BIG);
    cr_assert_eq(list.count, ATD_MEMBER_INDEX_MEMBERS_MAX);
    atd_member_list_release(&list);
    rc = 0;
    for (unsigned i = 0; rc == 0; i++)
        rc = atd_member_list_add(&list, (struct atd_str){name, ATD_TAR_NAME_BYTES_MAX},
                                 512 + i * (uint64_t)512, 0, &err);
    cr_assert_eq(rc, -E2BIG);
    cr_assert_eq(list.names_len, ATD_MEMBER_INDEX_NAMES_BYTES_MAX);
    atd_member_list_release(&list);
    free(name);
}

Test(member_index, the_subject_is_a_whole_sha256)
{
    struct atd_member_index_of content = {0};
    struct atd_str hex =
        ATD_STR("00ff00000000000000000000000000000000000000000000000000000000000a");

    cr_assert(atd_member_index_of_content(hex, 7, &content));
    cr_assert(content.kind == ATD_MEMBERS_OF_CONTENT && content.shard_bytes == 7);
    cr_assert(content.subject[1] == 0xff && content.subject[31] == 10);
    cr_assert_not(atd_member_index_of_content(atd_str_head(hex, 63), 7, &content));
    cr_assert_not(atd_member_index_of_content(
        ATD_STR("00FF00000000000000000000000000000000000000000000000000000000000a"), 7, &content));
}

#include "codec/member_index.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "atdata/tar_index.h"
#include "base/crc32c.h"
#include "codec/tar_header.h"

#define MAGIC "ATDMEMB1"
#define VERSION 1u
#define VARINT_BYTES_MAX 10u
/* The least a member takes: four varints of one byte. */
#define MEMBER_BYTES_MIN 4u
#define SUM_BYTES 4u

/* Places in the header. */
enum {
    AT_MAGIC = 0,
    AT_VERSION = 8,
    AT_KIND = 12,
    AT_SHARD_BYTES = 16,
    AT_SUBJECT = 24,
    AT_COUNT = AT_SUBJECT + ATD_SHA256_BYTES,
    AT_NAMES_LEN = AT_COUNT + 4,
    HEADER_BYTES = AT_NAMES_LEN + 4,
};

/* ------------------------------------------------------------------ the list */

void atd_member_list_release(struct atd_member_list *list)
{
    free(list->members);
    free(list->names);
    *list = (struct atd_member_list){0};
}

void atd_member_list_fit(struct atd_member_list *list)
{
    struct atd_listed_member *members =
        list->count ? reallocarray(list->members, list->count, sizeof(*members)) : NULL;
    char *names = list->names_len ? realloc(list->names, list->names_len) : NULL;

    if (members) {
        list->members = members;
        list->cap = list->count;
    }
    if (names) {
        list->names = names;
        list->names_cap = list->names_len;
    }
}

size_t atd_member_list_bytes(const struct atd_member_list *list)
{
    return list->cap * sizeof(*list->members) + list->names_cap;
}

/* Data are padded to whole blocks. `size` at most INT64_MAX. */
static uint64_t padded(uint64_t size)
{
    return (size + ATD_TAR_BLOCK_BYTES - 1) / ATD_TAR_BLOCK_BYTES * ATD_TAR_BLOCK_BYTES;
}

/* Where the header of the next member begins at the earliest. */
static uint64_t list_end(const struct atd_member_list *list)
{
    const struct atd_listed_member *last = list->count ? &list->members[list->count - 1] : NULL;

    return last ? last->data_offset + padded(last->size_bytes) : 0;
}

static int grow(struct atd_member_list *list, size_t name_len, struct atd_error *err)
{
    if (list->count == list->cap) {
        size_t cap = list->cap ? 2 * list->cap : 64;
        struct atd_listed_member *members =
            reallocarray(list->members, cap, sizeof(*list->members));

        if (!members)
            return atd_error_set(err, ENOMEM, "a list of members: out of memory");
        list->members = members;
        list->cap = cap;
    }
    if (list->names_cap - list->names_len < name_len) {
        size_t cap = 2 * list->names_cap + name_len + 1024;
        char *names = realloc(list->names, cap);

        if (!names)
            return atd_error_set(err, ENOMEM, "a list of members: out of memory");
        list->names = names;
        list->names_cap = cap;
    }
    return 0;
}

/* Without a name yet, which has `name_len` bytes. */
static int add(struct atd_member_list *list, size_t name_len, uint64_t data_offset,
               uint64_t size_bytes, struct atd_error *err)
{
    int rc;

    if (list->count >= ATD_MEMBER_INDEX_MEMBERS_MAX)
        return atd_error_set(err, E2BIG, "a shard with more than %u members has no member index",
                             ATD_MEMBER_INDEX_MEMBERS_MAX);
    if (name_len > ATD_TAR_NAME_BYTES_MAX || data_offset % ATD_TAR_BLOCK_BYTES != 0 ||
        data_offset < list_end(list) + ATD_TAR_BLOCK_BYTES || data_offset > INT64_MAX ||
        size_bytes > INT64_MAX - ATD_TAR_BLOCK_BYTES ||
        padded(size_bytes) > INT64_MAX - data_offset)
        return atd_error_set(err, EINVAL, "a member at byte %" PRIu64 " cannot be listed",
                             data_offset);
    if (name_len > ATD_MEMBER_INDEX_NAMES_BYTES_MAX - list->names_len)
        return atd_error_set(err, E2BIG,
                             "a shard with more than %u bytes of member names has no member index",
                             ATD_MEMBER_INDEX_NAMES_BYTES_MAX);
    rc = grow(list, name_len, err);
    if (rc)
        return rc;
    list->members[list->count++] = (struct atd_listed_member){
        .data_offset = data_offset,
        .size_bytes = size_bytes,
        .name_at = (uint32_t)list->names_len,
        .name_len = (uint32_t)name_len,
    };
    list->names_len += name_len;
    return 0;
}

int atd_member_list_add(struct atd_member_list *list, struct atd_str name, uint64_t data_offset,
                        uint64_t size_bytes, struct atd_error *err)
{
    int rc = add(list, name.len, data_offset, size_bytes, err);

    if (rc == 0 && name.len)
        memcpy(list->names + list->names_len - name.len, name.ptr, name.len);
    return rc;
}

/* ------------------------------------------------------------------ encoding */

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool atd_member_index_of_content(struct atd_str sha256_hex, uint64_t shard_bytes,
                                 struct atd_member_index_of *ret_of)
{
    struct atd_member_index_of of = {.kind = ATD_MEMBERS_OF_CONTENT, .shard_bytes = shard_bytes};

    if (sha256_hex.len != 2 * (size_t)ATD_SHA256_BYTES)
        return false;
    for (size_t i = 0; i < ATD_SHA256_BYTES; i++) {
        int high = digit_of(sha256_hex.ptr[2 * i]);
        int low = digit_of(sha256_hex.ptr[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        of.subject[i] = (uint8_t)(high << 4 | low);
    }
    *ret_of = of;
    return true;
}

static void append_u32(struct atd_buf *out, uint32_t value)
{
    atd_buf_append_u16le(out, (uint16_t)value);
    atd_buf_append_u16le(out, (uint16_t)(value >> 16));
}

static void append_varint(struct atd_buf *out, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        atd_buf_append_byte(out, (uint8_t)(value | 0x80));
    atd_buf_append_byte(out, (uint8_t)value);
}

static size_t shared_len(struct atd_str a, struct atd_str b)
{
    size_t len = 0;

    while (len < a.len && len < b.len && a.ptr[len] == b.ptr[len])
        len++;
    return len;
}

void atd_member_index_encode(const struct atd_member_list *list,
                             const struct atd_member_index_of *of, struct atd_buf *out)
{
    struct atd_str before = {"", 0};
    size_t start = out->len;
    uint64_t end = 0;

    atd_buf_append(out, MAGIC, sizeof(MAGIC) - 1);
    append_u32(out, VERSION);
    append_u32(out, (uint32_t)of->kind);
    atd_buf_append_u64le(out, of->shard_bytes);
    atd_buf_append(out, of->subject, sizeof(of->subject));
    append_u32(out, (uint32_t)list->count);
    append_u32(out, (uint32_t)list->names_len);
    for (size_t i = 0; i < list->count && !out->failed; i++) {
        const struct atd_listed_member *member = &list->members[i];
        struct atd_str name = atd_member_list_name(list, i);
        size_t shared = shared_len(before, name);

        append_varint(out, (member->data_offset - end) / ATD_TAR_BLOCK_BYTES);
        append_varint(out, member->size_bytes);
        append_varint(out, shared);
        append_varint(out, name.len - shared);
        atd_buf_append_str(out, atd_str_from_byte(name, shared));
        end = member->data_offset + padded(member->size_bytes);
        before = name;
    }
    if (!out->failed)
        append_u32(out, atd_crc32c(0, out->ptr + start, out->len - start));
}

/* ------------------------------------------------------------------ decoding */

static uint32_t get_u32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint64_t get_u64(const uint8_t *at)
{
    return get_u32(at) | (uint64_t)get_u32(at + 4) << 32;
}

static int damaged(struct atd_error *err, const char *what)
{
    return atd_error_set(err, EBADMSG, "a member index is damaged: %s", what);
}

/* Takes one off the front. False: it ends too early, is too large, or could be shorter. */
static bool take_varint(struct atd_bytes *rest, uint64_t *ret_value)
{
    uint64_t value = 0;

    for (size_t i = 0; i < VARINT_BYTES_MAX && i < rest->len; i++) {
        uint64_t bits = rest->ptr[i] & 0x7f;

        if (i == VARINT_BYTES_MAX - 1 && rest->ptr[i] > 1)
            return false;
        value |= bits << (7 * i);
        if (rest->ptr[i] & 0x80)
            continue;
        if (i > 0 && bits == 0)
            return false;
        *rest = (struct atd_bytes){rest->ptr + i + 1, rest->len - i - 1};
        *ret_value = value;
        return true;
    }
    return false;
}

static int check_header(struct atd_bytes bytes, const struct atd_member_index_of *of,
                        struct atd_error *err)
{
    if (bytes.len < HEADER_BYTES + SUM_BYTES || memcmp(bytes.ptr, MAGIC, sizeof(MAGIC) - 1) != 0)
        return damaged(err, "it does not begin as one");
    if (get_u32(bytes.ptr + bytes.len - SUM_BYTES) !=
        atd_crc32c(0, bytes.ptr, bytes.len - SUM_BYTES))
        return damaged(err, "its checksum is another");
    if (get_u32(bytes.ptr + AT_VERSION) != VERSION)
        return atd_error_set(err, ENOTSUP, "a member index of version %" PRIu32 " is not known",
                             get_u32(bytes.ptr + AT_VERSION));
    if (get_u32(bytes.ptr + AT_KIND) != (uint32_t)of->kind ||
        get_u64(bytes.ptr + AT_SHARD_BYTES) != of->shard_bytes ||
        memcmp(bytes.ptr + AT_SUBJECT, of->subject, sizeof(of->subject)) != 0)
        return atd_error_set(err, ESTALE, "a member index is of other bytes than this shard's");
    return 0;
}

static int take_member(struct atd_bytes *rest, uint64_t shard_bytes, size_t names_max,
                       struct atd_member_list *list, struct atd_error *err)
{
    struct atd_str before =
        list->count ? atd_member_list_name(list, list->count - 1) : (struct atd_str){"", 0};
    size_t before_at = list->count ? list->members[list->count - 1].name_at : 0;
    uint64_t end = list_end(list);
    uint64_t blocks;
    uint64_t size;
    uint64_t shared;
    uint64_t own;
    uint64_t offset;
    char *name;
    int rc;

    if (!take_varint(rest, &blocks) || !take_varint(rest, &size) || !take_varint(rest, &shared) ||
        !take_varint(rest, &own))
        return damaged(err, "a member is not whole");
    if (shared > before.len || own > rest->len)
        return damaged(err, "a name is longer than what is there");
    if (shared + own > names_max - list->names_len)
        return damaged(err, "more bytes of names than it says");
    if (end > shard_bytes || blocks > (shard_bytes - end) / ATD_TAR_BLOCK_BYTES)
        return damaged(err, "a member lies outside of the shard");
    offset = end + blocks * ATD_TAR_BLOCK_BYTES;
    if (size > shard_bytes - offset)
        return damaged(err, "a member goes on behind the end of the shard");
    rc = add(list, (size_t)(shared + own), offset, size, err);
    if (rc)
        return rc == -ENOMEM ? rc : damaged(err, "a member lies where none can");
    name = list->names + list->names_len - (shared + own);
    /* The names may have moved; the two places do not overlap. */
    if (shared)
        memcpy(name, list->names + before_at, (size_t)shared);
    if (own)
        memcpy(name + shared, rest->ptr, (size_t)own);
    *rest = (struct atd_bytes){rest->ptr + own, rest->len - (size_t)own};
    return 0;
}

int atd_member_index_decode(struct atd_bytes bytes, const struct atd_member_index_of *of,
                            struct atd_member_list *ret_list, struct atd_error *err)
{
    struct atd_member_list list = {0};
    struct atd_bytes rest;
    uint32_t count;
    uint32_t names_len;
    int rc = check_header(bytes, of, err);

    if (rc)
        return rc;
    count = get_u32(bytes.ptr + AT_COUNT);
    names_len = get_u32(bytes.ptr + AT_NAMES_LEN);
    rest = (struct atd_bytes){bytes.ptr + HEADER_BYTES, bytes.len - HEADER_BYTES - SUM_BYTES};
    if (count > ATD_MEMBER_INDEX_MEMBERS_MAX || count > rest.len / MEMBER_BYTES_MIN ||
        names_len > ATD_MEMBER_INDEX_NAMES_BYTES_MAX || of->shard_bytes > INT64_MAX)
        return damaged(err, "it says that it is larger than it can be");
    /* No more than the bytes that are there account for: the names grow as they come. */
    list.members = count ? reallocarray(NULL, count, sizeof(*list.members)) : NULL;
    list.cap = list.members ? count : 0;
    for (uint32_t i = 0; rc == 0 && i < count; i++)
        rc = take_member(&rest, of->shard_bytes, names_len, &list, err);
    if (rc == 0 && (rest.len > 0 || list.names_len != names_len))
        rc = damaged(err, "it says another size than it has");
    if (rc) {
        atd_member_list_release(&list);
        return rc;
    }
    *ret_list = list;
    return 0;
}

#include "store/object_records.h"

#include "base/check.h"
#include "base/crc32c.h"

#define RECORD_MAGIC \
    "\xa7"           \
    "RcD" /* not ASCII: seldom in a URL */

enum {
    AT_CRC = 4,
    AT_LENGTH = 8,
    AT_KIND = 12,
    AT_ETAG_LEN = 13,
    AT_SCOPE_LEN = 14,
    AT_URL_LEN = 16,
    AT_SIZE = 20,
    AT_MTIME = 28
};
enum { KIND_PUT = 1, KIND_DROP = 2 };

static void put_le(uint8_t *at, uint64_t value, size_t width)
{
    for (size_t i = 0; i < width; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get_le(const uint8_t *at, size_t width)
{
    uint64_t value = 0;

    for (size_t i = 0; i < width; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

bool atd_record_fits(struct atd_str scope, struct atd_str url)
{
    return scope.len <= ATD_RECORD_SCOPE_MAX && url.len <= ATD_RECORD_URL_MAX;
}

void atd_record_append(struct atd_buf *buf, const struct atd_record *record)
{
    uint8_t bytes[ATD_RECORD_BYTES_MAX];
    size_t etag_len = record->is_drop ? 0 : strnlen(record->info.etag, ATD_ETAG_MAX);
    size_t len = ATD_RECORD_HEAD_BYTES;

    atd_assert(atd_record_fits(record->scope, record->url));
    memcpy(bytes, RECORD_MAGIC, 4);
    bytes[AT_KIND] = record->is_drop ? KIND_DROP : KIND_PUT;
    bytes[AT_ETAG_LEN] = (uint8_t)etag_len;
    put_le(bytes + AT_SCOPE_LEN, record->scope.len, 2);
    put_le(bytes + AT_URL_LEN, record->url.len, 4);
    put_le(bytes + AT_SIZE, record->is_drop ? 0 : record->info.size_bytes, 8);
    put_le(bytes + AT_MTIME, record->is_drop ? 0 : (uint64_t)record->info.mtime_s, 8);
    if (record->scope.len)
        memcpy(bytes + len, record->scope.ptr, record->scope.len);
    len += record->scope.len;
    if (record->url.len)
        memcpy(bytes + len, record->url.ptr, record->url.len);
    len += record->url.len;
    memcpy(bytes + len, record->info.etag, etag_len);
    len += etag_len;
    put_le(bytes + AT_LENGTH, len, 4);
    put_le(bytes + AT_CRC, atd_crc32c(0, bytes + AT_LENGTH, len - AT_LENGTH), 4);
    atd_buf_append(buf, bytes, len);
}

/* The next place where a record may begin, at least one byte on. */
static enum atd_record_found pass_over(struct atd_bytes bytes, size_t *ret_used)
{
    const uint8_t *next = memchr(bytes.ptr + 1, (unsigned char)RECORD_MAGIC[0], bytes.len - 1);

    *ret_used = next ? (size_t)(next - bytes.ptr) : bytes.len;
    return ATD_RECORD_BAD;
}

/* An ETag becomes part of a request's header again. */
static bool is_plain(const uint8_t *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] < 0x20 || text[i] == 0x7f)
            return false;
    }
    return true;
}

enum atd_record_found atd_record_read(struct atd_bytes bytes, struct atd_record *ret_record,
                                      size_t *ret_used)
{
    const uint8_t *at = bytes.ptr;
    size_t etag_len;
    size_t scope_len;
    uint64_t url_len;
    uint64_t len;

    if (bytes.len == 0)
        return ATD_RECORD_SHORT;
    if (memcmp(at, RECORD_MAGIC, bytes.len < 4 ? bytes.len : 4) != 0)
        return pass_over(bytes, ret_used);
    if (bytes.len < ATD_RECORD_HEAD_BYTES)
        return ATD_RECORD_SHORT;
    etag_len = at[AT_ETAG_LEN];
    scope_len = (size_t)get_le(at + AT_SCOPE_LEN, 2);
    url_len = get_le(at + AT_URL_LEN, 4);
    len = get_le(at + AT_LENGTH, 4);
    if ((at[AT_KIND] != KIND_PUT && at[AT_KIND] != KIND_DROP) || scope_len > ATD_RECORD_SCOPE_MAX ||
        url_len > ATD_RECORD_URL_MAX ||
        len != ATD_RECORD_HEAD_BYTES + scope_len + url_len + etag_len)
        return pass_over(bytes, ret_used);
    if (bytes.len < len)
        return ATD_RECORD_SHORT;
    if (atd_crc32c(0, at + AT_LENGTH, len - AT_LENGTH) != get_le(at + AT_CRC, 4))
        return pass_over(bytes, ret_used);
    if (!is_plain(at + len - etag_len, etag_len))
        return pass_over(bytes, ret_used);
    memset(ret_record, 0, sizeof(*ret_record));
    ret_record->is_drop = at[AT_KIND] == KIND_DROP;
    at += ATD_RECORD_HEAD_BYTES;
    ret_record->scope = (struct atd_str){(const char *)at, scope_len};
    ret_record->url = (struct atd_str){(const char *)at + scope_len, url_len};
    memcpy(ret_record->info.etag, at + scope_len + url_len, etag_len);
    ret_record->info.size_bytes = get_le(bytes.ptr + AT_SIZE, 8);
    ret_record->info.mtime_s = (int64_t)get_le(bytes.ptr + AT_MTIME, 8);
    *ret_used = len;
    return ATD_RECORD_OK;
}

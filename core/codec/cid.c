#include "atdata/cid.h"

#include <errno.h>

#include "base/cleanup.h"
#include "base/digest.h"
#include "base/utf8.h"

/* DAG-CBOR major types. Source: RFC 8949 3.1. */
enum { CBOR_TEXT = 3, CBOR_ARRAY = 4, CBOR_MAP = 5 };

/* CID version 1, codec dag-cbor, sha2-256, 32 bytes. Source: ATDATA-FORMATS 3, multicodec table. */
static const uint8_t cid_prefix[] = {0x01, 0x71, 0x12, 0x20};
#define CID_BYTES (sizeof(cid_prefix) + ATD_SHA256_BYTES)

static const char base32_digits[] = "abcdefghijklmnopqrstuvwxyz234567";

/* A head in its shortest form, as DAG-CBOR demands. */
static void add_head(struct atd_sha256 *sha, unsigned major, uint64_t number)
{
    uint8_t head[9];
    unsigned width_code; /* 0 to 3: the number follows in 1 << width_code bytes */
    size_t width;

    if (number < 24) {
        head[0] = (uint8_t)(major << 5 | number);
        atd_sha256_add(sha, head, 1);
        return;
    }
    width_code = number <= UINT8_MAX ? 0 : number <= UINT16_MAX ? 1 : number <= UINT32_MAX ? 2 : 3;
    width = (size_t)1 << width_code;
    head[0] = (uint8_t)(major << 5 | (24 + width_code));
    for (size_t i = 0; i < width; i++)
        head[1 + i] = (uint8_t)(number >> (8 * (width - 1 - i)));
    atd_sha256_add(sha, head, 1 + width);
}

static void add_text(struct atd_sha256 *sha, struct atd_str text)
{
    add_head(sha, CBOR_TEXT, text.len);
    if (text.len)
        atd_sha256_add(sha, text.ptr, text.len);
}

/* "b" for base32, then RFC 4648's alphabet in lower case without padding. Source: multibase. */
static void write_text(const uint8_t bytes[CID_BYTES], char ret_text[ATD_CID_TEXT_LEN + 1])
{
    uint32_t bits = 0;
    unsigned bit_count = 0;
    size_t len = 0;

    ret_text[len++] = 'b';
    for (size_t i = 0; i < CID_BYTES; i++) {
        bits = bits << 8 | bytes[i];
        bit_count += 8;
        while (bit_count >= 5) {
            bit_count -= 5;
            ret_text[len++] = base32_digits[bits >> bit_count & 31u];
        }
    }
    ret_text[len++] = base32_digits[bits << (5 - bit_count) & 31u];
    ret_text[len] = '\0';
}

int atd_cid_compute(struct atd_str schema_ref, const struct atd_str *urls, size_t url_count,
                    struct atd_cid *ret_cid, struct atd_error *err)
{
    atd_auto_sha256 struct atd_sha256 *sha = NULL;
    uint8_t bytes[CID_BYTES];
    size_t bad;

    if (!atd_utf8_is_valid(schema_ref, &bad))
        return atd_error_set(err, EINVAL, "schema reference is not valid utf-8 at byte %zu", bad);
    sha = atd_sha256_new();
    if (!sha)
        return atd_error_set(err, ENOMEM, "cid: out of memory");
    add_head(sha, CBOR_MAP, 2);
    add_text(sha, ATD_STR("data_urls")); /* keys by length, then bytewise */
    add_head(sha, CBOR_ARRAY, url_count);
    for (size_t i = 0; i < url_count; i++) {
        if (!atd_utf8_is_valid(urls[i], &bad))
            return atd_error_set(err, EINVAL, "url %zu is not valid utf-8 at byte %zu", i, bad);
        add_text(sha, urls[i]);
    }
    add_text(sha, ATD_STR("schema_ref"));
    add_text(sha, schema_ref);
    memcpy(bytes, cid_prefix, sizeof(cid_prefix));
    atd_sha256_finish(sha, bytes + sizeof(cid_prefix));
    write_text(bytes, ret_cid->text);
    return 0;
}

bool atd_cid_is_valid(struct atd_str text)
{
    if (text.len != ATD_CID_TEXT_LEN || !atd_str_starts_with(text, ATD_STR("bafyrei")))
        return false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];

        if (!((c >= 'a' && c <= 'z') || (c >= '2' && c <= '7')))
            return false;
    }
    return true;
}

#include "base/utf8.h"

size_t atd_utf8_decode(const uint8_t *ptr, size_t len, uint32_t *ret_code_point)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t code;
    size_t need;

    if (ptr[0] < 0x80) {
        *ret_code_point = ptr[0];
        return 1;
    }
    if ((ptr[0] & 0xe0) == 0xc0) {
        need = 2;
        code = ptr[0] & 0x1fu;
    } else if ((ptr[0] & 0xf0) == 0xe0) {
        need = 3;
        code = ptr[0] & 0x0fu;
    } else if ((ptr[0] & 0xf8) == 0xf0) {
        need = 4;
        code = ptr[0] & 0x07u;
    } else {
        return 0;
    }
    if (len < need)
        return 0;
    for (size_t i = 1; i < need; i++) {
        if ((ptr[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (ptr[i] & 0x3fu);
    }
    if (code < least[need] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
        return 0;
    *ret_code_point = code;
    return need;
}

size_t atd_utf8_step(const uint8_t *ptr, size_t len)
{
    uint32_t code;

    return atd_utf8_decode(ptr, len, &code);
}

/* How many of the bytes at the front are ASCII, in steps of a word: most text is nothing else. */
static size_t ascii_words(const uint8_t *ptr, size_t len)
{
    size_t at = 0;
    uint64_t word;

    for (; len - at >= sizeof(word); at += sizeof(word)) {
        memcpy(&word, ptr + at, sizeof(word));
        if (word & UINT64_C(0x8080808080808080))
            break;
    }
    return at;
}

bool atd_utf8_is_valid(struct atd_str s, size_t *ret_position)
{
    const uint8_t *bytes = (const uint8_t *)s.ptr;
    size_t at = 0;

    while (at < s.len) {
        size_t step = bytes[at] < 0x80 ? ascii_words(bytes + at, s.len - at) : 0;

        if (step == 0)
            step = atd_utf8_step(bytes + at, s.len - at);
        if (step == 0) {
            if (ret_position)
                *ret_position = at;
            return false;
        }
        at += step;
    }
    return true;
}

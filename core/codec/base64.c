#include "codec/base64.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void atd_base64_encode(struct atd_bytes bytes, struct atd_buf *out)
{
    for (size_t at = 0; at < bytes.len; at += 3) {
        size_t count = bytes.len - at < 3 ? bytes.len - at : 3;
        uint32_t bits = 0;
        char group[4] = {'=', '=', '=', '='};

        for (size_t i = 0; i < 3; i++)
            bits = bits << 8 | (i < count ? bytes.ptr[at + i] : 0u);
        for (size_t i = 0; i <= count; i++)
            group[i] = digits[bits >> (18 - 6 * i) & 63u];
        atd_buf_append(out, group, sizeof(group));
    }
}

static int digit_value(char c)
{
    const char *hit = c ? strchr(digits, c) : NULL;

    return hit ? (int)(hit - digits) : -1;
}

bool atd_base64_decode(struct atd_str text, struct atd_buf *out)
{
    if (text.len % 4)
        return false;
    for (size_t at = 0; at < text.len; at += 4) {
        bool is_last = at + 4 == text.len;
        size_t padding = !is_last || text.ptr[at + 3] != '=' ? 0 : text.ptr[at + 2] != '=' ? 1 : 2;
        uint32_t bits = 0;
        uint8_t group[3];

        for (size_t i = 0; i < 4; i++) {
            int value = i < 4 - padding ? digit_value(text.ptr[at + i]) : 0;

            if (value < 0)
                return false;
            bits = bits << 6 | (uint32_t)value;
        }
        if (bits & ((1u << (8 * padding)) - 1))
            return false;
        for (size_t i = 0; i < 3; i++)
            group[i] = (uint8_t)(bits >> (16 - 8 * i));
        atd_buf_append(out, group, 3 - padding);
    }
    return true;
}

#include "atdata/buf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"

#define BUF_FIRST_BYTES 128

void atd_buf_init(struct atd_buf *buf, size_t max_bytes)
{
    *buf = (struct atd_buf)ATD_BUF_INIT(max_bytes);
}

void atd_buf_release(struct atd_buf *buf)
{
    free(buf->ptr);
    buf->ptr = NULL;
    buf->len = buf->cap = 0;
}

void atd_buf_clear(struct atd_buf *buf)
{
    buf->len = 0;
    buf->failed = 0;
    if (buf->ptr)
        buf->ptr[0] = '\0';
}

/* Makes room for `more` bytes and the terminator; false (and sticky) when it cannot. */
static bool reserve(struct atd_buf *buf, size_t more)
{
    size_t cap = buf->cap ? buf->cap : BUF_FIRST_BYTES;
    uint8_t *grown;

    if (buf->failed)
        return false;
    if (more > buf->max_bytes || buf->len > buf->max_bytes - more) {
        buf->failed = EFBIG;
        return false;
    }
    if (buf->ptr && buf->cap - buf->len > more)
        return true;
    while (cap - buf->len <= more) {
        if (cap > SIZE_MAX / 2) {
            buf->failed = ENOMEM;
            return false;
        }
        cap *= 2;
    }
    grown = realloc(buf->ptr, cap);
    if (!grown) {
        buf->failed = ENOMEM;
        return false;
    }
    buf->ptr = grown;
    buf->cap = cap;
    return true;
}

void atd_buf_append(struct atd_buf *buf, const void *data, size_t len)
{
    if (!reserve(buf, len))
        return;
    if (len)
        memcpy(buf->ptr + buf->len, data, len);
    buf->len += len;
    buf->ptr[buf->len] = '\0';
}

void atd_buf_append_zeros(struct atd_buf *buf, size_t count)
{
    if (!reserve(buf, count))
        return;
    memset(buf->ptr + buf->len, 0, count + 1);
    buf->len += count;
}

void atd_buf_append_str(struct atd_buf *buf, struct atd_str s)
{
    atd_buf_append(buf, s.ptr, s.len);
}

void atd_buf_append_text(struct atd_buf *buf, const char *text)
{
    atd_buf_append(buf, text, strlen(text));
}

void atd_buf_append_byte(struct atd_buf *buf, uint8_t byte)
{
    atd_buf_append(buf, &byte, 1);
}

void atd_buf_printf(struct atd_buf *buf, const char *fmt, ...)
{
    va_list args;
    int len;

    va_start(args, fmt);
    len = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    atd_assert(len >= 0);
    if (!reserve(buf, (size_t)len))
        return;
    va_start(args, fmt);
    (void)vsnprintf((char *)buf->ptr + buf->len, (size_t)len + 1, fmt, args);
    va_end(args);
    buf->len += (size_t)len;
}

static void append_le(struct atd_buf *buf, uint64_t value, size_t width)
{
    uint8_t bytes[8];

    for (size_t i = 0; i < width; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
    atd_buf_append(buf, bytes, width);
}

void atd_buf_append_u16le(struct atd_buf *buf, uint16_t value)
{
    append_le(buf, value, 2);
}

void atd_buf_append_u64le(struct atd_buf *buf, uint64_t value)
{
    append_le(buf, value, 8);
}

int atd_buf_finish(const struct atd_buf *buf, const char *what, struct atd_error *err)
{
    if (buf->failed == EFBIG)
        return atd_error_set(err, EFBIG, "%s is larger than the limit of %zu bytes", what,
                             buf->max_bytes);
    if (buf->failed)
        return atd_error_set(err, buf->failed, "%s: out of memory", what);
    return 0;
}

uint8_t *atd_buf_take(struct atd_buf *buf, size_t *ret_len)
{
    uint8_t *ptr = buf->ptr;

    *ret_len = buf->len;
    buf->ptr = NULL;
    buf->len = buf->cap = 0;
    return ptr;
}

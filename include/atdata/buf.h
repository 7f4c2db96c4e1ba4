/*
 * A growing byte buffer with a named maximum and a sticky failure: writers append without
 * checking and ask once at the end with atd_buf_finish().
 *
 * Threads: one at a time. Owns: its memory, until atd_buf_release() or atd_buf_take().
 */
#ifndef ATDATA_BUF_H
#define ATDATA_BUF_H

#include "atdata/error.h"
#include "atdata/str.h"

ATD_BEGIN_DECLS

struct atd_buf {
    uint8_t *ptr; /* NULL or `len` bytes followed by one NUL that is not counted */
    size_t len;
    size_t cap;
    size_t max_bytes; /* never grows past this */
    int failed;       /* 0, ENOMEM or EFBIG: the first failure; later appends do nothing */
};

#define ATD_BUF_INIT(max)    \
    {                        \
        NULL, 0, 0, (max), 0 \
    }

void atd_buf_init(struct atd_buf *buf, size_t max_bytes);
void atd_buf_release(struct atd_buf *buf);

/* Empties the buffer and clears a failure; keeps the memory. */
void atd_buf_clear(struct atd_buf *buf);

void atd_buf_append(struct atd_buf *buf, const void *data, size_t len);
void atd_buf_append_str(struct atd_buf *buf, struct atd_str s);
void atd_buf_append_text(struct atd_buf *buf, const char *text);
void atd_buf_append_byte(struct atd_buf *buf, uint8_t byte);
void atd_buf_append_zeros(struct atd_buf *buf, size_t count);
void atd_buf_printf(struct atd_buf *buf, const char *fmt, ...) ATD_PRINTF(2, 3);

/* Little-endian integers, as .npy, the compact array header and ZIP want them. */
void atd_buf_append_u16le(struct atd_buf *buf, uint16_t value);
void atd_buf_append_u64le(struct atd_buf *buf, uint64_t value);

/*
 * 0 when every append worked. Errors: ENOMEM; EFBIG when the text would pass max_bytes; the
 * sentence begins with `what`.
 */
int atd_buf_finish(const struct atd_buf *buf, const char *what, struct atd_error *err) ATD_MUST_USE;

/* Hands the memory to the caller (free() it) and leaves the buffer empty. */
uint8_t *atd_buf_take(struct atd_buf *buf, size_t *ret_len) ATD_MUST_USE;

static inline struct atd_bytes atd_buf_bytes(const struct atd_buf *buf)
{
    return (struct atd_bytes){buf->ptr, buf->len};
}

static inline struct atd_str atd_buf_str(const struct atd_buf *buf)
{
    return (struct atd_str){(const char *)buf->ptr, buf->len};
}

ATD_END_DECLS

#endif

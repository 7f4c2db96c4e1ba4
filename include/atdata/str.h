/*
 * Borrowed views of text and bytes. A view owns nothing: it is valid as long as the memory it was
 * taken from, which the function that returns it names.
 */
#ifndef ATDATA_STR_H
#define ATDATA_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "atdata/decls.h"

/* Text of `len` bytes, not terminated; may hold NUL. UTF-8 unless a function says otherwise. */
struct atd_str {
    const char *ptr;
    size_t len;
};

/* `len` bytes of anything. */
struct atd_bytes {
    const uint8_t *ptr;
    size_t len;
};

/* A view of a string literal. */
#define ATD_STR(literal) ((struct atd_str){"" literal, sizeof(literal) - 1})

/* The same as an initializer of what is static. */
#define ATD_STR_INIT(literal)           \
    {                                   \
        "" literal, sizeof(literal) - 1 \
    }

/* For printf's "%.*s"; the length is cut at 256 bytes, enough for any message. */
#define ATD_STR_FMT "%.*s"
#define ATD_STR_ARG(s) (int)((s).len < 256 ? (s).len : 256), (s).ptr ? (s).ptr : ""

static inline struct atd_str atd_str_from(const char *text)
{
    return (struct atd_str){text, strlen(text)};
}

static inline struct atd_bytes atd_str_bytes(struct atd_str s)
{
    return (struct atd_bytes){(const uint8_t *)s.ptr, s.len};
}

static inline struct atd_str atd_bytes_str(struct atd_bytes b)
{
    return (struct atd_str){(const char *)b.ptr, b.len};
}

static inline bool atd_str_equal(struct atd_str a, struct atd_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* Orders by bytes, a prefix first: the order of strcmp without the terminator. */
static inline int atd_str_compare(struct atd_str a, struct atd_str b)
{
    size_t common = a.len < b.len ? a.len : b.len;
    int order = common ? memcmp(a.ptr, b.ptr, common) : 0;
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

static inline bool atd_str_starts_with(struct atd_str s, struct atd_str prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}

static inline bool atd_str_ends_with(struct atd_str s, struct atd_str suffix)
{
    return s.len >= suffix.len &&
           (suffix.len == 0 || memcmp(s.ptr + s.len - suffix.len, suffix.ptr, suffix.len) == 0);
}

/* The view from byte `start` on; `start` at most s.len. */
static inline struct atd_str atd_str_from_byte(struct atd_str s, size_t start)
{
    return (struct atd_str){s.len ? s.ptr + start : s.ptr, s.len - start};
}

/* The first `len` bytes; `len` at most s.len. */
static inline struct atd_str atd_str_head(struct atd_str s, size_t len)
{
    return (struct atd_str){s.ptr, len};
}

/* Position of the last/first `byte`, or -1. */
static inline ptrdiff_t atd_str_find_last(struct atd_str s, char byte)
{
    size_t at = s.len;

    /* Not memrchr: it takes _GNU_SOURCE, which users of this header need not define. */
    while (at > 0 && s.ptr[at - 1] != byte)
        at--;
    return (ptrdiff_t)at - 1;
}

static inline ptrdiff_t atd_str_find(struct atd_str s, char byte)
{
    const char *hit = s.len ? (const char *)memchr(s.ptr, byte, s.len) : NULL;
    return hit ? hit - s.ptr : -1;
}

#endif

/*
 * msgpack, written: the bytes msgpack-python writes, that is, the shortest form of everything and
 * every float as float64. Source: ATDATA-FORMATS 1.2. msgpack-c does the work; here it gets our
 * buffer as its sink, whose failure stays with the buffer.
 */
#ifndef ATD_CODEC_MSGPACK_WRITE_H
#define ATD_CODEC_MSGPACK_WRITE_H

#include <msgpack/pack.h>

#include "atdata/buf.h"
#include "atdata/str.h"

static inline int atd_mp_sink(void *buf, const char *data, size_t len)
{
    atd_buf_append(buf, data, len);
    return 0;
}

#define ATD_MP_PACKER(name, out) \
    msgpack_packer name;         \
    msgpack_packer_init(&name, (out), atd_mp_sink)

static inline void atd_mp_write_nil(struct atd_buf *out)
{
    ATD_MP_PACKER(packer, out);
    (void)msgpack_pack_nil(&packer);
}

static inline void atd_mp_write_bool(struct atd_buf *out, bool value)
{
    ATD_MP_PACKER(packer, out);
    (void)(value ? msgpack_pack_true(&packer) : msgpack_pack_false(&packer));
}

static inline void atd_mp_write_int(struct atd_buf *out, int64_t value)
{
    ATD_MP_PACKER(packer, out);
    (void)msgpack_pack_int64(&packer, value);
}

static inline void atd_mp_write_uint(struct atd_buf *out, uint64_t value)
{
    ATD_MP_PACKER(packer, out);
    (void)msgpack_pack_uint64(&packer, value);
}

static inline void atd_mp_write_float(struct atd_buf *out, double value)
{
    ATD_MP_PACKER(packer, out);
    (void)msgpack_pack_double(&packer, value);
}

/* `count` at most UINT32_MAX, as every length here. */
static inline void atd_mp_write_array(struct atd_buf *out, size_t count)
{
    ATD_MP_PACKER(packer, out);
    (void)msgpack_pack_array(&packer, count);
}

static inline void atd_mp_write_map(struct atd_buf *out, size_t count)
{
    ATD_MP_PACKER(packer, out);
    (void)msgpack_pack_map(&packer, count);
}

static inline void atd_mp_write_str(struct atd_buf *out, struct atd_str text)
{
    ATD_MP_PACKER(packer, out);
    (void)msgpack_pack_str(&packer, text.len);
    atd_buf_append_str(out, text);
}

static inline void atd_mp_write_bin(struct atd_buf *out, struct atd_bytes bytes)
{
    ATD_MP_PACKER(packer, out);
    (void)msgpack_pack_bin(&packer, bytes.len);
    atd_buf_append(out, bytes.ptr, bytes.len);
}

static inline void atd_mp_write_ext(struct atd_buf *out, int8_t type, struct atd_bytes bytes)
{
    ATD_MP_PACKER(packer, out);
    (void)msgpack_pack_ext(&packer, bytes.len, type);
    atd_buf_append(out, bytes.ptr, bytes.len);
}

#endif

#include "atdata/array.h"

#include <errno.h>
#include <inttypes.h>

#include "base/check.h"
#include "codec/array_npy.h"

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int bad_dtype(struct atd_str dtype, struct atd_error *err)
{
    return atd_error_set(err, EINVAL, "array dtype '" ATD_STR_FMT "' is not supported",
                         ATD_STR_ARG(dtype));
}

/* True for "[ns]", "[25s]", "[D]": the unit of a datetime64 or timedelta64. Source: NumPy
 * "Datetimes and Timedeltas", units. */
static bool is_time_unit(struct atd_str unit)
{
    static const char *const names[] = {"Y",  "M",  "W",  "D",  "h",  "m", "s",
                                        "ms", "us", "ns", "ps", "fs", "as"};
    size_t digits = 0;

    if (unit.len < 3 || unit.ptr[0] != '[' || unit.ptr[unit.len - 1] != ']')
        return false;
    unit = (struct atd_str){unit.ptr + 1, unit.len - 2};
    while (digits < unit.len && is_digit(unit.ptr[digits]))
        digits++;
    if (digits > 9)
        return false;
    unit = atd_str_from_byte(unit, digits);
    for (size_t i = 0; i < ATD_ARRAY_LEN(names); i++)
        if (atd_str_equal(unit, atd_str_from(names[i])))
            return true;
    return false;
}

/* Is `size` one that NumPy has for the kind on every common platform? */
static bool is_known_size(char kind, uint64_t size)
{
    switch (kind) {
    case 'b':
        return size == 1;
    case 'i':
    case 'u':
        return size == 1 || size == 2 || size == 4 || size == 8;
    case 'f':
        return size == 2 || size == 4 || size == 8 || size == 16;
    case 'c':
        return size == 8 || size == 16 || size == 32;
    case 'm':
    case 'M':
        return size == 8;
    default:
        return kind == 'S' || kind == 'U' || kind == 'V';
    }
}

int atd_dtype_item_size(struct atd_str dtype, uint64_t *ret_size, struct atd_error *err)
{
    size_t at = dtype.len && strchr("<>|=", dtype.ptr[0]) && dtype.ptr[0] ? 1 : 0;
    uint64_t size = 0;
    size_t digits;
    char kind;

    if (dtype.len > ATD_DTYPE_LEN_MAX || dtype.len < at + 2)
        return bad_dtype(dtype, err);
    kind = dtype.ptr[at];
    digits = ++at;
    for (; at < dtype.len && is_digit(dtype.ptr[at]); at++) {
        size = size * 10 + (uint64_t)(dtype.ptr[at] - '0');
        if (size > ATD_ITEM_BYTES_MAX)
            return bad_dtype(dtype, err);
    }
    if (at == digits || (dtype.ptr[digits] == '0' && at > digits + 1) || !is_known_size(kind, size))
        return bad_dtype(dtype, err);
    if (at < dtype.len &&
        ((kind != 'm' && kind != 'M') || !is_time_unit(atd_str_from_byte(dtype, at))))
        return bad_dtype(dtype, err);
    if (kind == 'U') /* UTF-32 */
        size *= 4;
    if (size > ATD_ITEM_BYTES_MAX)
        return bad_dtype(dtype, err);
    *ret_size = size;
    return 0;
}

int atd_array_check_size(const struct atd_array *array, size_t data_at, struct atd_error *err)
{
    /* As NumPy does, the size without the empty axes must be in range too. */
    uint64_t full = array->item_size ? array->item_size : 1;
    bool empty = array->item_size == 0;

    for (unsigned i = 0; i < array->ndim; i++) {
        if (array->shape[i] == 0)
            empty = true;
        else if (__builtin_mul_overflow(full, array->shape[i], &full) || full > INT64_MAX)
            return atd_error_set(err, EINVAL,
                                 "array is too large: axis %u has length %" PRIu64 " at byte %zu",
                                 i, array->shape[i], data_at);
    }
    if (array->data.len != (empty ? 0 : full))
        return atd_error_set(err, EINVAL,
                             "array data are %zu bytes at byte %zu, but the header announces "
                             "%" PRIu64,
                             array->data.len, data_at, empty ? 0 : full);
    return 0;
}

static uint64_t read_u64le(const uint8_t *ptr)
{
    uint64_t value = 0;

    for (size_t i = 0; i < 8; i++)
        value |= (uint64_t)ptr[i] << (8 * i);
    return value;
}

/* Source: ATDATA-FORMATS 5.3, "Compact". */
static int decode_compact(struct atd_bytes bytes, struct atd_array *array, struct atd_error *err)
{
    size_t dtype_len = bytes.len ? bytes.ptr[0] : 0;
    size_t at = 1 + dtype_len;
    int rc;

    array->form = ATD_ARRAY_COMPACT;
    if (bytes.len <= at)
        return atd_error_set(err, EINVAL, "array of %zu bytes ends inside its header at byte %zu",
                             bytes.len, bytes.len);
    array->dtype = (struct atd_str){(const char *)bytes.ptr + 1, dtype_len};
    rc = atd_dtype_item_size(array->dtype, &array->item_size, err);
    if (rc != 0)
        return atd_error_wrap(err, rc, "array header at byte 1");
    if (array->item_size == 0)
        return atd_error_set(err, EINVAL,
                             "array header at byte 1: the compact form has no items of 0 bytes");
    array->ndim = bytes.ptr[at++];
    if (array->ndim > ATD_ARRAY_NDIM_MAX)
        return atd_error_set(err, EINVAL, "array has %u axes at byte %zu, more than %d",
                             array->ndim, at - 1, ATD_ARRAY_NDIM_MAX);
    if ((bytes.len - at) / 8 < array->ndim)
        return atd_error_set(err, EINVAL, "array of %zu bytes ends inside its shape at byte %zu",
                             bytes.len, at);
    for (unsigned i = 0; i < array->ndim; i++, at += 8) {
        array->shape[i] = read_u64le(bytes.ptr + at);
        if (array->shape[i] > INT64_MAX)
            return atd_error_set(err, EINVAL, "array has an axis of negative length at byte %zu",
                                 at);
    }
    array->data = (struct atd_bytes){bytes.ptr + at, bytes.len - at};
    return atd_array_check_size(array, at, err);
}

int atd_array_decode(struct atd_bytes bytes, struct atd_array *ret_array, struct atd_error *err)
{
    struct atd_array array = {0};
    int rc = atd_npy_has_magic(bytes) ? atd_npy_decode(bytes, &array, err)
                                      : decode_compact(bytes, &array, err);

    if (rc == 0)
        *ret_array = array;
    return rc;
}

bool atd_array_recognize(struct atd_bytes bytes, struct atd_array *ret_array)
{
    /* The compact form has no magic: only lengths and a byte order mark that Python writes. */
    if (!atd_npy_has_magic(bytes) && (bytes.len < 2 || bytes.ptr[0] < 3 || bytes.ptr[0] > 16 ||
                                      !memchr("<>|=", bytes.ptr[1], 4)))
        return false;
    return atd_array_decode(bytes, ret_array, NULL) == 0;
}

bool atd_array_sniff(struct atd_bytes bytes)
{
    struct atd_array array;

    return atd_array_recognize(bytes, &array);
}

int atd_array_encode_compact(const struct atd_array *array, struct atd_buf *out,
                             struct atd_error *err)
{
    uint64_t item_size;
    int rc;

    atd_assert(array->ndim <= ATD_ARRAY_NDIM_MAX);
    if (array->fortran)
        return atd_error_set(err, EINVAL,
                             "array is in Fortran order, which the compact form "
                             "cannot say");
    rc = atd_dtype_item_size(array->dtype, &item_size, err);
    if (rc == 0 && item_size == 0)
        rc = atd_error_set(err, EINVAL,
                           "array has items of 0 bytes, which the compact form "
                           "cannot hold");
    if (rc != 0)
        return rc;
    atd_buf_append_byte(out, (uint8_t)array->dtype.len);
    atd_buf_append_str(out, array->dtype);
    atd_buf_append_byte(out, (uint8_t)array->ndim);
    for (unsigned i = 0; i < array->ndim; i++)
        atd_buf_append_u64le(out, array->shape[i]);
    atd_buf_append(out, array->data.ptr, array->data.len);
    return 0;
}

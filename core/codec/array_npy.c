#include "codec/array_npy.h"

#include <errno.h>
#include <inttypes.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/utf8.h"

#define MAGIC "\x93NUMPY"
#define MAGIC_BYTES 6u
/* NumPy itself reads 10,000 bytes unless told otherwise; wide tables may need more. */
#define HEADER_BYTES_MAX (1u << 20)
/* NumPy pads data to 64 bytes, and the header so that the first axis can grow to 21 digits in
 * place. Source: NPY format; numpy.lib.format since NumPy 1.24. */
#define DATA_ALIGN 64u
#define GROWTH_DIGITS 21u
/* Nested compound dtypes. */
#define DESCR_DEPTH_MAX 8u

/* Reads the Python literal of the header. */
struct reader {
    struct atd_bytes doc;
    size_t at;
    size_t end;
    bool python2; /* versions 1 and 2: numbers may end in 'L' */
    struct atd_error *err;
};

bool atd_npy_has_magic(struct atd_bytes bytes)
{
    return bytes.len >= MAGIC_BYTES && memcmp(bytes.ptr, MAGIC, MAGIC_BYTES) == 0;
}

static int expected(const struct reader *reader, const char *what)
{
    return atd_error_set(reader->err, EINVAL, "npy header: %s expected at byte %zu", what,
                         reader->at);
}

/* The next byte that is no blank; NUL at the end, which no header may hold. */
static char peek(struct reader *reader)
{
    while (reader->at < reader->end && strchr(" \t\n\r\f", reader->doc.ptr[reader->at]) &&
           reader->doc.ptr[reader->at])
        reader->at++;
    return reader->at < reader->end ? (char)reader->doc.ptr[reader->at] : '\0';
}

static bool accept(struct reader *reader, char c)
{
    if (peek(reader) != c || c == '\0')
        return false;
    reader->at++;
    return true;
}

static int expect(struct reader *reader, char c)
{
    const char what[] = {'\'', c, '\'', '\0'};

    return accept(reader, c) ? 0 : expected(reader, what);
}

/* A string in either kind of quotes; *ret_text is what stands between them, escapes included. */
static int read_string(struct reader *reader, struct atd_str *ret_text)
{
    char quote = peek(reader);
    size_t start = reader->at + 1;

    if (quote != '\'' && quote != '"')
        return expected(reader, "a string");
    for (size_t at = start; at < reader->end; at++) {
        char c = (char)reader->doc.ptr[at];

        if (c == quote) {
            *ret_text = (struct atd_str){(const char *)reader->doc.ptr + start, at - start};
            reader->at = at + 1;
            return 0;
        }
        if (c == '\\')
            at++;
        else if (c == '\n')
            break;
    }
    return atd_error_set(reader->err, EINVAL, "npy header: string without an end at byte %zu",
                         start - 1);
}

static int read_length(struct reader *reader, uint64_t *ret_length)
{
    uint64_t value = 0;
    size_t start;

    (void)peek(reader);
    start = reader->at;
    while (reader->at < reader->end && reader->doc.ptr[reader->at] >= '0' &&
           reader->doc.ptr[reader->at] <= '9') {
        unsigned digit = reader->doc.ptr[reader->at] - (unsigned)'0';

        if (value > ((uint64_t)INT64_MAX - digit) / 10)
            return atd_error_set(reader->err, EINVAL, "npy header: number too large at byte %zu",
                                 start);
        value = value * 10 + digit;
        reader->at++;
    }
    if (reader->at == start)
        return expected(reader, "an axis length");
    if (reader->at > start + 1 && reader->doc.ptr[start] == '0')
        return atd_error_set(reader->err, EINVAL,
                             "npy header: number with leading zeros at byte "
                             "%zu",
                             start);
    if (reader->python2 && reader->at < reader->end && reader->doc.ptr[reader->at] == 'L')
        reader->at++;
    *ret_length = value;
    return 0;
}

/* A tuple of lengths: "()", "(4,)", "(2, 3)", "(2, 3,)". */
static int read_shape(struct reader *reader, uint64_t shape[ATD_ARRAY_NDIM_MAX], unsigned *ret_ndim)
{
    unsigned ndim = 0;
    bool comma = false;
    int rc = expect(reader, '(');

    while (rc == 0 && !accept(reader, ')')) {
        if (ndim > 0 && !comma)
            return expected(reader, "',' or ')'");
        if (ndim == ATD_ARRAY_NDIM_MAX)
            return atd_error_set(reader->err, EINVAL, "npy header: more than %d axes at byte %zu",
                                 ATD_ARRAY_NDIM_MAX, reader->at);
        rc = read_length(reader, &shape[ndim]);
        if (rc != 0)
            return rc;
        ndim++;
        comma = accept(reader, ',');
    }
    if (rc == 0 && ndim == 1 && !comma)
        return atd_error_set(reader->err, EINVAL,
                             "npy header: a number and no tuple ends at byte %zu", reader->at - 1);
    *ret_ndim = ndim;
    return rc;
}

static int read_simple_dtype(struct reader *reader, struct atd_str *ret_dtype, uint64_t *ret_size)
{
    size_t start;
    int rc;

    (void)peek(reader);
    start = reader->at;
    rc = read_string(reader, ret_dtype);
    if (rc != 0)
        return rc;
    if (atd_str_ends_with(*ret_dtype, ATD_STR("O")))
        return atd_error_set(reader->err, EINVAL,
                             "npy header: objects at byte %zu are pickled, and never unpickled "
                             "here",
                             start);
    rc = atd_dtype_item_size(*ret_dtype, ret_size, reader->err);
    return rc ? atd_error_wrap(reader->err, rc, "npy header at byte %zu", start) : 0;
}

/* A field's name, or the pair of its title and name. */
static int read_field_name(struct reader *reader)
{
    struct atd_str name;
    int rc;

    if (!accept(reader, '('))
        return read_string(reader, &name);
    rc = read_string(reader, &name);
    if (rc == 0)
        rc = expect(reader, ',');
    if (rc == 0)
        rc = read_string(reader, &name);
    return rc ? rc : expect(reader, ')');
}

static int read_compound_dtype(struct reader *reader, unsigned depth, uint64_t *ret_size);

/* One field: (name, dtype) or (name, dtype, shape). Recursion: at most DESCR_DEPTH_MAX levels. */
static int read_field(struct reader *reader, unsigned depth, uint64_t *ret_size)
{
    uint64_t shape[ATD_ARRAY_NDIM_MAX];
    unsigned ndim = 0;
    struct atd_str dtype;
    uint64_t size = 0;
    int rc = expect(reader, '(');

    if (rc == 0)
        rc = read_field_name(reader);
    if (rc == 0)
        rc = expect(reader, ',');
    if (rc == 0)
        rc = peek(reader) == '[' ? read_compound_dtype(reader, depth + 1, &size)
                                 : read_simple_dtype(reader, &dtype, &size);
    if (rc == 0 && accept(reader, ',') && peek(reader) != ')') {
        rc = read_shape(reader, shape, &ndim);
        if (rc == 0)
            (void)accept(reader, ',');
    }
    if (rc == 0)
        rc = expect(reader, ')');
    for (unsigned i = 0; rc == 0 && i < ndim; i++)
        if (__builtin_mul_overflow(size, shape[i], &size) || size > ATD_ITEM_BYTES_MAX)
            rc = atd_error_set(reader->err, EINVAL, "npy header: field too large at byte %zu",
                               reader->at);
    *ret_size = size;
    return rc;
}

static int read_compound_dtype(struct reader *reader, unsigned depth, uint64_t *ret_size)
{
    uint64_t total = 0;
    bool more = true;
    int rc = expect(reader, '[');

    if (depth > DESCR_DEPTH_MAX)
        return atd_error_set(reader->err, EINVAL,
                             "npy header: dtype nests deeper than %u at byte "
                             "%zu",
                             DESCR_DEPTH_MAX, reader->at);
    while (rc == 0 && !accept(reader, ']')) {
        uint64_t size = 0;

        if (!more)
            return expected(reader, "',' or ']'");
        rc = read_field(reader, depth, &size);
        total += size;
        if (rc == 0 && total > ATD_ITEM_BYTES_MAX)
            rc = atd_error_set(reader->err, EINVAL, "npy header: item too large at byte %zu",
                               reader->at);
        more = accept(reader, ',');
    }
    *ret_size = total;
    return rc;
}

static int read_descr(struct reader *reader, struct atd_array *array)
{
    size_t start;
    int rc;

    if (peek(reader) != '[')
        return read_simple_dtype(reader, &array->dtype, &array->item_size);
    start = reader->at;
    rc = read_compound_dtype(reader, 1, &array->item_size);
    array->dtype = (struct atd_str){(const char *)reader->doc.ptr + start, reader->at - start};
    return rc;
}

static int read_bool(struct reader *reader, bool *ret_value)
{
    struct atd_str rest;

    (void)peek(reader);
    rest = (struct atd_str){(const char *)reader->doc.ptr + reader->at, reader->end - reader->at};
    if (atd_str_starts_with(rest, ATD_STR("True"))) {
        reader->at += 4;
        *ret_value = true;
    } else if (atd_str_starts_with(rest, ATD_STR("False"))) {
        reader->at += 5;
        *ret_value = false;
    } else {
        return expected(reader, "True or False");
    }
    return 0;
}

enum { HAS_DESCR = 1, HAS_ORDER = 2, HAS_SHAPE = 4, HAS_ALL = 7 };

/* Reads one key and its value; *seen has the bits of the keys met before. */
static int read_item(struct reader *reader, struct atd_array *array, unsigned *seen)
{
    struct atd_str key;
    unsigned bit = 0;
    size_t start;
    int rc;

    (void)peek(reader);
    start = reader->at;
    rc = read_string(reader, &key);
    if (rc == 0)
        rc = expect(reader, ':');
    if (rc != 0)
        return rc;
    if (atd_str_equal(key, ATD_STR("descr")))
        bit = HAS_DESCR;
    else if (atd_str_equal(key, ATD_STR("fortran_order")))
        bit = HAS_ORDER;
    else if (atd_str_equal(key, ATD_STR("shape")))
        bit = HAS_SHAPE;
    if (bit == 0 || *seen & bit)
        return atd_error_set(reader->err, EINVAL, "npy header: unexpected key at byte %zu", start);
    *seen |= bit;
    if (bit == HAS_DESCR)
        return read_descr(reader, array);
    if (bit == HAS_ORDER)
        return read_bool(reader, &array->fortran);
    return read_shape(reader, array->shape, &array->ndim);
}

static int read_header(struct reader *reader, struct atd_array *array)
{
    unsigned seen = 0;
    bool more = true;
    int rc = expect(reader, '{');

    while (rc == 0 && !accept(reader, '}')) {
        if (!more)
            return expected(reader, "',' or '}'");
        rc = read_item(reader, array, &seen);
        more = accept(reader, ',');
    }
    if (rc != 0)
        return rc;
    (void)peek(reader);
    if (reader->at != reader->end)
        return expected(reader, "the end of the header");
    if (seen != HAS_ALL)
        return atd_error_set(reader->err, EINVAL, "npy header: no %s at byte %zu",
                             !(seen & HAS_DESCR)   ? "'descr'"
                             : !(seen & HAS_ORDER) ? "'fortran_order'"
                                                   : "'shape'",
                             reader->at);
    return 0;
}

int atd_npy_decode(struct atd_bytes bytes, struct atd_array *array, struct atd_error *err)
{
    struct reader reader = {.doc = bytes, .err = err};
    size_t header_len;
    size_t bad_at = 0;
    unsigned version;
    int rc;

    array->form = ATD_ARRAY_NPY;
    if (bytes.len < MAGIC_BYTES + 2 + 2)
        return atd_error_set(err, EINVAL, "npy of %zu bytes ends inside its header at byte %zu",
                             bytes.len, bytes.len);
    version = bytes.ptr[6];
    if (version < 1 || version > 3 || bytes.ptr[7] != 0)
        return atd_error_set(err, EINVAL, "npy version %u.%u at byte 6 is not supported", version,
                             bytes.ptr[7]);
    header_len = bytes.ptr[8] | (size_t)bytes.ptr[9] << 8;
    reader.at = 10;
    if (version > 1) {
        if (bytes.len < 12)
            return atd_error_set(err, EINVAL, "npy of %zu bytes ends inside its header at byte %zu",
                                 bytes.len, bytes.len);
        header_len |= (size_t)bytes.ptr[10] << 16 | (size_t)bytes.ptr[11] << 24;
        reader.at = 12;
    }
    if (header_len > bytes.len - reader.at || header_len > HEADER_BYTES_MAX)
        return atd_error_set(err, EINVAL, "npy of %zu bytes announces a header of %zu at byte 8",
                             bytes.len, header_len);
    reader.end = reader.at + header_len;
    reader.python2 = version < 3;
    if (version == 3 &&
        !atd_utf8_is_valid((struct atd_str){(const char *)bytes.ptr + reader.at, header_len},
                           &bad_at))
        return atd_error_set(err, EINVAL, "npy header: invalid UTF-8 at byte %zu",
                             reader.at + bad_at);
    rc = read_header(&reader, array);
    if (rc != 0)
        return rc;
    array->data = (struct atd_bytes){bytes.ptr + reader.end, bytes.len - reader.end};
    return atd_array_check_size(array, reader.end, err);
}

static void append_shape(const struct atd_array *array, struct atd_buf *text)
{
    atd_buf_append_byte(text, '(');
    for (unsigned i = 0; i < array->ndim; i++)
        atd_buf_printf(text, i ? ", %" PRIu64 : "%" PRIu64, array->shape[i]);
    atd_buf_append_text(text, array->ndim == 1 ? ",)" : ")");
}

/* Blanks that let the growing axis take up to GROWTH_DIGITS digits. */
static size_t growth_blanks(const struct atd_array *array)
{
    uint64_t axis;
    size_t digits = 1;

    if (array->ndim == 0)
        return 0;
    axis = array->shape[array->fortran ? array->ndim - 1 : 0];
    while (axis >= 10) {
        axis /= 10;
        digits++;
    }
    return GROWTH_DIGITS - digits;
}

static bool is_ascii(struct atd_str text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] >= 0x80)
            return false;
    return true;
}

void atd_array_encode_npy(const struct atd_array *array, struct atd_buf *out)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(SIZE_MAX / 2);
    const char *quote = array->dtype.len && array->dtype.ptr[0] == '[' ? "" : "'";
    uint8_t version = 1;
    size_t prefix = MAGIC_BYTES + 2 + 2;
    size_t header_len;

    atd_assert(array->ndim <= ATD_ARRAY_NDIM_MAX);
    atd_buf_printf(&text, "{'descr': %s", quote);
    atd_buf_append_str(&text, array->dtype);
    atd_buf_printf(&text, "%s, 'fortran_order': %s, 'shape': ", quote,
                   array->fortran ? "True" : "False");
    append_shape(array, &text);
    atd_buf_append_text(&text, ", }");
    for (size_t left = growth_blanks(array); left > 0; left--)
        atd_buf_append_byte(&text, ' ');
    /* 1 to 64 more blanks and a newline, so that the data are aligned. */
    header_len = text.len + 1 + DATA_ALIGN - (prefix + text.len + 1) % DATA_ALIGN;
    if (header_len > UINT16_MAX || !is_ascii(array->dtype)) {
        /* Names beyond ASCII: UTF-8 is version 3, anything else was read as Latin-1. */
        bool utf8 = !is_ascii(array->dtype) && atd_utf8_is_valid(array->dtype, NULL);

        if (utf8 || header_len > UINT16_MAX) {
            version = utf8 ? 3 : 2;
            prefix += 2;
            header_len = text.len + 1 + DATA_ALIGN - (prefix + text.len + 1) % DATA_ALIGN;
        }
    }
    if (text.failed) {
        out->failed = out->failed ? out->failed : text.failed;
        return;
    }
    atd_buf_append(out, MAGIC, MAGIC_BYTES);
    atd_buf_append_byte(out, version);
    atd_buf_append_byte(out, 0);
    atd_buf_append_u16le(out, (uint16_t)header_len);
    if (version > 1)
        atd_buf_append_u16le(out, (uint16_t)(header_len >> 16));
    atd_buf_append_str(out, atd_buf_str(&text));
    for (size_t left = header_len - text.len - 1; left > 0; left--)
        atd_buf_append_byte(out, ' ');
    atd_buf_append_byte(out, '\n');
    atd_buf_append(out, array->data.ptr, array->data.len);
}

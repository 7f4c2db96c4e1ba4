#include "codec/msgpack_read.h"

#include <errno.h>
#include <inttypes.h>

#include "base/check.h"
#include "base/limits.h"
#include "base/utf8.h"

/* The timestamp extension. Source: msgpack spec, "Timestamp extension type". */
#define EXT_TIMESTAMP (-1)
#define NANOSECONDS_MAX 999999999u

void atd_mp_reader_init(struct atd_mp_reader *reader, struct atd_bytes doc)
{
    *reader = (struct atd_mp_reader){.doc = doc, .at = 0};
}

static size_t left(const struct atd_mp_reader *reader)
{
    return reader->doc.len - reader->at;
}

static int cut_short(const struct atd_mp_token *token, struct atd_error *err)
{
    return atd_error_set(err, EINVAL, "value at byte %zu is cut short", token->offset);
}

/* A big-endian number of `width` bytes; false when the document ends first. */
static bool take_number(struct atd_mp_reader *reader, size_t width, uint64_t *ret_value)
{
    uint64_t value = 0;

    if (left(reader) < width)
        return false;
    for (size_t i = 0; i < width; i++)
        value = value << 8 | reader->doc.ptr[reader->at + i];
    reader->at += width;
    *ret_value = value;
    return true;
}

static int take_body(struct atd_mp_reader *reader, enum atd_mp_type type, uint64_t len,
                     struct atd_mp_token *token, struct atd_error *err)
{
    if (len > left(reader))
        return atd_error_set(err, EINVAL,
                             "value at byte %zu is cut short: it claims %" PRIu64
                             " bytes and %zu are left",
                             token->offset, len, left(reader));
    token->type = type;
    token->body = (struct atd_bytes){reader->doc.ptr + reader->at, (size_t)len};
    reader->at += (size_t)len;
    return 0;
}

/* Each value takes at least one byte, so a count past the bytes left is a lie. */
static int take_count(struct atd_mp_reader *reader, enum atd_mp_type type, uint64_t count,
                      struct atd_mp_token *token, struct atd_error *err)
{
    uint64_t values = type == ATD_MP_MAP ? count * 2 : count;

    if (values > left(reader))
        return atd_error_set(
            err, EINVAL,
            "%s at byte %zu is cut short: it claims %" PRIu64 " values and %zu bytes are left",
            type == ATD_MP_MAP ? "map" : "array", token->offset, values, left(reader));
    token->type = type;
    token->count = (uint32_t)count;
    return 0;
}

static int take_ext(struct atd_mp_reader *reader, uint64_t len, struct atd_mp_token *token,
                    struct atd_error *err)
{
    uint64_t type;

    if (!take_number(reader, 1, &type))
        return cut_short(token, err);
    token->ext_type = (int8_t)(uint8_t)type;
    return take_body(reader, ATD_MP_EXT, len, token, err);
}

static void set_signed(struct atd_mp_token *token, int64_t value)
{
    token->type = value < 0 ? ATD_MP_INT : ATD_MP_UINT;
    token->i = value < 0 ? value : 0;
    token->u = value < 0 ? 0 : (uint64_t)value;
}

static int64_t sign_extend(uint64_t value, size_t width)
{
    switch (width) {
    case 1:
        return (int8_t)(uint8_t)value;
    case 2:
        return (int16_t)(uint16_t)value;
    case 4:
        return (int32_t)(uint32_t)value;
    default:
        return (int64_t)value;
    }
}

static void set_float(struct atd_mp_token *token, uint64_t bits, size_t width)
{
    token->type = ATD_MP_FLOAT;
    if (width == 4) {
        uint32_t narrow = (uint32_t)bits;
        float value;

        memcpy(&value, &narrow, sizeof(value));
        token->f = (double)value;
    } else {
        memcpy(&token->f, &bits, sizeof(token->f));
    }
}

/*
 * The forms whose first byte is 0xc0 to 0xdf. `width` is that of the number that follows the first
 * byte. Source: msgpack spec, "Formats".
 */
static int take_long_form(struct atd_mp_reader *reader, uint8_t first, struct atd_mp_token *token,
                          struct atd_error *err)
{
    static const uint8_t width_of[32] = {
        0, 0, 0, 0,    /* nil, (never used), false, true */
        1, 2, 4,       /* bin */
        1, 2, 4,       /* ext */
        4, 8,          /* float */
        1, 2, 4, 8,    /* uint */
        1, 2, 4, 8,    /* int */
        0, 0, 0, 0, 0, /* fixext */
        1, 2, 4,       /* str */
        2, 4, 2, 4,    /* array, map */
    };
    size_t width = width_of[first - 0xc0];
    uint64_t number = 0;

    if (!take_number(reader, width, &number))
        return cut_short(token, err);
    if (first == 0xc0) {
        token->type = ATD_MP_NIL;
    } else if (first == 0xc1) {
        return atd_error_set(err, EINVAL, "byte 0xc1 at byte %zu begins no msgpack value",
                             token->offset);
    } else if (first <= 0xc3) {
        token->type = ATD_MP_BOOL;
        token->b = first == 0xc3;
    } else if (first <= 0xc6) {
        return take_body(reader, ATD_MP_BIN, number, token, err);
    } else if (first <= 0xc9) {
        return take_ext(reader, number, token, err);
    } else if (first <= 0xcb) {
        set_float(token, number, width);
    } else if (first <= 0xcf) {
        token->type = ATD_MP_UINT;
        token->u = number;
    } else if (first <= 0xd3) {
        set_signed(token, sign_extend(number, width));
    } else if (first <= 0xd8) {
        return take_ext(reader, UINT64_C(1) << (first - 0xd4), token, err);
    } else if (first <= 0xdb) {
        return take_body(reader, ATD_MP_STR, number, token, err);
    } else {
        return take_count(reader, first <= 0xdd ? ATD_MP_ARRAY : ATD_MP_MAP, number, token, err);
    }
    return 0;
}

int atd_mp_next(struct atd_mp_reader *reader, struct atd_mp_token *ret_token, struct atd_error *err)
{
    struct atd_mp_token token = {.offset = reader->at};
    struct atd_mp_reader probe = *reader;
    uint8_t first;
    int rc = 0;

    if (left(&probe) == 0)
        return atd_error_set(err, EINVAL, "msgpack ends at byte %zu where a value is due",
                             reader->at);
    first = probe.doc.ptr[probe.at++];
    if (first <= 0x7f || first >= 0xe0)
        set_signed(&token, (int8_t)first);
    else if (first <= 0x8f)
        rc = take_count(&probe, ATD_MP_MAP, first & 0x0fu, &token, err);
    else if (first <= 0x9f)
        rc = take_count(&probe, ATD_MP_ARRAY, first & 0x0fu, &token, err);
    else if (first <= 0xbf)
        rc = take_body(&probe, ATD_MP_STR, first & 0x1fu, &token, err);
    else
        rc = take_long_form(&probe, first, &token, err);
    if (rc < 0)
        return rc;
    *reader = probe;
    *ret_token = token;
    return 0;
}

/*
 * Past the scalars of a fixed width that come next, at most `most` of them: long lists of numbers
 * are made of them, and nothing in them can be wrong. Stops before anything else, and before one
 * that is cut short.
 */
static uint64_t skip_scalars(struct atd_mp_reader *reader, uint64_t most)
{
    /* Of the forms 0xc0 to 0xdf, with the first byte; 0: no such scalar. */
    static const uint8_t bytes_of[32] = {
        1, 0, 1, 1,             /* nil, (never used), false, true */
        0, 0, 0, 0, 0, 0,       /* bin, ext */
        5, 9,                   /* float */
        2, 3, 5, 9, 2, 3, 5, 9, /* uint, int */
    };
    uint64_t count = 0;

    for (; count < most && left(reader) > 0; count++) {
        uint8_t first = reader->doc.ptr[reader->at];
        size_t len = first <= 0x7f || first >= 0xe0 ? 1
                     : first >= 0xc0                ? bytes_of[first - 0xc0]
                                                    : 0;

        if (len == 0 || len > left(reader))
            break;
        reader->at += len;
    }
    return count;
}

static uint64_t values_inside(const struct atd_mp_token *token)
{
    if (token->type == ATD_MP_MAP)
        return (uint64_t)token->count * 2;
    return token->type == ATD_MP_ARRAY ? token->count : 0;
}

/*
 * What msgpack-python turns into an object: application types 0 to 127, and the timestamp in its
 * three sizes with less than a second of nanoseconds. Everything else raises there.
 */
static bool ext_is_readable(const struct atd_mp_token *token)
{
    uint64_t nanoseconds = 0;

    if (token->ext_type != EXT_TIMESTAMP)
        return token->ext_type >= 0;
    switch (token->body.len) {
    case 4:
        return true;
    case 8: /* 30 bits of nanoseconds, then 34 of seconds */
        for (size_t i = 0; i < 4; i++)
            nanoseconds = nanoseconds << 8 | token->body.ptr[i];
        return nanoseconds >> 2 <= NANOSECONDS_MAX;
    case 12: /* 32 bits of nanoseconds, then 64 of seconds */
        for (size_t i = 0; i < 4; i++)
            nanoseconds = nanoseconds << 8 | token->body.ptr[i];
        return nanoseconds <= NANOSECONDS_MAX;
    default:
        return false;
    }
}

static int check_token(const struct atd_mp_token *token, bool is_key,
                       const struct atd_mp_rules *rules, struct atd_error *err)
{
    size_t bad;

    if (is_key && token->type != ATD_MP_STR &&
        !(token->type == ATD_MP_BIN && rules->allow_bin_keys))
        return atd_error_set(err, EINVAL, "map key at byte %zu is no text", token->offset);
    if (token->type == ATD_MP_STR && !atd_utf8_is_valid(atd_bytes_str(token->body), &bad))
        return atd_error_set(err, EINVAL, "text at byte %zu is not valid utf-8 at its byte %zu",
                             token->offset, bad);
    if (token->type == ATD_MP_EXT && !rules->allow_ext)
        return atd_error_set(err, EINVAL, "extension value at byte %zu is not allowed here",
                             token->offset);
    if (token->type == ATD_MP_EXT && !ext_is_readable(token))
        return atd_error_set(err, EINVAL,
                             "extension value at byte %zu (type %d, %zu bytes) is no valid one",
                             token->offset, token->ext_type, token->body.len);
    return 0;
}

/* One open container; keys stand where an even number of a map's values is left. */
struct level {
    uint64_t left;
    bool is_map;
};

static int skip_levels(struct atd_mp_reader *reader, const struct atd_mp_rules *rules,
                       struct atd_error *err)
{
    struct level levels[ATD_MSGPACK_DEPTH_MAX];
    size_t depth = 0;
    uint32_t count = 0;

    do {
        struct atd_mp_token token;
        bool is_key = depth > 0 && levels[depth - 1].is_map && levels[depth - 1].left % 2 == 0;
        int rc = atd_mp_next(reader, &token, err);

        if (rc == 0)
            rc = check_token(&token, is_key, rules, err);
        if (rc < 0)
            return rc;
        if (++count > ATD_MSGPACK_VALUES_MAX)
            return atd_error_set(err, E2BIG, "more than %u values at byte %zu",
                                 ATD_MSGPACK_VALUES_MAX, token.offset);
        if (depth > 0)
            levels[depth - 1].left--;
        if (token.type == ATD_MP_ARRAY || token.type == ATD_MP_MAP) {
            if (depth == ATD_MSGPACK_DEPTH_MAX)
                return atd_error_set(err, E2BIG, "more than %d levels of nesting at byte %zu",
                                     ATD_MSGPACK_DEPTH_MAX, token.offset);
            levels[depth++] = (struct level){values_inside(&token), token.type == ATD_MP_MAP};
        }
        if (depth > 0 && !levels[depth - 1].is_map) {
            uint64_t most = ATD_MSGPACK_VALUES_MAX - count;

            most = most < levels[depth - 1].left ? most : levels[depth - 1].left;
            most = skip_scalars(reader, most);
            levels[depth - 1].left -= most;
            count += (uint32_t)most;
        }
        while (depth > 0 && levels[depth - 1].left == 0)
            depth--;
    } while (depth > 0);
    return 0;
}

int atd_mp_skip_checked(struct atd_mp_reader *reader, const struct atd_mp_rules *rules,
                        struct atd_error *err)
{
    struct atd_mp_reader probe = *reader;
    int rc = skip_levels(&probe, rules, err);

    if (rc < 0)
        return atd_error_wrap(err, rc, "%s", rules->what);
    *reader = probe;
    return 0;
}

void atd_mp_skip(struct atd_mp_reader *reader)
{
    uint64_t pending = 1;

    for (;;) {
        struct atd_mp_token token;
        int rc;

        pending -= skip_scalars(reader, pending);
        if (pending == 0)
            return;
        rc = atd_mp_next(reader, &token, NULL);
        atd_assert(rc == 0);
        pending += values_inside(&token);
        pending--;
    }
}

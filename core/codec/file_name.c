#include "codec/file_name.h"

#include <errno.h>

#include "base/check.h"
#include "base/hex.h"
#include "base/limits.h"
#include "base/utf8.h"

/* Room for a suffix such as ".json": "~", the tail of a CID and a few characters must fit too. */
#define SUFFIX_BYTES_MAX 64u
#define CID_TAIL_BYTES 8u

/* One encoded unit, never cut: a character as it stands (1 to 4 bytes) or a %XX. */
struct piece {
    char text[4];
    size_t len;
    size_t name_bytes; /* how much of the name it stands for */
};

static bool two_hex_follow(struct atd_str s, size_t at)
{
    return s.len - at > 2 && atd_hex_value(s.ptr[at + 1]) >= 0 && atd_hex_value(s.ptr[at + 2]) >= 0;
}

static struct piece percent(uint8_t byte)
{
    static const char digits[] = "0123456789ABCDEF";

    return (struct piece){{'%', digits[byte >> 4], digits[byte & 15]}, 3, 1};
}

/* The piece for the character at `at`; `first` says that it begins the file name. */
static struct piece piece_at(struct atd_str name, size_t at, bool first)
{
    uint8_t byte = (uint8_t)name.ptr[at];
    size_t step = atd_utf8_step((const uint8_t *)name.ptr + at, name.len - at);
    struct piece piece = {{0}, step, step};

    if (step == 0 || byte < 0x20 || byte == 0x7f || byte == '/' || (byte == '.' && first) ||
        (byte == '%' && (name.len == 1 || two_hex_follow(name, at))))
        return percent(byte);
    memcpy(piece.text, name.ptr + at, step);
    return piece;
}

/* Length of the encoded name, or some length over `limit` as soon as it is passed. */
static size_t encoded_length(struct atd_str name, bool first, size_t limit)
{
    size_t total = 0;

    for (size_t at = 0; at < name.len && total <= limit;) {
        struct piece piece = piece_at(name, at, first && at == 0);

        total += piece.len;
        at += piece.name_bytes;
    }
    return total;
}

/* Letters, digits and what else most names are made of: no look at each piece is needed. */
static bool is_simple(struct atd_str name)
{
    if (name.len == 0 || name.len > ATD_FILE_NAME_MAX || name.ptr[0] == '.')
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];

        if (c <= ' ' || c > '~' || c == '/' || c == '%')
            return false;
    }
    return true;
}

bool atd_file_name_is_plain(struct atd_str name)
{
    size_t at = 0;

    if (is_simple(name))
        return true;
    if (name.len == 0 || name.len > ATD_FILE_NAME_MAX)
        return false;
    while (at < name.len) {
        struct piece piece = piece_at(name, at, at == 0);

        if (piece.len != piece.name_bytes)
            return false;
        at += piece.name_bytes;
    }
    return true;
}

bool atd_file_name_fits(struct atd_str name)
{
    return encoded_length(name, true, ATD_FILE_NAME_MAX) <= ATD_FILE_NAME_MAX;
}

/* Appends as many whole pieces as fit into `room` bytes. */
static void append_pieces(struct atd_str name, size_t room, bool first, struct atd_buf *out)
{
    for (size_t at = 0; at < name.len;) {
        struct piece piece = piece_at(name, at, first && at == 0);

        if (piece.len > room)
            return;
        atd_buf_append(out, piece.text, piece.len);
        room -= piece.len;
        at += piece.name_bytes;
    }
}

void atd_file_name_encode(struct atd_str name, struct atd_str cid, struct atd_str suffix,
                          struct atd_buf *out)
{
    size_t room;

    atd_assert(suffix.len <= SUFFIX_BYTES_MAX);
    room = ATD_FILE_NAME_MAX - suffix.len;
    if (name.len == 0) {
        /* A lone "%" encodes nothing else: a "%" that is the whole name becomes "%25". */
        atd_buf_append_byte(out, '%');
    } else if (encoded_length(name, true, room) <= room) {
        append_pieces(name, room, true, out);
    } else {
        struct atd_str tail =
            atd_str_from_byte(cid, cid.len > CID_TAIL_BYTES ? cid.len - CID_TAIL_BYTES : 0);
        /* A CID is what an index says, so it may hold anything too. */
        size_t tail_length = encoded_length(tail, false, SIZE_MAX);

        append_pieces(name, room - 1 - tail_length, true, out);
        atd_buf_append_byte(out, '~');
        append_pieces(tail, tail_length, false, out);
    }
    atd_buf_append_str(out, suffix);
}

/* Undoes every %XX of `file_name` into `ret_name`, which has room for as many bytes. */
static size_t undo(struct atd_str file_name, char *ret_name)
{
    size_t len = 0;

    for (size_t at = 0; at < file_name.len; at++) {
        if (file_name.ptr[at] == '%' && two_hex_follow(file_name, at)) {
            ret_name[len++] = (char)(atd_hex_value(file_name.ptr[at + 1]) << 4 |
                                     atd_hex_value(file_name.ptr[at + 2]));
            at += 2;
        } else {
            ret_name[len++] = file_name.ptr[at];
        }
    }
    return len;
}

int atd_file_name_decode(struct atd_str file_name, struct atd_buf *out, struct atd_error *err)
{
    char name[ATD_FILE_NAME_MAX];
    struct atd_str decoded = {name, 0};
    size_t file_at = 0;

    if (file_name.len == 0 || file_name.len > ATD_FILE_NAME_MAX)
        return atd_error_set(err, EINVAL, "file name of %zu bytes is not one of an index name",
                             file_name.len);
    if (atd_str_equal(file_name, ATD_STR("%")))
        return 0;
    decoded.len = undo(file_name, name);
    /* Only what encoding gives back exactly is accepted: no second file name for any name. */
    for (size_t at = 0; at < decoded.len;) {
        struct piece piece = piece_at(decoded, at, at == 0);

        if (file_name.len - file_at < piece.len ||
            memcmp(file_name.ptr + file_at, piece.text, piece.len) != 0)
            return atd_error_set(err, EINVAL,
                                 "file name '" ATD_STR_FMT "' is not an encoded name: byte %zu "
                                 "would be written '%.*s'",
                                 ATD_STR_ARG(file_name), file_at, (int)piece.len, piece.text);
        file_at += piece.len;
        at += piece.name_bytes;
    }
    if (file_at != file_name.len)
        return atd_error_set(err, EINVAL,
                             "file name '" ATD_STR_FMT "' is not an encoded name: it would end at "
                             "byte %zu",
                             ATD_STR_ARG(file_name), file_at);
    atd_buf_append_str(out, decoded);
    return 0;
}

#include "index/redis_guard.h"

#include <errno.h>
#include <stdio.h>

#include "base/check.h"

void atd_redis_guard_init(struct atd_redis_guard *guard)
{
    *guard = (struct atd_redis_guard){0};
}

void atd_redis_guard_allow_resp3(struct atd_redis_guard *guard)
{
    guard->speaks_resp3 = true;
}

static bool is_skipping(const struct atd_redis_guard *guard)
{
    return guard->depth > 0 && guard->levels[guard->depth - 1].skipped;
}

static int refuse(struct atd_error *err, const char *what)
{
    return atd_error_set(err, EPROTO, "the server's answer is broken: %s", what);
}

/* What goes on to hiredis, gathered while it is one piece of memory. */
struct out {
    const struct atd_redis_guard_sink *sink;
    struct atd_str piece;
};

static int flush(struct out *out, struct atd_error *err)
{
    struct atd_str piece = out->piece;

    out->piece = (struct atd_str){NULL, 0};
    if (piece.len > 0 && !out->sink->feed(out->sink->ctx, piece.ptr, piece.len))
        return atd_error_set(err, ENOMEM, "out of memory");
    return 0;
}

static int feed(struct out *out, struct atd_str piece, struct atd_error *err)
{
    int rc = 0;

    if (out->piece.len > 0 && out->piece.ptr + out->piece.len == piece.ptr) {
        out->piece.len += piece.len;
        return 0;
    }
    rc = flush(out, err);
    out->piece = piece;
    return rc;
}

/* One element is complete; true when that completes the whole reply. */
static bool finish_element(struct atd_redis_guard *guard)
{
    while (guard->depth > 0) {
        if (--guard->levels[guard->depth - 1].left > 0)
            return false;
        guard->depth--;
    }
    return true;
}

/* The number of a header line: -1 (nil) or more, canonical; false for anything else. */
static bool read_length(struct atd_str line, int64_t *ret_length)
{
    int64_t length = 0;

    if (line.len == 5 && memcmp(line.ptr + 1, "-1", 2) == 0) {
        *ret_length = -1;
        return true;
    }
    if (line.len < 4 || line.len > 3 + 18)
        return false;
    for (size_t i = 1; i < line.len - 2; i++) {
        if (line.ptr[i] < '0' || line.ptr[i] > '9')
            return false;
        length = length * 10 + (line.ptr[i] - '0');
    }
    *ret_length = length;
    return true;
}

static int take_array(struct atd_redis_guard *guard, int64_t length, bool *ret_skip, bool *ret_done,
                      struct atd_error *err)
{
    if (length > (int64_t)ATD_REDIS_SKIP_ELEMENTS_MAX)
        return refuse(err, "an array of impossible length");
    if (length <= 0) {
        *ret_done = finish_element(guard);
        return 0;
    }
    if (guard->depth == ATD_REDIS_DEPTH_MAX)
        return refuse(err, "arrays nested too deeply");
    *ret_skip = *ret_skip || length > (int64_t)ATD_REDIS_ELEMENTS_MAX ||
                guard->reply_elements + (uint64_t)length > ATD_REDIS_REPLY_ELEMENTS_MAX;
    if (!*ret_skip)
        guard->reply_elements += (uint64_t)length;
    guard->levels[guard->depth].left = (uint64_t)length;
    guard->levels[guard->depth].skipped = *ret_skip;
    guard->depth++;
    return 0;
}

static int take_string(struct atd_redis_guard *guard, int64_t length, bool *ret_skip,
                       bool *ret_done, struct atd_error *err)
{
    if (length > (int64_t)ATD_REDIS_SKIP_BYTES_MAX)
        return refuse(err, "a string of impossible length");
    if (length < 0) {
        *ret_done = finish_element(guard);
        return 0;
    }
    *ret_skip = *ret_skip || length > (int64_t)ATD_REDIS_STRING_BYTES_MAX ||
                guard->reply_bytes + (uint64_t)length > ATD_REDIS_REPLY_BYTES_MAX;
    if (!*ret_skip)
        guard->reply_bytes += (uint64_t)length;
    guard->string_left = (uint64_t)length + 2;
    guard->string_skipped = *ret_skip;
    return 0;
}

/* What a first byte that is none of RESP2's types tells about who is there. */
static int refuse_type(unsigned char type, struct atd_error *err)
{
    if (type == 0x15 || type == 0x16)
        return atd_error_set(err, EPROTO, "the server speaks TLS: its URL begins with rediss://");
    if (type == 'H')
        return atd_error_set(err, EPROTO, "it is no Redis server: it answers like a web server");
    return atd_error_set(err, EPROTO,
                         "it is no Redis server, or its answer is broken: an answer begins with "
                         "the byte 0x%02x",
                         type);
}

/* A whole line, CR LF included. */
static int take_line(struct atd_redis_guard *guard, struct atd_str line, struct out *out,
                     bool *ret_done, struct atd_error *err)
{
    bool was_skipping = is_skipping(guard);
    bool skip = was_skipping;
    int64_t length = 0;
    int rc = 0;

    if (line.len < 3 || line.ptr[line.len - 2] != '\r')
        return refuse(err, "a line does not end as it must");
    switch (line.ptr[0]) {
    case '*':
    case '$':
        if (!read_length(line, &length))
            return refuse(err, "a length is no number");
        if (line.ptr[0] == '*')
            rc = take_array(guard, length, &skip, ret_done, err);
        else
            rc = take_string(guard, length, &skip, ret_done, err);
        if (rc)
            return rc;
        break;
    case ':':
        /* 20 digits and a sign; hiredis 0.14 does not look at them itself. */
        for (size_t i = 1; i < line.len - 2; i++) {
            if ((line.ptr[i] < '0' || line.ptr[i] > '9') && !(i == 1 && line.ptr[i] == '-'))
                return refuse(err, "an integer is no number");
        }
        if (line.len > 3 + 20)
            return refuse(err, "an integer is no number");
        *ret_done = finish_element(guard);
        break;
    default:
        *ret_done = finish_element(guard);
        break;
    }
    if (skip && !was_skipping) {
        guard->cut = true;
        return feed(out, line.ptr[0] == '*' ? ATD_STR("*-1\r\n") : ATD_STR("$-1\r\n"), err);
    }
    return was_skipping ? 0 : feed(out, line, err);
}

/* The same for a type that only RESP3 has: as the one of RESP2 that says it. */
static int take_resp3_line(struct atd_redis_guard *guard, struct atd_str line, struct out *out,
                           bool *ret_done, struct atd_error *err)
{
    char header[32] = "$-1\r\n";
    int64_t length = 0;
    int rc;

    if (line.len < 3 || line.ptr[line.len - 2] != '\r')
        return refuse(err, "a line does not end as it must");
    if (strchr(">~%=", line.ptr[0])) {
        if (!read_length(line, &length) || length < 0)
            return refuse(err, "a length is no number");
        (void)snprintf(header, sizeof(header), "%c%lld\r\n", line.ptr[0] == '=' ? '$' : '*',
                       (long long)(line.ptr[0] == '%' ? 2 * length : length));
    }
    rc = take_line(guard, atd_str_from(header), out, ret_done, err);
    /* At once: the header does not outlive this function. */
    return rc ? rc : flush(out, err);
}

static bool is_type(const struct atd_redis_guard *guard, char type)
{
    return type && (strchr("+-:$*", type) || (guard->speaks_resp3 && strchr(">~%=_#,(", type)));
}

static int take_any_line(struct atd_redis_guard *guard, struct atd_str line, struct out *out,
                         bool *ret_done, struct atd_error *err)
{
    return strchr("+-:$*", line.ptr[0]) ? take_line(guard, line, out, ret_done, err)
                                        : take_resp3_line(guard, line, out, ret_done, err);
}

/* Takes a line, or a piece of one, off the front of `bytes`. */
static int pass_line(struct atd_redis_guard *guard, struct atd_str bytes, struct out *out,
                     size_t *ret_used, bool *ret_done, struct atd_error *err)
{
    ptrdiff_t end = atd_str_find(bytes, '\n');
    size_t len = end < 0 ? bytes.len : (size_t)end + 1;
    int rc;
    char type = guard->line_len > 0 ? guard->line[0] : bytes.ptr[0];

    if (!is_type(guard, type))
        return refuse_type((unsigned char)type, err);
    if (guard->line_len + len > sizeof(guard->line))
        return refuse(err, "a line has no end");
    *ret_used = len;
    if (end >= 0 && guard->line_len == 0)
        return take_any_line(guard, atd_str_head(bytes, len), out, ret_done, err);
    memcpy(guard->line + guard->line_len, bytes.ptr, len);
    guard->line_len += len;
    if (end < 0)
        return 0;
    len = guard->line_len;
    guard->line_len = 0;
    rc = take_any_line(guard, (struct atd_str){guard->line, len}, out, ret_done, err);
    /* At once: the next such line overwrites it. */
    return rc ? rc : flush(out, err);
}

/* Takes what there is of a string off the front of `bytes`. */
static int pass_string(struct atd_redis_guard *guard, struct atd_str bytes, struct out *out,
                       size_t *ret_used, bool *ret_done, struct atd_error *err)
{
    size_t len = bytes.len < guard->string_left ? bytes.len : (size_t)guard->string_left;

    for (size_t left = 2; left > 0; left--) {
        if (guard->string_left >= left && guard->string_left - left < len &&
            bytes.ptr[guard->string_left - left] != (left == 2 ? '\r' : '\n'))
            return refuse(err, "a string is longer than announced");
    }
    guard->string_left -= len;
    *ret_used = len;
    if (guard->string_left == 0)
        *ret_done = finish_element(guard);
    return guard->string_skipped ? 0 : feed(out, atd_str_head(bytes, len), err);
}

int atd_redis_guard_pass(struct atd_redis_guard *guard, struct atd_str bytes,
                         const struct atd_redis_guard_sink *sink, size_t *ret_used, bool *ret_done,
                         bool *ret_cut, struct atd_error *err)
{
    struct out out = {sink, {NULL, 0}};
    size_t used = 0;
    bool done = false;
    int rc;

    while (used < bytes.len && !done) {
        struct atd_str rest = atd_str_from_byte(bytes, used);
        size_t step = 0;

        rc = guard->string_left > 0 ? pass_string(guard, rest, &out, &step, &done, err)
                                    : pass_line(guard, rest, &out, &step, &done, err);
        if (rc)
            return rc;
        used += step;
    }
    rc = flush(&out, err);
    if (rc)
        return rc;
    *ret_used = used;
    *ret_done = done;
    *ret_cut = guard->cut;
    if (done) {
        atd_assert(guard->depth == 0 && guard->string_left == 0 && guard->line_len == 0);
        guard->reply_bytes = 0;
        guard->reply_elements = 0;
        guard->cut = false;
    }
    return 0;
}

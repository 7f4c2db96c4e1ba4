#include "codec/tar_pax.h"

#include <errno.h>
#include <inttypes.h>

#include "atdata/tar_index.h"

/* Digits at the beginning of *text, which moves behind them. False: none, or past INT64_MAX. */
static bool take_number(struct atd_str *text, uint64_t *ret_value)
{
    uint64_t value = 0;
    size_t digits = 0;

    for (; digits < text->len && text->ptr[digits] >= '0' && text->ptr[digits] <= '9'; digits++) {
        unsigned digit = (unsigned)(text->ptr[digits] - '0');

        if (value > ((uint64_t)INT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *text = atd_str_from_byte(*text, digits);
    *ret_value = value;
    return digits > 0;
}

/* The whole seconds of "-1.25" and the like, rounded down; false for anything else. */
static bool read_time(struct atd_str text, int64_t *ret_seconds)
{
    bool negative = atd_str_starts_with(text, ATD_STR("-"));
    bool fraction = false;
    uint64_t seconds;

    if (negative)
        text = atd_str_from_byte(text, 1);
    if (!take_number(&text, &seconds))
        return false;
    if (atd_str_starts_with(text, ATD_STR("."))) {
        for (size_t i = 1; i < text.len; i++) {
            if (text.ptr[i] < '0' || text.ptr[i] > '9')
                return false;
            fraction |= text.ptr[i] != '0';
        }
    } else if (text.len) {
        return false;
    }
    *ret_seconds = negative ? -(int64_t)seconds - fraction : (int64_t)seconds;
    return true;
}

static int apply_record(struct atd_str key, struct atd_str value, uint64_t offset,
                        struct atd_tar_pax *pax, struct atd_error *err)
{
    if (atd_str_equal(key, ATD_STR("path"))) {
        if (value.len > ATD_TAR_NAME_BYTES_MAX)
            return atd_error_set(err, E2BIG,
                                 "pax record at byte %" PRIu64 ": path of %zu bytes is longer "
                                 "than %u",
                                 offset, value.len, ATD_TAR_NAME_BYTES_MAX);
        if (atd_str_find(value, '\0') >= 0)
            return atd_error_set(err, EINVAL, "pax record at byte %" PRIu64 ": path with NUL",
                                 offset);
        pax->has_path = true;
        pax->path = value;
    } else if (atd_str_equal(key, ATD_STR("size"))) {
        if (!take_number(&value, &pax->size_bytes) || value.len)
            return atd_error_set(err, EINVAL, "pax record at byte %" PRIu64 ": bad size", offset);
        pax->has_size = true;
    } else if (atd_str_equal(key, ATD_STR("mtime"))) {
        /* A time that is none does no harm: Python reads it as 0. */
        pax->has_mtime = true;
        if (!read_time(value, &pax->mtime_s))
            pax->mtime_s = 0;
    } else if (atd_str_starts_with(key, ATD_STR("GNU.sparse."))) {
        return atd_error_set(
            err, EINVAL, "pax record at byte %" PRIu64 ": sparse files are not supported", offset);
    }
    return 0;
}

/* A record is "LENGTH KEY=VALUE\n", where the length counts all of it. */
int atd_tar_pax_read(struct atd_bytes body, uint64_t offset, struct atd_tar_pax *ret_pax,
                     struct atd_error *err)
{
    struct atd_str rest = atd_bytes_str(body);
    struct atd_tar_pax pax = {0};

    while (rest.len) {
        struct atd_str record = rest;
        uint64_t at = offset + (body.len - rest.len);
        uint64_t length = 0;
        ptrdiff_t equals;
        size_t head;
        int rc;

        if (!take_number(&record, &length) || !atd_str_starts_with(record, ATD_STR(" ")))
            return atd_error_set(err, EINVAL, "pax record at byte %" PRIu64 ": bad length", at);
        head = rest.len - record.len + 1;
        if (length <= head || length > rest.len || rest.ptr[length - 1] != '\n')
            return atd_error_set(err, EINVAL,
                                 "pax record at byte %" PRIu64 ": no newline where its length of "
                                 "%" PRIu64 " says",
                                 at, length);
        record = (struct atd_str){rest.ptr + head, (size_t)length - 1 - head};
        equals = atd_str_find(record, '=');
        if (equals < 1)
            return atd_error_set(err, EINVAL, "pax record at byte %" PRIu64 ": no key", at);
        rc = apply_record(atd_str_head(record, (size_t)equals),
                          atd_str_from_byte(record, (size_t)equals + 1), at, &pax, err);
        if (rc != 0)
            return rc;
        rest = atd_str_from_byte(rest, (size_t)length);
    }
    *ret_pax = pax;
    return 0;
}

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/digest.h"
#include "demo.h"

#define TEXT_BYTES_MAX (16u << 20)
#define PIXEL_MAX 16
#define LABEL_MAX 9
/* A row is at least 65 one-figure numbers, each followed by a comma or the line's end. */
#define ROW_BYTES_MIN (2 * (DIGIT_SIDE * DIGIT_SIDE + 1))

static int read_text(struct archive *reader, const char *path, struct atd_buf *out,
                     struct atd_error *err)
{
    struct archive_entry *entry;
    char block[16384];
    la_ssize_t got;

    if (archive_read_support_filter_all(reader) < ARCHIVE_WARN ||
        archive_read_support_format_raw(reader) != ARCHIVE_OK ||
        archive_read_open_filename(reader, path, sizeof(block)) != ARCHIVE_OK ||
        archive_read_next_header(reader, &entry) != ARCHIVE_OK)
        return atd_error_set(err, archive_errno(reader) > 0 ? archive_errno(reader) : EINVAL,
                             "table '%s' cannot be opened: %s", path, archive_error_string(reader));
    while ((got = archive_read_data(reader, block, sizeof(block))) > 0 && !out->failed)
        atd_buf_append(out, block, (size_t)got);
    if (got < 0)
        return atd_error_set(err, EIO, "table '%s' cannot be read: %s", path,
                             archive_error_string(reader));
    return atd_buf_finish(out, path, err);
}

/* Takes a number of at most two figures and the byte `after` it off the front of the text. */
static bool take_number(struct atd_str *rest, unsigned max, char after, uint8_t *ret_number)
{
    unsigned number = 0;
    size_t at = 0;

    for (; at < rest->len && at < 2 && rest->ptr[at] >= '0' && rest->ptr[at] <= '9'; at++)
        number = number * 10 + (unsigned)(rest->ptr[at] - '0');
    if (at == 0 || at == rest->len || rest->ptr[at] != after || number > max)
        return false;
    *rest = atd_str_from_byte(*rest, at + 1);
    *ret_number = (uint8_t)number;
    return true;
}

static bool take_row(struct atd_str *rest, struct digit *ret_digit)
{
    for (size_t i = 0; i < sizeof(ret_digit->image); i++)
        if (!take_number(rest, PIXEL_MAX, ',', &ret_digit->image[i]))
            return false;
    return take_number(rest, LABEL_MAX, '\n', &ret_digit->label);
}

int digits_read(const char *path, struct digits *ret_digits, struct atd_error *err)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(TEXT_BYTES_MAX);
    struct archive *reader = archive_read_new();
    struct digits digits = {NULL, 0, {0}};
    struct atd_str rest;
    int failed;

    if (!reader)
        return atd_error_set(err, ENOMEM, "table '%s' cannot be read: out of memory", path);
    failed = read_text(reader, path, &text, err);
    (void)archive_read_free(reader);
    if (failed)
        return failed;

    digits.rows = malloc((text.len / ROW_BYTES_MIN + 1) * sizeof(*digits.rows));
    if (!digits.rows)
        return atd_error_set(err, ENOMEM, "table '%s' cannot be read: out of memory", path);
    for (rest = atd_buf_str(&text); rest.len > 0; digits.count++) {
        if (!take_row(&rest, &digits.rows[digits.count])) {
            free(digits.rows);
            return atd_error_set(err, EINVAL, "line %zu of '%s' is not 65 numbers of a digit",
                                 digits.count + 1, path);
        }
    }
    atd_sha256_of(text.ptr, text.len, digits.text_sha256);
    *ret_digits = digits;
    return 0;
}

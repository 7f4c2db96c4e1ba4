#include <archive.h>
#include <archive_entry.h>
#include <errno.h>

#include "atdata/array.h"
#include "atdata/sample.h"
#include "base/cleanup.h"
#include "demo.h"

#define SAMPLE_BYTES_MAX 4096u
/* What the library's own shards have: ATDATA-FORMATS 5.1. */
#define MEMBER_MODE 0444
/* July 1998, when the digits were published: a fixed time, so that the same input gives the same
 * bytes, hence the same checksum. */
#define MEMBER_MTIME_S 899251200

/* {"image": 8x8 array of uint8, "label": int}; the array in the library's compact form. */
static int encode_sample(const struct digit *digit, struct atd_buf *out, struct atd_error *err)
{
    atd_auto_buf struct atd_buf image = ATD_BUF_INIT(SAMPLE_BYTES_MAX);
    const struct atd_array array = {
        .form = ATD_ARRAY_COMPACT,
        .dtype = ATD_STR("|u1"),
        .item_size = 1,
        .ndim = 2,
        .shape = {DIGIT_SIDE, DIGIT_SIDE},
        .data = {digit->image, sizeof(digit->image)},
    };
    int failed = atd_array_encode_compact(&array, &image, err);

    if (!failed)
        failed = atd_buf_finish(&image, "the image", err);
    if (failed)
        return failed;
    atd_sample_put_map(out, 2);
    atd_sample_put_str(out, ATD_STR("image"));
    atd_sample_put_bin(out, atd_buf_bytes(&image));
    atd_sample_put_str(out, ATD_STR("label"));
    atd_sample_put_uint(out, digit->label);
    return atd_buf_finish(out, "the sample", err);
}

static int archive_failure(struct archive *tar, struct atd_error *err)
{
    return atd_error_set(err, archive_errno(tar) > 0 ? archive_errno(tar) : EIO,
                         "shard cannot be written: %s", archive_error_string(tar));
}

static int add_member(struct archive *tar, struct archive_entry *entry, size_t key,
                      const struct digit *digit, struct atd_error *err)
{
    atd_auto_buf struct atd_buf sample = ATD_BUF_INIT(SAMPLE_BYTES_MAX);
    char name[32];
    int failed = encode_sample(digit, &sample, err);

    if (failed)
        return failed;
    (void)snprintf(name, sizeof(name), "%08zu.msgpack", key);
    archive_entry_clear(entry);
    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, MEMBER_MODE);
    archive_entry_set_mtime(entry, MEMBER_MTIME_S, 0);
    archive_entry_set_size(entry, (la_int64_t)sample.len);
    if (archive_write_header(tar, entry) != ARCHIVE_OK ||
        archive_write_data(tar, sample.ptr, sample.len) != (la_ssize_t)sample.len)
        return archive_failure(tar, err);
    return 0;
}

static la_ssize_t append(struct archive *tar, void *out, const void *data, size_t size)
{
    struct atd_buf *buf = out;

    atd_buf_append(buf, data, size);
    if (buf->failed) {
        archive_set_error(tar, buf->failed, "the shard is too large");
        return -1;
    }
    return (la_ssize_t)size;
}

static int write_archive(struct archive *tar, struct archive_entry *entry,
                         const struct digit *digits, size_t count, size_t first_key,
                         struct atd_buf *out, struct atd_error *err)
{
    if (archive_write_set_format_ustar(tar) != ARCHIVE_OK ||
        archive_write_open(tar, out, NULL, append, NULL) != ARCHIVE_OK)
        return archive_failure(tar, err);
    for (size_t i = 0; i < count; i++) {
        int failed = add_member(tar, entry, first_key + i, &digits[i], err);

        if (failed)
            return failed;
    }
    return archive_write_close(tar) == ARCHIVE_OK ? 0 : archive_failure(tar, err);
}

int shard_encode(const struct digit *digits, size_t count, size_t first_key, struct atd_buf *out,
                 struct atd_error *err)
{
    struct archive *tar = archive_write_new();
    struct archive_entry *entry = archive_entry_new();
    int failed;

    if (tar && entry)
        failed = write_archive(tar, entry, digits, count, first_key, out, err);
    else
        failed = atd_error_set(err, ENOMEM, "shard cannot be written: out of memory");
    archive_entry_free(entry);
    (void)archive_write_free(tar);
    return failed;
}

#include "cat_npy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "atdata/array.h"
#include "atdata/sample.h"
#include "base/cleanup.h"
#include "codec/file_name.h"

#define ARENA_MAX ((size_t)256 << 20)
#define HEADER_BYTES_MAX ((size_t)1 << 20) /* that .npy needs more than the array itself */
#define SUFFIX ".npy"

/* The bytes of the field. */
static int find_field(const struct npy_target *target, struct atd_str key,
                      const struct atd_sample_part *parts, size_t count, struct atd_arena *arena,
                      struct atd_bytes *ret_bytes, struct atd_error *err)
{
    struct atd_str field = atd_str_from(target->field);

    for (size_t i = 0; i < count; i++) {
        struct atd_sample sample;
        const struct atd_value *value;
        int rc;

        if (!parts[i].is_kept)
            continue;
        if (strcmp(parts[i].extension, target->field) == 0) {
            *ret_bytes = parts[i].bytes;
            return 0;
        }
        if (strcmp(parts[i].extension, "msgpack") != 0)
            continue;
        rc = atd_sample_decode(parts[i].bytes, arena, &sample, err);
        if (rc)
            return rc;
        value = atd_sample_find(&sample, field);
        if (value && value->type == ATD_VALUE_BIN) {
            *ret_bytes = value->bin;
            return 0;
        }
        if (value)
            return atd_error_set(err, EINVAL, "its field '%.100s' is no array", target->field);
    }
    (void)key;
    return atd_error_set(err, EINVAL, "it has no field '%.100s'", target->field);
}

static int name_file(const struct npy_target *target, struct atd_str key, struct atd_buf *path,
                     struct atd_error *err)
{
    if (target->file) {
        atd_buf_append_text(path, target->file);
    } else {
        atd_buf_append_text(path, target->directory);
        atd_buf_append_text(path, "/");
        atd_file_name_encode(key, key, ATD_STR(SUFFIX), path);
    }
    return atd_buf_finish(path, "the name of a file", err);
}

static int write_file(const char *path, struct atd_bytes bytes, struct atd_error *err)
{
    atd_auto_fd int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    int code = fd < 0 ? errno : 0;

    if (code)
        return atd_error_set(err, code, "making '%.300s': %s", path, strerror(code));
    while (bytes.len > 0 && !code) {
        ssize_t put = write(fd, bytes.ptr, bytes.len);

        if (put < 0 && errno != EINTR)
            code = errno;
        if (put > 0) {
            bytes.ptr += put;
            bytes.len -= (size_t)put;
        }
    }
    if (!code && close(atd_steal_fd(&fd)) != 0)
        code = errno;
    if (!code)
        return 0;
    (void)unlink(path);
    return atd_error_set(err, code, "writing '%.300s': %s", path, strerror(code));
}

static int write_array(struct npy_target *target, struct atd_str key, struct atd_bytes bytes,
                       struct atd_error *err)
{
    atd_auto_buf struct atd_buf npy = ATD_BUF_INIT(bytes.len + HEADER_BYTES_MAX);
    atd_auto_buf struct atd_buf path = ATD_BUF_INIT(HEADER_BYTES_MAX);
    struct atd_array array;
    int rc = atd_array_decode(bytes, &array, err);

    if (rc)
        return atd_error_wrap(err, rc, "its field '%.100s'", target->field);
    atd_array_encode_npy(&array, &npy);
    rc = atd_buf_finish(&npy, "an array", err);
    if (rc == 0)
        rc = name_file(target, key, &path, err);
    if (rc == 0)
        rc = write_file((const char *)path.ptr, atd_buf_bytes(&npy), err);
    if (rc == 0)
        target->written++;
    return rc;
}

int npy_write(struct npy_target *target, struct atd_str key, const struct atd_sample_part *parts,
              size_t count, struct atd_error *err)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ARENA_MAX);
    struct atd_bytes bytes;
    int rc = find_field(target, key, parts, count, &arena, &bytes, err);

    if (rc == 0)
        rc = write_array(target, key, bytes, err);
    return rc ? atd_error_wrap(err, rc, "sample '" ATD_STR_FMT "'", ATD_STR_ARG(key)) : 0;
}

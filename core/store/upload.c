#include "store/upload.h"

#include <errno.h>

#include "base/check.h"

#define MIB ((uint64_t)1 << 20)
#define PART_BYTES_MIN (8 * MIB)
#define PART_BYTES_UNKNOWN (16 * MIB)

uint64_t atd_upload_part_bytes(uint64_t size_bytes)
{
    uint64_t least;

    if (size_bytes == ATD_UPLOAD_SIZE_UNKNOWN)
        return PART_BYTES_UNKNOWN;
    /* Divisions that round up without overflowing for the largest sizes. */
    least = size_bytes / ATD_UPLOAD_PARTS_MAX + (size_bytes % ATD_UPLOAD_PARTS_MAX != 0);
    least = (least / MIB + (least % MIB != 0)) * MIB;
    return least > PART_BYTES_MIN ? least : PART_BYTES_MIN;
}

/* ------------------------------------------------------------------ the wrappers */

/* They check what every caller must keep; implementations need not. */

static int need_write(struct atd_store *store, const struct atd_store_write_ops **ret_write,
                      struct atd_error *err)
{
    *ret_write = store->ops->write;
    if (*ret_write)
        return 0;
    return atd_error_set(err, ENOTSUP, "a store of kind '%s' is read only", store->ops->kind);
}

int atd_store_upload_begin(struct atd_store *store, struct atd_str url, uint64_t part_bytes,
                           unsigned timeout_ms, char ret_id[ATD_UPLOAD_ID_MAX + 1],
                           struct atd_store_upload **ret_upload, struct atd_error *err)
{
    const struct atd_store_write_ops *write;
    int rc = need_write(store, &write, err);

    atd_assert(part_bytes > 0);
    if (rc == 0)
        rc = write->begin(store, url, part_bytes, timeout_ms, ret_id, ret_upload, err);
    if (rc == 0) {
        (*ret_upload)->store = store;
        (*ret_upload)->part_bytes = part_bytes;
    }
    return rc;
}

int atd_store_upload_part(struct atd_store_upload *upload, unsigned number, struct atd_bytes bytes,
                          unsigned timeout_ms, struct atd_error *err)
{
    atd_assert(number > 0 && bytes.len > 0 && bytes.len <= upload->part_bytes);
    if (number > ATD_UPLOAD_PARTS_MAX)
        return atd_error_set(err, EFBIG, "an object of more than %u parts of %llu bytes",
                             ATD_UPLOAD_PARTS_MAX, (unsigned long long)upload->part_bytes);
    return upload->store->ops->write->part(upload, number, bytes, timeout_ms, err);
}

int atd_store_upload_finish(struct atd_store_upload *upload, unsigned part_count,
                            unsigned timeout_ms, struct atd_object_info *ret_info,
                            struct atd_error *err)
{
    atd_assert(part_count > 0 && part_count <= ATD_UPLOAD_PARTS_MAX);
    return upload->store->ops->write->finish(upload, part_count, timeout_ms, ret_info, err);
}

void atd_store_upload_cancel(struct atd_store_upload *upload)
{
    upload->store->ops->write->cancel(upload);
}

int atd_store_upload_abort(struct atd_store_upload *upload, unsigned timeout_ms,
                           struct atd_error *err)
{
    return upload->store->ops->write->abort(upload, timeout_ms, err);
}

void atd_store_upload_free(struct atd_store_upload *upload)
{
    if (upload)
        upload->store->ops->write->free_upload(upload);
}

int atd_store_upload_discard(struct atd_store *store, struct atd_str url, const char *id,
                             unsigned timeout_ms, struct atd_error *err)
{
    const struct atd_store_write_ops *write;
    int rc = need_write(store, &write, err);

    return rc ? rc : write->discard(store, url, id, timeout_ms, err);
}

int atd_store_uploads(struct atd_store *store, struct atd_str prefix, unsigned timeout_ms,
                      atd_store_uploads_fn fn, void *ctx, struct atd_error *err)
{
    const struct atd_store_write_ops *write;
    int rc = need_write(store, &write, err);

    if (rc)
        return rc;
    if (!write->uploads)
        return atd_error_set(err, ENOTSUP, "a store of kind '%s' lists no unfinished uploads",
                             store->ops->kind);
    return write->uploads(store, prefix, timeout_ms, fn, ctx, err);
}

int atd_store_put(struct atd_store *store, struct atd_str url, struct atd_bytes bytes,
                  unsigned timeout_ms, struct atd_object_info *ret_info, struct atd_error *err)
{
    const struct atd_store_write_ops *write;
    int rc = need_write(store, &write, err);

    atd_assert(bytes.len <= ATD_STORE_PUT_BYTES_MAX);
    return rc ? rc : write->put(store, url, bytes, timeout_ms, ret_info, err);
}

int atd_store_adopt(struct atd_store *store, struct atd_str url, int fd, const char *path,
                    struct atd_object_info *ret_info, struct atd_error *err)
{
    const struct atd_store_write_ops *write;
    int rc = need_write(store, &write, err);

    if (rc)
        return rc;
    if (!write->adopt)
        return atd_error_set(err, ENOTSUP, "a store of kind '%s' takes no local files over",
                             store->ops->kind);
    return write->adopt(store, url, fd, path, ret_info, err);
}

int atd_store_delete(struct atd_store *store, struct atd_str url, unsigned timeout_ms,
                     struct atd_error *err)
{
    const struct atd_store_write_ops *write;
    int rc = need_write(store, &write, err);

    return rc ? rc : write->remove(store, url, timeout_ms, err);
}

int atd_store_delete_once(struct atd_store *store, struct atd_str url, unsigned timeout_ms,
                          struct atd_error *err)
{
    const struct atd_store_write_ops *write;
    int rc = need_write(store, &write, err);

    if (rc)
        return rc;
    return write->remove_once ? write->remove_once(store, url, timeout_ms, err)
                              : write->remove(store, url, timeout_ms, err);
}

int atd_store_guards(struct atd_store *store, struct atd_str prefix_url,
                     struct atd_str scratch_name, unsigned timeout_ms, bool *ret_guards,
                     struct atd_error *err)
{
    const struct atd_store_write_ops *write;
    int rc = need_write(store, &write, err);

    return rc ? rc : write->guards(store, prefix_url, scratch_name, timeout_ms, ret_guards, err);
}

const char *atd_store_maker(struct atd_store *store)
{
    const struct atd_store_write_ops *write = store->ops->write;

    return write && write->maker ? write->maker(store) : "";
}

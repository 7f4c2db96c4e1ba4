/*
 * Any bytes as an array, and as a dtype. An array that decodes is written in both forms and must
 * come back the same.
 */
#include <stdint.h>
#include <stdlib.h>

#include "atdata/array.h"
#include "base/cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void require_same(const struct atd_array *a, const struct atd_array *b)
{
    require(atd_str_equal(a->dtype, b->dtype) && a->item_size == b->item_size);
    require(a->fortran == b->fortran && a->ndim == b->ndim);
    for (unsigned i = 0; i < a->ndim; i++)
        require(a->shape[i] == b->shape[i]);
    require(a->data.len == b->data.len &&
            (a->data.len == 0 || memcmp(a->data.ptr, b->data.ptr, a->data.len) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct atd_bytes bytes = {data, size};
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(16u << 20);
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_array array;
    struct atd_array back;
    uint64_t item_size = 0;
    int rc = atd_array_decode(bytes, &array, &err);

    require((rc == 0) == (err.code == 0));
    if (atd_dtype_item_size(atd_bytes_str(bytes), &item_size, NULL) == 0)
        require(item_size <= INT32_MAX);
    if (atd_array_sniff(bytes))
        require(rc == 0);
    if (rc != 0)
        return 0;
    require(array.ndim <= ATD_ARRAY_NDIM_MAX && array.data.len <= size);

    atd_array_encode_npy(&array, &out);
    require(out.failed == 0 && (out.len - array.data.len) % 64 == 0);
    require(atd_array_decode(atd_buf_bytes(&out), &back, NULL) == 0);
    require(back.form == ATD_ARRAY_NPY);
    require_same(&array, &back);

    atd_buf_clear(&out);
    if (atd_array_encode_compact(&array, &out, NULL) == 0) {
        require(out.failed == 0 && atd_array_decode(atd_buf_bytes(&out), &back, NULL) == 0);
        require(back.form == ATD_ARRAY_COMPACT);
        require_same(&array, &back);
    } else {
        require(array.form == ATD_ARRAY_NPY);
    }
    return 0;
}

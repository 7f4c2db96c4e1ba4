/*
 * Any bytes as the name of a file, of a dataset, and of a class.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "codec/file_name.h"
#include "codec/python_name.h"
#include "codec/schema_infer.h"
#include "codec/upload_name.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void upload(struct atd_str name)
{
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_str final;
    enum atd_upload_name kind = atd_upload_name_classify(name, &final, &err);
    enum atd_upload_name final_kind = atd_upload_name_classify(final, NULL, NULL);

    require((kind == ATD_UPLOAD_REFUSED) == (err.code == EACCES));
    if (final.len)
        require(final.ptr >= name.ptr && final.ptr + final.len <= name.ptr + name.len);
    switch (kind) {
    case ATD_UPLOAD_SHARD:
        require(atd_file_name_is_plain(name));
        /* fall through */
    case ATD_UPLOAD_RECORD:
        require(atd_str_equal(final, name));
        break;
    case ATD_UPLOAD_TEMP:
        require(final_kind == ATD_UPLOAD_SHARD && final.len < name.len);
        break;
    case ATD_UPLOAD_SCRATCH:
        require(final.len == 0 || final_kind == ATD_UPLOAD_RECORD);
        break;
    case ATD_UPLOAD_REFUSED:
        require(final.len == 0);
        break;
    }
    (void)atd_upload_name_is_compressed(name);
    (void)atd_upload_name_is_scratch_dir(name);
}

static void dataset(struct atd_str name)
{
    atd_auto_buf struct atd_buf encoded = ATD_BUF_INIT(4096);
    atd_auto_buf struct atd_buf decoded = ATD_BUF_INIT(4096);
    struct atd_error err = ATD_ERROR_INIT;
    char class_name[ATD_CLASS_NAME_SIZE];
    int rc = atd_dataset_name_check(name, &err);

    require(rc == -err.code && (rc == 0 || rc == -EACCES));
    atd_class_name_of(name, class_name);
    require(atd_python_is_identifier(atd_str_from(class_name)));
    if (rc < 0)
        return;
    atd_file_name_encode(name, ATD_STR("bafy"), ATD_STR(""), &encoded);
    require(atd_file_name_decode(atd_buf_str(&encoded), &decoded, NULL) == 0);
    require(atd_str_equal(atd_buf_str(&decoded), name));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct atd_str name = {(const char *)data, size};

    upload(name);
    dataset(name);
    return 0;
}

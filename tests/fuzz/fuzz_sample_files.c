/*
 * Any bytes as a sample shown as files: names that can be names, sorted, each once; contents that
 * can be read; arrays that are .npy.
 */
#include <stdint.h>
#include <stdlib.h>

#include "atdata/array.h"
#include "base/cleanup.h"
#include "dataset/sample_files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ARENA_BYTES (64u << 20)

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void check_file(const struct atd_sample_file *file)
{
    atd_auto_buf struct atd_buf all = ATD_BUF_INIT(64u << 20);
    struct atd_array array;

    require(file->name.len > 0 && file->name.len <= 255 && file->name.ptr[0] != '.');
    require(!memchr(file->name.ptr, '/', file->name.len) &&
            !memchr(file->name.ptr, '\0', file->name.len));
    atd_buf_append(&all, file->head.ptr, file->head.len);
    atd_buf_append(&all, file->body.ptr, file->body.len);
    require(all.len == atd_sample_file_size(file));
    if (file->head.len) /* an array that was compact */
        require(atd_array_decode(atd_buf_bytes(&all), &array, NULL) == 0 &&
                array.form == ATD_ARRAY_NPY);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct atd_field fields[] = {
        {.name = {"a", 1}, .type = {.kind = ATD_KIND_NDARRAY}},
        {.name = {"b", 1}, .type = {.kind = ATD_KIND_PRIMITIVE}},
        {.name = {"c", 1}, .type = {.kind = ATD_KIND_ARROW_TENSOR}},
    };
    static const struct atd_schema schema = {.fields = fields, .field_count = 3};

    for (int with_schema = 0; with_schema < 2; with_schema++) {
        atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ARENA_BYTES);
        struct atd_sample_files files;

        if (atd_sample_files_make((struct atd_bytes){data, size}, with_schema ? &schema : NULL,
                                  &arena, &files, NULL) != 0)
            continue;
        require(files.count > 0);
        for (size_t i = 0; i < files.count; i++) {
            check_file(&files.files[i]);
            require(i == 0 || atd_str_compare(files.files[i - 1].name, files.files[i].name) < 0);
            require(atd_sample_files_find(&files, files.files[i].name) == &files.files[i]);
        }
    }
    return 0;
}

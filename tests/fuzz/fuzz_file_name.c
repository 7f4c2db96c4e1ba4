/*
 * Any bytes as an index name, and as a file name.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "codec/file_name.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void require_file_name(struct atd_str text)
{
    require(text.len > 0 && text.len <= ATD_FILE_NAME_MAX && text.ptr[0] != '.');
    require(atd_utf8_is_valid(text, NULL));
    for (size_t i = 0; i < text.len; i++)
        require((unsigned char)text.ptr[i] >= 0x20 && text.ptr[i] != 0x7f && text.ptr[i] != '/');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct atd_str name = {(const char *)data, size};
    atd_auto_buf struct atd_buf encoded = ATD_BUF_INIT(ATD_FILE_NAME_MAX);
    atd_auto_buf struct atd_buf back = ATD_BUF_INIT(ATD_NAME_BYTES_MAX);

    atd_file_name_encode(name, name, ATD_STR(".json"), &encoded);
    require(encoded.failed == 0);
    require_file_name(atd_buf_str(&encoded));
    require(atd_str_ends_with(atd_buf_str(&encoded), ATD_STR(".json")));

    atd_buf_clear(&encoded);
    atd_file_name_encode(name, name, ATD_STR(""), &encoded);
    require(encoded.failed == 0);
    require_file_name(atd_buf_str(&encoded));
    require(atd_file_name_is_plain(name) == atd_str_equal(atd_buf_str(&encoded), name));
    /* Only a name that was cut does not come back, and those are all long. */
    if (atd_file_name_decode(atd_buf_str(&encoded), &back, NULL) != 0 ||
        !atd_str_equal(atd_buf_str(&back), name))
        require(encoded.len > ATD_FILE_NAME_MAX - 4 && size > ATD_FILE_NAME_MAX / 3);

    atd_buf_clear(&back);
    if (atd_file_name_decode(name, &back, NULL) == 0) {
        atd_buf_clear(&encoded);
        atd_file_name_encode(atd_buf_str(&back), ATD_STR(""), ATD_STR(""), &encoded);
        require(atd_str_equal(atd_buf_str(&encoded), name));
    }
    return 0;
}

/*
 * Any bytes as a DALI index. What was read with names is written again and read back.
 */
#include <stdint.h>
#include <stdlib.h>

#include "atdata/dali_idx.h"
#include "base/cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
    size_t components;
    size_t last_sample;
    struct atd_buf text;
};

static void require(bool condition)
{
    if (!condition)
        abort();
}

static int see(void *ctx, size_t sample, const struct atd_dali_component *component,
               struct atd_error *err)
{
    struct seen *seen = ctx;

    (void)err;
    require(component->extension.len > 0);
    require(component->data_offset % 512 == 0);
    require(component->size_bytes <= INT64_MAX - component->data_offset);
    require(seen->components == 0 ? sample == 0
                                  : sample - seen->last_sample <= 1 && sample >= seen->last_sample);
    if (seen->components)
        atd_buf_append_byte(&seen->text, sample == seen->last_sample ? ' ' : '\n');
    atd_buf_append_str(&seen->text, component->extension);
    atd_buf_printf(&seen->text, " %llu %llu ", (unsigned long long)component->data_offset,
                   (unsigned long long)component->size_bytes);
    atd_buf_append_str(&seen->text, component->name.len ? component->name : ATD_STR("none"));
    seen->components++;
    seen->last_sample = sample;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct seen seen = {.text = ATD_BUF_INIT(16u << 20)};
    struct seen again = {.text = ATD_BUF_INIT(16u << 20)};
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(16u << 20);
    struct atd_error err = ATD_ERROR_INIT;
    int rc = atd_dali_idx_read((struct atd_str){(const char *)data, size}, see, &seen, &err);

    require((rc == 0) == (err.code == 0));
    if (rc == 0) {
        atd_buf_printf(&text, "v1.2 %zu\n", seen.components ? seen.last_sample + 1 : 0);
        atd_buf_append_str(&text, atd_buf_str(&seen.text));
        rc = atd_dali_idx_read(atd_buf_str(&text), see, &again, &err);
        require(rc == 0 && again.components == seen.components);
        require(atd_str_equal(atd_buf_str(&seen.text), atd_buf_str(&again.text)));
    }
    atd_buf_release(&seen.text);
    atd_buf_release(&again.text);
    return 0;
}
